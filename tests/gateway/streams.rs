//! Server streams over REST: every form, however they end.

use std::net::SocketAddr;

use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend::act::Step;
use crate::support::backend::{self, Backend, act, scripted};
use crate::support::client::{Reply, Version, request};
use crate::support::gateway::TestGateway;
use crate::support::grpc::soon;

const FORMS: [&str; 4] = ["application/json", "application/x-ndjson", "text/event-stream", "application/json-seq"];

async fn start() -> (Backend, TestGateway) {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    (backend, gateway)
}

fn repeat(accept: &str, behaviour: &Value) -> Request<bytes::Bytes> {
    let headers = [("content-type", "application/json"), ("accept", accept)];
    request(Method::POST, "/test/v1/repeat", &headers, &json!({"text": "hi", "behaviour": behaviour}).to_string())
}

/// The messages of a reply, whatever its form, with an error for one of them.
fn messages(reply: &Reply) -> Vec<Value> {
    let text = std::str::from_utf8(&reply.body).expect("a reply is text");
    let parse = |text: &str| serde_json::from_str(text).expect("a message is JSON");
    match reply.headers["content-type"].to_str().expect("a content type is text") {
        "application/json" => reply.json().as_array().expect("an array").clone(),
        "application/x-ndjson" => text.lines().map(parse).collect(),
        "application/json-seq" => {
            text.split_terminator('\n').map(|line| parse(line.trim_start_matches('\u{1e}'))).collect()
        }
        form => {
            assert_eq!(form, "text/event-stream");
            let events = text.split_terminator("\n\n").filter(|event| *event != "event: end\ndata: {}");
            events.filter_map(|event| event.split_once("data: ")).map(|(_, data)| parse(data)).collect()
        }
    }
}

fn indices(messages: &[Value]) -> Vec<i64> {
    messages.iter().map(|message| message["index"].as_i64().unwrap_or(0)).collect()
}

#[tokio::test]
async fn messages_come_in_the_form_that_the_client_asks_for() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for form in FORMS {
            let reply = client.send(repeat(form, &json!({"count": 3}))).await;

            assert_eq!((reply.status, &reply.headers["content-type"]), (StatusCode::OK, &form.parse().unwrap()));
            assert_eq!(indices(&messages(&reply)), [0, 1, 2], "{version:?} {form}");
            assert!(reply.headers.get_all("vary").iter().any(|value| value == "accept"), "{version:?} {form}");
        }
        let default = client.send(repeat("text/html, */*", &json!({"count": 1}))).await;
        assert_eq!(default.headers["content-type"], "application/json");
        let events = client.send(repeat("text/event-stream", &json!({"count": 2}))).await;
        let text = String::from_utf8(events.body.to_vec()).unwrap();
        assert!(text.starts_with("id: 1\ndata: {") && text.contains("\n\nid: 2\ndata: {"), "{text}");
        assert!(text.ends_with("\n\nevent: end\ndata: {}\n\n"), "{text}");
    }
}

#[tokio::test]
async fn a_stream_may_have_no_message() {
    let empty = vec![Step::Read, act::grpc_head(&[]), act::status(0, "")];
    let script = [vec![empty; FORMS.len()], vec![act::trailers_only(0, ""); FORMS.len()]].concat();
    let backend = scripted::start(script).await;
    let set = concat!(env!("OUT_DIR"), "/test/echo.binpb");
    let gateway = TestGateway::start(&format!(
        "upstreams: [ {{ name: echo, endpoints: [\"{}\"], schema: {{ descriptor_set: \"{set}\" }} }} ]\n",
        backend.address
    ))
    .await;
    gateway.ready().await;
    let mut client = gateway.client(Version::Http2).await;

    for form in FORMS.into_iter().chain(FORMS) {
        let reply = client.send(repeat(form, &json!({}))).await;

        assert_eq!((reply.status, messages(&reply).len()), (StatusCode::OK, 0), "{form}: {reply:?}");
    }
}

#[tokio::test]
async fn bindings_name_and_query_reach_streams_as_they_reach_unary_methods() {
    let (_backend, gateway) = start().await;
    let mut client = gateway.client(Version::Http1).await;

    for (method, path, body) in [
        (Method::GET, "/test/v1/repeat/hi?behaviour.count=2", ""),
        (Method::POST, "/portico.test.v1.Echo/Repeat", r#"{"text": "hi", "behaviour": {"count": 2}}"#),
    ] {
        let reply = client.send(request(method, path, &[], body)).await;

        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        assert_eq!(messages(&reply)[1]["text"], "hi");
    }
    let wrong = client.send(repeat("application/x-ndjson", &json!({"count": "x"}))).await;
    assert_eq!((wrong.status, wrong.reason().as_str()), (StatusCode::BAD_REQUEST, "INVALID_REQUEST"));
    let head = client.send(request(Method::HEAD, "/test/v1/repeat/hi?behaviour.count=2", &[], "")).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
}

#[tokio::test]
async fn a_failure_before_the_first_message_is_the_status_of_the_reply() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for form in FORMS {
            let failure = json!({"failure": {"code": 5, "message": "no such thing"}});
            let reply = client.send(repeat(form, &failure)).await;

            assert_eq!(
                (reply.status, &reply.headers["content-type"]),
                (StatusCode::NOT_FOUND, &"application/json".parse().unwrap())
            );
            assert_eq!(reply.json(), json!({"code": 5, "message": "no such thing", "details": []}));
        }
    }
}

#[tokio::test]
async fn a_failure_in_mid_stream_is_the_last_message() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for form in FORMS {
            let failure = json!({"count": 2, "failure": {"code": 8, "message": "enough"}});
            let reply = client.send(repeat(form, &failure)).await;

            let messages = messages(&reply);
            assert_eq!((reply.status, messages.len()), (StatusCode::OK, 3), "{version:?} {form}");
            assert_eq!(messages[2], json!({"error": {"code": 8, "message": "enough", "details": []}}));
        }
    }
}

#[tokio::test]
async fn a_deadline_in_mid_stream_is_the_last_message_and_cancels_the_call() {
    let (backend, gateway) = start().await;
    for (version, cancelled) in Version::BOTH.into_iter().zip(1..) {
        let mut call = repeat("application/x-ndjson", &json!({"count": 1, "stall": true}));
        call.headers_mut().insert("x-server-timeout", "0.3".parse().unwrap());

        let reply = soon(gateway.client(version).await.send(call)).await;

        let messages = messages(&reply);
        assert_eq!((messages.len(), &messages[1]["error"]["code"]), (2, &json!(4)), "{version:?}");
        backend.tally.until(|counts| counts.cancelled == cancelled).await;
    }
}

/// Sends a request over a connection of its own and reads the reply until it contains this.
async fn until(gateway: SocketAddr, call: &Request<bytes::Bytes>, wanted: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(gateway).await.expect("the gateway listens");
    let mut head =
        format!("{} {} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n", call.method(), call.uri(), call.body().len());
    for (name, value) in call.headers() {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().expect("a header is text")));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.expect("the gateway reads");
    stream.write_all(call.body()).await.expect("the gateway reads");
    let mut reply = Vec::new();
    while !String::from_utf8_lossy(&reply).contains(wanted) {
        assert!(soon(stream.read_buf(&mut reply)).await.expect("the gateway answers") > 0, "the reply ended");
    }
    (stream, String::from_utf8_lossy(&reply).into_owned())
}

#[tokio::test]
async fn each_message_arrives_when_it_comes_and_leaving_cancels_the_call() {
    let (backend, gateway) = start().await;
    for (form, cancelled) in FORMS.into_iter().zip(1..) {
        let call = repeat(form, &json!({"count": 2, "stall": true}));

        let (stream, reply) = until(gateway.address, &call, "\"index\":1").await;
        drop(stream);

        assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
        backend.tally.until(|counts| counts.cancelled == cancelled).await;
    }
}

#[tokio::test]
async fn a_quiet_stream_opens_without_a_message() {
    let (backend, gateway) = start().await;

    let (stream, reply) =
        until(gateway.address, &repeat("text/event-stream", &json!({"stall": true})), "\r\n\r\n").await;

    assert!(reply.starts_with("HTTP/1.1 200 ") && reply.contains("content-type: text/event-stream"), "{reply}");
    drop(stream);
    backend.tally.until(|counts| counts.cancelled == 1).await;
}

#[tokio::test]
async fn raw_bodies_are_streamed_and_broken_off_when_they_fail() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;

        let reply = client.get("/test/v1/download/piece?behaviour.count=3").await;
        let broken = request(Method::GET, "/test/v1/download/x?behaviour.count=2&behaviour.failure.code=8", &[], "");

        assert_eq!(reply.headers["content-type"], "text/plain", "{version:?}");
        assert_eq!(reply.body, "piece 0\npiece 1\npiece 2\n");
        assert!(client.try_send(broken).await.is_err(), "{version:?}: a half body does not look whole");
    }
}

#[tokio::test]
async fn a_quiet_event_stream_gets_a_comment_before_anybody_takes_it_for_dead() {
    let (_backend, gateway) = start().await;
    let (mut stream, mut reply) =
        until(gateway.address, &repeat("text/event-stream", &json!({"count": 1, "stall": true})), "\n\n").await;

    // As it comes, in a chunk of its own.
    let comment = async {
        let mut bytes = Vec::new();
        while !reply.contains("\r\n3\r\n:\n\n\r\n") {
            assert!(stream.read_buf(&mut bytes).await.expect("the gateway answers") > 0, "the reply ended: {reply}");
            reply.push_str(&String::from_utf8_lossy(&std::mem::take(&mut bytes)));
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(25), comment).await.expect("a comment comes after 15 seconds");
}
