//! Steady mixed load through the real gateway in front of three real backends, while something happens to them: `make soak`.
//!
//! Each scene says what may be lost, and fails when more is. `SOAK_SECONDS` is how long each part of a scene lasts,
//! `SOAK_RATE` how many calls begin in a second (2,000 and more for figures that count). A debug build is too slow for that.

#[path = "../gateway/support/backend/mod.rs"]
mod backend;
mod client;
mod fleet;
mod front;
mod load;
#[path = "../gateway/support/names.rs"]
mod names;
mod scenes;
#[path = "../gateway/support/tls.rs"]
mod tls;

use std::process::ExitCode;
use std::time::Duration;

/// What a run is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Calls that begin in a second.
    rate: u32,
    /// For each part of a scene.
    part: Duration,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("threads can be made");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, address] = arguments.as_slice()
        && role == "backend"
    {
        runtime.block_on(fleet::serve(address.parse().expect("an address")));
        return ExitCode::SUCCESS;
    }
    let number = |name: &str, default: u32| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number in the environment"))
    };
    let plan = Plan { rate: number("SOAK_RATE", 2200), part: Duration::from_secs(number("SOAK_SECONDS", 6).into()) };
    let faults = runtime.block_on(scenes::all(plan));
    for fault in &faults {
        say(&format!("FAILED: {fault}"));
    }
    // A binary of its own, not a harness: the exit code is the verdict.
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tells the operator of the run.
#[allow(clippy::print_stdout, reason = "a program that is run by hand and in CI, not a library")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}
