//! What hostile clients send that no client sends by mistake: each is refused in words, and nobody else notices.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use prost::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use crate::support::backend::{self, act, pb, scripted};
use crate::support::client::{Version, request};
use crate::support::gateway::TestGateway;
use crate::support::grpc::soon;

/// Writes these bytes and reads until the gateway closes the connection, or says no more for a while.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the gateway listens");
    stream.write_all(bytes).await.expect("the gateway reads");
    let mut reply = Vec::new();
    let reading = async { while matches!(stream.read_buf(&mut reply).await, Ok(1..)) {} };
    tokio::time::timeout(Duration::from_secs(2), reading).await.ok();
    String::from_utf8_lossy(&reply).into_owned()
}

fn post(headers: &str, body: &str) -> Vec<u8> {
    let head = "POST /portico.test.v1.Echo/Say HTTP/1.1\r\ncontent-type: application/json\r\nconnection: close\r\n";
    format!("{head}{headers}\r\n{body}").into_bytes()
}

#[tokio::test]
async fn clients_that_send_broken_chunks_are_told_so() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    let chunked = "host: a\r\ntransfer-encoding: chunked\r\n";

    for body in [
        "fffffffffffffffff\r\n{}\r\n0\r\n\r\n".to_owned(),
        "0x2\r\n{}\r\n0\r\n\r\n".to_owned(),
        "2\r\n{}XX0\r\n\r\n".to_owned(),
        format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "a".repeat(40_000)),
    ] {
        let reply = exchange(gateway.address, &post(chunked, &body)).await;

        assert!(reply.starts_with("HTTP/1.1 400 "), "{reply}");
        assert!(reply.contains("INVALID_REQUEST"), "{reply}");
    }
    let counts = backend.tally.counts();
    assert_eq!(counts.started, 0, "nothing of it reaches the backend");
}

#[tokio::test]
async fn no_transfer_coding_but_a_single_chunked_is_taken() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;

    for coding in ["gzip, chunked", "chunked, chunked", "chunked\r\ntransfer-encoding: chunked"] {
        let headers = format!("host: a\r\ntransfer-encoding: {coding}\r\n");
        let reply = exchange(gateway.address, &post(&headers, "2\r\n{}\r\n0\r\n\r\n")).await;

        assert!(reply.starts_with("HTTP/1.1 501 "), "{coding}: {reply}");
    }
    let reply =
        exchange(gateway.address, &post("host: a\r\ntransfer-encoding: CHUNKED \r\n", "2\r\n{}\r\n0\r\n\r\n")).await;
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
}

#[tokio::test]
async fn heads_that_others_may_read_otherwise_are_refused() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;

    for line in [
        "x: a\r\n folded",
        "x : a",
        "x: a\rb",
        "x: a\0b",
        ": a",
        "x\u{b}: a",
        "content-length: 3",
        "content-length: 2, 3",
        "content-length: +2",
        "content-length: 0x2",
        "content-length: -2",
        "content-length:",
        "host: b",
    ] {
        let length = if line.starts_with("content-length: 3") { "content-length: 2\r\n" } else { "" };
        let reply = exchange(gateway.address, &post(&format!("host: a\r\n{length}{line}\r\n"), "{}")).await;

        assert!(reply.starts_with("HTTP/1.1 400 "), "{line:?}: {reply}");
    }
    assert_eq!(backend.tally.counts().started, 0, "nothing of it reaches the backend");
}

#[tokio::test]
async fn no_second_request_hides_in_a_body_or_behind_an_upgrade() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    let hidden = "GET /test/v1/say/hidden HTTP/1.1\r\nhost: a\r\n\r\n";
    let both = format!(
        "POST /portico.test.v1.Echo/Say HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n{hidden}",
        12 + hidden.len()
    );
    let h2c = "GET /test/v1/say/x HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n";

    let both = exchange(gateway.address, both.as_bytes()).await;
    let h2c = exchange(gateway.address, h2c.as_bytes()).await;

    assert_eq!((both.matches("HTTP/1.1 ").count(), both.contains("hidden")), (1, false), "{both}");
    assert!(both.contains("connection: close"), "{both}");
    assert!(h2c.starts_with("HTTP/1.1 200 "), "{h2c}");
}

#[tokio::test]
async fn hosts_that_name_no_host_are_refused() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;

    for host in ["a b", "a\u{e9}", "user@a", "a/b", "a, b"] {
        let reply = exchange(gateway.address, &post(&format!("host: {host}\r\ncontent-length: 2\r\n"), "{}")).await;

        assert!(reply.starts_with("HTTP/1.1 400 "), "{host}: {reply}");
    }
    for host in ["", "a", "a:80", "[::1]:80", "1.2.3.4"] {
        let reply = exchange(gateway.address, &post(&format!("host: {host}\r\ncontent-length: 2\r\n"), "{}")).await;

        assert!(reply.starts_with("HTTP/1.1 200 "), "{host}: {reply}");
    }
    let absolute = b"GET http://user:secret@a/test/v1/say/x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    assert!(exchange(gateway.address, absolute).await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn authority_with_user_information_is_malformed() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    let stream = TcpStream::connect(gateway.address).await.expect("the gateway listens");
    let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);

    let request = Request::get("http://user:secret@a/test/v1/say/x").body(()).expect("a good request");
    let (reply, _) = sender.ready().await.expect("open").send_request(request, true).expect("sent");

    let error = reply.await.expect_err("the stream is reset");
    assert_eq!(error.reason(), Some(h2::Reason::PROTOCOL_ERROR));
}

#[tokio::test]
async fn messages_quote_no_more_than_the_start_of_a_request() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    let path = format!("/{}", "%22".repeat(12_000));

    for version in Version::BOTH {
        let mut client = gateway.client(version).await;

        let reply = client.get(&path).await;

        assert_eq!(reply.status, StatusCode::NOT_FOUND);
        assert!(reply.body.len() < 2_000, "{} bytes", reply.body.len());
    }
    let mut client = gateway.client(Version::Http2).await;
    let call = request(Method::POST, &path, &[("content-type", "application/grpc"), ("te", "trailers")], "");
    let message = client.send(call).await.headers["grpc-message"].clone();
    assert!(message.len() < 4_000, "{} bytes", message.len());
}

#[tokio::test]
async fn other_spellings_of_a_method_are_not_forwarded_as_unknown_methods() {
    let backend = scripted::start(vec![act::reply(&pb::SayReply::default())]).await;
    let gateway = TestGateway::start(&format!(
        "upstreams: [ {{ name: echo, endpoints: [\"{}\"], schema: {{ proto: [proto/portico/test/v1/echo.proto], include: [proto] }} }} ]\n",
        backend.address
    ))
    .await;
    gateway.ready().await;
    let mut client = gateway.client(Version::Http2).await;
    let mut call = async |path: &str| {
        let mut call = request(Method::POST, path, &[("content-type", "application/grpc"), ("te", "trailers")], "");
        *call.body_mut() = act::framed(&[]);
        let reply = client.send(call).await;
        reply.headers.get("grpc-status").or_else(|| reply.trailers.get("grpc-status")).cloned()
    };

    for path in [
        "/portico.test.v1.Echo/%53ay",
        "/portico.test.v1.Echo%2fSay",
        "//portico.test.v1.Echo/Say",
        "/x/../portico.test.v1.Echo/Say",
        "/./portico.test.v1.Echo/Say",
        "/portico.test.v1.Echo/Say/",
        "/portico.test.v1.Echo/Say;v=1",
        "/portico.test.v1.Echo/say",
        "/portico.test.v1.echo/Say",
        "/Portico.Test.V1.Echo/Newer",
    ] {
        assert_eq!(call(path).await.unwrap(), "12", "{path}");
    }
    assert!(backend.calls().is_empty());
    assert_eq!(call("/portico.test.v1.Other/Say").await.unwrap(), "0");
    assert_eq!(backend.calls().len(), 1);
}

#[tokio::test]
async fn readers_that_do_not_read_leave_the_upstream_to_others() {
    const SLOW: usize = 400;
    let endless: Vec<_> = std::iter::once(act::grpc_head(&[]))
        .chain((0..8).map(|_| act::Step::Data(act::framed(&[0; 1 << 20]))))
        .chain([act::status(0, "")])
        .collect();
    let mut script = vec![endless; SLOW];
    script.push(act::reply(&pb::SayReply { text: "hello".into(), ..Default::default() }));
    let backend = scripted::start(script).await;
    let gateway = TestGateway::start(&over_scripted(backend.address)).await;
    gateway.ready().await;
    let mut held = Vec::new();
    for _ in 0..SLOW / 50 {
        let stream = TcpStream::connect(gateway.address).await.expect("the gateway listens");
        let (mut sender, connection) =
            h2::client::Builder::new().initial_window_size(1).handshake::<_, Bytes>(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        for _ in 0..50 {
            sender = sender.ready().await.expect("open");
            let (reply, mut stream) = sender.send_request(grpc("Repeat", gateway.address), false).expect("sent");
            stream.send_data(Bytes::from_static(&[0, 0, 0, 0, 0]), true).expect("sent");
            held.push(reply.await.expect("a head"));
        }
    }

    let mut client = gateway.client(Version::Http1).await;
    let call = client.json(Method::POST, "/portico.test.v1.Echo/Say", r#"{"text": "hello"}"#);
    let reply = tokio::time::timeout(Duration::from_secs(20), call).await.expect("nobody waits for who does not read");

    assert_eq!(reply.status, StatusCode::OK);
    let cut_off = "portico_requests_total{upstream=\"echo\",method=\"portico.test.v1.Echo/Repeat\",protocol=\"grpc\",code=\"RESOURCE_EXHAUSTED\",origin=\"client\"";
    gateway.metric_reaches(cut_off, 1.0).await;
    drop(held);
}

/// Connections over HTTP/1.1 that asked for a stream each and read no more than the beginning of its reply.
async fn deaf(gateway: SocketAddr, count: usize, headers: &str) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let mut stream = socket.connect(gateway).await.expect("the gateway listens");
        let head = "POST /portico.test.v1.Echo/Repeat HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n";
        let request = format!("{head}{headers}content-length: 2\r\n\r\n{{}}");
        stream.write_all(request.as_bytes()).await.expect("the gateway reads");
        soon(stream.read_exact(&mut [0; 12])).await.expect("a head");
        held.push(stream);
    }
    held
}

/// A stream of far more than any buffer takes.
fn much() -> Vec<act::Step> {
    let large = act::framed(&pb::SayReply { text: "a".repeat(64 << 10), ..Default::default() }.encode_to_vec());
    std::iter::once(act::grpc_head(&[]))
        .chain((0..256).map(|_| act::Step::Data(large.clone())))
        .chain([act::status(0, "")])
        .collect()
}

#[tokio::test]
async fn readers_over_http_1_that_do_not_read_leave_the_upstream_to_others() {
    const SLOW: usize = 100;
    let mut script = vec![much(); SLOW];
    script.push(act::reply(&pb::SayReply::default()));
    let backend = scripted::start(script).await;
    let one_connection =
        over_scripted(backend.address).replace("schema:", "connections: { max_per_endpoint: 1 }, schema:");
    let gateway = TestGateway::start(&one_connection).await;
    gateway.ready().await;
    let held = deaf(gateway.address, SLOW, "").await;

    let mut client = gateway.client(Version::Http1).await;
    let call = client.json(Method::POST, "/portico.test.v1.Echo/Say", "{}");
    let reply = tokio::time::timeout(Duration::from_secs(20), call).await.expect("nobody waits for who does not read");

    assert_eq!(reply.status, StatusCode::OK);
    let cut_off = "portico_requests_total{upstream=\"echo\",method=\"portico.test.v1.Echo/Repeat\",protocol=\"rest\",code=\"RESOURCE_EXHAUSTED\",origin=\"client\"";
    gateway.metric_reaches(cut_off, 1.0).await;
    drop(held);
}

#[tokio::test]
async fn deadlines_hold_for_readers_over_http_1_that_do_not_read() {
    let backend = scripted::start(vec![much()]).await;
    let gateway = TestGateway::start(&over_scripted(backend.address)).await;
    gateway.ready().await;

    let _held = deaf(gateway.address, 1, "grpc-timeout: 500m\r\n").await;

    let late = "portico_requests_total{upstream=\"echo\",method=\"portico.test.v1.Echo/Repeat\",protocol=\"rest\",code=\"DEADLINE_EXCEEDED\"";
    gateway.metric_reaches(late, 1.0).await;
    backend.tally.until(|counts| counts.cancelled == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_cancelled_at_once_leave_the_upstream_to_others() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    // A backend that stands still for longer than a stream that is given up lives, because the machine is busy, takes it for
    // reset at once: what broke then says nothing.
    for _ in 0..10 {
        match flood(gateway.address).await {
            Ok(()) => return,
            Err(stall) => {
                assert!(stall > Duration::from_millis(25), "the bystander's call ends with the cancelled ones")
            }
        }
    }
}

/// Cancels thousands of calls. Fails when the call of another client ends by that, with the longest time that it had to wait
/// for a reply.
async fn flood(gateway: SocketAddr) -> Result<(), Duration> {
    let mut bystander = backend::client(gateway).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let say = || pb::SayRequest { text: "still there".into(), ..Default::default() };
    sender.send(say()).await.expect("open");
    let mut replies = bystander.converse(stream).await.expect("a head").into_inner();
    replies.message().await.expect("a reply");

    let mut longest = Duration::ZERO;
    for round in 0..200 {
        let stream = TcpStream::connect(gateway).await.expect("the gateway listens");
        let (mut client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        let mut given_up = Vec::new();
        for _ in 0..90 {
            let Ok(ready) = client.ready().await else { break };
            client = ready;
            let Ok(sent) = client.send_request(grpc("Collect", gateway), false) else { break };
            given_up.push(sent);
        }
        // At a different moment of the gateway's turn each time.
        let moment = Instant::now() + Duration::from_micros(20 * (round % 25));
        while Instant::now() < moment {
            tokio::task::yield_now().await;
        }
        drop(given_up);
        let asked = Instant::now();
        let goes_on = sender.send(say()).await.is_ok() && matches!(replies.message().await, Ok(Some(_)));
        longest = longest.max(asked.elapsed());
        if !goes_on {
            return Err(longest);
        }
    }
    Ok(())
}

fn grpc(method: &str, gateway: SocketAddr) -> Request<()> {
    Request::post(format!("http://{gateway}/portico.test.v1.Echo/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a good request")
}

fn over_scripted(address: SocketAddr) -> String {
    format!(
        "workers: 1\nupstreams: [ {{ name: echo, endpoints: [\"{address}\"], schema: {{ proto: [proto/portico/test/v1/echo.proto], include: [proto] }} }} ]\n"
    )
}
