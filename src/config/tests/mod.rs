//! The configuration file from the outside: what is taken, what is refused and how, and that the texts about it hold.

mod accepts;
mod documents;
mod refuses;

use std::path::Path;

use super::{Config, Loaded, from_str_with, problem::Errors};

/// Loads text as `portico.yaml` in the folder of the examples, with one environment variable, `HOST`.
fn load(text: &str) -> Result<Loaded, Errors> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    from_str_with(text, "portico.yaml", &folder, &|name| (name == "HOST").then(|| "example.com".to_owned()))
}

/// The configuration of text that is right once an upstream is added.
fn with_upstream(text: &str) -> Config {
    match load(&format!("{text}\n{UPSTREAM}")) {
        Ok(loaded) => loaded.config,
        Err(errors) => panic!("{errors}"),
    }
}

const UPSTREAM: &str = "upstreams: [{ name: library, endpoints: [\"localhost:50051\"] }]\n";
