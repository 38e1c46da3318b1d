//! Passwords, certificates, and tokens whose issuer is asked; and what is written down of any of them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::SanType;
use serde_json::{Value, json};

use crate::support::backend::{self, Backend};
use crate::support::callers::{everywhere, granted, refused};
use crate::support::client::{Client, Version, request};
use crate::support::gateway::{TestGateway, upstream};
use crate::support::tls::{Authority, VALID, connect};
use crate::support::tokens::{Private, Publication, Publisher, now};

const SAY: &str = "/test/v1/say/hi";

struct Site {
    folder: tempfile::TempDir,
    _backend: Backend,
    gateway: TestGateway,
}

impl Site {
    /// Every method asks for `it`; `FOLDER` stands for where files are.
    async fn start(text: &str, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, contents) in files {
            std::fs::write(folder.path().join(name), contents).expect("a file");
        }
        let backend = backend::start().await;
        let text = text.replace("FOLDER", &folder.path().display().to_string());
        let gateway = TestGateway::start(&format!(
            "{}{text}\npolicies: [ {{ match: \"*\", authenticate: it }} ]\n",
            upstream("echo", backend.address)
        ))
        .await;
        gateway.ready().await;
        Self { folder, _backend: backend, gateway }
    }
}

fn basic(pair: &str) -> String {
    format!("Basic {}", STANDARD.encode(pair))
}

async fn with_header(client: &mut Client, name: &str, value: &str) -> u16 {
    client.send(request(http::Method::GET, SAY, &[(name, value)], "")).await.status.as_u16()
}

#[tokio::test]
async fn a_password_lets_its_user_in_by_every_protocol_and_is_checked_once() {
    let asked = "Basic realm=\"Library\", charset=\"UTF-8\"";
    let wrong = format!("{asked}, error=\"invalid_token\"");
    let users = include_str!("../../examples/credentials/office.yaml");
    let site = Site::start(
        "authentication: { basic: [ { name: it, file: FOLDER/users.yaml, realm: Library } ] }",
        &[("users.yaml", users)],
    )
    .await;

    granted(&site.gateway, &[("authorization", &basic("ann:correct horse"))], "ann").await;
    refused(&site.gateway, &[], asked, "nothing").await;
    refused(&site.gateway, &[("authorization", "Bearer x")], asked, "another scheme").await;
    for pair in ["ann:correct horse ", "ann:", "ann", ":correct horse", "eve:correct horse", "", "Ann:correct horse"] {
        refused(&site.gateway, &[("authorization", &basic(pair))], &wrong, pair).await;
    }
    refused(&site.gateway, &[("authorization", "Basic !")], &wrong, "no base64").await;
    let good = basic("ann:correct horse");
    for second in [&good, "Bearer x", "Basic !"] {
        refused(&site.gateway, &[("authorization", &good), ("authorization", second)], &wrong, second).await;
        refused(&site.gateway, &[("authorization", second), ("authorization", &good)], &wrong, second).await;
    }

    // A password that is changed lets nobody in who knows the old one, though that was remembered.
    std::fs::write(site.folder.path().join("users.yaml"), "users: []").expect("a file");
    let mut client = site.gateway.client(Version::Http2).await;
    let forgotten = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while with_header(&mut client, "authorization", &basic("ann:correct horse")).await != 401 {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), forgotten).await.expect("the file is read again in time");
}

#[tokio::test]
async fn a_flood_of_wrong_passwords_keeps_nobody_out_whose_own_was_checked() {
    let users = include_str!("../../examples/credentials/office.yaml");
    let site =
        Site::start("authentication: { basic: [ { name: it, file: FOLDER/users.yaml } ] }", &[("users.yaml", users)])
            .await;
    let good = basic("ann:correct horse");
    let mut client = site.gateway.client(Version::Http2).await;
    assert_eq!(with_header(&mut client, "authorization", &good).await, 200);
    let mut flood = tokio::task::JoinSet::new();
    for number in 0..200 {
        let address = site.gateway.address;
        flood.spawn(async move {
            let mut client = Client::connect(address, Version::Http2).await;
            with_header(&mut client, "authorization", &basic(&format!("ann:{number}"))).await
        });
    }
    while let Some(status) = flood.join_next().await {
        // Those that would have to wait too long are told so.
        assert!([401, 503].contains(&status.expect("no panic")));
        assert_eq!(with_header(&mut client, "authorization", &good).await, 200);
    }
}

#[tokio::test]
async fn a_certificate_lets_its_owner_in() {
    let authority = Authority::new();
    let server = authority.issue(VALID);
    let site = Site::start(
        "listeners: [ { address: \"127.0.0.1:0\", tls: { certificate: FOLDER/server.pem, key: FOLDER/server.key, client_ca: FOLDER/clients.pem } } ]
authentication: { certificates: [ { name: it } ] }",
        &[("server.pem", &server.certificate), ("server.key", &server.key), ("clients.pem", &authority.certificate)],
    )
    .await;
    let uri = SanType::URI("spiffe://example.org/ns/billing".try_into().expect("a URI"));
    let dns = SanType::DnsName("billing.example.org".try_into().expect("a name"));
    for (names, expected) in [(vec![uri], 200), (vec![dns], 200), (vec![], 401)] {
        for version in Version::BOTH {
            let identity = authority.issue_client(names.clone());
            let stream =
                connect(site.gateway.address, authority.client(&[], Some(&identity))).await.expect("a handshake");
            let mut client = Client::over(stream, site.gateway.address, version).await;

            let reply = client.get(SAY).await;

            assert_eq!(reply.status.as_u16(), expected, "{names:?} {reply:?}");
        }
    }
    // A client may have none where others ways are enough.
    let site = Site::start(
        "listeners: [ { address: \"127.0.0.1:0\", tls: { certificate: FOLDER/server.pem, key: FOLDER/server.key, client_ca: FOLDER/clients.pem, client_auth: optional } } ]
authentication: { certificates: [ { name: it } ] }",
        &[("server.pem", &server.certificate), ("server.key", &server.key), ("clients.pem", &authority.certificate)],
    )
    .await;
    let identity = authority.issue_client(vec![SanType::DnsName("billing.example.org".try_into().expect("a name"))]);
    for (identity, expected) in [(Some(&identity), 200), (None, 401)] {
        let stream = connect(site.gateway.address, authority.client(&["h2"], identity)).await.expect("a handshake");
        let mut client = Client::over(stream, site.gateway.address, Version::Http2).await;
        assert_eq!(client.get(SAY).await.status.as_u16(), expected);
    }
    // Without TLS there is none to show.
    let site = Site::start("authentication: { certificates: [ { name: it } ] }", &[]).await;
    refused(
        &site.gateway,
        &[("x-forwarded-client-cert", "URI=spiffe://example.org/x")],
        "Mutual realm=\"portico\"",
        "none",
    )
    .await;
}

#[tokio::test]
async fn an_issuer_is_asked_about_its_tokens_and_its_answers_are_kept() {
    let active = |more: Value| {
        let mut answer = json!({"active": true, "sub": "ann", "scope": "read", "aud": "library"});
        answer.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        Publication::of(&answer)
    };
    let publisher = Publisher::start(active(json!({}))).await;
    let site = Site::start(
        &format!(
            "authentication: {{ introspection: [ {{ name: it, url: \"http://{}/introspect\", client_id: \"a b\", client_secret: \"c:d\",
  audiences: [library], cache: 1m, timeout: 300ms }} ] }}",
            publisher.address
        ),
        &[],
    )
    .await;
    let (asked, wrong) = ("Bearer realm=\"portico\"", "Bearer realm=\"portico\", error=\"invalid_token\"");

    granted(&site.gateway, &[("authorization", "Bearer opaque-1+/=")], "active").await;
    assert!((1..=2).contains(&publisher.requests()), "{} questions: once for each worker", publisher.requests());
    let question = publisher.seen().remove(0);
    assert!(question.starts_with("POST /introspect HTTP/1.1\r\n"), "{question}");
    assert!(question.ends_with("\r\n\r\ntoken=opaque-1%2B%2F%3D&token_type_hint=access_token"), "{question}");
    assert!(question.contains(&format!("authorization: {}\r\n", basic("a%20b:c%3Ad"))), "{question}");
    refused(&site.gateway, &[], asked, "nothing").await;
    for (name, answer) in [
        ("inactive", Publication::of(&json!({"active": false}))),
        ("expired", active(json!({"exp": now() - 1}))),
        ("not yet", active(json!({"nbf": now() + 600}))),
        ("for others", active(json!({"aud": "other"}))),
        ("no time", active(json!({"exp": "soon"}))),
    ] {
        publisher.answer(answer);
        refused(&site.gateway, &[("authorization", &format!("Bearer {name}"))], wrong, name).await;
    }
    for (name, answer) in [
        ("a word", Publication::of(&json!({"active": "true"}))),
        ("nothing", Publication::of(&json!({}))),
        ("twice", Publication { body: "{\"active\":false,\"active\":true}".into(), ..active(json!({})) }),
        ("an error", Publication { status: "500 Internal Server Error", ..active(json!({})) }),
        ("a redirect", Publication { status: "302 Found", headers: "location: /\r\n".into(), ..active(json!({})) }),
        ("silence", Publication { delay: Duration::from_secs(30), ..active(json!({})) }),
    ] {
        publisher.answer(answer);
        let mut client = site.gateway.client(Version::Http2).await;
        assert_eq!(with_header(&mut client, "authorization", &format!("Bearer {name}")).await, 503, "{name}");
    }
    publisher.answer(Publication { status: "503 Service Unavailable", ..active(json!({})) });
    for (name, outcome) in everywhere(&site.gateway, &[("authorization", "Bearer away")]).await {
        assert_eq!((outcome.code, outcome.challenge), (14, None), "{name}: nobody gets in while the issuer is away");
    }
    let before = publisher.requests();
    granted(&site.gateway, &[("authorization", "Bearer opaque-1+/=")], "remembered").await;
    assert!(publisher.requests() - before <= 1, "an answer is kept");
}

#[tokio::test]
async fn the_log_says_what_was_wrong_and_never_what_was_shown() {
    let key = Private::p256();
    let set = json!({"keys": [key.jwk("k")]}).to_string();
    let site = Site::start(
        &format!(
            "telemetry: {{ access_log: {{ format: json, path: FOLDER/access.log }} }}
authentication: {{ jwt: [ {{ name: it, issuer: \"{}\", audiences: [api], jwks: {{ inline: {set:?} }}, query: access_token }} ] }}",
            crate::support::tokens::ISSUER
        ),
        &[],
    )
    .await;
    let mut client = site.gateway.client(Version::Http1).await;
    let token = Private::p256().good("ES256", "k");
    assert_eq!(with_header(&mut client, "authorization", &format!("Bearer {token}")).await, 401);
    assert_eq!(client.get(&format!("{SAY}?access_token={token}")).await.status.as_u16(), 401);
    assert_eq!(client.get(SAY).await.status.as_u16(), 401);

    let granted = site.gateway.metric("portico_authentication_total{provider=\"it\",result=\"invalid\"}").await;
    site.gateway.stop().await;
    let log = std::fs::read_to_string(site.folder.path().join("access.log")).expect("a log");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let said: Vec<_> = lines.iter().map(|line| (line["reason"].as_str(), line["note"].as_str())).collect();
    assert_eq!(
        said,
        [
            (Some("INVALID_TOKEN"), Some("it: signature")),
            (Some("INVALID_TOKEN"), Some("it: signature")),
            (Some("CREDENTIALS_MISSING"), None)
        ]
    );
    assert!(token.split('.').all(|part| !log.contains(part)), "{log}");
    assert_eq!(granted, 2.0);
}
