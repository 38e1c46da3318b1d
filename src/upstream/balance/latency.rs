//! How long an endpoint takes to answer: a moving average that rises at once and falls slowly.
//!
//! The peak-sensitive average of Twitter's Finagle, as Linkerd has it: one slow answer counts in full at once, and its
//! weight falls by half in seven seconds. What is not asked falls too, so that an endpoint which was slow is asked again.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// One worker's view of one endpoint's time to answer.
#[derive(Debug, Default)]
pub(super) struct Latency {
    /// Seconds, and when they were written; none before the first answer.
    average: Cell<Option<(f64, Instant)>>,
}

impl Latency {
    /// An answer came after so long.
    pub(super) fn observe(&self, took: Duration, now: Instant) {
        let took = took.as_secs_f64();
        let average = match self.average.get() {
            Some((average, at)) if took < average => {
                let kept = decay(now.saturating_duration_since(at));
                average.mul_add(kept, took * (1.0 - kept))
            }
            _ => took,
        };
        self.average.set(Some((average, now)));
    }

    /// A failure came after so long. Who fails fast is not to get the calls of those that work: what is known of it stays,
    /// and of whom nothing is known is taken for slow.
    pub(super) fn fail(&self, took: Duration, now: Instant) {
        let known = self.average.get().map_or(PENALTY.as_secs_f64(), |(average, _)| average);
        self.average.set(Some((known.max(took.as_secs_f64()), now)));
    }

    /// Seconds that a call is expected to take; `None` when nothing is known yet.
    pub(super) fn seconds(&self, now: Instant) -> Option<f64> {
        let (average, at) = self.average.get()?;
        Some(average * decay(now.saturating_duration_since(at)))
    }
}

/// What is left of an old value.
fn decay(after: Duration) -> f64 {
    (-after.as_secs_f64() / DECAY.as_secs_f64()).exp()
}

/// For an endpoint whose first answer is a failure.
const PENALTY: Duration = Duration::from_millis(100);
/// In which a value falls to about a third.
const DECAY: Duration = Duration::from_secs(10);
