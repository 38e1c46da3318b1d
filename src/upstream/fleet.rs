//! The endpoints of an upstream, as the whole process knows them.
//!
//! Which there are comes from discovery, and how they stand from health checks and from the calls that failed. Workers read
//! both: a [`Fleet`] counts its changes, so that a worker which has seen the last one reads a single number per call.
//! [`Fleets`] gives the same fleet for the same configuration, whoever asks, so that a reload forgets nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::time::Instant;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;

use super::balance::{Changes, Standing};
use super::discovery;
use crate::config;
use crate::config::endpoints::Endpoint;

/// The endpoints of one upstream.
#[derive(Debug)]
pub struct Fleet {
    config: config::Upstream,
    list: ArcSwap<List>,
    /// Counts lists.
    generation: AtomicU64,
    /// Counts what happened to standings.
    changes: Arc<Changes>,
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
}

impl List {
    /// Whether these are the endpoints in it.
    pub(super) fn is(&self, endpoints: &[Endpoint]) -> bool {
        self.members.iter().map(|known| &known.endpoint).eq(endpoints)
    }
}

impl Fleet {
    /// A fleet of the endpoints that are in the configuration; discovery brings others.
    pub fn new(config: config::Upstream) -> Arc<Self> {
        let fleet = Self { list: ArcSwap::default(), generation: AtomicU64::new(0), changes: Arc::default(), config };
        fleet.set(fleet.config.endpoints.fixed().to_vec());
        Arc::new(fleet)
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

    /// Replaces the endpoints. Those that were known keep their standing. Only discovery calls it, one at a time.
    pub(super) fn set(&self, endpoints: Vec<Endpoint>) {
        let before = self.list();
        let known = |endpoint: Endpoint| {
            let same = before.members.iter().find(|known| known.endpoint.address == endpoint.address);
            let standing = same.map_or_else(
                || Arc::new(Standing::new(Arc::clone(&self.changes), Instant::now())),
                |known| Arc::clone(&known.standing),
            );
            Known { endpoint, standing }
        };
        let members = endpoints.into_iter().map(known).collect();
        self.publish(List { members, problem: None });
    }

    /// Notes that discovery failed; what it found before stays.
    pub(super) fn fail(&self, problem: Arc<str>) {
        let members = self.list().members.clone();
        self.publish(List { members, problem: Some(problem) });
    }

    fn publish(&self, list: List) {
        self.list.store(Arc::new(list));
        self.generation.fetch_add(1, Ordering::Release);
    }
}

/// All fleets of the process.
#[derive(Debug, Default)]
pub struct Fleets {
    /// Where discovery and health checks run; without it there are none.
    control: Option<Handle>,
    known: Mutex<Vec<Weak<Fleet>>>,
}

impl Fleets {
    /// Discovery and health checks run on that runtime.
    pub fn new(control: Handle) -> Arc<Self> {
        Arc::new(Self { control: Some(control), known: Mutex::default() })
    }

    /// The fleet of an upstream: the one that somebody has already, if its configuration is the same.
    pub fn get(&self, config: &config::Upstream) -> Arc<Fleet> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|fleet| fleet.strong_count() > 0);
        let same = known.iter().filter_map(Weak::upgrade).find(|fleet| fleet.config == *config);
        same.unwrap_or_else(|| {
            let fleet = Fleet::new(config.clone());
            known.push(Arc::downgrade(&fleet));
            if let Some(control) = &self.control {
                discovery::follow(&fleet, control);
            }
            fleet
        })
    }
}
