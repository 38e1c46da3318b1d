//! The processes of a run: three backends, and the gateway in front of them.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

use crate::backend::{self, Health, Options};
use crate::say;

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
    _child: Child,
    _folder: tempfile::TempDir,
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
    /// Starts one in front of these backends. Calls of `Say` may be sent again, those of `Plain` may not.
    pub(crate) async fn start(backends: &[Backend]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let descriptors = folder.path().join("echo.binpb");
        std::fs::write(&descriptors, backend::pb::ECHO_SET).expect("a file");
        let endpoints: Vec<_> = backends.iter().map(|backend| format!("\"{}\"", backend.address)).collect();
        let config = format!(
            "listeners: [ {{ address: \"127.0.0.1:0\" }} ]\nadmin: {{ address: \"127.0.0.1:0\" }}\nworkers: 2\n\
             telemetry: {{ access_log: {{ path: off }} }}\n\
             upstreams: [ {{ name: echo, endpoints: [{}], schema: {{ descriptor_set: echo.binpb }}, \
             health_check: {{ interval: 500ms, timeout: 300ms }} }} ]\n\
             policies: [ {{ match: portico.test.v1.Echo/Say, retry: {{ retries: 3 }} }} ]\n",
            endpoints.join(", ")
        );
        let file = folder.path().join("portico.yaml");
        std::fs::write(&file, config).expect("a file");
        let mut child = Command::new(env!("CARGO_BIN_EXE_portico"))
            .arg("run")
            .arg("--config")
            .arg(&file)
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
            found.extend(line.rsplit([' ', '/']).next().and_then(|word| word.parse::<SocketAddr>().ok()));
        }
        tokio::spawn(drain(lines));
        let (address, admin) = (found[0], found[1]);
        Self { address, admin, _child: child, _folder: folder }
    }

    /// The values of all series whose name and labels begin so, added up.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let mut stream = TcpStream::connect(self.admin).await.expect("the admin address");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("a request");
        let mut page = String::new();
        stream.read_to_string(&mut page).await.expect("a reply");
        let values = page.lines().filter(|line| line.starts_with(series)).filter_map(|line| line.rsplit(' ').next());
        values.filter_map(|value| value.parse::<f64>().ok()).sum()
    }
}

/// Keeps the pipe from filling.
async fn drain(mut lines: Lines<BufReader<ChildStderr>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        if std::env::var_os("SOAK_LOG").is_some() {
            say(&format!("gateway: {line}"));
        }
    }
}
