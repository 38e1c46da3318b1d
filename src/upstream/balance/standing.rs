//! Whether an endpoint may be called, as the whole process knows it.
//!
//! Health checks and outlier detection write it, every worker's balancer reads it. It changes seldom and is read on each
//! call, so that what is read is one counter per upstream: [`Changes`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Counts what happened to the standings of one upstream.
#[derive(Debug, Default)]
pub struct Changes {
    count: AtomicU64,
    revived: Notify,
}

impl Changes {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// One more.
    pub fn note(&self) {
        self.count.fetch_add(1, Ordering::Release);
    }

    /// Returns once an endpoint that could not be reached, or whose connections had ended, was reached again; at once, if
    /// that happened since it was asked the last time.
    pub async fn revived(&self) {
        self.revived.notified().await;
    }
}

/// What is known of one endpoint.
#[derive(Debug)]
pub struct Standing {
    changes: Arc<Changes>,
    state: AtomicU8,
    /// Some worker could not reach it, or lost a connection to it, since any reached it the last time.
    gone: AtomicBool,
    born: Instant,
    /// When it became usable, in milliseconds after it was born.
    usable_since: AtomicU64,
}

/// Reasons for which an endpoint is not called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// Its health check fails, or has not passed yet.
    Unhealthy = 1,
    /// Its calls fail.
    Ejected = 2,
}

impl Standing {
    /// An endpoint without faults, new at `now`.
    pub fn new(changes: Arc<Changes>, now: Instant) -> Self {
        let (state, gone, usable_since) = (AtomicU8::new(0), AtomicBool::new(false), AtomicU64::new(0));
        Self { changes, state, gone, born: now, usable_since }
    }

    /// The same of one that does not have to start slowly: it is there from the beginning, like the others.
    pub fn seasoned(changes: Arc<Changes>, now: Instant) -> Self {
        Self { usable_since: AtomicU64::new(ALWAYS), ..Self::new(changes, now) }
    }

    /// Whether it may be called.
    pub fn is_usable(&self) -> bool {
        self.state.load(Ordering::Relaxed) == 0
    }

    /// Whether it has this fault.
    pub fn has(&self, fault: Fault) -> bool {
        self.state.load(Ordering::Relaxed) & fault as u8 != 0
    }

    /// Notes that it has a fault, or has it no more. Returns whether that is news.
    pub fn set(&self, fault: Fault, has: bool, now: Instant) -> bool {
        let bit = fault as u8;
        let before =
            if has { self.state.fetch_or(bit, Ordering::AcqRel) } else { self.state.fetch_and(!bit, Ordering::AcqRel) };
        let news = (before & bit != 0) != has;
        if news && !has && before == bit {
            let since = now.saturating_duration_since(self.born).as_millis();
            self.usable_since.store(u64::try_from(since).unwrap_or(0), Ordering::Relaxed);
        }
        if news {
            self.changes.note();
        }
        news
    }

    /// Notes that it could not be reached, or that a connection to it ended.
    pub fn lose(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// Notes that it was reached. Whoever comes back may be another version of itself, whichever worker lost it.
    pub fn reach(&self) {
        if self.gone.swap(false, Ordering::Relaxed) {
            self.changes.revived.notify_one();
        }
    }

    /// For how long it has been usable without a break.
    pub fn usable_for(&self, now: Instant) -> Duration {
        let since = match self.usable_since.load(Ordering::Relaxed) {
            ALWAYS => return Duration::MAX,
            since => self.born + Duration::from_millis(since),
        };
        now.saturating_duration_since(since)
    }
}

/// In place of the time since when an endpoint is usable.
const ALWAYS: u64 = u64::MAX;
