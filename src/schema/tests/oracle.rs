//! The same files read by prost-reflect must mean the same.

use prost_reflect::{Cardinality as TheirCardinality, DescriptorPool, FieldDescriptor, Kind as TheirKind};

use super::*;
use crate::pb;
use crate::schema::set::compile_str;

#[test]
fn vendored_files_mean_what_prost_reflect_says() {
    assert_same(pb::VENDORED_SET);
}

#[test]
fn demo_files_mean_what_prost_reflect_says() {
    assert_same(pb::DEMO_SET);
}

#[test]
fn proto2_means_what_prost_reflect_says() {
    let source = r#"
        syntax = "proto2";
        package t;
        enum E { B = 1; A = 0; }
        message M {
          required int32 a = 1;
          optional string some_string = 2 [json_name = "other"];
          repeated sint64 c = 3 [packed = true];
          repeated E d = 4;
          optional group Gg = 5 { optional bytes b = 1; }
          oneof choice { M m = 6; double x = 7; }
          map<fixed32, M> map = 8;
          message Inner { repeated Inner inner = 1; }
          optional Inner inner = 9;
        }
        service S { rpc Call(M) returns (stream M.Inner); }
        "#;
    let set = compile_str(source);
    let mut encoded = Vec::new();
    for file in set.files() {
        prost::encoding::bytes::encode(1, &file.bytes, &mut encoded);
    }

    assert_same(&encoded);
}

fn assert_same(set: &[u8]) {
    let ours = Schema::from_set(set).unwrap();
    let theirs = DescriptorPool::decode(set).unwrap();
    assert_eq!(ours.problems(), []);

    assert_eq!(ours.messages.len(), theirs.all_messages().count());
    for message in theirs.all_messages() {
        let our = ours.message(ours.message_named(message.full_name()).expect("same messages"));
        assert_eq!(our.map_entry, message.is_map_entry());
        let real: Vec<_> = message.oneofs().filter(|oneof| !oneof.is_synthetic()).collect();
        assert_eq!(
            our.oneofs.iter().map(|name| &**name).collect::<Vec<_>>(),
            real.iter().map(|oneof| oneof.name()).collect::<Vec<_>>()
        );
        assert_eq!(our.fields.len(), message.fields().len());
        for field in &our.fields {
            let their = message.get_field(field.number).expect("same number");
            assert_same_field(&ours, field, &their);
        }
    }
    assert_eq!(ours.enums.len(), theirs.all_enums().count());
    for their in theirs.all_enums() {
        let our = ours.enums.iter().find(|our| *our.name == *their.full_name()).expect("same enums");
        let mut values: Vec<_> = their.values().map(|value| (Arc::from(value.name()), value.number())).collect();
        let mut ours = our.values.to_vec();
        values.sort_unstable();
        ours.sort_unstable();
        assert_eq!(ours, values);
    }
    assert_eq!(ours.extensions.values().map(Vec::len).sum::<usize>(), theirs.all_extensions().count());
    for (our, their) in ours.services().iter().zip(theirs.services()) {
        assert_eq!(&*our.name, their.full_name());
        for (our, their) in our.methods.iter().zip(their.methods()) {
            assert_eq!(&*our.name, format!("{}/{}", their.parent_service().full_name(), their.name()));
            assert_eq!(&*ours.message(our.input).name, their.input().full_name());
            assert_eq!(&*ours.message(our.output).name, their.output().full_name());
            assert_eq!(our.server_streaming, their.is_server_streaming());
        }
    }
}

fn assert_same_field(schema: &Schema, our: &Field, their: &FieldDescriptor) {
    assert_eq!((&*our.name, &*our.json_name), (their.name(), their.json_name()));
    let cardinality = match their.cardinality() {
        TheirCardinality::Repeated if their.is_map() => Cardinality::Map,
        TheirCardinality::Repeated if their.is_packed() => Cardinality::Packed,
        TheirCardinality::Repeated => Cardinality::Repeated,
        TheirCardinality::Required => Cardinality::Required,
        TheirCardinality::Optional if their.supports_presence() => Cardinality::Explicit,
        TheirCardinality::Optional => Cardinality::Implicit,
    };
    assert_eq!(our.cardinality, cardinality, "{}", their.full_name());
    let oneof = their.containing_oneof().filter(|oneof| !oneof.is_synthetic());
    assert_eq!(our.oneof.is_some(), oneof.is_some(), "{}", their.full_name());
    let named = match our.kind {
        Kind::Message(id) | Kind::Group(id) => Some(&schema.message(id).name),
        Kind::Enum(id) => Some(&schema.enumeration(id).name),
        _ => None,
    };
    match their.kind() {
        TheirKind::Message(message) => assert_eq!(named.map(|name| &**name), Some(message.full_name())),
        TheirKind::Enum(enumeration) => assert_eq!(named.map(|name| &**name), Some(enumeration.full_name())),
        scalar => assert_eq!(format!("{:?}", our.kind).to_lowercase(), format!("{scalar:?}"), "{}", their.full_name()),
    }
    assert_eq!(matches!(our.kind, Kind::Group(_)), their.is_group(), "{}", their.full_name());
}
