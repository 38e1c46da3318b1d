//! The command line: from arguments to a [`Command`] that is ready to be carried out.
//!
//! Nothing is carried out here. A command that comes out of [`parse`] has its configuration read and checked; what is
//! wrong comes out as an [`Exit`], which says what to print and with which code to end.

mod args;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use bytes::Bytes;
use clap::Parser;

use crate::config::flags::Overrides;
use crate::config::{self, Config, Loaded, LogFormat, SchemaSource};

use self::args::{Admin, Arguments, Common, Format, Level, Source, Verb};

/// What to do.
#[derive(Debug, Clone)]
pub enum Command {
    /// Start the embedded service and a gateway in front of it.
    Demo(Demo),
    /// Start the gateway.
    Run(Run),
    /// Read the schema too and report.
    Check(Loaded),
    /// List the routes.
    Routes(Loaded),
    /// Say what becomes of a request.
    Explain(Explain),
}

/// `portico demo`. The configuration is made when the embedded service has its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demo {
    /// Flags to put above [`Config::from_flags`] by [`Config::apply`].
    pub overrides: Overrides,
    /// Diagnostics.
    pub log: Log,
}

/// `portico run`.
#[derive(Debug, Clone)]
pub struct Run {
    /// The configuration with the flags applied, and its warnings.
    pub loaded: Loaded,
    /// Diagnostics.
    pub log: Log,
    /// Where listening sockets are taken over and given on.
    pub takeover: Option<PathBuf>,
    source: Source,
    overrides: Overrides,
}

impl Run {
    /// Reads the configuration again, as the command line was read.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn load_again(&self) -> Result<Loaded, String> {
        load(&self.source, &self.overrides).map_err(|exit| match exit {
            Exit::Help(text) | Exit::Wrong(text) | Exit::Usage(text) => text,
        })
    }
}

/// `portico explain`.
#[derive(Debug, Clone)]
pub struct Explain {
    /// The configuration.
    pub loaded: Loaded,
    /// HTTP method of the request.
    pub method: http::Method,
    /// Its path and query, starting with a slash; not checked otherwise.
    pub target: String,
    /// Its headers.
    pub headers: http::HeaderMap,
    /// Its body, empty when there is none.
    pub body: Bytes,
}

/// How diagnostics are written to standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// The least important level that is written.
    pub level: tracing::Level,
}

/// An end before anything was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// The operator asked for this text: standard output, code 0.
    Help(String),
    /// The configuration is wrong: standard error, code 1.
    Wrong(String),
    /// The command line is wrong: standard error, code 2.
    Usage(String),
}

/// Reads a command line, its first word being the program's name, and the configuration that it names.
///
/// # Errors
/// The text to print and how to end: help and version, a command line or a configuration that is wrong.
pub fn parse<A>(arguments: A) -> Result<Command, Exit>
where
    A: IntoIterator<Item: Into<OsString> + Clone>,
{
    let arguments = Arguments::try_parse_from(arguments).map_err(|error| {
        let text = error.render().to_string();
        if error.use_stderr() { Exit::Usage(text) } else { Exit::Help(text) }
    })?;
    match arguments.command {
        Verb::Demo { common } => Ok(Command::Demo(Demo { overrides: common.overrides(), log: common.log() })),
        Verb::Run { source, common, takeover } => {
            let overrides = common.overrides();
            Ok(Command::Run(Run { loaded: load(&source, &overrides)?, log: common.log(), takeover, source, overrides }))
        }
        Verb::Check { source } => source.load().map(Command::Check),
        Verb::Routes { source } => source.load().map(Command::Routes),
        Verb::Explain { source, request } => Ok(Command::Explain(Explain {
            loaded: source.load()?,
            method: request.method,
            target: request.target,
            headers: headers(request.header)?,
            body: request.data.map(Bytes::from).unwrap_or_default(),
        })),
    }
}

/// Reads the configuration and puts the flags above it.
fn load(source: &Source, overrides: &Overrides) -> Result<Loaded, Exit> {
    let mut loaded = source.load()?;
    loaded.config.apply(overrides).map_err(|message| Exit::Usage(format!("error: {message}")))?;
    Ok(loaded)
}

impl Exit {
    /// The code to end the process with.
    pub fn code(&self) -> u8 {
        match self {
            Self::Help(_) => 0,
            Self::Wrong(_) => 1,
            Self::Usage(_) => 2,
        }
    }

    /// Writes the text where it belongs, ending in a line break.
    ///
    /// # Errors
    /// The stream is closed.
    pub fn print(&self) -> std::io::Result<()> {
        use std::io::Write as _;
        match self {
            Self::Help(text) => writeln!(std::io::stdout(), "{}", text.trim_end()),
            Self::Wrong(text) | Self::Usage(text) => writeln!(std::io::stderr(), "{}", text.trim_end()),
        }
    }
}

impl Source {
    fn load(&self) -> Result<Loaded, Exit> {
        if let Some(file) = &self.config {
            return config::load(file).map_err(|errors| Exit::Wrong(errors.to_string()));
        }
        let schema = match (&self.descriptor_set, &self.proto) {
            (Some(file), _) => SchemaSource::DescriptorSet(file.clone()),
            (None, files) if !files.is_empty() => SchemaSource::proto(files.clone(), self.include.clone()),
            (None, _) => SchemaSource::Reflection,
        };
        if self.upstream.len() > 1 && schema != SchemaSource::Reflection {
            let message = "error: --descriptor-set and --proto describe one --upstream; several take a --config file";
            return Err(Exit::Usage(message.to_owned()));
        }
        let config = Config::from_flags(&self.upstream, &schema, self.upstream_ca.as_deref())
            .map_err(|errors| Exit::Wrong(errors.to_string()))?;
        Ok(Loaded { config, warnings: Vec::new() })
    }
}

impl Common {
    fn overrides(&self) -> Overrides {
        Overrides {
            listen: self.listen,
            admin: self.admin.map(|admin| -> Option<SocketAddr> {
                match admin {
                    Admin::Off => None,
                    Admin::On(address) => Some(address),
                }
            }),
            workers: self.workers.map(usize::from),
            log_format: self.log_format.map(LogFormat::from),
        }
    }

    fn log(&self) -> Log {
        Log { format: self.log_format.map_or(LogFormat::Text, LogFormat::from), level: self.log_level.into() }
    }
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}

impl From<Level> for tracing::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
        }
    }
}

fn headers(list: Vec<(http::HeaderName, http::HeaderValue)>) -> Result<http::HeaderMap, Exit> {
    let mut headers = http::HeaderMap::new();
    for (name, value) in list {
        let full = |_| Exit::Usage("error: too many headers".to_owned());
        headers.try_append(name, value).map_err(full)?;
    }
    Ok(headers)
}

#[cfg(test)]
mod tests;
