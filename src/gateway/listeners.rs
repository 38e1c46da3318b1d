//! The listeners of a running gateway: which there are, and what becomes of them when the configuration changes.
//!
//! A listener is known by its configured address. One that stays keeps its socket and its connections whatever else of it
//! changes; one that goes ends as a gateway does, alone.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

use super::Manner;
use crate::config::{self, Config};
use crate::runtime::Workers;
use crate::server::drain::{self, Shutdown, Stage};
use crate::server::listener::{Accepted, Listener, Running};

/// All of them.
#[derive(Debug)]
pub(super) struct Listeners {
    control: Handle,
    workers: Arc<Workers<Accepted>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    running: Vec<Running>,
    /// Those that are gone, but for their last connections.
    retiring: Vec<Shutdown>,
}

/// What is to be done with the listeners of a new configuration, in its order.
#[derive(Debug)]
pub(super) struct Plan(Vec<Planned>);

#[derive(Debug)]
enum Planned {
    /// The first on that configured address that is not meant by one before it stays.
    Kept(SocketAddr),
    /// Bound already.
    New(Box<Listener>),
}

impl Listeners {
    /// Accepts connections.
    pub(super) fn start(
        bound: Vec<Listener>,
        control: &Handle,
        workers: &Arc<Workers<Accepted>>,
    ) -> std::io::Result<Self> {
        let running = bound.into_iter().map(|listener| listener.start(control, workers)).collect::<Result<_, _>>()?;
        let state = Mutex::new(State { running, retiring: Vec::new() });
        Ok(Self { control: control.clone(), workers: Arc::clone(workers), state })
    }

    /// Binds what is new in a configuration. Nothing has changed before [`Self::change`].
    ///
    /// # Errors
    /// In words: an address cannot be listened on.
    pub(super) fn plan(&self, config: &Config) -> Result<Plan, String> {
        let state = self.state();
        let mut plan: Vec<Planned> = Vec::new();
        for settings in &config.listeners {
            let before = |planned: &&Planned| matches!(planned, Planned::Kept(address) if *address == settings.address);
            let meant = plan.iter().filter(before).count();
            let known = state.running.iter().filter(|running| running.wanted() == settings.address).count();
            plan.push(if meant < known {
                Planned::Kept(settings.address)
            } else {
                let listener = Listener::bind(settings.clone())
                    .map_err(|error| format!("cannot listen on {}: {error}", settings.address))?;
                Planned::New(Box::new(listener))
            });
        }
        Ok(Plan(plan))
    }

    /// Carries a plan out. Listeners that go have `grace` for their connections.
    pub(super) fn change(&self, plan: Plan, listeners: &[config::Listener], grace: Duration) {
        let mut state = self.state();
        let mut before = std::mem::take(&mut state.running);
        let mut kept = Vec::new();
        for (planned, settings) in plan.0.into_iter().zip(listeners) {
            match planned {
                Planned::Kept(address) => {
                    if let Some(index) = before.iter().position(|running| running.wanted() == address) {
                        let running = before.remove(index);
                        running.change(settings);
                        kept.push(running);
                    }
                }
                Planned::New(listener) => {
                    let address = listener.address();
                    match listener.start(&self.control, &self.workers) {
                        Ok(running) => {
                            tracing::info!(url = %format!("{}://{address}", settings.scheme()), "listener opened");
                            kept.push(running);
                        }
                        Err(error) => tracing::error!(%address, %error, "listener cannot be started"),
                    }
                }
            }
        }
        state.running = kept;
        state.retiring.retain(|shutdown| shutdown.stage() < Stage::Cut);
        for gone in before {
            tracing::info!(address = %gone.settings().address, "listener closed");
            state.retiring.push(gone.shutdown().clone());
            self.control.spawn(gone.retire(grace));
        }
    }

    /// Their sockets once more.
    pub(super) fn sockets(&self) -> Vec<TcpListener> {
        self.state().running.iter().filter_map(Running::socket).collect()
    }

    /// Connections that are open.
    pub(super) fn live(&self) -> usize {
        self.workers.live()
    }

    /// The end of all of them. Returns how many connections had to be cut.
    pub(super) async fn finish(&self, manner: Manner, grace: Duration) -> usize {
        self.state().running.iter().for_each(Running::close);
        let shutdowns = self.shutdowns();
        if manner == Manner::Prompt {
            shutdowns.iter().for_each(Shutdown::hurry);
        }
        drain::finish(&shutdowns, &self.workers, grace).await
    }

    /// Closes every connection.
    pub(super) fn cut(&self) {
        self.shutdowns().iter().for_each(Shutdown::cut);
    }

    /// Ends the workers, after [`Self::finish`].
    pub(super) async fn ended(self) {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        for running in state.running {
            running.ended().await;
        }
        let workers = self.workers;
        let stopped = tokio::task::spawn_blocking(move || {
            if let Ok(workers) = Arc::try_unwrap(workers) {
                workers.stop();
            }
        });
        stopped.await.ok();
    }

    fn shutdowns(&self) -> Vec<Shutdown> {
        let state = self.state();
        state.running.iter().map(|running| running.shutdown().clone()).chain(state.retiring.iter().cloned()).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
