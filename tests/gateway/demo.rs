//! The demo service over the wire, without a gateway.

use std::time::Duration;

use http::uri::PathAndQuery;
use portico::pb::google::api::HttpBody;
use portico::pb::google::protobuf::FieldMask;
use portico::pb::google::rpc::{self, PreconditionFailure, ResourceInfo};
use portico::pb::grpc::health::v1::health_check_response::ServingStatus;
use portico::pb::grpc::health::v1::{HealthCheckRequest, HealthCheckResponse};
use portico::pb::grpc::reflection::v1::server_reflection_request::MessageRequest;
use portico::pb::grpc::reflection::v1::server_reflection_response::MessageResponse;
use portico::pb::grpc::reflection::v1::{ServerReflectionRequest, ServerReflectionResponse};
use portico::pb::portico::library::v1 as library;
use portico::pb::portico::library::v1::book_event::Kind;
use prost::Message;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// A demo that runs, and a client of it.
struct Demo {
    grpc: Grpc<Channel>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

impl Demo {
    async fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(portico::demo::start(listener, async {
            stopped.await.ok();
        }));
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a good address");
        let channel = endpoint.connect().await.expect("the demo listens");
        Self { grpc: Grpc::new(channel), stop, served }
    }

    async fn call<Q, R>(&mut self, method: &'static str, request: Q) -> Result<R, Status>
    where
        Q: Message + 'static,
        R: Message + Default + 'static,
    {
        self.grpc.ready().await.expect("the connection stands");
        let path = PathAndQuery::from_static(method);
        Ok(self.grpc.unary(Request::new(request), path, ProstCodec::default()).await?.into_inner())
    }

    async fn watch<Q, R>(&mut self, method: &'static str, request: Q) -> Streaming<R>
    where
        Q: Message + 'static,
        R: Message + Default + 'static,
    {
        self.grpc.ready().await.expect("the connection stands");
        let path = PathAndQuery::from_static(method);
        let reply = self.grpc.server_streaming(Request::new(request), path, ProstCodec::default()).await;
        reply.expect("the watch begins").into_inner()
    }
}

const EMMA: &str = "shelves/adventure/books/emma";

fn emma() -> library::CreateBookRequest {
    library::CreateBookRequest {
        parent: "shelves/adventure".into(),
        book: Some(library::Book { title: "Emma".into(), price: 5.0, ..library::Book::default() }),
        book_id: String::new(),
    }
}

/// The first detail of a status.
fn detail<T: Message + Default>(status: &Status) -> T {
    let status = rpc::Status::decode(status.details()).expect("details are a status");
    T::decode(status.details[0].value.as_slice()).expect("the detail is of that type")
}

#[tokio::test]
async fn keeps_what_is_created_and_changed() {
    let mut demo = Demo::start().await;

    let created: library::Book = demo.call("/portico.library.v1.Library/CreateBook", emma()).await.unwrap();
    let update = library::UpdateBookRequest {
        book: Some(library::Book { name: EMMA.into(), price: 9.5, ..library::Book::default() }),
        update_mask: Some(FieldMask { paths: vec!["price".into()] }),
    };
    let updated: library::Book = demo.call("/portico.library.v1.Library/UpdateBook", update).await.unwrap();
    let get = library::GetBookRequest { name: EMMA.into() };
    let found: library::Book = demo.call("/portico.library.v1.Library/GetBook", get).await.unwrap();

    assert_eq!(created.name, EMMA);
    assert_eq!((found.title.as_str(), found.price), ("Emma", 9.5));
    assert_eq!(found, updated);
    assert_ne!(created.digest, found.digest);
}

#[tokio::test]
async fn refuses_with_details() {
    let mut demo = Demo::start().await;
    let name = String::from("shelves/science/books/opticks");
    let checkout = library::CheckoutBookRequest { name: name.clone(), borrower: "Emma".into(), loan_period: None };

    let get = library::GetBookRequest { name: "shelves/science/books/none".into() };
    let missing = demo.call::<_, library::Book>("/portico.library.v1.Library/GetBook", get).await.unwrap_err();
    let lent: library::Book = demo.call("/portico.library.v1.Library/CheckoutBook", checkout.clone()).await.unwrap();
    let again = demo.call::<_, library::Book>("/portico.library.v1.Library/CheckoutBook", checkout).await.unwrap_err();

    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!(detail::<ResourceInfo>(&missing).resource_name, "shelves/science/books/none");
    assert!(matches!(lent.availability, Some(library::book::Availability::Loan(_))));
    assert_eq!(again.code(), Code::FailedPrecondition);
    assert_eq!(detail::<PreconditionFailure>(&again).violations[0].subject, name);
}

#[tokio::test]
async fn shows_watchers_what_is_there_and_what_changes() {
    let mut demo = Demo::start().await;
    let request = library::WatchBooksRequest { parent: "shelves/adventure".into(), max_events: 8 };

    let mut events: Streaming<library::BookEvent> = demo.watch("/portico.library.v1.Library/WatchBooks", request).await;
    for _ in 0..7 {
        let event = events.message().await.unwrap().unwrap();
        assert_eq!(event.kind(), Kind::Existing);
    }
    let _: library::Book = demo.call("/portico.library.v1.Library/CreateBook", emma()).await.unwrap();

    let event = events.message().await.unwrap().unwrap();
    assert_eq!((event.kind(), event.book.unwrap().name.as_str()), (Kind::Created, EMMA));
    assert!(events.message().await.unwrap().is_none());
}

#[tokio::test]
async fn takes_uploads_and_reports_those_that_fail() {
    let mut demo = Demo::start().await;
    let book = |title: &str| library::UploadBooksRequest {
        parent: "shelves/science".into(),
        book: Some(library::Book { title: title.into(), ..library::Book::default() }),
    };
    demo.grpc.ready().await.unwrap();

    let messages = tokio_stream::iter([book("One"), book(""), book("Two")]);
    let path = PathAndQuery::from_static("/portico.library.v1.Library/UploadBooks");
    let reply = demo.grpc.client_streaming(Request::new(messages), path, ProstCodec::default()).await.unwrap();
    let reply: library::UploadBooksResponse = reply.into_inner();

    assert_eq!(reply.names, ["shelves/science/books/one", "shelves/science/books/two"]);
    assert_eq!(reply.failures.len(), 1);
    assert_eq!(reply.failures[0].index, 1);
    assert_eq!(reply.failures[0].status.as_ref().unwrap().code, 3);
}

#[tokio::test]
async fn answers_chat_messages_one_by_one() {
    let mut demo = Demo::start().await;
    demo.grpc.ready().await.unwrap();
    let (questions, asked) = tokio::sync::mpsc::channel(1);

    let asked = tokio_stream::wrappers::ReceiverStream::new(asked);
    let path = PathAndQuery::from_static("/portico.library.v1.Library/Chat");
    questions.send(library::ChatRequest { text: "hi".into() }).await.unwrap();
    let replies = demo.grpc.streaming(Request::new(asked), path, ProstCodec::default()).await.unwrap();
    let mut replies: Streaming<library::ChatReply> = replies.into_inner();
    let greeting = replies.message().await.unwrap().unwrap();
    questions.send(library::ChatRequest { text: "anything by Newton?".into() }).await.unwrap();
    let found = replies.message().await.unwrap().unwrap();
    drop(questions);

    assert!(greeting.suggestions.is_empty());
    assert_eq!(found.suggestions.len(), 2);
    assert!(replies.message().await.unwrap().is_none());
}

#[tokio::test]
async fn draws_covers_and_takes_others() {
    let mut demo = Demo::start().await;
    let name = String::from("shelves/science/books/opticks");
    let get = library::GetCoverRequest { name: name.clone() };
    let upload = |content_type: &str| library::UploadCoverRequest {
        name: name.clone(),
        cover: Some(HttpBody { content_type: content_type.into(), data: "PNG".into(), extensions: Vec::new() }),
    };

    let drawn: HttpBody = demo.call("/portico.library.v1.Library/GetCover", get.clone()).await.unwrap();
    let script = demo.call::<_, library::Book>("/portico.library.v1.Library/UploadCover", upload("text/html")).await;
    let _: library::Book = demo.call("/portico.library.v1.Library/UploadCover", upload("image/png")).await.unwrap();
    let taken: HttpBody = demo.call("/portico.library.v1.Library/GetCover", get).await.unwrap();

    assert_eq!(drawn.content_type, "image/svg+xml");
    assert!(drawn.data.starts_with(b"<svg"));
    assert_eq!(script.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!((taken.content_type.as_str(), taken.data.as_ref()), ("image/png", &b"PNG"[..]));
}

#[tokio::test]
async fn tells_its_services_by_both_versions_of_reflection() {
    let mut demo = Demo::start().await;
    for version in ["v1", "v1alpha"] {
        let ask =
            |message_request| ServerReflectionRequest { host: String::new(), message_request: Some(message_request) };
        let questions = [
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol("portico.library.v1.Library.GetBook".into())),
            ask(MessageRequest::FileByFilename("google/api/annotations.proto".into())),
        ];
        demo.grpc.ready().await.unwrap();

        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo").parse().unwrap();
        let questions = Request::new(tokio_stream::iter(questions));
        let replies = demo.grpc.streaming(questions, path, ProstCodec::default()).await.unwrap();
        let mut replies: Streaming<ServerReflectionResponse> = replies.into_inner();

        let Some(MessageResponse::ListServicesResponse(list)) = next(&mut replies).await else { panic!() };
        let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection",
                "portico.library.v1.Library",
            ]
        );
        for _ in 0..2 {
            let file = next(&mut replies).await;
            assert!(matches!(file, Some(MessageResponse::FileDescriptorResponse(_))), "{file:?}");
        }
    }
}

async fn next(replies: &mut Streaming<ServerReflectionResponse>) -> Option<MessageResponse> {
    let reply = replies.message().await.expect("the stream goes on");
    reply.and_then(|reply| reply.message_response)
}

#[tokio::test]
async fn stops_soon_though_somebody_watches() {
    let mut demo = Demo::start().await;
    let check = HealthCheckRequest { service: "portico.library.v1.Library".into() };
    let healthy: HealthCheckResponse = demo.call("/grpc.health.v1.Health/Check", check.clone()).await.unwrap();
    assert_eq!(healthy.status(), ServingStatus::Serving);
    let mut health: Streaming<HealthCheckResponse> = demo.watch("/grpc.health.v1.Health/Watch", check).await;
    health.message().await.unwrap().unwrap();
    let all = library::WatchBooksRequest::default();
    let mut events: Streaming<library::BookEvent> = demo.watch("/portico.library.v1.Library/WatchBooks", all).await;

    demo.stop.send(()).unwrap();

    while events.message().await.unwrap().is_some() {}
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(health.message().await.unwrap().is_none());
    tokio::time::timeout(Duration::from_secs(20), demo.served).await.unwrap().unwrap().unwrap();
}
