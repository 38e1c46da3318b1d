//! A value that is replaced while others read it, with a number by which they see that it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

/// What is known now.
#[derive(Debug, Default)]
pub(super) struct Current<T> {
    value: ArcSwap<T>,
    /// Counts values.
    generation: AtomicU64,
}

impl<T: PartialEq> Current<T> {
    pub(super) fn new(value: T) -> Self {
        Self { value: ArcSwap::from_pointee(value), generation: AtomicU64::new(0) }
    }

    pub(super) fn get(&self) -> Arc<T> {
        self.value.load_full()
    }

    /// Counts up with each change; whoever sees a number finds at least that value.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Takes another value; says whether it is one. What was found by the same one stays true.
    pub(super) fn replace(&self, value: T) -> bool {
        let is_other = *self.value.load().as_ref() != value;
        if is_other {
            self.value.store(Arc::new(value));
            self.generation.fetch_add(1, Ordering::Release);
        }
        is_other
    }
}
