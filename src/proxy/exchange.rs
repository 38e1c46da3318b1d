//! Both directions of a running call, once its reply has begun.
//!
//! They move by themselves: a client that does not read its replies holds up neither its requests nor its deadline. What
//! the upstream sends meanwhile is read ahead, never beyond the stream's window, because small DATA frames that stay
//! unread in h2 count against the connection that other calls share.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, response};

use super::forward::{self, Incoming, Trail};
use super::pump::Pump;
use super::timer::Timer;
use super::upstream_body::UpstreamBody;
use crate::body::Part;
use crate::error::{Error, Reason};
use crate::grpc::frame::{FrameError, Scanner};

/// Both directions of a running call. Dropping it resets the upstream's stream.
#[derive(Debug)]
pub(super) struct Exchange {
    body: UpstreamBody,
    /// Gone when the whole request was sent.
    pump: Option<Box<Pump>>,
    timer: Timer,
    scanner: Scanner,
    /// Whether exactly one message is due.
    unary: bool,
    /// Bytes handed out for which the upstream's window is still closed.
    owed: usize,
    /// Read and not yet handed out.
    ahead: Ahead,
    /// What comes after it, if the call failed meanwhile.
    failure: Option<Error>,
}

/// Bytes of a reply that wait for the client. The upstream's window, which opens only as they are handed out, bounds
/// them.
#[derive(Debug, Default)]
struct Ahead {
    chunks: VecDeque<Bytes>,
    /// Small chunks behind those, in one piece.
    small: BytesMut,
    bytes: usize,
}

impl Exchange {
    /// Goes on with a call whose reply has begun; `unary`: exactly one message of up to `limit` bytes is due.
    ///
    /// Returns the head of the reply apart.
    pub(super) fn new(incoming: Incoming, limit: usize, unary: bool) -> (Self, response::Parts) {
        let Incoming { head, body, pump, timer } = incoming;
        let exchange = Self {
            body,
            pump: Some(pump),
            timer,
            scanner: Scanner::new(limit),
            unary,
            owed: 0,
            ahead: Ahead::default(),
            failure: None,
        };
        (exchange, head)
    }

    /// The next piece of the reply, moving the request along meanwhile.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, trail: &mut Trail) -> Poll<Result<Part, Error>> {
        if self.owed > 0 {
            self.body.release(std::mem::take(&mut self.owed));
        }
        if let Some(error) = self.failure.take_if(|_| self.ahead.is_empty()) {
            return Poll::Ready(Err(error));
        }
        if self.failure.is_none() {
            self.pump(cx, trail)?;
        }
        let next = match self.ahead.pop() {
            Some(data) => {
                self.body.lease.hold(self.ahead.bytes);
                Some(data)
            }
            None => match self.read(cx) {
                Poll::Ready(next) => next?,
                Poll::Pending => return self.timer.poll(cx).map(Err),
            },
        };
        trail.answered();
        if let Some(data) = next {
            self.owed = data.len();
            return Poll::Ready(Ok(Part::Data(data)));
        }
        match self.body.poll_trailers(cx) {
            Poll::Ready(Ok(trailers)) => Poll::Ready(Ok(Part::Trailers(trailers.unwrap_or_default()))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(forward::broken(self.upstream(), &error, &self.timer))),
            Poll::Pending => self.timer.poll(cx).map(Err),
        }
    }

    /// Moves the request, and reads ahead. Ready when the call is over although the client has not taken its reply: what
    /// was read ahead is dropped, and [`Self::poll`] has the error.
    pub(super) fn poll_aside(&mut self, cx: &mut Context<'_>, trail: &mut Trail) -> Poll<()> {
        let error = ready!(self.poll_failure(cx, trail));
        self.ahead = Ahead::default();
        self.failure = Some(error);
        Poll::Ready(())
    }

    fn poll_failure(&mut self, cx: &mut Context<'_>, trail: &mut Trail) -> Poll<Error> {
        while self.failure.is_none() {
            match self.read(cx) {
                Poll::Ready(Ok(Some(data))) => {
                    self.ahead.push(data);
                    if !self.body.lease.hold(self.ahead.bytes) {
                        return Poll::Ready(too_slow());
                    }
                }
                // The upstream's own end, good or bad, comes after what it sent.
                Poll::Ready(Err(error)) => self.failure = Some(error),
                Poll::Ready(Ok(None)) | Poll::Pending => break,
            }
        }
        if self.failure.is_none()
            && let Err(error) = self.pump(cx, trail)
        {
            return Poll::Ready(error);
        }
        self.timer.poll(cx)
    }

    /// Moves the request, and notes how far it is.
    fn pump(&mut self, cx: &mut Context<'_>, trail: &mut Trail) -> Result<(), Error> {
        let Some(pump) = &mut self.pump else { return Ok(()) };
        let pumped = pump.poll(cx);
        let before = trail.request_bytes;
        trail.note(Some(pump));
        if trail.request_bytes != before {
            self.timer.touch();
        }
        if pumped?.is_ready() {
            self.pump = None;
        }
        Ok(())
    }

    /// The next bytes from the upstream, checked; `None` before the trailers.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        loop {
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    self.timer.touch();
                    self.check(&data)?;
                    return Poll::Ready(Ok(Some(data)));
                }
                Some(Err(error)) => return Poll::Ready(Err(forward::broken(self.upstream(), &error, &self.timer))),
                None => return Poll::Ready(Ok(None)),
            }
        }
    }

    fn check(&mut self, data: &[u8]) -> Result<(), Error> {
        self.scanner.scan(data).map_err(reply_frame_error)?;
        if self.unary && self.scanner.messages() > 1 {
            return Err(several_replies(self.upstream()));
        }
        Ok(())
    }

    fn upstream(&self) -> &str {
        self.body.lease.endpoint().upstream()
    }

    /// How the call ended, by the reply's trailers and by its messages.
    ///
    /// # Errors
    /// The status is not OK, or the reply is not whole.
    pub(super) fn end(&self, trailers: &HeaderMap) -> Result<(), Error> {
        forward::trailers_status(self.upstream(), trailers, &self.timer)?;
        self.scanner.finish().map_err(reply_frame_error)?;
        if self.unary && self.scanner.messages() == 0 {
            return Err(no_reply(self.upstream()));
        }
        Ok(())
    }
}

impl Ahead {
    fn push(&mut self, data: Bytes) {
        self.bytes += data.len();
        if data.len() < SMALL {
            return self.small.extend_from_slice(&data);
        }
        if !self.small.is_empty() {
            self.chunks.push_back(self.small.split().freeze());
        }
        self.chunks.push_back(data);
    }

    fn pop(&mut self) -> Option<Bytes> {
        let small = &mut self.small;
        let data = self.chunks.pop_front().or_else(|| (!small.is_empty()).then(|| std::mem::take(small).freeze()))?;
        self.bytes -= data.len();
        Some(data)
    }

    fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

/// Chunks below this are joined: copying them costs less than keeping each.
const SMALL: usize = 1 << 10;

fn no_reply(upstream: &str) -> Error {
    Error::new(Reason::UpstreamProtocol, format!("upstream {upstream} sent no reply to a unary call"))
}

pub(crate) fn several_replies(upstream: &str) -> Error {
    Error::new(Reason::UpstreamProtocol, format!("upstream {upstream} sent more than one reply to a unary call"))
}

/// A compressed message that cannot be read, on a way where it has to be.
pub(super) fn compressed(upstream: &str) -> Error {
    Error::new(
        Reason::UpstreamProtocol,
        format!("upstream {upstream} compressed its reply unasked, and in no way that is known here"),
    )
}

/// The client does not read, and there is no room for more.
pub(super) fn too_slow() -> Error {
    Error::new(
        Reason::SlowReader,
        "the reply came faster than the client took it, and too many such replies wait already",
    )
}

/// What is wrong with the frames of a reply.
pub(crate) fn reply_frame_error(error: FrameError) -> Error {
    let reason = match error {
        FrameError::TooLarge { .. } => Reason::ResponseTooLarge,
        FrameError::BadFlag(_) | FrameError::Truncated => Reason::UpstreamProtocol,
    };
    Error::new(reason, format!("reply {error}"))
}
