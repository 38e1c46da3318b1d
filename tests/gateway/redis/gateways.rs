//! Four gateways and one limit.

use std::time::Duration;

use super::fleet::{Fleet, admitted, stays_within};
use crate::support::delay;
use crate::support::redis::{self, Server, until};

/// Nothing of it comes back while a test runs.
const FIFTY: &str = "{ key: [constant:all], quota: 50/day, store: redis }";
/// A thousandth of a second pays for a call after the first twenty.
const FAST: &str = "{ key: [constant:all], quota: 100/s, burst: 20, store: redis }";

fn section(url: &str, more: &str) -> String {
    format!("{{ url: \"{url}\"{more} }}")
}

const PATIENT: &str = ", timeout: 5s, on_failure: deny";

#[tokio::test]
async fn four_gateways_let_in_one_burst_together() {
    let server = Server::start().await;
    let fleet = Fleet::start(4, &section(&server.url(), PATIENT), FIFTY).await;

    let seen = fleet.call(3, 10).await;

    assert_eq!(admitted(&seen), 50);
    assert!(seen.iter().all(|seen| seen.code == 0 || seen.code == 8), "RESOURCE_EXHAUSTED, or let in");
}

#[tokio::test]
async fn four_gateways_keep_one_rate_in_any_time() {
    let server = Server::start().await;
    let fleet = Fleet::start(4, &section(&server.url(), PATIENT), FAST).await;

    let seen = fleet.call_for(2, Duration::from_millis(1500)).await;

    stays_within(&seen, 20, 100.0, 0);
    // What there is room for is let in: a refused call takes nothing.
    assert!(admitted(&seen) > 100, "{} of {}", admitted(&seen), seen.len());
}

#[tokio::test]
async fn four_gateways_keep_one_rate_over_a_slow_network() {
    let server = Server::start().await;
    let far = delay::proxy(server.address().parse().expect("an address"), Duration::from_millis(50)).await;
    let fleet = Fleet::start(4, &section(&format!("redis://{far}"), PATIENT), FAST).await;

    let seen = fleet.call_for(8, Duration::from_millis(1500)).await;

    stays_within(&seen, 20, 100.0, 0);
    assert!(admitted(&seen) > 50, "{} of {}", admitted(&seen), seen.len());
}

#[tokio::test]
async fn four_gateways_with_leases_stay_within_their_bound() {
    let server = Server::start().await;
    // A tenth of the burst is 20 tokens, which each of four gateways may hold.
    let limit = "{ key: [constant:all], quota: 1000/s, burst: 200, store: redis, lease: 10% }";
    let fleet = Fleet::start(4, &section(&server.url(), PATIENT), limit).await;

    let seen = fleet.call_for(2, Duration::from_millis(1500)).await;

    stays_within(&seen, 200, 1000.0, 4 * 20);
}

#[tokio::test]
async fn gateways_with_leases_seldom_ask_while_there_is_room() {
    let server = Server::start().await;
    let limit = "{ key: [constant:all], quota: 100000/s, burst: 20000, store: redis, lease: 10% }";
    let fleet = Fleet::start(4, &section(&server.url(), PATIENT), limit).await;

    let seen = fleet.call(2, 50).await;

    assert_eq!(admitted(&seen), 4 * 2 * 50);
    let answered = fleet.metric("portico_rate_limit_store_questions_total{store=\"redis\",outcome=\"answered\"}").await;
    let leased = fleet.metric("portico_rate_limit_store_leased_total{store=\"redis\"}").await;
    assert!(leased > 5.0 * answered, "{leased} needed no question, {answered} did");
}

#[tokio::test]
async fn the_bound_holds_while_redis_pauses() {
    let server = Server::start().await;
    let fleet = Fleet::start(4, &section(&server.url(), ", timeout: 50ms, on_failure: deny"), FAST).await;
    until("they are connected", async || fleet.metric(CONNECTED).await >= 4.0).await;

    let (seen, ()) = tokio::join!(fleet.call_for(2, Duration::from_millis(1500)), async {
        for _ in 0..3 {
            server.must(&["CLIENT", "PAUSE", "200", "ALL"]).await;
        }
    });

    stays_within(&seen, 20, 100.0, 0);
    assert!(seen.iter().any(|seen| seen.code == 14), "some had no answer, and were refused by UNAVAILABLE");
    assert!(admitted(&seen) >= 20, "the others were let in");
}

const CONNECTED: &str = "portico_rate_limit_store_connections{store=\"redis\"}";

/// Calls while Redis is killed and comes back.
async fn over_a_restart(fleet: &Fleet, server: &mut Server) -> usize {
    let before = fleet.call(1, 5).await;
    server.kill();
    let during = fleet.call(1, 5).await;
    assert!(during.iter().all(|seen| seen.code == 14), "nobody knows, and so nobody is let in: {during:?}");
    server.restart().await;
    until("they are connected again", async || fleet.metric(CONNECTED).await >= 8.0).await;
    let after = fleet.call(2, 20).await;
    admitted(&before) + admitted(&after)
}

#[tokio::test]
async fn a_redis_that_keeps_every_write_forgets_nothing_over_a_restart() {
    let mut server = Server::with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let fleet = Fleet::start(4, &section(&server.url(), ", timeout: 2s, on_failure: deny"), FIFTY).await;

    assert_eq!(over_a_restart(&fleet, &mut server).await, 50);
}

#[tokio::test]
async fn a_redis_that_keeps_nothing_costs_one_more_burst_for_each_restart() {
    let mut server = Server::start().await;
    let fleet = Fleet::start(4, &section(&server.url(), ", timeout: 2s, on_failure: deny"), FIFTY).await;

    assert_eq!(over_a_restart(&fleet, &mut server).await, 20 + 50);
}

#[tokio::test]
async fn calls_pass_and_are_counted_where_failures_allow() {
    let mut server = Server::start().await;
    let fleet = Fleet::start(2, &section(&server.url(), ", on_failure: allow"), FIFTY).await;
    until("they are connected", async || fleet.metric(CONNECTED).await >= 4.0).await;
    server.kill();

    let seen = fleet.call(2, 30).await;

    assert_eq!(admitted(&seen), 120);
    let allowed = "portico_rate_limit_store_fallbacks_total{store=\"redis\",fallback=\"allowed\"}";
    assert!(fleet.metric(allowed).await >= 110.0, "all but what was answered before it was missed");
}

#[tokio::test]
async fn each_gateway_counts_for_itself_where_failures_say_so() {
    let mut server = Server::start().await;
    let limit = "{ key: [constant:all], quota: 10/day, store: redis, on_failure: local }";
    let fleet = Fleet::start(2, &section(&server.url(), ", on_failure: deny"), limit).await;
    until("they are connected", async || fleet.metric(CONNECTED).await >= 4.0).await;
    server.kill();

    let seen = fleet.call(2, 30).await;

    assert_eq!(admitted(&seen), 20, "ten at each");
}

#[tokio::test]
async fn limits_on_three_servers_of_a_cluster_are_charged_together() {
    let nodes = redis::cluster().await;
    let url = format!("{{ cluster: [\"{}\", \"{}\"]{PATIENT} }}", nodes[0].address(), nodes[2].address());
    let limits = "{ name: wide, key: [constant:a], quota: 60/day, store: redis }, \
                  { name: narrow, key: [constant:b], quota: 40/day, store: redis }, \
                  { name: middle, key: [constant:c], quota: 55/day, store: redis }";
    let fleet = Fleet::start(4, &url, limits).await;

    let seen = fleet.call(1, 20).await;

    assert_eq!(admitted(&seen), 40);
}

#[tokio::test]
async fn speaks_tls_and_logs_in_with_no_more_rights_than_it_needs() {
    let authority = crate::support::tls::Authority::new();
    let files = tempfile::tempdir().expect("a folder");
    authority.issue(crate::support::tls::VALID).write(files.path());
    let folder = files.path().display().to_string();
    std::fs::write(files.path().join("ca.pem"), &authority.certificate).expect("a file");
    let secure_port = redis::free_port();
    let server = Server::with(&[
        "--save",
        "",
        "--tls-port",
        &secure_port.to_string(),
        "--tls-cert-file",
        &format!("{folder}/server.pem"),
        "--tls-key-file",
        &format!("{folder}/server.key"),
        "--tls-ca-cert-file",
        &format!("{folder}/ca.pem"),
    ])
    .await;
    let rights =
        "ACL SETUSER portico on >s3cret resetchannels ~portico:* -@all +evalsha +eval +time +get +set +del +ping";
    server.must(&rights.split(' ').collect::<Vec<_>>()).await;
    let files = format!(
        "tls: {{ ca: \"{folder}/ca.pem\", certificate: \"{folder}/server.pem\", key: \"{folder}/server.key\" }}"
    );
    let section = format!(
        "{{ url: \"rediss://localhost:{secure_port}\", username: portico, password: s3cret, {files}, timeout: 5s, connect_timeout: 5s, on_failure: deny }}"
    );
    let fleet = Fleet::start(2, &section, FIFTY).await;

    let seen = fleet.call(2, 20).await;

    assert_eq!(admitted(&seen), 50);
}
