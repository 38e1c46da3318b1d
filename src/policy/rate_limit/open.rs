//! How many calls of each caller are open.
//!
//! A caller is remembered for as long as it has open calls, so that memory is bounded by what clients may have open.

use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::key::Key;
use super::local::LocalStore;

/// Open calls by caller.
#[derive(Debug)]
pub(super) struct OpenCalls {
    shards: Box<[Shard]>,
}

/// Alone in its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Mutex<HashMap<u64, u32>>);

/// One of a caller's open calls, until it is given to [`LocalStore::close`].
#[derive(Debug)]
#[must_use = "it counts as open until it is closed"]
pub struct OpenCall(u64);

const SHARDS: usize = 64;

impl Default for OpenCalls {
    fn default() -> Self {
        Self { shards: std::iter::repeat_with(Shard::default).take(SHARDS).collect() }
    }
}

impl LocalStore {
    /// Opens a call for a caller that may have `most` of them, and says how many more it could; `None` when it has them all.
    pub fn open(&self, key: &Key, most: u32) -> Option<(OpenCall, u32)> {
        let tag = self.tag(key);
        let open = self.open.change(tag, |open| if *open < most { Some(*open + 1) } else { None })?;
        Some((OpenCall(tag), most - open))
    }

    /// The call is open no more.
    pub fn close(&self, call: &OpenCall) {
        self.open.change(call.0, |open| Some(open.saturating_sub(1)));
    }
}

impl OpenCalls {
    /// Sets the number of a caller's open calls by what it was, unless that gives none.
    fn change(&self, tag: u64, next: impl FnOnce(&u32) -> Option<u32>) -> Option<u32> {
        // The low bits choose the place in the map.
        let shard = self.shards.get((tag >> 58) as usize)?;
        let mut calls = shard.0.lock().unwrap_or_else(PoisonError::into_inner);
        match calls.entry(tag) {
            Entry::Occupied(mut entry) => {
                let open = next(entry.get())?;
                if open == 0 {
                    entry.remove();
                } else {
                    entry.insert(open);
                }
                Some(open)
            }
            Entry::Vacant(entry) => {
                let open = next(&0)?;
                entry.insert(open);
                Some(open)
            }
        }
    }
}
