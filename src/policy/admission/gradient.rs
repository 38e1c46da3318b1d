//! How many calls at once a method answers in good time, found by how long they take.
//!
//! The gradient is how long calls take when there are few of them, over how long they take now. While that is nearly the
//! same the limit rises by a small queue; when calls slow down it shrinks by the gradient, which is what a queue in front of the
//! service looks like from here. A call that fails for want of capacity takes a tenth off at once. How long calls take
//! alone is measured again from time to time, with half of the calls, so that slowness never becomes what is usual.
//!
//! ```text
//!           500 calls                 as many as were open            20 calls
//!  Steady ─────────────▶ Drain (half) ────────────────────▶ Measure ───────────▶ Steady
//! ```
//!
//! After Gradient2 of [Netflix](https://github.com/Netflix/concurrency-limits) and the adaptive concurrency of Envoy.

use crate::config::admission::Adaptive;

/// A limit that follows how long calls take.
#[derive(Debug, Clone)]
pub struct Gradient {
    bounds: Adaptive,
    limit: f64,
    /// Seconds that a call takes when there are few.
    alone: f64,
    /// Seconds that the last few took.
    short: Option<f64>,
    phase: Phase,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Steady { left: u32 },
    Drain { left: u32, back: f64 },
    Measure { left: u32, sum: f64, back: f64 },
}

impl Gradient {
    /// A limit that begins low: the first calls show how long they take.
    pub fn new(bounds: Adaptive) -> Self {
        let limit = f64::from(bounds.min.max(INITIAL.min(bounds.max)));
        let phase = Phase::Measure { left: MEASURED, sum: 0.0, back: limit };
        Self { bounds, limit, alone: f64::INFINITY, short: None, phase }
    }

    /// Other bounds, from a reload.
    pub fn set_bounds(&mut self, bounds: Adaptive) {
        if bounds != self.bounds {
            self.bounds = bounds;
            self.set(self.limit);
        }
    }

    /// How many calls at once.
    #[allow(clippy::cast_possible_truncation, reason = "it stays between its bounds, which are smaller")]
    pub fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// A call was answered after that many seconds, of `open` at once.
    pub fn sample(&mut self, seconds: f64, open: u32) {
        let seconds = seconds.max(SHORTEST);
        let short = self.short.map_or(seconds, |short| short + (seconds - short) / SHORT_CALLS);
        self.short = Some(short);
        self.phase = match self.phase {
            Phase::Steady { left: 0 } => {
                let back = self.limit;
                self.set(self.limit / 2.0);
                Phase::Drain { left: open, back }
            }
            Phase::Steady { left } => {
                self.alone = self.alone.min(short);
                self.step(short, open);
                Phase::Steady { left: left - 1 }
            }
            Phase::Drain { left: 0, back } => Phase::Measure { left: MEASURED, sum: 0.0, back },
            Phase::Drain { left, back } => Phase::Drain { left: left - 1, back },
            Phase::Measure { left: 0, sum, back } => {
                self.alone = sum / f64::from(MEASURED);
                self.set(back);
                Phase::Steady { left: STEADY }
            }
            Phase::Measure { left, sum, back } => Phase::Measure { left: left - 1, sum: sum + seconds, back },
        };
    }

    /// A call failed for want of capacity, or of time.
    pub fn dropped(&mut self) {
        self.set(self.limit * 0.9);
        match &mut self.phase {
            Phase::Drain { back, .. } | Phase::Measure { back, .. } => *back *= 0.9,
            Phase::Steady { .. } => {}
        }
    }

    fn step(&mut self, short: f64, open: u32) {
        // Who is far from the limit says nothing of it.
        if f64::from(open) * 2.0 < self.limit {
            return;
        }
        let gradient = (TOLERANCE * self.alone / short).clamp(0.5, 1.0);
        let wanted = self.limit * gradient + self.limit.sqrt();
        self.set(self.limit + (wanted - self.limit) * SMOOTHING);
    }

    fn set(&mut self, limit: f64) {
        self.limit = limit.clamp(self.bounds.min.into(), self.bounds.max.into());
    }
}

const INITIAL: u32 = 20;
/// Calls until it is measured again how long they take alone, and how many are measured.
const STEADY: u32 = 500;
const MEASURED: u32 = 20;
/// Calls that the short average goes over.
const SHORT_CALLS: f64 = 10.0;
/// How much slower calls may be than alone before the limit shrinks.
const TOLERANCE: f64 = 1.5;
/// Part of the way to the limit that is wanted, for each call.
const SMOOTHING: f64 = 0.2;
/// A microsecond: what is shorter is noise.
const SHORTEST: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;

    /// A service that answers `capacity` calls at once in ten milliseconds, and more of them later; always asked for as
    /// much as the limit lets through, up to `demand`. Gives the mean of the limit in the last thousand calls.
    fn drive(gradient: &mut Gradient, calls: u32, capacity: f64, demand: u32) -> f64 {
        let mut sum = 0.0;
        for _ in 0..calls {
            let open = gradient.limit().min(demand);
            gradient.sample(0.01 * (f64::from(open) / capacity).max(1.0), open);
            sum += f64::from(gradient.limit());
        }
        sum / f64::from(calls)
    }

    #[test]
    fn finds_what_a_service_bears_and_follows_it() {
        let mut gradient = Gradient::new(Adaptive { min: 4, max: 1000 });

        drive(&mut gradient, 5000, 50.0, u32::MAX);
        let found = drive(&mut gradient, 2000, 50.0, u32::MAX);
        drive(&mut gradient, 2000, 10.0, u32::MAX);
        let slow = drive(&mut gradient, 2000, 10.0, u32::MAX);
        drive(&mut gradient, 5000, 200.0, u32::MAX);
        let fast = drive(&mut gradient, 5000, 200.0, u32::MAX);

        assert!((40.0..=150.0).contains(&found), "{found}");
        assert!((8.0..=40.0).contains(&slow), "{slow}");
        assert!((160.0..=600.0).contains(&fast), "{fast}");
    }

    #[test]
    fn stays_within_its_bounds() {
        let mut gradient = Gradient::new(Adaptive { min: 8, max: 64 });
        drive(&mut gradient, 5000, 1e6, u32::MAX);
        assert!((8..=64).contains(&gradient.limit()));
        (0..500).for_each(|_| gradient.dropped());
        assert_eq!(gradient.limit(), 8);
        gradient.set_bounds(Adaptive { min: 16, max: 32 });
        assert_eq!(gradient.limit(), 16);
        assert_eq!(Gradient::new(Adaptive { min: 1, max: 3 }).limit(), 3);
    }

    #[test]
    fn says_nothing_of_a_limit_that_nobody_is_near() {
        let mut gradient = Gradient::new(Adaptive { min: 4, max: 1000 });
        let before = gradient.limit();

        drive(&mut gradient, 500, 1e6, 2);

        assert_eq!(gradient.limit(), before);
    }
}
