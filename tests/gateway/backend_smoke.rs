//! The backends of the other tests, called without a gateway between: what they do wrong is not the gateway's doing.

use std::net::SocketAddr;

use portico::pb::grpc::reflection::v1::server_reflection_request::MessageRequest;
use portico::pb::grpc::reflection::v1::server_reflection_response::MessageResponse;
use portico::pb::grpc::reflection::v1::{ServerReflectionRequest, ServerReflectionResponse};
use tokio_stream::StreamExt;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status, Streaming};

use crate::support::backend::pb::google::protobuf::Duration;
use crate::support::backend::pb::{Behaviour, Failure, Header, SayReply, SayRequest};
use crate::support::backend::{self, Options, Reflection};

fn say(text: &str, behaviour: Behaviour) -> SayRequest {
    SayRequest { text: text.into(), behaviour: Some(behaviour) }
}

fn header(name: &str, value: &[u8]) -> Header {
    Header { name: name.into(), value: value.into() }
}

fn has(reply: &SayReply, name: &str, value: &[u8]) -> bool {
    reply.metadata.contains(&header(name, value))
}

#[tokio::test]
async fn echoes_request_metadata() {
    let backend = backend::start().await;
    let mut client = backend::client(backend.address).await;
    let mut request = Request::new(say("hello", Behaviour::default()));
    request.metadata_mut().insert("x-color", "blue".parse().unwrap());
    request.metadata_mut().insert_bin("x-raw-bin", tonic::metadata::MetadataValue::from_bytes(&[0, 255]));

    let reply = client.say(request).await.unwrap().into_inner();

    assert_eq!(reply.text, "hello");
    assert!(has(&reply, "x-color", b"blue"));
    assert!(has(&reply, "x-raw-bin", &[0, 255]));
    assert!(has(&reply, ":path", b"/portico.test.v1.Echo/Say"));
    assert!(has(&reply, ":authority", backend.address.to_string().as_bytes()));
}

#[tokio::test]
async fn sends_the_headers_and_trailers_that_it_is_told_to() {
    let backend = backend::start().await;
    let mut client = backend::client(backend.address).await;
    let behaviour = Behaviour {
        headers: vec![header("x-early", b"1")],
        trailers: vec![header("x-late", b"2"), header("x-late-bin", &[0, 1, 2])],
        ..Behaviour::default()
    };

    let reply = client.say(say("", behaviour)).await.unwrap();

    // tonic's client merges the trailers of a unary call into its headers.
    assert_eq!(reply.metadata().get("x-early").unwrap(), "1");
    assert_eq!(reply.metadata().get("x-late").unwrap(), "2");
    assert_eq!(reply.metadata().get_bin("x-late-bin").unwrap().to_bytes().unwrap().as_ref(), [0, 1, 2]);
}

#[tokio::test]
async fn fails_as_it_is_told_to() {
    let backend = backend::start().await;
    let mut client = backend::client(backend.address).await;
    let failure = Failure { code: 9, message: "not now".into(), raw_details: vec![8, 9], details: vec![] };
    let behaviour =
        Behaviour { failure: Some(failure), trailers: vec![header("x-why", b"rain")], ..Behaviour::default() };

    let status = client.say(say("", behaviour)).await.unwrap_err();

    assert_eq!((status.code(), status.message(), status.details()), (Code::FailedPrecondition, "not now", &[8, 9][..]));
    assert_eq!(status.metadata().get("x-why").unwrap(), "rain");
    assert_eq!(backend.tally.counts().finished, 1);
}

#[tokio::test]
async fn streams_some_messages_before_a_failure() {
    let backend = backend::start().await;
    let mut client = backend::client(backend.address).await;
    let failure = Some(Failure { code: 5, ..Failure::default() });

    let replies = client.repeat(say("", Behaviour { count: 3, failure, ..Behaviour::default() })).await.unwrap();
    let replies: Vec<_> = replies.into_inner().collect().await;

    assert_eq!(replies.iter().filter(|reply| reply.is_ok()).count(), 3);
    assert_eq!(replies[3].as_ref().unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn collects_and_converses() {
    let backend = backend::start().await;
    let mut client = backend::client(backend.address).await;
    let messages = || tokio_stream::iter(["a", "b"]).map(|text| say(text, Behaviour::default()));

    let collected = client.collect(messages()).await.unwrap().into_inner();
    let replies: Vec<_> = client.converse(messages()).await.unwrap().into_inner().collect().await;

    assert_eq!(collected.texts, ["a", "b"]);
    let texts: Vec<_> = replies.into_iter().map(|reply| reply.unwrap().text).collect();
    assert_eq!(texts, ["a", "b"]);
    backend.tally.until(|counts| counts.finished == 2 && counts.received == 4).await;
}

#[tokio::test]
async fn notices_that_a_caller_gives_up() {
    let backend = backend::start().await;
    let mut client = backend::client(backend.address).await;
    let stall = Behaviour { stall: true, ..Behaviour::default() };
    let mut stalled = client.clone();

    let unary = tokio::spawn(async move { stalled.say(say("", stall)).await });
    backend.tally.until(|counts| counts.started == 1).await;
    unary.abort();
    backend.tally.until(|counts| counts.cancelled == 1).await;

    let slow = Behaviour { count: 9, delay: Some(Duration { seconds: 1, nanos: 0 }), ..Behaviour::default() };
    drop(client.repeat(say("", slow)).await.unwrap());
    backend.tally.until(|counts| counts.cancelled == 2).await;
}

#[tokio::test]
async fn has_reflection_in_the_versions_that_it_is_told_to() {
    for (reflection, v1, alpha) in [
        (Reflection::Both, true, true),
        (Reflection::V1, true, false),
        (Reflection::V1alpha, false, true),
        (Reflection::None, false, false),
    ] {
        let backend = backend::start_with(Options { reflection, ..Options::default() }).await;

        assert_eq!(file_of_echo(backend.address, "v1").await.is_ok(), v1, "{reflection:?}");
        assert_eq!(file_of_echo(backend.address, "v1alpha").await.is_ok(), alpha, "{reflection:?}");
    }
}

/// Asks for the file that declares the echo service. Both versions of the messages are the same bytes.
async fn file_of_echo(address: SocketAddr, version: &str) -> Result<(), Status> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a good address");
    let mut grpc = tonic::client::Grpc::new(endpoint.connect().await.expect("the backend listens"));
    grpc.ready().await.expect("the connection stands");
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol("portico.test.v1.Echo".into())),
    };
    let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
    let path = path.try_into().expect("a good path");
    let codec = tonic_prost::ProstCodec::default();
    let mut replies: Streaming<ServerReflectionResponse> =
        grpc.streaming(Request::new(tokio_stream::once(request)), path, codec).await?.into_inner();
    let reply = replies.message().await?.expect("an answer to each request");
    let Some(MessageResponse::FileDescriptorResponse(files)) = reply.message_response else {
        return Err(Status::not_found(format!("{reply:?}")));
    };
    assert_eq!(files.file_descriptor_proto.len(), 1);
    Ok(())
}

#[tokio::test]
async fn dies_with_its_connections_when_it_is_dropped() {
    let backend = backend::start().await;
    let mut client = backend::client(backend.address).await;
    client.say(say("", Behaviour::default())).await.unwrap();

    let address = backend.address;
    drop(backend);

    client.say(say("", Behaviour::default())).await.unwrap_err();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
