//! Who has an API key.
//!
//! Only hashes of keys are known. A key is looked up by a part of its hash and compared in constant time, so that how long
//! it takes tells nothing of the keys that there are.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use hashbrown::HashMap;

use super::identity::{Identity, Kind};
use crate::config::accounts::{Account, Digest};

/// Keys by their hashes.
#[derive(Debug, Default)]
pub struct ApiKeys {
    /// By the first eight bytes of the hash.
    accounts: HashMap<[u8; 8], Vec<([u8; 32], Identity)>>,
}

impl ApiKeys {
    /// The keys of a provider.
    pub fn new(source: &Arc<str>, accounts: &[Account<Digest>]) -> Self {
        let mut keys = Self::default();
        for account in accounts {
            let identity = Identity::new(Arc::clone(source), Kind::ApiKey, account.claims());
            keys.accounts.entry(beginning(&account.secret)).or_default().push((account.secret, identity));
        }
        keys
    }

    /// Whose key it is.
    pub fn find(&self, key: &[u8]) -> Option<&Identity> {
        let digest = digest(&SHA256, key);
        let known = self.accounts.get(&beginning(digest.as_ref().try_into().ok()?))?;
        let same = |known: &&([u8; 32], Identity)| verify_slices_are_equal(&known.0, digest.as_ref()).is_ok();
        known.iter().find(same).map(|(_, identity)| identity)
    }
}

fn beginning(digest: &[u8; 32]) -> [u8; 8] {
    let mut beginning = [0; 8];
    beginning.copy_from_slice(&digest[..8]);
    beginning
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, key: &str) -> Account<Digest> {
        let attributes =
            serde_json::Map::from_iter([("name".to_owned(), "mine".into()), ("plan".to_owned(), "gold".into())]);
        let digest = digest(&SHA256, key.as_bytes()).as_ref().try_into().expect("32 bytes");
        Account { name: name.into(), secret: digest, attributes }
    }

    #[test]
    fn finds_whose_key_it_is_and_nobody_by_another() {
        let keys = ApiKeys::new(&"partners".into(), &[account("acme", "k1"), account("beta", "k2")]);

        let found = keys.find(b"k2").expect("a key that is known");

        assert_eq!(
            serde_json::to_string(found.claims()).expect("JSON"),
            r#"{"name":"beta","plan":"gold","sub":"beta"}"#
        );
        for other in [&b"k3"[..], b"", b"K2", b"k2 ", &[255; 4096]] {
            assert_eq!(keys.find(other), None, "{other:?}");
        }
    }
}
