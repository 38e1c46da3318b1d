//! Each kind of method against each way in which a call can go, over native gRPC.
//!
//! A row is a behaviour, written once for all four kinds; what it needs of the kind is asked of [`Kind`].

use h2::Reason;

use crate::support::backend::pb::google::protobuf::{Any, Duration};
use crate::support::backend::pb::{Behaviour, CollectReply, Failure, Header, SayReply, SayRequest};
use crate::support::backend::{self, Backend};
use crate::support::gateway::{TestGateway, upstream};
use crate::support::grpc::{Answer, COLLECT, CONVERSE, REPEAT, Raw, RawCall, SAY, framed, soon};

/// The kinds of methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unary,
    ServerStream,
    ClientStream,
    Bidi,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Unary, Self::ServerStream, Self::ClientStream, Self::Bidi];

    fn path(self) -> &'static str {
        match self {
            Self::Unary => SAY,
            Self::ServerStream => REPEAT,
            Self::ClientStream => COLLECT,
            Self::Bidi => CONVERSE,
        }
    }

    fn streams_requests(self) -> bool {
        matches!(self, Self::ClientStream | Self::Bidi)
    }

    /// The texts that a reply carries.
    fn texts(self, answer: &Answer) -> Vec<String> {
        match self {
            Self::ClientStream => answer.messages::<CollectReply>().into_iter().flat_map(|reply| reply.texts).collect(),
            _ => answer.messages::<SayReply>().into_iter().map(|reply| reply.text).collect(),
        }
    }

    /// The request headers as the backend saw them.
    fn seen(self, answer: &Answer) -> Vec<Header> {
        match self {
            Self::ClientStream => answer.messages::<CollectReply>().remove(0).metadata,
            _ => answer.messages::<SayReply>().remove(0).metadata,
        }
    }

    /// Begins a call with one request message, whose stream stays open if the kind allows it.
    async fn begin(self, client: &mut Raw, headers: &[(&str, &str)], message: &SayRequest) -> RawCall {
        let mut call = client.begin(self.path(), headers, false).await;
        call.message(message, !self.streams_requests());
        call
    }
}

fn say(text: &str, behaviour: Behaviour) -> SayRequest {
    SayRequest { text: text.into(), behaviour: Some(behaviour) }
}

fn stall() -> Behaviour {
    Behaviour { stall: true, ..Behaviour::default() }
}

async fn setup() -> (Backend, TestGateway, Raw) {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    let client = Raw::connect(gateway.address).await;
    (backend, gateway, client)
}

#[tokio::test]
async fn every_kind_succeeds_with_its_metadata() {
    let (backend, _gateway, mut client) = setup().await;
    let header = |name: &str, value: &[u8]| Header { name: name.into(), value: value.into() };

    for kind in Kind::ALL {
        let behaviour = Behaviour {
            headers: vec![header("x-early", b"1"), header("x-early-bin", &[0, 255])],
            trailers: vec![header("x-late", b"2"), header("x-late-bin", &[1, 254])],
            ..Behaviour::default()
        };
        let sent = [("x-color", "blue"), ("x-raw-bin", "AP8"), ("x-raw-bin", "AQ")];

        let answer = client.call(kind.path(), &sent, framed(&say("a", behaviour))).await;

        assert_eq!(answer.code(), 0, "{kind:?} {answer:?}");
        assert_eq!(kind.texts(&answer), ["a"], "{kind:?}");
        let seen = kind.seen(&answer);
        for expected in [header("x-color", b"blue"), header("x-raw-bin", &[0, 255]), header("x-raw-bin", &[1])] {
            assert!(seen.contains(&expected), "{kind:?} {seen:?}");
        }
        if kind != Kind::Bidi {
            assert_eq!(
                (&answer.headers["x-early"], &answer.headers["x-early-bin"]),
                (&"1".parse().unwrap(), &"AP8".parse().unwrap())
            );
            assert_eq!(
                (&answer.trailers["x-late"], &answer.trailers["x-late-bin"]),
                (&"2".parse().unwrap(), &"Af4".parse().unwrap())
            );
        }
    }
    backend.tally.until(|counts| counts.finished == 4).await;
}

#[tokio::test]
async fn every_kind_passes_errors_with_their_details() {
    let (_backend, _gateway, mut client) = setup().await;
    let details = vec![Any { type_url: "type.googleapis.com/x.Y".into(), value: vec![8, 9] }];
    let failure = Failure { code: 9, message: "nicht möglich: 100%".into(), details, raw_details: vec![] };

    for kind in Kind::ALL {
        let behaviour = Behaviour { failure: Some(failure.clone()), ..Behaviour::default() };

        let answer = client.call(kind.path(), &[], framed(&say("", behaviour))).await;

        assert_eq!((answer.status.as_u16(), answer.code(), answer.body.len()), (200, 9, 0), "{kind:?} {answer:?}");
        assert_eq!(answer.message(), "nicht möglich: 100%", "{kind:?}");
        let all = if answer.is_trailers_only() { &answer.headers } else { &answer.trailers };
        assert!(all["grpc-status-details-bin"].len() > 20, "{kind:?}");
    }
}

#[tokio::test]
async fn streams_of_replies_fail_in_the_middle() {
    let (_backend, _gateway, mut client) = setup().await;
    let failure = Some(Failure { code: 8, message: "enough".into(), ..Failure::default() });

    let behaviour = Behaviour { count: 3, failure: failure.clone(), ..Behaviour::default() };
    let server = client.call(REPEAT, &[], framed(&say("a", behaviour))).await;
    let mut call = client.begin(CONVERSE, &[], false).await;
    call.message(&say("a", Behaviour::default()), false);
    call.message(&say("b", Behaviour { failure, ..Behaviour::default() }), false);
    let bidi = call.answer().await.unwrap();

    assert_eq!((server.messages::<SayReply>().len(), server.code(), &*server.message()), (3, 8, "enough"));
    assert_eq!((bidi.messages::<SayReply>().len(), bidi.code(), &*bidi.message()), (1, 8, "enough"));
}

#[tokio::test]
async fn every_kind_keeps_the_clients_deadline() {
    let (backend, _gateway, mut client) = setup().await;

    for (number, kind) in Kind::ALL.into_iter().enumerate() {
        let call = kind.begin(&mut client, &[("grpc-timeout", "150m")], &say("", stall())).await;
        let answer = call.answer().await.unwrap();

        assert_eq!(answer.code(), 4, "{kind:?} {answer:?}");
        // A stalled client stream still waits for its end; then the handler has seen the messages only.
        backend.tally.until(|counts| counts.cancelled == number + 1 && counts.finished == 0).await;
    }
}

#[tokio::test]
async fn every_kind_tells_the_backend_the_time_left() {
    let (_backend, _gateway, mut client) = setup().await;

    for kind in Kind::ALL {
        let answer = client.call(kind.path(), &[("grpc-timeout", "7S")], framed(&say("", Behaviour::default()))).await;

        let seen = kind.seen(&answer);
        let timeout = seen.iter().find(|header| header.name == "grpc-timeout").map(|header| header.value.clone());
        let timeout = String::from_utf8(timeout.unwrap_or_default()).unwrap();
        let micros: u64 = timeout.strip_suffix('u').unwrap_or_default().parse().unwrap_or_default();
        assert!((6_000_000..7_000_000).contains(&micros), "{kind:?} {timeout}");
    }
}

#[tokio::test]
async fn every_kind_is_cancelled_at_once() {
    let (backend, _gateway, mut client) = setup().await;

    for (number, kind) in Kind::ALL.into_iter().enumerate() {
        let mut call = kind.begin(&mut client, &[], &say("", stall())).await;
        backend.tally.until(|counts| counts.started == number + 1).await;

        call.request.send_reset(Reason::CANCEL);

        backend.tally.until(|counts| counts.cancelled == number + 1).await;
    }
}

#[tokio::test]
async fn every_kind_is_cancelled_when_the_connection_goes() {
    let (backend, gateway, _) = setup().await;

    for (number, kind) in Kind::ALL.into_iter().enumerate() {
        let mut client = Raw::connect(gateway.address).await;
        let call = kind.begin(&mut client, &[], &say("", stall())).await;
        backend.tally.until(|counts| counts.started == number + 1).await;

        drop((call, client));

        backend.tally.until(|counts| counts.cancelled == number + 1).await;
    }
}

#[tokio::test]
async fn every_kind_refuses_requests_that_are_too_large() {
    let backend = backend::start().await;
    let yaml = upstream("echo", backend.address)
        + "policies: [ { match: \"*\", limits: { request_message: 1KiB, response_message: 2KiB } } ]\n";
    let gateway = TestGateway::start(&yaml).await;
    gateway.ready().await;
    let mut client = Raw::connect(gateway.address).await;
    let fits = say(&"x".repeat(900), Behaviour::default());
    let large = say(&"x".repeat(1100), Behaviour::default());

    for kind in Kind::ALL {
        let fine = client.call(kind.path(), &[], framed(&fits)).await;
        let refused = client.call(kind.path(), &[], framed(&large)).await;

        assert_eq!(fine.code(), 0, "{kind:?} {fine:?}");
        assert_eq!(refused.code(), 8, "{kind:?} {refused:?}");
        assert!(refused.message().contains("exceeds the limit of 1024"), "{kind:?} {}", refused.message());

        let behaviour = Behaviour { payload_bytes: 3000, ..Behaviour::default() };
        // The reply of a client stream has no payload; its texts make it large.
        let body = match kind {
            Kind::ClientStream => [framed(&fits), framed(&fits), framed(&fits)].concat(),
            _ => framed(&say("", behaviour)).to_vec(),
        };
        let refused = client.call(kind.path(), &[], body).await;

        assert_eq!(refused.code(), 8, "{kind:?} {refused:?}");
        assert!(refused.message().contains("exceeds the limit of 2048"), "{kind:?} {}", refused.message());
    }
    backend.tally.until(|counts| counts.finished + counts.cancelled == counts.started).await;
}

#[tokio::test]
async fn every_kind_carries_large_messages() {
    let (_backend, _gateway, mut client) = setup().await;

    for kind in Kind::ALL {
        let text = "y".repeat(3 << 20);
        let behaviour = Behaviour { payload_bytes: 1 << 20, ..Behaviour::default() };

        let answer = client.call(kind.path(), &[], framed(&say(&text, behaviour))).await;

        assert_eq!(answer.code(), 0, "{kind:?}");
        assert!(kind.texts(&answer) == [text], "{kind:?}");
    }
}

#[tokio::test]
async fn slow_readers_hold_the_backend_back_and_lose_nothing() {
    let (backend, gateway, _) = setup().await;
    let mut client = Raw::connect_with(gateway.address, 16 << 10).await;
    let behaviour = Behaviour { count: 300, payload_bytes: 64 << 10, ..Behaviour::default() };
    let one = Behaviour { payload_bytes: 64 << 10, ..Behaviour::default() };

    let mut stream = client.begin(REPEAT, &[], false).await;
    stream.message(&say("", behaviour), true);
    let mut bidi = client.begin(CONVERSE, &[], false).await;
    for number in 0..300 {
        bidi.message(&say("", one.clone()), number == 299);
    }
    let stream = stream.head().await.unwrap();
    let bidi = bidi.head().await.unwrap();

    // Nobody reads: what the backend gets rid of is what windows and buffers take, of 600 messages.
    let before = settled(&backend).await;
    assert!(before < 200, "{before} messages of 64 KiB were sent");
    let stream = soon(crate::support::grpc::rest(stream.0, stream.1)).await.unwrap();
    let bidi = soon(crate::support::grpc::rest(bidi.0, bidi.1)).await.unwrap();

    assert_eq!((stream.code(), stream.messages::<SayReply>().len()), (0, 300));
    assert_eq!((bidi.code(), bidi.messages::<SayReply>().len()), (0, 300));
}

/// The backend's count of sent messages when it has not changed for a while.
async fn settled(backend: &Backend) -> usize {
    let mut sent = backend.tally.counts().sent;
    loop {
        let more = tokio::time::timeout(
            std::time::Duration::from_millis(200),
            backend.tally.until(|counts| counts.sent > sent),
        );
        match more.await {
            Ok(counts) => sent = counts.sent,
            Err(_) => return sent,
        }
    }
}

#[tokio::test]
async fn slow_writers_are_heard_message_by_message() {
    let (backend, _gateway, mut client) = setup().await;
    let message = framed(&say("abc", Behaviour::default()));

    let mut collect = client.begin(COLLECT, &[], false).await;
    for number in 1..4 {
        // Cut in the prefix and in the message.
        collect.send(message.slice(..3), false);
        collect.send(message.slice(3..7), false);
        collect.send(message.slice(7..), false);
        backend.tally.until(|counts| counts.received == number).await;
    }
    collect.send("", true);
    let answer = collect.answer().await.unwrap();

    assert_eq!(Kind::ClientStream.texts(&answer), ["abc", "abc", "abc"]);
}

#[tokio::test]
async fn replies_come_while_requests_go_and_end_after_half_close() {
    let (_backend, _gateway, mut client) = setup().await;
    let mut call = client.begin(CONVERSE, &[], false).await;
    call.message(&say("first", Behaviour::default()), false);

    let (head, mut body, mut request) = call.head().await.unwrap();
    let first = soon(body.data()).await.unwrap().unwrap();
    request.send_data(framed(&say("second", Behaviour::default())), false).unwrap();
    let second = soon(body.data()).await.unwrap().unwrap();
    request.send_data("".into(), true).unwrap();
    let answer = soon(crate::support::grpc::rest(head, body)).await.unwrap();

    assert!(first.windows(5).any(|text| text == b"first"));
    assert!(second.windows(6).any(|text| text == b"second"));
    assert_eq!((answer.code(), answer.body.len()), (0, 0));
}

#[tokio::test]
async fn replies_that_end_early_are_whole_although_the_client_still_sends() {
    let (backend, _gateway, mut client) = setup().await;
    let failure = Some(Failure { code: 3, message: "no more".into(), ..Failure::default() });
    let behaviour = Behaviour { stop_reading: true, failure, ..Behaviour::default() };

    let mut call = client.begin(COLLECT, &[], false).await;
    call.message(&say("", behaviour), false);
    call.send(vec![0; 5 * 40_000], false);
    let answer = call.answer().await.unwrap();

    assert_eq!((answer.code(), &*answer.message()), (3, "no more"));
    backend.tally.until(|counts| counts.finished == 1).await;
}

#[tokio::test]
async fn deadlines_and_requests_go_on_while_the_client_does_not_read() {
    let (backend, gateway, _) = setup().await;
    let mut client = Raw::connect_with(gateway.address, 1 << 10).await;
    let one = Behaviour { payload_bytes: 2 << 10, delay: Some(Duration::default()), ..Behaviour::default() };

    let mut call = client.begin(CONVERSE, &[("grpc-timeout", "900m")], false).await;
    for number in 1..20 {
        call.message(&say("", one.clone()), false);
        backend.tally.until(|counts| counts.received == number).await;
    }

    // The backend has answered everything and waits for more: only a reset ends that.
    backend.tally.until(|counts| counts.finished + counts.cancelled == 1).await;
    let answer = call.answer().await.unwrap();
    assert_eq!(answer.code(), 4, "{answer:?}");
}
