//! The configuration as the rest of the program uses it: resolved, checked, with every default filled in.
//!
//! What an operator types is `file.rs` and looks different; nothing here can be wrong any more. [`load`] and
//! [`from_str`] go from text to tree (`node.rs`) to typed sections (`read.rs`, `file.rs`) to this (`resolve.rs`);
//! [`Config::from_flags`] does without a file.

pub mod accounts;
pub mod admission;
pub mod authentication;
pub mod authorization;
pub mod balancing;
pub mod breaker;
pub mod claim;
mod contents;
pub mod cors;
pub(crate) mod der;
pub mod descriptors;
pub mod endpoints;
mod environment;
mod file;
pub mod flags;
pub mod health_check;
mod matching;
mod node;
pub mod outliers;
pub mod password;
pub(crate) mod pattern;
pub mod problem;
pub mod rate_limit;
mod read;
pub mod redis;
mod rendering;
mod resolve;
pub mod retry;
pub mod shown;
pub(crate) mod spelling;
pub mod tls;
pub(crate) mod units;
pub mod url;
mod validity;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

use self::admission::{Admission, PartialAdmission, Shedding};
use self::authentication::{Provider, Requirement};
use self::authorization::{Authorization, Authorizer, Forwarded};
use self::balancing::Balancing;
use self::breaker::Breaker;
use self::cors::Cors;
use self::endpoints::Endpoints;
use self::health_check::HealthCheck;
use self::outliers::OutlierDetection;
use self::problem::{Errors, Place, Problem};
use self::rate_limit::{RateLimit, RateLimiting};
use self::read::{Read, Report};
use self::retry::{Hedge, Retry};
use self::shown::Shown;
use self::tls::{ClientTls, Expiry, Tls};

pub use self::pattern::{MethodPattern, ServicePattern};
pub use self::rendering::{BoundHeaders, Compression, Json, PartialCompression, Reply};

pub use self::descriptors::{SchemaChanges, SchemaSource};

/// A configuration that was read without an error.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What the gateway runs with.
    pub config: Config,
    /// What loosens a safe default, for the log at start-up and for `check`.
    pub warnings: Vec<Problem>,
}

/// Reads a configuration file. Paths inside it start at its folder; `${NAME}` stands for environment variables.
///
/// # Errors
/// The file cannot be read or is not YAML, or everything that is wrong in it, at once.
pub fn load(path: &Path) -> Result<Loaded, Errors> {
    let name = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|error| Errors::single(&name, format!("cannot be read: {error}")))?;
    let mut loaded = from_str(&text, &name, path.parent().unwrap_or_else(|| Path::new("")))?;
    loaded.config.files.push(path.to_owned());
    Ok(loaded)
}

/// Reads a configuration from text, shown as `name` in errors; paths inside it start at `folder`.
///
/// # Errors
/// As [`load`].
pub fn from_str(text: &str, name: &str, folder: &Path) -> Result<Loaded, Errors> {
    from_str_with(text, name, folder, &|variable| std::env::var(variable).ok())
}

/// [`from_str`] with another environment than the process's own.
fn from_str_with(
    text: &str,
    name: &str,
    folder: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Errors> {
    let mut report = Report::new(variable);
    let root = Place { path: String::new(), position: None };
    let config = match node::Node::parse(text) {
        Ok(node) => file::File::read(&node, &root, &mut report)
            .and_then(|file| resolve::config(file, folder, &mut report))
            .map(|config| Config { shown: Shown::of(&node), ..config }),
        Err((position, message)) => {
            report.problem(&Place { position, ..root }, message);
            None
        }
    };
    let shown = |mut problems: Vec<Problem>| -> Vec<Problem> {
        problems.sort_by_key(|problem| problem.position);
        problems.into_iter().map(|problem| problem.in_file(name, text)).collect()
    };
    let files = std::mem::take(&mut report.files);
    match config.map(|config| Config { files, ..config }) {
        Some(config) => Ok(Loaded { config, warnings: shown(report.warnings) }),
        None => Err(Errors::new(shown(report.problems))),
    }
}

/// Everything that one gateway is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// At least one.
    pub listeners: Vec<Listener>,
    /// Where `/livez`, `/readyz` and `/metrics` are served; none when `off`.
    pub admin: Option<SocketAddr>,
    /// When the admin port is taken, try the following ones (the demo does).
    pub next_free_admin_port: bool,
    /// At least one; names are unique.
    pub upstreams: Vec<Upstream>,
    /// `google.api.http` rules by selector (`pkg.Service.Method`, or `pkg.*`); they replace annotations.
    pub http_rules: Vec<crate::pb::google::api::HttpRule>,
    /// The gateway's own reflection and health services on its listeners.
    pub serve: Serve,
    /// Whether the gateway's own errors carry `details`, such as `ErrorInfo`.
    pub error_details: bool,
    /// The ways in which callers may prove who they are; names are unique.
    pub authentication: Vec<Arc<Provider>>,
    /// Services that decide on calls; names are unique.
    pub authorizers: Vec<Arc<Authorizer>>,
    /// Every header by which some method's upstream learns who calls. No client may send one.
    pub identity_headers: Arc<[HeaderName]>,
    /// Settings of every method, see [`Config::method`].
    pub defaults: MethodSettings,
    /// In file order; the most specific match wins key by key.
    pub policies: Vec<Policy>,
    /// When calls are refused because the process has too much to do.
    pub shedding: Shedding,
    /// What holds for all limits on how often methods are called.
    pub rate_limiting: RateLimiting,
    /// Where limits are counted that gateways share; none is asked unless a limit names it.
    pub redis: Option<Arc<redis::Redis>>,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// How long running calls may take to end once the gateway is to stop. Default 30 s.
    pub drain_timeout: Duration,
    /// For how long connections are accepted after the gateway has said that it is not ready any more. Default none.
    pub drain_delay: Duration,
    /// Whether files that change are read again without being asked to. Default `true`.
    pub watch: bool,
    /// What operators are shown of it.
    pub shown: Shown,
    /// Every file that this was read from, but those of endpoints, which discovery follows.
    pub files: Vec<PathBuf>,
    /// Data-plane threads; one per core unless set.
    pub workers: usize,
}

/// What the gateway itself answers beside its upstreams' services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serve {
    /// `grpc.reflection.v1` and `v1alpha`.
    pub reflection: bool,
    /// `grpc.health.v1`.
    pub health: bool,
}

/// One listening socket.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Port 0 takes a free one.
    pub address: SocketAddr,
    /// When the port is taken, try the following ones (the demo does).
    pub next_free_port: bool,
    /// Bounds on what clients may use.
    pub limits: Limits,
    /// Peers whose `x-forwarded-*` is believed.
    pub trusted_proxies: Arc<[IpNet]>,
    /// Peers that begin each connection with a PROXY header, which is believed.
    pub proxy_protocol: Arc<[IpNet]>,
    /// Clear text without it.
    pub tls: Option<Tls>,
}

/// Bounds on what the clients of a listener may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; more wait in the backlog. Default 10,000.
    pub max_connections: usize,
    /// Bytes of one request's header block, names and values with 32 bytes each (RFC 9113 §6.5.2). Default 60 KiB.
    pub max_header_bytes: u32,
    /// Header fields of one request. Default 100.
    pub max_headers: usize,
    /// HTTP/2 streams open at once on a connection. Default 100.
    pub max_concurrent_streams: u32,
    /// Reset streams not yet seen by the gateway, beyond which the connection is closed. Default 200.
    pub max_pending_resets: usize,
    /// For the first bytes, the preface, each head, and each frame but DATA that has begun. Default 10 s.
    pub header_timeout: Duration,
    /// For the whole TLS handshake. Default 10 s.
    pub tls_handshake_timeout: Duration,
    /// Connection without a request. Default 1 h.
    pub idle_timeout: Duration,
    /// HTTP/2 receive window of a stream. Default 256 KiB.
    pub stream_window: u32,
    /// HTTP/2 receive window of a connection. Default 4 MiB.
    pub connection_window: u32,
}

/// A named group of endpoints that serve the same services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Unique name, shown in routes, logs and metrics.
    pub name: Arc<str>,
    /// Where its endpoints are found.
    pub endpoints: Endpoints,
    /// How calls are spread over them.
    pub balancing: Balancing,
    /// Where its descriptors come from.
    pub schema: SchemaSource,
    /// What becomes of it when the descriptors change.
    pub schema_changes: SchemaChanges,
    /// Services it owns; empty means all that its schema declares.
    pub services: Vec<ServicePattern>,
    /// `:authority` sent to it; see [`Upstream::authority_of`].
    pub authority: Option<Arc<str>>,
    /// Clear text without it.
    pub tls: Option<ClientTls>,
    /// Bounds on its connections.
    pub connections: Connections,
    /// How its endpoints are asked for their health, if they are.
    pub health_check: Option<HealthCheck>,
    /// When its endpoints are left alone for failing, if they are.
    pub outliers: Option<OutlierDetection>,
    /// How much it is given to do at once.
    pub breaker: Breaker,
}

impl Upstream {
    /// Whether clients may call it; others are only asked by the gateway itself.
    pub fn serves(&self) -> bool {
        self.schema != SchemaSource::None
    }
}

/// Bounds on an upstream's connections. Windows and budget are per connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Connections to one endpoint over all workers (at least one per worker). Default 4.
    pub max_per_endpoint: usize,
    /// Default 1 s.
    pub connect_timeout: Duration,
    /// HTTP/2 receive window of a stream. Default 256 KiB.
    pub stream_window: u32,
    /// HTTP/2 receive window of a connection, at least eight times that of a stream. Default 32 MiB.
    pub connection_window: u32,
    /// Unread small DATA frames that a connection tolerates, in bytes. Default 64 MiB.
    pub data_frame_budget: usize,
    /// After which a connection takes no new calls, less up to a tenth; `None` for never. Default 30 min.
    pub max_age: Option<Duration>,
    /// Silence of a connection with calls after which it is asked whether it still works, by an HTTP/2 PING; `None` leaves
    /// that to TCP. Default none: some servers take frequent PINGs for an attack.
    pub keepalive: Option<Duration>,
}

/// A pattern over methods and the settings that it changes.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Which methods.
    pub matches: MethodPattern,
    /// What changes for them.
    pub settings: PartialSettings,
    /// Which pages of other origins may call them.
    pub cors: Change<Arc<Cors>>,
    /// How often they may be called, beside what less specific policies say.
    pub rate_limits: Change<Arc<[Arc<RateLimit>]>>,
}

/// What a policy says of something that a less specific policy may have said already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// Nothing.
    #[default]
    Inherited,
    /// That it does not hold: `none`.
    Cleared,
    /// Something else.
    To(T),
}

/// What holds for one method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodSettings {
    /// Whole unary call, `None` for as long as the client waits. Default 15 s.
    pub unary_timeout: Option<Duration>,
    /// Stream without a message in either direction. Default 5 min.
    pub stream_idle: Duration,
    /// Whole stream, `None` for as long as it moves. Default none.
    pub stream_timeout: Option<Duration>,
    /// One request message, JSON or protobuf, in bytes. Default 4 MiB.
    pub max_request_message: usize,
    /// One reply message, JSON or protobuf, in bytes. Default 16 MiB.
    pub max_response_message: usize,
    /// How JSON is read and written.
    pub json: Json,
    /// How replies of REST are compressed.
    pub compression: Compression,
    /// What the service may say of the HTTP reply.
    pub reply: Reply,
    /// Headers of REST requests that set fields of the message: header, field.
    pub request_headers: BoundHeaders,
    /// Headers of REST replies that are set by fields of the message.
    pub reply_headers: BoundHeaders,
    /// How many calls are taken on at once. Default all.
    pub admission: Admission,
    /// What callers have to prove. Default nothing.
    pub authenticate: Option<Arc<Requirement>>,
    /// When a call is sent again, beside when it never arrived.
    pub retry: Option<Arc<Retry>>,
    /// When a call is sent to another endpoint beside the first.
    pub hedge: Option<Arc<Hedge>>,
    /// What callers must be. Default anything.
    pub authorize: Option<Arc<Authorization>>,
    /// What the upstream learns of callers. Default what they say themselves.
    pub identity: Option<Arc<Forwarded>>,
}

/// [`MethodSettings`] of which only some are given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields of MethodSettings and Json")]
pub struct PartialSettings {
    pub unary_timeout: Option<Option<Duration>>,
    pub stream_idle: Option<Duration>,
    pub stream_timeout: Option<Option<Duration>>,
    pub max_request_message: Option<usize>,
    pub max_response_message: Option<usize>,
    pub ignore_unknown_fields: Option<bool>,
    pub int64_as_number: Option<bool>,
    pub emit_defaults: Option<bool>,
    pub preserve_proto_names: Option<bool>,
    pub enums_as_numbers: Option<bool>,
    pub stream_envelope: Option<bool>,
    pub compression: Option<PartialCompression>,
    pub reply_status_metadata: Option<HeaderName>,
    pub reply_metadata: Option<Arc<[HeaderName]>>,
    pub request_headers: Option<BoundHeaders>,
    pub reply_headers: Option<BoundHeaders>,
    pub authenticate: Change<Arc<Requirement>>,
    pub retry: Change<Arc<Retry>>,
    pub hedge: Change<Arc<Hedge>>,
    pub authorize: Change<Arc<Authorization>>,
    pub identity: Option<Arc<Forwarded>>,
    pub admission: PartialAdmission,
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// Where each call's line goes.
    pub access_log: AccessLog,
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout(LogFormat),
    /// Appended to a file.
    File(PathBuf, LogFormat),
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Config {
    /// When the gateway's own certificates expire, on listeners and towards upstreams; each file once.
    pub fn expiries(&self) -> Vec<Expiry> {
        let served = self.listeners.iter().filter_map(|listener| listener.tls.as_ref()).flat_map(Tls::expiries);
        let shown = self.upstreams.iter().filter_map(|upstream| upstream.tls.as_ref()?.expiry());
        let mut all: Vec<_> = served.chain(shown).cloned().collect();
        all.sort_unstable_by(|one, other| one.file.cmp(&other.file));
        all.dedup_by(|one, other| one.file == other.file);
        all
    }
}

impl Listener {
    /// A listener in clear text with the default limits that trusts no proxy.
    pub fn on(address: SocketAddr) -> Self {
        let limits = Limits::default();
        Self {
            address,
            next_free_port: false,
            limits,
            trusted_proxies: Arc::new([]),
            proxy_protocol: Arc::new([]),
            tls: None,
        }
    }

    /// What a URL of the listener begins with.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

impl Upstream {
    /// `:authority` of calls to an endpoint: as configured, else the name that was looked up, else its address.
    pub fn authority_of(&self, endpoint: &Arc<str>) -> Arc<str> {
        match (&self.authority, &self.endpoints) {
            (Some(authority), _) => Arc::clone(authority),
            (None, Endpoints::Dns { host, port, .. }) => format!("{host}:{port}").into(),
            (None, Endpoints::Fixed(_) | Endpoints::Srv { .. } | Endpoints::File(_)) => Arc::clone(endpoint),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_header_bytes: 60 << 10,
            max_headers: 100,
            max_concurrent_streams: 100,
            max_pending_resets: 200,
            header_timeout: Duration::from_secs(10),
            tls_handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(3600),
            stream_window: 256 << 10,
            connection_window: 4 << 20,
        }
    }
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            max_per_endpoint: 4,
            connect_timeout: Duration::from_secs(1),
            stream_window: 256 << 10,
            connection_window: 32 << 20,
            data_frame_budget: 64 << 20,
            max_age: Some(Duration::from_mins(30)),
            keepalive: None,
        }
    }
}

impl Default for MethodSettings {
    fn default() -> Self {
        Self {
            unary_timeout: Some(Duration::from_secs(15)),
            stream_idle: Duration::from_secs(300),
            stream_timeout: None,
            max_request_message: 4 << 20,
            max_response_message: 16 << 20,
            json: Json::default(),
            compression: Compression::default(),
            reply: Reply::default(),
            request_headers: Arc::new([]),
            reply_headers: Arc::new([]),
            admission: Admission::default(),
            authenticate: None,
            retry: None,
            hedge: None,
            authorize: None,
            identity: None,
        }
    }
}

/// Where clients are listened for unless something else is said.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8080));
/// How long running calls may take to end unless something else is said.
pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// The admin address unless something else is said.
pub const DEFAULT_ADMIN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9901));

#[cfg(test)]
mod tests;
