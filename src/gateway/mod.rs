//! Puts a gateway together out of a configuration, changes it, and takes it apart again.
//!
//! ```text
//! launch ──▶ serving ──▶ end: not ready, then as [`Manner`] says
//!              │  ▲
//!              └──┘ reload (`reload.rs`): all or nothing
//! ```

mod error;
pub mod handover;
mod inherited;
mod listeners;
mod memory;
pub mod open_files;
mod reload;
mod watch;

use std::fmt;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use self::listeners::Listeners;
use self::reload::Reloader;
use crate::admin;
use crate::config::{self, Config};
use crate::credentials::Credentials;
use crate::policy::rate_limit::LocalStore;
use crate::proxy::Proxy;
use crate::proxy::worker::{Shared, Worker};
use crate::runtime::Workers;
use crate::server;
use crate::server::listener::{self, Accepted, Listener};
use crate::snapshot::{Keeper, Snapshot, Source, load};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Registry;
use crate::telemetry::readiness::Readiness;
use crate::upstream::Fleets;

pub use self::error::StartError;
pub use self::inherited::Inherited;
pub use self::reload::{Loader, Outcome};

/// A running gateway. Dropped without [`Gateway::stop`], it serves on for as long as its control runtime lives.
#[derive(Debug)]
pub struct Gateway {
    addresses: Vec<SocketAddr>,
    schemes: Vec<&'static str>,
    admin: Option<Admin>,
    control: Handle,
    listeners: Arc<Listeners>,
    readiness: Arc<Readiness>,
    source: Arc<Source>,
    /// Asks upstreams for their schemas for as long as it is here.
    _keeper: Arc<Keeper>,
    access_log: Arc<AccessLog>,
    reloader: Reloader,
}

/// What a gateway is launched with.
pub struct Launch {
    /// What it begins with.
    pub config: Config,
    /// Reads the configuration again; without it there are no reloads.
    pub loader: Option<Loader>,
    /// Sockets that others have opened for it.
    pub inherited: Inherited,
    /// How long schemas and keys that are not there yet keep the gateway from being ready, if it has something to serve.
    pub patience: Duration,
    /// Whether somebody else serves meanwhile, so that the first connection may wait as long.
    pub succeeds: bool,
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("config", &self.config)
            .field("inherited", &self.inherited)
            .finish_non_exhaustive()
    }
}

/// How a gateway ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Connections that wait for a request are closed at once, though one may be on its way.
    Prompt,
    /// They are closed by their next reply, or when the drain's time is over.
    Patient,
    /// Likewise; another process has the sockets already, that of the admin address too.
    HandedOver,
}

#[derive(Debug)]
struct Admin {
    address: SocketAddr,
    /// The same socket once more, for whoever takes over.
    socket: std::net::TcpListener,
    /// Ends the server when it is dropped.
    _alive: oneshot::Sender<()>,
}

impl Gateway {
    /// Starts a gateway; when this returns, its listeners accept connections. It is not reloaded.
    ///
    /// Blocks, and so must not be called inside a runtime. `control` runs everything that is not a call.
    ///
    /// # Errors
    /// See [`StartError`]. An upstream that cannot be reached is no error: the gateway keeps trying.
    pub fn start(config: Config, control: &Handle) -> Result<Self, StartError> {
        let inherited = Inherited::default();
        let launch = Launch { config, loader: None, inherited, patience: PATIENCE, succeeds: false };
        Self::launch(launch, control)
    }

    /// Starts a gateway with all that it may be given.
    ///
    /// # Errors
    /// As [`Gateway::start`].
    pub fn launch(launch: Launch, control: &Handle) -> Result<Self, StartError> {
        let Launch { config, loader, mut inherited, patience, succeeds } = launch;
        let config = Arc::new(config);
        let schemas = load::from_files(&config).map_err(StartError::Schema)?;
        let source = Source::new(Snapshot::build(&config, schemas.clone()));

        let readiness = Arc::new(Readiness::default());
        let registry = Arc::new(Registry::new(Arc::clone(&readiness)));
        let access_log = AccessLog::start(&config.telemetry.access_log, registry.dropped_log_lines())
            .map_err(StartError::AccessLog)?;

        let bound = config
            .listeners
            .iter()
            .map(|settings| bind(settings, &mut inherited).map_err(|error| StartError::Listen(settings.address, error)))
            .collect::<Result<Vec<_>, _>>()?;
        let addresses = bound.iter().map(Listener::address).collect();
        let schemes = config.listeners.iter().map(config::Listener::scheme).collect();
        // Whatever may fail comes before the first connection is accepted.
        let admin_socket = bind_admin(&config, control, &mut inherited)?;
        inherited.report_unused();
        let shared = share(&config, control, &readiness, &registry);
        let workers = start_workers(&config, &source, &shared, &registry, &access_log).map_err(StartError::Workers)?;
        let lifecycle = registry.lifecycle();
        lifecycle.started(SystemTime::now());
        let keeper = Keeper::start(
            Arc::clone(&config),
            schemas,
            Arc::clone(&source),
            Arc::clone(&readiness),
            Arc::clone(&shared.fleets),
            Arc::clone(&lifecycle),
            control,
        );
        let waiting = await_schemas(Arc::clone(&readiness), patience);
        if succeeds {
            control.block_on(waiting);
        } else {
            control.spawn(waiting);
        }
        let listeners = Listeners::start(bound, control, &workers).map_err(StartError::Workers)?;
        let listeners = Arc::new(listeners);
        let access_log = Arc::new(access_log);
        let using = reload::Using {
            keeper: Arc::clone(&keeper),
            listeners: Arc::clone(&listeners),
            access_log: Arc::clone(&access_log),
            credentials: shared.credentials,
            lifecycle,
        };
        let reloader = reload::start(loader, using, &config, control);
        let state = admin::State {
            registry,
            readiness: Arc::clone(&readiness),
            keeper: Arc::clone(&keeper),
            source: Arc::clone(&source),
            reloads: reloader.queue(),
        };
        let admin = match admin_socket {
            None => None,
            Some(socket) => Some(start_admin(socket, state, control)?),
        };
        let control = control.clone();
        Ok(Self {
            addresses,
            schemes,
            admin,
            control,
            listeners,
            readiness,
            source,
            _keeper: keeper,
            access_log,
            reloader,
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
        self.admin.as_ref().map(|admin| admin.address)
    }

    /// Whether calls should be sent here: every schema and key that the configuration at start needs has been there or was
    /// waited for long enough, and this is not the end.
    pub fn is_ready(&self) -> bool {
        self.readiness.reasons().is_empty()
    }

    /// The state that new calls are answered by.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.source.load()
    }

    /// Reads the configuration again, and opens the access log's file anew. What becomes of it is logged.
    pub fn reload(&self) {
        self.reloader.request();
    }

    /// Every listening socket with the address that it is on, for another process; that of the admin address is the last one.
    pub fn sockets(&self) -> Vec<std::net::TcpListener> {
        let admin = self.admin.iter().filter_map(|admin| admin.socket.try_clone().ok());
        self.listeners.sockets().into_iter().chain(admin).collect()
    }

    /// Takes no new calls, lets the running ones end for as long as the drain may take, and stops.
    ///
    /// Blocks, and so must not be called inside a runtime.
    pub fn stop(self) {
        self.stop_unless(pending());
    }

    /// As [`Gateway::stop`], but cuts the running calls as soon as `hurry` is ready.
    pub fn stop_unless(self, hurry: impl Future<Output = ()>) {
        self.end(Manner::Prompt, hurry);
    }

    /// Stops in that manner; the running calls are cut as soon as `hurry` is ready.
    ///
    /// Blocks, and so must not be called inside a runtime.
    pub fn end(mut self, manner: Manner, hurry: impl Future<Output = ()>) {
        let (grace, delay) = {
            let config = &self.source.load().config;
            (config.drain_timeout, config.drain_delay)
        };
        self.readiness.drain();
        // Before the listeners, which it may be about to change.
        self.control.block_on(self.reloader.end());
        if manner == Manner::HandedOver {
            self.admin = None;
        }
        let cut = self.control.block_on(async {
            let mut drained = pin!(async {
                if manner != Manner::HandedOver {
                    sleep(delay).await;
                }
                self.listeners.finish(manner, grace).await
            });
            let mut hurry = pin!(hurry);
            tokio::select! {
                cut = drained.as_mut() => return cut,
                () = &mut hurry => {}
            }
            let cut = self.listeners.live();
            self.listeners.cut();
            // Unless the end has not even begun.
            tokio::time::timeout(CUT, drained).await.ok();
            cut
        });
        if cut > 0 {
            tracing::warn!(connections = cut, "connections cut because their calls did not end in time");
        }
        drop(self.admin);
        if let Ok(listeners) = Arc::try_unwrap(self.listeners) {
            self.control.block_on(listeners.ended());
        }
        self.access_log.close();
    }
}

/// For tasks to notice that their connections were cut.
const CUT: Duration = Duration::from_secs(2);

/// Opens a listener's socket, unless somebody has.
fn bind(settings: &config::Listener, inherited: &mut Inherited) -> io::Result<Listener> {
    match inherited.take(settings.address) {
        Some(socket) => Listener::adopt(socket, settings.clone()),
        None => Listener::bind(settings.clone()),
    }
}

/// How long one that starts waits for what is missing, unless it is told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until calls can be answered, and from then on for nothing more.
async fn await_schemas(readiness: Arc<Readiness>, patience: Duration) {
    let ready = async {
        while !readiness.reasons().is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(patience, ready).await.is_err() {
        readiness.wait_no_longer();
    }
}

/// What all workers have in common.
fn share(config: &Config, control: &Handle, readiness: &Arc<Readiness>, registry: &Arc<Registry>) -> Shared {
    let shared = Shared {
        fleets: Fleets::new(control.clone(), Arc::clone(registry)),
        credentials: Credentials::new(control.clone(), Arc::clone(readiness), registry.worker()),
        limits: Arc::new(LocalStore::new(config.rate_limiting.memory)),
        ledger: Arc::default(),
        live: true,
        capacity: Arc::default(),
        readiness: Arc::clone(readiness),
    };
    let capacity = Arc::clone(&shared.capacity);
    registry.set_loads(move || (capacity.loads.list(), capacity.overload.memory()));
    shared.capacity.overload.watch(config.shedding);
    memory::watch(&shared.capacity, control);
    let limits = Arc::clone(&shared.limits);
    registry.set_limiter(move || limits.size(limits.clock(Instant::now())));
    shared.credentials.keep(&config.authentication);
    shared
}

fn start_workers(
    config: &Config,
    source: &Arc<Source>,
    shared: &Shared,
    registry: &Arc<Registry>,
    access_log: &AccessLog,
) -> io::Result<Arc<Workers<Accepted>>> {
    let count = config.workers.max(1);
    let logs: Vec<_> = (0..count).map(|_| access_log.worker()).collect();
    let (source, shared, registry) = (Arc::clone(source), shared.clone(), Arc::clone(registry));
    let workers = Workers::start(count, move |index| {
        let metrics = registry.worker();
        let worker = Worker::new(Arc::clone(&source), shared.clone(), count, metrics.clone(), logs[index].clone());
        worker.begin();
        server::worker(Proxy::new(worker), metrics)
    })?;
    Ok(Arc::new(workers))
}

fn bind_admin(
    config: &Config,
    control: &Handle,
    inherited: &mut Inherited,
) -> Result<Option<std::net::TcpListener>, StartError> {
    let Some(address) = config.admin else { return Ok(None) };
    if let Some(socket) = inherited.take(address) {
        return Ok(Some(socket));
    }
    let bind = |address| control.block_on(admin::bind(address));
    let socket = if config.next_free_admin_port { listener::next_free(address, bind) } else { bind(address) };
    socket.and_then(TcpListener::into_std).map(Some).map_err(|error| StartError::Admin(address, error))
}

fn start_admin(socket: std::net::TcpListener, state: admin::State, control: &Handle) -> Result<Admin, StartError> {
    let address = socket.local_addr().map_err(|error| StartError::Admin(([0, 0, 0, 0], 0).into(), error))?;
    let failed = |error| StartError::Admin(address, error);
    socket.set_nonblocking(true).map_err(failed)?;
    let own = socket.try_clone().map_err(failed)?;
    let listener = {
        let _entered = control.enter();
        TcpListener::from_std(socket).map_err(failed)?
    };
    let (alive, ended) = oneshot::channel();
    control.spawn(admin::serve(listener, state, async move {
        // The other half is dropped when the gateway stops.
        ended.await.ok();
    }));
    Ok(Admin { address, socket: own, _alive: alive })
}
