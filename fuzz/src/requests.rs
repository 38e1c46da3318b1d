//! Requests of path, query and body.
//!
//! The first byte of an input chooses the binding, the second the options. The rest is the captures, the query and the
//! body, with a NUL byte after each but the last. The body may be a message that the client has encoded itself.

use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use portico::config::Json;
use portico::transcode::{BodyRule, Input, Part, ReplyPlan, RequestPlan};
use serde_json::Value;

use super::messages::{after, check_json, plans};

/// Fields of the path and the body; `*` for all of it.
const BINDINGS: [(&[&str], &str); 10] = [
    (&[], ""),
    (&["parent"], ""),
    (&["parent", "book.author.birth_year"], ""),
    (&["parent"], "*"),
    (&["book.name", "again.book.published"], "*"),
    (&["book.name"], "book"),
    (&["parent", "book.shelf"], "book"),
    (&["by_book.title"], "again"),
    (&["page_size"], "authors"),
    (&["ttl", "limit"], "extra"),
];
/// Field numbers of singular messages, which go out once at most.
const SINGULAR: [u64; 9] = [2, 4, 8, 10, 17, 18, 19, 20, 21];

/// A binding and the fields that its path sets.
struct Binding {
    variables: &'static [&'static str],
    plan: RequestPlan,
}

struct Subject {
    bindings: Vec<Binding>,
    reply: ReplyPlan,
}

/// A request that is taken is a message, and no singular submessage is in it twice. What the path sets, it sets whatever
/// else the client says.
pub fn bindings(input: &[u8]) {
    static SUBJECT: LazyLock<Subject> = LazyLock::new(subject);
    let [choice, options, rest @ ..] = input else { return };
    let Binding { variables, plan } = &SUBJECT.bindings[usize::from(*choice) % SUBJECT.bindings.len()];
    let mut parts = rest.splitn(variables.len() + 2, |byte| *byte == 0);
    let Some(captures) = parts.by_ref().take(variables.len()).map(text).collect::<Option<Vec<Cow<'_, str>>>>() else {
        return;
    };
    let (Some(query), Some(body)) = (parts.next().and_then(text), parts.next()) else { return };
    // Some bodies are forms of parts, `name=content` each, with a byte 1 between them.
    let is_encoded = options & 32 != 0;
    let is_form = options & 2 != 0 && !is_encoded;
    let of_parts = is_form && options & 8 != 0;
    let form = if of_parts { form_parts(body, options & 16 != 0) } else { Vec::new() };
    let request = Input {
        captures: &captures,
        headers: None,
        query: Some(&*query),
        body: if of_parts || is_encoded { &[] } else { body },
        content_type: Some("text/plain"),
        form: is_form,
        parts: &form,
        patch: options & 4 != 0,
    };
    let json = Json { ignore_unknown_fields: options & 1 != 0, preserve_proto_names: true, ..Json::default() };

    let mut out = BytesMut::from("before");
    let result = match is_encoded {
        true => plan.encode_over(body, &request, json, &mut out),
        false => plan.encode(&request, json, &mut out),
    };

    let Ok(wire) = after(result, &out) else { return };
    // An element may be one character in the query; a default in the path is written for the sake of its presence.
    assert!(wire.len() <= 12 * rest.len() + 1024, "{} bytes became {}", rest.len(), wire.len());
    let mut written = BytesMut::new();
    match SUBJECT.reply.decode(&wire, json, usize::MAX, &mut written) {
        Ok(()) => check_json(&written),
        // What the path does not touch is as the client wrote it.
        Err(_) if is_encoded => return,
        // A path in the form of the `.proto` file goes out as it is: not each has a form in JSON.
        Err(error) => assert!(error.message.contains("field mask path"), "{error}"),
    }
    if !is_encoded {
        check_singular(&wire);
    }
    let mut alone = BytesMut::new();
    let path = Input { captures: &captures, ..Input::default() };
    plan.encode(&path, json, &mut alone).expect("the path is good");
    let mut expected = BytesMut::new();
    SUBJECT.reply.decode(&alone, json, usize::MAX, &mut expected).expect("the path sets no paths of masks");
    // Neither is read if it is too deep to be looked at.
    let [Ok(found), Ok(wanted)] = [&written, &expected].map(|json| serde_json::from_slice::<Value>(json)) else {
        return;
    };
    for name in *variables {
        let pointer = format!("/{}", name.replace('.', "/"));
        assert_eq!(found.pointer(&pointer), wanted.pointer(&pointer), "{name} in {found}");
    }
}

fn subject() -> Subject {
    let plans = plans("every_kind.proto");
    let id = plans.schema().message_named("test.Request").expect("the schema has the message");
    let compile = |(variables, body): &(&'static [&'static str], &str)| {
        let body = match *body {
            "" => BodyRule::None,
            "*" => BodyRule::Whole,
            field => BodyRule::Field(field.into()),
        };
        Binding { variables, plan: RequestPlan::compile(&plans, id, variables, &body).expect("the binding fits") }
    };
    let bindings = BINDINGS.iter().map(compile).collect();
    Subject { bindings, reply: ReplyPlan::compile(&plans, id, None).expect("a reply may be any message") }
}

fn form_parts(body: &[u8], is_file: bool) -> Vec<Part> {
    let pairs = body.split(|byte| *byte == 1).filter_map(|part| {
        let at = part.iter().position(|byte| *byte == b'=')?;
        Some((std::str::from_utf8(&part[..at]).ok()?, &part[at + 1..]))
    });
    let part = |(name, data): (&str, &[u8])| Part {
        name: name.to_owned(),
        is_file,
        content_type: is_file.then(|| "a/b".to_owned()),
        data: Bytes::copy_from_slice(data),
    };
    pairs.map(part).collect()
}

fn text(bytes: &[u8]) -> Option<Cow<'_, str>> {
    std::str::from_utf8(bytes).ok().map(Cow::Borrowed)
}

fn check_singular(mut wire: &[u8]) {
    let mut seen = [false; SINGULAR.len()];
    while !wire.is_empty() {
        let tag = varint(&mut wire);
        let length = match tag & 7 {
            0 => {
                varint(&mut wire);
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut wire)).expect("a length fits"),
            5 => 4,
            other => panic!("wire type {other}"),
        };
        wire = &wire[length..];
        if let Some(place) = SINGULAR.iter().position(|number| *number == tag >> 3) {
            assert!(!std::mem::replace(&mut seen[place], true), "field {} goes out twice", tag >> 3);
        }
    }
}

fn varint(wire: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = wire.split_first().expect("the varint ends");
        *wire = rest;
        value |= u64::from(byte & 127) << shift;
        if byte & 128 == 0 {
            return value;
        }
    }
    panic!("the varint is too long")
}
