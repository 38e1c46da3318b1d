//! One HTTP/2 connection to an endpoint, and a call's place on it.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::Request;
use tokio::time::timeout;

use super::endpoint::Endpoint;
use super::transport::{ConnectError, Security};
use crate::config;
use crate::io::Batch;
use crate::telemetry::metrics::UpstreamStream;

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Bytes>,
    active: Cell<usize>,
    closed: Cell<bool>,
    /// The receive window that all its streams share.
    window: usize,
    /// How much of it is taken by replies whose clients do not read.
    held: Cell<usize>,
}

impl Connection {
    /// Streams that calls hold.
    pub(super) fn active(&self) -> usize {
        self.active.get()
    }

    /// Streams that the peer allows at once; it may change its mind at any time.
    pub(super) fn allowed_streams(&self) -> usize {
        self.sender.current_max_send_streams()
    }

    /// Whether the peer allows one more stream.
    pub(super) fn has_room(&self) -> bool {
        !self.closed.get() && self.active.get() < self.allowed_streams()
    }

    /// Whether slow readers take so much of the window that a call is better off on another connection.
    pub(super) fn is_crowded(&self) -> bool {
        self.held.get() > self.window / 4
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

/// A call's place on a connection; it is free again when this is dropped.
#[derive(Debug)]
pub struct Lease {
    connection: Rc<Connection>,
    endpoint: Rc<Endpoint>,
    /// Of the connection's held bytes, those of this call.
    held: Cell<usize>,
    _counted: UpstreamStream,
}

impl Lease {
    pub(super) fn new(connection: Rc<Connection>, endpoint: Rc<Endpoint>) -> Self {
        connection.active.set(connection.active.get() + 1);
        endpoint.member().begin();
        let counted = endpoint.metrics().stream();
        Self { connection, endpoint, held: Cell::new(0), _counted: counted }
    }

    /// The endpoint that the connection leads to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The call was answered, or given up, after so long.
    pub fn answered(&self, took: Duration) {
        self.endpoint.member().observe(took, tokio::time::Instant::now());
    }

    /// Sends a request's head and opens its stream.
    ///
    /// # Errors
    /// The connection takes no more streams; it is left to those that it has. Nothing was sent.
    pub fn send(&self, head: Request<()>, end: bool) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.connection.sender.clone().send_request(head, end).inspect_err(|_| self.retire())
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
) -> Result<(Rc<Connection>, impl Future<Output = End> + 'static), OpenError> {
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
            sender,
            active: Cell::new(0),
            closed: Cell::new(false),
            window: settings.connection_window as usize,
            held: Cell::new(0),
        });
        Ok((connection, driver))
    };
    timeout(settings.connect_timeout, opening).await.unwrap_or(Err(OpenError::Timeout))
}

/// The part of a connection's window, as a divisor, that a call may hold whatever the others hold.
const SMALL_SHARES: usize = 2048;

/// Metadata that one reply may carry, names and values with 32 bytes each.
const MAX_HEADER_BYTES: u32 = 64 << 10;

/// Unsent bytes that h2 holds per stream before it takes no more.
const SEND_BUFFER: usize = 128 << 10;
