//! Sockets: from a bound address to requests and back, with no knowledge of routes.
//!
//! [`Listener`](listener::Listener) accepts on the control runtime; [`worker`] serves what it accepts on one worker:
//! ends TLS (`tls`), finds out the protocol (`detect`), speaks it (`http1`, `http2`), and has each request answered by the
//! [`Proxy`]. Every wait on a client has a bound: the limits of the listener, or the constants below.
//!
//! The few refusals made here (`refuse`) concern messages that are no valid HTTP or outside the limits; they have no
//! body. Everything else is the proxy's to answer.

mod detect;
pub mod drain;
mod http1;
mod http2;
mod inbound;
mod leftover;
pub mod listener;
mod proxied;
mod refuse;
mod stream;
mod timer;
mod tls;
mod tunnel;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::body::{Part, RequestBody};
use crate::config;
use crate::io::Prefixed;
use crate::proxy::body::{Abort, ReplyBody};
use crate::proxy::{Peer, Proxy};
use crate::runtime::{self, Ticket};
use crate::server::detect::Detected;
use crate::server::drain::{Ended, Local, Shutdown, Stage, bounded};
use crate::server::listener::Accepted;
use crate::server::tls::{Agreed, Handshake};
use crate::telemetry::ConnectionEvent;
use crate::telemetry::metrics::{ListenerMetrics, WorkerMetrics};

/// A client that takes nothing of a reply for this long loses the stream, or over HTTP/1.1 the connection.
const STALL_TIMEOUT: Duration = Duration::from_secs(300);

/// Serves the connections of one worker; what [`Workers::start`](crate::runtime::Workers::start) asks for.
///
/// To be called on the worker's thread:
///
/// ```text
/// let workers = Workers::start(config.workers, move |index| {
///     server::worker(Proxy::new(worker(index)), registry.worker())
/// })?;
/// let listener = Listener::bind(config.listeners[0].clone())?;
/// let running = listener.start(&control, &Arc::new(workers))?;
/// ```
pub fn worker(proxy: Rc<Proxy>, metrics: WorkerMetrics) -> impl Fn(Accepted, Ticket) {
    serve_with(proxy, metrics)
}

fn serve_with<A: Answer>(answer: Rc<A>, metrics: WorkerMetrics) -> impl Fn(Accepted, Ticket) {
    let sites = Sites { answer, metrics, known: RefCell::default() };
    move |accepted, ticket| {
        let site = sites.of(&accepted);
        site.metrics.accepted();
        runtime::spawn("connection", async move {
            let _ticket = ticket;
            if let Err(error) = connection(accepted, site).await {
                tracing::debug!(%error, "accepted socket is unusable");
            }
        });
    }
}

/// What all connections of one listener share on a worker.
#[derive(Debug)]
struct Site<A> {
    answer: Rc<A>,
    drain: Rc<Local>,
    metrics: Arc<ListenerMetrics>,
}

/// The sites of a worker by listener, of which there are few.
struct Sites<A> {
    answer: Rc<A>,
    metrics: WorkerMetrics,
    known: RefCell<Vec<(Shutdown, Rc<Site<A>>)>>,
}

impl<A> Sites<A> {
    fn of(&self, accepted: &Accepted) -> Rc<Site<A>> {
        let mut known = self.known.borrow_mut();
        if let Some((_, site)) = known.iter().find(|(shutdown, _)| shutdown.is(&accepted.shutdown)) {
            return Rc::clone(site);
        }
        known.retain(|(shutdown, site)| shutdown.stage() == Stage::Open || Rc::strong_count(site) > 1);
        let site = Rc::new(Site {
            answer: Rc::clone(&self.answer),
            drain: Local::follow(accepted.shutdown.clone()),
            metrics: self.metrics.listener(&accepted.settings.address.to_string()),
        });
        known.push((accepted.shutdown.clone(), Rc::clone(&site)));
        site
    }
}

/// One connection from its first byte to its last.
async fn connection<A: Answer>(accepted: Accepted, site: Rc<Site<A>>) -> std::io::Result<()> {
    let _permit = accepted.permit;
    let mut stream = TcpStream::from_std(accepted.socket)?;
    let address = match client(&mut stream, accepted.address, &accepted.settings, &site.drain).await {
        Ok(Some(address)) => address,
        Ok(None) => return Ok(()),
        Err(error) => {
            site.metrics.count(ConnectionEvent::BadProxyHeader);
            tracing::debug!(%error, peer = %accepted.address, "connection of a balancer without a PROXY header");
            return Ok(());
        }
    };
    let tls = accepted.settings.tls.as_ref();
    let listener = Rc::new(config::Listener::clone(&accepted.settings));
    let mut peer = Peer::new(address, stream.local_addr()?, tls.is_some(), listener);
    let Some(tls) = tls else {
        speak(stream, Agreed::Nothing, Rc::new(peer), site).await;
        return Ok(());
    };
    match tls::accept(stream, tls, accepted.settings.limits.tls_handshake_timeout, &site.drain).await {
        Handshake::Done(stream, agreed) => {
            let shown = stream.get_ref().1.peer_certificates();
            peer.certificate = shown.and_then(|chain| chain.first()).cloned();
            speak(stream, agreed, Rc::new(peer), site).await;
        }
        Handshake::Failed(error) => {
            site.metrics.count(ConnectionEvent::TlsFailure);
            tracing::debug!(%error, peer = %peer.address, "TLS handshake failed");
        }
        Handshake::Closed => {}
    }
    Ok(())
}

/// Who the client is: the peer, or whom it says it speaks for, where it is to be believed. `None` when the gateway waits no
/// longer for it to say so.
async fn client(
    stream: &mut TcpStream,
    peer: SocketAddr,
    settings: &config::Listener,
    drain: &Rc<Local>,
) -> std::io::Result<Option<SocketAddr>> {
    let ip = peer.ip().to_canonical();
    if !settings.proxy_protocol.iter().any(|network| network.contains(&ip)) {
        return Ok(Some(peer));
    }
    let deadline = Instant::now() + settings.limits.header_timeout;
    match bounded(stream.readable(), deadline, Stage::Ending, drain).await {
        Ended::Done(readable) => readable?,
        Ended::TimedOut => return Err(std::io::ErrorKind::TimedOut.into()),
        Ended::Closed => return Ok(None),
    }
    // A balancer that has said something is served, even late.
    match bounded(proxied::read(stream), deadline, Stage::Draining, drain).await {
        Ended::Done(header) => Ok(Some(header?.unwrap_or(peer))),
        Ended::TimedOut => Err(std::io::ErrorKind::TimedOut.into()),
        Ended::Closed => Ok(None),
    }
}

/// Speaks the HTTP that the client speaks.
async fn speak<S, A>(stream: S, agreed: Agreed, peer: Rc<Peer>, site: Rc<Site<A>>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    A: Answer,
{
    let header_deadline = Instant::now() + peer.listener.limits.header_timeout;
    match (detect::detect(Prefixed::new(stream), header_deadline, &site.drain).await, agreed) {
        (Detected::Http2(stream), Agreed::Http2 | Agreed::Nothing) => http2::serve(stream, peer, site).await,
        (Detected::Http1(stream), Agreed::Http1 | Agreed::Nothing) => {
            http1::serve(stream, header_deadline, peer, site).await;
        }
        (Detected::Http1(stream), Agreed::Http2) | (Detected::Http2(stream), Agreed::Http1) => {
            refuse::not_as_agreed(stream).await;
        }
        (Detected::TooSlow(stream), _) => {
            site.metrics.count(ConnectionEvent::HeaderTimeout);
            refuse::too_slow(stream).await;
        }
        (Detected::Closed, _) => {}
    }
}

/// What answers requests: the [`Proxy`], or a script in tests.
trait Answer: 'static {
    type Body: Reply;

    /// Dropping the future cancels the call.
    fn answer(
        self: Rc<Self>,
        peer: Rc<Peer>,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Response<Self::Body>> + 'static;
}

/// What follows the head of a reply.
trait Reply: Unpin + 'static {
    /// The next part; called again only when the part before was accepted for sending.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Abort>>>;

    /// Asked while a part waits for the client. Ready when that part is to be dropped, because the call failed.
    fn poll_aside(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Whether no more parts will come.
    fn is_end(&self) -> bool;

    /// Whether there is a way to say last words before the connection is cut.
    fn has_farewell(&self) -> bool {
        false
    }

    /// The last words; empty if there is no way to say them.
    fn farewell(&mut self) -> Bytes {
        Bytes::new()
    }
}

impl Answer for Proxy {
    type Body = ReplyBody;

    fn answer(
        self: Rc<Self>,
        peer: Rc<Peer>,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Response<ReplyBody>> + 'static {
        self.handle(peer, request)
    }
}

impl Reply for ReplyBody {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Abort>>> {
        Self::poll_part(self, cx)
    }

    fn poll_aside(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Self::poll_aside(self, cx)
    }

    fn is_end(&self) -> bool {
        Self::is_end(self)
    }

    fn has_farewell(&self) -> bool {
        Self::has_farewell(self)
    }

    fn farewell(&mut self) -> Bytes {
        Self::farewell(self)
    }
}

#[cfg(test)]
mod tests;
