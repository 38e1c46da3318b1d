//! JSON in which no name stands twice.
//!
//! A token whose claims are given twice means one thing to one reader and another to the next
//! ([RFC 7519 §4](https://www.rfc-editor.org/rfc/rfc7519#section-4)), so that here it means nothing. Nesting is bounded by the
//! parser.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads an object.
///
/// # Errors
/// The text is no JSON, no object, or has a name twice, at whatever depth.
pub fn object(text: &[u8]) -> Result<Map<String, Value>, NoObject> {
    match serde_json::from_slice::<Strict>(text) {
        Ok(Strict(Value::Object(map))) => Ok(map),
        _ => Err(NoObject),
    }
}

/// The text is no JSON, no object, or has a name twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoObject;

/// A value whose names are unique.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("no number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((name, Strict(value))) = entries.next_entry::<String, Strict>()? {
            if map.insert(name, value).is_some() {
                return Err(de::Error::custom("a name stands twice"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_stand_twice_are_refused_at_every_depth() {
        let good = br#"{"a":1,"b":[{"a":-1.5},"x",null,true],"c":{"a":18446744073709551615}}"#;
        assert_eq!(Value::Object(object(good).expect("good")), serde_json::from_slice::<Value>(good).expect("good"));
        for bad in [
            &br#"{"a":1,"a":1}"#[..],
            br#"{"a":1,"\u0061":1}"#,
            br#"{"a":{"b":1,"b":2}}"#,
            br#"{"a":[{"b":1,"b":2}]}"#,
            b"[]",
            b"1",
            b"",
            b"{} {}",
            b"{\"a\":1,}",
            b"{\"a\":1e400}",
            b"{\"a\":NaN}",
            b"{\"a\":\"\xff\"}",
            b"\xef\xbb\xbf{}",
        ] {
            assert_eq!(object(bad), Err(NoObject), "{}", String::from_utf8_lossy(bad));
        }
        let deep = [br#"{"a":"#.repeat(200), b"1".to_vec(), b"}".repeat(200)].concat();
        assert_eq!(object(&deep), Err(NoObject));
    }
}
