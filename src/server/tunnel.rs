//! A connection of HTTP/1.1 after the reply 101: bytes both ways, until the reply is over.
//!
//! What the bytes mean is the proxy's business. Invariants: the socket is read only when the piece before was taken, and a
//! part of the reply is asked for only when the one before went out, so that nothing is piled up in either direction.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{self, Instant};

use crate::body::{Entrance, Part, RequestBody, Tunnel};
use crate::policy::websocket;
use crate::server::drain::{Seat, Stage};
use crate::server::http1::{CLOSE_TIMEOUT, READ};
use crate::server::timer::Alarm;
use crate::server::{Reply, STALL_TIMEOUT, refuse};

/// A tunnel that a request asks for; it comes to be if the reply is 101.
#[derive(Debug)]
pub(super) struct Offer(Entrance);

/// A tunnel to be served: where the client's bytes go, and what is said to it.
#[derive(Debug)]
pub(super) struct Opened<R> {
    entrance: Entrance,
    reply: R,
}

/// Where a connection's service leaves the tunnel that it is to become.
pub(super) type Slot<R> = Rc<RefCell<Option<Opened<R>>>>;

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// All of the reply was sent.
    Replied,
    /// The client is gone, or the reply broke off.
    Broken,
    /// The client took nothing for [`STALL_TIMEOUT`].
    Stalled,
    /// The drain is over.
    Cut,
}

/// Gives a request without a body a tunnel for one, if it asks for that.
pub(super) fn offer(request: Request<RequestBody>) -> (Request<RequestBody>, Option<Offer>) {
    let is_wanted = websocket::is_wanted(request.method(), request.version(), request.headers(), request.extensions());
    if !is_wanted || !matches!(request.body(), RequestBody::Empty) {
        return (request, None);
    }
    let (entrance, tunnel) = Tunnel::new();
    (request.map(|_| RequestBody::Tunnel(tunnel)), Some(Offer(entrance)))
}

/// Takes the body of a reply 101 aside, since it is none of HTTP's.
pub(super) fn take<R>(offer: Option<Offer>, reply: &mut Response<Option<R>>, slot: &Slot<R>) {
    if reply.status() == StatusCode::SWITCHING_PROTOCOLS
        && let (Some(Offer(entrance)), Some(reply)) = (offer, reply.body_mut().take())
    {
        *slot.borrow_mut() = Some(Opened { entrance, reply });
    }
}

/// Serves a tunnel to its end; `early` is what was read of it together with the request.
pub(super) async fn serve<S, R>(mut stream: S, early: Bytes, opened: Opened<R>, seat: Seat) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
    R: Reply,
{
    let Opened { mut entrance, reply } = opened;
    if !early.is_empty() {
        entrance.push(early);
    }
    let mut pipe = Pipe {
        stream: &mut stream,
        entrance: Some(entrance),
        reply,
        held: Bytes::new(),
        stalled: None,
        alarm: Alarm::new(Instant::now() + STALL_TIMEOUT),
        seat,
    };
    let ended = poll_fn(|cx| pipe.poll(cx)).await;
    let last = match ended {
        Ended::Cut => pipe.last_words(),
        Ended::Replied | Ended::Broken | Ended::Stalled => Bytes::new(),
    };
    drop(pipe);
    if matches!(ended, Ended::Replied | Ended::Cut) {
        let closed = async {
            stream.write_all(&last).await?;
            stream.shutdown().await
        };
        if matches!(time::timeout(CLOSE_TIMEOUT, closed).await, Ok(Ok(()))) && ended == Ended::Replied {
            refuse::linger(stream).await;
        }
    }
    ended
}

struct Pipe<'s, S, R> {
    stream: &'s mut S,
    /// Gone when the client says no more.
    entrance: Option<Entrance>,
    reply: R,
    /// Taken from the reply, not yet from us.
    held: Bytes,
    stalled: Option<Instant>,
    alarm: Alarm,
    seat: Seat,
}

impl<S: AsyncRead + AsyncWrite + Unpin, R: Reply> Pipe<'_, S, R> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            let read = self.poll_read(cx).is_ready();
            match self.poll_write(cx) {
                Poll::Ready(Some(ended)) => return Poll::Ready(ended),
                Poll::Ready(None) => continue,
                Poll::Pending if read => continue,
                Poll::Pending => {}
            }
            if self.seat.stage(cx) == Stage::Cut {
                return Poll::Ready(Ended::Cut);
            }
            let Some(since) = self.stalled else { return Poll::Pending };
            return self.alarm.poll_due(since + STALL_TIMEOUT, cx).map(|()| Ended::Stalled);
        }
    }

    /// Ready when something was read.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(entrance) = &mut self.entrance else { return Poll::Pending };
        ready!(entrance.poll_empty(cx));
        let mut room = [0; READ];
        let mut buffer = ReadBuf::new(&mut room);
        match ready!(Pin::new(&mut *self.stream).poll_read(cx, &mut buffer)) {
            Ok(()) if !buffer.filled().is_empty() => entrance.push(Bytes::copy_from_slice(buffer.filled())),
            // A half-closed connection and a broken one alike: WebSocket has a close of its own.
            Ok(()) | Err(_) => self.entrance = None,
        }
        Poll::Ready(())
    }

    /// Ready when something was written, or it is over.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
        if self.held.is_empty() {
            match ready!(self.reply.poll_part(cx)) {
                Some(Ok(Part::Data(data))) => self.held = data,
                // Nothing that is over this has trailers.
                Some(Ok(Part::Trailers(_))) => return Poll::Ready(None),
                Some(Err(_)) => return Poll::Ready(Some(Ended::Broken)),
                None => return Poll::Ready(Some(Ended::Replied)),
            }
        }
        match Pin::new(&mut *self.stream).poll_write(cx, &self.held) {
            Poll::Ready(Ok(written @ 1..)) => {
                self.stalled = None;
                drop(self.held.split_to(written));
            }
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Some(Ended::Broken)),
            Poll::Pending => {
                self.stalled.get_or_insert_with(Instant::now);
                if self.reply.poll_aside(cx).is_ready() {
                    self.held = Bytes::new();
                    return Poll::Ready(None);
                }
                return Poll::Pending;
            }
        }
        Poll::Ready(None)
    }

    /// What is left to say before the cut.
    fn last_words(&mut self) -> Bytes {
        let farewell = self.reply.farewell();
        [&self.held[..], &farewell[..]].concat().into()
    }
}
