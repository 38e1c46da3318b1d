//! Decisions about a call that depend on its caller and its method, as pure functions of data.
//!
//! Today: which headers pass, and what the gateway adds. Authentication, limits and admission join here; the order in
//! which they are asked is written in `proxy::Proxy::adapt_in`, and nowhere else.

pub mod headers;
pub mod websocket;
