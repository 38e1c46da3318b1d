//! The slow way, which takes nothing for granted: all of a message is looked at before its first field is written.
//!
//! Singular scalars: the last one wins. Singular messages: all parts are joined, which for the wire format is the same as
//! merging them. Oneofs: the last member wins. Maps: the last entry of a key wins. Fields come in the order of the wire,
//! each where it, or a member of its oneof, first stood.
//!
//! What is kept meanwhile is one [`Found`] for each field, and of a list or a map where its elements stand, not themselves:
//! an element may be two bytes long.

use std::borrow::Cow;
use std::ops::Range;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry as Place;
use smallvec::{SmallVec, smallvec};

use super::{Decoder, EntryPlan, Occurrences, Step, fail, suits};
use crate::schema::Kind;
use crate::transcode::message_set;
use crate::transcode::plan::{FieldPlan, MessagePlan, Seen, Shape};
use crate::transcode::wire::{Cursor, Head, Raw, WireType};

/// What a message says of one of its fields.
#[derive(Debug)]
pub(super) struct Found<'m> {
    index: usize,
    value: Value<'m>,
}

#[derive(Debug)]
enum Value<'m> {
    /// Of a single scalar the last one.
    Scalar(Raw<'m>),
    /// Of a single message all parts, joined.
    Message(Cow<'m, [u8]>),
    /// Of a list or a map the stretches of the message in which elements stand, and no other field that is asked for.
    Many(SmallVec<[Range<usize>; 1]>),
}

impl<'a> Decoder<'a, '_, '_> {
    /// The members of an object, and which fields were written.
    pub(super) fn fields_collected(&mut self, plan: &'a MessagePlan, wire: &[u8]) -> Step<Seen> {
        let mut seen = Seen::default();
        for found in self.collect(plan, wire, None)? {
            let field = &plan.fields[found.index];
            let start = self.out.len();
            self.out.bytes(field.key(self.options.preserve_proto_names));
            let written = self.found(plan, &found, wire, Absent::Omitted).map_err(|stop| stop.within(field.name()))?;
            if written {
                seen.insert(found.index);
            } else {
                self.out.rewind(start);
            }
        }
        Ok(seen)
    }

    /// One field of a message as a JSON value, whether it is there or not.
    pub(super) fn only_field(&mut self, plan: &'a MessagePlan, index: usize, wire: &[u8]) -> Step {
        let field = &plan.fields[index];
        let written = match self.collect_one(plan, index, wire)? {
            Some(found) => self.found(plan, &found, wire, Absent::Written).map_err(|stop| stop.within(field.name()))?,
            None => false,
        };
        if !written {
            self.default_value(field);
        }
        Ok(())
    }

    /// The field that indices lead to as a JSON value; `false` if it is not set.
    pub(super) fn field_below(&mut self, plan: &'a MessagePlan, way: &[u32], wire: &[u8]) -> Step<bool> {
        let Some((&index, below)) = way.split_first() else { return Ok(false) };
        let Some(found) = self.collect_one(plan, index as usize, wire)? else { return Ok(false) };
        if below.is_empty() {
            return self.found(plan, &found, wire, Absent::Written);
        }
        match (&found.value, plan.fields[found.index].kind.message()) {
            (Value::Message(content), Some(id)) => self.field_below(self.plans.message(id), below, content),
            (Value::Message(_) | Value::Scalar(_) | Value::Many(_), _) => Ok(false),
        }
    }

    /// What a message says of one field, if anything.
    fn collect_one<'m>(&mut self, plan: &MessagePlan, index: usize, wire: &'m [u8]) -> Step<Option<Found<'m>>> {
        let found = self.collect(plan, wire, Some(slot(plan, index)))?;
        Ok(found.into_iter().find(|found| found.index == index))
    }

    /// What a message says of its fields, or of those with one [`slot`].
    fn collect<'m>(&mut self, plan: &MessagePlan, wire: &'m [u8], only: Option<usize>) -> Step<Vec<Found<'m>>> {
        let mut found = Vec::<Found<'m>>::new();
        let mut places = HashMap::<usize, usize>::new();
        let (mut latest, mut place) = (None, 0);
        let mut cursor = Cursor::new(wire);
        let mut start = 0;
        while let Some((index, _, raw)) = self.next_known(plan, only, &mut cursor)? {
            let end = wire.len() - cursor.left();
            let field = &plan.fields[index];
            let value = match raw {
                _ if field.is_repeated() => Value::Many(smallvec![start..end]),
                Raw::Bytes(part) if is_message(field) => Value::Message(Cow::Borrowed(part)),
                Raw::Bytes(_) | Raw::Bits(_) => Value::Scalar(raw),
            };
            start = end;
            // Elements of a list usually stand together.
            let slot = slot(plan, index);
            if latest != Some(slot) {
                latest = Some(slot);
                let next = found.len();
                place = *places.entry(slot).or_insert(next);
            }
            let Some(before) = found.get_mut(place) else {
                found.push(Found { index, value });
                continue;
            };
            match (&mut before.value, value) {
                (Value::Message(joined), Value::Message(part)) if before.index == index => self.join(joined, &part)?,
                (Value::Many(runs), Value::Many(more)) => extend(runs, more),
                (_, value) => *before = Found { index, value },
            }
        }
        Ok(found)
    }

    /// The next value of a field that is known, of those with a [`slot`] if that is given: its index, and what stands there.
    fn next_known<'m>(
        &mut self,
        plan: &MessagePlan,
        only: Option<usize>,
        cursor: &mut Cursor<'m>,
    ) -> Step<Option<(usize, Head, Raw<'m>)>> {
        while let Some(head) = cursor.head()? {
            let raw = cursor.read(head)?;
            if let (WireType::StartGroup, Raw::Bytes(content)) = (head.wire_type, raw) {
                let left = self.again.checked_sub(content.len());
                self.again = left.ok_or_else(|| fail("groups inside each other hold too much"))?;
            }
            let (head, raw) = if plan.message_set { message_set::extension(head, raw)? } else { (head, raw) };
            let Some(index) = plan.field_numbered(head.number) else { continue };
            if only.is_some_and(|only| only != slot(plan, index)) {
                continue;
            }
            let field = &plan.fields[index];
            let ours = match field.shape {
                Shape::Single => head.wire_type == field.wire_type && self.is_known(field, raw),
                Shape::Repeated | Shape::Packed => suits(field, head),
                Shape::Map => head.wire_type == WireType::Delimited,
            };
            if ours {
                return Ok(Some((index, head, raw)));
            }
        }
        Ok(None)
    }

    /// The value of a field of this message; `false` if nothing is to be written.
    fn found(&mut self, plan: &'a MessagePlan, found: &Found<'_>, wire: &[u8], absent: Absent) -> Step<bool> {
        let field = &plan.fields[found.index];
        match &found.value {
            Value::Scalar(raw) => {
                let omitted = field.implicit && field.is_default(*raw) && !self.options.emit_defaults;
                if omitted && absent == Absent::Omitted {
                    return Ok(false);
                }
                self.value(field, *raw)?;
                Ok(true)
            }
            Value::Message(content) => {
                self.value(field, Raw::Bytes(content))?;
                Ok(true)
            }
            Value::Many(runs) if field.shape == Shape::Map => {
                let start = self.out.len();
                let entries = runs.iter().flat_map(|run| Occurrences::of(field.number, &wire[run.clone()]));
                self.entries(field, entries)?;
                let empty = self.out.len() == start + 2;
                if empty {
                    self.out.rewind(start);
                }
                Ok(!empty)
            }
            Value::Many(runs) => {
                let (open, mut index) = (self.out.len(), 0);
                for run in runs {
                    let mut cursor = Cursor::new(&wire[run.clone()]);
                    while let Some((_, head, raw)) = self.next_known(plan, Some(found.index), &mut cursor)? {
                        self.elements(field, head, raw, &mut index)?;
                    }
                }
                Ok(self.close_list(open, open))
            }
        }
    }

    /// Map entries, each with a comma in front; the last one of a key wins.
    pub(super) fn entries_collected<'m>(
        &mut self,
        field: &'a FieldPlan,
        entries: &mut dyn Iterator<Item = Step<&'m [u8]>>,
    ) -> Step {
        let plan = self.entry_plan(field)?;
        let mut found = Vec::<&[u8]>::new();
        let mut places = HashMap::<Key<'_>, usize>::new();
        for wire in entries {
            let wire = wire?;
            let entry = self.collect_entry(plan, wire)?;
            if !self.is_known(plan.value, Raw::Bits(entry.bits)) {
                continue;
            }
            match places.entry(Key::of(plan.key.kind, entry.key)) {
                Place::Occupied(place) => found[*place.get()] = wire,
                Place::Vacant(place) => {
                    place.insert(found.len());
                    found.push(wire);
                }
            }
        }
        for wire in found {
            let Entry { key, bytes, bits } = self.collect_entry(plan, wire)?;
            self.check_room()?;
            self.out.byte(b',');
            self.map_key(plan.key, key)?;
            self.out.byte(b':');
            let delimited = matches!(plan.value.wire_type, WireType::Delimited | WireType::StartGroup);
            self.value(plan.value, if delimited { Raw::Bytes(&bytes) } else { Raw::Bits(bits) })?;
        }
        Ok(())
    }

    /// Appends a part of a message to those before it.
    pub(super) fn join(&mut self, parts: &mut Cow<'_, [u8]>, part: &[u8]) -> Step {
        let copied = part.len() + if matches!(parts, Cow::Borrowed(_)) { parts.len() } else { 0 };
        let left = self.again.checked_sub(copied);
        self.again = left.ok_or_else(|| fail("messages inside each other are split into parts too often"))?;
        parts.to_mut().extend_from_slice(part);
        Ok(())
    }

    /// One map entry; of several keys or values in it the last one wins, messages are joined.
    fn collect_entry<'m>(&mut self, plan: EntryPlan<'a>, wire: &'m [u8]) -> Step<Entry<'m>> {
        let default_bits = match self.default_raw(plan.value) {
            Raw::Bits(bits) => bits,
            Raw::Bytes(_) => 0,
        };
        let mut entry = Entry { key: self.default_raw(plan.key), bytes: Cow::Borrowed(&[]), bits: default_bits };
        let mut cursor = Cursor::new(wire);
        while let Some(head) = cursor.head()? {
            match (head.number, cursor.read(head)?) {
                (1, raw) if head.wire_type == plan.key.wire_type => entry.key = raw,
                (2, Raw::Bits(bits)) if head.wire_type == plan.value.wire_type => entry.bits = bits,
                (2, Raw::Bytes(bytes)) if head.wire_type == plan.value.wire_type => {
                    if is_message(plan.value) && !entry.bytes.is_empty() {
                        self.join(&mut entry.bytes, bytes)?;
                    } else {
                        entry.bytes = Cow::Borrowed(bytes);
                    }
                }
                _ => {}
            }
        }
        Ok(entry)
    }
}

/// A map entry: of `bytes` and `bits` the one that suits the type of its value counts.
#[derive(Debug)]
struct Entry<'m> {
    key: Raw<'m>,
    bytes: Cow<'m, [u8]>,
    bits: u64,
}

/// A key of a map as JSON can tell it from others, however it was written.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key<'m> {
    Number(u64),
    Text(Cow<'m, str>),
}

impl<'m> Key<'m> {
    fn of(kind: Kind, raw: Raw<'m>) -> Self {
        match (kind, raw) {
            (Kind::Bool, Raw::Bits(bits)) => Self::Number(u64::from(bits != 0)),
            (Kind::Int32 | Kind::Uint32 | Kind::Sint32, Raw::Bits(bits)) => Self::Number(bits & 0xffff_ffff),
            (_, Raw::Bits(bits)) => Self::Number(bits),
            (_, Raw::Bytes(bytes)) => Self::Text(String::from_utf8_lossy(bytes)),
        }
    }
}

/// What becomes of a field at its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// As the options say.
    Omitted,
    /// It is the whole body, so something must stand.
    Written,
}

/// What the members of a oneof have in common, and other fields for themselves.
fn slot(plan: &MessagePlan, index: usize) -> usize {
    plan.fields[index].oneof.map_or(index, |oneof| oneof as usize)
}

/// Appends stretches of a message; where one ends as the next begins, they become one.
fn extend(runs: &mut SmallVec<[Range<usize>; 1]>, more: SmallVec<[Range<usize>; 1]>) {
    for run in more {
        match runs.last_mut() {
            Some(last) if last.end == run.start => last.end = run.end,
            _ => runs.push(run),
        }
    }
}

fn is_message(field: &FieldPlan) -> bool {
    matches!(field.kind, Kind::Message(_) | Kind::Group(_))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::BytesMut;

    use super::*;
    use crate::config::Json;
    use crate::schema::set::compile_str;
    use crate::transcode::out::Out;
    use crate::transcode::plan::Plans;

    /// How many fields, and how many stretches of lists, are kept of a message.
    fn kept(wire: &[u8], only: Option<usize>) -> (usize, usize) {
        let source = "syntax = \"proto3\"; message M { int32 one = 1; repeated int32 many = 2; oneof o { bool a = 3; bool b = 4; } }";
        let plans = Plans::new(Arc::new(compile_str(source)));
        let mut buffer = BytesMut::new();
        let mut out = Out::new(&mut buffer, 0);
        let mut decoder = Decoder::new(&plans, Json::default(), &mut out);

        let plan = plans.message(plans.schema().message_named("M").unwrap());
        let found = decoder.collect(plan, wire, only).unwrap();

        let runs = found.iter().map(|found| match &found.value {
            Value::Many(runs) => runs.len(),
            Value::Scalar(_) | Value::Message(_) => 0,
        });
        (found.len(), runs.sum())
    }

    #[test]
    fn what_is_kept_of_a_message_does_not_grow_with_its_elements() {
        // Each is followed by a field that nobody knows.
        let singles = [8, 1, 72, 0].repeat(1000);
        let list = [16, 1, 72, 0].repeat(1000);
        let members = [24, 1, 32, 1].repeat(1000);
        let mixed = [16, 1, 8, 1].repeat(1000);

        assert_eq!(kept(&singles, None), (1, 0));
        assert_eq!(kept(&list, None), (1, 1));
        assert_eq!(kept(&members, None), (1, 0));
        assert_eq!(kept(&[singles, list, members].concat(), None), (3, 1));
        assert_eq!(kept(&mixed, None), (2, 1000));
        assert_eq!(kept(&mixed, Some(1)), (1, 1), "a list alone, whatever stands between its elements");
    }
}
