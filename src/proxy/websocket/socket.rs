//! Frames of WebSocket over a request's and a reply's bytes.
//!
//! tungstenite knows the frames: masks, fragments, UTF-8, control frames. It works on memory here; bytes come from the
//! request's body when it wants some, and what it writes waits until the reply takes it. Invariants: at most one message
//! waits here, besides the one that is being read; nothing more is read while answers to pings wait for the client.

use std::io::{self, Read, Write};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tungstenite::error::ProtocolError;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

use crate::body::RequestBody;

/// Time between two pings, and for the client to give any sign of life after one.
const PING: Duration = Duration::from_secs(30);
/// Bytes that tungstenite reads at once, and holds for each WebSocket.
const READ: usize = 4 << 10;
/// Bytes that wait for the client, beyond which nothing is read.
const MAX_UNSENT: usize = 64 << 10;
/// A control frame's payload, which the limit of messages must leave room for.
const MAX_CONTROL: usize = 125;
/// Bytes of the reason in a close frame: RFC 6455 §5.5, less two for the code.
const MAX_REASON: usize = MAX_CONTROL - 2;

/// A WebSocket, seen from the server.
#[derive(Debug)]
pub(super) struct Socket {
    context: WebSocketContext,
    wire: Wire,
    body: RequestBody,
    /// Bytes of the last piece, for which the client's window is still closed.
    piece: usize,
    bytes: u64,
    /// Arrived, not taken.
    message: Option<Received>,
    inbound: Inbound,
    /// Of the first message; replies are of the same.
    kind: Option<Kind>,
    expects_message: bool,
    ping: Interval,
    /// Whether nothing came since the last ping.
    is_silent: bool,
}

/// What a message is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// JSON.
    Text,
    /// Protobuf.
    Binary,
}

/// A message of the client's.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) kind: Kind,
    pub(super) bytes: Bytes,
}

impl Received {
    /// Whether it only says that no message follows.
    pub(super) fn is_half_close(&self) -> bool {
        self.kind == Kind::Text && self.bytes.is_empty()
    }
}

/// Whether the client can still say something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Inbound {
    Open,
    /// It sent a close frame, which is answered.
    Closed,
    /// It went away without one, or gives no sign of life.
    Gone,
    /// A message is over the limit.
    TooLarge,
    /// It broke a rule; the code is what RFC 6455 §7.4.1 has for that.
    Broken(u16, String),
}

impl Socket {
    /// Over a body of bytes; messages of the client may have up to `limit` bytes.
    pub(super) fn new(body: RequestBody, limit: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ)
            .write_buffer_size(0)
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit.max(MAX_CONTROL)));
        let mut ping = interval_at(Instant::now() + PING, PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            context: WebSocketContext::new(Role::Server, Some(config)),
            wire: Wire::default(),
            body,
            piece: 0,
            bytes: 0,
            message: None,
            inbound: Inbound::Open,
            kind: None,
            expects_message: true,
            ping,
            is_silent: false,
        }
    }

    /// Bytes read from the client.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn inbound(&self) -> &Inbound {
        &self.inbound
    }

    /// What replies are made of.
    pub(super) fn kind(&self) -> Kind {
        self.kind.unwrap_or(Kind::Text)
    }

    /// The request is whole: another message of the client's is one too many.
    pub(super) fn expect_no_message(&mut self) {
        self.expects_message = false;
    }

    pub(super) fn expects_message(&self) -> bool {
        self.expects_message
    }

    /// The next message; `None` when there will be none, see [`Self::inbound`].
    pub(super) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        ready!(self.poll_receive(cx));
        Poll::Ready(self.message.take())
    }

    /// Reads, and answers what is no message. Ready when a message is here or none will come.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.message.is_none() && self.inbound == Inbound::Open {
            if self.wire.output.len() > MAX_UNSENT {
                // Polled again when the client has taken it.
                return Poll::Pending;
            }
            match self.context.read(&mut self.wire) {
                Ok(Message::Text(text)) => self.receive(Kind::Text, text.into()),
                Ok(Message::Binary(bytes)) => self.receive(Kind::Binary, bytes),
                Ok(Message::Close(_)) => {
                    self.inbound = Inbound::Closed;
                    // Says that the connection is closed, once the answer is written.
                    self.context.flush(&mut self.wire).ok();
                }
                // The answer to a ping goes out with the next read.
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.poll_fill(cx)),
                Err(error) => self.inbound = broken(&error),
            }
        }
        Poll::Ready(())
    }

    fn receive(&mut self, kind: Kind, bytes: Bytes) {
        self.kind.get_or_insert(kind);
        self.message = Some(Received { kind, bytes });
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.body.release(std::mem::take(&mut self.piece));
        match ready!(self.body.poll_data(cx)) {
            Some(Ok(data)) => {
                self.is_silent = false;
                self.piece = data.len();
                self.bytes += data.len() as u64;
                self.wire.input = data;
            }
            Some(Err(_)) | None => self.wire.is_over = true,
        }
        Poll::Ready(())
    }

    /// Pings the client when it is time. Ready when it gave no sign of life since the last one.
    pub(super) fn poll_ping(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.ping.poll_tick(cx).is_ready() {
            // Behind a message that waits here, an answer may be waiting as well.
            if self.is_silent && self.message.is_none() {
                self.inbound = Inbound::Gone;
                return Poll::Ready(());
            }
            self.is_silent = true;
            self.context.write(&mut self.wire, Message::Ping(Bytes::new())).ok();
        }
        Poll::Pending
    }

    /// The client cannot answer a ping that it has not got: another bound holds while it reads nothing.
    pub(super) fn forgive_silence(&mut self) {
        self.is_silent = false;
    }

    /// Writes a message. Does nothing once a close frame was written or read.
    pub(super) fn send(&mut self, kind: Kind, bytes: Bytes) {
        let data = match kind {
            Kind::Text => Data::Text,
            Kind::Binary => Data::Binary,
        };
        let frame = Frame::message(bytes, OpCode::Data(data), true);
        // Writing to memory cannot fail.
        self.context.write(&mut self.wire, Message::Frame(frame)).ok();
    }

    /// Writes a close frame; the reason is cut to what fits in.
    pub(super) fn close(&mut self, code: u16, reason: &str) {
        let reason = reason.split_at(reason.floor_char_boundary(MAX_REASON)).0.to_owned().into();
        self.context.close(&mut self.wire, Some(CloseFrame { code: CloseCode::from(code), reason })).ok();
    }

    /// What was written since the last time.
    pub(super) fn take_output(&mut self) -> Bytes {
        self.wire.output.split().freeze()
    }

    /// Bytes that were written and not taken.
    pub(super) fn unsent(&self) -> usize {
        self.wire.output.len()
    }
}

/// What the end of reading means.
fn broken(error: &Error) -> Inbound {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => Inbound::Closed,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::Io(_) => Inbound::Gone,
        Error::Capacity(_) => Inbound::TooLarge,
        Error::Utf8(_) => Inbound::Broken(1007, "a text frame is not UTF-8".into()),
        Error::Protocol(problem) => Inbound::Broken(1002, problem.to_string()),
        other => Inbound::Broken(1002, other.to_string()),
    }
}

/// Both directions in memory.
#[derive(Debug, Default)]
struct Wire {
    input: Bytes,
    is_over: bool,
    output: BytesMut,
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() && !self.is_over {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = into.len().min(self.input.len());
        self.input.copy_to_slice(&mut into[..taken]);
        Ok(taken)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::body::Tunnel;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_answers_no_ping_is_gone_by_the_next() {
        let (_entrance, tunnel) = Tunnel::new();
        let mut socket = Socket::new(RequestBody::Tunnel(tunnel), 100);
        let started = Instant::now();

        poll_fn(|cx| socket.poll_ping(cx)).await;

        assert_eq!((started.elapsed(), socket.inbound()), (PING * 2, &Inbound::Gone));
        assert_eq!(&socket.take_output()[..], [0x89, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn any_sign_of_life_is_an_answer() {
        let (mut entrance, tunnel) = Tunnel::new();
        let mut socket = Socket::new(RequestBody::Tunnel(tunnel), 100);
        let started = Instant::now();
        let pong: &[u8] = &[0x8a, 0x80, 0, 0, 0, 0];

        tokio::time::advance(PING).await;
        poll_fn(|cx| {
            assert!(socket.poll_ping(cx).is_pending());
            entrance.push(Bytes::from_static(pong));
            assert!(socket.poll_receive(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        poll_fn(|cx| socket.poll_ping(cx)).await;

        assert_eq!(started.elapsed(), PING * 3);
    }
}
