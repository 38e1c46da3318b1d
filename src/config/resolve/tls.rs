//! TLS of listeners and towards upstreams: the files are read here, so that a configuration that loads can serve.

use std::path::Path;
use std::time::SystemTime;

use super::{choose, existing_file, require, value};
use crate::config::file::{Tls as RawTls, UpstreamTls as RawUpstreamTls};
use crate::config::problem::Place;
use crate::config::read::{Located, Report};
use crate::config::tls::{BadClientFile, BadFile, ClientAuth, ClientFiles, ClientTls, Files, H2, MinVersion, Tls};
use crate::config::validity::Validity;

/// Reads the files, once all that are named are there.
pub(super) fn listener(raw: Located<RawTls>, base: &Path, report: &mut Report<'_>) -> Option<Tls> {
    let RawTls { certificate, key, certificates, client_ca, client_auth, client_crl, min_version } = raw.value;
    let before = report.problems.len();
    let mut pairs: Vec<(Located<String>, Located<String>)> = Vec::new();
    if certificates.is_none() || certificate.is_some() || key.is_some() {
        pairs.extend(pair(certificate, key, &raw.at, report));
    }
    for more in value(certificates).items {
        pairs.extend(pair(more.value.certificate, more.value.key, &more.at, report));
    }
    if pairs.is_empty() && report.problems.len() == before {
        require(false, "certificate", &raw.at, report);
    }
    for (key, name) in [(&client_auth, "client_auth"), (&client_crl, "client_crl")] {
        if let (Some(key), None) = (key, &client_ca) {
            report.problem(&key.at, format!("`{name}` goes with `client_ca`"));
        }
    }
    let client_auth = client_auth.and_then(|word| choose(word, &CLIENT_AUTH, report)).unwrap_or(ClientAuth::Required);
    let min_version = min_version.and_then(|word| choose(word, &VERSIONS, report)).unwrap_or(MinVersion::Tls12);
    let mut file = |path: &Located<String>| existing_file(path, base, report);
    let files: Vec<_> = pairs.iter().map(|(certificate, key)| (file(certificate), file(key))).collect();
    let (client_ca_file, crl_file) = (client_ca.as_ref().map(&mut file), client_crl.as_ref().map(&mut file));
    if report.problems.len() > before {
        return None;
    }
    let wanted = Files {
        certificates: &files,
        client_ca: client_ca_file.as_deref(),
        client_auth,
        client_crl: crl_file.as_deref(),
        min_version,
    };
    match Tls::read(wanted) {
        Ok((tls, own)) => {
            for ((own, (file, _)), (certificate, _)) in own.iter().zip(&files).zip(&pairs) {
                warn_of_dates(own, file, &certificate.at, report);
            }
            Some(tls)
        }
        Err(bad) => {
            let at = match &bad {
                BadFile::Certificate(index, _) => pairs.get(*index).map(|(certificate, _)| &certificate.at),
                BadFile::Key(index, _) => pairs.get(*index).map(|(_, key)| &key.at),
                BadFile::ClientCa(_) => client_ca.as_ref().map(|file| &file.at),
                BadFile::ClientCrl(_) => client_crl.as_ref().map(|file| &file.at),
            };
            report.problem(at.unwrap_or(&raw.at), bad.message());
            None
        }
    }
}

fn pair(
    certificate: Option<Located<String>>,
    key: Option<Located<String>>,
    at: &Place,
    report: &mut Report<'_>,
) -> Option<(Located<String>, Located<String>)> {
    require(certificate.is_some(), "certificate", at, report);
    require(key.is_some(), "key", at, report);
    certificate.zip(key)
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
    match ClientTls::read(files, H2) {
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

const CLIENT_AUTH: [(&str, ClientAuth); 2] = [("required", ClientAuth::Required), ("optional", ClientAuth::Optional)];
const VERSIONS: [(&str, MinVersion); 2] = [("1.2", MinVersion::Tls12), ("1.3", MinVersion::Tls13)];
