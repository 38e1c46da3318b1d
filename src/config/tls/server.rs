//! TLS of a listener: its certificate, its key and whom it asks for a certificate.
//!
//! Not the handshake, which is `server::tls`. **Invariant**: a [`Tls`] can serve: the chain and the key are there, are of a
//! kind that is supported, and belong together.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self as provider, Ticketer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{InconsistentKeys, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::CertificateDer;

use super::names::ByName;
use super::{Expiry, H2, HTTP_1_1, pem, update};

/// How a listener speaks TLS, HTTP/2 before HTTP/1.1. Clones share everything.
#[derive(Clone)]
pub struct Tls(Arc<Server>);

struct Server {
    config: Arc<ServerConfig>,
    expiries: Vec<Expiry>,
    /// Of everything that it was made from.
    digest: [u8; 32],
}

/// The files that [`Tls::read`] takes, and how they are used.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// Chains, each with the server's own certificate first, and their keys: PKCS#8, PKCS#1 or SEC1, not encrypted. At least
    /// one; the first is for clients that ask for no name, or for an unknown one.
    pub certificates: &'a [(PathBuf, PathBuf)],
    /// Authorities one of which must have issued the client's certificate; without them none is asked for.
    pub client_ca: Option<&'a Path>,
    /// Whether a client may have none.
    pub client_auth: ClientAuth,
    /// Certificates that these authorities have taken back.
    pub client_crl: Option<&'a Path>,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
}

/// Whether clients need a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// They do.
    Required,
    /// They need not have one, but one that they show must be right.
    Optional,
}

/// The oldest version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinVersion {
    /// 1.2 and 1.3.
    Tls12,
    /// 1.3 alone.
    Tls13,
}

/// Which of the files is wrong, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadFile {
    /// One of [`Files::certificates`], by index.
    Certificate(usize, String),
    /// The key of one.
    Key(usize, String),
    /// [`Files::client_ca`].
    ClientCa(String),
    /// [`Files::client_crl`].
    ClientCrl(String),
}

impl Tls {
    /// Reads the files. Also returns the server's own certificates, in DER.
    ///
    /// # Errors
    /// A file cannot be read, holds nothing of what it should, or does not fit the others.
    pub fn read(files: Files<'_>) -> Result<(Self, Vec<CertificateDer<'static>>), BadFile> {
        let mut digest = digest::Context::new(&digest::SHA256);
        let crypto = Arc::new(provider::default_provider());
        let (mut keys, mut own) = (Vec::new(), Vec::new());
        for (index, (certificate, key)) in files.certificates.iter().enumerate() {
            let key = certified(index, certificate, key, &crypto, &mut digest)?;
            own.extend(key.cert.first().cloned());
            keys.push(Arc::new(key));
        }
        let versions: &[&SupportedProtocolVersion] = match files.min_version {
            MinVersion::Tls12 => &[&TLS13, &TLS12],
            MinVersion::Tls13 => &[&TLS13],
        };
        update(&mut digest, &[u8::from(files.min_version == MinVersion::Tls13)]);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&crypto))
            .with_protocol_versions(versions)
            .map_err(|error| BadFile::Certificate(0, error.to_string()))?;
        let builder = match files.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => builder.with_client_cert_verifier(verifier(ca, &files, &crypto, &mut digest)?),
        };
        let mut server = builder.with_cert_resolver(Arc::new(ByName::new(keys)));
        server.alpn_protocols = vec![H2.to_vec(), HTTP_1_1.to_vec()];
        // Sessions travel with their clients, so that workers share no memory of them.
        if let Ok(ticketer) = Ticketer::new() {
            server.ticketer = ticketer;
        }
        let digest = super::finish(digest);
        let expiries =
            files.certificates.iter().zip(&own).filter_map(|((file, _), own)| Expiry::of(file, own)).collect();
        Ok((Self(Arc::new(Server { config: Arc::new(server), expiries, digest })), own))
    }

    /// When its certificates expire.
    pub fn expiries(&self) -> &[Expiry] {
        &self.0.expiries
    }

    /// For handshakes.
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.config)
    }
}

/// Whether they were made from the same certificates, keys, authorities and lists.
impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest
    }
}

impl Eq for Tls {}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl BadFile {
    /// What is wrong.
    pub fn message(&self) -> &str {
        match self {
            Self::Certificate(_, message)
            | Self::Key(_, message)
            | Self::ClientCa(message)
            | Self::ClientCrl(message) => message,
        }
    }
}

/// Reads one certificate with its key.
fn certified(
    index: usize,
    certificate: &Path,
    key: &Path,
    crypto: &CryptoProvider,
    digest: &mut digest::Context,
) -> Result<CertifiedKey, BadFile> {
    let chain = pem::certificates(certificate).map_err(|message| BadFile::Certificate(index, message))?;
    let private = pem::private_key(key).map_err(|message| BadFile::Key(index, message))?;
    chain.iter().for_each(|certificate| update(digest, certificate));
    update(digest, private.secret_der());
    CertifiedKey::from_der(chain, private, crypto).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => BadFile::Key(
            index,
            format!("{} is not the key of the first certificate in {}", key.display(), certificate.display()),
        ),
        // What is wrong with a key is said in words for developers, but never with the key.
        rustls::Error::General(problem) => BadFile::Key(index, format!("{}: {problem}", key.display())),
        other => BadFile::Certificate(index, format!("{}: {other}", certificate.display())),
    })
}

/// What asks clients for a certificate of these authorities.
fn verifier(
    ca: &Path,
    files: &Files<'_>,
    crypto: &Arc<CryptoProvider>,
    digest: &mut digest::Context,
) -> Result<Arc<dyn ClientCertVerifier>, BadFile> {
    for certificate in pem::certificates(ca).map_err(BadFile::ClientCa)? {
        update(digest, &certificate);
    }
    let roots = Arc::new(pem::roots(ca).map_err(BadFile::ClientCa)?);
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(crypto));
    if files.client_auth == ClientAuth::Optional {
        builder = builder.allow_unauthenticated();
        update(digest, b"optional");
    }
    if let Some(file) = files.client_crl {
        let lists = pem::revocation_lists(file).map_err(BadFile::ClientCrl)?;
        lists.iter().for_each(|list| update(digest, list));
        // The lists are those of who issues to clients. A certificate that no list speaks of is refused all the same.
        builder = builder.with_crls(lists).only_check_end_entity_revocation();
        return builder.build().map_err(|error| BadFile::ClientCrl(format!("{}: {error}", file.display())));
    }
    builder.build().map_err(|error| BadFile::ClientCa(format!("{}: {error}", ca.display())))
}
