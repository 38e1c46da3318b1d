//! Callers and what they have had, in as much memory as is allowed and no more.
//!
//! A table of buckets of eight places, each a tag and an arrival; a caller belongs into one of two buckets, the emptier one
//! when it comes (cuckoo hashing without moves). A place whose arrival has passed is as good as an empty one, since a caller
//! that owes nothing is one that was never seen: so nothing is ever evicted that matters, nothing needs to be cleaned up,
//! and a look costs at most two buckets.
//!
//! **Invariant**: a place whose arrival lies in the future is never given to another caller.

/// A caller's place.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    tag: u64,
    arrival: u64,
}

/// Two cache lines.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(128))]
struct Bucket([Place; WAYS]);

/// Callers by their tag.
#[derive(Debug, Default)]
pub(super) struct Table {
    buckets: Box<[Bucket]>,
}

/// Bytes of a bucket.
pub(super) const BUCKET: usize = size_of::<Bucket>();
const WAYS: usize = 8;

impl Table {
    /// The arrival of a caller, zero if it owes nothing; `None` when it is new and all places that it could have are taken
    /// by callers that owe something, in a table of already `most` buckets.
    pub(super) fn arrival(&mut self, tag: u64, now: u64, most: usize) -> Option<&mut u64> {
        let (bucket, way) = loop {
            match self.place(tag, now) {
                Some(place) => break place,
                None if !self.grow(now, most) => return None,
                None => {}
            }
        };
        let place = self.buckets.get_mut(bucket)?.0.get_mut(way)?;
        if place.tag != tag {
            *place = Place { tag, arrival: 0 };
        }
        Some(&mut place.arrival)
    }

    /// Where a caller is, or else may be.
    fn place(&self, tag: u64, now: u64) -> Option<(usize, usize)> {
        let mut free: Option<(usize, usize)> = None;
        let mut most_room = 0;
        for index in self.homes(tag) {
            let bucket = self.buckets.get(index)?;
            let mut room = 0;
            let mut here = None;
            for (way, place) in bucket.0.iter().enumerate() {
                if place.tag == tag {
                    return Some((index, way));
                }
                if place.arrival <= now {
                    room += 1;
                    here = Some((index, way));
                }
            }
            if room > most_room {
                (most_room, free) = (room, here);
            }
        }
        free
    }

    /// The two buckets of a tag.
    fn homes(&self, tag: u64) -> [usize; 2] {
        // A tag is random in all its bits, so that a part of its range is a part of the buckets.
        let scale = |bits: u64| usize::try_from((u128::from(bits) * self.buckets.len() as u128) >> 64).unwrap_or(0);
        [scale(tag), scale(tag.rotate_left(32))]
    }

    /// Doubles the table, if it may. Those who owe nothing are left behind.
    //
    // To any other size it would be made anew for little, perhaps for each new caller.
    fn grow(&mut self, now: u64, most: usize) -> bool {
        let mut size = self.buckets.len();
        loop {
            size = (size * 2).max(1);
            if size > most {
                return false;
            }
            let mut larger = Self { buckets: vec![Bucket::default(); size].into() };
            let mut owing = self.buckets.iter().flat_map(|bucket| &bucket.0).filter(|place| place.arrival > now);
            let all = owing.all(|place| match larger.place(place.tag, now) {
                Some((bucket, way)) => {
                    larger.buckets[bucket].0[way] = *place;
                    true
                }
                None => false,
            });
            if all {
                *self = larger;
                return true;
            }
        }
    }

    /// Callers that owe something.
    pub(super) fn owing(&self, now: u64) -> usize {
        self.buckets.iter().flat_map(|bucket| &bucket.0).filter(|place| place.arrival > now).count()
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.buckets.len() * BUCKET
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_by_doubling_alone() {
        let mut table = Table::default();
        let tags = (1..10_000_u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15));

        // What a table of another size would have to be made anew for.
        for tag in tags {
            if let Some(arrival) = table.arrival(tag, 0, 13) {
                *arrival = 1;
            }
            assert!(table.buckets.len().is_power_of_two());
        }

        assert_eq!(table.buckets.len(), 8);
        assert!(table.owing(0) > 40);
    }
}
