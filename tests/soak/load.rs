//! Steady load: REST and gRPC, unary and streams, so many calls a second, and what became of each.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};

use crate::client::Client;
use crate::tls::Authority;

/// How a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Unary gRPC of a method that may be called twice.
    Grpc,
    /// Unary gRPC of one that may not.
    GrpcOnce,
    /// A stream of five messages.
    GrpcStream,
    /// Unary REST of a method that may be called twice.
    Rest,
    /// A stream of five messages as NDJSON.
    RestStream,
}

/// In which proportion they come; one connection each.
const MIX: [Kind; 10] = [
    Kind::Grpc,
    Kind::Rest,
    Kind::Grpc,
    Kind::Rest,
    Kind::GrpcOnce,
    Kind::Grpc,
    Kind::Rest,
    Kind::GrpcStream,
    Kind::Rest,
    Kind::RestStream,
];

/// A call that failed.
#[derive(Debug, Clone)]
pub(crate) struct Loss {
    pub(crate) kind: Kind,
    /// When it ended, after the load began.
    pub(crate) at: Duration,
    pub(crate) why: String,
}

/// What became of the calls.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) calls: BTreeMap<Kind, usize>,
    pub(crate) losses: Vec<Loss>,
    pub(crate) lasted: Duration,
}

/// Where the calls go.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) gateway: SocketAddr,
    /// Whose certificates are trusted, where it is in TLS.
    pub(crate) authority: Option<Arc<Authority>>,
}

/// Load that runs.
pub(crate) struct Load {
    tasks: JoinSet<Report>,
    over: Arc<AtomicBool>,
    pub(crate) begun: Instant,
}

/// Calls that one connection has under way at most, so that a stalled call does not hold up the others.
const AT_ONCE: u32 = 4;

/// Calls for which a connection in TLS is used, on the average: certificates are shown to new ones.
const CALLS_IN_TLS: usize = 10;

impl Load {
    /// Begins so many calls a second.
    pub(crate) fn start(entry: &Entry, rate: u32) -> Self {
        let (over, begun) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let mut tasks = JoinSet::new();
        let lanes = u32::try_from(MIX.len()).expect("few") * AT_ONCE;
        let every = Duration::from_secs(1) * lanes / rate;
        for (number, kind) in (0..).zip(MIX.into_iter().flat_map(|kind| [kind; AT_ONCE as usize])) {
            // One after the other, as calls of many clients are.
            let first = begun + every * number / lanes;
            tasks.spawn(lane(entry.clone(), kind, interval_at(first, every), Arc::clone(&over), begun));
        }
        Self { tasks, over, begun }
    }

    /// Lets the calls that run end.
    pub(crate) async fn stop(self) -> Report {
        self.over.store(true, Ordering::Relaxed);
        let mut sum = Report { lasted: self.begun.elapsed(), ..Report::default() };
        for report in self.tasks.join_all().await {
            for (kind, calls) in report.calls {
                *sum.calls.entry(kind).or_default() += calls;
            }
            sum.losses.extend(report.losses);
        }
        sum.losses.sort_by_key(|loss| loss.at);
        sum
    }
}

impl Report {
    /// Calls a second.
    pub(crate) fn rate(&self) -> f64 {
        self.calls.values().sum::<usize>() as f64 / self.lasted.as_secs_f64()
    }
}

/// One call after the other over one connection, each at its time.
async fn lane(entry: Entry, kind: Kind, mut ticks: Interval, over: Arc<AtomicBool>, begun: Instant) -> Report {
    let mut report = Report::default();
    let mut client = Client::connect(&entry, kind).await;
    // Late calls are made up for, so that the rate holds.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !over.load(Ordering::Relaxed) {
        ticks.tick().await;
        *report.calls.entry(kind).or_default() += 1;
        let ended = timeout(Duration::from_secs(10), client.call(kind)).await;
        if let Err(why) = ended.unwrap_or_else(|_| Err("no answer within ten seconds".to_owned())) {
            report.losses.push(Loss { kind, at: begun.elapsed(), why });
            client = Client::connect(&entry, kind).await;
        } else if client.is_over() || (entry.authority.is_some() && fastrand::usize(..CALLS_IN_TLS) == 0) {
            client = Client::connect(&entry, kind).await;
        }
    }
    report
}
