//! What each path answers.

use std::convert::Infallible;
use std::fmt::Display;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};

use super::State;
use super::body::Whole;
use crate::telemetry::metrics::Registry;

/// The reply to a request, whose body is not looked at. hyper leaves out the reply's body for `HEAD`.
pub(super) fn answer<B>(state: &State, request: &Request<B>) -> Result<Response<Whole>, Infallible> {
    let page = match request.uri().path() {
        "/" => index,
        "/livez" => live,
        "/readyz" => ready,
        "/metrics" => metrics,
        _ => return Ok(text(StatusCode::NOT_FOUND, TEXT, "not found; see /\n".into())),
    };
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD are allowed\n".into());
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(refusal);
    }
    Ok(page(state))
}

fn index(_: &State) -> Response<Whole> {
    let page = concat!(
        "<!doctype html><html lang=\"en\"><title>Portico</title><h1>Portico ",
        env!("CARGO_PKG_VERSION"),
        "</h1><ul>",
        "<li><a href=\"/livez\">/livez</a>: the process answers",
        "<li><a href=\"/readyz\">/readyz</a>: calls can be sent here, and if not, why",
        "<li><a href=\"/metrics\">/metrics</a>: counters for Prometheus",
        "</ul></html>\n",
    );
    text(StatusCode::OK, "text/html; charset=utf-8", page.into())
}

/// The control runtime answers; that is all it says.
fn live(_: &State) -> Response<Whole> {
    text(StatusCode::OK, TEXT, "ok\n".into())
}

fn ready(state: &State) -> Response<Whole> {
    let reasons = state.readiness.reasons();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = format!("{{\"ready\":{},\"reasons\":{}}}\n", reasons.is_empty(), json_strings(&reasons));
    text(status, "application/json", body)
}

fn metrics(state: &State) -> Response<Whole> {
    text(StatusCode::OK, Registry::CONTENT_TYPE, state.registry.encode())
}

fn json_strings(items: &[impl Display]) -> String {
    let strings: Vec<String> = items.iter().map(|item| crate::telemetry::json_string(&item.to_string())).collect();
    format!("[{}]", strings.join(","))
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Response<Whole> {
    let mut response = Response::new(Whole::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

const TEXT: &str = "text/plain; charset=utf-8";
