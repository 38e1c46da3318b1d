//! Who calls: what a provider vouches for, as claims.
//!
//! Whatever the caller showed becomes claims, so that rules, limits and hashes treat all alike. Invariant: an [`Identity`]
//! is made only of what was verified.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};
use smallvec::SmallVec;

use crate::config::claim::ClaimPath;

/// What was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A signed token. Claims: its own.
    Jwt,
    /// A name and a password. Claims: as of an API key.
    Basic,
    /// The certificate of the connection. Claims: see [`super::certificate::claims`].
    Certificate,
    /// A token that its issuer was asked about. Claims: the answer without `active`.
    Introspection,
    /// An API key. Claims: its attributes, `name`, and `sub`, which is the name unless the attributes say otherwise.
    ApiKey,
}

/// One caller as one provider knows it. Clones share everything.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity(Arc<Inner>);

#[derive(PartialEq, Eq)]
struct Inner {
    source: Arc<str>,
    kind: Kind,
    claims: Map<String, Value>,
}

impl Identity {
    /// What the provider `source` vouches for.
    pub fn new(source: Arc<str>, kind: Kind, claims: Map<String, Value>) -> Self {
        Self(Arc::new(Inner { source, kind, claims }))
    }

    /// The provider's name.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// What was shown.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Everything that is known.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.0.claims
    }

    /// About how many bytes its claims take.
    pub fn size(&self) -> usize {
        self.0.claims.iter().map(|(name, value)| name.len() + size(value)).sum()
    }

    /// The claim at a path. In a list, a number picks an item.
    pub fn claim(&self, path: &ClaimPath) -> Option<&Value> {
        let mut names = path.names();
        let first = self.0.claims.get(names.next()?)?;
        names.try_fold(first, |value, name| match value {
            Value::Object(map) => map.get(name),
            Value::Array(items) => items.get(name.parse::<usize>().ok()?),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        })
    }
}

/// With its place in whatever holds it. Claims are nested no deeper than they may be written.
fn size(value: &Value) -> usize {
    let inside = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(map) => map.iter().map(|(name, value)| name.len() + size(value)).sum(),
    };
    PLACE + inside
}

/// Bytes of a value and of the name in front of it, without their texts.
const PLACE: usize = size_of::<Value>() + size_of::<String>();

/// Without the claims: they are the caller's own business.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("source", &self.0.source).field("kind", &self.0.kind).finish_non_exhaustive()
    }
}

/// Everything that a caller proved; empty when it had to prove nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identities(SmallVec<[Identity; 1]>);

impl Identities {
    /// One after the other, in the order in which the method asked for them.
    pub fn iter(&self) -> impl Iterator<Item = &Identity> {
        self.0.iter()
    }

    /// Whether nothing was proven.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The claim of the first identity that has it.
    pub fn claim(&self, path: &ClaimPath) -> Option<&Value> {
        self.iter().find_map(|identity| identity.claim(path))
    }

    /// Adds those of another part of a rule.
    pub(crate) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }
}

impl From<Identity> for Identities {
    fn from(identity: Identity) -> Self {
        Self(SmallVec::from_iter([identity]))
    }
}

impl FromIterator<Identity> for Identities {
    fn from_iter<I: IntoIterator<Item = Identity>>(identities: I) -> Self {
        Self(identities.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_found_in_maps_and_lists() {
        let claims = json!({"sub": "a", "realm": {"roles": ["x", {"name": "y"}]}, "https://b.c/d": 1, "0": "zero"});
        let Value::Object(claims) = claims else { unreachable!("it is a map") };
        let identity = Identity::new("staff".into(), Kind::ApiKey, claims);
        let claim = |path: &str| identity.claim(&path.parse().expect("a path")).cloned();

        assert_eq!(claim("sub"), Some(json!("a")));
        assert_eq!(claim("realm.roles.1.name"), Some(json!("y")));
        assert_eq!(claim("\"https://b.c/d\""), Some(json!(1)));
        assert_eq!(claim("0"), Some(json!("zero")));
        for missing in ["x", "sub.x", "realm.roles.2", "realm.roles.x", "realm.roles.-1"] {
            assert_eq!(claim(missing), None, "{missing}");
        }
        assert_eq!(format!("{identity:?}"), "Identity { source: \"staff\", kind: ApiKey, .. }");
    }
}
