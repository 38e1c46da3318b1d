//! The configuration file from the outside: what is taken, what is refused and how, and that the texts about it hold.

mod accepts;
mod documents;
mod refuses;
mod stores;
mod tls;
mod upstreams;

use std::path::Path;

use super::{Config, Loaded, from_str_with, problem::Errors};

/// Loads text as `portico.yaml` in the folder of the examples, with one environment variable, `HOST`.
fn load(text: &str) -> Result<Loaded, Errors> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    from_str_with(text, "portico.yaml", &folder, &|name| (name == "HOST").then(|| "example.com".to_owned()))
}

/// Puts a certificate that is its own authority into a folder: `server.pem`, `server.key` and `clients.pem`, and the same
/// for the gateway towards upstreams.
fn identity(folder: &Path) -> rcgen::CertifiedKey<rcgen::KeyPair> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    for (name, text) in [
        ("server.pem", made.cert.pem()),
        ("server.key", made.signing_key.serialize_pem()),
        ("clients.pem", made.cert.pem()),
        ("internal.pem", made.cert.pem()),
        ("gateway.pem", made.cert.pem()),
        ("gateway.key", made.signing_key.serialize_pem()),
    ] {
        std::fs::write(folder.join(name), text).expect("a file");
    }
    made
}

/// The configuration of text that is right once an upstream is added.
fn with_upstream(text: &str) -> Config {
    match load(&format!("{text}\n{UPSTREAM}")) {
        Ok(loaded) => loaded.config,
        Err(errors) => panic!("{errors}"),
    }
}

const UPSTREAM: &str = "upstreams: [{ name: library, endpoints: [\"localhost:50051\"] }]\n";
