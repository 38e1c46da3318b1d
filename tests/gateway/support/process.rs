//! The real `portico` binary as a process.
#![allow(dead_code, reason = "a toolbox: not every test run uses every tool")]

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use super::memory;

/// Longer than anything here takes; what waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running process. Dropping it kills it.
pub(crate) struct Portico {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    /// What it wrote to standard error as far as it was read.
    pub(crate) seen: Vec<String>,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    /// All of standard error.
    pub(crate) said: String,
}

impl Portico {
    /// Starts the binary with those arguments.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::run(Command::new(env!("CARGO_BIN_EXE_portico")).args(arguments))
    }

    /// The same, where a process may have so many files open unless it asks for more, up to `most`.
    pub(crate) fn start_with_files(files: u32, most: u32, arguments: &[&str]) -> Self {
        let script = format!("ulimit -Sn {files} && ulimit -Hn {most} && exec \"$0\" \"$@\"");
        Self::run(Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_portico")]).args(arguments))
    }

    fn run(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let lines = BufReader::new(child.stderr.take().expect("standard error is piped")).lines();
        Self { child, lines, seen: Vec::new() }
    }

    /// Reads up to the first line of standard error that contains the words.
    pub(crate) async fn line(&mut self, words: &str) -> String {
        loop {
            let read = timeout(PATIENCE, self.lines.next_line()).await;
            assert!(read.is_ok(), "no line has {words:?}: {:?}", self.seen);
            let line = read.expect("just asserted").expect("a readable pipe");
            assert!(line.is_some(), "it ended without {words:?}: {:?}", self.seen);
            let line = line.expect("just asserted");
            self.seen.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Returns once it has written a line that contains the words, however long ago.
    pub(crate) async fn said(&mut self, words: &str) {
        if !self.seen.iter().any(|line| line.contains(words)) {
            self.line(words).await;
        }
    }

    /// The address at the end of the first line that contains the words.
    pub(crate) async fn address(&mut self, words: &str) -> SocketAddr {
        let line = self.line(words).await;
        let word = line.rsplit([' ', '/']).next().unwrap_or_default();
        word.parse().expect("the line ends in an address")
    }

    /// The memory that it occupies now, in bytes.
    pub(crate) fn resident(&self) -> usize {
        memory::resident(self.child.id().expect("it runs"))
    }

    /// Asks it to stop.
    pub(crate) async fn terminate(&self) {
        self.signal("-TERM").await;
    }

    /// Sends a signal.
    pub(crate) async fn signal(&self, signal: &str) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args([signal, &id]).status().await.expect("there is kill");
        assert!(sent.success());
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self) -> Ended {
        while let Some(line) =
            timeout(PATIENCE, self.lines.next_line()).await.expect("it ends").expect("a readable pipe")
        {
            self.seen.push(line);
        }
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("it can be waited for");
        Ended { code: status.code(), said: self.seen.join("\n") }
    }
}

/// Runs the binary to its end.
pub(crate) async fn run(arguments: &[&str]) -> Ended {
    Portico::start(arguments).end().await
}
