//! The services that the gateway itself answers: reflection and health.

use std::time::Duration;

use portico::pb::google::protobuf::FileDescriptorProto;
use portico::pb::grpc::health::v1::{HealthCheckRequest, HealthCheckResponse};
use portico::pb::grpc::reflection::v1::server_reflection_request::MessageRequest;
use portico::pb::grpc::reflection::v1::server_reflection_response::MessageResponse;
use portico::pb::grpc::reflection::v1::{ServerReflectionRequest, ServerReflectionResponse};
use prost::Message;

use crate::support::backend;
use crate::support::backend::pb::ECHO_SET;
use crate::support::gateway::{TestGateway, upstream};
use crate::support::grpc::{Raw, framed, soon};

/// Sends these requests on one reflection stream.
async fn reflect(client: &mut Raw, version: &str, requests: Vec<MessageRequest>) -> Vec<MessageResponse> {
    let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
    let frames = requests
        .into_iter()
        .map(|request| framed(&ServerReflectionRequest { host: String::new(), message_request: Some(request) }));
    let answer = client.call(&path, &[], frames.collect::<Vec<_>>().concat()).await;
    assert_eq!(answer.code(), 0, "{answer:?}");
    let replies = answer.messages::<ServerReflectionResponse>().into_iter();
    replies.map(|reply| reply.message_response.expect("an answer to each request")).collect()
}

/// A set with one file that declares `extra.v1.Extra` and carries an option which no code here knows.
fn extra_set() -> (Vec<u8>, Vec<u8>) {
    let method = [b"\x0a\x02Do".as_slice(), b"\x12\x11.extra.v1.Message", b"\x1a\x11.extra.v1.Message"].concat();
    let mut service = b"\x0a\x05Extra\x12".to_vec();
    service.push(method.len().try_into().expect("short"));
    service.extend(method);
    let mut file = b"\x0a\x0bextra.proto\x12\x08extra.v1\x22\x09\x0a\x07Message\x32".to_vec();
    file.push(service.len().try_into().expect("short"));
    file.extend(service);
    // FileOptions with the unknown field 50000, then the syntax.
    file.extend(b"\x42\x04\x80\xb5\x18\x07\x62\x06proto3");
    let mut set = b"\x0a".to_vec();
    set.push(file.len().try_into().expect("short"));
    set.extend(&file);
    (set, file)
}

#[tokio::test]
async fn reflection_speaks_for_all_upstreams_from_their_own_bytes() {
    let (extra, extra_file) = extra_set();
    let first = backend::start().await;
    let second = backend::start_with(backend::Options { descriptors: extra, ..backend::Options::default() }).await;
    let yaml = upstream("first", first.address).replace(" ]\n", ", ")
        + upstream("second", second.address).trim_start_matches("upstreams: [");
    let gateway = TestGateway::start(&yaml).await;
    gateway.ready().await;
    let mut client = Raw::connect(gateway.address).await;

    for version in ["v1", "v1alpha"] {
        let requests = vec![
            MessageRequest::ListServices(String::new()),
            MessageRequest::FileContainingSymbol("extra.v1.Extra.Do".into()),
            MessageRequest::FileContainingSymbol("portico.test.v1.Behaviour".into()),
            MessageRequest::FileByFilename("extra.proto".into()),
            MessageRequest::FileContainingSymbol("nobody.Here".into()),
        ];
        let replies = reflect(&mut client, version, requests).await;

        let [MessageResponse::ListServicesResponse(services), symbol, echo, name, unknown] = &*replies else {
            panic!("{replies:?}")
        };
        let names: Vec<_> = services.service.iter().map(|service| &*service.name).collect();
        for expected in ["portico.test.v1.Echo", "extra.v1.Extra"] {
            assert!(names.contains(&expected), "{names:?}");
        }
        assert_eq!((files(symbol), files(name)), (vec![extra_file.clone()], vec![extra_file.clone()]));
        let echo = files(echo);
        assert!(ECHO_SET.windows(echo[0].len()).any(|window| window == echo[0]), "not the original bytes");
        assert_eq!(FileDescriptorProto::decode(&*echo[0]).unwrap().package.as_deref(), Some("portico.test.v1"));
        assert!(matches!(unknown, MessageResponse::ErrorResponse(error) if error.error_code == 5), "{unknown:?}");
    }
}

fn files(reply: &MessageResponse) -> Vec<Vec<u8>> {
    let files = match reply {
        MessageResponse::FileDescriptorResponse(files) => Some(&files.file_descriptor_proto),
        _ => None,
    };
    files.expect("files were asked for").iter().map(|file| file.to_vec()).collect()
}

fn check(service: &str) -> bytes::Bytes {
    framed(&HealthCheckRequest { service: service.into() })
}

#[tokio::test]
async fn health_speaks_for_the_gateway_and_each_service() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    let mut client = Raw::connect(gateway.address).await;

    for service in ["", "portico.test.v1.Echo"] {
        let answer = client.call("/grpc.health.v1.Health/Check", &[], check(service)).await;
        assert_eq!((answer.code(), answer.messages::<HealthCheckResponse>()[0].status), (0, 1), "{service:?}");

        let mut watch = client.begin("/grpc.health.v1.Health/Watch", &[], false).await;
        watch.send(check(service), true);
        let (_, mut body, _request) = watch.head().await.unwrap();
        let first = soon(body.data()).await.unwrap().unwrap();
        assert_eq!(&*first, b"\0\0\0\0\x02\x08\x01", "{service:?}");
    }
    let unknown = client.call("/grpc.health.v1.Health/Check", &[], check("no.Such")).await;
    assert_eq!(unknown.code(), 5, "{unknown:?}");
    let mut watch = client.begin("/grpc.health.v1.Health/Watch", &[], false).await;
    watch.send(check("no.Such"), true);
    let (_, mut body, _request) = watch.head().await.unwrap();
    assert_eq!(&*soon(body.data()).await.unwrap().unwrap(), b"\0\0\0\0\x02\x08\x03");
}

#[tokio::test]
async fn health_keeps_deadlines_and_counts_messages() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    let mut client = Raw::connect(gateway.address).await;

    let two = client.call("/grpc.health.v1.Health/Check", &[], [check(""), check("")].concat()).await;
    let none = client.call("/grpc.health.v1.Health/Check", &[], "").await;
    let large = client.call("/grpc.health.v1.Health/Check", &[], check(&"x".repeat(70_000))).await;
    let watch = client.call("/grpc.health.v1.Health/Watch", &[("grpc-timeout", "100m")], check("")).await;
    let open = client.begin("/grpc.health.v1.Health/Check", &[("grpc-timeout", "100m")], false).await;
    let open = open.answer().await.unwrap();

    assert_eq!((two.code(), none.code(), large.code()), (12, 12, 8), "{two:?} {none:?} {large:?}");
    assert_eq!((watch.code(), open.code()), (4, 4), "{watch:?} {open:?}");
}

#[tokio::test]
async fn services_of_the_gateway_end_streams_that_stand_still() {
    let backend = backend::start().await;
    let policy = "policies: [ { match: \"*\", timeout: { stream_idle: 150ms, unary: 150ms } } ]\n";
    let gateway = TestGateway::start(&(upstream("echo", backend.address) + policy)).await;
    gateway.ready().await;
    let mut client = Raw::connect(gateway.address).await;
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let list = MessageRequest::ListServices(String::new());
    let list = ServerReflectionRequest { host: String::new(), message_request: Some(list) };

    let silent = client.begin(reflection, &[], false).await.answer().await.unwrap();
    let mut asked = client.begin(reflection, &[], false).await;
    asked.message(&list, false);
    let asked = asked.answer().await.unwrap();
    let check_only = client.begin("/grpc.health.v1.Health/Check", &[], false).await.answer().await.unwrap();
    let watch_only = client.begin("/grpc.health.v1.Health/Watch", &[], false).await.answer().await.unwrap();

    assert_eq!(asked.messages::<ServerReflectionResponse>().len(), 1);
    for answer in [silent, asked, check_only, watch_only] {
        assert!(answer.code() == 4 && answer.message().contains("150ms"), "{answer:?}");
    }
    let mut watch = client.begin("/grpc.health.v1.Health/Watch", &[], false).await;
    watch.send(check(""), true);
    let (_, mut body, _request) = watch.head().await.unwrap();
    soon(body.data()).await.unwrap().unwrap();
    tokio::time::timeout(Duration::from_millis(500), body.data()).await.expect_err("a watch may be silent");
}

#[tokio::test]
async fn reflection_and_health_can_be_turned_off() {
    let first = backend::start().await;
    let second =
        backend::start_with(backend::Options { descriptors: extra_set().0, ..backend::Options::default() }).await;
    let yaml = upstream("first", first.address).replace(" ]\n", ", ")
        + upstream("second", second.address).trim_start_matches("upstreams: [")
        + "serve: { reflection: false, health: false }\n";
    let gateway = TestGateway::start(&yaml).await;
    gateway.ready().await;
    let mut client = Raw::connect(gateway.address).await;

    let paths = [
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ];
    // The only upstream has reflection and health of its own, which it was not given to show.
    let alone = upstream("first", first.address) + "serve: { reflection: false, health: false }\n";
    let alone = TestGateway::start(&alone).await;
    alone.ready().await;
    let mut beside = Raw::connect(alone.address).await;

    for path in paths {
        assert_eq!(client.call(path, &[], check("")).await.code(), 12, "{path}");
        assert_eq!(beside.call(path, &[], check("")).await.code(), 12, "{path}");
    }
}
