//! `google.api.HttpBody`: a body that is no JSON, with its content type
//! (<https://github.com/googleapis/googleapis/blob/master/google/api/httpbody.proto>).

use super::error::{Error, Result};
use super::out::Out;
use super::wire::{Cursor, Raw, Tag, WireType};

const CONTENT_TYPE: u32 = 1;
const DATA: u32 = 2;

/// Appends the content of the message.
pub(super) fn write(content_type: Option<&str>, data: &[u8], out: &mut Out<'_>) {
    if let Some(content_type) = content_type.filter(|text| !text.is_empty()) {
        out.delimited(Tag::new(CONTENT_TYPE, WireType::Delimited), content_type.as_bytes());
    }
    if !data.is_empty() {
        out.delimited(Tag::new(DATA, WireType::Delimited), data);
    }
}

/// Content type and data, as slices of the message that holds them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct HttpBody<'m> {
    pub(super) content_type: Option<&'m str>,
    pub(super) data: &'m [u8],
}

impl<'m> HttpBody<'m> {
    /// Reads one occurrence of the message; a later one wins over an earlier, as everywhere in protobuf.
    pub(super) fn merge(&mut self, message: &'m [u8]) -> Result<()> {
        let mut cursor = Cursor::new(message);
        while let Some(head) = cursor.head()? {
            let raw = cursor.read(head)?;
            let Raw::Bytes(bytes) = raw else { continue };
            if head.wire_type != WireType::Delimited {
                continue;
            }
            match head.number {
                CONTENT_TYPE => {
                    let text = simdutf8::basic::from_utf8(bytes)
                        .map_err(|_| Error::upstream("invalid UTF-8 in a string").within("content_type"))?;
                    self.content_type = Some(text).filter(|text| !text.is_empty());
                }
                DATA => self.data = bytes,
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads it out of the message that has it as a field.
    pub(super) fn merge_field(&mut self, message: &'m [u8], number: u32) -> Result<()> {
        let mut cursor = Cursor::new(message);
        while let Some(head) = cursor.head()? {
            match cursor.read(head)? {
                Raw::Bytes(bytes) if head.number == number => self.merge(bytes)?,
                Raw::Bytes(_) | Raw::Bits(_) => {}
            }
        }
        Ok(())
    }
}
