//! Keys of issuers while the gateway runs: in files that change, and of issuers that come and go with a reload.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::support::backend::{self, Backend};
use crate::support::client::{Client, Version, request};
use crate::support::gateway::upstream;
use crate::support::process::Portico;
use crate::support::tokens::{ISSUER, Private, Publication, Publisher};

const SAY: &str = "/test/v1/say/hi";
const REPEAT: &str = "/test/v1/repeat/hi";

/// The program with a configuration that a test changes.
struct Site {
    _portico: Portico,
    listener: SocketAddr,
    admin: SocketAddr,
    backend: Backend,
    folder: TempDir,
}

impl Site {
    /// With this file of keys, `keys.json`, and what comes behind the usual sections.
    async fn start(keys: &str, text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let backend = backend::start().await;
        write(&folder, "keys.json", keys);
        configure(&folder, backend.address, text);
        let path = folder.path().join("portico.yaml");
        let mut portico = Portico::start(&["run", "--config", path.to_str().expect("text")]);
        let listener = portico.address("portico listens on").await;
        let admin = portico.address("admin listens on").await;
        let site = Self { _portico: portico, listener, admin, backend, folder };
        until(async || site.is_ready().await).await;
        site
    }

    async fn is_ready(&self) -> bool {
        Client::connect(self.admin, Version::Http1).await.get("/readyz").await.status == 200
    }

    async fn reload(&self, text: &str) {
        configure(&self.folder, self.backend.address, text);
        let mut operator = Client::connect(self.admin, Version::Http1).await;
        let reply = operator.send(request(Method::POST, "/reload", &[], "")).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
}

fn write(folder: &TempDir, name: &str, text: &str) {
    std::fs::write(folder.path().join(name), text).expect("a file");
}

fn configure(folder: &TempDir, backend: SocketAddr, text: &str) {
    let usual = "listeners: [ { address: \"127.0.0.1:0\" } ]
admin: { address: \"127.0.0.1:0\" }
workers: 2
telemetry: { access_log: { path: off } }\n";
    write(folder, "portico.yaml", &format!("{}{usual}{text}\n", upstream("echo", backend)));
}

/// A provider whose keys that publisher has.
fn fetched(name: &str, publisher: &Publisher) -> String {
    let jwks = format!("{{ url: \"{}\", min_interval: 100ms, refresh: 100ms, timeout: 30s }}", publisher.url());
    format!("{{ name: {name}, issuer: \"{ISSUER}\", audiences: [api], jwks: {jwks} }}")
}

async fn status(client: &mut Client, path: &str, token: &str) -> u16 {
    let headers = [("authorization", &*format!("Bearer {token}"))];
    client.send(request(Method::GET, path, &headers, "")).await.status.as_u16()
}

/// Waits until that holds, at most a minute.
async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while !holds().await {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it comes to that");
}

#[tokio::test]
async fn keys_in_a_file_are_read_again_without_another_configuration() {
    let (first, second) = (Private::p256(), Private::p256());
    let text = format!(
        "authentication: {{ jwt: [ {{ name: staff, issuer: \"{ISSUER}\", audiences: [api], jwks: {{ file: keys.json }} }} ] }}
policies: [ {{ match: \"*\", authenticate: staff }} ]"
    );
    let site = Site::start(&json!({"keys": [first.jwk("1")]}).to_string(), &text).await;
    let mut client = Client::connect(site.listener, Version::Http2).await;
    let (one, two) = (first.good("ES256", "1"), second.good("ES256", "2"));
    assert_eq!(status(&mut client, SAY, &one).await, 200);

    write(&site.folder, "keys.json", &json!({"keys": [second.jwk("2")]}).to_string());
    until(async || status(&mut client, SAY, &two).await == 200).await;

    assert_eq!(status(&mut client, SAY, &one).await, 401);
    let metrics = Client::connect(site.admin, Version::Http1).await.get("/metrics").await;
    let metrics = String::from_utf8(metrics.body.to_vec()).expect("text");
    assert!(metrics.contains("portico_config_reloads_total{result=\"ok\"} 0\n"), "{metrics}");
}

#[tokio::test]
async fn an_issuer_that_comes_with_a_reload_is_waited_for_by_its_callers_alone() {
    let (staff, partner) = (Private::p256(), Private::p256());
    let known = Publisher::start(Publication::keys(&[staff.jwk("1")])).await;
    let away = Publication { status: "503 Service Unavailable", ..Publication::keys(&[partner.jwk("2")]) };
    let new = Publisher::start(away.clone()).await;
    let site = Site::start(
        "",
        &format!(
            "authentication: {{ jwt: [ {} ] }}\npolicies: [ {{ match: \"*\", authenticate: staff }} ]",
            fetched("staff", &known)
        ),
    )
    .await;

    site.reload(&format!(
        "authentication: {{ jwt: [ {}, {} ] }}
policies:
  - {{ match: \"*\", authenticate: staff }}
  - {{ match: portico.test.v1.Echo/Repeat, authenticate: partners }}",
        fetched("staff", &known),
        fetched("partners", &new)
    ))
    .await;
    until(async || new.requests() > 2).await;

    let mut client = Client::connect(site.listener, Version::Http2).await;
    assert!(site.is_ready().await);
    assert_eq!(status(&mut client, SAY, &staff.good("ES256", "1")).await, 200);
    assert_eq!(status(&mut client, REPEAT, &partner.good("ES256", "2")).await, 503);
    new.answer(Publication { status: "200 OK", ..away });
    until(async || status(&mut client, REPEAT, &partner.good("ES256", "2")).await == 200).await;
}

#[tokio::test]
async fn an_issuer_that_is_gone_is_not_asked_any_more_until_it_comes_back() {
    let (old, new) = (Private::p256(), Private::p256());
    let before = Publisher::start(Publication::keys(&[old.jwk("1")])).await;
    let after = Publisher::start(Publication::keys(&[new.jwk("2")])).await;
    let with = |publisher: &Publisher| {
        format!(
            "authentication: {{ jwt: [ {} ] }}\npolicies: [ {{ match: \"*\", authenticate: staff }} ]",
            fetched("staff", publisher)
        )
    };
    let site = Site::start("", &with(&before)).await;
    let mut client = Client::connect(site.listener, Version::Http2).await;
    assert_eq!(status(&mut client, SAY, &old.good("ES256", "1")).await, 200);

    // No call is made by the other worker, which has still what it had.
    site.reload(&with(&after)).await;
    let asked = before.requests();
    until(async || after.requests() > 10).await;

    assert!(before.requests() <= asked + 1, "one question may have been under way");
    assert_eq!(status(&mut client, SAY, &new.good("ES256", "2")).await, 200);
    assert_eq!(status(&mut client, SAY, &old.good("ES256", "1")).await, 401);
    let asked = before.requests();
    site.reload(&with(&before)).await;
    until(async || before.requests() > asked + 2).await;
    assert_eq!(status(&mut client, SAY, &old.good("ES256", "1")).await, 200);
}
