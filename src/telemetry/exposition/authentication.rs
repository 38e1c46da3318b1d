//! What the providers of authentication found out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::{Family, sample};
use crate::telemetry::metrics::{AuthenticationResult, ProviderMetrics};

/// One handle for each worker, by the provider's name.
type Providers = BTreeMap<[Arc<str>; 1], Vec<Arc<ProviderMetrics>>>;

pub(super) fn encode(providers: &Providers, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = AUTHENTICATIONS.begin(encoder)?;
    for ([provider], handles) in providers {
        for result in AuthenticationResult::ALL {
            let count: u64 = handles.iter().map(|it| it.counted(result)).sum();
            sample(&mut family, &[("provider", &**provider), ("result", result.name())], &count)?;
        }
    }
    let fetched: Vec<_> = providers
        .iter()
        .map(|(name, handles)| {
            let add = |a: [u64; 2], b: [u64; 2]| [a[0] + b[0], a[1] + b[1]];
            (name, handles, handles.iter().map(|it| it.fetches()).fold([0; 2], add))
        })
        .filter(|(.., fetches)| *fetches != [0; 2])
        .collect();
    let mut family = KEY_FETCHES.begin(encoder)?;
    for ([provider], _, [good, bad]) in &fetched {
        sample(&mut family, &[("provider", &**provider), ("outcome", "success")], good)?;
        sample(&mut family, &[("provider", &**provider), ("outcome", "failure")], bad)?;
    }
    for (which, family) in [&KEYS, &KEYS_STALE].into_iter().enumerate() {
        let mut family = family.begin(encoder)?;
        for ([provider], handles, _) in &fetched {
            let value: i64 = handles.iter().map(|it| it.keys()[which]).sum();
            sample(&mut family, &[("provider", &**provider)], &value)?;
        }
    }
    Ok(())
}

const AUTHENTICATIONS: Family = Family::new(
    MetricType::Counter,
    "portico_authentication_total",
    "Calls that a provider was asked about, by what it found.",
);
const KEY_FETCHES: Family =
    Family::new(MetricType::Counter, "portico_authentication_key_fetches_total", "Fetches of a provider's keys.");
const KEYS: Family =
    Family::new(MetricType::Gauge, "portico_authentication_keys", "Keys of a provider that are in use.");
const KEYS_STALE: Family = Family::new(
    MetricType::Gauge,
    "portico_authentication_keys_stale",
    "Whether the last fetch of a provider's keys failed (1), so that older ones are in use.",
);
