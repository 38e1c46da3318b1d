//! How callers prove who they are, as it is typed.

use serde_json::{Map, Value as Json};

use crate::config::node::{Node, Value};
use crate::config::problem::Place;
use crate::config::read::{Entries, List, Located, Read, Report, section};
use crate::config::units::Span;

section! {
    /// The ways in which callers may prove who they are, by kind.
    Authentication {
        jwt: List<Jwt>,
        api_keys: List<ApiKeys>,
        basic: List<Basic>,
        certificates: List<Certificates>,
        introspection: List<Introspection>,
    }
}

section! {
    /// Signed tokens of one issuer.
    Jwt {
        name: String,
        issuer: String,
        audiences: Audiences,
        jwks: Jwks,
        secret: Secret,
        algorithms: List<String>,
        leeway: Span,
        types: List<String>,
        header: String,
        cookie: String,
        query: String,
    }
}

section! {
    /// Keys of an issuer; exactly one of `url`, `file` and `inline`.
    Jwks {
        url: String,
        file: String,
        inline: String,
        refresh: Span,
        min_interval: Span,
        timeout: Span,
        ca: String,
    }
}

section! {
    /// A secret that is shared with an issuer; exactly one of `text`, `base64` and `file`.
    Secret {
        text: String,
        base64: String,
        file: String,
    }
}

section! {
    /// Users with passwords.
    Basic {
        name: String,
        file: String,
        realm: String,
    }
}

section! {
    /// A file of users.
    UserFile {
        users: List<UserEntry>,
    }
}

section! {
    /// Who has a password.
    UserEntry {
        name: String,
        password: String,
        attributes: Attributes,
    }
}

section! {
    /// Certificates of clients.
    Certificates {
        name: String,
    }
}

section! {
    /// Tokens whose issuer is asked about them.
    Introspection {
        name: String,
        url: String,
        client_id: String,
        client_secret: String,
        issuer: String,
        audiences: Audiences,
        cache: Span,
        timeout: Span,
        ca: String,
        header: String,
        cookie: String,
        query: String,
    }
}

/// Names of audiences, or the word `any`.
#[derive(Debug)]
pub(crate) enum Audiences {
    Any,
    Of(List<String>),
}

impl Read for Audiences {
    fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) if text == "any" => Some(Self::Any),
            _ => List::read(node, at, report).map(Self::Of),
        }
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
pub(crate) fn json(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Json> {
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
