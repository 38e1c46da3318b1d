//! Where workers get the current snapshot from.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::Snapshot;

/// The current snapshot, shared by every worker.
///
/// A worker keeps the snapshot that it has and asks [`Source::generation`], one load, whether there is a
/// newer one. Old snapshots are freed here, by whoever publishes, and not by the worker that happens to be last.
#[derive(Debug)]
pub struct Source {
    current: ArcSwap<Snapshot>,
    generation: AtomicU64,
    /// Told of each snapshot that replaces another.
    published: watch::Sender<()>,
    retired: Mutex<Vec<Arc<Snapshot>>>,
}

impl Source {
    /// A source that starts with this snapshot.
    pub fn new(snapshot: Snapshot) -> Arc<Self> {
        Arc::new(Self {
            current: ArcSwap::from_pointee(snapshot),
            generation: AtomicU64::new(0),
            published: watch::Sender::new(()),
            retired: Mutex::default(),
        })
    }

    /// Counts up with each snapshot that is published; whoever sees a number finds at least that snapshot.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The current snapshot.
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Tells of each snapshot that is published from now on.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.published.subscribe()
    }

    /// Replaces the snapshot. Calls that run finish on the one that they began with.
    pub fn publish(&self, snapshot: Snapshot) {
        let old = self.current.swap(Arc::new(snapshot));
        self.generation.fetch_add(1, Ordering::Release);
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.push(old);
        retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        drop(retired);
        self.published.send_replace(());
    }
}
