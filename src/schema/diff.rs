//! What changed between two versions of an upstream's schema, and what of it breaks callers.
//!
//! Compared is what callers can see: services, methods and the messages that these reach, by field number on the wire and by
//! name in JSON. **Invariant**: the list has a bound, however much has changed; the count has none.

use std::fmt;
use std::sync::Arc;

use hashbrown::HashSet;

use super::{Cardinality, Enum, EnumId, Field, Kind, Message, MessageId, Method, Schema, Service};

/// Sentences that are kept.
const MAX_KEPT: usize = 100;

/// What changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// What breaks callers, a sentence each; at most 100 of them.
    pub breaking: Vec<String>,
    /// How many such changes there are.
    pub breaking_count: usize,
    /// How many other changes there are among services, methods, fields and enum values: those that are new.
    pub added: usize,
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.breaking.join("; "))?;
        match self.breaking_count - self.breaking.len() {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// Whether two schemas came from the same descriptors.
pub fn is_same(old: &Schema, new: &Schema) -> bool {
    let files = |schema: &Schema| {
        let mut files: Vec<_> = schema.files.iter().map(|file| (Arc::clone(&file.name), file.bytes.clone())).collect();
        files.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        files
    };
    let services = |schema: &Schema| {
        let mut names: Vec<_> = schema.services.iter().map(|service| Arc::clone(&service.name)).collect();
        names.sort_unstable();
        names
    };
    services(old) == services(new) && old.problems == new.problems && files(old) == files(new)
}

/// Compares two schemas of one upstream.
pub fn diff(old: &Schema, new: &Schema) -> Diff {
    let mut comparing = Comparing {
        old,
        new,
        diff: Diff::default(),
        messages: HashSet::new(),
        enums: HashSet::new(),
        open: Vec::new(),
    };
    for service in &old.services {
        comparing.service(service);
    }
    while let Some(id) = comparing.open.pop() {
        comparing.message(old.message(id));
    }
    let known: HashSet<&str> = old.services.iter().map(|service| &*service.name).collect();
    comparing.diff.added += new.services.iter().filter(|service| !known.contains(&*service.name)).count();
    comparing.diff
}

struct Comparing<'s> {
    old: &'s Schema,
    new: &'s Schema,
    diff: Diff,
    /// Those of the old schema that were met.
    messages: HashSet<MessageId>,
    enums: HashSet<EnumId>,
    /// Of these, those that are not compared yet.
    open: Vec<MessageId>,
}

impl Comparing<'_> {
    fn breaks(&mut self, text: String) {
        self.diff.breaking_count += 1;
        if self.diff.breaking.len() < MAX_KEPT {
            self.diff.breaking.push(text);
        }
    }

    fn service(&mut self, old: &Service) {
        let Some(new) = self.new.services.iter().find(|service| service.name == old.name) else {
            return self.breaks(format!("service {} is gone", old.name));
        };
        for method in &old.methods {
            match new.methods.iter().find(|other| other.name == method.name) {
                Some(other) => self.method(method, other),
                None => self.breaks(format!("method {} is gone", method.name)),
            }
        }
        let is_new = |method: &&Method| !old.methods.iter().any(|known| known.name == method.name);
        self.diff.added += new.methods.iter().filter(is_new).count();
    }

    fn method(&mut self, old: &Method, new: &Method) {
        for (what, before, after) in [
            ("takes", old.client_streaming, new.client_streaming),
            ("returns", old.server_streaming, new.server_streaming),
        ] {
            if before != after {
                let kind = if after { "a stream" } else { "one message" };
                self.breaks(format!("method {} now {what} {kind}", old.name));
            }
        }
        for (what, before, after) in [("takes", old.input, new.input), ("returns", old.output, new.output)] {
            let (before_name, after_name) = (&self.old.message(before).name, &self.new.message(after).name);
            if before_name == after_name {
                self.meet(before);
            } else {
                let text = format!("method {} now {what} {after_name} instead of {before_name}", old.name);
                self.breaks(text);
            }
        }
        let rule = old.http_rule();
        if rule.is_some() && rule != new.http_rule() {
            self.breaks(format!("method {} has another HTTP rule", old.name));
        }
    }

    fn meet(&mut self, message: MessageId) {
        if self.messages.insert(message) {
            self.open.push(message);
        }
    }

    fn message(&mut self, old: &Message) {
        // Messages of that name are there wherever a method or a field leads to one of that name.
        let Some(new) = self.new.message_named(&old.name).map(|id| self.new.message(id)) else { return };
        for field in &old.fields {
            match new.fields.iter().find(|other| other.number == field.number) {
                Some(other) => self.field(&old.name, field, other),
                None => self.breaks(format!("field {}.{} is gone", old.name, field.name)),
            }
        }
        for field in new.fields.iter().filter(|field| !old.fields.iter().any(|known| known.number == field.number)) {
            if field.cardinality == Cardinality::Required {
                self.breaks(format!("field {}.{} is new and required", old.name, field.name));
            } else {
                self.diff.added += 1;
            }
        }
    }

    fn field(&mut self, message: &str, old: &Field, new: &Field) {
        if old.name != new.name || old.json_name != new.json_name {
            self.breaks(format!("field {message}.{} is now called {} (JSON {})", old.name, new.name, new.json_name));
        }
        let (before, after) = (describe(self.old, old), describe(self.new, new));
        if before != after {
            self.breaks(format!("field {message}.{} is now {after} instead of {before}", old.name));
            return;
        }
        match old.kind {
            Kind::Message(id) | Kind::Group(id) => self.meet(id),
            Kind::Enum(id) if self.enums.insert(id) => self.enumeration(self.old.enumeration(id), new.kind),
            _ => {}
        }
    }

    fn enumeration(&mut self, old: &Enum, new: Kind) {
        let Kind::Enum(id) = new else { return };
        let new = self.new.enumeration(id);
        for (name, number) in &old.values {
            if !new.values.iter().any(|(other, value)| other == name && value == number) {
                self.breaks(format!("value {name} = {number} of enum {} is gone", old.name));
            }
        }
        self.diff.added += new.values.iter().filter(|value| !old.values.contains(value)).count();
    }
}

/// The type of a field as callers see it.
fn describe(schema: &Schema, field: &Field) -> String {
    let kind = match field.kind {
        Kind::Enum(id) => format!("enum {}", schema.enumeration(id).name),
        Kind::Message(id) => schema.message(id).name.to_string(),
        Kind::Group(id) => format!("group {}", schema.message(id).name),
        scalar => format!("{scalar:?}").to_lowercase(),
    };
    match field.cardinality {
        // Both are written and read alike, as far as callers are concerned.
        Cardinality::Implicit | Cardinality::Explicit => kind,
        Cardinality::Repeated | Cardinality::Packed => format!("repeated {kind}"),
        Cardinality::Required => format!("required {kind}"),
        Cardinality::Map => format!("map {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::source;

    fn schema(text: &str) -> Schema {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.proto");
        std::fs::write(&file, format!("syntax = \"proto3\"; package a; {text}")).expect("a file");
        source::compile(&[file], &[folder.path().to_owned()]).expect("it compiles")
    }

    const OLD: &str = "service S { rpc A(M) returns (N); rpc B(stream M) returns (N); }
        message M { string one = 1; int32 two = 2; E three = 3; N four = 4; map<string, N> five = 5; }
        message N { repeated string deep = 1; } enum E { ZERO = 0; ONE = 1; } message Unused { string x = 1; }";

    fn broken(new: &str) -> Vec<String> {
        diff(&schema(OLD), &schema(new)).breaking
    }

    #[test]
    fn nothing_and_additions_break_nobody() {
        assert!(is_same(&schema(OLD), &schema(OLD)));
        assert_eq!(diff(&schema(OLD), &schema(OLD)), Diff::default());
        let more = OLD
            .replace("string one = 1;", "string one = 1; string six = 6;")
            .replace("ONE = 1;", "ONE = 1; TWO = 2;")
            .replace("rpc A", "rpc C(M) returns (N); rpc A")
            .replace("message Unused { string x = 1; }", "service T {}");

        let diff = diff(&schema(OLD), &schema(&more));

        assert_eq!((diff.breaking, diff.added), (vec![], 4));
        assert!(!is_same(&schema(OLD), &schema(&more)));
    }

    #[test]
    fn what_breaks_callers_is_named() {
        for (from, to, expected) in [
            ("rpc A(M) returns (N);", "", "method a.S/A is gone"),
            ("rpc B(stream M)", "rpc B(M)", "method a.S/B now takes one message"),
            ("rpc A(M) returns (N)", "rpc A(M) returns (stream N)", "method a.S/A now returns a stream"),
            ("rpc A(M)", "rpc A(N)", "method a.S/A now takes a.N instead of a.M"),
            ("string one = 1;", "", "field a.M.one is gone"),
            ("string one", "bytes one", "field a.M.one is now bytes instead of string"),
            ("string one", "string uno", "field a.M.one is now called uno (JSON uno)"),
            ("repeated string deep", "string deep", "field a.N.deep is now string instead of repeated string"),
            ("ONE = 1;", "UNO = 1;", "value ONE = 1 of enum a.E is gone"),
        ] {
            assert_eq!(broken(&OLD.replace(from, to)), [expected], "{to}");
        }
        assert_eq!(broken("message M {}"), ["service a.S is gone"]);
    }

    #[test]
    fn the_list_has_a_bound() {
        let fields: String = (1..=500).map(|number| format!("string f{number} = {number};")).collect();
        let old = format!("service S {{ rpc A(M) returns (M); }} message M {{ {fields} }}");

        let diff = diff(&schema(&old), &schema("service S { rpc A(M) returns (M); } message M {}"));

        assert_eq!((diff.breaking.len(), diff.breaking_count), (100, 500));
        assert!(diff.to_string().ends_with("field a.M.f100 is gone; and 400 more"));
    }
}
