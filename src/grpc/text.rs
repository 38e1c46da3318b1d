//! The base64 of gRPC-Web text, read as it comes
//! (<https://github.com/grpc/grpc/blob/v1.76.0/doc/PROTOCOL-WEB.md>).
//!
//! A stream is one or more runs of base64, each of which may end in padding: clients encode piece by piece. Invariant: no
//! more than three characters are kept.

use base64::Engine as _;
use bytes::{BufMut as _, Bytes, BytesMut};

use super::status::BASE64;

/// Reads base64 cut anywhere.
#[derive(Debug, Default)]
pub struct TextReader {
    /// The start of a quantum of four characters.
    quantum: [u8; 4],
    have: usize,
}

/// Something that is not base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not base64")]
pub struct NotBase64;

impl TextReader {
    /// The bytes that the next characters complete.
    ///
    /// # Errors
    /// They are not base64.
    pub fn read(&mut self, mut text: &[u8]) -> Result<Bytes, NotBase64> {
        let mut out = BytesMut::with_capacity(text.len() / 4 * 3 + 3);
        while !text.is_empty() {
            if self.have == 0 {
                // Most of what comes is one run: everything before the first padding, as far as it is whole.
                let run = memchr::memchr(b'=', text).unwrap_or(text.len()) / 4 * 4;
                let (whole, rest) = text.split_at(run);
                out.put_slice(&BASE64.decode(whole).map_err(|_| NotBase64)?);
                text = rest;
            }
            let taken = text.len().min(4 - self.have);
            let (next, rest) = text.split_at(taken);
            self.quantum[self.have..self.have + taken].copy_from_slice(next);
            self.have += taken;
            text = rest;
            if self.have == 4 {
                self.have = 0;
                out.put_slice(&BASE64.decode(self.quantum).map_err(|_| NotBase64)?);
            }
        }
        Ok(out.freeze())
    }

    /// Reads the last quantum, which may lack its padding.
    ///
    /// # Errors
    /// The text ends within a byte.
    pub fn finish(&mut self) -> Result<Bytes, NotBase64> {
        let rest = self.quantum.get(..std::mem::take(&mut self.have)).unwrap_or_default();
        BASE64.decode(rest).map(Bytes::from).map_err(|_| NotBase64)
    }
}

/// Whole quanta with their padding.
pub fn write(bytes: &[u8]) -> Bytes {
    base64_simd::STANDARD.encode_to_string(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&[u8]]) -> Result<Vec<u8>, NotBase64> {
        let mut reader = TextReader::default();
        let mut out = Vec::new();
        for piece in pieces {
            out.extend(reader.read(piece)?);
        }
        out.extend(reader.finish()?);
        Ok(out)
    }

    #[test]
    fn padded_runs_are_joined_wherever_they_are_cut() {
        let text = [write(b"hello"), write(b"a"), write(b"bc"), write(b"def")].concat();
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(all(&pieces).unwrap(), b"helloabcdef");
            }
        }
    }

    #[test]
    fn the_last_padding_may_be_missing() {
        assert_eq!(all(&[b"aGVsbG8"]).unwrap(), b"hello");
        assert_eq!(all(&[b"aGVs", b"bG8"]).unwrap(), b"hello");
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for bad in [&b"a"[..], b"a===", b"=aaa", b"aa=a", b"{\"a\": 1}", b"aaaaa"] {
            assert_eq!(all(&[bad]), Err(NotBase64), "{bad:?}");
        }
    }
}
