//! Which keys of one map were met.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use smallvec::SmallVec;

/// A set of byte strings that stand in a buffer which grows meanwhile: they are kept as ranges of it, so nothing is
/// copied. Few are compared one by one, many through a hash table with a random seed.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    few: SmallVec<[(usize, usize); FEW]>,
    many: Option<Box<Many>>,
}

#[derive(Debug, Default)]
struct Many {
    ranges: HashTable<(usize, usize)>,
    hasher: DefaultHashBuilder,
}

const FEW: usize = 8;

impl KeySet {
    /// Adds `buffer[start..end]`; `false` if the same bytes are there already.
    pub(super) fn insert(&mut self, buffer: &[u8], start: usize, end: usize) -> bool {
        let key = &buffer[start..end];
        if self.many.is_none() && self.few.len() < FEW {
            if self.few.iter().any(|(start, end)| &buffer[*start..*end] == key) {
                return false;
            }
            self.few.push((start, end));
            return true;
        }
        let few = &self.few;
        let many = self.many.get_or_insert_with(|| {
            let mut many = Box::<Many>::default();
            for (start, end) in few {
                many.insert(buffer, *start, *end);
            }
            many
        });
        many.insert(buffer, start, end)
    }
}

impl Many {
    fn insert(&mut self, buffer: &[u8], start: usize, end: usize) -> bool {
        let key = &buffer[start..end];
        let hasher = &self.hasher;
        let hash = |(start, end): &(usize, usize)| hasher.hash_one(&buffer[*start..*end]);
        let equal = |(start, end): &(usize, usize)| &buffer[*start..*end] == key;
        match self.ranges.entry(hasher.hash_one(key), equal, hash) {
            hashbrown::hash_table::Entry::Occupied(_) => false,
            hashbrown::hash_table::Entry::Vacant(vacant) => {
                vacant.insert((start, end));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_new_once_however_many() {
        let mut buffer = Vec::new();
        let mut keys = KeySet::default();
        for round in 0..2 {
            for number in 0..1000 {
                let start = buffer.len();
                buffer.extend_from_slice(format!("key{number}").as_bytes());

                assert_eq!(keys.insert(&buffer, start, buffer.len()), round == 0, "{number}");
            }
        }
    }
}
