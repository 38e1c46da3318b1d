//! MessageSet, which proto1 had before extensions: a message whose extensions all travel as items of one group.
//!
//! In JSON it is an object of extensions like any other. Its form on the wire stands with the option
//! `message_set_wire_format` in `google/protobuf/descriptor.proto`:
//!
//! ```proto
//! repeated group Item = 1 {
//!   required int32 type_id = 2;
//!   required bytes message = 3;
//! }
//! ```

use super::wire::{Cursor, Head, Malformed, Raw, Tag, WireType};

pub(super) const ITEM: Tag = Tag::new(1, WireType::StartGroup);
pub(super) const TYPE_ID: Tag = Tag::new(2, WireType::Varint);
pub(super) const MESSAGE: Tag = Tag::new(3, WireType::Delimited);
pub(super) const END_ITEM: Tag = Tag::new(1, WireType::EndGroup);

/// What a field of a MessageSet stands for: an item is the extension in it, everything else is what it is.
///
/// # Errors
/// The item is no message.
pub(super) fn extension<'m>(head: Head, raw: Raw<'m>) -> Result<(Head, Raw<'m>), Malformed> {
    let Raw::Bytes(item) = raw else { return Ok((head, raw)) };
    if head != (Head { number: 1, wire_type: WireType::StartGroup }) {
        return Ok((head, raw));
    }
    let (mut number, mut message) = (0, &[][..]);
    let mut cursor = Cursor::new(item);
    while let Some(head) = cursor.head()? {
        match (head.number, cursor.read(head)?) {
            (2, Raw::Bits(id)) if head.wire_type == WireType::Varint => number = (id & 0xffff_ffff) as u32,
            (3, Raw::Bytes(bytes)) if head.wire_type == WireType::Delimited => message = bytes,
            _ => {}
        }
    }
    Ok((Head { number, wire_type: WireType::Delimited }, Raw::Bytes(message)))
}
