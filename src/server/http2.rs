//! HTTP/2 connections: h2 does the protocol, [`Driver`] turns it, and each request is a task of its own.
//!
//! Defences, and who has them ([`protocol`] sets h2's):
//!
//! | attack | bound | over it |
//! |---|---|---|
//! | streams reset before we see them (rapid reset) | `max_pending_resets`, h2 | GOAWAY ENHANCE_YOUR_CALM |
//! | streams reset after their call began | [`RESETS_AT_ONCE`], here | GOAWAY ENHANCE_YOUR_CALM |
//! | frames that make us reset a stream | [`ERROR_RESETS`], h2 | GOAWAY ENHANCE_YOUR_CALM |
//! | endless CONTINUATION, HPACK bombs | `max_header_bytes` decoded, a few frames beyond, h2 | 431, then GOAWAY |
//! | frames and header blocks begun and left there | `header_timeout`, here | GOAWAY PROTOCOL_ERROR |
//! | floods of PING, SETTINGS, empty or tiny DATA | h2 reads nothing while its answers are not taken; [`DATA_FRAME_BUDGET`] | reading stops; GOAWAY |
//! | windows left at zero, sockets not read | [`SEND_BUFFER`] per stream, `STALL_TIMEOUT` | reset, close |
//! | large replies asked for and left there | room for so many, the proxy | they wait, then SLOW_READER |
//!
//! Invariant: the driver never waits with bytes collected that the socket would take.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::header::HOST;
use http::{Method, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::body::RequestBody;
use crate::config::Limits;
use crate::io::{Batch, Prefixed};
use crate::proxy::Peer;
use crate::runtime;
use crate::server::drain::{Seat, Stage};
use crate::server::inbound::{Inbound, Owed};
use crate::server::stream::{self, Ended, Farewells, Refusal};
use crate::server::timer::Alarm;
use crate::server::{Answer, STALL_TIMEOUT, Site, refuse};
use crate::telemetry::{ConnectionEvent, Transport};

/// Bytes of replies that h2 holds for one stream.
const SEND_BUFFER: usize = 64 << 10;
/// What unread DATA frames below 256 bytes may cost, at 256 bytes less their length. h2's own choice, half the connection
/// window, closes the connection of an honest client whose stream of 20-byte messages waits for a slow upstream; this
/// takes three such streams, for some 5 MiB of memory.
const DATA_FRAME_BUDGET: usize = 8 << 20;
/// Streams that we reset for a client's errors, over the life of a connection.
const ERROR_RESETS: usize = 1024;
/// Streams that we reset lately and still know: frames which were on their way are ignored, beyond it each costs one of
/// [`ERROR_RESETS`]. Uploads that are refused before their end are the usual case.
const KNOWN_RESETS: usize = 256;
/// Streams whose call began and was then reset by the client: so many at once, then so many per second. A client whose
/// deadlines all pass together stays below.
const RESETS_AT_ONCE: u32 = 500;
const RESETS_PER_SECOND: u32 = 100;
/// For last words after the cut.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(500);
/// For a client to answer a GOAWAY, once no stream is open.
const GOAWAY_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves one connection to its end. The preface has been read and is in `stream`.
pub(super) async fn serve<S, A>(stream: Prefixed<S>, peer: Rc<Peer>, site: Rc<Site<A>>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    A: Answer,
{
    let io = Batch::new(stream);
    let owed = Owed::default();
    // Does not wait: it writes into the batch and reads the preface that is there.
    let handshake = protocol(peer.listener.limits).handshake(Inbound::new(io.clone(), owed.clone()));
    let connection = match handshake.await {
        Ok(connection) => connection,
        Err(error) => return tracing::debug!(%error, peer = %peer.address, "handshake failed"),
    };
    let metrics = Arc::clone(&site.metrics);
    let _open = metrics.open(Transport::Http2);
    let now = Instant::now();
    let mut driver = Driver {
        connection,
        io: io.clone(),
        owed,
        streams: Rc::new(Streams::new(now)),
        closing: None,
        cut: None,
        farewells: Farewells { drain: Rc::clone(&site.drain), due: Rc::default() },
        alarm: Alarm::new(now + peer.listener.limits.idle_timeout),
        seat: site.drain.seat(),
        peer: Rc::clone(&peer),
        site,
    };
    let end = poll_fn(|cx| driver.poll(cx)).await;
    drop(driver);
    match end {
        End::Closed => {}
        End::Failed(error) => {
            if error.is_go_away() && error.is_library() {
                metrics.count(match error.reason() {
                    // h2 counts streams that were reset before we saw them, and those that we had to reset.
                    Some(Reason::ENHANCE_YOUR_CALM) => ConnectionEvent::ResetFlood,
                    _ => ConnectionEvent::Refused,
                });
            }
            tracing::debug!(%error, peer = %peer.address, "connection ended");
        }
        End::Gone => return,
    }
    if let Some(stream) = io.into_stream() {
        refuse::linger(stream).await;
    }
}

/// h2 with the limits of the listener. Pushes stay off; extended CONNECT is there for WebSockets (RFC 8441).
fn protocol(limits: Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_header_list_size(limits.max_header_bytes)
        .initial_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_pending_accept_reset_streams(limits.max_pending_resets)
        .max_concurrent_reset_streams(KNOWN_RESETS)
        .max_local_error_reset_streams(Some(ERROR_RESETS))
        .max_send_buffer_size(SEND_BUFFER)
        .data_frame_budget(DATA_FRAME_BUDGET)
        .enable_connect_protocol();
    builder
}

/// How a connection ended.
enum End {
    /// Both sides are done.
    Closed,
    /// One side broke the protocol and was told.
    Failed(h2::Error),
    /// Nothing more can be said to the client.
    Gone,
}

/// Turns one connection.
struct Driver<S, A> {
    connection: Connection<Inbound<Batch<S>>, Bytes>,
    io: Batch<S>,
    owed: Owed,
    streams: Rc<Streams>,
    /// Since when GOAWAY is out.
    closing: Option<Instant>,
    /// Since when the drain is over.
    cut: Option<Instant>,
    farewells: Farewells,
    alarm: Alarm,
    seat: Seat,
    peer: Rc<Peer>,
    site: Rc<Site<A>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin, A: Answer> Driver<S, A> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.streams.register(cx);
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.accept(request, respond);
                    continue;
                }
                Poll::Ready(Some(Err(error))) if error.is_io() => return Poll::Ready(End::Gone),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(End::Failed(error)),
                Poll::Ready(None) => return Poll::Ready(End::Closed),
                Poll::Pending => {}
            }
            if self.closes(cx) {
                continue;
            }
            match self.io.poll_drain(cx) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(_) => return Poll::Ready(End::Gone),
            }
            if self.seat.stage(cx) == Stage::Cut {
                let is_first = self.cut.is_none();
                self.peer.cut();
                self.cut.get_or_insert_with(Instant::now);
                if self.farewells.due.get() == 0 {
                    return Poll::Ready(if is_first { End::Gone } else { End::Closed });
                }
            }
            let due = self.deadline().is_some_and(|deadline| self.alarm.poll_due(deadline, cx).is_ready());
            if !due {
                return Poll::Pending;
            }
            if self.give_up() {
                return Poll::Ready(End::Gone);
            }
        }
    }

    /// Starts the task that answers one request.
    fn accept(&self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let refusal = stream::refusal(&request, self.peer.listener.limits.max_headers);
        if let Some(refusal) = refusal {
            self.site.metrics.count(ConnectionEvent::Refused);
            match refusal {
                Refusal::Malformed => respond.send_reset(Reason::PROTOCOL_ERROR),
                Refusal::Status(status) => {
                    // Fails only when the client has reset the stream.
                    respond.send_response(refuse::bare(status), true).ok();
                }
            }
            return;
        }
        let mut request =
            request.map(|body| if body.is_end_stream() { RequestBody::Empty } else { RequestBody::Http2(body) });
        if request.uri().authority().is_some() {
            // One name for one thing: https://www.rfc-editor.org/rfc/rfc9113#section-8.3.1.
            request.headers_mut().remove(HOST);
        }
        let is_head = request.method() == Method::HEAD;
        let (site, peer, open) = (Rc::clone(&self.site), Rc::clone(&self.peer), OpenStream::new(&self.streams));
        let farewells = self.farewells.clone();
        // Boxed before it becomes a task, which copies what it is made of several times.
        runtime::spawn(
            "request",
            Box::pin(async move {
                // Pinned where it is made: passed by value it would be held twice.
                let reply = pin!(Rc::clone(&site.answer).answer(peer, request));
                match stream::answer(is_head, reply, respond, &farewells).await {
                    Ended::Replied | Ended::Aborted(_) => {}
                    Ended::Stalled => site.metrics.count(ConnectionEvent::Stalled),
                    Ended::ClientReset => {
                        site.metrics.count(ConnectionEvent::ClientReset);
                        open.0.count_reset();
                    }
                }
            }),
        );
    }

    /// Whether h2 was told to close the connection just now.
    fn closes(&mut self, cx: &Context<'_>) -> bool {
        if self.streams.flooded.take() {
            self.site.metrics.count(ConnectionEvent::ResetFlood);
            self.closing = Some(Instant::now());
            self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            return true;
        }
        if self.closing.is_none() && matches!(self.seat.stage(cx), Stage::Ending | Stage::Draining) {
            self.close_gracefully();
            return true;
        }
        false
    }

    fn close_gracefully(&mut self) {
        self.closing = Some(Instant::now());
        self.connection.graceful_shutdown();
    }

    /// When something has to happen although nothing comes from the client.
    fn deadline(&self) -> Option<Instant> {
        let stalled = self.io.stalled_since().map(|since| since + STALL_TIMEOUT);
        // A task ends when h2 has its reply; the tail of it may still be on the way.
        let is_idle = self.streams.open.get() == 0 && self.io.is_drained() && !self.connection.has_streams();
        let idle = is_idle.then(|| match self.closing {
            Some(since) => since.max(self.streams.idle_since.get()) + GOAWAY_TIMEOUT,
            None => self.streams.idle_since.get() + self.peer.listener.limits.idle_timeout,
        });
        let cut = self.cut.map(|since| since + FAREWELL_TIMEOUT);
        stalled.into_iter().chain(self.owed_by()).chain(idle).chain(cut).min()
    }

    /// When the client must have sent the rest of what it began. While it takes nothing we may not be reading, and a
    /// connection that closes has other bounds.
    fn owed_by(&self) -> Option<Instant> {
        let since = self.owed.since().filter(|_| self.closing.is_none() && self.io.stalled_since().is_none())?;
        Some(since + self.peer.listener.limits.header_timeout)
    }

    /// The deadline has passed. Whether the connection is to be dropped, rather than closed with a GOAWAY.
    fn give_up(&mut self) -> bool {
        let stalled = self.io.stalled_since().is_some_and(|since| since.elapsed() >= STALL_TIMEOUT);
        if stalled {
            self.site.metrics.count(ConnectionEvent::Stalled);
        }
        if stalled || self.closing.is_some() || self.cut.is_some() {
            return true;
        }
        if self.owed_by().is_some_and(|deadline| deadline <= Instant::now()) {
            self.site.metrics.count(ConnectionEvent::HeaderTimeout);
            self.closing = Some(Instant::now());
            self.connection.abrupt_shutdown(Reason::PROTOCOL_ERROR);
            return false;
        }
        self.site.metrics.count(ConnectionEvent::IdleTimeout);
        self.close_gracefully();
        false
    }
}

/// What the tasks of a connection's streams tell its driver.
#[derive(Debug)]
struct Streams {
    open: Cell<usize>,
    /// Since when none is open, if none is.
    idle_since: Cell<Instant>,
    resets: Cell<Resets>,
    /// Too many were reset; the driver takes note once.
    flooded: Cell<bool>,
    driver: RefCell<Option<Waker>>,
}

impl Streams {
    fn new(now: Instant) -> Self {
        Self {
            open: Cell::new(0),
            idle_since: Cell::new(now),
            resets: Cell::new(Resets { spent_until: now }),
            flooded: Cell::new(false),
            driver: RefCell::new(None),
        }
    }

    fn register(&self, cx: &Context<'_>) {
        let mut driver = self.driver.borrow_mut();
        if !driver.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *driver = Some(cx.waker().clone());
        }
    }

    fn wake(&self) {
        if let Some(driver) = &*self.driver.borrow() {
            driver.wake_by_ref();
        }
    }

    fn count_reset(&self) {
        let mut resets = self.resets.get();
        if !resets.allows_another(Instant::now()) {
            self.flooded.set(true);
            self.wake();
        }
        self.resets.set(resets);
    }
}

/// Counts an open stream while its task lives.
struct OpenStream(Rc<Streams>);

impl OpenStream {
    fn new(streams: &Rc<Streams>) -> Self {
        streams.open.set(streams.open.get() + 1);
        Self(Rc::clone(streams))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let open = self.0.open.get().saturating_sub(1);
        self.0.open.set(open);
        if open == 0 {
            self.0.idle_since.set(Instant::now());
            // The idle deadline begins, which only the driver can arm.
            self.0.wake();
        }
    }
}

/// The resets that a client may still make, as the time until which its allowance is spent.
#[derive(Debug, Clone, Copy)]
struct Resets {
    spent_until: Instant,
}

impl Resets {
    fn allows_another(&mut self, now: Instant) -> bool {
        let each = Duration::from_secs(1) / RESETS_PER_SECOND;
        self.spent_until = self.spent_until.max(now) + each;
        self.spent_until - now <= each * RESETS_AT_ONCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_bursts_of_resets_but_no_flood() {
        let start = Instant::now();
        let mut resets = Resets { spent_until: start };

        assert!((0..RESETS_AT_ONCE).all(|_| resets.allows_another(start)));
        assert!(!resets.allows_another(start));
        assert!(resets.allows_another(start + Duration::from_secs(2)));
    }
}
