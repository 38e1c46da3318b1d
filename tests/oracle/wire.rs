//! Random wire bytes of a message, as a serializer writes them and as only a perverse one would: fields in any order and
//! several times, packed or not against the declaration, long varints, fields that nobody knows.

#![allow(clippy::cast_possible_truncation, reason = "random bits are cut off on purpose")]

use fastrand::Rng;
use portico::pb::google::protobuf::field_descriptor_proto::Type;

use crate::schema::{Field, Kind, Schema, Shape, is_packable};
use crate::text::random_string;

/// Bytes of a message.
pub(crate) fn random(rng: &mut Rng, schema: &Schema, message: usize) -> Vec<u8> {
    let mut wire = Wire { rng, schema };
    wire.message(message, 4)
}

struct Wire<'a> {
    rng: &'a mut Rng,
    schema: &'a Schema,
}

impl Wire<'_> {
    fn message(&mut self, index: usize, depth: usize) -> Vec<u8> {
        let message = &self.schema.messages[index];
        let name = message.full_name.strip_prefix("google.protobuf.").unwrap_or_default();
        let mut pieces = match name {
            "Timestamp" => {
                let range = if self.rng.u8(..30) == 0 { i64::MIN..i64::MAX } else { -62_135_596_800..253_402_300_800 };
                let (seconds, nanos) = (self.rng.i64(range), self.rng.i64(0..1_000_000_000));
                vec![self.number(1, seconds), self.number(2, nanos)]
            }
            "Duration" => {
                let sign = if self.rng.bool() { -1 } else { 1 };
                let (seconds, nanos) = (self.rng.i64(0..315_576_000_000), self.rng.i64(0..1_000_000_000));
                vec![self.number(1, sign * seconds), self.number(2, sign * nanos)]
            }
            "FieldMask" => (0..self.rng.usize(..3)).map(|_| self.path()).collect(),
            "Any" if depth > 0 => vec![self.any(depth)],
            // Without a member it has no form in JSON.
            "Value" => {
                let member = &message.fields[if depth == 0 { 0 } else { self.rng.usize(..message.fields.len()) }];
                let mut piece = Vec::new();
                self.value(member, depth.saturating_sub(1), &mut piece);
                if member.number == 1 {
                    piece = vec![8, 0];
                }
                vec![piece]
            }
            _ => self.fields(&message.fields, depth),
        };
        // A serializer sorts; nobody has to.
        if name != "Value" && self.rng.u8(..3) == 0 {
            self.rng.shuffle(&mut pieces);
        }
        let mut wire = pieces.concat();
        if name.is_empty() && self.rng.u8(..16) == 0 {
            self.unknown(&mut wire);
        }
        wire
    }

    fn fields(&mut self, fields: &[Field], depth: usize) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        let mut oneofs = [false; 4];
        for field in fields {
            let skip = if depth == 0 { 4 } else { 2 };
            if self.rng.u8(..5) < skip {
                continue;
            }
            let again = field.oneof.is_some_and(|oneof| std::mem::replace(&mut oneofs[oneof], true));
            if again && self.rng.u8(..12) != 0 {
                continue;
            }
            let mut piece = Vec::new();
            match field.shape {
                Shape::Plain | Shape::Optional => {
                    self.value(field, depth, &mut piece);
                    if self.rng.u8(..24) == 0 {
                        pieces.push(std::mem::take(&mut piece));
                        self.value(field, depth, &mut piece);
                    }
                }
                Shape::Repeated { .. } => self.repeated(field, depth, &mut piece),
                Shape::Map { key } => {
                    for _ in 0..self.rng.usize(..4) {
                        let entry = self.entry(field, key, depth);
                        delimited(field.number, &entry, &mut piece);
                    }
                }
            }
            pieces.push(piece);
        }
        pieces
    }

    fn repeated(&mut self, field: &Field, depth: usize, out: &mut Vec<u8>) {
        let count = self.rng.usize(..5);
        let declared = field.shape == Shape::Repeated { packed: Some(true) };
        let packed = if self.rng.u8(..8) == 0 { !declared } else { declared };
        if packed && is_packable(field.kind) {
            let mut run = Vec::new();
            for _ in 0..count {
                self.scalar(field.kind, &mut run);
            }
            return delimited(field.number, &run, out);
        }
        for _ in 0..count {
            self.value(field, depth, out);
        }
    }

    fn entry(&mut self, field: &Field, key: Type, depth: usize) -> Vec<u8> {
        let mut entry = Vec::new();
        if self.rng.u8(..10) != 0 {
            let key = Kind::Scalar(key);
            varint(u64::from(8 | wire_type(key)), &mut entry);
            self.scalar(key, &mut entry);
        }
        if self.rng.u8(..10) != 0 {
            let value = Field { number: 2, shape: field.shape, ..field.clone() };
            self.value(&value, depth, &mut entry);
        }
        entry
    }

    /// Tag and value.
    fn value(&mut self, field: &Field, depth: usize, out: &mut Vec<u8>) {
        let (Kind::Message(index) | Kind::Group(index)) = field.kind else {
            varint(u64::from(field.number << 3 | wire_type(field.kind)), out);
            return self.scalar(field.kind, out);
        };
        // `Value` has no empty form.
        let content = if depth == 0 && !self.schema.messages[index].full_name.ends_with(".Value") {
            Vec::new()
        } else {
            self.message(index, depth.saturating_sub(1))
        };
        if self.schema.is_delimited(field) {
            varint(u64::from(field.number << 3 | 3), out);
            out.extend_from_slice(&content);
            varint(u64::from(field.number << 3 | 4), out);
        } else {
            delimited(field.number, &content, out);
        }
    }

    fn scalar(&mut self, kind: Kind, out: &mut Vec<u8>) {
        let bits = if self.rng.u8(..6) == 0 { 0 } else { self.rng.u64(..) >> self.rng.u32(..64) };
        match kind {
            Kind::Scalar(Type::String) => {
                let text = random_string(self.rng);
                varint(text.len() as u64, out);
                out.extend_from_slice(text.as_bytes());
            }
            Kind::Scalar(Type::Bytes) => {
                let length = self.rng.usize(..9);
                varint(length as u64, out);
                out.extend(std::iter::repeat_with(|| self.rng.u8(..)).take(length));
            }
            Kind::Scalar(Type::Double) => out.extend_from_slice(&self.rng.u64(..).to_le_bytes()),
            Kind::Scalar(Type::Float) => out.extend_from_slice(&self.rng.u32(..).to_le_bytes()),
            Kind::Scalar(Type::Fixed64 | Type::Sfixed64) => out.extend_from_slice(&bits.to_le_bytes()),
            Kind::Scalar(Type::Fixed32 | Type::Sfixed32) => out.extend_from_slice(&(bits as u32).to_le_bytes()),
            Kind::Scalar(Type::Bool) => varint(bits & 1, out),
            Kind::Scalar(Type::Int32) => varint(i64::from((bits as u32).cast_signed()).cast_unsigned(), out),
            Kind::Scalar(Type::Uint32 | Type::Sint32) => varint(u64::from(bits as u32), out),
            Kind::Enum(index) => {
                let values = &self.schema.enums[index].values;
                let number = if self.rng.u8(..12) == 0 { 77 } else { values[self.rng.usize(..values.len())].1 };
                varint(i64::from(number).cast_unsigned(), out);
            }
            Kind::Scalar(_) | Kind::Message(_) | Kind::Group(_) if self.rng.u8(..20) == 0 => {
                // Longer than it must be.
                out.extend_from_slice(&[(bits & 127) as u8 | 128, 128, 0]);
            }
            Kind::Scalar(_) | Kind::Message(_) | Kind::Group(_) => varint(bits, out),
        }
    }

    fn number(&self, number: u32, value: i64) -> Vec<u8> {
        let mut out = Vec::new();
        varint(u64::from(number << 3), &mut out);
        varint(value.cast_unsigned(), &mut out);
        out
    }

    fn path(&mut self) -> Vec<u8> {
        let path = ["a", "foo_bar", "a.b_c", "x1", "fooBar", "a__b", "a.2b"][self.rng.usize(..7)];
        let mut out = Vec::new();
        delimited(1, path.as_bytes(), &mut out);
        out
    }

    fn any(&mut self, depth: usize) -> Vec<u8> {
        let mut out = Vec::new();
        if self.rng.u8(..10) == 0 {
            return out;
        }
        let index = self.rng.usize(..self.schema.messages.len());
        let name = format!("type.googleapis.com/{}", self.schema.messages[index].full_name);
        delimited(1, name.as_bytes(), &mut out);
        let content = self.message(index, depth - 1);
        delimited(2, &content, &mut out);
        out
    }

    fn unknown(&mut self, out: &mut Vec<u8>) {
        match self.rng.u8(..4) {
            0 => delimited(60_000, b"what?", out),
            1 => out.extend_from_slice(&self.number(60_001, -1)),
            2 => {
                varint(60_002 << 3 | 3, out);
                out.extend_from_slice(&[8, 1]);
                varint(60_002 << 3 | 4, out);
            }
            _ => {
                varint(60_003 << 3 | 5, out);
                out.extend_from_slice(&[1, 2, 3, 4]);
            }
        }
    }
}

fn wire_type(kind: Kind) -> u32 {
    match kind {
        Kind::Scalar(Type::Double | Type::Fixed64 | Type::Sfixed64) => 1,
        Kind::Scalar(Type::Float | Type::Fixed32 | Type::Sfixed32) => 5,
        Kind::Scalar(Type::String | Type::Bytes) | Kind::Message(_) | Kind::Group(_) => 2,
        Kind::Scalar(_) | Kind::Enum(_) => 0,
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value > 127 {
        out.push((value & 127) as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

fn delimited(number: u32, content: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(number << 3 | 2), out);
    varint(content.len() as u64, out);
    out.extend_from_slice(content);
}
