//! HTTP/1.1 connections: hyper parses and frames, we keep the time.
//!
//! hyper has one timer for heads, which also ends connections that wait between requests, and it closes without a
//! word. Here the phases are told apart by what passes through the I/O adapter:
//!
//! ```text
//!        first byte          head complete          body dropped
//! Idle ─────────────▶ Head ────────────────▶ Busy ──────────────▶ Idle
//!  │ idle_timeout       │ header_timeout      │ STALL_TIMEOUT without a byte taken
//!  ▼ close              ▼ 408, close          ▼ close
//! ```
//!
//! While the gateway ends, a connection that waits is not closed, for a request may be on its way; the reply to its next one
//! says `connection: close`. A head that begins while the request before is still answered is timed as idle: hyper has read it and does not tell.
//! Invariant: a connection becomes a tunnel only by the reply 101 to a request for a WebSocket, which ends HTTP on it
//! ([`tunnel`]); no other upgrade is followed, h2c neither. What could be framed in two ways is refused by hyper, or is the
//! last request of its connection ([`Lengths`]).

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame};
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{self, Instant};

use crate::body::{Part, RequestBody};
use crate::config::Limits;
use crate::io::Prefixed;
use crate::proxy::Peer;
use crate::proxy::body::Abort;
use crate::server::drain::Stage;
use crate::server::leftover::Leftover;
use crate::server::refuse::is_host;
use crate::server::timer::Alarm;
use crate::server::{Answer, Reply, STALL_TIMEOUT, Site, refuse, tunnel};
use crate::telemetry::metrics::ListenerMetrics;
use crate::telemetry::{ConnectionEvent, Transport};

/// What hyper takes without a setting; with one it allocates for each request.
const DEFAULT_MAX_HEADERS: usize = 100;
/// Bytes of input or output that a connection holds, at least.
const MIN_BUFFER: usize = 64 << 10;
/// Bytes read from the socket at once.
pub(super) const READ: usize = 16 << 10;
/// For the last bytes of a connection to leave.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves one connection to its end.
pub(super) async fn serve<S, A>(stream: Prefixed<S>, header_deadline: Instant, peer: Rc<Peer>, site: Rc<Site<A>>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    A: Answer,
{
    let _open = site.metrics.open(Transport::Http1);
    let progress = Rc::new(Progress::new(header_deadline, peer.listener.limits));
    let slot = tunnel::Slot::<A::Body>::default();
    let current = Rc::new(RefCell::new(None::<A::Body>));
    let service = service_fn(|request| {
        progress.phase.set(Phase::Busy);
        let is_last = progress.lengths.borrow_mut().are_ambiguous(&request);
        let (request, mut leftover) = Leftover::of(request);
        let (peer, slot, current) = (Rc::clone(&peer), Rc::clone(&slot), Rc::clone(&current));
        let (progress, site) = (Rc::clone(&progress), Rc::clone(&site));
        async move {
            // Made where it is awaited: brought along it would be held twice.
            let mut reply = answer(request, peer, Rc::clone(&site), slot).await;
            let goes_on = poll_fn(|cx| leftover.poll(cx)).await && !is_last;
            let ends = site.drain.stage() > Stage::Open && reply.status() != StatusCode::SWITCHING_PROTOCOLS;
            if !goes_on || ends {
                reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            let reply = reply.map(|reply| current.replace(reply));
            Ok::<_, Infallible>(reply.map(|_| Outgoing { reply: current, leftover, last: None, progress }))
        }
    });
    let io = Io { stream, progress: Rc::clone(&progress) };
    let mut connection = builder(peer.listener.limits).serve_connection(io, service);
    let mut seat = site.drain.seat();
    let mut alarm = Alarm::new(header_deadline);
    let mut draining = false;
    let end = poll_fn(|cx| {
        loop {
            if let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(End::Closed(result));
            }
            match seat.stage(cx) {
                Stage::Draining if !draining => {
                    draining = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
                Stage::Cut => return Poll::Ready(cut(&peer)),
                Stage::Open | Stage::Ending | Stage::Draining => break,
            }
        }
        if progress.stalled.get().is_some() && current.borrow_mut().as_mut().is_some_and(|reply| ends_aside(reply, cx))
        {
            return Poll::Ready(End::Cut);
        }
        match progress.deadline() {
            None => Poll::Pending,
            Some(deadline) => alarm.poll_due(deadline, cx).map(|()| End::TimedOut),
        }
    });
    let end = end.await;
    let (in_head, stalled) = (matches!(progress.phase.get(), Phase::Head(_)), progress.stalled.get().is_some());
    let parts = connection.into_parts();
    let stream = parts.io.stream;
    match end {
        End::Closed(Ok(())) if let Some(opened) = slot.take() => {
            if tunnel::serve(stream, parts.read_buf, opened, seat).await == tunnel::Ended::Stalled {
                site.metrics.count(ConnectionEvent::Stalled);
            }
        }
        End::Closed(result) => {
            if let Err(error) = result {
                note(&error, &peer, &site.metrics);
            }
            shut(stream).await;
        }
        End::TimedOut if stalled => site.metrics.count(ConnectionEvent::Stalled),
        End::TimedOut if in_head => {
            site.metrics.count(ConnectionEvent::HeaderTimeout);
            refuse::head_too_slow(stream).await;
        }
        End::TimedOut => site.metrics.count(ConnectionEvent::IdleTimeout),
        End::Cut => {}
    }
}

/// Notes why hyper has given a connection up.
fn note(error: &hyper::Error, peer: &Peer, metrics: &ListenerMetrics) {
    // It has answered that by itself.
    if error.is_parse() {
        metrics.count(ConnectionEvent::Refused);
    }
    tracing::debug!(%error, peer = %peer.address, "connection ended");
}

/// The gateway waits no longer; its calls, which are dropped next, are to know.
fn cut(peer: &Peer) -> End {
    peer.cut();
    End::Cut
}

/// Looks after a reply while the client takes nothing of it, when hyper does not: whether it has ended.
fn ends_aside<R: Reply>(reply: &mut R, cx: &mut Context<'_>) -> bool {
    if reply.poll_aside(cx).is_pending() {
        return false;
    }
    // What comes after the part that is dropped says how the call ended; the client is past hearing it.
    while matches!(reply.poll_part(cx), Poll::Ready(Some(Ok(Part::Data(_))))) {}
    true
}

/// Closes a connection whose last bytes may still be on their way.
async fn shut<S: AsyncRead + AsyncWrite + Unpin>(mut stream: Prefixed<S>) {
    if matches!(time::timeout(CLOSE_TIMEOUT, stream.shutdown()).await, Ok(Ok(()))) {
        refuse::linger(stream).await;
    }
}

/// How a connection ended.
enum End {
    Closed(hyper::Result<()>),
    TimedOut,
    Cut,
}

fn builder(limits: Limits) -> Builder {
    let mut builder = Builder::new();
    let header_bytes = limits.max_header_bytes as usize;
    builder.header_read_timeout(None).max_header_size(header_bytes).max_buf_size(header_bytes.max(MIN_BUFFER));
    if limits.max_headers != DEFAULT_MAX_HEADERS {
        builder.max_headers(limits.max_headers);
    }
    builder
}

async fn answer<A: Answer>(
    request: Request<RequestBody>,
    peer: Rc<Peer>,
    site: Rc<Site<A>>,
    slot: tunnel::Slot<A::Body>,
) -> Response<Option<A::Body>> {
    if let Some(status) = refusal(&request) {
        site.metrics.count(ConnectionEvent::Refused);
        return refuse::bare_and_close(status).map(|()| None);
    }
    let (request, offer) = tunnel::offer(request);
    let mut reply = Rc::clone(&site.answer).answer(peer, request).await.map(Some);
    tunnel::take(offer, &mut reply, &slot);
    reply
}

/// What hyper leaves to us of the rules for requests.
fn refusal<B>(request: &Request<B>) -> Option<StatusCode> {
    // https://www.rfc-editor.org/rfc/rfc9112#section-3.2: exactly one Host in HTTP/1.1.
    let hosts = request.headers().get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return Some(StatusCode::BAD_REQUEST);
    }
    let has_user = request.uri().authority().is_some_and(|authority| authority.as_str().contains('@'));
    if has_user || !request.headers().get(HOST).is_none_or(is_host) {
        return Some(StatusCode::BAD_REQUEST);
    }
    // hyper asks only that the last coding is `chunked`. Those before it would be left in the body, and `chunked` twice
    // is read in two ways: https://www.rfc-editor.org/rfc/rfc9112#section-6.1.
    let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
    let is_chunked = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    if !codings.next().is_none_or(is_chunked) || codings.next().is_some() {
        return Some(StatusCode::NOT_IMPLEMENTED);
    }
    // No tunnels: https://www.rfc-editor.org/rfc/rfc9110#section-9.3.6.
    (request.method() == Method::CONNECT).then_some(StatusCode::NOT_IMPLEMENTED)
}

/// Where a connection is between requests.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// No request, since then.
    Idle(Instant),
    /// Within a head that has to be complete by then.
    Head(Instant),
    /// A request is being answered.
    Busy,
}

/// What the adapter, the service and the replies of a connection tell its driver.
#[derive(Debug)]
struct Progress {
    phase: Cell<Phase>,
    /// Since when the socket takes nothing of what hyper wants to write.
    stalled: Cell<Option<Instant>>,
    lengths: RefCell<Lengths>,
    limits: Limits,
}

impl Progress {
    fn new(header_deadline: Instant, limits: Limits) -> Self {
        let phase = Cell::new(Phase::Head(header_deadline));
        Self { phase, stalled: Cell::new(None), lengths: RefCell::default(), limits }
    }

    fn deadline(&self) -> Option<Instant> {
        let phase = match self.phase.get() {
            Phase::Idle(since) => Some(since + self.limits.idle_timeout),
            Phase::Head(deadline) => Some(deadline),
            Phase::Busy => None,
        };
        let stalled = self.stalled.get().map(|since| since + STALL_TIMEOUT);
        phase.into_iter().chain(stalled).min()
    }

    fn read(&self, bytes: &[u8]) {
        if !bytes.is_empty() && matches!(self.phase.get(), Phase::Idle(_)) {
            self.phase.set(Phase::Head(Instant::now() + self.limits.header_timeout));
        }
        self.lengths.borrow_mut().scan(bytes);
    }

    fn wrote<T>(&self, polled: Poll<T>) -> Poll<T> {
        match (&polled, self.stalled.get()) {
            (Poll::Ready(_), Some(_)) => self.stalled.set(None),
            (Poll::Pending, None) => self.stalled.set(Some(Instant::now())),
            (Poll::Ready(_), None) | (Poll::Pending, Some(_)) => {}
        }
        polled
    }
}

/// Finds requests with both `transfer-encoding` and `content-length`, which another server could read as two.
///
/// hyper follows the former and hides the latter, as [RFC 9112 §6.3](https://www.rfc-editor.org/rfc/rfc9112#section-6.3)
/// allows, but it does not close the connection afterwards, as the same rule demands. So the raw bytes are searched for
/// lines that start with `content-length:` and do not show in the requests. A body with such a line counts as well; that
/// costs no more than a connection.
#[derive(Debug, Default)]
struct Lengths {
    /// Lines found beyond those of the requests seen.
    unaccounted: usize,
    /// Bytes of [`Lengths::LINE`] that the end of the last read matches.
    matched: usize,
}

impl Lengths {
    const LINE: &[u8] = b"\ncontent-length:";

    fn scan(&mut self, mut bytes: &[u8]) {
        loop {
            if self.matched == 0 {
                let Some(at) = memchr::memchr(b'\n', bytes) else { return };
                bytes = bytes.get(at..).unwrap_or_default();
            }
            let wanted = &Self::LINE[self.matched..];
            let same = wanted.iter().zip(bytes).take_while(|(wanted, byte)| byte.eq_ignore_ascii_case(wanted)).count();
            if same == bytes.len() && same < wanted.len() {
                self.matched += same;
                return;
            }
            self.matched = 0;
            self.unaccounted += usize::from(same == wanted.len());
            bytes = &bytes[same..];
        }
    }

    fn are_ambiguous<B>(&mut self, request: &Request<B>) -> bool {
        if request.headers().contains_key(CONTENT_LENGTH) {
            self.unaccounted = self.unaccounted.saturating_sub(1);
        }
        self.unaccounted > 0 && request.headers().contains_key(TRANSFER_ENCODING)
    }
}

/// A reply's body for hyper, which drops it once it is written or given up.
struct Outgoing<R> {
    /// Shared with the driver of the connection.
    reply: Rc<RefCell<Option<R>>>,
    leftover: Leftover,
    /// The end, which waits for what is left of the request.
    last: Option<Option<Frame<Bytes>>>,
    progress: Rc<Progress>,
}

impl<R: Reply> Body for Outgoing<R> {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        let outgoing = &mut *self;
        let mut shared = outgoing.reply.borrow_mut();
        let Some(reply) = &mut *shared else { return Poll::Ready(None) };
        if outgoing.last.is_none() {
            outgoing.last = Some(match ready!(reply.poll_part(cx)) {
                None => None,
                Some(Ok(Part::Data(data))) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Ok(Part::Trailers(trailers))) => Some(Frame::trailers(trailers)),
                Some(Err(abort)) => return Poll::Ready(Some(Err(abort))),
            });
        }
        ready!(outgoing.leftover.poll(cx));
        Poll::Ready(outgoing.last.take().flatten().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.reply.borrow().as_ref().is_none_or(Reply::is_end) && self.leftover.is_none()
    }
}

impl<R> Drop for Outgoing<R> {
    fn drop(&mut self) {
        self.reply.take();
        self.progress.phase.set(Phase::Idle(Instant::now()));
    }
}

/// A Tokio stream as hyper wants it, watched.
struct Io<S> {
    stream: S,
    progress: Rc<Progress>,
}

thread_local! {
    /// hyper's buffer is uninitialised memory, which safe code cannot read into; what arrived is copied there.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

impl<S: AsyncRead + Unpin> hyper::rt::Read for Io<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let wanted = buffer.remaining().min(scratch.len());
            let mut read = ReadBuf::new(&mut scratch[..wanted]);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            self.progress.read(read.filled());
            buffer.put_slice(read.filled());
            Poll::Ready(Ok(()))
        })
    }
}

impl<S: AsyncWrite + Unpin> hyper::rt::Write for Io<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.progress.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.progress.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Over TLS what was written may still wait here for the socket.
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.progress.wrote(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
