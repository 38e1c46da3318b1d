//! HTTP/1.1 by raw bytes.

use std::io::{Read, Write};
use std::net::{Shutdown as Half, TcpStream};

use http::HeaderMap;

use super::*;

/// A blocking client that knows just enough to find the end of a reply.
pub(super) struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

pub(super) struct Answered {
    pub(super) status: StatusCode,
    head: String,
    body: String,
}

impl Client {
    pub(super) fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub(super) fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    pub(super) fn is_silent_for(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let silent = self.stream.peek(&mut [0]).is_err();
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        silent
    }

    /// Everything up to the end of the connection.
    fn rest(mut self) -> String {
        self.stream.read_to_end(&mut self.read).unwrap();
        String::from_utf8(self.read).unwrap()
    }

    fn until(&mut self, mark: &str) -> String {
        loop {
            if let Some(at) = self.read.windows(mark.len()).position(|window| window == mark.as_bytes()) {
                let rest = self.read.split_off(at + mark.len());
                return String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap();
            }
            let mut buffer = [0; 4096];
            let read = self.stream.read(&mut buffer).unwrap();
            assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&self.read));
            self.read.extend_from_slice(&buffer[..read]);
        }
    }

    pub(super) fn reply(&mut self) -> Answered {
        let head = self.until("\r\n\r\n").to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = if head.contains("transfer-encoding: chunked") { self.until("0\r\n\r\n") } else { String::new() };
        Answered { status, head, body }
    }
}

fn refused(request: &str) -> StatusCode {
    let server = Server::start(Limits::default(), echo_path);
    let mut client = Client::connect(&server);
    client.send(request);
    let refused = client.reply();
    assert!(refused.head.contains("connection: close"), "{}", refused.head);
    assert_eq!(client.rest(), "");
    refused.status
}

#[test]
fn keeps_the_connection_for_the_next_request() {
    let server = Server::start(Limits::default(), echo_path);
    let mut client = Client::connect(&server);

    for path in ["/one", "/two"] {
        client.send(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
        let reply = client.reply();
        assert_eq!(reply.status, StatusCode::OK);
        assert!(reply.head.contains("date: "));
        assert!(reply.body.contains(path));
    }
    assert_eq!(server.metrics.accepted_so_far(), 1);
    assert_eq!(server.metrics.open_now(Transport::Http1), 1);
}

#[test]
fn answers_pipelined_requests_in_order() {
    let server = Server::start(Limits::default(), echo_path);
    let mut client = Client::connect(&server);

    client.send("GET /one HTTP/1.1\r\nhost: a\r\n\r\nGET /two HTTP/1.1\r\nhost: a\r\n\r\n");

    assert!(client.reply().body.contains("/one"));
    assert!(client.reply().body.contains("/two"));
}

#[test]
fn invites_the_body_that_a_client_holds_back() {
    let server = Server::start(Limits::default(), echo_body);
    let mut client = Client::connect(&server);

    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n");
    assert_eq!(client.until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello");

    assert!(client.reply().body.contains("hello"));
}

#[test]
fn answers_408_to_slow_first_bytes_and_slow_heads() {
    let server = Server::start(hasty(), echo_path);

    // Could be the preface of HTTP/2, could be POST.
    for part in ["P", "GET / HTTP/1.1\r\nhost:"] {
        let mut client = Client::connect(&server);
        client.send(part);
        assert!(client.rest().starts_with("HTTP/1.1 408 "));
    }
    let mut reused = Client::connect(&server);
    reused.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    reused.reply();
    reused.send("GET / HTTP/1.1\r\n");
    assert!(reused.rest().starts_with("HTTP/1.1 408 "));

    assert_eq!(server.metrics.counted(ConnectionEvent::HeaderTimeout), 3);
}

#[test]
fn measures_a_slow_head_from_its_first_byte() {
    let limits = Limits { idle_timeout: PATIENCE, ..hasty() };
    let server = Server::start(limits, echo_path);
    let mut client = Client::connect(&server);

    client.send("GET /one HTTP/1.1\r\nhost: a\r\n\r\n");
    client.reply();
    std::thread::sleep(2 * limits.header_timeout);
    client.send("GET /two HTTP/1.1\r\nhost: a\r\n\r\n");

    assert!(client.reply().body.contains("/two"));
}

#[test]
fn closes_idle_connections_silently() {
    let server = Server::start(hasty(), echo_path);
    let unused = Client::connect(&server);
    let mut used = Client::connect(&server);
    used.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    used.reply();

    assert_eq!(unused.rest(), "");
    assert_eq!(used.rest(), "");
    assert_eq!(server.metrics.counted(ConnectionEvent::IdleTimeout), 1);
}

#[test]
fn answers_431_to_heads_over_the_limits() {
    let many = "x: y\r\n".repeat(101);
    let long = "y".repeat(61 << 10);

    assert_eq!(refused(&format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n")).as_u16(), 431);
    assert_eq!(refused(&format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n")).as_u16(), 431);
}

#[test]
fn refuses_what_another_server_could_read_differently() {
    for request in [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +4\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
    ] {
        assert_eq!(refused(request), StatusCode::BAD_REQUEST, "{request}");
    }
}

#[test]
fn trusts_nothing_after_a_request_with_two_lengths() {
    for lengths in [
        ["content-length: 5\r\n", "transfer-encoding: chunked\r\n"],
        ["transfer-encoding: chunked\r\n", "Content-Length: 5\r\n"],
    ] {
        let server = Server::start(Limits::default(), echo_path);
        let mut client = Client::connect(&server);

        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
        assert!(!client.reply().head.contains("connection: close"));
        client.send(&format!("POST / HTTP/1.1\r\nhost: a\r\n{}", lengths[0]));
        client.send(&format!("{}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n", lengths[1]));

        assert!(client.reply().head.contains("connection: close"));
        assert_eq!(client.rest(), "");
    }
}

#[test]
fn keeps_connections_with_chunked_requests() {
    let server = Server::start(Limits::default(), echo_body);
    let mut client = Client::connect(&server);

    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi");
    client.reply();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");

    let reply = client.reply();
    assert!(reply.body.contains("hello") && !reply.head.contains("connection: close"));
}

#[test]
fn refuses_tunnels() {
    assert_eq!(refused("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n"), StatusCode::NOT_IMPLEMENTED);
}

#[test]
fn never_upgrades_to_http2() {
    let server = Server::start(Limits::default(), echo_path);
    let mut client = Client::connect(&server);

    client.send(
        "GET /plain HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\
         http2-settings: AAMAAABkAAQAAP__\r\n\r\n",
    );

    assert!(client.reply().body.contains("/plain"));
}

#[test]
fn sends_trailers_to_clients_that_want_them() {
    let server = Server::start(Limits::default(), |_| {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "42".parse().unwrap());
        let parts = vec![Ok(Part::Data("data".into())), Ok(Part::Trailers(trailers))];
        Box::pin(ready(Response::builder().header("trailer", "x-sum").body(Scripted::parts(parts)).unwrap()))
    });
    let mut client = Client::connect(&server);

    client.send("GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te\r\n\r\n");
    assert!(client.until("0\r\nx-sum: 42\r\n\r\n").contains("data"));
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(client.reply().body.ends_with("data\r\n0\r\n\r\n"));
}

#[test]
fn drops_the_call_when_the_client_leaves() {
    let (started, running) = mpsc::channel();
    let (dropped, ended) = mpsc::channel();
    let server = Server::start(Limits::default(), move |_| hang(started.clone(), dropped.clone()));
    let mut client = Client::connect(&server);

    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    running.recv_timeout(PATIENCE).unwrap();
    client.stream.shutdown(Half::Both).unwrap();

    ended.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn leaves_an_aborted_body_incomplete() {
    let server = Server::start(Limits::default(), |_| {
        reply(Scripted::parts(vec![Ok(Part::Data("half".into())), Err(Abort(h2::Reason::INTERNAL_ERROR))]))
    });
    let mut client = Client::connect(&server);

    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");

    assert!(!client.rest().contains("0\r\n\r\n"));
}

#[test]
fn finishes_the_running_request_when_draining() {
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
    let mut client = Client::connect(&server);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    running.recv_timeout(PATIENCE).unwrap();

    server.shutdown.begin();
    assert!(client.is_silent_for(Duration::from_millis(50)));
    release.send(true).unwrap();

    let reply = client.reply();
    assert!(reply.head.contains("connection: close") && reply.body.contains("done"));
    assert_eq!(client.rest(), "");
}

#[test]
fn answers_one_more_request_on_connections_that_wait_when_the_end_begins() {
    let server = Server::start(Limits::default(), echo_path);
    let mut unused = Client::connect(&server);
    let mut used = Client::connect(&server);
    used.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(!used.reply().head.contains("connection: close"));

    server.shutdown.begin();
    assert!(used.is_silent_for(Duration::from_millis(50)) && unused.is_silent_for(Duration::from_millis(50)));

    for client in [&mut unused, &mut used] {
        client.send("GET /last HTTP/1.1\r\nhost: a\r\n\r\n");
        let reply = client.reply();
        assert!(reply.status == StatusCode::OK && reply.head.contains("connection: close"), "{}", reply.head);
    }
    assert_eq!(unused.rest() + &used.rest(), "");
}

#[test]
fn closes_idle_connections_when_draining() {
    let server = Server::start(Limits::default(), echo_path);
    let unused = Client::connect(&server);
    let mut used = Client::connect(&server);
    used.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    used.reply();

    let cut = server.control.block_on(server.drain(PATIENCE));

    assert_eq!(cut, 0);
    assert_eq!(unused.rest() + &used.rest(), "");
}
