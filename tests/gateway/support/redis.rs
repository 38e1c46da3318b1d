//! Real `redis-server` processes on free ports: one, a cluster, or a master with its replica and sentinel.
#![allow(dead_code, reason = "a toolbox: not every test run uses every tool")]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::{Client, RedisResult, Value};
use tempfile::TempDir;

/// A running server. Dropping it kills it.
pub(crate) struct Server {
    pub(crate) port: u16,
    process: Child,
    folder: TempDir,
    arguments: Vec<String>,
}

impl Server {
    /// A server without persistence.
    pub(crate) async fn start() -> Self {
        Self::with(&["--save", ""]).await
    }

    /// A server with these arguments, in a folder of its own. `{port}` in them is its port, `{folder}` its folder.
    pub(crate) async fn with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self::within(folder, arguments).await
    }

    /// As [`Server::with`], in a folder that has files already.
    pub(crate) async fn within(folder: TempDir, arguments: &[&str]) -> Self {
        // Another test may take the port between its choice and its use.
        for attempt in 1.. {
            assert!(attempt < 20, "no redis-server came up; is it installed? `make test` does that");
            let port = free_port();
            let place = folder.path().display().to_string();
            let fill = |text: &&str| text.replace("{port}", &port.to_string()).replace("{folder}", &place);
            let arguments: Vec<String> = arguments.iter().map(fill).collect();
            let mut process = spawn(&folder, port, &arguments);
            if listens(port, &mut process).await {
                return Self { port, process, folder, arguments };
            }
        }
        unreachable!("there is always another attempt, or none is left")
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// A client of the test's own, over a new connection. Fails when the server is not there.
    pub(crate) async fn run(&self, words: &[&str]) -> RedisResult<Value> {
        run(&self.url(), words).await
    }

    /// The same for a command that must succeed.
    pub(crate) async fn must(&self, words: &[&str]) -> Value {
        self.run(words).await.expect("the server takes the command")
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        self.process.kill().ok();
        self.process.wait().expect("it can be waited for");
    }

    /// Starts it again with the same folder, port and arguments; waits until it has loaded what it saved.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        self.process = spawn(&self.folder, self.port, &self.arguments);
        assert!(listens(self.port, &mut self.process).await, "the server comes up again");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command over a connection of its own.
pub(crate) async fn run(url: &str, words: &[&str]) -> RedisResult<Value> {
    let mut connection = Client::open(url)?.get_multiplexed_async_connection().await?;
    let mut command = redis::cmd(words.first().copied().unwrap_or("PING"));
    command.arg(words.get(1..).unwrap_or_default());
    command.query_async(&mut connection).await
}

/// Three masters that share the slots.
pub(crate) async fn cluster() -> Vec<Server> {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let bus = free_port().to_string();
        let arguments =
            ["--save", "", "--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "2000"];
        nodes.push(Server::with(&arguments).await);
    }
    let slots = ["0 5460", "5461 10922", "10923 16383"];
    for (node, slots) in nodes.iter().zip(slots) {
        let (from, until) = slots.split_once(' ').expect("two numbers");
        node.must(&["CLUSTER", "ADDSLOTSRANGE", from, until]).await;
    }
    let first = &nodes[0];
    for (node, epoch) in nodes.iter().zip(["1", "2", "3"]) {
        node.must(&["CLUSTER", "SET-CONFIG-EPOCH", epoch]).await;
    }
    let bus = first.arguments.iter().skip_while(|word| *word != "--cluster-port").nth(1).expect("it has a bus");
    for node in &nodes[1..] {
        node.must(&["CLUSTER", "MEET", "127.0.0.1", &first.port.to_string(), bus]).await;
    }
    for node in &nodes {
        until("the cluster is up", async || matches!(node.run(&["CLUSTER", "INFO"]).await,
            Ok(value) if format!("{value:?}").contains("cluster_state:ok") && format!("{value:?}").contains("cluster_known_nodes:3")))
        .await;
    }
    nodes
}

/// A sentinel that watches this master, whose name is `main`; alone it decides.
pub(crate) async fn sentinel(master: &Server) -> Server {
    let folder = tempfile::tempdir().expect("a folder");
    let port = master.port;
    let text = format!(
        "sentinel monitor main 127.0.0.1 {port} 1\nsentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n"
    );
    let file = folder.path().join("sentinel.conf");
    std::fs::write(&file, text).expect("a file");
    let file = file.display().to_string();
    Server::within(folder, &[&file, "--sentinel"]).await
}

/// Waits until that is so, at most twenty seconds.
pub(crate) async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while !is_so().await {
            ticks.tick().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), waiting).await.is_ok(), "in time, {what}");
}

fn spawn(folder: &TempDir, port: u16, arguments: &[String]) -> Child {
    let (files, arguments): (Vec<_>, Vec<_>) = arguments.iter().partition(|word| word.ends_with(".conf"));
    Command::new("redis-server")
        .args(files)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--dir", &folder.path().display().to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed; `make test` does that")
}

/// Whether the process answers on its port before it ends.
async fn listens(port: u16, process: &mut Child) -> bool {
    let url = format!("redis://127.0.0.1:{port}");
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    loop {
        if process.try_wait().expect("it can be waited for").is_some() {
            return false;
        }
        match run(&url, &["PING"]).await {
            Ok(_) => return true,
            // It asks for a password, or still reads what it saved.
            Err(error) if error.code() == Some("NOAUTH") => return true,
            Err(error) if error.kind() == redis::ErrorKind::AuthenticationFailed => return true,
            Err(_) => {}
        }
        ticks.tick().await;
    }
}

pub(crate) fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        // Redis adds 10,000 for the bus of a cluster unless it is told otherwise.
        if port < 55_000 {
            return port;
        }
    }
}
