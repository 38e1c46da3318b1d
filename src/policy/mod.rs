//! Decisions about a call that depend on its caller and its method, as pure functions of data.
//!
//! Today: which headers pass, what the gateway adds, and which pages of other origins may call. Authentication, limits and admission join here; the order in
//! which they are asked is written in `proxy::Proxy::adapt_in`, and nowhere else.

pub mod client;
pub mod cors;
pub mod headers;
pub mod rate_limit;
pub mod websocket;
