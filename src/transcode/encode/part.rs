//! Values given as the parts of a `multipart/form-data` body.
//!
//! A plain part is a value as in a query. A file, or whatever says that it is more than text, is taken as it is by a field
//! of bytes and by a `google.api.HttpBody`, which keeps its content type too. Messages are JSON.

use super::text::TextValue;
use super::{Encoder, Lead};
use crate::schema::Kind;
use crate::transcode::error::{Error, Result};
use crate::transcode::http_body;
use crate::transcode::lexer::Lexer;
use crate::transcode::out::Out;
use crate::transcode::parts::Part;
use crate::transcode::plan::{FieldPlan, MessagePlan, Plans, WellKnown};

/// A value that comes from outside of a JSON text.
#[derive(Debug, Clone, Copy)]
pub(in crate::transcode) enum Value<'a> {
    Text(TextValue<'a>),
    Part(PartValue<'a>),
}

/// How a part is turned into the value of a field.
#[derive(Debug, Clone, Copy)]
pub(in crate::transcode) struct PartValue<'a> {
    pub(in crate::transcode) plans: &'a Plans,
    pub(in crate::transcode) part: &'a Part,
    /// As [`TextValue::ignore_unknown`].
    pub(in crate::transcode) ignore_unknown: bool,
}

impl<'a> Value<'a> {
    pub(in crate::transcode) fn plans(self) -> &'a Plans {
        match self {
            Self::Text(value) => value.plans,
            Self::Part(value) => value.plans,
        }
    }

    /// In bytes.
    pub(in crate::transcode) fn size(self) -> usize {
        match self {
            Self::Text(value) => value.text.len(),
            Self::Part(value) => value.part.data.len(),
        }
    }

    /// Appends one value of the field; `false` if it was dropped.
    pub(in crate::transcode) fn write(self, field: &'a FieldPlan, lead: Lead, out: &mut Out<'_>) -> Result<bool> {
        match self {
            Self::Text(value) => value.write(field, lead, out),
            Self::Part(value) => value.write(field, lead, out),
        }
    }
}

impl<'a> PartValue<'a> {
    fn write(self, field: &'a FieldPlan, lead: Lead, out: &mut Out<'_>) -> Result<bool> {
        match field.kind {
            Kind::Bytes if !self.part.is_text() => {
                if lead != Lead::TagUnlessDefault || !self.part.data.is_empty() {
                    out.delimited(field.tag, &self.part.data);
                }
                Ok(true)
            }
            Kind::Message(id) => self.message(field, self.plans.message(id), lead, out),
            _ => self.text()?.write(field, lead, out),
        }
    }

    fn message(self, field: &'a FieldPlan, plan: &'a MessagePlan, lead: Lead, out: &mut Out<'_>) -> Result<bool> {
        match plan.well_known {
            Some(WellKnown::HttpBody) => {
                out.tag(field.tag);
                let run = out.begin();
                http_body::write(self.part.media_type(), &self.part.data, out);
                out.end(run);
            }
            Some(WellKnown::Wrapper(_)) if !self.part.is_json() => {
                let inner = plan.numbered(1).ok_or_else(|| Error::client("the schema's wrapper has no value"))?;
                out.tag(field.tag);
                let run = out.begin();
                self.write(inner, Lead::TagUnlessDefault, out)?;
                out.end(run);
            }
            Some(_) if !self.part.is_json() => return self.text()?.write(field, lead, out),
            Some(_) | None => {
                let text = self.text()?.text;
                if !self.part.is_json() && !self.part.is_text() {
                    let media = self.part.media_type().unwrap_or("a file of no type");
                    return Err(Error::client(format!("expected a {} as application/json, found {media}", plan.name)));
                }
                let lexer = Lexer::new(text);
                let mut encoder = Encoder::new(self.plans, lexer, out, self.ignore_unknown).bounded(text.len());
                encoder.submessage(field, None)?;
                encoder.lexer.end()?;
            }
        }
        Ok(true)
    }

    fn text(self) -> Result<TextValue<'a>> {
        let text = simdutf8::basic::from_utf8(&self.part.data).map_err(|_| Error::client("the part is not UTF-8"))?;
        Ok(TextValue { plans: self.plans, text, ignore_unknown: self.ignore_unknown })
    }
}
