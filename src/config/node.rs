//! YAML text as a tree of nodes, each with its position.
//!
//! serde-saphyr stops at the first value of a wrong type. Reading into a tree that takes any value, and judging the
//! tree afterwards ([`super::read`]), is what lets one run report every error of a file. This is the only module that
//! names the YAML crate.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, RenderOptions, SnippetMode, Spanned, UserMessageFormatter};

use super::problem::Position;

/// A value and where it starts.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) position: Position,
}

/// What YAML can hold.
#[derive(Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Unsigned(u64),
    /// Negative or not whole; never right in a configuration, so only its text is kept.
    Number(Box<str>),
    Text(String),
    List(Vec<Node>),
    /// In file order; keys may repeat.
    Map(Vec<(Key, Node)>),
}

/// The name of a map entry and where it stands.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) position: Position,
}

impl Node {
    /// Reads one YAML document; an empty one is [`Value::Null`].
    ///
    /// # Errors
    /// The text is not YAML, holds several documents, or is nested or aliased beyond the parser's budget. Comes with
    /// the position when there is one.
    pub(crate) fn parse(text: &str) -> Result<Self, (Option<Position>, String)> {
        let options = serde_saphyr::options! {
            alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_ALIASED },
            duplicate_keys: DuplicateKeyPolicy::PassThrough,
            strict_booleans: true,
            with_snippet: false,
        };
        serde_saphyr::from_str_with_options::<Spanned<Value>>(text, options).map(Self::from).map_err(|error| {
            let position = error.location().map(|location| Position::from_location(&location));
            let mut plain = RenderOptions::new(&UserMessageFormatter);
            plain.snippets = SnippetMode::Off;
            (position, shorten(&error.render_with_options(plain)))
        })
    }
}

/// Drops the position, which is shown in front of the message, and helps with what strangers to YAML run into.
fn shorten(message: &str) -> String {
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    if message.contains("anchor or alias") {
        return format!("{message}; a value that starts with `*` or `&` stands in quotes");
    }
    message.to_owned()
}

impl From<Spanned<Value>> for Node {
    fn from(spanned: Spanned<Value>) -> Self {
        Self { position: Position::from_location(&spanned.referenced), value: spanned.value }
    }
}

impl Position {
    fn from_location(location: &serde_saphyr::Location) -> Self {
        let clip = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self { line: clip(location.line()), column: clip(location.column()) }
    }
}

impl Value {
    /// What an error message calls the value.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Unsigned(value) => format!("the number {value}"),
            Self::Number(value) => format!("the number {value}"),
            Self::Text(value) => format!("{value:?}"),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a map".to_owned(),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

/// Takes whatever stands there.
struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string().into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string().into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Value>>()? {
            list.push(item.into());
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Spanned<String>, Spanned<Value>>()? {
            let position = Position::from_location(&key.referenced);
            map.push((Key { name: key.value, position }, value.into()));
        }
        Ok(Value::Map(map))
    }
}

/// Parser events that aliases may repeat: far above any configuration, far below what makes a small file a large tree.
const MAX_ALIASED: usize = 20_000;
