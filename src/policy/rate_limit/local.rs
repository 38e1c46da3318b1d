//! The process's own store: what every caller has had, for all workers and over reloads.
//!
//! Callers are spread over many shards, each a table ([`super::table`]) that grows by itself and whose buckets have a lock
//! each, held for some memory reads: two workers meet, and take cache lines from each other, only where their callers have
//! a bucket in common. The limits of a call are charged together or not at all: the buckets of all its callers are held
//! meanwhile. Whoever waits for a bucket holds none behind it, in the order of shards and buckets. Memory has a bound; a
//! caller that finds no place in it is counted with the others like it, in one bucket for each limit.
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
use super::table::{BUCKET, Places, Room, Table, homes};
use super::{Charge, Verdict};
use crate::config::rate_limit::RateLimiting;

/// Counts of the whole process.
#[derive(Debug)]
pub struct LocalStore {
    shards: Box<[Apart<Table>]>,
    /// For callers without a place, by limit. Locked after all buckets.
    overflow: Apart<Mutex<HashMap<u64, Arrival>>>,
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
struct Apart<T>(T);

/// One for each value of a tag's last byte: enough that growing one holds up nobody for long.
const SHARDS: usize = 256;
/// Places of a caller's first bucket that have to be free for it to be taken whatever the second has: so a bucket is left
/// before it is full, and most callers are found where they are looked for first.
const AMPLE: usize = 5;
/// Limits whose callers without a place are remembered apart; a configuration has fewer, and reloads may add.
const MAX_OVERFLOW: usize = 10_000;

/// A bucket: its shard, and which of its buckets.
type Address = (usize, usize);

/// The places of one call's callers, in buckets that are locked.
struct Locked<'s> {
    store: &'s LocalStore,
    buckets: SmallVec<[(Address, MutexGuard<'s, Places>); 6]>,
    /// By charge: which of the buckets, and where in it. None is one among those without a place.
    slots: SmallVec<[Option<(usize, usize)>; 4]>,
    overflow: Option<MutexGuard<'s, HashMap<u64, Arrival>>>,
    now: u64,
    most: usize,
}

/// Why the places of a call cannot be had at once.
enum Obstacle {
    /// Somebody has a bucket that is not next in order.
    Busy,
    /// A shard, of a size that is too small for one more.
    Full(usize, usize),
    /// A shard has grown meanwhile.
    Grown,
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
            shards: std::iter::repeat_with(Apart::default).take(SHARDS).collect(),
            overflow: Apart::default(),
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
        let mut before: SmallVec<[Arrival; 4]> = SmallVec::new();
        for (index, charge) in charges.iter().enumerate() {
            let arrival = locked.arrival(index, charge);
            before.push(*arrival);
            let (after, decision) = charge.rate.take(now, *arrival, charge.cost);
            *arrival = after;
            verdict.refused |= !decision.allowed && !charge.shadow;
            verdict.decisions.push(decision);
        }
        verdict.overflowed = locked.overflow.is_some();
        if verdict.refused {
            for (index, (charge, before)) in charges.iter().zip(before).enumerate().rev() {
                *locked.arrival(index, charge) = before;
                let decision = &mut verdict.decisions[index];
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
        for (index, (charge, charged)) in charges.iter().enumerate() {
            let arrival = locked.arrival(index, charge);
            *arrival = charge.rate.refund(now, *arrival, *charged, charge.cost);
        }
    }

    /// What a caller would be told, without a charge.
    pub fn peek(&self, charge: &Charge<'_>, now: u64) -> Decision {
        let mut locked = self.lock(&[charge.key.tag(&self.hasher)], now);
        let arrival = match locked.slots[0] {
            Some((bucket, way)) => *locked.buckets[bucket].1.arrival(way),
            None => 0,
        };
        charge.rate.peek(now, arrival)
    }

    /// The tag by which open calls of that key are counted.
    pub(super) fn tag(&self, key: &Key) -> u64 {
        key.tag(&self.hasher)
    }

    /// Callers that owe something, and bytes of all counters. Walks over all of them, one bucket after the other.
    pub fn size(&self, now: u64) -> (usize, usize) {
        let sizes = self.shards.iter().map(|Apart(table)| (table.owing(now), table.bytes()));
        sizes.fold((0, SHARDS * size_of::<Apart<Table>>()), |(keys, bytes), (more, taken)| (keys + more, bytes + taken))
    }

    /// Places for callers, each its own or that among those without one.
    fn lock(&self, tags: &[u64], now: u64) -> Locked<'_> {
        let most = self.most.load(Ordering::Relaxed);
        let mut in_order = false;
        loop {
            match self.places(tags, now, most, in_order) {
                Ok(locked) => return locked,
                Err(Obstacle::Busy) => in_order = true,
                Err(Obstacle::Full(shard, size)) => self.shards[shard].0.grow(size, most),
                Err(Obstacle::Grown) => {}
            }
        }
    }

    /// The same in one attempt. Callers' first buckets are waited for; their second ones, which few need, only if all are to
    /// be locked `in_order`.
    fn places(&self, tags: &[u64], now: u64, most: usize, in_order: bool) -> Result<Locked<'_>, Obstacle> {
        let mut sizes: SmallVec<[usize; 4]> = SmallVec::new();
        let mut wanted: SmallVec<[Address; 6]> = SmallVec::new();
        for tag in tags {
            let shard = shard_of(*tag);
            let size = self.shards[shard].0.size();
            if size == 0 {
                return Err(Obstacle::Full(shard, size));
            }
            sizes.push(size);
            let homes = homes(*tag, size).into_iter().take(if in_order { 2 } else { 1 });
            wanted.extend(homes.map(|home| (shard, home)));
        }
        wanted.sort_unstable();
        wanted.dedup();
        let (buckets, slots) = (SmallVec::new(), SmallVec::new());
        let mut locked = Locked { store: self, buckets, slots, overflow: None, now, most };
        for address in wanted {
            let bucket = self.shards[address.0].0.bucket(address.1).ok_or(Obstacle::Grown)?;
            locked.buckets.push((address, bucket.lock()));
        }
        for (tag, size) in tags.iter().zip(sizes) {
            let slot = locked.slot(*tag, size, tags)?;
            locked.slots.push(slot);
        }
        Ok(locked)
    }
}

impl<'s> Locked<'s> {
    /// Where a caller is or may be, of those in `tags`, whose first buckets are all locked.
    fn slot(&mut self, tag: u64, size: usize, tags: &[u64]) -> Result<Option<(usize, usize)>, Obstacle> {
        let shard = shard_of(tag);
        let Apart(table) = &self.store.shards[shard];
        // It cannot change from here on.
        if table.size() != size {
            return Err(Obstacle::Grown);
        }
        let [first, second] = homes(tag, size).map(|home| (shard, home));
        let one = self.locked(first).ok_or(Obstacle::Grown)?;
        if let Some(way) = self.buckets[one].1.find(tag) {
            return Ok(Some((one, way)));
        }
        let other = self.lock_second(table, second)?;
        if let Some(way) = self.buckets[other].1.find(tag) {
            return Ok(Some((other, way)));
        }
        match self.give(tag, [one, other], tags) {
            None if Table::may_grow(size, self.most) => Err(Obstacle::Full(shard, size)),
            slot => Ok(slot),
        }
    }

    /// Which of the locked buckets one is.
    fn locked(&self, address: Address) -> Option<usize> {
        self.buckets.iter().position(|(locked, _)| *locked == address)
    }

    /// Locks a caller's second bucket. Not in order, so it is not waited for.
    fn lock_second(&mut self, table: &'s Table, address: Address) -> Result<usize, Obstacle> {
        if let Some(locked) = self.locked(address) {
            return Ok(locked);
        }
        let bucket = table.bucket(address.1).ok_or(Obstacle::Grown)?;
        self.buckets.push((address, bucket.try_lock().ok_or(Obstacle::Busy)?));
        Ok(self.buckets.len() - 1)
    }

    /// Gives a place in one of two buckets to a caller that is new; `None` when all are taken by callers that owe something,
    /// or by others of the same call.
    fn give(&mut self, tag: u64, buckets: [usize; 2], tags: &[u64]) -> Option<(usize, usize)> {
        let [first, second] = buckets.map(|bucket| (bucket, self.buckets[bucket].1.room(self.now, tags)));
        let (bucket, Room { places, way }) = if first.1.places >= AMPLE.min(second.1.places) { first } else { second };
        if places == 0 {
            return None;
        }
        self.buckets[bucket].1.give(way, tag);
        Some((bucket, way))
    }

    /// The arrival of a charge's caller: in its place, or among those without one.
    fn arrival(&mut self, index: usize, charge: &Charge<'_>) -> &mut Arrival {
        if let Some((bucket, way)) = self.slots[index] {
            return self.buckets[bucket].1.arrival(way);
        }
        let (store, now) = (self.store, self.now);
        let overflow = self.overflow.get_or_insert_with(|| lock(&store.overflow.0));
        if overflow.len() >= MAX_OVERFLOW {
            overflow.retain(|_, arrival| *arrival > now);
        }
        overflow.entry(Key::new(charge.limit).tag(&store.hasher)).or_default()
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
