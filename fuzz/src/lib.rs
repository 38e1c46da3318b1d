//! What is fuzzed: a function for each target, which takes any bytes and panics when a promise is broken.
//!
//! libFuzzer calls these through `fuzz_targets/`; `cargo test --test corpus` calls the same ones with the saved inputs
//! of `corpus/`. Only the public interface is used, so that what is fuzzed is what the gateway calls.

mod expressions;
mod forms;
mod headers;
mod messages;
mod requests;
mod routes;
mod schemas;
mod tokens;

use std::path::Path;

pub use expressions::expressions;
pub use forms::forms;
pub use headers::{frames, headers};
pub use messages::{json_to_wire, wire_to_json};
pub use requests::bindings;
pub use routes::{routes, rules};
pub use schemas::schemas;
pub use tokens::tokens;

/// A target: what it is called, and the function.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 12] = [
    ("json_to_wire", json_to_wire),
    ("wire_to_json", wire_to_json),
    ("bindings", bindings),
    ("routes", routes),
    ("rules", rules),
    ("frames", frames),
    ("forms", forms),
    ("schemas", schemas),
    ("config", config),
    ("headers", headers),
    ("tokens", tokens),
    ("expressions", expressions),
];

/// A configuration file: read, or refused with errors that can be shown.
pub fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match portico::config::from_str(text, "portico.yaml", Path::new("")) {
        Ok(loaded) => {
            assert!(!loaded.config.upstreams.is_empty() && !loaded.config.listeners.is_empty());
            let _ = loaded.config.method("pkg.Service/Method");
        }
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
}

/// The repository: this file is compiled in two packages.
fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    match env!("CARGO_PKG_NAME") {
        "portico-fuzz" => package.parent().expect("the folder is in the repository"),
        _ => package,
    }
}
