//! Compression of gRPC messages: what the client says, what the upstream takes, what passes.
//!
//! Messages pass compressed wherever both sides know the encoding; else they are inflated. Nothing is compressed here.
//! Replies may come in an encoding that nobody asked for: servers that compress all they send are not rare.

use bytes::Bytes;
use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::call::Call;
use super::form::quality;
use super::protocol::Framing;
use super::pump::{Frames, Source};
use super::recode::{Reader, Recode};
use super::transcoder::Transcoder;
use super::{coding, exchange};
use crate::body::RequestBody;
use crate::encoding::{self, Encoding, InflateError};
use crate::error::{Error, Reason};
use crate::grpc;
use crate::grpc::messages::Message;

/// `connect-content-encoding`: of the messages of a Connect stream.
pub(super) const CONNECT_ENCODING: HeaderName = HeaderName::from_static("connect-content-encoding");
/// `connect-accept-encoding`: what its client can inflate.
pub(super) const CONNECT_ACCEPT: HeaderName = HeaderName::from_static("connect-accept-encoding");
/// What the reply's messages are compressed with, as far as that is known here.
pub(super) fn sent(headers: &HeaderMap) -> Option<Encoding> {
    coding::declared(headers, &grpc::ENCODING).ok().flatten()
}

/// Where the frames of a request come from, and `grpc-encoding` and `grpc-accept-encoding` for it.
///
/// # Errors
/// As [`coding::only`].
pub(super) fn source(
    call: &Call,
    plan: Option<&Transcoder>,
    from: &HeaderMap,
    to: &mut HeaderMap,
    body: RequestBody,
) -> Result<Source, Error> {
    let framing = call.dialect.framing;
    let connect = framing == Framing::ConnectStream;
    let (name, accept) =
        if connect { (CONNECT_ENCODING, CONNECT_ACCEPT) } else { (grpc::ENCODING, grpc::ACCEPT_ENCODING) };
    let encoding = coding::declared(from, &name)?;
    let passes = plan.is_none() && encoding.is_some_and(|encoding| call.takes(encoding));
    match (plan, from.get(&accept)) {
        (None, Some(accepted)) => to.insert(grpc::ACCEPT_ENCODING, accepted.clone()),
        // Only what is read here anyway is inflated here.
        (None, None) | (Some(_), _) => to.remove(grpc::ACCEPT_ENCODING),
    };
    match encoding.filter(|_| passes) {
        Some(encoding) => to.insert(grpc::ENCODING, HeaderValue::from_static(encoding.name())),
        None => to.remove(grpc::ENCODING),
    };
    let settings = call.settings();
    let limit = settings.max_request_message;
    let unary = call.method().is_some_and(|method| !method.client_streaming);
    let text = framing == Framing::WebText;
    if !text && plan.is_none() && (passes || encoding.is_none()) {
        let frames = Frames::new(body, limit, unary);
        return Ok(Source::Stream(if passes { frames } else { frames.plain() }));
    }
    let plan = plan.map(|plan| (plan.clone(), settings.json));
    let reader = Reader { encoding, passes, plan, limit };
    Ok(Source::Recoded(Box::new(Recode::new(body, text, reader, unary))))
}

/// `grpc-accept-encoding` for a client that says in HTTP's words what it takes.
pub(super) fn accepted(headers: &HeaderMap) -> Option<HeaderValue> {
    let ranges = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let names: Vec<&str> = ranges
        .flat_map(|value| value.split(','))
        .filter_map(|range| {
            let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
            let encoding = Encoding::parse(name.trim())?;
            (encoding != Encoding::Identity && quality(parameters) > 0).then(|| encoding.name())
        })
        .take(8)
        .collect();
    if names.is_empty() { None } else { HeaderValue::try_from(names.join(",")).ok() }
}

/// Whether a client that accepts these encodings takes the messages of a reply with that head as they are.
pub(super) fn takes(accepted: Option<&HeaderValue>, reply: &HeaderMap) -> bool {
    let Some(sent) = reply.get(&grpc::ENCODING) else { return true };
    let sent = sent.to_str().unwrap_or_default().trim();
    let known = Encoding::parse(sent);
    let is_it = |name: &str| name.eq_ignore_ascii_case(sent) || known.is_some() && Encoding::parse(name) == known;
    let names = accepted.and_then(|accepted| accepted.to_str().ok()).unwrap_or_default();
    known == Some(Encoding::Identity) || names.split(',').any(|name| is_it(name.trim()))
}

/// A reply message as it is without compression.
///
/// # Errors
/// Nothing is known of its encoding, or it is damaged or too large.
pub(super) fn plain(
    upstream: &str,
    encoding: Option<Encoding>,
    message: &Message,
    limit: usize,
) -> Result<Bytes, Error> {
    let Message { compressed: true, bytes } = message else { return Ok(message.bytes.clone()) };
    let encoding = encoding.ok_or_else(|| exchange::compressed(upstream))?;
    encoding::inflated(encoding, bytes, limit).map_err(|error| {
        let reason = match error {
            InflateError::TooLarge { .. } => Reason::ResponseTooLarge,
            InflateError::Malformed(_) | InflateError::Truncated(_) => Reason::UpstreamProtocol,
        };
        Error::new(reason, format!("reply message: {error}"))
    })
}
