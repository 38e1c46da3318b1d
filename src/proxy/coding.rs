//! The content codings of REST requests: what a body is compressed with, taken off again.
//!
//! The rules are those of [RFC 9110 §8.4](https://www.rfc-editor.org/rfc/rfc9110#section-8.4); a coding that is not taken
//! is refused as [RFC 7694 §3](https://www.rfc-editor.org/rfc/rfc7694#section-3) wants it, with those that are.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use crate::encoding::{self, Encoding, InflateError};
use crate::error::{Error, Reason};

/// What request bodies may be compressed with, for the header `accept-encoding` of a refusal.
pub(crate) const TAKEN: &str = "gzip, deflate, br, zstd";

/// The coding that a body came in.
///
/// # Errors
/// It is not known, or there is more than one.
pub(crate) fn of(headers: &HeaderMap) -> Result<Encoding, Error> {
    let mut only = Encoding::Identity;
    for value in headers.get_all(CONTENT_ENCODING) {
        let names = value.to_str().map_err(|_| unknown("in bytes that are no text"))?;
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let coding = Encoding::parse(name).ok_or_else(|| unknown(&format!("{name:?}")))?;
            if coding == Encoding::Identity {
                continue;
            }
            if only != Encoding::Identity {
                let message = format!("content encodings may not be stacked; one of {TAKEN} is taken");
                return Err(Error::new(Reason::UnsupportedEncoding, message));
            }
            only = coding;
        }
    }
    Ok(only)
}

/// The content itself, of at most `limit` bytes. A body that is empty has none, whatever its coding.
///
/// # Errors
/// It is too large, or not of that coding.
pub(crate) fn decode(encoding: Encoding, body: Bytes, limit: usize) -> Result<Bytes, Error> {
    if encoding == Encoding::Identity || body.is_empty() {
        return Ok(body);
    }
    let mut content = BytesMut::new();
    encoding::inflate(encoding, &body, limit, &mut content).map_err(|error| match error {
        InflateError::TooLarge { .. } => Error::new(Reason::RequestTooLarge, format!("request {error}")),
        InflateError::Malformed(_) | InflateError::Truncated(_) => Error::invalid("", format!("request {error}")),
    })?;
    Ok(content.freeze())
}

fn unknown(what: &str) -> Error {
    let message = format!("content encoding {what} is not taken here, only {TAKEN}");
    Error::new(Reason::UnsupportedEncoding, message)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn at_most_one_coding_beside_identity_is_taken() {
        let coding =
            |value: &'static str| of(&HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(value))])).ok();

        assert_eq!(coding("identity, GZip"), Some(Encoding::Gzip));
        assert_eq!(coding(""), Some(Encoding::Identity));
        assert_eq!(coding("gzip, br"), None);
        assert_eq!(coding("snappy"), None);
    }
}
