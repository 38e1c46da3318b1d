//! What callers must be, as it is typed.

use serde_json::Value as Json;

use super::authentication::json;
use crate::config::node::{Node, Value};
use crate::config::problem::Place;
use crate::config::read::{Entries, List, Located, Read, Report, Table, section};
use crate::config::units::Span;

section! {
    /// The services that decide on calls.
    Authorization {
        external: List<Authorizer>,
    }
}

section! {
    /// A service that decides on calls.
    Authorizer {
        name: String,
        upstream: String,
        timeout: Span,
        on_failure: String,
        headers: List<String>,
        reply_headers: List<String>,
        context: Table,
    }
}

section! {
    /// Something that must hold.
    Rule {
        name: String,
        scopes: List<String>,
        claims: Tests,
        headers: Tests,
        methods: List<String>,
        providers: List<String>,
        client_ip: List<String>,
        cel: String,
        any_of: List<Conditions>,
        deny: Conditions,
        external: String,
    }
}

section! {
    /// What holds together or not.
    Conditions {
        scopes: List<String>,
        claims: Tests,
        headers: Tests,
        methods: List<String>,
        providers: List<String>,
        client_ip: List<String>,
        cel: String,
    }
}

section! {
    /// What is asked of one value.
    TestSection {
        equals: Scalar,
        one_of: List<Scalar>,
        contains: Scalar,
        contains_any: List<Scalar>,
        contains_all: List<Scalar>,
        exists: bool,
    }
}

section! {
    /// What the upstream learns of the caller.
    Forwarded {
        headers: Table,
        lists: String,
        credentials: String,
    }
}

/// Rules, one alone, or the word that takes back what was inherited.
#[derive(Debug)]
pub(crate) enum Rules {
    None,
    Listed(List<Rule>),
}

impl Read for Rules {
    fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) if text == "none" => Some(Self::None),
            Value::List(_) => List::read(node, at, report).map(Self::Listed),
            Value::Map(_) => {
                let rule = Located { value: Rule::read(node, at, report)?, at: at.clone() };
                Some(Self::Listed(List { items: vec![rule], written: 1 }))
            }
            Value::Null | Value::Bool(_) | Value::Unsigned(_) | Value::Number(_) | Value::Text(_) => {
                let found = node.value.describe();
                report.problem(at, format!("expected a rule, a list of rules or `none`; found {found}"));
                None
            }
        }
    }
}

/// Claims or headers, with what is asked of each.
#[derive(Debug, Default)]
pub(crate) struct Tests(pub(crate) Vec<(Located<String>, Located<TestSection>)>);

impl Read for Tests {
    fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self> {
        let Value::Map(map) = &node.value else {
            report.problem(at, format!("expected a map of names and tests; found {}", node.value.describe()));
            return None;
        };
        let mut tests: Vec<(Located<String>, Located<TestSection>)> = Vec::with_capacity(map.len());
        for (key, node) in map {
            let place = Place { path: at.path_of(&key.name), position: Some(key.position) };
            if tests.iter().any(|(seen, _)| seen.value == key.name) {
                report.problem(&place, "the key is given twice");
                continue;
            }
            let at = Place { position: Some(node.position), ..place.clone() };
            if let Some(test) = test(node, &at, report) {
                tests.push((Located { value: key.name.clone(), at: place }, Located { value: test, at }));
            }
        }
        Some(Self(tests))
    }
}

/// A value stands for `equals`, a list for `one_of`.
fn test(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<TestSection> {
    let mut test = TestSection::default();
    match &node.value {
        Value::Map(_) => return TestSection::read(node, at, report),
        Value::List(_) => test.one_of = Some(Located { value: List::read(node, at, report)?, at: at.clone() }),
        Value::Null | Value::Bool(_) | Value::Unsigned(_) | Value::Number(_) | Value::Text(_) => {
            test.equals = Some(Located { value: Scalar::read(node, at, report)?, at: at.clone() });
        }
    }
    Some(test)
}

/// A text, a number or a truth value.
#[derive(Debug)]
pub(crate) struct Scalar(pub(crate) Json);

impl Read for Scalar {
    fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self> {
        match &node.value {
            Value::Bool(_) | Value::Unsigned(_) | Value::Number(_) | Value::Text(_) => json(node, at, report).map(Self),
            Value::Null | Value::List(_) | Value::Map(_) => {
                let found = node.value.describe();
                report.problem(at, format!("expected a text, a number, true or false; found {found}"));
                None
            }
        }
    }
}
