//! How many further attempts an upstream's calls may make together.
//!
//! A part of the calls of the last ten seconds, counted over the whole process: an upstream that fails every call sees that
//! much more load and no more. A few are allowed whatever the part comes to, or a quiet upstream would have none.
//!
//! Calls are counted by each worker alone and summed only when somebody wants a further attempt, which costs a healthy
//! upstream nothing. The ten seconds begin with the first such wish.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry::metrics::Counter;

/// The further attempts of one upstream.
#[derive(Debug)]
pub struct Budget {
    /// Percent.
    part: u8,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Of each worker.
    calls: Vec<Weak<Counter>>,
    /// Calls counted by workers that are gone.
    past: u64,
    window: Window,
}

/// What happened lately; pure.
#[derive(Debug, Default)]
struct Window {
    /// Oldest first: when a slice began, the calls until then, and the further attempts in it.
    slices: VecDeque<Slice>,
    /// Further attempts in all slices.
    attempts: u64,
}

#[derive(Debug)]
struct Slice {
    began: Instant,
    calls: u64,
    attempts: u64,
}

/// Why a further attempt is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// The server refused the stream without looking at it.
    Refused,
    /// A policy says so.
    Policy,
}

impl Budget {
    /// A budget of that part of the calls, in percent.
    pub(super) fn new(part: u8) -> Self {
        Self { part, state: Mutex::default() }
    }

    /// Counts the calls of one more worker.
    pub(super) fn join(&self) -> Arc<Counter> {
        let calls = Arc::new(Counter::default());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.calls.push(Arc::downgrade(&calls));
        calls
    }

    /// Counts what a worker that leaves has counted.
    pub(super) fn leave(&self, calls: &Arc<Counter>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.past += calls.value();
        state.calls.retain(|known| known.as_ptr() != Arc::as_ptr(calls));
    }

    /// Takes a further attempt, if there is one left.
    pub(super) fn take(&self, want: Want, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = state.past + state.calls.iter().filter_map(Weak::upgrade).map(|calls| calls.value()).sum::<u64>();
        let least = match want {
            Want::Refused => LEAST_REFUSED,
            Want::Policy => LEAST,
        };
        state.window.take(calls, self.part, least, now)
    }
}

impl Window {
    /// `calls` are all until now.
    fn take(&mut self, calls: u64, part: u8, least: u64, now: Instant) -> bool {
        while let Some(old) = self.slices.pop_front_if(|slice| now.saturating_duration_since(slice.began) >= WINDOW) {
            self.attempts -= old.attempts;
        }
        if self.slices.back().is_none_or(|slice| now.saturating_duration_since(slice.began) >= SLICE) {
            self.slices.push_back(Slice { began: now, calls, attempts: 0 });
        }
        let lately = calls - self.slices.front().map_or(0, |slice| slice.calls);
        if self.attempts >= (lately * u64::from(part) / 100).max(least) {
            return false;
        }
        self.attempts += 1;
        if let Some(slice) = self.slices.back_mut() {
            slice.attempts += 1;
        }
        true
    }
}

/// What counts as lately.
const WINDOW: Duration = Duration::from_secs(10);
const SLICE: Duration = Duration::from_secs(1);
/// Attempts in a window that are allowed whatever the calls are.
const LEAST: u64 = 10;
/// The same for calls that were refused unseen, which cost a server little.
const LEAST_REFUSED: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls at that rate, of which every one fails and wants `wanted` further attempts: how many there were.
    fn storm(per_second: u64, seconds: u64, wanted: u32) -> (u64, u64) {
        let (start, mut window, mut attempts) = (Instant::now(), Window::default(), 0);
        let calls = per_second * seconds;
        for call in 0..calls {
            let now = start + Duration::from_nanos(call * 1_000_000_000 / per_second);
            for _ in 0..wanted {
                attempts += u64::from(window.take(call + 1, 20, LEAST, now));
            }
        }
        (calls, attempts)
    }

    #[test]
    fn an_upstream_that_fails_every_call_sees_a_fifth_more() {
        for (per_second, wanted) in [(100, 1), (2000, 1), (2000, 3), (20_000, 5)] {
            let (calls, attempts) = storm(per_second, 60, wanted);
            assert!(attempts * 5 <= calls + 5 * LEAST, "{attempts} for {calls}");
            assert!(attempts * 6 >= calls, "{attempts} for {calls}");
        }
    }

    #[test]
    fn a_quiet_upstream_has_a_few() {
        let (_, attempts) = storm(1, 8, 5);

        assert_eq!(attempts, LEAST);
    }

    #[test]
    fn calls_of_workers_that_left_count() {
        let budget = Budget::new(50);
        let worker = budget.join();
        let now = Instant::now();
        assert!(budget.take(Want::Policy, now));
        worker.add(100);
        budget.leave(&worker);

        let taken = (0..100).filter(|_| budget.take(Want::Policy, now)).count();

        assert_eq!(taken, 49);
    }
}
