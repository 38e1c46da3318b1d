//! How many calls are taken on at once, and which are refused first when there is too much to do.

use http::Method;

use crate::support::backend::pb::{Behaviour, SayRequest};
use crate::support::backend::{self, Backend};
use crate::support::client::{Client, Version, request};
use crate::support::gateway::{TestGateway, upstream};
use crate::support::grpc::{Raw, SAY, framed};
use crate::support::outcomes::{plain, text, ways};
use crate::support::site::Site;
use crate::support::websocket::Socket;

/// A gateway with what stands in the text.
async fn start(yaml: &str) -> (Backend, TestGateway) {
    let backend = backend::start().await;
    let gateway = TestGateway::start(&format!("{}{yaml}\n", upstream("echo", backend.address))).await;
    gateway.ready().await;
    (backend, gateway)
}

/// The code of a REST call.
async fn code(client: &mut Client, path: &str) -> u64 {
    plain(client.send(request(Method::GET, path, &[], "")).await).code
}

#[tokio::test]
async fn a_method_takes_on_so_many_calls_and_says_so_in_every_protocol() {
    let (backend, gateway) = start(
        "policies:
- match: portico.test.v1.Echo/*
  admission: { max_concurrent: 1 }",
    )
    .await;
    let stalled = Socket::open(gateway.address, Version::Http1, "/test/v1/repeat/hi?behaviour.stall=true", &[]).await;
    let mut client = gateway.client(Version::Http1).await;
    let stalling = tokio::spawn(async move { code(&mut client, "/test/v1/say/hi?behaviour.stall=true").await });
    backend.tally.until(|counts| counts.started == 2).await;

    for way in ways() {
        let refused = way.call(&gateway, &[]).await;
        assert_eq!((refused.code, refused.status), (14, way.status(503)), "{way:?} {refused:?}");
        let wait: u64 = text(&refused.headers, "retry-after").parse().expect("seconds");
        assert!((1..=2).contains(&wait), "{way:?}");
    }

    assert_eq!(backend.tally.counts().started, 2);
    let refused = "portico_admission_refused_total{method=\"portico.test.v1.Echo/Say\",reason=\"concurrency\"}";
    assert!(gateway.metric(refused).await >= 10.0);
    assert_eq!(gateway.metric("portico_admission_open_calls{method=\"portico.test.v1.Echo/Say\"}").await, 1.0);
    // Another method has a count of its own, and a place that comes free is given again.
    let mut client = gateway.client(Version::Http2).await;
    assert_eq!(code(&mut client, "/test/v1/identity").await, 0);
    stalling.abort();
    drop(stalled);
    backend.tally.until(|counts| counts.cancelled == 2).await;
    let freed = async {
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(5));
        while code(&mut client, "/test/v1/say/a").await != 0 {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), freed).await.expect("a place comes free");
}

#[tokio::test]
async fn an_adaptive_limit_refuses_what_is_beyond_it() {
    let (backend, gateway) = start(
        "policies:
- match: \"*\"
  admission: { adaptive: { min: 1, max: 2 } }
- match: portico.test.v1.Echo/Identity
  admission: { adaptive: off }",
    )
    .await;
    let mut stalling = Vec::new();
    for number in 1..=2 {
        let mut client = gateway.client(Version::Http1).await;
        stalling.push(tokio::spawn(async move { code(&mut client, "/test/v1/say/a?behaviour.stall=true").await }));
        backend.tally.until(|counts| counts.started == number).await;
    }
    let mut client = gateway.client(Version::Http2).await;

    assert_eq!(code(&mut client, "/test/v1/say/a").await, 14);
    assert_eq!(code(&mut client, "/test/v1/identity").await, 0);
    assert_eq!(gateway.metric("portico_admission_limit{method=\"portico.test.v1.Echo/Say\"}").await, 2.0);
    let refused = "portico_admission_refused_total{method=\"portico.test.v1.Echo/Say\",reason=\"adaptive\"}";
    assert_eq!(gateway.metric(refused).await, 1.0);
    stalling.iter().for_each(tokio::task::JoinHandle::abort);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn without_memory_the_least_important_calls_are_refused_first() {
    // Far below what the process takes by itself.
    let (backend, gateway) = start(
        "admission: { max_memory: 1MiB }
policies:
- match: portico.test.v1.Echo/Say
  admission: { priority: critical }
- match: portico.test.v1.Echo/Identity
  admission: { priority: high }",
    )
    .await;
    let mut client = gateway.client(Version::Http1).await;

    for way in ways() {
        let outcome = way.call(&gateway, &[]).await;
        let critical = format!("{way:?}").contains("Say") || format!("{way:?}").contains("/say");
        let expected = if critical { (0, 200) } else { (14, way.status(503)) };
        assert_eq!((outcome.code, outcome.status), expected, "{way:?}");
    }
    assert_eq!(code(&mut client, "/test/v1/identity").await, 14);
    assert_eq!(gateway.metric("portico_admission_refused_total{method=\"portico.test.v1.Echo/Say\"").await, 0.0);
    assert!(gateway.metric("portico_admission_memory_bytes").await > 1e6);
    assert!(backend.tally.counts().started > 0);

    // Whether the gateway is there is asked all the more.
    let mut client = Raw::connect(gateway.address).await;
    let request = portico::pb::grpc::health::v1::HealthCheckRequest::default();
    assert_eq!(client.call("/grpc.health.v1.Health/Check", &[], framed(&request)).await.code(), 0);
    let request = portico::pb::grpc::reflection::v1::ServerReflectionRequest::default();
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    assert_eq!(client.call(reflection, &[], framed(&request)).await.code(), 14);
}

#[tokio::test]
async fn a_bound_on_queue_delay_lets_an_idle_gateway_work() {
    let (_backend, gateway) = start("admission: { max_queue_delay: 10s, max_memory: 1GiB }").await;
    for way in ways() {
        assert_eq!(way.call(&gateway, &[]).await.code, 0, "{way:?}");
    }
    let page = gateway.operator("/metrics").await;
    assert!(
        String::from_utf8_lossy(&page.body).contains("\nportico_admission_queue_delay_seconds 0"),
        "it is measured"
    );
}

const LIMIT: &str = "portico_admission_limit{method=\"portico.test.v1.Echo/Say\"}";

/// A gateway whose adaptive limit for `Say` begins at 20 and may go down to 1.
async fn adaptive() -> (Backend, TestGateway) {
    start("policies: [ { match: portico.test.v1.Echo/Say, admission: { adaptive: { min: 1, max: 20 } } } ]").await
}

#[tokio::test]
async fn no_caller_can_make_an_adaptive_limit_shrink() {
    let (backend, gateway) = adaptive().await;
    let mut raw = Raw::connect(gateway.address).await;
    let stalling = SayRequest { behaviour: Some(Behaviour { stall: true, ..Behaviour::default() }), text: "a".into() };
    let mut client = gateway.client(Version::Http1).await;
    let json = [("content-type", "application/json")];
    let large = format!("{{\"text\": \"{}\"}}", "x".repeat(5 << 20));

    for _ in 0..10 {
        // No time at all for a call that would take long, and what is no call.
        assert_eq!(raw.call(SAY, &[("grpc-timeout", "1m")], framed(&stalling)).await.code(), 4);
        let bad = client.send(request(Method::POST, "/test/v1/say", &json, "{")).await;
        assert_eq!(plain(bad).code, 3);
    }
    let too_large = Client::connect(gateway.address, Version::Http2)
        .await
        .send(request(Method::POST, "/test/v1/say", &json, &large))
        .await;

    assert_eq!(plain(too_large).code, 8);
    assert_eq!(gateway.metric(LIMIT).await, 20.0);
    backend.tally.until(|counts| counts.started == counts.cancelled + counts.finished).await;
}

#[tokio::test]
async fn a_service_that_says_it_has_no_capacity_makes_an_adaptive_limit_shrink() {
    for code in [8, 14] {
        let (_backend, gateway) = adaptive().await;
        let mut client = gateway.client(Version::Http1).await;
        for _ in 0..5 {
            let path = format!("/test/v1/say/a?behaviour.failure.code={code}");
            assert_eq!(self::code(&mut client, &path).await, code);
        }
        assert!(gateway.metric(LIMIT).await < 20.0, "{code}");
    }
    let (_backend, gateway) = start(
        "policies: [ { match: portico.test.v1.Echo/Say, timeout: { unary: 20ms }, admission: { adaptive: { min: 1, max: 20 } } } ]",
    )
    .await;
    let mut client = gateway.client(Version::Http1).await;
    for _ in 0..5 {
        assert_eq!(code(&mut client, "/test/v1/say/a?behaviour.stall=true").await, 4);
    }
    assert!(gateway.metric(LIMIT).await < 20.0, "the method's own timeout");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn calls_are_shed_before_anything_is_looked_at() {
    let site = Site::start(
        "admission: { max_memory: 1MiB }",
        "- { match: \"*\", authenticate: keys, rate_limits: [ { name: all, quota: 1/h } ] }",
    )
    .await;
    for way in ways() {
        let refused = way.call(&site.gateway, &[("x-api-key", "k-nobody")]).await;
        assert_eq!((refused.code, refused.status), (14, way.status(503)), "{way:?}");
        assert!(!refused.headers.contains_key("ratelimit"), "{way:?}");
    }
    assert_eq!(site.gateway.metric("portico_rate_limit_decisions_total").await, 0.0);
}

#[tokio::test]
async fn a_call_that_finds_no_place_costs_its_caller_nothing() {
    let site = Site::start(
        "",
        "- match: \"*\"
  authenticate: keys
  admission: { max_concurrent: 1 }
  rate_limits: [ { key: [\"claim:sub\"], quota: 2/h } ]",
    )
    .await;
    let key = [("x-api-key", "k-ann")];
    let stall = "/test/v1/repeat/hi?behaviour.stall=true";
    let stalled = Socket::open(site.gateway.address, Version::Http1, stall, &key).await;
    let mut client = site.gateway.client(Version::Http1).await;
    let mut code = async || plain(client.send(request(Method::GET, "/test/v1/repeat/a", &key, "")).await).code;

    for _ in 0..3 {
        assert_eq!(code().await, 14);
    }
    drop(stalled);
    site.backend.tally.until(|counts| counts.cancelled == 1).await;

    let freed = async {
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(5));
        while code().await == 14 {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), freed).await.expect("a place comes free");
    assert_eq!(code().await, 8, "the second token was used by the call that found a place");
    assert_eq!(
        site.gateway.metric("portico_rate_limit_decisions_total{limit=\"claim:sub\",outcome=\"allowed\"}").await,
        2.0
    );
}
