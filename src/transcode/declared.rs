//! Fields by name, from the schema alone.
//!
//! Bindings are compiled when a snapshot is built, for every method of a schema; looking at the schema here leaves the plans
//! of their messages to those that are called. **Invariant**: an index of a field is the same as in its message's plan.

use super::plan::WellKnown;
use crate::schema::{Field, Kind, MessageId, Schema};

/// Index of the field with a JSON name, else with a name of the `.proto` file, and the field.
///
/// # Errors
/// The message has no such field.
pub(super) fn field<'s>(schema: &'s Schema, id: MessageId, name: &str) -> Result<(u32, &'s Field), String> {
    schema.field_named(id, name).ok_or_else(|| format!("{} has no field `{name}`", schema.message(id).name))
}

/// Indices of the fields of a path such as `book.name`, of which the last is no message and none is repeated. Never empty.
///
/// # Errors
/// There is no such path, or one string cannot stand for what it leads to.
pub(super) fn scalar(schema: &Schema, root: MessageId, path: &str) -> Result<Box<[u32]>, String> {
    let mut message = Some(root);
    let mut fields = Vec::new();
    for name in path.split('.') {
        let Some(id) = message else { return Err(format!("`{path}`: a value has no field `{name}`")) };
        let (index, field) = field(schema, id, name)?;
        if field.cardinality.is_repeated() {
            return Err(format!("`{path}`: `{name}` is repeated"));
        }
        message = field.kind.message().filter(|id| well_known(schema, *id).is_none());
        fields.push(index);
    }
    match message {
        Some(id) => Err(format!("`{path}`: one string cannot stand for a {}", schema.message(id).name)),
        None => Ok(fields.into()),
    }
}

/// The form of its own that a message has in JSON, if it has one.
pub(super) fn well_known(schema: &Schema, id: MessageId) -> Option<WellKnown> {
    WellKnown::of(&schema.message(id).name)
}

/// Whether a field is one message, and no group, of a type with a form of its own.
pub(super) fn is_single(schema: &Schema, field: &Field, form: WellKnown) -> bool {
    matches!(field.kind, Kind::Message(id) if !field.cardinality.is_repeated() && well_known(schema, id) == Some(form))
}
