//! What happens under load, and what may be lost by it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::rr::rdata::A;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::time::{Instant, interval_at};

use crate::fleet::{Backend, Gateway, Shape, endpoints};
use crate::front::Front;
use crate::load::{Entry, Kind, Load, MIX, Report};
use crate::names::name_server;
use crate::tls::{self, Authority, VALID};
use crate::{Plan, say};

/// Three backends, and a gateway in front of them.
pub(crate) async fn setup() -> (Vec<Backend>, Gateway) {
    let backends = backends().await;
    let gateway = Gateway::start(&backends).await;
    (backends, gateway)
}

async fn backends() -> Vec<Backend> {
    let mut backends = Vec::new();
    for _ in 0..3 {
        backends.push(Backend::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await);
    }
    backends
}

/// Calls in clear text.
fn load(gateway: &Gateway, plan: Plan) -> Load {
    Load::start(&Entry { gateway: gateway.address, authority: None }, &MIX, plan.rate)
}

/// One backend of three is killed and comes back. Only calls that may not be sent again are lost, within a second of the
/// kill; within two seconds of its return the backend has calls.
pub(crate) async fn killed(plan: Plan) -> Vec<String> {
    let (mut backends, gateway) = setup().await;
    let load = load(&gateway, plan);

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
pub(crate) async fn rolling(plan: Plan) -> Vec<String> {
    let (backends, gateway) = setup().await;
    let load = load(&gateway, plan);

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

    judge_lossless("rolling restart of three backends", plan, &report)
}

/// The configuration is read again a hundred times, with other endpoints and policies each time. No call is lost.
pub(crate) async fn reloads(plan: Plan) -> Vec<String> {
    const TIMES: u32 = 100;
    let (_backends, gateway) = setup().await;
    let load = load(&gateway, plan);

    let mut ticks = interval_at(Instant::now() + plan.part / 3, plan.part * 2 / TIMES);
    for round in 0..TIMES {
        ticks.tick().await;
        gateway.reload(round as usize).await;
    }
    pass(plan.part / 3).await;
    let report = load.stop().await;

    let mut faults = judge_lossless("a hundred reloads", plan, &report);
    let counted = gateway.metric("portico_config_reloads_total{result=\"ok\"}").await;
    if counted < f64::from(TIMES) {
        faults.push(format!("{counted} reloads are counted"));
    }
    faults
}

/// The gateway itself is replaced by another process, three times in a row. No call is lost.
pub(crate) async fn takeovers(plan: Plan) -> Vec<String> {
    let (_backends, mut gateway) = setup().await;
    let load = load(&gateway, plan);

    for _ in 0..3 {
        pass(plan.part / 2).await;
        gateway.succeed().await;
    }
    pass(plan.part / 2).await;
    let report = load.stop().await;

    judge_lossless("three take-overs", plan, &report)
}

/// The listener's certificate is replaced three times, and each time the authority of the backends: first both are trusted,
/// then the backends show a certificate of the new one, then it alone is trusted. Connections are made all the time. No call
/// is lost.
pub(crate) async fn certificates(plan: Plan) -> Vec<String> {
    let (public, mut internal) = (Arc::new(Authority::new()), Authority::new());
    let folder = tempfile::tempdir().expect("a folder");
    public.issue_for("localhost", VALID, 1).write(folder.path());
    fs::write(folder.path().join("ca.pem"), &internal.certificate).expect("a file");
    let (backends, front) = (backends().await, Front::new(&internal));
    let mut addresses = Vec::new();
    for backend in &backends {
        addresses.push(front.before(backend.address).await);
    }
    let shape = Shape {
        listener: ", tls: { certificate: server.pem, key: server.key }".to_owned(),
        upstream: format!("{}, tls: {{ ca: ca.pem, server_name: localhost }}", endpoints(&addresses)),
    };
    let gateway = Gateway::shaped(folder, &shape).await;
    let entry = Entry { gateway: gateway.address, authority: Some(Arc::clone(&public)) };
    let load = Load::start(&entry, &MIX, plan.rate);

    let mut faults = Vec::new();
    for serial in 2..=4 {
        pass(plan.part / 4).await;
        public.issue_for("localhost", VALID, serial).write(gateway.folder());
        gateway.read_again().await;
        let shown = shown(&gateway, &public).await;
        if shown != serial {
            faults.push(format!("the certificate shown is {shown}, not {serial}"));
        }
        let next = Authority::new();
        let trust = async |authorities: String| {
            pass(plan.part / 4).await;
            fs::write(gateway.folder().join("ca.pem"), authorities).expect("a file");
            gateway.read_again().await;
        };
        trust(format!("{}{}", internal.certificate, next.certificate)).await;
        pass(plan.part / 4).await;
        front.show(&next);
        trust(next.certificate.clone()).await;
        internal = next;
    }
    pass(plan.part / 2).await;
    let report = load.stop().await;

    if front.connections() == 0 {
        faults.push("no connection was made with the last certificate of the backends".to_owned());
    }
    faults.extend(judge_lossless("three rotations of all certificates", plan, &report));
    faults
}

/// The serial number of the certificate that a new connection is shown.
async fn shown(gateway: &Gateway, authority: &Authority) -> u8 {
    let stream = tls::connect(gateway.address, authority.client(&["h2"], None)).await.expect("a handshake");
    tls::serial_of(stream.get_ref().1.peer_certificates().expect("a certificate").first().expect("one"))
}

/// The name of the backends means others of them each second; those that it means no more go on serving. No call is lost,
/// and each has some.
pub(crate) async fn names(plan: Plan) -> Vec<String> {
    const ANSWERS: [&[u8]; 6] = [&[1], &[1, 2], &[2, 3], &[3], &[3, 1], &[1, 2, 3]];
    let host = |last: u8| Ipv4Addr::new(127, 0, 0, last);
    let answer = |round: usize| -> Vec<_> {
        let hosts = ANSWERS[round % ANSWERS.len()].iter();
        hosts.map(|last| (RecordType::A, RData::A(A(host(*last))))).collect()
    };
    let mut backends = vec![Backend::start(SocketAddr::from((host(1), 0))).await];
    let port = backends[0].address.port();
    for last in [2, 3] {
        backends.push(Backend::start(SocketAddr::from((host(last), port))).await);
    }
    let records = Arc::new(Mutex::new(answer(0)));
    let server = name_server(Arc::clone(&records)).await;
    let upstream = format!("dns: \"backends.test:{port}\", resolvers: [\"{server}\"]");
    let shape = Shape { upstream, ..Shape::default() };
    let gateway = Gateway::shaped(tempfile::tempdir().expect("a folder"), &shape).await;
    gateway.found().await;
    let load = load(&gateway, plan);

    let rounds = ANSWERS.len().max(usize::try_from(plan.part.as_secs() * 2).expect("few"));
    for round in 1..=rounds {
        pass(Duration::from_secs(1)).await;
        *records.lock().expect("nobody panicked") = answer(round);
    }
    pass(plan.part / 3).await;
    let report = load.stop().await;

    for backend in &mut backends {
        backend.called().await;
    }
    judge_lossless("a name that changes each second", plan, &report)
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

/// The same where no call may be lost.
pub(crate) fn judge_lossless(scene: &str, plan: Plan, report: &Report) -> Vec<String> {
    let mut faults = judge(scene, plan, report);
    faults.extend(report.losses.iter().map(|loss| format!("lost {:?} at {:?}: {}", loss.kind, loss.at, loss.why)));
    faults
}

/// Lets time pass.
pub(crate) async fn pass(time: Duration) {
    interval_at(Instant::now() + time, time).tick().await;
}
