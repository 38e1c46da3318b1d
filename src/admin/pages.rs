//! What each path answers.

use std::fmt::Display;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;

use super::body::Whole;
use super::{State, changes, guard, views};
use crate::telemetry::metrics::Registry;

/// The reply to a request. hyper leaves out the reply's body for `HEAD`.
pub(super) async fn answer<B>(state: &State, request: Request<B>, is_loopback: bool) -> Response<Whole>
where
    B: Body<Data: AsRef<[u8]>> + Unpin,
{
    let (head, body) = request.into_parts();
    if let Some(why) = guard::refusal(&head.method, &head.headers, is_loopback) {
        return text(StatusCode::FORBIDDEN, TEXT, why.into());
    }
    let reads = head.method == Method::GET || head.method == Method::HEAD;
    match (head.uri.path(), &head.method) {
        ("/", _) if reads => index(),
        ("/livez", _) if reads => live(),
        ("/readyz", _) if reads => ready(state),
        ("/metrics", _) if reads => text(StatusCode::OK, Registry::CONTENT_TYPE, state.registry.encode()),
        ("/config", _) if reads => text(StatusCode::OK, JSON, state.source.load().config.shown.to_json()),
        ("/upstreams", _) if reads => text(StatusCode::OK, JSON, views::upstreams(state)),
        ("/routes", _) if reads => text(StatusCode::OK, JSON, views::routes(&state.source.load())),
        ("/log-level", _) if reads => text(StatusCode::OK, TEXT, format!("{}\n", changes::level_now())),
        ("/log-level", &Method::PUT) => changes::log_level(body).await,
        ("/reload", &Method::POST) => changes::reload(state).await,
        ("/log-level", _) => not_allowed("GET, HEAD, PUT"),
        ("/reload", _) => not_allowed("POST"),
        ("/" | "/livez" | "/readyz" | "/metrics" | "/config" | "/upstreams" | "/routes", _) => not_allowed("GET, HEAD"),
        _ => text(StatusCode::NOT_FOUND, TEXT, "not found; see /\n".into()),
    }
}

fn not_allowed(allowed: &'static str) -> Response<Whole> {
    let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, TEXT, format!("only {allowed}\n"));
    refusal.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    refusal
}

fn index() -> Response<Whole> {
    let page = concat!(
        "<!doctype html><html lang=\"en\"><title>Portico</title><h1>Portico ",
        env!("CARGO_PKG_VERSION"),
        "</h1><ul>",
        "<li><a href=\"/livez\">/livez</a>: the process answers",
        "<li><a href=\"/readyz\">/readyz</a>: calls can be sent here, and if not, why",
        "<li><a href=\"/metrics\">/metrics</a>: counters for Prometheus",
        "<li><a href=\"/upstreams\">/upstreams</a>: endpoints, their health, schemas",
        "<li><a href=\"/routes\">/routes</a>: methods and their HTTP routes",
        "<li><a href=\"/config\">/config</a>: the configuration in use",
        "<li><a href=\"/log-level\">/log-level</a>: which diagnostics are written; PUT changes it",
        "<li>POST /reload: read the configuration again",
        "</ul></html>\n",
    );
    text(StatusCode::OK, "text/html; charset=utf-8", page.into())
}

/// The control runtime answers; that is all it says.
fn live() -> Response<Whole> {
    text(StatusCode::OK, TEXT, "ok\n".into())
}

fn ready(state: &State) -> Response<Whole> {
    let reasons = state.readiness.reasons();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let missing = state.readiness.missing();
    let body = format!(
        "{{\"ready\":{},\"reasons\":{},\"missing\":{}}}\n",
        reasons.is_empty(),
        json_strings(&reasons),
        json_strings(&missing)
    );
    text(status, JSON, body)
}

pub(super) fn json_strings(items: &[impl Display]) -> String {
    let strings: Vec<String> = items.iter().map(|item| crate::telemetry::json_string(&item.to_string())).collect();
    format!("[{}]", strings.join(","))
}

pub(super) fn text(status: StatusCode, content_type: &'static str, body: String) -> Response<Whole> {
    let mut response = Response::new(Whole::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(super) const JSON: &str = "application/json";
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
