//! Types with a form of their own in JSON, but for `Any`.

use std::borrow::Cow;

use super::{Decoder, Step, Stop, fail};
use crate::transcode::field_mask;
use crate::transcode::keys::KeySet;
use crate::transcode::plan::{FieldPlan, MessagePlan, WellKnown};
use crate::transcode::time::{MAX_TEXT, Moment};
use crate::transcode::wire::{Cursor, Head, Raw, WireType};

impl<'a> Decoder<'a, '_, '_> {
    /// A well-known message as a JSON value.
    pub(super) fn well_known(&mut self, plan: &'a MessagePlan, well_known: WellKnown, wire: &[u8]) -> Step {
        match well_known {
            WellKnown::Timestamp | WellKnown::Duration => self.moment(well_known, wire),
            WellKnown::FieldMask => self.field_mask(wire),
            WellKnown::Wrapper(kind) => {
                let field = first_field(plan)?;
                if field.kind != kind {
                    return Err(strange(plan));
                }
                let mut last = self.default_raw(field);
                let mut cursor = Cursor::new(wire);
                while let Some(head) = cursor.head()? {
                    let raw = cursor.read(head)?;
                    if head.number == 1 && head.wire_type == field.wire_type {
                        last = raw;
                    }
                }
                self.value(field, last)
            }
            WellKnown::Struct => {
                self.descend()?;
                self.entries(first_field(plan)?, Occurrences::of(1, wire))?;
                self.depth -= 1;
                Ok(())
            }
            WellKnown::ListValue => {
                self.descend()?;
                let field = first_field(plan)?;
                let open = self.out.len();
                for (index, element) in Occurrences::of(1, wire).enumerate() {
                    let element = element?;
                    self.check_room()?;
                    self.out.byte(b',');
                    self.value(field, Raw::Bytes(element)).map_err(|stop| stop.at_index(index))?;
                }
                if !self.close_list(open, open) {
                    self.out.bytes(b"[]");
                }
                self.depth -= 1;
                Ok(())
            }
            WellKnown::Value => self.free_value(plan, wire),
            WellKnown::Any => self.any(wire),
            WellKnown::HttpBody => {
                let mut cursor = Cursor::new(wire);
                self.object(plan, &mut cursor)?;
                Ok(cursor.end()?)
            }
        }
    }

    fn moment(&mut self, well_known: WellKnown, wire: &[u8]) -> Step {
        let mut moment = Moment { seconds: 0, nanos: 0 };
        let mut cursor = Cursor::new(wire);
        while let Some(head) = cursor.head()? {
            match (head.number, cursor.read(head)?) {
                (1, Raw::Bits(bits)) if head.wire_type == WireType::Varint => moment.seconds = bits.cast_signed(),
                (2, Raw::Bits(bits)) if head.wire_type == WireType::Varint => {
                    moment.nanos = ((bits & 0xffff_ffff) as u32).cast_signed();
                }
                _ => {}
            }
        }
        let mut text = [0; MAX_TEXT];
        let length = if well_known == WellKnown::Timestamp {
            moment.write_timestamp(&mut text).ok_or_else(|| fail("the timestamp is out of range"))?
        } else {
            moment.write_duration(&mut text).ok_or_else(|| fail("the duration is out of range"))?
        };
        self.out.byte(b'"');
        self.out.bytes(&text[..length]);
        self.out.byte(b'"');
        Ok(())
    }

    fn field_mask(&mut self, wire: &[u8]) -> Step {
        self.out.byte(b'"');
        let mut first = true;
        for path in Occurrences::of(1, wire) {
            let path = path?;
            if !std::mem::take(&mut first) {
                self.out.byte(b',');
            }
            let path = std::str::from_utf8(path).map_err(|_| fail("invalid UTF-8 in a string"))?;
            if !field_mask::to_json(path, |bytes| self.out.bytes(bytes)) {
                return Err(fail("a field mask path has no JSON form"));
            }
        }
        self.out.byte(b'"');
        Ok(())
    }

    /// `google.protobuf.Value`. One without a kind is `null`: it says nothing, and a reply should not fail for that.
    fn free_value(&mut self, plan: &'a MessagePlan, wire: &[u8]) -> Step {
        let mut found: Option<(&FieldPlan, Cow<'_, [u8]>, u64)> = None;
        let mut cursor = Cursor::new(wire);
        while let Some(head) = cursor.head()? {
            let raw = cursor.read(head)?;
            let Some(field) = plan.numbered(head.number).filter(|field| field.wire_type == head.wire_type) else {
                continue;
            };
            if found.is_some() && !self.thorough {
                return Err(Stop::Irregular);
            }
            found = Some(match (found, raw) {
                // The same message again is merged, which for the wire format is to be joined.
                (Some((before, mut joined, _)), Raw::Bytes(bytes))
                    if before.number == head.number && head.number > 4 =>
                {
                    self.join(&mut joined, bytes)?;
                    (field, joined, 0)
                }
                (_, Raw::Bytes(bytes)) => (field, Cow::Borrowed(bytes), 0),
                (_, Raw::Bits(bits)) => (field, Cow::Borrowed(&[]), bits),
            });
        }
        let Some((field, bytes, bits)) = found else {
            self.out.bytes(b"null");
            return Ok(());
        };
        if field.number == 2 && !f64::from_bits(bits).is_finite() {
            return Err(fail("a number in a google.protobuf.Value is not finite"));
        }
        let raw = if field.wire_type == WireType::Delimited { Raw::Bytes(&bytes) } else { Raw::Bits(bits) };
        if self.plans.is_of_value(field) { self.value(field, raw) } else { Err(strange(plan)) }
    }

    /// Entries of a map as an object without a key in front of it.
    pub(super) fn entries<'m>(
        &mut self,
        field: &'a FieldPlan,
        mut entries: impl Iterator<Item = Step<&'m [u8]>>,
    ) -> Step {
        let start = self.out.len();
        if self.thorough {
            self.entries_collected(field, &mut entries)?;
        } else {
            let plan = self.entry_plan(field)?;
            let mut keys = KeySet::default();
            for entry in entries {
                self.entry(plan, entry?, &mut keys)?;
            }
        }
        self.close_object(start);
        Ok(())
    }
}

/// What stands for an absent message where something must stand.
pub(super) fn absent(well_known: Option<WellKnown>) -> &'static str {
    match well_known {
        None | Some(WellKnown::Struct | WellKnown::Any | WellKnown::HttpBody) => "{}",
        Some(WellKnown::ListValue) => "[]",
        Some(WellKnown::FieldMask) => "\"\"",
        Some(WellKnown::Timestamp | WellKnown::Duration | WellKnown::Value | WellKnown::Wrapper(_)) => "null",
    }
}

fn first_field(plan: &MessagePlan) -> Step<&FieldPlan> {
    plan.numbered(1).ok_or_else(|| strange(plan))
}

#[cold]
fn strange(plan: &MessagePlan) -> Stop {
    fail(format!("the schema's {} is not the well-known type", plan.name))
}

/// Walks the length-delimited occurrences of one field.
#[derive(Debug)]
pub(super) struct Occurrences<'m> {
    head: Head,
    cursor: Cursor<'m>,
}

impl<'m> Occurrences<'m> {
    pub(super) fn of(number: u32, wire: &'m [u8]) -> Self {
        Self { head: Head { number, wire_type: WireType::Delimited }, cursor: Cursor::new(wire) }
    }

    #[inline]
    fn step(&mut self) -> Step<Option<&'m [u8]>> {
        while let Some(head) = self.cursor.head()? {
            match self.cursor.read(head)? {
                Raw::Bytes(bytes) if head == self.head => return Ok(Some(bytes)),
                Raw::Bytes(_) | Raw::Bits(_) => {}
            }
        }
        Ok(None)
    }
}

/// Whoever takes one that is malformed ends with it.
impl<'m> Iterator for Occurrences<'m> {
    type Item = Step<&'m [u8]>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
