//! What a limit costs a call, and what callers cost memory: `cargo bench --bench rate_limit`.
//!
//! A charge here is everything that a limit by address does: its key, the store's lock, the arithmetic.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::sync::{Arc, Barrier};
use std::thread;

use portico::config::rate_limit::{Quota, Unit};
use portico::policy::rate_limit::{Charge, Gcra, Key, LocalStore};
use tokio::time::Instant;

const CHARGES: u32 = 1_000_000;
const ROUNDS: usize = 9;
/// Rounds of workers, each short enough that many are not disturbed.
const PAIRS: usize = 31;
const CALLERS: u32 = 1_000_000;
const NAMES: [&str; 3] = ["* client_ip", "* client_ip-2", "* claim:sub"];

fn main() -> Result<(), String> {
    let fast = Gcra::new(Quota::new(1_000_000, Unit::Second, Some(1000))?);
    for limits in [1, 3] {
        let store = LocalStore::new(64 << 20);
        let nanos = best(|| run(&store, fast, limits, 0..1000, CHARGES));
        println!("{limits} limit(s), 1,000 callers        {:>7.0} ns per limit", nanos / limits as f64);
    }
    for callers in [1000, 10_000, 50_000] {
        workers(fast, callers);
    }
    memory(Gcra::new(Quota::new(10, Unit::Hour, None)?));
    Ok(())
}

/// Nanoseconds per call, of callers who call in turn.
fn run(store: &LocalStore, rate: Gcra, limits: usize, callers: Range<u32>, calls: u32) -> f64 {
    let start = Instant::now();
    for caller in callers.cycle().take(calls as usize) {
        let charges: Vec<Charge<'_>> = NAMES.iter().take(limits).map(|name| charge(name, caller, rate)).collect();
        black_box(store.charge(&charges, store.clock(Instant::now())));
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
}

fn charge(limit: &str, caller: u32, rate: Gcra) -> Charge<'_> {
    let mut key = Key::new(limit);
    key.push_ip(IpAddr::V4(Ipv4Addr::from(caller)));
    Charge { limit, key, rate, cost: 1, shadow: false }
}

fn best(mut round: impl FnMut() -> f64) -> f64 {
    (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min)
}

/// Two workers with callers of their own, beside one alone. Two that share nothing show what the machine itself makes of two at
/// once: where its two cores are threads of one, that is far from nothing.
fn workers(rate: Gcra, callers: u32) {
    let store = Arc::new(LocalStore::new(64 << 20));
    let other = Arc::new(LocalStore::new(64 << 20));
    let calls = (2 * callers).max(CHARGES / 10);
    let both = |stores: [&Arc<LocalStore>; 2]| {
        let start = Arc::new(Barrier::new(2));
        let begun = stores.into_iter().zip([0, 1 << 20]).map(|(store, first)| {
            let (store, start) = (Arc::clone(store), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                run(&store, rate, 1, first..first + callers, calls)
            })
        });
        let begun: Vec<_> = begun.collect();
        begun.into_iter().filter_map(|worker| worker.join().ok()).fold(0.0, f64::max)
    };
    let median = |mut ratios: Vec<f64>| {
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    };
    let (mut shared, mut apart) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let alone = run(&store, rate, 1, 0..callers, calls);
        shared.push(both([&store, &store]) / alone);
        apart.push(both([&store, &other]) / alone);
    }
    let (shared, apart) = (median(shared), median(apart));
    println!(
        "two workers beside one, {callers:>6} callers each {shared:>7.2} times the cost, {apart:.2} with a store each (medians of {PAIRS})"
    );
}

/// A million callers that all owe something, and the calls of one of them meanwhile.
fn memory(rate: Gcra) {
    for megabytes in [64, 16] {
        let store = LocalStore::new(megabytes << 20);
        let hot = u32::MAX;
        while !store.charge(&[charge(NAMES[0], hot, rate)], 1).refused {}
        let mut overflowed = 0;
        let mut kept = true;
        let mut times = Vec::with_capacity(CALLERS as usize);
        for caller in 0..CALLERS {
            let start = Instant::now();
            let verdict = store.charge(&[charge(NAMES[0], caller, rate)], 1);
            times.push(start.elapsed().as_nanos());
            overflowed += u32::from(verdict.overflowed);
            if caller % 1000 == 0 {
                kept &= store.charge(&[charge(NAMES[0], hot, rate)], 1).refused;
            }
        }
        let p99 = |times: &mut Vec<u128>| {
            times.sort_unstable();
            times[times.len() / 100 * 99]
        };
        let filling = p99(&mut times);
        let mut again: Vec<u128> = (0..CALLERS)
            .map(|caller| {
                let start = Instant::now();
                black_box(store.charge(&[charge(NAMES[0], caller % 1000, rate)], 1));
                start.elapsed().as_nanos()
            })
            .collect();
        let full = p99(&mut again);
        let empty = LocalStore::new(megabytes << 20);
        let mut few: Vec<u128> = (0..CALLERS)
            .map(|caller| {
                let start = Instant::now();
                black_box(empty.charge(&[charge(NAMES[0], caller % 1000, rate)], 1));
                start.elapsed().as_nanos()
            })
            .collect();
        let (keys, bytes) = store.size(1);
        println!(
            "{CALLERS} callers in {megabytes} MiB: {keys} kept in {bytes} bytes, {:.1} each; {overflowed} without a place; the \
             busy one {}; p99 {filling} ns while it fills, {full} ns when it is full, {} ns with 1,000 callers",
            bytes as f64 / keys as f64,
            if kept { "kept its state" } else { "was forgotten" },
            p99(&mut few),
        );
    }
}
