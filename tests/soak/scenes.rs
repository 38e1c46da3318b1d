//! What happens under load, and what may be lost by it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, interval_at};

use crate::fleet::{Backend, Gateway};
use crate::load::{Kind, Load, Report};
use crate::{Plan, say};

/// Every scene, one after the other. Returns what went wrong.
pub(crate) async fn all(plan: Plan) -> Vec<String> {
    let mut faults = Vec::new();
    faults.extend(killed(plan).await);
    faults.extend(rolling(plan).await);
    faults.extend(reloads(plan).await);
    faults.extend(takeovers(plan).await);
    faults
}

async fn setup() -> (Vec<Backend>, Gateway) {
    let mut backends = Vec::new();
    for _ in 0..3 {
        backends.push(Backend::start(SocketAddr::from(([127, 0, 0, 1], 0))).await);
    }
    let gateway = Gateway::start(&backends).await;
    (backends, gateway)
}

/// One backend of three is killed and comes back. Only calls that may not be sent again are lost, within a second of the
/// kill; within two seconds of its return the backend has calls.
async fn killed(plan: Plan) -> Vec<String> {
    let (mut backends, gateway) = setup().await;
    let load = Load::start(gateway.address, plan.rate);

    pass(plan.part).await;
    let killed = load.begun.elapsed();
    let address = backends.remove(0).kill().await;
    pass(plan.part).await;
    let mut back = Backend::start(address).await;
    let returned = Instant::now();
    back.called().await;
    let returned = returned.elapsed();
    pass(plan.part).await;
    let report = load.stop().await;

    let mut faults = judge("kill -9 of one backend of three", plan, &report);
    let retries = gateway.metric("portico_upstream_retries_total").await;
    say(&format!("  retries {retries}, traffic returned after {returned:?}"));
    for loss in &report.losses {
        let may_be = matches!(loss.kind, Kind::GrpcOnce | Kind::GrpcStream | Kind::RestStream);
        if !may_be || loss.at < killed || loss.at > killed + Duration::from_secs(1) {
            faults.push(format!("lost {:?} {:?} after the kill: {}", loss.kind, loss.at.checked_sub(killed), loss.why));
        }
    }
    if returned > Duration::from_secs(2) {
        faults.push(format!("traffic came back after {returned:?}"));
    }
    faults
}

/// Each backend is stopped in peace and started again, one after the other. No call is lost.
async fn rolling(plan: Plan) -> Vec<String> {
    let (backends, gateway) = setup().await;
    let load = Load::start(gateway.address, plan.rate);

    let mut running = Vec::new();
    for backend in backends {
        pass(plan.part / 3).await;
        let address = backend.stop().await;
        pass(plan.part / 3).await;
        let mut back = Backend::start(address).await;
        back.called().await;
        running.push(back);
    }
    pass(plan.part / 3).await;
    let report = load.stop().await;

    let mut faults = judge("rolling restart of three backends", plan, &report);
    faults.extend(report.losses.iter().map(|loss| format!("lost {:?} at {:?}: {}", loss.kind, loss.at, loss.why)));
    faults
}

/// The configuration is read again a hundred times, with other endpoints and policies each time. No call is lost.
async fn reloads(plan: Plan) -> Vec<String> {
    const TIMES: u32 = 100;
    let (_backends, gateway) = setup().await;
    let load = Load::start(gateway.address, plan.rate);

    let mut ticks = interval_at(Instant::now() + plan.part / 3, plan.part * 2 / TIMES);
    for round in 0..TIMES {
        ticks.tick().await;
        gateway.reload(round as usize).await;
    }
    pass(plan.part / 3).await;
    let report = load.stop().await;

    let mut faults = judge("a hundred reloads", plan, &report);
    let counted = gateway.metric("portico_config_reloads_total{result=\"ok\"}").await;
    if counted < f64::from(TIMES) {
        faults.push(format!("{counted} reloads are counted"));
    }
    faults.extend(report.losses.iter().map(|loss| format!("lost {:?} at {:?}: {}", loss.kind, loss.at, loss.why)));
    faults
}

/// The gateway itself is replaced by another process, three times in a row. No call is lost.
async fn takeovers(plan: Plan) -> Vec<String> {
    let (_backends, mut gateway) = setup().await;
    let load = Load::start(gateway.address, plan.rate);

    for _ in 0..3 {
        pass(plan.part / 2).await;
        gateway.succeed().await;
    }
    pass(plan.part / 2).await;
    let report = load.stop().await;

    let mut faults = judge("three take-overs", plan, &report);
    faults.extend(report.losses.iter().map(|loss| format!("lost {:?} at {:?}: {}", loss.kind, loss.at, loss.why)));
    faults
}

/// Tells what became of the load, and whether it was as much as it was meant to be.
fn judge(scene: &str, plan: Plan, report: &Report) -> Vec<String> {
    say(&format!(
        "{scene}: {} calls in {:.1} s, {:.0} a second, {} lost",
        report.calls.values().sum::<usize>(),
        report.lasted.as_secs_f64(),
        report.rate(),
        report.losses.len()
    ));
    for (kind, calls) in &report.calls {
        let lost = report.losses.iter().filter(|loss| loss.kind == *kind).count();
        say(&format!("  {kind:?}: {calls} calls, {lost} lost"));
    }
    let meant = f64::from(plan.rate);
    if report.rate() < 0.9 * meant {
        vec![format!("{scene}: {:.0} calls a second, not {meant}", report.rate())]
    } else {
        Vec::new()
    }
}

/// Lets time pass.
async fn pass(time: Duration) {
    interval_at(Instant::now() + time, time).tick().await;
}
