//! How large the bodies of calls were, as Prometheus reads it: sums by method, and histograms.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::exposition::{Family, NO_EXEMPLARS, sample};
use super::histogram::{Histogram, Sizes, Total};
use super::metrics::MethodMetrics;

/// Writes the families of sizes; `methods` are by upstream and method.
pub(super) fn encode(
    methods: &BTreeMap<[Arc<str>; 2], Vec<Arc<MethodMetrics>>>,
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let requests: fn(&MethodMetrics) -> &Histogram<Sizes> = |it| &it.request_bytes;
    let responses: fn(&MethodMetrics) -> &Histogram<Sizes> = |it| &it.response_bytes;
    for (sums, sizes, histogram) in
        [(&REQUEST_BYTES, &REQUEST_SIZE, requests), (&RESPONSE_BYTES, &RESPONSE_SIZE, responses)]
    {
        let totals = methods.iter().map(|(labels, handles)| {
            let mut total = Total::default();
            handles.iter().for_each(|it| histogram(it).add_to(&mut total));
            (labels, total)
        });
        let totals: Vec<_> = totals.filter(|(_, total)| total.count() > 0).collect();
        let mut family = sums.begin(encoder)?;
        for ([upstream, method], total) in &totals {
            sample(&mut family, &[("upstream", &**upstream), ("method", &**method)], &total.raw_sum())?;
        }
        let mut family = sizes.begin(encoder)?;
        for ([upstream, method], total) in &totals {
            let (sum, count, buckets) = (total.sum(), total.count(), total.buckets());
            family.encode_family(&[("upstream", &**upstream), ("method", &**method)])?.encode_histogram(
                sum,
                count,
                &buckets,
                NO_EXEMPLARS,
            )?;
        }
    }
    Ok(())
}

const REQUEST_BYTES: Family =
    Family::new(MetricType::Counter, "portico_request_bytes_total", "Bytes of bodies received from clients.");
const RESPONSE_BYTES: Family =
    Family::new(MetricType::Counter, "portico_response_bytes_total", "Bytes of bodies sent to clients.");
const REQUEST_SIZE: Family = Family::new(
    MetricType::Histogram,
    "portico_request_size_bytes",
    "Bytes of the body of a call received from the client.",
);
const RESPONSE_SIZE: Family = Family::new(
    MetricType::Histogram,
    "portico_response_size_bytes",
    "Bytes of the body of a call sent to the client.",
);
