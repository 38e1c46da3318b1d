//! Scripted servers over an in-memory connection.

use std::sync::{Arc, Mutex};

use bytes::{BufMut, BytesMut};
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response};
use prost::Message as _;
use tokio::io::DuplexStream;

use super::*;
use crate::pb::google::protobuf::{FileDescriptorProto, ServiceDescriptorProto};
use crate::pb::grpc::reflection::v1::{
    ErrorResponse, FileDescriptorResponse, ListServiceResponse, ServerReflectionRequest, ServerReflectionResponse,
    ServiceResponse,
};

/// What the server does with a question, given how many it answered on this stream.
type Script = Arc<dyn Fn(&MessageRequest, usize) -> Turn + Send + Sync>;

enum Turn {
    Answer(MessageResponse),
    /// Trailers with this status.
    End(&'static str),
    Raw(&'static [u8]),
    Reset,
    Silent,
}

/// Serves one connection; every path but `served` is answered by `refusal`.
async fn serve(io: DuplexStream, served: &'static str, refusal: fn() -> Response<()>, script: Script) {
    let mut connection = h2::server::handshake(io).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        if request.uri().path() != served {
            respond.send_response(refusal(), true).unwrap();
            continue;
        }
        tokio::spawn(serve_stream(request.into_body(), respond, Arc::clone(&script)));
    }
}

async fn serve_stream(mut body: h2::RecvStream, mut respond: SendResponse<Bytes>, script: Script) {
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut out = respond.send_response(head, false).unwrap();
    let mut buffer = BytesMut::new();
    let mut answered = 0;
    while let Some(Ok(chunk)) = body.data().await {
        body.flow_control().release_capacity(chunk.len()).unwrap();
        buffer.extend_from_slice(&chunk);
        while buffer.len() >= 5 && buffer.len() >= 5 + usize::from(buffer[4]) {
            let length = usize::from(buffer[4]);
            let frame = buffer.split_to(5 + length);
            let request = ServerReflectionRequest::decode(&frame[5..]).unwrap();
            match script(&request.message_request.unwrap(), answered) {
                Turn::Answer(answer) => {
                    let response = ServerReflectionResponse { message_response: Some(answer), ..Default::default() }
                        .encode_to_vec();
                    let mut frame = BytesMut::new();
                    frame.put_u8(0);
                    frame.put_u32(u32::try_from(response.len()).unwrap());
                    frame.extend_from_slice(&response);
                    out.send_data(frame.freeze(), false).unwrap();
                    answered += 1;
                }
                Turn::Raw(bytes) => out.send_data(Bytes::from_static(bytes), false).unwrap(),
                Turn::End(status) => {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from_static(status));
                    return out.send_trailers(trailers).unwrap();
                }
                Turn::Reset => return out.send_reset(h2::Reason::INTERNAL_ERROR),
                Turn::Silent => {}
            }
        }
    }
}

fn not_found() -> Response<()> {
    Response::builder().status(404).body(()).unwrap()
}

fn unimplemented() -> Response<()> {
    Response::builder().header("content-type", "application/grpc").header("grpc-status", "12").body(()).unwrap()
}

async fn fetch_from(served: &'static str, refusal: fn() -> Response<()>, script: Script) -> Result<Fetched, Error> {
    let (client, server) = tokio::io::duplex(1 << 16);
    let serving = tokio::spawn(serve(server, served, refusal, script));
    let fetched =
        tokio::time::timeout(Duration::from_secs(20), fetch_over(client, Scheme::HTTP, "upstream.test")).await.unwrap();
    serving.abort();
    fetched
}

fn script(turn: impl Fn(&MessageRequest, usize) -> Turn + Send + Sync + 'static) -> Script {
    Arc::new(turn)
}

fn list(names: &[&str]) -> Turn {
    let service = names.iter().map(|&name| ServiceResponse { name: name.into() }).collect();
    Turn::Answer(MessageResponse::ListServicesResponse(ListServiceResponse { service }))
}

fn files(files: Vec<Vec<u8>>) -> Turn {
    Turn::Answer(MessageResponse::FileDescriptorResponse(FileDescriptorResponse { file_descriptor_proto: files }))
}

fn refused(code: i32, message: &str) -> Turn {
    let error = ErrorResponse { error_code: code, error_message: message.into() };
    Turn::Answer(MessageResponse::ErrorResponse(error))
}

fn file(name: &str, services: &[&str], imports: &[&str]) -> Vec<u8> {
    let service = |name: &&str| ServiceDescriptorProto { name: Some((*name).into()), ..Default::default() };
    let file = FileDescriptorProto {
        name: Some(name.into()),
        package: Some("p".into()),
        service: services.iter().map(service).collect(),
        dependency: imports.iter().map(|&import| import.into()).collect(),
        ..Default::default()
    };
    file.encode_to_vec()
}

fn names(fetched: &Fetched) -> Vec<&str> {
    let mut names: Vec<_> = fetched.files.iter().map(|file| set::outline(file).unwrap().name).collect();
    names.sort_unstable();
    names
}

/// Answers well: two services, one import that comes only when asked for, one that is vendored.
fn good(request: &MessageRequest, _: usize) -> Turn {
    match request {
        MessageRequest::ListServices(_) => {
            list(&["p.B", "p.A", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"])
        }
        MessageRequest::FileContainingSymbol(name) if name == "p.A" => {
            files(vec![file("a.proto", &["A"], &["c.proto"])])
        }
        MessageRequest::FileContainingSymbol(name) if name == "p.B" => {
            files(vec![file("b.proto", &["B"], &["a.proto", "google/api/annotations.proto"])])
        }
        MessageRequest::FileByFilename(name) if name == "c.proto" => files(vec![file("c.proto", &[], &["gone.proto"])]),
        _ => refused(5, "not found"),
    }
}

#[tokio::test]
async fn fetches_services_and_what_they_import() {
    let fetched = fetch_from(PATHS[0], not_found, script(good)).await.unwrap();

    assert_eq!(fetched.services, ["p.A", "p.B"]);
    assert_eq!(fetched.problems, []);
    let expected = [
        "a.proto",
        "b.proto",
        "c.proto",
        "google/api/annotations.proto",
        "google/api/http.proto",
        "google/protobuf/descriptor.proto",
    ];
    assert_eq!(names(&fetched), expected);
}

#[tokio::test]
async fn falls_back_to_v1alpha_on_unimplemented_and_on_404() {
    for refusal in [not_found, unimplemented] {
        let fetched = fetch_from(PATHS[1], refusal, script(good)).await.unwrap();

        assert_eq!(fetched.services, ["p.A", "p.B"]);
    }
}

#[tokio::test]
async fn server_without_reflection_is_told_apart() {
    let fetched = fetch_from("/none", unimplemented, script(good)).await;

    assert!(matches!(fetched, Err(Error::Unimplemented)));
}

#[tokio::test]
async fn refused_symbol_spoils_no_other_service() {
    let turn = |request: &MessageRequest, answered| match request {
        MessageRequest::FileContainingSymbol(name) if name == "p.A" => refused(5, "no\nsuch"),
        _ => good(request, answered),
    };

    let fetched = fetch_from(PATHS[0], not_found, script(turn)).await.unwrap();

    assert_eq!(fetched.problems, [("p.A".into(), r"the server answers 5: no\nsuch".into())]);
    assert!(names(&fetched).contains(&"b.proto"));
}

#[tokio::test]
async fn server_that_ends_the_call_over_a_symbol_is_asked_again_for_the_others() {
    for end in [|| Turn::End("13"), || Turn::Reset] {
        let turn = move |request: &MessageRequest, answered| match request {
            MessageRequest::FileContainingSymbol(name) if name == "p.A" => end(),
            _ => good(request, answered),
        };

        let fetched = fetch_from(PATHS[0], not_found, script(turn)).await.unwrap();

        assert_eq!(fetched.problems.len(), 1);
        assert_eq!(fetched.problems[0].0, "p.A");
        assert!(names(&fetched).contains(&"b.proto"));
    }
}

#[tokio::test]
async fn server_that_answers_once_per_call_is_asked_until_done() {
    let turn = |request: &MessageRequest, answered| if answered > 0 { Turn::End("0") } else { good(request, answered) };

    let fetched = fetch_from(PATHS[0], not_found, script(turn)).await.unwrap();

    assert_eq!((fetched.problems.len(), fetched.files.len()), (0, 6));
}

#[tokio::test]
async fn several_questions_are_under_way_at_once() {
    let asked = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&asked);
    let services: Vec<String> = (0..100).map(|index| format!("p.S{index}")).collect();
    let turn = move |request: &MessageRequest, _| match request {
        MessageRequest::ListServices(_) => list(&services.iter().map(String::as_str).collect::<Vec<_>>()),
        _ => {
            *counter.lock().unwrap() += 1;
            Turn::Silent
        }
    };
    let (client, server) = tokio::io::duplex(1 << 16);
    tokio::spawn(serve(server, PATHS[0], not_found, script(turn)));

    let fetched =
        tokio::time::timeout(Duration::from_millis(300), fetch_over(client, Scheme::HTTP, "upstream.test")).await;

    assert!(fetched.is_err());
    assert_eq!(*asked.lock().unwrap(), PIPELINE);
}

#[tokio::test]
async fn big_answers_pass_flow_control_and_files_are_kept_once() {
    let big = |service: &str| {
        let mut bytes = file(&format!("{service}.proto"), &[service], &["shared.proto"]);
        bytes.extend_from_slice(&[0xc2, 0x3e, 0x80, 0x80, 0x40]); // an unknown field of 1 MiB
        bytes.resize(bytes.len() + (1 << 20), b'x');
        bytes
    };
    let expected = big("A");
    let turn = move |request: &MessageRequest, _| match request {
        MessageRequest::ListServices(_) => list(&["p.A", "p.B", "p.C", "p.D"]),
        MessageRequest::FileContainingSymbol(name) => {
            files(vec![big(name.strip_prefix("p.").unwrap()), file("shared.proto", &[], &[])])
        }
        _ => refused(5, ""),
    };

    let fetched = fetch_from(PATHS[0], not_found, script(turn)).await.unwrap();

    assert_eq!(fetched.problems, []);
    assert_eq!(fetched.files.len(), 5);
    assert!(fetched.files.iter().any(|file| *file == expected));
}

#[tokio::test]
async fn service_without_a_file_is_a_problem() {
    let turn = |request: &MessageRequest, _| match request {
        MessageRequest::ListServices(_) => list(&["p.A"]),
        _ => files(vec![b"garbage".to_vec(), file("other.proto", &["Other"], &[])]),
    };

    let fetched = fetch_from(PATHS[0], not_found, script(turn)).await.unwrap();

    assert_eq!(fetched.problems, [("p.A".into(), "the server lists it but sends no file that declares it".into())]);
}

#[tokio::test]
async fn hostile_replies_are_errors() {
    let answering = |raw: &'static [u8]| script(move |_, _| Turn::Raw(raw));
    let fetch = |raw| fetch_from(PATHS[0], not_found, answering(raw));

    assert!(matches!(fetch(b"\x00\xff\xff\xff\xff").await, Err(Error::TooLarge(_))));
    assert!(matches!(fetch(b"\x01\x00\x00\x00\x01x").await, Err(Error::Malformed(_))));
    assert!(matches!(fetch(b"\x02\x00\x00\x00\x00").await, Err(Error::Malformed(_))));
    assert!(matches!(fetch(b"\x00\x00\x00\x00\x01x").await, Err(Error::Malformed(_))));
    assert!(matches!(fetch(b"\x00\x00\x00\x00\x00").await, Err(Error::Malformed(_))));
    let many: Vec<String> = (0..=MAX_SERVICES).map(|index| format!("S{index}")).collect();
    let list = script(move |_, _| list(&many.iter().map(String::as_str).collect::<Vec<_>>()));
    assert!(matches!(fetch_from(PATHS[0], not_found, list).await, Err(Error::TooLarge(_))));
    let refusing = script(|_, _| refused(7, "no"));
    assert!(matches!(fetch_from(PATHS[0], not_found, refusing).await, Err(Error::Refused(_))));
    let text = || Response::builder().status(503).body(()).unwrap();
    assert!(matches!(fetch_from("/none", text, script(good)).await, Err(Error::NotGrpc(503))));
}

#[tokio::test]
async fn silent_and_absent_servers_run_into_the_timeout_or_are_refused() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut target = Target {
        address: listener.local_addr().unwrap().to_string(),
        authority: "upstream.test".into(),
        security: Security::default(),
        connect_timeout: Duration::from_secs(5),
        timeout: Duration::from_millis(50),
    };

    assert!(matches!(fetch(&target).await, Err(Error::Timeout(_))));

    drop(listener);
    target.timeout = Duration::from_secs(5);
    assert!(matches!(fetch(&target).await, Err(Error::Connect { .. })));
}
