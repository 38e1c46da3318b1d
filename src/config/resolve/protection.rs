//! What keeps an upstream's calls from failing: health checks, outlier detection, circuit breaker.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{bounded, codes, to_u32, value};
use crate::config::breaker::Breaker;
use crate::config::file::{
    CircuitBreaker as RawBreaker, GrpcProbe, HealthCheck as RawHealthCheck, OutlierDetection as RawOutliers,
};
use crate::config::health_check::{HealthCheck, Probe};
use crate::config::outliers::OutlierDetection;
use crate::config::read::{Located, Report};
use crate::config::retry::Codes;
use crate::config::units::{Percent, Span, Tenths};

pub(super) fn health_check(raw: Located<RawHealthCheck>, report: &mut Report<'_>) -> HealthCheck {
    let RawHealthCheck { grpc, tcp, interval, timeout, healthy_threshold, unhealthy_threshold } = raw.value;
    let mut check = HealthCheck::default();
    if tcp.is_some() {
        if grpc.is_some() {
            report.problem(&raw.at, "only one of `grpc` and `tcp` can be asked");
        }
        check.probe = Probe::Tcp;
    } else {
        let GrpcProbe { service, watch } = value(grpc);
        let service = service.map_or_else(String::new, |service| service.value);
        check.probe = Probe::Grpc { service: service.into(), watch: watch.is_some_and(|watch| watch.value) };
    }
    if let Some(interval) = &interval {
        check.interval = bounded(interval, INTERVAL, report).0;
    }
    if let Some(timeout) = &timeout {
        check.timeout = bounded(timeout, INTERVAL, report).0;
    }
    let mut threshold = |given: Option<Located<u64>>, default: u32| {
        given.map_or(default, |given| to_u32(bounded(&given, THRESHOLD, report)))
    };
    check.healthy_threshold = threshold(healthy_threshold, check.healthy_threshold);
    check.unhealthy_threshold = threshold(unhealthy_threshold, check.unhealthy_threshold);
    check
}

pub(super) fn outliers(raw: RawOutliers, report: &mut Report<'_>) -> OutlierDetection {
    let mut outliers = OutlierDetection::default();
    if let Some(list) = raw.codes {
        outliers.codes = Codes::of(&codes(list, report));
    }
    // Zero is for never: it would mean that every endpoint is always ejected.
    if let Some(count) = raw.consecutive_failures {
        outliers.consecutive_failures = Some(to_u32(bounded(&count, FAILURES, report))).filter(|count| *count > 0);
    }
    if let Some(Percent(rate)) = raw.failure_rate.map(|rate| rate.value) {
        outliers.failure_rate = Some(rate).filter(|rate| *rate > 0);
    }
    if let Some(deviation) = raw.success_deviation {
        outliers.success_deviation = Some(bounded(&deviation, DEVIATION, report).0).filter(|tenths| *tenths > 0);
    }
    if let Some(calls) = raw.minimum_calls {
        outliers.minimum_calls = bounded(&calls, CALLS, report);
    }
    for (given, span) in [
        (&raw.interval, &mut outliers.interval),
        (&raw.base_ejection, &mut outliers.base_ejection),
        (&raw.longest_ejection, &mut outliers.longest_ejection),
    ] {
        if let Some(given) = given {
            *span = bounded(given, INTERVAL, report).0;
        }
    }
    // Given alone, a long first ejection is meant to be that long.
    outliers.longest_ejection = outliers.longest_ejection.max(outliers.base_ejection);
    if let Some(Percent(most)) = raw.max_ejected.map(|most| most.value) {
        outliers.max_ejected = most;
    }
    outliers
}

pub(super) fn breaker(raw: RawBreaker, report: &mut Report<'_>) -> Breaker {
    let mut breaker = Breaker::default();
    let endpoint = value(raw.per_endpoint);
    // Elsewhere it is for no bound at all.
    for none in [&raw.max_requests, &endpoint.max_requests].into_iter().flatten().filter(|given| given.value == 0) {
        report.warn(&none.at, "0 lets no call pass");
    }
    let at = [&endpoint.max_requests, &endpoint.max_pending].map(|given| given.as_ref().map(|given| given.at.clone()));
    for (given, bound) in [
        (raw.max_requests, &mut breaker.max_requests),
        (raw.max_pending, &mut breaker.max_pending),
        (raw.max_connections, &mut breaker.max_connections),
        (raw.max_retries, &mut breaker.max_retries),
        (endpoint.max_requests, &mut breaker.endpoint_requests),
        (endpoint.max_pending, &mut breaker.endpoint_pending),
    ] {
        if let Some(given) = given {
            *bound = bounded(&given, AT_ONCE, report);
        }
    }
    let wholes = [(breaker.endpoint_requests, breaker.max_requests), (breaker.endpoint_pending, breaker.max_pending)];
    for (at, (endpoint, whole)) in at.iter().zip(wholes) {
        if let Some(at) = at.as_ref().filter(|_| endpoint > whole) {
            report.warn(at, format!("has no effect: the upstream as a whole has {whole}"));
        }
    }
    if let Some(Percent(budget)) = raw.retry_budget.map(|budget| budget.value) {
        breaker.retry_budget = budget;
    }
    breaker
}

const INTERVAL: RangeInclusive<Span> = Span(Duration::from_millis(10))..=Span(Duration::from_hours(1));
const THRESHOLD: RangeInclusive<u64> = 1..=100;
const FAILURES: RangeInclusive<u64> = 0..=1_000_000;
const DEVIATION: RangeInclusive<Tenths> = Tenths(0)..=Tenths(100);
const CALLS: RangeInclusive<u64> = 1..=1_000_000;
const AT_ONCE: RangeInclusive<u64> = 0..=10_000_000;
