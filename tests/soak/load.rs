//! Steady load: calls of several kinds, so many a second, and what became of each.

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
    /// Unary Connect.
    Connect,
    /// Unary gRPC-Web.
    GrpcWeb,
    /// Unary gRPC over a connection of its own.
    GrpcBrief,
    /// Unary REST over a connection of its own.
    RestBrief,
    /// Unary gRPC that the backend answers with an error.
    GrpcNotFound,
    /// The same over REST.
    RestNotFound,
    /// A request of REST whose JSON is not whole.
    RestRefused,
    /// Unary gRPC that the client gives up before there is a reply.
    GrpcGivenUp,
    /// A stream that it gives up after the first message.
    GrpcStreamGivenUp,
    /// The same over REST, where the connection goes with it.
    RestStreamGivenUp,
}

/// In which proportion calls come that are all to be answered; one connection each.
pub(crate) const MIX: [Kind; 10] = [
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

/// The same of everything, as the traffic of an ordinary day is.
pub(crate) const ALL: [Kind; 20] = [
    Kind::Grpc,
    Kind::Rest,
    Kind::GrpcNotFound,
    Kind::Connect,
    Kind::GrpcOnce,
    Kind::RestBrief,
    Kind::Grpc,
    Kind::RestStream,
    Kind::GrpcGivenUp,
    Kind::Rest,
    Kind::GrpcWeb,
    Kind::GrpcStream,
    Kind::RestNotFound,
    Kind::Grpc,
    Kind::GrpcBrief,
    Kind::Rest,
    Kind::GrpcStreamGivenUp,
    Kind::RestRefused,
    Kind::GrpcStream,
    Kind::RestStreamGivenUp,
];

impl Kind {
    /// Whether it is made by a client of gRPC; the others are HTTP/1.1.
    pub(crate) fn is_grpc(self) -> bool {
        match self {
            Self::Grpc | Self::GrpcOnce | Self::GrpcStream => true,
            Self::GrpcBrief | Self::GrpcNotFound | Self::GrpcGivenUp | Self::GrpcStreamGivenUp => true,
            Self::Rest | Self::RestStream | Self::Connect | Self::GrpcWeb => false,
            Self::RestBrief | Self::RestNotFound | Self::RestRefused | Self::RestStreamGivenUp => false,
        }
    }

    /// Whether each call has a connection of its own.
    fn is_brief(self) -> bool {
        matches!(self, Self::GrpcBrief | Self::RestBrief | Self::RestStreamGivenUp)
    }
}

/// A call that failed, or that was answered in another way than it had to be.
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
    /// Begins so many calls of this mix a second.
    pub(crate) fn start(entry: &Entry, mix: &[Kind], rate: u32) -> Self {
        let (over, begun) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let mut tasks = JoinSet::new();
        let lanes = u32::try_from(mix.len()).expect("few") * AT_ONCE;
        let every = Duration::from_secs(1) * lanes / rate;
        for (number, kind) in (0..).zip(mix.iter().flat_map(|kind| [*kind; AT_ONCE as usize])) {
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
        } else if client.is_over()
            || kind.is_brief()
            || (entry.authority.is_some() && fastrand::usize(..CALLS_IN_TLS) == 0)
        {
            client = Client::connect(&entry, kind).await;
        }
    }
    report
}
