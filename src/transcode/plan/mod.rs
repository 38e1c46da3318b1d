//! Plans: what both directions need to know of a message, compiled out of the schema.
//!
//! A plan holds what would otherwise be computed for every field of every message: encoded tags, quoted keys, where a
//! name or a number is found, what `null` means. Message types refer to each other by [`MessageId`], so recursive types
//! need nothing special. Plans are compiled when they are first used; large schemas have many types that never are.
//!
//! **Invariant**: a plan belongs to one [`Plans`]; the ids in it index into that one's schema.

mod enumeration;
mod field;
mod message;
mod seen;

use std::sync::{Arc, LazyLock, OnceLock};

pub(super) use enumeration::EnumPlan;
pub(super) use field::{FieldPlan, Shape};
pub(super) use message::{MessagePlan, WellKnown};
pub(super) use seen::Seen;

use crate::schema::{EnumId, MessageId, Schema};

/// The plans of one schema.
#[derive(Debug)]
pub struct Plans {
    schema: Arc<Schema>,
    messages: Box<[OnceLock<Box<MessagePlan>>]>,
    enums: Box<[OnceLock<Box<EnumPlan>>]>,
}

impl Plans {
    /// Prepares plans for a schema; nothing is compiled yet.
    pub fn new(schema: Arc<Schema>) -> Arc<Self> {
        let messages = schema.messages.iter().map(|_| OnceLock::new()).collect();
        let enums = schema.enums.iter().map(|_| OnceLock::new()).collect();
        Arc::new(Self { schema, messages, enums })
    }

    /// Plans of the types that every gateway knows: the well-known ones and `google.rpc`.
    pub fn builtin() -> &'static Arc<Self> {
        static BUILTIN: LazyLock<Arc<Plans>> = LazyLock::new(|| Plans::new(Schema::builtin()));
        &BUILTIN
    }

    /// The schema behind the plans.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The plan of a message of this schema.
    #[inline]
    pub(super) fn message(&self, id: MessageId) -> &MessagePlan {
        self.messages[id.0 as usize].get_or_init(|| Box::new(MessagePlan::compile(&self.schema, id)))
    }

    /// Whether a field may be one of a `google.protobuf.Value`: a scalar, or what has brackets in JSON. Any other message
    /// would be written, or read, without a level that is counted.
    pub(super) fn is_of_value(&self, field: &FieldPlan) -> bool {
        field
            .kind
            .message()
            .is_none_or(|id| matches!(self.message(id).well_known, Some(WellKnown::Struct | WellKnown::ListValue)))
    }

    /// The plan of an enum of this schema.
    #[inline]
    pub(super) fn enumeration(&self, id: EnumId) -> &EnumPlan {
        self.enums[id.0 as usize].get_or_init(|| Box::new(EnumPlan::compile(self.schema.enumeration(id))))
    }

    /// A message by its full name, here or among the types that every gateway knows, and the plans that it belongs to.
    pub(super) fn named(&self, name: &str) -> Option<(&Self, MessageId)> {
        if let Some(id) = self.schema.message_named(name) {
            return Some((self, id));
        }
        let builtin: &Self = Self::builtin();
        builtin.schema.message_named(name).map(|id| (builtin, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcode::{BodyRule, ReplyPlan, RequestPlan};

    #[test]
    fn bindings_leave_plans_to_the_first_call() {
        let plans = Plans::new(Schema::builtin());
        let status = plans.schema.message_named("google.rpc.Status").unwrap();

        RequestPlan::compile(&plans, status, &["message"], &BodyRule::Field("details".into())).unwrap();
        ReplyPlan::compile(&plans, status, Some("details")).unwrap();
        assert!(RequestPlan::compile(&plans, status, &["details"], &BodyRule::None).is_err());
        assert!(RequestPlan::compile(&plans, status, &["code.none"], &BodyRule::None).is_err());

        assert!(plans.messages.iter().all(|plan| plan.get().is_none()));
    }
}
