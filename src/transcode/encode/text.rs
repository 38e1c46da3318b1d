//! Values given as bare text: path captures, query parameters, map keys.
//!
//! The same forms as in JSON, without the quotes: `42`, `true`, `SCIENCE`, base64, `2024-01-31T12:00:00Z`, `1.5s`. A
//! wrapper takes what its value takes; `Struct`, `Value` and `ListValue` take JSON text. A `FieldMask` may be given by
//! names of the `.proto` file too (`display_name`), because that is how most people write `update_mask` in a query.

use super::value::{enum_bits, enum_number, write_base64, write_scalar};
use super::well_known::{FIRST_STRING, description, is_formatted, write_formatted, write_mask_path};
use super::{Encoder, Lead};
use crate::schema::Kind;
use crate::transcode::error::{Error, Result, excerpt};
use crate::transcode::lexer::Lexer;
use crate::transcode::out::Out;
use crate::transcode::plan::{FieldPlan, MessagePlan, Plans, WellKnown};
use crate::transcode::{field_mask, number, suggest};

/// How text is turned into the value of a field.
#[derive(Debug, Clone, Copy)]
pub(in crate::transcode) struct TextValue<'a> {
    pub(in crate::transcode) plans: &'a Plans,
    pub(in crate::transcode) text: &'a str,
    /// Drop unknown enum values, and unknown members in JSON text.
    pub(in crate::transcode) ignore_unknown: bool,
}

impl<'a> TextValue<'a> {
    /// Appends one value of the field; `false` if it was dropped.
    pub(in crate::transcode) fn write(self, field: &'a FieldPlan, lead: Lead, out: &mut Out<'_>) -> Result<bool> {
        match field.kind {
            Kind::String => {
                if lead != Lead::TagUnlessDefault || !self.text.is_empty() {
                    out.delimited(field.tag, self.text.as_bytes());
                }
            }
            Kind::Bytes => {
                if !write_base64(out, field, lead, self.text) {
                    return Err(self.expected(number::description(field.kind)));
                }
            }
            Kind::Bool => {
                let value = boolean(self.text).ok_or_else(|| self.expected(number::description(field.kind)))?;
                write_scalar(out, field, lead, u64::from(value));
            }
            Kind::Enum(id) => {
                let plan = self.plans.enumeration(id);
                let number = if plan.null && self.text == "null" { Some(0) } else { enum_number(plan, self.text) };
                let known = number.filter(|number| !plan.closed || plan.knows(*number));
                match known {
                    Some(number) => write_scalar(out, field, lead, enum_bits(number)),
                    None if self.ignore_unknown => return Ok(false),
                    None => return Err(Error::client(suggest::no_such_value(plan, self.text))),
                }
            }
            Kind::Message(id) => self.message(field, self.plans.message(id), out)?,
            Kind::Group(_) => return Err(Error::client("a message cannot be given as one value; name its fields")),
            kind => {
                let bits = number::bits_of_text(kind, self.text)
                    .map_err(|_| self.expected(number::description(field.kind)))?;
                write_scalar(out, field, lead, bits);
            }
        }
        Ok(true)
    }

    fn message(self, field: &'a FieldPlan, plan: &'a MessagePlan, out: &mut Out<'_>) -> Result<()> {
        match plan.well_known {
            Some(well_known) if is_formatted(well_known) => {
                out.tag(field.tag);
                let run = out.begin();
                if !self.formatted(well_known, out) {
                    return Err(self.expected(description(well_known)));
                }
                out.end(run);
            }
            Some(WellKnown::Wrapper(_)) => {
                let inner = plan.numbered(1).ok_or_else(|| self.expected("a value"))?;
                out.tag(field.tag);
                let run = out.begin();
                self.write(inner, Lead::TagUnlessDefault, out)?;
                out.end(run);
            }
            Some(WellKnown::Struct | WellKnown::Value | WellKnown::ListValue | WellKnown::Any) => {
                let mut encoder =
                    Encoder::new(self.plans, Lexer::new(self.text), out, self.ignore_unknown).bounded(self.text.len());
                encoder.submessage(field, None)?;
                encoder.lexer.end()?;
            }
            Some(_) | None => return Err(Error::client("a message cannot be given as one value; name its fields")),
        }
        Ok(())
    }

    /// A message that is a string in JSON. Masks may be in proto form.
    fn formatted(self, well_known: WellKnown, out: &mut Out<'_>) -> bool {
        if well_known != WellKnown::FieldMask || self.text.is_empty() {
            return write_formatted(out, well_known, self.text);
        }
        self.text.split(',').all(|path| {
            if field_mask::is_proto_form(path) {
                out.delimited(FIRST_STRING, path.as_bytes());
                return true;
            }
            write_mask_path(out, path)
        })
    }

    #[cold]
    fn expected(self, what: &str) -> Box<Error> {
        Error::client(format!("expected {what}, found {}", excerpt(self.text)))
    }
}

/// A map key from the name that it has in JSON, `false` if it is none of the kind.
pub(in crate::transcode) fn write_key(out: &mut Out<'_>, field: &FieldPlan, key: &str) -> bool {
    match field.kind {
        Kind::String => {
            out.delimited(field.tag, key.as_bytes());
            true
        }
        Kind::Bool => boolean(key).map(|value| write_scalar(out, field, Lead::Tag, u64::from(value))).is_some(),
        kind => number::bits_of_text(kind, key).map(|bits| write_scalar(out, field, Lead::Tag, bits)).is_ok(),
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}
