//! References, maps, oneofs, extensions, duplicates and what is left out.

use super::*;
use crate::pb::google::api::http_rule::Pattern;
use crate::pb::google::protobuf::OneofDescriptorProto;
use crate::schema::set::compile_str;

#[test]
fn vendored_files_link_without_problems() {
    let schema = Schema::builtin();

    assert_eq!(schema.problems(), []);
    assert!(schema.message_named("google.protobuf.FieldMask").is_some());
    assert!(schema.message_named("google.api.HttpRule").is_some());
}

#[test]
fn http_annotation_is_read_with_additional_bindings() {
    let schema = compile_str(
        r#"
        syntax = "proto3";
        package t;
        import "google/api/annotations.proto";
        message M { string name = 1; }
        service S {
          rpc Get(M) returns (stream M) {
            option (google.api.http) = { get: "/v1/{name}" additional_bindings { post: "/v1:get" body: "*" } };
            option idempotency_level = NO_SIDE_EFFECTS;
          }
          rpc Plain(stream M) returns (M) { option idempotency_level = IDEMPOTENT; }
        }
        "#,
    );

    assert_eq!(schema.problems(), []);
    let [service] = schema.services() else { panic!("one service") };
    let [get, plain] = &*service.methods else { panic!("two methods") };
    assert_eq!((&*get.name, &*plain.name), ("t.S/Get", "t.S/Plain"));
    let http = get.http_rule().unwrap();
    assert_eq!(http.pattern, Some(Pattern::Get("/v1/{name}".into())));
    assert_eq!(http.additional_bindings[0].body, "*");
    assert_eq!(plain.http_rule(), None);
    assert!(get.server_streaming && !get.client_streaming && get.side_effect_free && get.idempotent);
    assert!(plain.client_streaming && !plain.server_streaming && !plain.side_effect_free && plain.idempotent);
}

#[test]
fn pieces_of_an_annotation_merge() {
    let options = |rule: &[u8]| {
        let mut options = vec![0x82, 0xd3, 0xe4, 0x93, 0x02, u8::try_from(rule.len()).unwrap()]; // 72295728, bytes
        options.extend_from_slice(rule);
        let mut method = vec![0x22, u8::try_from(options.len()).unwrap()]; // MethodDescriptorProto.options
        method.append(&mut options);
        method
    };
    let mut method = MethodDescriptorProto {
        name: Some("Get".into()),
        input_type: Some(".t.M".into()),
        output_type: Some(".t.M".into()),
        ..Default::default()
    }
    .encode_to_vec();
    method.extend(options(b"\x12\x02/a")); // get: "/a"
    method.extend(options(b"\x3a\x01*")); // body: "*"
    let mut service = vec![0x0a, 1, b'S', 0x12, u8::try_from(method.len()).unwrap()];
    service.extend(method);
    let mut bytes = file("t.proto", "t", vec![message("M", vec![])]).encode_to_vec();
    bytes.extend([0x32, u8::try_from(service.len()).unwrap()]); // FileDescriptorProto.service
    bytes.extend(service);

    let schema = Schema::from_files(vec![bytes.into()]);

    let http = schema.services()[0].methods[0].http_rule().unwrap();
    assert_eq!((http.pattern.as_ref(), &*http.body), (Some(&Pattern::Get("/a".into())), "*"));
}

#[test]
fn malformed_annotation_leaves_the_method_without_a_rule() {
    let mut method = MethodDescriptorProto {
        name: Some("Get".into()),
        input_type: Some(".t.M".into()),
        output_type: Some(".t.M".into()),
        ..Default::default()
    }
    .encode_to_vec();
    method.extend([0x22, 0x08, 0x82, 0xd3, 0xe4, 0x93, 0x02, 0x02, 0x12, 0x7f]);
    let mut service = vec![0x0a, 1, b'S', 0x12, u8::try_from(method.len()).unwrap()];
    service.extend(method);
    let mut bytes = file("t.proto", "t", vec![message("M", vec![])]).encode_to_vec();
    bytes.extend([0x32, u8::try_from(service.len()).unwrap()]);
    bytes.extend(service);

    let schema = Schema::from_files(vec![bytes.into()]);

    assert_eq!(schema.services()[0].methods[0].http_rule(), None);
    assert_eq!(problem_lines(&schema), ["t.S/Get: its google.api.http annotation is malformed"]);
}

#[test]
fn relative_names_resolve_innermost_first() {
    let mut outer = message("Outer", vec![holding("a", 1, "Inner"), holding("b", 2, "other.Inner")]);
    outer.nested_type = vec![message("Inner", vec![field("nested", 1, Type::Bool)])];
    let files = [
        file("a.proto", "x.y", vec![outer, message("Inner", vec![])]),
        file("b.proto", "x.other", vec![message("Inner", vec![])]),
    ];

    let schema = schema(&files);

    assert_eq!(schema.problems(), []);
    let name = |field: &str| match find(&schema, "x.y.Outer", field).kind {
        Kind::Message(id) => &*schema.message(id).name,
        other => panic!("{other:?}"),
    };
    assert_eq!((name("a"), name("b")), ("x.y.Outer.Inner", "x.other.Inner"));
}

#[test]
fn json_names_follow_protoc() {
    let declared = FieldDescriptorProto { json_name: Some("Sepp".into()), ..field("declared", 5, Type::Bool) };
    let names = ["foo_bar", "_lead", "trail_", "a__b", "x_1y", "UPPER_case"];
    let mut fields: Vec<_> = names.iter().zip(10..).map(|(name, number)| field(name, number, Type::Bool)).collect();
    fields.push(declared);

    let schema = schema(&[file("t.proto", "t", vec![message("M", fields)])]);

    let fields = &schema.message(schema.message_named("t.M").unwrap()).fields;
    let json: Vec<_> = fields.iter().map(|field| &*field.json_name).collect();
    assert_eq!(json, ["fooBar", "Lead", "trail", "aB", "x1y", "UPPERCase", "Sepp"]);
}

#[test]
fn synthetic_oneofs_are_dropped_and_real_ones_renumbered() {
    let member = |index, optional, field: FieldDescriptorProto| FieldDescriptorProto {
        oneof_index: Some(index),
        proto3_optional: Some(optional),
        ..field
    };
    let mut declared = message(
        "M",
        vec![
            member(0, true, field("maybe", 1, Type::Int32)),
            member(1, false, field("a", 2, Type::Int32)),
            field("plain", 3, Type::Int32),
        ],
    );
    declared.oneof_decl =
        ["_maybe", "choice"].map(|name| OneofDescriptorProto { name: Some(name.into()), options: None }).into();

    let schema = schema(&[file("t.proto", "t", vec![declared])]);

    assert_eq!(*schema.message(schema.message_named("t.M").unwrap()).oneofs, [Box::from("choice")]);
    let field = |name| find(&schema, "t.M", name);
    assert_eq!((field("maybe").cardinality, field("maybe").oneof), (Cardinality::Explicit, None));
    assert_eq!((field("a").cardinality, field("a").oneof), (Cardinality::Explicit, Some(0)));
    assert_eq!((field("plain").cardinality, field("plain").oneof), (Cardinality::Implicit, None));
}

#[test]
fn maps_groups_and_extensions_link() {
    let schema = compile_str(
        r#"
        syntax = "proto2";
        package t;
        message M {
          map<string, M> children = 1;
          optional group Part = 2 { required int32 x = 1; }
          extensions 100 to 200;
          message Scope { extend M { optional M nested_ext = 101; } }
        }
        extend M { repeated int32 top_ext = 100 [packed = true]; }
        "#,
    );

    assert_eq!(schema.problems(), []);
    let children = find(&schema, "t.M", "children");
    assert_eq!(children.cardinality, Cardinality::Map);
    assert!(schema.message(children.kind.message().unwrap()).map_entry);
    assert!(matches!(find(&schema, "t.M", "part").kind, Kind::Group(_)));
    assert_eq!(find(&schema, "t.M.Part", "x").cardinality, Cardinality::Required);
    let extensions = schema.extensions_of(schema.message_named("t.M").unwrap());
    let mut found: Vec<_> =
        extensions.iter().map(|extension| (&*extension.field.name, extension.field.number)).collect();
    found.sort_unstable();
    assert_eq!(found, [("t.M.Scope.nested_ext", 101), ("t.top_ext", 100)]);
    let packed = extensions.iter().find(|extension| extension.field.number == 100).unwrap();
    assert_eq!((packed.field.cardinality, &*packed.field.json_name), (Cardinality::Packed, "[t.top_ext]"));
}

#[test]
fn service_that_needs_a_missing_import_is_left_out_alone() {
    let mut first = with_service(
        file(
            "a.proto",
            "a",
            vec![
                message("Bad", vec![holding("x", 1, ".gone.Type")]),
                message("Holder", vec![holding("bad", 1, ".a.Bad")]),
            ],
        ),
        service("Lost", &[("Fine", ".a.Good", ".a.Good"), ("Call", ".a.Good", ".a.Holder")]),
    );
    first.message_type.push(message("Good", vec![]));
    first.service.push(service("Live", &[("Call", ".a.Good", ".a.Good")]));
    first.service.push(service("Direct", &[("Call", ".gone.Type", ".a.Good")]));
    first.dependency.push("gone.proto".into());

    let schema = schema(&[first]);

    assert_eq!(service_names(&schema), ["a.Live"]);
    assert_eq!(schema.symbol("a.Live"), Some(Symbol::Service(0)));
    assert_eq!((schema.symbol("a.Lost"), schema.symbol("a.Holder")), (None, None));
    let missing = r#"type "gone.Type" is not declared, and gone.proto, which a.proto imports, is missing"#;
    assert_eq!(
        problem_lines(&schema),
        [
            format!("message a.Bad: field x: {missing}"),
            format!("a.Lost: method Call needs message a.Bad: field x: {missing}"),
            format!("a.Direct: method Call: {missing}"),
        ]
    );
}

#[test]
fn missing_google_imports_come_from_the_vendored_files() {
    let mut with_imports = with_service(
        file("a.proto", "a", vec![message("M", vec![holding("operation", 1, ".google.longrunning.Operation")])]),
        service("S", &[("Call", ".a.M", ".google.protobuf.Empty")]),
    );
    with_imports.dependency = vec!["google/longrunning/operations.proto".into(), "google/protobuf/empty.proto".into()];

    let schema = schema(&[with_imports]);

    assert_eq!(schema.problems(), []);
    assert_eq!(service_names(&schema), ["a.S"]);
    assert!(schema.files().iter().any(|file| &*file.name == "google/protobuf/any.proto"));
}

#[test]
fn first_of_two_files_with_one_name_counts() {
    let first = file("a.proto", "a", vec![message("M", vec![field("x", 1, Type::Bool)])]);
    let second = file("a.proto", "a", vec![message("M", vec![field("y", 1, Type::Bool)])]);

    let twice = schema(&[first.clone(), first.clone()]);
    let differing = schema(&[first, second]);

    assert_eq!(twice.problems(), []);
    assert_eq!(differing.files().len(), 1);
    assert_eq!(&*find(&differing, "a.M", "x").name, "x");
    assert_eq!(
        problem_lines(&differing),
        ["file a.proto: it is there twice with different contents, the first one counts"]
    );
}

#[test]
fn same_declarations_under_two_import_paths_are_one() {
    let messages = || vec![message("M", vec![field("x", 1, Type::Bool)])];
    let files = [file("a.proto", "a", messages()), file("vendor/a.proto", "a", messages())];

    let schema = schema(&files);

    assert_eq!(schema.problems(), []);
    assert_eq!((schema.messages.len(), schema.files().len()), (1, 2));
}

#[test]
fn file_that_declares_a_name_differently_is_left_out() {
    let first = file("a.proto", "a", vec![message("M", vec![field("x", 1, Type::Bool)])]);
    let second = with_service(
        file("b.proto", "a", vec![message("Other", vec![]), message("M", vec![field("y", 1, Type::Bool)])]),
        service("S", &[("Call", ".a.M", ".a.M")]),
    );

    let schema = schema(&[first, second]);

    assert_eq!(problem_lines(&schema), ["file b.proto: a.M is declared differently elsewhere"]);
    assert_eq!((schema.symbol("a.Other"), service_names(&schema).len()), (None, 0));
    assert_eq!(schema.messages.len(), 1);
}

#[test]
fn same_extension_twice_is_one_and_a_taken_number_is_a_problem() {
    let extension = |name: &str| FieldDescriptorProto { extendee: Some(".a.M".into()), ..field(name, 100, Type::Bool) };
    let mut files =
        [file("a.proto", "a", vec![message("M", vec![])]), file("b.proto", "b", vec![]), file("c.proto", "b", vec![])];
    files[1].extension = vec![extension("one")];
    files[2].extension = vec![extension("one"), extension("two")];

    let schema = schema(&files);

    assert_eq!(schema.extensions_of(schema.message_named("a.M").unwrap()).len(), 1);
    assert_eq!(problem_lines(&schema), ["extension b.two: b.one has its number"]);
}

#[test]
fn recursive_types_link() {
    let schema = schema(&[file(
        "a.proto",
        "a",
        vec![message("A", vec![holding("b", 1, "B")]), message("B", vec![holding("a", 1, "A")])],
    )]);

    assert_eq!(schema.problems(), []);
    assert_eq!(find(&schema, "a.A", "b").kind.message(), schema.message_named("a.B"));
}
