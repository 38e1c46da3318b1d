//! A real listener and a real worker, with a script in place of the proxy.

mod http1;
mod http2;

use std::future::{pending, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::mpsc;

use http::StatusCode;
use tokio::runtime::Runtime;

use super::listener::Listener;
use super::*;
use crate::config::Limits;
use crate::runtime::Workers;
use crate::telemetry::Transport;
use crate::telemetry::metrics::Registry;

/// Longer than anything here takes; what waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

type Replying = Pin<Box<dyn Future<Output = Response<Scripted>>>>;

/// Answers requests by a function.
struct Script<F>(F);

impl<F: Fn(Request<RequestBody>) -> Replying + 'static> Answer for Script<F> {
    type Body = Scripted;

    fn answer(
        self: Rc<Self>,
        _peer: Rc<Peer>,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Response<Scripted>> + 'static {
        (self.0)(request)
    }
}

/// A body given by a function.
#[allow(clippy::type_complexity, reason = "said once")]
struct Scripted {
    part: Box<dyn FnMut(&mut Context<'_>) -> Poll<Option<Result<Part, Abort>>>>,
}

impl Reply for Scripted {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Abort>>> {
        (self.part)(cx)
    }

    fn poll_aside(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn is_end(&self) -> bool {
        false
    }
}

impl Scripted {
    /// All parts at once.
    fn parts(parts: Vec<Result<Part, Abort>>) -> Self {
        let mut parts = parts.into_iter();
        Self { part: Box::new(move |_| Poll::Ready(parts.next())) }
    }

    fn text(text: &str) -> Self {
        Self::parts(vec![Ok(Part::Data(text.to_owned().into()))])
    }
}

fn reply(body: Scripted) -> Replying {
    Box::pin(ready(Response::new(body)))
}

/// Replies with the path.
#[allow(clippy::needless_pass_by_value, reason = "scripts take the request")]
fn echo_path(request: Request<RequestBody>) -> Replying {
    reply(Scripted::text(request.uri().path()))
}

/// Replies with the bytes of the body, once it is complete.
fn echo_body(request: Request<RequestBody>) -> Replying {
    Box::pin(async move {
        let mut body = request.into_body();
        let mut text = Vec::new();
        while let Some(Ok(data)) = std::future::poll_fn(|cx| body.poll_data(cx)).await {
            body.release(data.len());
            text.extend_from_slice(&data);
        }
        Response::new(Scripted::parts(vec![Ok(Part::Data(text.into()))]))
    })
}

/// Never replies; sends once its call is dropped.
fn hang(started: mpsc::Sender<()>, dropped: mpsc::Sender<()>) -> Replying {
    struct Dropped(mpsc::Sender<()>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.send(()).ok();
        }
    }
    let dropped = Dropped(dropped);
    Box::pin(async move {
        let _dropped = dropped;
        started.send(()).ok();
        pending().await
    })
}

/// A server on a port of its own.
struct Server {
    address: SocketAddr,
    shutdown: Shutdown,
    metrics: Arc<ListenerMetrics>,
    workers: Arc<Workers<Accepted>>,
    control: Runtime,
}

impl Server {
    fn start<F>(limits: Limits, script: F) -> Self
    where
        F: Fn(Request<RequestBody>) -> Replying + Clone + Send + Sync + 'static,
    {
        let worker = Registry::new(Arc::default()).worker();
        let counted = worker.clone();
        let take = move |_| serve_with(Rc::new(Script(script.clone())), counted.clone());
        let workers = Arc::new(Workers::start(1, take).unwrap());
        let settings = config::Listener { limits, ..config::Listener::on(([127, 0, 0, 1], 0).into()) };
        let listener = Listener::bind(settings).unwrap();
        let address = listener.address();
        let control = runtime::control().unwrap();
        let shutdown = listener.start(control.handle(), &workers).unwrap().shutdown().clone();
        let metrics = worker.listener(&address.to_string());
        Self { address, shutdown, metrics, workers, control }
    }
}

impl Server {
    /// The whole end, in which nothing that waits is waited for.
    async fn drain(&self, grace: Duration) -> usize {
        self.shutdown.hurry();
        drain::finish(std::slice::from_ref(&self.shutdown), &self.workers, grace).await
    }
}

/// Limits with timeouts that a test can wait for.
fn hasty() -> Limits {
    Limits { header_timeout: Duration::from_millis(200), idle_timeout: Duration::from_millis(400), ..Limits::default() }
}

#[test]
fn takes_a_following_port_when_asked_to() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = config::Listener::on(taken.local_addr().unwrap());

    assert_eq!(Listener::bind(settings.clone()).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    settings.next_free_port = true;
    let bound = Listener::bind(settings).unwrap();

    assert!(bound.address().port() > taken.local_addr().unwrap().port());
}

#[test]
fn drains_what_runs_and_says_what_it_cut() {
    let (started, running) = mpsc::channel();
    let (dropped, ended) = mpsc::channel();
    let server = Server::start(Limits::default(), move |_| hang(started.clone(), dropped.clone()));
    let mut client = std::net::TcpStream::connect(server.address).unwrap();
    std::io::Write::write_all(&mut client, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    running.recv_timeout(PATIENCE).unwrap();

    let cut = server.control.block_on(server.drain(Duration::from_millis(50)));

    assert_eq!(cut, 1);
    ended.recv_timeout(PATIENCE).unwrap();
    assert_eq!(server.workers.live(), 0);
    assert!(std::net::TcpStream::connect(server.address).is_err());
}

#[test]
fn leaves_connections_beyond_the_limit_in_the_backlog() {
    let server = Server::start(Limits { max_connections: 1, ..Limits::default() }, echo_path);
    let first = http1::Client::connect(&server);
    let mut second = http1::Client::connect(&server);

    second.send("GET /second HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(second.is_silent_for(Duration::from_millis(100)));
    drop(first);

    assert_eq!(second.reply().status, StatusCode::OK);
}
