//! gRPC servers for the gateway to stand in front of: [`start`] gives a well-behaved one, [`scripted::start`] one that
//! does whatever a test wants.
//!
//! Each runs on a runtime of its own, so that dropping it is like killing the process: its connections break at once.
//! Nothing here uses code of the gateway but generated messages.
#![allow(dead_code, reason = "a toolbox: not every test run uses every tool")]

pub(crate) mod act;
mod echo;
mod health;
pub(crate) mod pb;
pub(crate) mod raw;
mod reflection;
mod respond;
pub(crate) mod scripted;
mod seen;
mod tally;
pub(crate) mod wire;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tonic::transport::server::{Server, TcpIncoming};
use tonic::transport::{Channel, Endpoint};

pub(crate) use health::Health;
use pb::echo_client::EchoClient;
pub(crate) use reflection::Reflection;
pub(crate) use seen::Seen;
pub(crate) use tally::Tally;

/// A running server of [`pb::echo_server::Echo`]. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Backend {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What went on so far.
    pub(crate) tally: Tally,
    stop: watch::Sender<bool>,
    _process: Process,
}

impl Backend {
    /// Takes no more calls, and returns when those that it has are over.
    pub(crate) async fn drain(&self) {
        self.stop.send_replace(true);
        // The server has the only receiver.
        self.stop.closed().await;
    }
}

/// How a backend is set up.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Port 0 unless a test starts a backend again where one was.
    pub(crate) address: SocketAddr,
    /// Which versions of reflection it has.
    pub(crate) reflection: Reflection,
    /// What it tells by reflection: an encoded `FileDescriptorSet`.
    pub(crate) descriptors: Vec<u8>,
    /// `SETTINGS_MAX_CONCURRENT_STREAMS`.
    pub(crate) max_concurrent_streams: Option<u32>,
    /// Whether replies are compressed for callers who accept gzip. Compressed requests are always understood.
    pub(crate) gzip: bool,
    /// Whether they are for all others, too, those about schema and health among them.
    pub(crate) gzip_unasked: bool,
    /// What it tells of its health; without, it has no such service.
    pub(crate) health: Option<Health>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            reflection: Reflection::Both,
            descriptors: pb::ECHO_SET.to_vec(),
            max_concurrent_streams: None,
            gzip: false,
            gzip_unasked: false,
            health: None,
        }
    }
}

/// Starts a backend with reflection on a free port.
pub(crate) async fn start() -> Backend {
    start_with(Options::default()).await
}

/// Starts a backend.
pub(crate) async fn start_with(options: Options) -> Backend {
    let process = Process::new();
    let (listener, address) = listen(options.address).await;
    let tally = Tally::default();
    let services = respond::Services::new(&options, &tally);
    let connections = tally.clone();
    let (stop, mut stopped) = watch::channel(false);
    process.spawn(async move {
        // Registers the socket with the runtime of the backend, not with that of the test.
        let listener = TcpListener::from_std(listener).expect("the listener is open");
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).map(move |accepted| {
            connections.change(|counts| counts.connections += 1);
            accepted
        });
        let server = Server::builder().max_concurrent_streams(options.max_concurrent_streams);
        let signal = async {
            stopped.wait_for(|stopped| *stopped).await.ok();
        };
        server.serve_with_incoming_shutdown(services, incoming, signal).await.expect("the backend serves");
        drop(stopped);
    });
    Backend { address, tally, stop, _process: process }
}

/// A gRPC client of the echo service, connected to that address: the backend's, or that of a gateway before it.
pub(crate) async fn client(address: SocketAddr) -> EchoClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address makes a URI");
    EchoClient::new(endpoint.connect().await.expect("something listens there"))
}

/// Binds a listener that any runtime can take over.
async fn listen(address: SocketAddr) -> (std::net::TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).await.expect("the address of the backend is free");
    let address = listener.local_addr().expect("a bound listener has an address");
    (listener.into_std().expect("nothing else uses the listener"), address)
}

/// A runtime that ends, with all that runs on it, when it is dropped.
#[derive(Debug)]
struct Process(Option<Runtime>);

impl Process {
    fn new() -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).thread_name("backend").enable_all().build();
        Self(Some(runtime.expect("a runtime can be made")))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(task);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // On a thread of its own, because an async test must not block; joined, so that all sockets are closed
            // when the test goes on.
            let killer = std::thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(1)));
            killer.join().ok();
        }
    }
}
