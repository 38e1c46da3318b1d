//! PEM files: what is taken out of them, and what is said of those that are wrong. Nothing of a key is ever shown.

use std::path::Path;

use rustls::RootCertStore;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::config::contents;

/// The certificates of a file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = contents::read(path, MAX_FILE)?;
    let found =
        CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>().map_err(|error| bad_pem(path, &error))?;
    if found.is_empty() {
        let hint = if has_section(&text, "PRIVATE KEY") { ", but a key; are the two files swapped?" } else { "" };
        return Err(format!("{} holds no certificate (BEGIN CERTIFICATE){hint}", path.display()));
    }
    Ok(found)
}

/// The revocation lists of a file, at least one.
pub(super) fn revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let text = contents::read(path, MAX_FILE)?;
    let lists = CertificateRevocationListDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let lists = lists.map_err(|error| bad_pem(path, &error))?;
    if lists.is_empty() {
        return Err(format!("{} holds no revocation list (BEGIN X509 CRL)", path.display()));
    }
    Ok(lists)
}

/// The first private key of a file.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = contents::read(path, MAX_FILE)?;
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

/// The authorities of a file.
pub(super) fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(roots)
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
const MAX_FILE: u32 = 4 << 20;
