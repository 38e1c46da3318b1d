//! Sockets: from a bound address to requests and back, with no knowledge of routes.
//!
//! [`Listener`](listener::Listener) accepts on the control runtime; [`worker`] serves what it accepts on one worker:
//! finds out the protocol (`detect`), speaks it (`http1`, `http2`), and has each request answered by the
//! [`Proxy`]. Every wait on a client has a bound: the limits of the listener, or the constants below.
//!
//! The few refusals made here (`refuse`) concern messages that are no valid HTTP or outside the limits; they have no
//! body. Everything else is the proxy's to answer.

mod detect;
pub mod drain;
mod http1;
mod http2;

pub mod listener;
mod refuse;
mod stream;
mod timer;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::body::{Part, RequestBody};
use crate::config;
use crate::io::Prefixed;
use crate::proxy::body::{Abort, ReplyBody};
use crate::proxy::{Peer, Proxy};
use crate::runtime::{self, Ticket};
use crate::server::detect::Detected;
use crate::server::drain::{Local, Shutdown};
use crate::server::listener::Accepted;

/// A client that takes nothing of a reply for this long loses the stream, or over HTTP/1.1 the connection.
const STALL_TIMEOUT: Duration = Duration::from_secs(300);

/// Serves the connections of one worker; what [`Workers::start`](crate::runtime::Workers::start) asks for.
///
/// To be called on the worker's thread:
///
/// ```text
/// let workers = Workers::start(config.workers, move |index| {
///     server::worker(Rc::new(Proxy::new(snapshot)), shutdown.clone(), Arc::clone(&counters[index]))
/// })?;
/// let listener = Listener::bind(config.listeners[0].clone())?;
/// control.spawn(listener.serve(Arc::new(workers), shutdown));
/// ```
pub fn worker(proxy: Rc<Proxy>, shutdown: Shutdown, counters: Arc<Counters>) -> impl Fn(Accepted, Ticket) {
    serve_with(proxy, shutdown, counters)
}

fn serve_with<A: Answer>(answer: Rc<A>, shutdown: Shutdown, counters: Arc<Counters>) -> impl Fn(Accepted, Ticket) {
    let site = Rc::new(Site { answer, drain: Local::follow(shutdown), counters });
    move |accepted, ticket| {
        let site = Rc::clone(&site);
        runtime::spawn("connection", async move {
            let _ticket = ticket;
            count(&site.counters.accepted);
            if let Err(error) = connection(accepted, site).await {
                tracing::debug!(%error, "accepted socket is unusable");
            }
        });
    }
}

/// What all connections of a worker share.
#[derive(Debug)]
struct Site<A> {
    answer: Rc<A>,
    drain: Rc<Local>,
    counters: Arc<Counters>,
}

/// One connection from its first byte to its last.
async fn connection<A: Answer>(accepted: Accepted, site: Rc<Site<A>>) -> std::io::Result<()> {
    let header_deadline = Instant::now() + accepted.settings.limits.header_timeout;
    let _permit = accepted.permit;
    let stream = TcpStream::from_std(accepted.socket)?;
    let peer = Rc::new(Peer {
        address: accepted.address,
        local: stream.local_addr()?,
        tls: false,
        listener: Rc::new(config::Listener::clone(&accepted.settings)),
    });
    match detect::detect(Prefixed::new(stream), header_deadline, &site.drain).await {
        Detected::Http2(stream) => http2::serve(stream, peer, site).await,
        Detected::Http1(stream) => http1::serve(stream, header_deadline, peer, site).await,
        Detected::TooSlow(stream) => {
            count(&site.counters.header_timeouts);
            refuse::too_slow(stream).await;
        }
        Detected::Closed => {}
    }
    Ok(())
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
}

/// What happened on one worker's connections since the start. Written by that worker, read by telemetry.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Open HTTP/1.1 connections.
    pub http1_open: AtomicU64,
    /// Open HTTP/2 connections.
    pub http2_open: AtomicU64,
    /// Requests refused before they reached the proxy: malformed, or over a limit. Those that the protocol libraries
    /// refuse by themselves are not among them.
    pub refused: AtomicU64,
    /// Connections closed because the first bytes or a request's head took too long.
    pub header_timeouts: AtomicU64,
    /// Connections closed because they carried no request for too long.
    pub idle_timeouts: AtomicU64,
    /// Streams and connections cut because the client took nothing of a reply for too long.
    pub stalled: AtomicU64,
    /// HTTP/2 streams reset by the client before the reply was complete.
    pub client_resets: AtomicU64,
    /// HTTP/2 connections closed for resetting too many streams.
    pub reset_floods: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Counts an open connection while it lives.
struct Open<'a>(&'a AtomicU64);

impl<'a> Open<'a> {
    fn new(gauge: &'a AtomicU64) -> Self {
        count(gauge);
        Self(gauge)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
