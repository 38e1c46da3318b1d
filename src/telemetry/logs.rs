//! Diagnostics: events for the operator on standard error. Calls are not logged here but in the access log.

use std::io::{self, IsTerminal as _};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;
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
    tracing_subscriber::registry().with(layer.with_filter(filter(level))).try_init()
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
