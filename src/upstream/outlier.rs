//! Leaves endpoints alone for a while whose calls fail.
//!
//! Three things eject one: failures in a row, noticed by the call that fails; a high rate of failures, and a success rate
//! far below that of the others, noticed at the end of each interval. Each ejection of an endpoint is longer than the one
//! before, and never so many that the rest would be overrun, or none be left. Connections that cannot be made count
//! nowhere: calls pass such endpoints over by themselves, and come back sooner.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

use super::balance::Fault;
use super::fleet::{Fleet, Known};
use crate::config::outliers::OutlierDetection;
use crate::telemetry::metrics::Counter;

/// How the calls of one endpoint went, over the whole process.
#[derive(Debug, Default)]
pub struct Conduct {
    /// Failures since the last success.
    in_row: AtomicU32,
    /// Of each worker.
    tallies: Mutex<Vec<Weak<Tally>>>,
    state: Mutex<State>,
}

/// One worker's count. Aligned so that no other worker's count is beside it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Tally {
    fine: Counter,
    failed: Counter,
}

#[derive(Debug, Default)]
struct State {
    /// How often it was ejected lately, which is for how many times the first ejection it is next.
    ejections: u32,
    /// When it comes back, while it is ejected.
    until: Option<Instant>,
    /// The sums at the end of the last interval.
    seen: Rates,
}

/// Calls of one endpoint in one interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Rates {
    fine: u64,
    failed: u64,
}

impl Conduct {
    /// A count for one more worker.
    pub(super) fn tally(&self) -> Arc<Tally> {
        let tally = Arc::new(Tally::default());
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.retain(|tally| tally.strong_count() > 0);
        tallies.push(Arc::downgrade(&tally));
        tally
    }

    /// Notes how a call ended. Returns how many have failed in a row.
    pub(super) fn note(&self, tally: &Tally, failed: bool) -> u32 {
        if failed {
            tally.failed.add(1);
            return self.in_row.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        }
        tally.fine.add(1);
        // Read first: while all is well nobody writes what others read.
        if self.in_row.load(Ordering::Relaxed) > 0 {
            self.in_row.store(0, Ordering::Relaxed);
        }
        0
    }

    /// When it comes back, if it is ejected.
    pub fn ejected_until(&self) -> Option<Instant> {
        self.state().until
    }

    /// Goes on where another one is. Returns whether the endpoint is ejected.
    pub(super) fn take_over(&self, before: &Self) -> bool {
        let (ejections, until) = {
            let before = before.state();
            (before.ejections, before.until)
        };
        let mut state = self.state();
        (state.ejections, state.until) = (ejections, until);
        until.is_some()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The calls since this was asked the last time. What workers counted that are gone is lost.
    fn interval(&self) -> Rates {
        let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = tallies.iter().filter_map(Weak::upgrade).fold(Rates::default(), |sum, tally| Rates {
            fine: sum.fine + tally.fine.value(),
            failed: sum.failed + tally.failed.value(),
        });
        drop(tallies);
        let seen = std::mem::replace(&mut self.state().seen, sum);
        Rates { fine: sum.fine.saturating_sub(seen.fine), failed: sum.failed.saturating_sub(seen.failed) }
    }
}

/// Ejects an endpoint, unless so many are already that there may be no more.
pub(super) fn eject(fleet: &Fleet, known: &Known, settings: &OutlierDetection, why: &str, now: Instant) {
    let _alone = fleet.ejecting().lock().unwrap_or_else(PoisonError::into_inner);
    known.conduct.in_row.store(0, Ordering::Relaxed);
    let list = fleet.list();
    let usable = || list.members.iter().filter(|member| member.standing.is_usable());
    // Whatever keeps the others from being called: those that are left have their calls.
    let lost = list.members.len() - usable().count();
    let is_last = usable().all(|member| Arc::ptr_eq(&member.standing, &known.standing));
    if known.standing.has(Fault::Ejected) || is_last || lost >= most(settings, list.members.len()) {
        return;
    }
    let mut state = known.conduct.state();
    state.ejections = state.ejections.saturating_add(1);
    let span = settings.base_ejection.saturating_mul(state.ejections).min(settings.longest_ejection);
    state.until = Some(now + span);
    drop(state);
    known.standing.set(Fault::Ejected, true, now);
    fleet.metrics().ejections.add(1);
    fleet.count();
    fleet.ejected().notify_one();
    tracing::warn!(upstream = %fleet.config().name, endpoint = %known.endpoint.address, why, ?span, "endpoint ejected");
}

/// How many of so many endpoints may be ejected at once.
fn most(settings: &OutlierDetection, endpoints: usize) -> usize {
    match endpoints {
        0 | 1 => 0,
        _ => (endpoints * usize::from(settings.max_ejected) / 100).clamp(1, endpoints),
    }
}

/// Lets ejected endpoints come back, and looks at rates, for as long as the fleet is there.
pub(super) fn watch(fleet: &Arc<Fleet>, control: &Handle) {
    if let Some(settings) = fleet.config().outliers.clone() {
        control.spawn(keep(Arc::downgrade(fleet), settings));
    }
}

async fn keep(fleet: Weak<Fleet>, settings: OutlierDetection) {
    let mut tick = Instant::now() + settings.interval;
    loop {
        let Some(notified) = fleet.upgrade().map(|fleet| fleet.ejected().clone()) else { return };
        let due = {
            let Some(fleet) = fleet.upgrade() else { return };
            let list = fleet.list();
            list.members.iter().filter_map(|known| known.conduct.ejected_until()).min()
        };
        tokio::select! {
            () = sleep_until(due.map_or(tick, |due| due.min(tick))) => {}
            () = notified.notified() => continue,
        }
        let Some(fleet) = fleet.upgrade() else { return };
        let now = Instant::now();
        give_back(&fleet, now);
        if now >= tick {
            look(&fleet, &settings, now);
            tick = now + settings.interval;
        }
    }
}

/// Takes those back whose time is over.
fn give_back(fleet: &Fleet, now: Instant) {
    for known in &fleet.list().members {
        let mut state = known.conduct.state();
        if state.until.is_none_or(|until| until > now) {
            continue;
        }
        state.until = None;
        drop(state);
        known.standing.set(Fault::Ejected, false, now);
        fleet.count();
        tracing::info!(upstream = %fleet.config().name, endpoint = %known.endpoint.address, "ejected endpoint is back");
    }
}

/// Ejects by the rates of the interval that is over.
fn look(fleet: &Fleet, settings: &OutlierDetection, now: Instant) {
    let list = fleet.list();
    let rates: Vec<Rates> = list.members.iter().map(|known| known.conduct.interval()).collect();
    let outliers = judge(settings, &rates);
    for (index, why) in &outliers {
        eject(fleet, &list.members[*index], settings, why, now);
    }
    for known in &list.members {
        let mut state = known.conduct.state();
        if state.until.is_none() {
            state.ejections = state.ejections.saturating_sub(1);
        }
    }
}

/// Which endpoints are to be ejected, the worst first, and why. Pure.
fn judge(settings: &OutlierDetection, rates: &[Rates]) -> Vec<(usize, &'static str)> {
    let enough = |rates: &Rates| rates.fine + rates.failed >= settings.minimum_calls;
    let success = |rates: &Rates| rates.fine as f64 / (rates.fine + rates.failed).max(1) as f64;
    let known: Vec<(usize, f64)> = rates
        .iter()
        .enumerate()
        .filter(|(_, rates)| enough(rates))
        .map(|(index, rates)| (index, success(rates)))
        .collect();
    let mut found: Vec<(usize, f64, &'static str)> = Vec::new();
    let failing = settings.failure_rate.map(|rate| 1.0 - f64::from(rate) / 100.0);
    // The rate of a few says nothing of what is usual.
    let usual = settings.success_deviation.filter(|_| known.len() >= FEW).map(|tenths| {
        let count = known.len() as f64;
        let mean = known.iter().map(|(_, success)| success).sum::<f64>() / count;
        let variance = known.iter().map(|(_, success)| (success - mean).powi(2)).sum::<f64>() / count;
        mean - variance.sqrt() * f64::from(tenths) / 10.0
    });
    for (index, success) in known {
        if failing.is_some_and(|failing| success <= failing) {
            found.push((index, success, "failure rate"));
        } else if usual.is_some_and(|usual| success < usual && success < NEARLY_ALL) {
            found.push((index, success, "success rate below that of the others"));
        }
    }
    found.sort_by(|one, other| one.1.total_cmp(&other.1));
    found.into_iter().map(|(index, _, why)| (index, why)).collect()
}

/// Endpoints from which on their success rates are compared.
const FEW: usize = 3;
/// A success rate that is never an outlier: where all succeed, the deviation is next to nothing.
const NEARLY_ALL: f64 = 0.99;

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(of: &[(u64, u64)]) -> Vec<Rates> {
        of.iter().map(|(fine, failed)| Rates { fine: *fine, failed: *failed }).collect()
    }

    #[test]
    fn rates_tell_outliers_the_worst_first() {
        let settings = OutlierDetection::default();
        type Case = (&'static [(u64, u64)], &'static [usize]);
        let table: [Case; 7] = [
            (&[(1000, 0), (10, 90), (0, 200)], &[2, 1]),
            (&[(1000, 0), (0, 99)], &[]),
            (&[(1000, 0), (16, 84)], &[]),
            (&[(1000, 5), (1000, 4), (1000, 5), (1000, 6), (700, 300)], &[4]),
            (&[(1000, 0), (1000, 0), (1000, 0), (1000, 0), (999, 1)], &[]),
            (&[(500, 500), (510, 490), (490, 510), (505, 495)], &[]),
            (&[], &[]),
        ];
        for (given, expected) in table {
            let found: Vec<_> = judge(&settings, &rates(given)).into_iter().map(|(index, _)| index).collect();
            assert_eq!(found, expected, "{given:?}");
        }
    }

    #[test]
    fn never_all_are_ejected_and_one_of_several_always_may_be() {
        let settings = OutlierDetection { max_ejected: 50, ..OutlierDetection::default() };
        let few = OutlierDetection { max_ejected: 10, ..OutlierDetection::default() };

        assert_eq!([1, 2, 3, 4, 10].map(|endpoints| most(&settings, endpoints)), [0, 1, 1, 2, 5]);
        assert_eq!([1, 2, 5, 30].map(|endpoints| most(&few, endpoints)), [0, 1, 1, 3]);
    }

    #[test]
    fn a_success_ends_a_row_of_failures() {
        let conduct = Conduct::default();
        let (one, other) = (conduct.tally(), conduct.tally());

        assert_eq!([conduct.note(&one, true), conduct.note(&other, true)], [1, 2]);
        assert_eq!([conduct.note(&one, false), conduct.note(&other, true)], [0, 1]);
        assert_eq!(conduct.interval(), Rates { fine: 1, failed: 3 });
        assert_eq!(conduct.interval(), Rates::default());
    }
}
