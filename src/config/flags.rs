//! A configuration without a file: what the command line can say.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::admission::Shedding;
use super::balancing::Balancing;
use super::breaker::Breaker;
use super::contents::no_file;
use super::endpoints::{Endpoint, Endpoints};
use super::problem::{Errors, Place, Problem};
use super::rate_limit::RateLimiting;
use super::shown::Shown;
use super::tls::{ClientFiles, ClientTls, H2};
use super::{
    AccessLog, Config, Connections, DEFAULT_ADMIN, DEFAULT_DRAIN_TIMEOUT, DEFAULT_LISTEN, Listener, LogFormat,
    MethodSettings, SchemaChanges, SchemaSource, Serve, Telemetry, Upstream, pattern,
};

/// Flags that stand above what a file says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The address of the only listener.
    pub listen: Option<SocketAddr>,
    /// The admin address; `Some(None)` for none.
    pub admin: Option<Option<SocketAddr>>,
    /// Data-plane threads.
    pub workers: Option<usize>,
    /// How access-log lines look.
    pub log_format: Option<LogFormat>,
}

impl Config {
    /// One upstream per `HOST:PORT` or `https://HOST:PORT`, each named after its address, all with the same source of
    /// descriptors; everything else at its default. `ca` holds the authorities of those that speak TLS, in place of the
    /// system's.
    ///
    /// # Errors
    /// No upstream, one that is no address or given twice, a file or folder of the schema that does not exist, or
    /// authorities that cannot be used.
    pub fn from_flags(upstreams: &[String], schema: &SchemaSource, ca: Option<&Path>) -> Result<Self, Errors> {
        let mut problems = Vec::new();
        let mut problem = |flag: &str, message: String| {
            problems.push(Problem::new(Place { path: flag.to_owned(), position: None }, message));
        };
        let mut resolved: Vec<Upstream> = Vec::new();
        if upstreams.is_empty() {
            problem("--upstream", "at least one is needed".to_owned());
        }
        for text in upstreams {
            match pattern::upstream_target(text) {
                Ok((endpoint, _)) if resolved.iter().any(|upstream| upstream.name == endpoint) => {
                    problem("--upstream", format!("{text:?} is given twice"));
                }
                Ok((endpoint, false)) => resolved.push(Upstream::at(endpoint, schema.clone())),
                Ok((endpoint, true)) => match ClientTls::read(ClientFiles { ca, ..ClientFiles::default() }, H2) {
                    Ok((tls, _)) => {
                        resolved.push(Upstream { tls: Some(tls), ..Upstream::at(endpoint, schema.clone()) })
                    }
                    Err(bad) => problem("--upstream-ca", bad.message().to_owned()),
                },
                Err(message) => problem("--upstream", message),
            }
        }
        if ca.is_some() && !upstreams.iter().any(|text| text.starts_with("https://")) {
            problem("--upstream-ca", "goes with an --upstream that begins with https://".to_owned());
        }
        match schema {
            SchemaSource::Reflection | SchemaSource::None => {}
            SchemaSource::DescriptorSet(file) => {
                no_file(file).into_iter().for_each(|message| problem("--descriptor-set", message));
            }
            SchemaSource::Proto { files, include } => {
                for message in files.iter().filter_map(|file| no_file(file)) {
                    problem("--proto", message);
                }
                for folder in include.iter().filter(|folder| !folder.is_dir()) {
                    problem("--include", format!("the folder {} does not exist", folder.display()));
                }
            }
        }
        if !problems.is_empty() {
            return Err(Errors::new(problems));
        }
        let mut config = Self::of(resolved);
        config.files.extend(ca.map(Path::to_owned));
        match schema {
            SchemaSource::Reflection | SchemaSource::None => {}
            SchemaSource::DescriptorSet(file) => config.files.push(file.clone()),
            SchemaSource::Proto { files, include: _ } => config.files.extend_from_slice(files),
        }
        Ok(config)
    }

    /// These upstreams with every other setting at its default.
    fn of(upstreams: Vec<Upstream>) -> Self {
        let shown = Shown::of_upstreams(&upstreams);
        Self {
            listeners: vec![Listener::on(DEFAULT_LISTEN)],
            admin: Some(DEFAULT_ADMIN),
            next_free_admin_port: false,
            upstreams,
            http_rules: Vec::new(),
            serve: Serve { reflection: true, health: true },
            error_details: true,
            authentication: Vec::new(),
            authorizers: Vec::new(),
            identity_headers: Arc::new([]),
            defaults: MethodSettings::default(),
            policies: Vec::new(),
            shedding: Shedding::default(),
            rate_limiting: RateLimiting::default(),
            redis: None,
            telemetry: Telemetry { access_log: AccessLog::Stdout(LogFormat::Text) },
            drain_timeout: DEFAULT_DRAIN_TIMEOUT,
            drain_delay: Duration::ZERO,
            watch: true,
            shown,
            files: Vec::new(),
            workers: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// Puts flags above what is configured.
    ///
    /// # Errors
    /// An address to listen on is given although there are several listeners, it is the admin address too, or an
    /// upstream's endpoint is one of the gateway's own addresses.
    pub fn apply(&mut self, overrides: &Overrides) -> Result<(), String> {
        if let Some(address) = overrides.listen {
            let [listener] = self.listeners.as_mut_slice() else {
                return Err(format!("--listen cannot replace the {} listeners of the file", self.listeners.len()));
            };
            listener.address = address;
        }
        self.admin = overrides.admin.unwrap_or(self.admin);
        let meets = |one: SocketAddr, other: SocketAddr| {
            let same = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
            same && one.is_ipv4() == other.is_ipv4() && one.port() == other.port()
        };
        let is_taken = |admin: &SocketAddr| self.listeners.iter().any(|listener| meets(listener.address, *admin));
        if let Some(admin) = self.admin.filter(|admin| admin.port() != 0 && is_taken(admin)) {
            return Err(format!("{admin} is both the admin address and one for clients; --admin moves the former"));
        }
        if let Some((upstream, endpoint)) = self.own_endpoint() {
            return Err(format!(
                "upstream {upstream} is the gateway itself, which listens on {endpoint}: calls would go round in circles; \
                 --listen moves the gateway"
            ));
        }
        self.shown.apply(overrides);
        self.workers = overrides.workers.unwrap_or(self.workers);
        if let Some(format) = overrides.log_format {
            match &mut self.telemetry.access_log {
                AccessLog::Off => {}
                AccessLog::Stdout(current) | AccessLog::File(_, current) => *current = format,
            }
        }
        Ok(())
    }

    /// An endpoint that leads back to a listener, as far as the texts tell; names are not looked up.
    fn own_endpoint(&self) -> Option<(&str, &str)> {
        let is_own = |endpoint: &str| {
            self.listeners.iter().any(|listener| listener.address.port() != 0 && leads_to(endpoint, listener.address))
        };
        self.upstreams.iter().find_map(|upstream| {
            let endpoint = upstream.endpoints.fixed().iter().find(|endpoint| is_own(&endpoint.address))?;
            Some((&*upstream.name, &*endpoint.address))
        })
    }
}

/// Whether a connection to `host:port` arrives at that address of this machine.
fn leads_to(endpoint: &str, listener: SocketAddr) -> bool {
    let Some((host, port)) = endpoint.rsplit_once(':') else { return false };
    let host = if host.eq_ignore_ascii_case("localhost") { "127.0.0.1" } else { host };
    let Ok(address) = format!("{host}:{port}").parse::<SocketAddr>() else { return false };
    let (ip, own) = (address.ip(), listener.ip());
    // To connect to the unspecified address is to connect to this machine, and to listen on it is to take its loopback.
    let is_same = ip == own || (ip.is_unspecified() && own.is_loopback()) || (ip.is_loopback() && own.is_unspecified());
    address.port() == listener.port() && is_same
}

impl Upstream {
    /// One endpoint, named after itself, with default connections.
    fn at(endpoint: Arc<str>, schema: SchemaSource) -> Self {
        Self {
            name: Arc::clone(&endpoint),
            endpoints: Endpoints::Fixed(vec![Endpoint::at(endpoint)]),
            balancing: Balancing::default(),
            schema,
            schema_changes: SchemaChanges::default(),
            services: Vec::new(),
            authority: None,
            tls: None,
            connections: Connections::default(),
            health_check: None,
            outliers: None,
            breaker: Breaker::default(),
        }
    }
}
