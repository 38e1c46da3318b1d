//! What the gateway makes of upstreams: good ones, bad ones, several ones, and none.

use std::net::SocketAddr;
use std::time::Duration;

use h2::Reason;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::support::backend::act::{self, Step};
use crate::support::backend::pb::{Behaviour, SayReply, SayRequest};
use crate::support::backend::raw::Manner;
use crate::support::backend::scripted::{self, Scripted, Settings};
use crate::support::backend::{self, Options};
use crate::support::frames;
use crate::support::gateway::{TestGateway, over_endpoints};
use crate::support::grpc::{Answer, REPEAT, Raw, RawCall, SAY, framed, rest, soon};

fn message() -> SayReply {
    SayReply { text: "hi".into(), ..SayReply::default() }
}

fn stalled() -> bytes::Bytes {
    let behaviour = Behaviour { stall: true, ..Behaviour::default() };
    framed(&SayRequest { behaviour: Some(behaviour), ..SayRequest::default() })
}

/// A gateway with one worker in front of these endpoints, whose schema comes from a file.
async fn over(endpoints: &[SocketAddr], more: &str) -> (TestGateway, Raw) {
    let gateway = over_endpoints(endpoints, more, "").await;
    let client = Raw::connect(gateway.address).await;
    (gateway, client)
}

async fn say(client: &mut Raw) -> Answer {
    soon(client.call(SAY, &[], framed(&SayRequest::default()))).await
}

/// For tests that count which endpoint had how many calls.
const IN_TURN: &str = ", load_balancing: { policy: round_robin }";

/// An address where nothing listens.
async fn nowhere() -> SocketAddr {
    backend::start().await.address
}

#[tokio::test]
async fn replies_that_are_not_grpc_become_statuses_that_say_so() {
    let two = [framed(&message()), framed(&message())].concat();
    let json = vec![Step::Read, Step::HeadAndEnd(200, act::entries(&[("content-type", "application/json")]))];
    let bare = vec![Step::Read, Step::HeadAndEnd(200, http::HeaderMap::new())];
    let odd = vec![Step::Read, act::grpc_head(&[]), Step::Trailers(act::entries(&[("grpc-status", "fine")]))];
    let cases = [
        (act::text(503, "down"), 14, "503"),
        (act::text(502, "bad"), 14, "502"),
        (act::text(429, "slow"), 14, "429"),
        (act::text(401, "who"), 16, "401"),
        (act::text(403, "no"), 7, "403"),
        (act::text(404, "where"), 12, "404"),
        (act::text(400, "what"), 13, "400"),
        (act::text(500, "oh"), 2, "500"),
        (act::text(200, "hello"), 13, "text/plain"),
        (json, 13, "application/json"),
        (bare, 13, "no content type"),
        (odd, 13, "unreadable grpc-status"),
        (act::head_only(), 13, "without a grpc-status"),
        (act::no_trailers(&message()), 13, "without a grpc-status"),
        (act::cut_frame(), 13, "inside a message"),
        (act::raw_body(b"\x09\0\0\0\0"), 13, "compression flag 9"),
        (act::raw_body(&two), 13, "more than one reply"),
        (act::raw_body(b""), 13, "no reply"),
        (act::trailers_only(0, ""), 13, "no reply"),
    ];
    let backend = scripted::start(cases.iter().map(|(steps, _, _)| steps.clone()).collect()).await;
    let (_gateway, mut client) = over(&[backend.address], "").await;

    for (number, (_, code, words)) in cases.iter().enumerate() {
        let answer = say(&mut client).await;

        assert_eq!(answer.code(), *code, "case {number}: {answer:?}");
        assert!(answer.message().contains(words), "case {number}: {} without {words}", answer.message());
        assert_eq!(answer.status, 200);
    }
    assert_eq!(backend.tally.counts().connections, 1);
}

#[tokio::test]
async fn resets_become_the_codes_that_grpc_gives_them() {
    let table = [
        (Reason::NO_ERROR, 13),
        (Reason::PROTOCOL_ERROR, 13),
        (Reason::INTERNAL_ERROR, 13),
        (Reason::FLOW_CONTROL_ERROR, 13),
        (Reason::STREAM_CLOSED, 13),
        (Reason::FRAME_SIZE_ERROR, 13),
        (Reason::CANCEL, 1),
        (Reason::COMPRESSION_ERROR, 13),
        (Reason::CONNECT_ERROR, 13),
        (Reason::ENHANCE_YOUR_CALM, 8),
        (Reason::INADEQUATE_SECURITY, 7),
    ];
    let early = table.iter().map(|(reason, _)| act::reset(*reason));
    let late = table.iter().map(|(reason, _)| act::reset_after_message(&message(), *reason));
    let backend = scripted::start(early.chain(late).collect()).await;
    let (_gateway, mut client) = over(&[backend.address], "").await;

    for (reason, code) in table {
        let answer = say(&mut client).await;
        assert_eq!((answer.code(), answer.body.len()), (code, 0), "{reason:?} {answer:?}");
    }
    for (reason, code) in table {
        let answer = soon(client.call(REPEAT, &[], framed(&SayRequest::default()))).await;
        assert_eq!(answer.code(), code, "{reason:?} {answer:?}");
    }
    assert_eq!(backend.calls().len(), 2 * table.len(), "none of these may be sent again");
}

#[tokio::test]
async fn calls_that_are_given_up_are_reset_as_cancelled() {
    let backend = scripted::start(vec![act::hold()]).await;
    let (_gateway, mut client) = over(&[backend.address], "").await;

    let late = client.call(SAY, &[("grpc-timeout", "50m")], framed(&SayRequest::default())).await;
    let mut gone = client.begin(REPEAT, &[], false).await;
    gone.message(&SayRequest::default(), true);
    backend.tally.until(|counts| counts.started == 2).await;
    drop(gone);
    backend.tally.until(|counts| counts.cancelled == 2).await;

    assert_eq!(late.code(), 4);
    let resets: Vec<_> = backend.calls().into_iter().map(|call| call.reset).collect();
    assert_eq!(resets, [Some(Reason::CANCEL), Some(Reason::CANCEL)]);
}

#[tokio::test]
async fn refused_streams_are_sent_again_whole() {
    let refused = vec![Step::Read, Step::Reset(Reason::REFUSED_STREAM)];
    let backend = scripted::start(vec![act::refuse(), refused, act::reply(&message())]).await;
    let (_gateway, mut client) = over(&[backend.address], "").await;
    let request = framed(&SayRequest { text: "q".repeat(30_000), ..SayRequest::default() });

    let answer = client.call(SAY, &[("x-mine", "1")], request.clone()).await;

    assert_eq!(answer.code(), 0, "{answer:?}");
    let calls = backend.calls();
    assert_eq!(calls.len(), 3);
    assert!(calls[1].body == request && calls[2].body == request);
    assert_eq!(calls[2].seen.headers["x-mine"], "1");
}

#[tokio::test]
async fn streams_that_are_refused_each_time_fail_after_three_attempts() {
    let backend = scripted::start(vec![act::refuse()]).await;
    let (_gateway, mut client) = over(&[backend.address], "").await;

    let answer = say(&mut client).await;

    assert_eq!((answer.code(), backend.calls().len()), (14, 3), "{answer:?}");
}

#[tokio::test]
async fn refused_streams_go_to_another_endpoint() {
    let grumpy = scripted::start(vec![act::refuse()]).await;
    let kind = scripted::start(vec![act::reply(&message())]).await;
    let (_gateway, mut client) = over(&[grumpy.address, kind.address], IN_TURN).await;

    for _ in 0..6 {
        assert_eq!(say(&mut client).await.code(), 0);
    }

    assert_eq!(kind.calls().len(), 6);
    assert_eq!(grumpy.calls().len(), 3, "every other call starts there");
}

#[tokio::test]
async fn requests_too_long_to_remember_are_not_sent_again() {
    let refused = vec![Step::Read, Step::Reset(Reason::REFUSED_STREAM)];
    let backend = scripted::start(vec![refused, act::reply(&message())]).await;
    let (_gateway, mut client) = over(&[backend.address], "").await;
    let request = framed(&SayRequest { text: "q".repeat(300_000), ..SayRequest::default() });

    let answer = client.call(SAY, &[], request).await;

    assert_eq!((answer.code(), backend.calls().len()), (14, 1), "{answer:?}");
}

#[tokio::test]
async fn goaway_before_a_call_sends_it_over_another_connection() {
    let manners = vec![Manner::GoAwayBeforeFirst, Manner::Polite];
    let backend = scripted::start_with(Settings { manners, ..Settings::default() }, vec![act::reply(&message())]).await;
    let (_gateway, mut client) = over(&[backend.address], "").await;

    let answer = say(&mut client).await;

    assert_eq!(answer.code(), 0, "{answer:?}");
    assert_eq!((backend.calls().len(), backend.tally.counts().connections), (1, 2));
}

#[tokio::test]
async fn goaway_in_the_middle_lets_the_stream_finish_and_moves_the_next_call() {
    let data = Step::Data(framed(&message()));
    let drains = vec![
        Step::Read,
        act::grpc_head(&[]),
        data.clone(),
        Step::GoAway,
        Step::Sleep(Duration::from_millis(100)),
        data,
        act::status(0, ""),
    ];
    let backend = scripted::start(vec![drains, act::reply(&message())]).await;
    let (_gateway, mut client) = over(&[backend.address], "").await;

    let mut first = client.begin(REPEAT, &[], false).await;
    first.message(&SayRequest::default(), true);
    let (head, mut body, _request) = first.head().await.unwrap();
    soon(body.data()).await.unwrap().unwrap();
    let second = say(&mut client).await;
    let first = soon(rest(head, body)).await.unwrap();
    let third = say(&mut client).await;

    assert_eq!((first.code(), second.code(), third.code()), (0, 0, 0), "{first:?} {second:?} {third:?}");
    assert_eq!(first.messages::<SayReply>().len(), 1);
    let calls = backend.calls();
    assert_eq!(calls.last().unwrap().connection, 1);
    assert_eq!(backend.tally.counts().connections, 2);
}

#[tokio::test]
async fn connections_that_die_end_their_calls_as_unavailable_and_are_replaced() {
    let abort = vec![Step::Read, act::grpc_head(&[]), Step::Abort(Reason::INTERNAL_ERROR), Step::Hold];
    let script = vec![
        act::close_after_message(&message()),
        vec![Step::Read, Step::Close, Step::Hold],
        abort,
        act::reply(&message()),
    ];
    let backend = scripted::start(script).await;
    let (_gateway, mut client) = over(&[backend.address], "").await;

    let middle = soon(client.call(REPEAT, &[], framed(&SayRequest::default()))).await;
    let before_head = say(&mut client).await;
    let aborted = say(&mut client).await;
    let healthy = say(&mut client).await;

    assert_eq!((middle.code(), middle.messages::<SayReply>().len()), (14, 1), "{middle:?}");
    assert_eq!((before_head.code(), aborted.code()), (14, 14), "{before_head:?} {aborted:?}");
    assert_eq!(healthy.code(), 0);
    assert_eq!(backend.calls().len(), 4, "a call that may have been seen is not sent again");
}

#[tokio::test]
async fn a_backend_that_is_killed_in_a_stream_makes_it_unavailable() {
    let backend = backend::start().await;
    let (_gateway, mut client) = over(&[backend.address], "").await;
    let behaviour = Behaviour { count: 2, stall: true, ..Behaviour::default() };
    let mut call = client.begin(REPEAT, &[], false).await;
    call.message(&SayRequest { behaviour: Some(behaviour), ..SayRequest::default() }, true);
    let (head, mut body, _request) = call.head().await.unwrap();
    soon(body.data()).await.unwrap().unwrap();

    drop(backend);
    let answer = soon(rest(head, body)).await.unwrap();

    assert_eq!(answer.code(), 14, "{answer:?}");
}

#[tokio::test]
async fn peers_that_are_no_http_2_servers_are_unreachable() {
    for manner in [Manner::Silent, Manner::Close, Manner::Http1] {
        let settings = Settings { manners: vec![manner], ..Settings::default() };
        let backend = scripted::start_with(settings, vec![act::hold()]).await;
        let (_gateway, mut client) = over(&[backend.address], ", connections: { connect_timeout: 200ms }").await;

        let answer = say(&mut client).await;

        assert_eq!(answer.code(), 14, "{manner:?} {answer:?}");
        assert_eq!(answer.message(), "upstream echo cannot be reached", "{manner:?}");
    }
}

#[tokio::test]
async fn a_client_that_waits_for_a_connection_keeps_its_deadline() {
    let settings = Settings { manners: vec![Manner::Silent], ..Settings::default() };
    let backend = scripted::start_with(settings, vec![act::hold()]).await;
    let (_gateway, mut client) = over(&[backend.address], ", connections: { connect_timeout: 4s }").await;

    let answer = soon(client.call(SAY, &[("grpc-timeout", "100m")], framed(&SayRequest::default()))).await;

    assert_eq!(answer.code(), 4, "{answer:?}");
}

#[tokio::test]
async fn frames_that_break_the_protocol_end_the_connection_and_not_the_gateway() {
    let settings = Settings { manners: vec![Manner::Garbage, Manner::Polite], ..Settings::default() };
    let backend = scripted::start_with(settings, vec![act::reply(&message())]).await;
    let (_gateway, mut client) = over(&[backend.address], "").await;

    let broken = say(&mut client).await;
    let healthy = say(&mut client).await;

    assert_eq!((broken.code(), healthy.code()), (14, 0), "{broken:?} {healthy:?}");
}

#[tokio::test]
async fn an_endpoint_that_is_down_fails_fast_and_recovers() {
    let address = nowhere().await;
    let (_gateway, mut client) = over(&[address], "").await;

    for _ in 0..200 {
        let answer = say(&mut client).await;
        assert_eq!(answer.code(), 14);
        assert_eq!(answer.message(), "upstream echo cannot be reached");
    }
    let backend = backend::start_with(Options { address, ..Options::default() }).await;

    soon(async { while say(&mut client).await.code() != 0 {} }).await;
    drop(backend);
    soon(async { while say(&mut client).await.code() == 0 {} }).await;
    let _again = backend::start_with(Options { address, ..Options::default() }).await;
    soon(async { while say(&mut client).await.code() != 0 {} }).await;
}

#[tokio::test]
async fn streams_that_do_not_fit_open_connections_up_to_the_limit_and_wait_then() {
    let backend = backend::start_with(Options { max_concurrent_streams: Some(1), ..Options::default() }).await;
    let (_gateway, client) = over(&[backend.address], ", connections: { max_per_endpoint: 3 }").await;

    let mut running = Vec::new();
    for number in 1..=3 {
        let mut call = client.clone().begin(SAY, &[], false).await;
        call.send(stalled(), true);
        running.push(call);
        backend.tally.until(|counts| counts.started == number).await;
    }
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { say(&mut client).await.code() })
        })
        .collect();
    let late = client.clone().call(SAY, &[("grpc-timeout", "100m")], framed(&SayRequest::default())).await;

    assert_eq!(late.code(), 4, "{late:?}");
    assert_eq!(backend.tally.counts().started, 3);
    drop(running.pop());
    for waited in waiting {
        assert_eq!(soon(waited).await.unwrap(), 0);
    }
    let counts = backend.tally.counts();
    assert_eq!((counts.connections, counts.started, counts.cancelled), (3, 8, 1));
}

#[tokio::test]
async fn a_burst_on_a_cold_gateway_keeps_to_the_limit_of_streams() {
    let backend = backend::start_with(Options { max_concurrent_streams: Some(1), ..Options::default() }).await;
    let (_gateway, client) = over(&[backend.address], "").await;

    let mut calls = Vec::new();
    for _ in 0..4 {
        let mut call = client.clone().begin(SAY, &[], false).await;
        call.send(stalled(), true);
        calls.push(call);
    }

    let counts = backend.tally.until(|counts| counts.started == 4).await;
    assert_eq!(counts.connections, 4);
}

#[tokio::test]
async fn endpoints_are_taken_in_turn() {
    let backends = [backend::start().await, backend::start().await, backend::start().await];
    let (_gateway, mut client) = over(&backends.each_ref().map(|backend| backend.address), IN_TURN).await;

    for _ in 0..9 {
        assert_eq!(say(&mut client).await.code(), 0);
    }

    for backend in &backends {
        assert_eq!(backend.tally.counts().started, 3);
    }
}

/// Two calls that stay under way for as long as they are kept.
async fn two_stalled(client: &Raw) -> [RawCall; 2] {
    let begin = async || {
        let mut call = client.clone().begin(SAY, &[], false).await;
        call.send(stalled(), true);
        call
    };
    [begin().await, begin().await]
}

#[tokio::test]
async fn calls_do_not_wait_at_a_full_endpoint_while_another_has_room() {
    let narrow = backend::start_with(Options { max_concurrent_streams: Some(1), ..Options::default() }).await;
    let wide = backend::start().await;
    let (_gateway, mut client) = over(&[narrow.address, wide.address], ", connections: { max_per_endpoint: 1 }").await;
    let _running = two_stalled(&client).await;
    narrow.tally.until(|counts| counts.started == 1).await;

    for _ in 0..6 {
        assert_eq!(soon(say(&mut client)).await.code(), 0);
    }

    assert_eq!(wide.tally.until(|counts| counts.finished == 6).await.started, 7);
}

#[tokio::test]
async fn a_full_endpoint_that_takes_no_further_connection_is_passed_over() {
    let manners = vec![Manner::Polite, Manner::Close];
    let settings = Settings { manners, max_concurrent_streams: Some(1), ..Settings::default() };
    let full = scripted::start_with(settings, vec![act::hold()]).await;
    let wide = backend::start().await;
    let (_gateway, mut client) = over(&[full.address, wide.address], IN_TURN).await;
    let _running = two_stalled(&client).await;
    full.tally.until(|counts| counts.started == 1).await;
    wide.tally.until(|counts| counts.started == 1).await;

    for _ in 0..6 {
        assert_eq!(say(&mut client).await.code(), 0);
    }
}

#[tokio::test]
async fn one_dead_endpoint_of_two_fails_no_call() {
    let backend = backend::start().await;
    let (_gateway, mut client) = over(&[nowhere().await, backend.address], "").await;

    for _ in 0..20 {
        assert_eq!(say(&mut client).await.code(), 0);
    }

    assert_eq!(backend.tally.counts().started, 20);
}

#[tokio::test]
async fn a_zone_that_cannot_be_reached_leaves_its_calls_to_the_others() {
    let (near, far) = (nowhere().await, backend::start().await);
    let set = concat!(env!("OUT_DIR"), "/test/echo.binpb");
    let gateway = TestGateway::start(&format!(
        "workers: 1\nupstreams: [ {{ name: echo, schema: {{ descriptor_set: \"{set}\" }}, load_balancing: {{ zone: a }}, \
         endpoints: [ {{ address: \"{near}\", zone: a }}, {{ address: \"{}\", zone: b }} ] }} ]\n",
        far.address
    ))
    .await;
    let mut client = Raw::connect(gateway.address).await;

    for _ in 0..5 {
        assert_eq!(say(&mut client).await.code(), 0);
    }
}

#[tokio::test]
async fn a_goaway_is_noticed_without_a_call_that_fails_on_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_gateway, client) = over(&[listener.local_addr().unwrap()], "").await;
    let _running = client.clone().begin(SAY, &[], false).await;
    let mut upstream = accept(&listener).await;
    upstream.send(&max_concurrent_streams(100)).await;
    upstream.until(|frame| frame.kind == frames::HEADERS).await.expect("the call comes");

    // Last stream 1, error NO_ERROR.
    upstream.send(&frames::frame(frames::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])).await;

    accept(&listener).await;
}

#[tokio::test]
async fn an_endpoint_that_left_loses_its_connection_although_nobody_calls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |address: SocketAddr| std::fs::write(file.path(), format!("endpoints: [\"{address}\"]")).unwrap();
    write(listener.local_addr().unwrap());
    let set = concat!(env!("OUT_DIR"), "/test/echo.binpb");
    let gateway = TestGateway::start(&format!(
        "workers: 1\nupstreams: [ {{ name: echo, endpoints_file: \"{}\", schema: {{ descriptor_set: \"{set}\" }} }} ]\n",
        file.path().display()
    ))
    .await;
    let call = Raw::connect(gateway.address).await.begin(SAY, &[], false).await;
    let mut upstream = accept(&listener).await;
    upstream.send(&max_concurrent_streams(1)).await;
    upstream.until(|frame| frame.kind == frames::HEADERS).await.expect("the call comes");
    drop(call);
    upstream.until(|frame| frame.kind == frames::RST_STREAM).await.expect("the call is given up");

    write(nowhere().await);

    while upstream.frame().await.is_some() {}
}

#[tokio::test]
async fn an_old_connection_stays_until_another_takes_its_place() {
    let settings = Settings { manners: vec![Manner::Polite, Manner::Close], ..Settings::default() };
    let backend = scripted::start_with(settings, vec![act::reply(&message())]).await;
    let (_gateway, mut client) = over(&[backend.address], ", connections: { max_age: 1s }").await;

    soon(async {
        while backend.tally.counts().connections < 10 {
            assert_eq!(say(&mut client).await.code(), 0);
        }
    })
    .await;
}

#[tokio::test]
async fn old_connections_make_way_for_new_ones_without_a_call_lost() {
    let backend = backend::start().await;
    let (_gateway, mut client) = over(&[backend.address], ", connections: { max_age: 1s, max_per_endpoint: 1 }").await;
    let mut stream = client.begin(REPEAT, &[], false).await;
    let behaviour = Behaviour { count: 2, stall: true, ..Behaviour::default() };
    stream.message(&SayRequest { behaviour: Some(behaviour), ..SayRequest::default() }, true);
    let (_head, mut body, _request) = stream.head().await.unwrap();
    soon(body.data()).await.unwrap().unwrap();

    soon(async {
        while backend.tally.counts().connections < 2 {
            assert_eq!(say(&mut client).await.code(), 0);
        }
    })
    .await;
    for _ in 0..20 {
        assert_eq!(say(&mut client).await.code(), 0);
    }

    assert_eq!(backend.tally.counts().cancelled, 0, "the stream on the old connection goes on");
}

/// A scripted backend whose streams are tiny messages without end, and whose unary calls are answered.
async fn chatterbox(streams: usize) -> Scripted {
    let mut chatter = vec![Step::Read, act::grpc_head(&[])];
    chatter.extend(std::iter::repeat_n(Step::Data(framed(&SayReply { index: 1, ..SayReply::default() })), 100_000));
    chatter.push(act::status(0, ""));
    let mut script = vec![chatter; streams];
    script.push(act::reply(&message()));
    scripted::start(script).await
}

#[tokio::test]
async fn stalled_streams_of_tiny_messages_slow_nobody_on_their_connection() {
    let backend = chatterbox(4).await;
    let (gateway, mut client) =
        over(&[backend.address], ", connections: { max_per_endpoint: 1, stream_window: 1MiB }").await;
    let mut deaf = Raw::connect_with(gateway.address, 1 << 10).await;

    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = deaf.begin(REPEAT, &[], false).await;
        stream.message(&SayRequest::default(), true);
        streams.push(stream.head().await.unwrap());
    }
    // 7 bytes each and a window of 1 MiB: every stream gets its 100,000 messages off its hands.
    backend.tally.until(|counts| counts.sent >= 400_000).await;
    for _ in 0..20 {
        assert_eq!(say(&mut client).await.code(), 0);
    }
    let (head, body, _request) = streams.pop().unwrap();
    let answer = soon(rest(head, body)).await.unwrap();

    assert_eq!((answer.code(), answer.messages::<SayReply>().len()), (0, 100_000));
    assert_eq!(backend.tally.counts().connections, 1, "one connection served them all");
}

/// The next connection of a gateway, of which the preface was read.
async fn accept(listener: &TcpListener) -> frames::Raw {
    let (mut stream, _) = soon(listener.accept()).await.expect("the gateway speaks HTTP/2");
    let mut preface = [0; frames::PREFACE.len()];
    soon(stream.read_exact(&mut preface)).await.expect("the gateway speaks HTTP/2");
    frames::Raw { stream }
}

fn max_concurrent_streams(most: u8) -> Vec<u8> {
    frames::frame(frames::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, most])
}

#[tokio::test]
async fn a_call_that_waits_goes_on_when_the_upstream_allows_more_streams() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connections = ", connections: { max_per_endpoint: 1 }";
    let (_gateway, client) = over(&[listener.local_addr().unwrap()], connections).await;

    let _running = client.clone().begin(SAY, &[], false).await;
    let mut upstream = accept(&listener).await;
    upstream.send(&max_concurrent_streams(1)).await;
    upstream.until(|frame| frame.kind == frames::HEADERS).await.expect("the first call comes");
    let _waiting = client.clone().begin(SAY, &[], false).await;
    // Answered by the gateway itself, after it has taken up the call before.
    let health = client.clone().call("/grpc.health.v1.Health/Check", &[], framed(&())).await;
    upstream.send(&max_concurrent_streams(2)).await;

    assert_eq!(health.code(), 0, "{health:?}");
    upstream.until(|frame| frame.kind == frames::HEADERS).await.expect("the second call comes");
}
