//! JSON text → wire bytes, in one pass.
//!
//! Tokens are read and bytes are written at once; there is no tree of the message between them. Fields are written in
//! the order in which they stand in the text. The next name is guessed to be that of the next declared field, which
//! costs one comparison; otherwise it is looked up. Lengths are put in front when a message ends ([`Out::begin`]).
//!
//! Rules: <https://protobuf.dev/programming-guides/json/>; where it leaves a choice, the strict one is taken: a name given
//! twice is refused (in either of its forms), so are two members of a oneof.
//!
//! An [`Overlay`] holds what the path and the query of the request set below this message. It is written into the same
//! submessages that the text fills, so that no singular submessage goes out twice: merging would be right, but several
//! decoders in use replace instead of merging.

mod any;
mod collection;
pub(super) mod mask;
pub(super) mod part;
pub(super) mod text;
mod value;
mod well_known;

use super::bindings::{Bound, Overlay, Source};
use super::error::{Error, REQUIRED, Result};
use super::lexer::Lexer;
use super::out::Out;
use super::plan::{FieldPlan, MessagePlan, Plans, Seen, Shape};
use super::suggest;

/// Reads JSON, writes wire bytes.
#[derive(Debug)]
pub(super) struct Encoder<'a, 'o, 'b> {
    plans: &'a Plans,
    /// Where types of `Any` are looked up; `plans` may be those of a type that every gateway knows.
    types: &'a Plans,
    lexer: Lexer<'a>,
    out: &'o mut Out<'b>,
    ignore_unknown: bool,
    /// Bytes that may still be looked at twice to find an `@type`: nested ones must not cost more than the text is worth.
    rescans: usize,
}

/// What stands in front of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lead {
    /// Its tag.
    Tag,
    /// Its tag; nothing at all is written for a default.
    TagUnlessDefault,
    /// Nothing: it stands in a packed run.
    Bare,
}

/// Which members an object may have beside its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Members {
    Fields,
    /// The content of an `Any` with its `@type`.
    FieldsAndType,
}

impl<'a, 'o, 'b> Encoder<'a, 'o, 'b> {
    /// Reads from `lexer`, appends to `out`.
    pub(super) fn new(plans: &'a Plans, lexer: Lexer<'a>, out: &'o mut Out<'b>, ignore_unknown: bool) -> Self {
        Self { plans, types: plans, lexer, out, ignore_unknown, rescans: usize::MAX }
    }

    /// Bounds what looking for `@type` may cost by the length of the text.
    pub(super) fn bounded(mut self, length: usize) -> Self {
        self.rescans = length.saturating_mul(16);
        self
    }

    /// A whole text that is a message: writes the content without tag or length.
    pub(super) fn whole_message(&mut self, plan: &'a MessagePlan, overlay: Option<Overlay<'a>>) -> Result<()> {
        self.message(plan, overlay)?;
        self.lexer.end()
    }

    /// A whole text that is the value of one field, of any kind. `null` is absence.
    pub(super) fn whole_field(&mut self, field: &'a FieldPlan, overlay: Option<Overlay<'a>>) -> Result<()> {
        if self.lexer.peek() == b'n' && !(field.null_is_value && field.shape == Shape::Single) {
            self.lexer.null()?;
            if let Some(overlay) = overlay {
                overlay.write_as(self.plans, field, self.out).map_err(|error| error.within(field.name()))?;
            }
        } else {
            self.field_value(field, overlay.map(Bound::Branch)).map_err(|error| error.within(field.name()))?;
        }
        self.lexer.end()
    }

    /// The content of a message in the form that its type has in JSON.
    fn message(&mut self, plan: &'a MessagePlan, overlay: Option<Overlay<'a>>) -> Result<()> {
        match plan.well_known {
            Some(well_known) if !well_known.is_object() && overlay.is_some() => {
                Err(self.lexer.error("the field and fields below it are both given".to_owned()))
            }
            Some(well_known) if !well_known.is_object() => self.well_known(plan, well_known),
            _ => self.object(plan, overlay, Members::Fields),
        }
    }

    fn object(&mut self, plan: &'a MessagePlan, overlay: Option<Overlay<'a>>, members: Members) -> Result<()> {
        let mut seen = Seen::default();
        if let Some(overlay) = overlay {
            overlay.claim_oneofs(plan, &mut seen);
        }
        self.lexer.open(b'{')?;
        let (mut first, mut guess, mut typed) = (true, 0, false);
        while self.lexer.more(b'}', &mut first)? {
            let at = self.lexer.offset();
            let index = match plan.fields.get(guess) {
                Some(field) if self.lexer.eat(field.json_key()) => guess,
                _ => match self.member(plan, members, &mut typed)? {
                    Some(index) => index,
                    None => continue,
                },
            };
            guess = index + 1;
            let field = &plan.fields[index];
            self.field(plan, index, overlay, &mut seen, at).map_err(|error| error.within(field.name()))?;
        }
        if let Some(overlay) = overlay {
            return overlay.write_rest(self.plans, plan, &seen, self.out);
        }
        match plan.missing(|index| seen.contains(index)) {
            Some(field) => Err(self.lexer.error(REQUIRED.to_owned()).within(field.name())),
            None => Ok(()),
        }
    }

    /// Index of the field whose name comes next, `None` if there is none and it was skipped. `typed`: whether `@type` was met.
    fn member(&mut self, plan: &'a MessagePlan, members: Members, typed: &mut bool) -> Result<Option<usize>> {
        let at = self.lexer.offset();
        let name = self.lexer.key()?;
        if let Some(index) = plan.field_named(&name) {
            return Ok(Some(index));
        }
        let is_type = members == Members::FieldsAndType && name == "@type";
        if is_type && std::mem::replace(typed, true) {
            return Err(self.lexer.error_at(at, "\"@type\" is given twice".to_owned()));
        }
        if !is_type && !self.ignore_unknown {
            let message = suggest::no_such_field(plan, &name);
            return Err(self.lexer.error_at(at, message).within_given(&name));
        }
        self.lexer.skip()?;
        Ok(None)
    }

    /// One member of an object; `at` is where its name stands.
    #[inline]
    fn field(
        &mut self,
        plan: &'a MessagePlan,
        index: usize,
        overlay: Option<Overlay<'a>>,
        seen: &mut Seen,
        at: usize,
    ) -> Result<()> {
        let field = &plan.fields[index];
        // Fields and oneofs have the numbers below; a field that is `null` is named, but not given.
        let named = 2 * plan.fields.len() + index;
        let is_null = self.lexer.peek() == b'n' && !(field.null_is_value && field.shape == Shape::Single);
        let is_new = if is_null {
            seen.insert(named) && !seen.contains(index)
        } else {
            seen.insert(index) && !seen.contains(named)
        };
        if !is_new {
            return Err(self.lexer.error_at(at, "the field is given twice".to_owned()));
        }
        if is_null {
            return self.lexer.null();
        }
        let bound = overlay.and_then(|overlay| overlay.child(index));
        if let Some(slot) = field.oneof
            && bound.is_none()
            && !seen.insert(slot as usize)
        {
            return Err(self.lexer.error_at(at, "another field of the same oneof is given too".to_owned()));
        }
        self.field_value(field, bound)
    }

    fn field_value(&mut self, field: &'a FieldPlan, bound: Option<Bound<'a>>) -> Result<()> {
        match (field.shape, bound) {
            (Shape::Single, None) => {
                let lead = if field.implicit { Lead::TagUnlessDefault } else { Lead::Tag };
                self.value(field, lead).map(|_| ())
            }
            (Shape::Single, Some(Bound::Branch(overlay))) => self.submessage(field, Some(overlay)),
            (Shape::Single, Some(Bound::Value(bytes, source))) => self.compare(field, bytes, source),
            (Shape::Repeated | Shape::Packed, None) => self.array(field),
            (Shape::Map, None) => self.map(field),
            (_, Some(Bound::List)) | (Shape::Repeated | Shape::Packed | Shape::Map, Some(_)) => {
                Err(self.lexer.error("the field is given by the query and by the body".to_owned()))
            }
        }
    }

    /// A field that the path or a header sets: the body may repeat its value, nothing else. A field without presence is as
    /// good as absent at its default, which many clients write out.
    fn compare(&mut self, field: &'a FieldPlan, expected: &[u8], source: Source) -> Result<()> {
        let (at, start) = (self.lexer.offset(), self.out.len());
        let lead = if field.implicit { Lead::TagUnlessDefault } else { Lead::Tag };
        self.value(field, lead)?;
        let given = self.out.since(start);
        // Nothing stands for a default, and for an unknown enum value that is ignored.
        let agrees = given.is_empty() || given == expected;
        self.out.rewind(start);
        if agrees {
            return Ok(());
        }
        Err(self.lexer.error_at(at, source.contradicted_by_body().to_owned()))
    }

    /// An error that the schema is to blame for: a well-known type that lacks its fields.
    #[cold]
    fn odd_type(&self, plan: &MessagePlan) -> Box<Error> {
        self.lexer.error(format!("the schema's {} is not the well-known type", plan.name))
    }
}
