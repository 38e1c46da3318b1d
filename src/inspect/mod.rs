//! The commands that look without serving: `check`, `routes` and `explain`.
//!
//! They load what `run` loads by the code that it loads it with, and ask an upstream's reflection once. What they find
//! goes to standard output, what is wrong to standard error. Nothing is listened on and no call is sent.

mod check;
mod explain;
mod nearby;
mod policies;
mod routes;
mod table;

use std::io::{self, Write as _};
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::cli::Exit;
use crate::config::Config;
use crate::runtime;
use crate::snapshot::{Method, SchemaState, Snapshot, load};
use crate::transcode::Plans;

pub use check::check;
pub use explain::explain;
pub use routes::routes;

/// Builds the state that a gateway with this configuration would serve from.
///
/// An upstream whose reflection does not answer is no error here; its schema is missing in the snapshot, with the reason.
///
/// # Errors
/// Descriptors in files are wrong: a line for each upstream.
fn snapshot(config: Config, control: &Runtime) -> Result<Snapshot, Exit> {
    let mut schemas = load::from_files(&config).map_err(|errors| Exit::Wrong(error_lines(&errors)))?;
    control.block_on(ask(&config, &mut schemas));
    Ok(Snapshot::build(&Arc::new(config), schemas))
}

/// Asks the reflection of every upstream that has no schema yet, all at once and each once.
async fn ask(config: &Config, schemas: &mut [SchemaState]) {
    let mut asked = JoinSet::new();
    for (index, upstream) in config.upstreams.iter().enumerate() {
        if matches!(schemas[index], SchemaState::Missing(_)) {
            let upstream = upstream.clone();
            asked.spawn(async move { (index, load::by_reflection(&upstream).await) });
        }
    }
    while let Some(answer) = asked.join_next().await {
        let Ok((index, answer)) = answer else { continue };
        schemas[index] = match answer {
            Ok(schema) => SchemaState::Loaded(Plans::new(Arc::new(schema))),
            Err(why) => SchemaState::Missing(why.into()),
        };
    }
}

fn control() -> Result<Runtime, Exit> {
    runtime::control().map_err(|error| Exit::Wrong(format!("error: {error}")))
}

fn error_lines(errors: &[String]) -> String {
    errors.iter().map(|error| format!("error: {error}")).collect::<Vec<_>>().join("\n")
}

/// Writes to standard output. A reader that has seen enough, such as `head`, is no error.
fn print(text: &str) -> Result<(), Exit> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Exit::Wrong(format!("error: {error}"))),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// `1 route`, `2 routes`.
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// What kind of stream a method is; empty when it is none.
fn stream_kind(method: &Method) -> &'static str {
    match (method.client_streaming, method.server_streaming) {
        (false, false) => "",
        (true, false) => "client stream",
        (false, true) => "server stream",
        (true, true) => "bidi stream",
    }
}
