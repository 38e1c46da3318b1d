//! The generic cell rate algorithm: a quota with a burst, kept in one number for each caller.
//!
//! The number is the *theoretical arrival time*: when the caller will have paid off what it has had, in nanoseconds on a
//! clock that the keeper of the number chooses. How far it lies ahead of the present is the caller's debt, and a call is
//! let in if the debt with its cost fits into the burst:
//!
//! ```text
//!            debt before      cost
//!  now ├──────────────────┼────────┤            burst × interval
//!      ├──────────────────────────────────────────┤  let in: the new debt fits
//!                                  ▲ theoretical arrival time
//! ```
//!
//! It is the token bucket of that rate and size, without anything that refills it (ITU-T I.371, annex A; the bucket's tokens
//! are what is left of the burst). **Invariant**: within any time `t` what is let in costs at most
//! `burst + t / interval`; an interval that is no whole number of nanoseconds is rounded up.

use std::time::Duration;

use crate::config::rate_limit::Quota;

/// A quota, prepared for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gcra {
    /// Nanoseconds that pay for a cost of 1.
    interval: u64,
    /// Nanoseconds that pay for the whole burst.
    window: u64,
}

/// What a caller has had: its theoretical arrival time, in nanoseconds. Nothing is 0.
pub type Arrival = u64;

/// What a quota says of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether the call may go on.
    pub allowed: bool,
    /// What is left after it.
    pub remaining: u64,
    /// How long to wait until the same would be let in; zero when it was. `Duration::MAX` when it never will be, since it
    /// costs more than the burst.
    pub retry_after: Duration,
    /// When everything has come back, if nothing more is had.
    pub reset: Duration,
}

impl Decision {
    /// What the caller has had, by a clock on which the decision was made at `now`.
    pub fn arrival(&self, now: u64) -> Arrival {
        now.saturating_add(u64::try_from(self.reset.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Gcra {
    /// Prepares a quota.
    pub fn new(quota: Quota) -> Self {
        let unit = quota.unit.seconds().saturating_mul(NANOS);
        let interval = unit.div_ceil(u64::from(quota.count).max(1));
        Self { interval, window: interval.saturating_mul(u64::from(quota.burst)) }
    }

    /// Nanoseconds that pay for a cost of 1.
    pub fn interval(self) -> u64 {
        self.interval
    }

    /// Nanoseconds that pay for the whole burst.
    pub fn window(self) -> u64 {
        self.window
    }

    /// Decides on a call of that cost at `now`, and returns what the caller has had then: the same as before when the call
    /// is refused.
    ///
    /// A debt beyond the burst is one from before the quota changed, and is taken as the burst: no caller waits longer than
    /// the quota of today has it.
    pub fn take(self, now: u64, arrival: Arrival, cost: u32) -> (Arrival, Decision) {
        let debt = arrival.saturating_sub(now).min(self.window);
        let price = self.price(cost);
        let after = debt.saturating_add(price);
        if after <= self.window {
            return (now.saturating_add(after), self.told(after, Duration::ZERO));
        }
        let wait = if price > self.window { Duration::MAX } else { Duration::from_nanos(after - self.window) };
        (arrival, Decision { allowed: false, ..self.told(debt, wait) })
    }

    /// What would be said of the caller if it asked for nothing.
    pub fn peek(self, now: u64, arrival: Arrival) -> Decision {
        self.told(arrival.saturating_sub(now).min(self.window), Duration::ZERO)
    }

    /// Takes back at `now` what a call cost that was let in and did not happen after all; `charged` is what the caller had
    /// had with it. What time has paid off of it is not given a second time.
    pub fn refund(self, now: u64, arrival: Arrival, charged: Arrival, cost: u32) -> Arrival {
        arrival.saturating_sub(self.price(cost).min(charged.saturating_sub(now)))
    }

    /// Nanoseconds that a cost is worth.
    pub fn price(self, cost: u32) -> u64 {
        self.interval.saturating_mul(u64::from(cost))
    }

    fn told(self, debt: u64, retry_after: Duration) -> Decision {
        let remaining = (self.window - debt) / self.interval;
        Decision { allowed: true, remaining, retry_after, reset: Duration::from_nanos(debt) }
    }
}

const NANOS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests;
