//! Endpoints that are found: in a file that changes, in DNS, and by what a call hashes to.

use std::collections::HashSet;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use crate::authentication::keys;
use crate::support::backend::pb::{Behaviour, SayRequest};
use crate::support::backend::{self, Backend};
use crate::support::gateway::TestGateway;
use crate::support::grpc::{Raw, SAY, framed, soon};
use crate::support::names::{name_server, name_server_failing};

/// A gateway with one worker over an upstream that is found as `keys` say.
async fn found_by(keys: &str) -> (TestGateway, Raw) {
    let set = concat!(env!("OUT_DIR"), "/test/echo.binpb");
    let yaml =
        format!("workers: 1\nupstreams: [ {{ name: echo, {keys}, schema: {{ descriptor_set: \"{set}\" }} }} ]\n");
    let gateway = TestGateway::start(&yaml).await;
    let client = Raw::connect(gateway.address).await;
    (gateway, client)
}

async fn code(client: &mut Raw, headers: &[(&'static str, &str)]) -> u32 {
    soon(client.call(SAY, headers, framed(&SayRequest::default()))).await.code()
}

/// Calls until the backend had one of them.
async fn call_until_reached(client: &mut Raw, backend: &Backend) {
    let before = backend.tally.counts().started;
    soon(async {
        while backend.tally.counts().started == before {
            code(client, &[]).await;
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn service(backend: &Backend, priority: u16) -> (RecordType, RData) {
    let target = Name::from_str("localhost.").expect("a name");
    (RecordType::SRV, RData::SRV(SRV::new(priority, 1, backend.address.port(), target)))
}

#[tokio::test]
async fn endpoints_in_a_file_are_followed_and_what_was_there_stays_when_it_is_wrong() {
    let (first, second) = (backend::start().await, backend::start().await);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let mut write = |text: &str| {
        file.as_file_mut().set_len(0).unwrap();
        std::io::Seek::rewind(file.as_file_mut()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.path().to_owned()
    };
    let path = write(&format!("endpoints: [\"{}\"]", first.address));
    let (_gateway, mut client) = found_by(&format!("endpoints_file: {}", path.display())).await;

    assert_eq!(code(&mut client, &[]).await, 0);
    assert_eq!(first.tally.counts().started, 1);
    write("endpoints: [nonsense");
    assert_eq!(code(&mut client, &[]).await, 0);
    write(&format!("endpoints: [{{ address: \"{}\", weight: 3 }}]", second.address));
    call_until_reached(&mut client, &second).await;
    let before = first.tally.counts().started;
    for _ in 0..10 {
        assert_eq!(code(&mut client, &[]).await, 0);
    }
    assert_eq!(first.tally.counts().started, before);
}

#[tokio::test]
async fn series_of_an_endpoint_that_left_go_after_its_last_call() {
    let (first, second) = (backend::start().await, backend::start().await);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("endpoints: [\"{}\"]", first.address)).unwrap();
    let (gateway, mut client) = found_by(&format!("endpoints_file: {}", file.path().display())).await;
    let behaviour = Behaviour { stall: true, ..Behaviour::default() };
    let mut call = client.clone().begin(SAY, &[], false).await;
    call.message(&SayRequest { behaviour: Some(behaviour), ..SayRequest::default() }, true);
    first.tally.until(|counts| counts.started == 1).await;

    std::fs::write(file.path(), format!("endpoints: [\"{}\"]", second.address)).unwrap();
    call_until_reached(&mut client, &second).await;
    let streams = format!("portico_upstream_active_streams{{upstream=\"echo\",endpoint=\"{}\"}}", first.address);
    for _ in 0..2 {
        assert_eq!(gateway.metric(&streams).await, 1.0);
    }
    drop(call);

    soon(async {
        while String::from_utf8_lossy(&gateway.operator("/metrics").await.body).contains(&first.address.to_string()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(String::from_utf8_lossy(&gateway.operator("/metrics").await.body).contains(&second.address.to_string()));
}

#[tokio::test]
async fn services_of_a_name_are_followed_and_kept_while_the_name_server_fails() {
    let (first, second, spare) = (backend::start().await, backend::start().await, backend::start().await);
    let records = Arc::new(Mutex::new(vec![service(&first, 1), service(&spare, 2)]));
    let server = name_server(Arc::clone(&records)).await;
    let (_gateway, mut client) = found_by(&format!("srv: _grpc._tcp.test, resolvers: [\"{server}\"]")).await;

    call_until_reached(&mut client, &first).await;
    *records.lock().unwrap() = vec![service(&second, 1), service(&spare, 2)];
    call_until_reached(&mut client, &second).await;
    records.lock().unwrap().clear();
    for _ in 0..10 {
        assert_eq!(code(&mut client, &[]).await, 0);
    }
    assert_eq!(spare.tally.counts().started, 0);
}

#[tokio::test]
async fn addresses_of_a_name_are_endpoints_and_a_name_without_any_says_so() {
    let backend = backend::start().await;
    let IpAddr::V4(ip) = backend.address.ip() else { panic!("backends listen on IPv4") };
    let records = Arc::new(Mutex::new(Vec::new()));
    let server = name_server(Arc::clone(&records)).await;
    let keys = format!("dns: \"backend.test:{}\", resolvers: [\"{server}\"]", backend.address.port());
    let (_gateway, mut client) = found_by(&keys).await;

    let answer = soon(client.call(SAY, &[], framed(&SayRequest::default()))).await;
    assert_eq!(answer.code(), 14);
    *records.lock().unwrap() = vec![(RecordType::A, RData::A(A(ip)))];
    call_until_reached(&mut client, &backend).await;
}

#[tokio::test]
async fn addresses_of_a_kind_that_cannot_be_asked_for_are_kept_until_there_are_none() {
    let (four, six) =
        (|last| a(Ipv4Addr::new(192, 0, 2, last)), |last| aaaa(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)));
    for (fails, kept, others) in [
        (RecordType::AAAA, "[2001:db8::1]:1", [four(1), four(2), six(1)]),
        (RecordType::A, "192.0.2.1:1", [six(1), six(2), four(1)]),
    ] {
        let [one, other, lost] = others;
        let records = Arc::new(Mutex::new(vec![one.clone(), lost]));
        let failing = Arc::new(Mutex::new(Vec::new()));
        let server = name_server_failing(Arc::clone(&records), Arc::clone(&failing)).await;
        let (gateway, _client) = found_by(&format!("dns: \"backend.test:1\", resolvers: [\"{server}\"]")).await;
        let told = async || {
            let upstream = gateway.operator("/upstreams").await.json()["upstreams"][0].clone();
            let endpoints = upstream["endpoints"].as_array().expect("a list").clone();
            let addresses = endpoints.iter().map(|it| it["address"].as_str().expect("text").to_owned());
            (addresses.collect::<Vec<_>>(), upstream["discovery"].to_string())
        };
        let until = async |count: usize, is_there: bool| {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            soon(async {
                loop {
                    ticks.tick().await;
                    let (addresses, problem) = told().await;
                    if addresses.len() == count && addresses.iter().any(|it| it == kept) == is_there {
                        return problem;
                    }
                }
            })
            .await
        };
        assert_eq!(until(2, true).await, "null");

        *failing.lock().unwrap() = vec![fails];
        *records.lock().unwrap() = vec![one.clone(), other];
        let problem = until(3, true).await;
        assert!(problem.contains(&format!("backend.test does not resolve as {fails}")), "{problem}");
        failing.lock().unwrap().clear();

        assert_eq!(until(2, false).await, "null");
    }
}

fn a(ip: Ipv4Addr) -> (RecordType, RData) {
    (RecordType::A, RData::A(A(ip)))
}

fn aaaa(ip: Ipv6Addr) -> (RecordType, RData) {
    (RecordType::AAAA, RData::AAAA(AAAA(ip)))
}

#[tokio::test]
async fn calls_with_the_same_key_go_to_the_same_endpoint() {
    let backends = [backend::start().await, backend::start().await, backend::start().await];
    let list = backends.each_ref().map(|backend| format!("\"{}\"", backend.address)).join(", ");
    for policy in ["ring_hash", "maglev"] {
        let keys = format!("endpoints: [{list}], load_balancing: {{ policy: {policy}, hash_on: \"header:x-user\" }}");
        let (_gateway, mut client) = found_by(&keys).await;
        let mut owners = HashSet::new();
        for user in ["ada", "bo", "cy", "di", "eve", "flo", "gus", "hal", "ida", "jo", "kim", "lou"] {
            let before = backends.each_ref().map(|backend| backend.tally.counts().started);
            for _ in 0..3 {
                assert_eq!(code(&mut client, &[("x-user", user)]).await, 0);
            }
            let calls: Vec<_> =
                backends.iter().zip(before).map(|(backend, before)| backend.tally.counts().started - before).collect();
            let owner = calls.iter().position(|calls| *calls == 3);
            owners.insert(owner.unwrap_or_else(|| panic!("{policy} {user} {calls:?}")));
        }
        assert!(owners.len() > 1, "{policy}: twelve users share one endpoint");
    }
}

#[tokio::test]
async fn calls_of_the_same_caller_go_to_the_same_endpoint() {
    let backends = [backend::start().await, backend::start().await, backend::start().await];
    let list = backends.each_ref().map(|backend| format!("\"{}\"", backend.address)).join(", ");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.yaml");
    let names = ["ada", "bo", "cy", "di", "eve", "flo", "gus", "hal"];
    std::fs::write(&file, keys(&names.map(|name| (name, name)))).unwrap();
    let set = concat!(env!("OUT_DIR"), "/test/echo.binpb");
    let gateway = TestGateway::start(&format!(
        "workers: 1\nauthentication: {{ api_keys: [ {{ name: partners, file: \"{}\" }} ] }}\n\
         policies: [ {{ match: \"*\", authenticate: partners }} ]\n\
         upstreams: [ {{ name: echo, endpoints: [{list}], schema: {{ descriptor_set: \"{set}\" }}, \
         load_balancing: {{ policy: ring_hash, hash_on: \"claim:sub\" }} }} ]\n",
        file.display()
    ))
    .await;

    let mut owners = HashSet::new();
    for name in names {
        let before = backends.each_ref().map(|backend| backend.tally.counts().started);
        for _ in 0..3 {
            // On a connection of its own each time.
            let mut client = Raw::connect(gateway.address).await;
            assert_eq!(code(&mut client, &[("x-api-key", name)]).await, 0);
        }
        let calls: Vec<_> =
            backends.iter().zip(before).map(|(backend, before)| backend.tally.counts().started - before).collect();
        owners.insert(calls.iter().position(|calls| *calls == 3).unwrap_or_else(|| panic!("{name} {calls:?}")));
    }
    assert!(owners.len() > 1, "eight callers share one endpoint");
}

#[tokio::test]
async fn an_endpoint_whose_weight_changes_keeps_its_connection() {
    let (first, second) = (backend::start().await, backend::start().await);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("endpoints: [\"{}\"]", first.address)).unwrap();
    let keys = format!("endpoints_file: {}, load_balancing: {{ policy: round_robin }}", file.path().display());
    let (_gateway, mut client) = found_by(&keys).await;
    assert_eq!(code(&mut client, &[]).await, 0);

    let list = format!("endpoints: [{{ address: \"{}\", weight: 3 }}, \"{}\"]", first.address, second.address);
    std::fs::write(file.path(), list).unwrap();
    call_until_reached(&mut client, &second).await;
    let before = first.tally.counts().started;
    for _ in 0..8 {
        assert_eq!(code(&mut client, &[]).await, 0);
    }

    let counts = first.tally.counts();
    assert_eq!((counts.connections, counts.started - before), (1, 6));
}
