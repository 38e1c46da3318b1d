//! What one worker keeps for all its calls: its connections, its handles, and the snapshot prepared for it.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use hashbrown::HashMap;
use http::uri::PathAndQuery;
use tokio::sync::watch;

use super::ask::stores::Stores;
use super::retry::Rules;
use crate::config::authentication::Provider;
use crate::config::{self, MethodSettings};
use crate::credentials::{Authenticator, Credentials};
use crate::policy::admission::{Capacity, Delay, LoadView};
use crate::policy::rate_limit::{LocalStore, Plan};
use crate::runtime;
use crate::snapshot::{Snapshot, Source};
use crate::store::ledger::Ledger;
use crate::telemetry::access_log::WorkerLog;
use crate::telemetry::decisions::{DecisionMetrics, RULES};
use crate::telemetry::metrics::{LimitMetrics, MethodMetrics, ProviderMetrics, UNKNOWN_METHOD, WorkerMetrics};
use crate::telemetry::readiness::Readiness;
use crate::upstream::{Cluster, Fleets};

/// One worker's own things; nothing in it is shared with another.
#[derive(Debug)]
pub struct Worker {
    source: Arc<Source>,
    pub(crate) shared: Shared,
    workers: usize,
    pub(crate) metrics: WorkerMetrics,
    /// How long work waits for its turn here.
    pub(crate) delay: Rc<Delay>,
    pub(crate) unknown: Arc<MethodMetrics>,
    pub(crate) log: WorkerLog,
    generation: Cell<u64>,
    prepared: RefCell<Option<Rc<Prepared>>>,
}

/// What all workers get their own things from.
#[derive(Debug, Clone, Default)]
pub struct Shared {
    /// Endpoints.
    pub fleets: Arc<Fleets>,
    /// What callers' credentials are checked against.
    pub credentials: Arc<Credentials>,
    /// How often callers have called.
    pub limits: Arc<LocalStore>,
    /// What is known of that where it is counted elsewhere.
    pub ledger: Arc<Ledger>,
    /// How much there is to do.
    pub capacity: Arc<Capacity>,
    /// Whether the gateway is about to stop.
    pub readiness: Arc<Readiness>,
    /// Whether calls are real. A rehearsal charges nobody's limits elsewhere.
    pub live: bool,
}

/// A snapshot with what this worker needs beside it. Whatever is cloned per call is this worker's own copy, so that
/// its reference count is on no other worker's cache line.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) snapshot: Arc<Snapshot>,
    clusters: Vec<Rc<Cluster>>,
    /// In the order of the configuration's providers.
    authenticators: Vec<(Rc<Authenticator>, Arc<ProviderMetrics>)>,
    rules: Arc<DecisionMetrics>,
    /// In the order of the configuration's authorizers.
    authorizers: Vec<Arc<DecisionMetrics>>,
    /// Where limits are counted beside this process.
    pub(crate) stores: Stores,
    methods: Vec<OnceCell<PreparedMethod>>,
    /// By upstream, for calls of methods that no schema knows.
    unknown_methods: Vec<OnceCell<Arc<MethodMetrics>>>,
    /// Such methods by their name, which is the client's word; at most [`MAX_OTHERS`].
    others: RefCell<HashMap<Box<str>, Rc<Other>>>,
}

/// What holds for a method that no schema lists.
#[derive(Debug)]
pub(crate) struct Other {
    whose: Whose,
    pub(crate) settings: MethodSettings,
    pub(crate) rules: Rc<Rules>,
    pub(crate) limits: Option<Rc<Plan>>,
    /// By the index of the limit.
    limit_metrics: Box<[Arc<LimitMetrics>]>,
    /// By which its load is known.
    load_name: Arc<str>,
    load: OnceCell<Rc<LoadView>>,
}

/// Who answers a method that no schema lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The upstream of that index, perhaps.
    Upstream(usize),
    /// The gateway.
    Local {
        /// Whether it tells of health.
        is_health: bool,
    },
}

/// Methods that no schema lists and that are remembered. When there are more, all are forgotten.
const MAX_OTHERS: usize = 1024;
/// Bytes of a name that is remembered.
const MAX_OTHER_NAME: usize = 256;

impl Other {
    /// Where the decisions of a limit are counted.
    pub(crate) fn limit_metrics(&self, limit: usize) -> &Arc<LimitMetrics> {
        &self.limit_metrics[limit]
    }

    /// The calls of it that are under way.
    pub(crate) fn load(&self, worker: &Worker) -> &Rc<LoadView> {
        self.load.get_or_init(|| worker.shared.capacity.loads.get(&self.load_name))
    }
}

#[derive(Debug)]
struct PreparedMethod {
    path: PathAndQuery,
    rules: Rc<Rules>,
    metrics: Arc<MethodMetrics>,
    limits: Option<Rc<Plan>>,
    /// By the index of the limit.
    limit_metrics: Box<[Arc<LimitMetrics>]>,
    load: OnceCell<Rc<LoadView>>,
}

impl Worker {
    /// One of `workers`, which share each endpoint's connections evenly.
    pub fn new(
        source: Arc<Source>,
        shared: Shared,
        workers: usize,
        metrics: WorkerMetrics,
        log: WorkerLog,
    ) -> Rc<Self> {
        Rc::new(Self {
            source,
            shared,
            workers,
            delay: Rc::default(),
            unknown: metrics.unknown(),
            metrics,
            log,
            generation: Cell::new(0),
            prepared: RefCell::new(None),
        })
    }

    /// Begins to connect to what admission asks, so that it is there before the first call; and from now on lets go of what a
    /// newer snapshot does not have, although no call comes. To be called on the worker's thread.
    pub fn begin(self: &Rc<Self>) {
        self.prepared().stores.redis();
        runtime::spawn("snapshots", follow(Rc::downgrade(self), self.source.subscribe()));
    }

    /// Whether the gateway is about to stop.
    pub(crate) fn is_draining(&self) -> bool {
        self.shared.readiness.is_draining()
    }

    /// Where a limit's decisions are counted. Locks and allocates.
    pub(crate) fn limit_metrics(&self, name: &str) -> Arc<LimitMetrics> {
        self.metrics.limit(name)
    }

    /// The current snapshot, prepared.
    pub(crate) fn prepared(&self) -> Rc<Prepared> {
        let generation = self.source.generation();
        let mut prepared = self.prepared.borrow_mut();
        match &*prepared {
            Some(current) if self.generation.get() == generation => Rc::clone(current),
            stale => {
                let fresh = Rc::new(self.prepare(self.source.load(), stale.as_deref()));
                self.generation.set(generation);
                *prepared = Some(Rc::clone(&fresh));
                fresh
            }
        }
    }

    /// Connections of upstreams that did not change live on.
    fn prepare(&self, snapshot: Arc<Snapshot>, before: Option<&Prepared>) -> Prepared {
        let clusters = snapshot
            .upstreams
            .iter()
            .map(|upstream| {
                let known = before.and_then(|before| before.cluster_of(&upstream.config));
                known.unwrap_or_else(|| {
                    Cluster::new(self.shared.fleets.get(&upstream.config), self.workers, &self.metrics)
                })
            })
            .collect();
        let authenticators = snapshot
            .config
            .authentication
            .iter()
            .map(|provider| {
                let known = before.and_then(|before| before.authenticator_of(provider));
                let metrics = || self.metrics.provider(&provider.name);
                known.unwrap_or_else(|| (Rc::new(Authenticator::new(self.shared.credentials.get(provider))), metrics()))
            })
            .collect();
        let stores = Stores::prepare(&snapshot.config, before.map(|before| &before.stores), &self.metrics);
        self.shared.limits.set_memory(snapshot.config.rate_limiting.memory);
        let authorizers = &snapshot.config.authorizers;
        let authorizers = authorizers.iter().map(|authorizer| self.metrics.decisions(&authorizer.name)).collect();
        let rules = self.metrics.decisions(RULES);
        self.shared.capacity.overload.watch(snapshot.config.shedding);
        let methods = std::iter::repeat_with(OnceCell::new).take(snapshot.methods.len()).collect();
        let unknown_methods = std::iter::repeat_with(OnceCell::new).take(snapshot.upstreams.len()).collect();
        Prepared {
            snapshot,
            clusters,
            authenticators,
            rules,
            authorizers,
            stores,
            methods,
            unknown_methods,
            others: RefCell::default(),
        }
    }
}

/// Prepares each snapshot as soon as it is there.
async fn follow(worker: Weak<Worker>, mut published: watch::Receiver<()>) {
    while published.changed().await.is_ok() {
        let Some(worker) = worker.upgrade() else { return };
        worker.prepared();
    }
}

impl Prepared {
    pub(crate) fn cluster(&self, upstream: usize) -> &Rc<Cluster> {
        &self.clusters[upstream]
    }

    fn cluster_of(&self, config: &config::Upstream) -> Option<Rc<Cluster>> {
        let index = self.snapshot.upstreams.iter().position(|upstream| upstream.config == *config)?;
        Some(Rc::clone(&self.clusters[index]))
    }

    /// Of the provider with that index in the configuration.
    pub(crate) fn authenticator(&self, provider: usize) -> &Rc<Authenticator> {
        &self.authenticators[provider].0
    }

    /// The counters of the same.
    pub(crate) fn provider_metrics(&self, provider: usize) -> &Arc<ProviderMetrics> {
        &self.authenticators[provider].1
    }

    /// What the rules of policies decided.
    pub(crate) fn rules(&self) -> &DecisionMetrics {
        &self.rules
    }

    /// What the authorizer with that index in the configuration decided.
    pub(crate) fn authorizer(&self, index: usize) -> &DecisionMetrics {
        &self.authorizers[index]
    }

    /// What it remembers of callers lives on with it.
    fn authenticator_of(&self, provider: &Arc<Provider>) -> Option<(Rc<Authenticator>, Arc<ProviderMetrics>)> {
        self.authenticators.iter().find(|(known, _)| known.provider() == provider).cloned()
    }

    /// `:path` of a method of the schema.
    pub(crate) fn path(&self, method: usize, worker: &Worker) -> PathAndQuery {
        self.method(method, worker).path.clone()
    }

    /// What holds for further attempts of its calls.
    pub(crate) fn attempt_rules(&self, method: usize, worker: &Worker) -> Rc<Rules> {
        Rc::clone(&self.method(method, worker).rules)
    }

    pub(crate) fn metrics(&self, method: usize, worker: &Worker) -> &Arc<MethodMetrics> {
        &self.method(method, worker).metrics
    }

    /// The calls of a method that are under way.
    pub(crate) fn load(&self, method: usize, worker: &Worker) -> &Rc<LoadView> {
        let name = &self.snapshot.methods[method].name;
        self.method(method, worker).load.get_or_init(|| worker.shared.capacity.loads.get(name))
    }

    /// What holds for a method that no schema lists.
    pub(crate) fn other(&self, name: &str, whose: Whose, worker: &Worker) -> Rc<Other> {
        if let Some(known) = self.others.borrow().get(name).filter(|known| known.whose == whose) {
            return Rc::clone(known);
        }
        let other = Rc::new(self.make_other(name, whose, worker));
        if name.len() <= MAX_OTHER_NAME {
            let mut others = self.others.borrow_mut();
            if others.len() >= MAX_OTHERS {
                others.clear();
            }
            others.insert(name.into(), Rc::clone(&other));
        }
        other
    }

    fn make_other(&self, name: &str, whose: Whose, worker: &Worker) -> Other {
        let config = &self.snapshot.config;
        let (settings, limits, load_name) = match whose {
            Whose::Upstream(index) => {
                let upstream = &self.snapshot.upstreams[index].config.name;
                (config.method(name), config.rate_limits(name), format!("{upstream}/unknown"))
            }
            Whose::Local { is_health } => {
                (config.local_method(name, is_health), config.local_rate_limits(name, is_health), name.to_owned())
            }
        };
        let limits = Plan::new(&limits, |_| None).map(Rc::new);
        let metrics = |plan: &Rc<Plan>| {
            let limits = plan.limits().iter();
            limits.map(|limit| worker.limit_metrics(&limit.config.name)).collect()
        };
        Other {
            whose,
            rules: Rc::new(Rules::of(&settings, None)),
            settings,
            limit_metrics: limits.as_ref().map(metrics).unwrap_or_default(),
            limits,
            load_name: load_name.into(),
            load: OnceCell::new(),
        }
    }

    /// How often a method may be called.
    pub(crate) fn limits(&self, method: usize, worker: &Worker) -> Option<&Rc<Plan>> {
        self.method(method, worker).limits.as_ref()
    }

    /// Where the decisions of a limit of the method are counted.
    pub(crate) fn limit_metrics(&self, method: usize, limit: usize, worker: &Worker) -> &Arc<LimitMetrics> {
        &self.method(method, worker).limit_metrics[limit]
    }

    pub(crate) fn unknown_method(&self, upstream: usize, worker: &Worker) -> &Arc<MethodMetrics> {
        self.unknown_methods[upstream].get_or_init(|| {
            let name = &self.snapshot.upstreams[upstream].config.name;
            worker.metrics.method(name, UNKNOWN_METHOD)
        })
    }

    fn method(&self, index: usize, worker: &Worker) -> &PreparedMethod {
        self.methods[index].get_or_init(|| {
            let method = &self.snapshot.methods[index];
            let path = format!("/{}", method.name);
            let upstream = &self.snapshot.upstreams[method.upstream].config.name;
            PreparedMethod {
                path: path.parse().unwrap_or_else(|_| method.path.clone()),
                rules: Rc::new(Rules::of(&method.settings, Some(method))),
                metrics: worker.metrics.method(upstream, &method.name),
                load: OnceCell::new(),
                limits: method.limits.as_deref().cloned().map(Rc::new),
                limit_metrics: method
                    .limits
                    .iter()
                    .flat_map(|plan| plan.limits())
                    .map(|limit| worker.limit_metrics(&limit.config.name))
                    .collect(),
            }
        })
    }
}
