//! Native gRPC: heads are edited in place, messages pass as the bytes that they are.
//!
//! Both directions move by themselves: a client that does not read its replies holds up neither its requests nor its
//! deadline. What the upstream sends meanwhile is read ahead, never beyond the stream's window, because small DATA
//! frames that stay unread in h2 count against the connection that other calls share.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Response, StatusCode, request};

use super::body::{Abort, ReplyBody};
use super::call::Call;
use super::forward::{self, Incoming, Outgoing};
use super::pump::{Frames, Pump, Source};
use super::timer::Timer;
use super::{protocol, reply};
use crate::body::{Part, RequestBody};
use crate::error::{Error, Reason};
use crate::grpc::frame::{FrameError, Scanner};
use crate::policy::headers;
use crate::upstream::Lease;

/// Makes the call upstream out of a native gRPC request.
pub(crate) fn adapt_in(call: &Call, path: PathAndQuery, mut parts: request::Parts, body: RequestBody) -> Outgoing {
    headers::native_request(&mut parts.headers, &call.caller());
    let unary = call.method().is_some_and(|method| !method.client_streaming);
    let frames = Frames::new(body, call.settings().max_request_message, unary);
    Outgoing { path, headers: parts.headers, body: Source::Stream(frames) }
}

/// Makes the reply to the client out of the upstream's.
pub(crate) fn adapt_out(mut call: Box<Call>, incoming: Incoming) -> Response<ReplyBody> {
    let Incoming { mut head, body, pump, timer, lease } = incoming;
    headers::native_reply(&mut head.headers);
    reply::echo_identifiers(&mut head.headers, &call);
    // A status in trailers says it all; what HTTP says beside it would only confuse a gRPC client.
    head.status = StatusCode::OK;
    call.http_status = head.status;
    let is_grpc = |value: &HeaderValue| protocol::is_grpc(value.as_bytes());
    if !head.headers.get(CONTENT_TYPE).is_some_and(is_grpc) {
        head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    }
    let unary = call.method().is_some_and(|method| !method.server_streaming);
    let body = if forward::is_trailers_only(&head, &body) {
        headers::only_status(&mut head.headers);
        let status = forward::trailers_status(call.upstream_name(), &head.headers, &timer);
        if let Err(error) = status.and_then(|()| if unary { Err(no_reply(call.upstream_name())) } else { Ok(()) }) {
            call.failed(&error);
            if error.reason() != Reason::UpstreamStatus {
                return reply::error(call, &error);
            }
        }
        call.complete();
        ReplyBody::whole(Bytes::new(), None, Some(call))
    } else {
        let scanner = Scanner::new(call.settings().max_response_message);
        let exchange = Exchange {
            body,
            pump: Some(pump),
            timer,
            lease,
            scanner,
            unary,
            owed: 0,
            ahead: Ahead::default(),
            failure: None,
        };
        ReplyBody::native(Box::new(NativeBody { exchange: Some(exchange), call }))
    };
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}

/// A gRPC reply on its way to a client that speaks gRPC itself.
#[derive(Debug)]
pub(crate) struct NativeBody {
    /// Gone when the reply is over.
    exchange: Option<Exchange>,
    call: Box<Call>,
}

/// Both directions of a running call. Dropping it resets the upstream's stream.
#[derive(Debug)]
struct Exchange {
    body: RecvStream,
    /// Gone when the whole request was sent.
    pump: Option<Pump>,
    timer: Timer,
    lease: Lease,
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

impl NativeBody {
    pub(crate) fn is_end(&self) -> bool {
        self.exchange.is_none()
    }

    pub(crate) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Abort>>> {
        let Some(exchange) = &mut self.exchange else { return Poll::Ready(None) };
        let result = ready!(exchange.poll(cx, &mut self.call.trail.request_bytes));
        Poll::Ready(Some(match result {
            Ok(Part::Data(data)) => {
                self.call.response_bytes += data.len() as u64;
                Ok(Part::Data(data))
            }
            Ok(Part::Trailers(mut trailers)) => {
                headers::only_status(&mut trailers);
                let status = forward::trailers_status(self.call.upstream_name(), &trailers, &exchange.timer);
                let messages = exchange.messages();
                self.exchange = None;
                Ok(Part::Trailers(self.end(trailers, status.and(messages))))
            }
            Err(error) => {
                self.exchange = None;
                self.call.failed(&error);
                if error.reason() == Reason::ClientGone {
                    return Poll::Ready(Some(Err(Abort(h2::Reason::CANCEL))));
                }
                self.call.complete();
                Ok(Part::Trailers(reply::grpc_trailers(&error)))
            }
        }))
    }

    /// Moves what does not depend on the client's reading. Ready when the call failed: what the client has not got yet
    /// of the reply must be dropped, and [`Self::poll_part`] says how the reply ends.
    pub(crate) fn poll_aside(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(exchange) = &mut self.exchange else { return Poll::Pending };
        let error = ready!(exchange.poll_aside(cx, &mut self.call.trail.request_bytes));
        exchange.ahead = Ahead::default();
        exchange.failure = Some(error);
        Poll::Ready(())
    }

    /// The trailers that end the reply: the upstream's own, unless it broke a rule.
    fn end(&mut self, mut trailers: HeaderMap, outcome: Result<(), Error>) -> HeaderMap {
        self.call.complete();
        let Err(error) = outcome else { return trailers };
        self.call.failed(&error);
        if error.reason() != Reason::UpstreamStatus {
            trailers = reply::grpc_trailers(&error);
        }
        trailers
    }
}

impl Exchange {
    /// The next piece of the reply, moving the request along meanwhile.
    fn poll(&mut self, cx: &mut Context<'_>, sent: &mut u64) -> Poll<Result<Part, Error>> {
        if self.owed > 0 {
            // Fails only when the stream is closed; then there is no window left to open.
            self.body.flow_control().release_capacity(std::mem::take(&mut self.owed)).ok();
        }
        if let Some(error) = self.failure.take_if(|_| self.ahead.is_empty()) {
            return Poll::Ready(Err(error));
        }
        if self.failure.is_none() {
            self.pump(cx, sent)?;
        }
        let next = match self.ahead.pop() {
            Some(data) => {
                self.lease.hold(self.ahead.bytes);
                Some(data)
            }
            None => match self.read(cx) {
                Poll::Ready(next) => next?,
                Poll::Pending => return self.timer.poll(cx).map(Err),
            },
        };
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

    /// Moves the request, and reads ahead. Ready when the call is over although the client has not taken its reply.
    fn poll_aside(&mut self, cx: &mut Context<'_>, sent: &mut u64) -> Poll<Error> {
        while self.failure.is_none() {
            match self.read(cx) {
                Poll::Ready(Ok(Some(data))) => {
                    self.ahead.push(data);
                    if !self.lease.hold(self.ahead.bytes) {
                        return Poll::Ready(too_slow());
                    }
                }
                // The upstream's own end, good or bad, comes after what it sent.
                Poll::Ready(Err(error)) => self.failure = Some(error),
                Poll::Ready(Ok(None)) | Poll::Pending => break,
            }
        }
        if self.failure.is_none()
            && let Err(error) = self.pump(cx, sent)
        {
            return Poll::Ready(error);
        }
        self.timer.poll(cx)
    }

    /// Moves the request and counts it in `sent`.
    fn pump(&mut self, cx: &mut Context<'_>, sent: &mut u64) -> Result<(), Error> {
        let Some(pump) = &mut self.pump else { return Ok(()) };
        let pumped = pump.poll(cx);
        let bytes = pump.bytes().unwrap_or(*sent);
        if std::mem::replace(sent, bytes) != bytes {
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
        self.lease.endpoint().upstream()
    }

    /// Whether a reply whose status is OK is whole.
    fn messages(&self) -> Result<(), Error> {
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

fn too_slow() -> Error {
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
