//! Features and their inheritance.

use super::*;
use crate::pb::google::protobuf::feature_set::{
    EnumType, FieldPresence, MessageEncoding, RepeatedFieldEncoding, Utf8Validation,
};
use crate::pb::google::protobuf::{
    Edition, EnumDescriptorProto, EnumOptions, EnumValueDescriptorProto, FeatureSet, FieldOptions, FileOptions,
    MessageOptions, OneofDescriptorProto, OneofOptions,
};

fn edition(edition: Edition, features: Option<FeatureSet>, messages: Vec<DescriptorProto>) -> FileDescriptorProto {
    FileDescriptorProto {
        syntax: Some("editions".into()),
        edition: Some(edition.into()),
        options: Some(FileOptions { features, ..Default::default() }),
        ..file("e.proto", "e", messages)
    }
}

fn featured(field: FieldDescriptorProto, features: FeatureSet) -> FieldDescriptorProto {
    FieldDescriptorProto { options: Some(FieldOptions { features: Some(features), ..Default::default() }), ..field }
}

fn enumeration(name: &str, features: Option<FeatureSet>) -> EnumDescriptorProto {
    EnumDescriptorProto {
        name: Some(name.into()),
        value: vec![EnumValueDescriptorProto { name: Some("ZERO".into()), number: Some(0), options: None }],
        options: features.map(|features| EnumOptions { features: Some(features), ..Default::default() }),
        ..Default::default()
    }
}

fn presence(presence: FieldPresence) -> FeatureSet {
    FeatureSet { field_presence: Some(presence.into()), ..Default::default() }
}

#[test]
fn defaults_of_2023_and_2024_are_explicit_packed_verified_open() {
    for known in [Edition::Edition2023, Edition::Edition2024] {
        let mut declared = edition(
            known,
            None,
            vec![message("M", vec![field("s", 1, Type::String), repeated("r", 2, Type::Int32), holding("m", 3, "M")])],
        );
        declared.enum_type = vec![enumeration("E", None)];

        let schema = schema(&[declared]);

        assert_eq!(schema.problems(), []);
        assert_eq!(find(&schema, "e.M", "s").cardinality, Cardinality::Explicit);
        assert!(find(&schema, "e.M", "s").utf8);
        assert_eq!(find(&schema, "e.M", "r").cardinality, Cardinality::Packed);
        assert!(matches!(find(&schema, "e.M", "m").kind, Kind::Message(_)));
        assert!(!schema.enums[0].closed);
    }
}

#[test]
fn features_are_inherited_from_file_to_message_to_oneof_to_field() {
    let legacy = FeatureSet {
        field_presence: Some(FieldPresence::Implicit.into()),
        repeated_field_encoding: Some(RepeatedFieldEncoding::Expanded.into()),
        utf8_validation: Some(Utf8Validation::None.into()),
        message_encoding: Some(MessageEncoding::Delimited.into()),
        enum_type: Some(EnumType::Closed.into()),
        ..Default::default()
    };
    let verify = FeatureSet { utf8_validation: Some(Utf8Validation::Verify.into()), ..Default::default() };
    let open = FeatureSet { enum_type: Some(EnumType::Open.into()), ..Default::default() };
    let mut declared = message(
        "M",
        vec![
            field("inherited", 1, Type::Int32),
            featured(field("explicit", 2, Type::Int32), presence(FieldPresence::Explicit)),
            featured(field("required", 3, Type::Int32), presence(FieldPresence::LegacyRequired)),
            repeated("expanded", 4, Type::Int32),
            FieldDescriptorProto { oneof_index: Some(0), ..field("chosen", 5, Type::String) },
            field("unchecked", 6, Type::String),
            holding("delimited", 7, "M"),
        ],
    );
    declared.oneof_decl = vec![OneofDescriptorProto {
        name: Some("choice".into()),
        options: Some(OneofOptions { features: Some(verify), ..Default::default() }),
    }];
    declared.enum_type = vec![enumeration("Open", Some(open)), enumeration("Closed", None)];

    let schema = schema(&[edition(Edition::Edition2023, Some(legacy), vec![declared])]);

    assert_eq!(schema.problems(), []);
    let field = |name| find(&schema, "e.M", name);
    assert_eq!(field("inherited").cardinality, Cardinality::Implicit);
    assert_eq!(field("explicit").cardinality, Cardinality::Explicit);
    assert_eq!(field("required").cardinality, Cardinality::Required);
    assert_eq!(field("expanded").cardinality, Cardinality::Repeated);
    assert!(field("chosen").utf8 && !field("unchecked").utf8);
    assert!(matches!(field("delimited").kind, Kind::Group(_)));
    assert_eq!(
        schema.enums.iter().map(|it| (&*it.name, it.closed)).collect::<Vec<_>>(),
        [("e.M.Open", false), ("e.M.Closed", true)]
    );
}

#[test]
fn maps_and_their_values_stay_length_delimited() {
    let delimited = FeatureSet { message_encoding: Some(MessageEncoding::Delimited.into()), ..Default::default() };
    let mut entry = message("MapEntry", vec![field("key", 1, Type::String), holding("value", 2, ".e.M")]);
    entry.options = Some(MessageOptions { map_entry: Some(true), ..Default::default() });
    let map = FieldDescriptorProto { label: Some(Label::Repeated.into()), ..holding("map", 1, ".e.M.MapEntry") };
    let mut declared = message("M", vec![map, holding("single", 2, ".e.M")]);
    declared.nested_type = vec![entry];

    let schema = schema(&[edition(Edition::Edition2023, Some(delimited), vec![declared])]);

    assert_eq!(schema.problems(), []);
    assert!(matches!(find(&schema, "e.M", "map").kind, Kind::Message(_)));
    assert_eq!(find(&schema, "e.M", "map").cardinality, Cardinality::Map);
    assert!(matches!(find(&schema, "e.M.MapEntry", "value").kind, Kind::Message(_)));
    assert!(matches!(find(&schema, "e.M", "single").kind, Kind::Group(_)));
}

#[test]
fn features_mean_nothing_before_editions_and_packed_nothing_after() {
    let packed = |packed, field: FieldDescriptorProto| FieldDescriptorProto {
        options: Some(FieldOptions { packed: Some(packed), ..Default::default() }),
        ..field
    };
    let old = file(
        "p.proto",
        "p",
        vec![message(
            "M",
            vec![
                featured(field("implicit", 1, Type::Int32), presence(FieldPresence::Explicit)),
                packed(false, repeated("expanded", 2, Type::Int32)),
                repeated("strings", 3, Type::String),
            ],
        )],
    );
    let new = edition(
        Edition::Edition2023,
        None,
        vec![message("M", vec![packed(false, repeated("packed", 1, Type::Int32))])],
    );

    let schema = schema(&[old, new]);

    assert_eq!(find(&schema, "p.M", "implicit").cardinality, Cardinality::Implicit);
    assert_eq!(find(&schema, "p.M", "expanded").cardinality, Cardinality::Repeated);
    assert_eq!(find(&schema, "p.M", "strings").cardinality, Cardinality::Repeated);
    assert_eq!(find(&schema, "e.M", "packed").cardinality, Cardinality::Packed);
}

#[test]
fn unknown_edition_and_syntax_leave_their_files_out() {
    let later = edition(Edition::Edition99997TestOnly, None, vec![message("M", vec![])]);
    let strange = FileDescriptorProto { syntax: Some("proto4".into()), ..file("s.proto", "s", vec![]) };
    let dependent = FileDescriptorProto {
        dependency: vec!["e.proto".into()],
        ..with_service(file("d.proto", "d", vec![]), service("S", &[("Call", ".e.M", ".e.M")]))
    };

    let schema = schema(&[later, strange, dependent]);

    assert_eq!(
        problem_lines(&schema),
        [
            "file e.proto: its edition is not known; proto2, proto3 and editions 2023 and 2024 are",
            r#"file s.proto: its syntax "proto4" is not known"#,
            r#"d.S: method Call: type "e.M" is not declared, and e.proto, which d.proto imports, is missing"#,
        ]
    );
}
