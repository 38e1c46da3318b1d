//! The endpoints of an upstream, as the whole process knows them.
//!
//! Which there are comes from discovery, and how they stand from health checks and from the calls that failed. Workers read
//! both: a [`Fleet`] counts its changes, so that a worker which has seen the last one reads a single number per call.
//! [`Fleets`] gives the same fleet for the same configuration, whoever asks, and lets one for another configuration begin with
//! what is known of the endpoints, so that a reload forgets nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::balance::{Changes, Fault, Standing};
use super::budget::Budget;
use super::outlier::Conduct;
use super::quota::Quota;
use super::{discovery, health, outlier};
use crate::config;
use crate::config::endpoints::Endpoint;
use crate::telemetry::metrics::{FleetMetrics, Registry};

/// The endpoints of one upstream.
#[derive(Debug)]
pub struct Fleet {
    config: config::Upstream,
    list: ArcSwap<List>,
    /// Counts lists.
    generation: AtomicU64,
    /// Told of each list.
    lists: watch::Sender<()>,
    /// Counts what happened to standings.
    changes: Arc<Changes>,
    /// Held by whoever ejects an endpoint, so that no two of them count the same ones.
    ejecting: Mutex<()>,
    /// Told of each ejection.
    ejected: Arc<Notify>,
    bounds: Bounds,
    metrics: Arc<FleetMetrics>,
}

/// What goes to all endpoints of an upstream at once.
#[derive(Debug)]
pub struct Bounds {
    /// Calls and streams.
    pub requests: Arc<Quota>,
    /// Calls that wait for a place on a connection.
    pub pending: Arc<Quota>,
    /// Connections.
    pub connections: Arc<Quota>,
    /// Attempts that are not the first one of their call.
    pub retries: Arc<Quota>,
    /// The same in the course of time.
    pub budget: Budget,
}

/// The endpoints that there are.
#[derive(Debug, Default)]
pub struct List {
    /// Each with how it stands.
    pub members: Vec<Known>,
    /// Why there are none, or no fresher ones.
    pub problem: Option<Arc<str>>,
}

/// An endpoint and how it stands.
#[derive(Debug, Clone)]
pub struct Known {
    /// What discovery says of it.
    pub endpoint: Endpoint,
    /// What is known of its health.
    pub standing: Arc<Standing>,
    /// How its calls went.
    pub conduct: Arc<Conduct>,
    /// Calls and streams that it may have at once.
    pub requests: Arc<Quota>,
    /// Calls that may wait for a place on its connections.
    pub pending: Arc<Quota>,
}

impl List {
    /// Whether these are the endpoints in it.
    pub(super) fn is(&self, endpoints: &[Endpoint]) -> bool {
        self.members.iter().map(|known| &known.endpoint).eq(endpoints)
    }
}

impl Fleet {
    /// A fleet of the endpoints that are in the configuration; discovery brings others.
    pub fn new(config: config::Upstream, metrics: Arc<FleetMetrics>) -> Arc<Self> {
        Self::after(None, config, metrics)
    }

    /// A fleet that takes the place of another, if there is one.
    fn after(before: Option<&Self>, config: config::Upstream, metrics: Arc<FleetMetrics>) -> Arc<Self> {
        let breaker = config.breaker;
        let bounds = Bounds {
            requests: Quota::new(breaker.max_requests),
            pending: Quota::new(breaker.max_pending),
            connections: Quota::new(breaker.max_connections),
            retries: Quota::new(breaker.max_retries),
            budget: Budget::new(breaker.retry_budget),
        };
        let fleet = Self {
            config,
            list: ArcSwap::default(),
            generation: AtomicU64::new(0),
            lists: watch::Sender::new(()),
            changes: Arc::default(),
            ejecting: Mutex::default(),
            ejected: Arc::default(),
            bounds,
            metrics,
        };
        let known = before.map(Self::list).unwrap_or_default();
        let endpoints = match before {
            // What was found stays until something else is.
            Some(before) if before.config.endpoints == fleet.config.endpoints => {
                known.members.iter().map(|known| known.endpoint.clone()).collect()
            }
            _ => fleet.config.endpoints.fixed().to_vec(),
        };
        let meet = |endpoint: Endpoint| {
            let same = known.members.iter().find(|known| known.endpoint.address == endpoint.address);
            let met = fleet.meet(endpoint, false);
            if let (Some(same), Some(before)) = (same, before) {
                fleet.take_over(&met, same, &before.config);
            }
            met
        };
        let members = endpoints.into_iter().map(meet).collect();
        fleet.publish(List { members, problem: None });
        Arc::new(fleet)
    }

    /// Lets an endpoint stand as it did, as far as it is judged by the same rules. Not in the same place: whoever judged it goes on
    /// for as long as there are calls of old.
    fn take_over(&self, met: &Known, before: &Known, config: &config::Upstream) {
        let now = Instant::now();
        if self.config.health_check == config.health_check && before.standing.has(Fault::Unhealthy) {
            met.standing.set(Fault::Unhealthy, true, now);
        }
        if self.config.outliers == config.outliers && met.conduct.take_over(&before.conduct) {
            met.standing.set(Fault::Ejected, true, now);
        }
    }

    /// What it was made from.
    pub fn config(&self) -> &config::Upstream {
        &self.config
    }

    /// The endpoints that there are now.
    pub fn list(&self) -> Arc<List> {
        self.list.load_full()
    }

    /// Counts up with each list; whoever sees a number finds at least that list.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Counts up whenever a standing changes.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// What goes to all of them at once.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// What operators are told of it.
    pub(super) fn metrics(&self) -> &FleetMetrics {
        &self.metrics
    }

    /// Tells of each list that comes.
    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.lists.subscribe()
    }

    pub(super) fn ejecting(&self) -> &Mutex<()> {
        &self.ejecting
    }

    pub(super) fn ejected(&self) -> &Arc<Notify> {
        &self.ejected
    }

    /// Counts its endpoints by health.
    pub(super) fn count(&self) {
        let list = self.list();
        let count = |is: fn(&Standing) -> bool| list.members.iter().filter(|known| is(&known.standing)).count();
        self.metrics.endpoints(
            count(Standing::is_usable),
            count(|standing| standing.has(Fault::Unhealthy)),
            count(|standing| standing.has(Fault::Ejected) && !standing.has(Fault::Unhealthy)),
        );
    }

    /// Replaces the endpoints; with a problem, some of them could not be found again. Those that were known keep their
    /// standing. Only discovery calls it, one at a time.
    pub(super) fn set(&self, endpoints: Vec<Endpoint>, problem: Option<Arc<str>>) {
        let before = self.list();
        let known = |endpoint: Endpoint| {
            let same = before.members.iter().find(|known| known.endpoint.address == endpoint.address);
            match same {
                Some(known) => Known { endpoint, ..known.clone() },
                None => self.meet(endpoint, !before.members.is_empty()),
            }
        };
        let members = endpoints.into_iter().map(known).collect();
        self.publish(List { members, problem });
    }

    /// Notes that discovery failed; what it found before stays.
    pub(super) fn fail(&self, problem: Arc<str>) {
        let members = self.list().members.clone();
        self.publish(List { members, problem: Some(problem) });
    }

    /// An endpoint that was not known. Beside others it has to pass its health check first.
    fn meet(&self, endpoint: Endpoint, later: bool) -> Known {
        let now = Instant::now();
        let standing = if later { Standing::new } else { Standing::seasoned };
        let standing = Arc::new(standing(Arc::clone(&self.changes), now));
        if later && self.config.health_check.is_some() {
            standing.set(Fault::Unhealthy, true, now);
        }
        Known {
            endpoint,
            standing,
            conduct: Arc::default(),
            requests: Quota::new(self.config.breaker.endpoint_requests),
            pending: Quota::new(self.config.breaker.endpoint_pending),
        }
    }

    fn publish(&self, list: List) {
        self.list.store(Arc::new(list));
        self.generation.fetch_add(1, Ordering::Release);
        self.count();
        self.lists.send_replace(());
    }
}

/// All fleets of the process.
#[derive(Debug, Default)]
pub struct Fleets {
    /// Where discovery and health checks run and what they tell operators; without it there are none.
    control: Option<(Handle, Arc<Registry>)>,
    /// In the order in which they came.
    known: Mutex<Vec<Weak<Fleet>>>,
}

impl Fleets {
    /// Discovery and health checks run on that runtime.
    pub fn new(control: Handle, registry: Arc<Registry>) -> Arc<Self> {
        Arc::new(Self { control: Some((control, registry)), known: Mutex::default() })
    }

    /// The fleet of an upstream: the one that somebody has already, if its configuration is the same. It lasts for as long as
    /// somebody has it.
    pub fn get(&self, config: &config::Upstream) -> Arc<Fleet> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|fleet| fleet.strong_count() > 0);
        let same = known.iter().filter_map(Weak::upgrade).find(|fleet| fleet.config == *config);
        same.unwrap_or_else(|| {
            let metrics = self.control.as_ref().map(|(_, registry)| registry.fleet(&config.name)).unwrap_or_default();
            let before = known.iter().rev().filter_map(Weak::upgrade).find(|fleet| fleet.config.name == config.name);
            let fleet = Fleet::after(before.as_deref(), config.clone(), metrics);
            known.push(Arc::downgrade(&fleet));
            if let Some((control, _)) = &self.control {
                discovery::follow(&fleet, control);
                health::watch(&fleet, control);
                outlier::watch(&fleet, control);
            }
            fleet
        })
    }
}
