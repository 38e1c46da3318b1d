//! The arithmetic beside the `governor` crate, beside a bucket of tokens, and beside what it promises.

use std::num::NonZeroU32;

use governor::clock::FakeRelativeClock;
use governor::{Quota as Other, RateLimiter};
use proptest::prelude::*;

use super::*;
use crate::config::rate_limit::Unit;

/// A quota of any kind.
fn quotas() -> impl Strategy<Value = Quota> {
    let units = prop_oneof![Just(Unit::Second), Just(Unit::Minute), Just(Unit::Hour), Just(Unit::Day)];
    (1_u32..2000, units, 1_u32..50)
        .prop_map(|(count, unit, burst)| Quota::new(count, unit, Some(burst)).expect("bounds that a quota has"))
}

/// Time to the next call, in thousandths of the interval, and its cost.
fn calls() -> impl Strategy<Value = Vec<(u64, u32)>> {
    let gaps = prop_oneof![4 => 0_u64..300, 4 => 0_u64..3000, 1 => Just(1000), 1 => 10_000_u64..200_000];
    prop::collection::vec((gaps, 1_u32..60), 1..200)
}

/// A bucket of tokens that fills by one a nanosecond.
struct Bucket {
    level: u64,
    filled: u64,
}

impl Bucket {
    fn take(&mut self, gcra: Gcra, now: u64, cost: u32) -> bool {
        self.level = (self.level + (now - self.filled)).min(gcra.window());
        self.filled = now;
        let price = gcra.interval() * u64::from(cost);
        let fits = price <= self.level;
        self.level -= if fits { price } else { 0 };
        fits
    }

    /// The same missing tokens in a bucket of another size.
    fn change(&mut self, before: Gcra, after: Gcra) {
        let missing = before.window() - self.level;
        self.level = after.window() - missing.min(after.window());
    }
}

/// Fails where within any time more passed than burst and refill; each with when and its cost.
fn within_any_time(quota: Quota, passed: &[(u64, u64)]) -> Result<(), TestCaseError> {
    let interval = Gcra::new(quota).interval();
    for (begin, (first, _)) in passed.iter().enumerate() {
        let mut sum = 0;
        for (at, cost) in &passed[begin..] {
            sum += cost;
            let most = u64::from(quota.burst) + (at - first) / interval;
            prop_assert!(sum <= most, "{} within {} ns", sum, at - first);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn decides_as_governor_does(quota in quotas(), calls in calls()) {
        let gcra = Gcra::new(quota);
        let clock = FakeRelativeClock::default();
        let other = Other::with_period(Duration::from_nanos(gcra.interval())).expect("an interval");
        let other = other.allow_burst(NonZeroU32::new(quota.burst).expect("a burst"));
        let other = RateLimiter::direct_with_clock(other, clock.clone());
        let (mut now, mut arrival) = (0, 0);

        for (gap, cost) in calls {
            let gap = gap * gcra.interval() / 1000;
            now += gap;
            clock.advance(Duration::from_nanos(gap));
            let expected = other.check_n(NonZeroU32::new(cost).expect("a cost"));
            let (after, decision) = gcra.take(now, arrival, cost);
            arrival = after;

            match expected {
                Ok(verdict) => prop_assert_eq!(decision.allowed, verdict.is_ok()),
                Err(_) => prop_assert_eq!(decision.retry_after, Duration::MAX),
            }
        }
    }

    #[test]
    fn decides_as_a_bucket_of_tokens_does_whose_quota_changes(
        quotas in prop::collection::vec(quotas(), 1..6),
        calls in calls(),
        changes in prop::collection::vec(any::<prop::sample::Index>(), 200),
    ) {
        let mut gcra = Gcra::new(quotas[0]);
        let mut bucket = Bucket { level: gcra.window(), filled: 0 };
        let (mut now, mut arrival) = (0, 0);

        for ((gap, cost), change) in calls.into_iter().zip(changes) {
            now += gap * gcra.interval() / 1000;
            if gap % 7 == 0 {
                // Filled up to now by the quota that held.
                bucket.level = (bucket.level + (now - bucket.filled)).min(gcra.window());
                bucket.filled = now;
                let next = Gcra::new(*change.get(&quotas));
                bucket.change(gcra, next);
                gcra = next;
                // What the keeper sees first under the new quota is what it clamps.
                arrival = arrival.min(now + gcra.window());
            }
            let (after, decision) = gcra.take(now, arrival, cost);
            arrival = after;

            prop_assert_eq!(decision.allowed, bucket.take(gcra, now, cost));
            prop_assert_eq!(decision.remaining, bucket.level / gcra.interval());
        }
    }

    #[test]
    fn no_window_lets_in_more_than_burst_and_rate(quota in quotas(), calls in calls()) {
        let gcra = Gcra::new(quota);
        let (mut now, mut arrival) = (0, 0);
        let mut passed: Vec<(u64, u64)> = Vec::new();

        for (gap, cost) in calls {
            now += gap * gcra.interval() / 1000;
            let (after, decision) = gcra.take(now, arrival, cost);
            arrival = after;
            if decision.allowed {
                passed.push((now, cost.into()));
            }
        }

        within_any_time(quota, &passed)?;
    }

    #[test]
    fn the_wait_that_is_told_is_the_shortest_that_helps(quota in quotas(), calls in calls()) {
        let gcra = Gcra::new(quota);
        let (mut now, mut arrival) = (0, 0);

        for (gap, cost) in calls {
            now += gap * gcra.interval() / 1000;
            let (after, decision) = gcra.take(now, arrival, cost);
            if !decision.allowed && decision.retry_after != Duration::MAX {
                let wait = u64::try_from(decision.retry_after.as_nanos()).expect("a short wait");
                prop_assert!(gcra.take(now + wait, arrival, cost).1.allowed);
                prop_assert!(!gcra.take(now + wait - 1, arrival, cost).1.allowed);
            }
            let reset = u64::try_from(decision.reset.as_nanos()).expect("a short time");
            prop_assert_eq!(gcra.peek(now + reset, after).remaining, u64::from(quota.burst));
            arrival = after;
        }
    }

    #[test]
    fn what_is_refunded_was_never_had(quota in quotas(), calls in calls(), cost in 1_u32..50) {
        let gcra = Gcra::new(quota);
        let (mut now, mut arrival) = (0, 0);

        for (gap, of_call) in calls {
            now += gap * gcra.interval() / 1000;
            let (after, decision) = gcra.take(now, arrival, cost);
            if decision.allowed {
                let back = gcra.refund(now, after, after, cost);
                prop_assert_eq!(gcra.peek(now, back), gcra.peek(now, arrival));
            }
            arrival = gcra.take(now, arrival, of_call).0;
        }
    }

    /// Every so often a call is taken back when others have come after it and it may be paid off.
    #[test]
    fn what_is_refunded_late_is_not_given_twice(quota in quotas(), calls in calls(), every in 2_usize..6) {
        let gcra = Gcra::new(quota);
        let (mut now, mut arrival) = (0, 0);
        let mut passed: Vec<(u64, u64)> = Vec::new();
        let mut pending: Option<(Arrival, u32)> = None;

        for (index, (gap, cost)) in calls.into_iter().enumerate() {
            now += gap * gcra.interval() / 1000;
            if index % every == 0
                && let Some((charged, cost)) = pending.take()
            {
                arrival = gcra.refund(now, arrival, charged, cost);
            }
            let (after, decision) = gcra.take(now, arrival, cost);
            arrival = after;
            match decision.allowed {
                true if pending.is_none() => pending = Some((after, cost)),
                true => passed.push((now, cost.into())),
                false => {}
            }
        }

        within_any_time(quota, &passed)?;
    }
}

#[test]
fn a_burst_comes_back_one_by_one() {
    let gcra = Gcra::new(Quota::new(10, Unit::Second, Some(3)).expect("a quota"));
    let mut arrival = 0;
    let mut take = |now: u64| {
        let (after, decision) = gcra.take(now, arrival, 1);
        arrival = after;
        (decision.allowed, decision.remaining, decision.retry_after.as_millis(), decision.reset.as_millis())
    };
    const MS: u64 = 1_000_000;

    assert_eq!(take(0), (true, 2, 0, 100));
    assert_eq!(take(0), (true, 1, 0, 200));
    assert_eq!(take(0), (true, 0, 0, 300));
    assert_eq!(take(0), (false, 0, 100, 300));
    assert_eq!(take(99 * MS), (false, 0, 1, 201));
    assert_eq!(take(100 * MS), (true, 0, 0, 300));
    assert_eq!(take(1000 * MS), (true, 2, 0, 100));
}

#[test]
fn a_caller_waits_no_longer_than_the_new_quota_has_it() {
    let slow = Gcra::new(Quota::new(10, Unit::Hour, Some(10)).expect("a quota"));
    let fast = Gcra::new(Quota::new(100, Unit::Second, Some(100)).expect("a quota"));
    let (arrival, _) = slow.take(0, 0, 10);

    let (_, decision) = fast.take(0, arrival, 1);

    assert_eq!((decision.allowed, decision.retry_after), (false, Duration::from_millis(10)));
}

#[test]
fn intervals_round_so_that_no_quota_is_exceeded() {
    for (count, interval) in [(3, 333_333_334), (7, 142_857_143), (1_000_000, 1000), (600_000, 1667)] {
        assert_eq!(Gcra::new(Quota::new(count, Unit::Second, None).expect("a quota")).interval(), interval);
    }
}
