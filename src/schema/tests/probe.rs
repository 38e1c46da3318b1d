//! Fields found in messages beside what prost-reflect reads.

use std::sync::LazyLock;

use proptest::prelude::*;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, Value};

use crate::schema::Schema;
use crate::schema::probe::{Probe, Unreadable};
use crate::schema::set::compile_str;

const SOURCE: &str = r#"
    syntax = "proto3";
    package t;
    enum E { ZERO = 0; }
    message M {
      string text = 1;
      int32 number = 2 [json_name = "count"];
      sint64 zigzag = 3;
      bool truth = 4;
      oneof choice { string one = 5; int64 other = 6; M nested = 7; }
      M inner = 8;
      repeated string list = 9;
      map<string, string> map = 10;
      E word = 11;
      double fraction = 12;
      uint32 unsigned = 13;
      sint32 small = 14;
      bytes raw = 15;
    }
    "#;

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| compile_str(SOURCE));

fn probe(path: &str) -> Result<Probe, String> {
    Probe::compile(&SCHEMA, SCHEMA.message_named("t.M").expect("it is declared"), path)
}

static KIND: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    let mut set = Vec::new();
    for file in SCHEMA.files() {
        prost::encoding::bytes::encode(1, &file.bytes, &mut set);
    }
    let pool = DescriptorPool::decode(set.as_slice()).expect("a good set");
    pool.get_message_by_name("t.M").expect("it is declared")
});

/// A field in some wire type, right or not, or a message of such fields.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![8 => 1_u32..9, 2 => 13_u32..16, 1 => 20_u32..30];
    let bits = prop_oneof![Just(0_u64), Just(1), 0_u64..300, any::<u64>(), Just(1 << 32), Just((1 << 32) + 5)];
    let varint = (number.clone(), bits).prop_map(|(number, bits)| {
        let mut bytes = Vec::new();
        prost::encoding::encode_key(number, prost::encoding::WireType::Varint, &mut bytes);
        prost::encoding::encode_varint(bits, &mut bytes);
        bytes
    });
    let text = (number, "[a-c]{0,2}").prop_map(|(number, text)| delimited(number, text.as_bytes()));
    let leaf = prop_oneof![varint, text];
    leaf.prop_recursive(3, 16, 4, move |inner| {
        (prop_oneof![Just(7_u32), Just(8)], prop::collection::vec(inner, 0..4))
            .prop_map(|(number, fields)| delimited(number, &fields.concat()))
    })
}

fn delimited(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut out);
    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

/// What prost-reflect reads at a path, as a probe writes it.
fn theirs(message: &DynamicMessage, path: &str) -> Option<Vec<u8>> {
    let mut message = message.clone();
    let mut names = path.split('.').peekable();
    loop {
        let name = names.next()?;
        if names.peek().is_some() {
            message = message.get_field_by_name(name)?.as_message()?.clone();
            continue;
        }
        let value = match message.get_field_by_name(name)?.into_owned() {
            Value::String(text) => text.into_bytes(),
            Value::Bytes(bytes) => bytes.to_vec(),
            Value::Bool(truth) => (if truth { "1" } else { "" }).into(),
            Value::I32(0) | Value::I64(0) | Value::U32(0) | Value::U64(0) => Vec::new(),
            Value::I32(number) => number.to_string().into_bytes(),
            Value::I64(number) => number.to_string().into_bytes(),
            Value::U32(number) => number.to_string().into_bytes(),
            Value::U64(number) => number.to_string().into_bytes(),
            _ => return None,
        };
        return Some(value).filter(|value| !value.is_empty());
    }
}

proptest! {
    #[test]
    fn what_is_found_is_what_a_service_reads(fields in prop::collection::vec(fragment(), 0..12)) {
        let bytes = fields.concat();
        // It refuses a field in a wire type of another kind, which others skip.
        let message = DynamicMessage::decode(KIND.clone(), bytes.as_slice()).ok();
        for path in [
            "text", "number", "zigzag", "truth", "one", "other", "nested.text", "nested.one", "inner.number",
            "inner.inner.text", "inner.nested.other", "unsigned", "small", "raw",
        ] {
            let found = probe(path).expect("a field").find(&bytes);
            if let Some(message) = &message {
                prop_assert_eq!(found, Ok(theirs(message, path)), "{}", path);
            }
        }
    }
}

#[test]
fn what_is_written_to_deceive_is_read_as_the_service_reads_it() {
    let find = |path: &str, bytes: &[u8]| probe(path).expect("a field").find(bytes);
    let text = |text: &str| Some(text.as_bytes().to_vec());

    assert_eq!(find("text", b"\x0a\x01a\x0a\x01b"), Ok(text("b")), "the last one counts");
    assert_eq!(find("text", b"\x0a\x01a\x08\x05"), Ok(text("a")), "a number is no text");
    assert_eq!(find("one", b"\x2a\x01a\x30\x05"), Ok(None), "another member of the oneof");
    assert_eq!(find("one", b"\x2a\x01a\x32\x01x"), Ok(text("a")), "a field in a wire type that is not its own");
    assert_eq!(find("number", b"\x10\x85\x80\x80\x80\x10"), Ok(text("5")), "cut to 32 bits");
    assert_eq!(find("number", b"\x10\x85\x80\x00"), Ok(text("5")), "written longer than needed");
    assert_eq!(find("inner.text", b"\x42\x03\x0a\x01a\x42\x00"), Ok(text("a")), "merged");
    assert_eq!(find("text", b"\x0a\x01a\x0a\x00"), Ok(None), "its default");
    assert_eq!(find("text", b"\x0a\x05a"), Err(Unreadable));
    assert_eq!(find("count", b"\x10\x05"), Ok(text("5")), "by its name in JSON");
}

#[test]
fn a_key_is_a_single_value_that_can_be_compared() {
    for (path, expected) in [
        ("nothing", "t.M has no field nothing"),
        ("text.more", "t.M.text has no fields"),
        ("list", "t.M.list has many values"),
        ("map", "t.M.map has many values"),
        ("inner", "t.M.inner is neither text"),
        ("word", "t.M.word is neither text"),
        ("fraction", "t.M.fraction is neither text"),
    ] {
        let problem = probe(path).expect_err(path);
        assert!(problem.starts_with(expected), "{problem}");
    }
}
