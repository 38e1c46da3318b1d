//! The store beside a simple model, and at the bounds of its memory.

use std::sync::Arc;
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::config::rate_limit::{Quota, Unit};
use crate::policy::rate_limit::Gcra;

const SECOND: u64 = 1_000_000_000;

fn rate(count: u32, unit: Unit, burst: u32) -> Gcra {
    Gcra::new(Quota::new(count, unit, Some(burst)).expect("a quota"))
}

fn charge(limit: &str, caller: u64, rate: Gcra) -> Charge<'_> {
    let mut key = Key::new(limit);
    key.push(Some(&caller.to_be_bytes()));
    Charge { limit, key, rate, cost: 1, shadow: false }
}

fn store(memory: usize) -> LocalStore {
    LocalStore::new(memory)
}

proptest! {
    #[test]
    fn several_limits_are_charged_together_or_not_at_all(
        calls in prop::collection::vec((0_u64..200, 0_u64..4, 0_u64..3, 1_u32..4), 1..200),
    ) {
        let store = store(1 << 20);
        let rates = [rate(10, Unit::Second, 5), rate(100, Unit::Minute, 8)];
        let mut model: HashMap<(usize, u64), u64> = HashMap::new();
        let mut now = SECOND;

        for (gap, one, other, cost) in calls {
            now += gap * 1_000_000;
            let callers = [one, other];
            let charges = ["a", "b"].into_iter().zip(rates).zip(callers);
            let charges: Vec<_> =
                charges.map(|((limit, rate), caller)| Charge { cost, ..charge(limit, caller, rate) }).collect();
            let expected: Vec<_> = (0..2).map(|index| {
                rates[index].take(now, model.get(&(index, callers[index])).copied().unwrap_or(0), cost)
            }).collect();
            let all = expected.iter().all(|(_, decision)| decision.allowed);

            let verdict = store.charge(&charges, now);

            prop_assert_eq!(verdict.refused, !all);
            for (index, (arrival, decision)) in expected.into_iter().enumerate() {
                let before = model.get(&(index, callers[index])).copied().unwrap_or(0);
                let told = if !all && decision.allowed { rates[index].peek(now, before) } else { decision };
                prop_assert_eq!(verdict.decisions[index], told);
                if all {
                    model.insert((index, callers[index]), arrival);
                }
            }
        }
    }

    #[test]
    fn no_caller_is_ever_forgotten_however_many_come(
        calls in prop::collection::vec((0_u64..20, 0_u64..4000), 1..3000),
    ) {
        // Room for some hundred callers, which all owe something for a second.
        let store = store(1);
        let rate = rate(4, Unit::Second, 4);
        let mut passed: HashMap<u64, Vec<u64>> = HashMap::new();
        let mut now = SECOND;

        for (gap, caller) in calls {
            now += gap * 100_000;
            if !store.charge(&[charge("a", caller % 2500, rate)], now).refused {
                passed.entry(caller % 2500).or_default().push(now);
            }
        }

        for times in passed.values() {
            for (index, begin) in times.iter().enumerate() {
                let within = times[index..].iter().take_while(|at| *at - begin < SECOND).count();
                prop_assert!(within <= 8, "{} in a second", within);
            }
        }
    }
}

#[test]
fn memory_is_bounded_and_a_busy_caller_keeps_its_state() {
    let store = store(1 << 20);
    let hour = rate(5, Unit::Hour, 5);
    let hot = |now| store.charge(&[charge("a", u64::MAX, hour)], now);
    for _ in 0..5 {
        assert!(!hot(SECOND).refused);
    }

    let mut overflowed = 0;
    for caller in 0..100_000 {
        overflowed += usize::from(store.charge(&[charge("a", caller, hour)], SECOND + caller).overflowed);
        if caller % 1000 == 0 {
            assert!(hot(SECOND + caller).refused);
        }
    }

    let (keys, bytes) = store.size(2 * SECOND);
    assert!(bytes <= (1 << 20) + SHARDS * size_of::<Apart<Table>>(), "{bytes}");
    assert!(keys > 50_000 && overflowed == 100_001 - keys, "{keys} callers, {overflowed} without a place");
    assert!(hot(2 * SECOND).refused);
    // An hour and more later nobody owes anything, and newcomers have places again.
    assert!(!store.charge(&[charge("a", 77_000_000, hour)], 4000 * SECOND).overflowed);
    assert_eq!(store.size(4000 * SECOND).0, 1);
}

#[test]
fn callers_without_a_place_share_one_count_for_each_limit() {
    let store = store(1);
    let hour = rate(10, Unit::Hour, 10);
    for caller in 0..100_000 {
        store.charge(&[charge("a", caller, hour)], SECOND);
    }

    let newcomers: Vec<_> =
        (200_000..200_400).map(|caller| store.charge(&[charge("a", caller, hour)], SECOND)).collect();
    let other = (0..400).map(|caller| store.charge(&[charge("b", caller, hour)], SECOND));
    let passed = other.filter(|verdict| verdict.overflowed && !verdict.refused).count();

    assert!(newcomers.iter().all(|verdict| verdict.overflowed && verdict.refused));
    assert_eq!(passed, 10);
}

#[test]
fn limits_in_shadow_mode_count_and_never_refuse() {
    let store = store(1 << 20);
    let one = rate(1, Unit::Hour, 1);
    let shadow = || Charge { shadow: true, ..charge("a", 1, one) };

    assert!(!store.charge(&[shadow()], SECOND).refused);
    let second = store.charge(&[shadow(), charge("b", 1, one)], SECOND);
    assert_eq!((second.refused, second.decisions[0].allowed, second.decisions[1].allowed), (false, false, true));
    // Refused by the other limit, which is not in shadow mode.
    assert!(store.charge(&[shadow(), charge("b", 1, one)], SECOND).refused);
}

#[test]
fn threads_share_what_a_caller_may_have() {
    let store = Arc::new(store(1 << 20));
    let hour = rate(1000, Unit::Hour, 1000);
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let store = Arc::clone(&store);
            thread::spawn(move || {
                // Locks of several shards, in both orders.
                let callers = if thread % 2 == 0 { [1, 2] } else { [2, 1] };
                let pair = || ["a", "a"].into_iter().zip(callers).map(|(limit, caller)| charge(limit, caller, hour));
                (0..1000).filter(|_| !store.charge(&pair().collect::<Vec<_>>(), SECOND).refused).count()
            })
        })
        .collect();

    let passed: usize = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();

    assert_eq!(passed, 1000);
}

#[test]
fn new_callers_of_one_call_have_a_place_each() {
    let store = store(1);
    let once = rate(1, Unit::Hour, 1);
    let all: Vec<_> = (0..100).map(|caller| charge("a", caller, once)).collect();

    let first = store.charge(&all, SECOND);
    let again = all.iter().filter(|charge| store.charge(&[(*charge).clone()], SECOND).refused).count();

    assert_eq!((first.refused, first.overflowed), (false, false));
    assert_eq!((store.size(SECOND).0, again), (100, 100));
}

#[test]
fn nobody_is_let_in_twice_while_tables_grow_under_other_threads() {
    const CALLERS: u64 = 40_000;
    let store = Arc::new(store(64 << 20));
    let once = rate(1, Unit::Hour, 1);
    let before = store.size(SECOND).1;
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let store = Arc::clone(&store);
            thread::spawn(move || {
                let pass = |caller: u64| {
                    // Two callers a call, so that locks are held while others grow what they need.
                    let pair = [charge("a", caller, once), charge("b", caller, once)];
                    !store.charge(&pair, SECOND).refused
                };
                // The same callers, in orders that meet.
                (0..CALLERS).filter(|number| pass(if thread % 2 == 0 { *number } else { CALLERS - 1 - number })).count()
            })
        })
        .collect();

    let passed: usize = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();

    assert_eq!(passed as u64, CALLERS);
    let (keys, bytes) = store.size(SECOND);
    assert_eq!(keys as u64, 2 * CALLERS);
    assert!(bytes > before + (1 << 20), "{bytes}");
}

#[test]
fn open_calls_are_counted_until_they_are_closed() {
    let store = store(1 << 20);
    let key = Key::new("a");

    let first = store.open(&key, 2).expect("none is open");
    let second = store.open(&key, 2).expect("one is open");
    assert_eq!((first.1, second.1), (1, 0));
    assert!(store.open(&key, 2).is_none());
    assert!(store.open(&Key::new("b"), 2).is_some());
    store.close(&first.0);
    assert!(store.open(&key, 2).is_some());
}
