//! Counters of the ways in which callers prove who they are.

use super::metrics::{Counter, Gauge};

/// What one provider found out, on one worker or on the control runtime.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ProviderMetrics {
    results: [Counter; AuthenticationResult::ALL.len()],
    fetches: [Counter; 2],
    keys: Gauge,
    stale: Gauge,
}

/// What a provider says of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthenticationResult {
    /// It knows the caller.
    Granted,
    /// The call has nothing for it.
    Missing,
    /// The credentials are not good.
    Invalid,
    /// It could not find out.
    Unavailable,
}

impl AuthenticationResult {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Granted, Self::Missing, Self::Invalid, Self::Unavailable];

    /// As the label has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
        }
    }
}

impl ProviderMetrics {
    /// Counts what was found out.
    pub fn count(&self, result: AuthenticationResult) {
        if let Some(counter) = self.results.get(result as usize) {
            counter.add(1);
        }
    }

    /// Counts a fetch of keys, and notes how many there are now.
    pub fn fetched(&self, success: bool, keys: usize) {
        let [good, bad] = &self.fetches;
        if success { good } else { bad }.add(1);
        self.keys.set(i64::try_from(keys).unwrap_or(i64::MAX));
        self.stale.set(i64::from(!success));
    }

    pub(super) fn counted(&self, result: AuthenticationResult) -> u64 {
        self.results.get(result as usize).map_or(0, Counter::value)
    }

    /// Good and bad ones.
    pub(super) fn fetches(&self) -> [u64; 2] {
        self.fetches.each_ref().map(Counter::value)
    }

    /// How many keys there are, and whether the last fetch failed.
    pub(super) fn keys(&self) -> [i64; 2] {
        [self.keys.value(), self.stale.value()]
    }
}
