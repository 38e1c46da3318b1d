//! The saved inputs of `fuzz/corpus/`, each through its target: what was found once stays fixed.
//!
//! A file holds the inputs of one target, a line of base64 each.

#[path = "src/lib.rs"]
#[allow(
    unreachable_pub,
    clippy::panic,
    clippy::let_underscore_must_use,
    reason = "a library elsewhere; it panics when a promise is broken, and what is no promise is not looked at"
)]
mod fuzz;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

#[test]
fn saved_inputs_break_no_promise() {
    for (name, target) in fuzz::TARGETS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let inputs = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for (line, input) in inputs.lines().enumerate() {
            let input = STANDARD.decode(input).unwrap_or_else(|error| panic!("{name}:{}: {error}", line + 1));
            let result = std::panic::catch_unwind(|| target(&input));
            assert!(result.is_ok(), "{name}:{}: {}", line + 1, String::from_utf8_lossy(&input));
        }
        assert!(!inputs.is_empty(), "{name} has no saved inputs");
    }
}
