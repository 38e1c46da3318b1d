//! Replies of which one field is the body, raw bodies, and details of errors.

use bytes::BytesMut;

use super::{PLAIN, plans, to_wire_with};
use crate::transcode::{Fault, ReplyPlan, write_any};

fn plan(field: Option<&str>) -> ReplyPlan {
    ReplyPlan::compile(plans(), plans().schema().message_named("test.Reply").unwrap(), field).unwrap()
}

fn body(field: &str, reply: &str) -> String {
    let wire = to_wire_with(plans(), "test.Reply", reply.as_bytes(), PLAIN).unwrap();
    let mut out = BytesMut::from("before ");
    plan(Some(field)).decode(&wire, PLAIN, usize::MAX, &mut out).unwrap();
    String::from_utf8(out.to_vec()).unwrap().strip_prefix("before ").unwrap().to_owned()
}

#[test]
fn any_field_can_be_the_body() {
    let table = [
        ("book", r#"{"book":{"name":"a"},"text":"x"}"#, r#"{"name":"a"}"#),
        ("books", r#"{"books":[{"name":"a"},{}]}"#, r#"[{"name":"a"},{}]"#),
        ("counts", r#"{"counts":{"a":1}}"#, r#"{"a":1}"#),
        ("text", r#"{"text":"a"}"#, r#""a""#),
        ("number", r#"{"number":5}"#, "5"),
        ("flag", r#"{"flag":true}"#, "true"),
        ("time", r#"{"time":"1970-01-01T00:00:00Z"}"#, r#""1970-01-01T00:00:00Z""#),
        ("numbers", r#"{"numbers":[1,2]}"#, "[1,2]"),
        ("extra", r#"{"extra":{"a":1}}"#, r#"{"a":1}"#),
        ("data", r#"{"data":"AA=="}"#, r#""AA==""#),
    ];
    for (field, reply, expected) in table {
        assert_eq!(body(field, reply), expected, "{field}");
    }
}

#[test]
fn absent_field_has_a_body_all_the_same() {
    let table = [
        ("book", "{}"),
        ("books", "[]"),
        ("counts", "{}"),
        ("text", r#""""#),
        ("number", "0"),
        ("flag", "false"),
        ("time", "null"),
        ("extra", "{}"),
        ("list", "[]"),
        ("mask", r#""""#),
        ("data", r#""""#),
        ("color", r#""COLOR_UNSPECIFIED""#),
    ];
    for (field, expected) in table {
        assert_eq!(body(field, "{}"), expected, "{field}");
    }
}

#[test]
fn field_that_came_in_parts_is_one_body() {
    let mut out = BytesMut::new();
    let parts = [0x0a, 3, 0x0a, 1, b'a', 0x28, 1, 0x0a, 3, 0x12, 1, b'b'];

    plan(Some("book")).decode(&parts, PLAIN, usize::MAX, &mut out).unwrap();

    assert_eq!(out, r#"{"name":"a","title":"b"}"#);
}

#[test]
fn raw_body_is_a_slice_of_the_reply() {
    let whole = ReplyPlan::compile(plans(), plans().schema().message_named("google.api.HttpBody").unwrap(), None);
    let message = [0x0a, 3, b'a', b'/', b'b', 0x12, 2, 1, 2];

    assert_eq!(whole.unwrap().http_body(&message), Ok((Some("a/b"), &[1, 2][..])));

    let field = plan(Some("body"));
    let mut reply = vec![0x4a, 9];
    reply.extend_from_slice(&message);
    assert!(field.is_http_body());
    assert_eq!(field.http_body(&reply), Ok((Some("a/b"), &[1, 2][..])));
    assert_eq!(field.http_body(&[]), Ok((None, &[][..])));
    assert!(field.http_body(&[0x4a, 9]).is_err());
    assert!(!plan(Some("data")).is_http_body());
}

#[test]
fn failed_reply_leaves_nothing_behind() {
    let mut out = BytesMut::from("before");

    let error = plan(None).decode(&[0x22, 1, 0xff], PLAIN, usize::MAX, &mut out).unwrap_err();

    assert_eq!(error.field, "text");
    assert_eq!(out, "before");
}

#[test]
fn details_are_decoded_as_far_as_they_are_known() {
    let detail = |type_url: &str, value: &[u8]| {
        let mut out = BytesMut::new();
        write_any(plans(), type_url, value, PLAIN, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    };

    assert_eq!(detail("x/test.Author", &[0x10, 1]), r#"{"@type":"x/test.Author","birthYear":1}"#);
    assert_eq!(
        detail("x/google.rpc.ErrorInfo", &[0x0a, 1, b'R']),
        r#"{"@type":"x/google.rpc.ErrorInfo","reason":"R"}"#
    );
    assert_eq!(detail("x/no.Such", &[1, 2]), r#"{"@type":"x/no.Such","value":"AQI="}"#);
    assert_eq!(detail("x/test.Author", &[0x10]), r#"{"@type":"x/test.Author","value":"EA=="}"#);
    assert_eq!(detail("\"", &[]), r#"{"@type":"\"","value":""}"#);
}

fn delimited(number: u32, content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    prost::encoding::bytes::encode(number, &content.to_vec(), &mut wire);
    wire
}

/// The header that is bound to a field of `test.Kinds`.
fn header(path: &str, wire: &[u8]) -> Option<String> {
    let name = http::HeaderName::from_static("x-a");
    let mut plan = ReplyPlan::compile(plans(), plans().schema().message_named("test.Kinds").unwrap(), None).unwrap();
    plan.bind_headers([(&name, path)].into_iter()).unwrap();
    let mut headers = http::HeaderMap::new();
    plan.write_headers(wire, PLAIN, &mut headers);
    headers.get(name).map(|value| value.to_str().unwrap().to_owned())
}

#[test]
fn header_is_made_of_what_the_whole_message_says() {
    let one = b"\x8a\x01\x05\x72\x03one";
    let five = b"\x8a\x01\x02\x18\x05";
    let member = b"\xca\x04\x05\x72\x03two";
    let rival = b"\xb8\x04\x07";

    assert_eq!(header("f_kinds.f_string", one).as_deref(), Some("one"));
    assert_eq!(header("f_kinds.f_string", &[&one[..], five].concat()).as_deref(), Some("one"));
    assert_eq!(header("f_kinds.f_int32", &[&five[..], one].concat()).as_deref(), Some("5"));
    assert_eq!(header("c_kinds.f_string", &[&rival[..], member].concat()).as_deref(), Some("two"));
    assert_eq!(header("c_kinds.f_string", &[&member[..], rival].concat()), None);
    assert_eq!(header("f_kinds.f_string", five), None);
}

#[test]
fn header_is_the_text_without_the_escapes_of_json() {
    let string = |text: &[u8]| delimited(14, text);
    let value = |text: &[u8]| delimited(85, &delimited(3, text));

    assert_eq!(header("f_string", &string(br#"a\b"c"#)).as_deref(), Some(r#"a\b"c"#));
    assert_eq!(header("w_value", &value(br#"a\b"c"#)).as_deref(), Some(r#"a\b"c"#));
    assert_eq!(header("w_value", &value(br#""#)), None);
    assert_eq!(header("f_string", &string(b"a\nb")), None);
    assert_eq!(header("f_string", &string(b"\xff")), None);
    assert_eq!(header("f_string", &[0x72, 5]), None);
}

#[test]
fn header_has_room_for_8_kib() {
    let length = |path, wire: Vec<u8>| header(path, &wire).map(|text| text.len());

    assert_eq!(length("f_string", delimited(14, &[b'"'; 8192])), Some(8192));
    assert_eq!(length("f_string", delimited(14, &[b'"'; 8193])), None);
    assert_eq!(length("f_bytes", delimited(15, &[0; 6144])), Some(8192));
    assert_eq!(length("f_bytes", delimited(15, &[0; 16_000])), None);
}

#[test]
fn unknown_field_is_an_error_of_the_binding() {
    let id = plans().schema().message_named("test.Reply").unwrap();

    assert_eq!(ReplyPlan::compile(plans(), id, Some("nope")).unwrap_err(), "test.Reply has no field `nope`");
}

#[test]
fn text_that_outgrows_its_limit_is_given_up_early() {
    let kinds = ReplyPlan::compile(plans(), plans().schema().message_named("test.Kinds").unwrap(), None).unwrap();
    let wire = [&[0xa2, 0x02, 0xe8, 0x07][..], &[1; 1000]].concat();
    let mut out = BytesMut::from("before");
    let whole = r#"{"rColor":[]}"#.len() + 1000 * r#""RED","#.len() - 1;

    let short = kinds.decode(&wire, PLAIN, whole - 1, &mut out).unwrap_err();
    let early = kinds.decode(&wire, PLAIN, 100, &mut out).unwrap_err();
    let kept = out.clone();
    kinds.decode(&wire, PLAIN, whole, &mut out).unwrap();

    assert_eq!((short.fault, early.fault), (Fault::TooLarge, Fault::TooLarge));
    // Within the field, not after the whole.
    assert_eq!((&*short.field, &*early.field), ("", "r_color"));
    assert_eq!(&kept[..], b"before");
    assert_eq!(out.len(), "before".len() + whole);

    // `w_list`, each of its elements two bytes.
    let list = [&[0xb2, 0x05, 0xd0, 0x0f][..], &[10, 0].repeat(1000)].concat();
    let early = kinds.decode(&list, PLAIN, 100, &mut out).unwrap_err();
    assert_eq!((early.fault, &*early.field), (Fault::TooLarge, "w_list"));
}

#[test]
fn body_that_is_one_field_is_found_whatever_stands_around_it() {
    let body = |field: &str, wire: &[u8]| {
        let mut out = BytesMut::new();
        plan(Some(field)).decode(wire, PLAIN, usize::MAX, &mut out).unwrap();
        String::from_utf8(out.to_vec()).unwrap()
    };

    assert_eq!(body("numbers", b"\x50\x01\x28\x07\x52\x02\x02\x03\x28\x07\x50\x04"), "[1,2,3,4]");
    assert_eq!(body("number", b"\x28\x01\x50\x01\x28\x02"), "2");
    assert_eq!(
        body("counts", b"\x1a\x05\x0a\x01a\x10\x01\x28\x07\x1a\x05\x0a\x01b\x10\x02\x1a\x05\x0a\x01a\x10\x03"),
        r#"{"a":3,"b":2}"#
    );
}

#[test]
fn member_of_a_oneof_is_the_body_unless_another_one_comes_later() {
    let kinds = |wire: &[u8]| {
        let id = plans().schema().message_named("test.Kinds").unwrap();
        let mut out = BytesMut::new();
        ReplyPlan::compile(plans(), id, Some("c_int32")).unwrap().decode(wire, PLAIN, usize::MAX, &mut out).unwrap();
        String::from_utf8(out.to_vec()).unwrap()
    };

    assert_eq!(kinds(b"\xc2\x04\x01a\xb8\x04\x07"), "7");
    assert_eq!(kinds(b"\xb8\x04\x07\xc2\x04\x01a"), "0");
}
