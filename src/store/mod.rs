//! Where limits are counted beside this process: questions to it, and what keeps them from costing a call anything when
//! nobody answers.
//!
//! Not the decisions, which are `policy`'s: a store says how far a limit is in debt. [`redis`] is the client of Redis,
//! [`ledger`] knows what need not be asked, [`breaker`] says when asking is in vain.
//!
//! **Invariant**: no question waits longer than its timeout, no more than a bounded number wait at once, and each ends in
//! an answer or a [`Failure`].

pub mod breaker;
pub mod ledger;
pub mod redis;

use std::fmt;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use crate::telemetry::stores::Outcome;

/// What is taken from one limit. The units are those of the generic cell rate algorithm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// Where the limit is counted. In a cluster, keys with the same text between `{` and `}` are on one server.
    pub key: Box<[u8]>,
    /// Nanoseconds from one token to the next.
    pub interval: u64,
    /// Nanoseconds that a whole burst is worth, at most [`MAX_CAPACITY`].
    pub capacity: u64,
    /// Tokens that are needed; negative to give some back.
    pub cost: i64,
    /// Tokens that are taken beside them, as far as they are there.
    pub more: u64,
    /// Whether nothing is refused by it: what does not fit is not taken from it, and the others are.
    pub shadow: bool,
}

impl Charge {
    /// Nanoseconds that an answer took which says that everything was taken, where the limit was so far in debt before.
    fn taken(&self, debt: u64) -> u64 {
        let price = u64::try_from(self.cost).unwrap_or(0).saturating_mul(self.interval);
        match self.capacity.checked_sub(debt.saturating_add(price)) {
            Some(room) => price + self.more.min(room / self.interval.max(1)).saturating_mul(self.interval),
            // In shadow mode.
            None => 0,
        }
    }

    /// The charge that takes back at `now` what was asked for at `asked`, when the limit was so far in debt; `None` if that
    /// is paid off.
    fn undone(&self, debt: u64, asked: Instant, now: Instant) -> Option<Self> {
        let taken = self.taken(debt);
        let paid = asked + Duration::from_nanos(debt.saturating_add(taken));
        self.refund(taken, paid, now)
    }

    /// The charge that gives back so many nanoseconds at `now`, as far as they are not paid off before `paid`: what time has
    /// given back already is not given a second time.
    pub fn refund(&self, nanos: u64, paid: Instant, now: Instant) -> Option<Self> {
        let left = u64::try_from(paid.saturating_duration_since(now).as_nanos()).unwrap_or(u64::MAX);
        let cost = i64::try_from(nanos.min(left)).ok().filter(|nanos| *nanos > 0)?;
        Some(Self { interval: 1, cost: -cost, more: 0, ..self.clone() })
    }
}

/// Of a capacity, in nanoseconds: 104 days. With the nanoseconds of a second it is exact in the numbers of Lua, which are
/// doubles.
pub const MAX_CAPACITY: u64 = (1 << 53) - 2_000_000_000;

/// How a question was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether everything was taken; if not, nothing was.
    pub taken: bool,
    /// By charge, the nanoseconds that its limit was in debt before. `None` where nobody was asked, because another limit
    /// had refused already.
    pub debts: SmallVec<[Option<u64>; 4]>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Not in time.
    Timeout,
    /// There is no connection, or it broke.
    Unreachable,
    /// It answered with an error: it is full, only reads, still loads, or does not let us.
    Refused,
    /// It failed so often that it was not asked.
    Open,
    /// Too many questions wait already.
    Busy,
}

impl Failure {
    /// What it is counted as.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Timeout => Outcome::Timeout,
            Self::Unreachable => Outcome::Unreachable,
            Self::Refused => Outcome::Refused,
            Self::Open => Outcome::Open,
            Self::Busy => Outcome::Busy,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "no answer in time",
            Self::Unreachable => "no connection",
            Self::Refused => "answered with an error",
            Self::Open => "failed so often that it is not asked for a while",
            Self::Busy => "too many questions wait for an answer",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_was_taken_and_time_has_not() {
        let charge = Charge { key: [].into(), interval: 10, capacity: 100, cost: 2, more: 3, shadow: false };
        let now = Instant::now();
        let at = |nanos| now + Duration::from_nanos(nanos);
        let back = |debt, later| charge.undone(debt, now, at(later)).map(|back| (back.interval, back.cost, back.more));

        assert_eq!(back(0, 0), Some((1, -50, 0)));
        assert_eq!(back(75, 0), Some((1, -20, 0)), "there was no room for more");
        assert_eq!(back(95, 0), None, "it did not fit");
        assert_eq!(back(0, 20), Some((1, -30, 0)));
        assert_eq!(back(30, 20), Some((1, -50, 0)), "what came before is paid first");
        assert_eq!(back(30, 80), None);
    }
}
