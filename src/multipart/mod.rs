//! `multipart/form-data` ([RFC 7578](https://www.rfc-editor.org/rfc/rfc7578)): the parts of a body that comes in pieces.
//!
//! Pure: pieces in, [`Event`]s out. What the parts mean is for others to say. Content that stands in one piece of the
//! body is handed out in one piece.
//!
//! ```text
//!            delimiter            empty line             delimiter
//! Before ───────────────▶ Head ───────────────▶ Content ───────────┐
//!                          ▲                                       ▼
//!                          └────────────────── end of line ──── Behind ── `--` ──▶ Over
//! ```
//!
//! **Invariant**: beside the piece that came last no more than a delimiter, or the [`MAX_HEAD`] bytes of a part's
//! headers, are kept.

mod head;

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::memmem;

pub use head::{Head, boundary};

/// Bytes in the headers of one part. More are refused.
pub const MAX_HEAD: usize = 8 << 10;

/// Reads a body.
#[derive(Debug)]
pub struct Reader {
    /// The end of the line before, two hyphens, and the boundary.
    delimiter: Box<[u8]>,
    /// Read, and not yet handed out.
    buffer: Bytes,
    state: State,
    /// Parts that have begun.
    parts: u64,
}

/// What the next bytes are; see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Text before the first part, which is of no meaning.
    Before,
    /// The rest of a delimiter's line.
    Behind,
    /// Headers of a part.
    Head,
    /// Content of a part.
    Content,
    /// Text behind the last part, which is of no meaning.
    Over,
}

/// What comes next in a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A part begins.
    Part(Head),
    /// Some of its content, never empty.
    Data(Bytes),
    /// It ends.
    End,
}

/// What is wrong with a body; parts are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MultipartError {
    /// The content type has no boundary, or one that [RFC 2046](https://www.rfc-editor.org/rfc/rfc2046#section-5.1.1)
    /// does not allow.
    #[error("multipart/form-data needs a boundary of 1 to 70 characters in its content type")]
    Boundary,
    /// There is no delimiter where the first part should begin.
    #[error("the body does not begin with the boundary of its content type")]
    NoStart,
    /// A delimiter goes on behind its boundary.
    #[error("a line goes on behind the boundary, after part {0}")]
    LongDelimiter(u64),
    /// Its headers are longer than [`MAX_HEAD`].
    #[error("part {0}: its headers exceed the limit of {MAX_HEAD} bytes")]
    LongHead(u64),
    /// Its headers are no headers, or more than 16.
    #[error("part {0}: its headers cannot be read")]
    BadHead(u64),
    /// It is not `Content-Disposition: form-data; name="…"`.
    #[error("part {0}: it has no content-disposition form-data with a name")]
    NoName(u64),
    /// It is encoded once more.
    #[error("part {part} ({name:?}): content-transfer-encoding {encoding:?} is not taken, send it as it is")]
    Encoded {
        /// Which part.
        part: u64,
        /// What it is called.
        name: String,
        /// What it is encoded with.
        encoding: String,
    },
    /// The body ends before its last delimiter.
    #[error("the body ends inside part {0}")]
    Truncated(u64),
}

impl Reader {
    /// At the start of a body.
    pub fn new(boundary: &str) -> Self {
        let delimiter = [b"\r\n--", boundary.as_bytes()].concat().into();
        Self { delimiter, buffer: Bytes::new(), state: State::Before, parts: 0 }
    }

    /// Adds the next piece. Those before it must be used up: [`Self::take`] has said `None`.
    pub fn push(&mut self, piece: Bytes) {
        if self.state == State::Over {
            return;
        }
        if self.buffer.is_empty() {
            self.buffer = piece;
            return;
        }
        let mut joined = BytesMut::from(std::mem::take(&mut self.buffer));
        joined.extend_from_slice(&piece);
        self.buffer = joined.freeze();
    }

    /// What comes next; `None` when another piece is needed for it.
    ///
    /// # Errors
    /// See [`MultipartError`].
    pub fn take(&mut self) -> Result<Option<Event>, MultipartError> {
        loop {
            match self.state {
                State::Before => match self.before()? {
                    Some(state) => self.state = state,
                    None => return Ok(None),
                },
                State::Content => match self.up_to_delimiter() {
                    UpTo::Delimiter => {
                        self.state = State::Behind;
                        return Ok(Some(Event::End));
                    }
                    UpTo::Data(data) => return Ok(Some(Event::Data(data))),
                    UpTo::Nothing => return Ok(None),
                },
                State::Behind => match self.behind()? {
                    Some(state) => self.state = state,
                    None => return Ok(None),
                },
                State::Head => match self.head()? {
                    Some(head) => {
                        self.state = State::Content;
                        return Ok(Some(Event::Part(head)));
                    }
                    None => return Ok(None),
                },
                State::Over => {
                    self.buffer = Bytes::new();
                    return Ok(None);
                }
            }
        }
    }

    /// Whether the body may end here.
    ///
    /// # Errors
    /// The last delimiter was not there.
    pub fn finish(&self) -> Result<(), MultipartError> {
        match self.state {
            State::Over => Ok(()),
            State::Before => Err(MultipartError::NoStart),
            State::Behind | State::Head | State::Content => Err(MultipartError::Truncated(self.parts)),
        }
    }

    /// Takes the first delimiter, which has no line before it but an empty one. Nothing that is sent today has more, which would
    /// be skipped without end.
    fn before(&mut self) -> Result<Option<State>, MultipartError> {
        let (end_of_line, first) = self.delimiter.split_at(2);
        let rest = self.buffer.strip_prefix(end_of_line).unwrap_or(&self.buffer);
        if rest.starts_with(first) {
            self.buffer.advance(self.buffer.len() - rest.len() + first.len());
            return Ok(Some(State::Behind));
        }
        let may_begin = first.starts_with(rest) || end_of_line.starts_with(rest);
        if may_begin { Ok(None) } else { Err(MultipartError::NoStart) }
    }

    /// Takes the delimiter if it comes next, else what stands before it.
    fn up_to_delimiter(&mut self) -> UpTo {
        let length = match memmem::find(&self.buffer, &self.delimiter) {
            Some(0) => {
                self.buffer.advance(self.delimiter.len());
                return UpTo::Delimiter;
            }
            Some(at) => at,
            None => self.buffer.len() - self.begun(),
        };
        if length == 0 { UpTo::Nothing } else { UpTo::Data(self.buffer.split_to(length)) }
    }

    /// Bytes at the end of the buffer with which a delimiter may have begun.
    fn begun(&self) -> usize {
        let most = self.buffer.len().min(self.delimiter.len() - 1);
        let end = &self.buffer[self.buffer.len() - most..];
        let mut starts = memchr::memchr_iter(b'\r', end);
        starts.find(|at| self.delimiter.starts_with(&end[*at..])).map_or(0, |at| most - at)
    }

    /// What a delimiter is followed by.
    fn behind(&mut self) -> Result<Option<State>, MultipartError> {
        if self.buffer.starts_with(b"--") {
            return Ok(Some(State::Over));
        }
        let padding = self.buffer.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        match &self.buffer[padding..] {
            [b'\r', b'\n', ..] => {
                // The end of this line stays, as it may be the first half of an empty one.
                self.buffer.advance(padding);
                self.parts += 1;
                Ok(Some(State::Head))
            }
            [] | [b'\r'] | [b'-'] if padding < MAX_HEAD => Ok(None),
            _ => Err(MultipartError::LongDelimiter(self.parts)),
        }
    }

    /// The headers up to their empty line. Of that the last end of line may be the first of a delimiter: then the part has
    /// no content at all.
    fn head(&mut self) -> Result<Option<Head>, MultipartError> {
        let Some(end) = memmem::find(&self.buffer, EMPTY_LINE).filter(|end| *end <= MAX_HEAD) else {
            let is_long = self.buffer.len() > MAX_HEAD + EMPTY_LINE.len();
            return if is_long { Err(MultipartError::LongHead(self.parts)) } else { Ok(None) };
        };
        let rest = &self.buffer[end + 2..];
        let is_empty = rest.starts_with(&self.delimiter);
        if !is_empty && self.delimiter.starts_with(rest) {
            return Ok(None);
        }
        let head = Head::parse(self.parts, &self.buffer[2..end + EMPTY_LINE.len()])?;
        self.buffer.advance(end + if is_empty { 2 } else { EMPTY_LINE.len() });
        Ok(Some(head))
    }
}

const EMPTY_LINE: &[u8] = b"\r\n\r\n";

/// How a search for the delimiter ended.
#[derive(Debug)]
enum UpTo {
    Delimiter,
    Data(Bytes),
    Nothing,
}

#[cfg(test)]
mod tests;
