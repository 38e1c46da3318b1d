//! The processes of a run: three backends, and the gateway in front of them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::{interval, timeout};

use crate::backend::{self, Health, Options};
use crate::{memory, say};

/// What takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A backend in a process of its own. Dropping it kills it.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

/// The gateway in a process of its own.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    child: Child,
    folder: TempDir,
    backends: Vec<SocketAddr>,
}

/// What a scene has of its own in the configuration: keys in flow style.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shape {
    /// Of the listener, after its address and a comma.
    pub(crate) listener: String,
    /// Of the upstream: where its endpoints are found, and how they are reached.
    pub(crate) upstream: String,
}

/// The role of a backend: serves until it is told to stop, and says when it listens and when its first call comes.
pub(crate) async fn serve(address: SocketAddr) {
    let health = Health::new(true);
    let backend = backend::start_with(Options { address, health: Some(health.clone()), ..Options::default() }).await;
    say(&format!("listening on {}", backend.address));
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("signals");
    let called = async {
        backend.tally.reaches(|counts| counts.started > 0).await;
        say("first call");
    };
    tokio::select! {
        () = called => { terminate.recv().await; }
        _ = terminate.recv() => {}
    }
    health.set(false);
    backend.drain().await;
}

impl Backend {
    /// Starts one there; port 0 takes a free one.
    pub(crate) async fn start(address: SocketAddr) -> Self {
        let own = std::env::current_exe().expect("this program has a path");
        let mut child = Command::new(own)
            .args(["backend", &address.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a backend starts");
        let lines = BufReader::new(child.stdout.take().expect("standard output is piped")).lines();
        let mut backend = Self { address, child, lines };
        let line = backend.line("listening on ").await;
        backend.address = line.rsplit(' ').next().and_then(|word| word.parse().ok()).expect("an address");
        backend
    }

    /// Waits for the first call.
    pub(crate) async fn called(&mut self) {
        self.line("first call").await;
    }

    async fn line(&mut self, words: &str) -> String {
        let reading = async {
            while let Some(line) = self.lines.next_line().await.expect("a readable pipe") {
                if line.starts_with(words) {
                    return line;
                }
            }
            unreachable!("the backend ended without {words:?}");
        };
        timeout(PATIENCE, reading).await.expect("the backend says it in time")
    }

    /// Ends it without a word.
    pub(crate) async fn kill(mut self) -> SocketAddr {
        self.child.kill().await.expect("it can be killed");
        self.address
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(mut self) -> SocketAddr {
        let id = self.child.id().expect("it runs").to_string();
        Command::new("kill").args(["-TERM", &id]).status().await.expect("there is kill");
        timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").expect("it can be waited for");
        self.address
    }
}

impl Gateway {
    /// Starts one in front of these backends.
    pub(crate) async fn start(backends: &[Backend]) -> Self {
        let backends: Vec<_> = backends.iter().map(|backend| backend.address).collect();
        let shape = Shape { upstream: endpoints(&backends), ..Shape::default() };
        Self { backends, ..Self::shaped(tempfile::tempdir().expect("a folder"), &shape).await }
    }

    /// Starts one of that shape, with the files that are in the folder.
    pub(crate) async fn shaped(folder: TempDir, shape: &Shape) -> Self {
        std::fs::write(folder.path().join("echo.binpb"), backend::pb::ECHO_SET).expect("a file");
        write(folder.path(), shape, "3");
        let (child, address, admin) = launch(&folder).await;
        Self { address, admin, child, folder, backends: Vec::new() }
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Changes the configuration, `round` by round: a backend less or all of them, a policy; and has it read again.
    pub(crate) async fn reload(&self, round: usize) {
        let skipped = if round.is_multiple_of(2) { self.backends.len() } else { round / 2 % self.backends.len() };
        let left = self.backends.iter().enumerate().filter(|(index, _)| *index != skipped);
        let left: Vec<_> = left.map(|(_, backend)| *backend).collect();
        let shape = Shape { upstream: endpoints(&left), ..Shape::default() };
        write(self.folder(), &shape, if round.is_multiple_of(3) { "2" } else { "3" });
        self.read_again().await;
    }

    /// Has it read its files again.
    pub(crate) async fn read_again(&self) {
        let answer = self.ask("POST /reload").await;
        assert!(answer.contains("\"reloaded\":true"), "{answer}");
    }

    /// Puts another process in its place, and waits for the end of the old one.
    pub(crate) async fn succeed(&mut self) {
        let (child, address, _) = launch(&self.folder).await;
        assert_eq!(address, self.address, "the same socket");
        let mut old = std::mem::replace(&mut self.child, child);
        let status = timeout(PATIENCE * 3, old.wait()).await.expect("it ends in time").expect("it can be waited for");
        assert!(status.success(), "{status}");
    }

    /// Waits until it knows where a backend is.
    pub(crate) async fn found(&self) {
        assert!(self.shows("portico_upstream_endpoints{", |found| found >= 1.0).await, "it finds one in time");
    }

    /// Waits until the metric is as wanted. Returns whether it was in time.
    pub(crate) async fn shows(&self, series: &str, wanted: impl Fn(f64) -> bool) -> bool {
        let looking = async {
            let mut ticks = interval(Duration::from_millis(50));
            while !wanted(self.metric(series).await) {
                ticks.tick().await;
            }
        };
        timeout(PATIENCE, looking).await.is_ok()
    }

    /// The memory that it occupies now, in bytes.
    pub(crate) fn resident(&self) -> usize {
        memory::resident(self.child.id().expect("it runs"))
    }

    /// The values of all series whose name and labels begin so, added up.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let page = self.ask("GET /metrics").await;
        let values = page.lines().filter(|line| line.starts_with(series)).filter_map(|line| line.rsplit(' ').next());
        values.filter_map(|value| value.parse::<f64>().ok()).sum()
    }

    /// What the admin address answers.
    async fn ask(&self, line: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).await.expect("the admin address");
        stream.write_all(format!("{line} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("a reply");
        answer
    }
}

/// The keys of an upstream with these endpoints.
pub(crate) fn endpoints(backends: &[SocketAddr]) -> String {
    let endpoints: Vec<_> = backends.iter().map(|backend| format!("\"{backend}\"")).collect();
    format!("endpoints: [{}]", endpoints.join(", "))
}

/// Calls of `Say` may be sent again, those of `Plain` may not. Checks of health have time: a backend that was killed refuses
/// them at once, and a machine that is busy with other things is no fault of a backend.
fn write(folder: &Path, Shape { listener, upstream }: &Shape, retries: &str) {
    let config = format!(
        "listeners: [ {{ address: \"127.0.0.1:0\"{listener} }} ]\nadmin: {{ address: \"127.0.0.1:0\" }}\nworkers: 2\n\
         telemetry: {{ access_log: {{ path: off }} }}\nreload: {{ watch: false }}\n\
         upstreams: [ {{ name: echo, {upstream}, schema: {{ descriptor_set: echo.binpb }}, \
         health_check: {{ interval: 500ms, timeout: 5s }} }} ]\n\
         policies: [ {{ match: portico.test.v1.Echo/Say, retry: {{ retries: {retries} }} }} ]\n"
    );
    std::fs::write(folder.join("portico.yaml"), config).expect("a file");
}

/// Starts a process, which takes over if there is one to take over from. Returns its addresses.
async fn launch(folder: &TempDir) -> (Child, SocketAddr, SocketAddr) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_portico"))
        .arg("run")
        .arg("--config")
        .arg(folder.path().join("portico.yaml"))
        .arg("--takeover")
        .arg(folder.path().join("takeover.sock"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the gateway starts");
    let mut lines = BufReader::new(child.stderr.take().expect("standard error is piped")).lines();
    let mut found = Vec::new();
    while found.len() < 2 {
        let line = timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("a readable pipe");
        let line = line.expect("the gateway says where it listens");
        say(&format!("gateway: {line}"));
        if line.contains("listens on") {
            found.extend(line.rsplit([' ', '/']).next().and_then(|word| word.parse::<SocketAddr>().ok()));
        }
    }
    tokio::spawn(drain(lines));
    (child, found[0], found[1])
}

/// Keeps the pipe from filling.
async fn drain(mut lines: Lines<BufReader<ChildStderr>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        if std::env::var_os("SOAK_LOG").is_some() {
            say(&format!("gateway: {line}"));
        }
    }
}
