//! Nothing happens but mixed load, and the gateway ends with the memory that it began with.

use std::time::Duration;

use tokio::time::{Instant, interval_at};

use crate::fleet::Gateway;
use crate::load::{ALL, Entry, Load};
use crate::scenes::{judge_lossless, pass, setup};
use crate::{Plan, say};

/// Calls before memory is looked at: with them comes what then stays, such as connections and the heaps of threads.
const WARM: u32 = 1000;

/// Looks at memory in each tenth of the part. Their median counts, as memory goes up and down with what is under way.
const LOOKS: u32 = 11;

/// What memory may be above that of the first tenth, besides a tenth of it. At 20 MiB that is 4 MiB in all, and less than 3
/// were seen: 1 in the first minute, the rest where calls piled up on a busy machine. Half an hour of 1,000 calls a second
/// comes to more if each leaves 3 bytes.
const LEEWAY: usize = 2 << 20;

/// Calls of all kinds, those that fail and those that are given up among them. Each has its answer, memory does not grow, and
/// afterwards nothing is left.
pub(crate) async fn steady(plan: Plan) -> Vec<String> {
    let (_backends, gateway) = setup().await;
    let load = Load::start(&Entry { gateway: gateway.address, authority: None }, &ALL, plan.rate);

    pass((plan.part / 10).max(Duration::from_secs(1) * WARM / plan.rate)).await;
    let begun = watch(&gateway, &load, plan.part / 10).await;
    let mut ended = begun;
    for _ in 0..9 {
        ended = watch(&gateway, &load, plan.part / 10).await;
    }
    let report = load.stop().await;

    let mut faults = judge_lossless("mixed load alone", plan, &report);
    if ended > begun + begun / 10 + LEEWAY {
        faults.push(format!("memory grew from {} to {} KiB", begun >> 10, ended >> 10));
    }
    for series in ["portico_connections{", "portico_upstream_active_streams{"] {
        if !gateway.shows(series, |left| left == 0.0).await {
            faults.push(format!("{} are left of {series}", gateway.metric(series).await));
        }
    }
    faults
}

/// The memory in that time.
async fn watch(gateway: &Gateway, load: &Load, time: Duration) -> usize {
    let mut ticks = interval_at(Instant::now() + time / LOOKS, time / LOOKS);
    let mut looks = [0; LOOKS as usize];
    for look in &mut looks {
        ticks.tick().await;
        *look = gateway.resident();
    }
    looks.sort_unstable();
    let ([least, .., most], median) = (looks, looks[looks.len() / 2]);
    let seconds = load.begun.elapsed().as_secs_f64();
    say(&format!("  memory after {seconds:.1} s: {} KiB, {} to {}", median >> 10, least >> 10, most >> 10));
    median
}
