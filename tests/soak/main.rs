//! Steady mixed load through the real gateway in front of three real backends, while something happens to them: `make soak`.
//!
//! Each scene says what may be lost, and fails when more is. `SOAK_SECONDS` is how long each part of a scene lasts,
//! `SOAK_RATE` how many calls begin in a second (2,000 and more for figures that count). A debug build is too slow for that.
//! `SOAK_SCENES` names the scenes to play, with commas between: `SOAK_SCENES=steady SOAK_SECONDS=1800 make soak` looks for
//! half an hour whether memory grows.

#[path = "../gateway/support/backend/mod.rs"]
mod backend;
mod client;
mod fleet;
mod front;
mod load;
#[path = "../gateway/support/memory.rs"]
mod memory;
#[path = "../gateway/support/names.rs"]
mod names;
mod scenes;
mod steady;
#[path = "../gateway/support/tls.rs"]
mod tls;

use std::pin::Pin;
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

/// Plays a scene, and returns what went wrong.
type Scene = fn(Plan) -> Pin<Box<dyn Future<Output = Vec<String>>>>;

/// Faults that are told; what fails for half an hour would be told a million times.
const SHOWN: usize = 100;

/// All there are, in the order in which they are played.
const SCENES: [(&str, Scene); 7] = [
    ("killed", |plan| Box::pin(scenes::killed(plan))),
    ("rolling", |plan| Box::pin(scenes::rolling(plan))),
    ("reloads", |plan| Box::pin(scenes::reloads(plan))),
    ("takeovers", |plan| Box::pin(scenes::takeovers(plan))),
    ("certificates", |plan| Box::pin(scenes::certificates(plan))),
    ("names", |plan| Box::pin(scenes::names(plan))),
    ("steady", |plan| Box::pin(steady::steady(plan))),
];

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
    let faults = match chosen(std::env::var("SOAK_SCENES").ok().as_deref()) {
        Ok(scenes) => runtime.block_on(play(&scenes, plan)),
        Err(fault) => vec![fault],
    };
    for fault in faults.iter().take(SHOWN) {
        say(&format!("FAILED: {fault}"));
    }
    if faults.len() > SHOWN {
        say(&format!("FAILED: {} more", faults.len() - SHOWN));
    }
    // A binary of its own, not a harness: the exit code is the verdict.
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The scenes with these names, or all of them.
fn chosen(names: Option<&str>) -> Result<Vec<Scene>, String> {
    let Some(names) = names else { return Ok(SCENES.map(|(_, scene)| scene).to_vec()) };
    let find = |name| SCENES.iter().find(|(known, _)| *known == name).map(|(_, scene)| *scene).ok_or(name);
    let chosen: Result<_, _> = names.split(',').map(str::trim).map(find).collect();
    chosen.map_err(|name| {
        format!("there is no scene {name:?}; SOAK_SCENES knows {}", SCENES.map(|(known, _)| known).join(", "))
    })
}

/// One after the other.
async fn play(scenes: &[Scene], plan: Plan) -> Vec<String> {
    let mut faults = Vec::new();
    for scene in scenes {
        faults.extend(scene(plan).await);
    }
    faults
}

/// Tells the operator of the run.
#[allow(clippy::print_stdout, reason = "a program that is run by hand and in CI, not a library")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}
