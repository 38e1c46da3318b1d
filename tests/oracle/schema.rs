//! Random schemas: a model that texts and wire bytes are made from, and its descriptors.

use fastrand::Rng;
use portico::pb::google::protobuf as pb;
use portico::pb::google::protobuf::field_descriptor_proto::{Label, Type};
use prost_reflect::prost::Message as _;

/// What a file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syntax {
    Proto2,
    Proto3,
    Edition2023,
}

/// One file, and behind its own messages the well-known ones.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) syntax: Syntax,
    pub(crate) messages: Vec<Message>,
    pub(crate) enums: Vec<Enum>,
    /// Number of messages that are the file's own.
    pub(crate) own: usize,
}

#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) full_name: String,
    /// The message that a group is declared in.
    owner: Option<usize>,
    pub(crate) fields: Vec<Field>,
    oneofs: usize,
    proto3_oneofs: bool,
}

#[derive(Debug)]
pub(crate) struct Enum {
    full_name: String,
    pub(crate) values: Vec<(String, i32)>,
    closed: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// As it is in JSON.
    pub(crate) json_name: String,
    /// Whether that is declared and not derived.
    pub(crate) custom: bool,
    pub(crate) number: u32,
    pub(crate) kind: Kind,
    pub(crate) shape: Shape,
    pub(crate) oneof: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Without presence, where the syntax knows that.
    Plain,
    Optional,
    Repeated {
        packed: Option<bool>,
    },
    Map {
        key: Type,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Scalar(Type),
    Enum(usize),
    Message(usize),
    Group(usize),
}

pub(crate) const SCALARS: [Type; 15] = [
    Type::Double,
    Type::Float,
    Type::Int64,
    Type::Uint64,
    Type::Int32,
    Type::Fixed64,
    Type::Fixed32,
    Type::Bool,
    Type::String,
    Type::Bytes,
    Type::Uint32,
    Type::Sfixed32,
    Type::Sfixed64,
    Type::Sint32,
    Type::Sint64,
];
const KEYS: [Type; 12] = [
    Type::Int64,
    Type::Uint64,
    Type::Int32,
    Type::Fixed64,
    Type::Fixed32,
    Type::Bool,
    Type::String,
    Type::Uint32,
    Type::Sfixed32,
    Type::Sfixed64,
    Type::Sint32,
    Type::Sint64,
];
/// Files of the well-known types.
const IMPORTS: [&str; 7] = ["any", "duration", "empty", "field_mask", "struct", "timestamp", "wrappers"];

impl Schema {
    pub(crate) fn random(rng: &mut Rng, syntax: Syntax) -> Self {
        let (count, enum_count) = (rng.usize(2..6), rng.usize(1..4));
        let enums = (0..enum_count).map(|index| random_enum(rng, index, syntax)).collect();
        let mut schema = Self { syntax, messages: Vec::new(), enums, own: count };
        for index in 0..count {
            let full_name = format!("r.M{index}");
            let proto3_oneofs = syntax == Syntax::Proto3;
            schema.messages.push(Message { full_name, owner: None, fields: Vec::new(), oneofs: 0, proto3_oneofs });
        }
        if syntax == Syntax::Proto2 {
            for index in 0..rng.usize(0..4) {
                let owner = rng.usize(..count);
                let full_name = format!("r.M{owner}.Grp{index}");
                let group =
                    Message { full_name, owner: Some(owner), fields: Vec::new(), oneofs: 0, proto3_oneofs: false };
                schema.messages.push(group);
                schema.own += 1;
            }
        }
        well_known(&mut schema.messages);
        for index in 0..schema.own {
            let (fields, oneofs) = schema.random_fields(rng, index);
            let message = &mut schema.messages[index];
            (message.fields, message.oneofs) = (fields, oneofs);
        }
        schema
    }

    fn random_fields(&self, rng: &mut Rng, message: usize) -> (Vec<Field>, usize) {
        let oneofs = rng.usize(0..3);
        let mut used = vec![0; oneofs];
        let mut number = 0;
        let mut fields = Vec::new();
        for index in 0..rng.usize(0..14) {
            number += if rng.u8(..8) == 0 { rng.u32(1..3000) } else { rng.u32(1..4) };
            let kind = self.random_kind(rng);
            let (name, json_name, custom) = random_name(rng, index);
            let shape = match rng.u8(..8) {
                0 | 1 => Shape::Repeated { packed: [None, Some(true), Some(false)][rng.usize(..3)] },
                2 => Shape::Map { key: KEYS[rng.usize(..KEYS.len())] },
                3 => Shape::Optional,
                _ => Shape::Plain,
            };
            let oneof = (oneofs > 0 && shape == Shape::Plain && rng.u8(..3) == 0).then(|| rng.usize(..oneofs));
            if let Some(oneof) = oneof {
                used[oneof] += 1;
            }
            fields.push(Field { name, json_name, custom, number, kind, shape, oneof });
        }
        for (index, group) in self.messages.iter().enumerate().filter(|(_, group)| group.owner == Some(message)) {
            let name = group.full_name.rsplit('.').next().unwrap_or_default().to_lowercase();
            number += 1;
            let shape = if rng.bool() { Shape::Plain } else { Shape::Repeated { packed: None } };
            let kind = Kind::Group(index);
            fields.push(Field { json_name: name.clone(), name, custom: false, number, kind, shape, oneof: None });
        }
        // A oneof has members.
        for (oneof, count) in used.into_iter().enumerate() {
            if count == 0 {
                number += 1;
                let (name, json_name) = (format!("only_{oneof}"), format!("only{oneof}"));
                let kind = Kind::Scalar(Type::String);
                let (shape, oneof) = (Shape::Plain, Some(oneof));
                fields.push(Field { name, json_name, custom: false, number, kind, shape, oneof });
            }
        }
        // Members of a oneof are declared together.
        fields.sort_by_key(|field| field.oneof.map_or(0, |oneof| oneof + 1));
        (fields, oneofs)
    }

    fn random_kind(&self, rng: &mut Rng) -> Kind {
        match rng.u8(..8) {
            0 => Kind::Enum(rng.usize(..self.enums.len())),
            1 => {
                let index = rng.usize(..self.own);
                if self.messages[index].owner.is_some() { Kind::Message(0) } else { Kind::Message(index) }
            }
            2 | 3 => Kind::Message(rng.usize(self.own..self.messages.len())),
            _ => Kind::Scalar(SCALARS[rng.usize(..SCALARS.len())]),
        }
    }

    /// An encoded `FileDescriptorSet` of the one file.
    pub(crate) fn set(&self) -> Vec<u8> {
        let mut file = pb::FileDescriptorProto {
            name: Some("r.proto".into()),
            package: Some("r".into()),
            dependency: IMPORTS.iter().map(|name| format!("google/protobuf/{name}.proto")).collect(),
            ..Default::default()
        };
        match self.syntax {
            Syntax::Proto2 => {}
            Syntax::Proto3 => file.syntax = Some("proto3".into()),
            Syntax::Edition2023 => {
                file.syntax = Some("editions".into());
                file.edition = Some(pb::Edition::Edition2023.into());
            }
        }
        file.enum_type = self.enums.iter().map(|enumeration| self.describe_enum(enumeration)).collect();
        for (index, message) in self.messages[..self.own].iter().enumerate() {
            if message.owner.is_none() {
                let mut described = self.describe(message);
                for group in self.messages[..self.own].iter().filter(|group| group.owner == Some(index)) {
                    described.nested_type.push(self.describe(group));
                }
                file.message_type.push(described);
            }
        }
        pb::FileDescriptorSet { file: vec![file] }.encode_to_vec()
    }

    fn describe_enum(&self, enumeration: &Enum) -> pb::EnumDescriptorProto {
        let options = (self.syntax == Syntax::Edition2023 && enumeration.closed).then(|| {
            let features =
                pb::FeatureSet { enum_type: Some(pb::feature_set::EnumType::Closed.into()), ..Default::default() };
            pb::EnumOptions { features: Some(features), ..Default::default() }
        });
        let value = |(name, number): &(String, i32)| pb::EnumValueDescriptorProto {
            name: Some(name.clone()),
            number: Some(*number),
            ..Default::default()
        };
        pb::EnumDescriptorProto {
            name: enumeration.full_name.strip_prefix("r.").map(str::to_owned),
            value: enumeration.values.iter().map(value).collect(),
            options,
            ..Default::default()
        }
    }

    fn describe(&self, message: &Message) -> pb::DescriptorProto {
        let mut described =
            pb::DescriptorProto { name: message.full_name.rsplit('.').next().map(str::to_owned), ..Default::default() };
        for index in 0..message.oneofs {
            described
                .oneof_decl
                .push(pb::OneofDescriptorProto { name: Some(format!("one_{index}")), ..Default::default() });
        }
        for field in &message.fields {
            let mut plain = self.describe_field(field.kind, &field.name, field.number);
            plain.json_name = field.custom.then(|| field.json_name.clone());
            plain.label = Some(Label::Optional.into());
            plain.oneof_index = field.oneof.map(index_of);
            let mut features = pb::FeatureSet::default();
            match field.shape {
                Shape::Plain if self.syntax == Syntax::Edition2023 => {
                    let is_message = matches!(field.kind, Kind::Message(_));
                    if field.oneof.is_none() && !is_message && !self.is_closed(field.kind) {
                        features.field_presence = Some(pb::feature_set::FieldPresence::Implicit.into());
                    }
                    if is_message && field.number.is_multiple_of(3) {
                        features.message_encoding = Some(pb::feature_set::MessageEncoding::Delimited.into());
                    }
                }
                Shape::Plain => {}
                Shape::Optional if message.proto3_oneofs => {
                    plain.proto3_optional = Some(true);
                    plain.oneof_index = Some(index_of(described.oneof_decl.len()));
                    let name = Some(format!("_{}", field.name));
                    described.oneof_decl.push(pb::OneofDescriptorProto { name, ..Default::default() });
                }
                Shape::Optional => {}
                Shape::Repeated { packed } => {
                    plain.label = Some(Label::Repeated.into());
                    let packed = packed.filter(|_| is_packable(field.kind));
                    if self.syntax == Syntax::Edition2023 {
                        features.repeated_field_encoding = packed.map(|packed| match packed {
                            true => pb::feature_set::RepeatedFieldEncoding::Packed.into(),
                            false => pb::feature_set::RepeatedFieldEncoding::Expanded.into(),
                        });
                    } else if packed.is_some() {
                        plain.options = Some(pb::FieldOptions { packed, ..Default::default() });
                    }
                }
                Shape::Map { key } => {
                    described.nested_type.push(self.describe_entry(field, key));
                    plain.label = Some(Label::Repeated.into());
                    plain.r#type = Some(Type::Message.into());
                    plain.type_name = Some(format!(".{}.{}", message.full_name, entry_name(&field.name)));
                }
            }
            if features != pb::FeatureSet::default() {
                plain.options = Some(pb::FieldOptions { features: Some(features), ..Default::default() });
            }
            described.field.push(plain);
        }
        described
    }

    fn describe_entry(&self, field: &Field, key: Type) -> pb::DescriptorProto {
        let mut entries =
            [self.describe_field(Kind::Scalar(key), "key", 1), self.describe_field(field.kind, "value", 2)];
        for entry in &mut entries {
            entry.label = Some(Label::Optional.into());
        }
        pb::DescriptorProto {
            name: Some(entry_name(&field.name)),
            field: entries.into(),
            options: Some(pb::MessageOptions { map_entry: Some(true), ..Default::default() }),
            ..Default::default()
        }
    }

    fn describe_field(&self, kind: Kind, name: &str, number: u32) -> pb::FieldDescriptorProto {
        let (kind, type_name) = match kind {
            Kind::Scalar(scalar) => (scalar, None),
            Kind::Enum(index) => (Type::Enum, Some(&self.enums[index].full_name)),
            Kind::Message(index) => (Type::Message, Some(&self.messages[index].full_name)),
            Kind::Group(index) => (Type::Group, Some(&self.messages[index].full_name)),
        };
        pb::FieldDescriptorProto {
            name: Some(name.to_owned()),
            number: Some(number.cast_signed()),
            r#type: Some(kind.into()),
            type_name: type_name.map(|name| format!(".{name}")),
            ..Default::default()
        }
    }

    /// Whether a value is of an enum that refuses unknown numbers.
    pub(crate) fn is_closed(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Enum(index) if self.enums[index].closed)
    }

    /// Whether a submessage travels between group tags.
    pub(crate) fn is_delimited(&self, field: &Field) -> bool {
        matches!(field.kind, Kind::Group(_))
            || (self.syntax == Syntax::Edition2023
                && field.shape == Shape::Plain
                && field.number.is_multiple_of(3)
                && matches!(field.kind, Kind::Message(_)))
    }
}

pub(crate) fn is_packable(kind: Kind) -> bool {
    match kind {
        Kind::Scalar(scalar) => !matches!(scalar, Type::String | Type::Bytes),
        Kind::Enum(_) => true,
        Kind::Message(_) | Kind::Group(_) => false,
    }
}

fn index_of(index: usize) -> i32 {
    i32::try_from(index).expect("schemas are small")
}

fn entry_name(field: &str) -> String {
    let mut name = String::new();
    let mut upper = true;
    for character in field.chars() {
        match character {
            '_' => upper = true,
            _ if std::mem::take(&mut upper) => name.extend(character.to_uppercase()),
            _ => name.push(character),
        }
    }
    name + "Entry"
}

fn random_enum(rng: &mut Rng, index: usize, syntax: Syntax) -> Enum {
    let closed = syntax == Syntax::Proto2 || (syntax == Syntax::Edition2023 && rng.bool());
    let count = rng.i32(1..6);
    let values = (0..count).map(|value| {
        let number = if value > 0 && rng.u8(..4) == 0 { -value } else { value };
        (format!("E{index}_V{value}"), number)
    });
    Enum { full_name: format!("r.E{index}"), values: values.collect(), closed }
}

/// Name, JSON name, and whether the latter is declared.
fn random_name(rng: &mut Rng, index: usize) -> (String, String, bool) {
    match rng.u8(..6) {
        0 => (format!("f{index}"), format!("@x-{index}"), true),
        1 => (format!("some_long_name_{index}"), format!("someLongName{index}"), false),
        2 => (format!("camelCase{index}"), format!("camelCase{index}"), false),
        3 => (format!("a{index}_b"), format!("é\"{index}"), true),
        _ => (format!("f{index}"), format!("f{index}"), false),
    }
}

/// The well-known types, as plain messages.
fn well_known(messages: &mut Vec<Message>) {
    let first = messages.len();
    let mut add = |name: &str, fields: Vec<Field>, oneofs: usize| {
        let full_name = format!("google.protobuf.{name}");
        messages.push(Message { full_name, owner: None, fields, oneofs, proto3_oneofs: false });
    };
    let field = |name: &str, number, kind, shape, oneof| {
        let (name, json_name) = (name.to_owned(), name.to_owned());
        Field { name, json_name, custom: false, number, kind, shape, oneof }
    };
    let plain = |name: &str, number, scalar| field(name, number, Kind::Scalar(scalar), Shape::Plain, None);
    let many = Shape::Repeated { packed: None };
    let (value, structure, list) = (Kind::Message(first), Kind::Message(first + 1), Kind::Message(first + 2));
    let member = |name: &str, number, kind| field(name, number, kind, Shape::Plain, Some(0));
    let members = vec![
        // `null_value`; its only number is 0.
        member("null_value", 1, Kind::Scalar(Type::Bool)),
        member("number_value", 2, Kind::Scalar(Type::Double)),
        member("string_value", 3, Kind::Scalar(Type::String)),
        member("bool_value", 4, Kind::Scalar(Type::Bool)),
        member("struct_value", 5, structure),
        member("list_value", 6, list),
    ];
    add("Value", members, 1);
    add("Struct", vec![field("fields", 1, value, Shape::Map { key: Type::String }, None)], 0);
    add("ListValue", vec![field("values", 1, value, many, None)], 0);
    add("Timestamp", vec![plain("seconds", 1, Type::Int64), plain("nanos", 2, Type::Int32)], 0);
    add("Duration", vec![plain("seconds", 1, Type::Int64), plain("nanos", 2, Type::Int32)], 0);
    add("FieldMask", vec![field("paths", 1, Kind::Scalar(Type::String), many, None)], 0);
    add("Any", vec![plain("type_url", 1, Type::String), plain("value", 2, Type::Bytes)], 0);
    add("Empty", Vec::new(), 0);
    for (name, scalar) in [
        ("DoubleValue", Type::Double),
        ("FloatValue", Type::Float),
        ("Int64Value", Type::Int64),
        ("UInt64Value", Type::Uint64),
        ("Int32Value", Type::Int32),
        ("UInt32Value", Type::Uint32),
        ("BoolValue", Type::Bool),
        ("StringValue", Type::String),
        ("BytesValue", Type::Bytes),
    ] {
        add(name, vec![plain("value", 1, scalar)], 0);
    }
}
