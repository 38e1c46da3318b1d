//! Endpoints are asked for their health, and get no calls while they have none.

use std::io::Write as _;

use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::backend::pb::SayRequest;
use crate::support::backend::raw::Manner;
use crate::support::backend::scripted::{self, Settings};
use crate::support::backend::{self, Backend, Health, Options, act};
use crate::support::client::Version;
use crate::support::frames;
use crate::support::gateway::{TestGateway, over_endpoints};
use crate::support::grpc::{Raw, SAY, framed, soon};

async fn healthy(health: &Health) -> Backend {
    backend::start_with(Options { health: Some(health.clone()), ..Options::default() }).await
}

async fn say(client: &mut Raw) -> u32 {
    soon(client.call(SAY, &[], framed(&SayRequest::default()))).await.code()
}

/// Waits until so many endpoints are of that health.
async fn until(gateway: &TestGateway, health: &str, count: f64) {
    gateway
        .metric_reaches(&format!("portico_upstream_endpoints{{upstream=\"echo\",health=\"{health}\"}}"), count)
        .await;
}

#[tokio::test]
async fn endpoints_whose_check_fails_get_no_calls_until_it_passes_again() {
    for probe in ["{ interval: 20ms }", "{ grpc: { watch: true } }"] {
        let (one, other) = (Health::new(true), Health::new(true));
        let backends = [healthy(&one).await, healthy(&other).await];
        let keys = format!(", health_check: {probe}, load_balancing: {{ policy: round_robin, panic_threshold: 0% }}");
        let gateway = over_endpoints(&backends.each_ref().map(|backend| backend.address), &keys, "").await;
        let mut client = Raw::connect(gateway.address).await;

        assert_eq!(say(&mut client).await, 0);
        one.asked(1).await;
        one.set(false);
        until(&gateway, "unhealthy", 1.0).await;
        let before = backends[0].tally.counts().started;
        for _ in 0..10 {
            assert_eq!(say(&mut client).await, 0);
        }
        assert_eq!(backends[0].tally.counts().started, before, "{probe}");

        one.set(true);
        until(&gateway, "usable", 2.0).await;
        for _ in 0..2 {
            assert_eq!(say(&mut client).await, 0);
        }
        assert_eq!(backends[0].tally.counts().started, before + 1, "{probe}");
    }
}

#[tokio::test]
async fn health_that_is_told_compressed_is_understood() {
    for probe in ["{ interval: 20ms }", "{ grpc: { watch: true }, interval: 20ms }"] {
        let health = Health::new(true);
        let options = Options { health: Some(health.clone()), gzip_unasked: true, ..Options::default() };
        let backend = backend::start_with(options).await;
        let gateway = over_endpoints(&[backend.address], &format!(", health_check: {probe}"), "").await;

        gateway.metric_reaches("portico_upstream_health_checks_total{upstream=\"echo\",result=\"passed\"}", 1.0).await;
        health.set(false);
        until(&gateway, "unhealthy", 1.0).await;
    }
}

#[tokio::test]
async fn an_endpoint_that_is_unhealthy_is_asked_more_often_than_the_others() {
    let health = Health::new(false);
    let backend = healthy(&health).await;
    let keys = ", health_check: { interval: 1h, unhealthy_threshold: 1 }";
    let gateway = over_endpoints(&[backend.address], keys, "").await;
    until(&gateway, "unhealthy", 1.0).await;

    health.set(true);

    until(&gateway, "usable", 1.0).await;
}

#[tokio::test]
async fn when_no_endpoint_is_healthy_calls_fail_at_once_and_say_when_to_come_back() {
    let health = Health::new(false);
    let backend = healthy(&health).await;
    let gateway = over_endpoints(&[backend.address], ", health_check: { interval: 20ms }", "").await;
    until(&gateway, "unhealthy", 1.0).await;

    let answer = gateway.client(Version::Http1).await.json(Method::POST, "/test/v1/say", "{}").await;
    let mut client = Raw::connect(gateway.address).await;
    let native = soon(client.call(SAY, &[], framed(&SayRequest::default()))).await;

    assert_eq!((answer.status.as_u16(), answer.reason()), (503, "UPSTREAM_UNREACHABLE".to_owned()));
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(answer.json()["details"][1]["retryDelay"], "1s");
    assert_eq!(native.code(), 14);
    assert!(native.message().contains("none of its endpoints is healthy"), "{}", native.message());
    assert_eq!(backend.tally.counts().started, 0);
}

#[tokio::test]
async fn the_health_of_the_service_that_is_named_counts() {
    let backend = healthy(&Health::of("a.B")).await;
    let check = |service: &str| format!(", health_check: {{ grpc: {{ service: {service} }}, interval: 20ms }}");

    let known = over_endpoints(&[backend.address], &check("a.B"), "").await;
    known.metric_reaches("portico_upstream_health_checks_total{upstream=\"echo\",result=\"passed\"}", 3.0).await;
    let unknown = over_endpoints(&[backend.address], &check("a.C"), "").await;
    until(&unknown, "unhealthy", 1.0).await;

    assert_eq!(say(&mut Raw::connect(known.address).await).await, 0);
    assert_eq!(say(&mut Raw::connect(unknown.address).await).await, 14);
}

#[tokio::test]
async fn servers_without_the_service_are_healthy_and_those_that_say_nothing_are_not() {
    let bare = backend::start().await;
    let settings = Settings { manners: vec![Manner::Silent], ..Settings::default() };
    let silent = scripted::start_with(settings, vec![act::hold()]).await;
    let refusing = { backend::start().await.address };
    let keys = ", health_check: { interval: 20ms, timeout: 400ms }, load_balancing: { panic_threshold: 0% }";

    let gateway = over_endpoints(&[bare.address, silent.address, refusing], keys, "").await;

    until(&gateway, "unhealthy", 2.0).await;
    until(&gateway, "usable", 1.0).await;
    let mut client = Raw::connect(gateway.address).await;
    for _ in 0..10 {
        assert_eq!(say(&mut client).await, 0);
    }
}

#[tokio::test]
async fn endpoints_of_other_servers_have_to_accept_connections() {
    let address = { backend::start().await.address };
    let keys = ", health_check: { tcp: {}, interval: 20ms }";
    let gateway = over_endpoints(&[address], keys, "").await;

    until(&gateway, "unhealthy", 1.0).await;
    let _backend = backend::start_with(Options { address, ..Options::default() }).await;
    until(&gateway, "usable", 1.0).await;

    let mut client = Raw::connect(gateway.address).await;
    soon(async { while say(&mut client).await != 0 {} }).await;
}

#[tokio::test]
async fn an_endpoint_that_appears_beside_others_has_to_pass_first() {
    let (one, other) = (Health::new(true), Health::new(false));
    let (first, second) = (healthy(&one).await, healthy(&other).await);
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "endpoints: [\"{}\"]", first.address).expect("a file");
    let set = concat!(env!("OUT_DIR"), "/test/echo.binpb");
    let gateway = TestGateway::start(&format!(
        "workers: 1\nupstreams: [ {{ name: echo, endpoints_file: \"{}\", schema: {{ descriptor_set: \"{set}\" }}, \
         health_check: {{ interval: 20ms }} }} ]\n",
        file.path().display()
    ))
    .await;
    let mut client = Raw::connect(gateway.address).await;
    assert_eq!(say(&mut client).await, 0);

    file.as_file().set_len(0).expect("a file");
    std::fs::write(file.path(), format!("endpoints: [\"{}\", \"{}\"]", first.address, second.address)).expect("a file");
    other.asked(3).await;
    until(&gateway, "unhealthy", 1.0).await;
    for _ in 0..10 {
        assert_eq!(say(&mut client).await, 0);
    }
    assert_eq!(second.tally.counts().started, 0);

    other.set(true);
    soon(async {
        while second.tally.counts().started == 0 {
            assert_eq!(say(&mut client).await, 0);
        }
    })
    .await;
}

/// A server that answers one call of each connection, that it knows no such method, and closes in the same breath.
async fn curt() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        let mut block = vec![0x88];
        for (name, value) in [("content-type", "application/grpc"), ("grpc-status", "12")] {
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).expect("short"));
                block.extend(text.bytes());
            }
        }
        let answer = frames::frame(frames::HEADERS, frames::END_HEADERS | frames::END_STREAM, 1, &block);
        let mut closed = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.read_exact(&mut [0; frames::PREFACE.len()]).await.expect("the gateway speaks HTTP/2");
            let mut raw = frames::Raw { stream };
            raw.send(&frames::frame(frames::SETTINGS, 0, 0, &[])).await;
            raw.until(|frame| frame.flags & frames::END_STREAM != 0 && frame.kind == frames::DATA).await;
            raw.send(&answer).await;
            raw.stream.shutdown().await.expect("an open socket");
            closed.push(raw);
        }
    });
    address
}

#[tokio::test]
async fn a_server_that_closes_after_each_answer_is_asked_again_and_again() {
    let gateway = over_endpoints(&[curt().await], ", health_check: { interval: 20ms }", "").await;

    gateway.metric_reaches("portico_upstream_health_checks_total{upstream=\"echo\",result=\"passed\"}", 4.0).await;
}

#[tokio::test]
async fn an_endpoint_that_left_and_returns_has_to_pass_again_although_nobody_called_meanwhile() {
    let (one, other) = (Health::new(true), Health::new(true));
    let (first, second) = (healthy(&one).await, healthy(&other).await);
    let file = tempfile::NamedTempFile::new().expect("a file");
    let write = |endpoints: &[&Backend]| {
        let list: Vec<_> = endpoints.iter().map(|backend| format!("\"{}\"", backend.address)).collect();
        std::fs::write(file.path(), format!("endpoints: [{}]", list.join(", "))).expect("a file");
    };
    write(&[&first, &second]);
    let set = concat!(env!("OUT_DIR"), "/test/echo.binpb");
    let gateway = TestGateway::start(&format!(
        "workers: 1\nupstreams: [ {{ name: echo, endpoints_file: \"{}\", schema: {{ descriptor_set: \"{set}\" }}, \
         health_check: {{ interval: 20ms }}, load_balancing: {{ policy: round_robin }} }} ]\n",
        file.path().display()
    ))
    .await;
    let mut client = Raw::connect(gateway.address).await;
    for _ in 0..2 {
        assert_eq!(say(&mut client).await, 0);
    }

    write(&[&first]);
    let usable = "portico_upstream_endpoints{upstream=\"echo\",health=\"usable\"}";
    soon(async { while gateway.metric(usable).await != 1.0 {} }).await;
    other.set(false);
    write(&[&first, &second]);
    until(&gateway, "unhealthy", 1.0).await;
    for _ in 0..6 {
        assert_eq!(say(&mut client).await, 0);
    }

    assert_eq!(second.tally.counts().started, 1);
}
