//! The messages that are measured, as JSON.

use std::fmt::Write;

/// Name, message type in `shapes.proto`, text.
pub(super) type Shape = (&'static str, &'static str, String);

/// One book, a page of 100 books, and shapes that hurt.
pub(super) fn shapes() -> Vec<Shape> {
    let book = book(1);
    let books: Vec<String> = (0..100).map(self::book).collect();
    let list = |count: usize, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(",");
    let escaped = list(200, &|n| format!(r#""line {n}\n\t\"quoted\" \\ and \u00fcml\u00e4ut""#));
    let unicode = list(200, &|n| format!(r#""Zeile {n}: größer, 漢字 und 😀""#));
    let long = list(20, &|n| format!("\"{}{n}\"", "a plain sentence of English words, ".repeat(30)));
    let numbers = list(1000, &|n| format!("\"{}\"", (n as i64 - 500) * 1_234_567_890_123));
    let doubles = list(1000, &|n| format!("{}", n as f64 * 1.1 + 0.123_456));
    let counts = list(500, &|n| format!(r#""key-{n}":{n}"#));
    let extra = list(50, &|n| format!(r#""key{n}":{{"a":[1,2.5,"three",null,true],"b":{{"c":"d"}}}}"#));
    let details = list(50, &|n| {
        format!(r#"{{"@type":"type.googleapis.com/bench.v1.Author","givenName":"Umberto","birthYear":{n}}}"#)
    });
    let nested = r#"{"leaf":"some text","nested":"#.repeat(90) + "{}" + &"}".repeat(90);
    let data = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo5".repeat(222);
    vec![
        ("book", "Book", book),
        ("page of 100 books", "Page", format!(r#"{{"books":[{}],"nextPageToken":"abc"}}"#, books.join(","))),
        ("strings, plain", "Shapes", format!(r#"{{"texts":[{long}]}}"#)),
        ("strings, escapes", "Shapes", format!(r#"{{"texts":[{escaped}]}}"#)),
        ("strings, UTF-8", "Shapes", format!(r#"{{"texts":[{unicode}]}}"#)),
        ("int64 array", "Shapes", format!(r#"{{"numbers":[{numbers}]}}"#)),
        ("double array", "Shapes", format!(r#"{{"doubles":[{doubles}]}}"#)),
        ("map", "Shapes", format!(r#"{{"counts":{{{counts}}}}}"#)),
        ("deep nesting", "Shapes", nested),
        ("bytes", "Shapes", format!(r#"{{"data":"{data}"}}"#)),
        ("Struct", "Shapes", format!(r#"{{"extra":{{{extra}}}}}"#)),
        ("Any", "Shapes", format!(r#"{{"details":[{details}]}}"#)),
    ]
}

fn book(number: usize) -> String {
    let mut text = format!(
        r#"{{"name":"shelves/7/books/{number}","title":"The Name of the Rose, volume {number}","authors":[{{"givenName":"Umberto","familyName":"Eco","birthYear":1932}},{{"givenName":"William","familyName":"Weaver","birthYear":1923}}],"genre":"FICTION","isbn":"97801560{number:05}","price":17.95,"inPrint":true,"tags":["mystery","historical","monastery","library"],"labels":{{"room":"3","shelf":"north","edition":"second"}},"published":"1983-06-09T08:30:00.250Z","coverDigest":"3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs=","chapterPages":["#
    );
    for chapter in 0..20 {
        let separator = if chapter == 0 { "" } else { "," };
        write!(text, "{separator}{}", 12 + chapter * 17).unwrap_or_default();
    }
    text + "]}"
}
