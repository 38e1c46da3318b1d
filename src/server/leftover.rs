//! What nobody read of a request over HTTP/1.1.
//!
//! The next request of the connection stands behind it, so it is read to its end, if that end is near. Otherwise the
//! connection closes behind the reply, and the client is told so where the head of the reply is not sent yet: one that
//! sends its next request to a connection that closes cannot know whether it was seen
//! ([RFC 9112 §9.3](https://www.rfc-editor.org/rfc/rfc9112#section-9.3)).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, header};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

use crate::body::{Http1Body, RequestBody, Rest};

/// How much is read.
const MOST: usize = 1 << 20;
/// How long it is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reads the rest of one request's body.
#[derive(Debug)]
pub(super) struct Leftover {
    rest: Rest,
    body: Option<Incoming>,
    /// Whether reading would ask the client to send what it holds back.
    expects: bool,
    bytes: usize,
    patience: Option<Pin<Box<Sleep>>>,
}

impl Leftover {
    /// Gives the request its body, and keeps the other end of it.
    pub(super) fn of(request: Request<Incoming>) -> (Request<RequestBody>, Self) {
        let rest = Rest::default();
        let expects = request.headers().contains_key(header::EXPECT);
        let leftover = Self { rest: Rest::clone(&rest), body: None, expects, bytes: 0, patience: None };
        let request = request.map(|body| {
            if body.is_end_stream() { RequestBody::Empty } else { RequestBody::Http1(Http1Body::new(body, rest)) }
        });
        (request, leftover)
    }

    /// Whether nothing is left.
    pub(super) fn is_none(&self) -> bool {
        self.body.is_none() && self.rest.borrow().is_none()
    }

    /// Reads what was given up so far; ready with whether its end was reached.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if let Some(body) = self.rest.take() {
            self.body = Some(body);
        }
        while let Some(body) = &mut self.body {
            if self.expects || self.bytes > MOST {
                return Poll::Ready(false);
            }
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => self.bytes += frame.data_ref().map_or(0, bytes::Bytes::len),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                Poll::Ready(None) => self.body = None,
                Poll::Pending => {
                    let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
                    return patience.as_mut().poll(cx).map(|()| false);
                }
            }
        }
        Poll::Ready(true)
    }
}
