//! WebSocket over HTTP/1.1 and HTTP/2: messages both ways, ends of every kind, and handshakes that are refused.

use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};

use crate::support::backend::pb::{CollectReply, SayReply, SayRequest};
use crate::support::backend::{self, Backend};
use crate::support::client::{Version, request};
use crate::support::gateway::{TestGateway, upstream};
use crate::support::grpc::{COLLECT, CONVERSE, REPEAT, soon};
use crate::support::websocket::{Refusal, Socket, extended};

async fn start() -> (Backend, TestGateway) {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    (backend, gateway)
}

async fn open(gateway: &TestGateway, version: Version, path: &str) -> Socket {
    Socket::open(gateway.address, version, path, &[]).await
}

/// No call is left at the backend. One that reads its requests may take a reset for their end.
async fn all_over(backend: &Backend) {
    backend.tally.until(|counts| counts.started == counts.finished + counts.cancelled).await;
}

fn say(text: &str) -> SayRequest {
    SayRequest { text: text.into(), behaviour: None }
}

#[tokio::test]
async fn both_directions_run_at_once() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        for path in ["/test/v1/converse", CONVERSE] {
            let mut socket = open(&gateway, version, path).await;
            for number in 0..3 {
                socket.text(&format!(r#"{{"text":"{number}"}}"#)).await;
                assert_eq!(soon(socket.json()).await["text"], json!(number.to_string()), "{version:?}");
            }
            socket.text("").await;
            assert_eq!(soon(socket.closed()).await, (1000, String::new()), "{version:?} {path}");
        }
    }
}

#[tokio::test]
async fn binary_frames_are_protobuf_and_answered_with_protobuf() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut socket = open(&gateway, version, "/test/v1/converse").await;
        socket.binary(&say("a")).await;
        assert_eq!(soon(socket.proto::<SayReply>()).await.text, "a");
        // The kind of the first one counts.
        socket.text(r#"{"text":"b"}"#).await;
        assert_eq!(soon(socket.proto::<SayReply>()).await.text, "b");
        // An empty binary frame is an empty message.
        socket.send(Message::binary("")).await;
        assert_eq!(soon(socket.proto::<SayReply>()).await.text, "");
        socket.text("").await;
        assert_eq!(soon(socket.closed()).await.0, 1000);
    }
}

#[tokio::test]
async fn headers_of_the_handshake_set_fields_in_every_message() {
    let backend = backend::start().await;
    let config = format!(
        "{}policies: [ {{ match: \"*\", request_headers: {{ x-text: text, x-count: behaviour.count }} }} ]\n",
        upstream("echo", backend.address)
    );
    let gateway = TestGateway::start(&config).await;
    gateway.ready().await;
    let set = [("x-text", "bound"), ("x-count", "2")];
    for version in Version::BOTH {
        let mut bidi = Socket::open(gateway.address, version, CONVERSE, &set).await;
        bidi.binary(&say("other")).await;
        assert_eq!(soon(bidi.proto::<SayReply>()).await.text, "bound", "{version:?}");
        bidi.binary(&say("")).await;
        assert_eq!(soon(bidi.proto::<SayReply>()).await.text, "bound", "{version:?}");
        bidi.text("{\"text\": \"other\"}").await;
        let (error, code, _) = soon(bidi.failed()).await;
        assert!(error["message"].as_str().unwrap().contains("a header that is bound to the field"), "{error}");
        assert_eq!(code, 4003, "{version:?}");

        let mut server = Socket::open(gateway.address, version, "/test/v1/repeat/path", &set[1..]).await;
        assert_eq!(soon(server.json()).await["text"], "path", "{version:?}");
        assert_eq!(soon(server.json()).await["index"], 1, "{version:?}");
        assert_eq!(soon(server.closed()).await.0, 1000, "{version:?}");

        // The field that holds the bound one, as a varint: no value of it, and none that takes its place.
        let mut odd = Socket::open(gateway.address, version, REPEAT, &set).await;
        odd.send(Message::binary(&b"\x10\x01"[..])).await;
        for index in 0..2 {
            assert_eq!(soon(odd.proto::<SayReply>()).await.index, index, "{version:?}");
        }
        assert_eq!(soon(odd.closed()).await.0, 1000, "{version:?}");
    }
}

#[tokio::test]
async fn a_client_stream_has_one_reply() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        for path in ["/test/v1/collect", COLLECT] {
            let mut socket = open(&gateway, version, path).await;
            for text in ["a", "b"] {
                socket.text(&json!({ "text": text }).to_string()).await;
            }
            socket.text("").await;
            assert_eq!(soon(socket.json()).await["texts"], json!(["a", "b"]), "{version:?}");
            assert_eq!(soon(socket.closed()).await, (1000, String::new()));
        }
        let mut socket = open(&gateway, version, COLLECT).await;
        socket.binary(&say("c")).await;
        socket.text("").await;
        assert_eq!(soon(socket.proto::<CollectReply>()).await.texts, ["c"]);
        assert_eq!(soon(socket.closed()).await.0, 1000);
    }
}

#[tokio::test]
async fn a_server_stream_starts_at_once_if_the_path_says_it_all() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut socket = open(&gateway, version, "/test/v1/repeat/a%20b?behaviour.count=3").await;
        for index in 0..3 {
            let message = soon(socket.json()).await;
            assert_eq!((&message["text"], message["index"].as_i64().unwrap_or(0)), (&json!("a b"), index));
        }
        assert_eq!(soon(socket.closed()).await, (1000, String::new()), "{version:?}");
    }
}

#[tokio::test]
async fn a_server_stream_takes_its_message_from_one_frame() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        for path in ["/test/v1/repeat", REPEAT] {
            let mut socket = open(&gateway, version, path).await;
            socket.text(r#"{"text":"a","behaviour":{"count":2}}"#).await;
            for _ in 0..2 {
                assert_eq!(soon(socket.json()).await["text"], "a");
            }
            assert_eq!(soon(socket.closed()).await, (1000, String::new()));

            let mut socket = open(&gateway, version, path).await;
            socket.binary(&say("b")).await;
            assert_eq!(soon(socket.proto::<SayReply>()).await.text, "b");
            assert_eq!(soon(socket.closed()).await.0, 1000);
        }
    }
}

#[tokio::test]
async fn a_frame_too_many_or_too_few_is_an_error() {
    let (backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut two = open(&gateway, version, REPEAT).await;
        two.text(r#"{"behaviour":{"stall":true}}"#).await;
        two.text("{}").await;
        let (error, code, _) = soon(two.failed()).await;
        assert_eq!((&error["code"], code), (&json!(12), 4012), "{version:?} {error}");

        let mut none = open(&gateway, version, REPEAT).await;
        none.text("").await;
        assert_eq!(soon(none.failed()).await.1, 4012);

        let mut bound = open(&gateway, version, "/test/v1/repeat/a?behaviour.stall=true").await;
        bound.text("{}").await;
        assert_eq!(soon(bound.failed()).await.1, 4012);

        let mut after_end = open(&gateway, version, CONVERSE).await;
        after_end.text(r#"{"behaviour":{"stop_reading":true}}"#).await;
        soon(after_end.json()).await;
        after_end.text("").await;
        after_end.text("{}").await;
        assert_eq!(soon(after_end.failed()).await.1, 4013);
    }
    all_over(&backend).await;
}

#[tokio::test]
async fn failures_before_and_in_mid_stream_are_told_twice() {
    let (_backend, gateway) = start().await;
    let long = "x".repeat(200);
    for version in Version::BOTH {
        let path = "/test/v1/repeat/a?behaviour.failure.code=9&behaviour.failure.message=";
        let mut socket = open(&gateway, version, &format!("{path}no&behaviour.count=0")).await;
        let (error, code, reason) = soon(socket.failed()).await;
        assert_eq!((&error["code"], code, reason.as_str()), (&json!(9), 4009, "no"), "{version:?}");
        assert_eq!(error["message"], "no");

        let mut socket = open(&gateway, version, &format!("{path}{long}&behaviour.count=2")).await;
        soon(socket.json()).await;
        soon(socket.json()).await;
        let (error, code, reason) = soon(socket.failed()).await;
        assert_eq!((code, reason.as_str()), (4009, "x".repeat(123).as_str()));
        assert_eq!(error["message"], json!(long));

        let mut binary = open(&gateway, version, REPEAT).await;
        binary.binary(&SayRequest::default()).await;
        soon(binary.proto::<SayReply>()).await;
        assert_eq!(soon(binary.closed()).await.0, 1000);
    }
}

#[tokio::test]
async fn a_message_that_is_none_is_told_with_its_number() {
    let (backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut socket = open(&gateway, version, CONVERSE).await;
        socket.text("{}").await;
        soon(socket.json()).await;
        socket.text(r#"{"text":1}"#).await;
        let (error, code, reason) = soon(socket.failed()).await;
        assert_eq!(code, 4003, "{error}");
        assert!(reason.starts_with("message 2: text: "), "{reason}");
    }
    all_over(&backend).await;
}

#[tokio::test]
async fn the_deadline_ends_a_stream() {
    let (backend, gateway) = start().await;
    for version in Version::BOTH {
        let path = "/test/v1/repeat/a?behaviour.stall=true&behaviour.count=1";
        let mut socket = Socket::open(gateway.address, version, path, &[("grpc-timeout", "300m")]).await;
        soon(socket.json()).await;
        let (error, code, _) = soon(socket.failed()).await;
        assert_eq!((&error["code"], code), (&json!(4), 4004), "{version:?}");
    }
    backend.tally.until(|counts| counts.cancelled == 2).await;
}

#[tokio::test]
async fn a_client_that_closes_or_vanishes_cancels_its_call() {
    let (backend, gateway) = start().await;
    let path = "/test/v1/repeat/a?behaviour.stall=true&behaviour.count=1";
    let mut cancelled = 0;
    for version in Version::BOTH {
        for path in [path, CONVERSE] {
            let mut closes = open(&gateway, version, path).await;
            if path == CONVERSE {
                closes.text(r#"{"behaviour":{"stop_reading":true}}"#).await;
            }
            soon(closes.json()).await;
            let close = CloseFrame { code: CloseCode::Away, reason: "bye".into() };
            closes.send(Message::Close(Some(close))).await;
            assert_eq!(soon(closes.closed()).await, (1001, "bye".to_owned()), "{version:?}");
            cancelled += 1;
            backend.tally.until(|counts| counts.cancelled == cancelled).await;
        }
        let mut vanishes = open(&gateway, version, path).await;
        soon(vanishes.json()).await;
        drop(vanishes);
        cancelled += 1;
        backend.tally.until(|counts| counts.cancelled == cancelled).await;
    }
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    let backend = backend::start().await;
    let policy = "policies: [ { match: \"*\", limits: { request_message: 1KiB } } ]\n";
    let gateway = TestGateway::start(&(upstream("echo", backend.address) + policy)).await;
    gateway.ready().await;
    for version in Version::BOTH {
        let mut whole = open(&gateway, version, COLLECT).await;
        whole.text(&"x".repeat(1025)).await;
        let (error, code, _) = soon(whole.failed()).await;
        assert_eq!((&error["code"], code), (&json!(8), 4008), "{version:?} {error}");

        let mut parts = open(&gateway, version, COLLECT).await;
        parts.text(r#"{"text":"a"}"#).await;
        parts.send(fragment(&"x".repeat(1000), Data::Text, false)).await;
        parts.send(fragment(&"x".repeat(1000), Data::Continue, false)).await;
        assert_eq!(soon(parts.failed()).await.1, 4008, "{version:?}");
    }
    all_over(&backend).await;
}

fn fragment(text: &str, kind: Data, is_last: bool) -> Message {
    Message::Frame(Frame::message(text.to_owned(), OpCode::Data(kind), is_last))
}

#[tokio::test]
async fn fragments_are_one_message_and_pings_are_answered_between_them() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut socket = open(&gateway, version, CONVERSE).await;
        socket.send(fragment(r#"{"te"#, Data::Text, false)).await;
        socket.send(Message::Ping("are you there".into())).await;
        assert_eq!(soon(socket.next()).await, Some(Message::Pong("are you there".into())), "{version:?}");
        socket.send(fragment("", Data::Continue, false)).await;
        socket.send(fragment(r#"xt":"ä"}"#, Data::Continue, true)).await;
        assert_eq!(soon(socket.json()).await["text"], "ä");
    }
}

#[tokio::test]
async fn rules_of_the_protocol_are_kept() {
    let (backend, gateway) = start().await;
    for version in Version::BOTH {
        for (bytes, code) in [
            // Not masked.
            (&[0x81, 2, b'{', b'}'][..], 1002),
            // Not UTF-8.
            (&[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xff], 1007),
            // A reserved bit.
            (&[0xc1, 0x82, 0, 0, 0, 0, b'{', b'}'], 1002),
            // An unknown kind of frame.
            (&[0x83, 0x80, 0, 0, 0, 0], 1002),
            // A continuation of nothing.
            (&[0x80, 0x80, 0, 0, 0, 0], 1002),
            // A ping in fragments.
            (&[0x09, 0x80, 0, 0, 0, 0], 1002),
            // A close frame with a code that must not be sent.
            (&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xed], 1002),
        ] {
            let mut socket = open(&gateway, version, CONVERSE).await;
            socket.raw(bytes).await;
            assert_eq!(soon(socket.closed()).await.0, code, "{version:?} {bytes:?}");
        }
    }
    all_over(&backend).await;
}

async fn refused(gateway: &TestGateway, version: Version, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let Refusal { status, headers, body } =
        soon(Socket::ask(gateway.address, version, path, headers)).await.err().expect("the WebSocket is refused");
    assert_eq!(headers["content-type"], "application/json");
    let json: Value = serde_json::from_slice(&body).expect("JSON");
    if status == 426 {
        assert_eq!(headers["sec-websocket-version"], "13");
        assert_eq!(headers.contains_key("upgrade"), version == Version::Http1);
    }
    (status, json["details"][0]["reason"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn refusals_are_plain_http() {
    let (backend, gateway) = start().await;
    for version in Version::BOTH {
        for (path, headers, status, reason) in [
            ("/nowhere", &[][..], 404, "ROUTE_NOT_FOUND"),
            ("/test/v1/say/a", &[], 400, "NOT_A_STREAM"),
            ("/portico.test.v1.Echo/Say", &[], 400, "NOT_A_STREAM"),
            (CONVERSE, &[("sec-websocket-version", "8")], 426, "WEBSOCKET_VERSION"),
            (CONVERSE, &[("origin", "https://evil.test")], 403, "ORIGIN_NOT_ALLOWED"),
            (CONVERSE, &[("origin", "null")], 403, "ORIGIN_NOT_ALLOWED"),
            (CONVERSE, &[("sec-websocket-protocol", "Bearer")], 400, "INVALID_HEADER"),
            ("/test/v1/repeat/a?nothing=1", &[], 400, "INVALID_REQUEST"),
            ("/test/v1/repeat/%zz", &[], 400, "INVALID_PATH"),
        ] {
            assert_eq!(
                refused(&gateway, version, path, headers).await,
                (status, reason.to_owned()),
                "{version:?} {path}"
            );
        }
    }
    let key = [("sec-websocket-key", "c2hvcnQ=")];
    assert_eq!(refused(&gateway, Version::Http1, CONVERSE, &key).await, (400, "INVALID_HEADER".to_owned()));
    assert_eq!(backend.tally.counts().started, 0);
}

#[tokio::test]
async fn a_connection_goes_on_after_a_refusal() {
    let (_backend, gateway) = start().await;
    let mut client = gateway.client(Version::Http1).await;
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];

    let refused = client.send(request(http::Method::GET, CONVERSE, &upgrade, "")).await;
    let reply = client.get("/test/v1/say/a").await;

    assert_eq!((refused.status.as_u16(), reply.status.as_u16()), (426, 200), "{refused:?}");
}

#[tokio::test]
async fn pages_of_the_gateways_own_origin_may_open_one() {
    let (_backend, gateway) = start().await;
    let origin = format!("http://{}", gateway.address);
    for version in Version::BOTH {
        let mut socket = Socket::open(gateway.address, version, CONVERSE, &[("origin", &origin)]).await;
        socket.text("").await;
        assert_eq!(soon(socket.closed()).await.0, 1000);
    }
}

#[tokio::test]
async fn pages_that_the_cors_policy_names_may_open_one() {
    let backend = backend::start().await;
    let policy = "policies: [ { match: \"*\", cors: { allow_origins: [\"https://app.test\"] } } ]\n";
    let gateway = TestGateway::start(&(upstream("echo", backend.address) + policy)).await;
    gateway.ready().await;
    for version in Version::BOTH {
        let mut socket = Socket::open(gateway.address, version, CONVERSE, &[("origin", "https://app.test")]).await;
        socket.text("").await;
        assert_eq!(soon(socket.closed()).await.0, 1000);

        let other = refused(&gateway, version, CONVERSE, &[("origin", "https://evil.test")]).await;
        assert_eq!(other, (403, "ORIGIN_NOT_ALLOWED".to_owned()));
    }
}

#[tokio::test]
async fn tokens_come_by_subprotocol_and_cookies_pass() {
    use base64::Engine as _;
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        for (offered, chosen) in [
            ("Bearer, a.b", Some("Bearer")),
            ("chat, base64url.bearer.authorization.portico.YS5i", Some("chat")),
            ("base64url.bearer.authorization.portico.YS5i", None),
        ] {
            let headers = [("sec-websocket-protocol", offered), ("cookie", "session=1")];
            let mut socket = Socket::open(gateway.address, version, "/test/v1/repeat/a", &headers).await;
            let chosen_here = socket.headers.get("sec-websocket-protocol").map(|value| value.to_str().unwrap());
            assert_eq!(chosen_here, chosen, "{version:?} {offered}");
            let message = soon(socket.json()).await;
            let seen = |name: &str| {
                let metadata = message["metadata"].as_array().expect("metadata");
                let entry = metadata.iter().find(|entry| entry["name"] == name)?;
                let bytes = base64::prelude::BASE64_STANDARD.decode(entry["value"].as_str()?).ok()?;
                String::from_utf8(bytes).ok()
            };
            assert_eq!(seen("authorization").as_deref(), Some("Bearer a.b"), "{message}");
            assert_eq!(seen("cookie").as_deref(), Some("session=1"));
            assert_eq!(seen("sec-websocket-protocol"), None);
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_call_but_no_frame() {
    let (backend, gateway) = start().await;
    for (over, version) in (1..).zip(Version::BOTH) {
        let path = "/test/v1/repeat/a?behaviour.count=100000&behaviour.payload_bytes=10000";
        let mut socket = Socket::open(gateway.address, version, path, &[("grpc-timeout", "1S")]).await;
        // The call is over although the client has read nothing of it. The backend may take that for an end of its own.
        backend.tally.until(|counts| counts.finished + counts.cancelled == over).await;
        let end = soon(async {
            loop {
                match socket.next().await {
                    Some(Message::Text(_)) => {}
                    other => break other,
                }
            }
        });
        let end = end.await;
        assert!(matches!(&end, Some(Message::Close(Some(close))) if u16::from(close.code) == 4004), "{end:?}");
    }
}

#[tokio::test]
async fn a_web_socket_is_told_when_the_gateway_goes_away() {
    for version in Version::BOTH {
        is_told_when_the_gateway_goes_away(version).await;
    }
}

async fn is_told_when_the_gateway_goes_away(version: Version) {
    let (_backend, gateway) = start().await;
    let mut socket = open(&gateway, version, CONVERSE).await;
    socket.text("{}").await;
    soon(socket.json()).await;

    let address = gateway.address;
    let (cut, hurry) = tokio::sync::oneshot::channel::<()>();
    let stopping = tokio::spawn(gateway.stop_unless(async { drop(hurry.await) }));
    // It goes on until the drain is over.
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        ticks.tick().await;
    }
    socket.text("{}").await;
    soon(socket.json()).await;
    drop(cut);

    assert_eq!(soon(socket.closed()).await.0, 1001, "{version:?}");
    soon(stopping).await.expect("stopping does not panic");
}

#[tokio::test]
async fn other_tunnels_over_http_2_are_not_there() {
    let (_backend, gateway) = start().await;
    let stream = tokio::net::TcpStream::connect(gateway.address).await.expect("the gateway listens");
    let (mut sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    extended(&sender).await;
    let uri = format!("http://{}{CONVERSE}", gateway.address);
    let mut request = http::Request::builder().method(http::Method::CONNECT).uri(uri).body(()).expect("a request");
    request.extensions_mut().insert(h2::ext::Protocol::from_static("connect-udp"));

    let (reply, _sending) = sender.send_request(request, false).expect("the connection takes it");

    assert_eq!(soon(reply).await.expect("there is a reply").status(), 501);
}
