//! One HTTP/2 connection to an endpoint, and a call's place on it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{PingPong, SendStream};
use http::Request;
use tokio::time::{Instant, timeout};

use super::endpoint::Endpoint;
use super::pulse::Pulse;
use super::quota::Permit;
use super::transport::{ConnectError, Security};
use crate::config;
use crate::io::Batch;
use crate::telemetry::metrics::UpstreamStream;

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    sender: RefCell<SendRequest<Bytes>>,
    active: Cell<usize>,
    /// Streams that the peer allows at once, as of the last frames from it.
    allowed: Cell<usize>,
    closed: Cell<bool>,
    /// The receive window that all its streams share.
    window: usize,
    /// How much of it is taken by replies whose clients do not read.
    held: Cell<usize>,
    /// Whether it is old enough for another one to take its place.
    aged: Cell<bool>,
    pub(super) pulse: Rc<Pulse>,
}

impl Connection {
    /// Streams that calls hold.
    pub(super) fn active(&self) -> usize {
        self.active.get()
    }

    /// Looks at what the peer said since the last time: more streams are allowed, or none any more.
    pub(super) fn look(&self, cx: &mut Context<'_>) -> News {
        let mut sender = self.sender.borrow_mut();
        // It fails after a GOAWAY, which h2 tells in no other way while there are streams.
        if matches!(sender.poll_ready(cx), Poll::Ready(Err(_))) && !self.closed.replace(true) {
            return News::Leaving;
        }
        let allowed = sender.current_max_send_streams();
        if allowed > self.allowed.replace(allowed) { News::Room } else { News::None }
    }

    /// Whether the peer allows one more stream.
    pub(super) fn has_room(&self) -> bool {
        !self.closed.get() && !self.pulse.is_doubted() && self.active.get() < self.allowed.get()
    }

    /// Whether a call is better off on another connection: slow readers take much of the window, or it is about to end.
    pub(super) fn is_crowded(&self) -> bool {
        self.aged.get() || self.held.get() > self.window / 4
    }

    /// Whether it is to be counted when it is asked how many connections there are.
    pub(super) fn is_lasting(&self) -> bool {
        !self.closed.get() && !self.aged.get() && !self.pulse.is_lost()
    }

    /// Lets another connection take its place.
    pub(super) fn age(&self) {
        self.aged.set(true);
    }

    /// What one more call may hold when its streams hold this much together: half of the window is for those who come
    /// first, the rest in small shares for everyone, so that who reads never waits for who does not.
    fn share(&self) -> usize {
        (self.window / 2).saturating_sub(self.held.get()).max(self.window / SMALL_SHARES)
    }

    /// Whether no new call may start here: it ended, or the peer said GOAWAY.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    pub(super) fn close(&self) {
        self.closed.set(true);
    }
}

/// What a peer said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    None,
    /// It allows more streams.
    Room,
    /// It takes no more streams; the connection is closed for new calls.
    Leaving,
}

/// A call's place on a connection; it is free again when this is dropped.
#[derive(Debug)]
pub struct Lease {
    connection: Rc<Connection>,
    endpoint: Rc<Endpoint>,
    /// Of the connection's held bytes, those of this call.
    held: Cell<usize>,
    since: Instant,
    /// What had come on the connection when the call began.
    count: u64,
    answered: Cell<bool>,
    _counted: UpstreamStream,
    /// What it takes of the endpoint's bound, and of the upstream's.
    _permit: Permit,
    permit: Option<Permit>,
}

impl Lease {
    pub(super) fn new(connection: Rc<Connection>, endpoint: Rc<Endpoint>, permit: Permit) -> Self {
        connection.active.set(connection.active.get() + 1);
        endpoint.member().begin();
        let counted = endpoint.metrics().stream();
        let count = connection.pulse.count();
        Self {
            connection,
            endpoint,
            held: Cell::new(0),
            since: Instant::now(),
            count,
            answered: Cell::new(false),
            _counted: counted,
            _permit: permit,
            permit: None,
        }
    }

    /// The same with what it takes of another bound.
    pub(super) fn with(mut self, permit: Permit) -> Self {
        self.permit = Some(permit);
        self
    }

    /// The endpoint that the connection leads to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// When it was taken.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The call was answered, or its server ended it. `fine`: not by a failure of the server.
    pub fn answered(&self, fine: bool) {
        let now = Instant::now();
        let took = now - self.since;
        self.answered.set(true);
        self.connection.pulse.heard();
        self.endpoint.metrics().answered(took);
        match fine {
            true => self.endpoint.member().observe(took, now),
            false => self.endpoint.member().failed(took, now),
        }
    }

    /// Something of the reply came.
    pub fn heard(&self) {
        self.connection.pulse.heard();
    }

    /// The call was given up without an answer.
    pub fn gave_up(&self) {
        let now = Instant::now();
        self.endpoint.member().waited(now - self.since, now);
    }

    /// The call ended with a status of that number, which the endpoint gave.
    pub fn ended(&self, number: u32) {
        self.endpoint.judge(Some(number));
    }

    /// The call broke off, or what came of it was no gRPC.
    pub fn broke(&self) {
        self.endpoint.judge(None);
    }

    /// Sends a request's head and opens its stream.
    ///
    /// # Errors
    /// The connection takes no more streams; it is left to those that it has. Nothing was sent.
    pub fn send(&self, head: Request<()>, end: bool) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.connection.sender.borrow().clone().send_request(head, end).inspect_err(|_| self.retire())
    }

    /// Says how many bytes of the reply wait for the client, for which the window stays closed. Returns whether the call
    /// may hold that much.
    pub fn hold(&self, bytes: usize) -> bool {
        let held = &self.connection.held;
        held.set(held.get() - self.held.replace(bytes) + bytes);
        bytes <= self.connection.share()
    }

    /// Keeps new calls off this connection; the running ones go on.
    pub fn retire(&self) {
        self.connection.close();
        self.endpoint.forget_closed();
        self.endpoint.stream_ended();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.hold(0);
        if !self.answered.get() {
            let now = Instant::now();
            self.connection.pulse.unanswered(self.count, now - self.since, now);
        }
        self.connection.active.set(self.connection.active.get() - 1);
        self.endpoint.member().end();
        self.endpoint.stream_ended();
    }
}

/// Why no connection came about.
#[derive(Debug)]
pub(super) enum OpenError {
    Timeout,
    Connect(ConnectError),
    Handshake(End),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no connection within the connect timeout"),
            Self::Connect(error) => error.fmt(f),
            Self::Handshake(error) => write!(f, "HTTP/2 handshake failed: {error}"),
        }
    }
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    Closed,
    Http2(h2::Error),
    Io(io::Error),
    /// The peer did not answer a PING.
    Silent,
}

impl From<Result<(), h2::Error>> for End {
    fn from(result: Result<(), h2::Error>) -> Self {
        result.map_or_else(Self::Http2, |()| Self::Closed)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed"),
            Self::Silent => f.write_str("the peer is silent"),
            Self::Http2(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

/// Connects; the future that comes with the connection drives it and must be polled until it ends.
///
/// Open is what has sent its SETTINGS: before, nobody knows whether it is a server, speaks HTTP/2 or takes a stream.
pub(super) async fn open(
    address: &str,
    security: &Security,
    settings: &config::Connections,
) -> Result<(Rc<Connection>, Option<PingPong>, impl Future<Output = End> + 'static), OpenError> {
    let opening = async {
        let stream = security.connect(address).await.map_err(OpenError::Connect)?;
        let batch = Batch::new(stream);
        let (sender, mut connection) = Builder::new()
            .initial_window_size(settings.stream_window)
            .initial_connection_window_size(settings.connection_window)
            .data_frame_budget(settings.data_frame_budget)
            .enable_push(false)
            .max_header_list_size(MAX_HEADER_BYTES)
            .max_send_buffer_size(SEND_BUFFER)
            // Until the peer's SETTINGS arrive, by which this shows; h2 takes a missing value for no limit.
            .initial_max_send_streams(0)
            // A gateway resets streams whenever clients leave: late frames for them are no offence.
            .max_concurrent_reset_streams(1000)
            .max_local_error_reset_streams(None)
            .handshake::<_, Bytes>(batch.clone())
            .await
            .map_err(|error| OpenError::Handshake(End::Http2(error)))?;
        let pings = connection.ping_pong();
        let mut driver = poll_fn(move |cx| {
            loop {
                if let Poll::Ready(end) = Pin::new(&mut connection).poll(cx) {
                    return Poll::Ready(End::from(end));
                }
                // One write for everything that calls queued in this turn.
                match batch.poll_drain(cx) {
                    Ok(true) => {}
                    Ok(false) => return Poll::Pending,
                    Err(error) => return Poll::Ready(End::Io(error)),
                }
            }
        });
        let settled = poll_fn(|cx| match Pin::new(&mut driver).poll(cx) {
            Poll::Ready(end) => Poll::Ready(Err(OpenError::Handshake(end))),
            Poll::Pending if sender.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        });
        settled.await?;
        let connection = Rc::new(Connection {
            allowed: Cell::new(sender.current_max_send_streams()),
            sender: RefCell::new(sender),
            active: Cell::new(0),
            closed: Cell::new(false),
            window: settings.connection_window as usize,
            held: Cell::new(0),
            aged: Cell::new(false),
            pulse: Rc::new(Pulse::new(Instant::now())),
        });
        Ok((connection, pings, driver))
    };
    timeout(settings.connect_timeout, opening).await.unwrap_or(Err(OpenError::Timeout))
}

/// The part of a connection's window, as a divisor, that a call may hold whatever the others hold.
const SMALL_SHARES: usize = 2048;

/// Metadata that one reply may carry, names and values with 32 bytes each.
const MAX_HEADER_BYTES: u32 = 64 << 10;

/// Unsent bytes that h2 holds per stream before it takes no more.
const SEND_BUFFER: usize = 128 << 10;
