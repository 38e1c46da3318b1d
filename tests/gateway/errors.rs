//! Refused and failed REST calls: which status, which words, which details.

use base64::Engine;
use http::StatusCode;
use portico::pb::google::protobuf::Any;
use portico::pb::google::rpc;
use prost::Message;
use serde_json::{Value, json};

use crate::support::backend::act::{self, Step};
use crate::support::backend::pb::{Nested, SayReply};
use crate::support::backend::{self, Backend, scripted};
use crate::support::callers::everywhere;
use crate::support::client::{Client, Reply, Version};
use crate::support::gateway::{TestGateway, upstream};
use crate::support::grpc::{Raw, soon};
use crate::support::rest::{call, message, violation};

const TYPES: &str = "type.googleapis.com/";

async fn start() -> (Backend, TestGateway) {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    (backend, gateway)
}

/// A gateway in front of a scripted backend, whose schema comes from files.
async fn scripted(steps: Vec<Step>) -> (scripted::Scripted, TestGateway) {
    let backend = scripted::start(vec![steps]).await;
    let gateway = TestGateway::start(&files("echo", backend.address)).await;
    gateway.ready().await;
    (backend, gateway)
}

/// The configuration of an upstream whose schema comes from files.
fn files(name: &str, address: std::net::SocketAddr) -> String {
    upstream(name, address).replace("reflection: {}", "proto: [proto/portico/test/v1/echo.proto], include: [proto]")
}

async fn fail(client: &mut Client, failure: Value) -> Reply {
    client.send(call("POST /test/v1/say", &json!({"behaviour": {"failure": failure}}).to_string())).await
}

/// The reply to a GET of Say.
async fn say(client: &mut Client) -> Reply {
    client.get("/test/v1/say/hi").await
}

#[tokio::test]
async fn every_code_has_its_http_status() {
    let table = [
        (1, 499),
        (2, 500),
        (3, 400),
        (4, 504),
        (5, 404),
        (6, 409),
        (7, 403),
        (8, 429),
        (9, 400),
        (10, 409),
        (11, 400),
        (12, 501),
        (13, 500),
        (14, 503),
        (15, 500),
        (16, 401),
    ];
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for (code, status) in table {
            let message = format!("wrong: \"é\" % {code}\n");

            let reply = fail(&mut client, json!({"code": code, "message": message})).await;

            assert_eq!(reply.status.as_u16(), status, "{version:?} {code}: {reply:?}");
            assert_eq!(reply.headers["content-type"], "application/json");
            assert_eq!(reply.json(), json!({"code": code, "message": message, "details": []}), "{version:?}");
        }
    }
}

#[tokio::test]
async fn numbers_outside_the_table_are_kept() {
    for (number, steps) in [
        (1010, act::trailers_only(1010, "odd")),
        (1010, act::fails(1010, "odd")),
        (u32::MAX, act::fails(u32::MAX, "odd")),
    ] {
        let (_backend, gateway) = scripted(steps).await;
        for version in Version::BOTH {
            let reply = say(&mut gateway.client(version).await).await;

            assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR, "{version:?}: {reply:?}");
            assert_eq!(reply.json(), json!({"code": number, "message": "odd", "details": []}), "{version:?}");
        }
    }
}

#[tokio::test]
async fn details_are_decoded_by_the_schema_or_kept_as_they_are() {
    let (_backend, gateway) = start().await;
    let any = |name: &str, value: Vec<u8>| Any { type_url: format!("{TYPES}{name}"), value };
    let nested = Nested { name: "n".into(), number: 1 << 60, ..Nested::default() };
    let violation = rpc::bad_request::FieldViolation {
        field: "book.title".into(),
        description: "empty".into(),
        ..Default::default()
    };
    let bad = rpc::BadRequest { field_violations: vec![violation] };
    let details = vec![
        any("portico.test.v1.Nested", nested.encode_to_vec()),
        any("google.rpc.BadRequest", bad.encode_to_vec()),
        any("no.Such", vec![1, 2, 3]),
        any("portico.test.v1.Nested", vec![0xff, 0xff]),
        Any { type_url: String::new(), value: vec![1] },
    ];
    let status = rpc::Status { code: 9, message: "other words".into(), details };
    let raw = base64::engine::general_purpose::STANDARD.encode(status.encode_to_vec());
    let expected = json!([
        {"@type": format!("{TYPES}portico.test.v1.Nested"), "name": "n", "number": (1_u64 << 60).to_string()},
        {"@type": format!("{TYPES}google.rpc.BadRequest"),
            "fieldViolations": [{"field": "book.title", "description": "empty"}]},
        {"@type": format!("{TYPES}no.Such"), "value": "AQID"},
        {"@type": format!("{TYPES}portico.test.v1.Nested"), "value": "//8="},
        {"@type": "", "value": "AQ=="},
    ]);
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;

        let reply = fail(&mut client, json!({"code": 9, "message": "words", "rawDetails": raw})).await;
        let junk = fail(&mut client, json!({"code": 9, "message": "words", "rawDetails": "////"})).await;

        assert_eq!(reply.json(), json!({"code": 9, "message": "words", "details": expected}), "{version:?}");
        assert_eq!(junk.json(), json!({"code": 9, "message": "words", "details": []}), "{version:?}");
        assert!(!reply.headers.contains_key("grpc-status-details-bin"));
    }
}

#[tokio::test]
async fn errors_of_the_gateway_say_so_and_name_the_field() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;

        let reply = client.send(call("PUT /test/v1/say/hi/behaviour", r#"{"failure": {"cod": 1}}"#)).await;
        let nowhere = client.get("/nowhere").await;

        let info =
            json!({"@type": format!("{TYPES}google.rpc.ErrorInfo"), "reason": "INVALID_REQUEST", "domain": "portico"});
        assert_eq!(
            (reply.status, &reply.json()["code"]),
            (StatusCode::BAD_REQUEST, &json!(3)),
            "{version:?}: {reply:?}"
        );
        assert_eq!(reply.json()["details"][0], info);
        assert_eq!(violation(&reply)["field"], "behaviour.failure.cod");
        assert_eq!((nowhere.status, nowhere.reason().as_str()), (StatusCode::NOT_FOUND, "ROUTE_NOT_FOUND"));
        assert_eq!(nowhere.json()["code"], 5);
        assert!(message(&nowhere).contains("/nowhere"), "{nowhere:?}");
        assert_eq!(nowhere.json()["details"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn the_gateway_leaves_out_its_own_details_where_it_is_told_to() {
    let backend = backend::start().await;
    let text = format!("errors: {{ details: false }}\n{}", upstream("echo", backend.address));
    let gateway = TestGateway::start(&text).await;
    gateway.ready().await;

    let refused = gateway.client(Version::Http2).await.get("/nowhere").await;
    let grpc = Raw::connect(gateway.address).await.call("/no.Such/Method", &[], "").await;

    assert_eq!((&refused.json()["code"], &refused.json()["details"]), (&json!(5), &json!([])));
    assert_eq!(grpc.code(), 12);
    assert!(!grpc.headers.contains_key("grpc-status-details-bin"), "{grpc:?}");
}

#[tokio::test]
async fn an_upstream_that_is_down_is_named() {
    let (backend, gateway) = start().await;
    drop(backend);
    for version in Version::BOTH {
        let reply = say(&mut gateway.client(version).await).await;

        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{version:?}: {reply:?}");
        assert_eq!((&reply.json()["code"], reply.reason().as_str()), (&json!(14), "UPSTREAM_UNREACHABLE"));
        assert!(message(&reply).contains("echo"), "{reply:?}");
    }
}

/// What operators find in the access log of a gateway before an upstream at that address, which was called in every
/// protocol; all callers heard one of these.
async fn noted(address: std::net::SocketAddr, schema: &str, heard: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("access.log");
    let gateway = TestGateway::start(&format!(
        "upstreams: [ {{ name: echo, endpoints: [\"{address}\"], schema: {schema} }} ]
telemetry: {{ access_log: {{ format: json, path: {} }} }}
",
        log.display()
    ))
    .await;
    let asked = async {
        loop {
            let reasons = gateway.operator("/readyz").await.json()["reasons"].to_string();
            if reasons == "[]" || reasons.contains(&address.to_string()) {
                break;
            }
        }
    };
    soon(asked).await;

    for (way, outcome) in everywhere(&gateway, &[]).await {
        // The handshake of a WebSocket is over before its call is sent.
        if !(way.starts_with("WebSocket") && outcome.code == 0) {
            assert!(outcome.code == 14 && heard.contains(&outcome.message.as_str()), "{way}: {outcome:?}");
        }
    }

    gateway.stop().await;
    let text = std::fs::read_to_string(log).expect("a log");
    text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["note"].clone()).collect()
}

#[tokio::test]
async fn what_a_reply_says_is_for_the_log_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let (proto, log) = (folder.path().join("holder.proto"), folder.path().join("access.log"));
    let source = "syntax = \"proto3\"; package x; import \"google/protobuf/any.proto\"; message Get {}
        service Holder { rpc Held(Get) returns (google.protobuf.Any); }";
    std::fs::write(&proto, source).expect("a file");
    let held = Any { type_url: format!("{TYPES}secret.customer.4711"), value: vec![8, 1] };
    let backend = scripted::start(vec![act::reply(&held)]).await;
    let gateway = TestGateway::start(&format!(
        "upstreams: [ {{ name: holder, endpoints: [\"{}\"], schema: {{ proto: [\"{}\"] }} }} ]
telemetry: {{ access_log: {{ format: json, path: {} }} }}
",
        backend.address,
        proto.display(),
        log.display()
    ))
    .await;
    gateway.ready().await;

    let reply = gateway.client(Version::Http1).await.send(call("POST /x.Holder/Held", "{}")).await;
    gateway.stop().await;

    assert_eq!((reply.status, reply.reason().as_str()), (StatusCode::INTERNAL_SERVER_ERROR, "UPSTREAM_MESSAGE"));
    assert_eq!(message(&reply), "the reply of x.Holder/Held does not fit its schema: an Any holds an unknown type");
    let logged = std::fs::read_to_string(log).expect("a log");
    assert!(logged.contains("the type is type.googleapis.com/secret.customer.4711"), "{logged}");
}

#[tokio::test]
async fn what_is_wrong_with_an_upstream_is_for_the_log_alone() {
    let gone = { backend::start().await.address };
    let set = format!("{{ descriptor_set: \"{}\" }}", concat!(env!("OUT_DIR"), "/test/echo.binpb"));
    let away = "upstream echo cannot be reached";
    // What is in proto can do without a schema.
    let unknown = ["the schema of upstream echo is not there yet", away];
    for (schema, heard) in [(set.as_str(), &[away][..]), ("{ reflection: {} }", &unknown)] {
        let notes = noted(gone, schema, heard).await;

        let says = |note: &&Value| note.as_str().is_some_and(|note| note.contains(&gone.to_string()));
        // But for the two WebSockets, whose client may be gone before.
        assert!(notes.len() >= 30 && notes.iter().filter(says).count() >= notes.len() - 2, "{heard:?}: {notes:?}");
        assert!(notes.iter().any(|note| note.to_string().contains("refused")), "{heard:?}: {notes:?}");
    }
}

#[tokio::test]
async fn an_upstream_whose_connection_breaks_is_named_and_nothing_more() {
    let steps = vec![Step::Read, act::grpc_head(&[]), Step::Close, Step::Hold];
    let (_backend, gateway) = scripted(steps).await;
    for version in Version::BOTH {
        let reply = say(&mut gateway.client(version).await).await;

        assert_eq!((reply.status.as_u16(), reply.reason().as_str()), (503, "UPSTREAM_RESET"), "{version:?}: {reply:?}");
        assert_eq!(message(&reply), "upstream echo broke off the call", "{version:?}");
    }
}

#[tokio::test]
async fn a_missing_schema_is_named_while_others_serve() {
    let backend = backend::start().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let upstreams = format!(
        "upstreams:\n  - {{ name: echo, endpoints: [\"{}\"], schema: {{ proto: [proto/portico/test/v1/echo.proto], include: [proto] }} }}\n  \
         - {{ name: library, endpoints: [\"{nobody}\"], schema: {{ reflection: {{}} }} }}\n",
        backend.address
    );
    let gateway = TestGateway::start(&upstreams).await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;

        let known = say(&mut client).await;
        let unknown = client.get("/v1/shelves").await;
        let method = client.send(call("POST /portico.library.v1.Library/ListShelves", "")).await;
        let other = client.send(call("DELETE /test/v1/say", "")).await;

        assert_eq!(known.status, StatusCode::OK, "{version:?}: {known:?}");
        for reply in [unknown, method] {
            assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{version:?}: {reply:?}");
            assert_eq!((&reply.json()["code"], reply.reason().as_str()), (&json!(14), "SCHEMA_UNAVAILABLE"));
            assert!(message(&reply).contains("upstream library"), "{reply:?}");
        }
        assert_eq!(other.status, StatusCode::METHOD_NOT_ALLOWED, "{version:?}: {other:?}");
    }
}

#[tokio::test]
async fn a_method_that_the_server_lacks_is_501_in_its_words() {
    let (_backend, gateway) = start().await;
    let reply = gateway.client(Version::Http2).await.get("/test/v1/missing").await;

    assert_eq!(reply.status, StatusCode::NOT_IMPLEMENTED, "{reply:?}");
    assert_eq!(reply.json(), json!({"code": 12, "message": "no such method here", "details": []}));
}

#[tokio::test]
async fn replies_that_are_not_grpc_are_explained() {
    let hi = SayReply { text: "hi".into(), ..SayReply::default() };
    let two = [act::framed(b""), act::framed(b"")].concat();
    let not_utf8 = act::framed(&[0x0a, 1, 0xff]);
    let compressed = [1, 0, 0, 0, 0];
    let cases: &[(&str, Vec<Step>, u16, u32, &str)] = &[
        ("text 503", act::text(503, "down"), 503, 14, "HTTP 503"),
        ("text 404", act::text(404, "none"), 501, 12, "HTTP 404"),
        ("text 401", act::text(401, "who"), 401, 16, "HTTP 401"),
        ("text 200", act::text(200, "hello"), 500, 13, "text/plain"),
        ("no trailers", act::no_trailers(&hi), 500, 13, "without a grpc-status"),
        ("head only", act::head_only(), 500, 13, "without a grpc-status"),
        ("no message", act::trailers_only(0, ""), 500, 13, "upstream echo answered OK without a reply message"),
        ("cut frame", act::cut_frame(), 500, 13, "reply"),
        ("bad flag", act::raw_body(&[7, 0, 0, 0, 0]), 500, 13, "reply"),
        ("two messages", act::raw_body(&two), 500, 13, "more than one"),
        ("compressed", act::raw_body(&compressed), 500, 13, "compressed"),
        ("huge frame", act::raw_body(&[0, 0xff, 0xff, 0xff, 0xff]), 500, 8, "limit"),
        ("not protobuf", act::raw_body(&act::framed(&[0xff, 0xff])), 500, 13, "portico.test.v1.Echo/Say"),
        ("not UTF-8", act::raw_body(&not_utf8), 500, 13, "text"),
        ("reset", act::reset(h2::Reason::INTERNAL_ERROR), 500, 13, "upstream echo broke off"),
        ("cancel", act::reset(h2::Reason::CANCEL), 499, 1, "upstream echo broke off"),
        ("calm", act::reset(h2::Reason::ENHANCE_YOUR_CALM), 429, 8, "upstream echo broke off"),
        ("reset late", act::reset_after_message(&hi, h2::Reason::INTERNAL_ERROR), 500, 13, "upstream echo broke off"),
    ];
    for (name, steps, status, code, words) in cases {
        let (_backend, gateway) = scripted(steps.clone()).await;
        for version in Version::BOTH {
            let reply = say(&mut gateway.client(version).await).await;

            assert_eq!(reply.status.as_u16(), *status, "{name} {version:?}: {reply:?}");
            assert_eq!(reply.json()["code"], json!(code), "{name} {version:?}: {reply:?}");
            assert!(message(&reply).contains(words), "{name} {version:?}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn messages_of_a_status_cannot_forge_a_reply() {
    let trailers = vec![("grpc-status", "3"), ("grpc-message", "a%0d%0aset-cookie: x%00%22%ff%")];
    let steps = vec![Step::Read, act::grpc_head(&[]), Step::Trailers(act::entries(&trailers))];
    let (_backend, gateway) = scripted(steps).await;
    for version in Version::BOTH {
        let reply = say(&mut gateway.client(version).await).await;

        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{version:?}: {reply:?}");
        assert_eq!(reply.json()["message"], "a\r\nset-cookie: x\0\"\u{fffd}%", "{version:?}");
        assert!(!reply.headers.contains_key("set-cookie"));
    }
}

#[tokio::test]
async fn metadata_before_a_failure_is_not_lost() {
    let trailers = [("grpc-status", "9"), ("x-last", "2"), ("x-both", "2")];
    let head = act::grpc_head(&[("x-first", "1"), ("x-both", "1"), ("location", "/")]);
    let (_backend, gateway) = scripted(vec![Step::Read, head, Step::Trailers(act::entries(&trailers))]).await;
    for version in Version::BOTH {
        let reply = say(&mut gateway.client(version).await).await;

        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{version:?}: {reply:?}");
        assert_eq!(
            (&reply.headers["x-first"], &reply.headers["x-last"]),
            (&"1".parse().unwrap(), &"2".parse().unwrap())
        );
        assert_eq!(reply.headers.get_all("x-both").iter().count(), 2, "{version:?}");
        assert!(!reply.headers.contains_key("location"), "{version:?}");
    }
}
