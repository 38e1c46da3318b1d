//! The client of Redis: one for each worker, over one connection of its own, by which its questions go side by side.
//!
//! A question is one run of one script ([`script`]), which takes from all its limits or from none. In a cluster, limits
//! whose keys are on different servers are asked one after the other; what an earlier one gave is given back when a later
//! one refuses. [`link`] keeps the connection.
//!
//! **Invariant**: a question that was not answered may have been counted, but never less is counted than was answered.

mod link;
pub mod script;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};
use smallvec::{SmallVec, smallvec};
use tokio::time::{Instant, timeout_at};

use self::link::Link;
use self::script::Reply;
use super::breaker::Breaker;
use super::{Answer, Charge, Failure};
use crate::config::redis::{Place, Redis as Settings};
use crate::runtime;
use crate::telemetry::stores::{Outcome, StoreMetrics};

/// One worker's client of a Redis.
#[derive(Debug)]
pub struct Redis {
    settings: Arc<Settings>,
    link: Rc<Link>,
    /// One, or in a cluster one for so many neighbouring slots, so that a server which is gone takes no other with it.
    breakers: RefCell<Box<[Breaker]>>,
    waiting: Cell<usize>,
    metrics: Arc<StoreMetrics>,
}

impl Redis {
    /// A client that connects in the background, on this worker.
    pub fn new(settings: Arc<Settings>, metrics: Arc<StoreMetrics>) -> Rc<Self> {
        let breakers = match settings.place {
            Place::Cluster(_) => BUCKETS,
            Place::Server { .. } | Place::Sentinel { .. } => 1,
        };
        Rc::new(Self {
            link: Link::open(Arc::clone(&settings), Arc::clone(&metrics)),
            breakers: RefCell::new(vec![Breaker::default(); breakers].into()),
            waiting: Cell::new(0),
            settings,
            metrics,
        })
    }

    /// What it was made from.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// What is counted of it.
    pub fn metrics(&self) -> &Arc<StoreMetrics> {
        &self.metrics
    }

    /// Takes all charges or none. Waits no longer than the timeout of the settings, and not beyond `deadline`.
    ///
    /// # Errors
    /// There is no answer; what was asked for may have been taken all the same.
    ///
    /// # Cancel safety
    /// What was asked for may be taken.
    pub async fn take(self: &Rc<Self>, charges: &[Charge], deadline: Option<Instant>) -> Result<Answer, Failure> {
        let asked = Instant::now();
        let until = self.until(deadline);
        let groups = self.groups(charges);
        let mut debts: SmallVec<[Option<u64>; 4]> = smallvec![None; charges.len()];
        for (number, group) in groups.iter().enumerate() {
            let reply = self.ask(&chosen(charges, group), until).await;
            // What refuses nothing keeps no call waiting that the others have let in.
            if reply.is_err() && number > 0 && group.iter().all(|index| charges[*index].shadow) {
                continue;
            }
            if !reply.as_ref().is_ok_and(|reply| reply.taken) {
                let taken = groups.iter().take(number).flatten();
                let now = Instant::now();
                self.give_back(taken.filter_map(|index| charges[*index].undone(debts[*index]?, asked, now)).collect());
            }
            let reply = reply?;
            for (index, debt) in group.iter().zip(reply.debts) {
                debts[*index] = Some(debt);
            }
            if !reply.taken {
                return Ok(Answer { taken: false, debts });
            }
        }
        Ok(Answer { taken: true, debts })
    }

    /// Gives back, in the background: charges of a negative cost. What cannot be given back is lost to the caller until it is
    /// paid off.
    pub fn give_back(self: &Rc<Self>, charges: Vec<Charge>) {
        if charges.is_empty() {
            return;
        }
        let this = Rc::clone(self);
        runtime::spawn("redis refund", async move {
            for group in this.groups(&charges) {
                this.ask(&chosen(&charges, &group), this.until(None)).await.ok();
            }
        });
    }

    /// Until when a question may wait that begins now.
    fn until(&self, deadline: Option<Instant>) -> Instant {
        let full = Instant::now() + self.settings.timeout;
        deadline.map_or(full, |deadline| deadline.min(full))
    }

    /// The charges, by number, that one server can take together; last those that refuse nothing.
    fn groups(&self, charges: &[Charge]) -> SmallVec<[SmallVec<[usize; 4]>; 1]> {
        let Place::Cluster(_) = self.settings.place else { return smallvec![(0..charges.len()).collect()] };
        let mut groups: SmallVec<[SmallVec<[usize; 4]>; 1]> = SmallVec::new();
        for (index, charge) in charges.iter().enumerate() {
            let slot = slot(&charge.key);
            let same = groups.iter_mut().find(|group| slot == self::slot(&charges[group[0]].key));
            match same {
                Some(group) => group.push(index),
                None => groups.push(smallvec![index]),
            }
        }
        groups.sort_by_key(|group| group.iter().all(|index| charges[*index].shadow));
        groups
    }

    async fn ask(&self, charges: &[&Charge], until: Instant) -> Result<Reply, Failure> {
        if self.waiting.get() >= MAX_WAITING {
            return Err(self.turn_away(Failure::Busy));
        }
        let bucket = self.bucket(charges);
        let started = Instant::now();
        if !self.breakers.borrow_mut()[bucket].admits(started) {
            return Err(self.turn_away(Failure::Open));
        }
        let _waiting = Waiting::begin(&self.waiting);
        let reply = timeout_at(until, self.exchange(charges)).await.unwrap_or(Err(Failure::Timeout));
        self.metrics
            .asked(reply.as_ref().err().map_or(Outcome::Answered, |failure| failure.outcome()), started.elapsed());
        match &reply {
            Ok(_) => {
                if self.breakers.borrow_mut()[bucket].succeeded() {
                    tracing::info!(redis = %self.settings.place, "answers again");
                }
            }
            // Where little of its time was left, nobody can say that Redis was slow.
            Err(Failure::Timeout) if until < started + self.settings.timeout / 2 => {}
            // The link has its own way of waiting, by which it is noticed at once when it is back.
            Err(Failure::Unreachable | Failure::Open | Failure::Busy) => {}
            Err(failure @ (Failure::Timeout | Failure::Refused)) => self.failed(bucket, *failure),
        }
        reply
    }

    async fn exchange(&self, charges: &[&Charge]) -> Result<Reply, Failure> {
        let mut connection = self.link.connection().await.ok_or(Failure::Unreachable)?;
        let mut value = connection.send(&script::evalsha(charges)).await;
        if value.as_ref().is_err_and(|error| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)) {
            value = connection.send(&script::eval(charges)).await;
        }
        match value {
            Ok(value) => script::reply(&value, charges.len()).ok_or(Failure::Refused),
            Err(error) => Err(self.judge(&error)),
        }
    }

    fn judge(&self, error: &RedisError) -> Failure {
        if error.is_timeout() {
            return Failure::Timeout;
        }
        if error.is_unrecoverable_error() || error.is_io_error() || error.kind() == ErrorKind::ClusterConnectionNotFound
        {
            return Failure::Unreachable;
        }
        tracing::debug!(redis = %self.settings.place, %error, "refused");
        match error.kind() {
            // Another server is the master by now, or the account has changed: a new connection finds out.
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
            | ErrorKind::AuthenticationFailed => self.link.give_up(),
            _ => {}
        }
        Failure::Refused
    }

    fn failed(&self, bucket: usize, failure: Failure) {
        let opened = self.breakers.borrow_mut()[bucket].failed(Instant::now(), fastrand::f64());
        if opened {
            tracing::warn!(redis = %self.settings.place, %failure, "asked once in a while until it answers again");
            // What is sent is perhaps on its way to nowhere.
            if failure == Failure::Timeout {
                self.link.give_up();
            }
        }
    }

    fn turn_away(&self, failure: Failure) -> Failure {
        self.metrics.turned_away(failure.outcome());
        failure
    }

    fn bucket(&self, charges: &[&Charge]) -> usize {
        match (&self.settings.place, charges.first()) {
            (Place::Cluster(_), Some(charge)) => usize::from(slot(&charge.key)) * BUCKETS / usize::from(SLOTS),
            _ => 0,
        }
    }
}

fn chosen<'a>(charges: &'a [Charge], group: &[usize]) -> SmallVec<[&'a Charge; 4]> {
    group.iter().map(|index| &charges[*index]).collect()
}

/// A question that waits for its answer.
struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a Cell<usize>) -> Self {
        waiting.set(waiting.get() + 1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Where a cluster keeps a key (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags>).
fn slot(key: &[u8]) -> u16 {
    let tag = memchr::memchr(b'{', key).and_then(|open| {
        let rest = &key[open + 1..];
        let close = memchr::memchr(b'}', rest).filter(|close| *close > 0)?;
        rest.get(..close)
    });
    crc16::State::<crc16::XMODEM>::calculate(tag.unwrap_or(key)) % SLOTS
}

/// Of a cluster, by its specification.
const SLOTS: u16 = 16_384;
/// Breakers of a cluster. Servers have long runs of slots.
const BUCKETS: usize = 64;
/// Questions of one worker that may wait at once. In the time that they have, a Redis answers more.
const MAX_WAITING: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slots_as_clusters_do() {
        // By CLUSTER KEYSLOT.
        for (key, expected) in [("foo", 12182), ("{foo}.bar", 12182), ("a{foo}{bar}", 12182), ("{}foo", 9500)] {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
    }
}
