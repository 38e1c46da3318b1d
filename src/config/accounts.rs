//! Files of those whom the operator knows by name: who has which API key, and what else is known of them.
//!
//! Such a file holds hashes, never a secret itself, and nothing of it is ever printed. It is read once while the
//! configuration is checked, and again by the running gateway whenever it changes.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::file::authentication::{KeyEntry, KeyFile};
use super::node::Node;
use super::problem::{Place, Problem};
use super::read::{List, Located, Read, Report};

/// One caller.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// Unique in its file.
    pub name: Arc<str>,
    /// SHA-256 of its key.
    pub digest: [u8; 32],
    /// What rules and limits may ask of it.
    pub attributes: Map<String, Json>,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Reads a file of API keys: the key `keys` with a list of `name`, `hash` and `attributes`. It may be empty.
///
/// # Errors
/// The file cannot be read, or everything that is wrong in it. No message shows a hash.
pub fn read_keys(path: &Path) -> Result<Vec<Account>, String> {
    read(path, |node, root, report| KeyFile::read(node, root, report).map(|file| accounts(file.keys, report)))
}

/// Reads a file and shows what is wrong in it, each with its place.
fn read<T>(path: &Path, parse: impl FnOnce(&Node, &Place, &mut Report<'_>) -> Option<T>) -> Result<T, String> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name} cannot be read: {error}"))?;
    if text.len() > MAX_FILE {
        return Err(format!("{name} is larger than the limit of {MAX_FILE} bytes"));
    }
    let mut report = Report::new(&|variable| std::env::var(variable).ok());
    let root = Place { path: String::new(), position: None };
    let parsed = match Node::parse(&text) {
        Ok(node) => parse(&node, &root, &mut report),
        Err((position, _)) => {
            // Without the parser's words, which may quote the line.
            report.problem(&Place { position, ..root }, "this is not YAML");
            None
        }
    };
    match parsed {
        Some(parsed) if report.problems.is_empty() => Ok(parsed),
        _ => Err(report.problems.into_iter().map(|problem| shown(problem, &name)).collect::<Vec<_>>().join("\n")),
    }
}

/// A problem without the line that it is in, which may hold a hash.
fn shown(problem: Problem, name: &str) -> String {
    problem.in_file(name, "").to_string()
}

fn accounts(list: Option<Located<List<KeyEntry>>>, report: &mut Report<'_>) -> Vec<Account> {
    let mut accounts: Vec<Account> = Vec::new();
    for entry in list.map(|list| list.value.items).unwrap_or_default() {
        let KeyEntry { name, hash, attributes } = entry.value;
        let (Some(name), Some(hash)) = (name, hash) else {
            report.problem(&entry.at, "an entry has a `name` and a `hash`");
            continue;
        };
        if name.value.is_empty() || accounts.iter().any(|known| *known.name == *name.value) {
            report.problem(&name.at, "the name is empty or stands twice");
        }
        let Some(digest) = hash.parse(report, |text| digest(text)) else { continue };
        let attributes = attributes.map(|attributes| attributes.value.0).unwrap_or_default();
        accounts.push(Account { name: name.value.into(), digest, attributes });
    }
    accounts
}

/// `sha256:` and 64 hexadecimal digits.
fn digest(text: &str) -> Result<[u8; 32], String> {
    let wrong =
        || "expected `sha256:` and 64 hexadecimal digits, as `printf %s KEY | sha256sum` prints them".to_owned();
    let digits = text.strip_prefix("sha256:").filter(|digits| digits.len() == 64).ok_or_else(wrong)?;
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(digest)
}

/// Some hundred thousand entries.
const MAX_FILE: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn read(text: &str) -> Result<Vec<Account>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys.yaml");
        std::fs::write(&path, text).expect("a file");
        read_keys(&path)
    }

    #[test]
    fn attributes_may_be_nested() {
        let text = format!(
            "keys:\n  - {{ name: acme, hash: \"sha256:{HASH}\", attributes: {{ plan: gold, seats: 5, a: [1, {{ b: -1.5 }}] }} }}\n"
        );

        let accounts = read(&text).expect("a good file");

        assert_eq!((accounts.len(), &*accounts[0].name, accounts[0].digest[0]), (1, "acme", 0x9f));
        assert_eq!(
            Json::Object(accounts[0].attributes.clone()),
            serde_json::json!({"plan": "gold", "seats": 5, "a": [1, {"b": -1.5}]})
        );
        assert_eq!(read("keys: []").expect("an empty file"), []);
    }

    #[test]
    fn says_what_is_wrong_and_never_what_the_hash_is() {
        for (text, words) in [
            (format!("keys: [ {{ name: a, hash: \"{HASH}\" }} ]"), "expected `sha256:`"),
            (format!("keys: [ {{ name: a, hash: \"sha256:{HASH}0\" }} ]"), "expected `sha256:`"),
            (format!("keys: [ {{ name: a, hsh: \"sha256:{HASH}\" }} ]"), "did you mean `hash`"),
            (format!("keys: [ {{ hash: \"sha256:{HASH}\" }} ]"), "an entry has a `name`"),
            (format!("keys: [ {{ name: a, hash: sha256:{HASH} }}, {{ name: a, hash: \"sha256:{HASH}\" }} ]"), "twice"),
            (format!("keys: [ {{ name: a, hash: \"{HASH}"), "not YAML"),
        ] {
            let error = read(&text).expect_err("a wrong file");

            assert!(error.contains(words) && error.contains("keys.yaml"), "{error}");
            assert!(!error.contains(HASH), "{error}");
        }
    }
}
