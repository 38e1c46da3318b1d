//! One worker's view of an upstream: its endpoints, taken in turn.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;

use super::connection::Lease;
use super::endpoint::{Endpoint, Unreachable};
use crate::config;
use crate::encoding::Encoding;
use crate::grpc::ACCEPT_ENCODING;
use crate::telemetry::metrics::WorkerMetrics;

/// The endpoints of an upstream, as one worker reaches them.
#[derive(Debug)]
pub struct Cluster {
    name: Arc<str>,
    endpoints: Box<[Rc<Endpoint>]>,
    next: Cell<usize>,
    /// Encodings of messages that it said to take, once it said so.
    encodings: Cell<Option<Encodings>>,
}

/// One flag for each encoding, in the order of [`LEARNT`].
type Encodings = [bool; LEARNT.len()];

const LEARNT: [Encoding; 4] = [Encoding::Gzip, Encoding::Deflate, Encoding::Br, Encoding::Zstd];

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
            encodings: Cell::new(None),
        })
    }

    /// Whether messages may be sent in that encoding. Every implementation of gRPC has gzip, and a server that has it not
    /// refuses in words which clients understand; others must have been named by the upstream.
    pub fn takes(&self, encoding: Encoding) -> bool {
        let Some(known) = self.encodings.get() else { return matches!(encoding, Encoding::Identity | Encoding::Gzip) };
        LEARNT.into_iter().zip(known).all(|(learnt, taken)| learnt != encoding || taken)
    }

    /// Learns from the head of a reply which encodings the upstream takes, if that is not known yet and it says so.
    pub fn learn(&self, headers: &HeaderMap) {
        if self.encodings.get().is_some() {
            return;
        }
        let Some(accepted) = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()) else { return };
        let named = |encoding: Encoding| accepted.split(',').any(|name| Encoding::parse(name.trim()) == Some(encoding));
        self.encodings.set(Some(LEARNT.map(named)));
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
