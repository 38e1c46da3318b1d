//! What an upstream answers after the head of its reply, and the place on its connection.
//!
//! Whatever was read of it before it was clear that the call would not be sent again comes out first. How the call ended is
//! noted here for outlier detection, whichever adapter reads it.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;

use crate::grpc;
use crate::grpc::status::{Code, parse_status};
use crate::upstream::Lease;

/// The rest of a reply. Dropping it resets the upstream's stream.
#[derive(Debug)]
pub(crate) struct UpstreamBody {
    stream: RecvStream,
    pub(super) lease: Lease,
    early: VecDeque<Bytes>,
    /// The end, if it was read before everything else was taken.
    trailers: Option<Result<Option<HeaderMap>, h2::Error>>,
}

/// What reading ahead came to.
#[derive(Debug)]
pub(super) enum Ahead {
    /// There is something to pass on.
    Begun,
    /// The end came, and nothing else before it that a client would have got.
    Over(HeaderMap),
    /// The stream broke.
    Broken(h2::Error),
}

impl UpstreamBody {
    /// `head` may be all there is: then it holds the status.
    pub(super) fn new(stream: RecvStream, head: &HeaderMap, lease: Lease) -> Self {
        if head.contains_key(grpc::STATUS) || stream.is_end_stream() {
            note(&lease, head);
        }
        Self { stream, lease, early: VecDeque::new(), trailers: None }
    }

    /// Whether nothing comes after the head.
    pub(super) fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream() && self.early.is_empty() && self.trailers.is_none()
    }

    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        if let Some(data) = self.early.pop_front() {
            return Poll::Ready(Some(Ok(data)));
        }
        if self.trailers.is_some() {
            return Poll::Ready(None);
        }
        let data = ready!(self.stream.poll_data(cx));
        match &data {
            Some(Ok(_)) => self.lease.heard(),
            Some(Err(_)) => self.lease.broke(),
            None => {}
        }
        Poll::Ready(data)
    }

    pub(super) fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, h2::Error>> {
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(trailers);
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        match &trailers {
            Ok(Some(trailers)) => note(&self.lease, trailers),
            // Both are what no server of gRPC does.
            Ok(None) | Err(_) => self.lease.broke(),
        }
        Poll::Ready(trailers)
    }

    /// Lets the upstream send as much again.
    pub(super) fn release(&mut self, taken: usize) {
        // Fails only when the stream is closed; then there is no window left to open.
        self.stream.flow_control().release_capacity(taken).ok();
    }

    /// Reads until it is clear whether the call succeeds, as far as [`AHEAD`] bytes of a unary reply tell; of a stream, its
    /// first message tells. What is read stays here.
    pub(super) fn poll_ahead(&mut self, unary: bool, cx: &mut Context<'_>) -> Poll<Ahead> {
        loop {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    let is_something = !data.is_empty();
                    self.early.push_back(data);
                    let read: usize = self.early.iter().map(Bytes::len).sum();
                    if is_something && (!unary || read >= AHEAD || self.early.len() >= CHUNKS) {
                        return Poll::Ready(Ahead::Begun);
                    }
                }
                Some(Err(error)) => {
                    self.lease.broke();
                    return Poll::Ready(Ahead::Broken(error));
                }
                None => {
                    let trailers = ready!(self.poll_trailers(cx));
                    let over = match &trailers {
                        Ok(trailers) => Ahead::Over(trailers.clone().unwrap_or_default()),
                        Err(_) => Ahead::Begun,
                    };
                    self.trailers = Some(trailers);
                    return Poll::Ready(over);
                }
            }
        }
    }
}

/// Notes the status that a call ended with.
fn note(lease: &Lease, trailers: &HeaderMap) {
    let number = trailers.get(grpc::STATUS).and_then(parse_status);
    lease.ended(number.unwrap_or_else(|| Code::Internal.number()));
}

/// Bytes of a unary reply that are read before its status is known. Less than the smallest window.
const AHEAD: usize = 32 << 10;
/// The same in pieces.
const CHUNKS: usize = 64;
