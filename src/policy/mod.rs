//! Decisions about a call that depend on its caller and its method, as pure functions of data.
//!
//! Which headers pass, what the gateway adds, which pages of other origins may call, and who the caller is. The order in
//! which they are asked is written in `proxy::admit`, and nowhere else.

pub mod admission;
pub mod api_key;
pub mod authenticate;
pub mod authorize;
pub mod authorizer;
pub mod certificate;
pub mod client;
pub mod cors;
pub mod credential;
pub mod csrf;
pub mod headers;
pub mod identity;
pub mod identity_headers;
pub mod introspection;
pub mod jwt;
pub mod memory;
pub mod rate_limit;
pub mod websocket;
