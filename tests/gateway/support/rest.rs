//! REST calls as tests write them down, and requests that no well-behaved client would send.
#![allow(dead_code, reason = "a toolbox: not every test run uses every tool")]

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{Client, Reply, Version, request};
use super::gateway::TestGateway;

/// A request from a line such as `GET /v1/books`; a body is JSON.
pub(crate) fn call(line: &str, body: &str) -> Request<Bytes> {
    let (method, path) = line.split_once(' ').expect("a call is a method and a path");
    let json = [("content-type", "application/json")];
    let headers = if body.is_empty() { &json[..0] } else { &json[..] };
    request(method.parse().expect("a method"), path, headers, body)
}

/// Makes calls over both versions of HTTP, each of which must be answered with this JSON.
pub(crate) async fn answered(gateway: &TestGateway, calls: &[(&str, &str, Value)]) {
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for (line, body, expected) in calls {
            let reply = client.send(call(line, body)).await;

            assert_eq!(reply.status, StatusCode::OK, "{version:?} {line} {body}: {reply:?}");
            assert_eq!(reply.headers["content-type"], "application/json", "{version:?} {line}");
            assert_eq!(reply.json(), *expected, "{version:?} {line} {body}");
        }
    }
}

/// Makes calls over both versions of HTTP, each of which must be refused with 400 for this field, with these words.
pub(crate) async fn refused(gateway: &TestGateway, calls: &[(&str, &str, &str, &str)]) {
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for (line, body, field, words) in calls {
            let reply = client.send(call(line, body)).await;

            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{version:?} {line} {body}: {reply:?}");
            assert_eq!(reply.reason(), "INVALID_REQUEST", "{version:?} {line} {body}");
            let violation = violation(&reply);
            assert_eq!(violation["field"].as_str().unwrap_or_default(), *field, "{line} {body}: {violation}");
            assert!(
                violation["description"].as_str().unwrap_or_default().contains(words),
                "{line} {body}: {violation}"
            );
            assert!(message(&reply).contains(words), "{line} {body}: {reply:?}");
        }
    }
}

/// The first field violation of a refusal.
pub(crate) fn violation(reply: &Reply) -> Value {
    let json = reply.json();
    let details = json["details"].as_array().expect("a status has details");
    let bad = details.iter().find(|detail| detail["@type"] == "type.googleapis.com/google.rpc.BadRequest");
    bad.expect("there is a BadRequest")["fieldViolations"][0].clone()
}

/// The words of a refusal.
pub(crate) fn message(reply: &Reply) -> String {
    reply.json()["message"].as_str().expect("a status has a message").to_owned()
}

/// The values of one header as the echo service saw it.
pub(crate) fn seen(reply: &Reply, name: &str) -> Vec<String> {
    use base64::Engine;
    let json = reply.json();
    let metadata = json["metadata"].as_array().cloned().unwrap_or_default();
    let values = metadata.iter().filter(|entry| entry["name"] == name);
    values
        .map(|entry| {
            let text = entry["value"].as_str().unwrap_or_default();
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).expect("bytes are base64 in JSON");
            String::from_utf8_lossy(&bytes).into_owned()
        })
        .collect()
}

/// Sends bytes over a connection of their own and reads all that comes back.
pub(crate) async fn raw_http1(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the gateway listens");
    stream.write_all(bytes).await.expect("the gateway reads");
    let mut answer = Vec::new();
    // A gateway that refuses may close before it has read everything; what it said counts.
    stream.read_to_end(&mut answer).await.ok();
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status of a GET for these bytes as the target.
pub(crate) async fn status_http1(address: SocketAddr, target: &[u8]) -> u16 {
    let request = [b"GET ", target, b" HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"].concat();
    let answer = raw_http1(address, &request).await;
    answer.get(9..12).and_then(|status| status.parse().ok()).expect("there is a reply with a status")
}

/// The status of a GET for these bytes as `:path`; 0 when the stream or the connection is reset.
pub(crate) async fn status_http2(address: SocketAddr, path: &[u8]) -> u16 {
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const GOAWAY: u8 = 7;
    let length = u8::try_from(path.len()).expect("a test's path is short");
    assert!(length < 127, "a test's path is short");
    // Indexed `:method: GET` and `:scheme: http`, then literal `:path` and `:authority` (RFC 7541, appendix A).
    let block = [&[0x82, 0x86, 0x04, length][..], path, &[0x01, 1, b'a']].concat();
    let head = [0, 0, u8::try_from(block.len()).expect("a test's block is short"), HEADERS, 5, 0, 0, 0, 1];
    let mut stream = TcpStream::connect(address).await.expect("the gateway listens");
    let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0], &head, &block].concat();
    stream.write_all(&preface).await.expect("the gateway reads");
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            return 0;
        }
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).await.expect("a whole frame");
        match head[3] {
            HEADERS => return status_of(&payload),
            RST_STREAM | GOAWAY => return 0,
            _ => {}
        }
    }
}

/// `:status` of a header block, which comes first; 999 if it is none of the static table.
fn status_of(block: &[u8]) -> u16 {
    // The encoder may begin with changes of its table's size.
    match block.iter().find(|byte| **byte & 0xe0 != 0x20) {
        Some(0x88) => 200,
        Some(0x89) => 204,
        Some(0x8c) => 400,
        Some(0x8d) => 404,
        Some(0x8e) => 500,
        _ => 999,
    }
}

/// Makes one call with headers.
pub(crate) async fn with(client: &mut Client, line: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let (method, path) = line.split_once(' ').expect("a call is a method and a path");
    client.send(request(method.parse().expect("a method"), path, headers, body)).await
}
