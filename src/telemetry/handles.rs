//! Counters by the values of their labels.
//!
//! Whoever counts keeps its handle; the map has one, too, for those who read. What nobody else has a handle of any more can be
//! forgotten, which is asked for where names come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Methods, or endpoints, that one worker counts apart. Reloads add to the methods and never take away.
pub(super) const MAX_HANDLES: usize = 20_000;

/// Handles by labels. Locked while resolving and while listing, never while counting.
#[derive(Debug)]
pub(super) struct Handles<const N: usize, T>(Mutex<BTreeMap<[Arc<str>; N], Arc<T>>>);

impl<const N: usize, T: Default> Handles<N, T> {
    /// The handle of these labels, if it is known or there is room for one more.
    pub(super) fn resolve(&self, labels: [&str; N]) -> Option<Arc<T>> {
        let mut handles = lock(&self.0);
        let labels = labels.map(Arc::from);
        if let Some(known) = handles.get(&labels) {
            return Some(known.clone());
        }
        (handles.len() < MAX_HANDLES).then(|| handles.entry(labels).or_default().clone())
    }
}

impl<const N: usize, T> Handles<N, T> {
    pub(super) fn known(&self, labels: [&str; N]) -> Option<Arc<T>> {
        lock(&self.0).get(&labels.map(Arc::from)).cloned()
    }

    pub(super) fn list(&self) -> Vec<([Arc<str>; N], Arc<T>)> {
        lock(&self.0).iter().map(|(labels, handle)| (labels.clone(), handle.clone())).collect()
    }

    /// The labels that are in some of these maps and of which nobody has a handle, whichever map it is from.
    pub(super) fn left<'a>(all: impl Iterator<Item = &'a Self>) -> BTreeSet<[Arc<str>; N]>
    where
        T: 'a,
    {
        let (mut left, mut held) = (BTreeSet::new(), BTreeSet::new());
        for handles in all {
            for (labels, handle) in &*lock(&handles.0) {
                let which = if is_held(handle) { &mut held } else { &mut left };
                which.insert(labels.clone());
            }
        }
        &left - &held
    }

    /// Takes those labels out of all of these maps at once, for a sum over them must not shrink; but what somebody has by now
    /// stays. The maps come in the same order each time.
    pub(super) fn forget<'a>(all: impl Iterator<Item = &'a Self>, left: &BTreeSet<[Arc<str>; N]>)
    where
        T: 'a,
    {
        if left.is_empty() {
            return;
        }
        let mut all: Vec<_> = all.map(|handles| lock(&handles.0)).collect();
        for labels in left {
            if !all.iter().filter_map(|handles| handles.get(labels)).any(is_held) {
                all.iter_mut().for_each(|handles| drop(handles.remove(labels)));
            }
        }
    }
}

impl<const N: usize, T> Default for Handles<N, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// Whether somebody has it beside the map.
fn is_held<T>(handle: &Arc<T>) -> bool {
    Arc::strong_count(handle) > 1
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
