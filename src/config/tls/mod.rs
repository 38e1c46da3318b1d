//! TLS on both sides, read from PEM files: of listeners ([`Tls`]), and towards upstreams ([`ClientTls`]).
//!
//! Not the handshakes. Nothing of a key is ever shown.

mod client;
mod names;
mod pem;
mod server;

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;

use super::validity::Validity;

pub use client::{BadClientFile, ClientFiles, ClientTls};
pub use server::{BadFile, ClientAuth, Files, MinVersion, Tls};

/// `h2`, the protocol name of HTTP/2 over TLS ([RFC 9113 §3.2](https://www.rfc-editor.org/rfc/rfc9113#section-3.2)).
pub const H2: &[u8] = b"h2";
/// The protocol name of HTTP/1.1 ([RFC 7301 §6](https://www.rfc-editor.org/rfc/rfc7301#section-6)).
pub const HTTP_1_1: &[u8] = b"http/1.1";

/// Until when a certificate is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// The file that it was read from.
    pub file: Arc<str>,
    /// The last second, since the Unix epoch.
    pub until: i64,
}

impl Expiry {
    fn of(file: &Path, certificate: &[u8]) -> Option<Self> {
        Some(Self { file: file.display().to_string().into(), until: Validity::of(certificate)?.until })
    }
}

/// Each part with its length, so that no two lists of parts give the same bytes.
fn update(digest: &mut digest::Context, part: &[u8]) {
    digest.update(&part.len().to_be_bytes());
    digest.update(part);
}

fn finish(digest: digest::Context) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.finish().as_ref());
    bytes
}
