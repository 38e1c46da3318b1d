//! Calls of the echo service in every dialect of gRPC, gRPC-Web and Connect, from messages written as JSON.
#![allow(dead_code, reason = "a toolbox: not every test run uses every tool")]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use portico::encoding::{Encoding, compress, inflate};
use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::Value;

use super::backend::pb::ECHO_SET;
use super::client::{Client, Reply, Version};

/// How a client writes a call down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dialect {
    pub(crate) media: &'static str,
    pub(crate) ending: Ending,
    pub(crate) json: bool,
    /// Whether all of it is base64.
    pub(crate) text: bool,
}

/// How a reply ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// In trailers of HTTP/2.
    Trailers,
    /// In a frame that has the trailers.
    Frame,
    /// In a frame of JSON.
    EndStream,
    /// With its only message.
    Unary,
}

const fn dialect(media: &'static str, ending: Ending, json: bool, text: bool) -> Dialect {
    Dialect { media, ending, json, text }
}

/// All that the gateway knows.
pub(crate) const DIALECTS: [Dialect; 10] = [
    dialect("application/grpc+proto", Ending::Trailers, false, false),
    dialect("application/grpc+json", Ending::Trailers, true, false),
    dialect("application/grpc-web+proto", Ending::Frame, false, false),
    dialect("application/grpc-web+json", Ending::Frame, true, false),
    dialect("application/grpc-web-text+proto", Ending::Frame, false, true),
    dialect("application/grpc-web-text+json", Ending::Frame, true, true),
    dialect("application/connect+proto", Ending::EndStream, false, false),
    dialect("application/connect+json", Ending::EndStream, true, false),
    dialect("application/proto", Ending::Unary, false, false),
    dialect("application/json", Ending::Unary, true, false),
];

/// The dialects that can make such a call over that version of HTTP.
pub(crate) fn dialects(version: Version, path: &str) -> impl Iterator<Item = Dialect> {
    let unary = path.ends_with("/Say");
    DIALECTS.into_iter().filter(move |dialect| match dialect.ending {
        Ending::Trailers => version == Version::Http2,
        Ending::Frame => true,
        Ending::EndStream => !unary,
        Ending::Unary => unary,
    })
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) reply: Reply,
    /// In JSON, inflated.
    pub(crate) messages: Vec<Value>,
    /// How many of them were compressed.
    pub(crate) compressed: usize,
    /// The gRPC code.
    pub(crate) code: usize,
    pub(crate) message: String,
    /// As the dialect has them.
    pub(crate) trailers: HeaderMap,
    /// The last frame of a Connect stream, or the body of a unary error.
    pub(crate) end: Value,
}

impl Dialect {
    pub(crate) fn is_connect(self) -> bool {
        matches!(self.ending, Ending::EndStream | Ending::Unary)
    }

    /// The headers of a call.
    pub(crate) fn head(self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static(self.media));
        match self.ending {
            Ending::Trailers => headers.insert("te", HeaderValue::from_static("trailers")),
            Ending::Frame => headers.insert("x-grpc-web", HeaderValue::from_static("1")),
            Ending::EndStream | Ending::Unary => {
                headers.insert("connect-protocol-version", HeaderValue::from_static("1"))
            }
        };
        headers
    }

    /// The header that gives a call so long.
    pub(crate) fn timeout(self, millis: u32) -> (&'static str, String) {
        match self.is_connect() {
            true => ("connect-timeout-ms", millis.to_string()),
            false => ("grpc-timeout", format!("{millis}m")),
        }
    }

    /// The header that says how messages are compressed.
    pub(crate) fn encoding(self) -> &'static str {
        match self.ending {
            Ending::Trailers | Ending::Frame => "grpc-encoding",
            Ending::EndStream => "connect-content-encoding",
            Ending::Unary => "content-encoding",
        }
    }

    /// The header that says what the client can inflate.
    pub(crate) fn accepts(self) -> &'static str {
        match self.ending {
            Ending::Trailers | Ending::Frame => "grpc-accept-encoding",
            Ending::EndStream => "connect-accept-encoding",
            Ending::Unary => "accept-encoding",
        }
    }

    /// A message as it stands in a body.
    pub(crate) fn write(self, message: &Value, encoding: Encoding) -> Bytes {
        let mut bytes = Bytes::from(encode(self.json, message));
        if encoding != Encoding::Identity {
            bytes = squeeze(encoding, &bytes);
        }
        if self.ending == Ending::Unary {
            return bytes;
        }
        self.wrap(&envelope(u8::from(encoding != Encoding::Identity), &bytes))
    }

    /// Bytes of a body as they go over the wire. Each call pads by itself.
    pub(crate) fn wrap(self, bytes: &[u8]) -> Bytes {
        if self.text { STANDARD.encode(bytes).into() } else { Bytes::copy_from_slice(bytes) }
    }

    /// A request of messages.
    pub(crate) fn request(self, path: &str, headers: &[(&str, &str)], messages: &[Value]) -> Request<Bytes> {
        let body: Vec<Bytes> = messages.iter().map(|message| self.write(message, Encoding::Identity)).collect();
        self.post(path, headers, body.concat().into())
    }

    /// A request with that body.
    pub(crate) fn post(self, path: &str, headers: &[(&str, &str)], body: Bytes) -> Request<Bytes> {
        let mut request = Request::builder().method(Method::POST).uri(path).body(body).expect("a good request");
        *request.headers_mut() = self.head();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
            request.headers_mut().append(name, value.parse().expect("a header value"));
        }
        request
    }

    /// Makes a call and reads what came.
    pub(crate) async fn call(
        self,
        client: &mut Client,
        path: &str,
        headers: &[(&str, &str)],
        messages: &[Value],
    ) -> Told {
        self.read(path, client.send(self.request(path, headers, messages)).await)
    }

    /// Takes a reply apart.
    pub(crate) fn read(self, path: &str, reply: Reply) -> Told {
        let encoding =
            reply.headers.get(if self.ending == Ending::Trailers { "grpc-encoding" } else { self.encoding() });
        let encoding = encoding.and_then(|value| Encoding::parse(value.to_str().ok()?)).unwrap_or(Encoding::Identity);
        let kind = if path.ends_with("/Collect") { "CollectReply" } else { "SayReply" };
        let mut told = Told {
            messages: Vec::new(),
            compressed: 0,
            code: 0,
            message: String::new(),
            trailers: HeaderMap::new(),
            end: Value::Null,
            reply,
        };
        // HTTP has a status for some errors, of streams too.
        if self.ending == Ending::Unary || told.reply.status != StatusCode::OK {
            self.read_unary(kind, encoding, &mut told);
            return told;
        }
        let body = if self.text { decode_text(&told.reply.body) } else { told.reply.body.to_vec() };
        for (flags, bytes) in envelopes(&body) {
            match (flags, self.ending) {
                (0, _) => told.messages.push(decode(self.json, kind, &bytes)),
                (1, _) => {
                    told.compressed += 1;
                    told.messages.push(decode(self.json, kind, &unsqueeze(encoding, &bytes)));
                }
                (0x80, Ending::Frame) => told.trailers = lines(&bytes),
                (2, Ending::EndStream) => {
                    told.end = serde_json::from_slice(&bytes).expect("the end is JSON");
                    told.trailers = metadata(&told.end["metadata"]);
                    let error = told.end["error"].clone();
                    told.fail(&error);
                }
                (flags, _) => unreachable!("frame with flags {flags}: {:?}", told.reply),
            }
        }
        if self.ending == Ending::Trailers {
            told.trailers = told.reply.trailers.clone();
        }
        if self.ending != Ending::EndStream {
            let said = if told.trailers.is_empty() { &told.reply.headers } else { &told.trailers };
            let text = |name: &str| said.get(name).map(|value| value.to_str().expect("ASCII").to_owned());
            told.code = text("grpc-status").expect("there is a status").parse().expect("digits");
            told.message = text("grpc-message").unwrap_or_default().replace("%20", " ");
            told.trailers = said.clone();
        }
        told
    }

    fn read_unary(self, kind: &str, encoding: Encoding, told: &mut Told) {
        for (name, value) in &told.reply.headers {
            if let Some(name) = name.as_str().strip_prefix("trailer-") {
                told.trailers.append(HeaderName::try_from(name).expect("a header name"), value.clone());
            }
        }
        if told.reply.status == StatusCode::OK {
            told.compressed = usize::from(encoding != Encoding::Identity);
            let message = unsqueeze(encoding, &told.reply.body);
            told.messages.push(decode(self.json, kind, &message));
        } else {
            told.end = told.reply.json();
            let error = told.end.clone();
            told.fail(&error);
        }
    }
}

impl Told {
    fn fail(&mut self, error: &Value) {
        let Some(code) = error["code"].as_str() else { return };
        self.code = CODES.iter().position(|known| *known == code).expect("a code of Connect");
        self.message = error["message"].as_str().unwrap_or_default().to_owned();
    }

    /// `text` of every message.
    pub(crate) fn texts(&self) -> Vec<&str> {
        self.messages.iter().map(|message| message["text"].as_str().unwrap_or_default()).collect()
    }

    /// The first value of a header that the upstream saw with the first message.
    pub(crate) fn seen(&self, name: &str) -> Option<String> {
        let metadata = self.messages.first()?["metadata"].as_array()?;
        let value = metadata.iter().find(|entry| entry["name"] == name)?["value"].as_str()?;
        Some(String::from_utf8_lossy(&STANDARD.decode(value).expect("bytes are base64 in JSON")).into_owned())
    }
}

/// Connect's names of the codes of gRPC.
const CODES: [&str; 17] = [
    "ok",
    "canceled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
];

/// A message behind its five bytes.
pub(crate) fn envelope(flags: u8, bytes: &[u8]) -> Bytes {
    let length = u32::try_from(bytes.len()).expect("a test's message is small").to_be_bytes();
    [&[flags][..], &length, bytes].concat().into()
}

/// The frames of a body.
pub(crate) fn envelopes(mut body: &[u8]) -> Vec<(u8, Bytes)> {
    let mut frames = Vec::new();
    while let Some((&[flags, a, b, c, d], rest)) = body.split_first_chunk::<5>() {
        let (bytes, rest) = rest.split_at(u32::from_be_bytes([a, b, c, d]) as usize);
        frames.push((flags, Bytes::copy_from_slice(bytes)));
        body = rest;
    }
    assert!(body.is_empty(), "half a prefix: {body:?}");
    frames
}

/// A message of requests.
pub(crate) fn encode(json: bool, message: &Value) -> Vec<u8> {
    if json {
        return message.to_string().into_bytes();
    }
    DynamicMessage::deserialize(descriptor("SayRequest"), message).expect("the test's message is right").encode_to_vec()
}

/// A message of replies.
pub(crate) fn decode(json: bool, kind: &str, bytes: &[u8]) -> Value {
    if json {
        return serde_json::from_slice(bytes).expect("the message is JSON");
    }
    let message = DynamicMessage::decode(descriptor(kind), bytes).expect("the message is whole");
    serde_json::to_value(message).expect("every message can be written")
}

fn descriptor(kind: &str) -> MessageDescriptor {
    static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| DescriptorPool::decode(ECHO_SET).expect("a good set"));
    POOL.get_message_by_name(&format!("portico.test.v1.{kind}")).expect("the set has it")
}

/// Compresses a message.
pub(crate) fn squeeze(encoding: Encoding, bytes: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    compress(encoding, bytes, &mut out).expect("there is memory");
    out.freeze()
}

fn unsqueeze(encoding: Encoding, bytes: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    inflate(encoding, bytes, 64 << 20, &mut out).expect("it is of that encoding");
    out.freeze()
}

/// Base64 with padding anywhere.
pub(crate) fn decode_text(text: &[u8]) -> Vec<u8> {
    text.chunks(4).flat_map(|quantum| STANDARD.decode(quantum).expect("base64")).collect()
}

fn lines(bytes: &[u8]) -> HeaderMap {
    let text = std::str::from_utf8(bytes).expect("trailers are text");
    let mut headers = HeaderMap::new();
    for line in text.split_terminator("\r\n") {
        let (name, value) = line.split_once(": ").expect("a line of trailers is a name and a value");
        assert_eq!(name, name.to_ascii_lowercase(), "names of trailers are in lower case");
        headers.append(HeaderName::try_from(name).expect("a name"), value.parse().expect("a value"));
    }
    headers
}

fn metadata(json: &Value) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, values) in json.as_object().into_iter().flatten() {
        for value in values.as_array().expect("values are a list") {
            let name = HeaderName::try_from(name.as_str()).expect("a name");
            headers.append(name, value.as_str().expect("a value is text").parse().expect("a value"));
        }
    }
    headers
}
