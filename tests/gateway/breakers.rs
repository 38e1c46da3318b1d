//! An upstream is given no more to do than it may have; what is beyond fails at once.

use http::Method;

use crate::support::backend::pb::{Behaviour, SayRequest};
use crate::support::backend::{self, Options};
use crate::support::client::Version;
use crate::support::gateway::{TestGateway, over_endpoints};
use crate::support::grpc::{Raw, RawCall, SAY, framed, soon};

async fn say(client: &mut Raw) -> u32 {
    soon(client.call(SAY, &[], framed(&SayRequest::default()))).await.code()
}

async fn stalled(client: &Raw) -> RawCall {
    let behaviour = Behaviour { stall: true, ..Behaviour::default() };
    let mut call = client.clone().begin(SAY, &[], false).await;
    call.message(&SayRequest { behaviour: Some(behaviour), ..SayRequest::default() }, true);
    call
}

fn refused(limit: &str) -> String {
    format!("portico_upstream_refused_total{{upstream=\"echo\",limit=\"{limit}\"}}")
}

#[tokio::test]
async fn calls_beyond_the_most_fail_at_once_over_all_workers() {
    let backend = backend::start().await;
    let set = concat!(env!("OUT_DIR"), "/test/echo.binpb");
    let gateway = TestGateway::start(&format!(
        "workers: 2\nupstreams: [ {{ name: echo, endpoints: [\"{}\"], schema: {{ descriptor_set: \"{set}\" }}, \
         circuit_breaker: {{ max_requests: 3 }} }} ]\n",
        backend.address
    ))
    .await;
    // Connections go to the worker with the fewest of them.
    let clients = [Raw::connect(gateway.address).await, Raw::connect(gateway.address).await];

    let mut running = vec![stalled(&clients[0]).await, stalled(&clients[1]).await, stalled(&clients[1]).await];
    backend.tally.until(|counts| counts.started == 3).await;
    for client in &clients {
        let answer = soon(client.clone().call(SAY, &[], framed(&SayRequest::default()))).await;
        assert_eq!(answer.code(), 14, "{answer:?}");
        assert_eq!(answer.message(), "upstream echo has as many calls as it may, 3");
    }
    let rest = gateway.client(Version::Http1).await.json(Method::POST, "/test/v1/say", "{}").await;
    assert_eq!((rest.status.as_u16(), rest.reason()), (503, "UPSTREAM_OVERLOADED".to_owned()));
    assert_eq!(rest.headers["retry-after"], "1");
    assert_eq!(gateway.metric(&refused("requests")).await, 3.0);

    drop(running.pop());
    backend.tally.until(|counts| counts.cancelled == 1).await;
    let mut client = clients[0].clone();
    soon(async { while say(&mut client).await != 0 {} }).await;
}

#[tokio::test]
async fn an_endpoint_that_has_enough_is_passed_over() {
    let (one, other) = (backend::start().await, backend::start().await);
    let keys = ", load_balancing: { policy: round_robin }, circuit_breaker: { per_endpoint: { max_requests: 1 } }";
    let gateway = over_endpoints(&[one.address, other.address], keys, "").await;
    let mut client = Raw::connect(gateway.address).await;

    let (one, other) = (&one, &other);
    let begun = |calls: usize| {
        soon(async move {
            while one.tally.counts().started + other.tally.counts().started < calls {
                tokio::task::yield_now().await;
            }
        })
    };
    let _first = stalled(&client).await;
    begun(1).await;
    for _ in 0..4 {
        assert_eq!(say(&mut client).await, 0);
    }
    let _second = stalled(&client).await;
    begun(6).await;

    assert_eq!(say(&mut client).await, 14);
    let busiest = one.tally.counts().started.max(other.tally.counts().started);
    assert_eq!(busiest, 5);
}

#[tokio::test]
async fn no_more_calls_wait_for_a_connection_than_may() {
    let backend = backend::start_with(Options { max_concurrent_streams: Some(1), ..Options::default() }).await;
    let keys = ", connections: { max_per_endpoint: 1 }, circuit_breaker: { max_pending: 2 }";
    let gateway = over_endpoints(&[backend.address], keys, "").await;
    let client = Raw::connect(gateway.address).await;

    let running = stalled(&client).await;
    backend.tally.until(|counts| counts.started == 1).await;
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { say(&mut client).await })
        })
        .collect();
    gateway.metric_reaches(&refused("pending"), 1.0).await;
    drop(running);

    let mut codes = Vec::new();
    for waited in waiting {
        codes.push(soon(waited).await.expect("no panic"));
    }
    codes.sort_unstable();
    assert_eq!(codes, [0, 0, 14]);
}

#[tokio::test]
async fn a_call_that_waits_goes_to_whichever_endpoint_is_free_first() {
    for freed in [0, 1] {
        let options = || Options { max_concurrent_streams: Some(1), ..Options::default() };
        let (one, other) = (backend::start_with(options()).await, backend::start_with(options()).await);
        let keys = ", connections: { max_per_endpoint: 1 }, circuit_breaker: { max_pending: 1 }";
        let gateway = over_endpoints(&[one.address, other.address], keys, "").await;
        let client = Raw::connect(gateway.address).await;
        let mut running = Vec::new();
        for calls in [1, 2] {
            running.push(stalled(&client).await);
            let reached = || one.tally.counts().started + other.tally.counts().started;
            soon(async {
                while reached() < calls {
                    tokio::task::yield_now().await
                }
            })
            .await;
        }

        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let mut client = client.clone();
                tokio::spawn(async move { say(&mut client).await })
            })
            .collect();
        // Since no more than one may wait, the other does now.
        gateway.metric_reaches(&refused("pending"), 1.0).await;
        drop(running.remove(freed));

        let mut codes = Vec::new();
        for waited in waiting {
            codes.push(soon(waited).await.expect("no panic"));
        }
        codes.sort_unstable();
        assert_eq!(codes, [0, 14], "{freed}");
    }
}

#[tokio::test]
async fn no_more_connections_are_made_than_may_be() {
    let backend = backend::start_with(Options { max_concurrent_streams: Some(1), ..Options::default() }).await;
    let gateway = over_endpoints(&[backend.address], ", circuit_breaker: { max_connections: 2 }", "").await;
    let client = Raw::connect(gateway.address).await;

    let first = stalled(&client).await;
    let _second = stalled(&client).await;
    backend.tally.until(|counts| counts.started == 2).await;
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { say(&mut other).await });
    gateway.metric_reaches(&refused("connections"), 1.0).await;
    drop(first);

    assert_eq!(soon(waiting).await.expect("no panic"), 0);
    assert_eq!(backend.tally.counts().connections, 2);
}
