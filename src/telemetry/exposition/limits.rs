//! What became of calls under limits, and how much there is to do.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::{Family, group, sample};
use crate::telemetry::limits::{Limiter, Loads};
use crate::telemetry::metrics::{Counter, LimitMetrics, LoadList, Registry, Worker};

/// Of all workers.
#[derive(Debug)]
pub(super) struct Limits {
    /// By limit.
    decisions: BTreeMap<[Arc<str>; 1], Vec<Arc<LimitMetrics>>>,
    /// Callers and bytes.
    limiter: (usize, usize),
    /// By method and reason.
    overloaded: BTreeMap<[Arc<str>; 2], Vec<Arc<Counter>>>,
    loads: LoadList,
    /// Of the worker that is worst off, in seconds.
    queue_delay: f64,
}

impl Limits {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            decisions: BTreeMap::new(),
            limiter: registry.limiter.get().map(Limiter::size).unwrap_or_default(),
            overloaded: BTreeMap::new(),
            loads: registry.loads.get().map(Loads::list).unwrap_or_default(),
            queue_delay: 0.0,
        }
    }

    pub(super) fn add(&mut self, worker: &Worker) {
        group(&mut self.decisions, worker.limits.list());
        group(&mut self.overloaded, worker.overloaded.list());
        let delay = Duration::from_micros(worker.queue_delay.load(Ordering::Relaxed));
        self.queue_delay = self.queue_delay.max(delay.as_secs_f64());
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        self.limits(encoder)?;
        self.admission(encoder)
    }

    fn limits(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = RATE_LIMIT_DECISIONS.begin(encoder)?;
        for ([limit], handles) in &self.decisions {
            for (index, outcome) in ["allowed", "refused", "shadow_refused"].into_iter().enumerate() {
                let count: u64 = handles.iter().map(|it| it.outcomes()[index]).sum();
                sample(&mut family, &[("limit", &**limit), ("outcome", outcome)], &count)?;
            }
        }
        let mut family = RATE_LIMIT_OVERFLOWS.begin(encoder)?;
        for ([limit], handles) in &self.decisions {
            let count: u64 = handles.iter().map(|it| it.overflowed.value()).sum();
            sample(&mut family, &[("limit", &**limit)], &count)?;
        }
        let (keys, bytes) = self.limiter;
        RATE_LIMIT_KEYS.begin(encoder)?.encode_gauge(&(keys as u64))?;
        RATE_LIMIT_STORE.begin(encoder)?.encode_gauge(&(bytes as u64))
    }

    fn admission(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = ADMISSION_REFUSED.begin(encoder)?;
        for ([method, reason], handles) in &self.overloaded {
            let count: u64 = handles.iter().map(|it| it.value()).sum();
            sample(&mut family, &[("method", &**method), ("reason", &**reason)], &count)?;
        }
        let (loads, memory) = &self.loads;
        let mut family = ADMISSION_OPEN.begin(encoder)?;
        for (method, open, _) in loads {
            sample(&mut family, &[("method", &**method)], open)?;
        }
        let mut family = ADMISSION_LIMIT.begin(encoder)?;
        for (method, _, limit) in loads {
            if let Some(limit) = limit {
                sample(&mut family, &[("method", &**method)], limit)?;
            }
        }
        ADMISSION_DELAY.begin(encoder)?.encode_gauge(&self.queue_delay)?;
        ADMISSION_MEMORY.begin(encoder)?.encode_gauge(&(*memory as u64))
    }
}

const RATE_LIMIT_DECISIONS: Family = Family::new(
    MetricType::Counter,
    "portico_rate_limit_decisions_total",
    "Calls, or messages, that a limit let in or refused, or would have refused if it were not in shadow mode.",
);
const RATE_LIMIT_OVERFLOWS: Family = Family::new(
    MetricType::Counter,
    "portico_rate_limit_overflows_total",
    "Calls that were counted with those of other callers because there was no memory for one of their own.",
);
const RATE_LIMIT_KEYS: Family =
    Family::new(MetricType::Gauge, "portico_rate_limit_keys", "Callers that owe something to a limit.");
const RATE_LIMIT_STORE: Family = Family::new(
    MetricType::Gauge,
    "portico_rate_limit_store_bytes",
    "Memory that the process's own store of limits takes.",
);
const ADMISSION_REFUSED: Family = Family::new(
    MetricType::Counter,
    "portico_admission_refused_total",
    "Calls that were not taken on because there was too much to do.",
);
const ADMISSION_OPEN: Family = Family::new(
    MetricType::Gauge,
    "portico_admission_open_calls",
    "Calls under way of methods that have a bound on them.",
);
const ADMISSION_LIMIT: Family =
    Family::new(MetricType::Gauge, "portico_admission_limit", "Where the adaptive limit of a method stands.");
const ADMISSION_DELAY: Family = Family::new(
    MetricType::Gauge,
    "portico_admission_queue_delay_seconds",
    "How long work waits for its turn on the worker that is worst off, where that is bounded.",
);
const ADMISSION_MEMORY: Family = Family::new(
    MetricType::Gauge,
    "portico_admission_memory_bytes",
    "Resident memory of the process, where that is bounded.",
);
