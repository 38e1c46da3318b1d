//! Where limits are counted, and what is said of it.

use super::*;
use crate::config::Change;
use crate::config::rate_limit::Store;
use crate::config::redis::{OnFailure, Place};

const LIMIT: &str = "policies: [{ match: \"*\", rate_limits: [{ key: [client_ip], quota: 10/s, store: redis }] }]\n";

fn redis(section: &str) -> std::sync::Arc<crate::config::redis::Redis> {
    with_upstream(&format!("redis: {section}")).redis.expect("it has one")
}

#[test]
fn urls_say_where_redis_is_and_who_asks() {
    let server = |address: &str, database| Place::Server { address: address.into(), database };
    let cases = [
        ("redis://localhost", server("localhost:6379", 0), None, false),
        ("redis://10.0.0.1:7000/3", server("10.0.0.1:7000", 3), None, false),
        ("rediss://[::1]", server("[::1]:6379", 0), None, true),
        ("redis://:s3cret@cache:1/", server("cache:1", 0), Some((None, "s3cret")), false),
        ("rediss://me:p%40s%3as@cache", server("cache:6379", 0), Some((Some("me"), "p@s:s")), true),
    ];

    for (url, place, account, tls) in cases {
        let redis = redis(&format!("{{ url: \"{url}\" }}"));

        assert_eq!(redis.place, place, "{url}");
        let found = redis.account.as_ref().map(|account| (account.username.as_deref(), &*account.password));
        assert_eq!(found, account, "{url}");
        assert_eq!(redis.tls.is_some(), tls, "{url}");
    }
}

#[test]
fn clusters_and_sentinels_are_lists_of_addresses() {
    assert_eq!(redis("{ cluster: [\"a:1\", \"b:2\"] }").place, Place::Cluster(["a:1".into(), "b:2".into()].into()));
    let place = redis("{ sentinel: { endpoints: [\"a:1\"], master: main, password: pw } }").place.clone();
    assert!(matches!(place, Place::Sentinel { master, account: Some(_), .. } if &*master == "main"));
}

#[test]
fn passwords_are_never_shown() {
    for section in [
        "{ url: \"redis://me:s3cret@cache\" }",
        "{ url: \"redis://cache\", username: me, password: s3cret }",
        "{ sentinel: { endpoints: [\"a:1\"], master: main, password: s3cret }, password: s3cret }",
    ] {
        let shown = format!("{:?}", with_upstream(&format!("redis: {section}")));
        assert!(!shown.contains("s3cret"), "{shown}");
    }
    for url in ["http://me:s3cret@cache", "redis://s3cret@cache", "redis://me:s3cret%zz@cache", "redis://me:s3cret@"] {
        let Err(errors) = load(&format!("redis: {{ url: \"{url}\" }}\n{UPSTREAM}")) else { panic!("accepted: {url}") };
        let messages: Vec<String> = errors
            .problems()
            .iter()
            .map(|problem| problem.to_string().lines().next().unwrap_or_default().into())
            .collect();
        assert!(!messages.concat().contains("s3cret"), "{messages:?}");
    }
}

#[test]
fn limits_inherit_what_their_store_says() {
    let of = |text: &str| {
        let config = with_upstream(text);
        let Change::To(limits) = &config.policies[0].rate_limits else { panic!("no limits") };
        limits[0].store.clone()
    };
    let redis = |lease, on_failure| Store::Redis { lease, on_failure };
    assert_eq!(of(&format!("redis: {{ url: \"redis://a\" }}\n{LIMIT}")), redis(0, OnFailure::Allow));
    assert_eq!(of(&format!("redis: {{ url: \"redis://a\", on_failure: deny }}\n{LIMIT}")), redis(0, OnFailure::Deny));
    let own = LIMIT.replace("store: redis", "store: redis, lease: 10%, on_failure: local");
    assert_eq!(of(&format!("redis: {{ url: \"redis://a\", on_failure: deny }}\n{own}")), redis(10, OnFailure::Local));
}

/// What is said of a file with a Redis, a service named `envoy`, and one limit.
fn said(limit: &str) -> Vec<String> {
    let text = format!(
        "redis: {{ url: \"redis://a\" }}\n\
         upstreams: [{{ name: limiter, endpoints: [\"a:1\"], schema: none }}, {{ name: b, endpoints: [\"b:1\"] }}]\n\
         rate_limiting: {{ services: [{{ name: envoy, upstream: limiter, domain: d }}] }}\n\
         policies: [{{ match: \"*\", rate_limits: [{limit}] }}]\n"
    );
    match load(&text) {
        Ok(loaded) => loaded.warnings.iter().map(ToString::to_string).collect(),
        Err(errors) => errors.problems().iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_service_has_the_quota() {
    assert_eq!(said("{ key: [method], store: envoy, cost: 3 }"), [""; 0]);
}

#[test]
fn names_what_a_store_cannot_do() {
    let cases = [
        ("{ quota: 1/s, store: reddis }", "did you mean `redis`?"),
        ("{ quota: 1/s, store: envoy }", "the quota is for the service envoy to know"),
        ("{ store: envoy, burst: 3 }", "`burst` belongs to a `quota`; a service has its own"),
        ("{ store: envoy, on_failure: local }", "only the service knows the quota"),
        ("{ store: envoy, lease: 10% }", "`lease` goes with `store: redis`"),
        ("{ quota: 1/s, lease: 10% }", "this limit is counted in the process"),
        ("{ quota: 1/s, on_failure: deny }", "this limit is counted in the process"),
        ("{ quota: 1/s, store: redis, lease: 60% }", "60% is out of range; allowed are 1% to 50%"),
        ("{ quota: 1/s, store: redis, count: messages }", "messages are counted in the process only"),
        ("{ max_open: 5, store: redis }", "open calls are counted in the process only"),
        ("{ key: [field:name], quota: 1/s, store: redis }", "with a `field` in their key"),
        ("{ quota: 1/day, burst: 101, store: redis }", "more than 100 days"),
        ("{ store: redis }", "`quota` is missing"),
    ];

    for (limit, expected) in cases {
        let said = said(limit);
        assert!(said.len() == 1 && said[0].contains(expected), "{limit}: {said:?}");
    }
}

#[test]
fn warns_of_what_has_no_effect() {
    let tiers = "tiers: { claim: plan, quotas: { gold: 100/s } }";
    let cases = [
        ("{ quota: 9/s, store: redis, lease: 10% }".to_owned(), "10% of a burst of 9 is less than one call"),
        ("{ quota: 90/s, burst: 9, store: redis, lease: 11% }".to_owned(), "11% of a burst of 9 is less than one call"),
        ("{ quota: 40/s, cost: 5, store: redis, lease: 10% }".to_owned(), "is less than the cost of a call, 5"),
        (
            format!("{{ quota: 9/s, cost: 11, burst: 20, store: redis, lease: 10%, {tiers} }}"),
            "a burst of 100 is less than",
        ),
        (
            "{ quota: 90/s, store: redis, lease: 10%, shadow: true }".to_owned(),
            "a limit in shadow mode would say is always asked",
        ),
        ("{ quota: 9/s, missing: skip }".to_owned(), "every call has all parts of this key"),
        (
            "{ key: [client_ip, method, service, constant:a], quota: 9/s, missing: share }".to_owned(),
            "every call has all",
        ),
        ("{ key: [method], store: envoy, missing: skip }".to_owned(), "every call has all"),
    ];
    for (limit, expected) in cases {
        let said = said(&limit);
        assert!(
            said.len() == 1 && said[0].contains("has no effect: ") && said[0].contains(expected),
            "{limit}: {said:?}"
        );
    }

    let effective = [
        "{ quota: 10/s, store: redis, lease: 10% }".to_owned(),
        "{ quota: 50/s, cost: 5, store: redis, lease: 10% }".to_owned(),
        format!("{{ quota: 9/s, store: redis, lease: 10%, {tiers} }}"),
        "{ quota: 9/s, store: redis, shadow: true }".to_owned(),
        "{ key: [client_ip, claim:sub], quota: 9/s, missing: skip }".to_owned(),
        "{ key: [api_key], quota: 9/s, missing: skip }".to_owned(),
        "{ key: [header:x-a], max_open: 9, missing: skip }".to_owned(),
        "{ key: [header:x-a], store: envoy, missing: skip }".to_owned(),
        "{ key: [field:parent], quota: 9/s, missing: skip }".to_owned(),
    ];
    for limit in effective {
        assert_eq!(said(&limit), [""; 0], "{limit}");
    }
}

#[test]
fn names_what_is_wrong_with_where_redis_is() {
    let cases = [
        ("redis: {}", "one of `url`, `cluster` and `sentinel` is needed"),
        ("redis: { url: \"redis://a\", cluster: [\"b:1\"] }", "only one of `url`, `cluster` and `sentinel`"),
        ("redis: { url: \"a:6379\" }", "this is not the URL of a Redis"),
        ("redis: { url: \"redis://a/x\" }", "what follows the port is not the number of a database"),
        ("redis: { url: \"redis://a\", tls: {} }", "`tls` goes with `url: rediss://…`"),
        ("redis: { url: \"redis://a\", username: me }", "`username` goes with `password`"),
        ("redis: { url: \"redis://:a@b\", password: c }", "the URL and `password` both say"),
        ("redis: { url: \"redis://a\", key_prefix: \"a{b}\" }", "cannot begin keys"),
        ("redis: { url: \"redis://a\", timeout: 31s }", "31s is out of range"),
        ("redis: { url: \"redis://a\", on_failure: open }", "there are allow, deny, local"),
        ("redis: { cluster: [] }", "at least one address is needed"),
        ("redis: { sentinel: { endpoints: [\"a:1\"] } }", "`master` is missing"),
        ("redis: { cluster: [\"a:1\"], tls: { certificate: none.pem } }", "`certificate` and `key` go together"),
        (LIMIT.trim_end(), "there is no section `redis`"),
        ("rate_limiting: { services: [{ name: redis, upstream: library, domain: d }] }", "already the name of a store"),
        ("rate_limiting: { services: [{ name: e, upstream: nope, domain: d }] }", "there is no upstream \"nope\""),
        ("rate_limiting: { services: [{ name: e, upstream: library }] }", "`domain` is missing"),
    ];

    for (line, expected) in cases {
        let Err(errors) = load(&format!("{line}\n{UPSTREAM}")) else { panic!("accepted: {line}") };
        let said: Vec<String> = errors.problems().iter().map(ToString::to_string).collect();
        assert!(said.iter().any(|said| said.contains(expected)), "{line}: {said:?}");
    }
}
