//! Steady load: REST and gRPC, unary and streams, so many calls a second, and what became of each.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tokio_rustls::client::TlsStream;
use tonic::codegen::Service;
use tonic::transport::{Channel, Endpoint};

use crate::backend;
use crate::backend::pb::echo_client::EchoClient;
use crate::backend::pb::{Behaviour, SayRequest};
use crate::tls::{self, Authority};

/// How a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Unary gRPC of a method that may be called twice.
    Grpc,
    /// Unary gRPC of one that may not.
    GrpcOnce,
    /// A stream of five messages.
    GrpcStream,
    /// Unary REST of a method that may be called twice.
    Rest,
    /// A stream of five messages as NDJSON.
    RestStream,
}

/// In which proportion they come; one connection each.
const MIX: [Kind; 10] = [
    Kind::Grpc,
    Kind::Rest,
    Kind::Grpc,
    Kind::Rest,
    Kind::GrpcOnce,
    Kind::Grpc,
    Kind::Rest,
    Kind::GrpcStream,
    Kind::Rest,
    Kind::RestStream,
];

/// A call that failed.
#[derive(Debug, Clone)]
pub(crate) struct Loss {
    pub(crate) kind: Kind,
    /// When it ended, after the load began.
    pub(crate) at: Duration,
    pub(crate) why: String,
}

/// What became of the calls.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) calls: BTreeMap<Kind, usize>,
    pub(crate) losses: Vec<Loss>,
    pub(crate) lasted: Duration,
}

/// Where the calls go.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) gateway: SocketAddr,
    /// Whose certificates are trusted, where it is in TLS.
    pub(crate) authority: Option<Arc<Authority>>,
}

/// Load that runs.
pub(crate) struct Load {
    tasks: JoinSet<Report>,
    over: Arc<AtomicBool>,
    pub(crate) begun: Instant,
}

/// Calls that one connection has under way at most, so that a stalled call does not hold up the others.
const AT_ONCE: u32 = 4;

/// Calls for which a connection in TLS is used, on the average: certificates are shown to new ones.
const CALLS_IN_TLS: usize = 10;

impl Load {
    /// Begins so many calls a second.
    pub(crate) fn start(entry: &Entry, rate: u32) -> Self {
        let (over, begun) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let mut tasks = JoinSet::new();
        let lanes = u32::try_from(MIX.len()).expect("few") * AT_ONCE;
        let every = Duration::from_secs(1) * lanes / rate;
        for (number, kind) in (0..).zip(MIX.into_iter().flat_map(|kind| [kind; AT_ONCE as usize])) {
            // One after the other, as calls of many clients are.
            let first = begun + every * number / lanes;
            tasks.spawn(lane(entry.clone(), kind, interval_at(first, every), Arc::clone(&over), begun));
        }
        Self { tasks, over, begun }
    }

    /// Lets the calls that run end.
    pub(crate) async fn stop(self) -> Report {
        self.over.store(true, Ordering::Relaxed);
        let mut sum = Report { lasted: self.begun.elapsed(), ..Report::default() };
        for report in self.tasks.join_all().await {
            for (kind, calls) in report.calls {
                *sum.calls.entry(kind).or_default() += calls;
            }
            sum.losses.extend(report.losses);
        }
        sum.losses.sort_by_key(|loss| loss.at);
        sum
    }
}

impl Report {
    /// Calls a second.
    pub(crate) fn rate(&self) -> f64 {
        self.calls.values().sum::<usize>() as f64 / self.lasted.as_secs_f64()
    }
}

/// One call after the other over one connection, each at its time.
async fn lane(entry: Entry, kind: Kind, mut ticks: Interval, over: Arc<AtomicBool>, begun: Instant) -> Report {
    let mut report = Report::default();
    let mut client = Client::connect(&entry, kind).await;
    // Late calls are made up for, so that the rate holds.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !over.load(Ordering::Relaxed) {
        ticks.tick().await;
        *report.calls.entry(kind).or_default() += 1;
        let ended = timeout(Duration::from_secs(10), client.call(kind)).await;
        if let Err(why) = ended.unwrap_or_else(|_| Err("no answer within ten seconds".to_owned())) {
            report.losses.push(Loss { kind, at: begun.elapsed(), why });
            client = Client::connect(&entry, kind).await;
        } else if client.is_over() || (entry.authority.is_some() && fastrand::usize(..CALLS_IN_TLS) == 0) {
            client = Client::connect(&entry, kind).await;
        }
    }
    report
}

/// A connection to the gateway.
enum Client {
    Grpc(Box<EchoClient<Channel>>),
    /// The last one is whether the gateway has said that it takes no more requests here.
    Rest(http1::SendRequest<Full<Bytes>>, SocketAddr, bool),
}

impl Client {
    async fn connect(entry: &Entry, kind: Kind) -> Self {
        let gateway = entry.gateway;
        let grpc = matches!(kind, Kind::Grpc | Kind::GrpcOnce | Kind::GrpcStream);
        match &entry.authority {
            None if grpc => Self::Grpc(Box::new(backend::client(gateway).await)),
            None => {
                let stream = TcpStream::connect(gateway).await.expect("the gateway listens");
                stream.set_nodelay(true).expect("a socket");
                Self::rest(stream, gateway).await
            }
            Some(authority) if grpc => {
                let endpoint = Endpoint::from_shared(format!("http://{gateway}")).expect("an address makes a URI");
                let handshake = Handshake { gateway, authority: Arc::clone(authority) };
                let channel = endpoint.connect_with_connector(handshake).await.expect("a handshake");
                Self::Grpc(Box::new(EchoClient::new(channel)))
            }
            Some(authority) => {
                let stream = tls::connect(gateway, authority.client(&["http/1.1"], None)).await;
                Self::rest(stream.expect("a handshake"), gateway).await
            }
        }
    }

    async fn rest<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, gateway: SocketAddr) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        Self::Rest(sender, gateway, false)
    }

    /// Whether the next call needs another connection. gRPC finds that out by itself.
    fn is_over(&self) -> bool {
        matches!(self, Self::Rest(_, _, true))
    }

    async fn call(&mut self, kind: Kind) -> Result<(), String> {
        match self {
            Self::Grpc(client) => {
                let called = match grpc(client, kind).await {
                    // What other clients of gRPC do by themselves.
                    Err(status) if was_never_sent(&status) => grpc(client, kind).await,
                    called => called,
                };
                called.map_err(|status| format!("{:?}: {}", status.code(), status.message()))
            }
            Self::Rest(sender, gateway, over) => {
                let (path, lines) = match kind {
                    Kind::RestStream => ("/test/v1/repeat/a?behaviour.count=5", 5),
                    Kind::Grpc | Kind::GrpcOnce | Kind::GrpcStream | Kind::Rest => ("/test/v1/say/a", 1),
                };
                let request = Request::builder()
                    .method(Method::GET)
                    .uri(path)
                    .header("host", gateway.to_string())
                    .header("accept", "application/x-ndjson, application/json")
                    .body(Full::default())
                    .expect("a good request");
                sender.ready().await.map_err(|error| error.to_string())?;
                let reply = sender.send_request(request).await.map_err(|error| error.to_string())?;
                let status = reply.status();
                *over = reply.headers().get("connection").is_some_and(|value| value == "close");
                let body = reply.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
                let text = String::from_utf8_lossy(&body);
                let whole = status.is_success() && text.lines().count() == lines && !text.contains("\"error\"");
                whole.then_some(()).ok_or_else(|| format!("{status}: {text}"))
            }
        }
    }
}

async fn grpc(client: &mut EchoClient<Channel>, kind: Kind) -> Result<(), tonic::Status> {
    let request = |behaviour| SayRequest { text: "a".into(), behaviour };
    match kind {
        Kind::GrpcStream => {
            let behaviour = Behaviour { count: 5, ..Behaviour::default() };
            let mut replies = client.repeat(request(Some(behaviour))).await?.into_inner();
            let mut count = 0;
            while replies.message().await?.is_some() {
                count += 1;
            }
            (count == 5).then_some(()).ok_or_else(|| tonic::Status::data_loss(format!("{count} messages")))
        }
        Kind::GrpcOnce => client.plain(request(None)).await.map(drop),
        Kind::Grpc | Kind::Rest | Kind::RestStream => client.say(request(None)).await.map(drop),
    }
}

/// Whether the client gave a call up because the gateway had said GOAWAY, before it was sent or before it was looked at
/// (RFC 9113 §6.8).
fn was_never_sent(status: &tonic::Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        let closed = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
        let told = error.downcast_ref::<h2::Error>().filter(|told| told.is_go_away() && told.is_remote());
        if closed || told.is_some_and(|told| told.reason() == Some(h2::Reason::NO_ERROR)) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Connects gRPC in TLS.
struct Handshake {
    gateway: SocketAddr,
    authority: Arc<Authority>,
}

impl Service<Uri> for Handshake {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connecting = tls::connect(self.gateway, self.authority.client(&["h2"], None));
        Box::pin(async { connecting.await.map(TokioIo::new) })
    }
}
