//! The commands that serve: `run` and `demo`.

use std::future::pending;
use std::io::{self, Write as _};
use std::iter::once;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time;

use crate::cli::{Demo, Exit, Log, Run};
use crate::config::{Config, SchemaSource};
use crate::demo;
use crate::gateway::handover::{self, Successors};
use crate::gateway::{Gateway, Inherited, Launch, Manner, PATIENCE, open_files};
use crate::runtime;
use crate::server::listener;
use crate::telemetry::logs;

/// Serves until SIGTERM or SIGINT, then drains; a second signal cuts what still runs.
///
/// # Errors
/// The gateway does not start.
pub fn run(run: Run) -> Result<(), Exit> {
    controlled(run.log, |control| gateway(run, control))
}

fn gateway(run: Run, control: &Runtime) -> Result<(), Exit> {
    for warning in &run.loaded.warnings {
        tracing::warn!("{warning}");
    }
    open_files::allow(&run.loaded.config);
    let takeover = run.takeover.clone();
    let said = |path: &Path, error| wrong(format!("--takeover {}: {error}", path.display()));
    let mut inherited = Inherited::from_environment();
    let mut predecessor = None;
    if let Some(path) = &takeover
        && let Some((old, sockets)) = handover::ask(path).map_err(|error| said(path, error))?
    {
        inherited = inherited.and(sockets);
        predecessor = Some(old);
    }
    let launch = Launch {
        config: run.loaded.config.clone(),
        loader: Some(Box::new(move || run.load_again())),
        inherited,
        patience: PATIENCE,
        // Until this one can answer, the other does.
        succeeds: predecessor.is_some(),
    };
    let gateway = Gateway::launch(launch, control.handle()).map_err(wrong)?;
    let signals = Signals::listen(control)?;
    let successors = match &takeover {
        None => None,
        Some(path) => {
            let _entered = control.enter();
            Some(Successors::listen(path).map_err(|error| said(path, error))?)
        }
    };
    announce(&gateway)?;
    if let Some(old) = predecessor {
        match old.taken() {
            Ok(()) => tell("took over from the process before")?,
            // It may be gone, and then nobody else serves.
            Err(error) => tracing::warn!(%error, "the process before does not hear that this one serves"),
        }
    }
    serve_until_told(control, signals, gateway, successors, || ())
}

/// Serves the embedded library service through a gateway that learns it by reflection.
///
/// # Errors
/// No free port is found.
pub fn demo(demo: Demo) -> Result<(), Exit> {
    controlled(demo.log, |control| library(demo, control))
}

fn library(demo: Demo, control: &Runtime) -> Result<(), Exit> {
    let listener = listener::next_free(SERVICE, TcpListener::bind).map_err(wrong)?;
    let service = listener.local_addr().map_err(wrong)?;
    let (alive, ended) = oneshot::channel::<()>();
    let serving = control.spawn(demo::start(listener, async move {
        ended.await.ok();
    }));
    let mut config = Config::from_flags(&[service.to_string()], &SchemaSource::Reflection, None)
        .map_err(|errors| Exit::Wrong(errors.to_string()))?;
    config.apply(&demo.overrides).map_err(|message| Exit::Usage(format!("error: {message}")))?;
    // An address that somebody asked for is that one or none.
    for listener in &mut config.listeners {
        listener.next_free_port = demo.overrides.listen.is_none();
    }
    config.next_free_admin_port = demo.overrides.admin.is_none();
    let listeners = config.listeners.iter().map(|listener| listener.address);
    let wanted: Vec<_> = once(SERVICE).chain(listeners).chain(config.admin).collect();
    let gateway = Gateway::start(config, control.handle()).map_err(wrong)?;
    control.block_on(learn(&gateway));
    let signals = Signals::listen(control)?;
    tell(&format!("the library service listens on {service}"))?;
    announce(&gateway)?;
    let found = once(service).chain(gateway.addresses().iter().copied()).chain(gateway.admin());
    for (wanted, found) in wanted.iter().zip(found) {
        if wanted.port() != 0 && wanted.port() != found.port() {
            tell(&format!("port {} is taken, so it is {} instead", wanted.port(), found.port()))?;
        }
    }
    if let Some(address) = gateway.addresses().first() {
        tell(&format!("\nsix calls to try:\n\n{}\nCtrl-C ends the demo", demo::calls(*address, *address)))?;
    }
    // The service ends first, and its streams with it: nobody who presses Ctrl-C wants to wait for a watch.
    let served = serve_until_told(control, signals, gateway, None, || drop(alive));
    // Calls that ended with the gateway need no waiting for.
    control.block_on(serving).ok();
    served
}

/// Waits until the printed calls will work, which is a matter of milliseconds; whatever keeps them is in the log.
async fn learn(gateway: &Gateway) {
    let learned = async {
        while !gateway.is_ready() {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    time::timeout(Duration::from_secs(5), learned).await.ok();
}

/// The usual port of gRPC services.
const SERVICE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 50051));

/// Serves beside a control runtime, with logs.
fn controlled(log: Log, serve: impl FnOnce(&Runtime) -> Result<(), Exit>) -> Result<(), Exit> {
    logs::init(log.format, log.level).map_err(wrong)?;
    let control = runtime::control().map_err(wrong)?;
    let served = serve(&control);
    // Without waiting for its threads: one may be in a file or a look-up that does not come to an end.
    control.shutdown_background();
    served
}

fn announce(gateway: &Gateway) -> Result<(), Exit> {
    for url in gateway.urls() {
        tell(&format!("portico listens on {url}"))?;
    }
    match gateway.admin() {
        Some(admin) => tell(&format!("admin listens on http://{admin}")),
        None => Ok(()),
    }
}

fn serve_until_told(
    control: &Runtime,
    mut signals: Signals,
    gateway: Gateway,
    successors: Option<Successors>,
    before_end: impl FnOnce(),
) -> Result<(), Exit> {
    let taken = async {
        match &successors {
            Some(successors) => successors.taken(|| gateway.sockets()).await,
            None => pending().await,
        }
    };
    let manner = control.block_on(async {
        let mut taken = pin!(taken);
        loop {
            tokio::select! {
                told = signals.next() => match told {
                    Told::End(manner) => return manner,
                    Told::Reload => gateway.reload(),
                },
                () = &mut taken => return Manner::HandedOver,
            }
        }
    });
    drop(successors);
    before_end();
    gateway.end(manner, async move { while signals.next().await == Told::Reload {} });
    Ok(())
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// SIGTERM, which comes from a program that gives time; SIGINT, which comes from somebody at a keyboard.
    End(Manner),
    /// SIGHUP.
    Reload,
}

/// What asks a process to end, or to read its configuration again.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// From here on a signal ends nothing by itself. Before the addresses are told: who reads them may signal at once.
    fn listen(control: &Runtime) -> Result<Self, Exit> {
        let _entered = control.enter();
        let listen = |kind| signal(kind).map_err(wrong);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::End(Manner::Patient),
            _ = self.interrupt.recv() => Told::End(Manner::Prompt),
            _ = self.hang_up.recv() => Told::Reload,
        }
    }
}

fn tell(text: &str) -> Result<(), Exit> {
    writeln!(io::stderr(), "{text}").map_err(wrong)
}

fn wrong(error: impl std::fmt::Display) -> Exit {
    Exit::Wrong(format!("error: {error}"))
}
