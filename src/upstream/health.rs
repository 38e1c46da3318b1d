//! Asks endpoints whether they can take calls, one task on the control runtime for each.
//!
//! An endpoint of `grpc.health.v1` is asked by `Check`, again and again, or tells by itself through `Watch`
//! (<https://github.com/grpc/grpc/blob/v1.76.0/doc/health-checking.md>); others only have to accept connections. Connections
//! for this are not those of calls. A server that has no such service counts as healthy, as gRPC clients have it.

use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Ping, PingPong};
use hashbrown::HashMap;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::balance::Fault;
use super::fleet::{Fleet, Known};
use super::reflection::exchange::Exchange;
use super::reflection::{Error, Origin};
use super::transport::Security;
use crate::config::health_check::{HealthCheck, Probe};
use crate::pb::grpc::health::v1::health_check_response::ServingStatus;
use crate::pb::grpc::health::v1::{HealthCheckRequest, HealthCheckResponse};

/// Between two checks of an endpoint that is not called meanwhile, at most: one that was restarted is called again soon.
const WHILE_UNHEALTHY: Duration = Duration::from_secs(1);

/// Keeps the health of a fleet's endpoints up to date for as long as it is there.
pub(super) fn watch(fleet: &Arc<Fleet>, control: &Handle) {
    if let Some(check) = &fleet.config().health_check {
        control.spawn(keep(Arc::downgrade(fleet), check.clone()));
    }
}

/// Has a task for each endpoint there is.
async fn keep(fleet: Weak<Fleet>, check: HealthCheck) {
    let Some(mut lists) = fleet.upgrade().map(|fleet| fleet.subscribe()) else { return };
    // Dropped with this task, and then all of them end.
    let mut tasks = JoinSet::new();
    let mut running: HashMap<Arc<str>, AbortHandle> = HashMap::new();
    loop {
        lists.borrow_and_update();
        let Some(list) = fleet.upgrade().map(|fleet| fleet.list()) else { return };
        running.retain(|address, task| {
            let stays = list.members.iter().any(|known| known.endpoint.address == *address);
            if !stays {
                task.abort();
            }
            // One that panicked is begun again with the next list.
            stays && !task.is_finished()
        });
        for known in &list.members {
            running
                .entry(Arc::clone(&known.endpoint.address))
                .or_insert_with(|| tasks.spawn(Checks::new(&fleet, known, &check).run()));
        }
        while tasks.try_join_next().is_some() {}
        if lists.changed().await.is_err() {
            return;
        }
    }
}

/// The checks of one endpoint.
struct Checks {
    fleet: Weak<Fleet>,
    known: Known,
    check: HealthCheck,
    security: Security,
    origin: Option<Origin>,
    judge: Judge,
    /// Kept from one check to the next.
    line: Option<Line>,
}

/// A connection for checks.
struct Line {
    sender: SendRequest<Bytes>,
    /// Gone when the connection ended.
    driver: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    pings: Option<PingPong>,
}

/// Thresholds over the results of checks; pure.
#[derive(Debug)]
struct Judge {
    healthy: bool,
    /// Results in a row that say otherwise.
    against: u32,
    to_heal: u32,
    to_fail: u32,
}

impl Judge {
    /// Takes a result; returns whether the endpoint is healthy by now.
    fn note(&mut self, passed: bool) -> bool {
        if passed == self.healthy {
            self.against = 0;
            return self.healthy;
        }
        self.against += 1;
        if self.against >= if passed { self.to_heal } else { self.to_fail } {
            self.healthy = passed;
            self.against = 0;
        }
        self.healthy
    }
}

impl Checks {
    fn new(fleet: &Weak<Fleet>, known: &Known, check: &HealthCheck) -> Self {
        let address = &known.endpoint.address;
        let config = fleet.upgrade().map(|fleet| fleet.config().clone());
        let security = config.as_ref().map(Security::of).unwrap_or_default();
        let authority = config.map_or_else(|| Arc::clone(address), |config| config.authority_of(address));
        let origin = authority.parse().ok().map(|authority| Origin { scheme: security.scheme(), authority });
        let healthy = !known.standing.has(Fault::Unhealthy);
        Self {
            fleet: Weak::clone(fleet),
            known: known.clone(),
            check: check.clone(),
            security,
            origin,
            judge: Judge { healthy, against: 0, to_heal: check.healthy_threshold, to_fail: check.unhealthy_threshold },
            line: None,
        }
    }

    async fn run(mut self) {
        while self.fleet.strong_count() > 0 {
            let result = match self.check.probe.clone() {
                Probe::Tcp => {
                    let connecting = TcpStream::connect(&*self.known.endpoint.address);
                    match timeout(self.check.timeout, connecting).await {
                        Ok(connected) => connected.map(drop).map_err(|error| error.to_string()),
                        Err(_) => Err(too_long(self.check.timeout)),
                    }
                }
                Probe::Grpc { service, watch: false } => self.ask(&service).await,
                // Returns when the watch is over.
                Probe::Grpc { service, watch: true } => self.follow(&service).await,
            };
            let healthy = self.judge.note(result.is_ok());
            self.tell(healthy, &result);
            self.pause().await;
        }
    }

    /// Waits until the next check; the connection is driven meanwhile.
    async fn pause(&mut self) {
        let interval = self.check.interval;
        let interval = if self.judge.healthy { interval } else { interval.min(WHILE_UNHEALTHY) };
        // Less up to a tenth, so that checks of many endpoints do not come together.
        let mut pause = pin!(sleep(interval.mul_f64(1.0 - fastrand::f64() / 10.0)));
        if let Some(driver) = self.line.as_mut().and_then(|line| line.driver.as_mut()) {
            tokio::select! {
                () = &mut pause => return,
                () = driver => self.line = None,
            }
        }
        pause.await;
    }

    /// Counts the result of a check, and tells the balancers when it changes something.
    fn tell(&self, healthy: bool, result: &Result<(), String>) {
        let Some(fleet) = self.fleet.upgrade() else { return };
        let metrics = fleet.metrics();
        if result.is_ok() { &metrics.checks_passed } else { &metrics.checks_failed }.add(1);
        if !self.known.standing.set(Fault::Unhealthy, !healthy, Instant::now()) {
            return;
        }
        fleet.count();
        let (upstream, endpoint) = (&fleet.config().name, &self.known.endpoint.address);
        match result {
            Ok(()) => tracing::info!(%upstream, %endpoint, "endpoint is healthy"),
            Err(why) => tracing::warn!(%upstream, %endpoint, why, "endpoint is unhealthy"),
        }
    }

    /// Asks once, over the connection that is there or a new one.
    async fn ask(&mut self, service: &str) -> Result<(), String> {
        let (kept, origin) = (self.line.take(), self.origin()?);
        let asking = async {
            let mut line = match kept {
                Some(line) => line,
                None => Line::new(&self.security, &self.known.endpoint.address).await?,
            };
            let mut exchange = line.open(origin, CHECK, service).await?;
            let answer = line.drive(exchange.receive()).await?;
            Ok((line, verdict(answer)))
        };
        let (line, verdict) =
            timeout(self.check.timeout, asking).await.unwrap_or_else(|_| Err(too_long(self.check.timeout)))?;
        self.line = Some(line).filter(|line| line.driver.is_some());
        verdict
    }

    /// Lets the endpoint tell, for as long as it does. What it says holds at once, without thresholds; in between it is
    /// asked for a sign of life.
    async fn follow(&mut self, service: &str) -> Result<(), String> {
        let origin = self.origin()?;
        let opening = async {
            let mut line = Line::new(&self.security, &self.known.endpoint.address).await?;
            let exchange = line.open(origin, WATCH, service).await?;
            Ok((line, exchange))
        };
        let slow = || too_long(self.check.timeout);
        let (mut line, mut exchange) = timeout(self.check.timeout, opening).await.unwrap_or_else(|_| Err(slow()))?;
        let mut patience = self.check.timeout;
        loop {
            let Ok(told) = timeout(patience, line.drive(exchange.receive())).await else {
                if exchange.answered() == 0 {
                    return Err(slow());
                }
                timeout(self.check.timeout, line.ping()).await.unwrap_or_else(|_| Err(slow()))?;
                continue;
            };
            let told = told?;
            let verdict = match told {
                // Once it has answered, the end of a watch is only that.
                Err(error) if exchange.answered() > 0 => return Err(error.to_string()),
                told => verdict(told),
            };
            if exchange.answered() == 0 {
                return verdict;
            }
            self.judge.healthy = verdict.is_ok();
            self.judge.against = 0;
            self.tell(self.judge.healthy, &verdict);
            patience = self.check.interval;
        }
    }

    fn origin(&self) -> Result<&Origin, String> {
        self.origin.as_ref().ok_or_else(|| format!("{} cannot be an authority", self.known.endpoint.address))
    }
}

impl Line {
    async fn new(security: &Security, address: &str) -> Result<Self, String> {
        let stream = security.connect(address).await.map_err(|error| error.to_string())?;
        let (sender, mut connection) = h2::client::Builder::new()
            .enable_push(false)
            .max_header_list_size(16 << 10)
            .handshake::<_, Bytes>(stream)
            .await
            .map_err(|error| error.to_string())?;
        let pings = connection.ping_pong();
        let driver = Box::pin(async move {
            // How it ended, the call tells as well.
            connection.await.ok();
        });
        Ok(Self { sender, driver: Some(driver), pings })
    }

    /// Asks for the health of a service.
    async fn open(&mut self, origin: &Origin, path: &'static str, service: &str) -> Result<Exchange, String> {
        let opening = Exchange::open(self.sender.clone(), origin, path);
        let mut exchange = self.drive(opening).await?.map_err(|error| error.to_string())?;
        exchange.send(&HealthCheckRequest { service: service.to_owned() });
        exchange.finish();
        Ok(exchange)
    }

    /// Waits for something that needs the connection.
    async fn drive<T>(&mut self, future: impl Future<Output = T>) -> Result<T, String> {
        let mut future = pin!(future);
        if let Some(driver) = &mut self.driver {
            tokio::select! {
                biased;
                done = &mut future => return Ok(done),
                () = driver => self.driver = None,
            }
        }
        // What came before the connection ended is still to be read.
        timeout(Duration::ZERO, future).await.map_err(|_| "the connection broke".to_owned())
    }

    /// Waits for a sign of life.
    async fn ping(&mut self) -> Result<(), String> {
        let Some(mut pings) = self.pings.take() else { return Ok(()) };
        let answer = self.drive(pings.ping(Ping::opaque())).await?;
        self.pings = Some(pings);
        answer.map(drop).map_err(|error| error.to_string())
    }
}

fn too_long(timeout: Duration) -> String {
    format!("no answer within {timeout:?}")
}

/// Whether an answer says that the endpoint can take calls, and why not.
fn verdict(answer: Result<HealthCheckResponse, Error>) -> Result<(), String> {
    match answer.map(|answer| answer.status()) {
        Ok(ServingStatus::Serving) | Err(Error::Unimplemented) => Ok(()),
        Ok(status @ (ServingStatus::Unknown | ServingStatus::NotServing | ServingStatus::ServiceUnknown)) => {
            Err(format!("it says {}", status.as_str_name()))
        }
        Err(error) => Err(error.to_string()),
    }
}

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_changes_after_as_many_results_as_the_thresholds_say() {
        let mut judge = Judge { healthy: true, against: 0, to_heal: 2, to_fail: 3 };
        let results = [false, false, true, false, false, false, true, false, true, true, true];

        let states: Vec<_> = results.into_iter().map(|passed| judge.note(passed)).collect();

        let healthy = [true, true, true, true, true, false, false, false, false, true, true];
        assert_eq!(states, healthy);
    }

    #[test]
    fn only_a_server_that_serves_or_has_no_such_service_is_healthy() {
        let says = |status: ServingStatus| verdict(Ok(HealthCheckResponse { status: status.into() }));

        assert!(says(ServingStatus::Serving).is_ok() && verdict(Err(Error::Unimplemented)).is_ok());
        assert_eq!(says(ServingStatus::NotServing), Err("it says NOT_SERVING".to_owned()));
        assert!(says(ServingStatus::Unknown).is_err() && says(ServingStatus::ServiceUnknown).is_err());
        assert!(verdict(Err(Error::NotGrpc(500))).is_err());
    }
}
