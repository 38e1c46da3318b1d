//! Files that say who may call: who has which API key or password and what else is known of them, and the keys of issuers.
//!
//! Such a file holds hashes or public keys, never a secret itself, and nothing of it is ever printed. It is read once while
//! the configuration is checked, and again by the running gateway whenever it changes.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::contents;
use super::file::authentication::{Attributes, KeyEntry, KeyFile, UserEntry, UserFile};
use super::node::Node;
use super::password::PasswordHash;
use super::problem::{Place, Problem};
use super::read::{Located, Read, Report};
use crate::jose::{Algorithms, KeySet};

/// One caller.
#[derive(Clone, PartialEq, Eq)]
pub struct Account<S> {
    /// Unique in its file.
    pub name: Arc<str>,
    /// What its secret is known by.
    pub secret: S,
    /// What rules and limits may ask of it.
    pub attributes: Map<String, Json>,
}

impl<S> Account<S> {
    /// The attributes with `name`, and with the name as `sub` unless they say otherwise.
    pub fn claims(&self) -> Map<String, Json> {
        let mut claims = self.attributes.clone();
        claims.insert("name".to_owned(), Json::from(&*self.name));
        claims.entry("sub").or_insert_with(|| Json::from(&*self.name));
        claims
    }
}

/// SHA-256 of a key.
pub type Digest = [u8; 32];

impl<S> fmt::Debug for Account<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Reads a file of API keys: the key `keys` with a list of `name`, `hash` and `attributes`, which may be `[]`.
/// A file of nothing is none: it may be about to be written.
///
/// # Errors
/// The file cannot be read, or everything that is wrong in it. No message shows a hash.
pub fn read_keys(path: &Path) -> Result<Vec<Account<Digest>>, String> {
    read(path, |node, root, report| {
        let Some(list) = KeyFile::read(node, root, report)?.keys else { return missing("keys", root, report) };
        let entries = list.value.items.into_iter();
        let entries = entries.map(|entry| {
            let KeyEntry { name, hash, attributes } = entry.value;
            Entry { name, secret: hash, attributes, at: entry.at, needs: "a `name` and a `hash`" }
        });
        Some(accounts(entries, digest, report))
    })
}

/// Reads a file of users: the key `users` with a list of `name`, `password` and `attributes`, which may
/// be `[]`.
///
/// # Errors
/// As [`read_keys`].
pub fn read_users(path: &Path) -> Result<Vec<Account<PasswordHash>>, String> {
    read(path, |node, root, report| {
        let Some(list) = UserFile::read(node, root, report)?.users else { return missing("users", root, report) };
        let entries = list.value.items.into_iter();
        let entries = entries.map(|entry| {
            let UserEntry { name, password, attributes } = entry.value;
            Entry { name, secret: password, attributes, at: entry.at, needs: "a `name` and a `password`" }
        });
        let users = accounts(entries, |text| text.parse(), report);
        for user in users.iter().filter(|user| user.name.contains(':')) {
            report.problem(root, format!("no name of a user has a colon: {:?}", user.name));
        }
        Some(users)
    })
}

/// Reads a file of an issuer's keys: a JWK set, or public keys in PEM.
///
/// # Errors
/// The file cannot be read, has more than 1 MiB, or holds no key that can be used with these algorithms.
pub fn read_key_set(path: &Path, allowed: Algorithms) -> Result<KeySet, String> {
    let read = KeySet::from_text(&contents::read(path, MAX_SET)?, allowed);
    read.map(|read| read.keys).map_err(|problem| format!("{}: {problem}", path.display()))
}

fn missing<T>(key: &str, root: &Place, report: &mut Report<'_>) -> Option<T> {
    report.problem(root, format!("`{key}` is missing; a list of nobody is `{key}: []`"));
    None
}

/// A line of either file.
struct Entry {
    name: Option<Located<String>>,
    secret: Option<Located<String>>,
    attributes: Option<Located<Attributes>>,
    at: Place,
    needs: &'static str,
}

/// Reads a file and shows what is wrong in it, each with its place.
fn read<T>(path: &Path, parse: impl FnOnce(&Node, &Place, &mut Report<'_>) -> Option<T>) -> Result<T, String> {
    let name = path.display().to_string();
    let text = contents::read_text(path, MAX_FILE)?;
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

fn accounts<S>(
    entries: impl Iterator<Item = Entry>,
    parse: impl Fn(&str) -> Result<S, String>,
    report: &mut Report<'_>,
) -> Vec<Account<S>> {
    let mut accounts: Vec<Account<S>> = Vec::new();
    let mut names: HashSet<Arc<str>> = HashSet::new();
    for Entry { name, secret, attributes, at, needs } in entries {
        let (Some(name), Some(secret)) = (name, secret) else {
            report.problem(&at, format!("an entry has {needs}"));
            continue;
        };
        let unique: Arc<str> = name.value.into();
        if unique.is_empty() || !names.insert(Arc::clone(&unique)) {
            report.problem(&name.at, "the name is empty or stands twice");
        }
        let Some(secret) = secret.parse(report, |text| parse(text)) else { continue };
        let attributes = attributes.map(|attributes| attributes.value.0).unwrap_or_default();
        accounts.push(Account { name: unique, secret, attributes });
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
const MAX_FILE: u32 = 64 << 20;
/// As of a set that is fetched.
const MAX_SET: u32 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn read(text: &str) -> Result<Vec<Account<Digest>>, String> {
        read_by(text, read_keys)
    }

    fn read_by<T>(text: &str, read: fn(&Path) -> T) -> T {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys.yaml");
        std::fs::write(&path, text).expect("a file");
        read(&path)
    }

    #[test]
    fn attributes_may_be_nested() {
        let text = format!(
            "keys:\n  - {{ name: acme, hash: \"sha256:{HASH}\", attributes: {{ plan: gold, seats: 5, a: [1, {{ b: -1.5 }}] }} }}\n"
        );

        let accounts = read(&text).expect("a good file");

        assert_eq!((accounts.len(), &*accounts[0].name, accounts[0].secret[0]), (1, "acme", 0x9f));
        assert_eq!(
            Json::Object(accounts[0].attributes.clone()),
            serde_json::json!({"plan": "gold", "seats": 5, "a": [1, {"b": -1.5}]})
        );
        assert_eq!(read("keys: []").expect("a list of nobody"), []);
        for nothing in ["", "# about to be written\n", "{}", "keys:"] {
            assert!(read(nothing).is_err(), "{nothing}");
        }
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

    #[test]
    fn a_set_of_keys_has_a_limit() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys.json");
        let file = std::fs::File::create(&path).expect("a file");
        file.set_len(u64::from(MAX_SET) + 1).expect("a large file");

        let error = read_key_set(&path, Algorithms::from_iter([])).expect_err("it is too large");

        assert!(error.ends_with("keys.json is larger than the limit of 1048576 bytes"), "{error}");
    }

    #[test]
    fn names_the_line_of_a_hash_that_would_take_too_long() {
        let hash = "$argon2id$v=19$m=65536,t=4294967295,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA";
        let text = format!("users:\n  - name: ann\n    password: \"{hash}\"\n");

        let error = read_by(&text, read_users).expect_err("it would take days");

        assert!(error.contains("keys.yaml:3:15: users[0].password: a hash of Argon2 takes at most"), "{error}");
        assert!(error.contains("at most 4194304 KiB in all its passes") && !error.contains("aGFzaGhhc2"), "{error}");
    }
}
