//! The parts of a `multipart/form-data` body, and where they go in a message.

use bytes::Bytes;
use smallvec::SmallVec;

use super::bindings::{Bindings, Source, Target};
use super::encode::part::{PartValue, Value};
use super::error::{Error, Result};
use super::plan::{FieldPlan, Shape, WellKnown};
use super::query::{MAX_PAIRS, Name, Pairs};
use crate::media;
use crate::schema::Kind;

/// One part, or as much of it as goes into one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The name of a field, as in a form: `title`, `author.birth_year`, `labels[room]`.
    pub name: String,
    /// Whether it has the name of a file.
    pub is_file: bool,
    /// Its own content type, if it says one.
    pub content_type: Option<String>,
    /// Its content.
    pub data: Bytes,
}

impl Part {
    /// Its content type. What is no file is text if it does not say otherwise
    /// (<https://www.rfc-editor.org/rfc/rfc7578#section-4.4>).
    pub(super) fn media_type(&self) -> Option<&str> {
        self.content_type.as_deref().or_else(|| (!self.is_file).then_some("text/plain"))
    }

    /// Whether it is what a person wrote into a field, and no file.
    pub(super) fn is_text(&self) -> bool {
        !self.is_file && self.media_type().is_some_and(|media| media::is(media, "text/plain"))
    }

    pub(super) fn is_json(&self) -> bool {
        self.media_type().is_some_and(media::is_json)
    }
}

/// Where a part goes in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Indices of fields, as in a [`Target`]; none if the part is ignored.
    fields: SmallVec<[u32; 4]>,
    is_content: bool,
}

impl Place {
    /// Whether the part may be cut into several messages, each with some of its content: it goes into a single field of
    /// bytes, or into a `google.api.HttpBody`.
    pub fn is_content(&self) -> bool {
        self.is_content
    }
}

impl Pairs<'_> {
    /// Sets what the parts of a form say.
    ///
    /// # Errors
    /// A part is no value of its field, names none, or contradicts what is set already.
    pub(super) fn bind_parts(self, parts: &[Part], bindings: &mut Bindings) -> Result<()> {
        if parts.len() > MAX_PAIRS {
            return Err(Error::client(format!("more than {MAX_PAIRS} parts")));
        }
        for part in parts {
            let (root, mut fields) = self.start()?;
            let key = match self.resolve(root, &part.name, &mut fields)? {
                Name::Ignored => continue,
                Name::Field => None,
                Name::Entry(key) => Some(key),
            };
            let target = Target { root: self.root, fields: &fields, key, source: Source::Form };
            let value = PartValue { plans: self.plans, part, ignore_unknown: self.ignore_unknown };
            bindings.set(target, Value::Part(value))?;
        }
        Ok(())
    }

    /// Where a part goes, of which only the head is known yet, where these fields are set by others too.
    ///
    /// # Errors
    /// It names no field.
    pub(super) fn place<'f>(self, part: &Part, mut bound: impl Iterator<Item = &'f Box<[u32]>>) -> Result<Place> {
        let (root, mut fields) = self.start()?;
        if let Name::Ignored = self.resolve(root, &part.name, &mut fields)? {
            fields.clear();
        }
        let is_content = self.leaf(&fields).is_some_and(|field| {
            field.shape == Shape::Single
                && match field.kind {
                    Kind::Bytes => !part.is_text(),
                    Kind::Message(id) => self.plans.message(id).well_known == Some(WellKnown::HttpBody),
                    _ => false,
                }
        });
        // What has to agree with another value is compared whole.
        let is_content = is_content && !bound.any(|other| **other == *fields);
        Ok(Place { fields, is_content })
    }

    fn leaf(&self, fields: &[u32]) -> Option<&FieldPlan> {
        let (leaf, branches) = fields.split_last()?;
        let mut plan = self.plans.message(self.root);
        for &index in branches {
            plan = self.plans.message(plan.fields[index as usize].kind.message()?);
        }
        plan.fields.get(*leaf as usize)
    }

    /// Whether there is room for both in one message: not in one single field, nor in two members of a oneof.
    pub(super) fn go_together(self, one: &Place, other: &Place) -> bool {
        let mut plan = self.plans.message(self.root);
        for (&left, &right) in one.fields.iter().zip(&other.fields) {
            let (field, rival) = (&plan.fields[left as usize], &plan.fields[right as usize]);
            if left != right {
                return field.oneof.is_none() || field.oneof != rival.oneof;
            }
            if field.is_repeated() {
                return true;
            }
            match field.kind.message() {
                Some(id) => plan = self.plans.message(id),
                None => return false,
            }
        }
        // The same message, or a message and a field below it; or one of them is ignored.
        one.fields.is_empty() || other.fields.is_empty()
    }
}
