//! What operators are told of changes while the gateway runs: reloads, schemas, certificates.
//!
//! Seldom written, and never on the way of a call.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::exposition::{Family, sample};

/// Counts of the whole process.
#[derive(Debug, Default)]
pub struct Lifecycle(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    reloads: u64,
    failed_reloads: u64,
    /// When the configuration that is in use was read, and whether no later one was refused.
    last: Option<(SystemTime, bool)>,
    /// By upstream.
    schemas: BTreeMap<Arc<str>, Schemas>,
    /// Files and the second at which their certificates expire.
    certificates: Vec<(Arc<str>, i64)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Schemas {
    taken: u64,
    refused: u64,
    breaking: u64,
}

impl Lifecycle {
    /// The configuration was read and is in use.
    pub fn reloaded(&self, now: SystemTime) {
        let mut counts = self.counts();
        counts.reloads += 1;
        counts.last = Some((now, true));
    }

    /// The configuration that the process was started with is in use.
    pub fn started(&self, now: SystemTime) {
        self.counts().last = Some((now, true));
    }

    /// A configuration was refused; the one before stays in use.
    pub fn reload_failed(&self) {
        let mut counts = self.counts();
        counts.failed_reloads += 1;
        if let Some((_, fine)) = &mut counts.last {
            *fine = false;
        }
    }

    /// An upstream has another schema, in which so many changes break callers; it is in use unless it was refused.
    pub fn schema_changed(&self, upstream: &Arc<str>, breaking: usize, refused: bool) {
        let mut counts = self.counts();
        let schemas = counts.schemas.entry(Arc::clone(upstream)).or_default();
        schemas.breaking += breaking as u64;
        *(if refused { &mut schemas.refused } else { &mut schemas.taken }) += 1;
    }

    /// The certificates in use, by file, each with the second after which it is not valid any more.
    pub fn set_certificates(&self, certificates: Vec<(Arc<str>, i64)>) {
        self.counts().certificates = certificates;
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let counts = self.counts();
        let mut family = RELOADS.begin(encoder)?;
        for (result, count) in [("ok", counts.reloads), ("failed", counts.failed_reloads)] {
            sample(&mut family, &[("result", result)], &count)?;
        }
        let (at, fine) = counts.last.unwrap_or((UNIX_EPOCH, false));
        LAST_RELOAD_OK.begin(encoder)?.encode_gauge(&u64::from(fine))?;
        let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        LAST_RELOAD.begin(encoder)?.encode_gauge(&at.as_secs_f64())?;
        let mut family = SCHEMA_CHANGES.begin(encoder)?;
        for (upstream, schemas) in &counts.schemas {
            for (result, count) in [("taken", schemas.taken), ("refused", schemas.refused)] {
                sample(&mut family, &[("upstream", &**upstream), ("result", result)], &count)?;
            }
        }
        let mut family = BREAKING_CHANGES.begin(encoder)?;
        for (upstream, schemas) in &counts.schemas {
            sample(&mut family, &[("upstream", &**upstream)], &schemas.breaking)?;
        }
        let mut family = CERTIFICATE_EXPIRY.begin(encoder)?;
        for (file, until) in &counts.certificates {
            sample(&mut family, &[("file", &**file)], until)?;
        }
        Ok(())
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const RELOADS: Family = Family::new(
    MetricType::Counter,
    "portico_config_reloads_total",
    "Configurations that were read while the gateway ran, by whether they came into use.",
);
const LAST_RELOAD_OK: Family = Family::new(
    MetricType::Gauge,
    "portico_config_last_reload_successful",
    "Whether the configuration that was read last is the one in use (1) or was refused (0).",
);
const LAST_RELOAD: Family = Family::new(
    MetricType::Gauge,
    "portico_config_last_reload_success_timestamp_seconds",
    "When the configuration in use was read, in seconds since the Unix epoch.",
);
const SCHEMA_CHANGES: Family = Family::new(
    MetricType::Counter,
    "portico_schema_changes_total",
    "Times that an upstream had another schema than before, by whether it came into use.",
);
const BREAKING_CHANGES: Family = Family::new(
    MetricType::Counter,
    "portico_schema_breaking_changes_total",
    "Changes of an upstream's schema that break callers.",
);
const CERTIFICATE_EXPIRY: Family = Family::new(
    MetricType::Gauge,
    "portico_certificate_expiry_timestamp_seconds",
    "When the certificate of a file expires, in seconds since the Unix epoch.",
);
