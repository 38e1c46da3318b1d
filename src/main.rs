//! The `portico` command: reads what is wanted, does it, and ends with 0 (done), 1 (configuration or schema wrong) or
//! 2 (usage).

use std::process::ExitCode;

use portico::cli::{self, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let outcome = cli::parse(std::env::args_os()).and_then(|command| match command {
        Command::Demo(demo) => portico::serve::demo(demo),
        Command::Run(run) => portico::serve::run(run),
        Command::Check(loaded) => portico::inspect::check(loaded),
        Command::Routes(loaded) => portico::inspect::routes(loaded),
        Command::Explain(explain) => portico::inspect::explain(explain),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => {
            // A closed stream leaves nobody to tell.
            exit.print().ok();
            ExitCode::from(exit.code())
        }
    }
}
