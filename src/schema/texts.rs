//! Texts that are kept once, however often they stand in a schema: the fields of a large one share two thirds of their names.

use std::sync::Arc;

use hashbrown::HashSet;

/// The texts so far.
#[derive(Debug, Default)]
pub(super) struct Texts(HashSet<Arc<str>>);

impl Texts {
    /// The text, which is copied only when it is new.
    pub(super) fn share(&mut self, text: &str) -> Arc<str> {
        Arc::clone(self.0.get_or_insert_with(text, |text| text.into()))
    }
}
