//! What path, query and headers set, put over a message that the client has encoded itself.
//!
//! Protobuf would take both one after the other and merge them; several decoders in use replace submessages instead. So
//! they are merged here, and no singular submessage goes out twice unless the client itself wrote it twice.

use super::bindings::{Bound, Overlay};
use super::error::Result;
use super::out::Out;
use super::plan::{MessagePlan, Plans, Seen};
use super::wire::{Cursor, Raw};
use crate::schema::Kind;

/// Appends `message` with all that is set over it, which wins.
///
/// # Errors
/// The message is malformed, or a required field is nowhere set.
pub(super) fn write_over(
    plans: &Plans,
    plan: &MessagePlan,
    message: &[u8],
    overlay: Overlay<'_>,
    out: &mut Out<'_>,
) -> Result<()> {
    let mut cursor = Cursor::new(message);
    let mut seen = Seen::default();
    // Content of the messages below which something is set, of all their occurrences.
    let mut open: Vec<(usize, Vec<u8>)> = Vec::new();
    loop {
        let start = message.len() - cursor.left();
        let Some(head) = cursor.head()? else { break };
        let raw = cursor.read(head)?;
        let whole = &message[start..message.len() - cursor.left()];
        let Some(index) = plan.field_numbered(head.number) else {
            out.bytes(whole);
            continue;
        };
        let rival = plan.fields[index].oneof.and_then(|oneof| overlay.member_of(plan, oneof));
        match (overlay.child(index), raw) {
            (Some(Bound::Value(..)), _) => continue,
            (None, _) if rival.is_some() => continue,
            // No value of the field: to mark it as seen would take the place of what is set below it.
            (Some(Bound::Branch(_)), _) if head != plan.fields[index].head() => continue,
            (Some(Bound::Branch(_)), Raw::Bytes(content)) => match open.iter_mut().find(|(other, _)| *other == index) {
                Some((_, before)) => before.extend_from_slice(content),
                None => open.push((index, content.to_vec())),
            },
            (Some(Bound::Branch(_) | Bound::List) | None, _) => out.bytes(whole),
        }
        seen.insert(index);
    }
    for (index, content) in open {
        let field = &plan.fields[index];
        let (Kind::Message(id) | Kind::Group(id), Some(below)) = (field.kind, overlay.below(index)) else { continue };
        out.tag(field.tag);
        let is_group = matches!(field.kind, Kind::Group(_));
        let run = (!is_group).then(|| out.begin());
        write_over(plans, plans.message(id), &content, below, out).map_err(|error| error.within(field.name()))?;
        match run {
            Some(run) => {
                out.end(run);
            }
            None => out.tag(field.end_group()),
        }
    }
    overlay.write_rest(plans, plan, &seen, out)
}
