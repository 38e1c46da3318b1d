//! From nodes to typed raw values: the [`Read`] trait and the `section!` macro that declares a map with its keys.
//!
//! Reading never stops at an error. What cannot be read is reported and left out, so that everything else is still
//! judged. Ranges, files and references between sections are not judged here but in [`super::resolve`].

use std::path::PathBuf;

use super::environment;
use super::node::{Node, Value};
use super::problem::{Place, Problem, may_hold_secret};
use super::spelling::nearest;
use super::units::{OptionalSpan, Percent, Size, Span, Tenths};

/// Collects what is found while a configuration is read.
pub(crate) struct Report<'a> {
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
    /// Paths of keys that were given, or meant by a misspelled one, and could not be read. Their absence from the
    /// typed section is no news.
    pub(crate) unread: Vec<String>,
    /// Files that were named; whoever watches the configuration watches them too.
    pub(crate) files: Vec<PathBuf>,
    /// Looks up an environment variable; an argument, so that tests need not change the process's own.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) at: Place,
}

/// A list of which unreadable items are left out.
#[derive(Debug)]
pub(crate) struct List<T> {
    pub(crate) items: Vec<Located<T>>,
    /// How many items stand in the file, readable or not.
    pub(crate) written: usize,
}

/// A map whose keys are the operator's own, with texts as values.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) entries: Vec<(Located<String>, Located<String>)>,
}

/// A map whose keys are the operator's own.
#[derive(Debug)]
pub(crate) struct Named<T> {
    pub(crate) entries: Vec<(Located<String>, Located<T>)>,
}

/// The value of a key that only has to be there: `{}` or nothing.
#[derive(Debug)]
pub(crate) struct Marker;

/// A section, or the word `off` in its place.
#[derive(Debug)]
pub(crate) enum Switch<T> {
    Off,
    On(T),
}

/// A section, or the word `none` that takes back what was inherited.
#[derive(Debug)]
pub(crate) enum Clearable<T> {
    None,
    Some(T),
}

/// What can be read from a node.
pub(crate) trait Read: Sized {
    /// What it looks like, for messages.
    const SHAPE: &str = "map";

    /// Reads the node, or reports why not and returns `None`.
    fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self>;
}

/// The entries of a map, taken out one key at a time.
pub(crate) struct Entries<'n> {
    entries: Vec<(&'n str, &'n Node)>,
    at: Place,
}

/// Declares a section of the file: a struct with an optional located value per key, and how it is read.
macro_rules! section {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $key:ident: $type:ty,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Default)]
        pub(crate) struct $name {
            $($(#[$doc])* pub(crate) $key: Option<Located<$type>>,)+
        }

        impl $name {
            /// Every key that the section has.
            pub(crate) const KEYS: &[&str] = &[$(crate::config::read::key(stringify!($key))),+];
        }

        impl Read for $name {
            fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self> {
                let entries = Entries::open(node, at, Self::KEYS, report)?;
                Some(Self { $($key: entries.take(crate::config::read::key(stringify!($key)), report),)+ })
            }
        }
    };
}
pub(crate) use section;

/// The key that a field is named after: `match` for `r#match`.
pub(crate) const fn key(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

impl<'a> Report<'a> {
    pub(crate) fn new(variable: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { problems: Vec::new(), warnings: Vec::new(), unread: Vec::new(), files: Vec::new(), variable }
    }

    pub(crate) fn problem(&mut self, at: &Place, message: impl Into<String>) {
        let mut message = message.into();
        // What stands there instead may be the secret itself.
        if may_hold_secret(&at.path)
            && let Some((expected, _)) = message.split_once("; found ")
        {
            message = expected.to_owned();
        }
        self.problems.push(Problem::new(at.clone(), message));
    }

    pub(crate) fn warn(&mut self, at: &Place, message: impl Into<String>) {
        self.warnings.push(Problem::new(at.clone(), message.into()));
    }
}

impl Place {
    /// The path of a key in a map at this place.
    pub(crate) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The place of an item of a list at this place.
    fn item(&self, index: usize, node: &Node) -> Self {
        Self { path: format!("{}[{index}]", self.path), position: Some(node.position) }
    }
}

impl<T> Located<T> {
    /// Replaces the value by what is made of it; a failure is reported here.
    pub(crate) fn parse<U>(self, report: &mut Report<'_>, parse: impl FnOnce(&T) -> Result<U, String>) -> Option<U> {
        parse(&self.value).map_err(|message| report.problem(&self.at, message)).ok()
    }
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { items: Vec::new(), written: 0 }
    }
}

impl<'n> Entries<'n> {
    /// Opens a map; nothing at all counts as an empty one. Reports unknown and repeated keys.
    pub(crate) fn open(node: &'n Node, at: &Place, known: &[&str], report: &mut Report<'_>) -> Option<Self> {
        let map: &[_] = match &node.value {
            Value::Null => &[],
            Value::Map(map) => map,
            other => {
                report.problem(at, format!("expected a map of {}; found {}", known.join(", "), other.describe()));
                return None;
            }
        };
        let mut entries: Vec<(&str, &Node)> = Vec::with_capacity(map.len());
        for (key, value) in map {
            let name = key.name.as_str();
            let place = Place { path: at.path_of(name), position: Some(key.position) };
            if !known.contains(&name) {
                let near = nearest(name, known);
                report.unread.extend(near.map(|near| at.path_of(near)));
                report.problem(&place, unknown_key(near, known));
            } else if entries.iter().any(|(seen, _)| *seen == name) {
                report.problem(&place, "the key is given twice");
            } else {
                entries.push((name, value));
            }
        }
        Some(Self { entries, at: at.clone() })
    }

    /// Reads the value of a key, if it is there and can be read.
    pub(crate) fn take<T: Read>(&self, name: &str, report: &mut Report<'_>) -> Option<Located<T>> {
        let (_, node) = self.entries.iter().find(|(key, _)| *key == name)?;
        let at = Place { path: self.at.path_of(name), position: Some(node.position) };
        let value = T::read(node, &at, report);
        if value.is_none() {
            report.unread.push(at.path.clone());
        }
        Some(Located { value: value?, at })
    }
}

// === What a key can hold ===

impl<T: Read> Read for List<T> {
    const SHAPE: &str = "list";

    fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self> {
        let Value::List(nodes) = &node.value else {
            report.problem(at, format!("expected a list; found {}", node.value.describe()));
            return None;
        };
        let mut items = Vec::with_capacity(nodes.len());
        for (index, node) in nodes.iter().enumerate() {
            let at = at.item(index, node);
            if let Some(value) = T::read(node, &at, report) {
                items.push(Located { value, at });
            }
        }
        Some(Self { items, written: nodes.len() })
    }
}

impl Read for Table {
    fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self> {
        Named::read(node, at, report).map(|Named { entries }| Self { entries })
    }
}

impl<T: Read> Read for Named<T> {
    fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self> {
        let Value::Map(map) = &node.value else {
            report.problem(at, format!("expected a map; found {}", node.value.describe()));
            return None;
        };
        let mut entries: Vec<(Located<String>, Located<T>)> = Vec::with_capacity(map.len());
        for (key, node) in map {
            let place = Place { path: at.path_of(&key.name), position: Some(key.position) };
            if entries.iter().any(|(seen, _)| seen.value == key.name) {
                report.problem(&place, "the key is given twice");
                continue;
            }
            let at = Place { position: Some(node.position), ..place.clone() };
            if let Some(value) = T::read(node, &at, report) {
                entries.push((Located { value: key.name.clone(), at: place }, Located { value, at }));
            }
        }
        Some(Self { entries })
    }
}

impl<T: Read> Read for Switch<T> {
    fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self> {
        section_or("off", node, at, report).map(|section| section.map_or(Self::Off, Self::On))
    }
}

impl<T: Read> Read for Clearable<T> {
    fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self> {
        section_or("none", node, at, report).map(|section| section.map_or(Self::None, Self::Some))
    }
}

/// A section; `Some(None)` for the word that may stand in its place.
fn section_or<T: Read>(word: &str, node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Option<T>> {
    match &node.value {
        Value::Text(text) if text == word => Some(None),
        Value::Null | Value::Bool(_) | Value::Unsigned(_) | Value::Number(_) | Value::Text(_) => {
            report.problem(at, format!("expected a {} or `{word}`; found {}", T::SHAPE, node.value.describe()));
            None
        }
        Value::Map(_) | Value::List(_) => T::read(node, at, report).map(Some),
    }
}

impl Read for Marker {
    fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self> {
        match &node.value {
            Value::Null => Some(Self),
            Value::Map(map) if map.is_empty() => Some(Self),
            other => {
                report.problem(at, format!("takes nothing but {{}}; found {}", other.describe()));
                None
            }
        }
    }
}

impl Read for String {
    fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) => expand(text, at, report),
            Value::Bool(_) | Value::Unsigned(_) | Value::Number(_) => {
                report.problem(at, format!("expected text; found {}: put it in quotes", node.value.describe()));
                None
            }
            Value::Null | Value::List(_) | Value::Map(_) => {
                report.problem(at, format!("expected text; found {}", node.value.describe()));
                None
            }
        }
    }
}

impl Read for bool {
    fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self> {
        if let Value::Bool(value) = node.value {
            return Some(value);
        }
        scalar(node, at, report, |text| text.parse().ok(), "true or false")
    }
}

impl Read for u64 {
    fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self> {
        if let Value::Unsigned(value) = node.value {
            return Some(value);
        }
        scalar(node, at, report, |text| text.parse().ok(), "a whole number")
    }
}

impl Read for Span {
    fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self> {
        quantity(node, at, report)
    }
}

impl Read for OptionalSpan {
    fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self> {
        quantity(node, at, report)
    }
}

impl Read for Percent {
    fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self> {
        quantity(node, at, report)
    }
}

impl Read for Tenths {
    fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self> {
        quantity(node, at, report)
    }
}

impl Read for Size {
    fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self> {
        quantity(node, at, report)
    }
}

/// A number or truth value that came as text, which is right only for `${VARIABLE}`.
fn scalar<T>(
    node: &Node,
    at: &Place,
    report: &mut Report<'_>,
    parse: impl Fn(&str) -> Option<T>,
    expected: &str,
) -> Option<T> {
    let found = match &node.value {
        Value::Text(text) if text.contains("${") => {
            if let Some(value) = parse(expand(text, at, report)?.trim()) {
                return Some(value);
            }
            // Whatever it holds may be a secret in the wrong place.
            format!("what {text} stands for")
        }
        other => other.describe(),
    };
    report.problem(at, format!("expected {expected}; found {found}"));
    None
}

/// A duration or a size. A bare number goes through the same parser, whose message names the units.
fn quantity<T: std::str::FromStr<Err = String>>(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<T> {
    let text = match &node.value {
        Value::Text(text) if text.contains("${") => {
            let value = expand(text, at, report)?.parse();
            let problem =
                format!("what {text} stands for cannot be read: {}", T::from_str("").err().unwrap_or_default());
            return value.map_err(|_| report.problem(at, problem)).ok();
        }
        Value::Text(text) => text.clone(),
        Value::Unsigned(number) => number.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) => node.value.describe(),
    };
    text.parse().map_err(|message: String| report.problem(at, message)).ok()
}

fn expand(text: &str, at: &Place, report: &mut Report<'_>) -> Option<String> {
    environment::expand(text, report.variable).map_err(|message| report.problem(at, message)).ok()
}

fn unknown_key(near: Option<&str>, known: &[&str]) -> String {
    match near {
        Some(near) => format!("unknown key; did you mean `{near}`?"),
        None => format!("unknown key; known here: {}", known.join(", ")),
    }
}
