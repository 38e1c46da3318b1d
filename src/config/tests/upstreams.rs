//! What keeps an upstream's calls from failing, as it is typed.

use std::time::Duration;

use super::*;
use crate::config::breaker::Breaker;
use crate::config::health_check::{HealthCheck, Probe};
use crate::config::outliers::OutlierDetection;
use crate::config::retry::{Codes, Hedge, Retry};
use crate::grpc::status::Code;

/// An upstream with these keys.
fn upstream(keys: &str) -> crate::config::Upstream {
    let text = format!("upstreams: [{{ name: a, endpoints: [\"a:1\"], {keys} }}]");
    load(&text).map_err(|errors| errors.to_string()).expect("a right configuration").config.upstreams.remove(0)
}

/// The first line of what is wrong.
fn refused(text: &str) -> String {
    let text = format!("{text}\n{UPSTREAM}");
    let Err(errors) = load(&text) else { panic!("accepted: {text}") };
    errors.to_string().lines().next().unwrap_or_default().to_owned()
}

#[test]
fn what_is_not_given_is_at_its_default() {
    let bare = upstream("health_check: {}, outlier_detection: {}, circuit_breaker: {}");

    assert_eq!(bare.health_check, Some(HealthCheck::default()));
    assert_eq!(bare.outliers, Some(OutlierDetection::default()));
    assert_eq!(bare.breaker, Breaker::default());
    assert_eq!(bare.balancing.slow_start, Some(Duration::from_secs(10)), "who was ejected comes back slowly");
    let none = upstream("services: []");
    assert!(none.health_check.is_none() && none.outliers.is_none() && none.balancing.slow_start.is_none());
}

#[test]
fn every_key_has_its_effect() {
    let given = upstream(
        "health_check: { tcp: {}, interval: 500ms, timeout: 100ms, healthy_threshold: 2, unhealthy_threshold: 3 }, \
         outlier_detection: { codes: [aborted], consecutive_failures: 0, failure_rate: 50%, success_deviation: 2, \
         minimum_calls: 7, interval: 1s, base_ejection: 10m, max_ejected: 20% }, \
         circuit_breaker: { max_requests: 1, max_pending: 2, max_connections: 3, max_retries: 4, retry_budget: 5%, \
         per_endpoint: { max_requests: 6, max_pending: 7 } }",
    );

    let check = HealthCheck {
        probe: Probe::Tcp,
        interval: Duration::from_millis(500),
        timeout: Duration::from_millis(100),
        healthy_threshold: 2,
        unhealthy_threshold: 3,
    };
    let outliers = OutlierDetection {
        codes: Codes::of(&[Code::Aborted]),
        consecutive_failures: None,
        failure_rate: Some(50),
        success_deviation: Some(20),
        minimum_calls: 7,
        interval: Duration::from_secs(1),
        base_ejection: Duration::from_mins(10),
        longest_ejection: Duration::from_mins(10),
        max_ejected: 20,
    };
    let breaker = Breaker {
        max_requests: 1,
        max_pending: 2,
        max_connections: 3,
        max_retries: 4,
        endpoint_requests: 6,
        endpoint_pending: 7,
        retry_budget: 5,
    };
    assert_eq!((given.health_check, given.outliers, given.breaker), (Some(check), Some(outliers), breaker));
    let watched = upstream("health_check: { grpc: { service: a.B, watch: true } }").health_check.expect("there is one");
    assert_eq!(watched.probe, Probe::Grpc { service: "a.B".into(), watch: true });
}

#[test]
fn further_attempts_are_a_matter_of_the_method() {
    let config = with_upstream(
        "policies:\n\
         - { match: \"*\", timeout: { stream: 1h }, retry: { retries: 2, on: [unavailable, aborted], backoff: { base: 1s }, \
         per_try_timeout: 3s, buffer: 1MiB } }\n\
         - { match: a.B/Get, retry: none, hedge: { attempts: 3, delay: 20ms, non_fatal: [internal], assume_idempotent: true } }\n",
    );

    let retry = Retry {
        retries: 2,
        on: Codes::of(&[Code::Unavailable, Code::Aborted]),
        base_backoff: Duration::from_secs(1),
        max_backoff: Duration::from_secs(1),
        per_try_timeout: Some(Duration::from_secs(3)),
        buffer: 1 << 20,
    };
    let hedge = Hedge {
        attempts: 3,
        delay: Duration::from_millis(20),
        non_fatal: Codes::of(&[Code::Internal]),
        assume_idempotent: true,
    };
    let (set, get) = (config.method("a.B/Set"), config.method("a.B/Get"));
    assert_eq!((set.retry.as_deref(), set.hedge.as_deref()), (Some(&retry), None));
    assert_eq!((get.retry.as_deref(), get.hedge.as_deref()), (None, Some(&hedge)));
    assert_eq!(get.stream_timeout, Some(Duration::from_hours(1)));
}

#[test]
fn what_is_wrong_is_named() {
    let table = [
        (
            "policies: [{ match: \"*\", retry: { on: [unavailble] } }]",
            "1:40: policies[0].retry.on[0]: \"unavailble\" is unknown; did you mean `unavailable`?",
        ),
        (
            "policies: [{ match: \"*\", retry: { on: [] } }]",
            "1:39: policies[0].retry.on: at least one code is needed, such as unavailable",
        ),
        (
            "policies: [{ match: \"*\", retry: { backoff: { base: 1s, max: 5ms } } }]",
            "1:61: policies[0].retry.backoff.max: 5ms is less than `base`",
        ),
        (
            "policies: [{ match: \"*\", hedge: { attempts: 1 } }]",
            "1:45: policies[0].hedge.attempts: 1 is out of range; allowed are 2 to 5",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(refused(text), format!("portico.yaml:{expected}"), "{text}");
    }
    for (keys, expected) in [
        ("health_check: { grpc: {}, tcp: {} }", "only one of `grpc` and `tcp` can be asked"),
        ("outlier_detection: { success_deviation: 1.95 }", "a number with at most one digit behind its point"),
        ("outlier_detection: { failure_rate: 101% }", "more than 100%"),
        ("load_balancing: { policy: maglev, hash_on: \"claim:\" }", "is not a claim"),
        ("connections: { max_age: 1ms }", "1ms is out of range; allowed are 1s to 24h"),
    ] {
        let text = format!("upstreams: [{{ name: a, endpoints: [\"a:1\"], {keys} }}]");
        let Err(errors) = load(&text) else { panic!("accepted: {text}") };
        assert!(errors.to_string().contains(expected), "{errors}");
    }
}
