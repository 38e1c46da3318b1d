//! Limits that a service counts by Envoy's protocol. The real one runs in `conformance/ratelimit.sh`.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use portico::pb::envoy::config::core::v3::HeaderValue;
use portico::pb::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
use portico::pb::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus, RateLimit};
use portico::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use portico::pb::google::protobuf::Duration as Span;
use prost::Message;

use crate::support::backend::act::{self, Step};
use crate::support::backend::pb::SayRequest;
use crate::support::backend::scripted::{self, Scripted};
use crate::support::backend::{self, Backend};
use crate::support::client::{Client, Reply, Version, request};
use crate::support::gateway::TestGateway;
use crate::support::grpc::{Raw, SAY, framed, soon};

/// A gateway whose calls are limited by a service that answers so.
struct Limited {
    gateway: TestGateway,
    service: Scripted,
    _backend: Backend,
}

impl Limited {
    async fn start(more: &str, limits: &str, script: Vec<Vec<Step>>) -> Self {
        let (backend, service) = (backend::start().await, scripted::start(script).await);
        let set = concat!(env!("OUT_DIR"), "/test/echo.binpb");
        let gateway = TestGateway::start(&format!(
            "workers: 1\nupstreams:\n\
             - {{ name: echo, endpoints: [\"{}\"], schema: {{ descriptor_set: \"{set}\" }} }}\n\
             - {{ name: limiter, endpoints: [\"{}\"], schema: none }}\n\
             rate_limiting: {{ services: [ {{ name: envoy, upstream: limiter, domain: shop{more} }} ] }}\n\
             policies: [ {{ match: \"*\", rate_limits: [ {limits} ] }} ]\n",
            backend.address, service.address
        ))
        .await;
        Self { gateway, service, _backend: backend }
    }

    async fn rest(&self, headers: &[(&str, &str)]) -> Reply {
        let mut client = Client::connect(self.gateway.address, Version::Http1).await;
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        soon(client.send(request(Method::POST, SAY, &all, "{}"))).await
    }

    async fn grpc(&self) -> crate::support::grpc::Answer {
        let mut client = Raw::connect(self.gateway.address).await;
        soon(client.call(SAY, &[], framed(&SayRequest::default()))).await
    }

    /// What the service was asked.
    fn questions(&self) -> Vec<RateLimitRequest> {
        let bodies = self.service.calls().into_iter().map(|call| call.body);
        bodies.map(|body| RateLimitRequest::decode(&body[5..]).expect("a question")).collect()
    }
}

fn answer(code: Code, statuses: &[(Code, u32, i64)]) -> RateLimitResponse {
    let status = |&(code, remaining, reset): &(Code, u32, i64)| DescriptorStatus {
        code: code.into(),
        current_limit: Some(RateLimit { requests_per_unit: 9, unit: Unit::Hour.into(), name: String::new() }),
        limit_remaining: remaining,
        duration_until_reset: Some(Span { seconds: reset, nanos: 0 }),
    };
    RateLimitResponse {
        overall_code: code.into(),
        statuses: statuses.iter().map(status).collect(),
        response_headers_to_add: vec![HeaderValue {
            key: "x-plan".into(),
            value: "gold".into(),
            ..HeaderValue::default()
        }],
        ..RateLimitResponse::default()
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[tokio::test]
async fn limits_of_one_cost_are_one_question_with_a_descriptor_each() {
    let limits = "{ name: tenant, key: [header:x-tenant, method], store: envoy }, \
                  { name: all, store: envoy }, \
                  { name: none, key: [header:x-none], missing: skip, store: envoy }, \
                  { name: dear, key: [client_ip, \"constant:plan=gold\"], cost: 7, store: envoy }";
    let ok = act::reply(&answer(Code::Ok, &[(Code::Ok, 8, 60), (Code::Ok, 3, 10)]));
    let limited = Limited::start(", timeout: 5s", limits, vec![ok]).await;

    let reply = limited.rest(&[("x-tenant", "a, b")]).await;

    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(
        text(&reply.headers, "ratelimit-policy"),
        "\"tenant\";q=9;w=3600, \"all\";q=9;w=3600, \"dear\";q=9;w=3600"
    );
    assert_eq!(text(&reply.headers, "ratelimit"), "\"tenant\";r=8;t=60, \"all\";r=3;t=10, \"dear\";r=8;t=60");
    assert_eq!(text(&reply.headers, "x-plan"), "gold");
    let asked: Vec<_> = limited
        .questions()
        .into_iter()
        .map(|question| {
            assert_eq!(question.domain, "shop");
            let entries = question.descriptors.into_iter().map(|descriptor| descriptor.entries);
            let entries = entries.map(|all| all.into_iter().map(|entry| (entry.key, entry.value)).collect::<Vec<_>>());
            (question.hits_addend, entries.collect::<Vec<_>>())
        })
        .collect();
    let entry = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let method = entry("method", "portico.test.v1.Echo/Say");
    assert_eq!(
        asked,
        [
            (1, vec![vec![entry("x-tenant", "a, b"), method], vec![entry("generic_key", "all")]]),
            (7, vec![vec![entry("remote_address", "127.0.0.1"), entry("plan", "gold")]]),
        ]
    );
}

#[tokio::test]
async fn over_limit_refuses_in_the_callers_protocol() {
    let over = act::reply(&answer(Code::OverLimit, &[(Code::OverLimit, 0, 42)]));
    let limited = Limited::start(", timeout: 5s", "{ name: tenant, key: [method], store: envoy }", vec![over]).await;

    let rest = limited.rest(&[]).await;
    let grpc = limited.grpc().await;

    assert_eq!(rest.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(text(&rest.headers, "retry-after"), "42");
    assert_eq!(text(&rest.headers, "ratelimit"), "\"tenant\";r=0;t=42");
    assert!(String::from_utf8_lossy(&rest.body).contains("over the limit tenant (9 in 3600 s)"));
    assert_eq!(grpc.code(), 8);
}

#[tokio::test]
async fn a_refusal_that_names_no_limit_is_one_and_shadow_limits_refuse_nothing() {
    let over = || act::reply(&answer(Code::OverLimit, &[]));
    let limited = Limited::start(", timeout: 5s", "{ name: tenant, store: envoy }", vec![over()]).await;
    let shadow = "{ name: tenant, store: envoy, shadow: true }";
    let shadowed = Limited::start(", timeout: 5s", shadow, vec![over()]).await;

    assert_eq!(limited.rest(&[]).await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(shadowed.rest(&[]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn fails_open_or_closed_and_asks_in_vain_only_once_in_a_while() {
    let bad =
        [act::fails(14, "down"), act::reply(&RateLimitResponse::default()), act::text(200, "hello"), vec![Step::Hold]];
    for (answer, index) in bad.into_iter().zip(0..) {
        let limit = "{ name: tenant, store: envoy }";
        let open = Limited::start(", timeout: 50ms", limit, vec![answer.clone()]).await;
        let closed = Limited::start(", timeout: 50ms, on_failure: deny", limit, vec![answer]).await;

        for _ in 0..12 {
            assert_eq!(open.rest(&[]).await.status, StatusCode::OK, "answer {index}");
        }
        let refused = closed.rest(&[]).await;

        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "answer {index}");
        assert!(String::from_utf8_lossy(&refused.body).contains("LIMITER_UNAVAILABLE"));
        assert_eq!(text(&refused.headers, "retry-after"), "1");
        let allowed = "portico_rate_limit_store_fallbacks_total{store=\"envoy\",fallback=\"allowed\"}";
        let unasked = "portico_rate_limit_store_questions_total{store=\"envoy\",outcome=\"open\"}";
        assert!(open.gateway.metric(allowed).await >= 12.0, "answer {index}");
        assert!(open.gateway.metric(unasked).await >= 1.0, "answer {index}");
    }
}

#[tokio::test]
async fn a_call_whose_own_time_is_over_says_so() {
    let limited = Limited::start(", timeout: 10s", "{ name: tenant, store: envoy }", vec![vec![Step::Hold]]).await;
    let mut client = Raw::connect(limited.gateway.address).await;

    let begun = tokio::time::Instant::now();
    let answer = soon(client.call(SAY, &[("grpc-timeout", "100m")], framed(&SayRequest::default()))).await;

    assert_eq!(answer.code(), 4);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn the_overall_code_alone_decides() {
    let fine = act::reply(&answer(Code::Ok, &[(Code::OverLimit, 0, 42)]));
    let limited = Limited::start(", timeout: 5s", "{ name: tenant, key: [method], store: envoy }", vec![fine]).await;

    let reply = limited.rest(&[]).await;

    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(text(&reply.headers, "ratelimit"), "\"tenant\";r=0;t=42");
    let series = "portico_rate_limit_decisions_total{limit=\"tenant\",outcome=\"refused\"}";
    assert_eq!(limited.gateway.metric(series).await, 0.0);
}

#[tokio::test]
async fn a_refusal_that_does_not_say_until_when_says_nothing_of_it() {
    let mut over = answer(Code::OverLimit, &[(Code::OverLimit, 0, 0)]);
    let zero = over.clone();
    over.statuses[0].duration_until_reset = None;
    for over in [over, zero] {
        let limit = "{ name: tenant, key: [method], store: envoy }";
        let limited = Limited::start(", timeout: 5s", limit, vec![act::reply(&over)]).await;

        let (rest, grpc) = (limited.rest(&[]).await, limited.grpc().await);

        assert_eq!(rest.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(text(&rest.headers, "retry-after"), "");
        assert_eq!((grpc.code(), text(&grpc.trailers, "grpc-retry-pushback-ms")), (8, ""));
        assert_eq!(text(&rest.headers, "ratelimit"), "\"tenant\";r=0");
    }
}
