//! REST, in and unary out: path, query and body become one message; one message becomes a JSON reply.

use std::borrow::Cow;
use std::future::poll_fn;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRAILER};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, request};

use super::body::ReplyBody;
use super::call::{Call, Trailers};
use super::exchange::{reply_frame_error, several_replies};
use super::forward::{self, Incoming, Outgoing};
use super::pump::{Pump, Source};
use super::reply;
use super::timer::Timer;
use super::{coding, compression};
use crate::body::RequestBody;
use crate::error::{Error, Reason};
use crate::grpc::frame;
use crate::grpc::messages::{Message, Messages};
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
    plan: &Transcoding,
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
    let form = !content.is_empty() && accepts(plan, media, &content)?;
    let mut message = frame::open(content.len() + 64);
    let input = Input {
        captures,
        headers: Some(&parts.headers),
        query: parts.uri.query(),
        body: &content,
        content_type: media,
        form,
        patch: parts.method == Method::PATCH,
    };
    plan.request.encode(&input, call.settings().json, &mut message).map_err(|error| transcode_error(call, &error))?;
    let frame = frame::close(message, 0, limit).ok_or_else(|| too_large(limit))?;
    Ok(Outgoing { path, headers, body: Source::Frame(frame) })
}

/// What the upstream gets of a request's headers.
pub(super) fn metadata(call: &Call, parts: &request::Parts) -> Result<HeaderMap, Error> {
    headers::rest_request(&parts.headers, &call.caller()).map_err(reply::bad_header)
}

/// Reads a body up to its limit.
pub(super) async fn collect(
    headers: &HeaderMap,
    body: &mut RequestBody,
    limit: usize,
    timer: &mut Timer,
) -> Result<Bytes, Error> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let next = poll_fn(|cx| match body.poll_data(cx) {
            Poll::Ready(next) => Poll::Ready(Ok(next)),
            Poll::Pending => timer.poll(cx).map(Err),
        });
        let data = match next.await? {
            None => break,
            Some(Ok(data)) => data,
            Some(Err(broken)) => return Err(broken.into()),
        };
        body.release(data.len());
        if first.len() + rest.len() + data.len() > limit {
            return Err(too_large(limit));
        }
        // Most bodies come in one piece, which is then used as it is.
        if first.is_empty() && rest.is_empty() {
            first = data;
            continue;
        }
        if rest.is_empty() {
            rest.reserve(announced.and_then(|length| usize::try_from(length).ok()).unwrap_or(first.len() + data.len()));
            rest.extend_from_slice(&std::mem::take(&mut first));
        }
        rest.extend_from_slice(&data);
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

pub(super) fn too_large(limit: usize) -> Error {
    Error::new(Reason::RequestTooLarge, format!("request message exceeds the limit of {limit} bytes"))
}

pub(super) fn media_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default())
}

/// Whether a body of that type can be read: `Ok(true)` as a form, `Ok(false)` as JSON or as raw bytes.
fn accepts(plan: &Transcoding, media: Option<&str>, content: &[u8]) -> Result<bool, Error> {
    if plan.request.takes_http_body() {
        return Ok(false);
    }
    if !plan.request.takes_body() {
        return Err(Error::invalid("", "this method takes no body; give its fields in the path and the query"));
    }
    let Some(media) = media else { return Ok(false) };
    let essence = media.split(';').next().unwrap_or_default().trim();
    let is = |name: &str| essence.eq_ignore_ascii_case(name);
    let suffix = essence.len().checked_sub(5).and_then(|at| essence.get(at..));
    if is("application/json") || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json")) {
        return Ok(false);
    }
    let is_form = is("application/x-www-form-urlencoded");
    let looks_like_json = matches!(content.trim_ascii_start().first(), Some(b'{' | b'[' | b'"'));
    if is_form && !looks_like_json {
        return Ok(true);
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
        transcode::Fault::Client => Error::invalid(error.field.clone(), error.describe()),
        transcode::Fault::TooLarge => {
            let limit = call.settings().max_response_message;
            Error::new(Reason::ResponseTooLarge, format!("reply message exceeds the limit of {limit} bytes as JSON"))
        }
        transcode::Fault::Upstream => {
            let method = call.method().map_or("", |method| &method.name);
            Error::new(Reason::UpstreamMessage, format!("the reply of {method} does not fit its schema: {error}"))
        }
    }
}

/// Makes the reply to the client out of the upstream's.
pub(crate) async fn adapt_out(mut call: Box<Call>, plan: &Transcoding, incoming: Incoming) -> Response<ReplyBody> {
    match receive(&mut call, plan, incoming).await {
        Ok(mut answer) => {
            answer.content = compression::whole(&call, &mut answer.headers, answer.content).await;
            call.response_bytes = answer.content.len() as u64;
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

async fn receive(call: &mut Call, plan: &Transcoding, incoming: Incoming) -> Result<Answer, Error> {
    let One { initial, message, trailers } = receive_one(call, incoming).await?;
    if message.compressed {
        return Err(compressed(call.upstream_name()));
    }
    let mut headers = HeaderMap::with_capacity(initial.len() + 4);
    let steering = &call.settings().reply;
    headers::steered_reply(&initial, steering, &mut headers);
    let status = headers::steered_status(&initial, steering);
    plan.reply
        .write_headers(&message.bytes, call.settings().json, &mut headers)
        .map_err(|error| transcode_error(call, &error))?;
    let (content_type, content) = write(call, plan, &message.bytes)?;
    if !has_content(status) {
        return Ok(Answer { status, headers, content: Bytes::new(), trailers: None });
    }
    headers.insert(CONTENT_TYPE, content_type);
    let mut public = HeaderMap::new();
    headers::steered_trailers(&trailers, steering, &mut public);
    Ok(Answer { status, headers, content, trailers: Some(public).filter(|trailers| !trailers.is_empty()) })
}

/// The whole of a reply to a unary call.
pub(super) struct One {
    pub(super) initial: HeaderMap,
    pub(super) message: Message,
    pub(super) trailers: HeaderMap,
}

/// Waits for the reply to a unary call.
///
/// # Errors
/// Its status is not OK, or it is not one message.
pub(super) async fn receive_one(call: &mut Call, incoming: Incoming) -> Result<One, Error> {
    let upstream = call.upstream_name();
    let Incoming { head, mut body, mut pump, mut timer, lease } = incoming;
    if forward::is_trailers_only(&head, &body) {
        forward::trailers_status(upstream, &head.headers, &timer)?;
        return Err(no_message(upstream));
    }
    let limit = call.settings().max_response_message;
    let read = read_one(upstream, limit, &mut body, &mut pump, &mut timer).await;
    call.trail.request_bytes = pump.bytes().unwrap_or(call.trail.request_bytes);
    let (message, trailers) = read?;
    drop(lease);
    call.replied();
    let upstream = call.upstream_name();
    forward::trailers_status(upstream, &trailers, &timer)
        .map_err(|error| error.with_initial_metadata(&head.headers))?;
    let message = message?.ok_or_else(|| no_message(upstream))?;
    Ok(One { initial: head.headers, message, trailers })
}

/// Reads a reply to its end, while what is left of the request goes out. Whether its message is whole counts only when its
/// trailers say OK.
///
/// # Errors
/// It broke off, has several messages, or took too long.
pub(super) async fn read_one(
    upstream: &str,
    limit: usize,
    body: &mut RecvStream,
    pump: &mut Pump,
    timer: &mut Timer,
) -> Result<(Result<Option<Message>, Error>, HeaderMap), Error> {
    let mut messages = Messages::new(limit);
    let mut only = None;
    let trailers = poll_fn(|cx| {
        // A reply may begin before the whole request was sent.
        if let Poll::Ready(Err(error)) = pump.poll_touching(timer, cx) {
            return Poll::Ready(Err(error));
        }
        loop {
            match body.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    body.flow_control().release_capacity(data.len()).ok();
                    messages.push(data);
                    while let Some(message) = messages.take().map_err(reply_frame_error)? {
                        if only.replace(message).is_some() {
                            return Poll::Ready(Err(several_replies(upstream)));
                        }
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(forward::broken(upstream, &error, timer))),
                Poll::Ready(None) => match body.poll_trailers(cx) {
                    Poll::Ready(Ok(trailers)) => return Poll::Ready(Ok(trailers.unwrap_or_default())),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(forward::broken(upstream, &error, timer))),
                    Poll::Pending => return timer.poll(cx).map(Err),
                },
                Poll::Pending => return timer.poll(cx).map(Err),
            }
        }
    });
    let trailers = trailers.await?;
    Ok((messages.finish().map(|()| only).map_err(reply_frame_error), trailers))
}

/// Whether a reply of that status has a body: RFC 9110 §15.3.5, §15.3.6 and §15.4.5.
pub(super) fn has_content(status: StatusCode) -> bool {
    ![StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED].contains(&status)
}

pub(super) fn compressed(upstream: &str) -> Error {
    Error::new(
        Reason::UpstreamProtocol,
        format!("upstream {upstream} compressed its reply without having been asked to"),
    )
}

pub(super) fn no_message(upstream: &str) -> Error {
    Error::new(Reason::UpstreamProtocol, format!("upstream {upstream} answered OK without a reply message"))
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
