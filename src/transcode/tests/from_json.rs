//! What JSON text is taken, and what it means.

use super::{PLAIN, plans, proto2, round, round_old, to_json_with, to_wire, to_wire_with};
use crate::config::Json;
use crate::transcode::Fault;

/// Texts and the form in which they come out again.
fn same(table: &[(&str, &str)]) {
    for (text, expected) in table {
        assert_eq!(round(text).as_deref().map_err(ToString::to_string), Ok(*expected), "{text}");
    }
}

/// Texts that are refused, and part of the message.
fn refused(table: &[(&str, &str)]) {
    for (text, message) in table {
        let error = to_wire(text).map(|wire| format!("{wire:?}")).expect_err(text);

        assert_eq!(error.fault, Fault::Client);
        assert!(error.to_string().contains(message), "{text}: {error}");
    }
}

#[test]
fn fields_have_two_names() {
    same(&[
        (r#"{"fInt32":1,"f_string":"a"}"#, r#"{"fInt32":1,"fString":"a"}"#),
        (r#"{"@odd":"x"}"#, r#"{"@odd":"x"}"#),
        (r#"{"odd_name":"x"}"#, r#"{"@odd":"x"}"#),
        (r#"{ "fInt32" : 1 , "f\u0053tring" : "a" }"#, r#"{"fInt32":1,"fString":"a"}"#),
    ]);
    refused(&[
        (r#"{"fInt33":1}"#, "test.Kinds has no field \"fInt33\"; did you mean \"fInt32\"? (line 1, column 2)"),
        (r#"{"fInt32":1,"fInt32":1}"#, "f_int32: the field is given twice"),
        (r#"{"fInt32":1,"f_int32":2}"#, "f_int32: the field is given twice (line 1, column 13)"),
        (r#"{"rInt32":[1],"r_int32":[2]}"#, "given twice"),
        (r#"{"fInt32":null,"fInt32":1}"#, "given twice"),
        (r#"{"fInt32":1,"fInt32":null}"#, "given twice"),
        (r#"{"fInt32":null,"f_int32":null}"#, "given twice"),
        (r#"{"oddName":"x"}"#, "no field"),
    ]);
}

#[test]
fn unknown_fields_are_skipped_when_they_are_ignored() {
    let ignore = Json { ignore_unknown_fields: true, ..PLAIN };
    let wire = |text: &str| to_wire_with(plans(), "test.Kinds", text.as_bytes(), ignore);

    assert_eq!(wire(r#"{"x":{"y":[1,"a\n",null,true]},"fInt32":1}"#), Ok(vec![24, 1]));
    assert_eq!(wire(r#"{"fColor":"PINK"}"#), Ok(vec![]));
    assert_eq!(wire(r#"{"rColor":["PINK","RED"]}"#), Ok(vec![0xa2, 2, 1, 1]));
    assert_eq!(wire(r#"{"rColor":["PINK"]}"#), Ok(vec![]));
    assert_eq!(wire(r#"{"mBool":{"true":"PINK"}}"#), Ok(vec![]));
    assert!(wire(r#"{"x":[1,]}"#).is_err(), "still checked");
}

#[test]
fn null_is_absence_but_for_values() {
    same(&[
        (r#"{"fInt32":null,"rInt32":null,"mString":null,"fKinds":null,"wInt32":null,"cInt32":null}"#, "{}"),
        (r#"{"cInt32":null,"cString":"a"}"#, r#"{"cString":"a"}"#),
        (r#"{"wValue":null}"#, r#"{"wValue":null}"#),
        (r#"{"cValue":null}"#, r#"{"cValue":null}"#),
        (r#"{"cNull":null}"#, r#"{"cNull":null}"#),
        (r#"{"wNull":null}"#, "{}"),
        (r#"{"rwValue":[null,1]}"#, r#"{"rwValue":[null,1]}"#),
        (r#"{"rwNull":[null,null]}"#, r#"{"rwNull":[null,null]}"#),
        (r#"{"mValue":{"a":null}}"#, r#"{"mValue":{"a":null}}"#),
    ]);
    refused(&[
        (r#"{"rInt32":[null]}"#, "r_int32[0]: expected an integer from -2147483648 to 2147483647, found `null`"),
        (r#"{"rKinds":[null]}"#, "r_kinds[0]: expected an object, found `null`"),
        (r#"{"rwInt32":[null]}"#, "rw_int32[0]"),
        (r#"{"mString":{"a":null}}"#, "m_string[\"a\"]: expected a string, found `null`"),
        (r#"{"fInt32":nul}"#, "expected null"),
        ("null", "expected an object, found `null`"),
    ]);
}

#[test]
fn integers_are_exact_and_in_range() {
    same(&[
        (r#"{"fInt64":9007199254740993}"#, r#"{"fInt64":"9007199254740993"}"#),
        (r#"{"fUint64":"18446744073709551615"}"#, r#"{"fUint64":"18446744073709551615"}"#),
        (r#"{"fUint64":18446744073709551615}"#, r#"{"fUint64":"18446744073709551615"}"#),
        (r#"{"fInt64":-9223372036854775808}"#, r#"{"fInt64":"-9223372036854775808"}"#),
        (r#"{"fInt32":1e5}"#, r#"{"fInt32":100000}"#),
        (r#"{"fInt32":"-1.0"}"#, r#"{"fInt32":-1}"#),
        (
            r#"{"fSint32":-2147483648,"fSint64":"-9223372036854775808"}"#,
            r#"{"fSint32":-2147483648,"fSint64":"-9223372036854775808"}"#,
        ),
        (
            r#"{"fFixed32":4294967295,"fSfixed32":-1,"fSfixed64":-1}"#,
            r#"{"fFixed32":4294967295,"fSfixed32":-1,"fSfixed64":"-1"}"#,
        ),
        (r#"{"fInt32":-0}"#, "{}"),
        (r#"{"rInt32":[1,-1,"2"]}"#, r#"{"rInt32":[1,-1,2]}"#),
    ]);
    refused(&[
        (
            r#"{"fInt32":1.5}"#,
            "f_int32: expected an integer from -2147483648 to 2147483647, found `1.5` (line 1, column 11)",
        ),
        (r#"{"fInt32":2147483648}"#, "found `2147483648`"),
        (r#"{"fUint32":-1}"#, "expected an integer from 0 to 4294967295, found `-1`"),
        (r#"{"fUint64":18446744073709551616}"#, "found `18446744073709551616`"),
        (r#"{"fInt32":" 1"}"#, "found the string \" 1\""),
        (r#"{"fInt32":"1 "}"#, "found the string"),
        (r#"{"fInt32":""}"#, "found the string \"\""),
        (r#"{"fInt32":01}"#, "expected `,` or `}`, found `1`"),
        (r#"{"fInt32":+1}"#, "found `+`"),
        (r#"{"fInt32":0x1}"#, "found `x1`"),
        (r#"{"fInt32":true}"#, "found `true`"),
        (r#"{"fInt32":{}}"#, "found an object"),
    ]);
}

#[test]
fn floats_are_finite_or_named() {
    same(&[
        (r#"{"fDouble":1.5,"fFloat":"0.1"}"#, r#"{"fDouble":1.5,"fFloat":0.1}"#),
        (r#"{"fDouble":"NaN","fFloat":"-Infinity"}"#, r#"{"fDouble":"NaN","fFloat":"-Infinity"}"#),
        (r#"{"fDouble":-0}"#, r#"{"fDouble":-0}"#),
        (r#"{"fDouble":-0.0,"fFloat":-0}"#, r#"{"fDouble":-0,"fFloat":-0}"#),
        (r#"{"fDouble":0}"#, "{}"),
        (r#"{"fDouble":16777217,"fFloat":16777216}"#, r#"{"fDouble":16777217,"fFloat":16777216}"#),
        (r#"{"fFloat":3.4028235e38}"#, r#"{"fFloat":3.4028235e+38}"#),
        (r#"{"fDouble":123456789012345678}"#, r#"{"fDouble":1.2345678901234568e+17}"#),
    ]);
    refused(&[
        (r#"{"fFloat":3.5e38}"#, "expected a number, found `3.5e38`"),
        (r#"{"fDouble":1e309}"#, "expected a number, found `1e309`"),
        (r#"{"fDouble":"inf"}"#, "expected a number"),
        (r#"{"fDouble":NaN}"#, "expected a number, found `NaN`"),
        (r#"{"fDouble":.5}"#, "found `.`"),
        (r#"{"fDouble":1.}"#, "f_double"),
    ]);
}

#[test]
fn strings_bytes_and_booleans_are_strict() {
    same(&[
        (r#"{"fString":"a\u00e9\ud83d\ude00\n"}"#, r#"{"fString":"aé😀\n"}"#),
        (r#"{"fString":""}"#, "{}"),
        (
            r#"{"oString":"","oBytes":"","oBool":false,"oInt32":0,"oColor":0}"#,
            r#"{"oString":"","oBytes":"","oBool":false,"oInt32":0,"oColor":"COLOR_UNSPECIFIED"}"#,
        ),
        (r#"{"fBytes":"-_"}"#, r#"{"fBytes":"+w=="}"#),
        (r#"{"fBytes":"+/8="}"#, r#"{"fBytes":"+/8="}"#),
        (r#"{"fBytes":"+/8"}"#, r#"{"fBytes":"+/8="}"#),
        (r#"{"fBytes":"AAEC\/w=="}"#, r#"{"fBytes":"AAEC/w=="}"#),
        (r#"{"fBytes":""}"#, "{}"),
    ]);
    refused(&[
        (r#"{"fString":"\ud83d"}"#, "not a valid escape"),
        ("{\"fString\":\"a\nb\"}", "control character 0x0a in a string must be escaped"),
        (r#"{"fString":1}"#, "expected a string, found `1`"),
        (r#"{"fBytes":"a"}"#, "expected a base64 string, found the string \"a\""),
        (r#"{"fBytes":"a*=="}"#, "expected a base64 string"),
        (r#"{"fBytes":"=="}"#, "expected a base64 string"),
        (r#"{"fBool":"true"}"#, "expected true or false, found the string \"true\""),
        (r#"{"fBool":1}"#, "expected true or false"),
        (r#"{"fBool":truex}"#, "found `x`"),
    ]);
}

#[test]
fn enums_are_names_or_numbers() {
    same(&[
        (r#"{"fColor":"RED"}"#, r#"{"fColor":"RED"}"#),
        (r#"{"fColor":2}"#, r#"{"fColor":"GREEN"}"#),
        (r#"{"fColor":"2"}"#, r#"{"fColor":"GREEN"}"#),
        (r#"{"fColor":-7}"#, r#"{"fColor":"NEGATIVE"}"#),
        (r#"{"fColor":99}"#, r#"{"fColor":99}"#),
        (r#"{"fColor":"COLOR_UNSPECIFIED"}"#, "{}"),
        (r#"{"alias":"SECOND"}"#, r#"{"alias":"FIRST"}"#),
    ]);
    refused(&[
        (r#"{"fColor":"red"}"#, "expected the name or number of an enum value, found \"red\"; did you mean \"RED\"?"),
        (r#"{"fColor":1.5}"#, "f_color"),
        (r#"{"fColor":2147483648}"#, "f_color"),
        (r#"{"fColor":true}"#, "f_color"),
    ]);
}

#[test]
fn maps_have_keys_of_their_type_once() {
    same(&[
        (r#"{"mInt32":{"1":2,"-3":4}}"#, r#"{"mInt32":{"1":2,"-3":4}}"#),
        (r#"{"mBool":{"true":"RED","false":1}}"#, r#"{"mBool":{"true":"RED","false":"RED"}}"#),
        (r#"{"mKinds":{"5":{"fInt32":1},"6":{}}}"#, r#"{"mKinds":{"5":{"fInt32":1},"6":{}}}"#),
        (r#"{"mString":{"":""}}"#, r#"{"mString":{"":""}}"#),
        (r#"{"mString":{}}"#, "{}"),
        (
            r#"{"mSint32":{"-1":"AA=="},"mFixed64":{"18446744073709551615":1.5}}"#,
            r#"{"mSint32":{"-1":"AA=="},"mFixed64":{"18446744073709551615":1.5}}"#,
        ),
        (r#"{"mTime":{"-1":"1970-01-01T00:00:00Z"}}"#, r#"{"mTime":{"-1":"1970-01-01T00:00:00Z"}}"#),
    ]);
    refused(&[
        (r#"{"mString":{"a":"b","a":"c"}}"#, "m_string[\"a\"]: the key is given twice (line 1, column 21)"),
        (r#"{"mString":{"a":"b","\u0061":"c"}}"#, "given twice"),
        (r#"{"mInt32":{"1":1,"1.0":2}}"#, "given twice"),
        (r#"{"mInt32":{"a":1}}"#, "as the key, found the string \"a\""),
        (r#"{"mBool":{"True":1}}"#, "expected true or false as the key"),
        (r#"{"mInt32":[1]}"#, "expected an object, found an array"),
        (r#"{"mKinds":{"5":{"fKinds":{"fInt32":"x"}}}}"#, "m_kinds[\"5\"].f_kinds.f_int32: expected"),
    ]);
}

#[test]
fn long_entries_with_the_same_key_are_still_noticed() {
    let long = "v".repeat(300);
    let text = format!(r#"{{"mString":{{"a":"{long}","b":"{long}","a":"{long}"}}}}"#);

    assert!(to_wire(&text).unwrap_err().message.contains("given twice"));
}

#[test]
fn oneofs_have_one_member() {
    same(&[(r#"{"cInt32":0}"#, r#"{"cInt32":0}"#), (r#"{"cKinds":{}}"#, r#"{"cKinds":{}}"#)]);
    refused(&[
        (r#"{"cInt32":1,"cString":"a"}"#, "c_string: another field of the same oneof is given too"),
        (r#"{"cValue":null,"cNull":null}"#, "c_null: another field"),
    ]);
}

#[test]
fn well_known_types_have_their_own_form() {
    same(&[
        (r#"{"wTime":"1970-01-01T01:00:00.5+01:00"}"#, r#"{"wTime":"1970-01-01T00:00:00.500Z"}"#),
        (r#"{"wDuration":"-1.5s"}"#, r#"{"wDuration":"-1.500s"}"#),
        (r#"{"wMask":"fooBar,a.bC"}"#, r#"{"wMask":"fooBar,a.bC"}"#),
        (r#"{"wMask":""}"#, r#"{"wMask":""}"#),
        (r#"{"wStruct":{"a":[1,"x",null,true,{"b":{}}]}}"#, r#"{"wStruct":{"a":[1,"x",null,true,{"b":{}}]}}"#),
        (r#"{"wValue":{"a":1e3}}"#, r#"{"wValue":{"a":1000}}"#),
        (r#"{"wValue":"NaN"}"#, r#"{"wValue":"NaN"}"#),
        (r#"{"wList":[[],{}]}"#, r#"{"wList":[[],{}]}"#),
        (r#"{"wEmpty":{}}"#, r#"{"wEmpty":{}}"#),
        (
            r#"{"wInt32":0,"wString":"","wBool":false,"wInt64":"5","wBytes":"-_","wDouble":"Infinity","wFloat":1,"wUint32":1,"wUint64":1}"#,
            r#"{"wInt32":0,"wString":"","wBool":false,"wInt64":"5","wBytes":"+w==","wDouble":"Infinity","wFloat":1,"wUint32":1,"wUint64":"1"}"#,
        ),
    ]);
    refused(&[
        (r#"{"wTime":"yesterday"}"#, "w_time: expected an RFC 3339 timestamp"),
        (r#"{"wTime":0}"#, "expected an RFC 3339 timestamp"),
        (r#"{"wDuration":"1"}"#, "expected a duration"),
        (r#"{"wMask":"foo_bar"}"#, "expected field paths"),
        (r#"{"wMask":"a,,b"}"#, "expected field paths"),
        (r#"{"wStruct":[]}"#, "expected an object, found an array"),
        (r#"{"wStruct":{"a":1,"a":2}}"#, "given twice"),
        (r#"{"wList":{}}"#, "expected an array"),
        (r#"{"wValue":1e400}"#, "w_value"),
        (r#"{"wEmpty":{"a":1}}"#, "google.protobuf.Empty has no field \"a\""),
        (r#"{"wInt32":{"value":1}}"#, "w_int32: expected an integer"),
    ]);
}

#[test]
fn names_that_the_caller_made_up_are_shown_cut_and_escaped() {
    let texts = [
        r#"{"NAME":1}"#,
        r#"{"fKinds":{"NAME":1}}"#,
        r#"{"wAny":{"@type":"x/google.protobuf.Duration","value":"1s","NAME":1}}"#,
        r#"{"wAny":{"@type":"x/test.Author","NAME":1}}"#,
        r#"{"wAny":{"@type":"x/NAME"}}"#,
        r#"{"mInt32":{"NAME":1}}"#,
        r#"{"mString":{"NAME":1}}"#,
        r#"{"fColor":"NAME"}"#,
        r#"{"wTime":"NAME"}"#,
    ];
    for text in texts {
        for name in [&*"x".repeat(10_000), r#"a\"]\n.b"#] {
            let error = to_wire(&text.replace("NAME", name)).unwrap_err().to_string();

            assert!(error.len() < 500 && !error.contains('\n'), "{text}: {error}");
        }
    }
}

#[test]
fn any_is_typed_wherever_its_type_stands() {
    let author = "type.googleapis.com/test.Author";
    let plain = format!(r#"{{"wAny":{{"@type":"{author}","givenName":"U","birthYear":1932}}}}"#);
    same(&[
        (&plain, &plain),
        (&format!(r#"{{"wAny":{{"givenName":"U","@type":"{author}","birthYear":1932}}}}"#), &plain),
        (&format!(r#"{{"wAny":{{"givenName":"U","birthYear":1932,"@type":"{author}"}}}}"#), &plain),
        (r#"{"wAny":{}}"#, r#"{"wAny":{}}"#),
        (
            r#"{"wAny":{"value":"1.5s","@type":"type.googleapis.com/google.protobuf.Duration"}}"#,
            r#"{"wAny":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1.500s"}}"#,
        ),
        (
            r#"{"wAny":{"@type":"x/google.protobuf.Any","value":{"@type":"y/google.protobuf.Int32Value","value":0}}}"#,
            r#"{"wAny":{"@type":"x/google.protobuf.Any","value":{"@type":"y/google.protobuf.Int32Value","value":0}}}"#,
        ),
        (
            r#"{"wAny":{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"R"}}"#,
            r#"{"wAny":{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"R"}}"#,
        ),
        (
            r#"{"wAny":{"@type":"x/google.rpc.Status","details":[{"@type":"x/test.Author","birthYear":1}]}}"#,
            r#"{"wAny":{"@type":"x/google.rpc.Status","details":[{"@type":"x/test.Author","birthYear":1}]}}"#,
        ),
        (
            r#"{"wAny":{"@type":"type.googleapis.com/google.protobuf.Empty","value":{}}}"#,
            r#"{"wAny":{"@type":"type.googleapis.com/google.protobuf.Empty"}}"#,
        ),
        (r#"{"wAny":{"@type":"x/google.protobuf.Empty"}}"#, r#"{"wAny":{"@type":"x/google.protobuf.Empty"}}"#),
        (r#"{"wAny":{"@type":"x/test.NoFields"}}"#, r#"{"wAny":{"@type":"x/test.NoFields"}}"#),
    ]);
    refused(&[
        (r#"{"wAny":{"a":1}}"#, "w_any: expected an object with \"@type\""),
        (r#"{"wAny":{"@type":"x/no.Such"}}"#, "type URL of a known message"),
        (r#"{"wAny":{"@type":"test.Author"}}"#, "type URL of a known message"),
        (&format!(r#"{{"wAny":{{"@type":"{author}","@type":"{author}"}}}}"#), "\"@type\" is given twice"),
        (&format!(r#"{{"wAny":{{"@type":"{author}","birthYear":"x"}}}}"#), "w_any.birth_year: expected"),
        (&format!(r#"{{"wAny":{{"@type":"{author}","value":{{}}}}}}"#), "has no field \"value\""),
        (r#"{"wAny":{"@type":"x/google.protobuf.Duration"}}"#, "expected an object with \"value\""),
        (r#"{"wAny":{"@type":"x/google.protobuf.Duration","value":"1s","a":1}}"#, "has only \"value\""),
        (r#"{"wAny":{"@type":"x/google.protobuf.Empty","value":5}}"#, "w_any.value: expected an object, found `5`"),
        (r#"{"wAny":{"@type":"x/google.protobuf.Empty","value":{"a":1}}}"#, "google.protobuf.Empty has no field \"a\""),
        (r#"{"wAny":{"@type":"x/google.protobuf.Empty","value":{},"value":{}}}"#, "the field is given twice"),
        (r#"{"wAny":{"@type":"x/google.protobuf.Empty","a":1}}"#, "has only \"value\""),
        (r#"{"wAny":{"@type":"x/test.NoFields","value":{}}}"#, "test.NoFields has no field \"value\""),
    ]);
}

#[test]
fn nested_any_costs_no_more_than_the_text_is_worth() {
    let depth = 90;
    let padding = "x".repeat(10_000);
    let mut text = format!(r#"{{"@type":"x/google.protobuf.StringValue","value":"{padding}"}}"#);
    for _ in 0..depth {
        text = format!(r#"{{"value":{text},"@type":"x/google.protobuf.Any"}}"#);
    }

    let error = to_wire(&format!(r#"{{"wAny":{text}}}"#)).unwrap_err();

    assert!(error.message.contains("must give \"@type\" first"), "{error}");
}

#[test]
fn syntax_is_that_of_rfc_8259() {
    refused(&[
        ("[]", "expected an object, found an array"),
        ("{} {}", "expected the end of the text, found an object"),
        (r#"{"fInt32":1,}"#, "expected a field name in quotes, found `}`"),
        (r#"{"rInt32":[1,]}"#, "r_int32[1]"),
        (r#"{"rInt32":1}"#, "r_int32: expected an array, found `1`"),
        (r#"{"rInt32":[[1]]}"#, "r_int32[0]"),
        (r#"{fInt32:1}"#, "expected a field name in quotes"),
        (r#"{"fInt32" 1}"#, "expected `:`"),
        (r#"{"fInt32":1"#, "found the end of the text"),
        ("\u{feff}{}", "found `\\u{feff}`"),
    ]);
    let error = to_wire_with(plans(), "test.Kinds", b"{\n \"fString\":\"\xff\"}", PLAIN).unwrap_err();
    assert_eq!(error.to_string(), "invalid UTF-8 (line 2, column 13)");
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| format!("{}{}", r#"{"fKinds":"#.repeat(depth) + "{}", "}".repeat(depth));

    assert!(to_wire(&nested(99)).is_ok());
    refused(&[(&nested(100), "nested more than 100 levels deep")]);
    assert!(to_wire(r#"{"wValue":"#).is_err());
    assert!(to_wire(&format!(r#"{{"wValue":{}"#, "[".repeat(100_000))).is_err());
}

#[test]
fn proto2_has_groups_closed_enums_and_extensions() {
    let table = [
        (
            r#"{"id":1,"inner":{"depth":2},"item":[{"text":"a"},{}]}"#,
            r#"{"id":1,"inner":{"depth":2},"item":[{"text":"a"},{}]}"#,
        ),
        (
            r#"{"size":"LARGE","sizes":[3,"LARGE"],"named":{"a":5}}"#,
            r#"{"size":"LARGE","sizes":["SMALL","LARGE"],"named":{"a":"LARGE"}}"#,
        ),
        (
            r#"{"[old.extra]":1,"[old.more]":["a"],"[old.nested]":{"id":0}}"#,
            r#"{"[old.extra]":1,"[old.more]":["a"],"[old.nested]":{"id":0}}"#,
        ),
        (r#"{"packed":[1,2],"loose":[3,4]}"#, r#"{"packed":[1,2],"loose":[3,4]}"#),
        (r#"{"two":{"x":1}}"#, r#"{"two":{"x":1}}"#),
        (r#"{"name":""}"#, r#"{"name":""}"#),
    ];
    for (text, expected) in table {
        assert_eq!(round_old(text).as_deref(), Ok(expected), "{text}");
    }
    for text in [r#"{"size":4}"#, r#"{"sizes":[4]}"#, r#"{"[old.none]":1}"#, r#"{"extra":1}"#, r#"{"one":1,"two":{}}"#]
    {
        assert!(round_old(text).is_err(), "{text}");
    }
}

#[test]
fn required_fields_must_be_given() {
    let table = [
        ("{}", "id"),
        (r#"{"id":null,"inner":{"name":""}}"#, "id"),
        (r#"{"id":0}"#, "inner"),
        (r#"{"id":0,"inner":{}}"#, "inner.name"),
        (r#"{"id":0,"inner":{"name":""},"below":{"id":1}}"#, "below.inner"),
    ];
    for (text, field) in table {
        let error = to_wire_with(proto2(), "old.Strict", text.as_bytes(), PLAIN).unwrap_err();

        assert_eq!((error.field.as_str(), error.message.as_str()), (field, "the field is required"), "{text}");
    }
    assert!(to_wire_with(proto2(), "old.Strict", br#"{"inner":{"name":""},"id":0}"#, PLAIN).is_ok());
}

#[test]
fn extensions_in_a_message_set_travel_as_items() {
    let text = r#"{"[old.Member.member]":{"value":1,"set":{"[old.strict]":{"id":2,"inner":{"name":"a"}}}}}"#;

    let wire = to_wire_with(proto2(), "old.Set", text.as_bytes(), PLAIN).unwrap();

    let strict = [0x0b, 0x10, 5, 0x1a, 7, 0x08, 2, 0x1b, 0x0a, 1, b'a', 0x1c, 0x0c];
    let mut expected = vec![0x0b, 0x10, 0xff, 0xff, 0xff, 0xff, 1, 0x1a, 17, 0x08, 1, 0x12, 13];
    expected.extend_from_slice(&strict);
    expected.push(0x0c);
    assert_eq!(wire, expected);
    assert_eq!(to_json_with(proto2(), "old.Set", &wire, PLAIN).as_deref(), Ok(text));
    for text in [r#"{"[old.none]":{}}"#, r#"{"[old.strict]":{}}"#, r#"{"[old.Member.member]":[]}"#] {
        assert!(to_wire_with(proto2(), "old.Set", text.as_bytes(), PLAIN).is_err(), "{text}");
    }
}
