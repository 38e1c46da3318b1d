//! Which fields of one message were met.

/// A set of small numbers. The first 64, which is all for most messages, need no allocation.
#[derive(Debug, Default)]
pub(in crate::transcode) struct Seen {
    low: u64,
    high: Vec<u64>,
}

impl Seen {
    /// Adds a number; `false` if it was there already.
    #[inline]
    pub(in crate::transcode) fn insert(&mut self, index: usize) -> bool {
        let word = if index < 64 { &mut self.low } else { self.high_word(index / 64 - 1) };
        let bit = 1u64 << (index % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Whether a number is there.
    #[inline]
    pub(in crate::transcode) fn contains(&self, index: usize) -> bool {
        let word = if index < 64 { self.low } else { self.high.get(index / 64 - 1).copied().unwrap_or(0) };
        word & (1u64 << (index % 64)) != 0
    }

    fn high_word(&mut self, word: usize) -> &mut u64 {
        if self.high.len() <= word {
            self.high.resize(word + 1, 0);
        }
        &mut self.high[word]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_new_once() {
        let mut seen = Seen::default();
        for index in [0, 63, 64, 127, 128, 1000] {
            assert!(!seen.contains(index));
            assert!(seen.insert(index));
            assert!(!seen.insert(index));
            assert!(seen.contains(index));
        }
        assert!(!seen.contains(1));
        assert!(!seen.contains(5000));
    }
}
