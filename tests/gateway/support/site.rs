//! A gateway in front of the echo service whose callers have API keys with attributes.
#![allow(dead_code, reason = "a toolbox: not every test run uses every tool")]

use std::path::PathBuf;

use aws_lc_rs::digest::{SHA256, digest};

use super::backend::{self, Backend};
use super::gateway::{TestGateway, upstream};

/// Who may call: names of keys with their attributes. The key of `ann` is `k-ann`.
const CALLERS: &str = "
  - { name: ann, attributes: { roles: [reader, librarian], level: 3, scope: books.read books.write, team: { name: art } } }
  - { name: bob, attributes: { roles: [reader], level: 1, scope: books.read } }
  - { name: eve, attributes: { roles: [librarian], level: 3, scope: books.read books.write, suspended: true } }
  - { name: zoe, attributes: { roles: [\"a,b\", \"é\"], level: 2, display: zoë } }
";

/// A running site.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    pub(crate) backend: Backend,
    pub(crate) gateway: TestGateway,
}

impl Site {
    /// A gateway with these policies, which has the providers `keys`, `cookies` and `queries`; `more` stands before the policies.
    pub(crate) async fn start(more: &str, policies: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let hashed: Vec<String> = CALLERS
            .lines()
            .map(|line| match line.split_once("name: ").and_then(|(_, rest)| rest.split_once(',')) {
                Some((name, _)) => {
                    let hash = digest(&SHA256, format!("k-{name}").as_bytes());
                    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
                    line.replace("attributes:", &format!("hash: \"sha256:{hash}\", attributes:"))
                }
                None => line.to_owned(),
            })
            .collect();
        let keys = folder.path().join("keys.yaml");
        std::fs::write(&keys, format!("keys:{}", hashed.join("\n"))).expect("a file");
        let backend = backend::start().await;
        let name = keys.display();
        let upstreams = match more.contains("upstreams:") {
            true => String::new(),
            false => upstream("echo", backend.address),
        };
        let text = format!(
            "{upstreams}{}
telemetry: {{ access_log: {{ format: json, path: {} }} }}
authentication:
  api_keys:
    - {{ name: keys, file: {name} }}
    - {{ name: cookies, file: {name}, header: x-session, cookie: session }}
    - {{ name: queries, file: {name}, header: x-query, query: key }}
policies:
{policies}
",
            more.replace("BACKEND", &backend.address.to_string()),
            folder.path().join("access.log").display(),
        );
        let gateway = TestGateway::start(&text).await;
        gateway.ready().await;
        Self { folder, backend, gateway }
    }

    /// The access log, once it has a line with all of these words.
    pub(crate) async fn logged(&self, words: &[&str]) -> String {
        let path: PathBuf = self.folder.path().join("access.log");
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(20));
        let waiting = async {
            loop {
                ticks.tick().await;
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                if let Some(line) = text.lines().find(|line| words.iter().all(|word| line.contains(word))) {
                    return line.to_owned();
                }
            }
        };
        let found = tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await;
        assert!(found.is_ok(), "{words:?} are not in {:?}", std::fs::read_to_string(&path));
        found.unwrap_or_default()
    }
}

/// The header that shows somebody's key.
pub(crate) fn key(name: &str) -> (&'static str, String) {
    ("x-api-key", format!("k-{name}"))
}
