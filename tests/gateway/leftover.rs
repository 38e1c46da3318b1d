//! HTTP/1.1: a request that was answered before its body was read leaves its connection as the next one needs it.

use std::net::SocketAddr;

use portico::encoding::Encoding;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend::{self, Backend};
use crate::support::gateway::TestGateway;
use crate::support::grpc::{COLLECT, SAY, soon};
use crate::support::rpc::{DIALECTS, Ending};

async fn start() -> (Backend, TestGateway) {
    let backend = backend::start().await;
    let set = concat!(env!("OUT_DIR"), "/test/echo.binpb");
    let gateway = TestGateway::start(&format!(
        "upstreams: [ {{ name: echo, endpoints: [\"{}\"], schema: {{ descriptor_set: \"{set}\" }} }} ]\npolicies: [ {{ match: \"*\", limits: {{ request_message: 2KiB }} }} ]\n",
        backend.address
    ))
    .await;
    gateway.ready().await;
    (backend, gateway)
}

/// Reads one reply with a length.
async fn reply(stream: &mut TcpStream) -> Option<(u16, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.ok()?);
    }
    let head = String::from_utf8(head).expect("a head is text").to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |text| text.parse().expect("a length"));
    soon(stream.read_exact(&mut vec![0; length])).await.ok()?;
    let status = head.split(' ').nth(1).expect("a status line").parse().expect("a status");
    Some((status, head))
}

fn head(path: &str, media: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: {media}\r\ncontent-length: {length}\r\n\r\n")
}

/// Sends a request, then a second one that must be answered, unless the first reply said that the connection closes.
async fn two(address: SocketAddr, first: &[u8], rest: &[u8]) -> (u16, bool) {
    let mut stream = TcpStream::connect(address).await.expect("the gateway listens");
    stream.write_all(first).await.expect("the gateway reads");
    let second = "GET /test/v1/say/x HTTP/1.1\r\nhost: test\r\n\r\n";
    // What is sent to a connection that closes is lost, which is no fault.
    stream.write_all(&[rest, second.as_bytes()].concat()).await.ok();
    let (status, head) = reply(&mut stream).await.expect("the first request is answered");
    let closes = head.contains("\r\nconnection: close\r\n");
    let next = reply(&mut stream).await;
    let expected = if closes { None } else { Some(200) };
    assert_eq!(next.as_ref().map(|(status, _)| *status), expected, "next: {next:?}, first: {head}");
    (status, closes)
}

#[tokio::test]
async fn a_request_for_nothing_may_have_a_body() {
    let (_backend, gateway) = start().await;
    for length in [10, 200 << 10] {
        let head = head("/nothing/here", "application/json", length);

        let (status, closes) = two(gateway.address, head.as_bytes(), &vec![b'x'; length]).await;

        assert_eq!((status, closes), (404, false), "{length}");
    }
}

#[tokio::test]
async fn a_body_that_is_very_long_closes_the_connection() {
    let (_backend, gateway) = start().await;
    let length = 8 << 20;
    let head = head("/nothing/here", "application/json", length);

    let (status, closes) = two(gateway.address, head.as_bytes(), &vec![b'x'; length / 2]).await;

    assert_eq!((status, closes), (404, true));
}

#[tokio::test]
async fn a_call_over_its_limit_leaves_the_connection() {
    let (_backend, gateway) = start().await;
    let message = json!({"text": "x".repeat(200 << 10)});
    for dialect in DIALECTS.into_iter().filter(|dialect| dialect.ending != Ending::Trailers) {
        let paths = match dialect.ending {
            Ending::Unary => &[SAY][..],
            Ending::EndStream => &[COLLECT],
            Ending::Frame | Ending::Trailers => &[SAY, COLLECT],
        };
        for path in paths {
            let body = dialect.write(&message, Encoding::Identity);
            let head = head(path, dialect.media, body.len());

            two(gateway.address, head.as_bytes(), &body).await;
        }
    }
}

#[tokio::test]
async fn what_a_client_holds_back_is_not_asked_for() {
    let (_backend, gateway) = start().await;
    let mut stream = TcpStream::connect(gateway.address).await.expect("the gateway listens");
    let head = "POST /nothing/here HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 9999\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("the gateway reads");

    let (status, head) = reply(&mut stream).await.expect("there is a reply");

    assert_eq!(status, 404, "{head}");
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
    assert!(reply(&mut stream).await.is_none(), "the connection closes");
}

#[tokio::test]
async fn a_body_that_never_comes_does_not_hold_the_reply() {
    let (_backend, gateway) = start().await;
    let mut stream = TcpStream::connect(gateway.address).await.expect("the gateway listens");
    stream.write_all(head("/nothing/here", "application/json", 9999).as_bytes()).await.expect("the gateway reads");

    let (status, head) = reply(&mut stream).await.expect("there is a reply");

    assert_eq!(status, 404, "{head}");
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
}

#[tokio::test]
async fn a_body_in_chunks_is_read_to_its_end() {
    let (_backend, gateway) = start().await;
    let head = "POST /nothing/here HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunks = format!("{:x}\r\n{}\r\n", 1000, "x".repeat(1000)).repeat(50) + "0\r\nx-trailer: a\r\n\r\n";

    let (status, closes) = two(gateway.address, head.as_bytes(), chunks.as_bytes()).await;

    assert_eq!((status, closes), (404, false));
}
