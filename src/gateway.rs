//! Puts a gateway together out of a configuration, and takes it apart again.

use std::fmt;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::admin;
use crate::config::{self, Config};
use crate::credentials::Credentials;
use crate::policy::rate_limit::LocalStore;
use crate::proxy::Proxy;
use crate::proxy::worker::{Shared, Worker};
use crate::runtime::Workers;
use crate::server;
use crate::server::drain::Shutdown;
use crate::server::listener::{self, Accepted, Listener};
use crate::snapshot::{Snapshot, Source, load};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Registry;
use crate::telemetry::readiness::Readiness;
use crate::upstream::Fleets;

/// How long running calls may take to end once the gateway is to stop.
const GRACE: Duration = Duration::from_secs(30);

/// A running gateway. Dropped without [`Gateway::stop`], it serves on for as long as its control runtime lives.
#[derive(Debug)]
pub struct Gateway {
    addresses: Vec<SocketAddr>,
    schemes: Vec<&'static str>,
    admin: Option<SocketAddr>,
    control: Handle,
    workers: Arc<Workers<Accepted>>,
    /// The listeners' tasks, each of which holds the workers too.
    serving: Vec<JoinHandle<()>>,
    shutdown: Shutdown,
    readiness: Arc<Readiness>,
    source: Arc<Source>,
    access_log: AccessLog,
    /// Ends the admin server when it is dropped.
    admin_alive: Option<oneshot::Sender<()>>,
}

/// Why a gateway did not start.
#[derive(Debug)]
pub enum StartError {
    /// Descriptors in files are wrong; a sentence for each upstream.
    Schema(Vec<String>),
    /// An address for clients cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// The admin address cannot be listened on.
    Admin(SocketAddr, io::Error),
    /// The access log cannot be written.
    AccessLog(io::Error),
    /// The system refuses threads.
    Workers(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schema(errors) => f.write_str(&errors.join("\n")),
            Self::Listen(address, error) => cannot_listen(f, *address, error, "--listen"),
            Self::Admin(address, error) => cannot_listen(f, *address, error, "--admin"),
            Self::AccessLog(error) => write!(f, "cannot write the access log: {error}"),
            Self::Workers(error) => write!(f, "cannot start the workers: {error}"),
        }
    }
}

fn cannot_listen(f: &mut fmt::Formatter<'_>, address: SocketAddr, error: &io::Error, flag: &str) -> fmt::Result {
    write!(f, "cannot listen on {address}: {error}")?;
    if error.kind() == io::ErrorKind::AddrInUse {
        write!(f, "; {flag} or the configuration file may name another, port 0 takes a free one")?;
    }
    Ok(())
}

impl std::error::Error for StartError {}

impl Gateway {
    /// Starts a gateway; when this returns, its listeners accept connections.
    ///
    /// Blocks, and so must not be called inside a runtime. `control` runs everything that is not a call.
    ///
    /// # Errors
    /// See [`StartError`]. An upstream that cannot be reached is no error: the gateway keeps trying.
    pub fn start(config: Config, control: &Handle) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let schemas = load::from_files(&config).map_err(StartError::Schema)?;
        let snapshot = Snapshot::build(&config, schemas.clone());
        load::report(&snapshot, None);
        let source = Source::new(snapshot);

        let readiness = Arc::new(Readiness::default());
        readiness.set_upstreams(config.upstreams.iter().map(|upstream| Arc::clone(&upstream.name)));
        let registry = Arc::new(Registry::new(Arc::clone(&readiness)));
        let access_log = AccessLog::start(&config.telemetry.access_log, registry.dropped_log_lines())
            .map_err(StartError::AccessLog)?;

        let listeners = config
            .listeners
            .iter()
            .map(|settings| {
                Listener::bind(settings.clone()).map_err(|error| StartError::Listen(settings.address, error))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let addresses = listeners.iter().map(Listener::address).collect();
        let schemes = config.listeners.iter().map(config::Listener::scheme).collect();
        // Whatever may fail comes before the first connection is accepted.
        let (admin, admin_alive) = start_admin(&config, control, &registry, &readiness)?;
        let shutdown = Shutdown::new();
        let shared = Shared {
            fleets: Fleets::new(control.clone(), Arc::clone(&registry)),
            credentials: Credentials::new(control.clone(), Arc::clone(&readiness), registry.worker()),
            limits: Arc::new(LocalStore::new(config.rate_limiting.memory)),
            readiness: Arc::clone(&readiness),
        };
        shared.fleets.hold(&config.upstreams);
        let limits = Arc::clone(&shared.limits);
        registry.set_limiter(move || limits.size(limits.clock(Instant::now())));
        shared.credentials.keep(&config.authentication);
        let workers =
            start_workers(&config, &source, &shared, &registry, &access_log, &shutdown).map_err(StartError::Workers)?;
        let serving = listeners
            .into_iter()
            .map(|listener| {
                let address = listener.address();
                let serving = listener.serve(Arc::clone(&workers), shutdown.clone());
                control.spawn(async move {
                    if let Err(error) = serving.await {
                        tracing::error!(%address, %error, "listener ended");
                    }
                })
            })
            .collect();
        control.spawn(load::follow(config, schemas, Arc::clone(&source), Arc::clone(&readiness)));
        let control = control.clone();
        Ok(Self {
            addresses,
            schemes,
            admin,
            control,
            workers,
            serving,
            shutdown,
            readiness,
            source,
            access_log,
            admin_alive,
        })
    }

    /// Where clients connect, in the order of the configuration, with the ports that were found.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The same as URLs.
    pub fn urls(&self) -> impl Iterator<Item = String> {
        self.schemes.iter().zip(&self.addresses).map(|(scheme, address)| format!("{scheme}://{address}"))
    }

    /// Where operators connect.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Whether every upstream's schema is there.
    pub fn is_ready(&self) -> bool {
        self.readiness.reasons().is_empty()
    }

    /// The state that new calls are answered by.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.source.load()
    }

    /// Takes no new calls, lets the running ones end for at most thirty seconds, and stops.
    ///
    /// Blocks, and so must not be called inside a runtime.
    pub fn stop(self) {
        self.stop_unless(pending());
    }

    /// As [`Gateway::stop`], but cuts the running calls as soon as `hurry` is ready.
    pub fn stop_unless(self, hurry: impl Future<Output = ()>) {
        self.readiness.drain();
        let cut = self.control.block_on(async {
            let mut drained = pin!(self.shutdown.drain(&self.workers, GRACE));
            tokio::select! {
                cut = drained.as_mut() => return cut,
                () = hurry => {}
            }
            let cut = self.workers.live();
            self.shutdown.cut();
            drained.await;
            cut
        });
        if cut > 0 {
            tracing::warn!(connections = cut, "connections cut because their calls did not end in time");
        }
        drop(self.admin_alive);
        // They end with the drain, but perhaps not before it.
        for serving in self.serving {
            self.control.block_on(serving).ok();
        }
        if let Ok(workers) = Arc::try_unwrap(self.workers) {
            workers.stop();
        }
        self.access_log.close();
    }
}

fn start_workers(
    config: &Config,
    source: &Arc<Source>,
    shared: &Shared,
    registry: &Arc<Registry>,
    access_log: &AccessLog,
    shutdown: &Shutdown,
) -> io::Result<Arc<Workers<Accepted>>> {
    let count = config.workers.max(1);
    let logs: Vec<_> = (0..count).map(|_| access_log.worker()).collect();
    let (source, shared, registry) = (Arc::clone(source), shared.clone(), Arc::clone(registry));
    let shutdown = shutdown.clone();
    let workers = Workers::start(count, move |index| {
        let metrics = registry.worker();
        let worker = Worker::new(Arc::clone(&source), shared.clone(), count, metrics.clone(), logs[index].clone());
        server::worker(Proxy::new(worker), shutdown.clone(), metrics)
    })?;
    Ok(Arc::new(workers))
}

type Admin = (Option<SocketAddr>, Option<oneshot::Sender<()>>);

fn start_admin(
    config: &Config,
    control: &Handle,
    registry: &Arc<Registry>,
    readiness: &Arc<Readiness>,
) -> Result<Admin, StartError> {
    let Some(address) = config.admin else { return Ok((None, None)) };
    let bind = |address| control.block_on(admin::bind(address));
    let listener = if config.next_free_admin_port { listener::next_free(address, bind) } else { bind(address) };
    let listener = listener.map_err(|error| StartError::Admin(address, error))?;
    let bound = listener.local_addr().map_err(|error| StartError::Admin(address, error))?;
    let (alive, ended) = oneshot::channel();
    let state = admin::State { registry: Arc::clone(registry), readiness: Arc::clone(readiness) };
    control.spawn(admin::serve(listener, state, async move {
        // The other half is dropped when the gateway stops.
        ended.await.ok();
    }));
    Ok((Some(bound), Some(alive)))
}
