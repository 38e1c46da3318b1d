//! Whatever an upstream does wrong, in whatever protocol the client speaks: the call ends in the right code before its
//! deadline, and the next one succeeds.

use std::net::SocketAddr;
use std::time::Duration;

use h2::Reason;
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use tungstenite::Message;

use crate::support::backend::act::{self, Step};
use crate::support::backend::pb::{SayReply, SayRequest};
use crate::support::backend::raw::Manner;
use crate::support::backend::scripted::{self, Scripted, Settings};
use crate::support::backend::wire::Wire;
use crate::support::backend::{self, Options};
use crate::support::client::{self, Client, Version};
use crate::support::gateway::{TestGateway, over_endpoints};
use crate::support::grpc::{REPEAT, Raw, SAY, framed, soon};
use crate::support::rpc::{Dialect, Ending, decode_text, dialects};
use crate::support::websocket::Socket;

/// A client's protocol.
#[derive(Debug, Clone, Copy)]
enum Way {
    Rpc(Version, Dialect),
    Rest(Version),
    WebSocket(Version),
}

impl Way {
    /// All that can call a method.
    fn all(path: &'static str) -> Vec<Self> {
        let mut ways = Vec::new();
        for version in Version::BOTH {
            ways.extend(dialects(version, path).map(|dialect| Self::Rpc(version, dialect)));
            ways.push(Self::Rest(version));
            if path == REPEAT {
                ways.push(Self::WebSocket(version));
            }
        }
        ways
    }

    /// Makes a call that may take so long, and returns its code.
    async fn call(self, gateway: SocketAddr, path: &str, millis: u32) -> u32 {
        match self {
            Self::Rpc(version, dialect) => {
                let mut client = Client::connect(gateway, version).await;
                let (name, value) = dialect.timeout(millis);
                let reply = client.send(dialect.request(path, &[(name, &value)], &[json!({})])).await;
                if !is_whole(dialect, &reply.body) {
                    let status =
                        reply.trailers.get("grpc-status").and_then(|status| status.to_str().ok()?.parse().ok());
                    return status.unwrap_or(BROKEN);
                }
                u32::try_from(dialect.read(path, reply).code).expect("a code")
            }
            Self::Rest(version) => {
                let timeout = format!("{millis}m");
                let headers = [
                    ("content-type", "application/json"),
                    ("accept", "application/x-ndjson, application/json"),
                    ("grpc-timeout", &timeout),
                ];
                let mut client = Client::connect(gateway, version).await;
                let reply = client.send(client::request(Method::POST, path, &headers, "{}")).await;
                let last = reply.body.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap_or_default();
                let last: Value = serde_json::from_slice(last).expect("the reply is JSON");
                let error = if reply.status.is_success() { &last["error"]["code"] } else { &last["code"] };
                u32::try_from(error.as_u64().unwrap_or(0)).expect("a code")
            }
            Self::WebSocket(version) => {
                let timeout = format!("{millis}m");
                let mut socket = Socket::open(gateway, version, path, &[("grpc-timeout", &timeout)]).await;
                socket.text("{}").await;
                while let Some(message) = socket.next().await {
                    if let Message::Close(Some(frame)) = message {
                        let code = u16::from(frame.code);
                        return if code == 1000 { 0 } else { u32::from(code) - 4000 };
                    }
                }
                unreachable!("a WebSocket is closed with a code")
            }
        }
    }
}

/// In place of a code: the reply ends inside a message, which no client takes for a success.
const BROKEN: u32 = 1000;

/// Whether the frames of a body are whole.
fn is_whole(dialect: Dialect, body: &[u8]) -> bool {
    if dialect.ending == Ending::Unary {
        return true;
    }
    let decoded = if dialect.text { decode_text(body) } else { body.to_vec() };
    let mut rest = &*decoded;
    while let Some((&[_, a, b, c, d], more)) = rest.split_first_chunk::<5>() {
        let Some((_, more)) = more.split_at_checked(u32::from_be_bytes([a, b, c, d]) as usize) else { return false };
        rest = more;
    }
    rest.is_empty()
}

fn message() -> SayReply {
    SayReply { text: "hi".into(), ..SayReply::default() }
}

/// A fault of a call: what the upstream does, and the code that a client is to see of a unary call and of a stream.
struct Fault {
    name: &'static str,
    steps: Vec<Step>,
    unary: u32,
    stream: u32,
}

fn faults() -> Vec<Fault> {
    let fault = |name, steps, unary, stream| Fault { name, steps, unary, stream };
    let one = Step::Data(framed(&message()));
    let large = "x".repeat(20_000);
    let large =
        [("content-type", "application/grpc"), ("x-a", &large), ("x-b", &large), ("x-c", &large), ("x-d", &large)];
    let late = Step::Sleep(Duration::from_secs(30));
    let good = act::status(0, "");
    vec![
        fault("resets before its head", act::reset(Reason::INTERNAL_ERROR), 13, 13),
        fault("resets in the stream", act::reset_after_message(&message(), Reason::INTERNAL_ERROR), 13, 13),
        fault(
            "says GOAWAY in the middle",
            vec![Step::Read, act::grpc_head(&[]), Step::GoAway, one.clone(), good.clone()],
            0,
            0,
        ),
        fault("aborts its connection", vec![Step::Read, Step::Abort(Reason::INTERNAL_ERROR), Step::Hold], 14, 14),
        fault("dies before its head", vec![Step::Read, Step::Close, Step::Hold], 14, 14),
        fault("dies in the stream", act::close_after_message(&message()), 14, 14),
        fault("never answers", act::hold(), 4, 4),
        fault("is slow", vec![Step::Read, late, act::grpc_head(&[]), one.clone(), good.clone()], 4, 4),
        fault("stops after its head", vec![Step::Read, act::grpc_head(&[]), Step::Hold], 4, 4),
        fault("stops after a message", vec![Step::Read, act::grpc_head(&[]), one.clone(), Step::Hold], 4, 4),
        fault(
            "has too large a head",
            vec![Step::Read, Step::Head(200, act::entries(&large)), one.clone(), good],
            13,
            13,
        ),
        fault("answers with trailers only", act::trailers_only(9, "no"), 9, 9),
        fault("has no trailers", act::no_trailers(&message()), 13, 13),
        fault("has a head alone", act::head_only(), 13, 13),
        fault("has a frame with bad flags", act::raw_body(b"\x09\0\0\0\0"), 13, 13),
        fault("has half a frame", act::cut_frame(), 13, 13),
        fault("has a frame that is too long", act::raw_body(&[0, 255, 255, 255, 255, 1]), 8, 8),
        fault("is a web server", act::text(200, "hello"), 13, 13),
        fault("is a proxy without its server", act::text(502, "bad gateway"), 14, 14),
        fault(
            "has trailers that are too large",
            vec![Step::Read, act::grpc_head(&[]), one, Step::Trailers(trailers(&large))],
            13,
            13,
        ),
    ]
}

fn trailers(large: act::Entries<'_>) -> HeaderMap {
    let mut trailers = act::entries(large.split_first().expect("some").1);
    trailers.extend(act::entries(&[("grpc-status", "0")]));
    trailers
}

/// Time for a call whose upstream is too slow.
const SHORT: u32 = 300;
/// Time for all others: they must not need it.
const LONG: u32 = 4000;

async fn gateway(address: SocketAddr) -> TestGateway {
    over_endpoints(&[address], ", connections: { connect_timeout: 200ms }", "").await
}

#[tokio::test]
async fn faults_of_calls_end_in_the_right_code_in_every_protocol() {
    for path in [SAY, REPEAT] {
        for fault in faults() {
            let expected = if path == SAY { fault.unary } else { fault.stream };
            let ways = Way::all(path);
            let script = ways.iter().flat_map(|_| [fault.steps.clone(), act::reply(&message())]).collect();
            let backend: Scripted = scripted::start(script).await;
            let gateway = gateway(backend.address).await;
            for way in ways {
                let time = if expected == 4 { SHORT } else { LONG };
                let code = soon(way.call(gateway.address, path, time)).await;
                // What passes as it comes cannot be taken back.
                let cut = code == BROKEN && fault.name.starts_with("has half a frame");
                let long = code == BROKEN && fault.name.starts_with("has a frame that is too long");
                assert!(code == expected || cut || long, "{code}, upstream {}, {path} by {way:?}", fault.name);
                let next = soon(way.call(gateway.address, path, LONG)).await;
                assert_eq!(next, 0, "after: upstream {}, {path} by {way:?}", fault.name);
            }
        }
    }
}

#[tokio::test]
async fn faults_of_connections_end_in_the_right_code_in_every_protocol() {
    for manner in [Manner::Silent, Manner::Close, Manner::Http1, Manner::GoAwayBeforeFirst, Manner::Garbage] {
        let expected = if manner == Manner::GoAwayBeforeFirst { 0 } else { 14 };
        for way in Way::all(SAY) {
            let settings = Settings { manners: vec![manner, Manner::Polite], ..Settings::default() };
            let backend = scripted::start_with(settings, vec![act::reply(&message())]).await;
            let gateway = gateway(backend.address).await;

            let code = soon(way.call(gateway.address, SAY, LONG)).await;
            assert_eq!(code, expected, "{manner:?} by {way:?}");
            // Who could not be reached is left alone for a moment.
            soon(async { while way.call(gateway.address, SAY, LONG).await != 0 {} }).await;
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_refuses_connections_is_reached_as_soon_as_it_listens() {
    for way in Way::all(SAY) {
        let address = { backend::start().await.address };
        let gateway = gateway(address).await;
        assert_eq!(soon(way.call(gateway.address, SAY, LONG)).await, 14, "{way:?}");

        let _backend = backend::start_with(Options { address, ..Options::default() }).await;
        soon(async { while way.call(gateway.address, SAY, LONG).await != 0 {} }).await;
    }
}

#[tokio::test]
async fn a_peer_that_vanished_costs_the_calls_that_it_has_and_no_more() {
    let backend = backend::start().await;
    for way in Way::all(SAY) {
        let wire = Wire::to(backend.address).await;
        let gateway = gateway(wire.address).await;
        assert_eq!(soon(way.call(gateway.address, SAY, LONG)).await, 0);

        wire.cut();
        assert_eq!(soon(way.call(gateway.address, SAY, SHORT)).await, 4, "{way:?}");
        assert_eq!(soon(way.call(gateway.address, SAY, LONG)).await, 0, "{way:?}");
        assert_eq!(wire.connections(), 2);
    }
}

#[tokio::test]
async fn a_peer_that_vanished_ends_the_calls_that_wait_for_it_once_it_is_doubted() {
    let backend = backend::start().await;
    let wire = Wire::to(backend.address).await;
    let gateway = gateway(wire.address).await;
    let mut client = Raw::connect(gateway.address).await;
    let request = || framed(&SayRequest::default());
    assert_eq!(soon(client.call(SAY, &[], request())).await.code(), 0);
    wire.cut();

    let mut patient = client.clone();
    let patient = tokio::spawn(async move { patient.call(SAY, &[("grpc-timeout", "1M")], request()).await });
    assert_eq!(soon(client.call(SAY, &[("grpc-timeout", "200m")], request())).await.code(), 4);

    assert_eq!(soon(patient).await.expect("no panic").code(), 14);
}
