//! HTTP/2 by the client of h2, and by raw frames where that is too well-behaved.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method};

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;

async fn connect(server: &Server) -> SendRequest<Bytes> {
    connect_with(server, &mut h2::client::Builder::new()).await
}

async fn connect_with(server: &Server, builder: &mut h2::client::Builder) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (client, connection) = builder.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client
}

fn get(path: &str) -> Request<()> {
    Request::builder().uri(format!("http://a{path}")).body(()).unwrap()
}

fn post() -> Request<()> {
    Request::builder().method(Method::POST).uri("http://a/").body(()).unwrap()
}

async fn text(mut body: RecvStream) -> Result<String, h2::Error> {
    let mut text = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len()).unwrap();
        text.extend_from_slice(&data);
    }
    Ok(String::from_utf8(text).unwrap())
}

/// Runs a client against the server, with an end to its patience.
fn run<T>(server: &Server, client: impl Future<Output = T>) -> T {
    server.control.block_on(async { tokio::time::timeout(PATIENCE, client).await.unwrap() })
}

/// A client that sends what it is told to.
struct Raw(std::net::TcpStream);

/// The type and the payload.
type Frame = (u8, Vec<u8>);

impl Raw {
    /// With the preface and empty SETTINGS.
    fn connect(server: &Server) -> Self {
        let mut client = Self::connect_silently(server);
        client.send(&[PREFACE, &EMPTY_SETTINGS].concat());
        client
    }

    fn connect_silently(server: &Server) -> Self {
        let stream = std::net::TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// The server may have closed already.
    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).ok();
    }

    /// The next frame with its flags, `None` at the end of the connection.
    fn frame(&mut self) -> Option<(Frame, u8)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let mut payload = vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
        self.0.read_exact(&mut payload).ok()?;
        Some(((head[3], payload), head[4]))
    }

    /// All frames up to the end of the connection.
    fn frames(mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.frame()).map(|(frame, _)| frame).collect()
    }
}

fn goaway_reason(frames: &[Frame]) -> Reason {
    let goaway = frames.iter().rev().find(|(kind, _)| *kind == GOAWAY).expect("a GOAWAY");
    u32::from_be_bytes(goaway.1[4..8].try_into().unwrap()).into()
}

/// HEADERS without a body: GET http://a/, all but the authority from the static table.
fn headers(stream: u32) -> Vec<u8> {
    let block = [0x82, 0x86, 0x84, 0x41, 1, b'a'];
    let mut frame = vec![0, 0, 6, 1, 5];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&block);
    frame
}

fn rst_stream(stream: u32) -> Vec<u8> {
    let mut frame = vec![0, 0, 4, 3, 0];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0, 8]);
    frame
}

#[test]
fn waits_for_the_rest_of_a_partial_preface() {
    let server = Server::start(hasty(), echo_path);
    let mut client = Raw::connect_silently(&server);

    for part in [&PREFACE[..3], &PREFACE[3..20], &PREFACE[20..], &EMPTY_SETTINGS, &headers(1)] {
        client.send(part);
        run(&server, time_passes());
    }
    let frames = client.frames();

    // Answered, then closed as idle.
    assert!(frames.iter().any(|(kind, payload)| *kind == DATA && payload == b"/"));
    assert_eq!(goaway_reason(&frames), Reason::NO_ERROR);
    assert_eq!(server.metrics.counted(ConnectionEvent::IdleTimeout), 1);
}

#[test]
fn says_goaway_when_the_preface_takes_too_long() {
    let server = Server::start(hasty(), echo_path);

    let mut client = Raw::connect_silently(&server);
    client.send(&PREFACE[..20]);
    let frames = client.frames();

    assert_eq!(goaway_reason(&frames), Reason::PROTOCOL_ERROR);
}

#[test]
fn answers_many_streams_of_one_connection() {
    let limits = Limits::default();
    let server = Server::start(limits, echo_path);
    let mut client = Raw::connect(&server);
    let mut ids = (0..).map(|index| 2 * index + 1);

    // As many at once as allowed, and the next as soon as one is complete.
    client.send(&ids.by_ref().take(limits.max_concurrent_streams as usize).flat_map(headers).collect::<Vec<_>>());
    let mut complete = 0;
    while complete < 2000 {
        let ((kind, payload), flags) = client.frame().unwrap();
        assert_ne!(kind, RST_STREAM, "{payload:?}");
        if kind == DATA && flags & END_STREAM != 0 {
            complete += 1;
            client.send(&headers(ids.next().unwrap()));
        }
    }

    assert_eq!(server.metrics.open_now(Transport::Http2), 1);
}

#[test]
fn drops_the_call_when_the_client_resets_the_stream() {
    let (started, running) = mpsc::channel();
    let (dropped, ended) = mpsc::channel();
    let server = Server::start(Limits::default(), move |_| hang(started.clone(), dropped.clone()));
    let (_reply, mut stream, _client) = run(&server, async {
        let mut client = connect(&server).await.ready().await.unwrap();
        let (reply, stream) = client.send_request(post(), false).unwrap();
        (reply, stream, client)
    });
    running.recv_timeout(PATIENCE).unwrap();

    stream.send_reset(Reason::CANCEL);

    ended.recv_timeout(PATIENCE).unwrap();
    run(&server, eventually(|| server.metrics.counted(ConnectionEvent::ClientReset) == 1));
}

#[test]
fn drops_the_calls_when_the_connection_is_lost() {
    let (started, running) = mpsc::channel();
    let (dropped, ended) = mpsc::channel();
    let server = Server::start(Limits::default(), move |_| hang(started.clone(), dropped.clone()));
    let mut client = Raw::connect(&server);
    client.send(&[headers(1), headers(3)].concat());
    running.recv_timeout(PATIENCE).unwrap();
    running.recv_timeout(PATIENCE).unwrap();

    drop(client);

    ended.recv_timeout(PATIENCE).unwrap();
    ended.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn asks_for_no_part_that_the_window_does_not_take() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = Server::start(Limits::default(), move |_| {
        let asked = Arc::clone(&count);
        let part = move |_: &mut Context<'_>| {
            let sent = asked.fetch_add(1, Ordering::Relaxed);
            Poll::Ready((sent < 100).then(|| Ok(Part::Data(vec![0; 10_000].into()))))
        };
        reply(Scripted { part: Box::new(part) })
    });
    run(&server, async {
        let mut builder = h2::client::Builder::new();
        let mut client = connect_with(&server, builder.initial_window_size(25_000)).await.ready().await.unwrap();
        let reply = client.send_request(get("/"), true).unwrap().0.await.unwrap();
        eventually(|| asked.load(Ordering::Relaxed) == 3).await;
        time_passes().await;
        assert_eq!(asked.load(Ordering::Relaxed), 3);

        assert_eq!(text(reply.into_body()).await.unwrap().len(), 1_000_000);
        assert_eq!(asked.load(Ordering::Relaxed), 101);
    });
}

#[test]
fn asks_for_no_part_that_the_socket_does_not_take() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = Server::start(Limits::default(), move |_| {
        let asked = Arc::clone(&count);
        let part = move |_: &mut Context<'_>| {
            asked.fetch_add(1, Ordering::Relaxed);
            Poll::Ready(Some(Ok(Part::Data(vec![0; 64 << 10].into()))))
        };
        reply(Scripted { part: Box::new(part) })
    });
    let mut client = Raw::connect_silently(&server);

    // The windows are as large as they can be, and nothing is ever read.
    client.send(&[PREFACE, &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff]].concat());
    client.send(&[0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0, 0, 0]);
    client.send(&headers(1));
    run(&server, eventually(|| asked.load(Ordering::Relaxed) > 0));
    let mut before = 0;
    run(&server, async {
        while before != asked.load(Ordering::Relaxed) {
            before = asked.load(Ordering::Relaxed);
            time_passes().await;
            time_passes().await;
        }
    });

    // What the system buffers, and little more.
    assert!(before * (64 << 10) < 32 << 20, "{before} parts");
}

#[test]
fn sends_trailers_after_the_data() {
    let server = Server::start(Limits::default(), |_| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        reply(Scripted::parts(vec![Ok(Part::Data("data".into())), Ok(Part::Trailers(trailers))]))
    });
    run(&server, async {
        let mut client = connect(&server).await.ready().await.unwrap();
        let mut body = client.send_request(get("/"), true).unwrap().0.await.unwrap().into_body();

        assert_eq!(body.data().await.unwrap().unwrap(), "data");
        assert!(body.data().await.is_none());
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    });
}

#[test]
fn joins_small_parts_that_are_ready_together() {
    let server = Server::start(Limits::default(), |_| {
        let mut parts: VecDeque<_> = (0..100).map(|_| Ok(Part::Data("0123456789".into()))).collect();
        parts.push_back(Ok(Part::Data(vec![b'x'; 5000].into())));
        reply(Scripted::parts(parts.into()))
    });
    run(&server, async {
        let mut client = connect(&server).await.ready().await.unwrap();
        let mut body = client.send_request(get("/"), true).unwrap().0.await.unwrap().into_body();

        assert_eq!(body.data().await.unwrap().unwrap().len(), 1000);
        assert_eq!(body.data().await.unwrap().unwrap().len(), 5000);
    });
}

#[test]
fn sends_no_data_in_reply_to_head() {
    let server = Server::start(Limits::default(), echo_path);
    run(&server, async {
        let mut client = connect(&server).await.ready().await.unwrap();
        let head = Request::builder().method(Method::HEAD).uri("http://a/").body(()).unwrap();

        let reply = client.send_request(head, true).unwrap().0.await.unwrap();

        assert!(reply.body().is_end_stream());
    });
}

#[test]
fn resets_the_stream_with_the_reason_of_an_abort() {
    let server = Server::start(Limits::default(), |_| {
        reply(Scripted::parts(vec![Ok(Part::Data("half".into())), Err(Abort(Reason::ENHANCE_YOUR_CALM))]))
    });
    run(&server, async {
        let mut client = connect(&server).await.ready().await.unwrap();
        let reply = client.send_request(get("/"), true).unwrap().0.await;
        // The reset may overtake the rest of the reply.
        let error = match reply {
            Ok(reply) => text(reply.into_body()).await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
    });
}

#[test]
fn answers_431_to_too_many_or_too_long_headers() {
    let server = Server::start(Limits { max_headers: 3, max_header_bytes: 8 << 10, ..Limits::default() }, echo_path);
    run(&server, async {
        let mut client = connect(&server).await.ready().await.unwrap();
        let mut many = get("/");
        for name in ["a", "b", "c", "d"] {
            many.headers_mut().insert(name, "x".parse().unwrap());
        }
        let mut long = get("/");
        long.headers_mut().insert("a", "x".repeat(9 << 10).parse().unwrap());

        for request in [many, long] {
            let status = client.send_request(request, true).unwrap().0.await.unwrap().status();
            assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        assert!(client.send_request(get("/"), true).unwrap().0.await.unwrap().status().is_success());
    });
}

#[test]
fn gives_back_the_window_of_bodies_that_nobody_reads() {
    let limits = Limits { stream_window: 64 << 10, connection_window: 64 << 10, ..Limits::default() };
    let server = Server::start(limits, echo_path);
    run(&server, async {
        let mut client = connect(&server).await;
        for _ in 0..5 {
            client = client.ready().await.unwrap();
            let (reply, mut body) = client.send_request(post(), false).unwrap();
            // Fails when the whole reply is here already.
            body.send_data(vec![0; 60 << 10].into(), false).ok();
            let reset = poll_fn(|cx| body.poll_reset(cx));

            let (reply, reset) = tokio::join!(async { text(reply.await?.into_body()).await }, reset);

            assert_eq!(reply.unwrap(), "/");
            assert_eq!(reset.unwrap(), Reason::NO_ERROR);
        }
    });
}

#[test]
fn closes_connections_that_reset_stream_after_stream() {
    let (started, running) = mpsc::channel();
    let (dropped, _ended) = mpsc::channel();
    let server = Server::start(Limits::default(), move |_| hang(started.clone(), dropped.clone()));
    let mut client = Raw::connect(&server);

    // No stream is reset before its call runs: that is what h2 cannot know for a flood.
    let mut stream = 1;
    for _ in 0..1000 {
        client.send(&headers(stream));
        if running.recv_timeout(Duration::from_millis(500)).is_err() {
            break;
        }
        client.send(&rst_stream(stream));
        stream += 2;
    }
    let frames = client.frames();

    assert_eq!(goaway_reason(&frames), Reason::ENHANCE_YOUR_CALM);
    assert_eq!(server.metrics.counted(ConnectionEvent::ResetFlood), 1);
}

#[test]
fn closes_connections_that_make_us_reset_streams() {
    let server = Server::start(Limits::default(), echo_path);
    // PRIORITY that makes a stream depend on itself: an error of that stream alone.
    let errors = (0..1100_u32).flat_map(|index| {
        let stream = (2 * index + 1).to_be_bytes();
        [headers(2 * index + 1), [&[0, 0, 5, 2, 0], &stream[..], &stream, &[0]].concat()].concat()
    });
    let mut client = Raw::connect(&server);

    client.send(&errors.collect::<Vec<u8>>());
    let frames = client.frames();

    assert_eq!(goaway_reason(&frames), Reason::ENHANCE_YOUR_CALM);
}

#[test]
fn closes_connections_that_continue_headers_without_end() {
    let server = Server::start(Limits::default(), echo_path);
    let mut client = Raw::connect(&server);

    client.send(&[0, 0, 1, 1, 1, 0, 0, 0, 1, 0x82]);
    client.send(&[0, 0, 0, 9, 0, 0, 0, 0, 1].repeat(1000));
    let frames = client.frames();

    assert_eq!(goaway_reason(&frames), Reason::ENHANCE_YOUR_CALM);
}

#[test]
fn loses_only_the_stream_whose_call_panics() {
    let server = Server::start(Limits::default(), |request| {
        assert_ne!(request.uri().path(), "/panic", "as the test wants it");
        echo_path(request)
    });
    let panics = runtime::panics();
    run(&server, async {
        let mut client = connect(&server).await.ready().await.unwrap();
        let lost = client.send_request(get("/panic"), true).unwrap().0;
        let kept = client.send_request(get("/kept"), true).unwrap().0;

        assert!(lost.await.is_err());
        assert_eq!(text(kept.await.unwrap().into_body()).await.unwrap(), "/kept");
    });
    assert!(runtime::panics() > panics);
}

#[test]
fn refuses_malformed_requests_alone() {
    let server = Server::start(Limits::default(), echo_path);
    let without_path = [0, 0, 5, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x41, 1, b'a'];
    let connect = [0, 0, 12, 1, 5, 0, 0, 0, 3, 2, 7, b'C', b'O', b'N', b'N', b'E', b'C', b'T', 0x41, 1, b'a'];
    // Ends the connection once all is answered.
    let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut client = Raw::connect(&server);

    client.send(&[&without_path[..], &connect, &headers(5), &goaway].concat());
    let frames = client.frames();

    let resets: Vec<_> = frames.iter().filter(|(kind, _)| *kind == RST_STREAM).collect();
    assert_eq!(resets, [&(RST_STREAM, vec![0, 0, 0, 1])]);
    assert_eq!(frames.iter().filter(|(kind, _)| *kind == HEADERS).count(), 2);
    assert!(frames.contains(&(DATA, b"/".to_vec())));
}

#[test]
fn finishes_running_streams_when_draining() {
    let (release, released) = tokio::sync::watch::channel(false);
    let (started, running) = mpsc::channel();
    let server = Server::start(Limits::default(), move |_| {
        let mut released = released.clone();
        let started = started.clone();
        Box::pin(async move {
            started.send(()).unwrap();
            released.wait_for(|released| *released).await.unwrap();
            Response::new(Scripted::text("done"))
        })
    });
    let (mut client, reply) = run(&server, async {
        let mut client = connect(&server).await.ready().await.unwrap();
        let reply = client.send_request(get("/"), true).unwrap().0;
        (client, reply)
    });
    running.recv_timeout(PATIENCE).unwrap();

    server.shutdown.begin();
    run(&server, async {
        time_passes().await;
        assert!(poll_fn(|cx| client.poll_ready(cx)).await.is_err());
        release.send(true).unwrap();
        assert_eq!(text(reply.await.unwrap().into_body()).await.unwrap(), "done");
        server.workers.drained().await;
    });
}

#[test]
fn closes_idle_connections_when_draining() {
    let server = Server::start(Limits::default(), echo_path);
    let client = run(&server, connect(&server));

    let cut = run(&server, server.drain(PATIENCE));

    assert_eq!(cut, 0);
    drop(client);
}

#[test]
fn gets_replies_through_that_are_larger_than_every_buffer() {
    let server = Server::start(Limits::default(), |_| {
        reply(Scripted::parts((0..64).map(|_| Ok(Part::Data(vec![b'x'; 256 << 10].into()))).collect()))
    });
    run(&server, async {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(8 << 20).initial_connection_window_size(32 << 20);
        let mut client = connect_with(&server, &mut builder).await.ready().await.unwrap();
        let replies: Vec<_> = (0..4).map(|_| client.send_request(get("/"), true).unwrap().0).collect();
        let bodies = replies.into_iter().map(|reply| tokio::spawn(async { text(reply.await?.into_body()).await }));
        for body in bodies.collect::<Vec<_>>() {
            assert_eq!(body.await.unwrap().unwrap().len(), 16 << 20);
        }
    });
}

async fn eventually(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Long enough for whatever the server would do at once.
async fn time_passes() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}
