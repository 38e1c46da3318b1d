//! The buffer that both directions write to.
//!
//! The end of the [`BytesMut`] is kept filled with zeros and written over, so that small writes of a fixed size are one
//! bounds check and one store. **Invariant**: when an [`Out`] is dropped, the buffer ends where its writer stopped.

use bytes::BytesMut;

use super::wire::{Tag, WireType};
use super::words;

/// Writes to the end of a buffer.
#[derive(Debug)]
pub(super) struct Out<'b> {
    /// Whose buffer it is; empty meanwhile.
    owner: &'b mut BytesMut,
    buffer: BytesMut,
    /// Where the next byte goes; what follows is room.
    at: usize,
}

/// Start of a length-delimited run, see [`Out::begin`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Run(usize);

impl<'b> Out<'b> {
    /// Appends to `buffer`; about `expected` bytes will come.
    pub(super) fn new(owner: &'b mut BytesMut, expected: usize) -> Self {
        let mut buffer = std::mem::take(owner);
        let at = buffer.len();
        buffer.resize(at + expected + 64, 0);
        Self { owner, buffer, at }
    }

    /// Bytes in the buffer up to here.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.at
    }

    /// Takes back everything after `at`.
    #[inline]
    pub(super) fn rewind(&mut self, at: usize) {
        debug_assert!(at <= self.at, "rewinds only");
        self.at = at;
    }

    /// Everything from `start` on.
    #[inline]
    pub(super) fn since(&self, start: usize) -> &[u8] {
        &self.buffer[start..self.at]
    }

    /// Everything that stands before the cursor.
    #[inline]
    pub(super) fn written(&self) -> &[u8] {
        &self.buffer[..self.at]
    }

    /// Overwrites one byte that was written before.
    #[inline]
    pub(super) fn patch(&mut self, at: usize, byte: u8) {
        self.buffer[at] = byte;
    }

    /// Room for `length` bytes; [`Out::advance`] makes them count.
    #[inline]
    pub(super) fn window(&mut self, length: usize) -> &mut [u8] {
        if self.buffer.len() - self.at < length {
            self.grow(length);
        }
        &mut self.buffer[self.at..self.at + length]
    }

    /// Counts bytes that were written to a window.
    #[inline]
    pub(super) fn advance(&mut self, length: usize) {
        self.at += length;
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, length: usize) {
        let size = self.buffer.len() + length.max(self.buffer.len()).max(64);
        self.buffer.resize(size, 0);
    }

    /// Appends a byte.
    #[inline]
    pub(super) fn byte(&mut self, byte: u8) {
        self.window(1)[0] = byte;
        self.at += 1;
    }

    /// Appends bytes.
    #[inline]
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        copy(self.window(bytes.len()), bytes);
        self.at += bytes.len();
    }

    /// Appends the first `length` bytes of a word.
    #[inline]
    pub(super) fn word(&mut self, word: u64, length: usize) {
        self.window(8).copy_from_slice(&word.to_le_bytes());
        self.at += length;
    }

    /// Appends a tag.
    #[inline]
    pub(super) fn tag(&mut self, tag: Tag) {
        self.window(8).copy_from_slice(tag.padded());
        self.at += tag.len();
    }

    /// Appends a varint.
    #[inline]
    pub(super) fn varint(&mut self, value: u64) {
        let window = self.window(8);
        if value < 0x80 {
            window[0] = (value & 0x7f) as u8;
            self.at += 1;
        } else if let Some((length, word)) = words::to_varint(value) {
            window.copy_from_slice(&word.to_le_bytes());
            self.at += length;
        } else {
            self.long_varint(value);
        }
    }

    /// Nine or ten bytes, as every negative number has. The highest bit of the value, which is the tenth byte, is also the
    /// mark on the ninth that one more follows.
    fn long_varint(&mut self, value: u64) {
        let [start, end] = [words::start_of_varint(value), value >> 56].map(u64::to_le_bytes);
        let is_ten = usize::from(end[0] >> 7);
        let window = self.window(10);
        window[..8].copy_from_slice(&start);
        window[8] = end[0];
        window[9] = 1;
        self.at += 9 + is_ten;
    }

    /// Appends a number without its tag.
    #[inline]
    pub(super) fn scalar(&mut self, wire_type: WireType, bits: u64) {
        match wire_type {
            WireType::Fixed64 => self.bytes(&bits.to_le_bytes()),
            WireType::Fixed32 => self.bytes(&((bits & 0xffff_ffff) as u32).to_le_bytes()),
            WireType::Varint | WireType::Delimited | WireType::StartGroup | WireType::EndGroup => self.varint(bits),
        }
    }

    /// Appends a tag, a length and so many bytes.
    #[inline]
    pub(super) fn delimited(&mut self, tag: Tag, bytes: &[u8]) {
        self.tag(tag);
        self.varint(bytes.len() as u64);
        self.bytes(bytes);
    }

    /// Opens a run whose length is not known yet. One byte is left for it, which is enough for most.
    #[inline]
    pub(super) fn begin(&mut self) -> Run {
        self.byte(0);
        Run(self.at)
    }

    /// Closes a run: writes its length in front. Gives by how many bytes its content moved, because the length needs
    /// more than the one that was left.
    #[inline]
    pub(super) fn end(&mut self, Run(start): Run) -> usize {
        let length = self.at - start;
        if length < 0x80 {
            self.buffer[start - 1] = (length as u64 & 0x7f) as u8;
            return 0;
        }
        self.end_long(start, length)
    }

    fn end_long(&mut self, start: usize, length: usize) -> usize {
        let Some((width, word)) = words::to_varint(length as u64) else { return 0 };
        let extra = width - 1;
        self.window(extra);
        self.buffer.copy_within(start..self.at, start + extra);
        self.buffer[start - 1..start + extra].copy_from_slice(&word.to_le_bytes()[..width]);
        self.at += extra;
        extra
    }
}

impl Drop for Out<'_> {
    fn drop(&mut self) {
        self.buffer.truncate(self.at);
        *self.owner = std::mem::take(&mut self.buffer);
    }
}

/// Copies bytes to as many others. Most are few: two moves of a fixed size, which may overlap, beat a call.
#[inline]
pub(super) fn copy(to: &mut [u8], from: &[u8]) {
    if from.len() > 32 {
        to.copy_from_slice(from);
    } else if !(copy_ends::<16>(to, from) || copy_ends::<8>(to, from) || copy_ends::<4>(to, from)) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
        }
    }
}

/// Copies the first `N` and the last `N` bytes; `false` if there are less.
#[inline]
fn copy_ends<const N: usize>(to: &mut [u8], from: &[u8]) -> bool {
    let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) else { return false };
    if let Some(to) = to.first_chunk_mut() {
        *to = *first;
    }
    if let Some(to) = to.last_chunk_mut() {
        *to = *last;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_put_in_front_whatever_its_width() {
        for length in [0usize, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
            let mut buffer = BytesMut::from(&b"head"[..]);
            let mut out = Out::new(&mut buffer, 0);
            let run = out.begin();
            out.bytes(&vec![7; length]);
            out.end(run);
            drop(out);

            let mut expected = b"head".to_vec();
            prost::encoding::encode_varint(length as u64, &mut expected);
            expected.resize(expected.len() + length, 7);
            assert!(buffer == expected, "length {length}");
        }
    }

    #[test]
    fn varints_match_the_reference() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX >> 1, u64::MAX] {
            let mut buffer = BytesMut::new();
            Out::new(&mut buffer, 0).varint(value);

            let mut expected = Vec::new();
            prost::encoding::encode_varint(value, &mut expected);
            assert_eq!(buffer, expected);
        }
    }
}
