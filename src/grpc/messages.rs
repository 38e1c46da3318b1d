//! Whole messages out of frames that come in pieces, cut anywhere.
//!
//! A message that lies in one piece is handed out as a part of it; only one that is cut is copied together. Invariant: no
//! more than one message is kept beside the piece that came last.

use bytes::{Buf as _, Bytes, BytesMut};

use super::frame::{FrameError, PREFIX};

/// Room made at once for a message that is cut, whatever length it announces.
const FIRST_ROOM: usize = 64 << 10;

/// Takes pieces of a stream of frames, gives messages.
#[derive(Debug)]
pub struct Messages {
    limit: usize,
    /// What is left of the last piece.
    piece: Bytes,
    /// The start of a frame that the last piece did not end.
    cut: BytesMut,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Whether the sender says that it is compressed.
    pub compressed: bool,
    /// The bytes between this frame's prefix and the next.
    pub bytes: Bytes,
}

impl Messages {
    /// At the start of a stream; messages may have up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, piece: Bytes::new(), cut: BytesMut::new() }
    }

    /// Adds the next piece. Those before it must be used up: [`Self::take`] has said `None`.
    pub fn push(&mut self, piece: Bytes) {
        debug_assert!(self.piece.is_empty(), "the last piece is used up");
        self.piece = piece;
    }

    /// The next message; `None` when another piece is needed for it.
    ///
    /// # Errors
    /// A prefix that is malformed or announces more than the limit.
    pub fn take(&mut self) -> Result<Option<Message>, FrameError> {
        if !self.cut.is_empty() {
            return self.take_of_cut();
        }
        let Some((compressed, length)) = self.prefix(&self.piece)? else {
            self.cut.extend_from_slice(&std::mem::take(&mut self.piece));
            return Ok(None);
        };
        if self.piece.len() < PREFIX + length {
            self.cut.reserve((PREFIX + length).min(FIRST_ROOM));
            self.cut.extend_from_slice(&std::mem::take(&mut self.piece));
            return Ok(None);
        }
        self.piece.advance(PREFIX);
        Ok(Some(Message { compressed, bytes: self.piece.split_to(length) }))
    }

    /// The message that has begun in a piece before this one.
    fn take_of_cut(&mut self) -> Result<Option<Message>, FrameError> {
        self.fill(PREFIX);
        let Some((compressed, length)) = self.prefix(&self.cut)? else { return Ok(None) };
        self.fill(PREFIX + length);
        if self.cut.len() < PREFIX + length {
            return Ok(None);
        }
        let mut bytes = self.cut.split().freeze();
        bytes.advance(PREFIX);
        Ok(Some(Message { compressed, bytes }))
    }

    /// Moves what is missing to that length, as far as it is here.
    fn fill(&mut self, length: usize) {
        let missing = length.saturating_sub(self.cut.len()).min(self.piece.len());
        self.cut.extend_from_slice(&self.piece.split_to(missing));
    }

    /// Bytes of the message that has begun and is not whole; none before its prefix is here.
    pub fn begun(&self) -> usize {
        self.prefix(&self.cut).ok().flatten().map_or(0, |(_, length)| length)
    }

    fn prefix(&self, bytes: &[u8]) -> Result<Option<(bool, usize)>, FrameError> {
        let Some(&[flag, a, b, c, d]) = bytes.first_chunk::<PREFIX>() else { return Ok(None) };
        if flag > 1 {
            return Err(FrameError::BadFlag(flag));
        }
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > self.limit {
            return Err(FrameError::TooLarge { length, limit: self.limit });
        }
        Ok(Some((flag == 1, length)))
    }

    /// Whether the stream may end here.
    ///
    /// # Errors
    /// It stands inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.cut.is_empty() && self.piece.is_empty() { Ok(()) } else { Err(FrameError::Truncated) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::frame;

    const LENGTHS: [usize; 4] = [0, 3, 300, 0];

    fn stream() -> Bytes {
        let mut bytes = Vec::new();
        for length in LENGTHS {
            let mut message = frame::open(length);
            message.extend(std::iter::repeat_n(7, length));
            bytes.extend(frame::close(message, 0, length).unwrap());
        }
        bytes.into()
    }

    fn all(pieces: &[Bytes], limit: usize) -> Result<Vec<usize>, FrameError> {
        let mut messages = Messages::new(limit);
        let mut lengths = Vec::new();
        for piece in pieces {
            messages.push(piece.clone());
            while let Some(message) = messages.take()? {
                assert!(message.bytes.iter().all(|byte| *byte == 7) && !message.compressed);
                lengths.push(message.bytes.len());
            }
        }
        messages.finish().map(|()| lengths)
    }

    #[test]
    fn messages_come_whole_wherever_the_stream_is_cut() {
        let bytes = stream();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let pieces = [bytes.slice(..first), bytes.slice(first..second), bytes.slice(second..)];
                assert_eq!(all(&pieces, 300).unwrap(), LENGTHS);
            }
        }
        let single: Vec<_> = (0..bytes.len()).map(|at| bytes.slice(at..=at)).collect();
        assert_eq!(all(&single, 300).unwrap(), LENGTHS);
    }

    #[test]
    fn a_message_in_one_piece_is_not_copied() {
        let bytes = stream();
        let mut messages = Messages::new(300);
        messages.push(bytes.clone());

        messages.take().unwrap();
        let second = messages.take().unwrap().unwrap();

        assert_eq!(second.bytes.as_ptr(), bytes[2 * PREFIX..].as_ptr());
    }

    #[test]
    fn wrong_frames_are_refused_by_their_prefix() {
        assert_eq!(all(&[stream()], 299), Err(FrameError::TooLarge { length: 300, limit: 299 }));
        assert_eq!(all(&[Bytes::from_static(&[2, 0, 0, 0, 0])], 9), Err(FrameError::BadFlag(2)));
        assert_eq!(
            all(&[Bytes::from_static(&[0, 0]), Bytes::from_static(&[0, 0, 2, 7])], 9),
            Err(FrameError::Truncated)
        );
    }
}
