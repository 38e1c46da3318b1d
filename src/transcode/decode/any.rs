//! `google.protobuf.Any` as JSON: `@type`, then the members of the message inside, or its form as `value`.

use super::{Decoder, Step, Stop, fail, write_string};
use crate::transcode::error::Error;
use crate::transcode::wire::{Cursor, Raw, WireType};

/// Characters of an unknown type that the log shows.
const SHOWN: usize = 200;

impl Decoder<'_, '_, '_> {
    /// The message `Any`.
    pub(super) fn any(&mut self, wire: &[u8]) -> Step {
        let (mut type_url, mut value) = (&[][..], &[][..]);
        let mut cursor = Cursor::new(wire);
        while let Some(head) = cursor.head()? {
            match (head.number, cursor.read(head)?) {
                (1, Raw::Bytes(bytes)) if head.wire_type == WireType::Delimited => type_url = bytes,
                (2, Raw::Bytes(bytes)) if head.wire_type == WireType::Delimited => value = bytes,
                _ => {}
            }
        }
        if type_url.is_empty() && value.is_empty() {
            self.out.bytes(b"{}");
            return Ok(());
        }
        let type_url = std::str::from_utf8(type_url).map_err(|_| fail("invalid UTF-8 in a string"))?;
        self.any_object(type_url, value)
    }

    /// An `Any` of this type and content. Its type may be one that every gateway knows, with plans of their own.
    pub(super) fn any_object(&mut self, type_url: &str, value: &[u8]) -> Step {
        let found = type_url.rsplit_once('/').and_then(|(_, name)| self.types.named(name));
        let Some((plans, id)) = found else {
            let error = Error::upstream("an Any holds an unknown type");
            let shown: String = type_url.chars().take(SHOWN).flat_map(char::escape_debug).collect();
            return Err(Stop::Failed(error.with_note(format!("the type is {shown}"))));
        };
        let start = self.out.len();
        self.out.bytes(b",\"@type\":");
        write_string(self.out, type_url.as_bytes());
        let outer = std::mem::replace(&mut self.plans, plans);
        let plan = plans.message(id);
        // What is inside shares the object, unless it has a form of its own.
        self.descend()?;
        match plan.well_known {
            Some(well_known) if !well_known.is_object() => {
                self.out.bytes(b",\"value\":");
                self.message(plan, value)?;
            }
            _ => {
                let mut cursor = Cursor::new(value);
                self.fields(plan, &mut cursor)?;
                cursor.end()?;
            }
        }
        self.depth -= 1;
        self.plans = outer;
        self.close_object(start);
        Ok(())
    }
}
