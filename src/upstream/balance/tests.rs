//! Calls simulated in virtual time: arrivals, answers and picks; no clock, no sockets.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

const MS: Duration = Duration::from_millis(1);

impl AsRef<Self> for Member {
    fn as_ref(&self) -> &Self {
        self
    }
}

struct Fleet {
    changes: Arc<Changes>,
    members: Vec<Member>,
    balancer: Balancer,
    start: Instant,
}

impl Fleet {
    fn new(settings: &Balancing, weights: &[u32]) -> Self {
        let start = Instant::now();
        let changes = Arc::new(Changes::default());
        let standing = || Arc::new(Standing::new(Arc::clone(&changes), start));
        let members = weights.iter().map(|weight| Member::new(*weight, None, standing())).collect();
        let names: Vec<String> = (0..weights.len()).map(|n| format!("10.0.0.{n}:50051")).collect();
        let balancer = Balancer::new(settings, names.iter().map(String::as_str).zip(weights.iter().copied()));
        Self { changes, members, balancer, start }
    }

    fn of(algorithm: Algorithm, weights: &[u32]) -> Self {
        Self::new(&Balancing { algorithm, ..Balancing::default() }, weights)
    }

    fn pick(&self, key: Option<u64>, tried: &[usize], now: Instant) -> Option<usize> {
        self.balancer.pick(&self.members, &self.changes, key, tried, now)
    }

    /// Sends `calls`, one each `every`, each of which takes what `service` says of its endpoint. Returns how long each
    /// call took, sorted, and how many each endpoint had.
    fn run(&self, calls: u32, every: Duration, service: impl Fn(usize) -> Duration) -> (Vec<Duration>, Vec<u32>) {
        self.run_with(calls, every, service, |_| false)
    }

    /// The same where some endpoints answer each call by a failure.
    fn run_with(
        &self,
        calls: u32,
        every: Duration,
        service: impl Fn(usize) -> Duration,
        fails: impl Fn(usize) -> bool,
    ) -> (Vec<Duration>, Vec<u32>) {
        let mut under_way = BinaryHeap::new();
        let (mut times, mut counts) = (Vec::new(), vec![0; self.members.len()]);
        for call in 0..calls {
            let now = self.start + every * call;
            while let Some(Reverse((end, began, index))) = under_way.peek().copied() {
                if end > now {
                    break;
                }
                under_way.pop();
                let member: &Member = &self.members[index];
                member.end();
                match fails(index) {
                    true => member.failed(end - began, end),
                    false => member.observe(end - began, end),
                }
            }
            let index = self.pick(None, &[], now).unwrap();
            self.members[index].begin();
            let took = service(index);
            counts[index] += 1;
            times.push(took);
            under_way.push(Reverse((now + took, now, index)));
        }
        times.sort_unstable();
        (times, counts)
    }
}

/// Ten milliseconds, more or less, as services take them.
fn usual() -> Duration {
    (10 * MS).mul_f64(0.5 - (1.0 - fastrand::f64()).ln() / 2.0)
}

fn p99(times: &[Duration]) -> Duration {
    times[times.len() * 99 / 100]
}

#[test]
fn one_slow_endpoint_of_five_hardly_shows_under_peak_ewma() {
    fastrand::seed(7);
    let fast = Fleet::of(Algorithm::PeakEwma, &[1; 5]).run(60_000, MS, |_| usual());
    let slow = |algorithm| {
        let fleet = Fleet::of(algorithm, &[1; 5]);
        fleet.run(60_000, MS, |index| if index == 0 { 20 * usual() } else { usual() })
    };
    let (with, counts) = slow(Algorithm::PeakEwma);
    let (turns, _) = slow(Algorithm::RoundRobin);

    assert!(p99(&with) < p99(&fast.0).mul_f64(1.5), "{:?} {:?} {counts:?}", p99(&with), p99(&fast.0));
    assert!(p99(&turns) > 5 * p99(&fast.0));
    assert!(counts[0] > 0, "a slow endpoint is asked now and then: {counts:?}");
}

#[test]
fn every_policy_is_fair_by_weight() {
    fastrand::seed(8);
    for algorithm in [Algorithm::PeakEwma, Algorithm::LeastRequest, Algorithm::RoundRobin, Algorithm::Random] {
        for weights in [&[1, 1, 1, 1][..], &[1, 2, 1, 4]] {
            let (_, counts) = Fleet::of(algorithm, weights).run(40_000, MS, |_| usual());
            let total: u32 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(weights) {
                let fair = 40_000.0 * f64::from(*weight) / f64::from(total);
                let off = (f64::from(*count) / fair - 1.0).abs();
                assert!(off < 0.25, "{algorithm:?} {weights:?} {counts:?}");
            }
        }
    }
}

#[test]
fn round_robin_takes_each_in_turn() {
    let fleet = Fleet::of(Algorithm::RoundRobin, &[1; 3]);
    let picks: Vec<_> = (0..9).map(|_| fleet.pick(None, &[], fleet.start).unwrap()).collect();
    let first = picks[0];

    assert_eq!(picks, (0..9).map(|turn| (first + turn) % 3).collect::<Vec<_>>());
}

#[test]
fn faulty_endpoints_are_passed_over_unless_most_are_faulty() {
    let fleet = Fleet::of(Algorithm::Random, &[1; 4]);
    let picks = || (0..200).map(|_| fleet.pick(None, &[], fleet.start)).collect::<std::collections::BTreeSet<_>>();
    let fail = |index: usize, fault| fleet.members[index].standing.set(fault, true, fleet.start);

    fail(0, Fault::Ejected);
    fail(3, Fault::Unhealthy);
    assert_eq!(picks(), [Some(1), Some(2)].into());
    fail(1, Fault::Unhealthy);
    assert_eq!(picks(), [Some(0), Some(1), Some(2), Some(3)].into());
    fail(2, Fault::Unhealthy);
    assert_eq!(picks(), [Some(0)].into(), "calls that fail are better than none");
    fail(0, Fault::Unhealthy);
    assert_eq!(picks(), [None].into());
    fleet.members[1].standing.set(Fault::Unhealthy, false, fleet.start);
    fleet.members[2].standing.set(Fault::Unhealthy, false, fleet.start);
    assert_eq!(picks(), [Some(1), Some(2)].into());
}

#[test]
fn an_endpoint_that_was_tried_is_taken_last() {
    for algorithm in [
        Algorithm::PeakEwma,
        Algorithm::LeastRequest,
        Algorithm::RoundRobin,
        Algorithm::Random,
        Algorithm::RingHash,
        Algorithm::Maglev,
    ] {
        let fleet = Fleet::of(algorithm, &[1, 1000, 1]);
        for key in [None, Some(hash(b"someone"))] {
            let mut tried = Vec::new();
            for _ in 0..3 {
                let index = fleet.pick(key, &tried, fleet.start).unwrap();
                assert!(!tried.contains(&index), "{algorithm:?} {tried:?}");
                tried.push(index);
            }
            assert!(fleet.pick(key, &tried, fleet.start).is_some(), "{algorithm:?}");
        }
    }
}

#[test]
fn a_key_keeps_its_endpoint_and_gets_it_back() {
    for algorithm in [Algorithm::RingHash, Algorithm::Maglev] {
        let fleet = Fleet::of(algorithm, &[1; 5]);
        let key = Some(hash(b"user-17"));
        let own = fleet.pick(key, &[], fleet.start).unwrap();
        let standing = &fleet.members[own].standing;

        standing.set(Fault::Ejected, true, fleet.start);
        let other = fleet.pick(key, &[], fleet.start).unwrap();
        assert_ne!(other, own);
        assert_eq!(fleet.pick(key, &[], fleet.start), Some(other));
        standing.set(Fault::Ejected, false, fleet.start);
        assert_eq!(fleet.pick(key, &[], fleet.start), Some(own));
    }
}

#[test]
fn an_endpoint_that_comes_back_starts_slowly() {
    fastrand::seed(9);
    for algorithm in [Algorithm::PeakEwma, Algorithm::LeastRequest, Algorithm::RoundRobin, Algorithm::Random] {
        let settings = Balancing { algorithm, slow_start: Some(1000 * MS), ..Balancing::default() };
        let fleet = Fleet::new(&settings, &[1; 4]);
        let back = fleet.start + 10_000 * MS;
        fleet.members[0].standing.set(Fault::Unhealthy, true, fleet.start);
        fleet.members[0].standing.set(Fault::Unhealthy, false, back);
        let share = |now| {
            let picks = (0..4000).filter(|_| fleet.pick(None, &[], now) == Some(0)).count();
            picks as f64 / 4000.0
        };

        if algorithm != Algorithm::PeakEwma && algorithm != Algorithm::LeastRequest {
            assert!(share(back) < 0.06, "{algorithm:?} {}", share(back));
        }
        assert!(share(back) < share(back + 1000 * MS), "{algorithm:?}");
    }
}

#[test]
fn calls_stay_in_their_zone_while_enough_of_it_can_be_used() {
    let zone: Arc<str> = "a".into();
    let mut fleet = Fleet::new(
        &Balancing { zone: Some(zone.clone()), algorithm: Algorithm::Random, ..Balancing::default() },
        &[1; 8],
    );
    for member in &mut fleet.members[..4] {
        member.zone = Some(zone.clone());
    }
    let picks =
        || (0..400).filter_map(|_| fleet.pick(None, &[], fleet.start)).collect::<std::collections::BTreeSet<_>>();

    assert_eq!(picks(), [0, 1, 2, 3].into());
    fleet.members[0].standing.set(Fault::Ejected, true, fleet.start);
    assert_eq!(picks(), [1, 2, 3].into());
    fleet.members[1].standing.set(Fault::Ejected, true, fleet.start);
    assert_eq!(picks(), [2, 3, 4, 5, 6, 7].into());
}

#[test]
fn the_other_zones_are_asked_when_all_endpoints_of_the_own_one_were_tried() {
    let zone = |name: &str| Some(Arc::from(name));
    let settings = Balancing { zone: zone("a"), ..Balancing::default() };
    let mut fleet = Fleet::new(&settings, &[1; 4]);
    for (index, name) in ["a", "a", "b", "b"].into_iter().enumerate() {
        fleet.members[index].zone = zone(name);
    }
    let pick = |tried: &[usize]| fleet.pick(None, tried, fleet.start).unwrap();

    assert!(pick(&[]) < 2 && pick(&[0]) == 1);
    assert!(pick(&[0, 1]) >= 2);
    assert_eq!((pick(&[0, 1, 2]), pick(&[0, 1, 3])), (3, 2));
    assert!([0, 1].contains(&pick(&[0, 1, 2, 3])));
}

#[test]
fn an_endpoint_that_fails_fast_gets_no_more_calls_than_the_others() {
    fastrand::seed(11);
    let fleet = Fleet::of(Algorithm::PeakEwma, &[1; 5]);
    let failing = |index: usize| index == 0;

    let (_, counts) = fleet.run_with(20_000, MS, |index| if failing(index) { MS / 10 } else { usual() }, failing);

    assert!(counts[0] <= 20_000 / 4, "{counts:?}");
    assert!(counts[0] > 0, "it is asked now and then: {counts:?}");
}

#[test]
fn keys_of_endpoints_that_cannot_be_used_spread_over_those_that_can() {
    let fleet = Fleet::of(Algorithm::Maglev, &[1; 1000]);
    let settings = Balancing { algorithm: Algorithm::Maglev, panic_threshold: 0, ..Balancing::default() };
    let fleet = Fleet { balancer: Fleet::new(&settings, &[1; 1000]).balancer, ..fleet };
    for member in &fleet.members[..997] {
        member.standing.set(Fault::Unhealthy, true, fleet.start);
    }

    let mut counts = [0; 3];
    for key in 0..3000_u64 {
        counts[fleet.pick(Some(hash(&key.to_be_bytes())), &[], fleet.start).unwrap() - 997] += 1;
    }

    assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
}
