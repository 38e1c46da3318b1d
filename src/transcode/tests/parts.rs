//! The parts of a form that may hold files.

use super::bind::Case;
use super::{PLAIN, plans};
use crate::config::Json;
use crate::transcode::{BodyRule, Part, RequestPlan};

fn part(name: &str, file: Option<&str>, data: &[u8]) -> Part {
    let content_type = file.filter(|media| !media.is_empty()).map(str::to_owned);
    Part { name: name.into(), is_file: file.is_some(), content_type, data: data.to_vec().into() }
}

#[test]
fn parts_of_a_form_are_fields_and_files_are_bytes() {
    let parts = [
        part("parent", None, b"shelves/1"),
        part("book.title", None, "ä".as_bytes()),
        part("book.tags", None, b"a"),
        part("book.tags", Some("text/plain"), b"b"),
        part("book.labels[x.y]", None, b"z"),
        part("upload", Some("image/png"), b"\x89PNG"),
        part("again", Some("application/json"), br#"{"book":{"title":"t"}}"#),
        part("since", None, b"1970-01-01T00:00:01Z"),
    ];
    let case = Case { rule: "*", form: true, parts: &parts, ..Case::default() };

    case.gives(r#"{"parent":"shelves/1","book":{"title":"ä","tags":["a","b"],"labels":{"x.y":"z"}},"upload":{"content_type":"image/png","data":"iVBORw=="},"again":{"book":{"title":"t"}},"since":"1970-01-01T00:00:01Z"}"#);
    let book = [part("title", None, b"t"), part("author.birth_year", None, b"5")];
    Case { rule: "book", patch: true, parts: &book, ..case }
        .gives(r#"{"book":{"title":"t","author":{"birth_year":5}},"update_mask":"title,author.birthYear"}"#);
    Case { parts: &[part("upload", None, b"text")], ..case }
        .gives(r#"{"upload":{"content_type":"text/plain","data":"dGV4dA=="}}"#);
    Case { parts: &[part("upload", Some(""), b"?")], ..case }.gives(r#"{"upload":{"data":"Pw=="}}"#);
    Case { parts: &[], ..case }.gives("{}");
}

#[test]
fn a_part_that_does_not_fit_is_named() {
    let case = Case { rule: "*", form: true, path: &[("parent", "p")], ..Case::default() };
    for (part, words) in [
        (part("parnt", None, b""), r#"parnt: test.Request has no field "parnt"; did you mean "parent"?"#),
        (part("parent", None, b"q"), "parent: the body and the path give different values"),
        (part("page_size", None, b"many"), "page_size: expected an integer"),
        (part("book.title", Some("image/png"), b"\xff"), "book.title: the part is not UTF-8"),
        (
            part("again", Some("image/png"), b"{}"),
            "again: expected a test.Request as application/json, found image/png",
        ),
        (part("again", None, br#"{"x":1}"#), r#"again.x: test.Request has no field "x""#),
        (part("upload.data", None, b"x"), r#"upload.data: fields below "upload" cannot be given one by one"#),
    ] {
        Case { parts: &[part], ..case }.fails(words);
    }
    Case { parts: &[part("book.title", None, b"a"), part("book.title", None, b"b")], ..case }
        .fails("book.title: the parameter is given more than once");
    Case { parts: &[part("upload", None, b"a"), part("upload", None, b"b")], ..case }
        .fails("upload: the parameter is given more than once");
    let many = vec![part("book.tags", None, b""); 1001];
    Case { parts: &many, ..case }.fails("more than 1000 parts");
    Case { rule: "authors", parts: &[part("name", None, b"a")], ..case }.fails("the body cannot be given as a form");
}

#[test]
fn parts_go_into_one_message_as_long_as_there_is_room() {
    let id = plans().schema().message_named("test.Request").unwrap();
    let plan = RequestPlan::compile(plans(), id, &[], &BodyRule::Whole).unwrap();
    let place = |part: &Part| plan.place(part, PLAIN).unwrap();
    let together = |one: &str, other: &str| {
        let (one, other) = (place(&part(one, None, b"")), place(&part(other, None, b"")));
        assert_eq!(plan.go_together(&one, &other), plan.go_together(&other, &one));
        plan.go_together(&one, &other)
    };

    assert!(together("parent", "page_size"));
    assert!(together("book.tags", "book.tags"));
    assert!(together("book.labels[a]", "book.labels[b]"));
    assert!(together("book.title", "book.author.birth_year"));
    assert!(!together("parent", "parent"));
    assert!(!together("upload", "upload"));
    assert!(!together("book", "book.title"));
    assert!(!together("by_name", "by_number"));
    assert!(!together("book.shelf", "book.box"));
    assert!(place(&part("upload", None, b"")).is_content());
    assert!(place(&part("token", Some(""), b"")).is_content());
    assert!(!place(&part("token", None, b"")).is_content());
    assert!(!place(&part("parent", Some("text/plain"), b"")).is_content());
    assert!(plan.place(&part("nope", None, b""), PLAIN).is_err());
    let ignored = plan.place(&part("nope", None, b""), Json { ignore_unknown_fields: true, ..PLAIN }).unwrap();
    assert!(plan.go_together(&ignored, &ignored) && !ignored.is_content());
}
