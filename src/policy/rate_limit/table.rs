//! Callers and what they have had, in as much memory as is allowed and no more.
//!
//! A table of buckets of seven places, each a tag and an arrival; a caller belongs into one of two buckets: the first, or
//! the emptier one once the first has filled up (cuckoo hashing without moves). A place whose arrival has passed is as good
//! as an empty one, since a caller that owes nothing is one that was never seen: so nothing is ever evicted that matters,
//! nothing needs to be cleaned up, and a look costs at most two buckets.
//!
//! Each bucket has a lock, in the same cache line as its first places: that line is all of a table that a charge writes,
//! as long as there are more buckets than callers. A table grows by doubling: what is new stands behind what is there, and
//! each bucket hands on what belongs to the new one, while all are locked.
//!
//! **Invariant**: a place whose arrival lies in the future is never given to another caller. The number of buckets does not
//! change while one of them is locked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

/// Callers by their tag.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// How many buckets there are: none at first, then a power of two.
    size: AtomicUsize,
    /// The buckets. Each segment but the first has as many as all before it, so that none is ever moved.
    segments: [OnceLock<Box<[Bucket]>>; SEGMENTS],
    /// Held by who makes it grow.
    growing: Mutex<()>,
}

/// Two cache lines: the lock and the places that are taken first, and the other places.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Bucket(Mutex<Places>);

/// The places of a bucket.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Places([Place; WAYS]);

/// A caller's place. Aligned so that none lies in two cache lines.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(16))]
struct Place {
    tag: u64,
    arrival: u64,
}

/// What of a bucket may be given to a caller that is new.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Room {
    /// How many places.
    pub(super) places: usize,
    /// The one whose last caller has owed nothing for the longest, or that had none.
    pub(super) way: usize,
}

/// Bytes of a bucket.
pub(super) const BUCKET: usize = size_of::<Bucket>();
/// Places of a bucket: with the lock, all that two lines hold.
const WAYS: usize = 7;
/// Buckets that a table begins with, where it may: so many that a few thousand callers seldom share one, and with it a line
/// that their workers take from each other.
const FIRST: usize = 32;
const SEGMENTS: usize = 24;
/// More buckets than this have no segment.
const MOST: usize = 1 << (SEGMENTS - 1);

impl Table {
    /// How many buckets there are.
    pub(super) fn size(&self) -> usize {
        self.size.load(Ordering::Acquire)
    }

    /// One of the buckets.
    pub(super) fn bucket(&self, index: usize) -> Option<&Bucket> {
        let first = self.segments[0].get()?;
        match (index >> first.len().trailing_zeros()).checked_ilog2() {
            None => first.get(index),
            Some(doublings) => {
                let begin = first.len() << doublings;
                self.segments.get(1 + doublings as usize)?.get()?.get(index - begin)
            }
        }
    }

    /// Whether a table of that size may become larger.
    pub(super) fn may_grow(size: usize, most: usize) -> bool {
        size == 0 || size * 2 <= most.min(MOST)
    }

    /// Doubles a table of that size, which none of the caller's locks may be of; one of another size has grown already. A
    /// new one gets up to `most` buckets.
    pub(super) fn grow(&self, size: usize, most: usize) {
        let _growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.size() != size {
            return;
        }
        let Some(first) = self.segments[0].get().map(|first| first.len()) else {
            let first = FIRST.min(1 << most.max(1).ilog2());
            self.segments[0].get_or_init(|| std::iter::repeat_with(Bucket::default).take(first).collect());
            self.size.store(first, Ordering::Release);
            return;
        };
        let mut locked: Vec<_> = (0..size).filter_map(|index| self.bucket(index)).map(Bucket::lock).collect();
        let new = locked.iter_mut().enumerate().map(|(index, places)| Bucket(Mutex::new(places.split(index, size))));
        let new = new.collect();
        if let Some(segment) = self.segments.get(1 + (size / first).ilog2() as usize) {
            segment.get_or_init(|| new);
            self.size.store(size * 2, Ordering::Release);
        }
    }

    /// Callers that owe something.
    pub(super) fn owing(&self, now: u64) -> usize {
        let buckets = (0..self.size()).filter_map(|index| self.bucket(index));
        buckets.map(|bucket| bucket.lock().0.iter().filter(|place| place.arrival > now).count()).sum()
    }

    /// Bytes that its buckets take.
    pub(super) fn bytes(&self) -> usize {
        self.size() * BUCKET
    }
}

impl Bucket {
    /// Waits for the lock.
    pub(super) fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lock if it is free.
    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, Places>> {
        match self.0.try_lock() {
            Ok(places) => Some(places),
            Err(TryLockError::Poisoned(places)) => Some(places.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Places {
    /// The place of a caller.
    pub(super) fn find(&self, tag: u64) -> Option<usize> {
        self.0.iter().position(|place| place.tag == tag)
    }

    /// The arrival of the caller that has a place.
    pub(super) fn arrival(&mut self, way: usize) -> &mut u64 {
        &mut self.0[way].arrival
    }

    /// What may be given away, of what is not one of `kept`.
    pub(super) fn room(&self, now: u64, kept: &[u64]) -> Room {
        let mut room = Room::default();
        let mut oldest = u64::MAX;
        for (way, place) in self.0.iter().enumerate() {
            if place.arrival <= now && !kept.contains(&place.tag) {
                room.places += 1;
                if place.arrival < oldest {
                    (oldest, room.way) = (place.arrival, way);
                }
            }
        }
        room
    }

    /// Gives a place to a caller that owes nothing yet.
    pub(super) fn give(&mut self, way: usize, tag: u64) {
        self.0[way] = Place { tag, arrival: 0 };
    }

    /// Takes out what belongs into bucket `index + size` of a table that doubles. What is left moves up to the lock.
    fn split(&mut self, index: usize, size: usize) -> Self {
        let (mut stay, mut go) = ((Self::default(), 0), (Self::default(), 0));
        for place in self.0.iter().filter(|place| place.arrival > 0) {
            let home = homes(place.tag, size * 2).into_iter().find(|home| home % size == index);
            let (places, taken) = if home == Some(index) { &mut stay } else { &mut go };
            places.0[*taken] = *place;
            *taken += 1;
        }
        *self = stay.0;
        go.0
    }
}

/// The two buckets of a tag in a table of that size, of which each is in a larger one the same or that many further.
//
// A tag is random in all its bits; the lowest byte is that of the shard.
pub(super) fn homes(tag: u64, size: usize) -> [usize; 2] {
    let low = |bits: u64| usize::try_from(bits & (size as u64).saturating_sub(1)).unwrap_or(0);
    [low(tag >> 8), low(tag >> 36)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number random in all its bits.
    fn tag(number: u64) -> u64 {
        let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    /// Callers that owe something, with a table of that size for all of them.
    fn filled(size: usize, callers: u64) -> Table {
        let table = Table::default();
        while table.size() < size {
            table.grow(table.size(), size);
        }
        for tag in (0..callers).map(tag) {
            for home in homes(tag, size) {
                let mut places = table.bucket(home).expect("a bucket of the table").lock();
                let room = places.room(0, &[]);
                if room.places > 0 {
                    places.give(room.way, tag);
                    *places.arrival(room.way) = 1 + tag % 1000;
                    break;
                }
            }
        }
        table
    }

    fn arrival(table: &Table, tag: u64) -> Option<u64> {
        homes(tag, table.size()).into_iter().find_map(|home| {
            let mut places = table.bucket(home)?.lock();
            let way = places.find(tag)?;
            Some(*places.arrival(way))
        })
    }

    #[test]
    fn a_bucket_is_two_cache_lines() {
        assert_eq!((BUCKET, align_of::<Bucket>()), (128, 128));
    }

    #[test]
    fn nobody_is_lost_where_a_table_grows() {
        for first in [1, 2, 8, 32] {
            let callers = first as u64 * 3;
            let table = filled(first, callers);
            let known: Vec<_> = (0..callers).map(|number| arrival(&table, tag(number))).collect();

            for doubled in 1..6 {
                table.grow(table.size(), usize::MAX);

                assert_eq!(table.size(), first << doubled);
                assert_eq!(table.bytes(), (first << doubled) * BUCKET);
                let after: Vec<_> = (0..callers).map(|number| arrival(&table, tag(number))).collect();
                assert_eq!(after, known);
                assert_eq!(table.owing(0), known.iter().flatten().count());
            }
        }
    }

    #[test]
    fn a_table_begins_and_ends_within_what_it_may_have() {
        for (most, first) in [(0, 1), (1, 1), (13, 8), (32, 32), (5000, 32)] {
            let table = Table::default();
            table.grow(0, most);

            assert_eq!(table.size(), first);
        }
        for (size, most, may) in [(0, 0, true), (8, 13, false), (8, 16, true), (MOST, usize::MAX, false)] {
            assert_eq!(Table::may_grow(size, most), may);
        }
    }

    #[test]
    fn only_one_of_those_who_find_a_table_full_makes_it_grow() {
        let table = filled(2, 6);

        table.grow(2, 64);
        table.grow(2, 64);

        assert_eq!(table.size(), 4);
    }

    #[test]
    fn the_place_that_has_been_free_for_the_longest_is_given_away() {
        let mut places = Places::default();
        for (way, arrival) in [50, 20, 90, 0, 30, 90, 90].into_iter().enumerate() {
            places.give(way, way as u64 + 1);
            *places.arrival(way) = arrival;
        }

        assert_eq!(places.room(60, &[]), Room { places: 4, way: 3 });
        assert_eq!(places.room(60, &[4]), Room { places: 3, way: 1 });
        assert_eq!(places.room(10, &[4]).places, 0);
    }
}
