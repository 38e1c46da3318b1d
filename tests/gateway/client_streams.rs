//! Client streams and both directions over REST: what is sent, what fails, who leaves.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::support::backend::{self, Backend, act};
use crate::support::client::{Version, request};
use crate::support::gateway::TestGateway;
use crate::support::grpc::{Raw, soon};
use crate::support::rest::message;

const LINES: &str = "application/x-ndjson";

async fn start() -> (Backend, TestGateway) {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    (backend, gateway)
}

fn post(path: &str, media: &str, body: &str) -> Request<Bytes> {
    request(Method::POST, path, &[("content-type", media), ("accept", LINES)], body)
}

fn head() -> HeaderMap {
    act::entries(&[("content-type", LINES), ("accept", LINES)])
}

#[tokio::test]
async fn values_of_lines_and_arrays_are_messages() {
    let (_backend, gateway) = start().await;
    let lines = "{\"text\":\"a\"}\n\n{\"text\":\"b\"}\r\n{\"text\":\"c\"}";
    let array = r#" [{"text":"a"}, {"text":"b"},{"text":"c"}] "#;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for path in ["/test/v1/collect", "/portico.test.v1.Echo/Collect"] {
            for (media, body) in [
                (LINES, lines),
                ("Application/NDJSON; charset=utf-8", lines),
                ("application/json", array),
                ("application/vnd.x+json", array),
            ] {
                let reply = client.send(post(path, media, body)).await;

                assert_eq!(reply.status, StatusCode::OK, "{version:?} {media}: {reply:?}");
                assert_eq!(reply.headers["content-type"], "application/json");
                assert_eq!(reply.json()["texts"], json!(["a", "b", "c"]), "{version:?} {media}");
            }
        }
    }
}

#[tokio::test]
async fn a_stream_may_have_no_message() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for (media, body) in [(LINES, ""), (LINES, "\n"), ("application/json", ""), ("application/json", "[]")] {
            let collected = client.send(post("/test/v1/collect", media, body)).await;
            let conversed = client.send(post("/test/v1/converse", media, body)).await;

            assert_eq!(collected.status, StatusCode::OK, "{version:?} {media}: {collected:?}");
            assert!(collected.json().get("texts").is_none(), "{collected:?}");
            assert_eq!((conversed.status, conversed.body.len()), (StatusCode::OK, 0), "{version:?} {media}");
        }
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_with_the_number_of_the_message() {
    let (backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for (media, body, words) in [
            (LINES, "{\"text\":\"a\"}\n{}\n{\"text\":4}", "message 3: text: "),
            (LINES, "{}\n{\"txt\":\"a\"}", "message 2: txt: "),
            (LINES, "{}\n{\"text\":", "message 2: the text ends inside a value"),
            ("application/json", "[{},", "message 2: the text ends inside the array"),
            ("application/json", "{}", "message 1: expected an array"),
        ] {
            let reply = soon(client.send(post("/test/v1/collect", media, body))).await;

            assert_eq!((reply.status, reply.reason().as_str()), (StatusCode::BAD_REQUEST, "INVALID_REQUEST"), "{body}");
            assert!(message(&reply).starts_with(words), "{version:?} {body}: {reply:?}");
        }
    }
    backend.tally.until(|counts| counts.started == counts.cancelled + counts.finished).await;
    let form = gateway.client(Version::Http1).await.send(post("/test/v1/collect", "text/plain", "{}")).await;
    assert_eq!(form.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{form:?}");
}

#[tokio::test]
async fn both_directions_run_at_once_over_http_2() {
    let (backend, gateway) = start().await;
    let mut client = Raw::connect(gateway.address).await;
    let mut call = client.begin_as(Method::POST, "/test/v1/converse", head(), false).await;
    call.send("{\"text\":\"0\"}\n{\"te", false);
    let (reply, mut body, mut sending) = soon(call.head()).await.expect("the gateway answers");
    assert_eq!(reply.status, StatusCode::OK);

    for number in 0..3 {
        let line = soon(body.data()).await.expect("there is a message").expect("the stream is whole");
        body.flow_control().release_capacity(line.len()).expect("it was taken");
        let value: Value = serde_json::from_slice(&line).expect("JSON");
        assert_eq!(value["text"], json!(number.to_string()));
        let next = format!("xt\":\"{}\"}}\n{{\"te", number + 1);
        sending.send_data(next.into(), false).expect("the stream is open");
    }
    sending.send_reset(h2::Reason::CANCEL);
    backend.tally.until(|counts| counts.cancelled + counts.finished == 1).await;
}

#[tokio::test]
async fn a_bad_message_in_mid_stream_is_the_last_line_and_cancels_the_call() {
    let (backend, gateway) = start().await;
    let mut client = Raw::connect(gateway.address).await;
    let mut call = client.begin_as(Method::POST, "/test/v1/converse", head(), false).await;
    call.send("{\"text\":\"0\"}\n", false);
    let (_, mut body, mut sending) = soon(call.head()).await.expect("the gateway answers");
    soon(body.data()).await.expect("there is a message").expect("the stream is whole");

    sending.send_data("{\"text\":1}\n".into(), false).expect("the stream is open");
    let line = soon(body.data()).await.expect("there is an error").expect("the stream is whole");

    let value: Value = serde_json::from_slice(&line).expect("JSON");
    assert_eq!(value["error"]["code"], 3, "{value}");
    assert!(value["error"]["message"].as_str().unwrap_or_default().starts_with("message 2: text: "), "{value}");
    assert!(soon(body.data()).await.is_none(), "the reply ends");
    // Its method may see the reset as the end of the requests, or be dropped.
    backend.tally.until(|counts| counts.cancelled + counts.finished == 1).await;
}

#[tokio::test]
async fn both_directions_work_over_http_1() {
    let (_backend, gateway) = start().await;
    let body: String = (0..200).map(|number| format!("{{\"text\":\"{number}\"}}\n")).collect();

    let reply = soon(gateway.client(Version::Http1).await.send(post("/test/v1/converse", LINES, &body))).await;

    let texts: Vec<Value> = std::str::from_utf8(&reply.body)
        .expect("text")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["text"].clone())
        .collect();
    assert_eq!(texts.len(), 200, "{reply:?}");
    assert_eq!(texts[199], "199");
}

#[tokio::test]
async fn a_deadline_ends_a_client_stream_with_its_status() {
    let (backend, gateway) = start().await;
    for (version, cancelled) in Version::BOTH.into_iter().zip(1..) {
        let mut call = post("/test/v1/collect", LINES, r#"{"behaviour":{"stall":true}}"#);
        call.headers_mut().insert("x-server-timeout", "0.3".parse().unwrap());

        let reply = soon(gateway.client(version).await.send(call)).await;

        assert_eq!(
            (reply.status, reply.json()["code"].clone()),
            (StatusCode::GATEWAY_TIMEOUT, json!(4)),
            "{version:?}"
        );
        backend.tally.until(|counts| counts.cancelled == cancelled).await;
    }
}

#[tokio::test]
async fn a_reply_may_come_before_the_request_ends() {
    let (_backend, gateway) = start().await;
    let mut client = Raw::connect(gateway.address).await;
    let mut call = client.begin_as(Method::POST, "/test/v1/collect", head(), false).await;

    call.send("{\"text\":\"a\",\"behaviour\":{\"stopReading\":true}}\n", false);
    let (reply, _, _sending) = soon(call.head()).await.expect("the gateway answers");

    assert_eq!(reply.status, StatusCode::OK);
}

#[tokio::test]
async fn the_limit_is_that_of_each_message() {
    let backend = backend::start().await;
    let set = concat!(env!("OUT_DIR"), "/test/echo.binpb");
    let gateway = TestGateway::start(&format!(
        "upstreams: [ {{ name: echo, endpoints: [\"{}\"], schema: {{ descriptor_set: \"{set}\" }} }} ]\npolicies: [ {{ match: \"*\", limits: {{ request_message: 1KiB }} }} ]\n",
        backend.address
    ))
    .await;
    gateway.ready().await;
    let mut client = gateway.client(Version::Http2).await;
    let small = format!("{{\"text\":\"{}\"}}\n", "x".repeat(900));
    let large = format!("{{\"text\":\"{}\"}}\n", "x".repeat(1100));

    let many = client.send(post("/test/v1/collect", LINES, &small.repeat(50))).await;
    let reply = client.send(post("/test/v1/collect", LINES, &format!("{small}{large}"))).await;

    assert_eq!(many.json()["texts"].as_array().map(Vec::len), Some(50), "{many:?}");
    assert_eq!((reply.status, reply.reason().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "REQUEST_TOO_LARGE"));
    assert!(message(&reply).starts_with("message 2: "), "{reply:?}");
}
