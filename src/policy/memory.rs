//! What was found out about credentials, for as long as it holds and in bounded memory.
//!
//! One worker's own. Of what has to go, that goes which was not asked for since the last round (the clock algorithm).

use std::hash::BuildHasher as _;

use hashbrown::HashTable;

/// Findings by credential.
#[derive(Debug)]
pub struct Memory<T> {
    table: HashTable<usize>,
    slots: Vec<Slot<T>>,
    hand: usize,
    bytes: usize,
    limits: Limits,
    hasher: foldhash::fast::RandomState,
}

/// How much is remembered.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Credentials.
    pub entries: usize,
    /// Bytes of all credentials, and of what is known of them, together.
    pub bytes: usize,
}

#[derive(Debug)]
struct Slot<T> {
    key: Box<[u8]>,
    value: T,
    /// Of both.
    bytes: usize,
    used: bool,
}

impl<T> Memory<T> {
    /// A memory of nothing.
    pub fn new(limits: Limits) -> Self {
        let hasher = foldhash::fast::RandomState::default();
        Self { table: HashTable::new(), slots: Vec::new(), hand: 0, bytes: 0, limits, hasher }
    }

    /// What is known of a credential.
    pub fn get(&mut self, key: &[u8]) -> Option<&mut T> {
        let hash = self.hasher.hash_one(key);
        let index = *self.table.find(hash, |index| self.slots.get(*index).is_some_and(|slot| *slot.key == *key))?;
        let slot = self.slots.get_mut(index)?;
        slot.used = true;
        Some(&mut slot.value)
    }

    /// Forgets a credential.
    pub fn remove(&mut self, key: &[u8]) {
        let hash = self.hasher.hash_one(key);
        if let Some(index) = self.table.find(hash, |index| self.slots.get(*index).is_some_and(|slot| *slot.key == *key))
        {
            self.evict(*index);
        }
    }

    /// Notes what is known of a credential, which takes `size` bytes, in the place of others if there is no room.
    pub fn insert(&mut self, key: &[u8], value: T, size: usize) {
        self.remove(key);
        let bytes = key.len().saturating_add(size);
        if bytes > self.limits.bytes || self.limits.entries == 0 {
            return;
        }
        while !self.slots.is_empty()
            && (self.slots.len() >= self.limits.entries || self.bytes + bytes > self.limits.bytes)
        {
            self.hand %= self.slots.len();
            match self.slots.get_mut(self.hand) {
                Some(slot) if slot.used => {
                    slot.used = false;
                    self.hand += 1;
                }
                _ => self.evict(self.hand),
            }
        }
        self.bytes += bytes;
        self.slots.push(Slot { key: key.into(), value, bytes, used: false });
        let (slots, hasher) = (&self.slots, &self.hasher);
        let hash = |index: &usize| slots.get(*index).map_or(0, |slot| hasher.hash_one(&*slot.key));
        let index = slots.len() - 1;
        self.table.insert_unique(hash(&index), index, hash);
    }

    /// How many credentials are known.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Empties a slot and moves the last one there.
    fn evict(&mut self, index: usize) {
        self.unlink(index);
        let last = self.slots.len() - 1;
        if last != index {
            self.unlink(last);
        }
        let gone = self.slots.swap_remove(index);
        self.bytes -= gone.bytes;
        if last != index {
            let (slots, hasher) = (&self.slots, &self.hasher);
            let hash = |index: &usize| slots.get(*index).map_or(0, |slot| hasher.hash_one(&*slot.key));
            self.table.insert_unique(hash(&index), index, hash);
        }
    }

    fn unlink(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index) else { return };
        if let Ok(entry) = self.table.find_entry(self.hasher.hash_one(&*slot.key), |known| *known == index) {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let mut memory = Memory::new(Limits { entries: 3, bytes: 100 });
        for key in [b"a", b"b", b"c"] {
            memory.insert(key, key[0], 0);
        }
        assert_eq!(memory.get(b"a"), Some(&mut b'a'));

        memory.insert(b"d", b'd', 0);
        memory.insert(&[0; 101], 0, 0);

        assert_eq!(memory.len(), 3);
        assert_eq!(
            (memory.get(b"a").copied(), memory.get(b"d").copied(), memory.get(&[0; 101])),
            (Some(b'a'), Some(b'd'), None)
        );
    }

    #[test]
    fn what_is_known_counts_too() {
        let mut memory = Memory::new(Limits { entries: 100, bytes: 100 });

        for key in 0..10_u8 {
            memory.insert(&[key], key, 39);
        }
        memory.insert(b"large", 0, 100);

        assert_eq!(memory.len(), 2, "each takes 40 bytes");
        assert_eq!(memory.get(b"large"), None);
    }

    proptest! {
        #[test]
        fn never_tells_what_was_not_noted_and_keeps_its_bounds(
            steps in prop::collection::vec((0_u8..4, prop::collection::vec(0_u8..3, 0..6), 0_u16..8), 1..200),
        ) {
            let limits = Limits { entries: 8, bytes: 24 };
            let mut memory = Memory::new(limits);
            let mut noted: HashMap<Vec<u8>, u16> = HashMap::new();
            for (action, key, value) in steps {
                match action {
                    0 | 1 => {
                        memory.insert(&key, value, usize::from(value));
                        noted.insert(key.clone(), value);
                        prop_assert_eq!(memory.get(&key).copied(), Some(value));
                    }
                    2 => {
                        memory.remove(&key);
                        noted.remove(&key);
                    }
                    _ => {
                        if let Some(found) = memory.get(&key).copied() {
                            prop_assert_eq!(noted.get(&key), Some(&found));
                        }
                    }
                }
                prop_assert!(memory.len() <= limits.entries && memory.bytes <= limits.bytes);
                prop_assert_eq!(memory.table.len(), memory.slots.len());
                prop_assert_eq!(memory.bytes, memory.slots.iter().map(|slot| slot.bytes).sum::<usize>());
                prop_assert!(memory.slots.iter().all(|slot| slot.bytes == slot.key.len() + usize::from(slot.value)));
            }
        }
    }
}
