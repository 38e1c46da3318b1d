//! What a client may use, and what happens to one that wants more.

use std::time::Duration;

use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use crate::support::backend::{self, Backend, pb};
use crate::support::client::{Client, Version, request};
use crate::support::frames::{self, Raw, frame};
use crate::support::gateway::{TestGateway, upstream};
use crate::support::process::Portico;

const SAY: &str = "/portico.test.v1.Echo/Say";
const COLLECT: &str = "/portico.test.v1.Echo/Collect";

/// A gateway whose listener has those limits, written as in its configuration.
async fn limited(backend: &Backend, limits: &str) -> TestGateway {
    let listener = format!("listeners: [ {{ address: \"127.0.0.1:0\", limits: {{ {limits} }} }} ]\n");
    let gateway = TestGateway::start(&format!("{}{listener}", upstream("echo", backend.address))).await;
    gateway.ready().await;
    gateway
}

/// Everything that comes back for those bytes until the connection is closed.
async fn exchange(gateway: &TestGateway, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(gateway.address).await.expect("the gateway listens");
    stream.write_all(bytes).await.expect("the gateway takes them");
    let mut reply = String::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut reply)).await;
    read.expect("the connection is closed").expect("the reply is text");
    reply
}

#[tokio::test]
async fn heads_with_too_many_fields_or_bytes_are_431() {
    let backend = backend::start().await;
    let gateway = limited(&backend, "max_headers: 20, max_header_bytes: 16KiB").await;
    let long = "x".repeat(17 << 10);
    let names: Vec<String> = (0..25).map(|number| format!("x-{number}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();

    for version in Version::BOTH {
        for headers in [&[("x-long", long.as_str())][..], &many] {
            let mut client = gateway.client(version).await;
            let reply = client.send(request(Method::GET, "/test/v1/say/hello", headers, "")).await;
            assert_eq!(reply.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "{version:?} {}", headers.len());
        }
        let mut client = gateway.client(version).await;
        let reply = client.send(request(Method::GET, "/test/v1/say/hello", &many[..15], "")).await;
        assert_eq!(reply.status, StatusCode::OK, "{version:?}");
    }
    assert_eq!(backend.tally.counts().started, 2);
}

#[tokio::test]
async fn slow_heads_are_408_and_partial_prefaces_goaway() {
    let backend = backend::start().await;
    let gateway = limited(&backend, "header_timeout: 100ms").await;

    let nothing = exchange(&gateway, b"").await;
    let head = exchange(&gateway, b"GET /test/v1/say/a HTTP/1.1\r\nhost: ").await;
    let mut preface = Raw::connect(gateway.address).await;
    preface.send(&frames::PREFACE[..12]).await;

    assert_eq!(nothing, "");
    assert!(head.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{head}");
    assert!(preface.farewell().await.is_some());
    assert_eq!(gateway.metric("portico_header_timeouts_total").await, 3.0);
}

#[tokio::test]
async fn a_client_that_dribbles_its_head_has_no_longer_than_one_that_stops() {
    let backend = backend::start().await;
    let gateway = limited(&backend, "header_timeout: 200ms").await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut reader, mut writer) = stream.split();
    let begun = tokio::time::Instant::now();

    let dribble = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        for byte in b"GET / HTTP/1.1\r\n".iter().chain(b"x: y\r\n".iter().cycle()) {
            ticks.tick().await;
            if writer.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    };
    let mut first = [0; 12];
    tokio::select! {
        () = dribble => panic!("the gateway closed without a word"),
        read = reader.read_exact(&mut first) => drop(read.expect("there is a reply")),
    }

    assert_eq!(&first, b"HTTP/1.1 408");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn what_a_client_of_http2_begins_it_has_to_end() {
    let backend = backend::start().await;
    let gateway = limited(&backend, "header_timeout: 150ms").await;
    let head = frame(frames::HEADERS, 0, 1, &frames::block(SAY, &[]));
    let more = frame(frames::CONTINUATION, 0, 1, &[]);
    let ping = frame(frames::PING, 0, 0, &[7; 8]);
    let begun = [&head[..], &head[..12], &head[..4], &[&head[..], &more].concat(), &[&ping[..], &ping[..16]].concat()];

    for bytes in begun {
        let mut raw = Raw::open(gateway.address).await;
        raw.send(bytes).await;
        assert_eq!(raw.farewell().await, Some(frames::PROTOCOL_ERROR), "{bytes:?}");
    }
    let mut raw = Raw::open(gateway.address).await;
    raw.send(&head).await;
    let (mut reader, mut writer) = raw.stream.split();
    let dribble = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        // A few long CONTINUATION, byte by byte.
        for byte in frame(frames::CONTINUATION, 0, 1, &[0; 99]).repeat(3) {
            ticks.tick().await;
            if writer.write_all(&[byte]).await.is_err() {
                return;
            }
        }
    };
    let (code, ()) = tokio::join!(frames::farewell(&mut reader), dribble);

    assert_eq!(code, Some(frames::PROTOCOL_ERROR));
    assert_eq!(gateway.metric("portico_header_timeouts_total").await, 6.0);
    assert_eq!(backend.tally.counts().started, 0);
}

#[tokio::test]
async fn data_may_take_longer_than_heads() {
    let backend = backend::start().await;
    let gateway = limited(&backend, "header_timeout: 100ms").await;
    let mut raw = Raw::open(gateway.address).await;
    // An empty message, of which three bytes come late.
    let data = frame(frames::DATA, frames::END_STREAM, 1, &[0; 5]);

    raw.send(&[frames::grpc_head(1, COLLECT), data[..11].to_vec()].concat()).await;
    let closing = raw.until(|frame| frame.kind == frames::GOAWAY);
    tokio::time::timeout(Duration::from_millis(400), closing).await.expect_err("the connection stays open");
    raw.send(&data[11..]).await;
    let end = raw.until(|frame| frame.flags & frames::END_STREAM != 0 && frame.stream == 1).await;

    assert_eq!(end.expect("the reply has an end").kind, frames::HEADERS);
    assert_eq!(gateway.metric("portico_header_timeouts_total").await, 0.0);
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let backend = backend::start().await;
    let gateway = limited(&backend, "idle_timeout: 150ms").await;

    let reply = exchange(&gateway, b"GET /test/v1/say/a HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let code = Raw::open(gateway.address).await.farewell().await;

    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    assert_eq!(code, Some(frames::NO_ERROR));
    gateway.metric_reaches("portico_idle_timeouts_total", 2.0).await;
}

#[tokio::test]
async fn a_running_call_keeps_its_connection_from_being_idle() {
    let backend = backend::start().await;
    let gateway = limited(&backend, "idle_timeout: 400ms").await;

    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        let reply = client.json(Method::POST, SAY, r#"{"behaviour": {"delay": "1s"}}"#).await;
        assert_eq!(reply.status, StatusCode::OK, "{version:?}");
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_in_the_backlog() {
    let backend = backend::start().await;
    let gateway = limited(&backend, "max_connections: 2").await;
    let mut first = gateway.client(Version::Http1).await;
    let mut second = gateway.client(Version::Http2).await;
    assert_eq!(first.get("/test/v1/say/a").await.status, StatusCode::OK);
    assert_eq!(second.get("/test/v1/say/a").await.status, StatusCode::OK);

    let mut third = gateway.client(Version::Http1).await;
    let mut waiting = std::pin::pin!(third.get("/test/v1/say/a"));
    tokio::time::timeout(Duration::from_millis(150), waiting.as_mut()).await.expect_err("it waits");
    drop(first);

    assert_eq!(waiting.await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_limits_of_http2_are_announced() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;

    let mut raw = Raw::open(gateway.address).await;
    let settings = raw.until(|frame| frame.kind == frames::SETTINGS && frame.flags == 0).await.unwrap();
    let update = raw.until(|frame| frame.kind == frames::WINDOW_UPDATE).await.unwrap();

    let [streams, window, header_bytes] = [3, 4, 6].map(|number| settings.setting(number));
    assert_eq!((streams, window, header_bytes), (Some(100), Some(256 << 10), Some(60 << 10)));
    assert_eq!((update.stream, update.number(0)), (0, (4 << 20) - 65_535));
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_alone() {
    let backend = backend::start().await;
    let gateway = limited(&backend, "max_concurrent_streams: 10").await;
    let mut raw = Raw::open(gateway.address).await;

    for number in 0..12 {
        raw.send(&frames::grpc_head(2 * number + 1, COLLECT)).await;
    }
    let resets = [raw.until(|frame| frame.kind == frames::RST_STREAM).await.unwrap(), raw.frame().await.unwrap()];
    // An empty message and the end, for the first of them.
    raw.send(&frame(frames::DATA, frames::END_STREAM, 1, &[0; 5])).await;
    let head = raw.until(|frame| frame.kind == frames::HEADERS).await.unwrap();

    for (reset, stream) in resets.iter().zip([21, 23]) {
        assert_eq!((reset.kind, reset.stream, reset.code()), (frames::RST_STREAM, stream, frames::REFUSED_STREAM));
    }
    assert_eq!(head.stream, 1);
    assert_eq!(backend.tally.until(|counts| counts.started == 10).await.started, 10);
}

#[tokio::test]
async fn messages_over_their_limits_are_refused_in_the_language_of_the_caller() {
    let backend = backend::start().await;
    let policy = "policies: [ { match: \"*\", limits: { request_message: 1KiB, response_message: 2KiB } } ]\n";
    let gateway = TestGateway::start(&format!("{}{policy}", upstream("echo", backend.address))).await;
    gateway.ready().await;
    let large = "x".repeat(1100);
    let generous = pb::Behaviour { payload_bytes: 3000, ..pb::Behaviour::default() };

    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        let reply = client.json(Method::POST, SAY, &format!("{{\"text\": \"{large}\"}}")).await;
        assert_eq!((reply.status, reply.reason().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "REQUEST_TOO_LARGE"));
        // Over HTTP/1.1 the rest of a refused body costs the connection.
        let mut client = gateway.client(version).await;
        let reply = client.json(Method::POST, SAY, r#"{"behaviour": {"payloadBytes": 3000}}"#).await;
        assert_eq!((reply.status, reply.reason().as_str()), (StatusCode::INTERNAL_SERVER_ERROR, "RESPONSE_TOO_LARGE"));
        assert_eq!(client.get("/test/v1/say/small").await.status, StatusCode::OK);
    }
    let mut grpc = backend::client(gateway.address).await;
    let sent = grpc.say(pb::SayRequest { text: large, behaviour: None }).await.unwrap_err();
    let received = grpc.say(pb::SayRequest { text: String::new(), behaviour: Some(generous) }).await.unwrap_err();
    assert_eq!((sent.code(), received.code()), (Code::ResourceExhausted, Code::ResourceExhausted));
    assert!(sent.message().contains("1024") && received.message().contains("2048"), "{sent} {received}");
}

#[tokio::test]
async fn nesting_and_query_pairs_have_a_limit() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    let mut client = gateway.client(Version::Http2).await;
    let nested = |depth: usize| format!("{}{{}}{}", r#"{"recursive":"#.repeat(depth), "}".repeat(depth));
    let brackets = format!(r#"{{"value": {}"#, "[".repeat(1 << 20));
    let pairs = |count: usize| format!("/test/v1/identity?{}", "stringList=a&".repeat(count));

    for (body, status) in [
        (nested(95), StatusCode::OK),
        (nested(101), StatusCode::BAD_REQUEST),
        (nested(10_000), StatusCode::BAD_REQUEST),
        (brackets, StatusCode::BAD_REQUEST),
    ] {
        let reply = client.json(Method::POST, "/test/v1/identity", &body).await;
        assert_eq!(reply.status, status, "{} bytes: {:?}", body.len(), reply.body.slice(..reply.body.len().min(200)));
    }
    assert_eq!(client.get(&pairs(1000)).await.status, StatusCode::OK);
    let reply = client.get(&pairs(1001)).await;
    assert_eq!((reply.status, reply.reason().as_str()), (StatusCode::BAD_REQUEST, "INVALID_REQUEST"));
}

/// Sends attackers' bytes while another client goes on calling; returns the code of the GOAWAY that they got.
async fn attack(gateway: &TestGateway, bytes: &[u8]) -> Option<u32> {
    let mut bystander = gateway.client(Version::Http2).await;
    let mut raw = Raw::open(gateway.address).await;
    let calls = async {
        for _ in 0..20 {
            assert_eq!(bystander.get("/test/v1/say/still-here").await.status, StatusCode::OK);
        }
    };
    let (code, ()) = tokio::join!(raw.flood(bytes), calls);
    code
}

/// Bytes for many streams, of which each one sends the same.
fn streams(count: u32, each: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..count).flat_map(|number| each(2 * number + 1)).collect()
}

#[tokio::test]
async fn rapid_resets_end_the_connection_and_harm_nobody_else() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    let flood = streams(10_000, |id| [frames::grpc_head(id, COLLECT), frames::rst_stream(id)].concat());

    let code = attack(&gateway, &flood).await;

    assert_eq!(code, Some(frames::ENHANCE_YOUR_CALM));
    let counts = backend.tally.until(|counts| counts.started == counts.finished + counts.cancelled).await;
    assert!(counts.started <= 20 + 1000, "{counts:?}");
    assert_eq!(gateway.metric("portico_reset_floods_total").await, 1.0);
}

#[tokio::test]
async fn a_client_that_makes_us_reset_its_streams_is_closed_too() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    // A window that grows by nothing is an error of the stream.
    let nothing = |id| frame(frames::WINDOW_UPDATE, 0, id, &[0; 4]);
    let flood = streams(10_000, |id| [frames::grpc_head(id, COLLECT), nothing(id)].concat());

    let code = attack(&gateway, &flood).await;

    assert!(matches!(code, Some(frames::ENHANCE_YOUR_CALM | frames::PROTOCOL_ERROR)), "{code:?}");
    let counts = backend.tally.until(|counts| counts.started == counts.finished + counts.cancelled).await;
    assert!(counts.started <= 20 + 2000, "{counts:?}");
}

#[tokio::test]
async fn endless_headers_end_the_connection() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    let head = frame(frames::HEADERS, 0, 1, &frames::block(SAY, &[]));
    let field = frames::block(SAY, &[("x-more", &"y".repeat(8000))]).split_off(4);
    for more in [&field[..], &[]] {
        let mut flood = head.clone();
        for _ in 0..5000 {
            flood.extend(frame(frames::CONTINUATION, 0, 1, more));
        }

        let code = attack(&gateway, &flood).await;

        assert!(matches!(code, Some(frames::ENHANCE_YOUR_CALM | frames::PROTOCOL_ERROR)), "{code:?}");
    }
    assert_eq!(backend.tally.counts().started, 40);
}

#[tokio::test]
async fn floods_without_reading_stop_at_the_sockets_and_cost_no_memory() {
    let backend = backend::start().await;
    let address = backend.address.to_string();
    let flags = ["run", "--upstream", &address, "--listen", "127.0.0.1:0", "--admin", "off", "--workers", "1"];
    let mut portico = Portico::start(&flags);
    let listener = portico.address("portico listens on").await;
    portico.said("schema loaded").await;
    let settings = frame(frames::SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0].repeat(50));
    let stop = 64 << 20;
    let before = portico.resident();

    for piece in [frame(frames::PING, 0, 0, &[7; 8]).repeat(1000), settings.repeat(50)] {
        let mut raw = Raw::open(listener).await;
        let taken = raw.pour(&piece, stop).await;
        assert!(taken < stop, "the gateway took {taken} bytes");
    }
    let mut client = Client::connect(listener, Version::Http1).await;
    assert_eq!(client.get("/test/v1/say/still-here").await.status, StatusCode::OK);

    let grown = portico.resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes");
}
