//! Asks a rate-limit service whether a call may pass.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::{unary, words};
use crate::config::rate_limit::Service;
use crate::error::{Error, Reason};
use crate::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use crate::pb::envoy::service::ratelimit::v3::RateLimitResponse;
use crate::policy::rate_limit::service::{Judged, SHOULD_RATE_LIMIT, judge, question};
use crate::proxy::call::Call;
use crate::store::Failure;
use crate::store::breaker::Breaker;
use crate::telemetry::stores::{Outcome, StoreMetrics};

/// One worker's view of a service.
#[derive(Debug)]
pub(in crate::proxy) struct Limiter {
    service: Arc<Service>,
    breaker: RefCell<Breaker>,
    metrics: Arc<StoreMetrics>,
}

impl Limiter {
    pub(in crate::proxy) fn new(service: Arc<Service>, metrics: Arc<StoreMetrics>) -> Rc<Self> {
        Rc::new(Self { service, breaker: RefCell::default(), metrics })
    }

    pub(in crate::proxy) fn service(&self) -> &Arc<Service> {
        &self.service
    }

    pub(in crate::proxy) fn metrics(&self) -> &StoreMetrics {
        &self.metrics
    }

    /// What the service says of a call that costs so much, by one descriptor for each limit.
    ///
    /// # Errors
    /// It does not say anything in time, or nothing that decides.
    ///
    /// # Cancel safety
    /// What was asked for may be counted.
    pub(in crate::proxy) async fn ask(
        &self,
        call: &Call,
        descriptors: Vec<RateLimitDescriptor>,
        cost: u32,
        deadline: Option<Instant>,
    ) -> Result<Judged, Failure> {
        let started = Instant::now();
        if !self.breaker.borrow_mut().admits(started) {
            self.metrics.turned_away(Outcome::Open);
            return Err(Failure::Open);
        }
        let full = started + self.service.timeout;
        let until = deadline.map_or(full, |deadline| deadline.min(full));
        let cluster = call.prepared.cluster(self.service.upstream);
        let count = descriptors.len();
        let question = question(&self.service, descriptors, cost);
        let answer: Result<RateLimitResponse, Error> = unary(call, cluster, SHOULD_RATE_LIMIT, &question, until).await;
        let judged = answer.map_err(|error| (failure(&error), words(&error)));
        let judged = judged.and_then(|answer| judge(&answer, count).map_err(|problem| (Failure::Refused, problem)));
        self.observe(judged.as_ref().err(), started, until < full);
        judged.map_err(|(failure, _)| failure)
    }

    fn observe(&self, failed: Option<&(Failure, String)>, started: Instant, short: bool) {
        let outcome = failed.map_or(Outcome::Answered, |(failure, _)| failure.outcome());
        self.metrics.asked(outcome, started.elapsed());
        match failed {
            None => {
                if self.breaker.borrow_mut().succeeded() {
                    tracing::info!(service = %self.service.name, "answers again");
                }
            }
            // Of a call that has less time than the service, nobody can say that the service was slow.
            Some((Failure::Timeout, _)) if short => {}
            Some((failure, problem)) => {
                if self.breaker.borrow_mut().failed(Instant::now(), fastrand::f64()) {
                    let service = &self.service.name;
                    tracing::warn!(%service, %failure, problem, "asked once in a while until it answers again");
                }
            }
        }
    }
}

fn failure(error: &Error) -> Failure {
    if error.reason() == Reason::DeadlineExceeded {
        Failure::Timeout
    } else if matches!(error.reason(), Reason::UpstreamUnreachable | Reason::UpstreamReset) {
        Failure::Unreachable
    } else {
        Failure::Refused
    }
}
