//! Connect, unary: the body, or the query of a GET, is one message; so is the body of the reply
//! (<https://connectrpc.com/docs/protocol#unary-rpcs>).
//!
//! Messages of the proto codec are never looked into. Trailers are headers that begin with `trailer-`.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Response, request};

use super::body::ReplyBody;
use super::call::Call;
use super::forward::{Incoming, Outgoing};
use super::protocol::{Codec, Framing};
use super::pump::Source;
use super::recode::Reader;
use super::timer::Timer;
use super::transcoder::Transcoder;
use super::unary::{self, One};
use super::{coding, negotiate, reply, rest, room};
use crate::body::RequestBody;
use crate::encoding::Encoding;
use crate::error::{Error, Reason};
use crate::grpc;
use crate::grpc::messages::Message;
use crate::policy::headers;
use crate::snapshot::Transcoding;
use crate::transcode::{self, ReplyPlan};

/// Makes the call upstream out of a unary request.
///
/// # Errors
/// The message is too large, or not what the client says that it is.
pub(crate) async fn adapt_in(
    call: &mut Call,
    path: PathAndQuery,
    plan: &Transcoder,
    parts: &request::Parts,
    mut body: RequestBody,
    timer: &mut Timer,
) -> Result<Outgoing, Error> {
    let mut headers = headers::rpc_request(&parts.headers, &call.caller()).map_err(reply::bad_header)?;
    let json = call.dialect.codec == Codec::Json;
    if let Some(accepted) = negotiate::accepted(&parts.headers).filter(|_| !json) {
        headers.insert(grpc::ACCEPT_ENCODING, accepted);
    }
    let settings = call.settings();
    let limit = settings.max_request_message;
    let plan = json.then(|| (plan.clone(), settings.json));
    let (bytes, encoding) = if call.dialect.framing == Framing::ConnectGet {
        Query::read(parts.uri.query().unwrap_or_default())?.message()?
    } else {
        let encoding = coding::of(&parts.headers)?;
        (unary::collect(&parts.headers, &mut body, limit, timer).await?, encoding)
    };
    call.trail.request_bytes = bytes.len() as u64;
    let reader = Reader { encoding, passes: false, plan, limit };
    let frame = reader.frame(Message { compressed: encoding.is_some(), bytes })?;
    Ok(Outgoing { path, headers, body: Source::Frame(frame) })
}

/// Makes the reply to the client out of the upstream's, which was told that these encodings are taken.
pub(crate) async fn adapt_out(
    mut call: Box<Call>,
    plan: &Transcoding,
    accepted: Option<&HeaderValue>,
    incoming: Incoming,
) -> Response<ReplyBody> {
    let answer = unary::receive_one(&mut call, incoming).await.and_then(|one| {
        let (headers, content) = answer(&call, &plan.reply, accepted, &one)?;
        room::keep(&mut call, content.len()).map(|()| (headers, content))
    });
    match answer {
        Ok((headers, content)) => {
            call.response_bytes = content.len() as u64;
            let mut response = Response::new(ReplyBody::whole(content, None, None));
            *response.headers_mut() = headers;
            reply::echo_identifiers(response.headers_mut(), &call);
            reply::attach(response, call)
        }
        Err(error) => reply::error(call, &error),
    }
}

fn answer(
    call: &Call,
    plan: &ReplyPlan,
    accepted: Option<&HeaderValue>,
    one: &One,
) -> Result<(HeaderMap, Bytes), Error> {
    let settings = call.settings();
    let mut headers = HeaderMap::with_capacity(one.initial.len() + one.trailers.len() + 4);
    headers::rest_reply(&one.initial, &mut headers);
    put_trailers(&one.trailers, &mut headers);
    headers.insert(CONTENT_TYPE, call.dialect.content_type());
    let json = call.dialect.codec == Codec::Json;
    let encoding = negotiate::sent(&one.initial);
    // Only for messages that pass is any encoding offered; an upstream may use another one all the same.
    let passing = encoding.filter(|_| one.message.compressed && negotiate::takes(accepted, &one.initial));
    let mut content = match passing {
        Some(encoding) => {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
            one.message.bytes.clone()
        }
        None => negotiate::plain(call.upstream_name(), encoding, &one.message, settings.max_response_message)?,
    };
    if json {
        content = rest::to_json(call, plan, &content)?;
    }
    Ok((headers, content))
}

/// Writes trailers as the headers that Connect makes of them.
pub(super) fn put_trailers(trailers: &HeaderMap, headers: &mut HeaderMap) {
    let mut public = HeaderMap::with_capacity(trailers.len());
    headers::rest_reply(trailers, &mut public);
    for (name, value) in &public {
        if let Ok(name) = HeaderName::try_from(format!("trailer-{name}")) {
            headers.append(name, value.clone());
        }
    }
}

/// The codec that a GET names in its query.
pub(super) fn codec_of(query: &str) -> Codec {
    let pair = query.split('&').find_map(|pair| pair.strip_prefix("encoding="));
    pair.map_or(Codec::Unknown, |name| Codec::named(name.as_bytes()))
}

/// What the query of a GET says (<https://connectrpc.com/docs/protocol#unary-get-request>).
#[derive(Debug, Default)]
struct Query<'q> {
    message: Option<Cow<'q, [u8]>>,
    base64: bool,
    encoding: Option<Encoding>,
}

impl<'q> Query<'q> {
    fn read(query: &'q str) -> Result<Self, Error> {
        let mut read = Self::default();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "message" => {
                    let bytes = transcode::unescape(value);
                    read.message =
                        Some(bytes.ok_or_else(|| malformed("the message in the query is not percent-encoded"))?);
                }
                "base64" => read.base64 = value == "1",
                "compression" => read.encoding = coding::only([value])?,
                // `connect`, `encoding`, and what other versions may add.
                _ => {}
            }
        }
        Ok(read)
    }

    fn message(self) -> Result<(Bytes, Option<Encoding>), Error> {
        let message = self.message.ok_or_else(|| malformed("the query has no message"))?;
        let message = match self.base64 {
            true => BASE64.decode(&message).map_err(|_| malformed("the message in the query is not base64"))?,
            false => message.into_owned(),
        };
        Ok((message.into(), self.encoding))
    }
}

fn malformed(message: &'static str) -> Error {
    Error::new(Reason::InvalidRequest, message)
}

/// As queries have it, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_a_get_is_read_from_its_query() {
        let table: [(&str, &[u8]); 5] = [
            ("connect=v1&encoding=json&message=%7B%22a%22%3A+1%7d", b"{\"a\": 1}"),
            ("message=", b""),
            ("base64=1&message=-_8", b"\xfb\xff"),
            ("base64=1&message=-_8%3D&connect=v1", b"\xfb\xff"),
            ("base64=0&message=abc", b"abc"),
        ];
        for (query, expected) in table {
            assert_eq!(Query::read(query).unwrap().message().unwrap().0, expected, "{query}");
        }
        for bad in ["connect=v1", "message=%4", "message=%zz", "message=%+1", "base64=1&message=a"] {
            assert!(Query::read(bad).and_then(Query::message).is_err(), "{bad}");
        }
        assert_eq!(Query::read("compression=foo").unwrap_err().reason(), Reason::UnsupportedEncoding);
    }
}
