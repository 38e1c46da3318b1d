//! gRPC-Web: its frames, its text, and what differs from gRPC.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;

use crate::support::backend::{self, Backend, Options, act, scripted};
use crate::support::client::{Version, request};
use crate::support::gateway::{TestGateway, upstream};
use crate::support::grpc::{COLLECT, CONVERSE, REPEAT, Raw, SAY, soon};
use crate::support::rpc::{DIALECTS, Dialect, Ending, decode_text, envelopes};

fn web() -> impl Iterator<Item = Dialect> {
    DIALECTS.into_iter().filter(|dialect| dialect.ending == Ending::Frame)
}

fn of(media: &str) -> Dialect {
    DIALECTS.into_iter().find(|dialect| dialect.media == media).expect("it is a dialect")
}

async fn start() -> (Backend, TestGateway) {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    (backend, gateway)
}

#[tokio::test]
async fn the_last_frame_has_the_trailers_and_http_has_none() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for dialect in web() {
            let reply = client.send(dialect.request(SAY, &[], &[json!({"text": "a"})])).await;

            let case = format!("{version:?} {dialect:?}: {reply:?}");
            assert!(reply.trailers.is_empty() && !reply.headers.contains_key("grpc-status"), "{case}");
            let body = if dialect.text { decode_text(&reply.body) } else { reply.body.to_vec() };
            let frames = envelopes(&body);
            assert_eq!(frames.iter().map(|(flags, _)| *flags).collect::<Vec<_>>(), [0, 0x80], "{case}");
            assert_eq!(&frames[1].1[..], b"grpc-status: 0\r\n", "{case}");
        }
    }
}

#[tokio::test]
async fn a_reply_without_messages_says_all_in_its_head() {
    let (_backend, gateway) = start().await;
    let failing = json!({"behaviour": {"failure": {"code": 5, "message": "x"}}});
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for dialect in web() {
            let reply = client.send(dialect.request(SAY, &[], std::slice::from_ref(&failing))).await;

            assert_eq!(reply.status, StatusCode::OK, "{version:?} {dialect:?}: {reply:?}");
            assert_eq!((&reply.headers["grpc-status"], reply.body.len()), (&"5".parse().unwrap(), 0));
        }
    }
}

#[tokio::test]
async fn content_types_without_a_codec_mean_proto() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for (media, like) in [
            ("application/grpc-web", "application/grpc-web+proto"),
            ("Application/gRPC-Web; charset=utf-8", "application/grpc-web+proto"),
            ("application/grpc-web-text", "application/grpc-web-text+proto"),
        ] {
            let dialect = of(like);
            let mut request = dialect.request(SAY, &[], &[json!({"text": "a"})]);
            request.headers_mut().insert("content-type", media.parse().unwrap());

            let told = dialect.read(SAY, client.send(request).await);

            assert_eq!((told.code, told.texts()), (0, vec!["a"]), "{version:?} {media}: {told:?}");
            assert_eq!(told.reply.headers["content-type"], like, "{version:?} {media}");
        }
    }
}

#[tokio::test]
async fn a_reply_is_text_for_clients_that_accept_it_so() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for (binary, text) in [
            ("application/grpc-web+proto", "application/grpc-web-text+proto"),
            ("application/grpc-web+json", "application/grpc-web-text+json"),
        ] {
            for accept in ["application/grpc-web-text", "application/grpc-web-text-base64, */*"] {
                for (path, code) in [(SAY, 0), (REPEAT, 0), (REPEAT, 5)] {
                    let behaviour = json!({"count": 1, "failure": {"code": code}});
                    let behaviour = if code == 0 { json!({}) } else { behaviour };
                    let message = json!({"text": "a", "behaviour": behaviour});
                    let request = of(binary).request(path, &[("accept", accept)], &[message]);

                    let told = of(text).read(path, client.send(request).await);

                    let case = format!("{version:?} {path} {accept}: {told:?}");
                    assert_eq!((told.code, told.texts()), (code, vec!["a"]), "{case}");
                    assert_eq!(told.reply.headers["content-type"], text, "{case}");
                }
            }
        }
        // A request in text is answered so, whatever is accepted.
        let dialect = of("application/grpc-web-text+proto");
        let told = dialect.call(&mut client, SAY, &[("accept", "application/grpc-web")], &[json!({"text": "a"})]).await;
        assert_eq!((told.code, told.texts()), (0, vec!["a"]), "{version:?}: {told:?}");
    }
}

#[tokio::test]
async fn text_may_be_padded_and_cut_anywhere() {
    let (_backend, gateway) = start().await;
    let dialect = of("application/grpc-web-text+proto");
    let binary = of("application/grpc-web+proto");
    // Lengths of every remainder by three, each message in base64 of its own, or one frame in several pieces.
    let messages: Vec<_> = ["", "a", "bc", "def"].map(|text| json!({"text": text})).into();
    let own = dialect.request(COLLECT, &[], &messages).into_body();
    let frames = binary.request(COLLECT, &[], &messages).into_body();
    let pieces = frames.chunks(4).map(|piece| STANDARD.encode(piece)).collect::<String>();
    let whole = STANDARD.encode(&frames);
    let unpadded = whole.trim_end_matches('=').to_owned();
    assert!(own.windows(2).any(|two| two[0] == b'=' && two[1] != b'='), "padding stands in the middle");
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for body in [own.clone(), pieces.clone().into(), whole.clone().into(), unpadded.clone().into()] {
            let told = dialect.read(COLLECT, client.send(dialect.post(COLLECT, &[], body.clone())).await);

            assert_eq!(told.messages[0]["texts"], json!(["", "a", "bc", "def"]), "{version:?} {body:?}: {told:?}");
        }
    }

    let mut client = Raw::connect(gateway.address).await;
    let mut call = client.begin_as(Method::POST, COLLECT, dialect.head(), false).await;
    for at in 0..own.len() {
        call.send(own.slice(at..=at), at + 1 == own.len());
    }
    let answer = call.answer().await.expect("there is a reply");
    assert!(decode_text(&answer.body).ends_with(b"grpc-status: 0\r\n"), "{answer:?}");
}

#[tokio::test]
async fn what_is_not_base64_is_refused() {
    let (backend, gateway) = start().await;
    let dialect = of("application/grpc-web-text+proto");
    for version in Version::BOTH {
        for path in [SAY, CONVERSE] {
            for bad in ["AAAAAAA*", "AAAA\nAAA=", "A", "AAAAAAA=A"] {
                let mut client = gateway.client(version).await;

                let told = dialect.read(path, soon(client.send(dialect.post(path, &[], bad.into()))).await);

                assert_eq!(told.code, 13, "{version:?} {path} {bad:?}: {told:?}");
            }
        }
    }
    backend.tally.until(|counts| counts.started == counts.cancelled + counts.finished).await;
}

#[tokio::test]
async fn a_codec_that_is_unknown_is_unimplemented() {
    let (backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for media in ["application/grpc-web+thrift", "application/grpc-web-text+thrift"] {
            let reply = client.send(request(Method::POST, SAY, &[("content-type", media)], "x")).await;

            assert_eq!(
                (reply.status, &reply.headers["grpc-status"]),
                (StatusCode::OK, &"12".parse().unwrap()),
                "{media}"
            );
            assert!(reply.headers["grpc-message"].to_str().unwrap().contains("proto"), "{reply:?}");
        }
        // Of a name that only begins so nothing is known at all.
        let reply = client.send(request(Method::POST, SAY, &[("content-type", "application/grpc-webby")], "x")).await;
        assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{reply:?}");
    }
    assert_eq!(backend.tally.counts().started, 0);
}

#[tokio::test]
async fn only_post_is_a_call() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for dialect in web() {
            let reply = client.send(request(Method::GET, SAY, &[("content-type", dialect.media)], "")).await;

            assert_eq!(reply.headers["grpc-status"], "12", "{version:?} {dialect:?}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn json_that_does_not_fit_names_the_field() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        for dialect in DIALECTS.into_iter().filter(|dialect| dialect.json && dialect.ending != Ending::Unary) {
            if dialect.ending == Ending::Trailers && version == Version::Http1 {
                continue;
            }
            let mut client = gateway.client(version).await;

            let told = soon(dialect.call(&mut client, REPEAT, &[], &[json!({"text": 4})])).await;

            assert_eq!(told.code, 3, "{version:?} {dialect:?}: {told:?}");
            assert!(told.message.starts_with("text: "), "{version:?} {dialect:?}: {told:?}");
        }
    }
}

#[tokio::test]
async fn json_needs_a_schema_and_proto_does_not() {
    let message = act::framed(b"\x0a\x01a");
    let steps = vec![act::Step::Read, act::grpc_head(&[]), act::Step::Data(message), act::status(0, "")];
    let backend = scripted::start(vec![steps]).await;
    let set = concat!(env!("OUT_DIR"), "/test/echo.binpb");
    let gateway = TestGateway::start(&format!(
        "upstreams: [ {{ name: echo, endpoints: [\"{}\"], schema: {{ descriptor_set: \"{set}\" }} }} ]\n",
        backend.address
    ))
    .await;
    gateway.ready().await;
    // The service is known, the method is not.
    let path = "/portico.test.v1.Echo/Unheard";
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for dialect in DIALECTS {
            let grpc = dialect.ending == Ending::Trailers;
            if dialect.is_connect() || (grpc && version == Version::Http1) {
                continue;
            }
            let told = dialect.call(&mut client, path, &[], &[json!({})]).await;

            assert_eq!(told.code, if dialect.json { 12 } else { 0 }, "{version:?} {dialect:?}: {told:?}");
        }
    }
}

#[tokio::test]
async fn a_long_reply_in_text_comes_message_by_message() {
    let (_backend, gateway) = start().await;
    let dialect = of("application/grpc-web-text+proto");
    let mut client = Raw::connect(gateway.address).await;
    let asked = json!({"text": "a", "behaviour": {"count": 2, "stall": true}});
    let mut call = client.begin_as(Method::POST, REPEAT, dialect.head(), false).await;
    call.send(dialect.request(REPEAT, &[], &[asked]).into_body(), true);

    let (_, mut body, _sending) = soon(call.head()).await.expect("the gateway answers");
    let mut text = Vec::new();
    while envelopes_so_far(&text) < 2 {
        let data: Bytes = soon(body.data()).await.expect("there is a message").expect("the stream is whole");
        body.flow_control().release_capacity(data.len()).expect("it was taken");
        text.extend_from_slice(&data);
        assert_eq!(text.len() % 4, 0, "every piece can be read by itself");
    }
}

fn envelopes_so_far(text: &[u8]) -> usize {
    let mut bytes = &*decode_text(text);
    let mut count = 0;
    while let Some((&[_, a, b, c, d], rest)) = bytes.split_first_chunk::<5>() {
        let Some(rest) = rest.get(u32::from_be_bytes([a, b, c, d]) as usize..) else { break };
        (bytes, count) = (rest, count + 1);
    }
    count
}

#[tokio::test]
async fn native_json_is_told_by_its_content_type() {
    let backend = backend::start_with(Options { gzip: true, ..Options::default() }).await;
    let gateway = TestGateway::start(&upstream("echo", backend.address)).await;
    gateway.ready().await;
    let dialect = of("application/grpc+json");
    let mut client = gateway.client(Version::Http2).await;

    // What the client can inflate is not what the gateway reads.
    let told = dialect.call(&mut client, SAY, &[("grpc-accept-encoding", "gzip,br")], &[json!({"text": "ä"})]).await;

    assert_eq!((told.code, told.texts()), (0, vec!["ä"]), "{told:?}");
    assert_eq!(told.seen("content-type").as_deref(), Some("application/grpc"), "{told:?}");
    assert_eq!(told.seen("grpc-accept-encoding"), None, "{told:?}");
    assert!(told.reply.headers.get("grpc-encoding").is_none(), "{told:?}");
}
