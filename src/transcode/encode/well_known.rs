//! Types with a form of their own in JSON, but for `Any`.

use super::{Encoder, Lead, Members};
use crate::schema::Kind;
use crate::transcode::error::Result;
use crate::transcode::field_mask;
use crate::transcode::out::Out;
use crate::transcode::plan::{MessagePlan, WellKnown};
use crate::transcode::time::{self, Moment};
use crate::transcode::wire::{Tag, WireType};

impl<'a> Encoder<'a, '_, '_> {
    /// The content of a well-known message.
    pub(super) fn well_known(&mut self, plan: &'a MessagePlan, well_known: WellKnown) -> Result<()> {
        match well_known {
            WellKnown::Timestamp | WellKnown::Duration | WellKnown::FieldMask => self.formatted(well_known),
            WellKnown::Wrapper(kind) => {
                let field = plan.numbered(1).filter(|field| field.kind == kind).ok_or_else(|| self.odd_type(plan))?;
                self.value(field, Lead::TagUnlessDefault).map(|_| ())
            }
            WellKnown::Struct => {
                let field = plan.numbered(1).ok_or_else(|| self.odd_type(plan))?;
                self.map(field)
            }
            WellKnown::ListValue => {
                let field = plan.numbered(1).ok_or_else(|| self.odd_type(plan))?;
                self.array(field)
            }
            WellKnown::Value => self.free_value(plan),
            WellKnown::Any => self.any(plan),
            WellKnown::HttpBody => self.object(plan, None, Members::Fields),
        }
    }

    /// A message that is a string in JSON.
    fn formatted(&mut self, well_known: WellKnown) -> Result<()> {
        if self.lexer.peek() != b'"' {
            return Err(self.lexer.expected(description(well_known)));
        }
        let at = self.lexer.offset();
        let text = self.lexer.string()?;
        if write_formatted(self.out, well_known, &text) {
            return Ok(());
        }
        Err(self.lexer.expected_at(at, description(well_known)))
    }

    /// `google.protobuf.Value`: the kind of token says which field it is.
    fn free_value(&mut self, plan: &'a MessagePlan) -> Result<()> {
        let number = match self.lexer.peek() {
            b'n' => 1,
            b'-' | b'0'..=b'9' => 2,
            b'"' => 3,
            b't' | b'f' => 4,
            b'{' => 5,
            b'[' => 6,
            _ => return Err(self.lexer.expected("a JSON value")),
        };
        let field = plan.numbered(number).filter(|field| self.plans.is_of_value(field));
        self.value(field.ok_or_else(|| self.odd_type(plan))?, Lead::Tag).map(|_| ())
    }
}

/// Whether the type is a single string in JSON.
pub(super) fn is_formatted(well_known: WellKnown) -> bool {
    matches!(well_known, WellKnown::Timestamp | WellKnown::Duration | WellKnown::FieldMask)
}

/// The content of a message that is a string in JSON, `false` if the text is not in its form.
pub(super) fn write_formatted(out: &mut Out<'_>, well_known: WellKnown, text: &str) -> bool {
    match well_known {
        WellKnown::Timestamp => time::parse_timestamp(text).map(|moment| write_moment(out, moment)).is_some(),
        WellKnown::Duration => time::parse_duration(text).map(|moment| write_moment(out, moment)).is_some(),
        WellKnown::FieldMask => text.is_empty() || text.split(',').all(|path| write_mask_path(out, path)),
        WellKnown::Any
        | WellKnown::HttpBody
        | WellKnown::ListValue
        | WellKnown::Struct
        | WellKnown::Value
        | WellKnown::Wrapper(_) => false,
    }
}

/// One path of a mask, from its JSON form.
pub(super) fn write_mask_path(out: &mut Out<'_>, path: &str) -> bool {
    out.tag(FIRST_STRING);
    let run = out.begin();
    let sound = field_mask::to_proto(path, |bytes| out.bytes(bytes));
    out.end(run);
    sound
}

/// What a well-known type takes, for messages.
pub(super) fn description(well_known: WellKnown) -> &'static str {
    match well_known {
        WellKnown::Timestamp => "an RFC 3339 timestamp such as \"2024-01-31T12:00:00Z\"",
        WellKnown::Duration => "a duration such as \"1.5s\"",
        WellKnown::FieldMask => "field paths such as \"displayName,author.birthYear\"",
        WellKnown::Wrapper(Kind::Bool) => "true or false",
        WellKnown::ListValue => "an array",
        WellKnown::Any => "an object with \"@type\"",
        WellKnown::Struct | WellKnown::HttpBody => "an object",
        WellKnown::Value | WellKnown::Wrapper(_) => "a value",
    }
}

fn write_moment(out: &mut Out<'_>, Moment { seconds, nanos }: Moment) {
    const SECONDS: Tag = Tag::new(1, WireType::Varint);
    const NANOS: Tag = Tag::new(2, WireType::Varint);
    if seconds != 0 {
        out.tag(SECONDS);
        out.varint(seconds.cast_unsigned());
    }
    if nanos != 0 {
        out.tag(NANOS);
        out.varint(i64::from(nanos).cast_unsigned());
    }
}

/// Field 1, length-delimited: a path of a mask.
pub(super) const FIRST_STRING: Tag = Tag::new(1, WireType::Delimited);
