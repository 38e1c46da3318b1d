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

/// What one string can stand for.
#[derive(Debug)]
pub(super) struct Leaf {
    /// Indices of the fields that lead to it, each in the message of the one before. Never empty.
    pub(super) fields: Box<[u32]>,
    /// Whether it is inside of a message that is a single value in JSON, as the seconds of a timestamp are.
    pub(super) inside: bool,
}

/// Indices of the fields of a path such as `book.name`, of which the last is no message and none is repeated. Never empty.
///
/// # Errors
/// There is no such path, or one string cannot stand for what it leads to.
pub(super) fn scalar(schema: &Schema, root: MessageId, path: &str) -> Result<Box<[u32]>, String> {
    let Leaf { fields, inside } = leaf(schema, root, path)?;
    if inside { Err(format!("`{path}`: a value in JSON has no fields")) } else { Ok(fields) }
}

/// The same, also inside of messages that have fields although they have none in JSON.
///
/// # Errors
/// As [`scalar`].
pub(super) fn leaf(schema: &Schema, root: MessageId, path: &str) -> Result<Leaf, String> {
    let mut message = Some(root);
    let mut form = None;
    let mut inside = false;
    let mut fields = Vec::new();
    for name in path.split('.') {
        let Some(id) = message.filter(|_| form.is_none_or(WellKnown::has_fields)) else {
            return Err(format!("`{path}`: a value has no field `{name}`"));
        };
        inside |= form.is_some();
        let (index, field) = field(schema, id, name)?;
        if field.cardinality.is_repeated() {
            return Err(format!("`{path}`: `{name}` is repeated"));
        }
        message = field.kind.message();
        form = message.and_then(|id| well_known(schema, id));
        fields.push(index);
    }
    match message {
        Some(id) if form.is_none() => {
            Err(format!("`{path}`: one string cannot stand for a {}", schema.message(id).name))
        }
        Some(_) | None => Ok(Leaf { fields: fields.into(), inside }),
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
