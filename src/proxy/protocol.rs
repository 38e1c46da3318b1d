//! Which protocol a request speaks, and how it writes its messages down.
//!
//! Told by content type, by the headers of Connect and by its query; never by the path, so that the routes of a schema
//! cannot change what a request means.

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::form::quality;
use crate::media;
use crate::telemetry::Protocol;

/// `connect-protocol-version`: what clients of Connect send with unary calls.
pub(crate) const CONNECT_VERSION: HeaderName = HeaderName::from_static("connect-protocol-version");

/// How a client writes a call down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dialect {
    pub(crate) framing: Framing,
    pub(crate) codec: Codec,
}

/// What stands around the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Whatever the HTTP rule of the method says.
    Rest,
    /// Frames, and a status in trailers.
    Grpc,
    /// Frames, the last of which has the trailers
    /// (<https://github.com/grpc/grpc/blob/v1.76.0/doc/PROTOCOL-WEB.md>).
    Web,
    /// The same in base64.
    WebText,
    /// The request as in `Web`, the reply as in `WebText`.
    WebTextReply,
    /// Nothing: the message is the body (<https://connectrpc.com/docs/protocol#unary-request>).
    ConnectUnary,
    /// The message stands in the query (<https://connectrpc.com/docs/protocol#unary-get-request>).
    ConnectGet,
    /// Frames, the last of which has the end of the stream
    /// (<https://connectrpc.com/docs/protocol#streaming-request>).
    ConnectStream,
}

/// What a message is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Proto,
    Json,
    /// One that the gateway cannot read.
    Unknown,
}

impl Dialect {
    /// Tells the protocol of a request by its head.
    pub(crate) fn of(method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        let media = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if is_grpc(media) {
            // What the upstream makes of another codec is between it and the client.
            let codec = if media::essence_of_bytes(media).eq_ignore_ascii_case(b"application/grpc+json") {
                Codec::Json
            } else {
                Codec::Proto
            };
            return Self { framing: Framing::Grpc, codec };
        }
        let rest = Self { framing: Framing::Rest, codec: Codec::Json };
        match Self::framed(media) {
            Some(Self { framing: Framing::Web, codec }) if wants_text(headers) => {
                Self { framing: Framing::WebTextReply, codec }
            }
            Some(framed) => framed,
            None if *method == Method::GET && (is_connect_get(uri) || headers.contains_key(CONNECT_VERSION)) => {
                Self { framing: Framing::ConnectGet, codec: Codec::Unknown }
            }
            None if *method == Method::OPTIONS => rest,
            None => Self::connect_unary(media::essence_of_bytes(media), headers.contains_key(CONNECT_VERSION))
                .unwrap_or(rest),
        }
    }

    /// The protocols that have a content type of their own.
    fn framed(media: &[u8]) -> Option<Self> {
        // Longest first: `-text` is no codec.
        let families = [
            (&b"application/grpc-web-text"[..], Framing::WebText),
            (b"application/grpc-web", Framing::Web),
            (b"application/connect", Framing::ConnectStream),
        ];
        let media = media::essence_of_bytes(media);
        let (name, framing) = families
            .into_iter()
            .find(|(name, _)| media.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))?;
        let mut rest = media.get(name.len()..).unwrap_or_default();
        if framing == Framing::WebText && rest.get(..BASE64.len()).is_some_and(|next| next.eq_ignore_ascii_case(BASE64))
        {
            rest = rest.get(BASE64.len()..).unwrap_or_default();
        }
        let codec = match rest {
            b"" if framing != Framing::ConnectStream => Codec::Proto,
            [b'+', codec @ ..] => Codec::named(codec),
            _ => return None,
        };
        Some(Self { framing, codec })
    }

    fn connect_unary(media: &[u8], says_so: bool) -> Option<Self> {
        let framing = Framing::ConnectUnary;
        if media.eq_ignore_ascii_case(b"application/proto") {
            return Some(Self { framing, codec: Codec::Proto });
        }
        let codec = if media.eq_ignore_ascii_case(b"application/json") { Codec::Json } else { Codec::Unknown };
        says_so.then_some(Self { framing, codec })
    }

    /// As counted and logged.
    pub(crate) fn protocol(self) -> Protocol {
        match self.framing {
            Framing::Rest => Protocol::Rest,
            Framing::Grpc => Protocol::Grpc,
            Framing::Web | Framing::WebText | Framing::WebTextReply => Protocol::GrpcWeb,
            Framing::ConnectUnary | Framing::ConnectGet | Framing::ConnectStream => Protocol::Connect,
        }
    }

    /// The content type of replies.
    pub(crate) fn content_type(self) -> HeaderValue {
        let json = self.codec == Codec::Json;
        HeaderValue::from_static(match self.framing {
            Framing::Rest => "application/json",
            Framing::Grpc if json => "application/grpc+json",
            Framing::Grpc => "application/grpc",
            Framing::Web if json => "application/grpc-web+json",
            Framing::Web => "application/grpc-web+proto",
            Framing::WebText | Framing::WebTextReply if json => "application/grpc-web-text+json",
            Framing::WebText | Framing::WebTextReply => "application/grpc-web-text+proto",
            Framing::ConnectUnary | Framing::ConnectGet if json => "application/json",
            Framing::ConnectUnary | Framing::ConnectGet => "application/proto",
            Framing::ConnectStream if json => "application/connect+json",
            Framing::ConnectStream => "application/connect+proto",
        })
    }
}

impl Codec {
    /// The codec of that name, as content types and queries have it.
    pub(crate) fn named(name: &[u8]) -> Self {
        if name.eq_ignore_ascii_case(b"proto") {
            Self::Proto
        } else if name.eq_ignore_ascii_case(b"json") {
            Self::Json
        } else {
            Self::Unknown
        }
    }
}

/// The only encoding of text that there is, and the default.
const BASE64: &[u8] = b"-base64";

/// Whether a client of gRPC-Web would rather have its reply in base64 than in frames as they are; of equals, the one that it
/// names first (<https://github.com/grpc/grpc/blob/v1.76.0/doc/PROTOCOL-WEB.md#protocol-differences-vs-grpc-over-http2>,
/// "Text-encoded (response) streams").
fn wants_text(headers: &HeaderMap) -> bool {
    let ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    let named = ranges.filter_map(|range| {
        let (media, parameters) = media::split(range);
        let Dialect { framing, .. } = Dialect::framed(media.as_bytes())?;
        matches!(framing, Framing::Web | Framing::WebText).then(|| (framing, quality(parameters)))
    });
    let best = named.filter(|(_, quality)| *quality > 0).reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.is_some_and(|(framing, _)| framing == Framing::WebText)
}

/// Whether a content type is `application/grpc`, alone or with a `+codec` or parameters.
pub(crate) fn is_grpc(content_type: &[u8]) -> bool {
    const NAME: &[u8] = b"application/grpc";
    content_type.len() >= NAME.len()
        && content_type[..NAME.len()].eq_ignore_ascii_case(NAME)
        && matches!(content_type.get(NAME.len()), None | Some(b'+' | b';' | b' '))
}

fn is_connect_get(uri: &Uri) -> bool {
    let has = |wanted: fn(&str) -> bool| uri.query().unwrap_or_default().split('&').any(wanted);
    has(|pair| pair == "connect=v1") && has(|pair| pair.starts_with("encoding="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_native_grpc_is_grpc() {
        for yes in ["application/grpc", "application/grpc+proto", "application/grpc;x=1", "Application/GRPC"] {
            assert!(is_grpc(yes.as_bytes()), "{yes}");
        }
        for no in ["application/grpc-web", "application/grpc-web+proto", "application/json", "application/grp", ""] {
            assert!(!is_grpc(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn the_protocol_is_told_by_the_head() {
        use Codec::{Json, Proto, Unknown};
        use Framing::{ConnectGet, ConnectStream, ConnectUnary, Grpc, Rest, Web, WebText};
        let table = [
            ("POST /s/M", "application/grpc+foo", "", Grpc, Proto),
            ("POST /s/M", "application/grpc+json; charset=utf-8", "", Grpc, Json),
            ("POST /s/M", "application/grpc-web", "", Web, Proto),
            ("POST /s/M", "application/grpc-web+json", "", Web, Json),
            ("POST /s/M", "application/grpc-web+thrift", "", Web, Unknown),
            ("POST /s/M", "application/grpc-web-text", "", WebText, Proto),
            ("POST /s/M", "Application/gRPC-Web-Text+Proto", "", WebText, Proto),
            ("POST /s/M", "application/grpc-web-text-Base64", "", WebText, Proto),
            ("POST /s/M", "application/grpc-web-text-base64+json", "", WebText, Json),
            ("POST /s/M", "application/grpc-web-text-base32", "", Rest, Json),
            ("POST /s/M", "application/connect+json", "", ConnectStream, Json),
            ("POST /s/M", "application/connect", "", Rest, Json),
            ("POST /s/M", "application/proto", "", ConnectUnary, Proto),
            ("POST /s/M", "application/json", "", Rest, Json),
            ("POST /s/M", "application/json", "1", ConnectUnary, Json),
            ("POST /s/M", "application/foo", "1", ConnectUnary, Unknown),
            ("OPTIONS /s/M", "", "1", Rest, Json),
            ("GET /s/M?encoding=json&connect=v1&message=%7B%7D", "", "", ConnectGet, Unknown),
            ("GET /s/M?encoding=json&message=%7B%7D", "", "1", ConnectGet, Unknown),
            ("GET /v1/books?connect=v1", "", "", Rest, Json),
            ("GET /v1/books?connect=v1x&encoding=json", "", "", Rest, Json),
        ];
        for (line, media, version, framing, codec) in table {
            let (method, uri) = line.split_once(' ').unwrap();
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
            if !version.is_empty() {
                headers.insert(CONNECT_VERSION, HeaderValue::from_static(version));
            }
            let dialect = Dialect::of(&method.parse().unwrap(), &uri.parse().unwrap(), &headers);
            assert_eq!(dialect, Dialect { framing, codec }, "{line} {media}");
        }
    }

    #[test]
    fn the_text_of_a_reply_is_asked_for() {
        for (accept, text) in [
            ("", false),
            ("*/*", false),
            ("application/grpc-web", false),
            ("application/grpc-web-text", true),
            ("Application/GRPC-Web-Text+proto; charset=utf-8", true),
            ("application/grpc-web-text-base64", true),
            ("text/plain, application/grpc-web-text;q=0.1", true),
            ("application/grpc-web-text;q=0", false),
            ("application/grpc-web-text, application/grpc-web", true),
            ("application/grpc-web+proto, application/grpc-web-text", false),
            ("application/grpc-web;q=0.5, application/grpc-web-text", true),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(wants_text(&headers), text, "{accept}");
        }
    }
}
