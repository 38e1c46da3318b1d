//! A real gateway, started from a configuration text on ports that the system chooses.
#![allow(dead_code, reason = "a toolbox: not every test run uses every tool")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use portico::config;
use portico::gateway::{Gateway, Inherited, Launch};
use tokio::runtime::Runtime;

use super::client::{Client, Reply, Version};

/// A running gateway. Dropping it drains it.
pub(crate) struct TestGateway {
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    /// Where operators connect.
    pub(crate) admin: SocketAddr,
    process: Option<(Gateway, Runtime)>,
}

impl TestGateway {
    /// Starts a gateway with this configuration; listeners and admin are added on port 0 unless the text has them, and
    /// the access log is off unless it says otherwise. Does not wait for schemas.
    pub(crate) async fn start(yaml: &str) -> Self {
        // Longer than any test.
        Self::start_in(Duration::from_hours(1), yaml).await
    }

    /// The same for one that waits so long for schemas before it is ready without them.
    pub(crate) async fn start_in(patience: Duration, yaml: &str) -> Self {
        let mut text = yaml.to_owned();
        for (key, line) in [
            ("listeners:", "listeners: [ { address: \"127.0.0.1:0\" } ]\n"),
            ("admin:", "admin: { address: \"127.0.0.1:0\" }\n"),
            ("telemetry:", "telemetry: { access_log: { path: off } }\n"),
        ] {
            if !yaml.lines().any(|present| present.starts_with(key)) {
                text.push_str(line);
            }
        }
        let loaded = config::from_str(&text, "test.yaml", Path::new(env!("CARGO_MANIFEST_DIR")))
            .map_err(|errors| errors.to_string())
            .expect("the configuration is right");
        // Starting and stopping block, which a test's own runtime must not.
        let started = tokio::task::spawn_blocking(move || {
            let control = portico::runtime::control().expect("threads can be made");
            let mut config = loaded.config;
            config.workers = config.workers.min(2);
            let inherited = Inherited::default();
            let launch = Launch { config, loader: None, inherited, patience, succeeds: false };
            let gateway = Gateway::launch(launch, control.handle()).expect("the gateway starts");
            (gateway, control)
        });
        let (gateway, control) = started.await.expect("starting does not panic");
        let address = *gateway.addresses().first().expect("there is a listener");
        let admin = gateway.admin().expect("there is an admin address");
        Self { address, admin, process: Some((gateway, control)) }
    }

    /// A gateway in front of one upstream named `echo`, known by its reflection; returns when the schema is there.
    pub(crate) async fn over(backend: SocketAddr) -> Self {
        let gateway = Self::start(&upstream("echo", backend)).await;
        gateway.ready().await;
        gateway
    }

    /// Waits until every schema is there, at most twenty seconds.
    pub(crate) async fn ready(&self) {
        let (gateway, _) = self.process.as_ref().expect("the gateway runs");
        let waiting = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(2));
            while !gateway.is_ready() {
                ticks.tick().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("every schema comes in time");
    }

    /// A client with a connection of its own.
    pub(crate) async fn client(&self, version: Version) -> Client {
        Client::connect(self.address, version).await
    }

    /// What the admin address answers.
    pub(crate) async fn operator(&self, path: &str) -> Reply {
        Client::connect(self.admin, Version::Http1).await.get(path).await
    }

    /// The values of all series whose name and labels begin so, added up.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let page = self.operator("/metrics").await;
        let lines = String::from_utf8(page.body.to_vec()).expect("the page is text");
        let values = lines.lines().filter(|line| line.starts_with(series)).filter_map(|line| line.rsplit(' ').next());
        values.map(|value| value.parse::<f64>().expect("a value is a number")).sum()
    }

    /// Waits until a metric has that value, at most twenty seconds.
    pub(crate) async fn metric_reaches(&self, series: &str, wanted: f64) {
        let waiting = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            while self.metric(series).await < wanted {
                ticks.tick().await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        assert!(reached.is_ok(), "{series} is {} and not {wanted}", self.metric(series).await);
    }

    /// What the gateway serves by now.
    pub(crate) fn inner(&self) -> &Gateway {
        &self.process.as_ref().expect("the gateway runs").0
    }

    /// Drains and stops the gateway.
    pub(crate) async fn stop(self) {
        self.stop_unless(std::future::pending()).await;
    }

    /// Drains and stops the gateway, cutting the drain short when that is ready.
    pub(crate) async fn stop_unless(mut self, hurry: impl Future<Output = ()> + Send + 'static) {
        let (gateway, control) = self.process.take().expect("the gateway runs");
        let stopping = tokio::task::spawn_blocking(move || {
            gateway.stop_unless(hurry);
            control.shutdown_background();
        });
        stopping.await.expect("stopping does not panic");
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        if let Some((gateway, control)) = self.process.take() {
            // Not drained: a test that cares calls `stop`.
            drop(gateway);
            control.shutdown_background();
        }
    }
}

/// The configuration of one upstream that is known by reflection.
pub(crate) fn upstream(name: &str, address: SocketAddr) -> String {
    format!("upstreams: [ {{ name: {name}, endpoints: [\"{address}\"], schema: {{ reflection: {{}} }} }} ]\n")
}

/// A gateway with one worker in front of these endpoints of the upstream `echo`, whose schema comes from a file; with more
/// keys of the upstream, and more of the file.
pub(crate) async fn over_endpoints(endpoints: &[SocketAddr], keys: &str, file: &str) -> TestGateway {
    let set = concat!(env!("OUT_DIR"), "/test/echo.binpb");
    let endpoints: Vec<_> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    TestGateway::start(&format!(
        "workers: 1\nupstreams: [ {{ name: echo, endpoints: [{}], schema: {{ descriptor_set: \"{set}\" }}{keys} }} ]\n{file}\n",
        endpoints.join(", ")
    ))
    .await
}
