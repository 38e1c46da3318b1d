//! Certificates and keys: what is taken, and what is said of files that are wrong.

use std::fs;
use std::path::Path;

use super::{UPSTREAM, identity};
use crate::config::{Loaded, from_str};

/// Loads a listener with this `tls` section, whose files are in `folder`.
fn load(folder: &Path, tls: &str) -> Result<Loaded, String> {
    let text = format!("listeners: [{{ address: 127.0.0.1:0, tls: {{ {tls} }} }}]\n{UPSTREAM}");
    from_str(&text, "portico.yaml", folder).map_err(|errors| {
        let shown =
            errors.problems().iter().map(|problem| problem.to_string().lines().next().unwrap_or_default().to_owned());
        shown.collect::<Vec<_>>().join("\n").replace(&folder.display().to_string(), "DIR")
    })
}

const BOTH: &str = "certificate: server.pem, key: server.key";

#[test]
fn a_certificate_and_its_key_are_enough() {
    let folder = tempfile::tempdir().expect("a folder");
    identity(folder.path());

    let loaded = load(folder.path(), BOTH).expect("a right configuration");
    let with_clients = load(folder.path(), &format!("{BOTH}, client_ca: clients.pem")).expect("a right configuration");

    assert_eq!(loaded.warnings, []);
    let listener = &loaded.config.listeners[0];
    assert_eq!((listener.scheme(), with_clients.config.listeners[0].scheme()), ("https", "https"));
    let server = listener.tls.as_ref().expect("TLS").server();
    assert_eq!(server.alpn_protocols, [&b"h2"[..], b"http/1.1"]);
    assert_eq!(format!("{:?}", listener.tls), "Some(Tls)");
}

#[test]
fn files_that_are_wrong_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = identity(folder.path());
    let other = rcgen::KeyPair::generate().expect("a key").serialize_pem();
    let key = made.signing_key.serialize_pem();
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let half = made.cert.pem().replace("-----END CERTIFICATE-----", "");
    let files = [
        ("empty", ""),
        ("other.key", &other),
        ("encrypted.key", &encrypted),
        ("half.pem", &half),
        ("noise.pem", "-----BEGIN CERTIFICATE-----\n***\n-----END CERTIFICATE-----\n"),
        ("short.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("short.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
    ];
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("a file");
    }
    let cases = [
        ("certificate: server.pem", "1:42: listeners[0].tls: `key` is missing"),
        ("key: server.key", "1:42: listeners[0].tls: `certificate` is missing"),
        (
            "certificate: no.pem, key: server.key",
            "1:57: listeners[0].tls.certificate: the file DIR/no.pem does not exist",
        ),
        (
            "certificate: empty, key: server.key",
            "1:57: listeners[0].tls.certificate: DIR/empty holds no certificate (BEGIN CERTIFICATE)",
        ),
        (
            "certificate: server.key, key: server.pem",
            "1:57: listeners[0].tls.certificate: DIR/server.key holds no certificate (BEGIN CERTIFICATE), but a key; are the two files swapped?",
        ),
        (
            "certificate: half.pem, key: server.key",
            "1:57: listeners[0].tls.certificate: DIR/half.pem is not PEM: a section does not end",
        ),
        (
            "certificate: noise.pem, key: server.key",
            "1:57: listeners[0].tls.certificate: DIR/noise.pem is not PEM: a section is not base64",
        ),
        (
            "certificate: server.pem, key: empty",
            "1:74: listeners[0].tls.key: DIR/empty holds no private key (BEGIN PRIVATE KEY)",
        ),
        (
            "certificate: server.pem, key: server.pem",
            "1:74: listeners[0].tls.key: DIR/server.pem holds no private key (BEGIN PRIVATE KEY), but a certificate; are the two files swapped?",
        ),
        (
            "certificate: server.pem, key: encrypted.key",
            "1:74: listeners[0].tls.key: DIR/encrypted.key holds no private key (BEGIN PRIVATE KEY), but an encrypted one, for which there is no password; `openssl pkey` decrypts it",
        ),
        (
            "certificate: server.pem, key: other.key",
            "1:74: listeners[0].tls.key: DIR/other.key is not the key of the first certificate in DIR/server.pem",
        ),
        (
            "certificate: server.pem, key: server.key, client_ca: empty",
            "1:97: listeners[0].tls.client_ca: DIR/empty holds no certificate (BEGIN CERTIFICATE)",
        ),
    ];
    for (tls, expected) in cases {
        assert_eq!(load(folder.path(), tls).expect_err(tls), format!("portico.yaml:{expected}"), "{tls}");
    }
    for (tls, start) in [
        ("certificate: short.pem, key: server.key", "1:57: listeners[0].tls.certificate: DIR/short.pem: "),
        ("certificate: server.pem, key: short.key", "1:74: listeners[0].tls.key: DIR/short.key: "),
        (
            "certificate: server.pem, key: server.key, client_ca: short.pem",
            "1:97: listeners[0].tls.client_ca: DIR/short.pem: ",
        ),
    ] {
        let error = load(folder.path(), tls).expect_err(tls);
        assert!(error.starts_with(&format!("portico.yaml:{start}")), "{error}");
    }
}

#[test]
fn an_expired_certificate_is_taken_with_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = identity(folder.path());
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    for ((from, until), words) in [((2020, 2021), "has expired"), ((2200, 2201), "is not valid yet")] {
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let certificate = params.self_signed(&made.signing_key).expect("a certificate");
        fs::write(folder.path().join("server.pem"), certificate.pem()).expect("a file");

        let loaded = load(folder.path(), BOTH).expect("a right configuration");

        let [warning] = &*loaded.warnings else { panic!("{:?}", loaded.warnings) };
        assert_eq!(warning.path, "listeners[0].tls.certificate");
        assert!(warning.message.ends_with(&format!("server.pem {words}")), "{warning}");
    }
}

/// Loads an upstream with this `tls` section.
fn load_upstream(folder: &Path, tls: &str) -> Result<Loaded, String> {
    let text = format!("upstreams: [{{ name: a, endpoints: [\"a:1\"], tls: {{ {tls} }} }}]");
    from_str(&text, "portico.yaml", folder).map_err(|errors| {
        let first = errors.problems().first().map(ToString::to_string).unwrap_or_default();
        first.lines().next().unwrap_or_default().replace(&folder.display().to_string(), "DIR")
    })
}

#[test]
fn an_upstream_is_another_when_its_certificates_are() {
    let folder = tempfile::tempdir().expect("a folder");
    identity(folder.path());
    let tls = "ca: internal.pem, certificate: gateway.pem, key: gateway.key";
    let load = |tls| load_upstream(folder.path(), tls).expect("a right configuration").config.upstreams.remove(0);

    let first = load(tls);

    assert_eq!(first, load(tls));
    assert_ne!(first, load("ca: internal.pem"));
    assert_ne!(load("ca: internal.pem"), load("ca: internal.pem, server_name: b"));
    identity(folder.path());
    assert_ne!(first, load(tls));
}

#[test]
fn what_is_wrong_with_the_tls_of_an_upstream_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    identity(folder.path());
    fs::write(folder.path().join("other.key"), rcgen::KeyPair::generate().expect("a key").serialize_pem())
        .expect("a file");
    for (tls, expected) in [
        ("key: gateway.key", "1:49: upstreams[0].tls: `certificate` is missing"),
        ("certificate: gateway.pem", "1:49: upstreams[0].tls: `key` is missing"),
        ("ca: no.pem", "1:55: upstreams[0].tls.ca: the file DIR/no.pem does not exist"),
        (
            "ca: gateway.key",
            "1:55: upstreams[0].tls.ca: DIR/gateway.key holds no certificate (BEGIN CERTIFICATE), but a key; are the two files swapped?",
        ),
        (
            "ca: internal.pem, server_name: a b",
            "1:82: upstreams[0].tls.server_name: \"a b\" is not a host name or an IP address",
        ),
        (
            "ca: internal.pem, certificate: gateway.pem, key: other.key",
            "1:100: upstreams[0].tls.key: DIR/other.key is not the key of the first certificate in DIR/gateway.pem",
        ),
    ] {
        assert_eq!(load_upstream(folder.path(), tls).expect_err(tls), format!("portico.yaml:{expected}"), "{tls}");
    }
}
