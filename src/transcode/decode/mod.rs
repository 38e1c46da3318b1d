//! Wire bytes → JSON text, in one pass.
//!
//! Every member is written as `,"name":value`; when an object ends, its first comma becomes the brace. Fields come in the
//! order in which the upstream wrote them, each where it first stood, which for every serializer in use is the order of
//! their numbers; defaults that `emit_defaults` asks for come last.
//!
//! The pass is optimistic: it takes for granted that a singular field stands once, that the elements of a repeated field
//! stand together, that map keys differ and that strings are UTF-8, which is checked once for the whole text at the end.
//! Serializers write it so. Where it turns out otherwise, which is legal
//! (<https://protobuf.dev/programming-guides/encoding/#last-one-wins>), everything is taken back and done [`thorough`]ly.
//! That happens at most once, so the cost stays linear. A MessageSet is always read so, and a field that is the whole body.
//!
//! Unknown fields are skipped, and so are known ones with another wire type and unknown values of closed enums.

mod any;
mod scalar;
mod string;
mod thorough;
mod well_known;

use super::error::{Error, Result};
use super::keys::KeySet;
use super::out::Out;
use super::plan::{FieldPlan, MessagePlan, Plans, Seen, Shape};
use super::wire::{Cursor, Head, Malformed, Raw, WireType};
use crate::config::Json;
use crate::schema::Kind;

pub(super) use scalar::write_base64;
pub(super) use string::write_string;
use well_known::Occurrences;

/// Messages inside each other; what protobuf's own parsers allow. Those that are written as the one value in them, as
/// `Value` is, do not count: so every request that may be sent may also be answered.
const MAX_DEPTH: usize = 100;

/// How often, on average, a byte of a message may be copied to join parts, or looked at to find the end of a group. A
/// message that was sent in two halves, as a serializer may, takes one for each level that is split; a group that is read
/// [`thorough`]ly two for each level above it.
const MAX_AGAIN: usize = 32;

/// Bytes for which that is never too often: no message of a few kB can cost much.
const FREE_AGAIN: usize = 1 << 18;

/// Reads wire bytes, writes JSON.
#[derive(Debug)]
pub(super) struct Decoder<'a, 'o, 'b> {
    plans: &'a Plans,
    /// Where types of `Any` are looked up; `plans` may be those of a type that every gateway knows.
    types: &'a Plans,
    out: &'o mut Out<'b>,
    options: Json,
    /// Where the text may end at most, but for the value that crosses it.
    limit: usize,
    depth: usize,
    /// Bytes that may still be copied to join the parts of split messages, or looked at to find the ends of groups: those
    /// inside each other must not cost more than the message is worth.
    again: usize,
    /// Whether nothing is taken for granted.
    thorough: bool,
    /// Whether all strings so far were ASCII.
    ascii: bool,
}

/// Why a pass ends early.
#[derive(Debug)]
enum Stop {
    /// The optimistic pass took something for granted that is not so.
    Irregular,
    /// The message is wrong.
    Failed(Box<Error>),
}

type Step<T = ()> = std::result::Result<T, Stop>;

impl<'a, 'o, 'b> Decoder<'a, 'o, 'b> {
    /// Appends to `out`.
    pub(super) fn new(plans: &'a Plans, options: Json, out: &'o mut Out<'b>) -> Self {
        Self {
            plans,
            types: plans,
            out,
            options,
            limit: usize::MAX,
            depth: 0,
            again: usize::MAX,
            thorough: false,
            ascii: true,
        }
    }

    /// Ends in an error once it has appended more than `bytes`: short elements can have long names, so the text of a
    /// reply may be many times as long as its message.
    pub(super) fn bounded(mut self, bytes: usize) -> Self {
        self.limit = self.out.len().saturating_add(bytes);
        self
    }

    /// Writes a message as a JSON value.
    pub(super) fn whole_message(&mut self, plan: &'a MessagePlan, wire: &[u8]) -> Result<()> {
        self.twice(wire, |decoder| decoder.message(plan, wire))
    }

    /// Writes one field of a message as a JSON value; see [`super::ReplyPlan::decode`] for one that is absent.
    pub(super) fn whole_field(&mut self, plan: &'a MessagePlan, index: usize, wire: &[u8]) -> Result<()> {
        self.twice(wire, |decoder| decoder.only_field(plan, index, wire))
    }

    /// Writes the field that indices of fields lead to as a JSON value; `false` if it is not set.
    pub(super) fn field_at(&mut self, plan: &'a MessagePlan, way: &[u32], wire: &[u8]) -> Result<bool> {
        self.twice(wire, |decoder| decoder.field_below(plan, way, wire))
    }

    /// Writes an `Any` of this type and content.
    pub(super) fn whole_any(&mut self, type_url: &str, value: &[u8]) -> Result<()> {
        self.twice(value, |decoder| decoder.any_object(type_url, value))
    }

    fn twice<T>(&mut self, wire: &[u8], pass: impl Fn(&mut Self) -> Step<T>) -> Result<T> {
        let (start, plans) = (self.out.len(), self.plans);
        let again = wire.len().saturating_mul(MAX_AGAIN).saturating_add(FREE_AGAIN);
        self.again = again;
        let mut result = pass(self);
        // Text of strings that are not UTF-8 is none either: what stands around them is ASCII or comes from the schema.
        if result.is_ok() && !self.ascii && simdutf8::basic::from_utf8(self.out.since(start)).is_err() {
            result = Err(Stop::Irregular);
        }
        // What is wrong may be of a value that another one replaces further on: the thorough pass has the last word.
        if result.is_err() {
            self.out.rewind(start);
            (self.plans, self.depth, self.again, self.thorough) = (plans, 0, again, true);
            result = pass(self);
        }
        match result.and_then(|done| self.check_room().map(|()| done)) {
            Ok(done) => Ok(done),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Irregular) => Err(Error::upstream("malformed message")),
        }
    }

    /// The form that the type has in JSON.
    fn message(&mut self, plan: &'a MessagePlan, wire: &[u8]) -> Step {
        match plan.well_known {
            Some(well_known) if !well_known.is_object() => self.well_known(plan, well_known, wire)?,
            _ => {
                let mut cursor = Cursor::new(wire);
                self.object(plan, &mut cursor)?;
                cursor.end()?;
            }
        }
        Ok(())
    }

    /// A group, from behind its start to behind its end. It is not cut out first as other messages are: to find the end of
    /// one is to read all of it, again for each level of groups inside each other.
    #[inline(never)]
    fn group(&mut self, field: &'a FieldPlan, cursor: &mut Cursor<'_>) -> Step {
        let head = Head { number: field.number, wire_type: WireType::StartGroup };
        let Some(plan) = field.kind.message().map(|id| self.plans.message(id)) else {
            return Err(Malformed::Group.into());
        };
        if plan.well_known.is_some() || plan.message_set {
            let raw = cursor.read(head)?;
            return self.value(field, raw);
        }
        self.object(plan, cursor)?;
        Ok(cursor.end_group(field.number)?)
    }

    #[inline]
    fn descend(&mut self) -> Step {
        if self.depth == MAX_DEPTH {
            return Err(fail(format!("messages are nested more than {MAX_DEPTH} levels deep")));
        }
        self.depth += 1;
        Ok(())
    }

    #[inline]
    fn check_room(&self) -> Step {
        if self.out.len() > self.limit { Err(Stop::Failed(Error::too_large())) } else { Ok(()) }
    }

    /// An object one level deeper.
    fn object(&mut self, plan: &'a MessagePlan, cursor: &mut Cursor<'_>) -> Step {
        let start = self.out.len();
        self.descend()?;
        self.fields(plan, cursor)?;
        self.depth -= 1;
        self.close_object(start);
        Ok(())
    }

    /// The members of an object, each with a comma in front.
    fn fields(&mut self, plan: &'a MessagePlan, cursor: &mut Cursor<'_>) -> Step {
        let thorough = self.thorough || plan.message_set;
        let seen = if thorough {
            self.fields_collected(plan, cursor.take_rest())?
        } else {
            self.fields_in_order(plan, cursor)?
        };
        if self.options.emit_defaults {
            self.defaults(plan, &seen);
        }
        Ok(())
    }

    /// Up to the end of the message, or in front of the end of a group.
    fn fields_in_order(&mut self, plan: &'a MessagePlan, outer: &mut Cursor<'_>) -> Step<Seen> {
        let mut seen = Seen::default();
        let mut cursor = *outer;
        // Guessed to come next: the field that is declared next.
        let mut guess = 0;
        while !cursor.is_empty() {
            let (index, head) = match plan.fields.get(guess) {
                Some(field) if cursor.eat(&field.tag) => (guess, field.head()),
                _ => {
                    let Some(head) = cursor.head_in_group()? else { break };
                    let Some(index) = plan.field_numbered(head.number) else {
                        cursor.read(head)?;
                        continue;
                    };
                    (index, head)
                }
            };
            guess = index + 1;
            let field = &plan.fields[index];
            match field.shape {
                Shape::Single if head.wire_type == field.wire_type => {
                    let is_group = head.wire_type == WireType::StartGroup;
                    let raw = if is_group { Raw::Bytes(&[]) } else { cursor.value(head.wire_type)? };
                    if !self.is_known(field, raw) {
                        continue;
                    }
                    if !seen.insert(index) || field.oneof.is_some_and(|oneof| !seen.insert(oneof as usize)) {
                        return Err(Stop::Irregular);
                    }
                    if field.implicit && field.is_default(raw) && !self.options.emit_defaults {
                        continue;
                    }
                    self.out.bytes(field.key(self.options.preserve_proto_names));
                    let written = if is_group { self.group(field, &mut cursor) } else { self.value(field, raw) };
                    written.map_err(|stop| stop.within(field.name()))?;
                }
                Shape::Repeated | Shape::Packed if suits(field, head) => {
                    let written = self.run(field, head, &mut cursor).map_err(|stop| stop.within(field.name()))?;
                    if written && !seen.insert(index) {
                        return Err(Stop::Irregular);
                    }
                }
                Shape::Map if head.wire_type == WireType::Delimited => {
                    let written = self.map_run(field, head, &mut cursor).map_err(|stop| stop.within(field.name()))?;
                    if written && !seen.insert(index) {
                        return Err(Stop::Irregular);
                    }
                }
                Shape::Single | Shape::Repeated | Shape::Packed | Shape::Map => {
                    cursor.read(head)?;
                }
            }
        }
        *outer = cursor;
        Ok(seen)
    }

    /// Elements of a repeated field that stand together. Whether there were any.
    fn run(&mut self, field: &'a FieldPlan, mut head: Head, cursor: &mut Cursor<'_>) -> Step<bool> {
        let start = self.out.len();
        self.out.bytes(field.key(self.options.preserve_proto_names));
        let open = self.out.len();
        let mut index = 0;
        loop {
            if head.wire_type == WireType::StartGroup {
                self.check_room()?;
                self.out.byte(b',');
                self.group(field, cursor).map_err(|stop| stop.at_index(index))?;
                index += 1;
            } else {
                let raw = cursor.value(head.wire_type)?;
                self.elements(field, head, raw, &mut index)?;
            }
            if cursor.eat(&field.tag) {
                head = field.head();
                continue;
            }
            let mut ahead = *cursor;
            match ahead.head_in_group()? {
                Some(next) if next.number == field.number && suits(field, next) => {
                    *cursor = ahead;
                    head = next;
                }
                _ => break,
            }
        }
        Ok(self.close_list(start, open))
    }

    /// One element, or the elements of a packed run; each with a comma in front.
    fn elements(&mut self, field: &'a FieldPlan, head: Head, raw: Raw<'_>, index: &mut usize) -> Step {
        match raw {
            Raw::Bytes(run) if head.wire_type != field.wire_type => match field.kind {
                Kind::Double => self.packed(run, WireType::Fixed64, index, |decoder, bits| {
                    decoder.double(f64::from_bits(bits));
                }),
                Kind::Int64 => self.packed(run, WireType::Varint, index, |decoder, bits| {
                    decoder.int64(bits.cast_signed());
                }),
                Kind::Int32 => self.packed(run, WireType::Varint, index, |decoder, bits| {
                    decoder.integer(i64::from(scalar::low_half(bits).cast_signed()));
                }),
                _ => {
                    let mut cursor = Cursor::new(run);
                    while !cursor.is_empty() {
                        let raw = cursor.value(field.wire_type)?;
                        self.element(field, raw, index)?;
                    }
                    Ok(())
                }
            },
            Raw::Bits(_) | Raw::Bytes(_) => self.element(field, raw, index),
        }
    }

    /// Elements of the kinds that long arrays usually have, without what [`Decoder::element`] asks for each.
    #[inline(always)]
    fn packed(
        &mut self,
        run: &[u8],
        wire_type: WireType,
        index: &mut usize,
        mut write: impl FnMut(&mut Self, u64),
    ) -> Step {
        let mut cursor = Cursor::new(run);
        while !cursor.is_empty() {
            let Raw::Bits(bits) = cursor.value(wire_type)? else { continue };
            self.check_room()?;
            self.out.byte(b',');
            write(self, bits);
            *index += 1;
        }
        Ok(())
    }

    #[inline]
    fn element(&mut self, field: &'a FieldPlan, raw: Raw<'_>, index: &mut usize) -> Step {
        if self.is_known(field, raw) {
            self.check_room()?;
            self.out.byte(b',');
            self.value(field, raw).map_err(|stop| stop.at_index(*index))?;
        }
        *index += 1;
        Ok(())
    }

    /// Entries of a map field that stand together. Whether there were any.
    fn map_run(&mut self, field: &'a FieldPlan, mut head: Head, cursor: &mut Cursor<'_>) -> Step<bool> {
        let start = self.out.len();
        self.out.bytes(field.key(self.options.preserve_proto_names));
        let open = self.out.len();
        let mut keys = KeySet::default();
        let entry_plan = self.entry_plan(field)?;
        loop {
            if let Raw::Bytes(entry) = cursor.read(head)? {
                self.entry(entry_plan, entry, &mut keys)?;
            }
            if cursor.eat(&field.tag) {
                head = field.head();
                continue;
            }
            let mut ahead = *cursor;
            match ahead.head_in_group()? {
                Some(next) if next.number == field.number && next.wire_type == WireType::Delimited => {
                    *cursor = ahead;
                    head = next;
                }
                _ => break,
            }
        }
        Ok(self.close_map(start, open))
    }

    /// One map entry with a comma in front: an optimistic one has its key and its value at most once.
    fn entry(&mut self, plan: EntryPlan<'a>, wire: &[u8], keys: &mut KeySet) -> Step {
        let (mut key, mut value) = (None, None);
        let mut cursor = Cursor::new(wire);
        // As serializers write it; what is left, if anything, is taken as it comes.
        if cursor.eat(&plan.key.tag) {
            key = Some(cursor.read(plan.key.head())?);
        }
        if cursor.eat(&plan.value.tag) {
            value = Some(cursor.read(plan.value.head())?);
        }
        while let Some(head) = cursor.head()? {
            let raw = cursor.read(head)?;
            let place = match head.number {
                1 if head.wire_type == plan.key.wire_type => &mut key,
                2 if head.wire_type == plan.value.wire_type => &mut value,
                _ => continue,
            };
            if place.replace(raw).is_some() {
                return Err(Stop::Irregular);
            }
        }
        let key = key.unwrap_or_else(|| self.default_raw(plan.key));
        let value = value.unwrap_or_else(|| self.default_raw(plan.value));
        if !self.is_known(plan.value, value) {
            return Ok(());
        }
        self.check_room()?;
        self.out.byte(b',');
        let start = self.out.len();
        self.map_key(plan.key, key)?;
        if !keys.insert(self.out.written(), start, self.out.len()) {
            return Err(Stop::Irregular);
        }
        self.out.byte(b':');
        self.value(plan.value, value)
    }

    fn entry_plan(&self, field: &FieldPlan) -> Step<EntryPlan<'a>> {
        let Kind::Message(id) = field.kind else { return Err(fail("the schema's map has no entries")) };
        let plan = self.plans.message(id);
        match (plan.numbered(1), plan.numbered(2)) {
            (Some(key), Some(value)) => Ok(EntryPlan { key, value }),
            _ => Err(fail("the schema's map has no entries")),
        }
    }

    fn close_object(&mut self, start: usize) {
        if self.out.len() == start {
            self.out.byte(b'{');
        } else {
            self.out.patch(start, b'{');
        }
        self.out.byte(b'}');
    }

    /// Ends an array whose elements start at `open`; takes everything from `start` back if there are none.
    fn close_list(&mut self, start: usize, open: usize) -> bool {
        let written = self.out.len() > open;
        if written {
            self.out.patch(open, b'[');
            self.out.byte(b']');
        } else {
            self.out.rewind(start);
        }
        written
    }

    /// The same for an object that is a map.
    fn close_map(&mut self, start: usize, open: usize) -> bool {
        let written = self.out.len() > open;
        if written {
            self.close_object(open);
        } else {
            self.out.rewind(start);
        }
        written
    }

    /// Fields without presence that were not on the wire.
    fn defaults(&mut self, plan: &'a MessagePlan, seen: &Seen) {
        for (index, field) in plan.fields.iter().enumerate() {
            if seen.contains(index) || !(field.implicit || field.is_repeated()) || field.is_extension() {
                continue;
            }
            self.out.bytes(field.key(self.options.preserve_proto_names));
            self.default_value(field);
        }
    }

    /// What stands for an absent field: `[]`, `{}`, the default, `null` for messages whose JSON form is not an object.
    fn default_value(&mut self, field: &'a FieldPlan) {
        match field.shape {
            Shape::Repeated | Shape::Packed => self.out.bytes(b"[]"),
            Shape::Map => self.out.bytes(b"{}"),
            Shape::Single => {
                let raw = self.default_raw(field);
                let written = match field.kind.message() {
                    Some(id) => {
                        let form = well_known::absent(self.plans.message(id).well_known);
                        self.out.bytes(form.as_bytes());
                        Ok(())
                    }
                    None => self.value(field, raw),
                };
                debug_assert!(written.is_ok(), "defaults are always sound");
            }
        }
    }
}

/// The two fields of a map entry.
#[derive(Debug, Clone, Copy)]
struct EntryPlan<'a> {
    key: &'a FieldPlan,
    value: &'a FieldPlan,
}

/// Whether a value on the wire belongs to the repeated field: as one element, or as a packed run.
#[inline]
fn suits(field: &FieldPlan, head: Head) -> bool {
    head.wire_type == field.wire_type || (head.wire_type == WireType::Delimited && field.wire_type.is_packable())
}

#[cold]
fn fail(message: impl Into<String>) -> Stop {
    Stop::Failed(Error::upstream(message))
}

impl Stop {
    #[cold]
    fn within(self, name: &str) -> Self {
        match self {
            Self::Irregular => Self::Irregular,
            Self::Failed(error) => Self::Failed(error.within(name)),
        }
    }

    #[cold]
    fn at_index(self, index: usize) -> Self {
        match self {
            Self::Irregular => Self::Irregular,
            Self::Failed(error) => Self::Failed(error.at_index(index)),
        }
    }
}

impl From<Malformed> for Stop {
    #[cold]
    fn from(malformed: Malformed) -> Self {
        fail(malformed.to_string())
    }
}
