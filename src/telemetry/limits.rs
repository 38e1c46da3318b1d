//! Counters of limits, and who is asked for what only limits know.

use std::fmt;
use std::sync::Arc;

use super::metrics::Counter;

/// What became of calls under one limit, on one worker.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct LimitMetrics {
    allowed: Counter,
    refused: Counter,
    /// Refused if the limit were not in shadow mode.
    shadowed: Counter,
    /// Counted with other callers because there was no memory for one of their own.
    pub overflowed: Counter,
}

impl LimitMetrics {
    /// Counts a decision.
    pub fn count(&self, allowed: bool, shadow: bool) {
        match (allowed, shadow) {
            (true, _) => self.allowed.add(1),
            (false, false) => self.refused.add(1),
            (false, true) => self.shadowed.add(1),
        }
    }

    /// How many were let in, refused, and would have been refused.
    pub(super) fn outcomes(&self) -> [u64; 3] {
        [&self.allowed, &self.refused, &self.shadowed].map(Counter::value)
    }
}

/// Calls under way by method, with the adaptive limit where there is one; and the memory of the process, in bytes.
pub type LoadList = (Vec<(Arc<str>, u32, Option<u32>)>, usize);

/// Asks for the calls that are under way.
pub(super) struct Loads(pub(super) Box<dyn Fn() -> LoadList + Send + Sync>);

impl Loads {
    pub(super) fn list(&self) -> LoadList {
        self.0()
    }
}

impl fmt::Debug for Loads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loads")
    }
}

/// Asks how many callers the limits remember, and in how many bytes.
pub(super) struct Limiter(pub(super) Box<dyn Fn() -> (usize, usize) + Send + Sync>);

impl Limiter {
    pub(super) fn size(&self) -> (usize, usize) {
        self.0()
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Limiter")
    }
}
