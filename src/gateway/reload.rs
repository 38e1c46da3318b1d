//! Reloads: the configuration is read again, everything is built from it aside, and takes the place of the old in one step.
//!
//! Asked for by a signal, by the admin address, or by files that changed; one after the other. What is wrong with a
//! configuration keeps it out of use as a whole: the old one stays, with the reason in the log, in the metrics and in the
//! answer to whoever asked.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use super::listeners::Listeners;
use super::watch::Watch;
use crate::admin::Asked;
use crate::config::{Config, Loaded};
use crate::credentials::Credentials;
use crate::snapshot::Keeper;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::lifecycle::Lifecycle;

pub use crate::admin::Outcome;

/// Reads the configuration, as at start; what is wrong with it is said in words. Blocks.
pub type Loader = Box<dyn Fn() -> Result<Loaded, String> + Send + Sync>;

/// Requests that wait; more of them mean the same.
const QUEUE: usize = 16;
/// After a reload that failed, it is tried again: a file that was missing may be there by now.
const AGAIN: Duration = Duration::from_secs(5);

/// Asks for reloads.
#[derive(Debug)]
pub(super) struct Reloader {
    /// Who carries them out, if there is something to read.
    carrier: Option<(mpsc::Sender<Asked>, JoinHandle<()>)>,
}

impl Reloader {
    /// Asks for one, unless enough are asked for already.
    pub(super) fn request(&self) {
        match &self.carrier {
            // The queue is full only if one is about to begin anyway.
            Some((queue, _)) => drop(queue.try_send(Asked { answer: None })),
            None => tracing::warn!("there is no configuration to read again"),
        }
    }

    /// For others that ask.
    pub(super) fn queue(&self) -> Option<mpsc::Sender<Asked>> {
        self.carrier.as_ref().map(|(queue, _)| queue.clone())
    }

    /// Ends them; one that is under way has done nothing more once this returns.
    pub(super) async fn end(self) {
        if let Some((_, task)) = self.carrier {
            task.abort();
            task.await.ok();
        }
    }
}

/// What a reload changes.
pub(super) struct Using {
    pub(super) keeper: Arc<Keeper>,
    pub(super) listeners: Arc<Listeners>,
    pub(super) access_log: Arc<AccessLog>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) lifecycle: Arc<Lifecycle>,
}

/// Starts what carries reloads out, if there is something to read.
pub(super) fn start(loader: Option<Loader>, using: Using, config: &Arc<Config>, control: &Handle) -> Reloader {
    using.lifecycle.set_certificates(expiries(config));
    let Some(loader) = loader else { return Reloader { carrier: None } };
    let (queue, asked) = mpsc::channel(QUEUE);
    // Before the gateway listens, so that whoever sees it serve may change them.
    let watch = Watch::begin(files(&using.keeper, config));
    let reloads = Reloads { loader: Arc::new(loader), using, config: Arc::clone(config), failed: None };
    Reloader { carrier: Some((queue, control.spawn(reloads.run(asked, watch)))) }
}

struct Reloads {
    loader: Arc<Loader>,
    using: Using,
    /// In use.
    config: Arc<Config>,
    /// Why the one that was read last is not.
    failed: Option<String>,
}

impl Reloads {
    async fn run(mut self, mut asked: mpsc::Receiver<Asked>, mut watch: Watch) {
        loop {
            let again = Instant::now() + AGAIN;
            let answer = tokio::select! {
                asked = asked.recv() => match asked {
                    Some(asked) => {
                        self.using.access_log.reopen();
                        asked.answer
                    }
                    None => return,
                },
                () = watch.changed(), if self.config.watch => None,
                () = sleep_until(again), if self.failed.is_some() && self.config.watch => None,
            };
            // Before the files are read, so that what changes meanwhile is read again.
            watch = Watch::over(watch.files().to_vec()).await;
            let outcome = self.reload().await;
            let files = self.files().await;
            if files != watch.files() {
                watch = Watch::over(files).await;
            }
            let asked_for = answer.is_some();
            self.tell(&outcome, asked_for);
            if let Some(answer) = answer {
                // Whoever asked may be gone.
                answer.send(outcome).ok();
            }
        }
    }

    async fn files(&self) -> Vec<PathBuf> {
        let (keeper, config) = (Arc::clone(&self.using.keeper), Arc::clone(&self.config));
        spawn_blocking(move || files(&keeper, &config)).await.unwrap_or_default()
    }

    async fn reload(&mut self) -> Outcome {
        let loader = Arc::clone(&self.loader);
        let loaded = spawn_blocking(move || loader()).await.map_err(|error| error.to_string())??;
        let mut warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        let mut config = loaded.config;
        warnings.extend(self.keep_what_cannot_change(&mut config));
        let (listeners, grace) = (config.listeners.clone(), config.drain_timeout);
        let next = Arc::new(config.clone());
        let using = &self.using;
        let prepare = |config: &Config| {
            let plan = using.listeners.plan(config)?;
            using.credentials.keep(&config.authentication);
            Ok(plan)
        };
        let plan = using.keeper.reload(config, prepare).await?;
        using.listeners.change(plan, &listeners, grace);
        using.lifecycle.set_certificates(expiries(&next));
        self.config = next;
        Ok(warnings)
    }

    /// What is bound to the start of the process stays as it is.
    fn keep_what_cannot_change(&self, config: &mut Config) -> Vec<String> {
        let old = &self.config;
        let mut kept = Vec::new();
        let mut keep = |differs: bool, what: &str| {
            if differs {
                kept.push(format!("a new value of `{what}` needs a restart"));
            }
        };
        keep(config.admin != old.admin, "admin");
        keep(config.workers != old.workers, "workers");
        keep(config.telemetry.access_log != old.telemetry.access_log, "telemetry.access_log");
        keep(config.rate_limiting.memory != old.rate_limiting.memory, "rate_limiting.memory");
        config.admin = old.admin;
        config.rate_limiting.memory = old.rate_limiting.memory;
        config.workers = old.workers;
        config.telemetry.access_log = old.telemetry.access_log.clone();
        kept
    }

    fn tell(&mut self, outcome: &Outcome, asked_for: bool) {
        match outcome {
            Ok(warnings) => {
                self.using.lifecycle.reloaded(SystemTime::now());
                warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                tracing::info!("configuration reloaded");
                self.failed = None;
            }
            // Tried again by itself, and still the same.
            Err(why) if !asked_for && self.failed.as_ref() == Some(why) => {}
            Err(why) => {
                self.using.lifecycle.reload_failed();
                tracing::error!("configuration not reloaded, the old one stays in use: {why}");
                self.failed = Some(why.clone());
            }
        }
    }
}

/// Everything that the configuration in use was made of.
fn files(keeper: &Keeper, config: &Config) -> Vec<PathBuf> {
    let mut files = config.files.clone();
    files.extend(keeper.imports());
    files
}

fn expiries(config: &Config) -> Vec<(Arc<str>, i64)> {
    config.expiries().into_iter().map(|expiry| (expiry.file, expiry.until)).collect()
}
