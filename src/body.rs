//! Bodies as they come from a client, whatever version of HTTP it speaks.
//!
//! [`RequestBody`] is polled by whoever needs the bytes; nothing is read ahead. Over HTTP/2 the receive window opens
//! again only when [`RequestBody::release`] is called, so a reader that stops stops the client.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body as _;

/// What a client sends after the head of its request.
#[derive(Debug)]
pub enum RequestBody {
    /// Nothing.
    Empty,
    /// All of it, at hand already.
    Whole(Bytes),
    /// Read by hyper.
    Http1(Http1Body),
    /// Read by h2, with flow control of our own.
    Http2(h2::RecvStream),
}

impl RequestBody {
    /// The next bytes in order, `None` at the end. Trailers of requests are dropped: gRPC has none.
    ///
    /// # Errors
    /// The client reset the stream, closed the connection or broke the framing of HTTP.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenBody>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(std::mem::take(bytes)))),
            Self::Http1(body) => loop {
                match ready!(body.poll_frame(cx)) {
                    None => return Poll::Ready(None),
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            return Poll::Ready(Some(Ok(data)));
                        }
                    }
                    Some(Err(error)) => return Poll::Ready(Some(Err(BrokenBody::of(&error)))),
                }
            },
            Self::Http2(stream) => match ready!(stream.poll_data(cx)) {
                None => Poll::Ready(None),
                Some(Ok(data)) => Poll::Ready(Some(Ok(data))),
                Some(Err(_)) => Poll::Ready(Some(Err(BrokenBody::ClientGone))),
            },
        }
    }

    /// Opens the receive window by bytes that were handed out by [`Self::poll_data`] and are now dealt with.
    pub fn release(&mut self, bytes: usize) {
        if let Self::Http2(stream) = self {
            // Fails only when the stream is closed or the window was released before; either way it is open.
            stream.flow_control().release_capacity(bytes).ok();
        }
    }

    /// Whether no more bytes will come.
    pub fn is_end(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Http1(body) => body.is_end(),
            Self::Http2(stream) => stream.is_end_stream(),
        }
    }
}

/// A body that hyper reads. What is left of it when it is dropped goes to its [`Rest`].
#[derive(Debug)]
pub struct Http1Body {
    body: Option<hyper::body::Incoming>,
    rest: Rest,
}

/// Where the server finds what nobody read of a body: only behind its end can the connection serve another request.
pub type Rest = Rc<RefCell<Option<hyper::body::Incoming>>>;

impl Http1Body {
    /// The whole body.
    pub fn new(body: hyper::body::Incoming, rest: Rest) -> Self {
        Self { body: Some(body), rest }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<http_body::Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end(&self) -> bool {
        self.body.as_ref().is_none_or(hyper::body::Incoming::is_end_stream)
    }
}

impl Drop for Http1Body {
    fn drop(&mut self) {
        if !self.is_end() {
            self.rest.replace(self.body.take());
        }
    }
}

/// Why a request's body does not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BrokenBody {
    /// The client went away in the middle of it.
    #[error("the client closed the request before its end")]
    ClientGone,
    /// Its chunks cannot be told apart ([RFC 9112 §7.1](https://www.rfc-editor.org/rfc/rfc9112#section-7.1)). The client
    /// may still be there and can be told.
    #[error("the chunks of the body are malformed")]
    Malformed,
}

impl BrokenBody {
    /// hyper says what is wrong with chunks by the kind of the error beneath its own; a body cut short ends otherwise.
    fn of(error: &hyper::Error) -> Self {
        let beneath = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
        match beneath.map(io::Error::kind) {
            Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => Self::Malformed,
            _ => Self::ClientGone,
        }
    }
}

/// One piece of a reply's body.
#[derive(Debug)]
pub enum Part {
    /// Bytes, never empty.
    Data(Bytes),
    /// The end, with trailers.
    Trailers(HeaderMap),
}
