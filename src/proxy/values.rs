//! REST, client streaming: each JSON value of a body becomes one message as soon as it is there.
//!
//! The values are the elements of an array, or stand one per line. What path and query set holds for every message, as
//! the rule of `google.api.http` reads when it is applied to each of them. Invariant: beside the piece of the body that
//! came last no more than [`JOINED`] bytes and one message are kept, and the client's window opens only when that piece is used up.

use std::borrow::Cow;
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{HeaderMap, request};

use super::bound::Bound;
use super::call::Call;
use super::coding::{self, Content};
use super::forward::Outgoing;
use super::pump::Source;
use super::rest;
use super::transcoder::{Transcoder, invalid};
use super::unary::too_large;
use crate::body::RequestBody;
use crate::config::Json;
use crate::error::{Error, Reason};
use crate::grpc::frame::{self, PREFIX};
use crate::media;
use crate::transcode::{self, Fault, Form, Input, Values};

/// Makes the call upstream out of a REST request whose body holds messages. Nothing of the body is read here.
///
/// # Errors
/// The body is of a type that holds no messages, or a header cannot be passed on.
pub(crate) fn adapt_in(
    call: &Call,
    path: PathAndQuery,
    plan: &Transcoder,
    captures: &[Cow<'_, str>],
    parts: &request::Parts,
    body: RequestBody,
) -> Result<Outgoing, Error> {
    let headers = rest::metadata(call, parts)?;
    let form = if body.is_end() { Form::Lines } else { form(&parts.headers)? };
    let settings = call.settings();
    let limit = settings.max_request_message;
    let messages = ValueFrames {
        content: Content::new(body, coding::of(&parts.headers)?),
        values: Values::new(form, limit),
        is_over: false,
        failure: None,
        bound: Bound::of(&plan.request, captures, parts),
        plan: plan.clone(),
        json: settings.json,
        limit,
    };
    Ok(Outgoing { path, headers, body: Source::Values(Box::new(messages)) })
}

/// Messages that are here together are sent together, up to so many bytes: each DATA frame costs the upstream more than a
/// small message does, and it may take many small ones for an attack.
const JOINED: usize = 16 << 10;

/// How the messages stand in a body, by its type.
fn form(headers: &HeaderMap) -> Result<Form, Error> {
    let Some(media) = headers.get(CONTENT_TYPE) else { return Ok(Form::Array) };
    let essence = media::essence(media.to_str().unwrap_or_default()).to_ascii_lowercase();
    match &*essence {
        "application/x-ndjson" | "application/ndjson" => Ok(Form::Lines),
        json if media::is_json(json) => Ok(Form::Array),
        other => Err(Error::new(
            Reason::UnsupportedMediaType,
            format!(
                "content type {other:?} is not taken here, send application/x-ndjson, or application/json with an array"
            ),
        )),
    }
}

/// The messages of a body as frames of gRPC.
#[derive(Debug)]
pub(crate) struct ValueFrames {
    content: Content,
    values: Values,
    is_over: bool,
    /// What comes behind the messages that are framed.
    failure: Option<Error>,
    plan: Transcoder,
    bound: Bound,
    json: Json,
    limit: usize,
}

impl ValueFrames {
    /// The frames of the next messages, as many as are here, `None` at the end.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let mut frames = BytesMut::new();
        while frames.len() < JOINED && self.failure.is_none() {
            match self.poll_value(cx) {
                Poll::Ready(Some(value)) => match value.and_then(|value| self.frame(&value, &mut frames)) {
                    Ok(()) => {}
                    Err(error) => self.failure = Some(error),
                },
                Poll::Ready(None) => break,
                Poll::Pending if frames.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        if !frames.is_empty() {
            return Poll::Ready(Some(Ok(frames.freeze())));
        }
        Poll::Ready(self.failure.take().map(Err))
    }

    /// Bytes of the body that were read.
    pub(super) fn bytes(&self) -> u64 {
        self.content.bytes()
    }

    fn poll_value(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        while !self.is_over {
            if let Some(value) = self.values.take().map_err(|error| self.wrong(&error))? {
                return Poll::Ready(Some(Ok(value)));
            }
            match ready!(self.content.poll_piece(cx)) {
                Some(Ok(data)) => self.values.push(data),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    self.is_over = true;
                    // No body is a stream without messages, whatever its type.
                    if self.content.bytes() > 0
                        && let Some(value) = self.values.finish().map_err(|error| self.wrong(&error))?
                    {
                        return Poll::Ready(Some(Ok(value)));
                    }
                }
            }
        }
        Poll::Ready(None)
    }

    /// Appends the frame of a message.
    fn frame(&self, value: &[u8], frames: &mut BytesMut) -> Result<(), Error> {
        let number = self.values.count();
        let start = frames.len();
        frames.reserve(PREFIX + value.len() + 64);
        frames.put_bytes(0, PREFIX);
        let framed = self.fill(number, value, start, frames);
        if framed.is_err() {
            frames.truncate(start);
        }
        framed
    }

    fn fill(&self, number: u64, value: &[u8], start: usize, frames: &mut BytesMut) -> Result<(), Error> {
        let input = Input { body: value, ..self.bound.input() };
        let encoded = self.plan.request.encode(&input, self.json, frames);
        encoded.map_err(|error| invalid(&error).in_message(number))?;
        frame::seal(&mut frames[start..], 0, self.limit).ok_or_else(|| too_large(self.limit).in_message(number))
    }

    /// What is wrong between or with the bounds of the values; says the number of the message itself.
    fn wrong(&self, error: &transcode::Error) -> Error {
        match error.fault {
            Fault::TooLarge => too_large(self.limit).in_message(self.values.count() + 1),
            Fault::Client | Fault::Upstream => invalid(error),
        }
    }
}
