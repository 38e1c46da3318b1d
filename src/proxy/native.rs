//! Native gRPC: heads are edited in place, messages pass as the bytes that they are.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Response, StatusCode, request};

use super::body::{Abort, ReplyBody};
use super::call::Call;
use super::exchange::Exchange;
use super::forward::{self, Incoming, Outgoing};
use super::framed::{FramedBody, Writer};
use super::protocol::Framing;
use super::pump::{Frames, Source};
use super::transcoder::Transcoder;
use super::{negotiate, protocol, reply};
use crate::body::{Part, RequestBody};
use crate::encoding::Encoding;
use crate::error::{Error, Reason};
use crate::grpc;
use crate::policy::headers;

/// Makes the call upstream out of a native gRPC request.
///
/// # Errors
/// Its messages would have to be read here, and cannot be.
pub(crate) fn adapt_in(
    call: &Call,
    path: PathAndQuery,
    plan: Option<&Transcoder>,
    mut parts: request::Parts,
    body: RequestBody,
) -> Result<Outgoing, Error> {
    headers::native_request(&mut parts.headers, &call.caller());
    let encoding = parts.headers.get(grpc::ENCODING);
    let known = encoding.and_then(|value| Encoding::parse(value.to_str().ok()?));
    if plan.is_some() || known.is_some_and(|known| known != Encoding::Identity && !call.takes(known)) {
        let given = parts.headers.clone();
        parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let body = negotiate::source(call, plan, &given, &mut parts.headers, body)?;
        return Ok(Outgoing { path, headers: parts.headers, body });
    }
    // What is not known here may be known to the upstream.
    let plain = encoding.is_none() || known == Some(Encoding::Identity);
    let unary = call.method().is_some_and(|method| !method.client_streaming);
    let frames = Frames::new(body, call.settings().max_request_message, unary);
    let body = Source::Stream(if plain { frames.plain() } else { frames });
    Ok(Outgoing { path, headers: parts.headers, body })
}

/// Makes the call upstream out of a request of gRPC-Web or of a Connect stream.
///
/// # Errors
/// As above, or a binary header is malformed.
pub(crate) fn adapt_in_framed(
    call: &Call,
    path: PathAndQuery,
    plan: Option<&Transcoder>,
    parts: &request::Parts,
    body: RequestBody,
) -> Result<Outgoing, Error> {
    let mut headers = headers::rpc_request(&parts.headers, &call.caller()).map_err(reply::bad_header)?;
    let body = negotiate::source(call, plan, &parts.headers, &mut headers, body)?;
    Ok(Outgoing { path, headers, body })
}

/// Makes the reply to a client of gRPC or gRPC-Web out of the upstream's; `plan` is for messages in JSON. `accepted` are the
/// encodings that the client takes: one of gRPC is left to settle that with the upstream.
pub(crate) fn adapt_out(
    mut call: Box<Call>,
    plan: Option<Transcoder>,
    accepted: Option<&HeaderValue>,
    incoming: Incoming,
) -> Response<ReplyBody> {
    let passes = plan.is_none() && call.dialect.framing == Framing::Grpc;
    let unary = call.method().is_some_and(|method| !method.server_streaming);
    let is_over = forward::is_trailers_only(&incoming.head, &incoming.body);
    let (exchange, mut head) = Exchange::new(incoming, call.settings().max_response_message, unary);
    headers::native_reply(&mut head.headers);
    reply::echo_identifiers(&mut head.headers, &call);
    // A status in trailers says it all; what HTTP says beside it would only confuse a gRPC client.
    head.status = StatusCode::OK;
    call.http_status = Some(head.status);
    let is_grpc = |value: &HeaderValue| protocol::is_grpc(value.as_bytes());
    if !passes || !head.headers.get(CONTENT_TYPE).is_some_and(is_grpc) {
        head.headers.insert(CONTENT_TYPE, call.dialect.content_type());
    }
    let writer = if passes { None } else { Writer::of(&call, plan, accepted, &mut head.headers) };
    let body = if is_over {
        call.trail.answered();
        headers::only_status(&mut head.headers);
        if let Err(error) = exchange.end(&head.headers) {
            call.failed(&error);
            if error.reason() != Reason::UpstreamStatus {
                return reply::error(call, &error);
            }
        }
        call.complete();
        ReplyBody::whole(Bytes::new(), None, Some(call))
    } else if !passes {
        ReplyBody::framed(Box::new(FramedBody::new(call, exchange, writer)))
    } else {
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

impl NativeBody {
    pub(crate) fn is_end(&self) -> bool {
        self.exchange.is_none()
    }

    pub(crate) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Abort>>> {
        let Some(exchange) = &mut self.exchange else { return Poll::Ready(None) };
        let result = ready!(exchange.poll(cx, &mut self.call.trail));
        Poll::Ready(Some(match result {
            Ok(Part::Data(data)) => {
                self.call.response_bytes += data.len() as u64;
                Ok(Part::Data(data))
            }
            Ok(Part::Trailers(mut trailers)) => {
                headers::only_status(&mut trailers);
                let outcome = exchange.end(&trailers);
                self.exchange = None;
                Ok(Part::Trailers(self.end(trailers, outcome)))
            }
            Err(error) => {
                self.exchange = None;
                self.call.failed(&error);
                if error.reason() == Reason::ClientGone {
                    return Poll::Ready(Some(Err(Abort(h2::Reason::CANCEL))));
                }
                self.call.complete();
                Ok(Part::Trailers(reply::grpc_trailers(&self.call, &error)))
            }
        }))
    }

    /// Moves what does not depend on the client's reading. Ready when the call failed: what the client has not got yet
    /// of the reply must be dropped, and [`Self::poll_part`] says how the reply ends.
    pub(crate) fn poll_aside(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(exchange) = &mut self.exchange else { return Poll::Pending };
        exchange.poll_aside(cx, &mut self.call.trail)
    }

    /// The trailers that end the reply: the upstream's own, unless it broke a rule.
    fn end(&mut self, mut trailers: HeaderMap, outcome: Result<(), Error>) -> HeaderMap {
        self.call.complete();
        let Err(error) = outcome else { return trailers };
        self.call.failed(&error);
        if error.reason() != Reason::UpstreamStatus {
            trailers = reply::grpc_trailers(&self.call, &error);
        }
        trailers
    }
}
