//! Compression over REST: requests that come so, and replies that go so.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode};
use portico::encoding::{self, Encoding, Inflater};
use serde_json::{Value, json};

use crate::support::backend::{self, Backend, act};
use crate::support::client::{Reply, Version, request};
use crate::support::gateway::{TestGateway, upstream};
use crate::support::grpc::{Raw, soon};
use crate::support::rest::{message, with};

const ALL: [Encoding; 4] = [Encoding::Gzip, Encoding::Deflate, Encoding::Br, Encoding::Zstd];

async fn start(more: &str) -> (Backend, TestGateway) {
    let backend = backend::start().await;
    let gateway = TestGateway::start(&(upstream("echo", backend.address) + more)).await;
    gateway.ready().await;
    (backend, gateway)
}

fn packed(encoding: Encoding, content: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    encoding::compress(encoding, content, &mut out).expect("there is memory");
    out.freeze()
}

fn unpacked(encoding: Encoding, content: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    encoding::inflate(encoding, content, 64 << 20, &mut out).expect("it is of that encoding");
    out.freeze()
}

fn post(path: &str, media: &str, coding: &str, body: Bytes) -> Request<Bytes> {
    request(Method::POST, path, &[("content-type", media), ("content-encoding", coding)], "").map(|_| body)
}

/// The encoding of a reply, and what it stands for.
fn read(reply: &Reply) -> (Encoding, Bytes) {
    let coding = reply.headers.get("content-encoding").map_or("identity", |value| value.to_str().expect("a name"));
    let encoding = Encoding::parse(coding).expect("a known name");
    assert_eq!(reply.headers["content-length"], reply.body.len().to_string(), "{reply:?}");
    (encoding, unpacked(encoding, &reply.body))
}

fn identity(length: usize) -> String {
    json!({"stringValue": "a ".repeat(length / 2)}).to_string()
}

const JSON: &str = "application/json";

#[tokio::test]
async fn requests_may_be_compressed() {
    let (_backend, gateway) = start("").await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for encoding in ALL {
            let content = identity(100_000);
            let body = packed(encoding, content.as_bytes());
            assert!(body.len() < 2000);

            let reply = client.send(post("/test/v1/identity", JSON, encoding.name(), body)).await;
            let raw = client.send(post("/test/v1/raw", "text/plain", encoding.name(), packed(encoding, b"abc"))).await;

            assert_eq!(reply.status, StatusCode::OK, "{version:?} {encoding:?}: {reply:?}");
            assert_eq!(reply.json(), serde_json::from_str::<Value>(&content).unwrap(), "{version:?} {encoding:?}");
            assert_eq!(&raw.body[..], b"abc", "{version:?} {encoding:?}: {raw:?}");
        }
    }
}

#[tokio::test]
async fn compressed_requests_are_refused_that_cannot_be_read() {
    let limit = "policies: [ { match: \"*\", limits: { request_message: 64KiB } } ]\n";
    let (_backend, gateway) = start(limit).await;
    let bomb = packed(Encoding::Gzip, &vec![b' '; 1 << 20]);
    let small = packed(Encoding::Gzip, b"[]");
    let short = small.slice(..small.len() - 1);
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for (coding, body, status, reason, words) in [
            ("gzip", &bomb, 413, "REQUEST_TOO_LARGE", "65536 bytes"),
            ("gzip", &short, 400, "INVALID_REQUEST", "ends early"),
            ("br", &small, 400, "INVALID_REQUEST", "not valid br"),
            ("gzip, br", &small, 415, "UNSUPPORTED_ENCODING", "stacked"),
            ("snappy", &small, 415, "UNSUPPORTED_ENCODING", "\"snappy\" is not taken here"),
        ] {
            for path in ["/test/v1/identity", "/test/v1/collect"] {
                let reply = client.send(post(path, JSON, coding, body.clone())).await;
                if path.ends_with("collect") && status == 413 {
                    // A stream of nothing but spaces has no message, and no bound on the whole.
                    assert_eq!(reply.status, 400, "{version:?}: {reply:?}");
                    continue;
                }

                assert_eq!(reply.status, status, "{version:?} {path} {coding}: {reply:?}");
                assert_eq!(reply.reason(), reason, "{version:?} {path} {coding}");
                assert!(message(&reply).contains(words), "{version:?} {path} {coding}: {reply:?}");
                assert_eq!(reply.headers.contains_key("accept-encoding"), status == 415, "{reply:?}");
            }
        }
    }
}

#[tokio::test]
async fn streams_of_requests_may_be_compressed() {
    let (_backend, gateway) = start("").await;
    let lines: String = (0..5000).map(|number| format!("{{\"text\":\"{number}\"}}\n")).collect();
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for encoding in ALL.into_iter().chain([Encoding::Identity]) {
            let body = packed(encoding, lines.as_bytes());

            let reply = client.send(post("/test/v1/collect", "application/x-ndjson", encoding.name(), body)).await;

            assert_eq!(reply.status, StatusCode::OK, "{version:?} {encoding:?}: {reply:?}");
            let texts = reply.json()["texts"].as_array().expect("a list").len();
            assert_eq!(texts, 5000, "{version:?} {encoding:?}");
        }
    }
}

#[tokio::test]
async fn large_replies_are_compressed_as_the_client_likes() {
    let (_backend, gateway) = start("").await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for (accept, length, expected) in [
            ("gzip", 2000, Encoding::Gzip),
            ("gzip, deflate, br, zstd", 2000, Encoding::Zstd),
            ("gzip;q=0.5, br", 2000, Encoding::Br),
            ("gzip", 500_000, Encoding::Gzip),
            ("br", 500_000, Encoding::Br),
            ("zstd", 500_000, Encoding::Zstd),
            ("gzip", 500, Encoding::Identity),
            ("gzip, identity;q=0", 100, Encoding::Gzip),
            ("gzip;q=0", 2000, Encoding::Identity),
            ("", 2000, Encoding::Identity),
        ] {
            let content = identity(length);
            let headers = [("content-type", JSON), ("accept-encoding", accept)];

            let reply = with(&mut client, "POST /test/v1/identity", &headers, &content).await;

            assert_eq!(reply.status, StatusCode::OK, "{version:?} {accept}: {reply:?}");
            assert_eq!(reply.headers["vary"], "accept-encoding", "{version:?} {accept}");
            let (encoding, read) = read(&reply);
            assert_eq!(encoding, expected, "{version:?} {accept} {length}");
            let json: Value = serde_json::from_slice(&read).expect("JSON");
            assert_eq!(json, serde_json::from_str::<Value>(&content).unwrap(), "{version:?} {accept}");
            assert!(encoding == Encoding::Identity || length < 2000 || reply.body.len() < length / 4);
        }
    }
}

#[tokio::test]
async fn policies_say_what_is_compressed_and_how() {
    let policies = "policies:
  - { match: \"*\", compression: { min_size: 10B, encodings: [br] } }
  - { match: portico.test.v1.Echo/Identity, compression: off }
";
    let (_backend, gateway) = start(policies).await;
    let mut client = gateway.client(Version::Http2).await;
    let headers = [("content-type", "text/plain"), ("accept-encoding", "zstd, gzip, br;q=0.1")];

    let off = with(&mut client, "POST /test/v1/identity", &[("content-type", JSON), headers[1]], &identity(5000)).await;
    let small = with(&mut client, "POST /test/v1/raw", &headers, "aaaaaaaaaaaaaaaaaa").await;

    assert_eq!(read(&off).0, Encoding::Identity);
    assert!(!off.headers.contains_key("vary"), "{off:?}");
    assert_eq!(read(&small), (Encoding::Br, Bytes::from_static(b"aaaaaaaaaaaaaaaaaa")));
}

#[tokio::test]
async fn what_is_compressed_by_its_nature_is_sent_as_it_is() {
    let (_backend, gateway) = start("").await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for (media, encoding) in [
            ("image/png", Encoding::Identity),
            ("application/zip", Encoding::Identity),
            ("application/octet-stream", Encoding::Identity),
            ("text/csv", Encoding::Gzip),
            ("image/svg+xml", Encoding::Gzip),
        ] {
            let headers = [("content-type", media), ("accept-encoding", "gzip")];

            let reply = with(&mut client, "POST /test/v1/raw", &headers, &"a".repeat(3000)).await;

            assert_eq!(read(&reply).0, encoding, "{version:?} {media}");
            assert_eq!(reply.headers.contains_key("vary"), encoding == Encoding::Gzip, "{version:?} {media}");
        }
    }
}

#[tokio::test]
async fn errors_and_heads_are_compressed_too() {
    let (_backend, gateway) = start("").await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        let headers = [("accept-encoding", "gzip")];
        let path = format!("GET /test/v1/identity?{}=1", "x".repeat(3000));
        let found = format!("/test/v1/identity?string_value={}", "y".repeat(3000));

        let error = with(&mut client, &path, &headers, "").await;
        let get = with(&mut client, &format!("GET {found}"), &headers, "").await;
        let head = with(&mut client, &format!("HEAD {found}"), &headers, "").await;

        assert_eq!(error.status, StatusCode::BAD_REQUEST, "{version:?}");
        assert_eq!(error.headers["vary"], "accept-encoding");
        let (encoding, content) = read(&error);
        assert_eq!(encoding.name() == "gzip", content.len() >= 1024, "{version:?}: {content:?}");
        assert_eq!(read(&get).0, Encoding::Gzip);
        assert!(head.body.is_empty());
        for name in ["content-length", "content-encoding", "vary"] {
            assert_eq!(head.headers[name], get.headers[name], "{version:?} {name}");
        }
    }
}

#[tokio::test]
async fn streams_are_compressed_message_by_message() {
    let (_backend, gateway) = start("").await;
    for encoding in [Encoding::Gzip, Encoding::Br, Encoding::Zstd] {
        let mut client = Raw::connect(gateway.address).await;
        let head: HeaderMap = act::entries(&[
            ("content-type", "application/x-ndjson"),
            ("accept", "application/x-ndjson"),
            ("accept-encoding", encoding.name()),
        ]);
        let mut call = client.begin_as(Method::POST, "/test/v1/converse", head, false).await;
        call.send("{\"text\":\"0\"}\n", false);
        let (reply, mut body, mut sending) = soon(call.head()).await.expect("the gateway answers");
        assert_eq!(reply.headers["content-encoding"], encoding.name());
        assert_eq!(reply.headers["vary"], "accept-encoding");

        let mut inflater = Inflater::new(encoding, 1 << 20);
        let mut text = BytesMut::new();
        for number in 0..4 {
            while text.iter().filter(|byte| **byte == b'\n').count() <= number {
                let data = soon(body.data()).await.expect("there is more").expect("the stream is whole");
                body.flow_control().release_capacity(data.len()).expect("it was taken");
                inflater.push(&data, &mut text).expect("it is of that encoding");
            }
            let next = format!("{{\"text\":\"{}\"}}\n", number + 1);
            sending.send_data(next.into(), number == 3).expect("the stream is open");
        }
        while let Some(data) = soon(body.data()).await {
            inflater.push(&data.expect("the stream is whole"), &mut text).expect("it is of that encoding");
        }
        inflater.finish().expect("it has an end");
        assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 5, "{text:?}");
    }
}

#[tokio::test]
async fn every_form_of_a_stream_is_compressed_but_raw_data() {
    let (_backend, gateway) = start("").await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for form in [JSON, "application/x-ndjson", "text/event-stream", "application/json-seq"] {
            for behaviour in [json!({"count": 3}), json!({"count": 2, "payloadBytes": 200_000})] {
                let body = json!({"text": "hi", "behaviour": behaviour}).to_string();
                let plain = [("content-type", JSON), ("accept", form)];
                let packed = [("content-type", JSON), ("accept", form), ("accept-encoding", "zstd;q=0.2, gzip")];

                let plain = with(&mut client, "POST /test/v1/repeat", &plain, &body).await;
                let reply = with(&mut client, "POST /test/v1/repeat", &packed, &body).await;

                assert_eq!(reply.status, StatusCode::OK, "{version:?} {form}: {reply:?}");
                assert_eq!(reply.headers["content-encoding"], "gzip", "{version:?} {form}");
                // The metadata in them differ, but not in length.
                let content = unpacked(Encoding::Gzip, &reply.body);
                let ends = |content: &[u8]| (content.len(), content[content.len() - 20..].to_vec());
                assert_eq!(ends(&content), ends(&plain.body), "{version:?} {form} {behaviour}");
                assert_eq!(plain.headers["vary"], "accept-encoding");
            }
        }
    }
}

#[tokio::test]
async fn an_envelope_is_around_each_message_where_it_is_wanted() {
    let policies = "policies: [ { match: portico.test.v1.Echo/Repeat, json: { stream_envelope: true } } ]\n";
    let (_backend, gateway) = start(policies).await;
    let mut client = gateway.client(Version::Http2).await;
    let failing = json!({"text": "a", "behaviour": {"count": 1, "failure": {"code": 5}}}).to_string();
    let good = json!({"text": "a", "behaviour": {"count": 2}}).to_string();

    let array = with(&mut client, "POST /test/v1/repeat", &[("content-type", JSON)], &good).await;
    let lines = [("content-type", JSON), ("accept", "application/x-ndjson")];
    let lines = with(&mut client, "POST /test/v1/repeat", &lines, &failing).await;
    let unary = with(&mut client, "POST /test/v1/identity", &[("content-type", JSON)], "{}").await;

    assert_eq!(array.json()[1]["result"]["index"], json!(1), "{array:?}");
    let text = String::from_utf8(lines.body.to_vec()).expect("text");
    let values: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(values[0]["result"]["text"], json!("a"), "{text}");
    assert_eq!(values.last().expect("an error")["error"]["code"], json!(5), "{text}");
    assert_eq!(unary.json(), json!({}));
}
