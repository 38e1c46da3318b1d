//! The one place where an error becomes a reply, in the caller's protocol.
//!
//! REST callers get `google.rpc.Status` as JSON (<https://google.aip.dev/193>), gRPC callers a reply of trailers only.

use std::time::Duration;

use base64::Engine as _;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{
    ACCEPT_ENCODING, ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, TRAILER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use prost::Message as _;

use super::body::ReplyBody;
use super::call::Call;
use super::coding::TAKEN;
use super::protocol::Framing;
use super::{compression, connect, date, limits, negotiate};
use crate::error::{Error, Reason};
use crate::grpc;
use crate::grpc::frame;
use crate::grpc::status::{self, BASE64};
use crate::pb::google::protobuf::{self as pb, Any};
use crate::pb::google::rpc::bad_request::FieldViolation;
use crate::pb::google::rpc::{BadRequest, ErrorInfo, QuotaFailure, RetryInfo, Status, quota_failure};
use crate::policy::headers::{self, BadHeader};
use crate::policy::rate_limit::fields;
use crate::policy::websocket;
use crate::snapshot::SchemaState;
use crate::telemetry::Protocol;
use crate::telemetry::trace::{RequestId, TraceParent};
use crate::transcode;

/// Longest message of a status: longer ones do not fit into the header limits of common clients.
const MAX_MESSAGE: usize = 2048;

/// What a method's own path takes, [Linked Data Platform §7.1](https://www.w3.org/TR/ldp/#header-accept-post).
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const PROTOCOLS: &str = "application/json, application/proto, application/connect+json, application/connect+proto, \
     application/grpc, application/grpc-web, application/grpc-web-text";

/// Ends a call with an error.
pub(crate) fn error(mut call: Box<Call>, error: &Error) -> Response<ReplyBody> {
    call.failed(error);
    tracing::debug!(reason = error.reason().name(), message = error.message(), "call failed");
    match call.protocol {
        Protocol::Grpc | Protocol::GrpcWeb => grpc_error(call, error),
        Protocol::Connect => connect_error(call, error),
        Protocol::Rest | Protocol::WebSocket => rest_error(call, error),
    }
}

/// What a malformed header makes of its call.
#[allow(clippy::needless_pass_by_value, reason = "as `map_err` has it")]
pub(crate) fn bad_header(bad: BadHeader) -> Error {
    Error::new(Reason::InvalidHeader, format!("header {}: {}", bad.name, bad.problem))
}

/// Answers OPTIONS.
pub(crate) fn options(call: Box<Call>, allow: HeaderValue) -> Response<ReplyBody> {
    no_content(call, HeaderMap::from_iter([(ALLOW, allow)]))
}

/// Ends a call with nothing but headers.
pub(crate) fn no_content(mut call: Box<Call>, headers: HeaderMap) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::whole(Bytes::new(), None, None));
    *response.status_mut() = StatusCode::NO_CONTENT;
    *response.headers_mut() = headers;
    date::put(response.headers_mut(), call.version);
    echo_identifiers(response.headers_mut(), &call);
    call.http_status = Some(StatusCode::NO_CONTENT);
    call.complete();
    response
}

/// Gives a finished REST reply its length and its call.
pub(crate) fn attach(mut response: Response<ReplyBody>, mut call: Box<Call>) -> Response<ReplyBody> {
    call.http_status = Some(response.status());
    // Announced trailers need the chunked coding, which a length excludes: RFC 9112 §6.2.
    let chunked = response.headers().contains_key(TRAILER);
    // RFC 9110 §8.6; a 304 would have to say the length of what it does not send.
    let bare = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&response.status());
    if let Some(length) = response.body().length() {
        call.response_bytes = length;
        if !chunked && !bare {
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
    }
    date::put(response.headers_mut(), call.version);
    if call.http_method == Method::HEAD {
        call.response_bytes = 0;
        *response.body_mut() = ReplyBody::whole(Bytes::new(), None, Some(call));
    } else {
        response.body_mut().carry(call);
    }
    response
}

/// Tells the client under which identifiers its call stands in the logs, and of its limits. An upstream may know more of the trace: it
/// may have begun a part of it.
pub(crate) fn echo_identifiers(headers: &mut HeaderMap, call: &Call) {
    for (name, value) in &call.reply_headers {
        headers.append(name, value.clone());
    }
    headers.insert(RequestId::HEADER, call.request_id.value().clone());
    headers.entry(TraceParent::HEADER).or_insert_with(|| call.traceparent.value().clone());
    limits::tell(headers, call);
}

/// The trailers that end a gRPC reply with an error of the gateway's own.
pub(crate) fn grpc_trailers(call: &Call, error: &Error) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(4);
    put_status(call, error, &mut trailers);
    trailers
}

fn grpc_error(mut call: Box<Call>, error: &Error) -> Response<ReplyBody> {
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(CONTENT_TYPE, call.dialect.content_type());
    if error.reason() == Reason::UnsupportedEncoding {
        headers.insert(grpc::ACCEPT_ENCODING, TAKEN);
    }
    put_refusal(error, false, &mut headers);
    put_remedies(error, &mut headers);
    put_status(&call, error, &mut headers);
    echo_identifiers(&mut headers, &call);
    call.http_status = Some(StatusCode::OK);
    let mut response = Response::new(ReplyBody::whole(Bytes::new(), None, Some(call)));
    *response.headers_mut() = headers;
    response
}

/// What an external authorizer says beside its words. Only callers of HTTP are sent elsewhere, or given cookies.
fn put_refusal(error: &Error, is_http: bool, headers: &mut HeaderMap) {
    let Some(refusal) = error.authorizer() else { return };
    for (name, value) in &refusal.headers {
        match *name {
            CONTENT_TYPE if is_http && !refusal.body.is_empty() => {
                headers.insert(CONTENT_TYPE, value.clone());
            }
            CONTENT_TYPE => {}
            _ if is_http || *name == WWW_AUTHENTICATE || grpc::metadata::is_public(name) => {
                headers.append(name, value.clone());
            }
            _ => {}
        }
    }
}

/// What a caller can do about an error: show credentials, or come back later.
fn put_remedies(error: &Error, headers: &mut HeaderMap) {
    if let Some(challenge) = error.challenge() {
        headers.insert(WWW_AUTHENTICATE, challenge.clone());
    }
    if let Some(wait) = error.retry_after().filter(|wait| *wait < Duration::MAX) {
        headers.insert(RETRY_AFTER, HeaderValue::from(fields::seconds(wait)));
    }
}

/// How long official clients of gRPC wait before they try again, and not at all if that is pointless
/// ([gRFC A6](https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback)).
fn pushback(wait: Duration) -> HeaderValue {
    let milliseconds = wait.as_nanos().div_ceil(1_000_000);
    i32::try_from(milliseconds).map_or_else(|_| HeaderValue::from_static("-1"), HeaderValue::from)
}

fn put_status(call: &Call, error: &Error, headers: &mut HeaderMap) {
    let message = cut(error.message());
    headers.insert(grpc::STATUS, status::status_value(error.number()));
    headers.insert(grpc::MESSAGE, status::encode_message(message));
    if let Some(wait) = error.retry_after() {
        headers.insert(grpc::RETRY_PUSHBACK, pushback(wait));
    }
    let details = own_details(call, error);
    if details.is_empty() {
        return;
    }
    let code = i32::try_from(error.number()).unwrap_or(i32::MAX);
    let details = Status { code, message: message.to_owned(), details };
    headers.insert(grpc::DETAILS, status::encode_binary(&details.encode_to_vec()));
}

fn rest_error(call: Box<Call>, error: &Error) -> Response<ReplyBody> {
    let mut headers = HeaderMap::new();
    // At a method's own path only the content type tells the protocol: to a caller of none, the words are plain. Clients of
    // Connect would take a Status for an error of theirs (its conformance suite, "unexpected-content-type").
    let unknown = error.reason() == Reason::UnsupportedMediaType
        && call.method().is_some_and(|method| method.path.path() == call.uri.path());
    let content = if unknown {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(ACCEPT_POST, HeaderValue::from_static(PROTOCOLS));
        Bytes::from(format!("{}\n", error.message()))
    } else if let Some(refusal) = error.authorizer().filter(|refusal| !refusal.body.is_empty()) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        // Whatever it says it is, nothing else is made of it.
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Bytes::from(refusal.body.clone())
    } else {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        status_json(&call, error)
    };
    if let Some(upstream) = error.upstream() {
        let steering = &call.settings().reply;
        headers::steered_reply(&upstream.metadata, steering, &mut headers);
        headers::steered_reply(&upstream.initial, steering, &mut headers);
    }
    if let Some(allow) = error.allow() {
        headers.insert(ALLOW, allow.clone());
    }
    put_refusal(error, true, &mut headers);
    put_remedies(error, &mut headers);
    if error.reason() == Reason::WebSocketVersion {
        websocket::other_version(call.version, &mut headers);
    }
    if error.reason() == Reason::UnsupportedEncoding {
        headers.insert(ACCEPT_ENCODING, TAKEN);
    }
    echo_identifiers(&mut headers, &call);
    let content = compression::at_once(&call, &mut headers, content);
    let mut response = Response::new(ReplyBody::whole(content, None, None));
    *response.status_mut() = error.http();
    *response.headers_mut() = headers;
    attach(response, call)
}

fn connect_error(call: Box<Call>, error: &Error) -> Response<ReplyBody> {
    let stream = call.dialect.framing == Framing::ConnectStream && !error.is_of_http();
    let mut headers = HeaderMap::new();
    let (content, status) = if stream {
        headers.insert(CONTENT_TYPE, call.dialect.content_type());
        let none = HeaderMap::new();
        (end_stream(&call, Some(error), error.upstream().map_or(&none, |upstream| &upstream.metadata)), StatusCode::OK)
    } else {
        if let Some(upstream) = error.upstream() {
            headers::rest_reply(&upstream.initial, &mut headers);
            connect::put_trailers(&upstream.metadata, &mut headers);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        (connect_json(&call, error).freeze(), error.connect().1)
    };
    if error.reason() == Reason::UnsupportedEncoding {
        let name = if stream { negotiate::CONNECT_ACCEPT } else { ACCEPT_ENCODING };
        headers.insert(name, TAKEN);
    }
    if let Some(allow) = error.allow() {
        headers.insert(ALLOW, allow.clone());
    }
    put_refusal(error, false, &mut headers);
    put_remedies(error, &mut headers);
    echo_identifiers(&mut headers, &call);
    let mut response = Response::new(ReplyBody::whole(content, None, None));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    attach(response, call)
}

/// Ends a Connect stream that has no messages.
pub(crate) fn connect_end(call: Box<Call>, trailers: &HeaderMap) -> Response<ReplyBody> {
    let content = end_stream(&call, None, trailers);
    let mut response = Response::new(ReplyBody::whole(content, None, None));
    response.headers_mut().insert(CONTENT_TYPE, call.dialect.content_type());
    echo_identifiers(response.headers_mut(), &call);
    attach(response, call)
}

/// An error as Connect writes it (<https://connectrpc.com/docs/protocol#error-end-stream>).
fn connect_json(call: &Call, error: &Error) -> BytesMut {
    let details = match error.upstream() {
        Some(upstream) => upstream_details(upstream.details.as_deref()),
        None => own_details(call, error),
    };
    let mut json = BytesMut::with_capacity(256);
    json.put_slice(b"{\"code\":\"");
    json.put_slice(error.connect().0.connect_name().as_bytes());
    json.put_slice(b"\",\"message\":");
    transcode::write_text(error.message(), &mut json);
    for (index, detail) in details.iter().enumerate() {
        json.put_slice(if index == 0 { b",\"details\":[" } else { b"," });
        json.put_slice(b"{\"type\":");
        let name = detail.type_url.rsplit('/').next().unwrap_or_default();
        transcode::write_text(name, &mut json);
        json.put_slice(b",\"value\":\"");
        json.put_slice(BASE64.encode(&detail.value).as_bytes());
        json.put_slice(b"\"}");
    }
    if !details.is_empty() {
        json.put_u8(b']');
    }
    json.put_u8(b'}');
    json
}

/// The last frame of a Connect stream (<https://connectrpc.com/docs/protocol#error-end-stream>).
pub(crate) fn end_stream(call: &Call, error: Option<&Error>, trailers: &HeaderMap) -> Bytes {
    const FLAG: u8 = 2;
    let mut frame = frame::open(256);
    frame.put_u8(b'{');
    if let Some(error) = error {
        frame.put_slice(b"\"error\":");
        frame.put_slice(&connect_json(call, error));
    }
    let mut public = HeaderMap::with_capacity(trailers.len());
    headers::rest_reply(trailers, &mut public);
    for (index, name) in public.keys().enumerate() {
        match (index, error) {
            (0, Some(_)) => frame.put_slice(b",\"metadata\":{"),
            (0, None) => frame.put_slice(b"\"metadata\":{"),
            _ => frame.put_u8(b','),
        }
        transcode::write_text(name.as_str(), &mut frame);
        for (index, value) in public.get_all(name).iter().enumerate() {
            frame.put_slice(if index == 0 { b":[" } else { b"," });
            transcode::write_text(&String::from_utf8_lossy(value.as_bytes()), &mut frame);
        }
        frame.put_u8(b']');
    }
    frame.put_slice(if public.is_empty() { b"}" } else { b"}}" });
    // Headers are bounded far below four gigabytes.
    frame::close(frame, FLAG, usize::MAX).unwrap_or_default()
}

/// `google.rpc.Status` as JSON.
pub(super) fn status_json(call: &Call, error: &Error) -> Bytes {
    let details = match error.upstream() {
        Some(upstream) => upstream_details(upstream.details.as_deref()),
        None => own_details(call, error),
    };
    let builtin = &call.prepared.snapshot.builtin;
    let plans = match call.upstream().map(|upstream| &upstream.schema) {
        Some(SchemaState::Loaded(plans)) => plans,
        Some(SchemaState::Missing(_)) | None => builtin,
    };
    let mut json = BytesMut::with_capacity(256);
    json.put_slice(b"{\"code\":");
    json.put_slice(itoa::Buffer::new().format(error.number()).as_bytes());
    json.put_slice(b",\"message\":");
    transcode::write_text(error.message(), &mut json);
    json.put_slice(b",\"details\":[");
    for (index, detail) in details.iter().enumerate() {
        if index > 0 {
            json.put_u8(b',');
        }
        transcode::write_any(plans, &detail.type_url, &detail.value, call.settings().json, &mut json);
    }
    json.put_slice(b"]}");
    json.freeze()
}

fn upstream_details(encoded: Option<&[u8]>) -> Vec<Any> {
    encoded.and_then(|encoded| Status::decode(encoded).ok()).map(|status| status.details).unwrap_or_default()
}

/// What the gateway says of its own errors, for machines.
fn own_details(call: &Call, error: &Error) -> Vec<Any> {
    if !call.prepared.snapshot.config.error_details {
        return Vec::new();
    }
    let mut details = vec![any(
        "google.rpc.ErrorInfo",
        &ErrorInfo {
            reason: error.reason().name().into(),
            domain: "portico".into(),
            metadata: std::collections::HashMap::default(),
        },
    )];
    if !error.violations().is_empty() {
        let field_violations = error
            .violations()
            .iter()
            .map(|violation| FieldViolation {
                field: violation.field.clone(),
                description: violation.description.clone(),
                ..FieldViolation::default()
            })
            .collect();
        details.push(any("google.rpc.BadRequest", &BadRequest { field_violations }));
    }
    if let Some(wait) = error.retry_after().filter(|wait| *wait < Duration::MAX) {
        let seconds = i64::try_from(wait.as_secs()).unwrap_or(i64::MAX);
        let nanos = i32::try_from(wait.subsec_nanos()).unwrap_or_default();
        let retry_delay = Some(pb::Duration { seconds, nanos });
        details.push(any("google.rpc.RetryInfo", &RetryInfo { retry_delay }));
    }
    if !error.quotas().is_empty() {
        let violations = error.quotas().iter().map(|quota| quota_failure::Violation {
            subject: quota.name.clone(),
            description: quota.description.clone(),
            ..quota_failure::Violation::default()
        });
        details.push(any("google.rpc.QuotaFailure", &QuotaFailure { violations: violations.collect() }));
    }
    details
}

fn any(name: &str, message: &impl prost::Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

/// The beginning of a message, whole characters only.
fn cut(message: &str) -> &str {
    let mut end = message.len().min(MAX_MESSAGE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.get(..end).unwrap_or_default()
}
