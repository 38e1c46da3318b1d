//! The client that asks Redis, without a gateway around it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use portico::config;
use portico::store::redis::Redis;
use portico::store::{Charge, Failure};
use portico::telemetry::metrics::Registry;
use portico::telemetry::stores::{Outcome, StoreMetrics};
use tokio::runtime::{Builder, LocalOptions};
use tokio::time::Instant;

use crate::support::redis::{self, Server, until};

const NANOS: u64 = 1_000_000_000;

/// So many an hour, of which none comes back while a test runs.
fn charge(key: &str, burst: u64, cost: i64) -> Charge {
    let interval = 3600 * NANOS / 10;
    Charge { key: key.as_bytes().into(), interval, capacity: interval * burst, cost, more: 0, shadow: false }
}

/// Runs a test as a worker runs what it does.
fn on_a_worker<T>(test: impl AsyncFnOnce() -> T) -> T {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).expect("a runtime");
    runtime.block_on(test())
}

/// A client of the section `redis`, and what it counts.
fn client(section: &str) -> (Rc<Redis>, Arc<StoreMetrics>) {
    let text = format!("redis: {section}\nupstreams: [ {{ name: a, endpoints: [\"127.0.0.1:1\"] }} ]\n");
    let loaded = config::from_str(&text, "test.yaml", std::path::Path::new("")).map_err(|errors| errors.to_string());
    let settings = loaded.expect("the configuration is right").config.redis.expect("it has a Redis");
    let metrics = Registry::new(Arc::default()).worker().store("redis");
    (Redis::new(settings, Arc::clone(&metrics)), metrics)
}

async fn connected(client: &Rc<Redis>) {
    until("there is an answer", async || client.take(&[charge("ready", 1_000, 1)], None).await.is_ok()).await;
}

#[test]
fn takes_from_all_limits_or_from_none() {
    on_a_worker(async || {
        let server = Server::start().await;
        let (client, _) = client(&format!("{{ url: \"{}\", timeout: 2s }}", server.url()));
        let (wide, narrow) = (charge("wide", 10, 1), charge("narrow", 2, 1));
        let both = [wide.clone(), narrow.clone()];

        for _ in 0..2 {
            assert!(client.take(&both, None).await.expect("an answer").taken);
        }
        for _ in 0..3 {
            let refused = client.take(&both, None).await.expect("an answer");
            assert!(!refused.taken);
            assert!(refused.debts[1] > Some(2 * narrow.interval - NANOS), "the narrow one is full");
        }
        let left = client.take(&[charge("wide", 10, 8)], None).await.expect("an answer");
        assert!(left.taken, "refusals took nothing: {left:?}");

        client.give_back(vec![Charge { cost: -1, ..narrow.clone() }]);
        until("it was given back", async || {
            client.take(std::slice::from_ref(&narrow), None).await.is_ok_and(|it| it.taken)
        })
        .await;
    });
}

#[test]
fn does_not_cost_calls_a_timeout_each_when_nobody_answers() {
    on_a_worker(async || {
        let server = Server::start().await;
        let (client, metrics) = client(&format!("{{ url: \"{}\", timeout: 30ms }}", server.url()));
        connected(&client).await;
        server.must(&["CLIENT", "PAUSE", "3000", "ALL"]).await;

        let started = Instant::now();
        let mut failures = Vec::new();
        while started.elapsed() < Duration::from_millis(500) {
            let asked = Instant::now();
            failures.push(client.take(&[charge("a", 10, 1)], None).await.expect_err("nobody answers"));
            assert!(asked.elapsed() < Duration::from_millis(1500), "bounded by the timeout");
            tokio::task::yield_now().await;
        }

        let timeouts = failures.iter().filter(|failure| **failure == Failure::Timeout).count();
        assert!((1..15).contains(&timeouts), "{timeouts} of {} waited", failures.len());
        assert_eq!(metrics.questions(Outcome::Timeout), timeouts as u64);
        connected(&client).await;
    });
}

#[test]
fn blames_redis_for_no_call_that_has_no_time() {
    on_a_worker(async || {
        let server = Server::start().await;
        let (client, metrics) = client(&format!("{{ url: \"{}\", timeout: 2s }}", server.url()));
        connected(&client).await;

        server.must(&["CLIENT", "PAUSE", "1500", "ALL"]).await;
        for _ in 0..20 {
            let soon = Instant::now() + Duration::from_millis(1);
            assert_eq!(client.take(&[charge("a", 100, 1)], Some(soon)).await, Err(Failure::Timeout));
        }

        assert!(client.take(&[charge("a", 100, 1)], None).await.is_ok(), "it is asked all the same");
        assert_eq!(metrics.questions(Outcome::Open), 0);
    });
}

#[test]
fn finds_a_server_again_that_was_away() {
    on_a_worker(async || {
        let mut server = Server::start().await;
        let (client, metrics) = client(&format!("{{ url: \"{}\", timeout: 200ms }}", server.url()));
        connected(&client).await;

        server.kill();
        until("it is missed", async || client.take(&[charge("a", 10, 1)], None).await == Err(Failure::Unreachable))
            .await;
        let asked = Instant::now();
        for _ in 0..100 {
            client.take(&[charge("a", 10, 1)], None).await.expect_err("nobody is there");
        }
        assert!(asked.elapsed() < Duration::from_secs(2), "nobody waits for who is not there");
        server.restart().await;

        // It has forgotten the script, too.
        connected(&client).await;
        assert!(metrics.questions(Outcome::Unreachable) >= 100);
    });
}

#[test]
fn says_at_once_that_a_server_is_full_or_only_reads() {
    on_a_worker(async || {
        let server = Server::start().await;
        let (client, _) = client(&format!("{{ url: \"{}\", timeout: 2s }}", server.url()));
        connected(&client).await;

        server.must(&["CONFIG", "SET", "maxmemory", "1"]).await;
        assert_eq!(client.take(&[charge("a", 10, 1)], None).await, Err(Failure::Refused));
        server.must(&["CONFIG", "SET", "maxmemory", "0"]).await;
        assert!(client.take(&[charge("a", 10, 1)], None).await.is_ok());

        server.must(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
        assert_eq!(client.take(&[charge("a", 10, 1)], None).await, Err(Failure::Refused));
        server.must(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
        let nowhere = Server::start().await;
        server.must(&["REPLICAOF", "127.0.0.1", &nowhere.port.to_string()]).await;
        until("it only reads", async || client.take(&[charge("a", 10, 1)], None).await == Err(Failure::Refused)).await;
        server.must(&["REPLICAOF", "NO", "ONE"]).await;
        connected(&client).await;
    });
}

#[test]
fn asks_the_servers_of_a_cluster_in_turn_and_gives_back() {
    on_a_worker(async || {
        let nodes = redis::cluster().await;
        let (client, _) = client(&format!("{{ cluster: [\"{}\"], timeout: 2s }}", nodes[0].address()));
        connected(&client).await;
        // Slots of three servers: 3300, 7365 and 11298.
        let spread = ["b", "a{c}", "{d}"].map(|key| Charge { more: 2, ..charge(key, 4, 1) });
        let narrow = charge("{f}", 1, 1);

        assert!(client.take(std::slice::from_ref(&narrow), None).await.expect("an answer").taken);
        for _ in 0..10 {
            let with_narrow: Vec<Charge> = spread.iter().chain([&narrow]).cloned().collect();
            let refused = client.take(&with_narrow, None).await.expect("an answer");
            assert!(!refused.taken);
        }
        until("all was given back", async || {
            let all = spread.clone().map(|charge| Charge { cost: 4, more: 0, ..charge });
            client.take(&all, None).await.is_ok_and(|answer| answer.taken)
        })
        .await;
    });
}

#[test]
fn a_dead_server_of_a_cluster_takes_no_other_with_it() {
    on_a_worker(async || {
        let mut nodes = redis::cluster().await;
        for node in &nodes {
            node.must(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]).await;
        }
        let (client, _) = client(&format!("{{ cluster: [\"{}\"], timeout: 100ms }}", nodes[1].address()));
        let mut keys: Vec<Charge> = (0..60).map(|number| charge(&format!("key-{number}"), 1_000_000, 1)).collect();
        connected(&client).await;

        nodes[0].kill();
        // Those of the other two answer, whatever becomes of the rest.
        keys.retain(|charge| slot_of(&charge.key) > 5460);
        for _ in 0..20 {
            client.take(&[charge("b", 10, 1)], None).await.expect_err("its server is gone");
            // Nor does one that may refuse nothing.
            let (shadow, alive) = (Charge { shadow: true, ..charge("b", 10, 1) }, charge("{d}", 1_000_000, 1));
            let answer = client.take(&[shadow, alive], None).await.expect("the other one answers");
            assert!(answer.taken && answer.debts[0].is_none() && answer.debts[1].is_some(), "{answer:?}");
            for charge in &keys {
                assert!(client.take(std::slice::from_ref(charge), None).await.is_ok());
            }
        }
        nodes[0].restart().await;
    });
}

/// Where a cluster keeps a key without a tag: CRC-16 as XMODEM has it.
fn slot_of(key: &[u8]) -> u16 {
    let step = |crc: u16, byte: &u8| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 },
        )
    };
    key.iter().fold(0, step) % 16_384
}

#[test]
fn follows_the_master_that_a_sentinel_names() {
    on_a_worker(async || {
        let mut master = Server::start().await;
        let port = master.port.to_string();
        let replica = Server::with(&["--save", "", "--replicaof", "127.0.0.1", &port]).await;
        until("the replica is there", async || format!("{:?}", replica.must(&["ROLE"]).await).contains("connected"))
            .await;
        let sentinel = redis::sentinel(&master).await;
        until("the sentinel knows the replica", async || {
            format!("{:?}", sentinel.must(&["SENTINEL", "REPLICAS", "main"]).await).contains(&replica.port.to_string())
        })
        .await;
        let section =
            format!("{{ sentinel: {{ endpoints: [\"{}\"], master: main }}, timeout: 2s }}", sentinel.address());
        let (client, _) = client(&section);
        connected(&client).await;

        master.kill();

        until("the replica is asked", async || client.take(&[charge("a", 10, 1)], None).await.is_ok()).await;
        assert!(format!("{:?}", replica.must(&["ROLE"]).await).contains("master"));
    });
}
