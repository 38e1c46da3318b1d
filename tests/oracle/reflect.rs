//! The same by prost-reflect, and what it means for two of its messages to say the same.

use portico::config::Json;
use prost_reflect::prost::Message as _;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage as _, SerializeOptions, Syntax, Value,
};
use serde_json::Value as Tree;

/// Of two integers.
pub(crate) const EQUAL_AS_DOUBLES: &str = "integers that are equal as doubles";

/// The well-known types and those of the set.
pub(crate) fn pool(set: &[u8]) -> DescriptorPool {
    let mut pool = DescriptorPool::global();
    pool.decode_file_descriptor_set(set).expect("random schemas are sound");
    pool
}

pub(crate) fn read(descriptor: &MessageDescriptor, text: &[u8], json: Json) -> Result<DynamicMessage, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let options = DeserializeOptions::new().deny_unknown_fields(!json.ignore_unknown_fields);
    let message = DynamicMessage::deserialize_with_options(descriptor.clone(), &mut deserializer, &options)
        .map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(message)
}

pub(crate) fn write(message: &DynamicMessage, json: Json) -> Result<Tree, String> {
    let options = SerializeOptions::new()
        .stringify_64_bit_integers(!json.int64_as_number)
        .use_enum_numbers(json.enums_as_numbers)
        .use_proto_field_name(json.preserve_proto_names)
        .skip_default_fields(!json.emit_defaults);
    message.serialize_with_options(serde_json::value::Serializer, &options).map_err(|error| error.to_string())
}

/// What is different between our text and the one that is written there, but for the order of members and the notation of
/// floats.
pub(crate) fn text_difference(ours: &Tree, theirs: &Tree) -> Option<String> {
    let same = match (ours, theirs) {
        (Tree::Number(one), Tree::Number(other)) if ours.is_f64() || theirs.is_f64() => {
            // A float has the digits of a double there.
            one.as_f64() == other.as_f64() || one.to_string().parse::<f32>() == other.to_string().parse::<f32>()
        }
        // In a wrapper they become `null` there, against the mapping.
        (Tree::String(name), Tree::Null) => ["NaN", "Infinity", "-Infinity"].contains(&name.as_str()),
        (Tree::Array(one), Tree::Array(other)) if one.len() == other.len() => {
            return one.iter().zip(other).find_map(|(one, other)| text_difference(one, other));
        }
        (Tree::Object(one), Tree::Object(other)) => {
            let is_empty = one.get("@type").and_then(Tree::as_str).is_some_and(|url| url.ends_with("protobuf.Empty"));
            // An `Empty` in an `Any` has a value there; protojson writes none.
            let is_missing = |name: &&String| !(one.contains_key(*name) || (is_empty && *name == "value"));
            if let Some(name) = other.keys().find(is_missing) {
                return Some(format!("{name} is not written"));
            }
            return one.iter().find_map(|(name, one)| match other.get(name) {
                Some(other) => text_difference(one, other).map(|difference| format!("{name}: {difference}")),
                // Minus zero counts as the default there; protobuf's own implementations write it.
                None if one.as_f64() == Some(0.0) => None,
                None => Some(format!("{name} is written")),
            });
        }
        _ => ours == theirs,
    };
    (!same).then(|| format!("written {ours}, and there {theirs}"))
}

/// What is different between two messages of one type; `None` if they say the same.
pub(crate) fn difference(one: &DynamicMessage, other: &DynamicMessage) -> Option<String> {
    if one.descriptor().full_name() == "google.protobuf.Any" {
        return any_difference(one, other);
    }
    if is_null(one) && is_null(other) {
        return None;
    }
    one.descriptor().fields().find_map(|field| {
        if field.supports_presence() && one.has_field(&field) != other.has_field(&field) {
            return Some(format!("{}: presence", field.name()));
        }
        // Neither has it; of a recursive type the default would have no end.
        if field.supports_presence() && !one.has_field(&field) {
            return None;
        }
        let (one, other) = (one.get_field(&field), other.get_field(&field));
        value_difference(&one, &other).map(|difference| format!("{}: {difference}", field.name()))
    })
}

/// A `Value` without a member is written as `null`, and so read as the null value.
fn is_null(message: &DynamicMessage) -> bool {
    let mut members = message.fields();
    message.descriptor().full_name() == "google.protobuf.Value"
        && members.next().is_none_or(|(member, _)| member.name() == "null_value")
}

/// The fields of what is inside may stand in any order.
fn any_difference(one: &DynamicMessage, other: &DynamicMessage) -> Option<String> {
    match (content(one), content(other)) {
        (Some(one), Some(other)) if one.descriptor() == other.descriptor() => difference(&one, &other),
        _ => (one.encode_to_vec() != other.encode_to_vec()).then(|| "Any".to_owned()),
    }
}

fn content(any: &DynamicMessage) -> Option<DynamicMessage> {
    let (Value::String(url), Value::Bytes(value)) =
        (any.get_field_by_name("type_url")?.into_owned(), any.get_field_by_name("value")?.into_owned())
    else {
        return None;
    };
    let descriptor = any.descriptor().parent_pool().get_message_by_name(url.rsplit('/').next()?)?;
    // The types of the well-known messages know only each other.
    DynamicMessage::decode(descriptor, value).ok()
}

fn value_difference(one: &Value, other: &Value) -> Option<String> {
    let same = match (one, other) {
        (Value::F64(one), Value::F64(other)) => one == other || (one.is_nan() && other.is_nan()),
        (Value::F32(one), Value::F32(other)) => one == other || (one.is_nan() && other.is_nan()),
        (Value::Message(one), Value::Message(other)) => return difference(one, other),
        (Value::List(one), Value::List(other)) => {
            if one.len() != other.len() {
                return Some(format!("{} elements and {}", one.len(), other.len()));
            }
            return one.iter().zip(other).find_map(|(one, other)| value_difference(one, other));
        }
        (Value::Map(one), Value::Map(other)) => {
            let different = |(key, one): (&MapKey, &Value)| match other.get(key) {
                Some(other) => value_difference(one, other),
                None => Some(format!("{key:?} is missing")),
            };
            if one.len() != other.len() {
                return Some(format!("{} entries and {}", one.len(), other.len()));
            }
            return one.iter().find_map(different);
        }
        // `null` for a map or for a list of `Value`; the latter becomes a message there, which is no list.
        (Value::List(list), Value::Message(_)) => list.is_empty(),
        (Value::Map(map), Value::List(list)) | (Value::List(list), Value::Map(map)) => {
            map.is_empty() && list.is_empty()
        }
        (Value::I64(one), Value::I64(other)) if one != other && *one as f64 == *other as f64 => {
            return Some(EQUAL_AS_DOUBLES.to_owned());
        }
        (Value::U64(one), Value::U64(other)) if one != other && *one as f64 == *other as f64 => {
            return Some(EQUAL_AS_DOUBLES.to_owned());
        }
        _ => one == other,
    };
    (!same).then(|| format!("{} and {}", shown(one), shown(other)))
}

/// `Debug` of a message never ends where its type is recursive.
fn shown(value: &Value) -> String {
    match value {
        Value::Message(_) => "message".to_owned(),
        Value::List(list) => format!("list of {}", list.len()),
        Value::Map(map) => format!("map of {}", map.len()),
        scalar => format!("{scalar:?}"),
    }
}

/// Whether a value of a closed enum stands somewhere that the enum does not have: it is kept there.
pub(crate) fn has_unknown_enum(message: &DynamicMessage) -> bool {
    let inside = content_of_any(message).is_some_and(|content| has_unknown_enum(&content));
    inside || message.fields().any(|(field, value)| unknown_in(&field, value))
}

fn content_of_any(message: &DynamicMessage) -> Option<DynamicMessage> {
    if message.descriptor().full_name() == "google.protobuf.Any" { content(message) } else { None }
}

fn unknown_in(field: &FieldDescriptor, value: &Value) -> bool {
    match value {
        Value::Message(message) => has_unknown_enum(message),
        Value::List(list) => list.iter().any(|value| unknown_in(field, value)),
        Value::Map(map) => {
            let Kind::Message(entry) = field.kind() else { return false };
            map.values().any(|value| unknown_in(&entry.map_entry_value_field(), value))
        }
        Value::EnumNumber(number) => match field.kind() {
            Kind::Enum(kind) => kind.parent_file().syntax() == Syntax::Proto2 && kind.get_value(*number).is_none(),
            _ => false,
        },
        _ => false,
    }
}
