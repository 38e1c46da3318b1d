//! What was decided about calls, by the rules of their policies and by external authorizers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::exposition::{Family, Groups, NO_EXEMPLARS, sample};
use super::histogram::{Histogram, Total};
use super::metrics::Counter;

/// Stands for the rules among those who decide. No authorizer has such a name.
pub const RULES: &str = "rules";

/// How a decision came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The call passes.
    Allowed,
    /// It does not.
    Denied,
    /// There was no decision.
    Failed,
}

impl Decision {
    const ALL: [Self; 3] = [Self::Allowed, Self::Denied, Self::Failed];

    fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

/// The decisions of one who decides, on one worker.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct DecisionMetrics {
    decisions: [Counter; Decision::ALL.len()],
    duration: Histogram,
}

impl DecisionMetrics {
    /// Counts a decision.
    pub fn count(&self, decision: Decision) {
        if let Some(counter) = self.decisions.get(decision as usize) {
            counter.add(1);
        }
    }

    /// Notes how long an answer took, or the waiting for one that did not come.
    pub fn took(&self, elapsed: Duration) {
        self.duration.observe(elapsed);
    }
}

/// Writes the families.
pub(super) fn write(by: &Groups<1, DecisionMetrics>, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = DECISIONS.begin(encoder)?;
    for ([decider], handles) in by {
        for decision in Decision::ALL {
            let count = |it: &Arc<DecisionMetrics>| it.decisions.get(decision as usize).map_or(0, Counter::value);
            let count: u64 = handles.iter().map(count).sum();
            if count > 0 {
                sample(&mut family, &[("by", &**decider), ("decision", decision.name())], &count)?;
            }
        }
    }
    let mut family = DURATION.begin(encoder)?;
    for ([decider], handles) in by {
        let mut total = Total::default();
        handles.iter().for_each(|it| it.duration.add_to(&mut total));
        if total.count() > 0 {
            family.encode_family(&[("by", &**decider)])?.encode_histogram(
                total.sum(),
                total.count(),
                &total.buckets(),
                NO_EXEMPLARS,
            )?;
        }
    }
    Ok(())
}

const DECISIONS: Family = Family::new(
    MetricType::Counter,
    "portico_authorization_decisions_total",
    "Decisions on calls by the rules of policies and by external authorizers.",
);
const DURATION: Family = Family::new(
    MetricType::Histogram,
    "portico_authorization_duration_seconds",
    "Time that external authorizers took to answer, or were waited for.",
);
