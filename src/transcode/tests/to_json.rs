//! What wire bytes are taken, and how they are written.

use std::sync::Arc;

use prost::Message as _;

use super::{PLAIN, plans, proto2, round, to_json, to_json_with, to_wire};
use crate::config::Json;
use crate::pb::google::protobuf::field_descriptor_proto::{Label, Type};
use crate::pb::google::protobuf::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};
use crate::schema::Schema;
use crate::schema::set::compile_str;
use crate::transcode::out::Out;
use crate::transcode::wire::{Tag, WireType};
use crate::transcode::{BodyRule, Fault, Input, Plans, RequestPlan};

/// Wire bytes piece by piece.
#[derive(Default)]
struct Wire(bytes::BytesMut);

impl Wire {
    fn varint(mut self, number: u32, value: u64) -> Self {
        let mut out = Out::new(&mut self.0, 0);
        out.tag(Tag::new(number, WireType::Varint));
        out.varint(value);
        drop(out);
        self
    }

    fn group(mut self, number: u32, content: &[u8]) -> Self {
        let mut out = Out::new(&mut self.0, 0);
        out.tag(Tag::new(number, WireType::StartGroup));
        out.bytes(content);
        out.tag(Tag::new(number, WireType::EndGroup));
        drop(out);
        self
    }

    fn bytes(mut self, number: u32, bytes: &[u8]) -> Self {
        Out::new(&mut self.0, 0).delimited(Tag::new(number, WireType::Delimited), bytes);
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

fn wire() -> Wire {
    Wire::default()
}

fn written(table: &[(Wire, &str)]) {
    for (wire, expected) in table {
        assert_eq!(to_json(&wire.0).as_deref().map_err(ToString::to_string), Ok(*expected), "{:x}", wire.0);
    }
}

fn refused(table: &[(Wire, &str)]) {
    for (wire, message) in table {
        let error = to_json(&wire.0).expect_err(message);

        assert_eq!(error.fault, Fault::Upstream);
        assert!(error.to_string().contains(message), "{:x}: {error}", wire.0);
    }
}

#[test]
fn fields_come_as_on_the_wire() {
    written(&[
        (wire(), "{}"),
        (wire().bytes(14, b"a").varint(3, 1), r#"{"fString":"a","fInt32":1}"#),
        (wire().varint(3, 0), "{}"),
        (wire().varint(43, 0), r#"{"oInt32":0}"#),
    ]);
}

#[test]
fn fields_come_as_on_the_wire_also_when_some_come_again() {
    let double = 1.5f64.to_le_bytes();
    let twice = wire().varint(3, 5).raw(&[9]).raw(&double).varint(3, 6);

    written(&[
        (wire().varint(3, 5).raw(&[9]).raw(&double), r#"{"fInt32":5,"fDouble":1.5}"#),
        (twice, r#"{"fInt32":6,"fDouble":1.5}"#),
    ]);
}

#[test]
fn last_scalar_wins_and_parts_are_merged() {
    let inner = |number, value| wire().varint(number, value).0;
    written(&[
        (wire().varint(3, 1).varint(3, 2), r#"{"fInt32":2}"#),
        (wire().varint(3, 1).varint(3, 0), "{}"),
        (wire().varint(3, 1).bytes(14, b"a").varint(3, 2), r#"{"fInt32":2,"fString":"a"}"#),
        (wire().bytes(17, &inner(3, 1)).bytes(17, &inner(4, 2)), r#"{"fKinds":{"fInt32":1,"fInt64":"2"}}"#),
        (wire().varint(71, 1).bytes(72, b"a"), r#"{"cString":"a"}"#),
        (wire().varint(71, 1).varint(3, 1).bytes(72, b"a").varint(71, 2), r#"{"cInt32":2,"fInt32":1}"#),
        (wire().bytes(73, &inner(3, 1)).varint(71, 1).bytes(73, &inner(4, 2)), r#"{"cKinds":{"fInt64":"2"}}"#),
        (wire().bytes(73, &inner(3, 1)).bytes(73, &inner(4, 2)), r#"{"cKinds":{"fInt32":1,"fInt64":"2"}}"#),
        (wire().bytes(87, b"").bytes(87, b""), r#"{"wAny":{}}"#),
    ]);
}

#[test]
fn repeated_fields_are_read_packed_and_not() {
    written(&[
        (wire().bytes(23, &[1, 2]), r#"{"rInt32":[1,2]}"#),
        (wire().varint(23, 1).varint(23, 2), r#"{"rInt32":[1,2]}"#),
        (wire().varint(23, 1).bytes(23, &[2, 3]).varint(23, 4), r#"{"rInt32":[1,2,3,4]}"#),
        (wire().bytes(38, &[1, 2]), r#"{"rUnpacked":[1,2]}"#),
        (wire().bytes(23, &[]), "{}"),
        (wire().varint(23, 1).varint(3, 5).varint(23, 2), r#"{"rInt32":[1,2],"fInt32":5}"#),
        (wire().varint(23, 1).varint(999, 5).bytes(23, &[2, 3]).varint(3, 0).varint(23, 4), r#"{"rInt32":[1,2,3,4]}"#),
        (wire().bytes(34, b"a").bytes(34, b"").bytes(34, b"b"), r#"{"rString":["a","","b"]}"#),
        (wire().bytes(21, &1.5f64.to_le_bytes()), r#"{"rDouble":[1.5]}"#),
    ]);
    refused(&[
        (wire().bytes(23, &[0x80]), "r_int32: malformed message"),
        (wire().bytes(21, &[1, 2, 3]), "r_double: malformed message"),
    ]);
}

#[test]
fn maps_take_entries_in_any_state() {
    let entry = |key: &[u8], value: &[u8]| wire().bytes(1, key).bytes(2, value).0;
    written(&[
        (wire().bytes(61, &[]), r#"{"mString":{"":""}}"#),
        (wire().bytes(63, &[]), r#"{"mKinds":{"0":{}}}"#),
        (wire().bytes(64, &[]), r#"{"mBool":{"false":"COLOR_UNSPECIFIED"}}"#),
        (wire().bytes(68, &[]), r#"{"mValue":{"":null}}"#),
        (wire().bytes(61, &wire().bytes(2, b"v").bytes(1, b"k").0), r#"{"mString":{"k":"v"}}"#),
        (wire().bytes(61, &entry(b"a", b"1")).bytes(61, &entry(b"a", b"2")), r#"{"mString":{"a":"2"}}"#),
        (
            wire().bytes(61, &entry(b"a", b"1")).varint(3, 1).bytes(61, &entry(b"b", b"2")),
            r#"{"mString":{"a":"1","b":"2"},"fInt32":1}"#,
        ),
        (
            wire().bytes(63, &wire().varint(1, 5).bytes(2, &[24, 1]).bytes(2, &[32, 2]).0),
            r#"{"mKinds":{"5":{"fInt32":1,"fInt64":"2"}}}"#,
        ),
        (wire().bytes(62, &wire().varint(1, 1).varint(1, 2).varint(2, 3).0), r#"{"mInt32":{"2":3}}"#),
        (wire().bytes(62, &wire().varint(1, 1).0).bytes(62, &wire().varint(1, 1 | 1 << 32).0), r#"{"mInt32":{"1":0}}"#),
    ]);
}

#[test]
fn unknown_and_mistyped_fields_are_skipped() {
    written(&[
        (wire().varint(999, 1).varint(3, 1).bytes(998, b"x"), r#"{"fInt32":1}"#),
        (wire().bytes(3, b"x"), "{}"),
        (wire().varint(14, 1), "{}"),
        (wire().varint(61, 1), "{}"),
        (wire().raw(&[0x1b, 0x08, 0x01, 0x1c]).varint(3, 1), r#"{"fInt32":1}"#),
    ]);
}

#[test]
fn malformed_messages_are_the_upstreams_fault() {
    refused(&[
        (wire().raw(&[0x18]), "ends in the middle of a field"),
        (wire().raw(&[0x72, 5, b'a']), "ends in the middle of a field"),
        (wire().raw(&[0x00]), "a tag is not valid"),
        (wire().raw(&[0x0c]), "a group ends"),
        (wire().bytes(14, &[0xff]), "f_string: invalid UTF-8"),
        (wire().bytes(37, &[0x18]), "r_kinds[0]: malformed"),
        (wire().bytes(61, &wire().bytes(1, &[0xff]).0), "m_string: invalid UTF-8"),
        (wire().bytes(81, &wire().varint(2, 1 << 30).0), "w_time: the timestamp is out of range"),
        (wire().bytes(82, &wire().varint(1, 1).varint(2, u64::MAX).0), "w_duration: the duration is out of range"),
        (wire().bytes(83, &wire().bytes(1, b"fooBar").0), "w_mask: a field mask path has no JSON form"),
        (wire().bytes(85, &wire().raw(&[0x11, 0, 0, 0, 0, 0, 0, 0xf0, 0x7f]).0), "not finite"),
        (wire().bytes(87, &wire().bytes(1, b"x/no.Such").0), "w_any: an Any holds an unknown type"),
    ]);
}

#[test]
fn what_a_reply_says_is_for_the_log_alone() {
    let error = to_json(&wire().bytes(87, &wire().bytes(1, b"x/secret.customer.4711").0).0).unwrap_err();

    assert_eq!(error.to_string(), "w_any: an Any holds an unknown type");
    assert_eq!(error.note.as_deref(), Some("the type is x/secret.customer.4711"));
}

#[test]
fn numbers_are_cut_to_their_type() {
    written(&[
        (wire().varint(3, u64::MAX), r#"{"fInt32":-1}"#),
        (wire().varint(3, 0xffff_ffff), r#"{"fInt32":-1}"#),
        (wire().varint(5, u64::MAX), r#"{"fUint32":4294967295}"#),
        (wire().varint(7, 1), r#"{"fSint32":-1}"#),
        (wire().varint(13, 2), r#"{"fBool":true}"#),
        (wire().varint(16, u64::MAX - 6), r#"{"fColor":"NEGATIVE"}"#),
        (wire().varint(16, 5), r#"{"fColor":5}"#),
    ]);
}

#[test]
fn floats_are_as_short_as_they_can_be() {
    let double = |value: f64| to_json(&wire().raw(&[9]).raw(&value.to_le_bytes()).0).unwrap();
    let float = |value: f32| to_json(&wire().raw(&[0x15]).raw(&value.to_le_bytes()).0).unwrap();

    assert_eq!(double(0.1), r#"{"fDouble":0.1}"#);
    assert_eq!(double(5e-324), r#"{"fDouble":5e-324}"#);
    assert_eq!(double(100.0), r#"{"fDouble":100}"#);
    assert_eq!(float(0.1), r#"{"fFloat":0.1}"#);
    assert_eq!(float(f32::MAX), r#"{"fFloat":3.4028235e+38}"#);
    assert_eq!(float(f32::NAN), r#"{"fFloat":"NaN"}"#);
}

#[test]
fn value_has_one_kind() {
    written(&[
        (wire().bytes(85, b""), r#"{"wValue":null}"#),
        (wire().bytes(85, &wire().varint(1, 0).bytes(3, b"a").0), r#"{"wValue":"a"}"#),
        (
            wire().bytes(
                85,
                &wire()
                    .bytes(6, &wire().bytes(1, &wire().varint(4, 1).0).0)
                    .bytes(6, &wire().bytes(1, &wire().bytes(3, b"a").0).0)
                    .0,
            ),
            r#"{"wValue":[true,"a"]}"#,
        ),
        (
            wire().bytes(84, &wire().bytes(1, &wire().bytes(1, b"a").0).bytes(1, &wire().bytes(1, b"a").0).0),
            r#"{"wStruct":{"a":null}}"#,
        ),
    ]);
}

#[test]
fn depth_is_bounded_and_thoroughness_stays_linear() {
    let mut nested = wire().varint(3, 1).varint(3, 2).0;
    for _ in 0..99 {
        // Irregular at every level.
        nested = wire().varint(3, 1).varint(3, 2).bytes(17, &nested).0;
    }
    assert!(to_json(&nested).unwrap().starts_with(r#"{"fInt32":2,"fKinds":{"fInt32":2,"#));

    let deeper = wire().bytes(17, &nested).0;
    assert!(to_json(&deeper).unwrap_err().message.contains("nested more than 100 levels deep"));
}

#[test]
fn what_may_be_sent_may_be_answered_however_deep() {
    let nested = |field: &str, open: &str, close: &str, levels: usize| {
        format!(r#"{{"{field}":{}{}}}"#, open.repeat(levels), close.repeat(levels))
    };
    let any = r#"{"@type":"x/test.Kinds","wAny":"#;

    for text in [
        nested("wStruct", r#"{"a":"#, "}", 99).replace(":}", ":null}"),
        nested("wValue", r#"{"a":"#, "}", 99).replace(":}", ":null}"),
        nested("wList", "[", "]", 99),
        nested("wAny", any, "}", 98).replace(":}", ":{}}"),
        nested("wAny", any, "}", 98).replace(":}", r#":{"@type":"x/google.protobuf.Int32Value","value":5}}"#),
    ] {
        assert_eq!(round(&text).as_deref(), Ok(&*text));
    }
}

#[test]
fn well_known_types_are_no_way_to_endless_depth() {
    let source = r#"syntax = "proto3"; package google.protobuf;
        message Value { Value list_value = 6; } message StringValue { StringValue value = 1; }"#;
    let plans = Plans::new(Arc::new(compile_str(source)));
    for (name, number) in [("google.protobuf.Value", 6), ("google.protobuf.StringValue", 1)] {
        let nested = (0..10_000).fold(wire().0, |nested, _| wire().bytes(number, &nested).0);

        let error = to_json_with(&plans, name, &nested, PLAIN).unwrap_err();

        assert_eq!(error.message, format!("the schema's {name} is not the well-known type"));

        let id = plans.schema().message_named(name).unwrap();
        let request = RequestPlan::compile(&plans, id, &[], &BodyRule::Whole).unwrap();
        for text in ["[1]", "\"text\"", "{}"] {
            let body = Input { body: text.as_bytes(), ..Input::default() };
            let error = request.encode(&body, PLAIN, &mut bytes::BytesMut::new()).unwrap_err();

            assert!(error.message.contains("is not the well-known type"), "{name}: {}", error.message);
        }
    }
}

#[test]
fn messages_split_at_every_level_are_joined_as_long_as_that_is_cheap() {
    let split = |levels: usize, size: usize| {
        (0..levels).fold(wire().bytes(14, &vec![b'x'; size]).0, |nested, _| {
            wire().bytes(17, &wire().varint(3, 1).0).bytes(17, &nested).0
        })
    };

    assert!(to_json(&split(8, 10_000)).unwrap().starts_with(r#"{"fKinds":{"fInt32":1,"fKinds":{"fInt32":1,"#));
    assert!(to_json(&split(90, 1000)).unwrap().starts_with(r#"{"fKinds":{"fInt32":1,"fKinds":{"fInt32":1,"#));
    assert!(to_json(&split(90, 10_000)).unwrap_err().message.contains("split into parts too often"));
}

/// A message `M` with groups `g` of itself, a list and a number: what no `.proto` file in proto2 can say, and one in an edition
/// can.
fn recursive_groups() -> Arc<Plans> {
    let field = |name: &str, number, kind: Type, label: Label| FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(label.into()),
        r#type: Some(kind.into()),
        type_name: (kind == Type::Group).then(|| ".M".to_owned()),
        ..Default::default()
    };
    let message = DescriptorProto {
        name: Some("M".to_owned()),
        field: vec![
            field("g", 1, Type::Group, Label::Optional),
            field("many", 2, Type::Bool, Label::Repeated),
            field("one", 3, Type::Int32, Label::Optional),
        ],
        ..Default::default()
    };
    let file =
        FileDescriptorProto { name: Some("m.proto".to_owned()), message_type: vec![message], ..Default::default() };
    let set = FileDescriptorSet { file: vec![file] }.encode_to_vec();
    Plans::new(Arc::new(Schema::from_set(&set).unwrap()))
}

#[test]
fn groups_inside_each_other_cost_no_more_than_they_are_worth() {
    let plans = recursive_groups();
    let json = |levels: usize, innermost: &[u8]| {
        let nested = (0..levels).fold(innermost.to_vec(), |nested, _| wire().group(1, &nested).0.to_vec());
        to_json_with(&plans, "M", &nested, PLAIN)
    };
    let much = [16, 1].repeat(50_000);
    let twice = [&[24, 1][..], &much, &[24, 2]].concat();

    assert_eq!(json(99, &[24, 5]).unwrap(), format!("{}{{\"one\":5}}{}", r#"{"g":"#.repeat(99), "}".repeat(99)));
    assert!(json(100, &[24, 5]).unwrap_err().message.contains("nested more than 100 levels deep"));
    assert!(json(80, &much).unwrap().starts_with(r#"{"g":{"g":"#), "each is read once");
    assert!(json(20, &twice).unwrap().starts_with(r#"{"g":{"g":"#));
    assert!(json(80, &twice).unwrap_err().message.contains("groups inside each other hold too much"));
}

#[test]
fn groups_end_where_they_say() {
    let json = |wire: &[u8]| to_json_with(proto2(), "old.Old", wire, PLAIN);

    // `Inner` is 7, `Item` is 8, `again` in `Inner` is a message.
    assert_eq!(json(b"\x3b\x08\x01\x3c\x08\x02").unwrap(), r#"{"inner":{"depth":1},"id":2}"#);
    assert_eq!(json(b"\x43\x44\x43\x0a\x01a\x44\x08\x02").unwrap(), r#"{"item":[{},{"text":"a"}],"id":2}"#);
    assert_eq!(json(b"\x3b\x12\x04\x3b\x08\x01\x3c\x3c").unwrap(), r#"{"inner":{"again":{"inner":{"depth":1}}}}"#);
    assert_eq!(json(b"\x3b\x7b\x3b\x3c\x7c\x3c").unwrap(), r#"{"inner":{}}"#, "with an unknown group");
    assert_eq!(json(b"\x3b\x08\x01\x3c\x3b\x12\x00\x3c").unwrap(), r#"{"inner":{"depth":1,"again":{}}}"#, "in parts");
    for broken in [
        &b"\x3b"[..],
        b"\x3b\x08\x01",
        b"\x3b\x44",
        b"\x3c",
        b"\x08\x01\x3c",
        b"\x43\x44\x43",
        b"\x43\x3c",
        b"\x3b\x12\x01\x3c\x3c",
        b"\x28\x01\x3c",
        b"\x4a\x00\x3c",
    ] {
        assert!(json(broken).unwrap_err().message.starts_with("malformed message"), "{broken:x?}");
    }
}

#[test]
fn options_change_the_form() {
    let wire = to_wire(r#"{"fInt64":5,"fColor":"RED","mKinds":{"1":{"fUint64":7}}}"#).unwrap();
    let with = |json: Json| to_json_with(plans(), "test.Kinds", &wire, json).unwrap();

    assert_eq!(
        with(Json { int64_as_number: true, ..PLAIN }),
        r#"{"fInt64":5,"fColor":"RED","mKinds":{"1":{"fUint64":7}}}"#
    );
    assert_eq!(
        with(Json { preserve_proto_names: true, enums_as_numbers: true, ..PLAIN }),
        r#"{"f_int64":"5","f_color":1,"m_kinds":{"1":{"f_uint64":"7"}}}"#
    );
}

#[test]
fn defaults_are_written_when_asked_for() {
    let json = Json { emit_defaults: true, ..PLAIN };
    let all = to_json_with(plans(), "test.Book", &wire().varint(6, 0).0, json).unwrap();

    assert_eq!(
        all, r#"{"pages":"0","name":"","title":"","tags":[],"labels":{},"color":"COLOR_UNSPECIFIED"}"#,
        "neither messages nor fields with presence"
    );
    assert_eq!(
        to_json_with(proto2(), "old.Old", &[], json).unwrap(),
        r#"{"sizes":[],"packed":[],"loose":[],"item":[],"named":{}}"#
    );
    let thorough = to_json_with(plans(), "test.Author", &wire().varint(2, 5).varint(2, 0).0, json).unwrap();
    assert_eq!(thorough, r#"{"birthYear":0,"givenName":""}"#);
}

#[test]
fn closed_enums_hide_what_they_do_not_know() {
    let json = |wire: &Wire| to_json_with(proto2(), "old.Old", &wire.0, PLAIN).unwrap();

    assert_eq!(json(&wire().varint(3, 4)), "{}");
    assert_eq!(json(&wire().varint(3, 5).varint(3, 4)), r#"{"size":"LARGE"}"#);
    assert_eq!(json(&wire().varint(4, 4).varint(4, 3)), r#"{"sizes":["SMALL"]}"#);
    assert_eq!(json(&wire().varint(4, 4)), "{}");
    assert_eq!(json(&wire().bytes(9, &wire().bytes(1, b"a").varint(2, 4).0)), "{}");
    assert_eq!(json(&wire().bytes(9, &wire().bytes(1, b"a").0)), r#"{"named":{"a":"SMALL"}}"#);
}

#[test]
fn broken_text_of_proto2_is_mended() {
    let json = |wire: &Wire| to_json_with(proto2(), "old.Old", &wire.0, PLAIN).unwrap();
    let entry = |key, size| wire().bytes(1, key).varint(2, size).0;

    assert_eq!(json(&wire().bytes(2, &[0xff])), "{\"name\":\"\u{fffd}\"}");
    assert_eq!(
        json(&wire().bytes(9, &entry(&[0xff], 3)).bytes(9, &entry(b"a", 3)).bytes(9, &entry(&[0xfe], 5))),
        "{\"named\":{\"\u{fffd}\":\"LARGE\",\"a\":\"SMALL\"}}",
        "keys that are the same now are one"
    );
}

#[test]
fn items_of_a_message_set_come_in_any_form() {
    let json = |item: Wire| to_json_with(proto2(), "old.Set", &wire().group(1, &item.0).0, PLAIN);
    let member = wire().varint(1, 7).0;

    assert_eq!(
        json(wire().bytes(3, &member).varint(2, 536_870_911)).unwrap(),
        r#"{"[old.Member.member]":{"value":7}}"#
    );
    assert_eq!(json(wire().bytes(3, &member).varint(2, 4)).unwrap(), "{}", "an extension that is not known");
    assert_eq!(json(wire().bytes(3, &member)).unwrap(), "{}");
    assert_eq!(
        to_json_with(proto2(), "old.Set", &wire().bytes(5, &member).0, PLAIN).unwrap(),
        r#"{"[old.strict]":{"id":7}}"#,
        "as an ordinary extension"
    );
    let item = |value| wire().varint(2, 536_870_911).bytes(3, &wire().varint(1, value).0).0;
    let twice = wire().group(1, &item(1)).group(1, &item(2)).0;
    assert_eq!(to_json_with(proto2(), "old.Set", &twice, PLAIN).unwrap(), r#"{"[old.Member.member]":{"value":2}}"#);
}

#[test]
fn varint_whose_lower_half_is_zero_is_the_default_of_a_short_type() {
    // `f_int32`, `f_uint32`, `f_sint32` and `f_color`, each 2^32.
    let wire = b"\x18\x80\x80\x80\x80\x10\x28\x80\x80\x80\x80\x10\x38\x80\x80\x80\x80\x10\x80\x01\x80\x80\x80\x80\x10";

    assert_eq!(to_json(wire).unwrap(), "{}");
    assert_eq!(to_json(b"\x20\x80\x80\x80\x80\x10").unwrap(), r#"{"fInt64":"4294967296"}"#);
    assert_eq!(to_json(b"\x68\x80\x80\x80\x80\x10").unwrap(), r#"{"fBool":true}"#);
}

#[test]
fn value_without_a_form_is_no_error_when_another_one_replaces_it() {
    // `w_time` of 2^42 - 1 seconds, then of one.
    let (far, near) = (&b"\x8a\x05\x07\x08\xff\xff\xff\xff\xff\x7f"[..], &b"\x8a\x05\x02\x08\x01"[..]);

    assert!(to_json(far).is_err());
    assert_eq!(to_json(&[far, near].concat()).unwrap(), r#"{"wTime":"1970-01-01T00:00:01Z"}"#);
}
