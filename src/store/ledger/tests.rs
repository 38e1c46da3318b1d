//! What the ledger knows, and the bound that it keeps, for one gateway and for several.

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);
const KEY: &[u8] = b"key";

/// What is counted elsewhere.
#[derive(Default)]
struct Remote {
    arrival: u64,
    questions: usize,
}

impl Remote {
    fn ask(&mut self, terms: Terms, more: u64, now: u64) -> (u64, bool) {
        self.questions += 1;
        let debt = self.arrival.saturating_sub(now);
        let taken = debt + terms.price() <= terms.capacity;
        if taken {
            let after = debt + terms.price();
            self.arrival = now + after + more.min((terms.capacity - after) / terms.interval) * terms.interval;
        }
        (debt, taken)
    }
}

/// A call at a gateway at that time. Returns whether it was let in.
fn call(ledger: &Ledger, remote: &mut Remote, terms: Terms, begun: Instant, at: Duration) -> bool {
    let now = begun + at;
    match ledger.look(KEY, terms, now) {
        Known::Paid(_) => true,
        Known::Refused(_) => false,
        Known::Ask(more) => {
            let (debt, taken) = remote.ask(terms, more, u64::try_from(at.as_nanos()).unwrap());
            ledger.note(KEY, terms, Told { more, debt, taken, asked: now });
            taken
        }
    }
}

fn terms(interval: Duration, burst: u64, cost: u64, most: u64) -> Terms {
    let interval = u64::try_from(interval.as_nanos()).unwrap();
    Terms { interval, capacity: interval * burst, cost, most }
}

#[test]
fn asks_seldom_for_who_comes_often() {
    let (ledger, mut remote, begun) = (Ledger::default(), Remote::default(), Instant::now());
    let terms = terms(MS, 1000, 1, 100);

    let admitted = (0..2000).filter(|turn| call(&ledger, &mut remote, terms, begun, MS * *turn)).count();

    assert_eq!(admitted, 2000);
    assert!(remote.questions < 40, "{} questions", remote.questions);
}

#[test]
fn takes_nothing_in_advance_for_who_comes_seldom() {
    let (ledger, mut remote, begun) = (Ledger::default(), Remote::default(), Instant::now());
    let terms = terms(Duration::from_hours(1), 100, 1, 50);

    for turn in 0..100 {
        assert!(call(&ledger, &mut remote, terms, begun, LIFETIME * turn), "call {turn}");
    }

    assert_eq!(remote.questions, 100);
}

#[test]
fn does_not_ask_again_before_there_can_be_room() {
    let (ledger, mut remote, begun) = (Ledger::default(), Remote::default(), Instant::now());
    let terms = terms(100 * MS, 3, 1, 0);

    let admitted: Vec<u32> = (0..1000).filter(|turn| call(&ledger, &mut remote, terms, begun, MS * *turn)).collect();

    assert_eq!(admitted, [0, 1, 2, 100, 200, 300, 400, 500, 600, 700, 800, 900]);
    assert!(remote.questions <= 30, "{} questions", remote.questions);
}

#[test]
fn believes_a_refusal_for_a_second_at_most() {
    let (ledger, begun) = (Ledger::default(), Instant::now());
    let terms = terms(Duration::from_hours(1), 1, 1, 0);

    ledger.note(KEY, terms, Told { more: 0, debt: terms.capacity, taken: false, asked: begun });

    assert!(matches!(ledger.look(KEY, terms, begun + 999 * MS), Known::Refused(_)));
    assert_eq!(ledger.look(KEY, terms, begun + 1000 * MS), Known::Ask(0));
}

#[test]
fn one_at_a_time_asks_for_more() {
    let (ledger, begun) = (Ledger::default(), Instant::now());
    let terms = terms(MS, 1000, 1, 64);
    ledger.note(KEY, terms, Told { more: 0, debt: 0, taken: true, asked: begun });

    assert_eq!([0, 1, 2].map(|_| ledger.look(KEY, terms, begun)), [Known::Ask(1), Known::Ask(0), Known::Ask(0)]);
    ledger.note(KEY, terms, Told { more: 0, debt: 0, taken: true, asked: begun });
    assert_eq!(ledger.look(KEY, terms, begun), Known::Ask(0), "another answer does not end it");
    ledger.note(KEY, terms, Told { more: 1, debt: 0, taken: true, asked: begun });
    assert!(matches!(ledger.look(KEY, terms, begun), Known::Paid(_)));
    assert_eq!(ledger.look(KEY, terms, begun), Known::Ask(2));
}

#[test]
fn puts_back_what_was_not_needed() {
    let (ledger, begun) = (Ledger::default(), Instant::now());
    let terms = terms(MS, 10, 1, 1);
    ledger.note(KEY, terms, Told { more: 1, debt: 0, taken: true, asked: begun });

    for _ in 0..3 {
        assert!(matches!(ledger.look(KEY, terms, begun), Known::Paid(_)));
        ledger.put_back(KEY, terms);
    }
}

#[test]
fn remembers_no_more_callers_than_it_may() {
    let (ledger, begun) = (Ledger::default(), Instant::now());
    let terms = terms(MS, 10, 1, 1);

    for number in 0..SHARDS * MAX_ACCOUNTS * 2 {
        ledger.note(&number.to_be_bytes(), terms, Told { more: 1, debt: 0, taken: true, asked: begun });
    }

    let known = |ledger: &Ledger| ledger.shards.iter().map(|shard| shard.0.lock().unwrap().known.len()).sum::<usize>();
    assert!(known(&ledger) <= SHARDS * MAX_ACCOUNTS);
    for number in 0..SHARDS * 16 {
        let asked = begun + LIFETIME * 2;
        ledger.note(&number.to_le_bytes(), terms, Told { more: 1, debt: 0, taken: true, asked });
    }
    assert!(known(&ledger) <= SHARDS * 17, "the old ones are gone");
}

proptest! {
    /// The promise of the module, for any arrivals at any of some gateways.
    #[test]
    fn lets_in_no_more_than_the_bound_in_any_time(
        burst in 1..40_u64,
        interval in 1..300_u64,
        most in 0..20_u64,
        gateways in 1..5_usize,
        calls in prop::collection::vec((0..40_u64, 0..5_usize, 1..3_u64), 1..400),
    ) {
        let ledgers: Vec<Ledger> = (0..gateways).map(|_| Ledger::default()).collect();
        let (mut remote, begun, mut at) = (Remote::default(), Instant::now(), 0);
        let mut admitted: Vec<(u64, u64)> = Vec::new();
        for (pause, gateway, cost) in calls {
            at += pause;
            let interval = u32::try_from(interval).unwrap() * MS;
            let terms = terms(interval, burst, cost.min(burst), most.min(burst));
            let ledger = &ledgers[gateway % gateways];
            if call(ledger, &mut remote, terms, begun, Duration::from_millis(at)) {
                admitted.push((at, terms.cost));
            }
        }

        for from in 0..admitted.len() {
            let mut total = 0;
            for (until, cost) in &admitted[from..] {
                total += cost;
                let bound = burst + (until - admitted[from].0) / interval + gateways as u64 * most.min(burst);
                prop_assert!(total <= bound, "{total} > {bound} from {} to {until}", admitted[from].0);
            }
        }
    }
}

#[test]
fn never_has_more_here_than_the_most() {
    let (ledger, begun) = (Ledger::default(), Instant::now());
    let terms = terms(MS, 1000, 1, 64);

    // Of two questions that both asked for more.
    for _ in 0..2 {
        ledger.note(KEY, terms, Told { more: 64, debt: 0, taken: true, asked: begun });
    }

    let here = (0..200).take_while(|_| matches!(ledger.look(KEY, terms, begun), Known::Paid(_))).count();
    assert_eq!(here, 64);
}
