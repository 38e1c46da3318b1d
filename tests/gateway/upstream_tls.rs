//! TLS towards upstreams: whom the gateway trusts, who it says it is, and calls and reflection over it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use http::{Method, StatusCode};
use tempfile::TempDir;
use tonic::Code;

use crate::support::backend::{self, Backend, pb};
use crate::support::client::{Client, Reply, Version};
use crate::support::gateway::TestGateway;
use crate::support::process::{self, Portico};
use crate::support::rest::seen;
use crate::support::tls::{Authority, VALID};

const SAY: &str = "/portico.test.v1.Echo/Say";

/// A backend in TLS, and a folder with the authority (`ca.pem`), another one (`other.pem`) and a client's identity
/// (`server.pem`, `server.key`).
struct Behind {
    authority: Authority,
    backend: Backend,
    address: SocketAddr,
    files: TempDir,
}

impl Behind {
    async fn tls(protocols: &[&str], clients: bool) -> Self {
        let authority = Authority::new();
        let backend = backend::start().await;
        let address = authority.front(backend.address, protocols, clients).await;
        let files = tempfile::tempdir().expect("a folder");
        std::fs::write(files.path().join("ca.pem"), &authority.certificate).expect("a file");
        std::fs::write(files.path().join("other.pem"), Authority::new().certificate).expect("a file");
        authority.issue(VALID).write(files.path());
        Self { authority, backend, address, files }
    }

    /// A gateway with these keys in `tls`; `DIR` stands for the folder.
    async fn gateway(&self, tls: &str) -> TestGateway {
        self.gateway_at(&format!("localhost:{}", self.address.port()), tls).await
    }

    async fn gateway_at(&self, endpoint: &str, tls: &str) -> TestGateway {
        let tls = tls.replace("DIR", &self.folder().display().to_string());
        TestGateway::start(&format!("upstreams: [{{ name: echo, endpoints: [\"{endpoint}\"], tls: {{ {tls} }} }}]\n"))
            .await
    }

    fn folder(&self) -> &Path {
        self.files.path()
    }
}

/// What keeps the schema away, once it was looked for.
async fn problem(gateway: &TestGateway) -> String {
    let told = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        loop {
            ticks.tick().await;
            let reasons = gateway.operator("/readyz").await.json()["reasons"].to_string();
            if reasons.contains("reflection at") {
                return reasons;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), told).await.expect("a reason is given in time")
}

async fn say(gateway: &TestGateway) -> Reply {
    gateway.client(Version::Http2).await.json(Method::POST, SAY, r#"{"text": "hi"}"#).await
}

#[tokio::test]
async fn calls_and_reflection_go_over_tls_in_every_protocol() {
    let behind = Behind::tls(&["h2"], false).await;
    let gateway = behind.gateway("ca: DIR/ca.pem").await;
    gateway.ready().await;

    for version in Version::BOTH {
        let reply = gateway.client(version).await.json(Method::POST, SAY, r#"{"text": "hi"}"#).await;
        assert_eq!((reply.status, reply.json()["text"].as_str()), (StatusCode::OK, Some("hi")), "{reply:?}");
    }
    let mut grpc = backend::client(gateway.address).await;
    let behaviour = Some(pb::Behaviour { count: 3, ..pb::Behaviour::default() });
    let text = "x".repeat(300_000);
    let request = pb::SayRequest { text: text.clone(), behaviour };
    let mut stream = grpc.repeat(request).await.expect("a stream").into_inner();
    for _ in 0..3 {
        assert_eq!(stream.message().await.expect("no error").expect("a message").text, text);
    }
    assert!(stream.message().await.expect("no error").is_none());
    let failure = Some(pb::Failure { code: 5, message: "none".into(), ..pb::Failure::default() });
    let behaviour = Some(pb::Behaviour { failure, ..pb::Behaviour::default() });
    let status = grpc.say(pb::SayRequest { text: String::new(), behaviour }).await.expect_err("a refusal");
    assert_eq!((status.code(), status.message()), (Code::NotFound, "none"));
    assert!(behind.backend.tally.counts().connections >= 1);
}

#[tokio::test]
async fn a_server_of_another_authority_or_name_is_not_called() {
    let behind = Behind::tls(&["h2"], false).await;

    let untrusted = behind.gateway("ca: DIR/other.pem").await;
    let misnamed = behind.gateway("ca: DIR/ca.pem, server_name: elsewhere.example.com").await;
    let unnamed = behind.gateway_at(&behind.address.to_string(), "ca: DIR/ca.pem").await;
    let clear = TestGateway::start(&format!(
        "upstreams: [{{ name: echo, endpoints: [\"{}\"], tls: {{ ca: {}/ca.pem }} }}]\n",
        behind.backend.address,
        behind.folder().display()
    ))
    .await;

    for (gateway, words) in [
        (&untrusted, "invalid peer certificate: "),
        (&misnamed, "not valid for name \\\"elsewhere.example.com\\\""),
        (&unnamed, "not valid for name \\\"127.0.0.1\\\""),
        (&clear, "TLS handshake failed"),
    ] {
        let problem = problem(gateway).await;
        assert!(problem.contains(words), "{problem}");
        assert_eq!(say(gateway).await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(behind.backend.tally.counts().started, 0);
}

#[tokio::test]
async fn the_name_of_the_certificate_may_be_another_than_that_of_the_endpoint() {
    let behind = Behind::tls(&["h2"], false).await;
    let gateway = behind.gateway_at(&behind.address.to_string(), "ca: DIR/ca.pem, server_name: localhost").await;
    gateway.ready().await;

    let reply = say(&gateway).await;

    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
}

#[tokio::test]
async fn a_server_that_does_not_agree_to_http2_is_not_called() {
    for protocols in [&["http/1.1"][..], &[]] {
        let behind = Behind::tls(protocols, false).await;
        let gateway = behind.gateway("ca: DIR/ca.pem").await;

        let problem = problem(&gateway).await;

        assert!(problem.contains("TLS handshake failed") || problem.contains("does not agree to HTTP/2"), "{problem}");
        assert_eq!(say(&gateway).await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
}

#[tokio::test]
async fn the_gateway_shows_its_own_certificate_where_it_is_asked_for_one() {
    let behind = Behind::tls(&["h2"], true).await;
    let identified = behind.gateway("ca: DIR/ca.pem, certificate: DIR/server.pem, key: DIR/server.key").await;
    let nameless = behind.gateway("ca: DIR/ca.pem").await;
    identified.ready().await;

    assert_eq!(say(&identified).await.status, StatusCode::OK);
    let problem = problem(&nameless).await;
    // In TLS 1.3 the gateway may have sent its first words before it hears that it is not welcome.
    assert!(problem.contains("CertificateRequired") || problem.contains("does `tls` say"), "{problem}");
    let text = format!("{:?}", identified.inner().snapshot().config);
    assert!(text.contains("ClientTls") && !text.contains("PRIVATE"), "{text}");
}

#[tokio::test]
async fn an_expired_server_certificate_is_not_trusted() {
    let behind = Behind::tls(&["h2"], false).await;
    let expired = behind.authority.issue((2020, 2021));
    let address = behind.authority.front_as(&expired, behind.backend.address, &["h2"], false).await;
    let gateway = behind.gateway_at(&format!("localhost:{}", address.port()), "ca: DIR/ca.pem").await;

    let problem = problem(&gateway).await;

    assert!(problem.contains("expired"), "{problem}");
}

#[tokio::test]
async fn the_command_line_takes_https() {
    let behind = Behind::tls(&["h2"], false).await;
    let upstream = format!("https://localhost:{}", behind.address.port());
    let (ca, other) = (behind.folder().join("ca.pem"), behind.folder().join("none.pem"));
    let (ca, other) = (ca.display().to_string(), other.display().to_string());
    let flags = |ca| ["run", "--upstream", &upstream, "--upstream-ca", ca, "--listen", "127.0.0.1:0", "--admin", "off"];

    let mut portico = Portico::start(&flags(&ca));
    let listener = portico.address("portico listens on").await;
    portico.said("schema loaded").await;
    let reply = Client::connect(listener, Version::Http1).await.get("/test/v1/say/hi").await;
    portico.terminate().await;
    let ended = portico.end().await;
    let wrong = process::run(&flags(&other)).await;

    let authority = upstream.trim_start_matches("https://");
    assert_eq!((reply.status, seen(&reply, ":authority")), (StatusCode::OK, vec![authority.to_owned()]), "{reply:?}");
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert_eq!(wrong.code, Some(1), "{}", wrong.said);
    assert!(wrong.said.contains("none.pem does not exist"), "{}", wrong.said);
}
