//! The stores that limits are kept in.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::{Collected, Family, NO_EXEMPLARS, sample};
use crate::telemetry::histogram::Total;
use crate::telemetry::stores::{Fallback, Outcome};

impl Collected {
    pub(super) fn stores(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = QUESTIONS.begin(encoder)?;
        for ([store], handles) in &self.stores {
            for outcome in Outcome::ALL {
                let count: u64 = handles.iter().map(|it| it.questions(outcome)).sum();
                sample(&mut family, &[("store", &**store), ("outcome", outcome.name())], &count)?;
            }
        }
        let mut family = DURATION.begin(encoder)?;
        for ([store], handles) in &self.stores {
            let mut total = Total::default();
            handles.iter().for_each(|it| it.duration.add_to(&mut total));
            let labels = [("store", &**store)];
            let (seconds, count, buckets) = (total.sum(), total.count(), total.buckets());
            family.encode_family(&labels)?.encode_histogram(seconds, count, &buckets, NO_EXEMPLARS)?;
        }
        let mut family = CONNECTED.begin(encoder)?;
        for ([store], handles) in &self.stores {
            let count: i64 = handles.iter().map(|it| it.connected.value()).sum();
            sample(&mut family, &[("store", &**store)], &count)?;
        }
        let mut family = FALLBACKS.begin(encoder)?;
        for ([store], handles) in &self.stores {
            for fallback in Fallback::ALL {
                let count: u64 = handles.iter().map(|it| it.fallbacks(fallback)).sum();
                sample(&mut family, &[("store", &**store), ("fallback", fallback.name())], &count)?;
            }
        }
        let mut family = LEASED.begin(encoder)?;
        for ([store], handles) in &self.stores {
            let count: u64 = handles.iter().map(|it| it.leased.value()).sum();
            sample(&mut family, &[("store", &**store)], &count)?;
        }
        Ok(())
    }
}

const QUESTIONS: Family = Family::new(
    MetricType::Counter,
    "portico_rate_limit_store_questions_total",
    "Questions to a store of limits, by how they ended.",
);
const DURATION: Family = Family::new(
    MetricType::Histogram,
    "portico_rate_limit_store_duration_seconds",
    "Time from a question to a store of limits to its end.",
);
const CONNECTED: Family = Family::new(
    MetricType::Gauge,
    "portico_rate_limit_store_connections",
    "Workers that are connected to a store of limits.",
);
const FALLBACKS: Family = Family::new(
    MetricType::Counter,
    "portico_rate_limit_store_fallbacks_total",
    "Calls for which a store of limits had no answer, by what became of them.",
);
const LEASED: Family = Family::new(
    MetricType::Counter,
    "portico_rate_limit_store_leased_total",
    "Calls that needed no question, because what they take had been taken in advance.",
);
