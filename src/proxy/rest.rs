//! REST, in and unary out: path, query and body become one message; one message becomes a JSON reply.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TRAILER};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, request};

use super::body::ReplyBody;
use super::call::{Call, Trailers};
use super::forward::{Incoming, Outgoing};
use super::pump::Source;
use super::reply;
use super::timer::Timer;
use super::transcoder::{Transcoder, invalid};
use super::unary::{One, collect, receive_one};
use super::{coding, compression, multipart, negotiate, room};
use crate::body::RequestBody;
use crate::error::{Error, Reason};
use crate::media;
use crate::policy::headers;
use crate::snapshot::Transcoding;
use crate::transcode::{self, Input, ReplyPlan};

/// Makes the call upstream out of a REST request; the only step that reads a body.
///
/// # Errors
/// The body is too large or of a type that the method does not take, or something in the request does not fit the
/// message.
pub(crate) async fn adapt_in(
    call: &mut Call,
    path: PathAndQuery,
    plan: &Transcoder,
    captures: &[Cow<'_, str>],
    parts: &request::Parts,
    mut body: RequestBody,
    timer: &mut Timer,
) -> Result<Outgoing, Error> {
    let headers = metadata(call, parts)?;
    let limit = call.settings().max_request_message;
    let coding = coding::of(&parts.headers)?;
    let content = collect(&parts.headers, &mut body, limit, timer).await?;
    call.trail.request_bytes = content.len() as u64;
    let content = coding::decode(coding, content, limit)?;
    let media = media_type(&parts.headers);
    let form = if content.is_empty() { Kind::Plain } else { kind(plan, media, &content)? };
    let (text, form_parts) = match &form {
        Kind::Parts(boundary) => (&[][..], multipart::parts(boundary, content.clone())?),
        Kind::Plain | Kind::Form => (&*content, Vec::new()),
    };
    let input = Input {
        captures,
        headers: Some(&parts.headers),
        query: parts.uri.query(),
        body: text,
        content_type: media,
        form: form != Kind::Plain,
        parts: &form_parts,
        patch: parts.method == Method::PATCH,
    };
    let frame = plan.frame(&input, call.settings().json, limit)?;
    Ok(Outgoing { path, headers, body: Source::Frame(frame) })
}

/// What the upstream gets of a request's headers.
pub(super) fn metadata(call: &Call, parts: &request::Parts) -> Result<HeaderMap, Error> {
    headers::rest_request(&parts.headers, &call.caller()).map_err(reply::bad_header)
}

pub(super) fn media_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default())
}

/// What a body is.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// JSON, or raw bytes where the method takes them.
    Plain,
    /// A form in one text.
    Form,
    /// A form of parts between this boundary.
    Parts(String),
}

/// What a body of that type is, if it can be read.
fn kind(plan: &Transcoding, media: Option<&str>, content: &[u8]) -> Result<Kind, Error> {
    if plan.request.takes_http_body() {
        return Ok(Kind::Plain);
    }
    if !plan.request.takes_body() {
        return Err(Error::invalid("", "this method takes no body; give its fields in the path and the query"));
    }
    let Some(media) = media else { return Ok(Kind::Plain) };
    if let Some(boundary) = multipart::boundary(media)? {
        return Ok(Kind::Parts(boundary));
    }
    let essence = media::essence(media);
    if media::is_json(essence) {
        return Ok(Kind::Plain);
    }
    let is_form = media::is(essence, "application/x-www-form-urlencoded");
    let looks_like_json = matches!(content.trim_ascii_start().first(), Some(b'{' | b'[' | b'"'));
    if is_form && !looks_like_json {
        return Ok(Kind::Form);
    }
    let message = if is_form {
        format!(
            "the body looks like JSON but its content type is {essence:?}, which curl sends by default; add -H 'content-type: application/json'"
        )
    } else {
        format!("content type {essence:?} is not taken here, send application/json")
    };
    Err(Error::new(Reason::UnsupportedMediaType, message))
}

pub(super) fn transcode_error(call: &Call, error: &transcode::Error) -> Error {
    match error.fault {
        transcode::Fault::Client => invalid(error),
        transcode::Fault::TooLarge => {
            let limit = call.settings().max_response_message;
            Error::new(Reason::ResponseTooLarge, format!("reply message exceeds the limit of {limit} bytes as JSON"))
        }
        transcode::Fault::Upstream => {
            let method = call.method().map_or("", |method| &method.name);
            let message = format!("the reply of {method} does not fit its schema: {error}");
            let failure = Error::new(Reason::UpstreamMessage, message);
            match &error.note {
                Some(note) => failure.with_note(note.as_str()),
                None => failure,
            }
        }
    }
}

/// Makes the reply to the client out of the upstream's.
pub(crate) async fn adapt_out(mut call: Box<Call>, plan: &Transcoding, incoming: Incoming) -> Response<ReplyBody> {
    let answer = receive_one(&mut call, incoming).await.and_then(|one| {
        let answer = transcode(&call, plan, one)?;
        room::keep(&mut call, answer.content.len()).map(|()| answer)
    });
    match answer {
        Ok(mut answer) => {
            answer.content = compression::whole(&call, &mut answer.headers, answer.content).await;
            match call.trailers {
                Trailers::Sent => {}
                Trailers::Announced => {
                    for name in answer.trailers.iter().flat_map(HeaderMap::keys) {
                        answer.headers.append(TRAILER, HeaderValue::from(name.clone()));
                    }
                }
                Trailers::Dropped => answer.trailers = None,
            }
            let mut response = Response::new(ReplyBody::whole(answer.content, answer.trailers, None));
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            reply::echo_identifiers(response.headers_mut(), &call);
            reply::attach(response, call)
        }
        Err(error) => reply::error(call, &error),
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    content: Bytes,
    trailers: Option<HeaderMap>,
}

fn transcode(call: &Call, plan: &Transcoding, reply: One) -> Result<Answer, Error> {
    let One { initial, message, trailers } = reply;
    let limit = call.settings().max_response_message;
    let message = negotiate::plain(call.upstream_name(), negotiate::sent(&initial), &message, limit)?;
    let mut headers = HeaderMap::with_capacity(initial.len() + 4);
    let steering = &call.settings().reply;
    headers::steered_reply(&initial, steering, &mut headers);
    let status = headers::steered_status(&initial, steering);
    plan.reply.write_headers(&message, call.settings().json, &mut headers);
    let (content_type, content) = write(call, plan, &message)?;
    if !has_content(status) {
        return Ok(Answer { status, headers, content: Bytes::new(), trailers: None });
    }
    headers.insert(CONTENT_TYPE, content_type);
    let mut public = HeaderMap::new();
    headers::steered_trailers(&trailers, steering, &mut public);
    Ok(Answer { status, headers, content, trailers: Some(public).filter(|trailers| !trailers.is_empty()) })
}

/// Whether a reply of that status has a body: RFC 9110 §15.3.5, §15.3.6 and §15.4.5.
pub(super) fn has_content(status: StatusCode) -> bool {
    ![StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED].contains(&status)
}

fn write(call: &Call, plan: &Transcoding, message: &Bytes) -> Result<(HeaderValue, Bytes), Error> {
    if plan.reply.is_http_body() {
        let (content_type, data) = plan.reply.http_body(message).map_err(|error| transcode_error(call, &error))?;
        let content_type = content_type
            .and_then(|value| HeaderValue::from_str(value).ok())
            .unwrap_or_else(|| HeaderValue::from_static("application/octet-stream"));
        return Ok((content_type, message.slice_ref(data)));
    }
    Ok((HeaderValue::from_static("application/json"), to_json(call, &plan.reply, message)?))
}

/// A reply message as JSON.
pub(super) fn to_json(call: &Call, plan: &ReplyPlan, message: &[u8]) -> Result<Bytes, Error> {
    let mut json = BytesMut::with_capacity(message.len() * 2 + 64);
    let settings = call.settings();
    plan.decode(message, settings.json, settings.max_response_message, &mut json)
        .map_err(|error| transcode_error(call, &error))?;
    Ok(json.freeze())
}
