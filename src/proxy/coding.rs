//! The content codings of REST requests: what a body is compressed with, taken off again.
//!
//! The rules are those of [RFC 9110 §8.4](https://www.rfc-editor.org/rfc/rfc9110#section-8.4); a coding that is not taken
//! is refused as [RFC 7694 §3](https://www.rfc-editor.org/rfc/rfc7694#section-3) wants it, with those that are.

use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::body::RequestBody;
use crate::encoding::{self, Encoding, InflateError, Inflater};
use crate::error::{Error, Reason};

/// What bodies and messages may be compressed with, for the header of a refusal that says so.
pub(crate) const TAKEN: HeaderValue = HeaderValue::from_static(NAMES);
const NAMES: &str = "gzip, deflate, br, zstd";

/// The coding that a body came in; `None`: in none.
///
/// # Errors
/// As [`declared`].
pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Encoding>, Error> {
    declared(headers, &CONTENT_ENCODING)
}

/// The coding that a header names, of the body or of the messages in it.
///
/// # Errors
/// As [`only`].
pub(crate) fn declared(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Encoding>, Error> {
    only(headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("\u{fffd}")))
}

/// The coding that lists of names come to.
///
/// # Errors
/// It is not known, or there is more than one.
pub(crate) fn only<'v>(lists: impl IntoIterator<Item = &'v str>) -> Result<Option<Encoding>, Error> {
    let mut only = None;
    for name in lists.into_iter().flat_map(|list| list.split(',')).map(str::trim).filter(|name| !name.is_empty()) {
        let coding = Encoding::parse(name).ok_or_else(|| {
            Error::new(Reason::UnsupportedEncoding, format!("encoding {name:?} is not taken here, only {NAMES}"))
        })?;
        if coding != Encoding::Identity && only.replace(coding).is_some() {
            let message = format!("encodings may not be stacked; one of {NAMES} is taken");
            return Err(Error::new(Reason::UnsupportedEncoding, message));
        }
    }
    Ok(only)
}

/// The content itself, of at most `limit` bytes.
///
/// # Errors
/// It is too large, or not of that coding.
pub(crate) fn decode(encoding: Option<Encoding>, body: Bytes, limit: usize) -> Result<Bytes, Error> {
    match encoding {
        Some(encoding) => encoding::inflated(encoding, &body, limit).map_err(wrong),
        None => Ok(body),
    }
}

/// Content that a piece of a body may grow to before it is handed on.
const PIECE: usize = 16 << 10;

/// The content of a body that is read as it comes. Invariant: beside the piece that the client sent last no more than
/// [`PIECE`] is kept, and the client's window opens only when that piece is used up.
#[derive(Debug)]
pub(crate) struct Content {
    body: RequestBody,
    inflater: Option<Box<Inflater>>,
    /// Sent, not yet inflated.
    waiting: Bytes,
    /// Bytes of the last piece, for which the client's window is still closed.
    owed: usize,
    bytes: u64,
}

impl Content {
    pub(crate) fn new(body: RequestBody, encoding: Option<Encoding>) -> Self {
        // How much comes out in all is not bounded here: it goes on in messages, each of which is.
        let inflater = encoding.map(|encoding| Box::new(Inflater::new(encoding, u64::MAX)));
        Self { body, inflater, waiting: Bytes::new(), owed: 0, bytes: 0 }
    }

    /// Bytes of the body that were read, as they were sent.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next piece, never empty; `None` at the end. To ask says that the piece before is used up.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            if let Some(inflater) = &mut self.inflater {
                let mut piece = BytesMut::new();
                let mut input = &*self.waiting;
                inflater.step(&mut input, PIECE, &mut piece).map_err(wrong)?;
                let left = input.len();
                self.waiting.advance(self.waiting.len() - left);
                if !piece.is_empty() {
                    return Poll::Ready(Some(Ok(piece.freeze())));
                }
                if left > 0 {
                    continue;
                }
            }
            self.body.release(std::mem::take(&mut self.owed));
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    self.owed = data.len();
                    self.bytes += data.len() as u64;
                    if self.inflater.is_none() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                    self.waiting = data;
                }
                Some(Err(broken)) => return Poll::Ready(Some(Err(broken.into()))),
                None => {
                    let ended = self.inflater.take().filter(|_| self.bytes > 0).map(|inflater| inflater.finish());
                    return Poll::Ready(ended.and_then(Result::err).map(|error| Err(wrong(error))));
                }
            }
        }
    }
}

fn wrong(error: InflateError) -> Error {
    match error {
        InflateError::TooLarge { .. } => Error::new(Reason::RequestTooLarge, format!("request {error}")),
        InflateError::Malformed(_) | InflateError::Truncated(_) => Error::invalid("", format!("request {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_one_coding_beside_identity_is_taken() {
        let coding = |value: &'static str| {
            let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(value))]);
            of(&headers).map_err(|error| error.reason())
        };

        assert_eq!(coding("identity, GZip"), Ok(Some(Encoding::Gzip)));
        assert_eq!(coding(""), Ok(None));
        assert_eq!(coding("gzip, br"), Err(Reason::UnsupportedEncoding));
        assert_eq!(coding("snappy"), Err(Reason::UnsupportedEncoding));
    }
}
