//! One worker's view of an upstream: its endpoints, and which of them a call goes to.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use http::HeaderMap;
use smallvec::SmallVec;
use tokio::sync::watch;
use tokio::time::Instant;

use super::balance::{Balancer, Member};
use super::connection::Lease;
use super::endpoint::{Endpoint, Unreachable};
use super::fleet::Fleet;
use super::line;
use super::shares::Shares;
use crate::config;
use crate::config::balancing::HashOn;
use crate::encoding::Encoding;
use crate::grpc::ACCEPT_ENCODING;
use crate::runtime;
use crate::telemetry::metrics::WorkerMetrics;

/// The endpoints of an upstream, as one worker reaches them.
#[derive(Debug)]
pub struct Cluster {
    fleet: Arc<Fleet>,
    shares: Rc<Shares>,
    metrics: WorkerMetrics,
    current: RefCell<Rc<Current>>,
    /// Encodings of messages that it said to take, once it said so.
    encodings: Cell<Option<Encodings>>,
    /// Whether lists are followed, which is from the first call on: before it there is nothing to let go of.
    followed: Cell<bool>,
    own: Weak<Self>,
}

/// The endpoints as of one list of the fleet.
#[derive(Debug)]
struct Current {
    generation: u64,
    endpoints: Box<[Rc<Endpoint>]>,
    balancer: Balancer,
    problem: Option<Arc<str>>,
}

/// What is known of a call when its endpoint is picked.
#[derive(Debug, Clone, Default)]
pub struct Pick {
    /// What it hashes to, where the upstream's policy has a use for it.
    key: Option<u64>,
    /// Endpoints of earlier attempts, which are taken only if there is no other.
    tried: SmallVec<[Rc<Endpoint>; 2]>,
}

/// One flag for each encoding, in the order of [`LEARNT`].
type Encodings = [bool; LEARNT.len()];

const LEARNT: [Encoding; 4] = [Encoding::Gzip, Encoding::Deflate, Encoding::Br, Encoding::Zstd];

impl AsRef<Member> for Rc<Endpoint> {
    fn as_ref(&self) -> &Member {
        self.member()
    }
}

impl Cluster {
    /// A cluster without connections yet; they are made when calls need them.
    ///
    /// `workers` is how many workers share `max_per_endpoint`.
    pub fn new(fleet: Arc<Fleet>, workers: usize, metrics: &WorkerMetrics) -> Rc<Self> {
        let shares = Shares::new(&fleet, workers, metrics);
        let current = Current::of(&shares, metrics, None);
        Rc::new_cyclic(|own| Self {
            fleet,
            shares,
            metrics: metrics.clone(),
            current: RefCell::new(Rc::new(current)),
            encodings: Cell::new(None),
            followed: Cell::new(false),
            own: Weak::clone(own),
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
        &self.fleet.config().name
    }

    /// As configured.
    pub fn config(&self) -> &config::Upstream {
        self.fleet.config()
    }

    /// What a call's endpoint depends on beside loads, if anything.
    pub fn hash_on(&self) -> Option<&HashOn> {
        self.fleet.config().balancing.hash_on.as_ref()
    }

    /// What bounds its calls, and what further attempts they may make.
    pub fn shares(&self) -> &Rc<Shares> {
        &self.shares
    }

    /// A place for one more call, on the endpoint that the upstream's policy picks. One that is full, or could not be reached
    /// the last time, is passed over; when all are, the call waits for whichever has room first.
    ///
    /// # Errors
    /// There is no endpoint that can be used, none could be reached, or they have as much to do as they may; the error is
    /// that of the last one tried.
    pub async fn acquire(&self, pick: &mut Pick) -> Result<Lease, Unreachable> {
        if !self.followed.replace(true) {
            runtime::spawn("endpoints", follow(Weak::clone(&self.own), self.fleet.subscribe()));
        }
        let permit = self.shares.request()?;
        Ok(self.place(pick).await?.with(permit))
    }

    async fn place(&self, pick: &mut Pick) -> Result<Lease, Unreachable> {
        let current = self.current();
        let mut passed: SmallVec<[usize; 4]> = current.indices(&pick.tried).collect();
        let tried = passed.len();
        let mut failure = None;
        let mut busy = SmallVec::<[usize; 4]>::new();
        while let Some(index) = current.pick(&self.fleet, pick.key, &passed) {
            if passed.contains(&index) {
                break;
            }
            passed.push(index);
            let endpoint = &current.endpoints[index];
            if endpoint.is_busy() {
                busy.push(index);
                continue;
            }
            match endpoint.acquire().await {
                Ok(Some(lease)) => return Ok(pick.taken(endpoint, lease)),
                Ok(None) => busy.push(index),
                Err(error) => failure = Some(error),
            }
        }
        // What was tried for this call before comes last.
        let tried: SmallVec<[usize; 4]> = passed.drain(..tried).collect();
        for group in [busy, tried] {
            let endpoints = group.iter().map(|index| &current.endpoints[*index]);
            // Boxed, so that calls which do not wait are no larger for it.
            if !group.is_empty()
                && let Some((endpoint, lease)) = Box::pin(line::first_free(endpoints, &mut failure)).await
            {
                return Ok(pick.taken(endpoint, lease));
            }
        }
        Err(failure.unwrap_or_else(|| current.no_endpoint(self.name())))
    }

    /// The endpoints, read again if there are others now.
    fn current(&self) -> Rc<Current> {
        let mut current = self.current.borrow_mut();
        if current.generation != self.fleet.generation() {
            *current = Rc::new(Current::of(&self.shares, &self.metrics, Some(&current)));
        }
        Rc::clone(&current)
    }
}

/// Lets go of endpoints that are gone, although no call comes.
async fn follow(cluster: Weak<Cluster>, mut lists: watch::Receiver<()>) {
    while lists.changed().await.is_ok() {
        let Some(cluster) = cluster.upgrade() else { return };
        cluster.current();
    }
}

impl Current {
    /// Endpoints that are still there keep their connections; others end with the calls that they have.
    fn of(shares: &Rc<Shares>, metrics: &WorkerMetrics, before: Option<&Self>) -> Self {
        let fleet = shares.fleet();
        // Before the list, so that a newer one is never taken for this.
        let generation = fleet.generation();
        let list = fleet.list();
        let config = fleet.config();
        let endpoints = list.members.iter().map(|known| {
            let same = before.and_then(|before| before.endpoints.iter().find(|endpoint| endpoint.is(known)));
            let Some(same) = same else { return Endpoint::new(known, shares, metrics) };
            same.member().weigh(known.endpoint.weight);
            Rc::clone(same)
        });
        let endpoints: Box<[Rc<Endpoint>]> = endpoints.collect();
        let weights = list.members.iter().map(|known| (&*known.endpoint.address, known.endpoint.weight));
        Self {
            generation,
            balancer: Balancer::new(&config.balancing, weights),
            endpoints,
            problem: list.problem.clone(),
        }
    }

    fn pick(&self, fleet: &Fleet, key: Option<u64>, passed: &[usize]) -> Option<usize> {
        self.balancer.pick(&self.endpoints, fleet.changes(), key, passed, Instant::now())
    }

    fn indices(&self, endpoints: &[Rc<Endpoint>]) -> impl Iterator<Item = usize> {
        endpoints.iter().filter_map(|tried| self.endpoints.iter().position(|endpoint| Rc::ptr_eq(endpoint, tried)))
    }

    fn no_endpoint(&self, upstream: &str) -> Unreachable {
        match &self.problem {
            _ if !self.endpoints.is_empty() => Unreachable::without(upstream, "none of its endpoints is healthy"),
            Some(problem) => Unreachable::new(upstream, problem),
            None => Unreachable::without(upstream, "it has no endpoints"),
        }
    }
}

impl Pick {
    /// For a call that hashes to `key`, if it does.
    pub fn by(key: Option<u64>) -> Self {
        Self { key, ..Self::default() }
    }

    /// Notes which endpoint it is.
    fn taken(&mut self, endpoint: &Rc<Endpoint>, lease: Lease) -> Lease {
        self.tried.push(Rc::clone(endpoint));
        lease
    }
}
