//! TLS on both sides, read from PEM files: of listeners ([`Tls`]), and towards upstreams ([`ClientTls`]).
//!
//! Not the handshakes. Nothing of a key is ever shown.

mod client;
mod pem;
mod server;

pub use client::{BadClientFile, ClientFiles, ClientTls};
pub use server::{BadFile, Files, Tls};

/// `h2`, the protocol name of HTTP/2 over TLS ([RFC 9113 §3.2](https://www.rfc-editor.org/rfc/rfc9113#section-3.2)).
pub const H2: &[u8] = b"h2";
/// The protocol name of HTTP/1.1 ([RFC 7301 §6](https://www.rfc-editor.org/rfc/rfc7301#section-6)).
pub const HTTP_1_1: &[u8] = b"http/1.1";
