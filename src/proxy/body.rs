//! Replies as the server sends them: polled piece by piece, each piece only when the one before went out.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::call::Call;
use super::exchange::too_slow;
use super::framed::FramedBody;
use super::local::LocalBody;
use super::native::NativeBody;
use super::room::{PIECE, Place};
use super::stream::StreamBody;
use super::websocket::SocketBody;
use crate::body::Part;

/// The body of a reply. Dropping it before its end cancels the call.
#[derive(Debug)]
pub struct ReplyBody(Kind);

#[derive(Debug)]
enum Kind {
    Whole { data: Option<Bytes>, trailers: Option<HeaderMap>, call: Option<Box<Call>> },
    Native(Box<NativeBody>),
    Framed(Box<FramedBody>),
    Local(Box<LocalBody>),
    Stream(Box<StreamBody>),
    Socket(Box<SocketBody>),
}

/// The reply broke off: over HTTP/2 its stream is reset with this code, over HTTP/1.1 the connection ends without
/// completing the body.
#[derive(Debug, Clone, Copy)]
pub struct Abort(pub h2::Reason);

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the reply broke off: {}", self.0)
    }
}

impl std::error::Error for Abort {}

impl ReplyBody {
    /// A body that is all here. The call is over when the last piece of it was taken.
    pub(crate) fn whole(data: Bytes, trailers: Option<HeaderMap>, call: Option<Box<Call>>) -> Self {
        let mut body = Self(Kind::Whole { data: Some(data).filter(|data| !data.is_empty()), trailers, call });
        body.close_if_over();
        body
    }

    pub(crate) fn native(body: Box<NativeBody>) -> Self {
        Self(Kind::Native(body))
    }

    pub(crate) fn framed(body: Box<FramedBody>) -> Self {
        Self(Kind::Framed(body))
    }

    pub(crate) fn local(body: Box<LocalBody>) -> Self {
        Self(Kind::Local(body))
    }

    pub(crate) fn stream(body: Box<StreamBody>) -> Self {
        Self(Kind::Stream(body))
    }

    pub(crate) fn socket(body: Box<SocketBody>) -> Self {
        Self(Kind::Socket(body))
    }

    /// The next piece, `None` at the end.
    ///
    /// # Errors
    /// The reply broke off and its protocol has no words for it.
    pub fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Abort>>> {
        match &mut self.0 {
            Kind::Whole { data, trailers, call } => {
                let place = call.as_ref().and_then(|call| call.place.as_ref());
                let part = piece(data, place).map(Part::Data).or_else(|| trailers.take().map(Part::Trailers));
                if part.is_none() && call.take().is_some() {
                    // It made room for others: see `poll_aside`.
                    return Poll::Ready(Some(Err(Abort(h2::Reason::ENHANCE_YOUR_CALM))));
                }
                self.close_if_over();
                Poll::Ready(part.map(Ok))
            }
            Kind::Native(body) => body.poll_part(cx),
            Kind::Framed(body) => body.poll_part(cx),
            Kind::Local(body) => body.poll_part(cx),
            Kind::Stream(body) => body.poll_part(cx),
            Kind::Socket(body) => body.poll_part(cx),
        }
    }

    /// Moves whatever does not wait for the client to take the last piece.
    ///
    /// Ready when the call failed: what was not sent of that piece is to be dropped, [`Self::poll_part`] has the rest.
    pub fn poll_aside(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Kind::Native(body) => body.poll_aside(cx),
            Kind::Framed(body) => body.poll_aside(cx),
            Kind::Stream(body) => body.poll_aside(cx),
            Kind::Socket(body) => body.poll_aside(cx),
            Kind::Whole { data, trailers, call: Some(call) } if let Some(place) = &call.place => {
                ready!(place.poll_ended(cx));
                (*data, *trailers) = (None, None);
                call.failed(&too_slow());
                Poll::Ready(())
            }
            Kind::Whole { .. } | Kind::Local(_) => Poll::Pending,
        }
    }

    /// Whether nothing more will come, as far as is known without waiting.
    pub fn is_end(&self) -> bool {
        match &self.0 {
            Kind::Whole { data, trailers, .. } => data.is_none() && trailers.is_none(),
            Kind::Native(body) => body.is_end(),
            Kind::Framed(body) => body.is_end(),
            Kind::Stream(body) => body.is_end(),
            Kind::Local(_) | Kind::Socket(_) => false,
        }
    }

    /// Whether it would go on for ever and has [last words](Self::farewell).
    pub fn has_farewell(&self) -> bool {
        matches!(self.0, Kind::Socket(_))
    }

    /// The last words of a reply that would go on for ever, before its connection is cut; none where there is no way to
    /// say them.
    pub fn farewell(&mut self) -> Bytes {
        match &mut self.0 {
            Kind::Socket(body) => body.farewell(),
            Kind::Whole { .. } | Kind::Native(_) | Kind::Framed(_) | Kind::Local(_) | Kind::Stream(_) => Bytes::new(),
        }
    }

    /// Bytes of a body that is all here.
    pub fn length(&self) -> Option<u64> {
        match &self.0 {
            Kind::Whole { data, .. } => Some(data.as_ref().map_or(0, |data| data.len() as u64)),
            Kind::Native(_) | Kind::Framed(_) | Kind::Local(_) | Kind::Stream(_) | Kind::Socket(_) => None,
        }
    }

    /// Ends the call when the last piece of this body, which is all here, was taken.
    pub(crate) fn carry(&mut self, mut carried: Box<Call>) {
        if let Kind::Whole { data, call, .. } = &mut self.0 {
            if let Some(place) = &mut carried.place {
                place.settle(data.as_ref().map_or(0, Bytes::len));
                // What is left to do is its client's, for however long.
                carried.retire();
            }
            *call = Some(carried);
        }
        self.close_if_over();
    }

    fn close_if_over(&mut self) {
        if let Kind::Whole { data: None, trailers: None, call } = &mut self.0
            && let Some(mut call) = call.take()
        {
            call.complete();
        }
    }
}

/// The next piece of a reply: all of it, or one after the other of what has to have a place.
fn piece(data: &mut Option<Bytes>, place: Option<&Place>) -> Option<Bytes> {
    let (Some(rest), Some(place)) = (data.as_mut(), place) else { return data.take() };
    place.taken();
    if rest.len() > PIECE {
        return Some(rest.split_to(PIECE));
    }
    // A copy: the place goes with this piece, and what it was for must go with it.
    data.take().map(|last| Bytes::copy_from_slice(&last))
}

/// As hyper takes it.
impl http_body::Body for ReplyBody {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        Poll::Ready(ready!(self.poll_part(cx)).map(|part| {
            part.map(|part| match part {
                Part::Data(data) => Frame::data(data),
                Part::Trailers(trailers) => Frame::trailers(trailers),
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole { data, trailers: None, .. } => {
                SizeHint::with_exact(data.as_ref().map_or(0, |data| data.len() as u64))
            }
            Kind::Whole { trailers: Some(_), .. }
            | Kind::Native(_)
            | Kind::Framed(_)
            | Kind::Local(_)
            | Kind::Stream(_)
            | Kind::Socket(_) => SizeHint::default(),
        }
    }
}
