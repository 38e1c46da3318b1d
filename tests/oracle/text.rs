//! Random JSON texts of a message, spelled in every way that the mapping allows, and now and then in one that it does not.

#![allow(clippy::cast_possible_truncation, reason = "random bits are cut off on purpose")]

use std::fmt::Write as _;

use fastrand::Rng;
use portico::config::Json;
use portico::pb::google::protobuf::field_descriptor_proto::Type;

use crate::schema::{Field, Kind, Schema, Shape};

/// Text of a message, for whoever reads it with these settings.
pub(crate) fn random(rng: &mut Rng, schema: &Schema, message: usize, json: Json) -> String {
    let mut text = Text { rng, schema, json, out: String::new() };
    text.message(message, 4);
    text.out
}

struct Text<'a> {
    rng: &'a mut Rng,
    schema: &'a Schema,
    json: Json,
    out: String,
}

impl Text<'_> {
    fn message(&mut self, index: usize, depth: usize) {
        let message = &self.schema.messages[index];
        if let Some(name) = message.full_name.strip_prefix("google.protobuf.") {
            return self.well_known(name, depth);
        }
        let mut members = Vec::new();
        let mut oneofs = [false; 4];
        for field in &message.fields {
            if self.rng.u8(..3) == 0 || (depth == 0 && self.rng.u8(..3) != 0) {
                continue;
            }
            // Now and then two members of a oneof, which is wrong.
            if field.oneof.is_some_and(|oneof| std::mem::replace(&mut oneofs[oneof], true)) && self.rng.u8(..50) != 0 {
                continue;
            }
            members.push(field);
        }
        self.rng.shuffle(&mut members);
        if !members.is_empty() && self.rng.u8(..100) == 0 {
            members.push(members[0]);
        }
        let unknown = usize::from(self.rng.u8(..40) == 0);
        self.object(members.len() + unknown, |text, index| {
            let Some(field) = members.get(index) else {
                text.out.push_str("\"nobody\":");
                return text.free(depth);
            };
            let name = if text.rng.u8(..4) == 0 { &field.name } else { &field.json_name };
            text.string(name);
            text.out.push(':');
            text.field(field, depth);
        });
    }

    fn object(&mut self, count: usize, mut member: impl FnMut(&mut Self, usize)) {
        self.out.push('{');
        for index in 0..count {
            if index > 0 {
                self.out.push(',');
            }
            self.space();
            member(self, index);
            self.space();
        }
        self.out.push('}');
    }

    fn array(&mut self, count: usize, mut element: impl FnMut(&mut Self)) {
        self.out.push('[');
        for index in 0..count {
            if index > 0 {
                self.out.push(',');
            }
            self.space();
            element(self);
        }
        self.out.push(']');
    }

    fn space(&mut self) {
        if self.rng.u8(..12) == 0 {
            self.out.push_str([" ", "\n", "\t", "\r\n  "][self.rng.usize(..4)]);
        }
    }

    fn field(&mut self, field: &Field, depth: usize) {
        if self.rng.u8(..25) == 0 {
            return self.out.push_str("null");
        }
        match field.shape {
            Shape::Plain | Shape::Optional => self.value(field.kind, depth),
            Shape::Repeated { .. } => {
                let count = self.count(depth);
                self.array(count, |text| text.value(field.kind, depth));
            }
            Shape::Map { key } => {
                let mut keys: Vec<String> = (0..self.count(depth)).map(|_| self.key(key)).collect();
                keys.sort();
                keys.dedup();
                self.object(keys.len(), |text, index| {
                    text.string(&keys[index]);
                    text.out.push(':');
                    text.value(field.kind, depth);
                });
            }
        }
    }

    fn count(&mut self, depth: usize) -> usize {
        if depth == 0 { 0 } else { self.rng.usize(..4) }
    }

    fn key(&mut self, key: Type) -> String {
        match key {
            Type::Bool => self.rng.bool().to_string(),
            Type::String => ["", "a", "é", "b\"c", "\n", "😀"][self.rng.usize(..6)].to_owned(),
            _ => {
                let (front, back) = match self.rng.u8(..96) {
                    0 => ("", ".0"),
                    1 => ("", "e0"),
                    2 => ("0", ""),
                    3 => ("+", ""),
                    _ => ("", ""),
                };
                format!("{front}{}{back}", self.integer(key))
            }
        }
    }

    fn value(&mut self, kind: Kind, depth: usize) {
        match kind {
            Kind::Scalar(scalar) => self.scalar(scalar),
            Kind::Message(index) | Kind::Group(index) if depth > 0 => self.message(index, depth - 1),
            Kind::Message(index) | Kind::Group(index) => self.shallow(index),
            Kind::Enum(index) => {
                let (name, number) =
                    &self.schema.enums[index].values[self.rng.usize(..self.schema.enums[index].values.len())];
                match self.rng.u8(..20) {
                    0 => self.out.push_str("77"),
                    1 => self.out.push_str("\"NOBODY\""),
                    2..6 => _ = write!(self.out, "{number}"),
                    // Where unknown names are ignored, others take it for one.
                    6 if !self.json.ignore_unknown_fields => _ = write!(self.out, "\"{number}\""),
                    _ => self.string(name),
                }
            }
        }
    }

    /// A message without anything below.
    fn shallow(&mut self, index: usize) {
        let name = self.schema.messages[index].full_name.strip_prefix("google.protobuf.");
        match name {
            Some("ListValue") => self.out.push_str("[]"),
            Some("Value") => self.out.push_str("null"),
            Some(name) if !matches!(name, "Struct" | "Any" | "Empty") => self.well_known(name, 0),
            _ => self.out.push_str("{}"),
        }
    }

    fn scalar(&mut self, scalar: Type) {
        match scalar {
            Type::Bool => _ = write!(self.out, "{}", self.rng.bool()),
            Type::String => {
                let text = random_string(self.rng);
                self.string(&text);
            }
            Type::Bytes => {
                let text = self.base64();
                self.string(&text);
            }
            Type::Double | Type::Float => {
                let text = self.float(scalar);
                let quoted = !text.ends_with(|last: char| last.is_ascii_digit()) || self.rng.u8(..10) == 0;
                let quote = if quoted { "\"" } else { "" };
                _ = write!(self.out, "{quote}{text}{quote}");
            }
            _ => {
                let mut text = self.integer(scalar);
                if self.rng.u8(..16) == 0 {
                    text.push_str([".0", "e0", "e2", "0e-1", ".5", "E+1"][self.rng.usize(..6)]);
                }
                let quote = if self.rng.u8(..3) == 0 { "\"" } else { "" };
                _ = write!(self.out, "{quote}{text}{quote}");
            }
        }
    }

    fn integer(&mut self, scalar: Type) -> String {
        let bits = self.rng.u64(..) >> self.rng.u32(..64);
        let edge = self.rng.u8(..8) == 0;
        match scalar {
            Type::Int32 | Type::Sint32 | Type::Sfixed32 if edge => {
                ["-2147483648", "2147483647", "2147483648"][self.rng.usize(..3)].to_owned()
            }
            Type::Uint32 | Type::Fixed32 if edge => {
                ["0", "4294967295", "4294967296", "-1"][self.rng.usize(..4)].to_owned()
            }
            Type::Uint64 | Type::Fixed64 if edge => {
                ["0", "18446744073709551615", "18446744073709551616", "-0"][self.rng.usize(..4)].to_owned()
            }
            _ if edge => ["-9223372036854775808", "9223372036854775807", "9007199254740993", "9223372036854775808"]
                [self.rng.usize(..4)]
            .to_owned(),
            Type::Int32 | Type::Sint32 | Type::Sfixed32 => (bits as u32).cast_signed().to_string(),
            Type::Uint32 | Type::Fixed32 => (bits as u32).to_string(),
            Type::Uint64 | Type::Fixed64 => bits.to_string(),
            _ => bits.cast_signed().to_string(),
        }
    }

    fn float(&mut self, scalar: Type) -> String {
        const EDGES: [&str; 12] = [
            "NaN",
            "Infinity",
            "-Infinity",
            "0",
            "-0",
            "1e-400",
            "1e400",
            "3.4028235e38",
            "3.5e38",
            "5e-324",
            "1e-45",
            "1.7976931348623157e308",
        ];
        match self.rng.u8(..6) {
            0 => EDGES[self.rng.usize(..EDGES.len())].to_owned(),
            1 => self.rng.i32(-1000..1000).to_string(),
            2 => format!("{}.{}e{}", self.rng.i32(-99..99), self.rng.u64(..), self.rng.i32(-30..30)),
            _ if scalar == Type::Float => finite(f64::from(f32::from_bits(self.rng.u32(..)))),
            _ => finite(f64::from_bits(self.rng.u64(..))),
        }
    }

    fn base64(&mut self) -> String {
        const STANDARD: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        let length = self.rng.usize(..12);
        let url = self.rng.u8(..3) == 0;
        for index in 0..length {
            // The bits that the last character has too many are zero.
            let bits = match (index + 1 == length, length % 4) {
                (true, 2) => self.rng.usize(..4) * 16,
                (true, 3) => self.rng.usize(..16) * 4,
                _ => self.rng.usize(..64),
            };
            text.push(match STANDARD[bits] {
                b'+' if url => '-',
                b'/' if url => '_',
                byte => char::from(byte),
            });
        }
        if !url || self.rng.bool() {
            text.extend(std::iter::repeat_n('=', (4 - length % 4) % 4));
        }
        text
    }

    /// A JSON string, with needless escapes now and then.
    fn string(&mut self, text: &str) {
        let escape = self.rng.u8(..6) == 0;
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' if self.rng.bool() => self.out.push_str("\\n"),
                '/' if escape => self.out.push_str("\\/"),
                _ if escape || character < ' ' => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                _ => self.out.push(character),
            }
        }
        self.out.push('"');
    }

    fn well_known(&mut self, name: &str, depth: usize) {
        let scalar = match name {
            "DoubleValue" => Type::Double,
            "FloatValue" => Type::Float,
            "Int64Value" => Type::Int64,
            "UInt64Value" => Type::Uint64,
            "Int32Value" => Type::Int32,
            "UInt32Value" => Type::Uint32,
            "BoolValue" => Type::Bool,
            "StringValue" => Type::String,
            "BytesValue" => Type::Bytes,
            "Timestamp" => return self.timestamp(),
            "Duration" => return self.duration(),
            "FieldMask" => {
                let paths = ["", "a", "fooBar", "a.bC,d", "x1,y2.z", "foo_bar", "a,,b"][self.rng.usize(..7)];
                return self.string(paths);
            }
            "Value" => return self.free(depth),
            "Struct" => return self.free_object(depth),
            "ListValue" => return self.free_list(depth),
            "Any" => return self.any(depth),
            _ => return self.out.push_str("{}"),
        };
        self.scalar(scalar);
    }

    fn timestamp(&mut self) {
        let rng = &mut *self.rng;
        let fraction = random_fraction(rng);
        let offset = match rng.u8(..6) {
            0 => format!("{}{:02}:{:02}", ["+", "-"][rng.usize(..2)], rng.u8(..24), rng.u8(..60)),
            _ => "Z".to_owned(),
        };
        let (year, month, day) = (rng.u16(1..10_000), rng.u8(1..13), rng.u8(1..32));
        let (hour, minute, second) = (rng.u8(..25), rng.u8(..60), rng.u8(..60));
        _ = write!(self.out, "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{offset}\"");
    }

    fn duration(&mut self) {
        let seconds = match self.rng.u8(..4) {
            0 => 0,
            1 => 315_576_000_000,
            _ => self.rng.i64(..400_000_000_000),
        };
        let sign = if self.rng.bool() { "-" } else { "" };
        let fraction = random_fraction(self.rng);
        _ = write!(self.out, "\"{sign}{}{fraction}s\"", seconds.abs());
    }

    fn free(&mut self, depth: usize) {
        match self.rng.u8(..8) {
            0 => self.out.push_str("null"),
            1 => self.scalar(Type::Bool),
            2 | 3 => self.scalar(Type::String),
            4 => {
                let number = finite(f64::from_bits(self.rng.u64(..)));
                self.out.push_str(&number);
            }
            5 => _ = write!(self.out, "{}", self.rng.i32(..)),
            6 => self.free_list(depth),
            _ => self.free_object(depth),
        }
    }

    fn free_list(&mut self, depth: usize) {
        let count = self.count(depth);
        self.array(count, |text| text.free(depth - 1));
    }

    fn free_object(&mut self, depth: usize) {
        let count = self.count(depth);
        self.object(count, |text, index| {
            _ = write!(text.out, "\"k{index}\":");
            text.free(depth - 1);
        });
    }

    fn any(&mut self, depth: usize) {
        if depth == 0 || self.rng.u8(..10) == 0 {
            return self.out.push_str("{}");
        }
        let index = self.rng.usize(..self.schema.messages.len());
        let name = &self.schema.messages[index].full_name;
        let start = self.out.len();
        self.message(index, depth - 1);
        let value = self.out.split_off(start);
        let type_member = format!("\"@type\":\"type.googleapis.com/{name}\"");
        // An `Empty` may have one or not, and only once; types without fields that are none may not.
        let content = if name.starts_with("google.") && (!name.ends_with(".Empty") || self.rng.bool()) {
            let once = format!("\"value\":{value}");
            if self.rng.u8(..16) == 0 { format!("{once},{once}") } else { once }
        } else if value == "{}" && self.rng.u8(..4) == 0 {
            "\"value\":{}".to_owned()
        } else {
            value.trim_start_matches('{').strip_suffix('}').unwrap_or_default().trim().to_owned()
        };
        let last = self.rng.u8(..4) == 0;
        match (content.is_empty(), last) {
            (true, _) => _ = write!(self.out, "{{{type_member}}}"),
            (false, true) => _ = write!(self.out, "{{{content},{type_member}}}"),
            (false, false) => _ = write!(self.out, "{{{type_member},{content}}}"),
        }
    }
}

pub(crate) fn random_string(rng: &mut Rng) -> String {
    const PIECES: [&str; 12] = ["a", "Z", " ", "\"", "\\", "/", "\n", "\u{1}", "é", "漢", "😀", "\u{2028}"];
    (0..rng.usize(..10)).map(|_| PIECES[rng.usize(..PIECES.len())]).collect()
}

fn random_fraction(rng: &mut Rng) -> String {
    match rng.u8(..4) {
        0 | 1 => String::new(),
        2 => format!(".{:03}", rng.u32(..1000)),
        _ => format!(".{:09}", rng.u32(..1_000_000_000)),
    }
}

fn finite(number: f64) -> String {
    if number.is_finite() { format!("{number:e}") } else { "1.5".to_owned() }
}
