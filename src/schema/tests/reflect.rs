//! What clients of the gateway's reflection are told.

use super::*;
use crate::pb;
use crate::pb::grpc::reflection::v1::server_reflection_request::MessageRequest;
use crate::pb::grpc::reflection::v1::server_reflection_response::MessageResponse;
use crate::pb::grpc::reflection::v1::{ExtensionRequest, ServerReflectionRequest};
use crate::schema::reflect::Index;
use crate::schema::set::{compile_str, outline};

fn ask(index: &Index, request: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: "h".into(), message_request: Some(request) };
    let response = index.answer(request.clone());
    assert_eq!((response.valid_host.as_str(), response.original_request), ("h", Some(request)));
    response.message_response.unwrap()
}

fn files(response: MessageResponse) -> Vec<Vec<u8>> {
    match response {
        MessageResponse::FileDescriptorResponse(files) => files.file_descriptor_proto,
        other => panic!("{other:?}"),
    }
}

fn names(response: MessageResponse) -> Vec<String> {
    files(response).iter().map(|file| outline(file).unwrap().name.to_owned()).collect()
}

fn is_not_found(response: &MessageResponse) -> bool {
    matches!(response, MessageResponse::ErrorResponse(error) if error.error_code == 5)
}

fn symbol(name: &str) -> MessageRequest {
    MessageRequest::FileContainingSymbol(name.into())
}

fn demo() -> Index {
    let schema = Arc::new(Schema::from_set(pb::DEMO_SET).unwrap());
    let served =
        service_names(&schema).into_iter().filter(|name| name.starts_with("portico.")).map(Arc::from).collect();
    Index::new(&[(schema, served)])
}

#[test]
fn services_are_listed_sorted_with_the_own_ones() {
    let MessageResponse::ListServicesResponse(list) = ask(&demo(), MessageRequest::ListServices(String::new())) else {
        panic!("a list")
    };

    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(names.is_sorted());
    assert!(names.contains(&"grpc.health.v1.Health".to_owned()));
    assert!(names.iter().any(|name| name.starts_with("portico.library.v1.")));
}

#[test]
fn requested_file_comes_first_with_its_imports_as_they_were_sent() {
    let schema = Schema::builtin();
    let index = Index::new(&[(Arc::clone(&schema), vec![])]);
    let original = schema.files().iter().find(|file| &*file.name == "google/api/annotations.proto").unwrap();

    let sent = files(ask(&index, MessageRequest::FileByFilename(original.name.to_string())));

    assert_eq!(sent[0], original.bytes);
    let names: Vec<_> = sent.iter().map(|file| outline(file).unwrap().name.to_owned()).collect();
    let expected = ["google/api/annotations.proto", "google/api/http.proto", "google/protobuf/descriptor.proto"];
    assert_eq!(names, expected);
}

#[test]
fn every_kind_of_symbol_is_found() {
    let schema = compile_str(
        r#"
        syntax = "proto2";
        package t;
        enum Top { TOP_VALUE = 0; }
        message M {
          optional int32 number = 1;
          oneof choice { bool a = 2; }
          enum Inner { INNER_VALUE = 0; }
          message Nested { optional int32 deep = 1; }
          extensions 100 to 200;
          extend M { optional int32 inner_ext = 101; }
        }
        extend M { optional int32 top_ext = 100; }
        service S { rpc Get(M) returns (M); }
        "#,
    );
    let index = Index::new(&[(Arc::new(schema), vec!["t.S".into()])]);

    let known = "t.Top t.TOP_VALUE t.M t.M.number t.M.choice t.M.a t.M.Inner t.M.INNER_VALUE t.M.Nested \
                 t.M.Nested.deep t.M.inner_ext t.top_ext t.S t.S.Get .t.M";
    for name in known.split_whitespace() {
        assert_eq!(names(ask(&index, symbol(name))), ["test.proto"], "{name}");
    }
    for name in [
        "t",
        "t.",
        "",
        "t.Gone",
        "t.M.gone",
        "t.S.Gone",
        "t.S.Get.x",
        "t.Top.TOP_VALUE",
        "M",
        "t.M.Nested.",
        &"x".repeat(9999),
    ] {
        assert!(is_not_found(&ask(&index, symbol(name))), "{name}");
    }
}

#[test]
fn extensions_are_found_by_number() {
    let schema = compile_str(
        r#"syntax = "proto2"; package t; message M { extensions 100 to 200; }
           extend M { optional int32 b = 102; optional int32 a = 101; }"#,
    );
    let index = Index::new(&[(Arc::new(schema), vec![])]);
    let extension = |number| {
        let request = ExtensionRequest { containing_type: "t.M".into(), extension_number: number };
        ask(&index, MessageRequest::FileContainingExtension(request))
    };

    assert_eq!(names(extension(101)), ["test.proto"]);
    assert!(is_not_found(&extension(103)) && is_not_found(&extension(-1)));
    let numbers = ask(&index, MessageRequest::AllExtensionNumbersOfType("t.M".into()));
    assert!(matches!(numbers, MessageResponse::AllExtensionNumbersResponse(all) if all.extension_number == [101, 102]));
    assert!(is_not_found(&ask(&index, MessageRequest::AllExtensionNumbersOfType("t.Gone".into()))));
}

#[test]
fn upstream_that_serves_the_service_decides_the_version_of_its_files() {
    let version = |field_name: &str, own: &str| {
        let shared = file("shared.proto", "shared", vec![message("M", vec![field(field_name, 1, Type::Bool)])]);
        let mut api = with_service(file("api.proto", "api", vec![message(own, vec![])]), service("S", &[]));
        api.dependency.push("shared.proto".into());
        (shared.encode_to_vec(), Arc::new(schema(&[shared, api])))
    };
    let (old, first) = version("old", "One");
    let (new, second) = version("new", "Two");
    let index = Index::new(&[(first, vec![]), (second, vec!["api.S".into()])]);

    assert_eq!(files(ask(&index, symbol("api.S")))[1], new);
    assert_eq!(files(ask(&index, symbol("api.Two")))[1], new);
    assert_eq!(files(ask(&index, symbol("api.One")))[1], old);
    assert_eq!(files(ask(&index, symbol("shared.M")))[0], old);
}

#[test]
fn own_services_are_answered_without_any_upstream() {
    let index = Index::new(&[]);

    for name in ["grpc.health.v1.Health.Check", "grpc.reflection.v1alpha.ServerReflection"] {
        assert_eq!(names(ask(&index, symbol(name))).len(), 1, "{name}");
    }
    assert!(is_not_found(&ask(&index, MessageRequest::FileByFilename("gone.proto".into()))));
    let empty = index.answer(ServerReflectionRequest::default()).message_response;
    assert!(matches!(empty, Some(MessageResponse::ErrorResponse(error)) if error.error_code == 3));
}

#[test]
fn answers_stay_below_what_clients_accept() {
    let big = |name: &str, imports: &[&str]| FileDescriptorProto {
        dependency: imports.iter().map(|&import| import.into()).collect(),
        options: Some(pb::google::protobuf::FileOptions {
            go_package: Some("x".repeat(2 << 20)),
            ..Default::default()
        }),
        ..file(name, name.trim_end_matches(".proto"), vec![])
    };
    let schema = Arc::new(schema(&[big("a.proto", &["b.proto", "c.proto"]), big("b.proto", &[]), big("c.proto", &[])]));
    let index = Index::new(&[(schema, vec![])]);

    assert_eq!(names(ask(&index, MessageRequest::FileByFilename("a.proto".into()))), ["a.proto"]);
}
