//! The script that counts on the server, beside the arithmetic of the process.

use portico::config::rate_limit::{Quota, Unit};
use portico::policy::rate_limit::Gcra;
use portico::store::redis::script::BODY;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::support::redis::Server;

/// A limit of the model: its interval and what its burst is worth, in nanoseconds.
type Limit = (u64, u64);

/// The state of the model: when each limit has paid.
type Arrivals = [u64; 2];

/// Something that happens: so many microseconds pass, then that is taken from both limits.
#[derive(Debug, Clone)]
struct Step {
    passed: u64,
    costs: [i64; 2],
    more: u64,
    /// Whether the second limit refuses nothing.
    shadow: bool,
    /// From now on the first limit is another.
    changed: Option<Limit>,
}

fn limit() -> impl Strategy<Value = Limit> {
    // From a million a second to one a day, with bursts up to what the numbers of Lua hold.
    (prop_oneof![Just(1_000), Just(333_333_334), 1_000..1_000_000_000_u64, Just(86_400_000_000_000)], 1..100_u64)
        .prop_map(|(interval, burst)| (interval, interval * burst))
}

fn step() -> impl Strategy<Value = Step> {
    let passed = prop_oneof![Just(0), 0..1_000_u64, 0..2_000_000_u64, 0..200_000_000_000_u64];
    let cost = prop_oneof![8 => 0..4_i64, 1 => 0..200_i64, 1 => -3..0_i64];
    let changed = prop_oneof![9 => Just(None), 1 => limit().prop_map(Some)];
    (passed, [cost.clone(), cost], prop_oneof![4 => Just(0), 1 => 1..50_u64], any::<bool>(), changed)
        .prop_map(|(passed, costs, more, shadow, changed)| Step { passed, costs, more, shadow, changed })
}

/// What the script should say: whether all was taken, and the debts before.
fn model(arrivals: &mut Arrivals, limits: [Limit; 2], now: u64, step: &Step) -> Vec<i128> {
    let debts: Vec<i128> = (0..2)
        .map(|index| {
            let debt = i128::from(arrivals[index].saturating_sub(now));
            if step.costs[index] > 0 { debt.min(limits[index].1.into()) } else { debt }
        })
        .collect();
    let price = |index: usize| i128::from(step.costs[index]) * i128::from(limits[index].0);
    let fits = |index: usize| step.costs[index] <= 0 || debts[index] + price(index) <= limits[index].1.into();
    let taken = (0..2).all(|index| fits(index) || index == 1 && step.shadow);
    if taken {
        for index in (0..2).filter(|index| fits(*index)) {
            let mut debt = debts[index] + price(index);
            let room = (i128::from(limits[index].1) - debt).div_euclid(limits[index].0.into());
            if step.more > 0 {
                debt += i128::from(limits[index].0) * room.min(step.more.into()).max(0);
            }
            if step.costs[index] != 0 || step.more > 0 {
                arrivals[index] = now + u64::try_from(debt.max(0)).expect("no debt is that large");
            }
        }
    }
    [i128::from(taken)].into_iter().chain(debts).collect()
}

#[tokio::test]
async fn script_counts_as_the_model_does_to_the_nanosecond() {
    let server = Server::start().await;
    let url = server.url();

    let checked = tokio::task::spawn_blocking(move || {
        let connection = redis::Client::open(url).expect("an address").get_connection().expect("it listens");
        let connection = std::cell::RefCell::new(connection);
        let script = with_clock();
        let steps = proptest::collection::vec(step(), 1..60);
        let mut runner = TestRunner::new(ProptestConfig::with_cases(200));
        runner.run(&([limit(), limit()], 0..1_000_000_u64, steps), |(mut limits, start, steps)| {
            let mut connection = connection.borrow_mut();
            redis::cmd("FLUSHALL").exec(&mut *connection).expect("it takes the command");
            let mut arrivals = [0; 2];
            let mut micros = 2_000_000_000_000_000 + start;
            for step in steps {
                micros += step.passed;
                limits[0] = step.changed.unwrap_or(limits[0]);
                let mut command = redis::cmd("EVAL");
                command.arg(&script).arg(2).arg("{a}1").arg("{a}2");
                for (index, (limit, cost)) in limits.iter().zip(step.costs).enumerate() {
                    command.arg(limit.0).arg(limit.1).arg(cost).arg(step.more);
                    command.arg(u8::from(step.shadow && index == 1));
                }
                command.arg(micros / 1_000_000).arg(micros % 1_000_000);

                let said: Vec<i128> =
                    command.query::<Vec<i64>>(&mut *connection).expect("numbers").into_iter().map(i128::from).collect();

                prop_assert_eq!(said, model(&mut arrivals, limits, micros * 1000, &step));
            }
            Ok(())
        })
    });

    let outcome = checked.await.expect("it does not panic");
    assert!(outcome.is_ok(), "{}", outcome.expect_err("just asserted"));
}

/// A script with the clock in its last two arguments, microseconds of the second behind seconds.
fn with_clock() -> String {
    format!("local now, slack = {{ARGV[#ARGV - 1], ARGV[#ARGV]}}, 3600000\n{BODY}")
}

#[tokio::test]
async fn script_and_process_say_the_same_of_every_call() {
    let server = Server::start().await;
    let url = server.url();

    let checked = tokio::task::spawn_blocking(move || {
        let connection = redis::Client::open(url).expect("an address").get_connection().expect("it listens");
        let (connection, script) = (std::cell::RefCell::new(connection), with_clock());
        let units = prop_oneof![Just(Unit::Second), Just(Unit::Minute), Just(Unit::Hour), Just(Unit::Day)];
        let quotas = (1..5000_u32, units, 1..60_u32)
            .prop_map(|(count, unit, burst)| Quota::new(count, unit, Some(burst)).expect("a quota"));
        // Time in thousandths of the interval, so that every quota sees refusals.
        let calls = proptest::collection::vec((0..3000_u64, 1..20_u32), 1..60);
        let mut runner = TestRunner::new(ProptestConfig::with_cases(100));
        runner.run(&(quotas, calls), |(quota, calls)| {
            let mut connection = connection.borrow_mut();
            redis::cmd("FLUSHALL").exec(&mut *connection).expect("it takes the command");
            let rate = Gcra::new(quota);
            let (mut micros, mut arrival) = (2_000_000_000_000_000_u64, 0);
            for (gap, cost) in calls {
                micros += rate.interval() / 1_000_000 * gap;
                let mut command = redis::cmd("EVAL");
                command.arg(&script).arg(1).arg("a").arg(rate.interval()).arg(rate.window()).arg(cost).arg(0).arg(0);
                command.arg(micros / 1_000_000).arg(micros % 1_000_000);

                let said: Vec<u64> = command.query(&mut *connection).expect("numbers");
                let (after, decision) = rate.take(micros * 1000, arrival, cost);
                arrival = after;

                prop_assert_eq!(said[0] == 1, decision.allowed);
                prop_assert_eq!(rate.take(0, said[1], cost).1, decision);
            }
            Ok(())
        })
    });

    let outcome = checked.await.expect("it does not panic");
    assert!(outcome.is_ok(), "{}", outcome.expect_err("just asserted"));
}
