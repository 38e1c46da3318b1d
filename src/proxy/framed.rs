//! Replies whose frames are not passed as they are: those of gRPC-Web and Connect streams, and messages in JSON.
//!
//! Messages of the proto codec are never looked into. What differs between the protocols is how a reply ends: in
//! trailers, in a frame that holds them, or in a message of JSON.

use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, Bytes};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};

use super::body::{Abort, ReplyBody};
use super::call::Call;
use super::exchange::{Exchange, reply_frame_error};
use super::forward::{self, Incoming};
use super::protocol::Framing;
use super::transcoder::Transcoder;
use super::{date, negotiate, reply, rest};
use crate::body::Part;
use crate::config::Json;
use crate::encoding::Encoding;
use crate::error::{Error, Reason};
use crate::grpc;
use crate::grpc::messages::Messages;
use crate::grpc::{frame, text};
use crate::policy::headers;

/// Makes the reply to a client of a Connect stream out of the upstream's.
pub(crate) fn connect_stream(
    call: Box<Call>,
    plan: Option<Transcoder>,
    accepted: Option<&HeaderValue>,
    incoming: Incoming,
) -> Response<ReplyBody> {
    let unary = call.method().is_some_and(|method| !method.server_streaming);
    let is_over = forward::is_trailers_only(&incoming.head, &incoming.body);
    let (exchange, mut head) = Exchange::new(incoming, call.settings().max_response_message, unary);
    if is_over {
        return match exchange.end(&head.headers) {
            Ok(()) => reply::connect_end(call, &head.headers),
            Err(error) => reply::error(call, &error),
        };
    }
    let writer = Writer::of(&call, plan, accepted, &mut head.headers);
    let mut public = HeaderMap::with_capacity(head.headers.len() + 4);
    headers::rest_reply(&head.headers, &mut public);
    public.insert(CONTENT_TYPE, call.dialect.content_type());
    if let Some(encoding) = head.headers.get(grpc::ENCODING) {
        public.insert(negotiate::CONNECT_ENCODING, encoding.clone());
    }
    date::put(&mut public, call.version);
    reply::echo_identifiers(&mut public, &call);
    let mut response = Response::new(ReplyBody::framed(Box::new(FramedBody::new(call, exchange, writer))));
    *response.headers_mut() = public;
    response
}

/// A reply on its way to a client that does not take the upstream's frames as they are.
#[derive(Debug)]
pub(crate) struct FramedBody {
    /// Gone when the reply is over.
    exchange: Option<Exchange>,
    /// `None`: messages pass as they are.
    writer: Option<Writer>,
    call: Box<Call>,
}

/// Writes messages anew: in JSON, or inflated for a client that does not take them as they came.
#[derive(Debug)]
pub(super) struct Writer {
    messages: Messages,
    /// For messages in JSON.
    plan: Option<(Transcoder, Json)>,
    limit: usize,
    /// How the upstream compresses them, as far as that is known.
    encoding: Option<Encoding>,
}

impl FramedBody {
    pub(super) fn new(call: Box<Call>, exchange: Exchange, writer: Option<Writer>) -> Self {
        Self { exchange: Some(exchange), writer, call }
    }

    pub(crate) fn is_end(&self) -> bool {
        self.exchange.is_none()
    }

    pub(crate) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Abort>>> {
        loop {
            let Some(exchange) = &mut self.exchange else { return Poll::Ready(None) };
            if let Some(writer) = &mut self.writer {
                match writer.next(&self.call) {
                    Ok(Some(frame)) => return Poll::Ready(Some(Ok(self.data(frame)))),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Some(self.fail(&error))),
                }
            }
            match ready!(exchange.poll(cx, &mut self.call.trail)) {
                Ok(Part::Data(data)) => match &mut self.writer {
                    Some(writer) => writer.messages.push(data),
                    None => return Poll::Ready(Some(Ok(self.data(data)))),
                },
                Ok(Part::Trailers(mut trailers)) => {
                    headers::only_status(&mut trailers);
                    return Poll::Ready(Some(match exchange.end(&trailers) {
                        Ok(()) => Ok(self.end(None, trailers)),
                        Err(error) if error.reason() == Reason::UpstreamStatus => Ok(self.end(Some(&error), trailers)),
                        Err(error) => self.fail(&error),
                    }));
                }
                Err(error) => return Poll::Ready(Some(self.fail(&error))),
            }
        }
    }

    /// See [`ReplyBody::poll_aside`].
    pub(crate) fn poll_aside(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(exchange) = &mut self.exchange else { return Poll::Pending };
        exchange.poll_aside(cx, &mut self.call.trail)
    }

    fn data(&mut self, data: Bytes) -> Part {
        let is_text = matches!(self.call.dialect.framing, Framing::WebText | Framing::WebTextReply);
        let data = if is_text { text::write(&data) } else { data };
        self.call.response_bytes += data.len() as u64;
        Part::Data(data)
    }

    /// Ends the reply with an error of the gateway's own.
    fn fail(&mut self, error: &Error) -> Result<Part, Abort> {
        if error.reason() == Reason::ClientGone {
            self.exchange = None;
            self.call.failed(error);
            return Err(Abort(h2::Reason::CANCEL));
        }
        Ok(self.end(Some(error), reply::grpc_trailers(&self.call, error)))
    }

    /// How the reply ends in its protocol.
    fn end(&mut self, error: Option<&Error>, trailers: HeaderMap) -> Part {
        self.exchange = None;
        if let Some(error) = error {
            self.call.failed(error);
        }
        self.call.complete();
        match self.call.dialect.framing {
            Framing::Web | Framing::WebText | Framing::WebTextReply => self.data(trailers_frame(&trailers)),
            Framing::ConnectStream => self.data(reply::end_stream(&self.call, error, &trailers)),
            Framing::Grpc | Framing::Rest | Framing::ConnectUnary | Framing::ConnectGet => Part::Trailers(trailers),
        }
    }
}

impl Writer {
    /// What writes the messages of a reply with that head, which then says nothing of their encoding; `None` if the
    /// client, which accepts these encodings, gets them as they are.
    pub(super) fn of(
        call: &Call,
        plan: Option<Transcoder>,
        accepted: Option<&HeaderValue>,
        head: &mut HeaderMap,
    ) -> Option<Self> {
        if plan.is_none() && negotiate::takes(accepted, head) {
            return None;
        }
        let encoding = negotiate::sent(head);
        head.remove(grpc::ENCODING);
        let settings = call.settings();
        let limit = settings.max_response_message;
        let plan = plan.map(|plan| (plan, settings.json));
        Some(Self { messages: Messages::new(limit), plan, limit, encoding })
    }

    /// The frame of the next message that is here whole.
    fn next(&mut self, call: &Call) -> Result<Option<Bytes>, Error> {
        let Some(message) = self.messages.take().map_err(reply_frame_error)? else { return Ok(None) };
        let plain = negotiate::plain(call.upstream_name(), self.encoding, &message, self.limit)?;
        let out = match &self.plan {
            Some((plan, json)) => {
                let mut out = frame::open(plain.len() * 2 + 64);
                plan.reply
                    .decode(&plain, *json, self.limit, &mut out)
                    .map_err(|error| rest::transcode_error(call, &error))?;
                out
            }
            None => {
                let mut out = frame::open(plain.len());
                out.put_slice(&plain);
                out
            }
        };
        let frame = frame::close(out, 0, usize::MAX)
            .ok_or_else(|| Error::new(Reason::ResponseTooLarge, "reply message exceeds four gigabytes as JSON"))?;
        Ok(Some(frame))
    }
}

/// Trailers as the last frame of a gRPC-Web reply: lines of HTTP/1.1 with names in lower case.
fn trailers_frame(trailers: &HeaderMap) -> Bytes {
    const FLAG: u8 = 0x80;
    let mut frame = frame::open(128);
    for (name, value) in trailers {
        frame.put_slice(name.as_str().as_bytes());
        frame.put_slice(b": ");
        frame.put_slice(value.as_bytes());
        frame.put_slice(b"\r\n");
    }
    // Headers are bounded far below four gigabytes.
    frame::close(frame, FLAG, usize::MAX).unwrap_or_default()
}
