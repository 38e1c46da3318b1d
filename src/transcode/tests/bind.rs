//! Path, query, form and body of one binding.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::BytesMut;

use super::{PLAIN, plans, proto2, to_json_with};
use crate::config::Json;
use crate::schema::set::compile_str;
use crate::transcode::wire::Cursor;
use crate::transcode::{BodyRule, Error, Input, Part, Plans, RequestPlan};

/// A binding and a request, both mostly empty.
#[derive(Default, Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) path: &'a [(&'a str, &'a str)],
    pub(super) query: &'a str,
    /// `*`, a field, or nothing.
    pub(super) rule: &'a str,
    pub(super) body: &'a str,
    pub(super) content_type: Option<&'a str>,
    pub(super) form: bool,
    pub(super) parts: &'a [Part],
    pub(super) patch: bool,
    pub(super) json: Json,
}

impl Case<'_> {
    fn wire(&self) -> Result<Vec<u8>, Error> {
        let rule = match self.rule {
            "" => BodyRule::None,
            "*" => BodyRule::Whole,
            field => BodyRule::Field(field.into()),
        };
        let variables: Vec<&str> = self.path.iter().map(|(name, _)| *name).collect();
        let captures: Vec<Cow<'_, str>> = self.path.iter().map(|(_, value)| Cow::Borrowed(*value)).collect();
        let id = plans().schema().message_named("test.Request").unwrap();
        let plan = RequestPlan::compile(plans(), id, &variables, &rule).unwrap();
        let input = Input {
            captures: &captures,
            headers: None,
            query: Some(self.query),
            body: self.body.as_bytes(),
            content_type: self.content_type,
            form: self.form,
            parts: self.parts,
            patch: self.patch,
        };
        let mut out = BytesMut::from("head");
        let result = plan.encode(&input, self.json, &mut out);
        if result.is_err() {
            assert_eq!(out, "head", "nothing is left behind");
        }
        result.map(|()| out[4..].to_vec())
    }

    /// The message as JSON with names of the `.proto` file.
    fn message(&self) -> Result<String, String> {
        let wire = self.wire().map_err(|error| error.to_string())?;
        assert_singular_once(&wire);
        Ok(to_json_with(plans(), "test.Request", &wire, Json { preserve_proto_names: true, ..PLAIN }).unwrap())
    }

    #[track_caller]
    pub(super) fn gives(&self, expected: &str) {
        assert_eq!(self.message().as_deref(), Ok(expected));
    }

    #[track_caller]
    pub(super) fn fails(&self, part: &str) {
        let error = self.message().unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

/// No singular submessage of the request goes out twice: `book`, `update_mask` and their like.
fn assert_singular_once(wire: &[u8]) {
    let mut cursor = Cursor::new(wire);
    let mut met = Vec::new();
    while let Some(head) = cursor.head().unwrap() {
        cursor.read(head).unwrap();
        let repeated = [6, 7, 14].contains(&head.number);
        assert!(repeated || !met.contains(&head.number), "field {} stands twice", head.number);
        met.push(head.number);
    }
}

#[test]
fn path_sets_fields_of_any_scalar_type() {
    let case = Case {
        path: &[
            ("parent", "shelves/1"),
            ("book.author.birth_year", "1932"),
            ("page_size", "-5"),
            ("color", "RED"),
            ("limit", "7"),
            ("token", "-_"),
            ("strict", "false"),
            ("score", "1.5"),
            ("ttl", "1.5s"),
            ("since", "1970-01-01T00:00:00Z"),
            ("book.name", "b"),
        ],
        ..Case::default()
    };

    case.gives(
        r#"{"parent":"shelves/1","book":{"author":{"birth_year":1932},"name":"b"},"page_size":-5,"color":"RED","limit":7,"token":"+w==","strict":false,"score":1.5,"ttl":"1.500s","since":"1970-01-01T00:00:00Z"}"#,
    );
    Case { path: &[("page_size", "x")], ..case }.fails("page_size: expected an integer");
    Case { path: &[("book.author.birth_year", "x")], ..case }.fails("book.author.birth_year: expected an integer");
    Case { path: &[("page_size", "0")], ..case }.gives("{}");
}

#[test]
fn query_sets_everything_that_text_can_set() {
    let query = |query: &str| Case { query, ..Case::default() }.message();
    let table = [
        ("", "{}"),
        ("&&", "{}"),
        ("parent=a+b%20c%2Bd&pageSize=5", r#"{"parent":"a b c+d","page_size":5}"#),
        ("page_size=5", r#"{"page_size":5}"#),
        ("ids=1&ids=2&page_size=1&ids=3", r#"{"ids":[1,2,3],"page_size":1}"#),
        ("words=a&words=&words=b", r#"{"words":["a","","b"]}"#),
        ("words", r#"{"words":[""]}"#),
        ("book.author.givenName=U&book.title=T", r#"{"book":{"author":{"given_name":"U"},"title":"T"}}"#),
        ("counts[a]=1&counts[b.c]=2&counts[]=3", r#"{"counts":{"a":1,"b.c":2,"":3}}"#),
        ("counts%5Ba%5D=1", r#"{"counts":{"a":1}}"#),
        ("book.labels[x]=y", r#"{"book":{"labels":{"x":"y"}}}"#),
        ("color=GREEN&limit=0", r#"{"color":"GREEN","limit":0}"#),
        ("color=2", r#"{"color":"GREEN"}"#),
        ("color=77", r#"{"color":77}"#),
        ("updateMask=displayName,a.bC", r#"{"update_mask":"displayName,a.bC"}"#),
        ("update_mask=display_name,aB", r#"{"update_mask":"displayName,aB"}"#),
        ("extra={\"a\":[1]}", r#"{"extra":{"a":[1]}}"#),
        ("strict=false", r#"{"strict":false}"#),
        ("score=NaN", r#"{"score":"NaN"}"#),
        ("token=%2B%2F8", r#"{"token":"+/8="}"#),
        ("page_size=1e2", r#"{"page_size":100}"#),
        ("by_name=a", r#"{"by_name":"a"}"#),
        ("again.again.page_size=1", r#"{"again":{"again":{"page_size":1}}}"#),
    ];
    for (text, expected) in table {
        assert_eq!(query(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn query_is_strict() {
    let many = "ids=1&".repeat(1001);
    let deep = format!("{}page_size=1", "again.".repeat(150));
    let table = [
        ("nope=1", "nope: test.Request has no field \"nope\""),
        ("page_sise=1", "did you mean \"pageSize\"?"),
        ("book.nope=1", "book.nope: test.Book has no field \"nope\""),
        ("page_size=1&page_size=1", "page_size: the parameter is given more than once"),
        ("page_size=1&pageSize=2", "page_size: the parameter is given more than once"),
        ("by_name=a&by_number=1", "by_number: \"by_name\" of the same oneof is given too"),
        ("by_name=a&by_book.title=1", "by_book.title: \"by_name\" of the same oneof is given too"),
        ("book=a", "book: a message cannot be given as one value; name its fields"),
        ("authors=a", "authors: a message cannot be given as one value"),
        ("authors.given_name=a", "authors.given_name: fields below \"authors\" cannot be given one by one"),
        ("extra.fields=1", "cannot be given one by one"),
        ("since.seconds=1&since=1970-01-01T00:00:00Z", "since: the field and fields below it are both given"),
        ("since=1970-01-01T00:00:00Z&since.nanos=1", "since.nanos: the field and fields below it are both given"),
        ("limit=7&limit.value=7", "limit.value: the field and fields below it are both given"),
        ("since.seconds=1&since.seconds=1", "since.seconds: the parameter is given more than once"),
        ("since.hours=1", "since.hours: google.protobuf.Timestamp has no field \"hours\""),
        ("counts=1", "counts: the field is a map: give its entries as name[key]=value"),
        ("counts[a]=1&counts[a]=2", "counts[\"a\"]: the key is given more than once"),
        ("ids[0]=1", "only a map takes a key"),
        ("counts[a=1", "the key of a map ends in a bracket"),
        ("counts[a].b=1", "fields of a map's entry cannot be given one by one"),
        ("parent.x=1", "\"parent\" has no fields"),
        ("page_size=", "page_size: expected an integer"),
        ("page_size=%20", "page_size: expected an integer"),
        ("strict=1", "strict: expected true or false, found \"1\""),
        ("color=red", "color: expected the name or number"),
        ("token=a", "expected a base64 string"),
        ("extra=[]", "expected an object"),
        ("extra={} x", "expected the end of the text"),
        ("parent=%", "bad percent-encoding"),
        ("parent=%zz", "bad percent-encoding"),
        ("parent=%ff", "not UTF-8"),
        (&many, "more than 1000 parameters"),
        (&deep, "more than 100 names"),
    ];
    for (query, part) in table {
        let error = Case { query, ..Case::default() }.message().expect_err(query);

        assert!(error.contains(part), "{query}: {error}");
    }
}

#[test]
fn parameters_that_the_caller_made_up_are_shown_cut_and_escaped() {
    for name in ["x".repeat(10_000), "a%0A%22.b".to_owned(), "counts[%0A]".to_owned(), "ids[%0A".to_owned()] {
        for query in [format!("{name}=%zz"), format!("{name}=x"), format!("parent={name}%zz"), format!("color={name}")]
        {
            let error = Case { query: &query, ..Case::default() }.message().unwrap_err();

            assert!(error.len() < 500 && !error.contains('\n'), "{query}: {error}");
        }
    }
}

#[test]
fn unknown_parameters_are_dropped_when_they_are_ignored() {
    let json = Json { ignore_unknown_fields: true, ..PLAIN };

    Case { query: "nope=1&book.nope=2&color=PINK&page_size=1", json, ..Case::default() }.gives(r#"{"page_size":1}"#);
}

#[test]
fn path_wins_over_query() {
    let case = Case { path: &[("page_size", "5"), ("book.name", "a")], ..Case::default() };

    Case { query: "page_size=5&book.name=a", ..case }.gives(r#"{"page_size":5,"book":{"name":"a"}}"#);
    Case { query: "page_size=5.0", ..case }.gives(r#"{"page_size":5,"book":{"name":"a"}}"#);
    Case { query: "page_size=6", ..case }.fails("page_size: the query and the path give different values");
    Case { query: "book.name=b", ..case }.fails("book.name: the query and the path give different values");
    Case { query: "book.title=t", ..case }.gives(r#"{"page_size":5,"book":{"name":"a","title":"t"}}"#);
    Case { path: &[("by_name", "a")], query: "by_number=1", ..Case::default() }.fails("of the same oneof");
}

#[test]
fn body_is_a_field_of_any_kind() {
    let field = |rule, body| Case { rule, body, query: "page_size=1", ..Case::default() };

    field("book", r#"{"title":"t"}"#).gives(r#"{"page_size":1,"book":{"title":"t"}}"#);
    field("book", "{}").gives(r#"{"page_size":1,"book":{}}"#);
    field("book", "null").gives(r#"{"page_size":1}"#);
    field("book", "").gives(r#"{"page_size":1}"#);
    field("ids", "[1,2]").gives(r#"{"page_size":1,"ids":[1,2]}"#);
    field("authors", r#"[{"birthYear":1}]"#).gives(r#"{"page_size":1,"authors":[{"birth_year":1}]}"#);
    field("counts", r#"{"a":1}"#).gives(r#"{"page_size":1,"counts":{"a":1}}"#);
    field("parent", r#""x""#).gives(r#"{"page_size":1,"parent":"x"}"#);
    field("extra", r#"{"x":1}"#).gives(r#"{"page_size":1,"extra":{"x":1}}"#);
    field("limit", "3").gives(r#"{"page_size":1,"limit":3}"#);
    field("book", r#"{"nope":1}"#).fails("book.nope: test.Book has no field \"nope\"");
    field("book", r#"{"author":{"birthYear":"x"}}"#).fails("book.author.birth_year: expected");
    field("book", "{} x").fails("expected the end of the text");
}

#[test]
fn query_may_not_name_what_the_body_sets() {
    let case = Case { rule: "book", body: "{}", ..Case::default() };

    Case { query: "book.title=t", ..case }.fails("book.title: the field is given by the body");
    Case { query: "book=t", ..case }.fails("given by the body");
    Case { rule: "*", query: "page_size=1", ..case }.fails("takes no query parameters");
    Case { rule: "*", query: "", ..case }.gives("{}");
    Case { rule: "", body: "{}", ..case }.fails("the method takes no body");
    Case { rule: "by_book", query: "by_name=a", ..case }.fails("by_book: \"by_name\" of the same oneof");
    Case { rule: "by_book", query: "by_name=a", body: "", ..case }.gives(r#"{"by_name":"a"}"#);
}

#[test]
fn path_below_the_body_is_written_inside_it() {
    let case = Case { path: &[("book.name", "n"), ("book.author.given_name", "U")], ..Case::default() };
    for rule in ["book", "*"] {
        let body = |inner: &str| if rule == "*" { format!(r#"{{"book":{inner}}}"#) } else { inner.to_owned() };
        let with = |inner: &str| Case { rule, body: &body(inner), ..case }.message();

        assert_eq!(
            with(r#"{"title":"t","author":{"birthYear":5},"pages":1}"#).as_deref(),
            Ok(r#"{"book":{"title":"t","author":{"birth_year":5,"given_name":"U"},"pages":"1","name":"n"}}"#)
        );
        let bare = Ok(r#"{"book":{"name":"n","author":{"given_name":"U"}}}"#);
        assert_eq!(with("{}").as_deref(), bare);
        assert_eq!(with("null").as_deref(), bare);
        assert_eq!(with(r#"{"author":null}"#).as_deref(), bare);
        assert_eq!(with(r#"{"name":"n"}"#).as_deref(), bare);
        assert_eq!(with(r#"{"name":""}"#).as_deref(), bare);
        assert_eq!(with(r#"{"name":null}"#).as_deref(), bare);
        assert!(with(r#"{"name":"other"}"#).unwrap_err().contains("book.name: the body and the path give different"));
        assert!(with(r#"{"author":{"givenName":"V"}}"#).unwrap_err().contains("book.author.given_name: the body and"));
        assert!(with(r#"{"name":"n","name":"n"}"#).unwrap_err().contains("given twice"));
    }
    Case { rule: "*", body: "", ..case }.gives(r#"{"book":{"name":"n","author":{"given_name":"U"}}}"#);
    Case { rule: "book", body: "", ..case }.gives(r#"{"book":{"name":"n","author":{"given_name":"U"}}}"#);
}

#[test]
fn path_and_body_agree_by_value_not_by_spelling() {
    let case = Case { path: &[("page_size", "5"), ("limit", "5"), ("strict", "true")], rule: "*", ..Case::default() };
    let expected = r#"{"page_size":5,"limit":5,"strict":true}"#;

    Case { body: r#"{"page_size":"5.0","limit":5e0,"strict":true}"#, ..case }.gives(expected);
    Case { body: r#"{"page_size":6}"#, ..case }.fails("page_size: the body and the path give different values");
    Case { body: r#"{"limit":6}"#, ..case }.fails("limit: the body and the path give different values");
    Case { path: &[("page_size", "0")], body: r#"{"page_size":6}"#, ..case }.fails("different values");
    Case { path: &[("book.shelf", "s")], body: r#"{"book":{"box":1}}"#, ..case }.fails("book.box: another field");
    Case { path: &[("book.shelf", "s")], body: r#"{"book":{"shelf":"s"}}"#, ..case }.gives(r#"{"book":{"shelf":"s"}}"#);
}

#[test]
fn default_in_the_body_is_no_value_only_where_there_is_no_presence() {
    let path = &[
        ("page_size", "5"),
        ("color", "RED"),
        ("limit", "5"),
        ("strict", "true"),
        ("since", "2024-01-31T12:00:00Z"),
        ("by_name", "n"),
    ];
    let case = Case { path, rule: "*", ..Case::default() };
    let expected =
        r#"{"page_size":5,"color":"RED","limit":5,"strict":true,"since":"2024-01-31T12:00:00Z","by_name":"n"}"#;

    for body in [r#"{"page_size":0,"color":"COLOR_UNSPECIFIED"}"#, r#"{"limit":null,"strict":null,"since":null}"#] {
        Case { body, ..case }.gives(expected);
    }
    for (body, field) in [
        (r#"{"limit":0}"#, "limit"),
        (r#"{"strict":false}"#, "strict"),
        (r#"{"since":"1970-01-01T00:00:00Z"}"#, "since"),
        (r#"{"by_name":""}"#, "by_name"),
    ] {
        Case { body, ..case }.fails(&format!("{field}: the body and the path give different values"));
    }
    let zero = [("limit", "0"), ("strict", "false"), ("since", "1970-01-01T00:00:00Z")];
    Case { path: &zero, body: r#"{"limit":0,"strict":false,"since":"1970-01-01T00:00:00Z"}"#, ..case }
        .gives(r#"{"limit":0,"strict":false,"since":"1970-01-01T00:00:00Z"}"#);
    let json = Json { ignore_unknown_fields: true, ..PLAIN };
    Case { path: &[("color", "RED")], body: r#"{"color":"PINK"}"#, json, ..case }.gives(r#"{"color":"RED"}"#);
}

#[test]
fn form_is_read_like_a_query() {
    let case = Case { form: true, ..Case::default() };

    Case { rule: "*", body: "page_size=5&book.title=a+b&counts[a]=1", ..case }
        .gives(r#"{"page_size":5,"book":{"title":"a b"},"counts":{"a":1}}"#);
    Case { rule: "book", body: "title=t&author.birth_year=5", query: "page_size=1", ..case }
        .gives(r#"{"page_size":1,"book":{"title":"t","author":{"birth_year":5}}}"#);
    Case { rule: "book", body: "name=other", path: &[("book.name", "n")], ..case }
        .fails("book.name: the body and the path give different values");
    Case { rule: "book", body: "name=n&title=t", path: &[("book.name", "n")], ..case }
        .gives(r#"{"book":{"name":"n","title":"t"}}"#);
    Case { rule: "ids", body: "a=1", ..case }.fails("cannot be given as a form");
    Case { rule: "*", body: "nope=1", ..case }.fails("has no field");
}

#[test]
fn patch_without_a_mask_gets_one() {
    let case = Case { rule: "book", patch: true, ..Case::default() };
    let mask = |body: &str| {
        let message = Case { body, ..case }.message().unwrap();
        let (_, mask) = message.split_once(r#""update_mask":""#)?;
        Some(mask.trim_end_matches(['}', '"']).to_owned())
    };

    assert_eq!(mask(r#"{"title":"t","author":{"birthYear":5},"pages":0}"#).unwrap(), "title,author.birthYear,pages");
    assert_eq!(mask(r#"{"tags":["a"],"labels":{"a":"b"},"rating":null}"#).unwrap(), "tags,labels,rating");
    assert_eq!(mask(r#"{"published":"1970-01-01T00:00:00Z","author":{}}"#).unwrap(), "published,author");
    assert_eq!(mask("{}"), None);
    let form = Case { form: true, path: &[("book.name", "n")], ..case };
    Case { body: "title=t&author.birth_year=5&tags=a&tags=b&name=n", ..form }
        .gives(r#"{"book":{"name":"n","title":"t","author":{"birth_year":5},"tags":["a","b"]},"update_mask":"title,author.birthYear,tags"}"#);
    Case { body: "title=t", query: "update_mask=pages", ..form }
        .gives(r#"{"book":{"name":"n","title":"t"},"update_mask":"pages"}"#);
    assert_eq!(mask("null"), None);
    Case { body: r#"{"title":"t"}"#, query: "update_mask=pages", ..case }
        .gives(r#"{"update_mask":"pages","book":{"title":"t"}}"#);
    Case { body: r#"{"name":"n","title":"t"}"#, path: &[("book.name", "n")], ..case }
        .gives(r#"{"book":{"title":"t","name":"n"},"update_mask":"title"}"#);
    Case { body: r#"{"title":"t"}"#, patch: false, ..case }.gives(r#"{"book":{"title":"t"}}"#);
}

#[test]
fn mask_of_a_body_has_a_bound() {
    let schema = compile_str(
        "syntax = \"proto3\"; package deep; import \"google/protobuf/field_mask.proto\";
         message Node { Node a_name_that_is_not_short = 1; int32 a = 2; int32 b = 3; int32 c = 4; int32 d = 5; int32 e = 6; }
         message Update { Node node = 1; google.protobuf.FieldMask update_mask = 2; }",
    );
    let plans = Plans::new(Arc::new(schema));
    let id = plans.schema().message_named("deep.Update").unwrap();
    let plan = RequestPlan::compile(&plans, id, &[], &BodyRule::Field("node".into())).unwrap();
    let encode = |levels: usize| {
        let leaves = r#""a":1,"b":1,"c":1,"d":1,"e":1"#;
        let body = (0..levels).fold("{}".to_owned(), |node, _| format!(r#"{{{leaves},"aNameThatIsNotShort":{node}}}"#));
        let input = Input { body: body.as_bytes(), patch: true, ..Input::default() };
        plan.encode(&input, PLAIN, &mut BytesMut::new()).map_err(|error| error.message)
    };

    assert_eq!(encode(10), Ok(()));
    assert!(encode(80).unwrap_err().contains("longer than 65536 bytes"));
}

#[test]
fn raw_body_is_taken_as_it_is() {
    let case = Case { rule: "upload", body: "{not json", content_type: Some("text/x"), ..Case::default() };

    case.gives(r#"{"upload":{"content_type":"text/x","data":"e25vdCBqc29u"}}"#);
    Case { query: "page_size=1", form: true, ..case }
        .gives(r#"{"page_size":1,"upload":{"content_type":"text/x","data":"e25vdCBqc29u"}}"#);
    Case { body: "", ..case }.gives(r#"{"upload":{"content_type":"text/x"}}"#);
    Case { body: "", content_type: None, ..case }.gives("{}");

    let id = plans().schema().message_named("google.api.HttpBody").unwrap();
    let plan = RequestPlan::compile(plans(), id, &[], &BodyRule::Whole).unwrap();
    assert!(plan.takes_http_body());
    let mut out = BytesMut::new();
    plan.encode(&Input { body: b"x", ..Input::default() }, PLAIN, &mut out).unwrap();
    assert_eq!(&*out, [0x12, 1, b'x']);
}

#[test]
fn what_is_set_over_an_encoded_message_is_merged_into_it() {
    let id = plans().schema().message_named("test.Request").unwrap();
    let plan = RequestPlan::compile(plans(), id, &["parent", "book.author.birth_year"], &BodyRule::None).unwrap();
    let captures = [Cow::Borrowed("p"), Cow::Borrowed("1775")];
    let over = |json: &str, query: &str| {
        let message = Case { rule: "*", body: json, ..Case::default() }.wire().unwrap();
        let input = Input { captures: &captures, query: Some(query), ..Input::default() };
        let mut out = BytesMut::new();
        plan.encode_over(&message, &input, PLAIN, &mut out).map_err(|error| error.to_string())?;
        assert_singular_once(&out);
        Ok::<_, String>(
            to_json_with(plans(), "test.Request", &out, Json { preserve_proto_names: true, ..PLAIN }).unwrap(),
        )
    };

    assert_eq!(
        over(
            r#"{"parent":"q","book":{"title":"t","author":{"givenName":"g","birthYear":1}},"counts":{"a":1}}"#,
            "words=w"
        )
        .unwrap(),
        r#"{"counts":{"a":1},"book":{"title":"t","author":{"given_name":"g","birth_year":1775}},"parent":"p","words":["w"]}"#
    );
    assert_eq!(over("{}", "").unwrap(), r#"{"parent":"p","book":{"author":{"birth_year":1775}}}"#);
    assert_eq!(
        over(r#"{"byNumber":5,"book":{"shelf":"s"}}"#, "by_name=n&book.box=3").unwrap(),
        r#"{"book":{"author":{"birth_year":1775},"box":3},"parent":"p","by_name":"n"}"#
    );
    assert!(over("{}", "nope=1").unwrap_err().contains("nope"));
    let input = Input { captures: &captures, ..Input::default() };
    // Field 2 as a varint, of 32 and 64 bits, and as a group with a title.
    for other in [&[0x10, 1][..], &[0x15, 1, 0, 0, 0], &[0x11, 1, 0, 0, 0, 0, 0, 0, 0], &[0x13, 0x12, 1, b't', 0x14]] {
        let mut out = BytesMut::new();
        plan.encode_over(other, &input, PLAIN, &mut out).unwrap();
        let json = to_json_with(plans(), "test.Request", &out, Json { preserve_proto_names: true, ..PLAIN }).unwrap();
        assert_eq!(json, r#"{"parent":"p","book":{"author":{"birth_year":1775}}}"#, "{other:?}");
    }
    let mut out = BytesMut::from("before");
    let error = plan.encode_over(&[0x12, 5, 1], &input, PLAIN, &mut out).unwrap_err();
    assert_eq!((error.fault, &out[..]), (crate::transcode::Fault::Client, &b"before"[..]));
}

#[test]
fn fields_of_types_that_are_one_value_in_json_can_be_given_one_by_one() {
    let query =
        "since.seconds=5&since.nanos=500000000&limit.value=0&update_mask.paths=a&updateMask.paths=b_c&ttl.seconds=2";
    let all = r#"{"since":"1970-01-01T00:00:05.500Z","limit":0,"update_mask":"a,bC","ttl":"2s"}"#;
    Case { query, ..Case::default() }.gives(all);
    Case { body: query, rule: "*", form: true, ..Case::default() }.gives(all);

    let path: &[(&str, &str)] = &[("since.seconds", "5"), ("limit.value", "7")];
    let case = Case { path, ..Case::default() };
    case.gives(r#"{"since":"1970-01-01T00:00:05Z","limit":7}"#);
    Case { query: "since.seconds=5", ..case }.gives(r#"{"since":"1970-01-01T00:00:05Z","limit":7}"#);
    Case { query: "since.seconds=6", ..case }.fails("since.seconds: the query and the path give different values");
    Case { path: &[("since.seconds", "x")], ..case }.fails("since.seconds: expected an integer");
    let body = r#"{"parent":"p"}"#;
    Case { rule: "*", body, ..case }.gives(r#"{"parent":"p","since":"1970-01-01T00:00:05Z","limit":7}"#);
    let body = r#"{"since":"1970-01-01T00:00:05Z"}"#;
    Case { rule: "*", body, ..case }.fails("since: the field and fields below it are both given");
    let inner = Case { path: &[("book.published.seconds", "5")], rule: "book", ..Case::default() };
    Case { body: r#"{"title":"t"}"#, ..inner }.gives(r#"{"book":{"title":"t","published":"1970-01-01T00:00:05Z"}}"#);
    Case { body: "published.nanos=1000000&title=t", form: true, patch: true, ..inner }
        .gives(r#"{"book":{"published":"1970-01-01T00:00:05.001Z","title":"t"},"update_mask":"published,title"}"#);
    Case { rule: "again", body: "limit.value=0", form: true, patch: true, ..Case::default() }
        .gives(r#"{"again":{"limit":0},"update_mask":"limit"}"#);
}

#[test]
fn bindings_that_cannot_work_are_refused() {
    let compile = |variables: &[&str], rule: &BodyRule| {
        let id = plans().schema().message_named("test.Request").unwrap();
        RequestPlan::compile(plans(), id, variables, rule).map(|_| ()).unwrap_err()
    };
    let field = |name: &str| BodyRule::Field(name.into());

    assert_eq!(compile(&["nope"], &BodyRule::None), "test.Request has no field `nope`");
    assert_eq!(compile(&[], &field("nope")), "test.Request has no field `nope`");
    assert_eq!(compile(&["ids"], &BodyRule::None), "`ids`: `ids` is repeated");
    assert_eq!(compile(&["book"], &BodyRule::None), "`book`: one string cannot stand for a test.Book");
    assert_eq!(compile(&["parent.x"], &BodyRule::None), "`parent.x`: a value has no field `x`");
    assert_eq!(compile(&["extra.fields"], &BodyRule::None), "`extra.fields`: a value has no field `fields`");
    assert_eq!(compile(&["update_mask.paths"], &BodyRule::None), "`update_mask.paths`: `paths` is repeated");
    assert_eq!(compile(&["since.seconds"], &field("since")), "`since.seconds` is set by the body too");
    assert_eq!(compile(&["parent"], &field("parent")), "`parent` is set by the body too");
    let id = plans().schema().message_named("google.protobuf.StringValue").unwrap();
    let whole = |rule: BodyRule| RequestPlan::compile(plans(), id, &["value"], &rule).map(|_| ());
    assert_eq!(whole(BodyRule::None), Ok(()));
    assert_eq!(whole(BodyRule::Whole).unwrap_err(), "`value` is set by the body too");
    let mut plan = RequestPlan::compile(plans(), id, &[], &BodyRule::Whole).unwrap();
    let header = http::HeaderName::from_static("x-value");
    let refused = plan.bind_headers([(&header, "value")].into_iter()).unwrap_err();
    assert!(refused.ends_with("`value` is set by the body"), "{refused}");
    assert_eq!(
        compile(&["upload.content_type"], &field("upload")),
        "`upload.content_type`: a value has no field `content_type`"
    );
}

#[test]
fn required_fields_may_come_from_anywhere() {
    let id = proto2().schema().message_named("old.Strict").unwrap();
    let encode = |rule: BodyRule, query, body: &str| {
        let plan = RequestPlan::compile(proto2(), id, &["id"], &rule).unwrap();
        let captures = [Cow::Borrowed("1")];
        let input = Input { captures: &captures, query: Some(query), body: body.as_bytes(), ..Input::default() };
        plan.encode(&input, PLAIN, &mut BytesMut::new()).map_err(|error| error.field)
    };
    let inner = || BodyRule::Field("inner".into());

    assert_eq!(encode(BodyRule::None, "inner.name=a", ""), Ok(()));
    assert_eq!(encode(BodyRule::Whole, "", r#"{"inner":{"name":"a"}}"#), Ok(()));
    assert_eq!(encode(inner(), "", r#"{"name":"a"}"#), Ok(()));
    assert_eq!(encode(BodyRule::None, "", ""), Err("inner".to_owned()));
    assert_eq!(encode(BodyRule::None, "inner.name=a&below.id=2", ""), Err("below.inner".to_owned()));
    assert_eq!(encode(BodyRule::Whole, "", "{}"), Err("inner".to_owned()));
    assert_eq!(encode(inner(), "", "null"), Err("inner".to_owned()));
    assert_eq!(encode(inner(), "", "{}"), Err("inner.name".to_owned()));
}
