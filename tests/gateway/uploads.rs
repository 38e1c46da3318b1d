//! Uploads over REST: bodies of any type that become streams of `google.api.HttpBody`.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use portico::encoding::{self, Encoding};
use serde_json::json;

use crate::support::backend::{self, Backend, act};
use crate::support::client::{Version, request};
use crate::support::gateway::TestGateway;
use crate::support::grpc::{Raw, soon};
use crate::support::rest::with;

async fn start() -> (Backend, TestGateway) {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    (backend, gateway)
}

#[tokio::test]
async fn a_body_becomes_messages_of_which_the_first_says_what_it_is() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for (path, first) in [
            ("/test/v1/upload", ":image/png:"),
            ("/test/v1/upload/a/b?note=n", "a/b:image/png:n"),
            ("/portico.test.v1.Echo/Upload", ":image/png:"),
        ] {
            for length in [1, 200_000, 3 << 20] {
                let body = Bytes::from(vec![7; length]);
                let headers = [("content-type", "image/png")];

                let reply = client.send(request(Method::POST, path, &headers, "").map(|_| body)).await;

                assert_eq!(reply.status, StatusCode::OK, "{version:?} {path}: {reply:?}");
                let json = reply.json();
                assert_eq!(json["bytes"], json!(length.to_string()), "{version:?} {path}");
                let texts = json["texts"].as_array().expect("one for each message");
                assert!(texts.len() >= length.div_ceil(64 << 10), "{} messages", texts.len());
                assert_eq!(texts[0], json!(first), "{version:?} {path}");
                assert!(texts[1..].iter().all(|text| *text == json!("::")), "{version:?} {path}: {texts:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_empty_body_is_one_message() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;

        let reply = with(&mut client, "POST /test/v1/upload/x", &[("content-type", "text/csv")], "").await;
        let whole = with(&mut client, "POST /test/v1/upload", &[("content-type", "text/csv")], "").await;

        assert_eq!(reply.json()["texts"], json!(["x:text/csv:"]), "{version:?}: {reply:?}");
        assert_eq!(whole.json()["texts"], json!([":text/csv:"]), "{version:?}: {whole:?}");
    }
}

#[tokio::test]
async fn a_compressed_body_is_inflated_and_a_wrong_one_refused() {
    let (backend, gateway) = start().await;
    let mut packed = BytesMut::new();
    encoding::compress(Encoding::Gzip, &vec![b'x'; 1 << 20], &mut packed).expect("there is memory");
    let packed = packed.freeze();
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        let headers = [("content-encoding", "gzip")];
        let post = |path: &str, body: Bytes| request(Method::POST, path, &headers, "").map(|_| body);

        let good = client.send(post("/test/v1/upload", packed.clone())).await;
        let short = client.send(post("/test/v1/upload", packed.slice(..packed.len() - 3))).await;
        let unknown = client.send(post("/test/v1/upload/x?nope=1", packed.clone())).await;

        assert_eq!(good.json()["bytes"], json!((1 << 20).to_string()), "{version:?}: {good:?}");
        for (refused, words) in [(short, "ends early"), (unknown, "nope")] {
            assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{version:?}: {refused:?}");
            assert!(String::from_utf8_lossy(&refused.body).contains(words), "{refused:?}");
        }
    }
    backend.tally.until(|counts| counts.started == counts.finished + counts.cancelled).await;
}

#[tokio::test]
async fn data_goes_on_as_it_comes_and_a_client_that_leaves_ends_the_call() {
    let (backend, gateway) = start().await;
    let mut client = Raw::connect(gateway.address).await;
    let head: HeaderMap = act::entries(&[("content-type", "text/plain")]);
    let mut call = client.begin_as(Method::POST, "/test/v1/upload", head, false).await;

    call.send("one", false);
    soon(backend.tally.until(|counts| counts.received == 1)).await;
    call.send("two", false);
    soon(backend.tally.until(|counts| counts.received == 2)).await;

    drop((call, client));
    // The service may take a reset for the end of the messages.
    soon(backend.tally.until(|counts| counts.finished + counts.cancelled == 1)).await;
}
