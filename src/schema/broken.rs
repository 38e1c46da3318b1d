//! Messages that cannot be used, and everything that holds one of them.
//!
//! **Invariant**: after [`Broken::spread`], no sound message reaches a broken one through its fields.

use std::sync::Arc;

use super::{Message, MessageId};

/// Why messages are broken, by id.
#[derive(Debug)]
pub(super) struct Broken {
    /// The reason names the message that is at fault; those that hold it share the text.
    reasons: Vec<Option<Arc<str>>>,
}

impl Broken {
    pub(super) fn new(messages: usize) -> Self {
        Self { reasons: vec![None; messages] }
    }

    pub(super) fn mark(&mut self, id: MessageId, reason: String) {
        self.reasons[id.0 as usize] = Some(Arc::from(reason));
    }

    /// Why this message cannot be used; `None` if it can.
    pub(super) fn reason(&self, id: MessageId) -> Option<&str> {
        self.reasons[id.0 as usize].as_deref()
    }

    /// Marks every message that holds a broken one, directly or not.
    pub(super) fn spread(&mut self, messages: &[Message]) {
        let mut fresh: Vec<usize> = (0..self.reasons.len()).filter(|&index| self.reasons[index].is_some()).collect();
        if fresh.is_empty() {
            return;
        }
        let mut holders: Vec<Vec<usize>> = vec![Vec::new(); messages.len()];
        for (holder, message) in messages.iter().enumerate() {
            for held in message.fields.iter().filter_map(|field| field.kind.message()) {
                holders[held.0 as usize].push(holder);
            }
        }
        while let Some(index) = fresh.pop() {
            let reason = self.reasons[index].clone();
            for &holder in &holders[index] {
                if self.reasons[holder].is_none() {
                    self.reasons[holder].clone_from(&reason);
                    fresh.push(holder);
                }
            }
        }
    }
}
