//! One HTTP/2 stream: the request is checked, answered, and the reply written under flow control.
//!
//! Invariants: a reset by the client drops the call at once, whatever it waits for; the next part of a reply is asked
//! for only when the one before has gone to h2 within the client's window, so that a slow reader holds up its upstream
//! and nothing is piled up here.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::header::HOST;
use http::{Method, Request, Response, StatusCode};
use tokio::time::{self, Instant, Sleep};

use crate::body::Part;
use crate::policy::websocket;
use crate::proxy::body::Abort;
use crate::server::drain::{Local, Seat, Stage};
use crate::server::refuse::is_host;
use crate::server::{Reply, STALL_TIMEOUT};

/// Largest piece of a reply for which window is asked at once, so that one stream does not take all of the connection's.
const CHUNK: usize = 64 << 10;
/// Parts below this are sent together when they are ready together: a peer built on h2 takes many small DATA frames
/// for an attack, and each costs a head of its own.
const SMALL: usize = 1 << 10;
/// Bytes of small parts joined at most.
const JOINED: usize = 16 << 10;

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The reply is complete.
    Replied,
    /// The client reset the stream, or is gone.
    ClientReset,
    /// We reset it.
    Aborted(Reason),
    /// The client took nothing for [`STALL_TIMEOUT`].
    Stalled,
}

/// Why a request never reaches the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Malformed: [RFC 9113 §8.1.1](https://www.rfc-editor.org/rfc/rfc9113#section-8.1.1).
    Malformed,
    /// Well-formed, not wanted.
    Status(StatusCode),
}

/// What h2 leaves to us of the rules for requests. It has checked the names, connection-specific fields, `te`, the
/// pseudo-headers but for a missing `:path`, and `content-length`; it refuses too many bytes of headers with 431.
pub(super) fn refusal<B>(request: &Request<B>, max_headers: usize) -> Option<Refusal> {
    // No tunnels but WebSockets: https://www.rfc-editor.org/rfc/rfc9110#section-9.3.6.
    if request.method() == Method::CONNECT && !websocket::is_extended_connect(request.extensions()) {
        return Some(Refusal::Status(StatusCode::NOT_IMPLEMENTED));
    }
    let uri = request.uri();
    if uri.path_and_query().is_none_or(|path| path.as_str().is_empty()) {
        return Some(Refusal::Malformed);
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Some(Refusal::Malformed);
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    if !hosts.next().is_none_or(is_host) || hosts.next().is_some() {
        return Some(Refusal::Malformed);
    }
    (request.headers().len() > max_headers).then_some(Refusal::Status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE))
}

/// Replies of one connection that have last words, and when it is time for these.
#[derive(Debug, Clone)]
pub(super) struct Farewells {
    pub(super) drain: Rc<Local>,
    /// How many have not said theirs.
    pub(super) due: Rc<Cell<usize>>,
}

/// One of them.
#[derive(Debug)]
struct Farewell {
    seat: Seat,
    due: Rc<Cell<usize>>,
}

impl Farewells {
    fn one(&self) -> Farewell {
        self.due.set(self.due.get() + 1);
        Farewell { seat: self.drain.seat(), due: Rc::clone(&self.due) }
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.due.set(self.due.get().saturating_sub(1));
    }
}

/// Has the request answered and writes the reply.
pub(super) async fn answer<R: Reply>(
    is_head: bool,
    mut reply: Pin<&mut impl Future<Output = Response<R>>>,
    mut respond: SendResponse<Bytes>,
    farewells: &Farewells,
) -> Ended {
    let replied = poll_fn(|cx| {
        if respond.poll_reset(cx).is_ready() {
            return Poll::Ready(None);
        }
        reply.as_mut().poll(cx).map(Some)
    });
    let Some(replied) = replied.await else { return Ended::ClientReset };
    let (head, body) = replied.into_parts();
    // https://www.rfc-editor.org/rfc/rfc9110#section-6.4.1
    let has_no_body = is_head || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let end = has_no_body || body.is_end();
    match respond.send_response(Response::from_parts(head, ()), end) {
        Ok(_) if end => Ended::Replied,
        Ok(stream) => {
            let farewell = body.has_farewell().then(|| farewells.one());
            let mut writer = Writer { body, held: Bytes::new(), next: None, stall: None, stream, farewell };
            poll_fn(|cx| writer.poll(cx)).await
        }
        Err(error) if error.is_reset() || error.is_io() || error.is_go_away() => Ended::ClientReset,
        Err(error) => {
            tracing::error!(%error, "reply has headers that HTTP/2 cannot carry");
            respond.send_reset(Reason::INTERNAL_ERROR);
            Ended::Aborted(Reason::INTERNAL_ERROR)
        }
    }
}

/// Writes the parts of a reply.
struct Writer<R> {
    body: R,
    /// Taken from the body, not yet given to h2.
    held: Bytes,
    /// Taken from the body beyond `held`, while small parts were joined.
    next: Option<Taken>,
    stall: Option<Pin<Box<Sleep>>>,
    stream: SendStream<Bytes>,
    farewell: Option<Farewell>,
}

/// What a body gives when it is ready.
type Taken = Option<Result<Part, Abort>>;

impl<R: Reply> Writer<R> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if self.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Ended::ClientReset);
        }
        if self.farewell.as_mut().is_some_and(|farewell| farewell.seat.stage(cx) == Stage::Cut) {
            return Poll::Ready(self.say_farewell());
        }
        loop {
            if !self.held.is_empty() {
                match ready!(self.poll_send(cx)) {
                    Some(ended) => return Poll::Ready(ended),
                    None => continue,
                }
            }
            let taken = match self.next.take() {
                Some(taken) => taken,
                None => ready!(self.body.poll_part(cx)),
            };
            let sent = match taken {
                Some(Ok(Part::Data(data))) if data.len() < SMALL => {
                    self.held = self.join(data, cx);
                    continue;
                }
                Some(Ok(Part::Data(data))) => {
                    self.held = data;
                    continue;
                }
                Some(Ok(Part::Trailers(trailers))) => self.stream.send_trailers(trailers),
                None => self.stream.send_data(Bytes::new(), true),
                Some(Err(Abort(reason))) => {
                    self.stream.send_reset(reason);
                    return Poll::Ready(Ended::Aborted(reason));
                }
            };
            return Poll::Ready(ended(sent, Ended::Replied));
        }
    }

    /// Ends the reply; h2 sends it as far as the client's window goes.
    fn say_farewell(&mut self) -> Ended {
        let next = match self.next.take() {
            Some(Some(Ok(Part::Data(data)))) => data,
            Some(_) | None => Bytes::new(),
        };
        let last = [&self.held[..], &next[..], &self.body.farewell()[..]].concat();
        ended(self.stream.send_data(last.into(), true), Ended::Replied)
    }

    /// Gives h2 as much of `held` as the client's window takes. Ready with `None` when some went.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
        let room = match self.poll_room(self.held.len().min(CHUNK), cx) {
            Poll::Ready(Some(room)) => room,
            Poll::Ready(None) => return Poll::Ready(Some(Ended::ClientReset)),
            Poll::Pending if self.body.poll_aside(cx).is_ready() => {
                (self.held, self.next) = (Bytes::new(), None);
                return Poll::Ready(None);
            }
            Poll::Pending => return self.poll_stalled(cx).map(Some),
        };
        self.stall = None;
        let data = self.held.split_to(room.min(self.held.len()));
        let is_last = self.held.is_empty() && self.next.is_none() && self.body.is_end();
        let sent = self.stream.send_data(data, is_last);
        if is_last || sent.is_err() {
            return Poll::Ready(Some(ended(sent, Ended::Replied)));
        }
        Poll::Ready(None)
    }

    /// Window for up to `wanted` bytes, at least one; `None` when the stream is closed.
    fn poll_room(&mut self, wanted: usize, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        self.stream.reserve_capacity(wanted);
        match self.stream.capacity() {
            0 => Poll::Ready(ready!(self.stream.poll_capacity(cx)).and_then(Result::ok)),
            room => Poll::Ready(Some(room)),
        }
    }

    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let stall = self.stall.get_or_insert_with(|| Box::pin(time::sleep_until(Instant::now() + STALL_TIMEOUT)));
        ready!(stall.as_mut().poll(cx));
        self.stream.send_reset(Reason::CANCEL);
        Poll::Ready(Ended::Stalled)
    }

    /// Joins the small part with those that are ready behind it, as far as the window takes them now.
    fn join(&mut self, first: Bytes, cx: &mut Context<'_>) -> Bytes {
        if self.body.is_end() {
            return first;
        }
        self.stream.reserve_capacity(JOINED);
        let room = self.stream.capacity().min(JOINED);
        let mut joined = BytesMut::new();
        let mut length = first.len();
        while length < room {
            match self.body.poll_part(cx) {
                Poll::Ready(Some(Ok(Part::Data(data)))) if data.len() < SMALL && length + data.len() <= room => {
                    if joined.is_empty() {
                        joined.reserve(JOINED.min(4 * SMALL));
                        joined.extend_from_slice(&first);
                    }
                    joined.extend_from_slice(&data);
                    length += data.len();
                }
                Poll::Ready(taken) => {
                    self.next = Some(taken);
                    break;
                }
                Poll::Pending => break,
            }
        }
        if joined.is_empty() { first } else { joined.freeze() }
    }
}

/// How the stream ended, from what h2 said to the last frame.
fn ended(sent: Result<(), h2::Error>, if_sent: Ended) -> Ended {
    match sent {
        Ok(()) => if_sent,
        Err(error) => {
            // A reset that arrived within this turn.
            tracing::trace!(%error, "reply not taken");
            Ended::ClientReset
        }
    }
}
