//! The configuration as operators are shown it: in the words of the file that it was read from, or that would say the same as
//! the flags. What nobody wrote has its default and is not in it.
//!
//! **Invariant**: no secret is in it, but for one that somebody wrote where none belongs. Environment variables stay names.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::node::{Node, Value as Written};
use super::{LogFormat, SchemaSource, Upstream};
use crate::config::flags::Overrides;

/// Keys by their section; those of an empty section are secrets anywhere.
const SECRETS: &[(&str, &str)] = &[("", "client_secret"), ("", "password"), ("secret", "text"), ("secret", "base64")];
/// In place of a secret.
const HIDDEN: &str = "[hidden]";

/// Sections by their keys.
#[derive(Debug, Clone, Default)]
pub struct Shown(Map<String, Value>);

impl Shown {
    /// A whole file.
    pub(super) fn of(node: &Node) -> Self {
        match value("", "", node) {
            Value::Object(sections) => Self(sections),
            // It configures nothing.
            _ => Self::default(),
        }
    }

    /// Upstreams that flags name.
    pub(super) fn of_upstreams(upstreams: &[Upstream]) -> Self {
        let upstream = |upstream: &Upstream| {
            let endpoints: Vec<_> = upstream.endpoints.fixed().iter().map(|endpoint| &*endpoint.address).collect();
            let mut shown =
                json!({ "name": &*upstream.name, "endpoints": endpoints, "schema": schema(&upstream.schema) });
            if upstream.tls.is_some() {
                shown["tls"] = json!({});
            }
            shown
        };
        let upstreams: Vec<_> = upstreams.iter().map(upstream).collect();
        Self(Map::from_iter([("upstreams".to_owned(), upstreams.into())]))
    }

    /// Puts flags above it.
    pub(super) fn apply(&mut self, overrides: &Overrides) {
        if let Some(address) = overrides.listen {
            let listeners = self.0.entry("listeners").or_insert_with(|| json!([{}]));
            if let Some(only) = listeners.get_mut(0).and_then(Value::as_object_mut) {
                only.insert("address".to_owned(), address.to_string().into());
            }
        }
        if let Some(admin) = overrides.admin {
            let admin = admin.map_or_else(|| "off".into(), |address| json!({ "address": address.to_string() }));
            self.0.insert("admin".to_owned(), admin);
        }
        if let Some(workers) = overrides.workers {
            self.0.insert("workers".to_owned(), workers.into());
        }
        if let Some(format) = overrides.log_format {
            let telemetry = self.0.entry("telemetry").or_insert_with(|| json!({}));
            let log = telemetry.as_object_mut().map(|log| log.entry("access_log").or_insert_with(|| json!({})));
            if let Some(log) = log.and_then(Value::as_object_mut) {
                let format = match format {
                    LogFormat::Text => "text",
                    LogFormat::Json => "json",
                };
                log.insert("format".to_owned(), format.into());
            }
        }
    }

    /// As JSON, for people too.
    pub fn to_json(&self) -> String {
        format!("{:#}\n", Value::Object(self.0.clone()))
    }
}

fn schema(source: &SchemaSource) -> Value {
    match source {
        SchemaSource::Reflection => json!({ "reflection": {} }),
        SchemaSource::None => "none".into(),
        SchemaSource::DescriptorSet(path) => json!({ "descriptor_set": path.display().to_string() }),
        SchemaSource::Proto { files, include } => json!({ "proto": paths(files), "include": paths(include) }),
    }
}

fn paths(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.display().to_string()).collect()
}

/// The value of a key in a section of that name.
fn value(section: &str, key: &str, node: &Node) -> Value {
    if !key.is_empty() && (SECRETS.contains(&("", key)) || SECRETS.contains(&(section, key))) {
        return HIDDEN.into();
    }
    match &node.value {
        Written::Null => Value::Null,
        Written::Bool(value) => (*value).into(),
        Written::Unsigned(number) => (*number).into(),
        Written::Number(text) => text.parse().map_or_else(|_| (&**text).into(), Value::Number),
        Written::Text(text) if key == "url" => address(text).into(),
        Written::Text(text) => text.as_str().into(),
        // Its items are of the same kind.
        Written::List(items) => items.iter().map(|item| value(section, key, item)).collect(),
        Written::Map(entries) => {
            let entries = entries.iter().map(|(name, node)| (name.name.clone(), value(key, &name.name, node)));
            Value::Object(entries.collect())
        }
    }
}

/// A URL without what may be secret in it: who asks, and the query.
fn address(url: &str) -> String {
    let (scheme, rest) =
        url.split_once("://").map_or((String::new(), url), |(scheme, rest)| (format!("{scheme}://"), rest));
    // First who asks, whose password may hold anything.
    let (user, rest) = rest.rsplit_once('@').map_or((String::new(), rest), |(_, rest)| (format!("{HIDDEN}@"), rest));
    let (path, query) = rest.split_once('?').map_or((rest, String::new()), |(path, _)| (path, format!("?{HIDDEN}")));
    format!("{scheme}{user}{path}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_who_asks_and_without_its_query() {
        for (url, shown) in [
            ("redis://:pa?ss@host/0", "redis://[hidden]@host/0"),
            ("https://a@b:c@host/x?y=z", "https://[hidden]@host/x?[hidden]"),
            ("https://host/x", "https://host/x"),
            ("host?q", "host?[hidden]"),
        ] {
            assert_eq!(address(url), shown);
        }
    }

    #[test]
    fn is_what_was_written_without_secrets() {
        let text = "
listeners: [{ address: \"0.0.0.0:80\", limits: { max_headers: 7 } }]
redis: { url: \"redis://me:pw@10.0.0.1:6379/0\", username: me, password: s3cret }
authentication:
  jwt:
    - { name: a, secret: { text: s3cret }, leeway: 5s }
    - { name: b, secret: { base64: czNjcmV0 } }
    - { name: c, jwks: { url: \"https://keys.example.com/k?token=s3cret\" } }
  introspection: [{ client_id: \"${ID}\", client_secret: s3cret }]
";
        let node = Node::parse(text).expect("YAML");

        let mut shown = Shown::of(&node);
        let overrides = Overrides {
            listen: Some(([127, 0, 0, 1], 81).into()),
            admin: Some(None),
            workers: Some(3),
            log_format: Some(LogFormat::Json),
        };
        shown.apply(&overrides);

        let expected = json!({
            "listeners": [{ "address": "127.0.0.1:81", "limits": { "max_headers": 7 } }],
            "redis": { "url": "redis://[hidden]@10.0.0.1:6379/0", "username": "me", "password": "[hidden]" },
            "authentication": {
                "jwt": [
                    { "name": "a", "secret": { "text": "[hidden]" }, "leeway": "5s" },
                    { "name": "b", "secret": { "base64": "[hidden]" } },
                    { "name": "c", "jwks": { "url": "https://keys.example.com/k?[hidden]" } },
                ],
                "introspection": [{ "client_id": "${ID}", "client_secret": "[hidden]" }],
            },
            "admin": "off",
            "workers": 3,
            "telemetry": { "access_log": { "format": "json" } },
        });
        assert_eq!(serde_json::from_str::<Value>(&shown.to_json()).expect("JSON"), expected);
        let flags = crate::config::Config::from_flags(&["10.0.0.1:50051".to_owned()], &SchemaSource::Reflection, None);
        let expected = json!({ "upstreams": [{ "name": "10.0.0.1:50051", "endpoints": ["10.0.0.1:50051"], "schema": { "reflection": {} } }] });
        assert_eq!(Value::Object(flags.expect("right flags").shown.0), expected);
    }
}
