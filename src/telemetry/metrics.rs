//! Counters, one set per worker.
//!
//! A worker resolves its handles by name when a snapshot is built and keeps them; counting is then an addition to
//! memory that no other worker writes. The same names give the same handle again, so counts survive a reload. Who
//! reads sums over all workers ([`Registry::encode`]). Endpoints come and go for as long as the process runs: those that no
//! worker has a handle of any more are told once more and forgotten.
//!
//! **Invariant**: label values come from the configuration, from schemas and from discovery, never from a client, and their
//! number has a bound.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use super::decisions::DecisionMetrics;
use super::handles::{Handles, lock};
use super::histogram::{Histogram, Sizes};
use super::lifecycle::Lifecycle;
pub use super::limits::{LimitMetrics, LoadList};
use super::limits::{Limiter, Loads};
pub use super::providers::{AuthenticationResult, ProviderMetrics};
use super::readiness::Readiness;
use super::stores::StoreMetrics;
use super::{Bound, ConnectionEvent, Origin, Protocol, Transport};
use crate::grpc::status::Code;

/// Stands for every method that no schema declares; methods that one declares have a slash.
pub const UNKNOWN_METHOD: &str = "unknown";

/// All counters of the process.
#[derive(Debug)]
pub struct Registry {
    pub(super) started: SystemTime,
    pub(super) readiness: Arc<Readiness>,
    pub(super) dropped_log_lines: Arc<Counter>,
    pub(super) lifecycle: Arc<Lifecycle>,
    workers: Mutex<Vec<Arc<Worker>>>,
    /// By upstream.
    pub(super) fleets: Handles<1, FleetMetrics>,
    pub(super) limiter: OnceLock<Limiter>,
    pub(super) loads: OnceLock<Loads>,
}

impl Registry {
    /// A registry without workers.
    pub fn new(readiness: Arc<Readiness>) -> Self {
        Self {
            started: SystemTime::now(),
            readiness,
            dropped_log_lines: Arc::default(),
            lifecycle: Arc::default(),
            workers: Mutex::default(),
            fleets: Handles::default(),
            limiter: OnceLock::new(),
            loads: OnceLock::new(),
        }
    }

    /// Who tells which calls are under way. The first one counts.
    pub fn set_loads(&self, list: impl Fn() -> LoadList + Send + Sync + 'static) {
        self.loads.get_or_init(|| Loads(Box::new(list)));
    }

    /// Who tells how many callers the limits remember, and in how many bytes. The first one counts.
    pub fn set_limiter(&self, size: impl Fn() -> (usize, usize) + Send + Sync + 'static) {
        self.limiter.get_or_init(|| Limiter(Box::new(size)));
    }

    /// Adds a set of counters for one more worker. They stay for the life of the process.
    pub fn worker(&self) -> WorkerMetrics {
        let worker = Arc::new(Worker::default());
        lock(&self.workers).push(worker.clone());
        WorkerMetrics(worker)
    }

    /// What the whole process counts of an upstream. Locks and allocates.
    pub fn fleet(&self, upstream: &str) -> Arc<FleetMetrics> {
        self.fleets.resolve([upstream]).unwrap_or_default()
    }

    /// Where the access log counts lines that it could not keep or write.
    pub fn dropped_log_lines(&self) -> Arc<Counter> {
        self.dropped_log_lines.clone()
    }

    /// Where reloads and what comes with them are counted.
    pub fn lifecycle(&self) -> Arc<Lifecycle> {
        Arc::clone(&self.lifecycle)
    }

    /// Open connections to an endpoint and calls in progress there.
    pub fn endpoint_now(&self, upstream: &str, endpoint: &str) -> (i64, i64) {
        let workers = self.workers();
        let known = workers.iter().filter_map(|worker| worker.endpoints.known([upstream, endpoint]));
        known.fold((0, 0), |(connections, streams), endpoint| {
            (connections + endpoint.connections.value(), streams + endpoint.streams.value())
        })
    }

    /// The endpoints that have left, with their last calls and connections.
    pub(super) fn left_endpoints(&self) -> BTreeSet<[Arc<str>; 2]> {
        Handles::left(self.workers().iter().map(|worker| &worker.endpoints))
    }

    /// Forgets those of them that have not come back.
    pub(super) fn forget_endpoints(&self, left: &BTreeSet<[Arc<str>; 2]>) {
        Handles::forget(self.workers().iter().map(|worker| &worker.endpoints), left);
    }

    pub(super) fn workers(&self) -> Vec<Arc<Worker>> {
        lock(&self.workers).clone()
    }
}

/// The counters of one worker.
#[derive(Debug, Clone)]
pub struct WorkerMetrics(Arc<Worker>);

impl WorkerMetrics {
    /// The counters of `pkg.Service/Method` at an upstream. For calls that are forwarded although no schema knows
    /// their method, `method` is [`UNKNOWN_METHOD`].
    ///
    /// Locks and allocates: call it when a snapshot is built. Beyond 20,000 methods it gives those of
    /// [`Self::unknown`].
    pub fn method(&self, upstream: &str, method: &str) -> Arc<MethodMetrics> {
        self.0.methods.resolve([upstream, method]).unwrap_or_else(|| self.unknown())
    }

    /// The counters of calls that have no upstream: no route, no such method, refused before either was known.
    pub fn unknown(&self) -> Arc<MethodMetrics> {
        self.0.unknown.clone()
    }

    /// The counters of a limit, by its name. Locks and allocates. Beyond 20,000 limits it gives counters that nobody sees.
    pub fn limit(&self, name: &str) -> Arc<LimitMetrics> {
        self.0.limits.resolve([name]).unwrap_or_default()
    }

    /// Counts calls of a method that were not taken on, for one reason. Locks and allocates.
    pub fn overloaded(&self, method: &str, reason: &str) -> Arc<Counter> {
        self.0.overloaded.resolve([method, reason]).unwrap_or_default()
    }

    /// Notes how long work waits for its turn on the worker.
    pub fn set_queue_delay(&self, delay: Duration) {
        self.0.queue_delay.store(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The counters of a listener, by the address on which it accepts. Locks and allocates.
    pub fn listener(&self, address: &str) -> Arc<ListenerMetrics> {
        self.0.listeners.resolve([address]).unwrap_or_default()
    }

    /// The counters of an upstream. Locks and allocates.
    pub fn upstream(&self, upstream: &str) -> Arc<UpstreamMetrics> {
        self.0.upstreams.resolve([upstream]).unwrap_or_default()
    }

    /// The counters of an upstream's endpoint, `host:port`. Locks and allocates. Beyond 20,000 endpoints it gives
    /// counters that nobody sees.
    pub fn endpoint(&self, upstream: &str, endpoint: &str) -> Arc<EndpointMetrics> {
        self.0.endpoints.resolve([upstream, endpoint]).unwrap_or_default()
    }

    /// The counters of a provider of authentication. Locks and allocates.
    pub fn provider(&self, name: &str) -> Arc<ProviderMetrics> {
        self.0.providers.resolve([name]).unwrap_or_default()
    }

    /// The counters of a store of limits, by its name. Locks and allocates.
    pub fn store(&self, name: &str) -> Arc<StoreMetrics> {
        self.0.stores.resolve([name]).unwrap_or_default()
    }
}

impl WorkerMetrics {
    /// The decisions of the rules ([`super::decisions::RULES`]) or of an authorizer. Locks and allocates.
    pub fn decisions(&self, by: &str) -> Arc<DecisionMetrics> {
        self.0.decisions.resolve([by]).unwrap_or_default()
    }
}

/// How the calls of one method ended, on one worker.
//
// Aligned to two cache lines, which processors fetch together: neighbours on the heap may belong to other workers.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct MethodMetrics {
    /// By [`Protocol`]; most methods are called by one or two of them, or never.
    calls: [OnceLock<Box<Calls>>; Protocol::ALL.len()],
    pub(super) duration: Histogram,
    pub(super) request_bytes: Histogram<Sizes>,
    pub(super) response_bytes: Histogram<Sizes>,
}

impl MethodMetrics {
    /// Counts a finished call: its gRPC code, who is to blame if it failed, and the time from the head of the
    /// request to the end of the reply.
    pub fn finish(&self, protocol: Protocol, code: u32, origin: Option<Origin>, elapsed: Duration) {
        let calls = self.calls.get(protocol as usize).map(|calls| calls.get_or_init(Box::default));
        if let Some(count) = calls.and_then(|calls| calls.by(origin, code_index(code))) {
            count.add(1);
        }
        self.duration.observe(elapsed);
    }

    /// Counts the bytes of bodies, as they were on the client's side without the framing of HTTP.
    pub fn transferred(&self, request: u64, response: u64) {
        self.request_bytes.add(request);
        self.response_bytes.add(response);
    }

    /// Calls so far, `None` when the protocol was never used. `code` is a number of the table, or one beyond.
    pub(super) fn calls(&self, protocol: Protocol, origin: Option<Origin>, code: usize) -> Option<u64> {
        let calls = self.calls.get(protocol as usize)?.get()?;
        calls.by(origin, code).map(Counter::value)
    }
}

/// The connections of one listener, on one worker.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ListenerMetrics {
    accepted: Counter,
    open: [Gauge; Transport::ALL.len()],
    events: [Counter; ConnectionEvent::ALL.len()],
}

impl ListenerMetrics {
    /// Counts a connection as soon as it is accepted.
    pub fn accepted(&self) {
        self.accepted.add(1);
    }

    /// Counts a connection as open, once its protocol is known, until the guard is dropped.
    pub fn open(self: &Arc<Self>, transport: Transport) -> OpenConnection {
        self.gauge(transport).add(1);
        OpenConnection { listener: self.clone(), transport }
    }

    /// Counts what happened on a connection.
    pub fn count(&self, event: ConnectionEvent) {
        if let Some(counter) = self.events.get(event as usize) {
            counter.add(1);
        }
    }

    /// Connections accepted so far.
    pub fn accepted_so_far(&self) -> u64 {
        self.accepted.value()
    }

    /// Connections open now.
    pub fn open_now(&self, transport: Transport) -> i64 {
        self.gauge(transport).value()
    }

    /// How often it happened so far.
    pub fn counted(&self, event: ConnectionEvent) -> u64 {
        self.events.get(event as usize).map_or(0, Counter::value)
    }

    fn gauge(&self, transport: Transport) -> &Gauge {
        let [http1, http2] = &self.open;
        match transport {
            Transport::Http1 => http1,
            Transport::Http2 => http2,
        }
    }
}

/// A client's connection, counted until this is dropped.
#[derive(Debug)]
pub struct OpenConnection {
    listener: Arc<ListenerMetrics>,
    transport: Transport,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.listener.gauge(self.transport).add(-1);
    }
}

/// The endpoints of one upstream, as the whole process knows them.
#[derive(Debug, Default)]
pub struct FleetMetrics {
    pub(super) usable: Gauge,
    pub(super) unhealthy: Gauge,
    pub(super) ejected: Gauge,
    /// Endpoints were ejected so often.
    pub ejections: Counter,
    /// Health checks that passed.
    pub checks_passed: Counter,
    /// Health checks that failed.
    pub checks_failed: Counter,
}

impl FleetMetrics {
    /// How many endpoints there are now: those that can be used, those whose check fails, and the rest of those ejected.
    pub fn endpoints(&self, usable: usize, unhealthy: usize, ejected: usize) {
        for (gauge, count) in [(&self.usable, usable), (&self.unhealthy, unhealthy), (&self.ejected, ejected)] {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// The calls of one upstream, from one worker.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct UpstreamMetrics {
    /// Attempts after one that failed.
    pub retries: Counter,
    /// Attempts beside one that had not answered yet.
    pub hedges: Counter,
    refused: [Counter; Bound::ALL.len()],
}

impl UpstreamMetrics {
    /// Counts what was refused because a bound is full.
    pub fn refused(&self, bound: Bound) {
        if let Some(counter) = self.refused.get(bound as usize) {
            counter.add(1);
        }
    }

    /// How often so far.
    pub(super) fn refused_by(&self, bound: Bound) -> u64 {
        self.refused.get(bound as usize).map_or(0, Counter::value)
    }
}

/// The connections to one endpoint, from one worker.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct EndpointMetrics {
    pub(super) connections: Gauge,
    pub(super) streams: Gauge,
    pub(super) connect_failures: Counter,
    pub(super) duration: Histogram,
}

impl EndpointMetrics {
    /// Counts a connection as open until the guard is dropped.
    pub fn open(self: &Arc<Self>) -> UpstreamConnection {
        self.connections.add(1);
        UpstreamConnection(self.clone())
    }

    /// Counts a call's stream as active until the guard is dropped.
    pub fn stream(self: &Arc<Self>) -> UpstreamStream {
        self.streams.add(1);
        UpstreamStream(self.clone())
    }

    /// Takes the time from a call's head to that of its reply.
    pub fn answered(&self, took: Duration) {
        self.duration.observe(took);
    }

    /// Counts an attempt to connect that failed, the HTTP/2 preface included.
    pub fn connect_failed(&self) {
        self.connect_failures.add(1);
    }
}

/// A connection to an endpoint, counted until this is dropped.
#[derive(Debug)]
pub struct UpstreamConnection(Arc<EndpointMetrics>);

impl Drop for UpstreamConnection {
    fn drop(&mut self) {
        self.0.connections.add(-1);
    }
}

/// A stream to an endpoint, counted until this is dropped.
#[derive(Debug)]
pub struct UpstreamStream(Arc<EndpointMetrics>);

impl Drop for UpstreamStream {
    fn drop(&mut self) {
        self.0.streams.add(-1);
    }
}

/// A number that grows.
//
// Added to atomically although one worker alone writes it: uncontended that costs a few nanoseconds, and a handle
// that strays to another thread loses nothing.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that grows and shrinks.
#[derive(Debug, Default)]
pub(super) struct Gauge(AtomicI64);

impl Gauge {
    pub(super) fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn set(&self, n: i64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub(super) fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker has counted.
#[derive(Debug, Default)]
pub(super) struct Worker {
    pub(super) unknown: Arc<MethodMetrics>,
    /// By upstream and method.
    pub(super) methods: Handles<2, MethodMetrics>,
    /// By address.
    pub(super) listeners: Handles<1, ListenerMetrics>,
    /// By upstream and endpoint.
    pub(super) endpoints: Handles<2, EndpointMetrics>,
    /// By name.
    pub(super) limits: Handles<1, LimitMetrics>,
    /// By upstream.
    pub(super) upstreams: Handles<1, UpstreamMetrics>,
    /// By name.
    pub(super) providers: Handles<1, ProviderMetrics>,
    /// By who decides.
    pub(super) decisions: Handles<1, DecisionMetrics>,
    /// By name.
    pub(super) stores: Handles<1, StoreMetrics>,
    /// By method and reason.
    pub(super) overloaded: Handles<2, Counter>,
    /// In microseconds.
    pub(super) queue_delay: AtomicU64,
}

/// Calls by who is to blame and code.
#[derive(Debug, Default)]
struct Calls {
    fine: [Counter; CODES],
    failed: [[Counter; CODES]; Origin::ALL.len()],
}

impl Calls {
    fn by(&self, origin: Option<Origin>, code: usize) -> Option<&Counter> {
        match origin {
            None => self.fine.get(code),
            Some(origin) => self.failed.get(origin as usize)?.get(code),
        }
    }
}

/// All codes outside the table count as one.
fn code_index(code: u32) -> usize {
    usize::try_from(code).map_or(CODES - 1, |code| code.min(CODES - 1))
}

/// The table of gRPC and one more for the rest.
pub(super) const CODES: usize = Code::COUNT + 1;

#[cfg(test)]
mod tests {
    use super::super::handles::MAX_HANDLES;
    use super::*;

    #[test]
    fn gives_the_same_handle_for_the_same_names() {
        let registry = Registry::new(Arc::default());
        let (worker, other) = (registry.worker(), registry.worker());

        let method = worker.method("library", "lib.Library/Get");

        assert!(Arc::ptr_eq(&method, &worker.method("library", "lib.Library/Get")));
        assert!(!Arc::ptr_eq(&method, &worker.method("archive", "lib.Library/Get")));
        assert!(!Arc::ptr_eq(&method, &other.method("library", "lib.Library/Get")));
    }

    #[test]
    fn counts_methods_beyond_the_bound_as_unknown() {
        let worker = Registry::new(Arc::default()).worker();
        for number in 0..MAX_HANDLES {
            worker.method("library", &format!("lib.Library/Get{number}"));
        }

        assert!(Arc::ptr_eq(&worker.method("library", "lib.Library/OneMore"), &worker.unknown()));
        assert!(!Arc::ptr_eq(&worker.method("library", "lib.Library/Get0"), &worker.unknown()));
    }

    #[test]
    fn counts_codes_outside_the_table_as_one() {
        let method = MethodMetrics::default();

        for code in [16, 17, 1010, u32::MAX] {
            method.finish(Protocol::Grpc, code, Some(Origin::Upstream), Duration::ZERO);
        }

        assert_eq!(method.calls(Protocol::Grpc, Some(Origin::Upstream), 16), Some(1));
        assert_eq!(method.calls(Protocol::Grpc, Some(Origin::Upstream), 17), Some(3));
        assert_eq!(method.calls(Protocol::Grpc, None, 17), Some(0));
        assert_eq!(method.calls(Protocol::Rest, None, 0), None);
    }

    #[test]
    fn counts_connections_while_they_are_open() {
        let listener = Arc::new(ListenerMetrics::default());

        let open = [Transport::Http1, Transport::Http2, Transport::Http2].map(|transport| listener.open(transport));

        assert_eq!(Transport::ALL.map(|transport| listener.open_now(transport)), [1, 2]);
        drop(open);
        assert_eq!(Transport::ALL.map(|transport| listener.open_now(transport)), [0, 0]);
    }

    #[test]
    fn endpoints_that_nobody_uses_are_told_once_more_and_forgotten() {
        let registry = Registry::new(Arc::default());
        let (worker, other) = (registry.worker(), registry.worker());
        let (stays, leaves) = (worker.endpoint("library", "a:1"), worker.endpoint("library", "b:1"));
        let running = other.endpoint("library", "b:1").stream();
        leaves.answered(Duration::ZERO);
        drop(leaves);
        let tells = |endpoint: &str| registry.encode().contains(&format!("endpoint=\"{endpoint}\""));

        assert!(tells("b:1") && tells("b:1"), "a call of it still runs");
        drop(running);

        assert!(tells("b:1"));
        assert!(!tells("b:1"));
        assert!(tells("a:1"));
        drop(stays);
    }

    #[test]
    fn does_not_share_cache_lines() {
        assert_eq!(align_of::<MethodMetrics>(), 128);
        assert_eq!(align_of::<ListenerMetrics>(), 128);
        assert_eq!(align_of::<EndpointMetrics>(), 128);
    }
}
