//! How callers prove who they are, as it is typed.

use serde_json::{Map, Value as Json};

use crate::config::node::{Node, Value};
use crate::config::problem::Place;
use crate::config::read::{Entries, List, Located, Read, Report, section};

section! {
    /// The ways in which callers may prove who they are, by kind.
    Authentication {
        api_keys: List<ApiKeys>,
    }
}

section! {
    /// Keys that the operator gave to callers.
    ApiKeys {
        name: String,
        header: String,
        cookie: String,
        query: String,
        file: String,
    }
}

section! {
    /// A file of keys.
    KeyFile {
        keys: List<KeyEntry>,
    }
}

section! {
    /// Who has a key.
    KeyEntry {
        name: String,
        hash: String,
        attributes: Attributes,
    }
}

section! {
    /// What a method asks of its callers, in full.
    Requirement {
        any_of: List<Demand>,
        all_of: List<Demand>,
        optional: Demand,
    }
}

/// Names and values of the operator's own.
#[derive(Debug, Default)]
pub(crate) struct Attributes(pub(crate) Map<String, Json>);

/// The name of a provider, a list of which any is enough, or a section.
#[derive(Debug)]
pub(crate) enum Demand {
    Name(String),
    Any(List<Self>),
    Section(Box<Requirement>),
}

impl Read for Demand {
    fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self> {
        match &node.value {
            Value::Map(_) => Requirement::read(node, at, report).map(|section| Self::Section(Box::new(section))),
            Value::List(_) => List::read(node, at, report).map(Self::Any),
            Value::Text(_) => String::read(node, at, report).map(Self::Name),
            Value::Null | Value::Bool(_) | Value::Unsigned(_) | Value::Number(_) => {
                let found = node.value.describe();
                report.problem(at, format!("expected a name, a list of names, or a section; found {found}"));
                None
            }
        }
    }
}

impl Read for Attributes {
    fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self> {
        match json(node, at, report)? {
            Json::Object(map) => Some(Self(map)),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => {
                report.problem(at, format!("expected a map; found {}", node.value.describe()));
                None
            }
        }
    }
}

/// Any YAML as JSON.
fn json(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Json> {
    Some(match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Unsigned(value) => Json::from(*value),
        Value::Number(text) => match text.parse() {
            Ok(number) => Json::Number(number),
            Err(_) => {
                report.problem(at, "this is a number that JSON does not have");
                return None;
            }
        },
        Value::Text(_) => Json::String(String::read(node, at, report)?),
        Value::List(items) => Json::Array(items.iter().map(|item| json(item, at, report)).collect::<Option<Vec<_>>>()?),
        Value::Map(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                let place = Place { path: at.path_of(&key.name), position: Some(key.position) };
                if map.insert(key.name.clone(), json(value, &place, report)?).is_some() {
                    report.problem(&place, "the key is given twice");
                }
            }
            Json::Object(map)
        }
    })
}
