//! What is known of one field.

use crate::schema::{Cardinality, Field, Kind, Message, Schema};
use crate::transcode::wire::{Head, Raw, Tag, WireType};

/// What both directions need to know of a field.
#[derive(Debug)]
pub(in crate::transcode) struct FieldPlan {
    /// `,"jsonName":`, then `,"proto_name":` if that is another one.
    keys: Box<str>,
    /// Where the second key starts; 0 if there is only one.
    proto_key: u32,
    pub(in crate::transcode) number: u32,
    /// Of one value.
    pub(in crate::transcode) kind: Kind,
    /// Layout of one value outside a packed run.
    pub(in crate::transcode) wire_type: WireType,
    /// As it is written: that of the run for packed fields.
    pub(in crate::transcode) tag: Tag,
    pub(in crate::transcode) shape: Shape,
    /// Whether absence means default, so that a default is not written.
    pub(in crate::transcode) implicit: bool,
    /// Whether strings are checked to be UTF-8.
    pub(in crate::transcode) utf8: bool,
    /// Whether it travels as an item of a MessageSet: between the tags of a group, after its number.
    pub(in crate::transcode) in_message_set: bool,
    /// Whether `null` is a value and not absence: `google.protobuf.Value` and `NullValue`.
    pub(in crate::transcode) null_is_value: bool,
    /// Slot of the oneof that it belongs to in the message's [`Seen`](super::Seen).
    pub(in crate::transcode) oneof: Option<u32>,
}

/// How often a field stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transcode) enum Shape {
    Single,
    Repeated,
    Packed,
    Map,
}

impl FieldPlan {
    /// `slots` is the number of fields of the message: the slots of its oneofs follow theirs.
    pub(super) fn compile(schema: &Schema, message: &Message, field: &Field, slots: usize) -> Self {
        // An extension's key is its name in brackets, whatever form of names is asked for.
        let (mut keys, mut proto_key) = (quoted_key(&field.json_name), 0);
        if !field.json_name.starts_with('[') && field.json_name != field.name {
            proto_key = u32::try_from(keys.len()).unwrap_or(0);
            keys.push_str(&quoted_key(&field.name));
        }
        let wire_type = WireType::of(field.kind);
        let shape = match field.cardinality {
            Cardinality::Implicit | Cardinality::Explicit | Cardinality::Required => Shape::Single,
            Cardinality::Packed if wire_type.is_packable() => Shape::Packed,
            Cardinality::Repeated | Cardinality::Packed => Shape::Repeated,
            Cardinality::Map => Shape::Map,
        };
        let null_is_value = match field.kind {
            Kind::Message(id) | Kind::Group(id) => &*schema.message(id).name == "google.protobuf.Value",
            Kind::Enum(id) => &*schema.enumeration(id).name == "google.protobuf.NullValue",
            _ => false,
        };
        Self {
            keys: keys.into(),
            proto_key,
            number: field.number,
            kind: field.kind,
            wire_type,
            tag: Tag::new(field.number, if shape == Shape::Packed { WireType::Delimited } else { wire_type }),
            shape,
            implicit: field.cardinality == Cardinality::Implicit
                && !matches!(field.kind, Kind::Message(_) | Kind::Group(_)),
            utf8: field.utf8,
            in_message_set: message.message_set && shape == Shape::Single && matches!(field.kind, Kind::Message(_)),
            null_is_value,
            oneof: field.oneof.and_then(|oneof| u32::try_from(slots + usize::from(oneof)).ok()),
        }
    }

    /// What the tag says.
    #[inline]
    pub(in crate::transcode) fn head(&self) -> Head {
        let wire_type = if self.shape == Shape::Packed { WireType::Delimited } else { self.wire_type };
        Head { number: self.number, wire_type }
    }

    /// `,"name":` as it is written.
    #[inline]
    pub(in crate::transcode) fn key(&self, proto_names: bool) -> &[u8] {
        let keys = self.keys.as_bytes();
        match self.proto_key as usize {
            0 => keys,
            start if proto_names => &keys[start..],
            end => &keys[..end],
        }
    }

    /// `"name":` as most clients write it.
    #[inline]
    pub(in crate::transcode) fn json_key(&self) -> &[u8] {
        &self.key(false)[1..]
    }

    /// Both names, escaped as in JSON text; the second is that of the `.proto` file.
    pub(super) fn names(&self) -> [&[u8]; 2] {
        [self.key(false), self.key(true)].map(|key| &key[2..key.len() - 2])
    }

    /// Name in the `.proto` file.
    pub(in crate::transcode) fn name(&self) -> &str {
        let start = self.proto_key as usize + 2;
        self.keys.get(start..self.keys.len() - 2).unwrap_or_default()
    }

    /// Tag of the end of a group.
    pub(in crate::transcode) fn end_group(&self) -> Tag {
        Tag::new(self.number, WireType::EndGroup)
    }

    /// Whether the field is declared outside its message.
    pub(in crate::transcode) fn is_extension(&self) -> bool {
        self.json_key().get(1) == Some(&b'[')
    }

    /// Whether a value on the wire is zero or empty. Of a varint that is longer than the type, the upper half is dropped.
    #[inline]
    pub(in crate::transcode) fn is_default(&self, raw: Raw<'_>) -> bool {
        match raw {
            Raw::Bits(0) => true,
            Raw::Bits(bits) => {
                bits << 32 == 0 && matches!(self.kind, Kind::Int32 | Kind::Uint32 | Kind::Sint32 | Kind::Enum(_))
            }
            Raw::Bytes(bytes) => bytes.is_empty(),
        }
    }

    /// Whether many values may stand.
    pub(in crate::transcode) fn is_repeated(&self) -> bool {
        self.shape != Shape::Single
    }
}

/// `,"name":`, escaped: a declared `json_name` may be any text.
fn quoted_key(name: &str) -> String {
    let mut key = String::from(",\"");
    escape_name(name, &mut key);
    key.push_str("\":");
    key
}

/// Escapes a name as [`crate::transcode::decode`] escapes strings.
pub(super) fn escape_name(name: &str, escaped: &mut String) {
    for character in name.chars() {
        match character {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '\0'..='\u{1f}' => escaped.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => escaped.push(character),
        }
    }
}
