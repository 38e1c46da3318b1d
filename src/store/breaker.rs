//! Whether something that fails is worth asking. Pure.
//!
//! ```text
//!            FAILURES in a row                 its time has come
//!  ┌────────┐ ───────────────▶ ┌──────┐ ───────────────────────▶ ┌─────────┐
//!  │ closed │                  │ open │        one question      │ probing │
//!  └────────┘ ◀─────────────── └──────┘ ◀─────────────────────── └─────────┘
//!      ▲                          fails: open again, for longer       │
//!      └──────────────────────────────────────────────────────────────┘ answered
//! ```
//!
//! **Invariant**: something that never answers is asked once in each back-off, so that all other calls are told at once.

use std::time::Duration;

use tokio::time::Instant;

/// The breaker of one thing that is asked.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    /// In a row.
    failures: u32,
    /// Until when nothing is asked; `None` when closed.
    open: Option<Instant>,
    /// How long it was open last.
    backoff: Duration,
}

impl Breaker {
    /// Whether to ask now. Whoever is told to must report how it went.
    pub fn admits(&mut self, now: Instant) -> bool {
        match self.open {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                // Others wait for what this one finds, but not for ever: it may be given up.
                self.open = Some(now + self.backoff);
                true
            }
        }
    }

    /// An answer came. Returns whether none had been expected.
    pub fn succeeded(&mut self) -> bool {
        let reopened = self.open.is_some();
        *self = Self::default();
        reopened
    }

    /// None came. `random` is from 0 to 1 and spreads those who ask the same thing. Returns whether it opened by that.
    pub fn failed(&mut self, now: Instant, random: f64) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.failures < FAILURES {
            return false;
        }
        let opened = self.open.is_none();
        self.backoff = backoff(self.failures - FAILURES, MAX_BACKOFF, random);
        self.open = Some(now + self.backoff);
        opened
    }
}

/// How long to wait after `failures` before: 100 ms, doubled each time up to `most`, of which at most a half is taken off at
/// `random`.
pub fn backoff(failures: u32, most: Duration, random: f64) -> Duration {
    let full = BACKOFF.saturating_mul(1 << failures.min(10)).min(most);
    full.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
}

/// One lost packet is no failure of a server; as many in a row are.
const FAILURES: u32 = 5;
const BACKOFF: Duration = Duration::from_millis(100);
/// How much later than a server comes back it may be noticed.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn opens_after_failures_in_a_row_only() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());

        let opened: Vec<bool> = (1..FAILURES).map(|_| breaker.failed(now, 0.0)).collect();
        assert!(!opened.contains(&true) && breaker.admits(now));
        assert!(!breaker.succeeded(), "it was never open");
        assert!((1..FAILURES).all(|_| !breaker.failed(now, 0.0)), "what came before is forgotten");

        assert!(breaker.failed(now, 0.0));
        assert!(!breaker.admits(now));
    }

    #[test]
    fn lets_one_ask_when_its_time_has_come() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        (0..FAILURES).for_each(|_| {
            breaker.failed(now, 0.0);
        });

        assert!(!breaker.admits(now + 99 * MS));
        assert!(breaker.admits(now + 100 * MS));
        assert!(!breaker.admits(now + 101 * MS), "the one is not back yet");
        assert!(breaker.admits(now + 200 * MS), "the one was given up");

        assert!(!breaker.failed(now + 200 * MS, 0.0), "it was open already");
        assert!(!breaker.admits(now + 399 * MS), "and stays so for longer");
        assert!(breaker.admits(now + 400 * MS));
        assert!(breaker.succeeded());
        assert!(breaker.admits(now + 400 * MS) && breaker.admits(now + 400 * MS));
    }

    #[test]
    fn waits_longer_each_time_and_never_too_long() {
        assert_eq!([0, 1, 2].map(|failures| backoff(failures, MAX_BACKOFF, 0.0)), [100 * MS, 200 * MS, 400 * MS]);
        assert_eq!(backoff(u32::MAX, MAX_BACKOFF, 0.0), MAX_BACKOFF);
        assert_eq!(backoff(0, MAX_BACKOFF, 1.0), 50 * MS);
    }
}
