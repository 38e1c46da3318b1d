//! What one worker counts of a store that limits are kept in: its questions, and the calls that went without an answer.

use std::time::Duration;

use super::histogram::Histogram;
use super::metrics::{Counter, Gauge};

/// How a question to a store ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There is an answer.
    Answered,
    /// None came in time.
    Timeout,
    /// There was no connection, or it broke.
    Unreachable,
    /// The answer was an error.
    Refused,
    /// It was not asked, because it had failed too often.
    Open,
    /// It was not asked, because too many questions waited.
    Busy,
}

/// What became of calls for which there was no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// They passed.
    Allowed,
    /// They were refused.
    Denied,
    /// They were counted by the gateway alone.
    Local,
}

/// Of one store, on one worker.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct StoreMetrics {
    questions: [Counter; Outcome::ALL.len()],
    fallbacks: [Counter; Fallback::ALL.len()],
    pub(super) duration: Histogram,
    pub(super) connected: Gauge,
    pub(super) leased: Counter,
}

impl StoreMetrics {
    /// Counts a question that ended after so long.
    pub fn asked(&self, outcome: Outcome, took: Duration) {
        self.turned_away(outcome);
        self.duration.observe(took);
    }

    /// Counts a question that was never sent.
    pub fn turned_away(&self, outcome: Outcome) {
        if let Some(count) = self.questions.get(outcome as usize) {
            count.add(1);
        }
    }

    /// Counts a call for which there was no answer.
    pub fn fell_back(&self, fallback: Fallback) {
        if let Some(count) = self.fallbacks.get(fallback as usize) {
            count.add(1);
        }
    }

    /// Counts a call that needed no question, because what it takes had been taken in advance.
    pub fn leased(&self) {
        self.leased.add(1);
    }

    /// A connection was opened, or is no more.
    pub fn connected(&self, is: bool) {
        self.connected.add(if is { 1 } else { -1 });
    }

    /// Questions so far that ended so.
    pub fn questions(&self, outcome: Outcome) -> u64 {
        self.questions.get(outcome as usize).map_or(0, Counter::value)
    }

    /// Calls so far of which that became.
    pub fn fallbacks(&self, fallback: Fallback) -> u64 {
        self.fallbacks.get(fallback as usize).map_or(0, Counter::value)
    }
}

impl Outcome {
    /// Every outcome, in the order of the discriminants.
    pub const ALL: [Self; 6] =
        [Self::Answered, Self::Timeout, Self::Unreachable, Self::Refused, Self::Open, Self::Busy];

    /// The name in labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Open => "open",
            Self::Busy => "busy",
        }
    }
}

impl Fallback {
    /// Every fallback, in the order of the discriminants.
    pub const ALL: [Self; 3] = [Self::Allowed, Self::Denied, Self::Local];

    /// The name in labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Local => "local",
        }
    }
}
