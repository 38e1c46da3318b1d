//! TLS of listeners and towards upstreams: the files are read here, so that a configuration that loads can serve.

use std::path::Path;
use std::time::SystemTime;

use super::{existing_file, require};
use crate::config::file::{Tls as RawTls, UpstreamTls as RawUpstreamTls};
use crate::config::problem::Place;
use crate::config::read::{Located, Report};
use crate::config::tls::{BadClientFile, BadFile, ClientFiles, ClientTls, Files, Tls};
use crate::config::validity::Validity;

/// Reads the files, once all that are named are there.
pub(super) fn listener(raw: Located<RawTls>, base: &Path, report: &mut Report<'_>) -> Option<Tls> {
    let RawTls { certificate, key, client_ca } = raw.value;
    require(certificate.is_some(), "certificate", &raw.at, report);
    require(key.is_some(), "key", &raw.at, report);
    let before = report.problems.len();
    let mut file = |path: &Option<Located<String>>| path.as_ref().map(|path| existing_file(path, base, report));
    let (certificate_file, key_file, client_ca_file) = (file(&certificate), file(&key), file(&client_ca));
    let (certificate, key) = (certificate?, key?);
    if report.problems.len() > before {
        return None;
    }
    let files = Files { certificate: &certificate_file?, key: &key_file?, client_ca: client_ca_file.as_deref() };
    match Tls::read(files) {
        Ok((tls, own)) => {
            warn_of_dates(&own, files.certificate, &certificate.at, report);
            Some(tls)
        }
        Err(bad) => {
            let at = match &bad {
                BadFile::Certificate(_) => &certificate.at,
                BadFile::Key(_) => &key.at,
                BadFile::ClientCa(_) => client_ca.as_ref().map_or(&raw.at, |file| &file.at),
            };
            report.problem(at, bad.message());
            None
        }
    }
}

/// Reads the files of an upstream's TLS, once all that are named are there.
pub(super) fn upstream(raw: Located<RawUpstreamTls>, base: &Path, report: &mut Report<'_>) -> Option<ClientTls> {
    let RawUpstreamTls { ca, server_name, certificate, key } = raw.value;
    let before = report.problems.len();
    require(key.is_none() || certificate.is_some(), "certificate", &raw.at, report);
    require(certificate.is_none() || key.is_some(), "key", &raw.at, report);
    let mut file = |path: &Option<Located<String>>| path.as_ref().map(|path| existing_file(path, base, report));
    let (ca_file, certificate_file, key_file) = (file(&ca), file(&certificate), file(&key));
    if report.problems.len() > before {
        return None;
    }
    let files = ClientFiles {
        ca: ca_file.as_deref(),
        identity: certificate_file.as_deref().zip(key_file.as_deref()),
        server_name: server_name.as_ref().map(|name| &*name.value),
    };
    match ClientTls::read(files) {
        Ok((tls, own)) => {
            if let (Some(own), Some(file), Some(certificate)) = (own, &certificate_file, &certificate) {
                warn_of_dates(&own, file, &certificate.at, report);
            }
            Some(tls)
        }
        Err(bad) => {
            let key = match &bad {
                BadClientFile::Ca(_) => &ca,
                BadClientFile::Certificate(_) => &certificate,
                BadClientFile::Key(_) => &key,
                BadClientFile::ServerName(_) => &server_name,
            };
            report.problem(key.as_ref().map_or(&raw.at, |key| &key.at), bad.message());
            None
        }
    }
}

fn warn_of_dates(own: &[u8], file: &Path, at: &Place, report: &mut Report<'_>) {
    if let Some(complaint) = Validity::of(own).and_then(|validity| validity.complaint(SystemTime::now())) {
        report.warn(at, format!("the certificate in {} {complaint}", file.display()));
    }
}
