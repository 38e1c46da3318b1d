//! The library that `portico demo` puts a gateway in front of: a gRPC service with health and reflection, embedded.
//!
//! It is an ordinary upstream that happens to live in the same process: the gateway reaches it over TCP and learns it
//! by reflection, like any other. It is not part of the gateway's data path, and nothing outside this module and the
//! command that starts it knows of it.
//!
//! **Invariant**: whatever callers send, it keeps a bounded number of things of a bounded size (see `store`).

mod calls;
mod chat;
mod check;
mod cover;
mod date;
mod digest;
mod fault;
mod health;
mod library;
mod list;
mod reflection;
mod sample;
mod serve;
mod slug;
mod store;
mod update;

pub use calls::calls;
pub use serve::start;
