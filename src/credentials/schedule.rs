//! When the keys of an issuer are fetched: pure, with time as an argument.
//!
//! ```text
//!            due                    succeeded: refresh, or what the reply says
//!  waiting ───────▶ running ───────────────────────────────────────────────────▶ waiting
//!     ▲                │ failed: the pause, doubled each time up to the refresh      ▲
//!     └ wanted: as soon as the floor allows                                          │
//!                      └─────────────────────────────────────────────────────────────┘
//! ```
//!
//! **Invariant**: two fetches begin at least one floor apart, whatever is wanted.

use std::time::Duration;

use tokio::time::Instant;

/// Times between fetches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// When all is well and the server says nothing.
    pub(super) refresh: Duration,
    /// At least.
    pub(super) floor: Duration,
}

/// When the next fetch begins.
#[derive(Debug)]
pub(super) struct Schedule {
    pace: Pace,
    begun: Option<Instant>,
    running: bool,
    due: Instant,
    failures: u32,
}

impl Schedule {
    /// The first fetch is due at once.
    pub(super) fn new(pace: Pace, now: Instant) -> Self {
        Self { pace, begun: None, running: false, due: now, failures: 0 }
    }

    /// When the next fetch is to begin.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// A key is wanted that is not there. Whether a fetch is running, or begins at once.
    pub(super) fn wanted(&mut self, now: Instant) -> bool {
        if self.running {
            return true;
        }
        self.due = self.due.min(self.earliest(now));
        self.due <= now
    }

    /// A fetch begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.begun = Some(now);
        self.running = true;
    }

    /// It brought keys, which the server calls fresh for so long.
    pub(super) fn succeeded(&mut self, now: Instant, fresh: Option<Duration>) {
        self.failures = 0;
        let shortest = self.pace.refresh.min(SHORTEST).max(self.pace.floor);
        let next = fresh.map_or(self.pace.refresh, |fresh| fresh.clamp(shortest, LONGEST.max(shortest)));
        self.end(now + next, now);
    }

    /// It brought nothing.
    pub(super) fn failed(&mut self, now: Instant) {
        let longest = self.pace.refresh.min(LONGEST_PAUSE).max(self.pace.floor);
        let pause = self.pace.floor.max(FIRST_PAUSE).saturating_mul(1 << self.failures.min(10));
        self.failures += 1;
        self.end(now + pause.min(longest), now);
    }

    fn end(&mut self, due: Instant, now: Instant) {
        self.running = false;
        self.due = due.max(self.earliest(now));
    }

    fn earliest(&self, now: Instant) -> Instant {
        self.begun.map_or(now, |begun| (begun + self.pace.floor).max(now))
    }
}

/// Bounds on what `cache-control` may say.
const SHORTEST: Duration = Duration::from_mins(1);
const LONGEST: Duration = Duration::from_hours(24);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PACE: Pace = Pace { refresh: Duration::from_secs(600), floor: Duration::from_secs(10) };

    fn seconds(schedule: &Schedule, start: Instant) -> u64 {
        (schedule.due() - start).as_secs()
    }

    #[test]
    fn keys_are_fetched_at_once_and_then_by_what_the_server_says() {
        let start = Instant::now();
        for (fresh, expected) in [
            (None, 600),
            (Some(Duration::from_secs(300)), 300),
            (Some(Duration::ZERO), 60),
            (Some(Duration::from_hours(1000)), 86_400),
        ] {
            let mut schedule = Schedule::new(PACE, start);
            assert_eq!(seconds(&schedule, start), 0);
            schedule.begin(start);
            schedule.succeeded(start, fresh);
            assert_eq!(seconds(&schedule, start), expected, "{fresh:?}");
        }
    }

    #[test]
    fn a_wanted_key_is_fetched_once_the_floor_has_passed() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut schedule = Schedule::new(PACE, start);
        schedule.begin(start);
        assert!(schedule.wanted(start), "it is running");
        schedule.succeeded(at(1), None);

        assert!(!schedule.wanted(at(4)));
        assert_eq!(seconds(&schedule, start), 10);
        assert!(schedule.wanted(at(10)));
        schedule.begin(at(10));
        schedule.succeeded(at(11), None);
        assert!(schedule.wanted(at(300)));
        assert_eq!(seconds(&schedule, start), 300);
    }

    #[test]
    fn failures_are_repeated_ever_more_slowly() {
        let start = Instant::now();
        let mut schedule = Schedule::new(PACE, start);
        let mut now = start;
        let mut pauses = Vec::new();
        for _ in 0..6 {
            schedule.begin(now);
            schedule.failed(now);
            pauses.push((schedule.due() - now).as_secs());
            now = schedule.due();
        }
        assert_eq!(pauses, [10, 20, 40, 60, 60, 60]);
    }

    proptest! {
        #[test]
        fn two_fetches_begin_a_floor_apart(
            steps in prop::collection::vec((0_u64..30_000, 0_u64..3_000, any::<bool>(), prop::option::of(0_u64..1000)), 1..60),
        ) {
            let mut now = Instant::now();
            let mut schedule = Schedule::new(PACE, now);
            let mut begun: Option<Instant> = None;
            for (wait, lasts, works, fresh) in steps {
                now += Duration::from_millis(wait);
                schedule.wanted(now);
                if schedule.due() > now {
                    continue;
                }
                if let Some(begun) = begun {
                    prop_assert!(now - begun >= PACE.floor);
                }
                begun = Some(now);
                schedule.begin(now);
                now += Duration::from_millis(lasts);
                if works {
                    schedule.succeeded(now, fresh.map(Duration::from_secs));
                } else {
                    schedule.failed(now);
                }
            }
        }
    }
}
