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

use smallvec::SmallVec;

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
