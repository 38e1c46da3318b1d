//! What browsers are told of pages of other origins: preflights and replies, by policy, origin and protocol.

use http::{HeaderMap, Method, StatusCode};
use serde_json::json;

use crate::support::backend::pb::{Behaviour, Failure, Header, SayRequest};
use crate::support::backend::{self, Backend};
use crate::support::client::{Client, Reply, Version, request};
use crate::support::gateway::{TestGateway, upstream};
use crate::support::grpc::{Raw, framed};

const APP: &str = "https://app.example.com";
/// Method, path, headers and body.
type Request<'a> = (Method, &'a str, &'a [(&'a str, &'a str)], &'a str);

const SAY: &str = "/portico.test.v1.Echo/Say";

/// A gateway with these policies.
async fn start(policies: &str) -> (Backend, TestGateway) {
    let backend = backend::start().await;
    let gateway = TestGateway::start(&format!("{}policies:\n{policies}\n", upstream("echo", backend.address))).await;
    gateway.ready().await;
    (backend, gateway)
}

/// Asks whether a page of `origin` may send a request.
async fn preflight(client: &mut Client, origin: &str, method: &str, path: &str) -> Reply {
    let headers = [("origin", origin), ("access-control-request-method", method)];
    client.send(request(Method::OPTIONS, path, &headers, "")).await
}

/// What a reply says to browsers: allowed origin, credentials, vary but for what compression and the form of a stream
/// say there.
fn said(headers: &HeaderMap) -> (Option<&str>, Option<&str>, Option<&str>) {
    let only = |name: &str| {
        let values = headers.get_all(name).iter().map(|value| value.to_str().expect("text"));
        let mut values = values.filter(|value| !["accept", "accept-encoding"].contains(value));
        let value = values.next();
        assert_eq!(values.next(), None, "{name} stands twice");
        value
    };
    (only("access-control-allow-origin"), only("access-control-allow-credentials"), only("vary"))
}

fn names(headers: &HeaderMap, list: &str) -> Vec<String> {
    let text = headers[list].to_str().expect("text");
    text.split(", ").map(str::to_owned).collect()
}

#[tokio::test]
async fn every_origin_gets_what_its_policy_says_in_preflight_and_reply() {
    let none = (None, None, None);
    let refused = (None, None, Some("origin"));
    let cases = [
        ("allow_origins: [\"https://app.example.com\"]", APP, (Some(APP), None, Some("origin"))),
        ("allow_origins: [\"https://app.example.com\"]", "https://app.example.com.evil.org", refused),
        ("allow_origins: [\"https://app.example.com\"]", "http://app.example.com", refused),
        ("allow_origins: [\"https://app.example.com\"]", "https://app.example.com:8443", refused),
        ("allow_origins: [\"https://app.example.com\"]", "null", refused),
        ("allow_origins: [\"https://*.example.com\"]", APP, (Some(APP), None, Some("origin"))),
        ("allow_origins: [\"https://*.example.com\"]", "https://evilexample.com", refused),
        ("allow_origins: [\"https://*.example.com\"]", "https://a.example.com.evil.org", refused),
        ("allow_origins: [\"null\"]", "null", (Some("null"), None, Some("origin"))),
        ("allow_origins: [\"*\"]", APP, (Some("*"), None, None)),
        (
            "allow_origins: [\"https://app.example.com\"], allow_credentials: true",
            APP,
            (Some(APP), Some("true"), Some("origin")),
        ),
        ("allow_origins: [\"https://app.example.com\"], allow_credentials: true", "https://evil.org", refused),
    ];
    for (cors, origin, expected) in cases {
        let (_backend, gateway) = start(&format!("- match: \"*\"\n  cors: {{ {cors} }}")).await;
        for version in Version::BOTH {
            let mut client = gateway.client(version).await;

            let asked = preflight(&mut client, origin, "POST", SAY).await;
            let called = client.send(request(Method::GET, "/test/v1/say/hi", &[("origin", origin)], "")).await;

            let (allowed, credentials, _) = expected;
            assert_eq!(said(&called.headers), expected, "{version:?} {cors} {origin}");
            assert_eq!(called.status, StatusCode::OK, "nobody is kept from calling");
            assert_eq!(called.headers.contains_key("access-control-expose-headers"), allowed.is_some());
            let (in_preflight, with_credentials, vary) = said(&asked.headers);
            assert_eq!((in_preflight, with_credentials), (allowed, credentials), "{version:?} {cors} {origin}");
            assert!(vary.is_some_and(|vary| vary.contains("origin")));
            if allowed.is_none() {
                assert_eq!((asked.status, asked.reason().as_str()), (StatusCode::FORBIDDEN, "ORIGIN_NOT_ALLOWED"));
                continue;
            }
            assert_eq!((asked.status, asked.body.len()), (StatusCode::NO_CONTENT, 0));
            assert_eq!(asked.headers["access-control-allow-methods"], "POST");
            assert_eq!(asked.headers["access-control-max-age"], "600");
        }
    }
    let (_backend, gateway) = start("- match: \"*\"\n  timeout: { unary: 5s }").await;
    let mut client = gateway.client(Version::Http1).await;
    let called = client.send(request(Method::GET, "/test/v1/say/hi", &[("origin", APP)], "")).await;
    let asked = preflight(&mut client, APP, "POST", SAY).await;
    assert_eq!(said(&called.headers), none);
    assert_eq!(asked.status, StatusCode::NO_CONTENT);
    assert_eq!(asked.headers["allow"], "OPTIONS, POST");
    assert_eq!(said(&asked.headers), none);
}

#[tokio::test]
async fn a_preflight_is_answered_by_the_policy_of_the_method_that_it_asks_for() {
    let (backend, gateway) = start(
        "- match: \"*\"
  cors: { allow_origins: [\"https://all.example.com\"] }
- match: portico.test.v1.Echo/*
  cors: { allow_origins: [\"https://echo.example.com\"], max_age: 1h }
- match: portico.test.v1.Echo/Repeat
  cors: { allow_origins: [\"https://repeat.example.com\"] }
- match: portico.test.v1.Echo/Identity
  cors: none",
    )
    .await;
    let cases = [
        ("GET", "/test/v1/say/hi", "https://echo.example.com"),
        ("HEAD", "/test/v1/say/hi", "https://echo.example.com"),
        ("POST", SAY, "https://echo.example.com"),
        // Connect has GET for methods without side effects.
        ("GET", SAY, "https://echo.example.com"),
        ("POST", "/test/v1/repeat", "https://repeat.example.com"),
        ("POST", "/portico.test.v1.Echo/Repeat", "https://repeat.example.com"),
        ("POST", "/portico.test.v1.Echo/Nonsense", "https://echo.example.com"),
        ("POST", "/grpc.health.v1.Health/Check", "https://all.example.com"),
        ("DELETE", "/test/v1/repeat", "https://all.example.com"),
        ("POST", "/nothing/here", "https://all.example.com"),
        ("GET", "/test/../v1", "https://all.example.com"),
    ];
    let mut client = gateway.client(Version::Http2).await;
    for (method, path, owner) in cases {
        for origin in ["https://all.example.com", "https://echo.example.com", "https://repeat.example.com"] {
            let asked = preflight(&mut client, origin, method, path).await;

            let expected = if origin == owner { StatusCode::NO_CONTENT } else { StatusCode::FORBIDDEN };
            assert_eq!(asked.status, expected, "{method} {path} {origin}");
            if origin == owner {
                assert_eq!(asked.headers["access-control-allow-methods"], method);
            }
        }
    }
    let longer = preflight(&mut client, "https://echo.example.com", "POST", SAY).await;
    assert_eq!(longer.headers["access-control-max-age"], "3600");
    let cleared = preflight(&mut client, "https://echo.example.com", "POST", "/test/v1/identity").await;
    assert_eq!((cleared.status, said(&cleared.headers)), (StatusCode::NO_CONTENT, (None, None, None)));
    assert_eq!(cleared.headers["allow"], "GET, HEAD, OPTIONS, POST");
    assert_eq!(backend.tally.counts().started, 0, "no preflight goes upstream");
}

#[tokio::test]
async fn only_what_is_a_preflight_is_answered_as_one() {
    let (_backend, gateway) = start("- match: \"*\"\n  cors: { allow_origins: [\"https://app.example.com\"] }").await;
    let mut client = gateway.client(Version::Http1).await;
    for headers in [
        &[("origin", APP)][..],
        &[("access-control-request-method", "POST")][..],
        &[("origin", APP), ("access-control-request-method", "P T")][..],
    ] {
        let reply = client.send(request(Method::OPTIONS, "/test/v1/say", headers, "")).await;

        assert_eq!(reply.status, StatusCode::NO_CONTENT);
        assert_eq!(reply.headers["allow"], "OPTIONS, POST");
        assert!(!reply.headers.contains_key("access-control-allow-methods"), "{headers:?}");
        assert_eq!(said(&reply.headers).2, Some("origin"));
    }
}

#[tokio::test]
async fn names_of_headers_are_those_that_clients_need_and_the_configured() {
    let (_backend, gateway) = start(
        "- match: \"*\"
  cors: { allow_origins: [\"https://app.example.com\"], allow_headers: [Authorization], expose_headers: [X-Total] }
- match: portico.test.v1.Echo/Repeat
  cors: { allow_origins: [\"*\"], allow_headers: [\"*\"], expose_headers: [\"*\"] }",
    )
    .await;
    let mut client = gateway.client(Version::Http2).await;

    let asked = preflight(&mut client, APP, "POST", SAY).await;
    let called = client.send(request(Method::GET, "/test/v1/say/hi", &[("origin", APP)], "")).await;

    let allowed = names(&asked.headers, "access-control-allow-headers");
    for name in [
        "content-type",
        "x-grpc-web",
        "x-user-agent",
        "grpc-timeout",
        "connect-protocol-version",
        "connect-timeout-ms",
        "authorization",
    ] {
        assert!(allowed.iter().any(|allowed| allowed == name), "{name} in {allowed:?}");
    }
    let exposed = names(&called.headers, "access-control-expose-headers");
    for name in [
        "grpc-status",
        "grpc-message",
        "grpc-status-details-bin",
        "grpc-encoding",
        "x-request-id",
        "traceparent",
        "x-total",
    ] {
        assert!(exposed.iter().any(|exposed| exposed == name), "{name} in {exposed:?}");
    }
    let asked = preflight(&mut client, APP, "POST", "/test/v1/repeat").await;
    let called = client.send(request(Method::GET, "/test/v1/repeat/hi", &[("origin", APP)], "")).await;
    assert_eq!(asked.headers["access-control-allow-headers"], "*, authorization");
    assert_eq!(called.headers["access-control-expose-headers"], "*");
}

#[tokio::test]
async fn every_protocol_and_every_error_tells_the_browser() {
    let (_backend, gateway) = start("- match: \"*\"\n  cors: { allow_origins: [\"https://app.example.com\"] }").await;
    let failing = json!({"text": "a", "behaviour": {"failure": {"code": 5, "message": "no"}}}).to_string();
    let json = ("content-type", "application/json");
    let message = String::from_utf8(framed(&SayRequest { text: "a".into(), ..SayRequest::default() }).to_vec());
    let message = message.expect("a small message is ASCII");
    let calls: &[Request<'_>] = &[
        (Method::GET, "/test/v1/say/hi", &[], ""),
        (Method::HEAD, "/test/v1/say/hi", &[], ""),
        (Method::GET, "/test/v1/repeat/hi", &[("accept", "text/event-stream")], ""),
        (Method::GET, "/test/v1/download/hi", &[], ""),
        (Method::POST, SAY, &[json], r#"{"text": "a"}"#),
        (Method::POST, SAY, &[json], &failing),
        (Method::POST, SAY, &[json], "{"),
        (Method::POST, SAY, &[("content-type", "text/plain")], "a"),
        (Method::POST, "/test/v1/repeat", &[json], &failing),
        (Method::POST, "/test/v1/collect", &[json], "{}"),
        (Method::POST, SAY, &[("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1")], &message),
        (Method::POST, SAY, &[("content-type", "application/grpc-web-text")], "AAAAAAMKAWE="),
        (Method::POST, SAY, &[json, ("connect-protocol-version", "1")], r#"{"text": "a"}"#),
        (Method::POST, SAY, &[("content-type", "application/connect+json")], ""),
        (Method::POST, SAY, &[json, ("grpc-timeout", "x")], "{}"),
        (Method::DELETE, "/test/v1/say", &[], ""),
        (Method::GET, "/nothing/here", &[], ""),
        (Method::GET, "/test/v1/missing", &[], ""),
        (Method::OPTIONS, "/test/v1/say", &[], ""),
    ];
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for (method, path, headers, body) in calls {
            for (origin, expected) in [
                (Some(APP), (Some(APP), None, Some("origin"))),
                (Some("https://evil.org"), (None, None, Some("origin"))),
                (None, (None, None, Some("origin"))),
            ] {
                let mut all = headers.to_vec();
                all.extend(origin.map(|origin| ("origin", origin)));

                let reply = client.send(request(method.clone(), path, &all, body)).await;

                assert_eq!(said(&reply.headers), expected, "{version:?} {method} {path} {all:?}: {reply:?}");
            }
        }
    }
}

#[tokio::test]
async fn native_calls_and_what_upstreams_say_to_browsers() {
    let (_backend, gateway) = start("- match: \"*\"\n  cors: { allow_origins: [\"https://app.example.com\"] }").await;
    let mut client = Raw::connect(gateway.address).await;
    let header = |name: &str, value: &str| Header { name: name.into(), value: value.as_bytes().to_vec() };
    let from_upstream = vec![
        header("access-control-allow-origin", "*"),
        header("access-control-allow-credentials", "true"),
        header("vary", "x-tenant"),
    ];
    let failure = Some(Failure { code: 7, message: "no".into(), ..Failure::default() });
    let behave = |failure| {
        let behaviour = Some(Behaviour { headers: from_upstream.clone(), failure, ..Behaviour::default() });
        framed(&SayRequest { text: "a".into(), behaviour })
    };
    for (path, body) in [
        (SAY, behave(None)),
        (SAY, behave(failure.clone())),
        ("/portico.test.v1.Echo/Repeat", behave(None)),
        ("/portico.test.v1.Echo/Nonsense", behave(None)),
        ("/nobody.Knows/This", behave(None)),
        ("/grpc.health.v1.Health/Check", framed(&())),
        (SAY, "nonsense".into()),
    ] {
        let allowed = client.call(path, &[("origin", APP)], body.clone()).await;
        let other = client.call(path, &[("origin", "https://evil.org")], body).await;

        let origins = allowed.headers.get_all("access-control-allow-origin").iter().collect::<Vec<_>>();
        assert_eq!(origins, [APP], "{path} {allowed:?}");
        assert!(!allowed.headers.contains_key("access-control-allow-credentials"), "{path}");
        assert!(!other.headers.keys().any(|name| name.as_str().starts_with("access-control-")), "{path} {other:?}");
        for answer in [allowed, other] {
            assert!(answer.headers.get_all("vary").iter().any(|value| value == "origin"), "{path} {answer:?}");
        }
    }
    let (_backend, gateway) = start("- match: \"*\"\n  timeout: { unary: 5s }").await;
    let mut client = Raw::connect(gateway.address).await;
    let untouched = client.call(SAY, &[("origin", APP)], behave(None)).await;
    assert_eq!(untouched.headers["access-control-allow-origin"], "*");
    assert_eq!(untouched.headers["vary"], "x-tenant");
}

#[tokio::test]
async fn preflights_are_counted_and_logged_once_and_are_no_errors() {
    let (_backend, gateway) = start("- match: \"*\"\n  cors: { allow_origins: [\"https://app.example.com\"] }").await;
    let mut client = gateway.client(Version::Http1).await;

    preflight(&mut client, APP, "POST", SAY).await;
    preflight(&mut client, "https://evil.org", "POST", SAY).await;

    let series = "portico_requests_total{upstream=\"\",method=\"unknown\",protocol=\"rest\"";
    gateway.metric_reaches(series, 2.0).await;
    assert_eq!(gateway.metric(&format!("{series},code=\"OK\",origin=\"none\"")).await, 1.0);
    assert_eq!(gateway.metric(&format!("{series},code=\"PERMISSION_DENIED\",origin=\"client\"")).await, 1.0);
}
