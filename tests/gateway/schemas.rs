//! Where an upstream's schema can come from, and what becomes of one that is not whole.

use std::fmt::Write as _;
use std::path::Path;

use http::{Method, StatusCode};
use portico::pb::google::protobuf as descriptor;
use portico::pb::grpc::reflection::v1::server_reflection_request::MessageRequest;
use portico::pb::grpc::reflection::v1::server_reflection_response::MessageResponse;
use portico::pb::grpc::reflection::v1::{ServerReflectionRequest, ServerReflectionResponse};
use portico::snapshot::{Notice, NoticeKind};
use prost::Message;
use tempfile::TempDir;
use tonic::Request;

use crate::support::backend::scripted::{self, Scripted};
use crate::support::backend::{self, Options, Reflection, act, pb};
use crate::support::client::{Client, Version};
use crate::support::gateway::{TestGateway, upstream};
use crate::support::process::Portico;

/// The message of the schemas below.
#[derive(Clone, PartialEq, Message)]
struct Item {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, tag = "2")]
    count: i64,
}

fn item(name: &str, count: i64) -> Item {
    Item { name: name.into(), count }
}

/// A folder with those files.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder can be made");
    for (name, content) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("a folder can be made");
        std::fs::write(path, content).expect("a file can be written");
    }
    folder
}

/// `.proto` files with all their imports as an encoded `FileDescriptorSet`.
fn compiled(folder: &Path, files: &[&str]) -> Vec<u8> {
    let vendored = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut compiler = protox::Compiler::new([folder, &vendored]).expect("the folders are there");
    compiler.include_imports(true).open_files(files).expect("the files are right").encode_file_descriptor_set()
}

/// A gateway before an upstream whose schema is said in YAML.
async fn gateway(upstream: &Scripted, schema: &str) -> TestGateway {
    let yaml = format!("upstreams: [ {{ name: shop, endpoints: [\"{}\"], schema: {schema} }} ]\n", upstream.address);
    let gateway = TestGateway::start(&yaml).await;
    gateway.ready().await;
    gateway
}

fn notices(gateway: &TestGateway) -> Vec<Notice> {
    gateway.inner().snapshot().notices.clone()
}

const SHOP: &str = r#"
syntax = "proto3";
package shop.v1;
import "google/api/annotations.proto";
import "common/item.proto";
service Shop {
  rpc Get(common.Item) returns (common.Item) { option (google.api.http) = {get: "/v1/{name=items/*}"}; }
}
"#;

const ITEM: &str = r#"
syntax = "proto3";
package common;
message Item { string name = 1; int64 count = 2; }
"#;

#[tokio::test]
async fn a_descriptor_set_in_a_file_is_enough() {
    let backend = backend::start_with(Options { reflection: Reflection::None, ..Options::default() }).await;
    let files = folder(&[("echo.binpb", pb::ECHO_SET)]);
    let yaml = format!(
        "upstreams: [ {{ name: echo, endpoints: [\"{}\"], schema: {{ descriptor_set: {:?} }} }} ]\n",
        backend.address,
        files.path().join("echo.binpb")
    );

    // Needs no waiting: files are read before the listeners open.
    let gateway = TestGateway::start(&yaml).await;

    assert_eq!(gateway.client(Version::Http1).await.get("/test/v1/say/hello").await.json()["text"], "hello");
}

#[tokio::test]
async fn proto_files_find_their_imports_in_the_include_folders_and_the_vendored_ones_by_themselves() {
    let backend = scripted::start(vec![act::reply(&item("items/7", 3))]).await;
    let files = folder(&[("api/shop.proto", SHOP.as_bytes()), ("deps/common/item.proto", ITEM.as_bytes())]);
    let path = |name: &str| files.path().join(name).display().to_string();
    let schema =
        format!("{{ proto: [{:?}], include: [{:?}, {:?}] }}", path("api/shop.proto"), path("api"), path("deps"));

    let gateway = gateway(&backend, &schema).await;
    let reply = gateway.client(Version::Http2).await.get("/v1/items/7").await;

    assert_eq!(reply.json(), serde_json::json!({ "name": "items/7", "count": "3" }));
    let calls = backend.calls();
    assert_eq!((calls[0].seen.path.as_str(), &calls[0].body[5..]), ("/shop.v1.Shop/Get", &b"\n\x07items/7"[..]));
}

/// What a compiler with editions would make of
/// `edition = "2023"; message Tree { int32 size = 1 [implicit]; Tree left = 2 [delimited]; string note = 3; }`.
fn editions_set() -> Vec<u8> {
    use descriptor::feature_set::{FieldPresence, MessageEncoding};
    use descriptor::field_descriptor_proto::{Label, Type};
    let field = |name: &str, number, kind: Type, features: descriptor::FeatureSet| descriptor::FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(kind.into()),
        type_name: (kind == Type::Message).then(|| ".garden.Tree".into()),
        options: Some(descriptor::FieldOptions { features: Some(features), ..Default::default() }),
        ..Default::default()
    };
    let implicit =
        descriptor::FeatureSet { field_presence: Some(FieldPresence::Implicit.into()), ..Default::default() };
    let delimited =
        descriptor::FeatureSet { message_encoding: Some(MessageEncoding::Delimited.into()), ..Default::default() };
    let tree = descriptor::DescriptorProto {
        name: Some("Tree".into()),
        field: vec![
            field("size", 1, Type::Int32, implicit),
            field("left", 2, Type::Message, delimited),
            field("note", 3, Type::String, descriptor::FeatureSet::default()),
        ],
        ..Default::default()
    };
    let grow = descriptor::MethodDescriptorProto {
        name: Some("Grow".into()),
        input_type: Some(".garden.Tree".into()),
        output_type: Some(".garden.Tree".into()),
        ..Default::default()
    };
    let file = descriptor::FileDescriptorProto {
        name: Some("garden.proto".into()),
        package: Some("garden".into()),
        syntax: Some("editions".into()),
        edition: Some(descriptor::Edition::Edition2023.into()),
        message_type: vec![tree],
        service: vec![descriptor::ServiceDescriptorProto {
            name: Some("Garden".into()),
            method: vec![grow],
            ..Default::default()
        }],
        ..Default::default()
    };
    descriptor::FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

#[tokio::test]
async fn editions_are_served_by_rest_and_told_by_reflection() {
    let backend = scripted::start(vec![act::raw_body(b"\0\0\0\0\x06\x13\x08\x05\x14\x1a\0")]).await;
    let set = editions_set();
    let files = folder(&[("garden.binpb", &set)]);
    let schema = format!("{{ descriptor_set: {:?} }}", files.path().join("garden.binpb"));
    let gateway = gateway(&backend, &schema).await;
    let mut client = gateway.client(Version::Http1).await;

    let body = r#"{"size": 0, "left": {"size": 5}, "note": ""}"#;
    let reply = client.json(Method::POST, "/garden.Garden/Grow", body).await;
    let told = ask(&gateway, MessageRequest::FileContainingSymbol("garden.Garden".into())).await;

    // `size` has no presence, `left` is a group on the wire, `note` has presence though it is empty.
    assert_eq!(reply.json(), serde_json::json!({ "left": { "size": 5 }, "note": "" }));
    assert_eq!(&backend.calls()[0].body, b"\0\0\0\0\x06\x13\x08\x05\x14\x1a\0");
    let Some(MessageResponse::FileDescriptorResponse(files)) = told else { panic!("{told:?}") };
    let original = descriptor::FileDescriptorSet::decode(&*set).unwrap().file[0].encode_to_vec();
    assert_eq!(files.file_descriptor_proto, [original]);
}

/// Asks the gateway's own reflection.
async fn ask(gateway: &TestGateway, question: MessageRequest) -> Option<MessageResponse> {
    let endpoint =
        tonic::transport::Endpoint::from_shared(format!("http://{}", gateway.address)).expect("a good address");
    let mut grpc = tonic::client::Grpc::new(endpoint.connect().await.expect("the gateway listens"));
    grpc.ready().await.expect("the connection stands");
    let question = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let path = http::uri::PathAndQuery::from_static("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
    let codec: tonic_prost::ProstCodec<_, ServerReflectionResponse> = tonic_prost::ProstCodec::default();
    let replies = grpc.streaming(Request::new(tokio_stream::once(question)), path, codec).await;
    replies.expect("it answers").into_inner().message().await.expect("it answers")?.message_response
}

#[tokio::test]
async fn two_upstreams_may_have_different_versions_of_one_type() {
    let backends = [
        scripted::start(vec![act::reply(&item("old", 0))]).await,
        scripted::start(vec![act::reply(&item("new", 9))]).await,
    ];
    let service = |name: &str| {
        format!(
            "syntax = \"proto3\"; package {name}; import \"common/item.proto\"; \
             service Shop {{ rpc Get(common.Item) returns (common.Item); }}"
        )
    };
    let old = "syntax = \"proto3\"; package common; message Item { string name = 1; }";
    let files = folder(&[
        ("a/shop.proto", service("a").as_bytes()),
        ("a/common/item.proto", old.as_bytes()),
        ("b/shop.proto", service("b").as_bytes()),
        ("b/common/item.proto", ITEM.as_bytes()),
    ]);
    let mut yaml = String::from("upstreams:\n");
    for (name, backend) in ["a", "b"].iter().zip(&backends) {
        let file = files.path().join(name).join("shop.proto");
        writeln!(yaml, "  - {{ name: {name}, endpoints: [\"{}\"], schema: {{ proto: [{file:?}] }} }}", backend.address)
            .unwrap();
    }
    let gateway = TestGateway::start(&yaml).await;
    let mut client = gateway.client(Version::Http1).await;

    let old = client.json(Method::POST, "/a.Shop/Get", r#"{"name": "x"}"#).await;
    let too_new = client.json(Method::POST, "/a.Shop/Get", r#"{"name": "x", "count": 1}"#).await;
    let new = client.json(Method::POST, "/b.Shop/Get", r#"{"name": "x", "count": 1}"#).await;

    assert_eq!(old.json(), serde_json::json!({ "name": "old" }));
    assert_eq!((too_new.status, too_new.reason().as_str()), (StatusCode::BAD_REQUEST, "INVALID_REQUEST"));
    assert_eq!(new.json(), serde_json::json!({ "name": "new", "count": "9" }));
    assert_eq!(notices(&gateway), []);
}

#[tokio::test]
async fn a_service_of_two_upstreams_belongs_to_the_first_unless_services_says_otherwise() {
    let (first, second) = (backend::start().await, backend::start().await);
    let yaml = |services: &str| {
        format!(
            "upstreams:\n  - {{ name: first, endpoints: [\"{}\"], schema: {{ reflection: {{}} }} }}\n  \
             - {{ name: second, endpoints: [\"{}\"], schema: {{ reflection: {{}} }}{services} }}\n",
            first.address, second.address
        )
    };
    let call = async |gateway: &TestGateway| {
        gateway.ready().await;
        let reply = gateway.client(Version::Http1).await.get("/test/v1/say/a").await;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    };

    let undecided = TestGateway::start(&yaml("")).await;
    call(&undecided).await;
    assert_eq!((first.tally.counts().started, second.tally.counts().started), (1, 0));
    let conflicts = notices(&undecided);
    assert_eq!((conflicts.len(), conflicts[0].kind, &*conflicts[0].upstream), (1, NoticeKind::Conflict, "second"));
    assert!(conflicts[0].text.contains("portico.test.v1.Echo") && conflicts[0].text.contains("first"), "{conflicts:?}");

    let decided = TestGateway::start(&yaml(", services: [\"portico.test.v1.*\"]")).await;
    call(&decided).await;
    assert_eq!((first.tally.counts().started, second.tally.counts().started), (1, 1));
    assert_eq!(notices(&decided), []);
}

#[tokio::test]
async fn a_broken_service_is_left_out_and_the_others_live() {
    let backend = scripted::start(vec![act::reply(&item("items/1", 1))]).await;
    let files = folder(&[("shop.proto", SHOP.as_bytes()), ("common/item.proto", ITEM.as_bytes())]);
    let mut set = descriptor::FileDescriptorSet::decode(&*compiled(files.path(), &["shop.proto"])).unwrap();
    set.file.push(descriptor::FileDescriptorProto {
        name: Some("broken.proto".into()),
        package: Some("broken".into()),
        syntax: Some("proto3".into()),
        dependency: vec!["common/item.proto".into()],
        service: vec![descriptor::ServiceDescriptorProto {
            name: Some("Broken".into()),
            method: vec![descriptor::MethodDescriptorProto {
                name: Some("Get".into()),
                input_type: Some(".common.Missing".into()),
                output_type: Some(".common.Item".into()),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    });
    std::fs::write(files.path().join("set.binpb"), set.encode_to_vec()).unwrap();

    let schema = format!("{{ descriptor_set: {:?} }}", files.path().join("set.binpb"));
    let gateway = gateway(&backend, &schema).await;
    let mut client = gateway.client(Version::Http1).await;

    assert_eq!(client.json(Method::POST, "/shop.v1.Shop/Get", "{}").await.json()["name"], "items/1");
    assert_eq!(client.json(Method::POST, "/broken.Broken/Get", "{}").await.status, StatusCode::NOT_FOUND);
    let left_out = notices(&gateway);
    assert_eq!((left_out.len(), left_out[0].kind), (1, NoticeKind::LeftOut), "{left_out:?}");
    assert!(left_out[0].text.contains("broken.Broken") && left_out[0].text.contains("common.Missing"), "{left_out:?}");
}

#[tokio::test]
async fn reflection_of_v1alpha_alone_is_understood() {
    for reflection in [Reflection::V1alpha, Reflection::V1] {
        let backend = backend::start_with(Options { reflection, ..Options::default() }).await;
        let gateway = TestGateway::over(backend.address).await;

        let reply = gateway.client(Version::Http1).await.get("/test/v1/say/hello").await;

        assert_eq!(reply.json()["text"], "hello", "{reflection:?}");
    }
}

#[tokio::test]
async fn messages_that_operations_hold_come_by_reflection_although_no_file_imports_them() {
    let service = r#"
syntax = "proto3";
package op.v1;
import "google/longrunning/operations.proto";
message Request {}
service Press {
  rpc Print(Request) returns (google.longrunning.Operation) {
    option (google.longrunning.operation_info) = { response_type: "Printed" metadata_type: "op.progress.Progress" };
  }
}
"#;
    let printed = "syntax = \"proto3\"; package op.v1; import \"op/size.proto\"; message Printed { Size size = 1; }";
    let size = "syntax = \"proto3\"; package op.v1; message Size { int32 pages = 1; }";
    let progress = "syntax = \"proto3\"; package op.progress; message Progress { int32 percent = 1; } message Alone {}";
    let folder = folder(&[
        ("op/press.proto", service.as_bytes()),
        ("op/printed.proto", printed.as_bytes()),
        ("op/size.proto", size.as_bytes()),
        ("op/progress.proto", progress.as_bytes()),
    ]);
    let files = ["portico/test/v1/echo.proto", "op/press.proto", "op/printed.proto", "op/progress.proto"];
    let descriptors = compiled(folder.path(), &files);
    let backend = backend::start_with(Options { descriptors, ..Options::default() }).await;
    let gateway = TestGateway::over(backend.address).await;

    let mut client = gateway.client(Version::Http2).await;
    for any in [
        serde_json::json!({"@type": "type.googleapis.com/op.v1.Printed", "size": {"pages": 3}}),
        serde_json::json!({"@type": "type.googleapis.com/op.progress.Progress", "percent": 5}),
    ] {
        let body = serde_json::json!({ "any": any });
        let reply = client.json(Method::POST, "/test/v1/identity", &body.to_string()).await;

        assert_eq!((reply.status, reply.json()), (StatusCode::OK, body));
    }
}

#[tokio::test]
async fn five_thousand_methods_come_by_reflection() {
    let mut files = vec![(String::from("common/item.proto"), ITEM.to_owned())];
    for number in 0..10 {
        let mut text = format!(
            "syntax = \"proto3\"; package big.v{number}; import \"google/api/annotations.proto\"; \
             import \"common/item.proto\";\n"
        );
        for service in 0..10 {
            writeln!(text, "service S{service} {{").unwrap();
            for method in 0..50 {
                let path = format!("/v{number}/s{service}/m{method}/{{name=items/*}}");
                let rule = format!("{{ option (google.api.http) = {{ get: \"{path}\" }}; }}");
                writeln!(text, "rpc M{method}(common.Item) returns (common.Item) {rule}").unwrap();
            }
            text.push_str("}\n");
        }
        files.push((format!("big{number}.proto"), text));
    }
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).filter(|name| name.starts_with("big")).collect();
    let folder = folder(&files);
    let descriptors = compiled(folder.path(), &names);
    let backend = backend::start_with(Options { descriptors, ..Options::default() }).await;

    let gateway = TestGateway::start(&upstream("big", backend.address)).await;
    gateway.ready().await;

    assert_eq!(gateway.inner().snapshot().methods.len(), 5000);
    let mut client: Client = gateway.client(Version::Http2).await;
    // The backend does not have it, and is asked.
    let reply = client.get("/v9/s9/m49/items/1").await;
    assert_eq!((reply.status, reply.reason().as_str()), (StatusCode::NOT_IMPLEMENTED, ""), "{reply:?}");
}

#[tokio::test]
async fn a_pattern_that_matches_nothing_is_told_once_whatever_else_changes() {
    let config = "
listeners: [{ address: \"127.0.0.1:0\" }]
admin: off
reload: { watch: false }
upstreams: [{ name: shop, endpoints: [\"127.0.0.1:1\"], schema: { proto: [item.proto] } }]
policies: [{ match: shop.v1.Shop/Puut }]
";
    let files = folder(&[("item.proto", ITEM.as_bytes()), ("portico.yaml", config.as_bytes())]);
    let path = files.path().join("portico.yaml");
    let mut portico = Portico::start(&["run", "--config", path.to_str().expect("a path")]);
    portico.said("portico listens on").await;

    for (name, text) in [
        ("item.proto", ITEM.replace("int64 count = 2;", "int64 count = 2; string more = 3;")),
        ("portico.yaml", config.replace("Puut", "Gett")),
        ("portico.yaml", config.to_owned()),
    ] {
        std::fs::write(files.path().join(name), text).expect("a file can be written");
        portico.signal("-HUP").await;
        portico.line("configuration reloaded").await;
    }

    let told = |words: &str| portico.seen.iter().filter(|line| line.contains(words)).count();
    assert_eq!(told("schema has changed"), 1, "{:?}", portico.seen);
    // At the start, and once more since it was another in between.
    assert_eq!(told("`shop.v1.Shop/Puut` matches no method"), 2, "{:?}", portico.seen);
    assert_eq!(told("`shop.v1.Shop/Gett` matches no method"), 1, "{:?}", portico.seen);
}
