//! Another service decides on calls: what it is told, what it may change, and what becomes of a call when it does not
//! answer, in every protocol.

use http::Method;
use portico::encoding::Encoding;
use portico::pb::envoy::service::auth::v3::attribute_context::Peer;
use portico::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse, OkHttpResponse};
use portico::pb::google::protobuf::value::Kind;
use portico::pb::google::rpc::Status as RpcStatus;
use prost::Message as _;
use tonic::Status;

use crate::support::authorizer::{Authorizer, Decide, allowed, denied, header, set};
use crate::support::backend::act::{self, Step};
use crate::support::backend::scripted;
use crate::support::callers::everywhere;
use crate::support::client::{Version, request};
use crate::support::grpc::{Raw, SAY};
use crate::support::rpc::{envelope, squeeze};
use crate::support::site::Site;

/// A site whose calls an authorizer decides on; `settings` are more keys of it.
async fn site(decide: Decide, settings: &str, policy: &str) -> (Site, Authorizer) {
    let settings = if settings.contains("timeout") { settings.to_owned() } else { format!("timeout: 10s, {settings}") };
    let authorizer = Authorizer::start(decide).await;
    let more = format!(
        "upstreams:
  - {{ name: echo, endpoints: [\"BACKEND\"], schema: {{ reflection: {{}} }} }}
  - {{ name: judge, endpoints: [\"{}\"], schema: none }}
authorization:
  external:
    - {{ name: judge, upstream: judge, headers: [x-user, x-tenant], reply_headers: [x-verdict], {settings} }}",
        authorizer.address
    );
    let policies = format!("- {{ match: \"*\", authorize: {{ external: judge }}, {policy} }}");
    (Site::start(&more, &policies).await, authorizer)
}

fn by_token(question: &CheckRequest) -> Option<Result<CheckResponse, Status>> {
    Some(Ok(match header(question, "authorization") {
        Some("Bearer good") => allowed(OkHttpResponse {
            headers: vec![set("x-user", "ann"), set("x-tenant", "blue")],
            headers_to_remove: vec!["authorization".into()],
            response_headers_to_add: vec![set("x-verdict", "fine")],
            ..OkHttpResponse::default()
        }),
        Some(_) => denied(7, 403, vec![set("x-why", "bad")], "not with that token"),
        None => denied(16, 401, vec![set("www-authenticate", "Bearer realm=\"judge\"")], ""),
    }))
}

#[tokio::test]
async fn an_authorizer_decides_in_every_protocol() {
    let (site, authorizer) = site(by_token, "", "").await;
    let forged = [("x_user", "eve"), ("x-tenant", "red"), ("grpc-metadata-x-user", "eve")];

    for (token, code) in [(Some("Bearer good"), 0), (Some("Bearer bad"), 7), (None, 16)] {
        let headers: Vec<(&str, &str)> =
            forged.into_iter().chain(token.map(|token| ("authorization", token))).collect();
        let mut client = site.gateway.client(Version::Http2).await;
        for (way, outcome) in everywhere(&site.gateway, &headers).await {
            assert_eq!(outcome.code, code, "{way}: {}", outcome.message);
            match code {
                0 => {
                    let Some(seen) = outcome.seen else { continue };
                    assert_eq!(
                        (&seen["x-user"], &seen["x-tenant"]),
                        (&"ann".parse().unwrap(), &"blue".parse().unwrap())
                    );
                    assert!(!seen.contains_key("authorization") && !seen.contains_key("x_user"), "{way}: {seen:?}");
                }
                7 => assert_eq!(outcome.message, "not with that token", "{way}"),
                _ => assert_eq!(outcome.challenge.as_deref(), Some("Bearer realm=\"judge\""), "{way}"),
            }
        }
        let reply = client.send(request(Method::GET, "/test/v1/say/hi", &headers, "")).await;
        let verdict = reply.headers.get("x-verdict").map(|value| value.to_str().expect("text"));
        assert_eq!(verdict, (code == 0).then_some("fine"));
    }
    let methods: std::collections::BTreeSet<String> = authorizer.asked().iter().map(path).collect();
    let expected = ["/portico.test.v1.Echo/Repeat", "/portico.test.v1.Echo/Say"];
    assert!(methods.iter().eq(expected.iter()), "the same question whatever the protocol: {methods:?}");
}

#[tokio::test]
async fn an_answer_may_come_compressed() {
    let answer = squeeze(Encoding::Gzip, &allowed(OkHttpResponse::default()).encode_to_vec());
    let judge = vec![
        Step::Read,
        act::grpc_head(&[("grpc-encoding", "gzip")]),
        Step::Data(envelope(1, &answer)),
        act::status(0, ""),
    ];
    let judge = scripted::start(vec![judge]).await;
    let more = format!(
        "upstreams:
  - {{ name: echo, endpoints: [\"BACKEND\"], schema: {{ reflection: {{}} }} }}
  - {{ name: judge, endpoints: [\"{}\"], schema: none }}
authorization: {{ external: [ {{ name: judge, upstream: judge, timeout: 10s }} ] }}",
        judge.address
    );
    let site = Site::start(&more, "- { match: \"*\", authorize: { external: judge } }").await;

    let reply = site.gateway.client(Version::Http2).await.get("/test/v1/say/hi").await;

    assert_eq!(reply.status, 200, "{reply:?}");
}

fn path(question: &CheckRequest) -> String {
    header(question, ":path").expect("there is a path").to_owned()
}

#[tokio::test]
async fn an_authorizer_is_told_what_there_is_to_know() {
    let all: Decide = |_| Some(Ok(allowed(OkHttpResponse::default())));
    let (site, authorizer) = site(all, "context: { environment: test }", "authenticate: { optional: keys }").await;
    let mut client = site.gateway.client(Version::Http1).await;
    let headers = [("x-api-key", "k-ann"), ("x-many", "1"), ("x-many", "2"), ("x-forwarded-for", "10.0.0.1")];

    let reply = client.send(request(Method::GET, "/test/v1/say/hi?payload_bytes=1", &headers, "")).await;

    let asked = authorizer.asked().pop().expect("it was asked").attributes.expect("attributes");
    let http = asked.request.as_ref().and_then(|request| request.http.clone()).expect("the request");
    assert_eq!((http.method.as_str(), http.path.as_str()), ("POST", "/portico.test.v1.Echo/Say"));
    assert_eq!((http.scheme.as_str(), http.protocol.as_str(), http.size), ("http", "HTTP/1.1", -1));
    assert_eq!(http.id.as_bytes(), reply.headers["x-request-id"].as_bytes());
    for (name, value) in [
        ("x-api-key", "k-ann"),
        ("x-many", "1,2"),
        (":path", "/portico.test.v1.Echo/Say"),
        ("x-envoy-original-path", "/test/v1/say/hi?payload_bytes=1"),
        ("x-envoy-original-method", "GET"),
        ("x-portico-protocol", "rest"),
    ] {
        assert_eq!(http.headers.get(name).map(String::as_str), Some(value), "{name}");
    }
    let address = |peer: Option<Peer>| peer.and_then(|peer| peer.address?.socket_address).expect("an address");
    let source = address(asked.source);
    assert_eq!((source.address.as_str(), source.port_value > 0), ("127.0.0.1", true));
    assert_eq!(address(asked.destination.clone()).port_value, u32::from(site.gateway.address.port()));
    assert_eq!(asked.destination.expect("the destination").service, "portico.test.v1.Echo");
    assert_eq!(asked.context_extensions["environment"], "test");
    let identity = &asked.metadata_context.expect("claims").filter_metadata["portico.identity"];
    let Some(Kind::StructValue(claims)) = &identity.fields["keys"].kind else { unreachable!("{identity:?}") };
    assert_eq!(claims.fields["name"].kind, Some(Kind::StringValue("ann".into())));
}

#[tokio::test]
async fn answers_that_break_a_rule_are_none() {
    let cases: [(Decide, &str); 9] = [
        (
            |_| Some(Ok(allowed(OkHttpResponse { headers: vec![set("x-admin", "1")], ..OkHttpResponse::default() }))),
            "x-admin",
        ),
        (
            |_| {
                Some(Ok(allowed(OkHttpResponse {
                    headers: vec![set("x-user", "a\r\nx-admin: 1")],
                    ..OkHttpResponse::default()
                })))
            },
            "x-user",
        ),
        (
            |_| Some(Ok(allowed(OkHttpResponse { headers: vec![set(":path", "/x")], ..OkHttpResponse::default() }))),
            ":path",
        ),
        (
            |_| Some(Ok(allowed(OkHttpResponse { headers_to_remove: vec!["te".into()], ..OkHttpResponse::default() }))),
            "te",
        ),
        (
            |_| {
                Some(Ok(allowed(OkHttpResponse {
                    response_headers_to_add: vec![set("set-cookie", "a=b")],
                    ..OkHttpResponse::default()
                })))
            },
            "set-cookie",
        ),
        (
            |_| {
                Some(Ok(allowed(OkHttpResponse {
                    query_parameters_to_remove: vec!["a".into()],
                    ..OkHttpResponse::default()
                })))
            },
            "query",
        ),
        (|_| Some(Ok(denied(7, 204, Vec::new(), ""))), "204"),
        (|_| Some(Ok(denied(0, 403, Vec::new(), ""))), "OK beside a refusal"),
        (|_| Some(Err(Status::internal("broken"))), "broken"),
    ];
    for (decide, words) in cases {
        let (site, _authorizer) = site(decide, "", "").await;
        let mut client = site.gateway.client(Version::Http2).await;

        let reply = client.get("/test/v1/say/hi").await;

        assert_eq!((reply.status.as_u16(), &*reply.reason()), (503, "AUTHORIZATION_UNAVAILABLE"), "{words}");
        site.logged(&["AUTHORIZATION_UNAVAILABLE", "authorizer judge", words]).await;
    }
}

#[tokio::test]
async fn without_an_answer_the_call_is_refused_unless_it_may_pass() {
    let silent: Decide = |_| None;
    for (settings, expected) in [("timeout: 20ms", 14), ("timeout: 20ms, on_failure: allow", 0)] {
        let (site, _authorizer) = site(silent, settings, "").await;
        for (way, outcome) in everywhere(&site.gateway, &[]).await {
            assert_eq!(outcome.code, expected, "{settings} {way} {}", outcome.message);
        }
        let failed = "portico_authorization_decisions_total{by=\"judge\",decision=\"failed\"}";
        assert!(site.gateway.metric(failed).await > 30.0);
    }
}

#[tokio::test]
async fn the_calls_own_deadline_is_kept() {
    let (site, _authorizer) = site(|_| None, "", "").await;
    let mut client = site.gateway.client(Version::Http2).await;

    let reply = client.send(request(Method::GET, "/test/v1/say/hi", &[("grpc-timeout", "100m")], "")).await;

    assert_eq!((reply.status.as_u16(), &*reply.reason()), (504, "DEADLINE_EXCEEDED"));
}

#[tokio::test]
async fn an_unreachable_authorizer_lets_nobody_in() {
    let more = "upstreams:
  - { name: echo, endpoints: [\"BACKEND\"], schema: { reflection: {} } }
  - { name: judge, endpoints: [\"127.0.0.1:1\"], schema: none }
authorization: { external: [ { name: judge, upstream: judge, timeout: 2s } ] }";
    let site = Site::start(more, "- { match: \"*\", authorize: { external: judge } }").await;
    for (way, outcome) in everywhere(&site.gateway, &[]).await {
        assert_eq!(outcome.code, 14, "{way}");
    }
}

#[tokio::test]
async fn callers_of_rest_get_the_authorizers_own_words() {
    let login: Decide = |question| {
        Some(Ok(match header(question, "x-want") {
            Some("login") => {
                denied(16, 302, vec![set("location", "https://login.example.com"), set("set-cookie", "a=b")], "")
            }
            Some("html") => {
                denied(7, 403, vec![set("content-type", "text/html"), set("content-length", "7")], "<b>no</b>")
            }
            Some("late") => denied(8, 429, vec![set("retry-after", "3")], "later"),
            _ => CheckResponse { status: Some(RpcStatus { code: 16, ..RpcStatus::default() }), http_response: None },
        }))
    };
    let (site, _authorizer) = site(login, "", "").await;
    for version in Version::BOTH {
        let mut client = site.gateway.client(version).await;
        let mut get = async |want| client.send(request(Method::GET, "/test/v1/say/hi", &[("x-want", want)], "")).await;

        let login = get("login").await;
        let html = get("html").await;
        let late = get("late").await;
        let plain = get("nothing").await;

        assert_eq!(
            (login.status.as_u16(), &login.headers["location"]),
            (302, &"https://login.example.com".parse().unwrap())
        );
        assert_eq!(login.headers["set-cookie"], "a=b");
        assert_eq!((html.status.as_u16(), &html.body[..]), (403, &b"<b>no</b>"[..]));
        assert_eq!(
            (&html.headers["content-type"], &html.headers["content-length"]),
            (&"text/html".parse().unwrap(), &"9".parse().unwrap())
        );
        assert_eq!(html.headers["x-content-type-options"], "nosniff");
        assert_eq!((late.status.as_u16(), &late.headers["retry-after"]), (429, &"3".parse().unwrap()));
        assert_eq!((plain.status.as_u16(), &*plain.reason()), (401, "DENIED"));
    }
    let mut raw = Raw::connect(site.gateway.address).await;
    let answer = raw.call(SAY, &[("x-want", "login")], Vec::new()).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (200, 16));
    assert!(!answer.headers.contains_key("location") && !answer.headers.contains_key("set-cookie"), "{answer:?}");
    let answer = raw.call(SAY, &[("x-want", "late")], Vec::new()).await;
    assert_eq!((answer.code(), &*answer.message()), (8, "later"));
}

#[tokio::test]
async fn an_upstream_without_a_schema_serves_no_calls() {
    let (site, authorizer) = site(|_| Some(Ok(allowed(OkHttpResponse::default()))), "", "").await;
    let mut raw = Raw::connect(site.gateway.address).await;

    let answer = raw.call("/envoy.service.auth.v3.Authorization/Check", &[], Vec::new()).await;

    assert_eq!(answer.code(), 12);
    // The backend was asked whether it knows the method; the authorizer only whether the call may pass.
    assert_eq!(authorizer.asked().len(), 1);
}

#[tokio::test]
async fn limits_by_a_header_that_an_authorizer_sets_go_by_what_it_said() {
    let limits = "rate_limits: [ { name: tenant, key: [\"header:x-tenant\"], quota: 1/h, missing: skip } ]";
    let (site, _authorizer) = site(by_token, "", limits).await;
    let mut client = site.gateway.client(Version::Http2).await;
    let mut statuses = Vec::new();
    for (token, tenant) in [("Bearer bad", "blue"), ("Bearer good", "red"), ("Bearer good", "green")] {
        let headers = [("authorization", token), ("x-tenant", tenant)];
        statuses.push(client.send(request(Method::GET, "/test/v1/say/hi", &headers, "")).await.status.as_u16());
    }

    assert_eq!(statuses, [403, 200, 429]);
}
