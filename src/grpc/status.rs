//! Status codes, their names, and their two tables: to and from HTTP.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::{HeaderValue, StatusCode};

/// A canonical gRPC status code (<https://github.com/grpc/grpc/blob/v1.76.0/doc/statuscodes.md>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names of the specification")]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

const TABLE: [Code; Code::COUNT] = [
    Code::Ok,
    Code::Cancelled,
    Code::Unknown,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
    Code::Unauthenticated,
];

impl Code {
    /// How many there are; their numbers are those below.
    pub const COUNT: usize = 17;

    /// The code of that number, if it is in the table.
    pub fn from_number(number: u32) -> Option<Self> {
        TABLE.get(usize::try_from(number).ok()?).copied()
    }

    /// The number on the wire.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The name in upper case, as logs and metrics show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    /// The name in lower case, as errors of Connect show it (<https://connectrpc.com/docs/protocol#error-codes>).
    pub fn connect_name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Cancelled => "canceled",
            Self::Unknown => "unknown",
            Self::InvalidArgument => "invalid_argument",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::PermissionDenied => "permission_denied",
            Self::ResourceExhausted => "resource_exhausted",
            Self::FailedPrecondition => "failed_precondition",
            Self::Aborted => "aborted",
            Self::OutOfRange => "out_of_range",
            Self::Unimplemented => "unimplemented",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::DataLoss => "data_loss",
            Self::Unauthenticated => "unauthenticated",
        }
    }

    /// The HTTP status of a REST reply (the table in `google/rpc/code.proto`).
    pub fn http(self) -> StatusCode {
        match self {
            Self::Ok => StatusCode::OK,
            // Client Closed Request: no registered status says it, and every gateway uses this one.
            Self::Cancelled => StatusCode::from_u16(499).expect("three digits are a status"),
            Self::InvalidArgument | Self::FailedPrecondition | Self::OutOfRange => StatusCode::BAD_REQUEST,
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::AlreadyExists | Self::Aborted => StatusCode::CONFLICT,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Self::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Unknown | Self::Internal | Self::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What an HTTP reply without `grpc-status` means
    /// (<https://github.com/grpc/grpc/blob/v1.76.0/doc/http-grpc-status-mapping.md>).
    pub fn from_http(status: StatusCode) -> Self {
        match status.as_u16() {
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502 | 503 | 504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Reads a `grpc-status` value: decimal digits, also of numbers outside the table.
pub fn parse_status(value: &HeaderValue) -> Option<u32> {
    let text = value.to_str().ok()?;
    if text.is_empty() || text.len() > 10 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// A `grpc-status` value.
pub fn status_value(number: u32) -> HeaderValue {
    const STATIC: [&str; 17] =
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"];
    match usize::try_from(number).ok().and_then(|index| STATIC.get(index)) {
        Some(text) => HeaderValue::from_static(text),
        None => HeaderValue::from(number),
    }
}

/// Percent-encodes a `grpc-message`: bytes outside `%x20-%x7E` and `%` itself
/// (PROTOCOL-HTTP2 "Percent-Encoded").
pub fn encode_message(message: &str) -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let plain = |byte: u8| (0x20..=0x7e).contains(&byte) && byte != b'%';
    if message.bytes().all(plain) {
        return HeaderValue::from_str(message).expect("printable ASCII is a header value");
    }
    let mut encoded = Vec::with_capacity(message.len() + 16);
    for byte in message.bytes() {
        if plain(byte) {
            encoded.push(byte);
        } else {
            encoded.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
    HeaderValue::from_maybe_shared(Bytes::from(encoded)).expect("printable ASCII is a header value")
}

/// Decodes a `grpc-message`. What is not valid stays as it is: the text is for people, and must not be lost.
pub fn decode_message(value: &HeaderValue) -> String {
    let bytes = value.as_bytes();
    if memchr::memchr(b'%', bytes).is_none() {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        match (first, tail) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                decoded.push(hex(*high) << 4 | hex(*low));
                rest = after;
            }
            _ => {
                decoded.push(first);
                rest = tail;
            }
        }
    }
    match String::from_utf8_lossy(&decoded) {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

/// base64 as metadata carries it: written without padding, read with or without (PROTOCOL-HTTP2 "Binary-Value").
pub const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Reads a `-bin` value; `None` when it is not base64.
pub fn decode_binary(value: &[u8]) -> Option<Vec<u8>> {
    BASE64.decode(value).ok()
}

/// Writes a `-bin` value.
pub fn encode_binary(bytes: &[u8]) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(BASE64.encode(bytes))).expect("base64 is a header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_survives_encoding_of_any_text() {
        for text in ["", "plain", "100%", "a\r\nb\0", "Müller 書", "%41"] {
            assert_eq!(decode_message(&encode_message(text)), text);
        }
        assert_eq!(encode_message("a\n%ü"), "a%0A%25%C3%BC");
    }

    #[test]
    fn broken_percent_encoding_is_kept() {
        assert_eq!(decode_message(&HeaderValue::from_static("50% of %4 %zz %41")), "50% of %4 %zz A");
    }

    #[test]
    fn status_numbers_outside_the_table_are_read() {
        let parse = |text| parse_status(&HeaderValue::from_static(text));
        assert_eq!(parse("0"), Some(0));
        assert_eq!(parse("2021"), Some(2021));
        assert_eq!(parse("-1"), None);
        assert_eq!(parse(""), None);
        assert_eq!(parse("99999999999"), None);
        assert_eq!(status_value(2021), "2021");
        assert_eq!(status_value(16), "16");
    }

    #[test]
    fn binary_metadata_is_read_with_and_without_padding() {
        assert_eq!(decode_binary(b"AAE="), Some(vec![0, 1]));
        assert_eq!(decode_binary(b"AAE"), Some(vec![0, 1]));
        assert_eq!(decode_binary(b"\xff"), None);
        assert_eq!(encode_binary(&[0, 1]), "AAE");
    }
}
