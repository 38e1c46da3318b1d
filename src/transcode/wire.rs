//! The protobuf wire format: tags, and a cursor over the fields of one message.
//!
//! Format: <https://protobuf.dev/programming-guides/encoding/>. Nothing here knows a message type. The cursor accepts
//! what protobuf's own parsers accept (overlong varints, any field order) and refuses what they refuse (field number 0,
//! groups that do not match, truncation). Nothing panics, whatever the bytes are.

use std::fmt;

use super::words;
use crate::schema::Kind;

/// How a value is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WireType {
    Varint = 0,
    Fixed64 = 1,
    Delimited = 2,
    StartGroup = 3,
    EndGroup = 4,
    Fixed32 = 5,
}

impl WireType {
    /// Of one value of the kind.
    pub(super) fn of(kind: Kind) -> Self {
        match kind.wire_type() {
            1 => Self::Fixed64,
            2 => Self::Delimited,
            3 => Self::StartGroup,
            5 => Self::Fixed32,
            _ => Self::Varint,
        }
    }

    /// Whether values of this layout may stand in one packed run.
    pub(super) fn is_packable(self) -> bool {
        matches!(self, Self::Varint | Self::Fixed32 | Self::Fixed64)
    }
}

/// An encoded tag: field number and wire type. Padded to eight bytes, the last of which is its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag([u8; 8]);

impl Tag {
    /// The tag of a field. Numbers have at most 29 bits, so at most five bytes.
    pub(super) const fn new(number: u32, wire_type: WireType) -> Self {
        let mut value = ((number as u64) << 3) | wire_type as u64;
        let mut bytes = [0; 8];
        let mut length = 0u8;
        while value >= 0x80 {
            bytes[length as usize] = (value & 0x7f) as u8 | 0x80;
            value >>= 7;
            length += 1;
        }
        bytes[length as usize] = (value & 0x7f) as u8;
        bytes[7] = length + 1;
        Self(bytes)
    }

    /// The tag and what follows it in the array.
    #[inline]
    pub(super) fn padded(&self) -> &[u8; 8] {
        &self.0
    }

    /// Bytes of the tag.
    #[inline]
    pub(super) fn len(self) -> usize {
        usize::from(self.0[7])
    }
}

/// A value as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Raw<'m> {
    /// Varint, or the bits of a fixed-width value.
    Bits(u64),
    /// Content of a length-delimited value or of a group.
    Bytes(&'m [u8]),
}

/// Field number and wire type of the value that follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) number: u32,
    pub(super) wire_type: WireType,
}

/// Why bytes are not a protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// A value or the message ends too early.
    Truncated,
    /// More than ten bytes.
    Varint,
    /// Field number 0, wire type 6 or 7, or more than 32 bits.
    Tag,
    /// A group ends that did not start, or another one.
    Group,
    /// Nested too deeply.
    Depth,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "malformed message: it ends in the middle of a field",
            Self::Varint => "malformed message: a varint is longer than ten bytes",
            Self::Tag => "malformed message: a tag is not valid",
            Self::Group => "malformed message: a group ends that was not open",
            Self::Depth => "malformed message: groups are nested more than 100 levels deep",
        })
    }
}

/// Walks the fields of one message.
///
/// What is called for every field is always inlined: results of this shape would be handed over in memory, and reading
/// back what was just written there took a quarter of the time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'m> {
    rest: &'m [u8],
}

impl<'m> Cursor<'m> {
    /// At the start of a message or of a packed run.
    #[inline]
    pub(super) fn new(bytes: &'m [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether nothing is left.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes that are left.
    #[inline]
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next tag, `None` at the end of the message. The end of a group is an error here, see [`Cursor::read`].
    #[inline(always)]
    pub(super) fn head(&mut self) -> Result<Option<Head>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        match self.any_head()? {
            Head { wire_type: WireType::EndGroup, .. } => Err(Malformed::Group),
            head => Ok(Some(head)),
        }
    }

    /// The next tag; `None` at the end of the message, and in front of the end of a group.
    #[inline(always)]
    pub(super) fn head_in_group(&mut self) -> Result<Option<Head>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let before = self.rest;
        match self.any_head()? {
            Head { wire_type: WireType::EndGroup, .. } => {
                self.rest = before;
                Ok(None)
            }
            head => Ok(Some(head)),
        }
    }

    /// Consumes the end of a group.
    pub(super) fn end_group(&mut self, number: u32) -> Result<(), Malformed> {
        match self.any_head()? {
            Head { wire_type: WireType::EndGroup, number: ended } if ended == number => Ok(()),
            _ => Err(Malformed::Group),
        }
    }

    /// That nothing is left: what stands in front of the end of a group that was not open is not all.
    #[inline]
    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed::Group) }
    }

    /// What is left, which is so consumed.
    #[inline]
    pub(super) fn take_rest(&mut self) -> &'m [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Consumes a tag if it is the one that is next, written in as few bytes as can be.
    #[inline(always)]
    pub(super) fn eat(&mut self, tag: &Tag) -> bool {
        match self.rest {
            [first, rest @ ..] if *first == tag.0[0] => {
                if tag.len() == 1 {
                    self.rest = rest;
                    return true;
                }
                self.eat_long(tag)
            }
            _ => false,
        }
    }

    #[inline(never)]
    fn eat_long(&mut self, tag: &Tag) -> bool {
        let rest = tag.0.get(..tag.len()).and_then(|tag| self.rest.strip_prefix(tag));
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    #[inline(always)]
    fn any_head(&mut self) -> Result<Head, Malformed> {
        let tag = u32::try_from(self.varint()?).map_err(|_| Malformed::Tag)?;
        let wire_type = match tag & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Delimited,
            3 => WireType::StartGroup,
            4 => WireType::EndGroup,
            5 => WireType::Fixed32,
            _ => return Err(Malformed::Tag),
        };
        match tag >> 3 {
            0 => Err(Malformed::Tag),
            number => Ok(Head { number, wire_type }),
        }
    }

    /// The value behind a head. A group's content is checked on the way and given without its end tag.
    #[inline(always)]
    pub(super) fn read(&mut self, head: Head) -> Result<Raw<'m>, Malformed> {
        match head.wire_type {
            WireType::StartGroup => self.group(head.number).map(Raw::Bytes),
            WireType::EndGroup => Err(Malformed::Group),
            wire_type => self.value(wire_type),
        }
    }

    /// A value that is no group.
    #[inline(always)]
    pub(super) fn value(&mut self, wire_type: WireType) -> Result<Raw<'m>, Malformed> {
        match wire_type {
            WireType::Varint => self.varint().map(Raw::Bits),
            WireType::Fixed64 => self.array().map(|bytes| Raw::Bits(u64::from_le_bytes(bytes))),
            WireType::Fixed32 => self.array().map(|bytes| Raw::Bits(u64::from(u32::from_le_bytes(bytes)))),
            WireType::Delimited => self.delimited().map(Raw::Bytes),
            WireType::StartGroup | WireType::EndGroup => Err(Malformed::Group),
        }
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<u64, Malformed> {
        match self.rest {
            [first, rest @ ..] if *first < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*first))
            }
            _ => match words::from_varint(words::load(self.rest, 0)) {
                Some((length, value)) if length <= self.rest.len() => {
                    self.rest = self.rest.get(length..).unwrap_or_default();
                    Ok(value)
                }
                _ => self.long_varint(),
            },
        }
    }

    /// A varint that does not end within eight bytes, as that of every negative number, or not at all.
    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let (start, rest) = self.rest.split_first_chunk().ok_or(Malformed::Truncated)?;
        let (end, rest) = match rest {
            [last @ ..0x80, rest @ ..] => (u64::from(*last), rest),
            // The tenth byte has room for one bit; parsers drop the others.
            [next, last @ ..0x80, rest @ ..] => (u64::from(next & 0x7f) | u64::from(*last) << 7, rest),
            [] | [_] => return Err(Malformed::Truncated),
            [_, _, ..] => return Err(Malformed::Varint),
        };
        self.rest = rest;
        Ok(words::join(u64::from_le_bytes(*start)) | end << 56)
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    #[inline(always)]
    fn delimited(&mut self) -> Result<&'m [u8], Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed::Truncated)?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Iterative: unknown groups may be as deep as the sender likes.
    fn group(&mut self, number: u32) -> Result<&'m [u8], Malformed> {
        const MAX_DEPTH: usize = 100;
        let whole = self.rest;
        let mut open = smallvec::SmallVec::<[u32; 8]>::from_slice(&[number]);
        loop {
            let before = self.rest.len();
            let head = self.any_head()?;
            match head.wire_type {
                WireType::StartGroup if open.len() >= MAX_DEPTH => return Err(Malformed::Depth),
                WireType::StartGroup => open.push(head.number),
                WireType::EndGroup => {
                    if open.pop() != Some(head.number) {
                        return Err(Malformed::Group);
                    }
                    if open.is_empty() {
                        return Ok(whole.get(..whole.len() - before).unwrap_or_default());
                    }
                }
                wire_type => {
                    self.value(wire_type)?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Result<Vec<(u32, Raw<'_>)>, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let mut fields = Vec::new();
        while let Some(head) = cursor.head()? {
            fields.push((head.number, cursor.read(head)?));
        }
        Ok(fields)
    }

    #[test]
    fn reads_every_wire_type() {
        let bytes = [
            0x08, 0x96, 0x01, 0x11, 1, 0, 0, 0, 0, 0, 0, 0, 0x1a, 2, b'h', b'i', 0x25, 2, 0, 0, 0, 0x2b, 0x08, 1, 0x33,
            0x34, 0x2c,
        ];

        let expected = vec![
            (1, Raw::Bits(150)),
            (2, Raw::Bits(1)),
            (3, Raw::Bytes(b"hi")),
            (4, Raw::Bits(2)),
            (5, Raw::Bytes(&[0x08, 1, 0x33, 0x34])),
        ];
        assert_eq!(fields(&bytes), Ok(expected));
    }

    #[test]
    fn refuses_what_no_parser_accepts() {
        assert_eq!(fields(&[0x08]), Err(Malformed::Truncated));
        assert_eq!(fields(&[0x12, 5, 1]), Err(Malformed::Truncated));
        assert_eq!(fields(&[0x00, 1]), Err(Malformed::Tag));
        assert_eq!(fields(&[0x0f, 1]), Err(Malformed::Tag));
        assert_eq!(fields(&[0x0c]), Err(Malformed::Group));
        assert_eq!(fields(&[0x0b, 0x14]), Err(Malformed::Group));
        assert_eq!(fields(&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]), Err(Malformed::Varint));
        assert_eq!(fields(&[0x0b; 1000]), Err(Malformed::Depth));
    }

    #[test]
    fn tags_match_the_reference() {
        for number in [1, 15, 16, 2047, 2048, 536_870_911] {
            let mut expected = Vec::new();
            prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut expected);

            let tag = Tag::new(number, WireType::Delimited);
            assert_eq!(&tag.padded()[..tag.len()], expected);
        }
    }
}
