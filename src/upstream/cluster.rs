//! One worker's view of an upstream: its endpoints, taken in turn.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::connection::Lease;
use super::endpoint::{Endpoint, Unreachable};
use crate::config;
use crate::telemetry::metrics::WorkerMetrics;

/// The endpoints of an upstream, as one worker reaches them.
#[derive(Debug)]
pub struct Cluster {
    name: Arc<str>,
    endpoints: Box<[Rc<Endpoint>]>,
    next: Cell<usize>,
}

impl Cluster {
    /// A cluster without connections yet; they are made when calls need them.
    ///
    /// `workers` is how many workers share `max_per_endpoint`.
    pub fn new(config: &config::Upstream, workers: usize, metrics: &WorkerMetrics) -> Rc<Self> {
        let endpoints = config
            .endpoints
            .iter()
            .map(|address| Endpoint::new(config, Arc::clone(address), workers, metrics))
            .collect::<Box<[_]>>();
        Rc::new(Self {
            name: Arc::clone(&config.name),
            next: Cell::new(fastrand::usize(..endpoints.len().max(1))),
            endpoints,
        })
    }

    /// The upstream's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Which endpoint is next; every call asks once, so that further attempts do not disturb the turn of others.
    pub fn turn(&self) -> usize {
        let turn = self.next.get();
        self.next.set((turn + 1) % self.endpoints.len().max(1));
        turn
    }

    /// A place for one more call, on the endpoint of that turn or the first one after it that is not full and can be
    /// reached. When all are full, the call waits for the first of them.
    ///
    /// # Errors
    /// No endpoint could be reached; the error is that of the last one tried.
    pub async fn acquire(&self, turn: usize) -> Result<Lease, Unreachable> {
        let mut failure = None;
        let in_turn = |offset: usize| &self.endpoints[(turn + offset) % self.endpoints.len()];
        let first = (0..self.endpoints.len()).find(|offset| !in_turn(*offset).is_full()).unwrap_or(0);
        for offset in first..first + self.endpoints.len() {
            match in_turn(offset).acquire().await {
                Ok(lease) => return Ok(lease),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| Unreachable::new(&self.name, "it has no endpoints")))
    }
}
