//! Replies as the server sends them: polled piece by piece, each piece only when the one before went out.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::call::Call;
use super::framed::FramedBody;
use super::local::LocalBody;
use super::native::NativeBody;
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
            Kind::Whole { data, trailers, .. } => {
                let part = data.take().map(Part::Data).or_else(|| trailers.take().map(Part::Trailers));
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
    pub(crate) fn carry(&mut self, carried: Box<Call>) {
        if let Kind::Whole { call, .. } = &mut self.0 {
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
