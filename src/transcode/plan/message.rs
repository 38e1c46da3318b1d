//! What is known of one message type.

use std::sync::Arc;

use super::field::{FieldPlan, escape_name};
use crate::schema::{Cardinality, Kind, MessageId, Schema};

/// What both directions need to know of a message type.
#[derive(Debug)]
pub(in crate::transcode) struct MessagePlan {
    /// Full name.
    pub(in crate::transcode) name: Arc<str>,
    /// The type's own form in JSON, if it has one.
    pub(in crate::transcode) well_known: Option<WellKnown>,
    /// In the order of declaration, then extensions.
    pub(in crate::transcode) fields: Box<[FieldPlan]>,
    /// Indices of the fields that must be given, which only proto2 and `LEGACY_REQUIRED` have.
    required: Box<[u32]>,
    /// Whether extensions travel as items of a MessageSet.
    pub(in crate::transcode) message_set: bool,
    /// Hash table of names: field index and which of its names, see [`Entry`].
    names: Box<[Entry]>,
    /// Field index by number, for small numbers; [`NONE`] where there is no field.
    dense: Box<[u32]>,
    /// Number and field index of the others, by number.
    sparse: Sparse,
}

/// Types with a form of their own in JSON (<https://protobuf.dev/programming-guides/json/>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transcode) enum WellKnown {
    Any,
    Duration,
    FieldMask,
    HttpBody,
    ListValue,
    Struct,
    Timestamp,
    Value,
    /// `google.protobuf.Int32Value` and its like.
    Wrapper(Kind),
}

/// Field index times two, plus one for the name of the `.proto` file; [`NONE`] if empty.
type Entry = u32;

/// Numbers and field indices, by number.
type Sparse = Box<[(u32, u32)]>;

const NONE: u32 = u32::MAX;

impl MessagePlan {
    pub(super) fn compile(schema: &Schema, id: MessageId) -> Self {
        let message = schema.message(id);
        let extensions = schema.extensions_of(id);
        let slots = message.fields.len() + extensions.len();
        let fields: Box<[FieldPlan]> = message
            .fields
            .iter()
            .chain(extensions.iter().map(|extension| &extension.field))
            .map(|field| FieldPlan::compile(schema, message, field, slots))
            .collect();
        let required = (0u32..)
            .zip(&message.fields)
            .filter(|(_, field)| field.cardinality == Cardinality::Required)
            .map(|(index, _)| index)
            .collect();
        let (dense, sparse) = number_tables(&fields);
        Self {
            name: message.name.clone(),
            well_known: WellKnown::of(&message.name),
            names: name_table(&fields),
            required,
            message_set: message.message_set,
            dense,
            sparse,
            fields,
        }
    }

    /// Index of the field with a JSON name, else with a name of the `.proto` file.
    pub(in crate::transcode) fn field_named(&self, name: &str) -> Option<usize> {
        if name.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
            let mut escaped = String::new();
            escape_name(name, &mut escaped);
            return self.find(escaped.as_bytes());
        }
        self.find(name.as_bytes())
    }

    /// The first required field that is not given.
    #[inline]
    pub(in crate::transcode) fn missing(&self, is_given: impl Fn(usize) -> bool) -> Option<&FieldPlan> {
        let index = self.required.iter().find(|index| !is_given(**index as usize))?;
        Some(&self.fields[*index as usize])
    }

    #[inline]
    fn find(&self, name: &[u8]) -> Option<usize> {
        let mask = self.names.len() - 1;
        let mut place = hash(name) & mask;
        loop {
            let entry = self.names[place];
            if entry == NONE {
                return None;
            }
            let index = (entry / 2) as usize;
            if self.fields[index].names()[(entry % 2) as usize] == name {
                return Some(index);
            }
            place = (place + 1) & mask;
        }
    }

    /// Index of the field with a number.
    #[inline]
    pub(in crate::transcode) fn field_numbered(&self, number: u32) -> Option<usize> {
        match self.dense.get(number as usize) {
            Some(&NONE) => None,
            Some(&index) => Some(index as usize),
            None => {
                let place = self.sparse.binary_search_by_key(&number, |(number, _)| *number).ok()?;
                Some(self.sparse[place].1 as usize)
            }
        }
    }

    /// The field with a number.
    #[inline]
    pub(in crate::transcode) fn numbered(&self, number: u32) -> Option<&FieldPlan> {
        self.field_numbered(number).map(|index| &self.fields[index])
    }
}

impl WellKnown {
    /// By the full name of a type.
    pub(in crate::transcode) fn of(name: &str) -> Option<Self> {
        if name == "google.api.HttpBody" {
            return Some(Self::HttpBody);
        }
        Some(match name.strip_prefix("google.protobuf.")? {
            "Any" => Self::Any,
            "Duration" => Self::Duration,
            "FieldMask" => Self::FieldMask,
            "ListValue" => Self::ListValue,
            "Struct" => Self::Struct,
            "Timestamp" => Self::Timestamp,
            "Value" => Self::Value,
            "DoubleValue" => Self::Wrapper(Kind::Double),
            "FloatValue" => Self::Wrapper(Kind::Float),
            "Int64Value" => Self::Wrapper(Kind::Int64),
            "UInt64Value" => Self::Wrapper(Kind::Uint64),
            "Int32Value" => Self::Wrapper(Kind::Int32),
            "UInt32Value" => Self::Wrapper(Kind::Uint32),
            "BoolValue" => Self::Wrapper(Kind::Bool),
            "StringValue" => Self::Wrapper(Kind::String),
            "BytesValue" => Self::Wrapper(Kind::Bytes),
            _ => return None,
        })
    }

    /// Whether the type is a single value in JSON although it has fields, which may be given one by one where there is no JSON.
    pub(in crate::transcode) fn has_fields(self) -> bool {
        matches!(self, Self::Duration | Self::FieldMask | Self::Timestamp | Self::Wrapper(_))
    }

    /// Whether the type is written as an ordinary object after all. `HttpBody` is known only as a whole body.
    pub(in crate::transcode) fn is_object(self) -> bool {
        self == Self::HttpBody
    }
}

/// Open addressing, at most half full. All JSON names come first, so that they win over the other field whose name in
/// the `.proto` file is the same.
fn name_table(fields: &[FieldPlan]) -> Box<[Entry]> {
    let mut table = vec![NONE; (fields.len() * 4).next_power_of_two().max(2)];
    let mask = table.len() - 1;
    for which in 0..2u32 {
        for (index, field) in (0u32..).zip(fields) {
            let names = field.names();
            if which == 1 && names[0] == names[1] {
                continue;
            }
            let mut place = hash(names[which as usize]) & mask;
            while table[place] != NONE {
                place = (place + 1) & mask;
            }
            table[place] = index * 2 + which;
        }
    }
    table.into()
}

fn number_tables(fields: &[FieldPlan]) -> (Box<[u32]>, Sparse) {
    let highest = fields.iter().map(|field| field.number as usize).max().unwrap_or(0);
    let mut dense = vec![NONE; (highest + 1).min(fields.len() * 4 + 16)];
    let mut sparse = Vec::new();
    for (index, field) in (0u32..).zip(fields) {
        match dense.get_mut(field.number as usize) {
            Some(place) => *place = index,
            None => sparse.push((field.number, index)),
        }
    }
    sparse.sort_unstable();
    (dense.into(), sparse.into())
}

/// The names are the schema's; a client can only ask for them, so the table cannot be turned against us.
#[inline]
fn hash(name: &[u8]) -> usize {
    let mut hash = name.len() as u64;
    for byte in name {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    usize::try_from((hash ^ (hash >> 29)) & 0xffff_ffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Cardinality, Field, Message};

    fn field(name: &str, json_name: &str, number: u32) -> Field {
        Field {
            name: name.into(),
            json_name: json_name.into(),
            number,
            kind: Kind::Int32,
            cardinality: Cardinality::Implicit,
            utf8: true,
            oneof: None,
        }
    }

    fn plan(fields: Vec<Field>) -> MessagePlan {
        let message = Message {
            name: "test.M".into(),
            fields: fields.into(),
            oneofs: Box::default(),
            map_entry: false,
            message_set: false,
        };
        let schema = Schema { messages: vec![message], ..Schema::default() };
        MessagePlan::compile(&schema, MessageId(0))
    }

    #[test]
    fn fields_are_found_by_both_names_and_number() {
        let fields = (1..200).map(|n| field(&format!("field_{n}"), &format!("field{n}"), n * n)).collect();

        let plan = plan(fields);

        for index in 0..199 {
            assert_eq!(plan.field_named(&format!("field_{}", index + 1)), Some(index));
            assert_eq!(plan.field_named(&format!("field{}", index + 1)), Some(index));
            let number = u32::try_from(index + 1).unwrap();
            assert_eq!(plan.field_numbered(number * number), Some(index));
            assert_eq!(plan.field_numbered(number * number + 1), None);
        }
        assert_eq!(plan.field_named("field"), None);
        assert_eq!(plan.field_named(""), None);
    }

    #[test]
    fn json_name_wins_over_anothers_proto_name() {
        let plan = plan(vec![field("b", "x", 1), field("a", "b", 2)]);

        assert_eq!(plan.field_named("b"), Some(1));
        assert_eq!(plan.field_named("x"), Some(0));
        assert_eq!(plan.field_named("a"), Some(1));
    }

    #[test]
    fn message_without_fields_has_none() {
        let plan = plan(Vec::new());

        assert_eq!(plan.field_named("a"), None);
        assert_eq!(plan.field_numbered(1), None);
    }

    #[test]
    fn odd_json_names_are_escaped() {
        let plan = plan(vec![field("a", "quote\"\n", 1)]);

        assert_eq!(plan.field_named("quote\"\n"), Some(0));
        assert_eq!(plan.fields[0].key(false), b",\"quote\\\"\\u000a\":");
        assert_eq!(plan.fields[0].key(true), b",\"a\":");
        assert_eq!(plan.fields[0].name(), "a");
    }
}
