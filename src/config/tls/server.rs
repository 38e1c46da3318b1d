//! TLS of a listener: its certificate, its key and whom it asks for a certificate.
//!
//! Not the handshake, which is `server::tls`. **Invariant**: a [`Tls`] can serve: the chain and the key are there, are of a
//! kind that is supported, and belong together.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::server::WebPkiClientVerifier;
use rustls::{InconsistentKeys, ServerConfig};
use rustls_pki_types::CertificateDer;

use super::pem;
use super::{H2, HTTP_1_1};

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
        let chain = pem::certificates(files.certificate).map_err(BadFile::Certificate)?;
        let own = chain.first().cloned().expect("a file without certificates is an error");
        let key = pem::private_key(files.key).map_err(BadFile::Key)?;
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

/// What asks clients for a certificate of these authorities.
fn authorities(
    path: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, String> {
    let roots = pem::roots(path)?;
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| format!("{}: {error}", path.display()))
}
