//! TLS of a listener: its certificate, its key and whom it asks for a certificate, read from PEM files.
//!
//! Not the handshake, which is `server::tls`. **Invariant**: a [`Tls`] can serve: the chain and the key are there, are of a
//! kind that is supported, and belong together. Nothing of the key is ever shown.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::server::WebPkiClientVerifier;
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// `h2`, the protocol name of HTTP/2 over TLS ([RFC 9113 §3.2](https://www.rfc-editor.org/rfc/rfc9113#section-3.2)).
pub const H2: &[u8] = b"h2";
/// The protocol name of HTTP/1.1 ([RFC 7301 §6](https://www.rfc-editor.org/rfc/rfc7301#section-6)).
pub const HTTP_1_1: &[u8] = b"http/1.1";

/// How a listener speaks TLS: 1.2 and 1.3, HTTP/2 before HTTP/1.1. Clones share everything.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

/// The files that [`Tls::read`] takes.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// The chain, the server's own certificate first.
    pub certificate: &'a Path,
    /// Of the first certificate: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: &'a Path,
    /// Authorities one of which must have issued the client's certificate; without them none is asked for.
    pub client_ca: Option<&'a Path>,
}

/// Which of the files is wrong, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadFile {
    /// [`Files::certificate`].
    Certificate(String),
    /// [`Files::key`].
    Key(String),
    /// [`Files::client_ca`].
    ClientCa(String),
}

impl Tls {
    /// Reads the files. Also returns the server's own certificate, in DER.
    ///
    /// # Errors
    /// A file cannot be read, holds nothing of what it should, or does not fit the others.
    pub fn read(files: Files<'_>) -> Result<(Self, CertificateDer<'static>), BadFile> {
        let chain = certificates(files.certificate).map_err(BadFile::Certificate)?;
        let own = chain.first().cloned().expect("a file without certificates is an error");
        let key = private_key(files.key).map_err(BadFile::Key)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| BadFile::Certificate(error.to_string()))?;
        let builder = match files.client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let roots = authorities(file, &provider).map_err(BadFile::ClientCa)?;
                builder.with_client_cert_verifier(roots)
            }
        };
        let mut server = builder.with_single_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => BadFile::Key(format!(
                "{} is not the key of the first certificate in {}",
                files.key.display(),
                files.certificate.display()
            )),
            // What is wrong with a key is said in words for developers, but never with the key.
            rustls::Error::General(problem) => BadFile::Key(format!("{}: {problem}", files.key.display())),
            other => BadFile::Certificate(format!("{}: {other}", files.certificate.display())),
        })?;
        server.alpn_protocols = vec![H2.to_vec(), HTTP_1_1.to_vec()];
        // Sessions travel with their clients, so that workers share no memory of them.
        if let Ok(ticketer) = Ticketer::new() {
            server.ticketer = ticketer;
        }
        Ok((Self(Arc::new(server)), own))
    }

    /// For handshakes.
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl BadFile {
    /// What is wrong.
    pub fn message(&self) -> &str {
        match self {
            Self::Certificate(message) | Self::Key(message) | Self::ClientCa(message) => message,
        }
    }
}

/// The certificates of a file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let found =
        CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>().map_err(|error| bad_pem(path, &error))?;
    if found.is_empty() {
        let hint = if has_section(&text, "PRIVATE KEY") { ", but a key; are the two files swapped?" } else { "" };
        return Err(format!("{} holds no certificate (BEGIN CERTIFICATE){hint}", path.display()));
    }
    Ok(found)
}

/// The first private key of a file.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = read(path)?;
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => {
            let hint = if has_section(&text, "ENCRYPTED PRIVATE KEY") {
                ", but an encrypted one, for which there is no password; `openssl pkey` decrypts it"
            } else if has_section(&text, "CERTIFICATE") {
                ", but a certificate; are the two files swapped?"
            } else {
                ""
            };
            Err(format!("{} holds no private key (BEGIN PRIVATE KEY){hint}", path.display()))
        }
        Err(error) => Err(bad_pem(path, &error)),
    }
}

/// What asks clients for a certificate of these authorities.
fn authorities(
    path: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let text = fs::read(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    if text.len() > MAX_FILE { Err(format!("{shown} is too large for a PEM file")) } else { Ok(text) }
}

fn bad_pem(path: &Path, error: &pem::Error) -> String {
    // Without the text that is wrong: it may be that of a key.
    let what = match error {
        pem::Error::MissingSectionEnd { .. } => "a section does not end",
        pem::Error::IllegalSectionStart { .. } => "a section does not begin as one",
        pem::Error::Base64Decode(_) => "a section is not base64",
        pem::Error::Io(_) | pem::Error::NoItemsFound | _ => "it cannot be read",
    };
    format!("{} is not PEM: {what}", path.display())
}

fn has_section(text: &[u8], label: &str) -> bool {
    memchr::memmem::find(text, format!("{label}-----").as_bytes()).is_some()
}

/// A chain has a few kilobytes, a bundle of authorities some hundred.
const MAX_FILE: usize = 4 << 20;
