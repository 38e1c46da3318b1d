//! JSON ⇄ protobuf: what a REST call says becomes a request message, and a reply message becomes JSON.
//!
//! Pure: bytes in, bytes out; the only state are plans. Nothing is parsed into a tree on the way.
//!
//! - `plan` compiles descriptors into what both directions need, on first use.
//! - `encode` reads JSON text (`lexer`) and writes wire bytes, in one pass.
//! - `decode` reads wire bytes (`wire`) and writes JSON text, in one pass.
//! - `request` puts path, `query` and body of one HTTP binding together; `bindings` is what path and query set,
//!   `merge` puts that over a message which is encoded already.
//! - `parts` are those of a form that may hold files.
//! - `values` finds the messages in a stream of JSON text.
//! - `reply` turns replies into bodies. Both know `http_body`, which is no JSON.
//!
//! The mapping is that of <https://protobuf.dev/programming-guides/json/>, the wire format that of
//! <https://protobuf.dev/programming-guides/encoding/>, binding that of
//! <https://github.com/googleapis/googleapis/blob/master/google/api/http.proto>. Where they leave a choice, the strict one
//! is taken.
//!
//! **Invariants**: no input makes anything here panic, recurse without bound or allocate without bound; no singular
//! submessage is written twice.

mod bindings;
mod decimal;
mod declared;
mod decode;
mod encode;
mod error;
mod field_mask;
mod http_body;
mod keys;
mod lexer;
mod merge;
mod message_set;
mod number;
mod out;
mod parts;
mod plan;
mod query;
mod reply;
mod request;
mod suggest;
#[cfg(test)]
mod tests;
mod time;
mod values;
mod wire;
mod words;

pub use crate::schema::http_rule::BodyRule;
pub use error::{Error, Fault, Position};
pub use parts::{Part, Place};
pub use plan::Plans;
pub use query::unescape;
pub use reply::{ReplyPlan, write_any, write_text};
pub use request::{Input, RequestPlan};
pub use values::{Form, Values};
