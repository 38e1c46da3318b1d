//! Flags and commands as they are typed. What they mean is decided in [`super`].

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum};

use crate::config::pattern;

/// A gateway that offers gRPC services as REST/JSON and as gRPC on one port.
#[derive(Debug, Parser)]
#[command(name = "portico", version, after_help = EXAMPLES, arg_required_else_help = true)]
#[command(disable_help_subcommand = true, max_term_width = 100)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Start an embedded gRPC service with a gateway in front of it, and print calls to try
    Demo {
        #[command(flatten)]
        common: Common,
    },
    /// Start the gateway
    #[command(after_help = RUN_EXAMPLES)]
    Run {
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        common: Common,
        /// Unix socket by which this process takes the listening sockets over from the one that serves, if one does, and
        /// gives them to the next
        #[arg(long, value_name = "PATH")]
        takeover: Option<PathBuf>,
    },
    /// Read the configuration and the schema as `run` would, and report everything that is wrong
    Check {
        #[command(flatten)]
        source: Source,
    },
    /// List every route: HTTP method, template, gRPC method, upstream, and conflicts
    Routes {
        #[command(flatten)]
        source: Source,
    },
    /// Show which route a request takes, which fields get which values, or why it is refused; nothing is sent
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain {
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        request: Request,
    },
}

/// Which services: a file, or upstreams and where their schema is found.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Services", group(ArgGroup::new("services").required(true).multiple(true)))]
pub(super) struct Source {
    /// Configuration file
    #[arg(long, value_name = "FILE", group = "services")]
    pub(super) config: Option<PathBuf>,
    /// A gRPC server, with TLS as https://HOST:PORT; it is asked for its schema by reflection unless one is given
    /// (repeatable)
    #[arg(long, value_name = "HOST:PORT", value_parser = upstream, group = "services", conflicts_with = "config")]
    pub(super) upstream: Vec<String>,
    /// Certificate authorities (PEM) of servers with TLS, in place of those of the system
    #[arg(long, value_name = "FILE", requires = "upstream")]
    pub(super) upstream_ca: Option<PathBuf>,
    /// Schema: an encoded FileDescriptorSet, as `protoc --include_imports -o` or `buf build -o` write it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "proto"])]
    pub(super) descriptor_set: Option<PathBuf>,
    /// Schema: a .proto file (repeatable)
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    pub(super) proto: Vec<PathBuf>,
    /// Folder in which the imports of --proto are found (repeatable); google/api and the like are built in
    #[arg(long, value_name = "DIR", requires = "proto")]
    pub(super) include: Vec<PathBuf>,
}

/// What a running gateway takes beside its services; stands above the file.
#[derive(Debug, Args)]
#[command(next_help_heading = "Gateway")]
pub(super) struct Common {
    /// Address for clients; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "IP:PORT", value_parser = pattern::listen_address)]
    pub(super) listen: Option<SocketAddr>,
    /// Address for health checks and metrics, or off [default: 127.0.0.1:9901]
    #[arg(long, value_name = "IP:PORT|off", value_parser = admin)]
    pub(super) admin: Option<Admin>,
    /// Threads that carry calls [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(WORKERS))]
    pub(super) workers: Option<u16>,
    /// How log lines look: diagnostics on standard error, the access log on standard output [default: text]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(super) log_format: Option<Format>,
    /// Which diagnostics are written
    #[arg(long, value_name = "LEVEL", value_enum, default_value = "info")]
    pub(super) log_level: Level,
}

/// The request to explain.
#[derive(Debug, Args)]
#[command(next_help_heading = "Request")]
pub(super) struct Request {
    /// HTTP method, such as GET
    #[arg(value_name = "METHOD", value_parser = method)]
    pub(super) method: http::Method,
    /// Path and query, such as '/v1/shelves/1/books?page_size=2'
    #[arg(value_name = "TARGET", value_parser = target)]
    pub(super) target: String,
    /// A header of the request (repeatable)
    #[arg(long, short = 'H', value_name = "NAME: VALUE", value_parser = header, action = ArgAction::Append)]
    pub(super) header: Vec<(http::HeaderName, http::HeaderValue)>,
    /// The body of the request; a form, as with curl, unless a header gives another content type
    #[arg(long, short, value_name = "BODY")]
    pub(super) data: Option<String>,
}

/// Where the admin endpoints are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Admin {
    Off,
    On(SocketAddr),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

fn upstream(text: &str) -> Result<String, String> {
    pattern::upstream_target(text).map(|_| text.to_owned())
}

fn admin(text: &str) -> Result<Admin, String> {
    if text == "off" {
        return Ok(Admin::Off);
    }
    text.parse().map(Admin::On).map_err(|_| "write IP:PORT, such as 127.0.0.1:9901, or `off`".to_owned())
}

fn method(text: &str) -> Result<http::Method, String> {
    http::Method::from_bytes(text.as_bytes()).map_err(|_| "not an HTTP method, such as GET".to_owned())
}

/// Anything that starts with a slash: what is wrong with the rest is for `explain` to say.
fn target(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        return Ok(text.to_owned());
    }
    Err("write the path as it stands after the host, such as /v1/shelves/1".to_owned())
}

fn header(text: &str) -> Result<(http::HeaderName, http::HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| "write name: value".to_owned())?;
    let name =
        name.trim().parse().map_err(|_| "the name of a header has only letters, digits and dashes".to_owned())?;
    let value = value.trim().parse().map_err(|_| "the value of a header is visible ASCII".to_owned())?;
    Ok((name, value))
}

const WORKERS: std::ops::RangeInclusive<i64> = 1..=1024;

const EXAMPLES: &str = "\
Examples:
  portico demo
      A library service and a gateway in front of it, with calls to paste.
  portico run --upstream localhost:50051
      REST and gRPC on 127.0.0.1:8080 for the services of one server with reflection.
  portico run --config portico.yaml
      Everything else: several upstreams, HTTP rules, policies, limits.
  portico check --config portico.yaml
      Every error at once, with line and column.

`portico COMMAND --help` shows the flags of a command.
Exit codes: 0 done, 1 the configuration or the schema is wrong, 2 usage.";

const RUN_EXAMPLES: &str = "\
Examples:
  portico run --upstream localhost:50051
  portico run --upstream localhost:50051 --descriptor-set api.binpb
  portico run --upstream localhost:50051 --proto api.proto --include protos --listen 0.0.0.0:8080
  portico run --upstream orders:50051 --upstream users:50051
  portico run --upstream https://orders.example.com
  portico run --config portico.yaml --log-format json";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  portico explain --upstream localhost:50051 GET '/v1/shelves/1/books?page_size=2'
  portico explain --config portico.yaml POST /v1/shelves -H 'content-type: application/json' -d '{\"theme\":\"art\"}'";
