//! What gRPC, gRPC-Web and Connect have in common, in every dialect and over both versions of HTTP.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{Method, StatusCode};
use portico::encoding::Encoding;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::backend::{self, Backend, Options, act, scripted};
use crate::support::client::Version;
use crate::support::gateway::{TestGateway, upstream};
use crate::support::grpc::{COLLECT, CONVERSE, REPEAT, Raw, SAY, soon};
use crate::support::rpc::{Ending, decode_text, dialects, envelope, envelopes, squeeze};

const CODINGS: [Encoding; 4] = [Encoding::Gzip, Encoding::Deflate, Encoding::Br, Encoding::Zstd];

async fn start() -> (Backend, TestGateway) {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    (backend, gateway)
}

/// A gateway with these limits on messages in front of a backend that may do anything.
async fn limited(address: std::net::SocketAddr, limits: &str) -> TestGateway {
    let set = concat!(env!("OUT_DIR"), "/test/echo.binpb");
    let gateway = TestGateway::start(&format!(
        "upstreams: [ {{ name: echo, endpoints: [\"{address}\"], schema: {{ descriptor_set: \"{set}\" }} }} ]\npolicies: [ {{ match: \"*\", limits: {{ {limits} }} }} ]\n",
    ))
    .await;
    gateway.ready().await;
    gateway
}

fn entry(name: &str, value: &[u8]) -> Value {
    use base64::Engine as _;
    json!({"name": name, "value": base64::engine::general_purpose::STANDARD.encode(value)})
}

#[tokio::test]
async fn every_kind_of_method_answers_with_its_metadata() {
    let (_backend, gateway) = start().await;
    let behaviour = json!({
        "count": 3,
        "headers": [entry("x-initial", b"one"), entry("x-initial-bin", b"\xff\x00")],
        "trailers": [entry("x-trailing", b"two"), entry("x-trailing-bin", b"\x00\xff\x01")],
    });
    let first = json!({"text": "ä", "behaviour": behaviour});
    let more = [first.clone(), json!({"text": ""}), json!({"text": "c"})];
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for (path, messages, expected) in [
            (SAY, &more[..1], vec!["ä"]),
            (REPEAT, &more[..1], vec!["ä"; 3]),
            (COLLECT, &more[..], vec![""]),
            (CONVERSE, &more[..], vec!["ä", "", "c"]),
        ] {
            for dialect in dialects(version, path) {
                let told = dialect.call(&mut client, path, &[("x-key", "value"), ("x-key-bin", "AP8")], messages).await;

                let case = format!("{version:?} {path} {dialect:?}: {told:?}");
                assert_eq!((told.reply.status, told.code), (StatusCode::OK, 0), "{case}");
                assert_eq!(told.texts(), expected, "{case}");
                assert!(told.reply.headers.contains_key("date"), "{case}");
                let media = if dialect.media == "application/grpc+proto" { "application/grpc" } else { dialect.media };
                assert_eq!(told.reply.headers["content-type"], media, "{case}");
                assert_eq!(told.seen("x-key").as_deref(), Some("value"), "{case}");
                assert_eq!(
                    told.seen("content-type").as_deref().map(|media| media.get(..16)),
                    Some(Some("application/grpc"))
                );
                assert_eq!(told.seen("connect-protocol-version"), None, "{case}");
                assert_eq!(told.seen("x-grpc-web"), None, "{case}");
                if path == COLLECT {
                    assert_eq!(told.messages[0]["texts"], json!(["ä", "", "c"]), "{case}");
                }
                if path != CONVERSE {
                    assert_eq!(told.reply.headers["x-initial"], "one", "{case}");
                    assert_eq!(told.reply.headers["x-initial-bin"], "/wA", "{case}");
                    assert_eq!(told.trailers["x-trailing"], "two", "{case}");
                    assert_eq!(told.trailers["x-trailing-bin"], "AP8B", "{case}");
                }
            }
        }
    }
}

#[tokio::test]
async fn an_error_comes_with_its_trailers_before_and_after_messages() {
    let (_backend, gateway) = start().await;
    let failing = |count: u32| {
        json!({"text": "a", "behaviour": {
            "count": count,
            "failure": {"code": 9, "message": "not now"},
            "trailers": [entry("x-trailing", b"two")],
        }})
    };
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for (path, count) in [(SAY, 0), (REPEAT, 0), (REPEAT, 2), (COLLECT, 0), (CONVERSE, 0)] {
            for dialect in dialects(version, path) {
                let told = dialect.call(&mut client, path, &[], &[failing(count)]).await;

                let case = format!("{version:?} {path} {dialect:?}: {told:?}");
                assert_eq!((told.code, told.message.as_str()), (9, "not now"), "{case}");
                assert_eq!(told.messages.len(), count as usize, "{case}");
                assert_eq!(told.trailers["x-trailing"], "two", "{case}");
                let status = if dialect.ending == Ending::Unary { StatusCode::BAD_REQUEST } else { StatusCode::OK };
                assert_eq!(told.reply.status, status, "{case}");
            }
        }
    }
}

#[tokio::test]
async fn the_deadline_ends_a_call_before_and_after_messages() {
    let (backend, gateway) = start().await;
    let mut calls = JoinSet::new();
    for version in Version::BOTH {
        for (path, count) in [(SAY, 0), (REPEAT, 2), (COLLECT, 0)] {
            for dialect in dialects(version, path) {
                let mut client = gateway.client(version).await;
                calls.spawn(async move {
                    // Long enough for the messages before it on a machine that is busy.
                    let (name, value) = dialect.timeout(1000);
                    let stalling = json!({"text": "a", "behaviour": {"count": count, "stall": true}});

                    let told = soon(dialect.call(&mut client, path, &[(name, &value)], &[stalling])).await;

                    let case = format!("{version:?} {path} {dialect:?}: {told:?}");
                    assert_eq!((told.code, told.messages.len()), (4, count), "{case}");
                });
            }
        }
    }
    let count = calls.len();
    calls.join_all().await;
    backend.tally.until(|counts| counts.cancelled == count).await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_call() {
    let (backend, gateway) = start().await;
    let stalling = json!({"text": "a", "behaviour": {"count": 1, "stall": true}});
    let mut calls = 0;
    for path in [SAY, REPEAT, CONVERSE] {
        for dialect in dialects(Version::Http2, path) {
            let mut client = Raw::connect(gateway.address).await;
            let mut call = client.begin_as(Method::POST, path, dialect.head(), false).await;
            call.send(dialect.write(&stalling, Encoding::Identity), path != CONVERSE);
            calls += 1;
            backend.tally.until(|counts| counts.started == calls).await;

            call.request.send_reset(Reason::CANCEL);

            backend.tally.until(|counts| counts.cancelled == calls).await;
        }
        for dialect in dialects(Version::Http1, path) {
            let mut stream = TcpStream::connect(gateway.address).await.expect("the gateway listens");
            let body = dialect.write(&stalling, Encoding::Identity);
            let head: String = dialect
                .head()
                .iter()
                .map(|(name, value)| format!("{name}: {}\r\n", value.to_str().expect("ASCII")))
                .collect();
            let head = format!("POST {path} HTTP/1.1\r\nhost: test\r\n{head}content-length: {}\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), &body].concat()).await.expect("the gateway reads");
            calls += 1;
            backend.tally.until(|counts| counts.started == calls).await;

            drop(stream);

            backend.tally.until(|counts| counts.cancelled == calls).await;
        }
    }
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_also_when_it_is_compressed() {
    let backend = backend::start().await;
    let gateway = limited(backend.address, "request_message: 2KiB").await;
    let large = json!({"text": "x".repeat(3000)});
    for version in Version::BOTH {
        for path in [SAY, COLLECT] {
            for dialect in dialects(version, path) {
                for encoding in [Encoding::Identity, Encoding::Br] {
                    let mut client = gateway.client(version).await;
                    let body = dialect.write(&large, encoding);
                    let headers = [(dialect.encoding(), encoding.name())];

                    let told = dialect.read(path, soon(client.send(dialect.post(path, &headers, body))).await);

                    let case = format!("{version:?} {path} {dialect:?} {encoding:?}: {told:?}");
                    assert_eq!(told.code, 8, "{case}");
                    assert!(told.message.contains("exceeds the limit of 2048"), "{case}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_unary_call_has_exactly_one_message() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for path in [SAY, REPEAT] {
            for dialect in dialects(version, path).filter(|dialect| dialect.ending != Ending::Unary) {
                for (count, words) in [(0, "the client sent none"), (2, "the client sent more")] {
                    let messages = vec![json!({"text": "a"}); count];

                    let told = soon(dialect.call(&mut client, path, &[], &messages)).await;

                    let case = format!("{version:?} {path} {dialect:?}: {told:?}");
                    assert_eq!((told.code, told.messages.len()), (12, 0), "{case}");
                    assert!(told.message.contains(words), "{case}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_frame_that_is_cut_or_has_other_flags_is_refused() {
    let (backend, gateway) = start().await;
    for version in Version::BOTH {
        for path in [SAY, COLLECT] {
            for dialect in dialects(version, path).filter(|dialect| dialect.ending != Ending::Unary) {
                for bad in [&b"\0\0\0\0\x09abc"[..], b"\0\0\0", b"\x40\0\0\0\0", b"\x80\0\0\0\0"] {
                    let mut client = gateway.client(version).await;
                    let body = dialect.wrap(bad);

                    let told = dialect.read(path, soon(client.send(dialect.post(path, &[], body))).await);

                    assert_eq!(
                        (told.code, told.messages.len()),
                        (13, 0),
                        "{version:?} {path} {dialect:?} {bad:?}: {told:?}"
                    );
                }
            }
        }
    }
    backend.tally.until(|counts| counts.started == counts.cancelled + counts.finished).await;
}

#[tokio::test]
async fn requests_may_be_compressed_in_every_way_that_is_known() {
    // The backend itself inflates nothing but gzip.
    let (_backend, gateway) = start().await;
    let messages = [json!({"text": "a".repeat(500)}), json!({"text": "b"})];
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for (path, count) in [(SAY, 1), (COLLECT, 2)] {
            for dialect in dialects(version, path) {
                for encoding in CODINGS {
                    let pieces = messages[..count].iter().map(|message| dialect.write(message, encoding));
                    let body = Bytes::from(pieces.collect::<Vec<_>>().concat());
                    let headers = [(dialect.encoding(), encoding.name())];

                    let told = dialect.read(path, client.send(dialect.post(path, &headers, body)).await);

                    let case = format!("{version:?} {path} {dialect:?} {encoding:?}: {told:?}");
                    assert_eq!((told.code, told.messages.len()), (0, 1), "{case}");
                    let texts = [&told.messages[0]["text"], &told.messages[0]["texts"][0]];
                    assert!(texts.contains(&&messages[0]["text"]), "{case}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_compressed_message_may_have_no_content() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for dialect in dialects(version, COLLECT) {
            let body = dialect.wrap(&envelope(1, b""));
            let headers = [(dialect.encoding(), "br")];

            let told = dialect.read(COLLECT, client.send(dialect.post(COLLECT, &headers, body)).await);

            assert_eq!((told.code, told.messages.len()), (0, 1), "{version:?} {dialect:?}: {told:?}");
        }
    }
}

#[tokio::test]
async fn an_encoding_that_is_unknown_is_refused_with_those_that_are_not() {
    let (backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for path in [SAY, COLLECT] {
            // Messages of gRPC in proto pass as they are: the upstream refuses them itself.
            for dialect in dialects(version, path).filter(|dialect| dialect.media != "application/grpc+proto") {
                let headers = [(dialect.encoding(), "snappy")];

                let told = dialect.call(&mut client, path, &headers, &[json!({})]).await;

                let case = format!("{version:?} {path} {dialect:?}: {told:?}");
                assert_eq!(told.code, 12, "{case}");
                assert!(told.message.contains("snappy"), "{case}");
                let known = &told.reply.headers[dialect.accepts()];
                assert_eq!(known, "gzip, deflate, br, zstd", "{case}");
            }
        }
    }
    assert_eq!(backend.tally.counts().started, 0);
}

#[tokio::test]
async fn a_compressed_message_without_an_announced_encoding_is_refused() {
    let (_backend, gateway) = start().await;
    let squeezed = envelope(1, &squeeze(Encoding::Gzip, b""));
    for version in Version::BOTH {
        for path in [SAY, COLLECT] {
            for dialect in dialects(version, path).filter(|dialect| dialect.ending != Ending::Unary) {
                let mut client = gateway.client(version).await;
                let request = dialect.post(path, &[], dialect.wrap(&squeezed));

                let told = dialect.read(path, soon(client.send(request)).await);

                assert_eq!(told.code, 13, "{version:?} {path} {dialect:?}: {told:?}");
            }
        }
    }
}

#[tokio::test]
async fn replies_are_compressed_for_clients_that_ask_for_it() {
    let backend = backend::start_with(Options { gzip: true, ..Options::default() }).await;
    let gateway = TestGateway::over(backend.address).await;
    let message = json!({"text": "a".repeat(500)});
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for path in [SAY, REPEAT, CONVERSE] {
            for dialect in dialects(version, path) {
                for accepted in ["gzip", "br, gzip", "br", ""] {
                    let headers = [(dialect.accepts(), accepted)];
                    let headers = if accepted.is_empty() { &headers[..0] } else { &headers };

                    let told = dialect.call(&mut client, path, headers, std::slice::from_ref(&message)).await;

                    let case = format!("{version:?} {path} {dialect:?} {accepted}: {told:?}");
                    assert_eq!(told.texts(), [message["text"].as_str().unwrap()], "{case}");
                    // What becomes JSON here is not compressed again.
                    let wanted = accepted.contains("gzip") && !dialect.json;
                    assert_eq!(told.compressed, usize::from(wanted), "{case}");
                    assert_eq!(told.reply.headers.contains_key(dialect.encoding()), wanted, "{case}");
                }
            }
        }
    }
}

#[tokio::test]
async fn an_upstream_that_compresses_unasked_is_inflated_for_all_but_native_clients() {
    let backend = backend::start_with(Options { gzip_unasked: true, ..Options::default() }).await;
    let gateway = TestGateway::over(backend.address).await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for path in [SAY, REPEAT, COLLECT, CONVERSE] {
            for dialect in dialects(version, path) {
                for accepted in ["", "identity", "br"] {
                    let headers = [(dialect.accepts(), accepted)];
                    let headers = if accepted.is_empty() { &headers[..0] } else { &headers };
                    let message = json!({"text": "a".repeat(500), "behaviour": {"count": 2}});

                    let told = dialect.call(&mut client, path, headers, &[message]).await;

                    let case = format!("{version:?} {path} {dialect:?} {accepted}: {told:?}");
                    let count = if path == REPEAT { 2 } else { 1 };
                    assert_eq!((told.code, told.messages.len()), (0, count), "{case}");
                    let is_native = dialect.media == "application/grpc+proto";
                    assert_eq!(told.compressed, if is_native { count } else { 0 }, "{case}");
                    assert_eq!(told.reply.headers.contains_key(dialect.encoding()), is_native, "{case}");
                }
            }
        }
    }
}

#[tokio::test]
async fn replies_in_encodings_that_are_unknown_here_pass_to_those_who_take_them() {
    let steps = vec![
        act::Step::Read,
        act::grpc_head(&[("grpc-encoding", "snappy")]),
        act::Step::Data(envelope(1, b"?")),
        act::status(0, ""),
    ];
    let backend = scripted::start(vec![steps]).await;
    let gateway = limited(backend.address, "request_message: 2KiB").await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for dialect in dialects(version, REPEAT).filter(|dialect| dialect.ending != Ending::Trailers) {
            for accepted in ["gzip, Snappy", "gzip"] {
                let headers = [(dialect.accepts(), accepted)];

                let reply = client.send(dialect.request(REPEAT, &headers, &[json!({})])).await;

                let body = if dialect.text { decode_text(&reply.body) } else { reply.body.to_vec() };
                let case = format!("{version:?} {dialect:?} {accepted}: {reply:?}");
                let passes = !dialect.json && accepted.contains("Snappy");
                assert_eq!(envelopes(&body)[0] == (1, Bytes::from_static(b"?")), passes, "{case}");
                assert_eq!(reply.headers.contains_key(dialect.encoding()), passes, "{case}");
                let text = String::from_utf8_lossy(&body);
                assert!(passes || text.contains("compressed") && !text.contains('?'), "{case}");
            }
        }
    }
}

#[tokio::test]
async fn a_reply_that_inflates_beyond_the_limit_is_refused() {
    let bomb = squeeze(Encoding::Gzip, &vec![0; 1 << 20]);
    for (bytes, code) in [(bomb, 8), (Bytes::from_static(b"no gzip"), 13)] {
        let steps = vec![
            act::Step::Read,
            act::grpc_head(&[("grpc-encoding", "gzip")]),
            act::Step::Data(envelope(1, &bytes)),
            act::status(0, ""),
        ];
        let backend = scripted::start(vec![steps]).await;
        let gateway = limited(backend.address, "response_message: 64KiB").await;
        for version in Version::BOTH {
            let mut client = gateway.client(version).await;
            for path in [SAY, REPEAT] {
                for dialect in dialects(version, path).filter(|dialect| dialect.media != "application/grpc+proto") {
                    let told = dialect.call(&mut client, path, &[], &[json!({})]).await;

                    assert_eq!(told.code, code, "{version:?} {path} {dialect:?}: {told:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_reply_over_the_limit_is_an_error_of_its_dialect() {
    let (backend, _gateway) = start().await;
    let gateway = limited(backend.address, "response_message: 2KiB").await;
    let asked = json!({"text": "a", "behaviour": {"payloadBytes": 4000}});
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for path in [SAY, REPEAT] {
            for dialect in dialects(version, path) {
                let told = soon(dialect.call(&mut client, path, &[], std::slice::from_ref(&asked))).await;

                let case = format!("{version:?} {path} {dialect:?}: {told:?}");
                assert_eq!((told.code, told.messages.len()), (8, 0), "{case}");
            }
        }
    }
}

#[tokio::test]
async fn an_upstream_that_breaks_off_in_mid_stream_is_unavailable() {
    let message = act::framed(b"\x0a\x01a");
    let steps = vec![
        act::Step::Read,
        act::grpc_head(&[]),
        act::Step::Data(message),
        act::Step::Sleep(Duration::from_millis(20)),
        act::Step::Reset(Reason::INTERNAL_ERROR),
    ];
    let backend = scripted::start(vec![steps]).await;
    let gateway = limited(backend.address, "request_message: 2KiB").await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for dialect in dialects(version, REPEAT) {
            let told = soon(dialect.call(&mut client, REPEAT, &[], &[json!({})])).await;

            assert_ne!(told.code, 0, "{version:?} {dialect:?}: {told:?}");
            assert_eq!(told.texts(), ["a"], "{version:?} {dialect:?}: {told:?}");
        }
    }
}

#[tokio::test]
async fn both_directions_run_at_once() {
    let (backend, gateway) = start().await;
    for dialect in dialects(Version::Http2, CONVERSE).filter(|dialect| !dialect.text) {
        let before = backend.tally.counts().finished;
        let mut client = Raw::connect(gateway.address).await;
        let mut call = client.begin_as(Method::POST, CONVERSE, dialect.head(), false).await;
        call.send(dialect.write(&json!({"text": "0"}), Encoding::Identity), false);
        let (head, mut body, mut sending) = soon(call.head()).await.expect("the gateway answers");
        assert_eq!(head.status, StatusCode::OK, "{dialect:?}");

        for number in 1..4 {
            let data = soon(body.data()).await.expect("there is a message").expect("the stream is whole");
            body.flow_control().release_capacity(data.len()).expect("it was taken");
            assert_eq!(envelopes(&data).len(), 1, "{dialect:?}");
            let next = dialect.write(&json!({"text": number.to_string()}), Encoding::Identity);
            sending.send_data(next, number == 3).expect("the stream is open");
        }
        while let Some(data) = soon(body.data()).await {
            let length = data.expect("the stream is whole").len();
            body.flow_control().release_capacity(length).expect("it was taken");
        }
        backend.tally.until(|counts| counts.finished == before + 1).await;
    }
}

#[tokio::test]
async fn a_request_that_ends_within_its_body_is_reset_upstream() {
    let backend = scripted::start(vec![vec![act::grpc_head(&[]), act::Step::Hold]]).await;
    let gateway = limited(backend.address, "request_message: 2KiB").await;
    for (index, dialect) in dialects(Version::Http1, CONVERSE).enumerate() {
        let mut stream = TcpStream::connect(gateway.address).await.expect("the gateway listens");
        let frame = dialect.write(&json!({"text": "abc"}), Encoding::Identity);
        let head = format!(
            "POST {CONVERSE} HTTP/1.1\r\nhost: test\r\ncontent-type: {}\r\ncontent-length: 9999\r\n\r\n",
            dialect.media
        );
        stream.write_all(&[head.as_bytes(), &frame].concat()).await.expect("the gateway reads");
        let mut first = [0; 15];
        soon(stream.read_exact(&mut first)).await.expect("the reply begins");
        assert_eq!(&first, b"HTTP/1.1 200 OK", "{dialect:?}");

        drop(stream);

        backend.tally.until(|counts| counts.cancelled == index + 1).await;
        assert_eq!(backend.calls()[index].reset, Some(Reason::CANCEL), "{dialect:?}");
    }
}

#[tokio::test]
async fn all_that_came_before_an_error_arrives() {
    let (_backend, gateway) = start().await;
    let asked = json!({"text": "a", "behaviour": {"count": 20, "payloadBytes": 8000, "failure": {"code": 10}}});
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for dialect in dialects(version, REPEAT) {
            let told = soon(dialect.call(&mut client, REPEAT, &[], std::slice::from_ref(&asked))).await;

            assert_eq!((told.code, told.messages.len()), (10, 20), "{version:?} {dialect:?}");
        }
    }
}

#[tokio::test]
async fn a_method_that_nobody_serves_is_unimplemented() {
    let backend = backend::start().await;
    let gateway = TestGateway::start(&upstream("echo", backend.address)).await;
    gateway.ready().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for path in ["/no.such.Service/Say", "/no.such.Service/Repeat"] {
            for dialect in dialects(version, path) {
                let told = dialect.call(&mut client, path, &[], &[json!({})]).await;

                let case = format!("{version:?} {path} {dialect:?}: {told:?}");
                assert_eq!(told.code, 12, "{case}");
                let status = if dialect.is_connect() { StatusCode::NOT_FOUND } else { StatusCode::OK };
                assert_eq!(told.reply.status, status, "{case}");
            }
        }
    }
}
