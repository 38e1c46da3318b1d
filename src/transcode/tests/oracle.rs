//! The same messages through prost-reflect, both ways, and bytes that are no messages.
//!
//! Where we differ on purpose the generated values stay away (of duplicate keys the last one wins there, they are refused
//! here) or [`equal`] knows it.

use std::sync::LazyLock;

use proptest::prelude::*;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor};
use serde_json::{Value, json};

use super::{PLAIN, plans, to_json, to_wire, to_wire_with};
use crate::config::Json;

static KINDS: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    let mut set = Vec::new();
    for file in plans().schema().files() {
        prost::encoding::encode_key(1, prost::encoding::WireType::LengthDelimited, &mut set);
        prost::encoding::encode_varint(file.bytes.len() as u64, &mut set);
        set.extend_from_slice(&file.bytes);
    }
    DescriptorPool::decode(set.as_slice()).unwrap().get_message_by_name("test.Kinds").unwrap()
});

fn oracle_reads(text: &str) -> Result<DynamicMessage, String> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let message = DynamicMessage::deserialize_with_options(KINDS.clone(), &mut deserializer, &options)
        .map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(message)
}

fn oracle_writes(message: &DynamicMessage) -> Option<Value> {
    serde_json::to_value(message).ok()
}

fn decoded(wire: &[u8]) -> Option<DynamicMessage> {
    DynamicMessage::decode(KINDS.clone(), wire).ok()
}

/// Compared as JSON: empty lists count as set there, and the content of an `Any` may have its fields in any order. (Its
/// `Debug` never ends on a recursive type, so nothing is asserted equal directly.)
fn same(one: &DynamicMessage, other: &DynamicMessage) -> bool {
    match (oracle_writes(one), oracle_writes(other)) {
        (Some(one), Some(other)) => equal(&one, &other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

fn string() -> BoxedStrategy<Value> {
    prop_oneof!["[a-z]{0,12}", "\\PC{0,20}", "[\"\\\\\n\t\u{0}é😀/a]{0,20}"].prop_map(Value::from).boxed()
}

fn bytes() -> BoxedStrategy<Value> {
    use base64::Engine as _;
    prop::collection::vec(any::<u8>(), 0..20)
        .prop_map(|bytes| Value::from(base64::engine::general_purpose::STANDARD.encode(bytes)))
        .boxed()
}

fn double() -> BoxedStrategy<Value> {
    prop_oneof![
        any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(Value::from),
        (-1000i64..1000).prop_map(Value::from),
        Just(json!("NaN")),
        Just(json!("Infinity")),
    ]
    .boxed()
}

fn float() -> BoxedStrategy<Value> {
    any::<f32>().prop_filter("finite", |value| value.is_finite()).prop_map(|value| json!(f64::from(value))).boxed()
}

fn number<T: Arbitrary + Into<i128> + Copy + 'static>() -> BoxedStrategy<Value> {
    any::<T>()
        .prop_flat_map(|value| {
            let wide: i128 = value.into();
            let text = wide.to_string();
            let number: Value = serde_json::from_str(&text).unwrap();
            prop_oneof![Just(number), Just(Value::from(text))]
        })
        .boxed()
}

fn color() -> BoxedStrategy<Value> {
    prop_oneof![
        Just(json!("RED")),
        Just(json!("NEGATIVE")),
        Just(json!("COLOR_UNSPECIFIED")),
        (-10..10).prop_map(Value::from)
    ]
    .boxed()
}

fn timestamp() -> BoxedStrategy<Value> {
    (1i32..9999, 1u32..13, 1u32..29, 0u32..24, 0u32..60, 0u32..1_000_000_000)
        .prop_map(|(y, m, d, h, s, n)| json!(format!("{y:04}-{m:02}-{d:02}T{h:02}:{s:02}:07.{n:09}Z")))
        .boxed()
}

fn free(depth: u32) -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-1000i64..1000).prop_map(|value| json!(f64::from(i32::try_from(value).unwrap()))),
        string(),
    ];
    leaf.prop_recursive(depth, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{0,4}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
    .boxed()
}

fn list(element: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop::collection::vec(element, 0..5).prop_map(Value::from).boxed()
}

fn map(key: impl Strategy<Value = String> + 'static, value: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop::collection::btree_map(key, value, 0..12).prop_map(|map| Value::Object(map.into_iter().collect())).boxed()
}

fn scalars() -> Vec<(&'static str, BoxedStrategy<Value>)> {
    vec![
        ("Double", double()),
        ("Float", float()),
        ("Int32", number::<i32>()),
        ("Int64", number::<i64>()),
        ("Uint32", number::<u32>()),
        ("Uint64", number::<u64>()),
        ("Sint32", number::<i32>()),
        ("Sint64", number::<i64>()),
        ("Fixed32", number::<u32>()),
        ("Fixed64", number::<u64>()),
        ("Sfixed32", number::<i32>()),
        ("Sfixed64", number::<i64>()),
        ("Bool", any::<bool>().prop_map(Value::from).boxed()),
        ("String", string()),
        ("Bytes", bytes()),
        ("Color", color()),
    ]
}

fn well_known() -> Vec<(&'static str, BoxedStrategy<Value>)> {
    let duration = (-315_575_999_999i64..315_575_999_999, 0..1_000_000_000u32)
        .prop_map(|(seconds, nanos)| json!(format!("{seconds}.{nanos:09}s")))
        .boxed();
    let any_value = prop_oneof![
        Just(json!({"@type": "type.googleapis.com/test.Author", "givenName": "U", "birthYear": 5})),
        Just(json!({"@type": "type.googleapis.com/google.protobuf.Int64Value", "value": "5"})),
        Just(json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"a": [1.0, null]}})),
    ];
    vec![
        ("wTime", timestamp()),
        ("wDuration", duration),
        (
            "wMask",
            prop_oneof!["[a-z]{1,5}(,[a-z]{1,3}[A-Z][a-z]{0,3})?", Just(String::new())].prop_map(Value::from).boxed(),
        ),
        ("wStruct", map("[a-z]{0,5}", free(3))),
        ("wValue", free(3)),
        ("wList", list(free(3))),
        ("wAny", any_value.boxed()),
        ("wEmpty", Just(json!({})).boxed()),
        ("wDouble", double()),
        ("wInt64", number::<i64>()),
        ("wUint32", number::<u32>()),
        ("wBool", any::<bool>().prop_map(Value::from).boxed()),
        ("wString", string()),
        ("wBytes", bytes()),
        ("rwTime", list(timestamp())),
        ("rwValue", list(free(2))),
        ("rwInt32", list(number::<i32>())),
        ("rwList", list(list(free(2)))),
    ]
}

fn fields(depth: u32) -> Vec<(String, BoxedStrategy<Value>)> {
    let mut fields = Vec::new();
    for (name, strategy) in scalars() {
        fields.push((format!("f{name}"), strategy.clone()));
        fields.push((format!("r{name}"), list(strategy.clone())));
        if ["Double", "Int32", "Bool", "String", "Bytes", "Color", "Uint32"].contains(&name) {
            fields.push((format!("o{name}"), strategy));
        }
    }
    fields.extend(well_known().into_iter().map(|(name, strategy)| (name.to_owned(), strategy)));
    let integer = |range: std::ops::Range<i64>| range.prop_map(|value| value.to_string());
    fields.push(("mString".into(), map("[a-zé\"]{0,5}", string())));
    fields.push(("mInt32".into(), map(integer(-50..50), number::<i32>())));
    fields.push(("mBool".into(), map("true|false", color())));
    fields.push(("mUint64".into(), map(integer(0..i64::MAX), double())));
    fields.push(("mSint32".into(), map(integer(-5..5), bytes())));
    fields.push(("mValue".into(), map("[a-z]{0,2}", free(2))));
    fields.push(("mTime".into(), map(integer(-5..5), timestamp())));
    fields.push(("rUnpacked".into(), list(number::<i32>())));
    fields.push(("@odd".into(), string()));
    if depth > 0 {
        fields.push(("fKinds".into(), kinds(depth - 1)));
        fields.push(("rKinds".into(), list(kinds(depth - 1))));
        fields.push(("mKinds".into(), map(integer(-50..50), kinds(depth - 1))));
        let member =
            prop_oneof![Just(("cInt32", number::<i32>())), Just(("cString", string())), Just(("cKinds", kinds(0)))];
        let oneof = member.prop_flat_map(|(name, strategy)| strategy.prop_map(move |value| json!({ name: value })));
        fields.push(("".into(), oneof.boxed()));
    }
    fields
}

/// A JSON object of the message, with few fields each.
fn kinds(depth: u32) -> BoxedStrategy<Value> {
    let fields = fields(depth);
    let count = fields.len();
    prop::collection::btree_set(0..count, 0..6)
        .prop_flat_map(move |chosen| {
            chosen
                .into_iter()
                .map(|index| {
                    let (name, strategy) = fields[index].clone();
                    strategy.prop_map(move |value| (name.clone(), value))
                })
                .collect::<Vec<_>>()
        })
        .prop_map(|members| {
            let mut object = serde_json::Map::new();
            for (name, value) in members {
                match value {
                    Value::Object(member) if name.is_empty() => object.extend(member),
                    value => {
                        object.insert(name, value);
                    }
                }
            }
            Value::Object(object)
        })
        .boxed()
}

/// Equal but for the order of members and the spelling of numbers.
fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            // A float is written there with the digits of a double.
            one == other || one.to_string().parse::<f32>() == other.to_string().parse::<f32>()
        }
        // In a wrapper they become `null` there, against the mapping.
        (Value::String(name), Value::Null) => ["NaN", "Infinity", "-Infinity"].contains(&name.as_str()),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| equal(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            // Negative zero counts as the default there; protobuf's own implementations write it.
            let matches = |(name, one): (&String, &Value)| match other.get(name) {
                Some(other) => equal(one, other),
                None => one.as_f64() == Some(0.0),
            };
            one.iter().all(matches) && other.keys().all(|name| one.contains_key(name))
        }
        _ => one == other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_ways_agree_with_prost_reflect(value in kinds(2), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let expected = oracle_reads(&text);
        let wire = to_wire(&text);
        prop_assert!(expected.is_ok(), "{:?} {}", expected.err(), text);
        prop_assert!(wire.is_ok(), "{:?} {}", wire, text);
        let (expected, wire) = (expected.unwrap(), wire.unwrap());
        prop_assert!(same(&decoded(&wire).unwrap(), &expected), "{}\n{}", text, to_json(&wire).unwrap());

        let written: Value = serde_json::from_str(&to_json(&wire).unwrap()).unwrap();
        let oracle = oracle_writes(&expected).unwrap();
        prop_assert!(equal(&written, &oracle), "{}\n{}", written, oracle);
        // Twice the same bytes are merged: the slow way.
        let doubled = [wire.as_slice(), wire.as_slice()].concat();
        let written: Value = serde_json::from_str(&to_json(&doubled).unwrap()).unwrap();
        let oracle = oracle_writes(&decoded(&doubled).unwrap()).unwrap();
        prop_assert!(equal(&written, &oracle), "{}\n{}", written, oracle);
    }

    #[test]
    fn mutated_bytes_never_panic_and_mean_the_same(
        value in kinds(2),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..6),
    ) {
        let mut wire = to_wire(&value.to_string()).unwrap();
        for (place, byte, how) in changes {
            let at = place.index(wire.len() + 1);
            match how {
                0 => wire.insert(at, byte),
                1 if at < wire.len() => { wire.remove(at); }
                _ if at < wire.len() => wire[at] = byte,
                _ => wire.push(byte),
            }
        }
        let written = to_json(&wire);
        if let Some(oracle) = decoded(&wire).as_ref().and_then(oracle_writes)
            && let Ok(written) = &written
        {
            let written: Value = serde_json::from_str(written).unwrap();
            prop_assert!(equal(&written, &oracle), "{:?}\n{}\n{}", wire, written, oracle);
        }
    }

    #[test]
    fn mutated_text_never_panics_and_means_the_same(
        value in kinds(2),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"{}[]\",:0123456789.eE+-ntfu\\ a\xc3".to_vec()), 0..3u8), 1..4),
    ) {
        let mut text = value.to_string().into_bytes();
        for (place, byte, how) in changes {
            let at = place.index(text.len() + 1);
            match how {
                0 => text.insert(at, byte),
                1 if at < text.len() => { text.remove(at); }
                _ if at < text.len() => text[at] = byte,
                _ => text.push(byte),
            }
        }
        let ignore = Json { ignore_unknown_fields: true, ..PLAIN };
        let lenient = to_wire_with(plans(), "test.Kinds", &text, ignore);
        let strict = to_wire_with(plans(), "test.Kinds", &text, PLAIN);
        if let Ok(strict) = &strict {
            prop_assert_eq!(lenient.as_ref().unwrap(), strict);
            let text = std::str::from_utf8(&text).unwrap();
            if let Ok(expected) = oracle_reads(text) {
                prop_assert!(same(&decoded(strict).unwrap(), &expected), "{}\n{}", text, to_json(strict).unwrap());
            }
        }
    }
}
