//! Descriptors that no compiler wrote.

use proptest::prelude::*;

use super::*;
use crate::pb;
use crate::pb::google::protobuf::{EnumDescriptorProto, MessageOptions};
use crate::schema::set::{SetError, compile_str};

fn reasons(messages: Vec<DescriptorProto>) -> Vec<String> {
    problem_lines(&schema(&[file("t.proto", "t", messages)]))
}

#[test]
fn set_cut_at_any_byte_does_not_panic() {
    let whole = compile_str(
        r#"
        syntax = "proto2";
        package t;
        import "google/api/annotations.proto";
        enum E { A = 0; B = -1; }
        message M { map<int32, E> map = 1; oneof o { string s = 2; group G = 3 {} } extensions 10; }
        extend M { optional M ext = 10; }
        service S { rpc Get(M) returns (M) { option (google.api.http) = { get: "/{s}" }; } }
        "#,
    );
    let bytes = whole.files().iter().find(|file| &*file.name == "test.proto").unwrap().bytes.clone();

    for end in 0..bytes.len() {
        let _schema = Schema::from_files(vec![bytes.slice(..end)]);
        let mut flipped = bytes.to_vec();
        for value in [0, 0x7f, 0xff] {
            flipped[end] = value;
            let _schema = Schema::from_files(vec![Bytes::from(flipped.clone())]);
        }
    }
}

#[test]
fn set_must_be_a_set() {
    assert_eq!(Schema::from_set(b"").unwrap_err(), SetError::Empty);
    assert_eq!(Schema::from_set(b"{}").unwrap_err(), SetError::Malformed { position: 0 });
    assert_eq!(Schema::from_set(b"\x12\x00").unwrap_err(), SetError::Empty);
    assert_eq!(Schema::from_set(b"\x0a\x02hi").unwrap_err(), SetError::NotAFile { entry: 1 });
    let cut = &pb::VENDORED_SET[..pb::VENDORED_SET.len() - 1];
    assert!(matches!(Schema::from_set(cut), Err(SetError::Malformed { position: 1.. })));
}

#[test]
fn bad_fields_break_their_message() {
    let entry = DescriptorProto {
        options: Some(MessageOptions { map_entry: Some(true), ..Default::default() }),
        ..message("Entry", vec![field("key", 1, Type::Float), field("value", 2, Type::Bool)])
    };

    let reasons = reasons(vec![
        message("Zero", vec![field("x", 0, Type::Bool)]),
        message("Huge", vec![field("x", 1 << 29, Type::Bool)]),
        message("SameNumber", vec![field("x", 1, Type::Bool), field("y", 1, Type::Bool)]),
        message("SameName", vec![field("x", 1, Type::Bool), field("x", 2, Type::Bool)]),
        message("NoName", vec![field("a b", 1, Type::Bool)]),
        message("NoOneof", vec![FieldDescriptorProto { oneof_index: Some(-1), ..field("x", 1, Type::Bool) }]),
        message("NoType", vec![FieldDescriptorProto { r#type: Some(99), ..field("x", 1, Type::Bool) }]),
        message(
            "NotAnEnum",
            vec![FieldDescriptorProto { type_name: Some("Zero".into()), ..field("x", 1, Type::Enum) }],
        ),
        message("Lone", vec![holding("x", 1, "Entry")]),
        entry,
    ]);

    assert_eq!(
        reasons,
        [
            "message t.Zero: 0 is not a field number",
            "message t.Huge: 536870912 is not a field number",
            "message t.SameNumber: fields x and y share number 1",
            "message t.SameName: two fields are named x",
            r#"message t.NoName: field "a b" is not a name"#,
            "message t.NoOneof: field x: its oneof does not exist",
            "message t.NoType: field x: its type is not known",
            r#"message t.NotAnEnum: field x: "Zero" is another kind of type"#,
            "message t.Lone: field x: a map entry stands by itself",
            "message t.Entry: a map entry has a key and a value only",
        ]
    );
}

#[test]
fn names_that_are_none_leave_their_file_out() {
    assert_eq!(reasons(vec![message("A\nB", vec![])]), [r#"file t.proto: it declares "A\nB", which is not a name"#]);
    assert_eq!(reasons(vec![message("", vec![])]), [r#"file t.proto: it declares "", which is not a name"#]);
    assert_eq!(
        problem_lines(&schema(&[file("t.proto", "a..b", vec![])])),
        [r#"file t.proto: its package "a..b" is not a name"#]
    );
    let long = "x".repeat(600);
    assert_eq!(reasons(vec![message(&long, vec![])]).len(), 1);
    let empty = FileDescriptorProto {
        enum_type: vec![EnumDescriptorProto { name: Some("E".into()), ..Default::default() }],
        ..file("t.proto", "t", vec![])
    };
    assert_eq!(problem_lines(&schema(&[empty])), ["file t.proto: enum t.E has no values"]);
}

#[test]
fn messages_nested_without_end_are_refused() {
    let mut nested = message("M", vec![]);
    for _ in 0..50 {
        nested = DescriptorProto { nested_type: vec![nested], ..message("M", vec![]) };
    }

    assert_eq!(reasons(vec![nested]), ["file t.proto: messages nest more than 32 deep in it"]);
}

#[test]
fn too_many_types_leave_the_rest_out() {
    let many = |name: &str, package: &str| {
        let messages = (0..100_000).map(|index| message(&format!("M{index}"), vec![])).collect();
        file(name, package, messages)
    };

    let schema = schema(&[many("a.proto", "a"), many("b.proto", "b"), many("c.proto", "c")]);

    assert_eq!(problem_lines(&schema), ["file c.proto: there are more than 250000 types"]);
    assert_eq!(schema.messages.len(), 200_000);
}

#[test]
fn empty_members_without_end_are_refused() {
    for member in [0x1a, 0x22, 0x2a, 0x32, 0x3a] {
        let mut bytes = b"\n\x01f".to_vec();
        bytes.extend([member, 0].repeat(1 << 18));

        let schema = Schema::from_files(vec![bytes.into()]);

        assert_eq!(problem_lines(&schema), ["file number 1: its descriptor is malformed"]);
    }
}

#[test]
fn a_hostile_set_cannot_fill_the_log() {
    let broken = (0..5_000).map(|index| message(&format!("M{index}"), vec![holding("x", 1, "Gone")])).collect();

    assert_eq!(reasons(broken).len(), 1_000);
}

proptest! {
    #[test]
    fn random_bytes_do_not_panic(files in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..4)) {
        let _schema = Schema::from_files(files.into_iter().map(Bytes::from).collect());
    }

    #[test]
    fn random_damage_to_real_files_does_not_panic(at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let mut set = pb::DEMO_SET.to_vec();
        let at = at.index(set.len());
        set[at] = value;
        if let Ok(schema) = Schema::from_set(&set) {
            for service in schema.services() {
                prop_assert!(service.methods.iter().all(|method| schema.messages.len() > method.input.0 as usize));
            }
        }
    }
}
