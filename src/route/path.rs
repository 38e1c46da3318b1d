//! The path of a request: which paths are refused, where its segments lie, and what a captured part decodes to.
//!
//! Nothing is rewritten. A path is matched as it came, or it is refused; so the gateway and whatever stands before or
//! behind it cannot read one path as two. Refused are dot segments however they are encoded, backslash, NUL, bad
//! percent-encoding and bytes that [RFC 3986 §3.3](https://www.rfc-editor.org/rfc/rfc3986#section-3.3) has no place for.
//! Empty segments (`//`), `;` and encoded slashes are data: nothing here gives them a meaning.
//!
//! **Invariant**: the segments of a [`Path`] are the text between its slashes, and every `%` in it begins a valid escape.

use std::borrow::Cow;
use std::ops::Range;

use smallvec::{SmallVec, smallvec};
use thiserror::Error;

use crate::schema::template::{Unescape, escaped};

/// Why a path is refused. Positions are offsets in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadPath {
    /// Also the asterisk form (`OPTIONS *`), which has no path.
    #[error("path does not begin with `/`")]
    NoLeadingSlash,
    /// `.` or `..`, also encoded.
    #[error("path has a dot segment at byte {0}")]
    DotSegment(usize),
    /// `\` or `%5C`.
    #[error("path has a backslash at byte {0}")]
    Backslash(usize),
    /// Raw or `%00`.
    #[error("path has a NUL at byte {0}")]
    Nul(usize),
    /// A `%` that two hexadecimal digits do not follow.
    #[error("path has bad percent-encoding at byte {0}")]
    Escape(usize),
    /// A byte that must not stand raw in a path: control, space, `#`, `?`, or outside ASCII.
    #[error("path has the raw byte 0x{byte:02x} at byte {position}")]
    Byte {
        /// The byte.
        byte: u8,
        /// Where it stands.
        position: usize,
    },
    /// A captured part is not UTF-8 after decoding.
    #[error("path is not UTF-8 after decoding, from byte {0}")]
    NotUtf8(usize),
    /// A capture is decoded with a path that it was not taken from.
    #[error("capture belongs to another path")]
    OtherPath,
}

/// A variable's part of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// Index into the template's variables.
    pub variable: usize,
    /// Bytes of the raw path; empty where `**` matched no segment.
    pub range: Range<usize>,
    /// Whether the variable may capture other than one segment.
    pub multi: bool,
}

impl Capture {
    /// The captured text, percent-decoded once; `path` is the path that it was captured from.
    ///
    /// A single segment is decoded wholly. Of several segments, escapes of the characters that [RFC 6570 reserves][rfc]
    /// stay as they are, `%2F` among them, so that an encoded slash is never taken for one that separates. Borrows when
    /// nothing is encoded.
    ///
    /// # Errors
    /// [`BadPath::NotUtf8`], [`BadPath::Nul`] or [`BadPath::Escape`]; the latter two only in paths that were not checked.
    ///
    /// [rfc]: https://www.rfc-editor.org/rfc/rfc6570#section-1.5
    pub fn decode<'p>(&self, path: &'p str) -> Result<Cow<'p, str>, BadPath> {
        let raw = path.get(self.range.clone()).ok_or(BadPath::OtherPath)?;
        if memchr::memchr2(b'%', 0, raw.as_bytes()).is_none() {
            return Ok(Cow::Borrowed(raw));
        }
        let mut decoded = Vec::with_capacity(raw.len());
        let mut bytes = raw.as_bytes();
        while let Some((&first, rest)) = bytes.split_first() {
            let position = self.range.end - bytes.len();
            let byte = if first == b'%' { escaped(rest).ok_or(BadPath::Escape(position))? } else { first };
            if byte == 0 {
                return Err(BadPath::Nul(position));
            }
            if first != b'%' {
                decoded.push(first);
                bytes = rest;
                continue;
            }
            if self.multi && is_reserved(byte) {
                decoded.extend_from_slice(&bytes[..3]);
            } else {
                decoded.push(byte);
            }
            bytes = &rest[2..];
        }
        String::from_utf8(decoded).map(Cow::Owned).map_err(|_| BadPath::NotUtf8(self.range.start))
    }
}

/// A checked path.
#[derive(Debug)]
pub(super) struct Path<'p> {
    bytes: &'p [u8],
    /// Where each segment starts; the last one ends at `end`, any other one byte before its successor.
    starts: SmallVec<[usize; 16]>,
    end: usize,
}

impl<'p> Path<'p> {
    /// Checks a raw path (no query) and finds its segments, in one pass.
    pub(super) fn parse(text: &'p str) -> Result<Self, BadPath> {
        let bytes = text.as_bytes();
        if bytes.first() != Some(&b'/') {
            return Err(BadPath::NoLeadingSlash);
        }
        let mut starts: SmallVec<[usize; 16]> = smallvec![1];
        let mut start = 1;
        for (position, &byte) in bytes.iter().enumerate().skip(1) {
            match CLASSES[usize::from(byte)] {
                Class::Plain => {}
                Class::Slash => {
                    refuse_dots(&bytes[start..position], start)?;
                    start = position + 1;
                    starts.push(start);
                }
                Class::Percent => match escaped(&bytes[position + 1..]) {
                    Some(0) => return Err(BadPath::Nul(position)),
                    Some(b'\\') => return Err(BadPath::Backslash(position)),
                    Some(_) => {}
                    None => return Err(BadPath::Escape(position)),
                },
                Class::Refused => {
                    return Err(match byte {
                        0 => BadPath::Nul(position),
                        b'\\' => BadPath::Backslash(position),
                        byte => BadPath::Byte { byte, position },
                    });
                }
            }
        }
        refuse_dots(&bytes[start..], start)?;
        Ok(Self { bytes, starts, end: bytes.len() })
    }

    /// Number of segments, at least one: `/` is one empty segment.
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The raw bytes of a segment.
    pub(super) fn segment(&self, index: usize) -> &'p [u8] {
        &self.bytes[self.range(&(index..index + 1))]
    }

    /// Bytes from the start of the first to the end of the last of these segments, with the slashes between them.
    pub(super) fn range(&self, segments: &Range<usize>) -> Range<usize> {
        let start = self.starts.get(segments.start).copied().unwrap_or(self.end);
        if segments.is_empty() {
            return start..start;
        }
        start..self.starts.get(segments.end).map_or(self.end, |next| next - 1)
    }

    /// The text after the last colon of the last segment, raw.
    pub(super) fn verb(&self) -> Option<&'p [u8]> {
        let last = self.segment(self.len() - 1);
        memchr::memrchr(b':', last).map(|colon| &last[colon + 1..])
    }

    /// The path without the verb that it ends in.
    ///
    /// # Errors
    /// [`BadPath::DotSegment`] if that leaves one.
    pub(super) fn without_verb(&self, verb: &[u8]) -> Result<Self, BadPath> {
        let end = self.end - verb.len() - 1;
        let start = self.starts[self.len() - 1];
        refuse_dots(&self.bytes[start..end], start)?;
        Ok(Self { bytes: self.bytes, starts: self.starts.clone(), end })
    }
}

/// What a byte of a path needs.
#[derive(Clone, Copy)]
enum Class {
    Plain,
    Slash,
    Percent,
    Refused,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Refused; 256];
    let mut byte = b'!';
    while byte < 0x7f {
        classes[byte as usize] = match byte {
            b'/' => Class::Slash,
            b'%' => Class::Percent,
            b'#' | b'?' | b'\\' => Class::Refused,
            _ => Class::Plain,
        };
        byte += 1;
    }
    classes
};

fn refuse_dots(segment: &[u8], position: usize) -> Result<(), BadPath> {
    // `%2e%2e` is the longest spelling. Most segments are told apart by their first byte.
    if segment.len() > 6 || !matches!(segment.first(), Some(b'.' | b'%')) {
        return Ok(());
    }
    let mut bytes = Unescape(segment);
    match (bytes.next(), bytes.next(), bytes.next()) {
        (Some(b'.'), None | Some(b'.'), None) => Err(BadPath::DotSegment(position)),
        _ => Ok(()),
    }
}

fn is_reserved(byte: u8) -> bool {
    b":/?#[]@!$&'()*+,;=".contains(&byte)
}
