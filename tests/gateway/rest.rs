//! REST, unary: how path, query and body become a message, and a message becomes a body.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::backend::{self, Backend};
use crate::support::client::Version;
use crate::support::gateway::{TestGateway, upstream};
use crate::support::rest::{answered, call, message, raw_http1, refused, with};

async fn start() -> (Backend, TestGateway) {
    start_with("").await
}

/// A gateway whose configuration has these lines too.
async fn start_with(more: &str) -> (Backend, TestGateway) {
    let backend = backend::start().await;
    let gateway = TestGateway::start(&(upstream("echo", backend.address) + more)).await;
    gateway.ready().await;
    (backend, gateway)
}

/// Calls of Identity by its annotation with a query: the message must come back as this JSON.
async fn queried(queries: &[(&str, Value)]) {
    let (_backend, gateway) = start().await;
    let lines: Vec<String> = queries.iter().map(|(query, _)| format!("GET /test/v1/identity?{query}")).collect();
    let calls: Vec<(&str, &str, Value)> =
        lines.iter().zip(queries).map(|(line, (_, json))| (line.as_str(), "", json.clone())).collect();
    answered(&gateway, &calls).await;
}

#[tokio::test]
async fn query_parameters_are_of_every_kind() {
    queried(&[
        ("double_value=1.5&floatValue=-2", json!({"doubleValue": 1.5, "floatValue": -2})),
        ("double_value=NaN&float_value=-Infinity", json!({"doubleValue": "NaN", "floatValue": "-Infinity"})),
        ("int32_value=-3&uint32Value=4294967295", json!({"int32Value": -3, "uint32Value": 4_294_967_295_u32})),
        (
            "int64_value=-9223372036854775808&uint64_value=18446744073709551615",
            json!({"int64Value": "-9223372036854775808", "uint64Value": "18446744073709551615"}),
        ),
        (
            "sint32_value=-1&sint64_value=-2&fixed32_value=3&fixed64_value=4&sfixed32_value=-5&sfixed64_value=-6",
            json!({"sint32Value": -1, "sint64Value": "-2", "fixed32Value": 3, "fixed64Value": "4",
                "sfixed32Value": -5, "sfixed64Value": "-6"}),
        ),
        ("bool_value=true&string_value=a+b%26c%2Bd", json!({"boolValue": true, "stringValue": "a b&c+d"})),
        ("bytes_value=AQID", json!({"bytesValue": "AQID"})),
        ("bytes_value=-_8", json!({"bytesValue": "+/8="})),
        ("color=BLUE", json!({"color": "BLUE"})),
        ("color=CRIMSON", json!({"color": "RED"})),
        ("color=-1", json!({"color": "INFRARED"})),
        ("color=7", json!({"color": 7})),
        ("optional_int32=0&optional_string=", json!({"optionalInt32": 0, "optionalString": ""})),
        ("int32_value=0&string_value=&bool_value=false", json!({})),
        ("renamed_field=a", json!({"otherName": "a"})),
        ("otherName=a", json!({"otherName": "a"})),
        ("choice_string=a", json!({"choiceString": "a"})),
        ("choice_int64=0", json!({"choiceInt64": "0"})),
        ("", json!({})),
        ("&&", json!({})),
        ("string_value=%00", json!({"stringValue": "\u{0}"})),
    ])
    .await;
}

#[tokio::test]
async fn query_parameters_reach_into_messages_lists_and_maps() {
    queried(&[
        (
            "nested.name=a&nested.child.number=7&nested.child.child.color=RED",
            json!({"nested": {"name": "a", "child": {"number": "7", "child": {"color": "RED"}}}}),
        ),
        ("nested.tags=a&color=RED&nested.tags=b", json!({"nested": {"tags": ["a", "b"]}, "color": "RED"})),
        ("recursive.recursive.int32Value=1", json!({"recursive": {"recursive": {"int32Value": 1}}})),
        ("int32_list=1&int32_list=0&int32List=2", json!({"int32List": [1, 0, 2]})),
        ("unpacked_list=1&unpacked_list=2", json!({"unpackedList": [1, 2]})),
        ("string_list=&string_list=b%2Cc", json!({"stringList": ["", "b,c"]})),
        ("bytes_list=AQ&color_list=RED&color_list=2", json!({"bytesList": ["AQ=="], "colorList": ["RED", "BLUE"]})),
        ("double_list=1.5&fixed64_list=9", json!({"doubleList": [1.5], "fixed64List": ["9"]})),
        ("string_map[a]=1&string_map[b.c]=2", json!({"stringMap": {"a": "1", "b.c": "2"}})),
        ("string_map%5Ba%5D=1", json!({"stringMap": {"a": "1"}})),
        ("colorMap[true]=RED&bytes_map[5]=AQ==", json!({"colorMap": {"true": "RED"}, "bytesMap": {"5": "AQ=="}})),
        ("double_map[]=1", json!({"doubleMap": {"": 1}})),
        ("timestamp=2026-01-02T03:04:05Z&duration=1.5s", json!({"timestamp": "2026-01-02T03:04:05Z", "duration": "1.500s"})),
        ("timestamp=2026-01-02T03:04:05.5%2B01:00", json!({"timestamp": "2026-01-02T02:04:05.500Z"})),
        ("timestamp_list=1970-01-01T00:00:00Z", json!({"timestampList": ["1970-01-01T00:00:00Z"]})),
        ("field_mask=nested.name,color_map", json!({"fieldMask": "nested.name,colorMap"})),
        (
            "bool_wrapper=false&int64_wrapper=5&string_wrapper=&bytes_wrapper=AQ&double_wrapper=0.5",
            json!({"boolWrapper": false, "int64Wrapper": "5", "stringWrapper": "", "bytesWrapper": "AQ==", "doubleWrapper": 0.5}),
        ),
        ("struct=%7B%22a%22:1%7D&value=[1]", json!({"struct": {"a": 1}, "value": [1]})),
        (
            "timestamp.seconds=5&string_wrapper.value=x&field_mask.paths=color&field_mask.paths=nested.name",
            json!({"timestamp": "1970-01-01T00:00:05Z", "stringWrapper": "x", "fieldMask": "color,nested.name"}),
        ),
    ])
    .await;
}

#[tokio::test]
async fn the_path_reaches_into_types_that_are_one_value_in_json() {
    let rule = "{ selector: portico.test.v1.Echo.Identity, put: \"/w/{string_wrapper.value}/{duration.seconds}\", body: \"*\" }";
    let (_backend, gateway) = start_with(&format!("http_rules: [ {rule} ]\n")).await;

    let said = json!({"stringWrapper": "x", "duration": "5s", "color": "RED"});
    answered(&gateway, &[("PUT /w/x/5", "{\"color\": \"RED\"}", said)]).await;
    let both = "the field and fields below it are both given";
    refused(&gateway, &[("PUT /w/x/5", "{\"duration\": \"5s\"}", "duration", both)]).await;
}

#[tokio::test]
async fn wrong_query_parameters_are_refused_by_name() {
    let (_backend, gateway) = start().await;
    let many = format!("GET /test/v1/identity?{}", "int32_list=1&".repeat(1001));
    let deep = format!("GET /test/v1/identity?{}int32_value=1", "recursive.".repeat(101));
    refused(
        &gateway,
        &[
            ("GET /test/v1/identity?nope=1", "", "nope", "portico.test.v1.Kinds has no field \"nope\""),
            ("GET /test/v1/identity?int32_vale=1", "", "int32_vale", "did you mean \"int32Value\"?"),
            ("GET /test/v1/identity?nested.nope=1", "", "nested.nope", "Nested has no field \"nope\""),
            ("GET /test/v1/identity?nested_map[1].name=a", "", "nested_map[1].name", "fields of a map's entry"),
            ("GET /test/v1/identity?int32_value=x", "", "int32_value", "found \"x\""),
            ("GET /test/v1/identity?int32_value=2147483648", "", "int32_value", "2147483648"),
            ("GET /test/v1/identity?uint32_value=-1", "", "uint32_value", "-1"),
            ("GET /test/v1/identity?int32_value=0x1F", "", "int32_value", "0x1F"),
            ("GET /test/v1/identity?bool_value=1", "", "bool_value", "found \"1\""),
            ("GET /test/v1/identity?bytes_value=***", "", "bytes_value", "base64"),
            ("GET /test/v1/identity?color=PINK", "", "color", "\"PINK\""),
            ("GET /test/v1/identity?timestamp=yesterday", "", "timestamp", "yesterday"),
            ("GET /test/v1/identity?duration=1h30m", "", "duration", "1h30m"),
            ("GET /test/v1/identity?nested.number=x", "", "nested.number", "found \"x\""),
            ("GET /test/v1/identity?int32_value=1&int32_value=1", "", "int32_value", "more than once"),
            ("GET /test/v1/identity?int32_value=1&int32Value=2", "", "int32_value", "more than once"),
            ("GET /test/v1/identity?choice_string=a&choice_int64=1", "", "choice_int64", "same oneof"),
            ("GET /test/v1/identity?nested=a", "", "nested", "name its fields"),
            ("GET /test/v1/identity?nested_list.name=a", "", "nested_list.name", "cannot be given one by one"),
            ("GET /test/v1/identity?string_map=a", "", "string_map", "name[key]=value"),
            ("GET /test/v1/identity?string_map[a]=1&string_map[a]=2", "", "string_map[\"a\"]", "more than once"),
            ("GET /test/v1/identity?bytes_map[x]=AQ", "", "bytes_map[\"x\"]", "as the key"),
            ("GET /test/v1/identity?string_list[0]=a", "", "string_list[0]", "only a map takes a key"),
            ("GET /test/v1/identity?string_value=%zz", "", "string_value", "percent-encoding"),
            ("GET /test/v1/identity?string_value=%ff", "", "string_value", "not UTF-8"),
            ("GET /test/v1/identity?struct.fields=1", "", "struct.fields", "cannot be given one by one"),
            (&many, "", "", "more than 1000 parameters"),
            (&deep, "", "", "100"),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_body_is_the_message_or_one_of_its_fields() {
    let (_backend, gateway) = start().await;
    let all = json!({
        "int32Value": 1, "int64Value": "9007199254740993", "stringValue": "é\u{1F600}", "bytesValue": "AQID",
        "nested": {"name": "a", "child": {"tags": ["x"]}}, "nestedMap": {"-1": {"name": "m"}}, "color": "BLUE",
        "any": {"@type": "type.googleapis.com/portico.test.v1.Nested", "name": "n"}, "struct": {"a": [1, null, true]},
        "timestamp": "2026-01-02T03:04:05.000000006Z", "stringWrapper": "w", "choiceNull": null, "value": null,
        "fieldMask": "a.b", "empty": {}, "uint64Wrapper": "18446744073709551615"
    });
    answered(
        &gateway,
        &[
            ("POST /test/v1/identity", &all.to_string(), all.clone()),
            ("POST /portico.test.v1.Echo/Identity", &all.to_string(), all.clone()),
            ("POST /test/v1/identity", "", json!({})),
            ("POST /test/v1/identity", " { } ", json!({})),
            (
                "POST /test/v1/identity",
                r#"{"int64Value": 9007199254740993}"#,
                json!({"int64Value": "9007199254740993"}),
            ),
            ("POST /test/v1/identity", r#"{"uint64Value": 1.8e19}"#, json!({"uint64Value": "18000000000000000000"})),
            (
                "POST /test/v1/identity",
                r#"{"int32_value": 1.0, "color": 2}"#,
                json!({"int32Value": 1, "color": "BLUE"}),
            ),
            ("POST /test/v1/identity", r#"{"nested": null, "string_list": null}"#, json!({})),
            ("PUT /test/v1/identity/7/nested", r#"{"name": "a"}"#, json!({"name": "a"})),
            ("PUT /test/v1/identity/7/nested?string_value=x", r#"{"tags": ["a"]}"#, json!({"tags": ["a"]})),
            ("PUT /test/v1/identity/7/nested", "", json!({})),
            ("PUT /test/v1/identity/strings", r#"["a", "b"]"#, json!(["a", "b"])),
            ("PUT /test/v1/identity/strings?int32_value=1", "[]", json!([])),
            ("PUT /test/v1/identity/strings", "", json!([])),
            ("PATCH /test/v1/things/1/parts/a/b:mend", "", json!({"nested": {"name": "things/1/parts/a/b"}})),
            (
                "PATCH /test/v1/things/1/parts/a:mend",
                r#"{"nested": {"number": 5}, "int32Value": 1}"#,
                json!({"nested": {"name": "things/1/parts/a", "number": "5"}, "int32Value": 1}),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn wrong_bodies_are_refused_with_field_and_place() {
    let (_backend, gateway) = start().await;
    let deep = format!("{}{}", r#"{"recursive":"#.repeat(101), "}".repeat(101));
    let deep_field = ["recursive"; 100].join(".");
    let flood_field = format!("value{}", "[0]".repeat(99));
    let flood = format!(r#"{{"value": {}"#, "[".repeat(100_000));
    let identity = "POST /test/v1/identity";
    let say = "PUT /test/v1/say/hi/behaviour";
    refused(
        &gateway,
        &[
            (identity, r#"{"nope": 1}"#, "nope", "Kinds has no field \"nope\" (line 1, column 2)"),
            (identity, r#"{"nested": {"numbr": 1}}"#, "nested.numbr", "did you mean \"number\"? (line 1, column 13)"),
            (identity, r#"{"nestedList": [{}, {"nope": 1}]}"#, "nested_list[1].nope", "no field"),
            (identity, r#"{"nestedMap": {"3": {"nope": 1}}}"#, "nested_map[\"3\"].nope", "no field"),
            (say, r#"{"nope": 1}"#, "behaviour.nope", "Behaviour has no field \"nope\""),
            (say, r#"{"headers": [{"name": 1}]}"#, "behaviour.headers[0].name", "expected a string"),
            ("PUT /test/v1/identity/strings", r#"["a", 1]"#, "string_list[1]", "expected a string"),
            ("PUT /test/v1/identity/strings", r#"{"a": 1}"#, "string_list", "found"),
            (identity, "{\n  \"int32Value\": \"x\"\n}", "int32_value", "(line 2, column 17)"),
            (identity, "{\n  \"int32Value\": 1,\n}", "", "(line 3, column 1)"),
            (identity, r#"{"int32Value": 1"#, "", "line 1"),
            (identity, "{} {}", "", "(line 1, column 4)"),
            (identity, "[]", "", "(line 1, column 1)"),
            (identity, "null", "", "(line 1, column 1)"),
            (identity, "name=x", "", "(line 1, column 1)"),
            (identity, r#"{"int32Value": 2147483648}"#, "int32_value", "2147483648"),
            (identity, r#"{"int32Value": 1.5}"#, "int32_value", "1.5"),
            (identity, r#"{"doubleValue": 1e400}"#, "double_value", "1e400"),
            (identity, r#"{"boolValue": "true"}"#, "bool_value", "\"true\""),
            (identity, r#"{"bytesValue": "*"}"#, "bytes_value", "base64"),
            (identity, r#"{"color": "PINK"}"#, "color", "PINK"),
            (identity, r#"{"stringValue": "\ud800"}"#, "string_value", "line 1"),
            (identity, r#"{"stringValue": "a", "string_value": "b"}"#, "string_value", "twice"),
            (identity, r#"{"choiceString": "a", "choiceInt64": 1}"#, "choice_int64", "same oneof"),
            (identity, r#"{"any": {"@type": "type.googleapis.com/no.Such"}}"#, "any", "no.Such"),
            (identity, &deep, &deep_field, "100 levels"),
            (identity, &flood, &flood_field, "100 levels"),
            ("GET /test/v1/identity", r#"{"int32Value": 1}"#, "", "takes no body"),
            ("POST /test/v1/identity?int32_value=1", r#"{"int32Value": 1}"#, "", "takes no query parameters"),
            ("POST /test/v1/identity?int32_value=1", "", "", "takes no query parameters"),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_the_path_sets_nobody_else_changes() {
    let (_backend, gateway) = start().await;
    let mend = "PATCH /test/v1/things/1/parts/a:mend";
    let name = || json!({"nested": {"name": "things/1/parts/a"}});
    answered(
        &gateway,
        &[
            (mend, r#"{"nested": {"name": "things/1/parts/a"}}"#, name()),
            (mend, r#"{"nested": {"name": ""}}"#, name()),
            (mend, r#"{"nested": {"name": null}}"#, name()),
            (mend, r#"{"nested": null}"#, name()),
            ("GET /test/v1/text/a?text=a", "", json!("a")),
            ("GET /test/v1/text/a?behaviour.payload_bytes=0", "", json!("a")),
            ("PUT /test/v1/identity/7/nested?int64_value=7", "{}", json!({})),
            ("PUT /test/v1/identity/7/nested?int64_value=7.0", "{}", json!({})),
        ],
    )
    .await;
    refused(
        &gateway,
        &[
            (mend, r#"{"nested": {"name": "other"}}"#, "nested.name", "the body and the path give different values"),
            ("GET /test/v1/text/a?text=b", "", "text", "the query and the path give different values"),
            ("GET /test/v1/say/a?text=a&text=b", "", "text", "the query and the path give different values"),
            ("PUT /test/v1/identity/7/nested?int64_value=8", "{}", "int64_value", "different values"),
            ("PUT /test/v1/identity/x/nested", "{}", "int64_value", "found \"x\""),
            ("PUT /test/v1/identity/7/nested?nested.name=a", r#"{"name": "a"}"#, "nested.name", "given by the body"),
            ("PUT /test/v1/identity/strings?string_list=a", r#"["a"]"#, "string_list", "given by the body"),
        ],
    )
    .await;
}

#[tokio::test]
async fn response_body_is_a_field_of_any_kind() {
    let bindings: Vec<String> = [
        "double_value",
        "int64_value",
        "bool_value",
        "string_value",
        "bytes_value",
        "color",
        "nested",
        "int32_list",
        "nested_list",
        "string_map",
        "timestamp",
        "value",
        "int64_wrapper",
        "optional_string",
    ]
    .iter()
    .map(|field| format!("{{ post: /v1/{field}, body: \"*\", response_body: {field} }}"))
    .collect();
    let (first, others) = bindings.split_first().unwrap();
    let first = first.replace('{', "{ selector: portico.test.v1.Echo.Identity,").replace(" }", "");
    let rules = format!("http_rules: [ {first}, additional_bindings: [ {} ] }} ]\n", others.join(", "));
    let (_backend, gateway) = start_with(&rules).await;
    let all = json!({
        "doubleValue": 0.5, "int64Value": "5", "boolValue": true, "stringValue": "a\"b", "bytesValue": "AQ==",
        "color": "RED", "nested": {"name": "n"}, "int32List": [1, 2], "nestedList": [{"name": "l"}],
        "stringMap": {"k": "v"}, "timestamp": "1970-01-01T00:00:01Z", "value": [null], "int64Wrapper": "7",
        "optionalString": ""
    })
    .to_string();
    answered(
        &gateway,
        &[
            ("POST /v1/double_value", &all, json!(0.5)),
            ("POST /v1/int64_value", &all, json!("5")),
            ("POST /v1/bool_value", &all, json!(true)),
            ("POST /v1/string_value", &all, json!("a\"b")),
            ("POST /v1/bytes_value", &all, json!("AQ==")),
            ("POST /v1/color", &all, json!("RED")),
            ("POST /v1/nested", &all, json!({"name": "n"})),
            ("POST /v1/int32_list", &all, json!([1, 2])),
            ("POST /v1/nested_list", &all, json!([{"name": "l"}])),
            ("POST /v1/string_map", &all, json!({"k": "v"})),
            ("POST /v1/timestamp", &all, json!("1970-01-01T00:00:01Z")),
            ("POST /v1/value", &all, json!([null])),
            ("POST /v1/int64_wrapper", &all, json!("7")),
            ("POST /v1/optional_string", &all, json!("")),
            ("POST /v1/int64_value", "", json!("0")),
            ("POST /v1/nested", "", json!({})),
            ("POST /v1/int32_list", "", json!([])),
            ("POST /v1/string_map", "", json!({})),
            ("POST /v1/timestamp", "", json!(null)),
            ("POST /v1/color", "", json!("COLOR_UNSPECIFIED")),
        ],
    )
    .await;
}

#[tokio::test]
async fn json_options_hold_for_the_methods_that_they_name() {
    let options = r#"
json: { enums_as_numbers: true }
policies:
  - match: portico.test.v1.Echo/Identity
    json: { unknown_fields: ignore, int64_as_number: true, preserve_proto_names: true }
  - match: portico.test.v1.Echo/Raw
    json: { emit_defaults: true }
"#;
    let (_backend, gateway) = start_with(options).await;
    answered(
        &gateway,
        &[
            (
                "POST /test/v1/identity",
                r#"{"nope": [{"a": 1}], "int64Value": "5", "color": "BLUE", "nested": {"nope": 1, "number": 2}}"#,
                json!({"int64_value": 5, "color": 2, "nested": {"number": 2}}),
            ),
            ("GET /test/v1/identity?nope=1&nested.nope=2&color=PINK&int32_value=3", "", json!({"int32_value": 3})),
        ],
    )
    .await;
    refused(&gateway, &[("POST /test/v1/say", r#"{"nope": 1}"#, "nope", "no field")]).await;
    let defaults = start_with("json: { emit_defaults: true }\n").await;
    answered(
        &defaults.1,
        &[(
            "PUT /test/v1/identity/1/nested",
            "{}",
            json!({"name": "", "number": "0", "tags": [], "color": "COLOR_UNSPECIFIED"}),
        )],
    )
    .await;
}

#[tokio::test]
async fn forms_are_read_like_queries() {
    let (_backend, gateway) = start().await;
    let form = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;

        let body = "string_value=a+b%26c&int32_value=5&nested.number=7&int32List=1&int32List=2";
        let reply = with(&mut client, "POST /test/v1/identity", &form, body).await;
        let wrong = with(&mut client, "POST /test/v1/identity", &form, "int32_value=x").await;

        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        let json: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((&json["stringValue"], &json["int32Value"]), (&"a b&c".into(), &5.into()));
        assert_eq!((&json["nested"]["number"], &json["int32List"]), (&"7".into(), &vec![1, 2].into()));
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
        assert!(message(&wrong).starts_with("int32_value: "), "{wrong:?}");
    }
}

#[tokio::test]
async fn only_json_is_taken_for_json() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for taken in
            ["application/json", "APPLICATION/JSON", "application/json; charset=utf-8", "application/merge-patch+json"]
        {
            let reply = with(&mut client, "POST /test/v1/identity", &[("content-type", taken)], "{}").await;
            assert_eq!(reply.status, StatusCode::OK, "{version:?} {taken}: {reply:?}");
        }
        assert_eq!(with(&mut client, "POST /test/v1/identity", &[], "{}").await.status, StatusCode::OK);
        for refused in [
            "text/plain",
            "application/xml",
            "application/x-www-form-urlencoded",
            "application/jsonp",
            "caf\u{e9}",
            "json",
            "",
        ] {
            let reply = with(&mut client, "POST /test/v1/identity", &[("content-type", refused)], "{}").await;

            assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{version:?} {refused}: {reply:?}");
            assert_eq!(reply.reason(), "UNSUPPORTED_MEDIA_TYPE");
            let words = message(&reply);
            assert!(words.contains("application/json"), "{words}");
            assert_eq!(words.contains("curl"), refused.ends_with("urlencoded"), "{words}");
        }
        let direct = with(&mut client, "POST /portico.test.v1.Echo/Say", &[("content-type", "text/plain")], "{}").await;
        assert_eq!(direct.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{direct:?}");
        assert!(
            direct.headers["content-type"].to_str().is_ok_and(|media| media.starts_with("text/plain")),
            "{direct:?}"
        );
        assert!(
            direct.headers["accept-post"].to_str().is_ok_and(|types| types.contains("application/json")),
            "{direct:?}"
        );
        for (line, coding, expected) in [
            ("POST /test/v1/identity", "snappy", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            ("POST /test/v1/raw", "compress", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            ("POST /test/v1/identity", "gzip", StatusCode::BAD_REQUEST),
            ("POST /test/v1/identity", "Identity", StatusCode::OK),
        ] {
            let reply = with(&mut client, line, &[("content-encoding", coding)], "{}").await;
            assert_eq!(reply.status, expected, "{version:?} {coding}: {reply:?}");
            assert!(expected == StatusCode::OK || message(&reply).contains(coding), "{reply:?}");
        }
        let empty = with(&mut client, "POST /test/v1/identity", &[("content-type", "text/plain")], "").await;
        assert_eq!(empty.status, StatusCode::OK, "{version:?}: nothing is of no type");
    }
}

#[tokio::test]
async fn http_bodies_pass_as_they_are() {
    let (_backend, gateway) = start().await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for (content_type, body) in
            [("image/png", "\u{89}PNG\0"), ("application/json", "not json"), ("text/csv; header=present", "a,b")]
        {
            let reply = with(&mut client, "POST /test/v1/raw", &[("content-type", content_type)], body).await;

            assert_eq!(reply.status, StatusCode::OK, "{version:?}: {reply:?}");
            assert_eq!(
                (&reply.headers["content-type"], &reply.body[..]),
                (&content_type.parse().unwrap(), body.as_bytes())
            );
            assert_eq!(reply.headers["content-length"], body.len().to_string());
        }
        let untyped = with(&mut client, "POST /test/v1/raw", &[], "x").await;
        assert_eq!(
            (&untyped.headers["content-type"], &untyped.body[..]),
            (&"application/octet-stream".parse().unwrap(), &b"x"[..])
        );
        let nothing = with(&mut client, "POST /test/v1/raw", &[("content-type", "text/csv")], "").await;
        assert_eq!((&nothing.headers["content-type"], nothing.body.len()), (&"text/csv".parse().unwrap(), 0));
        let empty = with(&mut client, "POST /test/v1/raw", &[], "").await;
        assert_eq!((empty.status, empty.body.len()), (StatusCode::OK, 0), "{version:?}");
    }
}

#[tokio::test]
async fn messages_over_their_limits_are_refused() {
    let limits = r#"
policies:
  - match: "*"
    limits: { request_message: 1KiB, response_message: 2KiB }
"#;
    let (_backend, gateway) = start_with(limits).await;
    let body = |length: usize| format!(r#"{{"text": "{}"}}"#, "x".repeat(length - 12));
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        assert_eq!(client.send(call("POST /test/v1/say", &body(1024))).await.status, StatusCode::OK, "{version:?}");
        let large = r#"{"behaviour": {"payloadBytes": 3000}}"#;

        let request = client.send(call("POST /test/v1/say", &body(1025))).await;
        let mut client = gateway.client(version).await;
        let reply = client.send(call("POST /test/v1/say", large)).await;

        assert_eq!((request.status, request.reason().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "REQUEST_TOO_LARGE"));
        assert!(message(&request).contains("limit of 1024 bytes"), "{request:?}");
        assert_eq!((reply.status, reply.reason().as_str()), (StatusCode::INTERNAL_SERVER_ERROR, "RESPONSE_TOO_LARGE"));
        assert_eq!(reply.json()["code"], 8);
        assert!(message(&reply).contains("exceeds the limit of 2048"), "{reply:?}");
    }
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    let head = "POST /test/v1/say HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n";
    let chunked = format!("{head}connection: close\r\ntransfer-encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n");
    let announced = format!("{head}connection: close\r\ncontent-length: 99999999999\r\n\r\n");
    for request in [chunked, announced] {
        let answer = raw_http1(gateway.address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("limit of 1024 bytes"), "{answer}");
    }
}

#[tokio::test]
async fn a_patch_without_a_mask_changes_what_its_body_names() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let demo = tokio::spawn(portico::demo::start(listener, std::future::pending()));
    let gateway = TestGateway::over(address).await;
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        let path = "/v1/shelves/science/books/opticks";
        let before = client.get(path).await.json();

        let patched = client.send(call(&format!("PATCH {path}"), r#"{"price": 12.5}"#)).await;
        let masked =
            client.send(call(&format!("PATCH {path}?update_mask=title"), r#"{"price": 1, "title": "O"}"#)).await;

        assert_eq!(
            (&patched.json()["price"], &patched.json()["title"]),
            (&json!(12.5), &before["title"]),
            "{patched:?}"
        );
        assert_eq!((&masked.json()["price"], &masked.json()["title"]), (&json!(12.5), &json!("O")), "{masked:?}");
        let title = json!({"title": before["title"]}).to_string();
        assert_eq!(client.send(call(&format!("PATCH {path}"), &title)).await.json()["title"], before["title"]);
    }
    demo.abort();
}
