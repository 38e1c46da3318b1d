//! How often a method may be called.
//!
//! A [`Plan`] is what the policies say of one method, prepared: which limits are asked before the caller is known, which
//! after, which once its first message is there. The pipeline makes a [`Key`] for each, and a store charges them: the
//! process's own is [`LocalStore`]. The arithmetic is [`Gcra`], the same in every store.
//!
//! Not here: what is known of a call, which is the pipeline's, and what a refusal looks like.

pub mod fields;
mod gcra;
mod key;
mod local;
mod open;
mod plan;
pub mod service;
mod table;

use smallvec::SmallVec;

pub use gcra::{Arrival, Decision, Gcra};
pub use key::Key;
pub use local::LocalStore;
pub use open::OpenCall;
pub use plan::{Limit, Plan, Stage};

/// One limit, charged for one call.
#[derive(Debug, Clone)]
pub struct Charge<'l> {
    /// The limit's identifier.
    pub limit: &'l str,
    /// Whom it is charged to.
    pub key: Key,
    /// The quota that holds for it.
    pub rate: Gcra,
    /// How much.
    pub cost: u32,
    /// Whether a refusal is only counted.
    pub shadow: bool,
}

/// What a store says of the limits of a call.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// One for each charge, in their order.
    pub decisions: SmallVec<[Decision; 4]>,
    /// Whether one of them refuses the call that may. Then nothing was charged.
    pub refused: bool,
    /// Whether a caller had to be counted with others because there was no memory for it.
    pub overflowed: bool,
}
