//! How often callers may call: in every protocol, by whatever tells them apart, and what they are told of it.

use aws_lc_rs::digest::{SHA256, digest};
use http::Method;
use serde_json::{Value, json};

use crate::support::backend::{self, Backend};
use crate::support::client::{Client, Version, request};
use crate::support::gateway::{TestGateway, upstream};
use crate::support::grpc::{Raw, framed};
use crate::support::outcomes::{Outcome, Way, plain, text, ways};
use crate::support::rpc;
use crate::support::websocket::Socket;

const SAY: &str = "/portico.test.v1.Echo/Say";
const COLLECT: &str = "/portico.test.v1.Echo/Collect";
const CONVERSE: &str = "/portico.test.v1.Echo/Converse";

/// A gateway with these policies, and what else stands in the text.
async fn start(text: &str) -> (Backend, TestGateway) {
    let backend = backend::start().await;
    let gateway = TestGateway::start(&format!("{}{text}\n", upstream("echo", backend.address))).await;
    gateway.ready().await;
    (backend, gateway)
}

/// A REST call and its code.
async fn code(client: &mut Client, path: &str, headers: &[(&str, &str)]) -> u64 {
    plain(client.send(request(Method::GET, path, headers, "")).await).code
}

#[tokio::test]
async fn every_protocol_tells_of_the_limit_and_when_to_come_back() {
    let (backend, gateway) = start(
        "policies:
- match: \"*\"
  rate_limits:
  - { name: per-case, key: [\"header:x-case\"], quota: 1/h }
  - { name: all, quota: 1000/s, burst: 2000 }",
    )
    .await;

    for (index, way) in ways().into_iter().enumerate() {
        let case = format!("case-{index}");
        let headers = [("x-case", case.as_str())];
        let first = way.call(&gateway, &headers).await;
        let second = way.call(&gateway, &headers).await;

        let policy = "\"per-case\";q=1;w=3600, \"all\";q=1000;w=1;portico-burst=2000";
        assert_eq!((first.code, text(&first.headers, "ratelimit-policy")), (0, policy), "{way:?}");
        assert!(text(&first.headers, "ratelimit").starts_with("\"per-case\";r=0;t=3600, \"all\";r="), "{way:?}");
        assert!(!first.headers.contains_key("retry-after"), "{way:?}");
        assert_eq!((second.code, second.status), (8, way.status(429)), "{way:?} {second:?}");
        assert_eq!(text(&second.headers, "ratelimit-policy"), policy, "{way:?}");
        let wait: u64 = text(&second.headers, "retry-after").parse().expect("seconds");
        assert!((3590..=3600).contains(&wait), "{way:?} {wait}");
        let told = format!("\"per-case\";r=0;t={wait}, \"all\";r=");
        assert!(text(&second.headers, "ratelimit").starts_with(&told), "{way:?} {second:?}");
        assert!(!second.headers.contains_key("x-ratelimit-limit"));
        check_details(way, &second);
    }
    // The second call of none came through.
    backend.tally.until(|counts| counts.started == counts.finished + counts.cancelled).await;
    assert!(backend.tally.counts().started <= ways().len());
    assert_eq!(gateway.metric("portico_rate_limit_decisions_total{limit=\"per-case\",outcome=\"refused\"}").await, {
        ways().len() as f64
    });
}

/// `RetryInfo`, `QuotaFailure` and pushback, each where the protocol has them.
fn check_details(way: Way, refused: &Outcome) {
    check_details_of(way, refused, "per-case");
}

fn check_details_of(way: Way, refused: &Outcome, limit: &str) {
    let is_grpc = matches!(way, Way::Rpc(_, dialect, _) if !dialect.is_connect());
    if is_grpc {
        use prost::Message as _;
        let pushback: u64 = text(&refused.trailers, "grpc-retry-pushback-ms").parse().expect("milliseconds");
        assert!((3_590_000..=3_600_000).contains(&pushback), "{way:?} {pushback}");
        let details = text(&refused.trailers, "grpc-status-details-bin");
        let details = portico::grpc::status::decode_binary(details.as_bytes()).expect("base64");
        let status = portico::pb::google::rpc::Status::decode(&*details).expect("a status");
        let types: Vec<_> = status.details.iter().map(|any| any.type_url.rsplit('/').next().expect("a name")).collect();
        assert_eq!(types, ["google.rpc.ErrorInfo", "google.rpc.RetryInfo", "google.rpc.QuotaFailure"], "{way:?}");
        return;
    }
    let details = refused.body["details"].as_array().expect("details");
    let name = |detail: &Value| {
        let name = detail["@type"].as_str().or_else(|| detail["type"].as_str()).expect("a type");
        name.rsplit('/').next().unwrap_or_default().to_owned()
    };
    let names: Vec<_> = details.iter().map(name).collect();
    assert_eq!(names, ["google.rpc.ErrorInfo", "google.rpc.RetryInfo", "google.rpc.QuotaFailure"], "{way:?}");
    if !matches!(way, Way::Rpc(..)) {
        assert_eq!(details[0]["reason"], "RATE_LIMITED");
        assert!(details[1]["retryDelay"].as_str().is_some_and(|delay| delay.starts_with("359") || delay == "3600s"));
        assert_eq!(details[2]["violations"], json!([{"subject": limit, "description": "1/h"}]));
    }
}

#[tokio::test]
async fn no_choice_of_protocol_spelling_header_or_case_wins_a_call() {
    let (_backend, gateway) = start(
        "policies:
- match: \"*\"
  rate_limits: [ { key: [client_ip, service], quota: 20/h } ]",
    )
    .await;
    let lies: [&[(&str, &str)]; 6] = [
        &[],
        &[("x-forwarded-for", "203.0.113.9")],
        &[("forwarded", "for=203.0.113.9"), ("x-real-ip", "203.0.113.9")],
        &[("x-request-id", "other"), ("user-agent", "another")],
        &[("authorization", "Bearer other"), ("cookie", "session=other")],
        &[("X-Client-Ip".to_lowercase().leak(), "203.0.113.9"), ("via", "1.1 other")],
    ];

    let mut passed = 0;
    for round in 0..2 {
        for (index, way) in ways().into_iter().enumerate() {
            passed += usize::from(way.call(&gateway, lies[(index + round) % lies.len()]).await.code == 0);
        }
    }
    let mut client = gateway.client(Version::Http1).await;
    for path in [
        "/test/v1/say/other",
        "/test/v1/say/%6Fther",
        "/test/v1/say?text=a",
        "/test/v1/text/a/b",
        "/test/v1/say/a?text=",
        "/test/v1/say/a?x-method=other",
    ] {
        let reply = client.send(request(Method::GET, path, &[], "")).await;
        passed += usize::from(reply.status == 200);
    }

    assert_eq!(passed, 20);
}

#[tokio::test]
async fn methods_that_no_schema_knows_count_as_one() {
    let (_backend, gateway) = start(
        "policies:
- match: \"*\"
  rate_limits: [ { key: [client_ip, method], quota: 3/h } ]",
    )
    .await;
    let mut client = Raw::connect(gateway.address).await;

    let mut codes = Vec::new();
    for number in 0..6 {
        let path = format!("/portico.test.v1.Other{number}/Method{number}");
        codes.push(client.call(&path, &[], framed(&backend::pb::SayRequest::default())).await.code());
    }

    assert_eq!(codes, [12, 12, 12, 8, 8, 8]);
}

/// Two API keys, one of which is gold.
async fn with_keys(policies: &str) -> (tempfile::TempDir, Backend, TestGateway) {
    let folder = tempfile::tempdir().expect("a folder");
    let hash = |text: &str| {
        digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let keys = format!(
        "keys:\n- {{ name: ann, hash: \"sha256:{}\", attributes: {{ plan: gold }} }}\n- {{ name: bob, hash: \"sha256:{}\" }}\n",
        hash("k-ann"),
        hash("k-bob")
    );
    std::fs::write(folder.path().join("keys.yaml"), keys).expect("a file");
    let text = format!(
        "authentication: {{ api_keys: [ {{ name: keys, file: {}/keys.yaml }} ] }}\npolicies:\n{policies}",
        folder.path().display()
    );
    let (backend, gateway) = start(&text).await;
    (folder, backend, gateway)
}

const ANN: &[(&str, &str)] = &[("x-api-key", "k-ann")];
const BOB: &[(&str, &str)] = &[("x-api-key", "k-bob")];
const WRONG: &[(&str, &str)] = &[("x-api-key", "k-eve")];

#[tokio::test]
async fn callers_are_told_apart_by_what_they_proved() {
    for key in ["claim:sub", "api_key"] {
        let (_folder, _backend, gateway) = with_keys(&format!(
            "- match: \"*\"
  authenticate: keys
  rate_limits:
  - key: [\"{key}\"]
    quota: 2/h
    tiers: {{ claim: plan, quotas: {{ gold: {{ quota: 4/h, burst: 3 }}, silver: 3/h }} }}"
        ))
        .await;
        let mut client = gateway.client(Version::Http2).await;

        let mut codes = Vec::new();
        for caller in [BOB, ANN, BOB, ANN, BOB, ANN, ANN, WRONG] {
            codes.push(code(&mut client, "/test/v1/say/a", caller).await);
        }

        assert_eq!(codes, [0, 0, 0, 0, 8, 0, 8, 16], "{key}");
    }
}

#[tokio::test]
async fn who_proves_nothing_is_stopped_before_anything_is_checked() {
    let (_folder, _backend, gateway) = with_keys(
        "- match: \"*\"
  authenticate: keys
  rate_limits: [ { key: [client_ip], quota: 4/h }, { key: [claim:sub], quota: 1/h } ]",
    )
    .await;
    let mut client = gateway.client(Version::Http2).await;

    let mut codes = Vec::new();
    for caller in [WRONG, ANN, ANN, WRONG, WRONG, BOB] {
        codes.push(code(&mut client, "/test/v1/say/a", caller).await);
    }

    // Wrong credentials cost their address what right ones do, and so does a call that another limit refuses.
    assert_eq!(codes, [16, 0, 8, 16, 8, 8]);
}

#[tokio::test]
async fn calls_that_lack_a_part_of_the_key_share_or_are_free() {
    for (missing, expected) in [("share", [0, 0, 8, 0, 8]), ("skip", [0, 0, 0, 0, 8])] {
        let (_backend, gateway) = start(&format!(
            "policies:
- match: \"*\"
  rate_limits: [ {{ key: [\"header:x-tenant\"], quota: 2/h, missing: {missing} }} ]
- match: portico.test.v1.Echo/Repeat
  rate_limits: none",
        ))
        .await;
        let mut client = gateway.client(Version::Http1).await;

        let tenant: &[(&str, &str)] = &[("x-tenant", "a")];
        let mut codes = Vec::new();
        for headers in [&[][..], &[], &[], tenant] {
            codes.push(code(&mut client, "/test/v1/say/a", headers).await);
        }
        code(&mut client, "/test/v1/say/a", tenant).await;
        codes.push(code(&mut client, "/test/v1/say/a", tenant).await);

        assert_eq!(codes, expected, "{missing}");
        for _ in 0..4 {
            let reply = client.send(request(Method::GET, "/test/v1/repeat/a", tenant, "")).await;
            assert_eq!((reply.status.as_u16(), reply.headers.contains_key("ratelimit")), (200, false));
        }
    }
}

#[tokio::test]
async fn limits_of_a_call_are_charged_together_and_shadows_refuse_nobody() {
    let (_backend, gateway) = start(
        "policies:
- match: \"*\"
  rate_limits:
  - { name: wide, key: [constant:all], quota: 5/h }
  - { name: narrow, key: [\"header:x-tenant\"], quota: 1/h }
  - { name: tried, quota: 1/h, shadow: true }",
    )
    .await;
    let mut client = gateway.client(Version::Http1).await;

    let mut codes = Vec::new();
    for tenant in ["a", "a", "a", "a", "b", "c", "d", "e", "f"] {
        codes.push(code(&mut client, "/test/v1/say/a", &[("x-tenant", tenant)]).await);
    }
    let reply = client.send(request(Method::GET, "/test/v1/say/a", &[("x-tenant", "g")], "")).await;

    // What the narrow limit refused cost the wide one nothing.
    assert_eq!(codes, [0, 8, 8, 8, 0, 0, 0, 0, 8]);
    assert_eq!(text(&reply.headers, "ratelimit-policy"), "\"wide\";q=5;w=3600, \"narrow\";q=1;w=3600");
    let shadowed = "portico_rate_limit_decisions_total{limit=\"tried\",outcome=\"shadow_refused\"}";
    assert!(gateway.metric(shadowed).await >= 4.0);
    assert_eq!(gateway.metric("portico_rate_limit_decisions_total{limit=\"tried\",outcome=\"refused\"}").await, 0.0);
    assert!(gateway.metric("portico_rate_limit_keys").await >= 6.0);
    for (limit, refused) in [("wide", 2.0), ("narrow", 3.0)] {
        for (outcome, expected) in [("allowed", 5.0), ("refused", refused)] {
            let series = format!("portico_rate_limit_decisions_total{{limit=\"{limit}\",outcome=\"{outcome}\"}}");
            assert_eq!(gateway.metric(&series).await, expected, "{series}");
        }
    }
}

#[tokio::test]
async fn open_calls_are_limited_while_they_are_open() {
    let (backend, gateway) = start(
        "policies:
- match: portico.test.v1.Echo/*
  rate_limits: [ { name: open, key: [client_ip], max_open: 2 } ]",
    )
    .await;
    let stall = "/test/v1/repeat/hi?behaviour.stall=true";
    let first = Socket::open(gateway.address, Version::Http1, stall, &[]).await;
    let _second = Socket::open(gateway.address, Version::Http2, stall, &[]).await;
    assert_eq!(text(&first.headers, "ratelimit-policy"), "\"open\";q=2;qu=\"concurrent-requests\"");
    assert_eq!(text(&first.headers, "ratelimit"), "\"open\";r=1");

    for way in ways() {
        let refused = way.call(&gateway, &[]).await;
        assert_eq!((refused.code, refused.status), (8, way.status(429)), "{way:?}");
        assert_eq!(text(&refused.headers, "ratelimit"), "\"open\";r=0", "{way:?}");
        assert!(!refused.headers.contains_key("retry-after"), "{way:?}");
    }
    backend.tally.until(|counts| counts.started == 2).await;
    drop(first);
    backend.tally.until(|counts| counts.cancelled == 1).await;

    let mut client = gateway.client(Version::Http1).await;
    let opened = async {
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(5));
        while code(&mut client, "/test/v1/say/a", &[]).await != 0 {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), opened).await.expect("a place comes free");
}

#[tokio::test]
async fn the_gateways_own_services_are_limited_too_and_health_stays_open() {
    let (_backend, gateway) = start(
        "policies:
- match: \"*\"
  rate_limits: [ { key: [client_ip], quota: 1/h } ]",
    )
    .await;
    let mut client = Raw::connect(gateway.address).await;
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let mut reflect = async || {
        let request = portico::pb::grpc::reflection::v1::ServerReflectionRequest::default();
        client.call(reflection, &[], framed(&request)).await
    };

    let (first, second) = (reflect().await, reflect().await);

    assert_eq!((first.code(), second.code()), (0, 8));
    assert_eq!(text(&first.headers, "ratelimit-policy"), "\"client_ip\";q=1;w=3600");
    for _ in 0..3 {
        let request = portico::pb::grpc::health::v1::HealthCheckRequest::default();
        let health = client.call("/grpc.health.v1.Health/Check", &[], framed(&request)).await;
        assert_eq!((health.code(), health.headers.contains_key("ratelimit")), (0, false));
    }
}

#[tokio::test]
async fn pages_may_read_the_fields_and_old_ones_are_there_by_option() {
    for (headers, standard, legacy) in [("both", true, true), ("legacy", false, true), ("off", false, false)] {
        let (_backend, gateway) = start(&format!(
            "rate_limiting: {{ headers: {headers} }}
policies:
- match: \"*\"
  cors: {{ allow_origins: [\"https://app.example.com\"] }}
  rate_limits: [ {{ quota: 10/min, burst: 1 }} ]"
        ))
        .await;
        let mut client = gateway.client(Version::Http1).await;
        let mut call = async || {
            client.send(request(Method::GET, "/test/v1/say/a", &[("origin", "https://app.example.com")], "")).await
        };

        call().await;
        let reply = call().await;

        assert_eq!((reply.status.as_u16(), text(&reply.headers, "retry-after")), (429, "6"));
        let exposed = text(&reply.headers, "access-control-expose-headers");
        assert_eq!(reply.headers.contains_key("ratelimit"), standard);
        assert_eq!(exposed.contains(", ratelimit,"), standard, "{exposed}");
        assert_eq!(exposed.contains(", x-ratelimit-reset,"), legacy, "{exposed}");
        assert!(exposed.ends_with(", retry-after"), "{exposed}");
        if legacy {
            let legacy =
                ["limit", "remaining", "reset"].map(|name| text(&reply.headers, &format!("x-ratelimit-{name}")));
            assert_eq!(legacy, ["10", "0", "6"]);
        }
    }
}

#[tokio::test]
async fn a_field_of_the_first_message_tells_callers_apart_in_every_protocol() {
    let (backend, gateway) = start(
        "policies:
- match: portico.test.v1.Echo/*
  rate_limits: [ { name: by-text, key: [\"field:text\"], quota: 1/h } ]",
    )
    .await;
    // A WebSocket is open before its messages come; what becomes of it then is asked below.
    let ways = || ways().into_iter().filter(|way| !matches!(way, Way::Socket(_)));

    for (index, way) in ways().enumerate() {
        let text = format!("text-{index}");
        let first = way.say(&gateway, &[], &text).await;
        let second = way.say(&gateway, &[], &text).await;

        assert_eq!((first.code, text_of(&first, "ratelimit")), (0, "\"by-text\";r=0;t=3600"), "{way:?}");
        assert_eq!((second.code, second.status), (8, way.status(429)), "{way:?} {second:?}");
        assert!(text_of(&second, "ratelimit").starts_with("\"by-text\";r=0;t=3"), "{way:?}");
        check_details_of(way, &second, "by-text");
    }

    // Nothing of a refused call went upstream, and the same text by another protocol is the same caller.
    assert_eq!(backend.tally.counts().started, ways().count());
    for way in ways() {
        assert_eq!(way.say(&gateway, &[], "text-0").await.code, 8, "{way:?}");
    }
    for version in Version::BOTH {
        let mut socket = Socket::open(gateway.address, version, "/test/v1/converse", &[]).await;
        socket.text(&json!({"text": "text-0"}).to_string()).await;
        assert_eq!(socket.failed().await.1, 4008, "{version:?}");
    }
    assert_eq!(backend.tally.counts().started, ways().count());
}

fn text_of<'o>(outcome: &'o Outcome, name: &str) -> &'o str {
    text(&outcome.headers, name)
}

#[tokio::test]
async fn a_field_is_found_in_compressed_messages_and_not_by_deceit() {
    let (backend, gateway) = start(
        "policies:
- match: \"*\"
  rate_limits: [ { key: [\"field:text\"], quota: 1/h } ]",
    )
    .await;
    let mut client = Raw::connect(gateway.address).await;
    let gzip = [("grpc-encoding", "gzip")];
    let squeezed = rpc::squeeze(portico::encoding::Encoding::Gzip, b"\x0a\x01a");

    let mut codes = Vec::new();
    for (headers, flags, message) in [
        (&gzip[..], 1, &squeezed[..]),
        (&[], 0, b"\x0a\x01a"),
        // The last value is what the service reads.
        (&[], 0, b"\x0a\x01b\x0a\x01a"),
        // Written longer than it has to be.
        (&[], 0, b"\x8a\x00\x81\x00a"),
        // Without the field, or not to be read: one count for all.
        (&[], 0, b""),
        (&[], 0, b"\x0a\x05a"),
        (&gzip, 1, b"no gzip"),
        (&[], 0, b"\x0a\x01c"),
    ] {
        let answer = client.call(SAY, headers, rpc::envelope(flags, message)).await;
        codes.push(answer.code());
    }

    assert_eq!(codes, [0, 8, 8, 8, 0, 8, 8, 0]);
    assert_eq!(backend.tally.counts().started, 3);
}

#[tokio::test]
async fn a_message_that_cannot_be_inflated_is_spared_by_no_limit() {
    let (_backend, gateway) = start(
        "policies:
- match: \"*\"
  rate_limits: [ { key: [\"field:text\"], quota: 1/h, missing: skip } ]",
    )
    .await;
    let mut client = Raw::connect(gateway.address).await;
    let gzip = [("grpc-encoding", "gzip")];

    let mut codes = Vec::new();
    for (headers, flags, message) in [
        // By the first one it is known how the upstream takes messages.
        (&[][..], 0, &b"\x0a\x01a"[..]),
        (&[], 0, b""),
        (&[], 0, b""),
        (&gzip, 1, b"no gzip"),
        (&gzip, 1, b"no gzip"),
        (&gzip, 1, b"nor this"),
        (&[], 0, b"\x0a\x05a"),
        (&[], 0, b"\x0a\x01b"),
    ] {
        codes.push(client.call(SAY, headers, rpc::envelope(flags, message)).await.code());
    }

    assert_eq!(codes[..3], [0, 0, 0]);
    assert_ne!(codes[3], 8);
    assert_eq!(codes[4..], [8, 8, 8, 0], "what cannot be read has one count");
}

#[tokio::test]
async fn a_large_first_message_is_looked_at_and_passed_on_whole() {
    let (_backend, gateway) = start(
        "policies:
- match: \"*\"
  rate_limits: [ { key: [\"field:text\"], quota: 2/h }, { quota: 1000/h, count: messages } ]",
    )
    .await;
    // Larger than the window that the gateway opens by itself.
    let large = "x".repeat(3 << 20);

    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        let body = json!({"text": large}).to_string();
        let headers = [("content-type", "application/json")];
        let reply = client.send(request(Method::POST, "/test/v1/say", &headers, &body)).await;
        assert_eq!((reply.status.as_u16(), reply.json()["text"].as_str().map(str::len)), (200, Some(3 << 20)));
    }
    let mut client = Raw::connect(gateway.address).await;
    for path in [SAY, CONVERSE] {
        let message = backend::pb::SayRequest { text: "y".repeat(3 << 20), behaviour: None };
        let answer = client.call(path, &[], framed(&message)).await;
        assert_eq!((answer.code(), answer.messages::<backend::pb::SayReply>().len()), (0, 1), "{path}");
    }
}

#[tokio::test]
async fn messages_of_a_stream_are_counted_one_by_one() {
    let policy = "policies:
- match: portico.test.v1.Echo/*
  rate_limits: [ { name: messages, key: [\"header:x-case\"], quota: 3/h, count: messages } ]";
    let (_backend, gateway) = start(policy).await;
    let say = |text: &str| backend::pb::SayRequest { text: text.into(), behaviour: None };

    let mut client = Raw::connect(gateway.address).await;
    let mut call = client.begin(CONVERSE, &[("x-case", "grpc")], false).await;
    for number in 0..5 {
        call.message(&say(&number.to_string()), false);
    }
    let answer = call.answer().await.expect("it ends in trailers");
    assert!(answer.messages::<backend::pb::SayReply>().len() <= 3, "{answer:?}");
    assert_eq!((answer.code(), text(&answer.headers, "ratelimit")), (8, "\"messages\";r=3;t=0"));

    for version in Version::BOTH {
        let name = format!("socket {version:?}");
        let mut socket = Socket::open(gateway.address, version, "/test/v1/converse", &[("x-case", &name)]).await;
        for number in 0..3 {
            socket.text(&json!({"text": number.to_string()}).to_string()).await;
            assert!(matches!(socket.next().await, Some(tungstenite::Message::Text(_))), "{version:?} {number}");
        }
        socket.text(&json!({"text": "3"}).to_string()).await;
        let (error, close, _) = socket.failed().await;
        assert_eq!((close, error["code"].as_u64()), (4008, Some(8)), "{version:?} {error}");

        let mut client = gateway.client(version).await;
        let lines: String = (0..5).map(|number| format!("{{\"text\": \"{number}\"}}\n")).collect();
        let headers = [("x-case", "rest"), ("content-type", "application/x-ndjson")];
        let reply = client.send(request(Method::POST, "/test/v1/collect", &headers, &lines)).await;
        assert_eq!((reply.status.as_u16(), reply.reason().as_str()), (429, "RATE_LIMITED"), "{version:?}");
        for dialect in rpc::dialects(version, COLLECT) {
            let name = format!("{} {version:?}", dialect.media);
            let messages: Vec<Value> = (0..4).map(|number| json!({"text": number.to_string()})).collect();
            let three = dialect.call(&mut client, COLLECT, &[("x-case", &name)], &messages[..3]).await;
            let more = dialect.call(&mut client, COLLECT, &[("x-case", &name)], &messages[..1]).await;
            assert_eq!((three.code, more.code), (0, 8), "{name}");
        }
    }
}

#[tokio::test]
async fn what_the_caller_calls_the_gateway_is_a_header_in_both_versions() {
    let (_backend, gateway) = start(
        "policies:
- match: \"*\"
  rate_limits: [ { key: [\"header:host\"], quota: 1/h, missing: skip } ]",
    )
    .await;
    for (version, expected) in [(Version::Http1, [0, 8]), (Version::Http2, [8, 8])] {
        let mut client = gateway.client(version).await;
        for expected in expected {
            assert_eq!(code(&mut client, "/test/v1/say/a", &[]).await, expected, "{version:?}");
        }
    }
}

#[tokio::test]
async fn messages_to_reflection_are_counted_too() {
    let (_backend, gateway) = start(
        "policies:
- match: \"*\"
  rate_limits: [ { name: messages, quota: 2/h, count: messages } ]",
    )
    .await;
    let mut client = Raw::connect(gateway.address).await;
    let request = portico::pb::grpc::reflection::v1::ServerReflectionRequest::default();
    let three = [framed(&request), framed(&request), framed(&request)].concat();

    let answer = client.call("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &[], three).await;

    assert_eq!((answer.code(), text(&answer.headers, "ratelimit")), (8, "\"messages\";r=2;t=0"));
    let answers = answer.messages::<portico::pb::grpc::reflection::v1::ServerReflectionResponse>();
    assert_eq!(answers.len(), 2);
}
