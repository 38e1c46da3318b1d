//! One worker's part of what bounds an upstream's calls: what may be under way at once, and how many further attempts.

use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::budget::Want;
use super::endpoint::Unreachable;
use super::fleet::Fleet;
use super::quota::{Permit, Share};
use crate::telemetry::Bound;
use crate::telemetry::metrics::{Counter, UpstreamMetrics, WorkerMetrics};

/// One worker's part of an upstream's bounds.
#[derive(Debug)]
pub struct Shares {
    fleet: Arc<Fleet>,
    workers: usize,
    requests: Rc<Share>,
    pending: Rc<Share>,
    connections: Rc<Share>,
    retries: Rc<Share>,
    /// Calls of this worker, by which the budget goes.
    calls: Arc<Counter>,
    metrics: Arc<UpstreamMetrics>,
}

/// A further attempt, which counts as one until this is dropped.
#[derive(Debug)]
pub struct Further(#[allow(dead_code, reason = "held for its drop")] Permit);

impl Shares {
    pub(super) fn new(fleet: &Arc<Fleet>, workers: usize, metrics: &WorkerMetrics) -> Rc<Self> {
        let bounds = fleet.bounds();
        Rc::new(Self {
            workers,
            requests: Share::new(&bounds.requests, workers),
            pending: Share::new(&bounds.pending, workers),
            connections: Share::new(&bounds.connections, workers),
            retries: Share::new(&bounds.retries, workers),
            calls: bounds.budget.join(),
            metrics: metrics.upstream(&fleet.config().name),
            fleet: Arc::clone(fleet),
        })
    }

    pub(super) fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    pub(super) fn workers(&self) -> usize {
        self.workers
    }

    /// What is counted of the upstream's calls.
    pub fn metrics(&self) -> &UpstreamMetrics {
        &self.metrics
    }

    /// A call begins, whose further attempts others pay for.
    pub fn called(&self) {
        self.calls.add(1);
    }

    /// A further attempt of a call, if there may be one.
    pub fn further(&self, want: Want) -> Option<Further> {
        if !self.fleet.bounds().budget.take(want, Instant::now()) {
            self.metrics.refused(Bound::Budget);
            return None;
        }
        let permit = self.retries.take();
        if permit.is_none() {
            self.metrics.refused(Bound::Retries);
        }
        permit.map(Further)
    }

    /// One more call or stream.
    pub(super) fn request(&self) -> Result<Permit, Unreachable> {
        self.requests.take().ok_or_else(|| self.full(Bound::Requests, self.fleet.bounds().requests.limit()))
    }

    /// One more call that waits.
    pub(super) fn wait(&self) -> Result<Permit, Unreachable> {
        self.pending.take().ok_or_else(|| self.full(Bound::Pending, self.fleet.bounds().pending.limit()))
    }

    /// One more connection. The first one to an endpoint is not refused: a worker without any could do nothing.
    pub(super) fn connect(&self, first: bool) -> Option<Permit> {
        if first {
            return Some(self.connections.take_anyway());
        }
        let permit = self.connections.take();
        if permit.is_none() {
            self.metrics.refused(Bound::Connections);
        }
        permit
    }

    fn full(&self, bound: Bound, limit: u64) -> Unreachable {
        self.metrics.refused(bound);
        Unreachable::full(&format!("upstream {}", self.fleet.config().name), bound, limit)
    }
}

impl Drop for Shares {
    fn drop(&mut self) {
        self.fleet.bounds().budget.leave(&self.calls);
    }
}
