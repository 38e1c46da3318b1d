//! TLS towards an upstream: whom the gateway trusts, under which name it looks for its servers, and who it is itself.
//!
//! **Invariant**: what a [`ClientTls`] was made from is part of its identity, so that a new authority or certificate makes
//! another upstream of it, whose connections are new.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::crypto::aws_lc_rs as provider;
use rustls::{ClientConfig, InconsistentKeys, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::{Expiry, pem, update};

/// How the gateway speaks TLS to an upstream: 1.2 and 1.3, and one version of HTTP. Clones share everything.
#[derive(Clone)]
pub struct ClientTls(Arc<Client>);

struct Client {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    expiry: Option<Expiry>,
    /// Of everything that it was made from.
    digest: [u8; 32],
}

/// What [`ClientTls::read`] takes.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientFiles<'a> {
    /// Authorities one of which must have issued the server's certificate; without them those of the system.
    pub ca: Option<&'a Path>,
    /// The gateway's own certificate and its key, for servers that ask for one.
    pub identity: Option<(&'a Path, &'a Path)>,
    /// The name or IP address that the server's certificate must be for; that of the endpoint unless given.
    pub server_name: Option<&'a str>,
}

/// What is wrong with what was given, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadClientFile {
    /// [`ClientFiles::ca`], or the authorities of the system.
    Ca(String),
    /// The certificate of [`ClientFiles::identity`].
    Certificate(String),
    /// Its key.
    Key(String),
    /// [`ClientFiles::server_name`].
    ServerName(String),
}

impl ClientTls {
    /// Reads the files, to speak that protocol ([`H2`](super::H2) or [`HTTP_1_1`](super::HTTP_1_1)). Also returns the gateway's
    /// own certificate, in DER, if there is one.
    ///
    /// # Errors
    /// A file cannot be read, holds nothing of what it should, or does not fit the others; or the system has no
    /// authorities and none are given.
    pub fn read(
        files: ClientFiles<'_>,
        protocol: &[u8],
    ) -> Result<(Self, Option<CertificateDer<'static>>), BadClientFile> {
        let mut digest = digest::Context::new(&digest::SHA256);
        let roots = match files.ca {
            Some(file) => pem::roots(file),
            None => system_roots(),
        };
        let roots = roots.map_err(BadClientFile::Ca)?;
        for root in &roots.roots {
            update(&mut digest, &root.subject);
            update(&mut digest, &root.subject_public_key_info);
            update(&mut digest, root.name_constraints.as_deref().unwrap_or_default());
        }
        let server_name = files.server_name.map(|name| {
            ServerName::try_from(name.to_owned())
                .map_err(|_| BadClientFile::ServerName(format!("{name:?} is not a host name or an IP address")))
        });
        update(&mut digest, files.server_name.unwrap_or_default().as_bytes());
        let builder = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| BadClientFile::Ca(error.to_string()))?
            .with_root_certificates(roots);
        let (mut config, own) = match files.identity {
            None => (builder.with_no_client_auth(), None),
            Some((certificate, key)) => {
                let (chain, private) = identity(certificate, key)?;
                chain.iter().for_each(|certificate| update(&mut digest, certificate));
                update(&mut digest, private.secret_der());
                let own = chain.first().cloned();
                let config = builder.with_client_auth_cert(chain, private);
                (config.map_err(|error| unfit(&error, certificate, key))?, own)
            }
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        let digest = super::finish(digest);
        let expiry = files.identity.zip(own.as_ref()).and_then(|((file, _), own)| Expiry::of(file, own));
        let client = Client { config: Arc::new(config), server_name: server_name.transpose()?, expiry, digest };
        Ok((Self(Arc::new(client)), own))
    }

    /// When the gateway's own certificate expires.
    pub fn expiry(&self) -> Option<&Expiry> {
        self.0.expiry.as_ref()
    }

    /// For handshakes.
    pub fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0.config)
    }

    /// The name that the certificate of a server at `host` must be for.
    ///
    /// # Errors
    /// No certificate can be for that host.
    pub fn name_at(&self, host: &str) -> Result<ServerName<'static>, String> {
        if let Some(name) = &self.0.server_name {
            return Ok(name.clone());
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        ServerName::try_from(bare.to_owned()).map_err(|_| format!("no certificate can be for {host:?}"))
    }
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest
    }
}

impl Eq for ClientTls {}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("server_name", &self.0.server_name).finish_non_exhaustive()
    }
}

impl BadClientFile {
    /// What is wrong.
    pub fn message(&self) -> &str {
        match self {
            Self::Ca(message) | Self::Certificate(message) | Self::Key(message) | Self::ServerName(message) => message,
        }
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(certificate: &Path, key: &Path) -> Result<Identity, BadClientFile> {
    let chain = pem::certificates(certificate).map_err(BadClientFile::Certificate)?;
    Ok((chain, pem::private_key(key).map_err(BadClientFile::Key)?))
}

/// Why a certificate and a key make no identity.
fn unfit(error: &rustls::Error, certificate: &Path, key: &Path) -> BadClientFile {
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => BadClientFile::Key(format!(
            "{} is not the key of the first certificate in {}",
            key.display(),
            certificate.display()
        )),
        rustls::Error::General(problem) => BadClientFile::Key(format!("{}: {problem}", key.display())),
        other => BadClientFile::Certificate(format!("{}: {other}", certificate.display())),
    }
}

/// Whom the system trusts. Single certificates that cannot be used are passed over, as others do.
fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!("the system has no certificate authorities{why}; `ca` names a file of them"));
    }
    Ok(roots)
}
