//! Names whatever their capitals: whether one that nobody has differs from one that somebody has by nothing else.
//!
//! Whoever calls what there is not must cost no more than others, however many methods there are.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Names that are found in any spelling.
#[derive(Debug)]
pub(super) struct Spellings {
    /// Shared with whoever else has them, so that a name takes the place of a pointer.
    names: HashTable<Arc<str>>,
    hasher: DefaultHashBuilder,
}

impl Spellings {
    /// Whether one of the names is that one but for capitals.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.names.find(hash(&self.hasher, name), |known| known.eq_ignore_ascii_case(name)).is_some()
    }
}

impl FromIterator<Arc<str>> for Spellings {
    fn from_iter<I: IntoIterator<Item = Arc<str>>>(all: I) -> Self {
        let all = all.into_iter();
        let (mut names, hasher) = (HashTable::with_capacity(all.size_hint().0), DefaultHashBuilder::default());
        for name in all {
            names.insert_unique(hash(&hasher, &name), name, |name| hash(&hasher, name));
        }
        Self { names, hasher }
    }
}

fn hash(hasher: &DefaultHashBuilder, name: &str) -> u64 {
    let mut hasher = hasher.build_hasher();
    name.bytes().for_each(|byte| hasher.write_u8(byte.to_ascii_lowercase()));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_names_in_any_capitals_and_no_others() {
        let all: Spellings =
            ["shop.v1.Shop", "shop.v1.Shop/Get", "shop.v1.Shop/GET"].map(Arc::from).into_iter().collect();

        for name in ["shop.v1.Shop", "SHOP.V1.SHOP", "shop.v1.shop/get", "shop.v1.Shop/gEt"] {
            assert!(all.contains(name), "{name}");
        }
        for name in ["", "shop.v1", "shop.v1.Shop/", "shop.v1.Shop/Gets", "shop.v1.Shop/G\u{c9}t", "shop-v1.Shop/Get"] {
            assert!(!all.contains(name), "{name}");
        }
    }
}
