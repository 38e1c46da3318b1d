//! Gateways that share one limit, callers of all of them, and what was let in when.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::backend::pb::SayRequest;
use crate::support::backend::{self, Backend};
use crate::support::gateway::TestGateway;
use crate::support::grpc::{Raw, SAY, framed};

/// Some gateways before one backend.
pub(super) struct Fleet {
    pub(super) gateways: Vec<TestGateway>,
    _backend: Backend,
}

/// A call: when it was sent, when its reply was there, and the reply's code.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    sent: Instant,
    done: Instant,
    pub(super) code: u32,
}

impl Fleet {
    /// So many gateways with this section `redis` and this limit, which all of them share.
    pub(super) async fn start(count: usize, redis: &str, limit: &str) -> Self {
        let backend = backend::start().await;
        let set = concat!(env!("OUT_DIR"), "/test/echo.binpb");
        let yaml = format!(
            "upstreams: [ {{ name: echo, endpoints: [\"{}\"], schema: {{ descriptor_set: \"{set}\" }} }} ]\n\
             redis: {redis}\npolicies: [ {{ match: \"*\", rate_limits: [ {limit} ] }} ]\n",
            backend.address
        );
        let mut gateways = Vec::new();
        for _ in 0..count {
            gateways.push(TestGateway::start(&yaml).await);
        }
        Self { gateways, _backend: backend }
    }

    /// Calls every gateway over `callers` connections each, until `calls` were made over each of them.
    pub(super) async fn call(&self, callers: usize, calls: usize) -> Vec<Seen> {
        self.until(callers, move |made, _| made >= calls).await
    }

    /// Calls every gateway over `callers` connections each for that long.
    pub(super) async fn call_for(&self, callers: usize, time: Duration) -> Vec<Seen> {
        let end = Instant::now() + time;
        self.until(callers, move |_, now| now >= end).await
    }

    async fn until(
        &self,
        callers: usize,
        enough: impl Fn(usize, Instant) -> bool + Clone + Send + 'static,
    ) -> Vec<Seen> {
        let mut tasks = tokio::task::JoinSet::new();
        for gateway in &self.gateways {
            for _ in 0..callers {
                let (address, enough) = (gateway.address, enough.clone());
                tasks.spawn(async move {
                    let mut client = Raw::connect(address).await;
                    let mut seen = Vec::new();
                    while !enough(seen.len(), Instant::now()) {
                        let sent = Instant::now();
                        let code = client.call(SAY, &[], framed(&SayRequest::default())).await.code();
                        seen.push(Seen { sent, done: Instant::now(), code });
                    }
                    seen
                });
            }
        }
        tasks.join_all().await.into_iter().flatten().collect()
    }

    /// The sum of a metric over all gateways.
    pub(super) async fn metric(&self, series: &str) -> f64 {
        let mut sum = 0.0;
        for gateway in &self.gateways {
            sum += gateway.metric(series).await;
        }
        sum
    }
}

/// Those that were let in.
pub(super) fn admitted(seen: &[Seen]) -> usize {
    seen.iter().filter(|seen| seen.code == 0).count()
}

/// Asserts that in no time more was let in than a burst and what comes back meanwhile, beside `held`.
pub(super) fn stays_within(seen: &[Seen], burst: usize, per_second: f64, held: usize) {
    let mut passed: Vec<&Seen> = seen.iter().filter(|seen| seen.code == 0).collect();
    passed.sort_by_key(|seen| seen.sent);
    for (index, first) in passed.iter().enumerate() {
        // A call was counted between its beginning and its end; those that are wholly within a time count for it.
        let mut ends: Vec<Instant> = passed[index..].iter().map(|seen| seen.done).collect();
        ends.sort_unstable();
        for (count, end) in ends.iter().enumerate() {
            let time = (*end - first.sent).as_secs_f64();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number of calls")]
            let bound = burst + held + (time * per_second).floor() as usize;
            assert!(count < bound, "{} within {time} s, more than {bound}", count + 1);
        }
    }
}
