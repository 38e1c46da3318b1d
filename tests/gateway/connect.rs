//! Connect: unary calls by POST and GET, its errors, and what differs from gRPC.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use http::{Method, StatusCode};
use portico::encoding::Encoding;
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::backend::{self, Backend, Options, pb};
use crate::support::client::{Version, request};
use crate::support::gateway::TestGateway;
use crate::support::grpc::{COLLECT, CONVERSE, REPEAT, SAY, soon};
use crate::support::rpc::{DIALECTS, Dialect, Ending, encode, envelopes, squeeze};

const PLAIN: &str = "/portico.test.v1.Echo/Plain";

fn of(media: &str) -> Dialect {
    DIALECTS.into_iter().find(|dialect| dialect.media == media).expect("it is a dialect")
}

fn unary() -> impl Iterator<Item = Dialect> {
    DIALECTS.into_iter().filter(|dialect| dialect.ending == Ending::Unary)
}

fn streaming() -> impl Iterator<Item = Dialect> {
    DIALECTS.into_iter().filter(|dialect| dialect.ending == Ending::EndStream)
}

async fn start() -> (Backend, TestGateway) {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    (backend, gateway)
}

#[tokio::test]
async fn a_get_carries_its_message_in_the_query() {
    let (_backend, gateway) = start().await;
    let message = json!({"text": "a ÿ+/"});
    let proto = encode(false, &message);
    let in_json = "%7B%22text%22%3A%22a+%C3%BF%2B%2f%22%7D";
    let base64_json = URL_SAFE_NO_PAD.encode(message.to_string());
    let squeezed = URL_SAFE.encode(squeeze(Encoding::Br, &proto)).replace('=', "%3D");
    let (padded, unpadded) = (URL_SAFE.encode(&proto).replace('=', "%3D"), URL_SAFE_NO_PAD.encode(&proto));
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for (media, query) in [
            ("application/json", format!("connect=v1&encoding=json&message={in_json}")),
            ("application/json", format!("message={base64_json}&base64=1&encoding=json&connect=v1")),
            ("application/proto", format!("connect=v1&encoding=proto&base64=1&message={padded}")),
            ("application/proto", format!("connect=v1&encoding=proto&base64=1&message={unpadded}")),
            ("application/proto", format!("connect=v1&encoding=proto&base64=1&compression=br&message={squeezed}")),
        ] {
            let reply = client.send(request(Method::GET, &format!("{SAY}?{query}"), &[("x-key", "value")], "")).await;

            let told = of(media).read(SAY, reply);
            let case = format!("{version:?} {query}: {told:?}");
            assert_eq!((told.reply.status, told.texts()), (StatusCode::OK, vec!["a ÿ+/"]), "{case}");
            assert_eq!(told.reply.headers["content-type"], media, "{case}");
            assert_eq!(told.seen("x-key").as_deref(), Some("value"), "{case}");
            assert_eq!(told.seen(":path").as_deref(), Some(SAY), "{case}");
        }
        let empty = client.get(&format!("{SAY}?connect=v1&encoding=json&message=%7B%7D")).await;
        let nothing = client.get(&format!("{SAY}?connect=v1&encoding=proto&message=")).await;
        assert_eq!((empty.status, nothing.status), (StatusCode::OK, StatusCode::OK), "{empty:?} {nothing:?}");
    }
}

#[tokio::test]
async fn a_get_that_cannot_be_read_is_refused() {
    let (backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for (query, status, code) in [
            ("connect=v1&encoding=json", 400, "invalid_argument"),
            ("connect=v1&encoding=json&message=%7", 400, "invalid_argument"),
            ("connect=v1&encoding=json&message=%7B", 400, "invalid_argument"),
            ("connect=v1&encoding=proto&base64=1&message=A", 400, "invalid_argument"),
            ("connect=v1&encoding=proto&base64=1&compression=gzip&message=AAAA", 400, "invalid_argument"),
            ("connect=v1&encoding=proto&base64=1&compression=snappy&message=AAAA", 501, "unimplemented"),
            ("connect=v1&encoding=thrift&message=", 415, "unknown"),
        ] {
            let reply = client.get(&format!("{SAY}?{query}")).await;

            let found = (reply.status.as_u16(), reply.json()["code"].as_str().unwrap_or_default().to_owned());
            assert_eq!(found, (status, code.to_owned()), "{version:?} {query}: {reply:?}");
        }
    }
    assert_eq!(backend.tally.counts().started, 0);
}

#[tokio::test]
async fn a_get_is_of_connect_by_its_query_or_its_header() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        let mut get = async |query: &str, headers: &[(&str, &str)]| {
            client.send(request(Method::GET, &format!("{SAY}?{query}"), headers, "")).await
        };
        let by_header = get("encoding=json&message=%7B%7D", &[("connect-protocol-version", "1")]).await;
        assert_eq!(by_header.status, StatusCode::OK, "{version:?} {by_header:?}");
        for query in ["connect=v1&message=%7B%7D", "connect=v2&encoding=json&message=%7B%7D", ""] {
            let neither = get(query, &[]).await;
            assert_eq!(neither.status, StatusCode::BAD_REQUEST, "{version:?} {query}: {neither:?}");
            assert!(neither.json()["message"].as_str().is_some_and(|text| text.contains("connect=v1")), "{neither:?}");
        }
    }
}

#[tokio::test]
async fn only_methods_without_side_effects_take_get() {
    let (backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for (method, path, allow) in [
            (Method::GET, format!("{PLAIN}?connect=v1&encoding=json&message=%7B%7D"), "POST"),
            (Method::GET, format!("{REPEAT}?connect=v1&encoding=json&message=%7B%7D"), "POST"),
            (Method::PUT, SAY.to_owned(), "GET, POST"),
            (Method::PUT, PLAIN.to_owned(), "POST"),
        ] {
            let reply = client.send(request(method, &path, &[("content-type", "application/proto")], "")).await;

            assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "{version:?} {path}: {reply:?}");
            assert_eq!(reply.headers["allow"], allow, "{version:?} {path}");
        }
    }
    assert_eq!(backend.tally.counts().started, 0);
}

#[tokio::test]
async fn an_error_is_json_with_its_details_and_metadata() {
    let (_backend, gateway) = start().await;
    let detail = pb::SayRequest { text: "why".into(), behaviour: None }.encode_to_vec();
    let failing = json!({"behaviour": {
        "failure": {
            "code": 5,
            "message": "no \"such\"\nthing",
            "details": [{"@type": "type.googleapis.com/portico.test.v1.SayRequest", "text": "why"}],
        },
        "trailers": [{"name": "x-trailing", "value": STANDARD.encode("two")}],
    }});
    let expected = json!({
        "code": "not_found",
        "message": "no \"such\"\nthing",
        "details": [{"type": "portico.test.v1.SayRequest", "value": STANDARD_NO_PAD.encode(detail)}],
    });
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for dialect in unary() {
            let reply = client.send(dialect.request(SAY, &[], std::slice::from_ref(&failing))).await;

            let case = format!("{version:?} {dialect:?}: {reply:?}");
            assert_eq!((reply.status, reply.json()), (StatusCode::NOT_FOUND, expected.clone()), "{case}");
            assert_eq!(reply.headers["content-type"], "application/json", "{case}");
            assert_eq!(reply.headers["trailer-x-trailing"], "two", "{case}");
            assert!(!reply.headers.keys().any(|name| name.as_str().contains("grpc-")), "{case}");
        }
        for (dialect, path) in streaming().flat_map(|dialect| [REPEAT, COLLECT, CONVERSE].map(|path| (dialect, path))) {
            let reply = client.send(dialect.request(path, &[], std::slice::from_ref(&failing))).await;

            let case = format!("{version:?} {dialect:?} {path}: {reply:?}");
            assert_eq!(
                (reply.status, &reply.headers["content-type"]),
                (StatusCode::OK, &dialect.media.parse().unwrap())
            );
            let frames = envelopes(&reply.body);
            let [(2, end)] = &frames[..] else { panic!("{case}") };
            let end: Value = serde_json::from_slice(end).expect("the end is JSON");
            assert_eq!(end, json!({"error": expected, "metadata": {"x-trailing": ["two"]}}), "{case}");
        }
    }
}

#[tokio::test]
async fn the_end_of_a_stream_is_an_object_even_without_anything_to_say() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for dialect in streaming() {
            let reply = client.send(dialect.request(CONVERSE, &[], &[])).await;

            assert_eq!(envelopes(&reply.body), [(2, "{}".into())], "{version:?} {dialect:?}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn every_code_has_its_name_and_status() {
    let (_backend, gateway) = start().await;
    let table = [
        (1, "canceled", 499),
        (2, "unknown", 500),
        (3, "invalid_argument", 400),
        (4, "deadline_exceeded", 504),
        (5, "not_found", 404),
        (6, "already_exists", 409),
        (7, "permission_denied", 403),
        (8, "resource_exhausted", 429),
        (9, "failed_precondition", 400),
        (10, "aborted", 409),
        (11, "out_of_range", 400),
        (12, "unimplemented", 501),
        (13, "internal", 500),
        (14, "unavailable", 503),
        (15, "data_loss", 500),
        (16, "unauthenticated", 401),
    ];
    let mut client = gateway.client(Version::Http1).await;
    for (number, name, status) in table {
        let failing = json!({"behaviour": {"failure": {"code": number}}});

        let reply = client.send(of("application/json").request(SAY, &[], &[failing])).await;

        assert_eq!((reply.status.as_u16(), reply.json()["code"].as_str()), (status, Some(name)), "{reply:?}");
    }
}

#[tokio::test]
async fn a_content_type_of_another_kind_of_method_is_refused_with_those_that_fit() {
    let (backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for (path, media, words) in [
            (SAY, "application/connect+proto", "application/proto"),
            (SAY, "application/thrift", "application/json"),
            (SAY, "application/connect+thrift", "application/proto"),
            (REPEAT, "application/proto", "application/connect+proto"),
            (REPEAT, "application/json", "application/connect+json"),
            (REPEAT, "application/connect+thrift", "application/connect+json"),
        ] {
            let headers = [("content-type", media), ("connect-protocol-version", "1")];

            let reply = client.send(request(Method::POST, path, &headers, "")).await;

            let case = format!("{version:?} {path} {media}: {reply:?}");
            assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{case}");
            assert!(reply.json()["message"].as_str().unwrap().contains(words), "{case}");
        }
    }
    assert_eq!(backend.tally.counts().started, 0);
}

#[tokio::test]
async fn headers_that_connect_defines_are_checked() {
    let (backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for (name, value) in [
            ("connect-timeout-ms", "soon"),
            ("connect-timeout-ms", ""),
            ("connect-timeout-ms", "-1"),
            ("connect-timeout-ms", "12345678901"),
            ("connect-protocol-version", "2"),
            ("x-key-bin", "*"),
        ] {
            for (dialect, path) in
                unary().map(|dialect| (dialect, SAY)).chain(streaming().map(|dialect| (dialect, REPEAT)))
            {
                let mut request = dialect.request(path, &[], &[json!({})]);
                request.headers_mut().insert(name, value.parse().unwrap());

                let told = dialect.read(path, client.send(request).await);

                assert_eq!(
                    (told.code, told.messages.len()),
                    (3, 0),
                    "{version:?} {dialect:?} {name}: {value}: {told:?}"
                );
                assert!(told.message.contains(name), "{told:?}");
            }
        }
    }
    assert_eq!(backend.tally.counts().started, 0);
}

#[tokio::test]
async fn the_upstream_is_told_the_deadline() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for dialect in unary() {
            let told = dialect.call(&mut client, SAY, &[("connect-timeout-ms", "9000")], &[json!({})]).await;

            let value = told.seen("grpc-timeout").expect("there is a deadline");
            let micros: u64 = value.strip_suffix('u').expect("in microseconds").parse().expect("digits");
            assert!((1_000_000..=9_000_000).contains(&micros), "{version:?} {dialect:?}: {value}");
        }
    }
}

#[tokio::test]
async fn a_unary_body_is_the_message() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        let proto = of("application/proto");
        let empty = proto.read(SAY, client.send(proto.post(SAY, &[], "".into())).await);
        let squeezed = proto.post(SAY, &[("content-encoding", "gzip")], "".into());
        let squeezed = proto.read(SAY, client.send(squeezed).await);
        assert_eq!((empty.texts(), squeezed.texts()), (vec![""], vec![""]), "{empty:?} {squeezed:?}");

        let bad = client.send(of("application/json").post(SAY, &[], r#"{"text":4}"#.into())).await;
        assert_eq!((bad.status, bad.json()["code"].as_str()), (StatusCode::BAD_REQUEST, Some("invalid_argument")));
        assert!(bad.json()["message"].as_str().unwrap().starts_with("text: "), "{bad:?}");

        // Without the header, proto is Connect all the same, and JSON is REST.
        let mut bare = proto.request(SAY, &[], &[json!({"text": "a"})]);
        bare.headers_mut().remove("connect-protocol-version");
        assert_eq!(proto.read(SAY, client.send(bare).await).texts(), ["a"]);
    }
}

#[tokio::test]
async fn damaged_content_is_refused_before_the_call() {
    let (backend, gateway) = start().await;
    let good = squeeze(Encoding::Gzip, &encode(false, &json!({"text": "a".repeat(100)})));
    for version in Version::BOTH {
        for dialect in unary() {
            for bad in [good.slice(..good.len() - 3), good.slice(3..), "x".into()] {
                let mut client = gateway.client(version).await;

                let reply = client.send(dialect.post(SAY, &[("content-encoding", "gzip")], bad)).await;

                assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{version:?} {dialect:?}: {reply:?}");
                assert!(reply.json()["message"].as_str().unwrap().contains("gzip"), "{reply:?}");
            }
        }
    }
    assert_eq!(backend.tally.counts().started, 0);
}

#[tokio::test]
async fn refused_encodings_are_not_asked_of_the_upstream() {
    let backend = backend::start_with(Options { gzip: true, ..Options::default() }).await;
    let gateway = TestGateway::over(backend.address).await;
    let mut client = gateway.client(Version::Http1).await;
    let dialect = of("application/proto");
    for (accepted, compressed) in
        [("gzip;q=0.5, br", 1), ("gzip;q=0", 0), ("GZIP", 1), ("*", 0), ("identity, gzip; q=0.000", 0), (",,;q", 0)]
    {
        let told = soon(dialect.call(&mut client, SAY, &[("accept-encoding", accepted)], &[json!({})])).await;

        assert_eq!((told.code, told.compressed), (0, compressed), "{accepted}: {told:?}");
    }
}
