//! Headers and metadata of REST calls: what goes up, what comes down, who the caller is, and how long it waits.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::backend::{self, Backend};
use crate::support::client::{Client, Reply, Version};
use crate::support::gateway::{TestGateway, upstream};
use crate::support::rest::{call, message, raw_http1, seen, with};

const SAY: &str = "GET /test/v1/say/hi";

async fn start() -> (Backend, TestGateway) {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    (backend, gateway)
}

/// Calls Say with headers and returns what the service saw of one of them.
async fn sent(client: &mut Client, headers: &[(&str, &str)], name: &str) -> Vec<String> {
    let reply = with(client, SAY, headers, "").await;
    assert_eq!(reply.status, StatusCode::OK, "{headers:?}: {reply:?}");
    seen(&reply, name)
}

/// Calls Say, which is to answer with these headers and trailers.
async fn answered_with(client: &mut Client, headers: &[(&str, &str)], behaviour: Value) -> Reply {
    let body = json!({"text": "hi", "behaviour": behaviour}).to_string();
    let headers = [headers, &[("content-type", "application/json")]].concat();
    with(client, "POST /test/v1/say", &headers, &body).await
}

/// A metadata entry in a behaviour; JSON has its bytes as base64.
fn entry(name: &str, value: &[u8]) -> Value {
    use base64::Engine;
    json!({"name": name, "value": base64::engine::general_purpose::STANDARD.encode(value)})
}

#[tokio::test]
async fn headers_become_metadata_raw_and_prefixed() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        let cases: &[(&str, &str, &str, &[&str])] = &[
            ("x-tenant", "a", "x-tenant", &["a"]),
            ("X-Tenant", "a b", "x-tenant", &["a b"]),
            ("grpc-metadata-tenant", "a", "tenant", &["a"]),
            ("Grpc-Metadata-Tenant", "a", "tenant", &["a"]),
            ("authorization", "Bearer x", "authorization", &["Bearer x"]),
            ("user-agent", "test/1", "user-agent", &["test/1"]),
            ("cookie", "a=b", "cookie", &["a=b"]),
            ("x-key-bin", "AAEC", "x-key-bin", &["\0\u{1}\u{2}"]),
            ("x-key-bin", "AAE=", "x-key-bin", &["\0\u{1}"]),
            ("grpc-metadata-key-bin", "AAE", "key-bin", &["\0\u{1}"]),
            ("grpc-metadata-key-bin", "AAE=, AAI", "key-bin", &["\0\u{1}", "\0\u{2}"]),
            ("x!a", "no name of metadata", "x!a", &[]),
            ("accept", "application/json", "accept", &[]),
            ("accept-encoding", "gzip", "accept-encoding", &[]),
            ("content-language", "en", "content-language", &[]),
            ("if-match", "x", "if-match", &[]),
            ("origin", "https://a", "origin", &[]),
            ("range", "bytes=0-1", "range", &[]),
            ("x-envoy-original-path", "/", "x-envoy-original-path", &[]),
            ("forwarded", "for=1.2.3.4", "forwarded", &[]),
            ("x_forwarded_client_cert", "URI=a", "x_forwarded_client_cert", &[]),
            ("grpc-metadata-x_forwarded_for", "1.2.3.4", "x_forwarded_for", &[]),
            ("grpc-encoding", "gzip", "grpc-encoding", &[]),
            ("grpc-status", "0", "grpc-status", &[]),
            ("grpc-metadata-grpc-status", "0", "grpc-status", &[]),
            ("grpc-metadata-grpc-metadata-x", "0", "x", &[]),
            ("grpc-metadata-content-type", "text/plain", "content-type", &["application/grpc"]),
            ("grpc-metadata-te", "gzip", "te", &["trailers"]),
            ("x-latin", "caf\u{e9}", "x-latin", &[]),
        ];
        for (name, value, at, expected) in cases {
            assert_eq!(sent(&mut client, &[(name, value)], at).await, *expected, "{version:?} {name}: {value}");
        }
        let twice = [("x-list", "a"), ("grpc-metadata-x-list", "b")];
        assert_eq!(sent(&mut client, &twice, "x-list").await.len(), 2);
        let pieces = [("cookie", "a=1"), ("cookie", "b=2; c=3")];
        assert_eq!(sent(&mut client, &pieces, "cookie").await, ["a=1; b=2; c=3"]);
        for value in ["***", "AAE,***"] {
            let bad = with(&mut client, SAY, &[("x-key-bin", value)], "").await;
            assert_eq!((bad.status, bad.reason().as_str()), (StatusCode::BAD_REQUEST, "INVALID_HEADER"), "{version:?}");
            assert!(message(&bad).contains("x-key-bin"), "{bad:?}");
        }
    }
}

#[tokio::test]
async fn headers_of_one_connection_stay_on_it() {
    let (_backend, gateway) = start().await;
    let mut client = gateway.client(Version::Http1).await;
    let hop = [("connection", "x-secret, keep-alive"), ("x-secret", "1"), ("keep-alive", "timeout=5"), ("x-kept", "1")];

    let reply = with(&mut client, SAY, &hop, "").await;

    for gone in ["connection", "x-secret", "keep-alive", "transfer-encoding", "content-length", "host"] {
        assert_eq!(seen(&reply, gone), [""; 0], "{gone}");
    }
    assert_eq!(seen(&reply, "x-kept"), ["1"]);
    assert_eq!(seen(&reply, ":path"), ["/portico.test.v1.Echo/Say"]);
    assert_eq!(seen(&reply, "te"), ["trailers"]);
}

#[tokio::test]
async fn reply_metadata_becomes_headers_unless_it_steers_the_client() {
    let (_backend, gateway) = start().await;
    let public = ["x-color", "etag", "cache-control", "retry-after"];
    let private = [
        "set-cookie",
        "location",
        "content-language",
        "content-security-policy",
        "access-control-allow-origin",
        "www-authenticate",
        "strict-transport-security",
        "alt-svc",
        "refresh",
        "clear-site-data",
    ];
    let mut headers: Vec<Value> = public.iter().chain(&private).map(|name| entry(name, b"v")).collect();
    headers.extend([entry("x-color", b"w"), entry("x-key-bin", &[0, 1]), entry("x-request-id", b"forged")]);
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;

        let reply = answered_with(&mut client, &[], json!({"headers": headers})).await;

        assert_eq!(reply.status, StatusCode::OK, "{version:?}: {reply:?}");
        for name in public {
            assert_eq!(reply.headers[name], "v", "{version:?} {name}");
        }
        assert_eq!(reply.headers.get_all("x-color").iter().collect::<Vec<_>>(), ["v", "w"]);
        assert_eq!(reply.headers["x-key-bin"], "AAE");
        assert_eq!(reply.headers["content-type"], "application/json");
        assert!(reply.headers["x-request-id"] != "forged");
        for name in private {
            assert!(!reply.headers.contains_key(name), "{version:?} {name}: {reply:?}");
        }
        assert!(!reply.headers.keys().any(|name| name.as_str().starts_with("grpc-")), "{reply:?}");
    }
}

#[tokio::test]
async fn trailers_are_trailers_where_the_client_takes_them() {
    let (_backend, gateway) = start().await;
    let trailers = json!({"trailers": [entry("x-cost", b"7"), entry("x-cost", b"8"), entry("x-more-bin", &[1]), entry("set-cookie", b"a")]});
    let cases = [
        (Version::Http1, &[("te", "trailers")][..], true),
        (Version::Http1, &[("te", "gzip, Trailers")], true),
        (Version::Http1, &[], false),
        (Version::Http1, &[("te", "gzip")], false),
        (Version::Http2, &[("te", "trailers")], true),
        (Version::Http2, &[], true),
    ];
    for (version, headers, expected) in cases {
        let mut client = gateway.client(version).await;

        let reply = answered_with(&mut client, headers, trailers.clone()).await;

        assert_eq!(reply.status, StatusCode::OK, "{version:?}: {reply:?}");
        assert_eq!(reply.json()["text"], "hi");
        assert!(!reply.headers.contains_key("x-cost"), "{version:?} {headers:?}: {reply:?}");
        if expected {
            assert_eq!(
                reply.trailers.get_all("x-cost").iter().collect::<Vec<_>>(),
                ["7", "8"],
                "{version:?} {reply:?}"
            );
            assert_eq!((&reply.trailers["x-more-bin"], reply.trailers.len()), (&"AQ".parse().unwrap(), 3));
        } else {
            assert!(reply.trailers.is_empty() && reply.headers.contains_key("content-length"), "{reply:?}");
        }
        let announced = reply.headers.get("trailer").map(|names| names.to_str().unwrap());
        let names = Some("x-cost, x-more-bin").filter(|_| expected && version == Version::Http1);
        assert_eq!(announced, names, "{version:?} {headers:?}");
        // The connection is still good.
        assert_eq!(client.get("/test/v1/say/hi").await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn without_a_body_there_are_no_trailers() {
    let (_backend, gateway) = start().await;
    let mut client = gateway.client(Version::Http1).await;
    let query = "behaviour.count=0";

    let head = with(&mut client, &format!("HEAD /test/v1/say/hi?{query}"), &[("te", "trailers")], "").await;
    let http10 = raw_http1(gateway.address, b"GET /test/v1/say/hi HTTP/1.0\r\nte: trailers\r\n\r\n").await;

    assert!(head.headers.contains_key("content-length") && !head.headers.contains_key("trailer"), "{head:?}");
    assert!(http10.contains(" 200 ") && !http10.contains("chunked"), "{http10}");
}

#[tokio::test]
async fn metadata_of_a_failed_call_becomes_headers() {
    let (_backend, gateway) = start().await;
    let failure = json!({
        "trailers": [entry("x-last", b"2"), entry("set-cookie", b"a")], "failure": {"code": 9, "message": "no"}
    });
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;

        let reply = answered_with(&mut client, &[("te", "trailers")], failure.clone()).await;

        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{version:?}: {reply:?}");
        assert_eq!(reply.headers["x-last"], "2", "{version:?}: {reply:?}");
        assert!(!reply.headers.contains_key("set-cookie") && reply.trailers.is_empty());
    }
}

#[tokio::test]
async fn callers_are_described_by_the_gateway_alone() {
    let (_backend, gateway) = start().await;
    let forged = [
        ("x-forwarded-for", "10.1.2.3"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("grpc-metadata-x-forwarded-for", "10.9.9.9"),
    ];
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;

        let reply = with(&mut client, SAY, &forged, "").await;

        assert_eq!(seen(&reply, "x-forwarded-for"), ["127.0.0.1"], "{version:?}");
        assert_eq!(seen(&reply, "x-forwarded-proto"), ["http"], "{version:?}");
        assert_eq!(seen(&reply, "x-forwarded-host"), [gateway.address.to_string()], "{version:?}");
    }
}

#[tokio::test]
async fn trusted_proxies_describe_their_clients() {
    let backend = backend::start().await;
    let listener = "listeners: [ { address: \"127.0.0.1:0\", trusted_proxies: [127.0.0.0/8] } ]\n";
    let gateway = TestGateway::start(&(upstream("echo", backend.address) + listener)).await;
    gateway.ready().await;
    let sent = [
        ("x-forwarded-for", "203.0.113.9, 198.51.100.2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "api.example.com"),
        ("grpc-metadata-x-forwarded-for", "10.9.9.9"),
    ];
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;

        let reply = with(&mut client, SAY, &sent, "").await;

        assert_eq!(seen(&reply, "x-forwarded-for"), ["203.0.113.9, 198.51.100.2, 127.0.0.1"], "{version:?}");
        assert_eq!(seen(&reply, "x-forwarded-proto"), ["https"], "{version:?}");
        assert_eq!(seen(&reply, "x-forwarded-host"), ["api.example.com"], "{version:?}");
    }
}

#[tokio::test]
async fn identifiers_are_kept_or_made_and_echoed() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let (_backend, gateway) = start().await;
    let long = "x".repeat(129);
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        let given = [("x-request-id", "abc"), ("traceparent", PARENT), ("tracestate", "v=1")];

        let kept = with(&mut client, SAY, &given, "").await;
        let made = with(&mut client, SAY, &[("traceparent", "junk"), ("tracestate", "v=1")], "").await;

        assert_eq!(kept.headers["x-request-id"], "abc");
        assert_eq!(kept.headers["traceparent"], PARENT);
        let names = ["x-request-id", "traceparent", "tracestate"];
        assert_eq!(names.map(|name| seen(&kept, name)), [["abc"], [PARENT], ["v=1"]], "{version:?}");
        assert_eq!(seen(&made, "x-request-id"), [made.headers["x-request-id"].to_str().unwrap()], "{version:?}");
        let parent = &seen(&made, "traceparent")[0];
        assert!(parent.len() == 55 && parent.starts_with("00-") && parent.ends_with("-00"), "{parent}");
        assert_eq!(made.headers["traceparent"], parent, "{version:?}");
        assert_eq!(seen(&made, "tracestate"), [""; 0], "{version:?}");
        for bad in ["a b", long.as_str()] {
            let reply = with(&mut client, SAY, &[("x-request-id", bad)], "").await;
            assert_eq!(reply.headers["x-request-id"].len(), 32, "{version:?} {bad}");
        }
        for line in ["GET /nowhere", "OPTIONS /test/v1/say/hi"] {
            let own = with(&mut client, line, &given, "").await;
            assert_eq!(own.headers["x-request-id"], "abc", "{version:?} {line}");
            assert_eq!(own.headers["traceparent"], PARENT, "{version:?} {line}");
        }
        let theirs = "00-4bf92f3577b34da6a3ce929d0e0e4736-53995c3f42cd8ad8-01";
        let behaviour = json!({"headers": [entry("traceparent", theirs.as_bytes())]});
        let reply = answered_with(&mut client, &given, behaviour).await;
        assert_eq!(reply.headers.get_all("traceparent").iter().collect::<Vec<_>>(), [theirs], "{version:?}");
    }
}

#[tokio::test]
async fn every_rest_reply_has_a_date() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for line in [SAY, "GET /nowhere", "OPTIONS /test/v1/say/hi", "HEAD /test/v1/say/hi"] {
            let reply = client.send(call(line, "")).await;

            let dates: Vec<&str> = reply.headers.get_all("date").iter().map(|date| date.to_str().unwrap()).collect();
            assert_eq!(dates.len(), 1, "{version:?} {line}");
            assert!(dates[0].len() == 29 && dates[0].ends_with(" GMT"), "{version:?} {line}: {dates:?}");
        }
    }
}

/// A `grpc-timeout` in microseconds.
fn micros(timeout: &str) -> u64 {
    let (digits, unit) = timeout.split_at(timeout.len() - 1);
    let amount: u64 = digits.parse().expect("a timeout is digits and a unit");
    match unit {
        "n" => amount / 1_000,
        "u" => amount,
        "m" => amount * 1_000,
        _ => amount * 1_000_000,
    }
}

#[tokio::test]
async fn the_least_deadline_goes_upstream_with_the_time_left() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        let cases: &[(&[(&str, &str)], u64)] = &[
            (&[], 15),
            (&[("grpc-timeout", "9S")], 9),
            (&[("grpc-timeout", "9000m")], 9),
            (&[("x-server-timeout", "7")], 7),
            (&[("request-timeout", "5.0")], 5),
            (&[("grpc-timeout", "9S"), ("x-server-timeout", "7"), ("request-timeout", "8")], 7),
            (&[("grpc-timeout", "6S"), ("x-server-timeout", "7"), ("request-timeout", "8")], 6),
            (&[("grpc-timeout", "1H"), ("grpc-metadata-grpc-timeout", "1S")], 15),
        ];
        for (headers, seconds) in cases {
            let timeouts = sent(&mut client, headers, "grpc-timeout").await;

            let [timeout] = timeouts.as_slice() else { panic!("{version:?} {headers:?}: {timeouts:?}") };
            let (left, given) = (micros(timeout), seconds * 1_000_000);
            assert!(left <= given && left > given - 2_000_000, "{version:?} {headers:?}: {timeout}");
        }
        let reply = with(&mut client, SAY, &[("x-server-timeout", "7"), ("request-timeout", "7")], "").await;
        assert_eq!((seen(&reply, "x-server-timeout"), seen(&reply, "request-timeout")), (Vec::new(), Vec::new()));
    }
}

#[tokio::test]
async fn deadlines_that_cannot_be_read_are_refused() {
    let (_backend, gateway) = start().await;
    let bad = [
        ("grpc-timeout", "1"),
        ("grpc-timeout", "S"),
        ("grpc-timeout", "1s"),
        ("grpc-timeout", "-1S"),
        ("grpc-timeout", "123456789S"),
        ("grpc-timeout", ""),
        ("x-server-timeout", "soon"),
        ("x-server-timeout", "1s"),
        ("x-server-timeout", "-1"),
        ("request-timeout", "1e3"),
        ("request-timeout", "NaN"),
        ("request-timeout", ""),
    ];
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for (name, value) in bad {
            let reply = with(&mut client, SAY, &[(name, value)], "").await;

            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{version:?} {name}: {value}: {reply:?}");
            assert_eq!(reply.reason(), "INVALID_HEADER", "{version:?} {name}: {value}");
            assert!(message(&reply).contains(name), "{reply:?}");
        }
    }
}

#[tokio::test]
async fn deadlines_end_calls_that_stand_still() {
    let (backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for header in [("grpc-timeout", "60m"), ("x-server-timeout", "0.06"), ("request-timeout", ".06")] {
            let reply = answered_with(&mut client, &[header], json!({"stall": true})).await;

            assert_eq!(reply.status, StatusCode::GATEWAY_TIMEOUT, "{version:?} {header:?}: {reply:?}");
            assert_eq!((reply.json()["code"].clone(), reply.reason().as_str()), (json!(4), "DEADLINE_EXCEEDED"));
            assert!(message(&reply).contains("60ms"), "{reply:?}");
        }
    }
    backend.tally.until(|counts| counts.cancelled == counts.started).await;
}

#[tokio::test]
async fn a_method_has_a_timeout_of_its_own() {
    let backend = backend::start().await;
    let policy = "policies: [ { match: \"portico.test.v1.Echo/Say\", timeout: { unary: 60ms } } ]\n";
    let gateway = TestGateway::start(&(upstream("echo", backend.address) + policy)).await;
    gateway.ready().await;
    let mut client = gateway.client(Version::Http2).await;

    let reply = answered_with(&mut client, &[("grpc-timeout", "9S")], json!({"stall": true})).await;

    assert_eq!(reply.status, StatusCode::GATEWAY_TIMEOUT, "{reply:?}");
}

/// A policy by which the service may steer replies.
const STEERED: &str = "policies:
  - { match: \"*\", reply: { status_metadata: X-HTTP-Code, headers: [Location, set-cookie] } }
";

/// A call of the echo service with this metadata in its reply.
fn said(metadata: &[(&str, &str)], more: &Value) -> String {
    use base64::Engine as _;
    let base64 = |value: &str| base64::engine::general_purpose::STANDARD.encode(value);
    let headers: Vec<_> = metadata.iter().map(|(name, value)| json!({"name": name, "value": base64(value)})).collect();
    let mut behaviour = json!({"headers": headers});
    for (key, value) in more.as_object().expect("an object") {
        behaviour[key] = value.clone();
    }
    json!({"text": "hi", "behaviour": behaviour}).to_string()
}

#[tokio::test]
async fn a_service_may_steer_the_reply_where_a_policy_allows_it() {
    let backend = backend::start().await;
    let plain = TestGateway::over(backend.address).await;
    let steered = TestGateway::start(&(upstream("echo", backend.address) + STEERED)).await;
    steered.ready().await;
    let json = [("content-type", "application/json")];
    let metadata = [("x-http-code", "201"), ("location", "/v1/x"), ("set-cookie", "a=b"), ("refresh", "1")];
    for version in Version::BOTH {
        let (mut plain, mut steered) = (plain.client(version).await, steered.client(version).await);
        for path in ["POST /test/v1/say", "POST /test/v1/repeat"] {
            let body = said(&metadata, &json!({}));

            let kept = with(&mut plain, path, &json, &body).await;
            let reply = with(&mut steered, path, &json, &body).await;

            assert_eq!(kept.status, StatusCode::OK, "{version:?} {path}");
            assert_eq!(kept.headers["x-http-code"], "201");
            assert!(!kept.headers.contains_key("location") && !kept.headers.contains_key("set-cookie"));
            assert_eq!(reply.status, StatusCode::CREATED, "{version:?} {path}");
            assert_eq!(
                (&reply.headers["location"], &reply.headers["set-cookie"]),
                (&metadata[1].1.parse().unwrap(), &metadata[2].1.parse().unwrap())
            );
            assert!(!reply.headers.contains_key("x-http-code") && !reply.headers.contains_key("refresh"));
            assert!(!reply.body.is_empty());
            for (code, expected) in [("204", 204), ("304", 304), ("205", 205), ("404", 404), ("99", 200), ("1xx", 200)]
            {
                let reply = with(&mut steered, path, &json, &said(&[("x-http-code", code)], &json!({}))).await;

                assert_eq!(reply.status, expected, "{version:?} {path} {code}: {reply:?}");
                let has_content = ![204, 205, 304].contains(&expected);
                assert_eq!(!reply.body.is_empty(), has_content, "{version:?} {path} {code}: {reply:?}");
                assert_eq!(reply.headers.contains_key("content-type"), has_content, "{version:?} {path} {code}");
            }
        }
        let mut failure: Value =
            serde_json::from_str(&said(&metadata, &json!({"failure": {"code": 5}}))).expect("it is JSON");
        failure["behaviour"]["trailers"] = failure["behaviour"]["headers"].take();
        let reply = with(&mut steered, "POST /test/v1/say", &json, &failure.to_string()).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{version:?}: only a successful reply has another status");
        assert_eq!(reply.headers["location"], "/v1/x");
        assert!(!reply.headers.contains_key("x-http-code"), "{reply:?}");
    }
}

#[tokio::test]
async fn headers_set_fields_and_fields_set_headers_where_they_are_bound() {
    let backend = backend::start().await;
    let policies = "policies:
  - match: portico.test.v1.Echo/Identity
    request_headers: { X-Tenant: string_value, x-part: nested.name, x-time: timestamp }
    reply_headers: { etag: nested.name, x-number: int64_value, location: string_wrapper, x-color: color, x-at: timestamp }
  - match: portico.test.v1.Echo/Collect
    request_headers: { x-tenant: text }
";
    let gateway = TestGateway::start(&(upstream("echo", backend.address) + policies)).await;
    gateway.ready().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        let bound = [
            ("content-type", "application/json"),
            ("x-tenant", "acme"),
            ("x-part", "\"v1\""),
            ("x-time", "2026-01-02T03:04:05Z"),
        ];
        let body = r#"{"stringValue": "acme", "int64Value": "7", "color": "BLUE", "stringWrapper": "/a\"b"}"#;

        let reply = with(&mut client, "POST /test/v1/identity", &bound, body).await;
        let query = with(&mut client, "GET /test/v1/identity?string_value=acme", &bound[1..2], "").await;
        let none = with(&mut client, "GET /test/v1/identity", &[], "").await;
        let texts = with(&mut client, "POST /test/v1/collect", &bound[..2], "[{}, {}]").await;

        assert_eq!(reply.status, StatusCode::OK, "{version:?}: {reply:?}");
        let json = reply.json();
        assert_eq!((&json["stringValue"], &json["nested"]["name"]), (&json!("acme"), &json!("\"v1\"")));
        for (name, value) in [
            ("etag", "\"v1\""),
            ("x-number", "7"),
            ("location", "/a\"b"),
            ("x-color", "BLUE"),
            ("x-at", "2026-01-02T03:04:05Z"),
        ] {
            assert_eq!(reply.headers[name], value, "{version:?} {name}");
            assert!(!none.headers.contains_key(name), "{version:?} {name}");
        }
        assert_eq!(query.json(), json!({"stringValue": "acme"}), "{query:?}");
        assert_eq!(texts.json()["texts"], json!(["acme", "acme"]), "{texts:?}");
        for (line, headers, body) in [
            ("GET /test/v1/identity?string_value=other", &bound[1..2], ""),
            ("POST /test/v1/identity", &bound[..2], r#"{"stringValue": "other"}"#),
            ("GET /test/v1/identity", &[bound[1], ("x-tenant", "b")], ""),
            ("GET /test/v1/identity", &[("x-time", "soon")], ""),
        ] {
            let reply = with(&mut client, line, headers, body).await;

            assert_eq!(
                (reply.status, reply.reason().as_str()),
                (StatusCode::BAD_REQUEST, "INVALID_REQUEST"),
                "{line}: {reply:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_header_that_is_bound_to_no_field_is_told() {
    let backend = backend::start().await;
    let policies = "policies:
  - { match: portico.test.v1.Echo/Say, request_headers: { x-a: txt }, reply_headers: { x-b: metadata } }
";
    let gateway = TestGateway::start(&(upstream("echo", backend.address) + policies)).await;
    gateway.ready().await;

    let snapshot = gateway.inner().snapshot();
    let notices: Vec<&str> = snapshot.notices.iter().map(|notice| &*notice.text).collect();

    for expected in [
        "portico.test.v1.Echo/Say: the header x-a sets no field: portico.test.v1.SayRequest has no field `txt`",
        "portico.test.v1.Echo/Say: the header x-b is set by no field: `metadata`: `metadata` is repeated",
    ] {
        assert!(notices.contains(&expected), "{notices:?}");
    }
}
