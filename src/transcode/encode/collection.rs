//! Repeated fields and maps.

use super::{Encoder, Lead};
use crate::schema::Kind;
use crate::transcode::error::Result;
use crate::transcode::keys::KeySet;
use crate::transcode::number;
use crate::transcode::plan::{FieldPlan, Shape};

impl<'a> Encoder<'a, '_, '_> {
    /// An array, for a repeated field.
    pub(super) fn array(&mut self, field: &'a FieldPlan) -> Result<()> {
        if field.shape != Shape::Packed {
            return self.elements(field, Lead::Tag);
        }
        let start = self.out.len();
        self.out.tag(field.tag);
        let run = self.out.begin();
        let empty = self.out.len();
        match field.kind {
            Kind::Double => self.packed(|encoder| {
                let bits = encoder.double()?;
                encoder.out.bytes(&bits.to_le_bytes());
                Ok(())
            })?,
            Kind::Int64 => self.packed(|encoder| {
                let bits = encoder.integer(Kind::Int64)?;
                encoder.out.varint(bits);
                Ok(())
            })?,
            Kind::Int32 => self.packed(|encoder| {
                let bits = encoder.integer(Kind::Int32)?;
                encoder.out.varint(bits);
                Ok(())
            })?,
            _ => self.elements(field, Lead::Bare)?,
        }
        if self.out.len() == empty {
            self.out.rewind(start);
        } else {
            self.out.end(run);
        }
        Ok(())
    }

    fn elements(&mut self, field: &'a FieldPlan, lead: Lead) -> Result<()> {
        self.lexer.open(b'[')?;
        let (mut first, mut index) = (true, 0);
        while self.lexer.more(b']', &mut first)? {
            self.value(field, lead).map_err(|error| error.at_index(index))?;
            index += 1;
        }
        Ok(())
    }

    /// Elements of the kinds that long arrays usually have, without what [`Encoder::value`] asks for each.
    #[inline(always)]
    fn packed(&mut self, mut element: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.lexer.open(b'[')?;
        let (mut first, mut index) = (true, 0);
        while self.lexer.more(b']', &mut first)? {
            element(self).map_err(|error| error.at_index(index))?;
            index += 1;
        }
        Ok(())
    }

    /// An object, for a map field. Every entry has its key and its value, even at their defaults.
    pub(super) fn map(&mut self, field: &'a FieldPlan) -> Result<()> {
        let Kind::Message(entry) = field.kind else { return Err(self.lexer.expected("a map")) };
        let entry = self.plans.message(entry);
        let (Some(key_field), Some(value_field)) = (entry.numbered(1), entry.numbered(2)) else {
            return Err(self.odd_type(entry));
        };
        let mut keys = KeySet::default();
        self.lexer.open(b'{')?;
        let mut first = true;
        while self.lexer.more(b'}', &mut first)? {
            let at = self.lexer.offset();
            let key = self.lexer.key()?;
            let entry_start = self.out.len();
            self.out.tag(field.tag);
            let run = self.out.begin();
            let start = self.out.len();
            if !super::text::write_key(self.out, key_field, &key) {
                let what = format!("{} as the key", number::description(key_field.kind));
                return Err(self.lexer.expected_at(at, &what));
            }
            let end = self.out.len();
            self.lexer.peek();
            if !self.entry_value(value_field, &key)? {
                self.out.rewind(entry_start);
                continue;
            }
            let moved = self.out.end(run);
            if !keys.insert(self.out.written(), start + moved, end + moved) {
                return Err(self.lexer.error_at(at, "the key is given twice".to_owned()).at_key(&key));
            }
        }
        Ok(())
    }

    #[inline]
    fn entry_value(&mut self, field: &'a FieldPlan, key: &str) -> Result<bool> {
        self.value(field, Lead::Tag).map_err(|error| error.at_key(key))
    }
}
