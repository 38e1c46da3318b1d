//! REST, server streaming: each message becomes JSON as it comes, in the form that the client asked for.
//!
//! The head of the reply waits for the first message or for the end, at most [`HOLD`], so that a call that fails at once
//! has its real status and a quiet watch still opens.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, Method, Response};
use tokio::time::{Instant, Interval, interval_at, timeout};

use super::body::{Abort, ReplyBody};
use super::call::{Call, Trailers};
use super::compression::Packer;
use super::exchange::{Exchange, reply_frame_error};
use super::form::Form;
use super::forward::{self, Incoming};
use super::transcoder::Transcoder;
use super::{date, negotiate, reply, rest};
use crate::body::Part;
use crate::encoding::Encoding;
use crate::error::{Error, Reason};
use crate::grpc::messages::{Message, Messages};
use crate::policy::headers;

/// How long the head waits.
const HOLD: Duration = Duration::from_secs(1);
/// Silence after which an event stream gets a comment: proxies and browsers close what seems dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Messages that are ready together are sent together, up to so many bytes.
const JOINED: usize = 16 << 10;

/// Makes the reply to the client out of the upstream's.
pub(crate) async fn adapt_out(
    call: Box<Call>,
    plan: Transcoder,
    form: Form,
    incoming: Incoming,
) -> Response<ReplyBody> {
    let is_over = forward::is_trailers_only(&incoming.head, &incoming.body);
    let limit = call.settings().max_response_message;
    let (exchange, head) = Exchange::new(incoming, limit, false);
    if is_over && let Err(error) = exchange.end(&head.headers) {
        return reply::error(call, &error);
    }
    let form = if plan.reply.is_http_body() { Form::Raw } else { form };
    let is_head = call.http_method == Method::HEAD;
    let mut body = Box::new(StreamBody {
        exchange: Some(exchange).filter(|_| !is_over),
        messages: Messages::new(limit),
        encoding: negotiate::sent(&head.headers),
        plan,
        form,
        sent: 0,
        content_type: None,
        heartbeat: (form == Form::Events).then(|| interval_at(Instant::now() + HEARTBEAT, HEARTBEAT)),
        failure: None,
        next: is_over.then(|| Event::End(HeaderMap::new())),
        trailers: None,
        packer: None,
        call,
    });
    if body.next.is_none() {
        // Elapsed: the stream is quiet, and opens without a message.
        body.next = timeout(HOLD, poll_fn(|cx| body.poll_event(cx))).await.ok();
    }
    if let Some(Event::Failed(error)) = body.next.take_if(|next| matches!(next, Event::Failed(_))) {
        return reply::error(body.call, &error.with_initial_metadata(&head.headers));
    }
    let mut public = HeaderMap::with_capacity(head.headers.len() + 4);
    let steering = &body.call.settings().reply;
    headers::steered_reply(&head.headers, steering, &mut public);
    let status = headers::steered_status(&head.headers, steering);
    let has_content = rest::has_content(status);
    if has_content {
        public.insert(CONTENT_TYPE, body.content_type.take().unwrap_or_else(|| form.content_type()));
    }
    if form == Form::Events {
        public.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    date::put(&mut public, body.call.version);
    reply::echo_identifiers(&mut public, &body.call);
    if has_content && form != Form::Raw {
        body.packer = Packer::of(&body.call, &mut public);
        // It was chosen by that header: https://www.rfc-editor.org/rfc/rfc9110#section-12.5.5.
        public.append(VARY, HeaderValue::from_static("accept"));
    }
    body.call.http_status = Some(status);
    // Without a body the rest of the stream is of no use; dropping it cancels the call upstream.
    let body = if is_head || !has_content {
        ReplyBody::whole(Bytes::new(), None, Some(body.call))
    } else {
        ReplyBody::stream(body)
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = public;
    response
}

/// A stream of messages on its way to a client of REST.
#[derive(Debug)]
pub(crate) struct StreamBody {
    /// Gone when the reply is over.
    exchange: Option<Exchange>,
    messages: Messages,
    /// How the upstream compresses them, as far as that is known.
    encoding: Option<Encoding>,
    plan: Transcoder,
    form: Form,
    /// Messages written.
    sent: u64,
    /// Of the first message of raw data.
    content_type: Option<HeaderValue>,
    heartbeat: Option<Interval>,
    /// What comes behind the messages that were written.
    failure: Option<Error>,
    /// Known already, not sent.
    next: Option<Event>,
    trailers: Option<HeaderMap>,
    /// Gone when nothing is compressed, or any more.
    packer: Option<Packer>,
    call: Box<Call>,
}

/// What happens next in the reply.
#[derive(Debug)]
enum Event {
    Data(Bytes),
    /// The upstream's trailers, with a good status.
    End(HeaderMap),
    Failed(Error),
}

impl StreamBody {
    pub(crate) fn is_end(&self) -> bool {
        self.exchange.is_none() && self.next.is_none() && self.trailers.is_none() && self.packer.is_none()
    }

    pub(crate) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Abort>>> {
        let part = ready!(self.poll_packed(cx));
        if let Some(Ok(Part::Data(data))) = &part {
            self.call.response_bytes += data.len() as u64;
        }
        Poll::Ready(part)
    }

    /// The next piece, compressed if the reply is.
    fn poll_packed(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Abort>>> {
        while let Some(packer) = &mut self.packer {
            match ready!(packer.poll_pack(cx)) {
                Some(Ok(data)) => return Poll::Ready(Some(Ok(Part::Data(data)))),
                Some(Err(_)) => return Poll::Ready(Some(Err(Abort(h2::Reason::INTERNAL_ERROR)))),
                None if packer.is_over() => self.packer = None,
                None => {
                    let part = ready!(self.poll_plain(cx)).transpose()?;
                    let Some(packer) = &mut self.packer else { break };
                    match part {
                        Some(Part::Data(data)) => packer.push(data, self.exchange.is_none()),
                        Some(Part::Trailers(trailers)) => {
                            self.trailers = Some(trailers);
                            packer.push(Bytes::new(), true);
                        }
                        None => packer.push(Bytes::new(), true),
                    }
                }
            }
        }
        self.poll_plain(cx)
    }

    fn poll_plain(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Abort>>> {
        let event = match self.next.take() {
            Some(event) => event,
            None if self.exchange.is_none() => return Poll::Ready(self.trailers.take().map(Part::Trailers).map(Ok)),
            None => ready!(self.poll_event(cx)),
        };
        let mut out = BytesMut::new();
        let data = match event {
            Event::Data(data) => data,
            Event::End(trailers) => {
                self.end(&trailers);
                self.form.end(self.sent, &mut out);
                out.freeze()
            }
            Event::Failed(error) => {
                self.exchange = None;
                self.call.failed(&error);
                if error.reason() == Reason::ClientGone {
                    return Poll::Ready(Some(Err(Abort(h2::Reason::CANCEL))));
                }
                if !self.form.failure(self.sent, &reply::status_json(&self.call, &error), &mut out) {
                    return Poll::Ready(Some(Err(Abort(h2::Reason::INTERNAL_ERROR))));
                }
                self.call.complete();
                out.freeze()
            }
        };
        if data.is_empty() {
            return Poll::Ready(self.trailers.take().map(Part::Trailers).map(Ok));
        }
        Poll::Ready(Some(Ok(Part::Data(data))))
    }

    /// See [`ReplyBody::poll_aside`].
    pub(crate) fn poll_aside(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(exchange) = &mut self.exchange else { return Poll::Pending };
        ready!(exchange.poll_aside(cx, &mut self.call.trail));
        if self.packer.take().is_some() {
            // With a hole in it nothing that follows could be read: the reply breaks off without words.
            self.form = Form::Raw;
        }
        Poll::Ready(())
    }

    fn end(&mut self, trailers: &HeaderMap) {
        self.exchange = None;
        self.call.complete();
        if self.call.trailers == Trailers::Sent {
            let mut public = HeaderMap::new();
            headers::steered_trailers(trailers, &self.call.settings().reply, &mut public);
            self.trailers = Some(public).filter(|public| !public.is_empty());
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            if let Some(error) = self.failure.take() {
                return Poll::Ready(Event::Failed(error));
            }
            let written = self.write_messages();
            if !written.is_empty() {
                if let Some(heartbeat) = &mut self.heartbeat {
                    heartbeat.reset();
                }
                return Poll::Ready(Event::Data(written));
            }
            if self.failure.is_some() {
                continue;
            }
            let Some(exchange) = &mut self.exchange else { return Poll::Ready(Event::End(HeaderMap::new())) };
            match exchange.poll(cx, &mut self.call.trail) {
                Poll::Ready(Ok(Part::Data(data))) => self.messages.push(data),
                Poll::Ready(Ok(Part::Trailers(trailers))) => {
                    return Poll::Ready(match exchange.end(&trailers) {
                        Ok(()) => Event::End(trailers),
                        Err(error) => Event::Failed(error),
                    });
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Event::Failed(error)),
                Poll::Pending => {
                    let beats = self.heartbeat.as_mut().is_some_and(|heartbeat| heartbeat.poll_tick(cx).is_ready());
                    return if beats { Poll::Ready(Event::Data(Bytes::from_static(b":\n\n"))) } else { Poll::Pending };
                }
            }
        }
    }

    /// The messages that are here whole; those behind a wrong one are left.
    fn write_messages(&mut self) -> Bytes {
        let mut out = BytesMut::new();
        while out.len() < JOINED {
            let written = match self.messages.take().map_err(reply_frame_error) {
                Ok(None) => break,
                Ok(Some(message)) => self.write(&message, &mut out),
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                self.failure = Some(error);
                break;
            }
        }
        out.freeze()
    }

    fn write(&mut self, message: &Message, out: &mut BytesMut) -> Result<(), Error> {
        let limit = self.call.settings().max_response_message;
        let plain = negotiate::plain(self.call.upstream_name(), self.encoding, message, limit)?;
        let start = out.len();
        let written = self.write_plain(&plain, out);
        match written {
            Ok(()) => self.sent += 1,
            Err(_) => out.truncate(start),
        }
        written
    }

    fn write_plain(&mut self, message: &[u8], out: &mut BytesMut) -> Result<(), Error> {
        let settings = self.call.settings();
        if self.form == Form::Raw {
            let (content_type, data) =
                self.plan.reply.http_body(message).map_err(|error| rest::transcode_error(&self.call, &error))?;
            if self.sent == 0 {
                self.content_type = content_type.and_then(|value| HeaderValue::from_str(value).ok());
            }
            out.extend_from_slice(data);
            return Ok(());
        }
        self.form.before(self.sent + 1, out);
        if settings.json.stream_envelope {
            out.put_slice(b"{\"result\":");
        }
        self.plan
            .reply
            .decode(message, settings.json, settings.max_response_message, out)
            .map_err(|error| rest::transcode_error(&self.call, &error))?;
        if settings.json.stream_envelope {
            out.put_u8(b'}');
        }
        self.form.after(out);
        Ok(())
    }
}
