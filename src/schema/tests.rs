//! Whole schemas from hand-made files, and prost-reflect as the oracle.

use super::set::compile_str;
use super::*;

#[test]
fn vendored_files_link_without_problems() {
    let schema = Schema::builtin();

    assert_eq!(schema.problems(), []);
    assert!(schema.message_named("google.protobuf.FieldMask").is_some());
    assert!(schema.message_named("google.api.HttpRule").is_some());
}

#[test]
fn http_annotation_is_read() {
    let schema = compile_str(
        r#"
        syntax = "proto3";
        package t;
        import "google/api/annotations.proto";
        message M { string name = 1; }
        service S { rpc Get(M) returns (M) { option (google.api.http) = { get: "/v1/{name}" }; } }
        "#,
    );

    assert_eq!(schema.problems(), []);
    let [service] = schema.services() else { panic!("one service") };
    assert_eq!(&*service.methods[0].name, "t.S/Get");
    assert!(service.methods[0].http.is_some());
}
