//! Endpoints whose calls fail are left alone for a while.

use std::net::SocketAddr;

use crate::support::backend::act::{self, Step};
use crate::support::backend::pb::{Behaviour, Failure, SayReply, SayRequest};
use crate::support::backend::scripted::{self, Scripted};
use crate::support::backend::{self, Backend, Health, Options};
use crate::support::gateway::{TestGateway, over_endpoints};
use crate::support::grpc::{Raw, SAY, framed, soon};

async fn say(client: &mut Raw) -> u32 {
    soon(client.call(SAY, &[], framed(&SayRequest::default()))).await.code()
}

const EJECTIONS: &str = "portico_upstream_ejections_total{upstream=\"echo\"}";

/// A gateway that gives its endpoints calls in turn and ejects those that fail.
async fn over(endpoints: &[SocketAddr], detection: &str) -> (TestGateway, Raw) {
    let keys = format!(
        ", load_balancing: {{ policy: round_robin, panic_threshold: 0% }}, outlier_detection: {{ {detection} }}"
    );
    let gateway = over_endpoints(endpoints, &keys, "").await;
    let client = Raw::connect(gateway.address).await;
    (gateway, client)
}

/// A backend that fails so many calls and then answers.
async fn failing(steps: Vec<Step>, times: usize) -> Scripted {
    let mut script = vec![steps; times];
    script.push(act::reply(&SayReply::default()));
    scripted::start(script).await
}

#[tokio::test]
async fn failures_in_a_row_eject_an_endpoint_which_comes_back_little_by_little() {
    let kinds = [
        act::trailers_only(14, "no"),
        act::fails(13, "no"),
        act::text(503, "down"),
        act::reset(h2::Reason::INTERNAL_ERROR),
        act::no_trailers(&SayReply::default()),
    ];
    for (number, steps) in kinds.into_iter().enumerate() {
        let (bad, good) = (failing(steps, 3).await, backend::start().await);
        let (gateway, mut client) =
            over(&[bad.address, good.address], "consecutive_failures: 3, base_ejection: 300ms").await;

        let mut failed = 0;
        while gateway.metric(EJECTIONS).await == 0.0 {
            failed += u32::from(say(&mut client).await != 0);
        }
        assert_eq!((failed, bad.calls().len()), (3, 3), "kind {number}");
        for _ in 0..10 {
            assert_eq!(say(&mut client).await, 0);
        }
        assert_eq!(bad.calls().len(), 3, "an ejected endpoint gets no calls");

        soon(async {
            while bad.calls().len() == 3 {
                assert_eq!(say(&mut client).await, 0);
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_success_in_between_keeps_an_endpoint() {
    let mut script = Vec::new();
    for _ in 0..10 {
        script.extend([act::trailers_only(14, ""), act::trailers_only(14, ""), act::reply(&SayReply::default())]);
    }
    let flaky = scripted::start(script).await;
    let good = backend::start().await;
    let (gateway, mut client) = over(&[flaky.address, good.address], "consecutive_failures: 3").await;

    for _ in 0..60 {
        say(&mut client).await;
    }

    assert_eq!(gateway.metric(EJECTIONS).await, 0.0);
    assert!(flaky.calls().len() >= 20, "{}", flaky.calls().len());
}

#[tokio::test]
async fn the_only_endpoint_is_never_ejected_and_of_several_no_more_than_may_be() {
    let only = scripted::start(vec![act::trailers_only(14, "")]).await;
    let (alone, mut client) = over(&[only.address], "consecutive_failures: 1").await;
    for _ in 0..5 {
        assert_eq!(say(&mut client).await, 14);
    }
    assert_eq!((alone.metric(EJECTIONS).await, only.calls().len()), (0.0, 5));

    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(scripted::start(vec![act::trailers_only(14, "")]).await);
    }
    let addresses: Vec<_> = all.iter().map(|backend| backend.address).collect();
    let (gateway, mut client) = over(&addresses, "consecutive_failures: 1, max_ejected: 50%").await;
    for _ in 0..20 {
        assert_eq!(say(&mut client).await, 14);
    }
    assert_eq!(gateway.metric(EJECTIONS).await, 2.0);
}

#[tokio::test]
async fn a_high_rate_of_failures_ejects_although_some_calls_succeed() {
    let mut script = Vec::new();
    for _ in 0..200 {
        script.extend([act::trailers_only(14, ""), act::trailers_only(14, ""), act::reply(&SayReply::default())]);
    }
    let (flaky, good) = (scripted::start(script).await, backend::start().await);
    let detection = "consecutive_failures: 0, failure_rate: 50%, minimum_calls: 10, interval: 300ms";
    let (gateway, mut client) = over(&[flaky.address, good.address], detection).await;

    soon(async {
        while gateway.metric(EJECTIONS).await == 0.0 {
            for _ in 0..20 {
                say(&mut client).await;
            }
        }
    })
    .await;

    let before = flaky.calls().len();
    assert_eq!(say(&mut client).await, 0);
    assert_eq!(flaky.calls().len(), before);
}

#[tokio::test]
async fn what_is_no_fault_of_an_endpoint_does_not_eject_it() {
    let down = { backend::start().await.address };
    let (one, other): (Backend, Backend) = (backend::start().await, backend::start().await);
    let (gateway, mut client) =
        over(&[down, one.address, other.address], "consecutive_failures: 1, codes: [unavailable]").await;
    let failing = |code: i32| {
        let failure = Failure { code, ..Default::default() };
        let behaviour = Behaviour { failure: Some(failure), ..Behaviour::default() };
        framed(&SayRequest { behaviour: Some(behaviour), ..SayRequest::default() })
    };
    let stalled = framed(&SayRequest {
        behaviour: Some(Behaviour { stall: true, ..Behaviour::default() }),
        ..SayRequest::default()
    });

    for _ in 0..6 {
        assert_eq!(say(&mut client).await, 0, "who is down is passed over");
        assert_eq!(soon(client.call(SAY, &[], failing(5))).await.code(), 5);
        assert_eq!(soon(client.call(SAY, &[], failing(13))).await.code(), 13);
        assert_eq!(soon(client.call(SAY, &[("grpc-timeout", "20m")], stalled.clone())).await.code(), 4);
    }

    assert_eq!(gateway.metric(EJECTIONS).await, 0.0);
}

#[tokio::test]
async fn the_last_endpoint_that_can_be_used_is_not_ejected() {
    let health = |healthy| Options { health: Some(Health::new(healthy)), ..Options::default() };
    let (sick, last) = (backend::start_with(health(false)).await, backend::start_with(health(true)).await);
    let keys = ", health_check: { interval: 20ms }, load_balancing: { panic_threshold: 0% }, \
                outlier_detection: { consecutive_failures: 1 }";
    let gateway = over_endpoints(&[sick.address, last.address], keys, "").await;
    gateway.metric_reaches("portico_upstream_endpoints{upstream=\"echo\",health=\"unhealthy\"}", 1.0).await;
    let mut client = Raw::connect(gateway.address).await;
    let failure = Failure { code: 14, ..Default::default() };
    let behaviour = Behaviour { failure: Some(failure), ..Behaviour::default() };
    let failing = framed(&SayRequest { behaviour: Some(behaviour), ..SayRequest::default() });

    for _ in 0..3 {
        assert_eq!(soon(client.call(SAY, &[], failing.clone())).await.code(), 14);
    }

    assert_eq!((say(&mut client).await, gateway.metric(EJECTIONS).await), (0, 0.0));
}
