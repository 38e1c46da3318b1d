//! Message frames: five bytes of prefix (a compression flag and a big-endian length), then the message.
//!
//! [`Scanner`] follows the frames of a stream without touching what is in them.

use std::fmt;

use bytes::{BufMut as _, Bytes, BytesMut};

/// Bytes before each message.
pub const PREFIX: usize = 5;

/// Room for a prefix, and for so many bytes of a message that is to be written behind it.
pub fn open(message: usize) -> BytesMut {
    let mut frame = BytesMut::with_capacity(PREFIX + message);
    frame.put_bytes(0, PREFIX);
    frame
}

/// Writes the prefix of an [`open`] frame whose message is complete; `None` when that exceeds the limit, or 4 GiB.
pub fn close(mut frame: BytesMut, flags: u8, limit: usize) -> Option<Bytes> {
    seal(&mut frame, flags, limit)?;
    Some(frame.freeze())
}

/// Like [`close`], in place.
pub fn seal(frame: &mut [u8], flags: u8, limit: usize) -> Option<()> {
    let length = frame.len().checked_sub(PREFIX).filter(|length| *length <= limit)?;
    let [a, b, c, d] = u32::try_from(length).ok()?.to_be_bytes();
    frame.get_mut(..PREFIX)?.copy_from_slice(&[flags, a, b, c, d]);
    Some(())
}

/// Counts and bounds the messages of a stream as its bytes pass by, cut anywhere.
///
/// ```text
///            prefix complete             message complete
///  Prefix ───────────────────▶ Message ───────────────────▶ Prefix
/// ```
#[derive(Debug)]
pub struct Scanner {
    limit: usize,
    /// The highest flag that may stand in a prefix.
    flag: u8,
    state: State,
    messages: u64,
}

#[derive(Debug)]
enum State {
    Prefix { bytes: [u8; PREFIX], have: u8 },
    Message { left: usize },
}

/// What a stream of frames did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// A message is longer than the limit.
    TooLarge {
        /// As the prefix says.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The first byte of a prefix is neither 0 nor 1.
    BadFlag(u8),
    /// The stream ended inside a frame.
    Truncated,
}

impl Scanner {
    /// A scanner at the start of a stream; messages may have up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, flag: 1, state: START, messages: 0 }
    }

    /// The same for a stream whose sender named no encoding: none of its messages may be compressed.
    #[must_use]
    pub fn plain(self) -> Self {
        Self { flag: 0, ..self }
    }

    /// Follows the next bytes.
    ///
    /// # Errors
    /// A prefix that is malformed or announces more than the limit; known before any of that message is passed on
    /// only if the caller drops `bytes`.
    pub fn scan(&mut self, mut bytes: &[u8]) -> Result<(), FrameError> {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Prefix { bytes: prefix, have } => {
                    let start = usize::from(*have);
                    let taken = bytes.len().min(PREFIX - start);
                    prefix[start..start + taken].copy_from_slice(&bytes[..taken]);
                    *have += u8::try_from(taken).expect("at most five");
                    bytes = &bytes[taken..];
                    if usize::from(*have) == PREFIX {
                        let prefix = *prefix;
                        self.begin(prefix)?;
                    }
                }
                State::Message { left } => {
                    let taken = bytes.len().min(*left);
                    *left -= taken;
                    bytes = &bytes[taken..];
                    if *left == 0 {
                        self.state = START;
                    }
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, [flag, a, b, c, d]: [u8; PREFIX]) -> Result<(), FrameError> {
        if flag > self.flag {
            return Err(FrameError::BadFlag(flag));
        }
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > self.limit {
            return Err(FrameError::TooLarge { length, limit: self.limit });
        }
        self.messages += 1;
        self.state = if length == 0 { START } else { State::Message { left: length } };
        Ok(())
    }

    /// Messages whose prefix was seen.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Whether the stream may end here.
    ///
    /// # Errors
    /// It stands inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.is_between_messages() { Ok(()) } else { Err(FrameError::Truncated) }
    }

    /// Whether no frame is under way.
    pub fn is_between_messages(&self) -> bool {
        matches!(self.state, State::Prefix { have: 0, .. })
    }
}

const START: State = State::Prefix { bytes: [0; PREFIX], have: 0 };

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { length, limit } => {
                write!(f, "message of {length} bytes exceeds the limit of {limit}")
            }
            Self::BadFlag(flag) => write!(f, "message frame with compression flag {flag}, which nothing announced"),
            Self::Truncated => f.write_str("stream ended inside a message"),
        }
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Vec<u8> {
        let mut bytes = Vec::new();
        for length in [0usize, 3, 300] {
            let mut message = open(length);
            message.extend(std::iter::repeat_n(7, length));
            bytes.extend(close(message, 0, length).unwrap());
        }
        bytes
    }

    #[test]
    fn counts_messages_wherever_the_stream_is_cut() {
        let bytes = stream();
        for cut in 0..bytes.len() {
            let mut scanner = Scanner::new(300);
            scanner.scan(&bytes[..cut]).unwrap();
            scanner.scan(&bytes[cut..]).unwrap();
            assert_eq!((scanner.messages(), scanner.finish()), (3, Ok(())));
        }
    }

    #[test]
    fn refuses_what_is_too_large_by_its_prefix_alone() {
        let mut scanner = Scanner::new(299);

        let result = scanner.scan(&stream());

        assert_eq!(result, Err(FrameError::TooLarge { length: 300, limit: 299 }));
    }

    #[test]
    fn refuses_unknown_flags_and_truncated_streams() {
        assert_eq!(Scanner::new(9).scan(&[2, 0, 0, 0, 0]), Err(FrameError::BadFlag(2)));
        let mut scanner = Scanner::new(9);
        scanner.scan(&[0, 0, 0, 0, 2, 1]).unwrap();
        assert_eq!(scanner.finish(), Err(FrameError::Truncated));
    }
}
