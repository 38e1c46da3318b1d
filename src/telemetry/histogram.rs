//! Durations and sizes in fixed buckets.
//!
//! Bounds are upper and inclusive, as Prometheus has them; counts are per bucket, not cumulative. Nothing is locked:
//! a reader may see a call in its bucket but not yet in the sum.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is measured, and in which buckets.
pub(crate) trait Scale {
    /// Upper bounds in the unit that is counted, ascending. One more bucket takes what is above.
    const BOUNDS: [u64; BUCKETS - 1];
    /// How many of them make one of the unit that is shown.
    const SHOWN: f64;
}

/// Nanoseconds, shown as seconds: from a call that only crosses the gateway to the longest unary timeout anybody sets.
#[derive(Debug, Default)]
pub(crate) struct Durations;

/// Bytes: from an empty message to the largest that anybody allows.
#[derive(Debug, Default)]
pub(crate) struct Sizes;

impl Scale for Durations {
    const BOUNDS: [u64; BUCKETS - 1] = [
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
    const SHOWN: f64 = 1e9;
}

impl Scale for Sizes {
    const BOUNDS: [u64; BUCKETS - 1] = [
        32,
        64,
        128,
        256,
        512,
        1 << 10,
        2 << 10,
        4 << 10,
        8 << 10,
        16 << 10,
        64 << 10,
        256 << 10,
        1 << 20,
        4 << 20,
        16 << 20,
        64 << 20,
    ];
    const SHOWN: f64 = 1.0;
}

const BUCKETS: usize = 17;

/// How long calls took, or how large they were.
#[derive(Debug, Default)]
pub(crate) struct Histogram<S = Durations> {
    buckets: [AtomicU64; BUCKETS],
    /// Nanoseconds wrap after 584 years of calls.
    sum: AtomicU64,
    scale: PhantomData<S>,
}

impl Histogram {
    /// Counts one call.
    pub(crate) fn observe(&self, elapsed: Duration) {
        self.add(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
    }
}

impl<S: Scale> Histogram<S> {
    /// Counts one call, in the unit that is counted.
    pub(crate) fn add(&self, value: u64) {
        let bucket = S::BOUNDS.partition_point(|bound| *bound < value);
        if let Some(count) = self.buckets.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Adds what was counted so far to a total.
    pub(crate) fn add_to(&self, total: &mut Total<S>) {
        for (total, count) in total.buckets.iter_mut().zip(&self.buckets) {
            *total += count.load(Ordering::Relaxed);
        }
        total.sum = total.sum.wrapping_add(self.sum.load(Ordering::Relaxed));
    }
}

/// Several histograms added up.
#[derive(Debug, Default)]
pub(crate) struct Total<S = Durations> {
    buckets: [u64; BUCKETS],
    sum: u64,
    scale: PhantomData<S>,
}

impl<S: Scale> Total<S> {
    /// How many calls.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All of them together, in the unit that is counted.
    pub(crate) fn raw_sum(&self) -> u64 {
        self.sum
    }

    /// The same in the unit that is shown.
    pub(crate) fn sum(&self) -> f64 {
        shown::<S>(self.sum)
    }

    /// Upper bounds in the unit that is shown, the last infinite, and the calls of each bucket alone.
    pub(crate) fn buckets(&self) -> [(f64, u64); BUCKETS] {
        let mut bounds = S::BOUNDS.iter().map(|bound| shown::<S>(*bound));
        self.buckets.map(|count| (bounds.next().unwrap_or(f64::INFINITY), count))
    }
}

#[allow(clippy::cast_precision_loss, reason = "beyond 104 days of calls a sum may be off by nanoseconds")]
fn shown<S: Scale>(value: u64) -> f64 {
    value as f64 / S::SHOWN
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

        assert!((total.sum() - 2.25).abs() < 1e-9);
    }

    #[test]
    fn counts_bytes_as_they_are() {
        let histogram = Histogram::<Sizes>::default();
        [0, 32, 33, 1 << 40].into_iter().for_each(|bytes| histogram.add(bytes));
        let mut total = Total::default();
        histogram.add_to(&mut total);

        assert_eq!(total.buckets()[..2], [(32.0, 2), (64.0, 1)]);
        assert_eq!((total.buckets()[16].1, total.raw_sum()), (1, (1 << 40) + 65));
    }
}
