//! `multipart/form-data` over REST: parts become fields, files bytes, in one message or in the messages of a stream.

use bytes::{Bytes, BytesMut};
use http::{Method, Request, StatusCode};
use portico::encoding::{self, Encoding};
use serde_json::json;

use crate::support::backend::{self, Backend, act};
use crate::support::client::{Reply, Version, request};
use crate::support::gateway::{TestGateway, upstream};
use crate::support::grpc::{Raw, soon};
use crate::support::rest::{message, violation};

const MEDIA: &str = "multipart/form-data; boundary=\"-- a b\"";
const IDENTITY: &str = "/test/v1/identity";
const STREAM: &str = "/portico.test.v1.Echo/UploadNamed";

async fn start() -> (Backend, TestGateway) {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    (backend, gateway)
}

/// A part: the parameters behind `form-data`, more headers, the content.
type Part<'p> = (&'p str, &'p str, &'p [u8]);

fn form(parts: &[Part<'_>]) -> Bytes {
    let mut body = BytesMut::new();
    for (parameters, headers, content) in parts {
        let head = format!("---- a b\r\ncontent-disposition: form-data; {parameters}\r\n{headers}\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"---- a b--\r\n");
    body.freeze()
}

fn post(path: &str, body: Bytes) -> Request<Bytes> {
    request(Method::POST, path, &[("content-type", MEDIA)], "").map(|_| body)
}

#[tokio::test]
async fn parts_become_fields_of_every_kind() {
    let (_backend, gateway) = start().await;
    let body = form(&[
        ("name=\"string_value\"", "", "ä\r\nb".as_bytes()),
        ("name=\"int64Value\"", "", b"9007199254740993"),
        ("name=\"bool_value\"", "content-type: text/plain; charset=utf-8\r\n", b"true"),
        ("name=\"color\"", "", b"BLUE"),
        ("name=\"bytes_value\"; filename=\"x.bin\"", "content-type: application/octet-stream\r\n", b"\x00\r\n--\xff"),
        ("name=\"bytes_list\"; filename=\"1\"", "", b"one"),
        ("name=\"bytes_list\"", "", b"dHdv"),
        ("name=\"string_list\"", "", b"a"),
        ("name=\"string_list\"; filename=\"b.txt\"", "content-type: text/plain\r\n", b"b"),
        ("name=\"nested.name\"", "", b"n"),
        ("name=\"recursive\"; filename=\"blob\"", "content-type: application/json\r\n", br#"{"int32Value": 5}"#),
        ("name=\"nested_list\"", "", br#"{"name":"first"}"#),
        ("name=\"string_map[k]\"", "", b"v"),
        ("name=\"timestamp\"", "", b"2024-01-31T12:00:00Z"),
        ("name=\"bytes_wrapper\"; filename=\"w\"", "", b"raw"),
        ("name=\"struct\"", "content-type: application/json\r\n", br#"{"a":[1]}"#),
    ]);
    for version in Version::BOTH {
        let reply = gateway.client(version).await.send(post(IDENTITY, body.clone())).await;

        assert_eq!(reply.status, StatusCode::OK, "{version:?}: {reply:?}");
        let expected = json!({
            "stringValue": "ä\r\nb", "int64Value": "9007199254740993", "boolValue": true, "color": "BLUE",
            "bytesValue": "AA0KLS3/", "bytesList": ["b25l", "dHdv"], "stringList": ["a", "b"],
            "nested": {"name": "n"}, "recursive": {"int32Value": 5}, "nestedList": [{"name": "first"}],
            "stringMap": {"k": "v"}, "timestamp": "2024-01-31T12:00:00Z", "bytesWrapper": "cmF3",
            "struct": {"a": [1]},
        });
        assert_eq!(reply.json(), expected, "{version:?}");
    }
}

#[tokio::test]
async fn a_file_is_a_body_with_its_own_type() {
    let (_backend, gateway) = start().await;
    let file: Part<'_> = ("name=\"file\"; filename=\"cat.png\"", "Content-Type: image/png\r\n", b"\x89PNG");
    for version in Version::BOTH {
        let body = form(&[("name=\"note\"", "", b"fluffy"), file]);

        let reply = gateway.client(version).await.send(post("/test/v1/receive/a/b", body)).await;

        assert_eq!(reply.json(), json!({"texts": ["a/b:image/png:fluffy"], "bytes": "4"}), "{version:?}: {reply:?}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_with_the_name_of_the_part() {
    let (backend, gateway) = start().await;
    let image = "content-type: image/png\r\n";
    for version in Version::BOTH {
        for (parts, field, words) in [
            (&[("name=\"strin_value\"", "", &b""[..])][..], "strin_value", "did you mean \"stringValue\"?"),
            (&[("name=\"int32_value\"", "", b"x")], "int32_value", "expected an integer"),
            (&[("name=\"string_value\"; filename=x", image, b"\xff")], "string_value", "not UTF-8"),
            (&[("name=\"nested\"; filename=x", image, b"\xff")], "nested", "not UTF-8"),
            (&[("name=\"nested\"; filename=x", image, b"{}")], "nested", "as application/json, found image/png"),
            (&[("name=\"nested\"", "", b"{\"nme\":1}")], "nested.nme", "has no field \"nme\""),
            (&[("name=\"nested\"", "", b"{"), ("name=color", "", b"")], "nested", "line 1"),
            (&[("name=color", "", b"1"), ("name=color", "", b"2")], "color", "more than once"),
            (&[("filename=\"x\"", "", b"")], "", "part 1: it has no content-disposition form-data with a name"),
            (
                &[("name=a", "content-transfer-encoding: base64\r\n", b"")],
                "",
                "part 1 (\"a\"): content-transfer-encoding",
            ),
        ] {
            let reply = gateway.client(version).await.send(post(IDENTITY, form(parts))).await;

            let case = format!("{version:?} {parts:?}: {reply:?}");
            assert_eq!((reply.status, reply.reason().as_str()), (StatusCode::BAD_REQUEST, "INVALID_REQUEST"), "{case}");
            assert_eq!(violation(&reply)["field"].as_str().unwrap_or_default(), field, "{case}");
            assert!(message(&reply).contains(words), "{case}");
        }
    }
    assert_eq!(backend.tally.counts().started, 0);
}

#[tokio::test]
async fn a_body_that_is_no_form_is_refused() {
    let (_backend, gateway) = start().await;
    let whole = form(&[("name=\"text\"", "", b"a")]);
    let long = format!("x: {}\r\n", "y".repeat(9 << 10));
    let many = form(&vec![("name=\"string_list\"", "", &b""[..]); 1001]);
    for version in Version::BOTH {
        for path in ["/test/v1/say", "/test/v1/collect"] {
            for (media, body, words) in [
                ("multipart/form-data", whole.clone(), "needs a boundary"),
                ("multipart/form-data; boundary=other", whole.clone(), "does not begin with the boundary"),
                (MEDIA, whole.slice(..whole.len() - 6), "ends inside part 1"),
                (MEDIA, "{}".into(), "does not begin with the boundary"),
                (MEDIA, form(&[("name=\"text\"", &long, b"")]), "part 1: its headers exceed the limit of 8192 bytes"),
            ] {
                let call = request(Method::POST, path, &[("content-type", media)], "").map(|_| body);
                let reply = soon(gateway.client(version).await.try_send(call)).await.expect("there is a reply");

                assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{version:?} {path} {words}: {reply:?}");
                assert!(message(&reply).contains(words), "{version:?} {path} {words}: {reply:?}");
            }
        }
        let reply = gateway.client(version).await.send(post(IDENTITY, many.clone())).await;
        assert!(message(&reply).contains("more than 1000 parts"), "{reply:?}");
    }
}

#[tokio::test]
async fn a_form_over_the_limit_is_refused() {
    let backend = backend::start().await;
    let set = concat!(env!("OUT_DIR"), "/test/echo.binpb");
    let gateway = TestGateway::start(&format!(
        "upstreams: [ {{ name: echo, endpoints: [\"{}\"], schema: {{ descriptor_set: \"{set}\" }} }} ]\npolicies: [ {{ match: \"*\", limits: {{ request_message: 4KiB }} }} ]\n",
        backend.address
    ))
    .await;
    gateway.ready().await;
    let large = vec![b'x'; 5000];
    let text = form(&[("name=\"text\"", "", &large)]);
    let file = form(&[("name=\"file\"; filename=x", "", &large), ("name=\"note\"", "", b"n")]);
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;

        let unary = client.send(post("/test/v1/say", text.clone())).await;
        let collected = gateway.client(version).await.send(post("/test/v1/collect", text.clone())).await;
        let cut = gateway.client(version).await.send(post(STREAM, file.clone())).await;

        for (reply, words) in [(unary, "4096"), (collected, "part \"text\": request message exceeds")] {
            assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE, "{version:?}: {reply:?}");
            assert!(message(&reply).contains(words), "{version:?}: {reply:?}");
        }
        assert_eq!((cut.status, cut.json()["bytes"].clone()), (StatusCode::OK, json!("5000")), "{version:?}: {cut:?}");
    }
}

fn texts(reply: &Reply) -> Vec<String> {
    let json = reply.json();
    let texts = json["texts"].as_array().expect("one for each message");
    texts.iter().map(|text| text.as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn files_are_cut_into_the_messages_of_a_stream() {
    let (_backend, gateway) = start().await;
    let large = vec![b'\r'; 3 << 20];
    let png = "content-type: image/png\r\n";
    let body = form(&[
        ("name=\"name\"", "", b"n"),
        ("name=\"note\"", "", b"first"),
        ("name=\"file\"; filename=1", png, &large),
        ("name=\"note\"", "", b"second"),
        ("name=\"file\"; filename=2", "content-type: text/csv\r\n", b""),
        ("name=\"file\"; filename=3", png, b"three"),
        ("name=\"note\"", "", b"last"),
    ]);
    let mut packed = BytesMut::new();
    encoding::compress(Encoding::Gzip, &body, &mut packed).expect("there is memory");
    for version in Version::BOTH {
        let mut zipped = post(STREAM, packed.clone().freeze());
        zipped.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
        for call in [post(STREAM, body.clone()), zipped] {
            let reply = soon(gateway.client(version).await.send(call)).await;

            assert_eq!(reply.status, StatusCode::OK, "{version:?}: {reply:?}");
            assert_eq!(reply.json()["bytes"], json!((large.len() + 5).to_string()), "{version:?}");
            let mut texts = texts(&reply);
            texts.retain(|text| text != "::");
            assert_eq!(texts, ["n:image/png:first", ":text/csv:second", ":image/png:", "::last"], "{version:?}");
        }
    }
}

#[tokio::test]
async fn parts_of_one_name_are_messages_of_a_stream() {
    let (_backend, gateway) = start().await;
    let body = form(&[("name=text", "", b"a"), ("name=text", "", b"b"), ("name=behaviour", "", b"{}")]);
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;

        let some = client.send(post("/test/v1/collect", body.clone())).await;
        let none = client.send(post(STREAM, form(&[]))).await;
        let nothing = client.send(post("/test/v1/say", form(&[]))).await;

        assert_eq!(texts(&some), ["a", "b"], "{version:?}: {some:?}");
        assert_eq!(texts(&none), ["::"], "{version:?}: {none:?}");
        assert_eq!(nothing.status, StatusCode::OK, "{version:?}: {nothing:?}");
    }
}

#[tokio::test]
async fn a_stream_has_as_many_parts_as_its_messages_have_room_for() {
    let (_backend, gateway) = start().await;
    let full: Vec<Part<'_>> = vec![("name=behaviour.headers", "", b"{}"); 999];
    let next: &[Part<'_>] = &[("name=text", "", b"a")];
    // The first message is the one that the backend follows.
    let parts = form(&[next, next, &full, next, &full].concat());
    let too_many = form(&[next, next, &full, &full].concat());
    for version in Version::BOTH {
        let reply = gateway.client(version).await.send(post("/test/v1/collect", parts.clone())).await;
        let refused = gateway.client(version).await.send(post("/test/v1/collect", too_many.clone())).await;

        assert_eq!(texts(&reply), ["a", "a", "a"], "{version:?}: {reply:?}");
        assert!(message(&refused).contains("more than 1000 parts"), "{version:?}: {refused:?}");
    }
}

/// Methods of the backend by other names: replies show the first field of each message.
const AMEND: &str = r#"
syntax = "proto3";
package portico.test.v1;
import "google/api/annotations.proto";
import "google/protobuf/field_mask.proto";
service Echo {
  rpc Collect(stream Amendment) returns (Collected) { option (google.api.http) = { patch: "/books" body: "book" }; }
  rpc UploadNamed(stream Named) returns (Collected) { option (google.api.http) = { post: "/named/{token}" body: "*" }; }
}
message Amendment { google.protobuf.FieldMask update_mask = 1; Book book = 2; }
message Book { int32 pages = 5; bool stop = 8; }
message Named { oneof shown { bytes token = 1; bool other = 4; } Note note = 2; }
message Note {}
message Collected { repeated string texts = 1; }
"#;

async fn amending() -> (Backend, TestGateway) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("amend.proto"), AMEND).expect("a file");
    let backend = backend::start().await;
    let schema = format!("proto: [\"{0}/amend.proto\"], include: [\"{0}\", proto]", folder.path().display());
    let gateway = TestGateway::start(&upstream("echo", backend.address).replace("reflection: {}", &schema)).await;
    gateway.ready().await;
    (backend, gateway)
}

#[tokio::test]
async fn no_part_of_any_message_says_other_than_the_path() {
    let (backend, gateway) = amending().await;
    let note: Part<'_> = ("name=note", "", b"{}");
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;

        let silent = client.send(post("/named/YQ==", form(&[note, note]))).await;
        let agrees = client.send(post("/named/YQ==", form(&[note, note, ("name=token", "", b"YQ==")]))).await;
        let later = client.send(post("/named/YQ==", form(&[note, note, ("name=token", "", b"Yg==")]))).await;
        let rival = client.send(post("/named/YQ==", form(&[note, note, ("name=other", "", b"true")]))).await;

        assert_eq!(texts(&silent), ["a::", "a::"], "{version:?}: {silent:?}");
        assert_eq!(texts(&agrees), ["a::", "a::"], "{version:?}: {agrees:?}");
        assert!(message(&later).contains("the body and the path give different values"), "{version:?}: {later:?}");
        assert!(message(&rival).contains("of the same oneof"), "{version:?}: {rival:?}");
    }
    // A file that begins with what the path says and goes on, piece by piece.
    let mut client = Raw::connect(gateway.address).await;
    let mut call = client.begin_as(Method::POST, "/named/YQ==", act::entries(&[("content-type", MEDIA)]), false).await;
    call.send("---- a b\r\ncontent-disposition: form-data; name=token; filename=x\r\n\r\na", false);
    call.send("b", false);
    call.send("\r\n---- a b--\r\n", true);
    let (reply, _, _) = soon(call.head()).await.expect("there is a reply");
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    backend.tally.until(|counts| counts.started == counts.finished + counts.cancelled).await;
}

#[tokio::test]
async fn messages_of_a_patch_get_their_masks() {
    let (_backend, gateway) = amending().await;
    let parts = form(&[("name=pages", "", b"0"), ("name=stop", "", b"false"), ("name=pages", "", b"0")]);
    for version in Version::BOTH {
        let call = request(Method::PATCH, "/books", &[("content-type", MEDIA)], "").map(|_| parts.clone());
        let reply = gateway.client(version).await.send(call).await;

        assert_eq!(texts(&reply), ["\n\u{5}pages\n\u{4}stop", "\n\u{5}pages"], "{version:?}: {reply:?}");
    }
}

#[tokio::test]
async fn a_method_that_takes_raw_bodies_gets_the_form_as_it_is() {
    let (_backend, gateway) = start().await;
    let body = form(&[("name=\"file\"; filename=1", "", b"x")]);
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;

        let raw = client.send(post("/test/v1/raw", body.clone())).await;
        let named = client.send(post("/test/v1/upload/n", body.clone())).await;

        assert_eq!((&raw.headers["content-type"], &raw.body), (&MEDIA.parse().unwrap(), &body), "{version:?}");
        assert_eq!(texts(&named), [format!("n:{MEDIA}:")], "{version:?}: {named:?}");
    }
}

#[tokio::test]
async fn a_file_goes_on_as_it_comes_and_a_client_that_leaves_ends_the_call() {
    let (backend, gateway) = start().await;
    let mut client = Raw::connect(gateway.address).await;
    let head = act::entries(&[("content-type", MEDIA)]);
    let mut call = client.begin_as(Method::POST, STREAM, head, false).await;

    call.send("---- a b\r\ncontent-disposition: form-data; name=file; filename=x\r\n\r\none", false);
    soon(backend.tally.until(|counts| counts.received == 1)).await;
    call.send("two", false);
    soon(backend.tally.until(|counts| counts.received == 2)).await;

    drop((call, client));
    soon(backend.tally.until(|counts| counts.finished + counts.cancelled == 1)).await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_in_a_part_is_no_whole_one() {
    let (backend, gateway) = start().await;
    let whole = form(&[("name=\"file\"; filename=1", "", b"content")]);
    for (version, calls) in Version::BOTH.into_iter().zip(1..) {
        let reply = soon(gateway.client(version).await.send(post(STREAM, whole.slice(..whole.len() - 16)))).await;

        assert_eq!((reply.status, message(&reply).as_str()), (StatusCode::BAD_REQUEST, "the body ends inside part 1"));
        backend.tally.until(|counts| counts.started == calls && counts.finished + counts.cancelled == calls).await;
    }
}
