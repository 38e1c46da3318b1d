//! Which endpoint a call goes to. Pure: standings, loads and the time are arguments.
//!
//! | policy | a call goes to |
//! |---|---|
//! | peak EWMA | of two drawn by chance, the one that answers sooner, times the calls that it has |
//! | least request | of two drawn by chance, the one with fewer calls |
//! | round robin | each in turn |
//! | random | one drawn by chance |
//! | ring hash, Maglev | the one that the call's key belongs to |
//!
//! Weights count in all of them. Endpoints that cannot be used are passed over, unless so few can that the rest would be
//! overrun: see [`Balancing::panic_threshold`]. Loads and times are those of one worker: two draws need no more than that.

mod hash;
mod latency;
mod standing;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use hash::hash;
use hash::{Maglev, Ring};
use latency::Latency;
pub use standing::{Changes, Fault, Standing};

use crate::config::balancing::{Algorithm, Balancing};

/// What the balancer knows of one endpoint.
#[derive(Debug)]
pub struct Member {
    weight: Cell<u32>,
    zone: Option<Arc<str>>,
    standing: Arc<Standing>,
    active: Cell<u32>,
    latency: Latency,
}

impl Member {
    /// An endpoint without calls; its weight is at least one.
    pub fn new(weight: u32, zone: Option<Arc<str>>, standing: Arc<Standing>) -> Self {
        Self { weight: Cell::new(weight.max(1)), zone, standing, active: Cell::new(0), latency: Latency::default() }
    }

    /// Whether it is in that zone, and stands like that in the whole process.
    pub fn is(&self, zone: Option<&Arc<str>>, standing: &Arc<Standing>) -> bool {
        self.zone.as_ref() == zone && Arc::ptr_eq(&self.standing, standing)
    }

    /// It has another weight from now on, at least one.
    pub fn weigh(&self, weight: u32) {
        self.weight.set(weight.max(1));
    }

    /// A call begins.
    pub fn begin(&self) {
        self.active.set(self.active.get() + 1);
    }

    /// A call ended.
    pub fn end(&self) {
        self.active.set(self.active.get().saturating_sub(1));
    }

    /// It answered after so long.
    pub fn observe(&self, took: Duration, now: Instant) {
        self.latency.observe(took, now);
    }

    /// It failed a call after so long, which never says that it is fast.
    pub fn failed(&self, took: Duration, now: Instant) {
        self.latency.fail(took, now);
    }

    /// It had not answered after so long, which says that it is slow, and never that it is fast.
    pub fn waited(&self, so_far: Duration, now: Instant) {
        if self.latency.seconds(now).is_none_or(|usual| so_far.as_secs_f64() > usual) {
            self.latency.observe(so_far, now);
        }
    }

    /// What one more call costs it.
    fn load(&self) -> f64 {
        f64::from(self.active.get() + 1) / f64::from(self.weight.get())
    }

    /// The same in seconds. Of one that has not answered yet, the first answer is worth the risk and others wait for it.
    fn cost(&self, now: Instant) -> f64 {
        match self.latency.seconds(now) {
            Some(seconds) => seconds * self.load(),
            None if self.active.get() == 0 => 0.0,
            None => f64::MAX,
        }
    }
}

/// Picks endpoints of one upstream for one worker.
#[derive(Debug)]
pub struct Balancer {
    settings: Balancing,
    table: Table,
    next: Cell<u64>,
    usable: RefCell<Usable>,
}

/// For policies that give a key its endpoint.
#[derive(Debug)]
enum Table {
    None,
    Ring(Ring),
    Maglev(Maglev),
}

/// The endpoints that may be called, as of some count of [`Changes`].
#[derive(Debug, Default)]
struct Usable {
    seen: Option<u64>,
    indices: Vec<u32>,
    /// Those of other zones, where calls stay in their own.
    far: Vec<u32>,
    /// Sums of weights up to each; empty when all weigh the same.
    sums: Vec<u64>,
    /// The largest weight, at least one.
    heaviest: u64,
    /// By index: whether it is among them.
    flags: Vec<bool>,
}

impl Balancer {
    /// A balancer over endpoints with these addresses, in the order of the members that [`Self::pick`] will be given.
    pub fn new<'a>(settings: &Balancing, endpoints: impl ExactSizeIterator<Item = (&'a str, u32)> + Clone) -> Self {
        let table = match settings.algorithm {
            Algorithm::RingHash => Table::Ring(Ring::new(&endpoints)),
            Algorithm::Maglev => Table::Maglev(Maglev::new(endpoints)),
            Algorithm::PeakEwma | Algorithm::LeastRequest | Algorithm::RoundRobin | Algorithm::Random => Table::None,
        };
        // Workers and gateways do not begin with the same one.
        let next = Cell::new(fastrand::u64(..) >> 32);
        Self { settings: settings.clone(), table, next, usable: RefCell::default() }
    }

    /// The endpoint for a call, by its index; `None` when none can be used. `key` is what the call hashes to, where the
    /// policy has a use for it; endpoints that were `tried` already are taken only if there is no other.
    pub fn pick<M: AsRef<Member>>(
        &self,
        members: &[M],
        changes: &Changes,
        key: Option<u64>,
        tried: &[usize],
        now: Instant,
    ) -> Option<usize> {
        let usable = &mut *self.usable.borrow_mut();
        let seen = changes.count();
        if usable.seen != Some(seen) || usable.flags.len() != members.len() {
            usable.find(&self.settings, members);
            usable.seen = Some(seen);
        }
        let fresh = |index: &usize| !tried.contains(index);
        let first = usable.indices.first().map(|index| *index as usize);
        if usable.indices.iter().all(|index| tried.contains(&(*index as usize))) {
            return usable.beyond(tried).or(first);
        }
        if usable.indices.len() == 1 {
            return first;
        }
        let candidate = |index: &usize| usable.flags.get(*index).is_some_and(|usable| *usable) && fresh(index);
        // Enough to meet every endpoint of a table, or to find by chance one that was not tried.
        let found = match (&self.table, key) {
            (Table::Ring(ring), Some(key)) => ring.walk(key).find(candidate),
            (Table::Maglev(table), Some(key)) => table.walk(key).take(WALK).find(candidate),
            _ => {
                let draw = || (0..WALK).map(|_| self.draw(usable, members, now)).find(fresh);
                let better = |cost: &dyn Fn(&Member) -> f64| {
                    let first = draw()?;
                    let second = usable.other_than(first, self.draw(usable, members, now)).filter(fresh);
                    let cost = |index: usize| cost(members[index].as_ref());
                    second.filter(|second| cost(*second) < cost(first)).or(Some(first))
                };
                match self.settings.algorithm {
                    // Further attempts of a call do not disturb the turn of others.
                    Algorithm::RoundRobin if tried.is_empty() => Some(self.in_turn(usable, members, now)),
                    Algorithm::LeastRequest => better(&|member| member.load()),
                    Algorithm::PeakEwma => better(&|member| member.cost(now)),
                    Algorithm::RoundRobin | Algorithm::Random | Algorithm::RingHash | Algorithm::Maglev => draw(),
                }
            }
        };
        found.or_else(|| {
            // Where few of a table's endpoints can be used, their keys are not all to go to the first of them.
            let start = usable.indices.len() * usize::from(key.unwrap_or(0).to_be_bytes()[0]) / 256;
            let (before, after) = usable.indices.split_at(start);
            after.iter().chain(before).map(|index| *index as usize).find(fresh)
        })
    }

    /// One by chance, by weight.
    fn draw<M: AsRef<Member>>(&self, usable: &Usable, members: &[M], now: Instant) -> usize {
        let mut index = usable.draw();
        for _ in 0..SLOW_DRAWS {
            if self.is_warm(members[index].as_ref(), now) {
                break;
            }
            index = usable.draw();
        }
        index
    }

    /// The next in turn. Each is passed over in as many rounds as it is lighter than the heaviest: the static stride
    /// scheduler of [gRFC A58](https://github.com/grpc/proposal/blob/master/A58-client-side-weighted-round-robin-lb-policy.md).
    fn in_turn<M: AsRef<Member>>(&self, usable: &Usable, members: &[M], now: Instant) -> usize {
        let count = usable.indices.len() as u64;
        for _ in 0..count * TURNS {
            let turn = self.next.get();
            self.next.set(turn.wrapping_add(1));
            let (place, round) = (turn % count, turn / count);
            let index = usable.indices[usize::try_from(place).unwrap_or(0)] as usize;
            let member = members[index].as_ref();
            // Lighter ones begin at different rounds, so that they do not come together.
            let reached = u64::from(member.weight.get()) * round.wrapping_add(place);
            let due = usable.sums.is_empty() || reached % usable.heaviest < u64::from(member.weight.get());
            if due && self.is_warm(member, now) {
                return index;
            }
        }
        usable.draw()
    }

    /// Whether an endpoint takes the call; one that has not been usable for long takes only a part of its share.
    fn is_warm(&self, member: &Member, now: Instant) -> bool {
        self.settings.slow_start.is_none_or(|window| {
            let passed = member.standing.usable_for(now).as_secs_f64() / window.as_secs_f64();
            fastrand::f64() < passed.max(COLD)
        })
    }
}

impl Usable {
    fn find<M: AsRef<Member>>(&mut self, settings: &Balancing, members: &[M]) {
        let good = |member: &M| member.as_ref().standing.is_usable();
        // Calls that fail now and then are better than none.
        let spares = !members.iter().any(good);
        let usable = |member: &M| good(member) || spares && !member.as_ref().standing.has(Fault::Unhealthy);
        let near = |member: &M| settings.zone.is_some() && member.as_ref().zone == settings.zone;
        let count = members.iter().filter(|member| good(member)).count();
        // None at all is said at once; a few would be overrun by the calls of the rest, of which some may work.
        let panics = count > 0 && count * 100 < usize::from(settings.panic_threshold) * members.len();
        let (here, usable_here) = members
            .iter()
            .filter(|member| near(member))
            .fold((0_usize, 0_usize), |(all, good), member| (all + 1, good + usize::from(usable(member))));
        let stays = !panics && usable_here > 0 && usable_here * 100 >= NEAR_ENOUGH * here;
        self.flags = members.iter().map(|member| (panics || usable(member)) && (!stays || near(member))).collect();
        self.indices = (0..).zip(&self.flags).filter_map(|(index, usable)| usable.then_some(index)).collect();
        let far = (0..).zip(members).filter(|(_, member)| stays && usable(member) && !near(member));
        self.far = far.map(|(index, _)| index).collect();
        let weights = self.indices.iter().map(|index| members[*index as usize].as_ref().weight.get());
        self.heaviest = weights.clone().max().unwrap_or(1).into();
        self.sums = weights
            .scan(0, |sum, weight| {
                *sum += u64::from(weight);
                Some(*sum)
            })
            .collect();
        if self.sums.last().copied().unwrap_or(0) == self.sums.len() as u64 * self.sums.first().copied().unwrap_or(0)
            && self.sums.windows(2).all(|pair| pair[1] - pair[0] == self.sums[0])
        {
            self.sums = Vec::new();
        }
    }

    /// One of another zone that was not tried, by chance.
    fn beyond(&self, tried: &[usize]) -> Option<usize> {
        let (before, after) = self.far.split_at(fastrand::usize(..=self.far.len()));
        after.iter().chain(before).map(|index| *index as usize).find(|index| !tried.contains(index))
    }

    /// A drawn endpoint if it is not the first one, else any other.
    fn other_than(&self, first: usize, drawn: usize) -> Option<usize> {
        if drawn != first {
            return Some(drawn);
        }
        let place = self.indices.iter().position(|index| *index as usize == first)?;
        let others = self.indices.len().checked_sub(1).filter(|others| *others > 0)?;
        let index = self.indices.get((place + 1 + fastrand::usize(..others)) % self.indices.len())?;
        Some(*index as usize)
    }

    fn draw(&self) -> usize {
        let place = match self.sums.last() {
            None => fastrand::usize(..self.indices.len().max(1)),
            Some(total) => {
                let point = fastrand::u64(..*total);
                self.sums.partition_point(|sum| *sum <= point)
            }
        };
        self.indices.get(place).map_or(0, |index| *index as usize)
    }
}

/// Steps to find an endpoint by before all are looked at.
const WALK: usize = 64;
/// Draws that slow start may refuse.
const SLOW_DRAWS: usize = 4;
/// Rounds in which round robin finds an endpoint whatever the weights; then chance decides.
const TURNS: u64 = 128;
/// The least part of its share that an endpoint in slow start gets.
const COLD: f64 = 0.1;
/// The part of a zone's endpoints that must be usable for calls to stay in it, in percent.
const NEAR_ENOUGH: usize = 70;
