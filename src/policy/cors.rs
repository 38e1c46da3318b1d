//! Whether a page of another origin may call, and the headers that tell its browser so: the
//! [CORS protocol](https://fetch.spec.whatwg.org/#http-cors-protocol).
//!
//! Pure: which policy holds for a request is found by the caller. CORS keeps nobody from calling; it is browsers that
//! keep pages from reading. So a request is never refused here, with one exception: browsers let any page open a
//! WebSocket, so that whoever serves one asks [`admits`] first.
//!
//! **Invariant**: no reply allows an origin that the policy does not name, and a reply that depends on the origin says so
//! in `vary`, also when the origin is missing or not allowed; otherwise a cache could hand it to another one.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    HOST, ORIGIN, RETRY_AFTER, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Uri};

use super::headers::remove_if;
use super::rate_limit::fields;
use crate::config::cors::{Cors, Names, Origins, default_port};

/// Request headers that clients of gRPC-Web and Connect send, and those by which calls are traced.
const REQUEST_HEADERS: &str = "content-type, content-encoding, x-grpc-web, x-user-agent, grpc-timeout, grpc-encoding, \
    grpc-accept-encoding, connect-protocol-version, connect-timeout-ms, connect-content-encoding, \
    connect-accept-encoding, traceparent, tracestate, x-request-id";
/// Reply headers that those clients read, and the identifiers that the gateway adds.
const REPLY_HEADERS: &str = "content-encoding, grpc-status, grpc-message, grpc-status-details-bin, grpc-encoding, \
    grpc-accept-encoding, connect-content-encoding, connect-accept-encoding, x-request-id, traceparent";

/// What the gateway is called by, for a request.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// The request's target; its authority comes before `host`.
    pub uri: &'a Uri,
    /// Whether the connection is TLS.
    pub tls: bool,
}

/// The method that a preflight asks for; `None` when the request is none.
///
/// A preflight is an OPTIONS request with `origin` and `access-control-request-method`
/// ([Fetch §3.3.2](https://fetch.spec.whatwg.org/#http-requests)).
pub fn preflight_for(method: &Method, headers: &HeaderMap) -> Option<Method> {
    if method != Method::OPTIONS || !headers.contains_key(ORIGIN) {
        return None;
    }
    Method::from_bytes(headers.get(ACCESS_CONTROL_REQUEST_METHOD)?.as_bytes()).ok()
}

/// The headers that answer a preflight for `method`; `None` when the origin may not call.
pub fn preflight(cors: &Cors, request: &HeaderMap, method: &Method) -> Option<HeaderMap> {
    let origin = allowed(cors, request)?;
    let mut headers = HeaderMap::with_capacity(8);
    allow(cors, origin, &mut headers);
    if let Ok(method) = HeaderValue::from_str(method.as_str()) {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, method);
    }
    // `*` does not cover `authorization`: https://fetch.spec.whatwg.org/#cors-non-wildcard-request-header-name.
    let names = names("*, authorization", REQUEST_HEADERS, &cors.allow_headers);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(cors.max_age.as_secs()));
    headers.insert(VARY, HeaderValue::from_static("origin, access-control-request-method"));
    Some(headers)
}

/// The origin of a request, when it is one that may call.
pub fn allowed<'r>(cors: &Cors, request: &'r HeaderMap) -> Option<&'r HeaderValue> {
    let mut origins = request.get_all(ORIGIN).iter();
    let (origin, None) = (origins.next()?, origins.next()) else { return None };
    cors.origins.contain(origin.to_str().ok()?).then_some(origin)
}

/// Puts what a browser has to know into the head of a reply, to a request of `origin` if that one may call.
pub fn reply(cors: &Cors, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    withdraw(headers);
    if let Some(origin) = origin {
        allow(cors, origin, headers);
        let mut exposed = names("*", REPLY_HEADERS, &cors.expose_headers);
        // When to come back, and how often: only where it is said, since few replies say it.
        for name in fields::ALL.into_iter().chain([RETRY_AFTER]) {
            if headers.contains_key(&name) && exposed != "*" {
                let list = [exposed.as_bytes(), b", ", name.as_str().as_bytes()].concat();
                exposed = HeaderValue::from_maybe_shared(Bytes::from(list)).unwrap_or(exposed);
            }
        }
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    if cors.origins != Origins::Any {
        vary_by_origin(headers);
    }
}

/// Whether a page that wants to open a WebSocket may do so: one of the gateway's own origin, or one that the policy names.
/// A request without `origin` comes from no browser.
pub fn admits(policy: Option<&Cors>, request: &HeaderMap, own: &Own<'_>) -> bool {
    if !request.contains_key(ORIGIN) {
        return true;
    }
    if policy.is_some_and(|cors| allowed(cors, request).is_some()) {
        return true;
    }
    let host = request.get(HOST).and_then(|host| host.to_str().ok());
    let host = own.uri.authority().map(|authority| authority.as_str()).or(host);
    let mut origins = request.get_all(ORIGIN).iter();
    match (origins.next().and_then(|origin| origin.to_str().ok()), origins.next(), host) {
        (Some(origin), None, Some(host)) => is_own(origin, host, own.tls),
        (_, _, _) => false,
    }
}

/// Whether an origin is the one under which the request reached the gateway. In clear text, who ends TLS in front of us
/// is not known, so that either scheme is.
fn is_own(origin: &str, host: &str, tls: bool) -> bool {
    let Some((scheme @ ("http" | "https"), authority)) = origin.split_once("://") else { return false };
    if tls && scheme != "https" {
        return false;
    }
    let own = host.rsplit_once(':').filter(|(_, port)| port.parse().ok() == default_port(scheme));
    authority.eq_ignore_ascii_case(own.map_or(host, |(host, _)| host))
}

/// Takes back what the upstream says to browsers: where a policy holds, only the gateway does.
fn withdraw(headers: &mut HeaderMap) {
    remove_if(headers, |name| name.as_str().starts_with("access-control-"));
}

fn allow(cors: &Cors, origin: &HeaderValue, headers: &mut HeaderMap) {
    let origin = match cors.origins {
        Origins::Any => HeaderValue::from_static("*"),
        Origins::Listed(_) => origin.clone(),
    };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if cors.credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}

fn names(any: &'static str, always: &'static str, more: &Names) -> HeaderValue {
    let more = match more {
        Names::Any => return HeaderValue::from_static(any),
        Names::Listed(more) => more,
    };
    if more.is_empty() {
        return HeaderValue::from_static(always);
    }
    let mut list = BytesMut::with_capacity(always.len() + 32 * more.len());
    list.put_slice(always.as_bytes());
    for name in more {
        list.put_slice(b", ");
        list.put_slice(name.as_str().as_bytes());
    }
    HeaderValue::from_maybe_shared(list.freeze()).unwrap_or_else(|_| HeaderValue::from_static(always))
}

fn vary_by_origin(headers: &mut HeaderMap) {
    let is_said = |value: &HeaderValue| {
        let names = value.to_str().unwrap_or_default().split(',');
        names.map(str::trim).any(|name| name == "*" || name.eq_ignore_ascii_case("origin"))
    };
    if !headers.get_all(VARY).iter().any(is_said) {
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderName;

    use super::*;

    fn policy(origins: &[&str]) -> Cors {
        let origins = match origins {
            ["*"] => Origins::Any,
            list => Origins::Listed(list.iter().map(|text| text.parse().expect("a pattern")).collect()),
        };
        let (allow_headers, expose_headers) = (Names::Listed(Vec::new()), Names::Listed(Vec::new()));
        Cors { origins, allow_headers, expose_headers, credentials: false, max_age: Duration::from_secs(600) }
    }

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_preflight_is_options_with_both_headers() {
        let asked = map(&[("origin", "https://a"), ("access-control-request-method", "PATCH")]);

        assert_eq!(preflight_for(&Method::OPTIONS, &asked), Some(Method::PATCH));
        assert_eq!(preflight_for(&Method::GET, &asked), None);
        assert_eq!(preflight_for(&Method::OPTIONS, &map(&[("origin", "https://a")])), None);
        assert_eq!(preflight_for(&Method::OPTIONS, &map(&[("access-control-request-method", "GET")])), None);
        let malformed = map(&[("origin", "https://a"), ("access-control-request-method", "G T")]);
        assert_eq!(preflight_for(&Method::OPTIONS, &malformed), None);
    }

    #[test]
    fn names_are_those_of_the_protocols_and_the_configured() {
        let mut cors = policy(&["https://a"]);
        let asked = map(&[("origin", "https://a")]);
        cors.allow_headers = Names::Listed(vec![HeaderName::from_static("x-tenant")]);
        let listed = preflight(&cors, &asked, &Method::POST).expect("allowed");
        cors.allow_headers = Names::Any;
        let any = preflight(&cors, &asked, &Method::POST).expect("allowed");

        let listed = listed["access-control-allow-headers"].to_str().expect("text");
        assert!(listed.starts_with("content-type, ") && listed.ends_with(", x-request-id, x-tenant"), "{listed}");
        assert_eq!(any["access-control-allow-headers"], "*, authorization");
    }

    #[test]
    fn several_origins_are_none() {
        let twice = map(&[("origin", "https://a"), ("origin", "https://a")]);

        assert_eq!(allowed(&policy(&["https://a"]), &twice), None);
        assert!(!admits(Some(&policy(&["*"])), &twice, &Own { uri: &Uri::from_static("/"), tls: false }));
    }

    #[test]
    fn vary_names_the_origin_once() {
        let cors = policy(&["https://a"]);
        for (before, after) in [
            (&[][..], &["origin"][..]),
            (&[("vary", "accept-encoding")][..], &["accept-encoding", "origin"][..]),
            (&[("vary", "accept, Origin")][..], &["accept, Origin"][..]),
            (&[("vary", "*")][..], &["*"][..]),
        ] {
            let mut headers = map(before);
            reply(&cors, None, &mut headers);
            assert_eq!(headers.get_all(VARY).iter().collect::<Vec<_>>(), after, "{before:?}");
        }
        let mut headers = HeaderMap::new();
        reply(&policy(&["*"]), None, &mut headers);
        assert_eq!(headers, HeaderMap::new());
    }

    #[test]
    fn websockets_are_open_to_the_own_origin_and_the_named_ones() {
        let cors = policy(&["https://app.example.com"]);
        let cases = [
            ("https://app.example.com", "api.example.com", false, true),
            ("https://evil.org", "api.example.com", false, false),
            ("https://api.example.com", "api.example.com", true, true),
            ("https://api.example.com", "API.example.com:443", true, true),
            ("http://api.example.com", "api.example.com", true, false),
            ("http://api.example.com", "api.example.com", false, true),
            ("https://api.example.com", "api.example.com", false, true),
            ("https://api.example.com:8443", "api.example.com:8443", true, true),
            ("https://api.example.com:8443", "api.example.com", true, false),
            ("https://api.example.com.evil.org", "api.example.com", false, false),
            ("http://[::1]:80", "[::1]", false, false),
            ("http://[::1]", "[::1]", false, true),
            ("null", "null", false, false),
        ];
        for (origin, host, tls, expected) in cases {
            let request = map(&[("origin", origin), ("host", host)]);
            let own = Own { uri: &Uri::from_static("/"), tls };
            assert_eq!(admits(Some(&cors), &request, &own), expected, "{origin} {host} {tls}");
        }
        let uri = Uri::from_static("https://b.example.com/x");
        let request = map(&[("origin", "https://b.example.com")]);
        assert!(admits(None, &request, &Own { uri: &uri, tls: true }));
        assert!(admits(None, &HeaderMap::new(), &Own { uri: &uri, tls: true }));
    }
}
