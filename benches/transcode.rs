//! Speed of both directions, in MB of JSON per second, beside prost-reflect: `cargo bench --bench transcode [-- NAME]`.
//!
//! One book, a page of 100 books, and shapes that hurt. Both sides get the same bytes in the same run; buffers are used
//! again, as the gateway does. The best round counts.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::error::Error;
use std::fmt::Write;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use portico::config::Json;
use portico::schema::Schema;
use portico::transcode::{BodyRule, Input, Plans, ReplyPlan, RequestPlan};
use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor};
use tokio::time::Instant;

const ROUNDS: usize = 7;
/// Bytes of JSON per round.
const WORK: usize = 8 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches");
    let mut compiler = protox::Compiler::new([&folder])?;
    compiler.include_imports(true).open_file(folder.join("transcode.proto"))?;
    let set = compiler.encode_file_descriptor_set();
    let plans = Plans::new(Arc::new(Schema::from_set(&set)?));
    let pool = DescriptorPool::decode(set.as_slice())?;

    println!(
        "{:<22}{:>9}{:>9}   {:>8}{:>10}{:>7}   {:>8}{:>10}{:>7}",
        "", "JSON", "wire", "in", "reflect", "", "out", "reflect", ""
    );
    for (name, message, text) in shapes() {
        if !name.contains(&wanted) {
            continue;
        }
        let full_name = format!("bench.v1.{message}");
        let descriptor = pool.get_message_by_name(&full_name).ok_or("no such message")?;
        let id = plans.schema().message_named(&full_name).ok_or("no such message")?;
        let request = RequestPlan::compile(&plans, id, &[], &BodyRule::Whole)?;
        let reply = ReplyPlan::compile(&plans, id, None)?;
        let mut wire = BytesMut::new();
        request.encode(&body(&text), Json::default(), &mut wire)?;

        let mut out = BytesMut::new();
        let encode = speed(text.len(), || {
            out.clear();
            black_box(request.encode(&body(black_box(&text)), Json::default(), &mut out).is_ok());
        });
        let decode = speed(text.len(), || {
            out.clear();
            black_box(reply.decode(black_box(&wire), Json::default(), usize::MAX, &mut out).is_ok());
        });
        let mut out = Vec::new();
        let reflect_encode = speed(text.len(), || {
            out.clear();
            if let Some(message) = read(&descriptor, black_box(&text)) {
                black_box(message.encode(&mut out).is_ok());
            }
        });
        let reflect_decode = speed(text.len(), || {
            out.clear();
            if let Ok(message) = DynamicMessage::decode(descriptor.clone(), black_box(&*wire)) {
                black_box(serde_json::to_writer(&mut out, &message).is_ok());
            }
        });
        println!(
            "{name:<22}{:>9}{:>9}   {encode:>8.0}{reflect_encode:>10.0}{:>6.1}x   {decode:>8.0}{reflect_decode:>10.0}{:>6.1}x",
            text.len(),
            wire.len(),
            encode / reflect_encode,
            decode / reflect_decode,
        );
    }
    Ok(())
}

fn body(text: &str) -> Input<'_> {
    Input { body: text.as_bytes(), ..Input::default() }
}

fn read(descriptor: &MessageDescriptor, text: &str) -> Option<DynamicMessage> {
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    DynamicMessage::deserialize_with_options(descriptor.clone(), &mut deserializer, &options).ok()
}

/// MB per second of something that handles so many bytes.
#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn speed(bytes: usize, mut work: impl FnMut()) -> f64 {
    let times = (WORK / bytes).max(1);
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..times {
            work();
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    (times * bytes) as f64 / best / 1e6
}

fn shapes() -> Vec<(&'static str, &'static str, String)> {
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
