//! The process's own store: what every caller has had, for all workers and over reloads.
//!
//! Callers are spread over many shards, each behind a lock of its own that is held for some memory reads, so that workers
//! rarely meet. The limits of a call are charged together or not at all: the locks of all its shards are held, in their
//! order. Memory has a bound ([`super::table`]); a caller that finds no place in it is counted with the others like it, in
//! one bucket for each limit.
//!
//! **Invariant**: what a caller owes is never forgotten, and a call that is refused has cost nothing.

use std::hash::RandomState;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::gcra::{Arrival, Decision};
use super::key::Key;
use super::open::OpenCalls;
use super::table::{BUCKET, Table};
use super::{Charge, Verdict};
use crate::config::rate_limit::RateLimiting;

/// Counts of the whole process.
#[derive(Debug)]
pub struct LocalStore {
    shards: Box<[Shard]>,
    /// For callers without a place, by limit. Locked after all shards.
    overflow: Mutex<HashMap<u64, Arrival>>,
    /// Calls that are open.
    pub(super) open: OpenCalls,
    hasher: RandomState,
    /// Buckets that one shard may have.
    most: AtomicUsize,
    begun: Instant,
}

/// Alone in its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Mutex<Table>);

/// One for each value of a tag's last byte: enough that two of some dozen workers seldom want the same, and that growing one holds up nobody for long.
const SHARDS: usize = 256;
/// Limits whose callers without a place are remembered apart; a configuration has fewer, and reloads may add.
const MAX_OVERFLOW: usize = 10_000;

/// The shards of one call's charges, locked.
struct Locked<'s> {
    store: &'s LocalStore,
    tables: SmallVec<[(usize, MutexGuard<'s, Table>); 4]>,
    overflow: Option<MutexGuard<'s, HashMap<u64, Arrival>>>,
    now: u64,
    most: usize,
}

impl Default for LocalStore {
    fn default() -> Self {
        Self::new(RateLimiting::default().memory)
    }
}

impl LocalStore {
    /// A store whose counters take at most that many bytes.
    pub fn new(memory: usize) -> Self {
        let store = Self {
            shards: std::iter::repeat_with(Shard::default).take(SHARDS).collect(),
            overflow: Mutex::default(),
            open: OpenCalls::default(),
            hasher: RandomState::new(),
            most: AtomicUsize::new(0),
            begun: Instant::now(),
        };
        store.set_memory(memory);
        store
    }

    /// Changes how many bytes the counters may take. Less than they take already stops them from taking more.
    pub fn set_memory(&self, bytes: usize) {
        self.most.store((bytes / SHARDS / BUCKET).max(1), Ordering::Relaxed);
    }

    /// The store's clock at an instant, in nanoseconds.
    pub fn clock(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.begun).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Charges all, or none if one of them refuses that is not in shadow mode.
    pub fn charge(&self, charges: &[Charge<'_>], now: u64) -> Verdict {
        let tags: SmallVec<[u64; 4]> = charges.iter().map(|charge| charge.key.tag(&self.hasher)).collect();
        let mut locked = self.lock(&tags, now);
        let mut verdict = Verdict::default();
        let mut paid: SmallVec<[(u64, Arrival, bool); 4]> = SmallVec::new();
        for (charge, tag) in charges.iter().zip(&tags) {
            let (tag, overflow) = match locked.shard(*tag) {
                Some(_) => (*tag, false),
                None => (self.overflow_tag(charge), true),
            };
            let arrival = locked.arrival(tag, overflow);
            let before = *arrival;
            let (after, decision) = charge.rate.take(now, before, charge.cost);
            *arrival = after;
            verdict.overflowed |= overflow;
            verdict.refused |= !decision.allowed && !charge.shadow;
            verdict.decisions.push(decision);
            paid.push((tag, before, overflow));
        }
        if verdict.refused {
            for ((tag, before, overflow), (charge, decision)) in
                paid.into_iter().zip(charges.iter().zip(&mut verdict.decisions)).rev()
            {
                *locked.arrival(tag, overflow) = before;
                if decision.allowed {
                    *decision = charge.rate.peek(now, before);
                }
            }
        }
        verdict
    }

    /// Gives back charges that were allowed, of a call that another store refuses; each with what its caller had had then.
    pub fn give_back(&self, charges: &[(Charge<'_>, Arrival)], now: u64) {
        let tags: SmallVec<[u64; 4]> = charges.iter().map(|(charge, _)| charge.key.tag(&self.hasher)).collect();
        let mut locked = self.lock(&tags, now);
        for ((charge, charged), tag) in charges.iter().zip(&tags) {
            let (tag, overflow) = match locked.shard(*tag) {
                Some(_) => (*tag, false),
                None => (self.overflow_tag(charge), true),
            };
            let arrival = locked.arrival(tag, overflow);
            *arrival = charge.rate.refund(now, *arrival, *charged, charge.cost);
        }
    }

    /// What a caller would be told, without a charge.
    pub fn peek(&self, charge: &Charge<'_>, now: u64) -> Decision {
        let tag = charge.key.tag(&self.hasher);
        let mut locked = self.lock(&[tag], now);
        let arrival = locked.shard(tag).map_or(0, |arrival| *arrival);
        charge.rate.peek(now, arrival)
    }

    /// The tag by which open calls of that key are counted.
    pub(super) fn tag(&self, key: &Key) -> u64 {
        key.tag(&self.hasher)
    }

    /// Callers that owe something, and bytes of all counters. Walks over all of them, one shard after the other.
    pub fn size(&self, now: u64) -> (usize, usize) {
        let sizes = self.shards.iter().map(|shard| {
            let table = lock(&shard.0);
            (table.owing(now), table.bytes())
        });
        sizes.fold((0, SHARDS * size_of::<Shard>()), |(keys, bytes), (more, taken)| (keys + more, bytes + taken))
    }

    fn lock(&self, tags: &[u64], now: u64) -> Locked<'_> {
        let mut indices: SmallVec<[usize; 4]> = tags.iter().map(|tag| shard_of(*tag)).collect();
        indices.sort_unstable();
        indices.dedup();
        let tables = indices.into_iter().filter_map(|index| Some((index, lock(&self.shards.get(index)?.0)))).collect();
        Locked { store: self, tables, overflow: None, now, most: self.most.load(Ordering::Relaxed) }
    }

    /// By which the callers of a limit that have no place are counted.
    fn overflow_tag(&self, charge: &Charge<'_>) -> u64 {
        Key::new(charge.limit).tag(&self.hasher)
    }
}

impl Locked<'_> {
    /// A caller's arrival in its shard, if it has or gets a place there.
    fn shard(&mut self, tag: u64) -> Option<&mut Arrival> {
        let index = shard_of(tag);
        let (_, table) = self.tables.iter_mut().find(|(locked, _)| *locked == index)?;
        table.arrival(tag, self.now, self.most)
    }

    /// The arrival of a tag: in its shard, where it has a place, or among those without one.
    fn arrival(&mut self, tag: u64, overflow: bool) -> &mut Arrival {
        let index = shard_of(tag);
        if !overflow
            && let Some((_, table)) = self.tables.iter_mut().find(|(locked, _)| *locked == index)
            && let Some(arrival) = table.arrival(tag, self.now, self.most)
        {
            return arrival;
        }
        let (store, now) = (self.store, self.now);
        let overflow = self.overflow.get_or_insert_with(|| lock(&store.overflow));
        if overflow.len() >= MAX_OVERFLOW {
            overflow.retain(|_, arrival| *arrival > now);
        }
        overflow.entry(tag).or_default()
    }
}

fn shard_of(tag: u64) -> usize {
    usize::from(tag.to_le_bytes()[0])
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
