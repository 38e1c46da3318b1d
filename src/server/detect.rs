//! Which version of HTTP a client speaks in clear text, told from its first bytes.
//!
//! An HTTP/2 client with prior knowledge starts with a fixed [preface]; anything else is HTTP/1.1. `Upgrade: h2c` is
//! never followed. The bytes are read, not peeked at: a peek would report a partial preface again and again. Invariant:
//! whatever was read is replayed to the protocol that is found.
//!
//! [preface]: https://www.rfc-editor.org/rfc/rfc9113#section-3.4

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::AsyncRead;
use tokio::time::Instant;

use crate::io::Prefixed;
use crate::server::drain::{Local, Stage};
use crate::server::timer::Alarm;

/// The client's connection preface.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes read at once: most requests fit, so that they cost one read.
const READ: usize = 4096;

/// What the first bytes say.
#[derive(Debug)]
pub(super) enum Detected<S> {
    /// The whole preface is there.
    Http2(Prefixed<S>),
    /// At least one byte is there, and it is not the preface's.
    Http1(Prefixed<S>),
    /// The deadline passed amid the preface, or without any byte.
    TooSlow(Prefixed<S>),
    /// The client left, or the gateway does.
    Closed,
}

/// Reads until the version is known.
pub(super) async fn detect<S>(mut stream: Prefixed<S>, deadline: Instant, drain: &Rc<Local>) -> Detected<S>
where
    S: AsyncRead + Unpin,
{
    let mut seat = drain.seat();
    let mut alarm = None;
    let ended = poll_fn(|cx| {
        let found = poll_version(&mut stream, cx);
        if found.is_ready() {
            return found;
        }
        // A client that has said something is served, even late.
        if seat.stage(cx) > Stage::Ending && stream.prefix().is_empty() || seat.stage(cx) == Stage::Cut {
            return Poll::Ready(Found::Closed);
        }
        let alarm = alarm.get_or_insert_with(|| Alarm::new(deadline));
        alarm.poll_due(deadline, cx).map(|()| Found::TooSlow)
    });
    match ended.await {
        Found::Http2 => Detected::Http2(stream),
        Found::Http1 => Detected::Http1(stream),
        Found::TooSlow => Detected::TooSlow(stream),
        Found::Closed => Detected::Closed,
    }
}

enum Found {
    Http2,
    Http1,
    TooSlow,
    Closed,
}

fn poll_version<S: AsyncRead + Unpin>(stream: &mut Prefixed<S>, cx: &mut Context<'_>) -> Poll<Found> {
    loop {
        let read = stream.prefix();
        if read.starts_with(PREFACE) {
            return Poll::Ready(Found::Http2);
        }
        if !PREFACE.starts_with(read) {
            return Poll::Ready(Found::Http1);
        }
        match stream.poll_read_ahead(READ, cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(1..)) => {}
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Found::Closed),
        }
    }
}
