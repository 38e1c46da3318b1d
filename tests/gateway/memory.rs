//! What calls cost in memory: uploads and downloads of any length, streams whose peers say nothing, and large replies that
//! nobody reads.
//!
//! The gateway is a process of its own, so that its memory is its alone. `PORTICO_MIB`, `PORTICO_STREAMS` and
//! `PORTICO_REPLY` make the tests larger; docs/performance.md has what was measured so.

#![allow(clippy::print_stdout, reason = "the figures are what a larger run is for")]

use std::any::Any;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::backend::pb::{Behaviour, SayRequest};
use crate::support::backend::{self, Backend, act};
use crate::support::client::{Client, Version};
use crate::support::gateway::upstream;
use crate::support::grpc::{REPEAT, Raw, RawCall, SAY, rest, soon};
use crate::support::process::Portico;
use crate::support::websocket::Socket;

/// Bytes of one piece that a client sends.
const PIECE: usize = 64 << 10;
/// Bytes that the gateway may take more for one transfer, of any length.
const ROOM: usize = 24 << 20;
/// The same for the large replies of one connection, most of which is what the documentation says.
const REPLIES: usize = 80 << 20;

fn setting(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

struct Setup {
    _folder: tempfile::TempDir,
    backend: Backend,
    gateway: Portico,
    address: SocketAddr,
}

async fn setup() -> Setup {
    setup_with("").await
}

async fn setup_with(settings: &str) -> Setup {
    let backend = backend::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("portico.yaml");
    let config = format!(
        "workers: 1\nlisteners: [ {{ address: \"127.0.0.1:0\" }} ]\nadmin: off\n{}telemetry: {{ access_log: {{ path: off }} }}\n{settings}",
        upstream("echo", backend.address)
    );
    std::fs::write(&file, config).expect("the file is written");
    let mut gateway = Portico::start(&["run", "--config", file.to_str().expect("the path is text")]);
    let address = gateway.address("portico listens on http://").await;
    let ready = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        while Client::connect(address, Version::Http1).await.get("/test/v1/text/a").await.status != 200 {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ready).await.expect("the schema comes in time");
    Setup { _folder: folder, backend, gateway, address }
}

/// The most memory seen while something goes on.
struct Peak<'g> {
    gateway: &'g Portico,
    before: usize,
    most: usize,
}

impl<'g> Peak<'g> {
    fn of(gateway: &'g Portico) -> Self {
        let before = gateway.resident();
        Self { gateway, before, most: before }
    }

    fn look(&mut self) {
        self.most = self.most.max(self.gateway.resident());
    }

    fn check(self, what: &str, room: usize) {
        let more = self.most - self.before;
        println!("{what}: {} KiB before, {} KiB more at the most", self.before >> 10, more >> 10);
        assert!(more < room, "{what}: {} KiB and {} KiB more", self.before >> 10, more >> 10);
    }

    /// Looks until the work is done.
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = ticks.tick() => self.look(),
            }
        }
    }
}

/// The body of an upload: how it begins, how often [`PIECE`] comes, how it ends.
#[derive(Clone, Copy)]
struct Upload {
    path: &'static str,
    media: &'static str,
    start: &'static str,
    end: &'static str,
}

const RAW: Upload = Upload { path: "/test/v1/upload", media: "application/octet-stream", start: "", end: "" };
const FORM: Upload = Upload {
    path: "/portico.test.v1.Echo/UploadNamed",
    media: "multipart/form-data; boundary=b",
    start: "--b\r\ncontent-disposition: form-data; name=file; filename=f\r\n\r\n",
    end: "\r\n--b--",
};

async fn send_http1(address: SocketAddr, upload: Upload, pieces: usize, peak: &mut Peak<'_>) -> Value {
    let mut stream = TcpStream::connect(address).await.expect("the gateway listens");
    let Upload { path, media, start, end } = upload;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: {media}\r\ncontent-length: {}\r\n\r\n{start}",
        start.len() + pieces * PIECE + end.len()
    );
    stream.write_all(head.as_bytes()).await.expect("the gateway reads");
    for piece in 0..pieces {
        stream.write_all(&[b'x'; PIECE]).await.expect("the gateway reads");
        if piece % 64 == 0 {
            peak.look();
        }
    }
    stream.write_all(end.as_bytes()).await.expect("the gateway reads");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("the gateway answers");
    let body = reply.split_once("\r\n\r\n").map(|(_, body)| body).expect("a head has an end");
    serde_json::from_str(body).expect("JSON")
}

async fn send_http2(address: SocketAddr, upload: Upload, pieces: usize, peak: &mut Peak<'_>) -> Value {
    let mut client = Raw::connect(address).await;
    let head: HeaderMap = act::entries(&[("content-type", upload.media)]);
    let mut call = client.begin_as(Method::POST, upload.path, head, false).await;
    call.send(upload.start, false);
    for piece in 0..pieces {
        put(&mut call.request, Bytes::from_static(&[b'x'; PIECE])).await;
        if piece % 64 == 0 {
            peak.look();
        }
    }
    call.send(upload.end, true);
    let answer = call.answer().await.expect("there is a reply");
    serde_json::from_slice(&answer.body).expect("JSON")
}

/// Sends as the window opens, so that this side keeps nothing either.
async fn put(stream: &mut SendStream<Bytes>, mut bytes: Bytes) {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let room = match stream.capacity() {
            0 => poll_fn(|cx| stream.poll_capacity(cx)).await.expect("the stream is open").expect("the stream is open"),
            room => room,
        };
        stream.send_data(bytes.split_to(room.min(bytes.len())), false).expect("the stream is open");
    }
}

#[tokio::test]
async fn an_upload_of_any_length_takes_little_memory() {
    let Setup { _folder, backend: _backend, gateway, address } = setup().await;
    let pieces = setting("PORTICO_MIB", 64) * (1 << 20) / PIECE;
    for (name, upload) in [("raw upload", RAW), ("form", FORM)] {
        for version in Version::BOTH {
            let mut peak = Peak::of(&gateway);

            let reply = match version {
                Version::Http1 => send_http1(address, upload, pieces, &mut peak).await,
                Version::Http2 => send_http2(address, upload, pieces, &mut peak).await,
            };

            assert_eq!(reply["bytes"], json!((pieces * PIECE).to_string()), "{version:?}");
            peak.check(&format!("{name}, {version:?}"), ROOM);
        }
    }
}

#[tokio::test]
async fn a_download_of_any_length_takes_little_memory() {
    let Setup { _folder, backend: _backend, gateway, address } = setup().await;
    let pieces = setting("PORTICO_MIB", 64) * (1 << 20) / PIECE;
    let path = format!("/test/v1/download/x?behaviour.count={pieces}&behaviour.payload_bytes={PIECE}");
    for version in Version::BOTH {
        let mut peak = Peak::of(&gateway);

        let read = match version {
            Version::Http1 => {
                let mut stream = TcpStream::connect(address).await.expect("the gateway listens");
                let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
                stream.write_all(head.as_bytes()).await.expect("the gateway reads");
                let (mut buffer, mut read) = (vec![0; PIECE], 0);
                while let Ok(more @ 1..) = stream.read(&mut buffer).await {
                    read += more;
                    peak.look();
                }
                read
            }
            Version::Http2 => {
                let call = Raw::connect(address).await.begin_as(Method::GET, &path, HeaderMap::new(), true).await;
                let (_, mut body, _) = call.head().await.expect("there is a reply");
                let mut read = 0;
                while let Some(data) = body.data().await {
                    let data = data.expect("the stream is whole");
                    body.flow_control().release_capacity(data.len()).expect("it was taken");
                    read += data.len();
                    peak.look();
                }
                read
            }
        };

        assert!(read > pieces * PIECE, "{version:?}: {read} bytes");
        peak.check(&format!("download, {version:?}"), ROOM);
    }
}

#[tokio::test]
async fn streams_whose_peers_say_nothing_take_little_memory() {
    const PER_CONNECTION: usize = 100;
    let count = setting("PORTICO_STREAMS", 200);
    let stalling = json!({"text": "a", "behaviour": {"count": 1, "stall": true}}).to_string();
    let behaviour = Behaviour { count: 1, stall: true, ..Behaviour::default() };
    for (form, most) in [("gRPC", 48 << 10), ("events", 96 << 10), ("WebSocket", 96 << 10)] {
        let Setup { _folder, backend, gateway, address } = setup().await;
        let before = gateway.resident();
        // What stays open as long as this is kept.
        let mut idle: Vec<Box<dyn Any>> = Vec::new();
        let mut client = Raw::connect(address).await;
        for number in 1..=count {
            match form {
                "gRPC" => {
                    if number % PER_CONNECTION == 0 {
                        client = Raw::connect(address).await;
                    }
                    let mut call = client.begin(REPEAT, &[], false).await;
                    call.message(&SayRequest { text: "a".into(), behaviour: Some(behaviour.clone()) }, true);
                    let (_, mut body, request) = call.head().await.expect("there is a reply");
                    soon(body.data()).await.expect("there is a message").expect("the stream is whole");
                    idle.push(Box::new((client.clone(), body, request)));
                }
                "events" => {
                    let mut stream = TcpStream::connect(address).await.expect("the gateway listens");
                    let head = format!(
                        "POST /test/v1/repeat HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{stalling}",
                        stalling.len()
                    );
                    stream.write_all(head.as_bytes()).await.expect("the gateway reads");
                    soon(stream.read(&mut [0; 1024])).await.expect("the gateway answers");
                    idle.push(Box::new(stream));
                }
                _ => {
                    let mut socket = Socket::open(address, Version::Http1, REPEAT, &[]).await;
                    socket.text(&stalling).await;
                    soon(socket.json()).await;
                    idle.push(Box::new(socket));
                }
            }
        }
        backend.tally.until(|counts| counts.started == count + 1).await;

        let each = gateway.resident().saturating_sub(before) / count;
        println!("{count} streams, {form}: {} KiB before, {} KiB each", before >> 10, each >> 10);
        assert!(each < most, "{form}: {each} bytes for each of {count} streams");
        drop((idle, client));
        backend.tally.until(|counts| counts.cancelled == count).await;
    }
}

/// Bytes of a large reply's payload; in JSON it is a third longer.
fn large() -> usize {
    setting("PORTICO_REPLY", 2_000_000)
}

/// Asks for a large reply, by REST or by Connect.
async fn ask(client: &mut Raw, by_rest: bool) -> RawCall {
    if by_rest {
        let path = format!("/test/v1/say/x?behaviour.payload_bytes={}", large());
        return client.begin_as(Method::GET, &path, HeaderMap::new(), true).await;
    }
    let head = act::entries(&[("content-type", "application/json"), ("connect-protocol-version", "1")]);
    let mut call = client.begin_as(Method::POST, SAY, head, false).await;
    call.send(json!({"behaviour": {"payloadBytes": large()}}).to_string(), true);
    call
}

#[tokio::test]
async fn large_replies_that_nobody_reads_take_a_bounded_memory() {
    let Setup { _folder, backend: _backend, gateway, address } =
        setup_with("policies: [ { match: \"*\", timeout: { unary: 5s } } ]\n").await;
    let mut peak = Peak::of(&gateway);
    let mut client = Raw::connect_with(address, 1).await;
    let mut calls = Vec::new();
    for number in 0..100 {
        calls.push(ask(&mut client, number % 2 == 0).await);
    }

    let mut open = Vec::new();
    let mut refused = Vec::new();
    for call in calls {
        let (head, body, _) = peak.during(call.head()).await.expect("there is a reply");
        if head.status == 200 { open.push(body) } else { refused.push((head, body)) }
    }

    println!("{} replies have begun, {} were refused", open.len(), refused.len());
    peak.check("large replies", REPLIES);
    assert!(!open.is_empty());
    let (head, body) = refused.pop().expect("there is no room for so many");
    let told = soon(rest(head, body)).await.expect("it is whole");
    assert!(String::from_utf8_lossy(&told.body).contains("SLOW_READER"), "{told:?}");
}

#[tokio::test]
async fn large_replies_that_are_read_slowly_come_whole() {
    const COUNT: usize = 16;
    let Setup { _folder, backend: _backend, gateway, address } = setup().await;
    let mut peak = Peak::of(&gateway);
    let mut client = Raw::connect(address).await;
    let mut reading = JoinSet::new();
    for number in 0..COUNT {
        let call = ask(&mut client, number % 2 == 0).await;
        reading.spawn(async move {
            let (head, mut body, _request) = call.head().await.expect("there is a reply");
            assert_eq!(head.status, 200);
            let mut ticks = tokio::time::interval(Duration::from_millis(5));
            let mut read = 0;
            while let Some(data) = body.data().await {
                let data = data.expect("it is whole");
                ticks.tick().await;
                body.flow_control().release_capacity(data.len()).expect("it was taken");
                read += data.len();
            }
            read
        });
    }

    let read = peak.during(reading.join_all()).await;

    assert_eq!(read.len(), COUNT);
    assert!(read.iter().all(|read| *read > large() * 4 / 3), "{read:?}");
    peak.check("large replies, read slowly", REPLIES);
}

#[tokio::test]
async fn replies_that_nobody_reads_make_room_for_those_that_are_read() {
    let Setup { _folder, backend: _backend, gateway: _gateway, address } = setup().await;
    let mut client = Raw::connect_with(address, 1).await;
    let mut stuck = Vec::new();
    // Each is here before the next one is asked for; the last one finds no room.
    for number in 0..9 {
        let (head, body, request) = ask(&mut client, number % 2 == 0).await.head().await.expect("there is a reply");
        assert_eq!(head.status, 200);
        stuck.push((body, request));
    }
    let (head, ..) = ask(&mut client, true).await.head().await.expect("there is a reply");

    assert_eq!(head.status, 200);
    let (mut longest, _request) = stuck.swap_remove(0);
    soon(longest.data()).await.expect("a byte fits the window").expect("it was sent at once");
    let ended = soon(longest.data()).await.expect("it does not end well").expect_err("it made room");
    assert_eq!(ended.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM));
}
