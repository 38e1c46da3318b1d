//! What is lost when backends die or are restarted under load: nothing that could be saved. `make soak` does the same with
//! processes, at two thousand calls a second.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use tokio::task::JoinSet;

use crate::support::backend::pb::SayRequest;
use crate::support::backend::{self, Backend, Health, Options};
use crate::support::client::{Client, Version};
use crate::support::gateway::{TestGateway, over_endpoints};
use crate::support::grpc::{REPEAT, Raw, SAY, framed, soon};

/// Before what is said of a stream.
const STREAM: &str = "stream: ";

/// Calls that come one after the other on six connections, until they are stopped.
struct Load {
    lanes: JoinSet<Vec<String>>,
    over: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
}

impl Load {
    fn start(gateway: SocketAddr) -> Self {
        let (over, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut lanes = JoinSet::new();
        for lane in 0..6 {
            let (over, calls) = (Arc::clone(&over), Arc::clone(&calls));
            lanes.spawn(async move {
                let mut lost = Vec::new();
                let mut grpc = Raw::connect(gateway).await;
                let mut rest = Client::connect(gateway, Version::Http1).await;
                while !over.load(Ordering::Relaxed) {
                    let request = framed(&SayRequest::default());
                    let (said, code) = match lane % 3 {
                        0 => {
                            let reply = soon(rest.json(Method::POST, "/test/v1/say", "{}")).await;
                            (format!("{reply:?}"), u32::from(!reply.status.is_success()))
                        }
                        1 => {
                            let answer = soon(grpc.call(REPEAT, &[], request)).await;
                            (format!("{STREAM}{answer:?}"), answer.code())
                        }
                        _ => {
                            let answer = soon(grpc.call(SAY, &[], request)).await;
                            (format!("{answer:?}"), answer.code())
                        }
                    };
                    lost.extend((code != 0).then_some(said));
                    calls.fetch_add(1, Ordering::Relaxed);
                }
                lost
            });
        }
        Self { lanes, over, calls }
    }

    /// Waits for so many more calls.
    async fn more(&self, calls: usize) {
        let wanted = self.calls.load(Ordering::Relaxed) + calls;
        let waiting = async {
            while self.calls.load(Ordering::Relaxed) < wanted {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the load goes on");
    }

    async fn lost(self) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        self.lanes.join_all().await.concat()
    }
}

async fn start(address: SocketAddr) -> Backend {
    backend::start_with(Options { address, health: Some(Health::new(true)), ..Options::default() }).await
}

async fn three(retry: &str) -> (Vec<Backend>, TestGateway) {
    let mut backends = Vec::new();
    for _ in 0..3 {
        backends.push(start(Options::default().address).await);
    }
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let gateway = over_endpoints(&addresses, ", health_check: { interval: 500ms }", retry).await;
    (backends, gateway)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_the_backends_loses_no_call() {
    let (backends, gateway) = three("").await;
    let load = Load::start(gateway.address);
    load.more(200).await;

    for backend in backends {
        let address = backend.address;
        backend.drain().await;
        drop(backend);
        load.more(100).await;
        let back = start(address).await;
        soon(back.tally.reaches(|counts| counts.started > 0)).await;
        // Goes on for as long as the test.
        std::mem::forget(back);
    }
    load.more(200).await;

    assert_eq!(load.lost().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_dies_costs_no_call_that_may_be_sent_again_and_has_calls_after_its_return() {
    let retry = "policies: [ { match: \"*\", retry: { retries: 3, backoff: { base: 5ms, max: 20ms } } } ]";
    let (mut backends, gateway) = three(retry).await;
    let load = Load::start(gateway.address);
    load.more(200).await;

    let dead = backends.remove(0);
    let address = dead.address;
    drop(dead);
    load.more(400).await;
    let back = start(address).await;
    soon(back.tally.reaches(|counts| counts.started > 0)).await;
    load.more(100).await;

    // A stream may have had a message before.
    let lost: Vec<_> = load.lost().await.into_iter().filter(|lost| !lost.starts_with(STREAM)).collect();
    assert_eq!(lost, Vec::<String>::new());
}
