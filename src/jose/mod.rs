//! Keys and signed tokens as JOSE writes them ([RFC 7515](https://www.rfc-editor.org/rfc/rfc7515),
//! [7517](https://www.rfc-editor.org/rfc/rfc7517), [7518](https://www.rfc-editor.org/rfc/rfc7518),
//! [8037](https://www.rfc-editor.org/rfc/rfc8037)): read strictly, without a network, a clock or a policy.
//!
//! Which claims a token must have is not known here but in `policy::jwt`. The cryptography is aws-lc's.
//!
//! **Invariant**: what a signature is checked with, key and algorithm, comes from the key alone. A token can only say which
//! of the keys that are there it was signed by.

pub mod algorithm;
pub mod json;
pub mod key;
pub mod key_set;
pub mod token;

pub use algorithm::{Algorithm, Algorithms};
pub use key::Key;
pub use key_set::KeySet;
pub use token::{BadToken, Token};
