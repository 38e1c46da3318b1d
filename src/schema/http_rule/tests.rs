//! Rules as they are annotated and as they are configured.

use super::*;
use crate::pb::google::api::CustomHttpPattern;
use crate::schema::Cardinality;
use crate::schema::{Enum, EnumId};

const BOOK: MessageId = MessageId(1);
const AUTHOR: MessageId = MessageId(2);
const TIMESTAMP: MessageId = MessageId(3);
const WRAPPER: MessageId = MessageId(4);
const STRUCT: MessageId = MessageId(5);

fn field(name: &str, kind: Kind) -> Field {
    Field {
        name: name.into(),
        json_name: name.into(),
        number: 1,
        kind,
        cardinality: Cardinality::Implicit,
        utf8: true,
        oneof: None,
    }
}

fn many(name: &str, kind: Kind) -> Field {
    Field { cardinality: Cardinality::Repeated, ..field(name, kind) }
}

fn message(name: &str, fields: Vec<Field>) -> Message {
    Message { name: name.into(), fields: fields.into(), oneofs: Box::default(), map_entry: false, message_set: false }
}

fn schema() -> Schema {
    let request = vec![
        field("name", Kind::String),
        field("genre", Kind::Enum(EnumId(0))),
        field("cover", Kind::Bytes),
        field("book", Kind::Message(BOOK)),
        many("books", Kind::Message(BOOK)),
        many("tags", Kind::String),
        Field { cardinality: Cardinality::Map, ..field("labels", Kind::Message(AUTHOR)) },
        field("time", Kind::Message(TIMESTAMP)),
        field("count", Kind::Message(WRAPPER)),
        field("extra", Kind::Message(STRUCT)),
        field("legacy", Kind::Group(AUTHOR)),
    ];
    let messages = vec![
        message("library.Request", request),
        message("library.Book", vec![field("name", Kind::String), field("author", Kind::Message(AUTHOR))]),
        message("library.Author", vec![field("id", Kind::Int64)]),
        message("google.protobuf.Timestamp", vec![field("seconds", Kind::Int64)]),
        message("google.protobuf.Int32Value", vec![field("value", Kind::Int32)]),
        message("google.protobuf.Struct", vec![]),
    ];
    let genres = Enum { name: "library.Genre".into(), values: Box::new([("NONE".into(), 0)]), closed: false };
    Schema { messages, enums: vec![genres], ..Schema::default() }
}

fn flatten(rule: &HttpRule) -> Bindings {
    let method = Method {
        name: "library.Library/Call".into(),
        input: MessageId(0),
        output: BOOK,
        client_streaming: false,
        server_streaming: false,
        side_effect_free: false,
        idempotent: false,
        http: None,
    };
    Binding::flatten(&schema(), &method, rule)
}

fn get(path: &str) -> HttpRule {
    HttpRule { pattern: Some(Pattern::Get(path.into())), ..HttpRule::default() }
}

fn custom(kind: &str) -> HttpRule {
    HttpRule {
        pattern: Some(Pattern::Custom(CustomHttpPattern { kind: kind.into(), path: "/v1".into() })),
        ..HttpRule::default()
    }
}

fn problem(rule: &HttpRule) -> String {
    let bindings = flatten(rule);
    assert_eq!(bindings.sound, []);
    bindings.broken[0].to_string()
}

#[test]
fn flattens_additional_bindings_in_order() {
    let mut rule = get("/v1/{name=books/*}");
    rule.additional_bindings = vec![
        HttpRule { pattern: Some(Pattern::Post("/v1/books".into())), body: "book".into(), ..HttpRule::default() },
        HttpRule { pattern: Some(Pattern::Put("/v1/all".into())), body: "books".into(), ..HttpRule::default() },
        HttpRule { pattern: Some(Pattern::Patch("/v1".into())), body: "*".into(), ..HttpRule::default() },
        HttpRule {
            pattern: Some(Pattern::Delete("/v1".into())),
            response_body: "author".into(),
            ..HttpRule::default()
        },
    ];

    let bindings = flatten(&rule);

    assert_eq!(bindings.broken, []);
    let lines = bindings.sound.iter().map(|binding| {
        format!("{} {} {:?} {:?}", binding.method, binding.template, binding.body, binding.response_body)
    });
    assert_eq!(
        lines.collect::<Vec<_>>(),
        [
            "GET /v1/{name=books/*} None None",
            "POST /v1/books Field(\"book\") None",
            "PUT /v1/all Field(\"books\") None",
            "PATCH /v1 Whole None",
            "DELETE /v1 None Some(\"author\")",
        ]
    );
}

#[test]
fn takes_custom_methods() {
    for (kind, expected) in [("*", HttpMethod::Any), ("HEAD", HttpMethod::Named(Name::HEAD))] {
        assert_eq!(flatten(&custom(kind)).sound[0].method, expected);
    }
    assert_eq!(flatten(&custom("QUERY")).sound[0].method.to_string(), "QUERY");
    assert_eq!(
        problem(&custom("A B")),
        "library.Library/Call: `/v1`: custom kind `A B` is not an HTTP method with a path"
    );
    assert_eq!(
        problem(&custom("CONNECT")),
        "library.Library/Call: `/v1`: custom kind `CONNECT` is not an HTTP method with a path"
    );
}

#[test]
fn takes_variables_that_one_string_can_set() {
    for path in ["name", "genre", "cover", "book.name", "book.author.id", "time", "time.seconds", "count", "legacy.id"]
    {
        assert_eq!(flatten(&get(&format!("/v1/{{{path}}}"))).broken, [], "{path}");
    }
}

#[test]
fn refuses_variables_that_one_string_cannot_set() {
    for (path, expected) in [
        ("nme", "path variable `nme`: message library.Request has no field `nme`"),
        ("book.nme", "path variable `book.nme`: message library.Book has no field `nme`"),
        ("name.x", "path variable `name.x`: `name` is not a single message"),
        ("books.name", "path variable `books.name`: `books` is not a single message"),
        ("labels.id", "path variable `labels.id`: `labels` is not a single message"),
        ("tags", "path variable `tags` is repeated"),
        ("labels", "path variable `labels` is repeated"),
        ("book", "path variable `book`: one string cannot stand for a library.Book"),
        ("legacy", "path variable `legacy`: one string cannot stand for a library.Author"),
        ("extra", "path variable `extra`: one string cannot stand for a google.protobuf.Struct"),
    ] {
        let template = format!("/v1/{{{path}}}");

        assert_eq!(problem(&get(&template)), format!("library.Library/Call: `{template}`: {expected}"));
    }
}

#[test]
fn refuses_bodies_that_are_no_field() {
    for (body, response_body, expected) in [
        ("none", "", "body `none`: message library.Request has no field `none`"),
        ("book.name", "", "body `book.name` is not a top-level field"),
        ("", "none", "response body `none`: message library.Book has no field `none`"),
        ("", "author.id", "response body `author.id` is not a top-level field"),
        ("", "*", "response body `*`: message library.Book has no field `*`"),
    ] {
        let rule = HttpRule { body: body.into(), response_body: response_body.into(), ..get("/v1") };

        assert_eq!(problem(&rule), format!("library.Library/Call: `/v1`: {expected}"));
    }
}

#[test]
fn leaves_out_only_what_is_broken() {
    let nested = HttpRule { additional_bindings: vec![get("/v1/c")], ..get("/v1/b") };
    let rule = HttpRule { additional_bindings: vec![nested, HttpRule::default(), get("/v1/d")], ..get("/v1/a/") };

    let bindings = flatten(&rule);

    assert_eq!(bindings.sound.iter().map(|binding| binding.template.as_str()).collect::<Vec<_>>(), ["/v1/d"]);
    assert_eq!(
        bindings.broken.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "library.Library/Call: `/v1/a/`: expected a literal, `*`, `**` or `{` at byte 6",
            "library.Library/Call: `/v1/b`: an additional binding has additional bindings of its own",
            "library.Library/Call: ``: the rule has no pattern",
        ]
    );
}

fn selecting(selector: &str, path: &str) -> HttpRule {
    HttpRule { selector: selector.into(), ..get(path) }
}

#[test]
fn the_last_rule_that_selects_a_method_is_its_rule() {
    let rules = Rules::new(&[
        selecting("*", "/all"),
        selecting("a.b.*", "/package"),
        selecting("a.b.S.*", "/service"),
        selecting("a.b.S.M, a.c.S.M", "/methods"),
        selecting("a.b.S.N", "/one"),
        selecting("a.b.S.N", "/two"),
        selecting("a.b.S.O", "/before"),
        selecting("a.b.S.*, x.y.Z", "/before"),
    ]);
    let rules = rules.unwrap();
    let path = |method| rules.of(method).and_then(|rule| rule.pattern.as_ref()).map(path_of);

    assert_eq!(path("z.S/M"), Some("/all"));
    assert_eq!(path("S/M"), Some("/all"));
    assert_eq!(path("a.b.T/M"), Some("/package"));
    assert_eq!(path("a.b.c.S/M"), Some("/package"));
    assert_eq!(path("a.bc.S/M"), Some("/all"));
    assert_eq!(path("a.c.S/M"), Some("/methods"));
    assert_eq!(path("a.b.S/O"), Some("/before"));
    let rules = Rules::new(&[selecting("a.b.S.M", "/1"), selecting("S.M", "/2")]).unwrap();
    assert_eq!(rules.of("a.b.S/M").map(|rule| &*rule.selector), Some("a.b.S.M"));
    assert_eq!(rules.of("S/M").map(|rule| &*rule.selector), Some("S.M"));
    assert_eq!(rules.of("a.b.S/N"), None);
    assert_eq!(rules.of("b.S/M"), None);
}

#[test]
fn names_rules_that_a_more_general_one_replaces() {
    let methods = ["a.S/M", "a.S/N", "a.T/M", "b.S/M"];
    let replaced = |selectors: &[&str]| {
        let rules: Vec<_> = selectors.iter().map(|selector| selecting(selector, "/")).collect();
        let rules = Rules::new(&rules).unwrap();
        let replaced = rules.replaced(methods.into_iter());
        replaced.into_iter().map(|it| (it.rule, it.by, it.method, it.further)).collect::<Vec<_>>()
    };

    assert_eq!(replaced(&["a.S.M", "a.*"]), [(0, 1, "a.S/M", 0)]);
    assert_eq!(replaced(&["a.*", "a.S.M"]), []);
    assert_eq!(replaced(&["a.S.*", "x.Y.Z", "*"]), [(0, 2, "a.S/M", 1)]);
    assert_eq!(replaced(&["b.S.M, a.S.M", "a.S.*", "a.*"]), [(1, 2, "a.S/M", 1), (0, 2, "a.S/M", 0)]);
    assert_eq!(replaced(&["a.*", "b.*"]), []);
}

#[test]
fn names_rules_that_select_nothing() {
    let rules = Rules::new(&[selecting("a.S.M", "/1"), selecting("a.S.X", "/2"), selecting("b.*", "/3")]).unwrap();

    let idle: Vec<&str> = rules.idle(["a.S/M", "a.S/N"].into_iter()).map(|rule| &*rule.selector).collect();

    assert_eq!(idle, ["a.S.X", "b.*"]);
}

#[test]
fn refuses_selectors_that_name_nothing() {
    for selector in ["", ".", "a.", ".a", "a..b", "a*", "a.b*", "*.a", "a.*.b", ".*", "a.S/M", "a,", "a b"] {
        assert!(Rules::new(&[selecting(selector, "/")]).is_err(), "{selector}");
    }
}
