//! Bounds that hold for the whole process, counted without a lock and seldom together.
//!
//! A [`Quota`] is what there is; each worker's [`Share`] takes of it in lots and hands out permits one by one, so that
//! workers touch the same memory once in many calls. What lies unused with idle workers is at most an eighth of a bound,
//! and nothing of a small one.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A bound.
#[derive(Debug)]
pub struct Quota {
    limit: u64,
    taken: AtomicU64,
}

impl Quota {
    /// So many at once.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, taken: AtomicU64::new(0) })
    }

    /// How many there may be.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// How many are with workers, used or not.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Up to `wanted` of what is left.
    fn claim(&self, wanted: u64) -> u64 {
        let claim = |taken: u64| {
            let got = self.limit.saturating_sub(taken).min(wanted);
            (got > 0).then(|| taken + got)
        };
        let before = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim);
        before.map_or(0, |before| self.limit.saturating_sub(before).min(wanted))
    }

    fn give_back(&self, count: u64) {
        self.taken.fetch_sub(count, Ordering::Relaxed);
    }
}

/// One worker's share of a quota.
#[derive(Debug)]
pub struct Share {
    quota: Arc<Quota>,
    lot: u64,
    free: Cell<u64>,
}

/// One of what a quota allows, free again when this is dropped.
#[derive(Debug)]
pub struct Permit(Rc<Share>);

impl Share {
    /// The share of one of so many workers.
    pub(super) fn new(quota: &Arc<Quota>, workers: usize) -> Rc<Self> {
        let lot = (quota.limit / (workers.max(1) as u64 * 16)).clamp(1, 64);
        Rc::new(Self { quota: Arc::clone(quota), lot, free: Cell::new(0) })
    }

    /// One more, if the whole process has not all of them.
    pub(super) fn take(self: &Rc<Self>) -> Option<Permit> {
        let free = match self.free.get() {
            0 => self.quota.claim(self.lot),
            free => free,
        };
        self.free.set(free.checked_sub(1)?);
        Some(Permit(Rc::clone(self)))
    }

    /// One more, whatever the bound says; it counts all the same.
    pub(super) fn take_anyway(self: &Rc<Self>) -> Permit {
        self.take().unwrap_or_else(|| {
            self.quota.taken.fetch_add(1, Ordering::Relaxed);
            Permit(Rc::clone(self))
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Share { quota, lot, free } = &*self.0;
        let now = free.get() + 1;
        // Two lots, so that a worker on the edge of one does not go back and forth; of single ones nothing is kept.
        let kept = if *lot == 1 { 0 } else { 2 * lot - 1 };
        let spare = if now > kept { *lot } else { 0 };
        free.set(now - spare);
        if spare > 0 {
            quota.give_back(spare);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.quota.give_back(self.free.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_workers_share_a_small_bound_exactly() {
        let quota = Quota::new(3);
        let (one, other) = (Share::new(&quota, 2), Share::new(&quota, 2));

        let held: Vec<_> = [one.take(), one.take(), other.take()].into_iter().map(Option::unwrap).collect();
        assert!(one.take().is_none() && other.take().is_none());
        drop(held);

        assert_eq!(quota.taken(), 0);
        let held: Vec<_> = std::iter::from_fn(|| other.take()).collect();
        assert_eq!(held.len(), 3);
    }

    #[test]
    fn idle_workers_keep_little_of_a_large_bound() {
        let quota = Quota::new(1000);
        let shares: Vec<_> = (0..4).map(|_| Share::new(&quota, 4)).collect();
        for share in &shares {
            let held: Vec<_> = (0..200).map(|_| share.take().unwrap()).collect();
            drop(held);
        }

        let held: Vec<_> = std::iter::from_fn(|| shares[0].take()).collect();

        assert!(held.len() >= 875, "{}", held.len());
        drop((held, shares));
        assert_eq!(quota.taken(), 0);
    }

    #[test]
    fn what_is_taken_anyway_is_given_back() {
        let quota = Quota::new(1);
        let share = Share::new(&quota, 1);

        let held = [share.take_anyway(), share.take_anyway()];
        assert_eq!(quota.taken(), 2);
        assert!(share.take().is_none());
        drop(held);

        assert_eq!(quota.taken(), 0);
    }
}
