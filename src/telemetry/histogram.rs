//! Durations in fixed buckets.
//!
//! Bounds are upper and inclusive, as Prometheus has them; counts are per bucket, not cumulative. Nothing is locked:
//! a reader may see a call in its bucket but not yet in the sum.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds in nanoseconds, ascending. One more bucket takes what is slower.
///
/// From a call that only crosses the gateway to the longest unary timeout anybody sets.
const BOUNDS: [u64; 16] = [
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

const BUCKETS: usize = BOUNDS.len() + 1;

/// How long calls took.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    /// Nanoseconds; wraps after 584 years of calls.
    sum: AtomicU64,
}

impl Histogram {
    /// Counts one call.
    pub(crate) fn observe(&self, elapsed: Duration) {
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < nanos);
        if let Some(count) = self.buckets.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Adds what was counted so far to a total.
    pub(crate) fn add_to(&self, total: &mut Total) {
        for (total, count) in total.buckets.iter_mut().zip(&self.buckets) {
            *total += count.load(Ordering::Relaxed);
        }
        total.sum = total.sum.wrapping_add(self.sum.load(Ordering::Relaxed));
    }
}

/// Several histograms added up.
#[derive(Debug, Default)]
pub(crate) struct Total {
    buckets: [u64; BUCKETS],
    sum: u64,
}

impl Total {
    /// How many calls.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// How long they took together, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        seconds(self.sum)
    }

    /// Upper bounds in seconds, the last infinite, and the calls of each bucket alone.
    pub(crate) fn buckets(&self) -> [(f64, u64); BUCKETS] {
        let mut bounds = BOUNDS.iter().map(|bound| seconds(*bound));
        self.buckets.map(|count| (bounds.next().unwrap_or(f64::INFINITY), count))
    }
}

#[allow(clippy::cast_precision_loss, reason = "beyond 104 days of calls a sum may be off by nanoseconds")]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(elapsed: &[Duration]) -> Total {
        let histogram = Histogram::default();
        elapsed.iter().for_each(|elapsed| histogram.observe(*elapsed));
        let mut total = Total::default();
        histogram.add_to(&mut total);
        total
    }

    #[test]
    fn counts_a_duration_on_a_bound_below_it() {
        let total = total(&[Duration::ZERO, Duration::from_micros(500), Duration::from_nanos(500_001)]);

        assert_eq!(total.buckets()[0], (0.0005, 2));
        assert_eq!(total.buckets()[1], (0.001, 1));
    }

    #[test]
    fn counts_the_slowest_in_the_last_bucket() {
        let total = total(&[Duration::from_secs(60), Duration::from_secs(61), Duration::from_secs(3600)]);

        assert_eq!(total.buckets()[15], (60.0, 1));
        assert_eq!(total.buckets()[16], (f64::INFINITY, 2));
        assert_eq!(total.count(), 3);
    }

    #[test]
    fn adds_up_seconds() {
        let total = total(&[Duration::from_millis(1500), Duration::from_millis(750)]);

        assert!((total.seconds() - 2.25).abs() < 1e-9);
    }
}
