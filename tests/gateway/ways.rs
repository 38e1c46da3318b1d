//! Each kind of method, each way to call it, and each way in which a call can go.
//!
//! A test is one column of the matrix: a behaviour, for all kinds and all ways. What is particular to a protocol stands in
//! the tests of that.
#![allow(clippy::print_stdout, reason = "what was measured is for docs/performance.md")]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::backend::act::Step;
use crate::support::backend::{self, Backend, Options, act, scripted};
use crate::support::client::Version;
use crate::support::gateway::TestGateway;
use crate::support::grpc::{CONVERSE, REPEAT, Raw, soon};
use crate::support::rest::answered;
use crate::support::ways::{Call, Kind, Way};

async fn start() -> (Backend, TestGateway) {
    let backend = backend::start().await;
    let gateway = over(backend.address, "").await;
    (backend, gateway)
}

/// One worker, so that all calls share one connection; these limits on messages.
async fn over(backend: SocketAddr, limits: &str) -> TestGateway {
    let set = concat!(env!("OUT_DIR"), "/test/echo.binpb");
    let gateway = TestGateway::start(&format!(
        "workers: 1\nupstreams: [ {{ name: echo, endpoints: [\"{backend}\"], schema: {{ descriptor_set: \"{set}\" }} }} ]\npolicies: [ {{ match: \"*\", limits: {{ {limits} }} }} ]\n",
    ))
    .await;
    gateway.ready().await;
    gateway
}

fn ways() -> impl Iterator<Item = Way> {
    Kind::ALL.into_iter().flat_map(Way::all)
}

fn say(text: &str, behaviour: &Value) -> Value {
    json!({"text": text, "behaviour": behaviour})
}

/// Begins a call with this message, which is the only one.
async fn only(gateway: &TestGateway, way: Way, message: &Value) -> Call {
    let mut call = way.begin(gateway.address, None, Some(message)).await;
    call.finish().await;
    call
}

#[tokio::test]
async fn every_way_succeeds() {
    let (backend, gateway) = start().await;
    for (way, calls) in ways().zip(1..) {
        let mut call = way.begin(gateway.address, None, Some(&say("a", &json!({"count": 3})))).await;
        if way.kind.streams_requests() {
            call.send(&say("b", &json!({}))).await;
        }
        call.finish().await;
        let told = soon(call.end()).await;

        let expected = match way.kind {
            Kind::Unary => &["a"][..],
            Kind::ServerStream => &["a", "a", "a"],
            Kind::ClientStream | Kind::Bidi => &["a", "b"],
        };
        assert_eq!((told.code, told.texts()), (Some(0), expected.to_vec()), "{way:?}: {told:?}");
        backend.tally.until(|counts| counts.finished == calls).await;
    }
}

#[tokio::test]
async fn every_way_reads_what_an_upstream_compresses_unasked() {
    let backend = backend::start_with(Options { gzip_unasked: true, ..Options::default() }).await;
    let gateway = TestGateway::over(backend.address).await;
    for way in ways() {
        let told = soon(only(&gateway, way, &say("a", &json!({}))).await.end()).await;

        assert_eq!((told.code, told.texts()), (Some(0), vec!["a"]), "{way:?}: {told:?}");
    }
}

#[tokio::test]
async fn an_error_before_the_first_message_has_its_code() {
    let (_backend, gateway) = start().await;
    for way in ways() {
        let failing = say("a", &json!({"failure": {"code": 9, "message": "not now"}}));

        let told = soon(only(&gateway, way, &failing).await.end()).await;

        assert_eq!((told.code, told.messages.len()), (Some(9), 0), "{way:?}: {told:?}");
    }
}

#[tokio::test]
async fn an_error_in_mid_stream_comes_behind_all_messages() {
    let (_backend, gateway) = start().await;
    for way in ways().filter(|way| way.kind.streams_replies()) {
        let failure = json!({"code": 9, "message": "not now"});
        let mut call = way.begin(gateway.address, None, None).await;
        if way.kind == Kind::Bidi {
            call.send(&say("a", &json!({}))).await;
            call.send(&say("a", &json!({}))).await;
        }
        call.send(&say("a", &json!({"count": 2, "failure": failure}))).await;
        call.finish().await;

        let told = soon(call.end()).await;

        assert_eq!((told.code, told.texts()), (Some(9), vec!["a", "a"]), "{way:?}: {told:?}");
    }
}

#[tokio::test]
async fn a_deadline_ends_the_call_on_both_sides() {
    let (backend, gateway) = start().await;
    let mut calls = JoinSet::new();
    for way in ways() {
        let address = gateway.address;
        calls.spawn(async move {
            let stalling = say("a", &json!({"count": 1, "stall": true}));
            // Long enough for the messages before it on a machine that is busy.
            let mut call = way.begin(address, Some(1500), Some(&stalling)).await;
            if !way.kind.streams_requests() {
                call.finish().await;
            }

            let told = soon(call.end()).await;

            let before = usize::from(way.kind == Kind::ServerStream);
            assert_eq!((told.code, told.messages.len()), (Some(4), before), "{way:?}: {told:?}");
        });
    }
    let count = calls.len();
    calls.join_all().await;
    backend.tally.until(|counts| counts.cancelled == count).await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_call_at_once() {
    let (backend, gateway) = start().await;
    let mut took = Vec::new();
    for (way, calls) in ways().zip(1..) {
        let stalling = say("a", &json!({"count": 1, "stall": true}));
        let mut call = way.begin(gateway.address, None, Some(&stalling)).await;
        if !way.kind.streams_requests() {
            call.finish().await;
        }
        backend.tally.until(|counts| counts.started == calls).await;

        call.leave();

        let left = Instant::now();
        // The service may take a reset for the end of the messages.
        backend.tally.until(|counts| counts.cancelled + counts.finished == calls).await;
        assert!(left.elapsed() < Duration::from_secs(10), "{way:?}: {:?}", left.elapsed());
        took.push(left.elapsed());
    }
    took.sort_unstable();
    println!(
        "seen by the backend after {:?} in the median, {:?} at the most",
        took[took.len() / 2],
        took[took.len() - 1]
    );
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    let backend = backend::start().await;
    let gateway = over(backend.address, "request_message: 2KiB").await;
    for way in ways() {
        let mut call = way.begin(gateway.address, None, Some(&say(&"x".repeat(3000), &json!({})))).await;
        call.finish().await;

        let told = soon(call.end()).await;

        assert_eq!((told.code, told.messages.len()), (Some(8), 0), "{way:?}: {told:?}");
    }
    assert_eq!(backend.tally.counts().received, 0);
}

#[tokio::test]
async fn a_reply_over_the_limit_is_an_error() {
    let backend = backend::start().await;
    let gateway = over(backend.address, "response_message: 2KiB").await;
    for way in ways() {
        let large = say(&"x".repeat(3000), &json!({}));

        let told = soon(only(&gateway, way, &large).await.end()).await;

        assert_eq!((told.code, told.messages.len()), (Some(8), 0), "{way:?}: {told:?}");
    }
}

#[tokio::test]
async fn slow_writers_are_heard_message_by_message() {
    let (backend, gateway) = start().await;
    let mut received = 0;
    for way in ways().filter(|way| !way.is_get()) {
        let mut call = way.begin(gateway.address, None, None).await;
        for text in ["a", "b", "c"] {
            call.drip(&say(text, &json!({}))).await;
            if !way.kind.streams_requests() {
                break;
            }
            received += 1;
            backend.tally.until(|counts| counts.received == received).await;
        }
        call.finish().await;

        let told = soon(call.end()).await;

        let expected = if way.kind.streams_requests() { &["a", "b", "c"][..] } else { &["a"] };
        assert_eq!((told.code, told.texts()), (Some(0), expected.to_vec()), "{way:?}: {told:?}");
    }
}

#[tokio::test]
async fn slow_readers_hold_the_backend_back_lose_nothing_and_slow_nobody() {
    const MESSAGES: usize = 24;
    let (backend, gateway) = start().await;
    // Half duplex as HTTP/1.1 is, both directions at once are tried over HTTP/2.
    let ways = ways().filter(|way| way.kind.streams_replies());
    for way in ways.filter(|way| way.kind == Kind::ServerStream || way.version == Version::Http2) {
        let before = backend.tally.counts().sent;
        let large = json!({"payloadBytes": 256 << 10});
        let mut call = way.begin(gateway.address, None, None).await;
        if way.kind == Kind::Bidi {
            for _ in 0..MESSAGES {
                call.send(&say("a", &large)).await;
            }
        } else {
            call.send(&say("a", &json!({"payloadBytes": 256 << 10, "count": MESSAGES}))).await;
        }
        call.finish().await;

        // Nobody reads: what the backend gets rid of is what windows and buffers take.
        let sent = settled(&backend).await - before;
        assert!(sent < MESSAGES, "{way:?}: {sent} messages were sent");
        soon(answered(&gateway, &[("GET /test/v1/text/other", "", json!("other"))])).await;

        let told = patient(call.end()).await;
        assert_eq!((told.code, told.texts().len()), (Some(0), MESSAGES), "{way:?}");
    }
}

/// Bounds what is much.
async fn patient<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it does not take half a minute")
}

/// The backend's count of sent messages when it has not changed for a while.
async fn settled(backend: &Backend) -> usize {
    let mut sent = backend.tally.counts().sent;
    loop {
        let more = backend.tally.until(|counts| counts.sent > sent);
        match tokio::time::timeout(Duration::from_millis(200), more).await {
            Ok(counts) => sent = counts.sent,
            Err(_) => return sent,
        }
    }
}

#[tokio::test]
async fn small_messages_that_nobody_reads_slow_no_other_call() {
    const MESSAGES: usize = 1500;
    let message = act::framed(b"\x0a\x01a");
    let mut steps = vec![Step::Read, act::grpc_head(&[])];
    // A DATA frame for each, of which h2 lets a connection have only so many that are not read.
    steps.extend(std::iter::repeat_n(Step::Data(message), MESSAGES));
    steps.push(act::status(0, ""));
    let backend = scripted::start(vec![steps]).await;
    let gateway = over(backend.address, "").await;
    let mut stalled = Vec::new();
    for way in Way::all(Kind::ServerStream) {
        stalled.push((way, only(&gateway, way, &say("a", &json!({}))).await));
    }

    let mut client = Raw::connect(gateway.address).await;
    let answer = soon(client.call(REPEAT, &[], Bytes::from_static(&[0; 5]))).await;
    assert_eq!((answer.code(), answer.body.len()), (0, MESSAGES * 8));

    for (way, call) in stalled {
        let told = patient(call.end()).await;
        assert_eq!((told.code, told.texts().len()), (Some(0), MESSAGES), "{way:?}");
    }
}

#[tokio::test]
async fn small_requests_that_nobody_reads_break_no_other_call() {
    let (backend, gateway) = start().await;
    let mut bystander = Raw::connect(gateway.address).await.begin(CONVERSE, &[], false).await;
    let ping = act::framed(b"\x0a\x01a");
    bystander.send(ping.clone(), false);
    let (_, mut replies, mut pings) = bystander.head().await.expect("the gateway answers");
    for (way, calls) in Way::all(Kind::ClientStream).into_iter().zip(1..) {
        let mut call = way.begin(gateway.address, None, None).await;
        call.send(&say("a", &json!({"stopReading": true, "stall": true}))).await;
        backend.tally.until(|counts| counts.started == calls + 1).await;

        for _ in 0..3000 {
            call.send(&json!({"text": "b"})).await;
        }

        for _ in 0..50 {
            let Some(reply) = soon(replies.data()).await else {
                let trailers = replies.trailers().await;
                assert!(trailers.is_err(), "the other call ended beside {way:?}: {trailers:?}");
                return;
            };
            let length = reply.expect("the other call goes on").len();
            replies.flow_control().release_capacity(length).expect("it was taken");
            pings.send_data(ping.clone(), false).expect("the stream is open");
        }
        assert_eq!(backend.tally.counts().cancelled + 1, calls, "{way:?}");
        call.leave();
        backend.tally.until(|counts| counts.cancelled == calls).await;
    }
}
