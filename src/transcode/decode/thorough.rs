//! The slow way, which takes nothing for granted: all fields of a message are collected before the first is written.
//!
//! Singular scalars: the last one wins. Singular messages: all parts are joined, which for the wire format is the same as
//! merging them. Oneofs: the last member wins. Maps: the last entry of a key wins. Fields come in the order of their
//! declaration.

use std::borrow::Cow;

use hashbrown::HashMap;

use super::{Decoder, EntryPlan, Step, fail, suits};
use crate::schema::Kind;
use crate::transcode::message_set;
use crate::transcode::plan::{FieldPlan, MessagePlan, Seen, Shape};
use crate::transcode::wire::{Cursor, Head, Raw, WireType};

/// One value of a known field.
#[derive(Debug, Clone, Copy)]
struct Record<'m> {
    index: usize,
    head: Head,
    raw: Raw<'m>,
}

impl<'a> Decoder<'a, '_, '_> {
    /// The members of an object, and which fields were written.
    pub(super) fn fields_sorted(&mut self, plan: &'a MessagePlan, wire: &[u8]) -> Step<Seen> {
        let mut records = self.collect(plan, wire)?;
        records.sort_by_key(|record| record.index);
        let mut seen = Seen::default();
        for records in records.chunk_by(|one, other| one.index == other.index) {
            let Some(index) = records.first().map(|record| record.index) else { continue };
            let field = &plan.fields[index];
            let start = self.out.len();
            self.out.bytes(field.key(self.options.preserve_proto_names));
            if self.field(field, records, Absent::Omitted).map_err(|stop| stop.within(field.name()))? {
                seen.insert(index);
            } else {
                self.out.rewind(start);
            }
        }
        Ok(seen)
    }

    /// One field of a message as a JSON value, whether it is there or not.
    pub(super) fn only_field(&mut self, plan: &'a MessagePlan, index: usize, wire: &[u8]) -> Step {
        let field = &plan.fields[index];
        let mut records = self.collect(plan, wire)?;
        records.retain(|record| record.index == index);
        if !self.field(field, &records, Absent::Written).map_err(|stop| stop.within(field.name()))? {
            self.default_value(field);
        }
        Ok(())
    }

    /// The values that count, in the order of the wire.
    fn collect<'m>(&self, plan: &MessagePlan, wire: &'m [u8]) -> Step<Vec<Record<'m>>> {
        let mut records = Vec::new();
        // The member of each oneof that is set, and since which record.
        let mut members = HashMap::<u32, (usize, usize)>::new();
        let mut cursor = Cursor::new(wire);
        while let Some(head) = cursor.head()? {
            let raw = cursor.read(head)?;
            let (head, raw) = if plan.message_set { message_set::extension(head, raw)? } else { (head, raw) };
            let Some(index) = plan.field_numbered(head.number) else { continue };
            let field = &plan.fields[index];
            let ours = match field.shape {
                Shape::Single => head.wire_type == field.wire_type && self.is_known(field, raw),
                Shape::Repeated | Shape::Packed => suits(field, head),
                Shape::Map => head.wire_type == WireType::Delimited,
            };
            if !ours {
                continue;
            }
            if let Some(oneof) = field.oneof {
                let member = members.entry(oneof).or_insert((index, 0));
                if member.0 != index {
                    *member = (index, records.len());
                }
            }
            records.push(Record { index, head, raw });
        }
        if !members.is_empty() {
            let mut position = 0;
            records.retain(|record| {
                position += 1;
                let member = plan.fields[record.index].oneof.and_then(|oneof| members.get(&oneof));
                member.is_none_or(|(index, since)| *index == record.index && position > *since)
            });
        }
        Ok(records)
    }

    /// The value of a field from all its records; `false` if nothing is to be written.
    fn field(&mut self, field: &'a FieldPlan, records: &[Record<'_>], absent: Absent) -> Step<bool> {
        match field.shape {
            Shape::Single => {
                let Some(last) = records.last() else { return Ok(false) };
                let omitted = field.implicit && field.is_default(last.raw) && !self.options.emit_defaults;
                if omitted && absent == Absent::Omitted {
                    return Ok(false);
                }
                if matches!(field.kind, Kind::Message(_) | Kind::Group(_)) && records.len() > 1 {
                    let mut joined = Cow::Borrowed(&[][..]);
                    for record in records {
                        self.join(&mut joined, bytes(record.raw))?;
                    }
                    self.value(field, Raw::Bytes(&joined))?;
                } else {
                    self.value(field, last.raw)?;
                }
                Ok(true)
            }
            Shape::Repeated | Shape::Packed => {
                let (open, mut index) = (self.out.len(), 0);
                for record in records {
                    self.elements(field, record.head, record.raw, &mut index)?;
                }
                Ok(self.close_list(open, open))
            }
            Shape::Map => {
                let entries: Vec<&[u8]> = records.iter().map(|record| bytes(record.raw)).collect();
                let start = self.out.len();
                self.entries(field, &entries)?;
                let empty = self.out.len() == start + 2;
                if empty {
                    self.out.rewind(start);
                }
                Ok(!empty)
            }
        }
    }

    /// Map entries, each with a comma in front; the last one of a key wins.
    pub(super) fn entries_sorted(&mut self, field: &'a FieldPlan, entries: &[&[u8]]) -> Step {
        let plan = self.entry_plan(field)?;
        let mut found: Vec<Entry<'_>> = Vec::new();
        let mut places = HashMap::<Raw<'_>, usize>::new();
        for wire in entries {
            let entry = self.collect_entry(plan, wire)?;
            if !self.is_known(plan.value, Raw::Bits(entry.bits)) {
                continue;
            }
            match places.get(&entry.key) {
                Some(place) => found[*place] = entry,
                None => {
                    places.insert(entry.key, found.len());
                    found.push(entry);
                }
            }
        }
        for Entry { key, bytes, bits } in found {
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
        let left = self.joinable.checked_sub(copied);
        self.joinable = left.ok_or_else(|| fail("messages inside each other are split into parts too often"))?;
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
                (1, raw) if head.wire_type == plan.key.wire_type => entry.key = canonical(plan.key.kind, raw),
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

/// What becomes of a field at its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// As the options say.
    Omitted,
    /// It is the whole body, so something must stand.
    Written,
}

fn is_message(field: &FieldPlan) -> bool {
    matches!(field.kind, Kind::Message(_) | Kind::Group(_))
}

/// Equal keys become equal bits, however they were written.
fn canonical(kind: Kind, raw: Raw<'_>) -> Raw<'_> {
    match (kind, raw) {
        (Kind::Bool, Raw::Bits(bits)) => Raw::Bits(u64::from(bits != 0)),
        (Kind::Int32 | Kind::Uint32 | Kind::Sint32, Raw::Bits(bits)) => Raw::Bits(bits & 0xffff_ffff),
        _ => raw,
    }
}

fn bytes<'m>(raw: Raw<'m>) -> &'m [u8] {
    match raw {
        Raw::Bytes(bytes) => bytes,
        Raw::Bits(_) => &[],
    }
}
