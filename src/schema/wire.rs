//! Reads the protobuf wire format of descriptors, one level at a time.
//!
//! Borrows everything and knows no message type: whoever reads decides what a field number means. Bodies of calls are
//! not read here. Nothing panics and nothing is allocated, whatever the bytes are.
//!
//! Format: <https://protobuf.dev/programming-guides/encoding/>.

/// Groups may nest this deep before the bytes count as malformed; the same bound as in protobuf's own parsers.
const MAX_GROUP_DEPTH: u32 = 100;

/// The bytes are not a protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a protobuf message")]
pub(crate) struct Malformed;

/// The value of one field, as far as descriptors need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// Numbers, booleans and enums.
    Varint(u64),
    /// Strings and messages.
    Bytes(&'a [u8]),
    /// Fixed-width numbers and groups: descriptors use them in options only, which nobody here reads.
    Other,
}

/// Walks the fields of one message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// Bytes that were not read yet.
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next field's number and value, `None` at the end of the message.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = self.tag()?;
        Ok(Some((number, self.value(number, wire_type, MAX_GROUP_DEPTH)?)))
    }

    fn value(&mut self, number: u32, wire_type: u8, depth: u32) -> Result<Value<'a>, Malformed> {
        match wire_type {
            0 => Ok(Value::Varint(self.varint()?)),
            1 => self.take(8).map(|_| Value::Other),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                self.take(length).map(Value::Bytes)
            }
            3 => self.skip_group(number, depth.checked_sub(1).ok_or(Malformed)?),
            5 => self.take(4).map(|_| Value::Other),
            _ => Err(Malformed),
        }
    }

    fn skip_group(&mut self, number: u32, depth: u32) -> Result<Value<'a>, Malformed> {
        loop {
            let (inner, wire_type) = self.tag()?;
            if wire_type == 4 {
                return if inner == number { Ok(Value::Other) } else { Err(Malformed) };
            }
            self.value(inner, wire_type, depth)?;
        }
    }

    fn tag(&mut self) -> Result<(u32, u8), Malformed> {
        let tag = u32::try_from(self.varint()?).map_err(|_| Malformed)?;
        let number = tag >> 3;
        if number == 0 {
            return Err(Malformed);
        }
        Ok((number, tag.to_le_bytes()[0] & 7))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (index, &byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f).wrapping_shl(7 * u32::try_from(index).map_err(|_| Malformed)?);
            if byte < 0x80 {
                self.rest = self.rest.get(index + 1..).ok_or(Malformed)?;
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_wire_type_and_skips_groups() {
        let bytes = [
            0x08, 0x96, 0x01, // 1: 150
            0x12, 0x02, b'h', b'i', // 2: "hi"
            0x1d, 1, 2, 3, 4, // 3: fixed32
            0x21, 1, 2, 3, 4, 5, 6, 7, 8, // 4: fixed64
            0x2b, 0x08, 0x01, 0x2c, // 5: group { 1: 1 }
        ];
        let mut reader = Reader::new(&bytes);

        let mut read = Vec::new();
        while let Some(field) = reader.next().unwrap() {
            read.push(field);
        }

        assert_eq!(
            read,
            [
                (1, Value::Varint(150)),
                (2, Value::Bytes(b"hi")),
                (3, Value::Other),
                (4, Value::Other),
                (5, Value::Other)
            ]
        );
    }

    #[test]
    fn refuses_what_is_cut_short_or_out_of_range() {
        let too_deep = [0x2b; 200];
        for bytes in [
            &[0x08][..],
            &[0x12, 0x05, b'h'],
            &[0x00, 0x01],
            &[0x2b, 0x08, 0x01],
            &[0x2b, 0x34],
            &[0x0f],
            &[0x2c],
            &[0xff; 11],
            &too_deep,
        ] {
            assert_eq!(Reader::new(bytes).next(), Err(Malformed), "{bytes:x?}");
        }
    }
}
