//! Diagnostics: events for the operator on standard error. Calls are not logged here but in the access log.

use std::io::{self, IsTerminal as _};
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;
use tracing_subscriber::reload;
use tracing_subscriber::util::TryInitError;

use crate::config::LogFormat;

/// Writes events of this level and graver ones to standard error from now on.
///
/// The HTTP libraries, which report every frame, are heard below `info` only when everything is traced. Text has
/// colours on a terminal, unless `NO_COLOR` is set.
///
/// # Errors
/// The process has such a writer already.
pub fn init(format: LogFormat, level: Level) -> Result<(), TryInitError> {
    let base = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let layer = match format {
        LogFormat::Text => {
            let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
            base.with_ansi(colours).with_target(false).boxed()
        }
        LogFormat::Json => base.json().flatten_event(true).boxed(),
    };
    let (filter, handle) = reload::Layer::new(filter(level));
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init()?;
    let change = Box::new(move |level| handle.reload(self::filter(level)).is_ok());
    // Set once, since a second writer is an error before.
    CURRENT.set(Mutex::new(Current { level, change })).ok();
    Ok(())
}

/// The level that is written from now on. Returns whether there is a writer.
pub fn set_level(level: Level) -> bool {
    let Some(current) = CURRENT.get() else { return false };
    let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
    let changed = (current.change)(level);
    if changed {
        current.level = level;
    }
    changed
}

/// The level that is written now, if there is a writer.
pub fn level() -> Option<Level> {
    CURRENT.get().map(|current| current.lock().unwrap_or_else(PoisonError::into_inner).level)
}

/// The writer of the process.
static CURRENT: OnceLock<Mutex<Current>> = OnceLock::new();

struct Current {
    level: Level,
    change: Box<dyn Fn(Level) -> bool + Send>,
}

fn filter(level: Level) -> Targets {
    let libraries = if level == Level::TRACE { level } else { level.min(Level::INFO) };
    Targets::new()
        .with_default(LevelFilter::from_level(level))
        .with_targets(["h2", "hyper", "tonic"].map(|library| (library, libraries)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_not_listen_to_frames_while_debugging() {
        let filter = filter(Level::DEBUG);

        assert!(filter.would_enable("portico::proxy", &Level::DEBUG));
        assert!(filter.would_enable("h2::client", &Level::INFO));
        assert!(!filter.would_enable("h2::codec::framed_read", &Level::DEBUG));
    }

    #[test]
    fn is_as_quiet_as_asked() {
        let filter = filter(Level::WARN);

        assert!(!filter.would_enable("portico::proxy", &Level::INFO));
        assert!(!filter.would_enable("h2::client", &Level::INFO));
    }
}
