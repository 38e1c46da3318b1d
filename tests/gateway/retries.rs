//! Calls that are sent again, or to two endpoints: when, how often, and when not.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use crate::support::backend::act::{self, Step};
use crate::support::backend::pb::{SayReply, SayRequest};
use crate::support::backend::scripted::{self, Scripted};
use crate::support::client::Version;
use crate::support::gateway::{TestGateway, over_endpoints};
use crate::support::grpc::{COLLECT, REPEAT, Raw, SAY, framed, soon};

fn message() -> SayReply {
    SayReply { text: "hi".into(), ..SayReply::default() }
}

/// A gateway whose calls have that policy.
async fn over(endpoints: &[SocketAddr], policy: &str) -> (TestGateway, Raw) {
    let file = format!("policies: [ {{ match: \"*\", {policy} }} ]");
    let gateway = over_endpoints(endpoints, ", load_balancing: { policy: round_robin }", &file).await;
    let client = Raw::connect(gateway.address).await;
    (gateway, client)
}

/// A backend that does this with its first call and answers all others.
async fn once(steps: Vec<Step>) -> Scripted {
    scripted::start(vec![steps, act::reply(&message())]).await
}

/// A call that fails as often as it is made.
async fn always(steps: Vec<Step>) -> Scripted {
    scripted::start(vec![steps]).await
}

const RETRY: &str = "retry: { retries: 2, on: [unavailable, aborted], backoff: { base: 5ms, max: 20ms } }";

#[tokio::test]
async fn codes_in_head_or_trailers_lead_to_another_attempt_before_any_message() {
    let unavailable = || act::status(14, "later");
    let message_first = vec![Step::Read, act::grpc_head(&[]), Step::Data(framed(&message())), unavailable()];
    let cases = [
        (act::trailers_only(14, ""), true),
        (act::trailers_only(10, ""), true),
        (act::fails(14, ""), true),
        (act::text(503, "down"), true),
        (act::text(429, "slow"), true),
        (vec![Step::Read, Step::Close, Step::Hold], true),
        (vec![Step::Read, act::grpc_head(&[]), Step::Close, Step::Hold], true),
        // Of a unary call nothing went to the client before its status.
        (message_first, true),
        (act::trailers_only(13, ""), false),
        (act::trailers_only(5, ""), false),
        (act::text(500, "oh"), false),
        (act::no_trailers(&message()), false),
        (act::reset(h2::Reason::INTERNAL_ERROR), false),
    ];
    for (number, (steps, again)) in cases.into_iter().enumerate() {
        let backend = once(steps.clone()).await;
        let (gateway, mut client) = over(&[backend.address], RETRY).await;
        let answer = soon(client.call(SAY, &[], framed(&SayRequest::default()))).await;
        assert_eq!((answer.code() == 0, backend.calls().len() == 2), (again, again), "case {number}: {answer:?}");
        let retried = gateway.metric("portico_upstream_retries_total").await;
        assert_eq!(retried, f64::from(u8::from(again)), "case {number}");

        let backend = once(steps).await;
        let (gateway, _) = over(&[backend.address], RETRY).await;
        let answer = gateway.client(Version::Http1).await.json(Method::POST, "/test/v1/say", "{}").await;
        assert_eq!(answer.status.is_success(), again, "case {number} over REST: {answer:?}");
    }
}

#[tokio::test]
async fn nothing_is_sent_again_without_a_policy() {
    for steps in [act::trailers_only(14, ""), act::fails(14, ""), vec![Step::Read, Step::Close, Step::Hold]] {
        let backend = once(steps).await;
        let (_gateway, mut client) = over(&[backend.address], "timeout: { unary: 3s }").await;

        let answer = soon(client.call(SAY, &[], framed(&SayRequest::default()))).await;

        assert_eq!((answer.code(), backend.calls().len()), (14, 1), "{answer:?}");
    }
}

#[tokio::test]
async fn a_stream_is_sent_again_only_before_its_first_message() {
    let early = vec![Step::Read, act::grpc_head(&[]), act::status(14, "")];
    let late = vec![Step::Read, act::grpc_head(&[]), Step::Data(framed(&message())), act::status(14, "")];
    for (steps, code, calls) in [(early, 0, 2), (late, 14, 1)] {
        let backend = once(steps).await;
        let (_gateway, mut client) = over(&[backend.address], RETRY).await;

        let answer = soon(client.call(REPEAT, &[], framed(&SayRequest::default()))).await;

        assert_eq!((answer.code(), backend.calls().len()), (code, calls), "{answer:?}");
        assert_eq!(answer.messages::<SayReply>().len(), 1);
    }
}

#[tokio::test]
async fn the_head_of_a_quiet_stream_is_not_held_back_for_long() {
    let quiet = vec![Step::Read, act::grpc_head(&[("x-early", "1")]), Step::Hold];
    let backend = always(quiet).await;
    let (_gateway, mut client) = over(&[backend.address], RETRY).await;

    let mut call = client.begin(REPEAT, &[], false).await;
    call.message(&SayRequest::default(), true);
    let (head, _body, _request) = call.head().await.expect("a head");

    assert_eq!(head.headers["x-early"], "1");
}

#[tokio::test]
async fn attempts_end_with_the_policy_and_are_told_to_the_upstream() {
    let backend = always(act::fails(14, "the last word")).await;
    let (_gateway, mut client) = over(&[backend.address], RETRY).await;

    let headers = [("grpc-previous-rpc-attempts", "1"), ("grpc-timeout", "5S"), ("x-mine", "a")];
    let answer =
        soon(client.call(SAY, &headers, framed(&SayRequest { text: "q".into(), ..SayRequest::default() }))).await;

    assert_eq!((answer.code(), answer.message().as_str()), (14, "the last word"));
    let calls = backend.calls();
    let told: Vec<_> =
        calls.iter().map(|call| call.seen.headers["grpc-previous-rpc-attempts"].to_str().expect("text")).collect();
    assert_eq!(told, ["1", "2", "3"]);
    assert!(calls.iter().all(|call| call.body == calls[0].body && call.seen.headers["x-mine"] == "a"));
    let left = |call: &scripted::Recorded| {
        let text = call.seen.headers["grpc-timeout"].to_str().expect("text").to_owned();
        let (digits, unit) = text.split_at(text.len() - 1);
        let factor = match unit {
            "S" => 1_000_000,
            "m" => 1000,
            "u" => 1,
            unit => panic!("unit {unit}"),
        };
        digits.parse::<u64>().expect("digits") * factor
    };
    assert!(left(&calls[2]) < left(&calls[0]), "each is told the time that is left");
}

#[tokio::test]
async fn what_a_server_says_of_retries_is_honoured() {
    let pushback = |value: &'static str| {
        let trailers = [("grpc-status", "14"), ("grpc-retry-pushback-ms", value)];
        vec![Step::Read, act::grpc_head(&[]), Step::Trailers(act::entries(&trailers))]
    };
    for never in ["-1", "soon"] {
        let backend = once(pushback(never)).await;
        let (_gateway, mut client) = over(&[backend.address], RETRY).await;
        let answer = soon(client.call(SAY, &[], framed(&SayRequest::default()))).await;
        assert_eq!((answer.code(), backend.calls().len()), (14, 1));
    }
    let backend = once(pushback("150")).await;
    let (_gateway, mut client) = over(&[backend.address], RETRY).await;

    let begun = Instant::now();
    let answer = soon(client.call(SAY, &[], framed(&SayRequest::default()))).await;

    assert_eq!((answer.code(), backend.calls().len()), (0, 2));
    assert!(begun.elapsed() >= Duration::from_millis(150));
    let late = soon(client.call(SAY, &[("grpc-timeout", "50m")], framed(&SayRequest::default()))).await;
    assert_eq!(late.code(), 0);

    let backend = once(pushback("60000")).await;
    let (_gateway, mut client) = over(&[backend.address], RETRY).await;
    let answer = soon(client.call(SAY, &[("grpc-timeout", "1S")], framed(&SayRequest::default()))).await;
    assert_eq!((answer.code(), backend.calls().len()), (14, 1), "who would come too late does not wait");
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_makes_way_for_another() {
    let silent = always(act::hold()).await;
    let headed = always(vec![Step::Read, act::grpc_head(&[]), Step::Hold]).await;
    let policy = "retry: { retries: 1, per_try_timeout: 80ms }";
    for slow in [silent, headed] {
        let quick = always(act::reply(&message())).await;
        let (_gateway, mut client) = over(&[slow.address, quick.address], policy).await;
        for _ in 0..2 {
            let answer = soon(client.call(SAY, &[], framed(&SayRequest::default()))).await;
            assert_eq!(answer.code(), 0, "{answer:?}");
        }
        assert_eq!((slow.calls().len(), quick.calls().len()), (1, 2));
        slow.tally.until(|counts| counts.cancelled == 1).await;
    }
    let silent = always(act::hold()).await;
    let (_gateway, mut client) = over(&[silent.address], policy).await;
    let answer = soon(client.call(SAY, &[("grpc-timeout", "300m")], framed(&SayRequest::default()))).await;
    assert_eq!((answer.code(), silent.calls().len()), (4, 2), "the last attempt has the rest of the deadline");
}

#[tokio::test]
async fn requests_are_sent_again_as_far_as_they_were_kept() {
    let request = |bytes: usize| framed(&SayRequest { text: "q".repeat(bytes), ..SayRequest::default() });
    let policy = "retry: { retries: 1, buffer: 200KiB }";
    for (path, bytes, calls) in [(SAY, 190_000, 2), (SAY, 250_000, 1), (COLLECT, 1000, 2)] {
        let backend = once(act::fails(14, "")).await;
        let (_gateway, mut client) = over(&[backend.address], policy).await;

        let answer = soon(client.call(path, &[], request(bytes))).await;

        assert_eq!((answer.code() == 0, backend.calls().len()), (calls == 2, calls), "{path} {bytes}");
        assert!(backend.calls().iter().all(|call| call.body == request(bytes)));
    }
}

#[tokio::test]
async fn an_upstream_that_fails_every_call_gets_a_fifth_more_and_no_more() {
    let failing = [act::fails(14, ""), act::refuse(), act::text(503, "down")];
    for steps in failing {
        let backend = always(steps).await;
        let policy = "retry: { retries: 3, on: [unavailable], backoff: { base: 1ms, max: 1ms } }";
        let (gateway, client) = over(&[backend.address], policy).await;

        let begun = Instant::now();
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let mut client = client.clone();
            calls.spawn(async move {
                for _ in 0..150 {
                    let answer = soon(client.call(SAY, &[], framed(&SayRequest::default()))).await;
                    assert_eq!(answer.code(), 14);
                }
            });
        }
        calls.join_all().await;

        let seen = backend.calls().len() as u64;
        // On a slow machine: of refused streams every ten seconds have a hundred to themselves.
        let most = 1440 + 100 * (begun.elapsed().as_secs() / 10);
        assert!((1200..=most).contains(&seen), "{seen} attempts of 1200 calls");
        assert!(gateway.metric("portico_upstream_refused_total{upstream=\"echo\",limit=\"retry_budget\"}").await > 0.0);
    }
}

#[tokio::test]
async fn a_call_goes_to_a_second_endpoint_when_the_first_one_is_slow() {
    let (slow, quick) = (always(act::hold()).await, always(act::reply(&message())).await);
    let (gateway, mut client) = over(&[slow.address, quick.address], "hedge: { delay: 30ms }").await;

    for _ in 0..4 {
        let answer = soon(client.call(SAY, &[("grpc-timeout", "3S")], framed(&SayRequest::default()))).await;
        assert_eq!((answer.code(), answer.messages::<SayReply>().len()), (0, 1), "{answer:?}");
    }
    let rest = gateway.client(Version::Http1).await.json(Method::POST, "/test/v1/say", "{}").await;
    assert_eq!(rest.status.as_u16(), 200);

    assert_eq!(quick.calls().len(), 5);
    let begun = slow.calls().len();
    assert!(begun >= 2, "{begun}");
    slow.tally.until(|counts| counts.cancelled == begun).await;
    let hedges = gateway.metric("portico_upstream_hedges_total").await;
    assert!((2.0..=5.0).contains(&hedges), "{hedges}");
}

#[tokio::test]
async fn a_hedged_call_ends_by_a_code_that_another_attempt_would_not_change() {
    for (steps, code, calls) in [(act::fails(14, ""), 0, 2), (act::fails(5, "none"), 5, 1)] {
        let backend = once(steps).await;
        let (_gateway, mut client) = over(&[backend.address], "hedge: { delay: 1m }").await;

        let answer = soon(client.call(SAY, &[], framed(&SayRequest::default()))).await;

        assert_eq!((answer.code(), backend.calls().len()), (code, calls), "{answer:?}");
    }
    let backend = always(act::fails(14, "down")).await;
    let (_gateway, mut client) = over(&[backend.address], "hedge: { attempts: 3, delay: 1m }").await;
    let answer = soon(client.call(SAY, &[], framed(&SayRequest::default()))).await;
    assert_eq!((answer.code(), answer.message().as_str(), backend.calls().len()), (14, "down", 3));
}

#[tokio::test]
async fn a_hedged_call_has_no_retries_beside_its_attempts() {
    let backend = always(act::fails(14, "down")).await;
    let policy = format!("{RETRY}, hedge: {{ attempts: 2, delay: 1m }}");
    let (_gateway, mut client) = over(&[backend.address], &policy).await;

    let answer = soon(client.call(SAY, &[], framed(&SayRequest::default()))).await;

    assert_eq!((answer.code(), backend.calls().len()), (14, 2), "{answer:?}");
}

#[tokio::test]
async fn the_time_of_an_attempt_begins_when_its_request_was_sent() {
    let backend = scripted::start(vec![act::reply(&message()), act::hold(), act::reply(&message())]).await;
    let (_gateway, mut client) = over(&[backend.address], "retry: { retries: 1, per_try_timeout: 50ms }").await;
    let request = framed(&SayRequest { text: "q".repeat(1000), ..SayRequest::default() });

    let mut call = client.begin(SAY, &[], false).await;
    call.send(request.slice(..500), false);
    backend.tally.until(|counts| counts.started == 1).await;
    // Its first attempt takes too long.
    let meanwhile = soon(client.call(SAY, &[], request.clone())).await;
    assert_eq!((meanwhile.code(), backend.calls().len()), (0, 3));
    call.send(request.slice(500..), true);
    let answer = soon(call.answer()).await.expect("a reply");

    assert_eq!((answer.code(), backend.calls().len()), (0, 3), "{answer:?}");
}

#[tokio::test]
async fn only_methods_that_may_be_called_twice_are_hedged() {
    const PLAIN: &str = "/portico.test.v1.Echo/Plain";
    for (path, policy, calls) in [
        (PLAIN, "hedge: { delay: 20ms }", 1),
        (PLAIN, "hedge: { delay: 20ms, assume_idempotent: true }", 2),
        (REPEAT, "hedge: { delay: 20ms, assume_idempotent: true }", 1),
    ] {
        let (one, other) = (always(act::hold()).await, always(act::hold()).await);
        let (_gateway, mut client) = over(&[one.address, other.address], policy).await;

        let answer = soon(client.call(path, &[("grpc-timeout", "300m")], framed(&SayRequest::default()))).await;

        assert_eq!((answer.code(), one.calls().len() + other.calls().len()), (4, calls), "{path} {policy}");
    }
}
