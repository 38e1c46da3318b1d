//! Which call a path means: templates, precedence, spellings, methods.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::backend::{self, Backend};
use crate::support::client::{Reply, Version};
use crate::support::gateway::{TestGateway, upstream};
use crate::support::rest::{call, status_http1, status_http2};

/// Rules for two methods: Identity, whose reply shows the captures, and Say, whose reply has `metadata`.
const RULES: &str = r#"
http_rules:
  - selector: portico.test.v1.Echo.Identity
    get: /v1/items/{string_value}
    additional_bindings:
      - get: /v1/items/{string_value}:read
      - delete: /v1/items/{string_value}
      - get: /v1/{nested.name=shelves/*/books/*}/pages/{int32_value}
      - get: /v1/files/{nested.name=**}
      - get: /v1/files/{nested.name=**}:read
      - get: /v1/{nested.name=sites/**}/drafts
      - get: /v1/{nested.name=sites/**}/drafts/{optional_string}
      - get: /v1/stars/*/end
      - put: /v1/{nested.name=items/special/**}
        body: "*"
      - custom: { kind: PURGE, path: "/v1/caches/{string_value}" }
      - custom: { kind: "*", path: "/v1/any/{string_value}" }
      - get: /v1/taken/{string_value}
      - delete: /portico.test.v1.Echo/{string_value}
      - custom: { kind: HEAD, path: "/v1/heads/{string_value}" }
      - custom: { kind: OPTIONS, path: "/v1/heads/{string_value}" }
  - selector: portico.test.v1.Echo.Say
    get: /v1/items/special
    additional_bindings:
      - get: /v1/taken/{text}
      - get: /v1/free/{text}
      - post: /v1/items/{text}
        body: "*"
      - get: /v1/any/{text}
"#;

async fn start() -> (Backend, TestGateway) {
    let backend = backend::start().await;
    let gateway = TestGateway::start(&(upstream("echo", backend.address) + RULES)).await;
    gateway.ready().await;
    (backend, gateway)
}

/// What came of a call in a form that can be compared: JSON of the reply without metadata, or the status and `allow`.
fn outcome(reply: &Reply) -> Value {
    if reply.status == StatusCode::OK {
        let mut json = reply.json();
        if let Some(metadata) = json.as_object_mut().and_then(|json| json.remove("metadata")) {
            assert!(metadata.is_array());
            json["said"] = json!(true);
        }
        return json;
    }
    let allow = reply.headers.get("allow").map(|allow| format!(" {}", allow.to_str().unwrap_or_default()));
    json!(format!("{}{}", reply.status.as_u16(), allow.unwrap_or_default()))
}

async fn check(calls: &[(&str, Value)]) {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for (line, expected) in calls {
            let reply = client.send(call(line, "")).await;

            assert_eq!(outcome(&reply), *expected, "{version:?} {line}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn every_form_of_template_captures_what_it_says() {
    check(&[
        ("GET /v1/items/a", json!({"stringValue": "a"})),
        ("DELETE /v1/items/a", json!({"stringValue": "a"})),
        ("GET /v1/shelves/1/books/2/pages/3", json!({"nested": {"name": "shelves/1/books/2"}, "int32Value": 3})),
        ("GET /v1/files/a", json!({"nested": {"name": "a"}})),
        ("GET /v1/files/a/b/c", json!({"nested": {"name": "a/b/c"}})),
        ("GET /v1/files", json!({"nested": {}})),
        ("GET /v1/sites/a/b/drafts", json!({"nested": {"name": "sites/a/b"}})),
        ("GET /v1/sites/drafts", json!({"nested": {"name": "sites"}})),
        ("GET /v1/sites/drafts/drafts", json!({"nested": {"name": "sites"}, "optionalString": "drafts"})),
        ("GET /v1/sites/a/drafts/b", json!({"nested": {"name": "sites/a"}, "optionalString": "b"})),
        ("GET /v1/stars/any/end", json!({})),
        ("GET /v1/shelves/1/books/2", json!("404")),
        ("GET /v1/shelves/1/books/2/pages/x", json!("400")),
    ])
    .await;
}

#[tokio::test]
async fn the_most_specific_template_with_the_method_wins() {
    check(&[
        ("GET /v1/items/special", json!({"said": true})),
        ("GET /v1/items/specia%6c", json!({"said": true})),
        ("GET /v1/items/other", json!({"stringValue": "other"})),
        ("DELETE /v1/items/special", json!({"stringValue": "special"})),
        ("PUT /v1/items/special", json!({"nested": {"name": "items/special"}})),
        ("POST /v1/items/special", json!({"text": "special", "said": true})),
        ("GET /v1/any/x", json!({"text": "x", "said": true})),
        ("POST /v1/any/x", json!({"stringValue": "x"})),
    ])
    .await;
}

#[tokio::test]
async fn a_colon_is_a_verb_only_where_a_rule_has_it() {
    check(&[
        ("GET /v1/items/a:read", json!({"stringValue": "a"})),
        ("GET /v1/items/a:b:read", json!({"stringValue": "a:b"})),
        ("GET /v1/items/a:write", json!({"stringValue": "a:write"})),
        ("GET /v1/items/a:", json!({"stringValue": "a:"})),
        ("GET /v1/items/:read", json!({"stringValue": ":read"})),
        ("GET /v1/items/a:read:b", json!({"stringValue": "a:read:b"})),
        ("GET /v1/items/a%3Aread", json!({"stringValue": "a:read"})),
        ("DELETE /v1/items/a:read", json!({"stringValue": "a:read"})),
        ("GET /v1/files/a/b:read", json!({"nested": {"name": "a/b"}})),
        ("GET /v1/files/a:read/b", json!({"nested": {"name": "a:read/b"}})),
        ("GET /v1/files/a/b:write", json!({"nested": {"name": "a/b:write"}})),
    ])
    .await;
}

#[tokio::test]
async fn captures_are_decoded_exactly_once() {
    check(&[
        ("GET /v1/items/a%2Fb%20c", json!({"stringValue": "a/b c"})),
        ("GET /v1/items/a+b", json!({"stringValue": "a+b"})),
        ("GET /v1/items/%C3%A9", json!({"stringValue": "é"})),
        ("GET /v1/items/%252F", json!({"stringValue": "%2F"})),
        ("GET /v1/items/%252e%252e", json!({"stringValue": "%2e%2e"})),
        ("GET /v1/items/a%3Fb%23c", json!({"stringValue": "a?b#c"})),
        ("GET /v1/items/..;x", json!({"stringValue": "..;x"})),
        ("GET /v1/items/a;b=c", json!({"stringValue": "a;b=c"})),
        ("GET /v1/files/a%2Fb/c%20d", json!({"nested": {"name": "a%2Fb/c d"}})),
        ("GET /v1/files/a%3Ab/%C3%A9", json!({"nested": {"name": "a%3Ab/é"}})),
        ("GET /v1/files/%252F/x", json!({"nested": {"name": "%2F/x"}})),
        ("GET /v1/files//a//b/", json!({"nested": {"name": "/a//b/"}})),
        (
            "GET /v1/shelves/a%2Fb/books/c/pages/1",
            json!({"nested": {"name": "shelves/a%2Fb/books/c"}, "int32Value": 1}),
        ),
    ])
    .await;
}

#[tokio::test]
async fn the_method_is_part_of_the_route() {
    check(&[
        ("PATCH /v1/items/a", json!("405 DELETE, GET, HEAD, OPTIONS, POST")),
        ("PATCH /v1/items/special", json!("405 DELETE, GET, HEAD, OPTIONS, POST, PUT")),
        ("OPTIONS /v1/items/a", json!("204 DELETE, GET, HEAD, OPTIONS, POST")),
        ("PURGE /v1/caches/a", json!({"stringValue": "a"})),
        ("GET /v1/caches/a", json!("405 OPTIONS, PURGE")),
        ("PATCH /v1/any/a", json!({"stringValue": "a"})),
        ("REPORT /v1/any/a", json!({"stringValue": "a"})),
        ("OPTIONS /v1/heads/a", json!({"stringValue": "a"})),
        ("GET /v2/items/a", json!("404")),
        ("OPTIONS /v2/items/a", json!("404")),
        ("GET /v1/free/x", json!({"text": "x", "said": true})),
    ])
    .await;
}

#[tokio::test]
async fn every_method_is_called_by_its_name_too() {
    check(&[
        ("POST /portico.test.v1.Echo/Identity", json!({})),
        ("POST /portico.test.v1.Echo/Plain", json!({"said": true})),
        ("GET /portico.test.v1.Echo/Plain", json!("405 DELETE, OPTIONS, POST")),
        ("DELETE /portico.test.v1.Echo/Plain", json!({"stringValue": "Plain"})),
        ("GET /portico.test.v1.Echo/None", json!("405 DELETE, OPTIONS")),
        ("OPTIONS /portico.test.v1.Echo/Plain", json!("204 DELETE, OPTIONS, POST")),
        ("POST /portico.test.v1.Echo/Nothing", json!("405 DELETE, OPTIONS")),
        ("POST /portico.test.v1.Echo/Plain/", json!("404")),
        ("POST /portico.test.v1.Echo%2FPlain", json!("404")),
        ("POST /portico.test.v1.echo/plain", json!("404")),
        ("GET /portico.test.v1.Echo/Say/x", json!("404")),
    ])
    .await;
}

#[tokio::test]
async fn a_rule_replaces_the_annotation_of_its_method_only() {
    check(&[
        ("GET /test/v1/say/hi", json!("404")),
        ("POST /test/v1/identity", json!("404")),
        ("GET /test/v1/missing", json!("501")),
        ("POST /portico.test.v1.Echo/Say", json!({"said": true})),
    ])
    .await;
}

#[tokio::test]
async fn of_equal_templates_the_first_keeps_the_path() {
    let (_backend, gateway) = start().await;

    let mut client = gateway.client(Version::Http2).await;

    // Methods are taken in the order of the service, and Say is declared before Identity.
    assert_eq!(outcome(&client.get("/v1/taken/x").await), json!({"text": "x", "said": true}));
    assert_eq!(outcome(&client.get("/v1/items/x").await), json!({"stringValue": "x"}));
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for path in ["/v1/items/a", "/v2/nothing", "/v1/items/a?nope=1"] {
            let get = client.get(path).await;

            let head = client.send(call(&format!("HEAD {path}"), "")).await;

            assert_eq!(head.status, get.status, "{version:?} {path}");
            assert_eq!(head.headers["content-length"], get.body.len().to_string(), "{version:?} {path}");
            assert_eq!(head.headers["content-type"], get.headers["content-type"]);
            assert!(head.body.is_empty() && !get.body.is_empty());
        }
        let own = client.send(call("HEAD /v1/heads/a", "")).await;
        assert_eq!(own.status, StatusCode::OK, "{version:?}");
        assert_eq!(own.headers["content-length"], "19", "{version:?}");
        let other = client.send(call("GET /v1/heads/a", "")).await;
        assert_eq!(outcome(&other), json!("405 HEAD, OPTIONS"), "{version:?}");
    }
}

#[tokio::test]
async fn a_head_reply_over_http2_has_no_data_frame() {
    let (_backend, gateway) = start().await;
    let stream = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder().method(Method::HEAD).uri("http://a/v1/items/a").body(()).unwrap();

    let (reply, _) = client.ready().await.unwrap().send_request(request, true).unwrap();

    let reply = reply.await.unwrap();
    assert_eq!(reply.headers()["content-length"], "19");
    assert!(reply.body().is_end_stream());
}

/// Spellings of one protected path and what each is: the same, another, or refused.
const SPELLINGS: &[(&[u8], u16)] = &[
    (b"/v1/items/a", 200),
    (b"/v1/items/a?", 200),
    (b"/v1/%69tems/a", 200),
    (b"/v1/items/%61", 200),
    (b"/%76%31/items/a", 200),
    (b"/v1/items/a%2Fb", 200),
    (b"/v1/items/a%2fb", 200),
    (b"/v1/items/...", 200),
    (b"/v1/items/..a", 200),
    (b"/v1/items/.a", 200),
    (b"/v1/items/a..", 200),
    (b"/v1/items/..;", 200),
    (b"/v1/items/..%3B", 200),
    (b"/v1/items/..%2fa", 200),
    (b"/v1/items/%252e%252e", 200),
    (b"/v1/items/%25", 200),
    (b"/v1/items/a;x=1", 200),
    (b"/v1/items/a,b", 200),
    (b"/v1/items/a@b", 200),
    (b"/v1/items/~!$&'()*+=", 200),
    (b"/v1/items/%20", 200),
    (b"/v1/items/%09", 200),
    (b"/v1/items/%0d%0a", 200),
    (b"/v1/items/%7f", 200),
    (b"/v1/items/%C3%A9", 200),
    (b"/v1/files", 200),
    (b"/v1/files/", 200),
    (b"/v1/files//", 200),
    (b"/v1/files/a//b", 200),
    (b"/v1/files/a%2Fb", 200),
    (b"/v1/files/..%2fa", 200),
    (b"/", 404),
    (b"//", 404),
    (b"/v1", 404),
    (b"/v1/items", 404),
    (b"/v1/items/", 404),
    (b"/v1/items/a/", 404),
    (b"/v1/items/a/b", 404),
    (b"//v1/items/a", 404),
    (b"/v1//items/a", 404),
    (b"/v1/items//a", 404),
    (b"/V1/items/a", 404),
    (b"/v1/Items/a", 404),
    (b"/v1/items;x=1/a", 404),
    (b"/v1%2Fitems/a", 404),
    (b"/v1/items%2Fa", 404),
    (b"/v1/items%2F..", 404),
    (b"/%2e%2e%2fv1/items/a", 404),
    (b"/v1/%2569tems/a", 404),
    (b"/v1/.", 400),
    (b"/v1/items/.", 400),
    (b"/v1/items/..", 400),
    (b"/v1/items/%2e", 400),
    (b"/v1/items/%2E%2e", 400),
    (b"/v1/items/.%2e", 400),
    (b"/v1/items/%2e.", 400),
    (b"/./v1/items/a", 400),
    (b"/v1/./items/a", 400),
    (b"/v1/x/../items/a", 400),
    (b"/v1/x/%2e%2e/items/a", 400),
    (b"/v1/items/a/..", 400),
    (b"/v1/items/a/.", 400),
    (b"/v1/files/a/../b", 400),
    (b"/../v1/items/a", 400),
    (b"/v1/items/..:read", 400),
    (b"/v1/items/a\\b", 400),
    (b"/v1/items/..\\a", 400),
    (b"\\v1\\items\\a", 400),
    (b"/v1\\items\\a", 400),
    (b"/v1/items/a%5cb", 400),
    (b"/v1/items/%5C", 400),
    (b"/v1/items/%00", 400),
    (b"/v1/items/a%00b", 400),
    (b"/v1/items/%", 400),
    (b"/v1/items/%4", 400),
    (b"/v1/items/%zz", 400),
    (b"/v1/items/%g0", 400),
    (b"/v1/items/%u0041", 400),
    (b"/v1/items/%-1", 400),
    (b"/v1/items/%ff", 400),
    (b"/v1/items/%c0%af", 400),
    (b"/v1/items/%ed%a0%80", 400),
    (b"/v1/files/a/%ff", 400),
    (b"/v1/items/\xc3\xa9", 400),
    (b"v1/items/a", 400),
    (b"*", 400),
];

#[tokio::test]
async fn no_spelling_means_more_than_it_says() {
    let (_backend, gateway) = start().await;
    let mut wrong = Vec::new();
    for (path, expected) in SPELLINGS {
        // HTTP/2 may refuse by a reset what never was a request.
        let http1 = status_http1(gateway.address, path).await;
        let http2 = status_http2(gateway.address, path).await;
        let shown = String::from_utf8_lossy(path);
        if http1 != *expected {
            wrong.push(format!("HTTP/1.1 {shown}: {http1}, expected {expected}"));
        }
        if http2 != *expected && !(http2 == 0 && *expected == 400) {
            wrong.push(format!("HTTP/2 {shown}: {http2}, expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn paths_that_are_no_text_never_get_through() {
    let (_backend, gateway) = start().await;
    for path in [&b"/v1/items/a\0"[..], b"/v1/items/a b", b"/v1/items/a\tb", b"/v1/items/a\x7f", b"/v1/items/\xff", b""]
    {
        let shown = String::from_utf8_lossy(path);

        assert_eq!(status_http1(gateway.address, path).await, 400, "{shown:?}");
        assert!([0, 400].contains(&status_http2(gateway.address, path).await), "{shown:?}");
    }
}
