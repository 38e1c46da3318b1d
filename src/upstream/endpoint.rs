//! One address of an upstream and one worker's connections to it.
//!
//! Connections are made when calls need them, a further one only when every open one has as many streams as the
//! peer allows. A failed attempt is followed by a pause that grows; calls that come meanwhile fail at once.
//!
//! ```text
//!            call needs one                 open
//!   Idle ─────────────────────▶ Dialing ──────────▶ Idle
//!    ▲                             │ failed
//!    └────── pause is over ──── Paused
//! ```

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use h2::PingPong;
use http::uri::{Authority, Scheme};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, sleep};

use super::balance::Member;
use super::connection::{self, Connection, End, Lease, News};
use super::fleet::Known;
use super::outlier::{self, Tally};
use super::quota::{Permit, Share};
use super::shares::Shares;
use super::transport::Security;
use crate::config;
use crate::runtime;
use crate::telemetry::Bound;
use crate::telemetry::metrics::{EndpointMetrics, WorkerMetrics};

/// One address of an upstream.
#[derive(Debug)]
pub struct Endpoint {
    upstream: Arc<str>,
    address: Arc<str>,
    authority: Authority,
    security: Security,
    settings: config::Connections,
    max_connections: usize,
    connections: RefCell<Vec<Rc<Connection>>>,
    dial: RefCell<Dial>,
    failures: Cell<u32>,
    /// A connection came, went or failed to come, its peer allows more streams, or a stream ended while calls were
    /// waiting.
    changed: Notify,
    metrics: Arc<EndpointMetrics>,
    member: Member,
    known: Known,
    tally: Arc<Tally>,
    shares: Rc<Shares>,
    /// Calls and streams here.
    requests: Rc<Share>,
    /// Calls that wait here.
    pending: Rc<Share>,
}

#[derive(Debug)]
enum Dial {
    Idle,
    Dialing,
    Paused { until: Instant, cause: Unreachable },
}

/// A call has no place at an endpoint, or at any. As text it is fit for callers: it has no addresses, and nothing that the
/// system said.
#[derive(Debug, Clone)]
pub struct Unreachable {
    text: Arc<str>,
    note: Option<Arc<str>>,
    /// The bound that is full, if that is why.
    full: Option<Bound>,
}

/// What a call finds at an endpoint.
pub(super) enum Look {
    /// A connection that takes it.
    Room(Rc<Connection>),
    /// A connection is being made.
    Dialing,
    /// Every connection that there may be has as many calls as it takes; perhaps another one can be made from then on.
    Full { until: Option<Instant> },
}

/// A call that waits at an endpoint.
pub(super) struct Waiting {
    endpoint: Rc<Endpoint>,
    _permits: [Permit; 2],
}

impl Waiting {
    pub(super) fn is_at(&self, endpoint: &Rc<Endpoint>) -> bool {
        Rc::ptr_eq(&self.endpoint, endpoint)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.endpoint.member.end();
    }
}

impl Unreachable {
    /// Says that an upstream could not be reached; `why` is for operators.
    pub fn new(upstream: &str, why: impl fmt::Display) -> Self {
        let text = format!("upstream {upstream} cannot be reached").into();
        Self { text, note: Some(why.to_string().into()), full: None }
    }

    /// Says that an upstream has no endpoint to be called.
    pub(super) fn without(upstream: &str, why: &'static str) -> Self {
        Self { text: format!("upstream {upstream} cannot be reached: {why}").into(), note: None, full: None }
    }

    /// Says who has as much to do as it may.
    pub(super) fn full(whom: &str, bound: Bound, limit: u64) -> Self {
        let text = format!("{whom} has as many {} as it may, {limit}", bound.words()).into();
        Self { text, note: None, full: Some(bound) }
    }

    /// What operators want to know beside the text.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// The bound that is full, if that is why.
    pub fn bound(&self) -> Option<Bound> {
        self.full
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Unreachable {}

impl Endpoint {
    pub(super) fn new(known: &Known, shares: &Rc<Shares>, metrics: &WorkerMetrics) -> Rc<Self> {
        let (config, workers) = (shares.fleet().config(), shares.workers());
        let config::endpoints::Endpoint { address, weight, zone } = known.endpoint.clone();
        let authority = config.authority_of(&address);
        Rc::new(Self {
            upstream: Arc::clone(&config.name),
            authority: authority.parse().unwrap_or_else(|_| Authority::from_static("upstream")),
            security: Security::of(config),
            settings: config.connections,
            max_connections: (config.connections.max_per_endpoint / workers.max(1)).max(1),
            connections: RefCell::default(),
            dial: RefCell::new(Dial::Idle),
            failures: Cell::new(0),
            changed: Notify::new(),
            metrics: metrics.endpoint(&config.name, &address),
            member: Member::new(weight, zone, Arc::clone(&known.standing)),
            tally: known.conduct.tally(),
            requests: Share::new(&known.requests, workers),
            pending: Share::new(&known.pending, workers),
            known: known.clone(),
            shares: Rc::clone(shares),
            address,
        })
    }

    /// What the balancer knows of it.
    pub(super) fn member(&self) -> &Member {
        &self.member
    }

    /// Whether it is that endpoint, and not one that was there before it at the same address.
    pub(super) fn is(&self, known: &Known) -> bool {
        self.address == known.endpoint.address && self.member.is(known.endpoint.zone.as_ref(), &known.standing)
    }

    /// The name of the upstream that it belongs to.
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// `host:port` as configured.
    pub fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// `:authority` of requests to it.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// `:scheme` of requests to it.
    pub fn scheme(&self) -> Scheme {
        self.security.scheme()
    }

    pub(super) fn metrics(&self) -> &Arc<EndpointMetrics> {
        &self.metrics
    }

    /// A place for one more call: on an open connection that has room, else on one that is being made. `None` where it would
    /// have to wait for the end of another call.
    ///
    /// # Errors
    /// There is no connection and none can be made, or the endpoint has as much to do as it may.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place; an attempt to connect goes on for others.
    pub(super) async fn acquire(self: &Rc<Self>) -> Result<Option<Lease>, Unreachable> {
        let permit = self.take_request()?;
        let mut waiting = None;
        loop {
            let changed = self.changed();
            match self.look()? {
                Look::Room(connection) => return Ok(Some(Lease::new(connection, Rc::clone(self), permit))),
                Look::Full { .. } => return Ok(None),
                Look::Dialing => {}
            }
            if waiting.is_none() {
                waiting = Some(self.wait()?);
            }
            changed.await;
        }
    }

    /// Ready when there is something to look at. To be asked for before looking, so that no change in between is missed.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// What a call finds now. Where another connection can be made, that begins.
    pub(super) fn look(self: &Rc<Self>) -> Result<Look, Unreachable> {
        if let Some(connection) = self.roomiest() {
            if connection.is_crowded() {
                // For the calls after this one, if another connection may be and can be made.
                self.dial_if_due().ok();
            }
            return Ok(Look::Room(connection));
        }
        let until = self.dial_if_due()?;
        Ok(if matches!(*self.dial.borrow(), Dial::Dialing) { Look::Dialing } else { Look::Full { until } })
    }

    /// A call more than it has.
    pub(super) fn take_request(&self) -> Result<Permit, Unreachable> {
        self.requests.take().ok_or_else(|| self.full(Bound::Requests, self.known.requests.limit()))
    }

    /// A call waits here, until what this returns is dropped. It counts as one that the endpoint has, or others would come.
    pub(super) fn wait(self: &Rc<Self>) -> Result<Waiting, Unreachable> {
        let full = || self.full(Bound::Pending, self.known.pending.limit());
        let permits = [self.pending.take().ok_or_else(full)?, self.shares.wait()?];
        self.member.begin();
        Ok(Waiting { endpoint: Rc::clone(self), _permits: permits })
    }

    fn full(&self, bound: Bound, limit: u64) -> Unreachable {
        self.shares.metrics().refused(bound);
        let full = Unreachable::full(&format!("an endpoint of upstream {}", self.upstream), bound, limit);
        Unreachable { note: Some(Arc::clone(&self.address)), ..full }
    }

    /// A call ended with a status of that number, or without one.
    pub(super) fn judge(&self, number: Option<u32>) {
        let fleet = self.shares.fleet();
        let Some(settings) = &fleet.config().outliers else { return };
        let failed = number.is_none_or(|number| settings.codes.contain(number));
        let in_row = self.known.conduct.note(&self.tally, failed);
        if settings.consecutive_failures.is_some_and(|most| in_row >= most) {
            outlier::eject(fleet, &self.known, settings, "failures in a row", Instant::now());
        }
    }

    /// Whether a call would have to wait here for another to end, or for a connection that failed to come the last time. That
    /// is then tried again, without the call.
    pub(super) fn is_busy(self: &Rc<Self>) -> bool {
        self.forget_closed();
        let open = self.lasting();
        let room = self.connections.borrow().iter().any(|connection| connection.has_room());
        if !room && self.failures.get() > 0 {
            self.dial_if_due().ok();
            return true;
        }
        open >= self.max_connections && !room
    }

    /// Connections that count against those that there may be.
    fn lasting(&self) -> usize {
        self.connections.borrow().iter().filter(|connection| connection.is_lasting()).count()
    }

    /// The usable connection with the fewest streams, if one has room.
    fn roomiest(&self) -> Option<Rc<Connection>> {
        self.forget_closed();
        let connections = self.connections.borrow();
        connections
            .iter()
            .filter(|connection| connection.has_room())
            .min_by_key(|connection| (connection.is_crowded(), connection.active()))
            .cloned()
    }

    /// Lets go of the connections that take no more calls; they end with the calls that they have.
    pub(super) fn forget_closed(&self) {
        self.connections.borrow_mut().retain(|connection| !connection.is_closed());
    }

    /// Starts an attempt to connect unless one is under way, or as many connections are open as may be. Says when the
    /// next one may start if that is only a matter of time.
    fn dial_if_due(self: &Rc<Self>) -> Result<Option<Instant>, Unreachable> {
        let open = self.lasting();
        let mut dial = self.dial.borrow_mut();
        match &*dial {
            Dial::Dialing => return Ok(None),
            Dial::Paused { until, cause } if Instant::now() < *until => {
                return if open == 0 { Err(cause.clone()) } else { Ok(Some(*until)) };
            }
            Dial::Idle | Dial::Paused { .. } => {}
        }
        if open < self.max_connections
            && let Some(permit) = self.shares.connect(open == 0)
        {
            *dial = Dial::Dialing;
            let endpoint = Rc::clone(self);
            runtime::spawn("dial", async move { endpoint.dial(permit).await });
        }
        Ok(None)
    }

    async fn dial(self: Rc<Self>, permit: Permit) {
        let opened = connection::open(&self.address, &self.security, &self.settings).await;
        *self.dial.borrow_mut() = match opened {
            Ok((connection, pings, driver)) => {
                self.failures.set(0);
                self.known.standing.reach();
                let counted = (self.metrics.open(), permit);
                self.connections.borrow_mut().push(Rc::clone(&connection));
                // Neither is kept alive from here: h2 closes a connection when nobody can send on it any more.
                let (endpoint, connection) = (Rc::downgrade(&self), Rc::downgrade(&connection));
                let settings = self.settings;
                runtime::spawn("upstream connection", async move {
                    let end = tokio::select! {
                        end = drive(driver, &endpoint, &connection) => end,
                        () = watch(pings, settings.keepalive, &endpoint, &connection) => End::Silent,
                        () = age(settings.max_age, &endpoint, &connection) => End::Closed,
                    };
                    if let Some(connection) = connection.upgrade() {
                        connection.close();
                    }
                    drop(counted);
                    if let Some(endpoint) = endpoint.upgrade() {
                        endpoint.known.standing.lose();
                        endpoint.changed.notify_waiters();
                        tracing::debug!(upstream = %endpoint.upstream, endpoint = %endpoint.address, end = %end, "upstream connection ended");
                    }
                });
                Dial::Idle
            }
            Err(error) => {
                let failures = self.failures.get().saturating_add(1);
                self.failures.set(failures);
                self.known.standing.lose();
                self.metrics.connect_failed();
                let cause = Unreachable::new(&self.upstream, format_args!("{}: {error}", self.address));
                if failures == 1 {
                    tracing::warn!(upstream = %self.upstream, endpoint = %self.address, %error, "endpoint cannot be reached");
                }
                Dial::Paused { until: Instant::now() + pause(failures), cause }
            }
        };
        self.changed.notify_waiters();
    }

    /// A stream ended: one call that waits for room may look again.
    pub(super) fn stream_ended(&self) {
        self.changed.notify_one();
    }
}

/// Drives a connection to its end. Tells the calls that wait whenever its peer allows more streams, and has another
/// connection made when the peer wants no more calls on this one.
async fn drive(driver: impl Future<Output = End>, endpoint: &Weak<Endpoint>, connection: &Weak<Connection>) -> End {
    let mut driver = pin!(driver);
    poll_fn(|cx| {
        let polled = driver.as_mut().poll(cx);
        let (Some(endpoint), Some(connection)) = (endpoint.upgrade(), connection.upgrade()) else { return polled };
        match connection.look(cx) {
            News::None => {}
            News::Room => endpoint.changed.notify_waiters(),
            News::Leaving => {
                endpoint.forget_closed();
                // Without calls another one can wait for the next: a server may take leave of every connection.
                if connection.active() > 0 {
                    endpoint.dial_if_due().ok();
                }
                endpoint.changed.notify_waiters();
            }
        }
        polled
    })
    .await
}

/// Ready when the peer is gone, see [`super::pulse`].
async fn watch(
    pings: Option<PingPong>,
    keepalive: Option<Duration>,
    endpoint: &Weak<Endpoint>,
    connection: &Weak<Connection>,
) {
    let pulse = connection.upgrade().map(|connection| Rc::clone(&connection.pulse));
    let (Some(pings), Some(pulse)) = (pings, pulse) else { return std::future::pending().await };
    let is_active = || connection.upgrade().is_some_and(|connection| connection.active() > 0);
    let trusted = || {
        if let Some(endpoint) = endpoint.upgrade() {
            endpoint.changed.notify_waiters();
        }
    };
    pulse.watch(pings, keepalive, is_active, trusted).await;
}

/// Lets another connection take the place of one that is old, so that endpoints behind a balancer of connections all get
/// some. Never ready: calls end on the old one.
async fn age(max_age: Option<Duration>, endpoint: &Weak<Endpoint>, connection: &Weak<Connection>) {
    let Some(max_age) = max_age else { return std::future::pending().await };
    // Less up to a tenth, so that connections that were made together do not end together.
    sleep(max_age.mul_f64(1.0 - fastrand::f64() / 10.0)).await;
    if let Some(connection) = connection.upgrade() {
        connection.age();
    }
    loop {
        // A call that came now would wait for the new one, if there were none.
        if let Some(endpoint) = endpoint.upgrade() {
            endpoint.dial_if_due().ok();
        }
        sleep(HANDOVER).await;
        // An old one is better than none.
        if endpoint.upgrade().is_none_or(|endpoint| endpoint.lasting() > 0) {
            break;
        }
    }
    if let Some(connection) = connection.upgrade() {
        connection.close();
    }
    if let Some(endpoint) = endpoint.upgrade() {
        endpoint.forget_closed();
    }
    std::future::pending().await
}

/// In which a new connection is to be there.
const HANDOVER: Duration = Duration::from_secs(2);

const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How long no new attempt is made after this many failures in a row: from 50 ms doubling to half a second, less up to a
/// quarter so that workers do not knock together. With the second that an attempt may take by default, an endpoint that is back
/// has calls within two.
fn pause(failures: u32) -> Duration {
    let full = Duration::from_millis(50 << failures.clamp(1, 6).saturating_sub(1)).min(LONGEST_PAUSE);
    full.mul_f64(1.0 - fastrand::f64() / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_grows_to_half_a_second_and_no_further() {
        assert!(pause(1) <= Duration::from_millis(50));
        for failures in 1..100 {
            let pause = pause(failures);
            assert!(pause >= Duration::from_millis(37) && pause <= LONGEST_PAUSE, "{pause:?}");
        }
    }
}
