//! TLS on the listener: both versions of HTTP by ALPN, certificates of clients, and everything that is no handshake.

use std::time::Duration;

use http::{Method, StatusCode};
use rustls::ClientConfig;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend::pb::{SayReply, SayRequest};
use crate::support::backend::{self, Backend};
use crate::support::client::{Client, Reply, Version, request};
use crate::support::gateway::{TestGateway, upstream};
use crate::support::grpc::{CONVERSE, Raw, soon};
use crate::support::process::Portico;
use crate::support::rest::{raw_http1, seen};
use crate::support::tls::{Authority, Identity, VALID, connect, connect_as, serial_of};

/// A gateway with TLS, and who issued its certificate.
struct Secure {
    authority: Authority,
    gateway: TestGateway,
    _backend: Backend,
    _files: TempDir,
}

impl Secure {
    async fn start() -> Self {
        let authority = Authority::new();
        let identity = authority.issue(VALID);
        Self::with(authority, &identity, "", "").await
    }

    /// With more keys beside the certificate, and beside `tls`; `{folder}` is where files are.
    async fn with(authority: Authority, identity: &Identity, tls: &str, more: &str) -> Self {
        let files = tempfile::tempdir().expect("a folder");
        identity.write(files.path());
        std::fs::write(files.path().join("clients.pem"), &authority.certificate).expect("a file");
        let folder = files.path().display().to_string();
        let tls = tls.replace("{folder}", &folder);
        let backend = backend::start().await;
        let gateway = TestGateway::start(&format!(
            "{}listeners:\n  - address: 127.0.0.1:0\n    tls: {{ certificate: {folder}/server.pem, key: {folder}/server.key{tls} }}\n    {more}\n",
            upstream("echo", backend.address)
        ))
        .await;
        gateway.ready().await;
        Self { authority, gateway, _backend: backend, _files: files }
    }

    fn client(&self, protocols: &[&str]) -> ClientConfig {
        self.authority.client(protocols, None)
    }

    /// A call over a connection with that ALPN, and what was agreed upon.
    async fn call(&self, protocols: &[&str], version: Version) -> (Option<String>, Reply) {
        let stream = connect(self.gateway.address, self.client(protocols)).await.expect("a handshake");
        let agreed = stream.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        let mut client = Client::over(stream, self.gateway.address, version).await;
        (agreed, client.get("/test/v1/say/hi").await)
    }

    async fn failures(&self) -> f64 {
        self.gateway.metric("portico_tls_failures_total").await
    }
}

#[tokio::test]
async fn alpn_decides_the_version_and_without_it_the_first_bytes_do() {
    let secure = Secure::start().await;
    let (h1, h2) = (Some("http/1.1".to_owned()), Some("h2".to_owned()));

    for (protocols, version, expected) in [
        (&["h2", "http/1.1"][..], Version::Http2, &h2),
        (&["http/1.1", "h2"], Version::Http2, &h2),
        (&["http/1.1"], Version::Http1, &h1),
        (&["h2"], Version::Http2, &h2),
        (&[], Version::Http1, &None),
        (&[], Version::Http2, &None),
    ] {
        let (agreed, reply) = secure.call(protocols, version).await;

        assert_eq!(agreed, *expected, "{protocols:?}");
        assert_eq!(reply.status, StatusCode::OK, "{protocols:?} {reply:?}");
        assert_eq!(seen(&reply, "x-forwarded-proto"), ["https"], "{protocols:?}");
    }
    let unknown = connect(secure.gateway.address, secure.client(&["spdy/3"])).await;
    assert!(unknown.expect_err("nothing in common").to_string().contains("NoApplicationProtocol"));
    secure.gateway.metric_reaches("portico_tls_failures_total", 1.0).await;
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken() {
    let secure = Secure::start().await;
    for (version, name) in [(&rustls::version::TLS12, "TLSv1_2"), (&rustls::version::TLS13, "TLSv1_3")] {
        let config = secure.authority.client_of(&[version], &["h2"], None);
        let stream = connect(secure.gateway.address, config).await.expect("a handshake");

        assert_eq!(format!("{:?}", stream.get_ref().1.protocol_version().expect("a version")), name);
        let mut client = Client::over(stream, secure.gateway.address, Version::Http2).await;
        assert_eq!(client.get("/test/v1/say/hi").await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn grpc_streams_and_large_bodies_pass() {
    let secure = Secure::start().await;
    let stream = connect(secure.gateway.address, secure.client(&["h2"])).await.expect("a handshake");
    let mut client = Raw::over(stream, secure.gateway.address, 1 << 20).await;
    let text = "a".repeat(100_000);

    let mut call = client.begin(CONVERSE, &[], false).await;
    for index in 0..5 {
        call.message(&SayRequest { text: text.clone(), ..SayRequest::default() }, index == 4);
    }
    let answer = call.answer().await.expect("a reply");

    let replies = answer.messages::<SayReply>();
    assert_eq!((answer.code(), replies.len()), (0, 5), "{:?}", answer.trailers);
    assert!(replies.iter().all(|reply| reply.text == text));
    for version in Version::BOTH {
        let protocol = if version == Version::Http1 { "http/1.1" } else { "h2" };
        let stream = connect(secure.gateway.address, secure.client(&[protocol])).await.expect("a handshake");
        let mut client = Client::over(stream, secure.gateway.address, version).await;
        let body = "b".repeat(3 << 20);
        let reply = client.send(request(Method::POST, "/test/v1/raw", &[("content-type", "text/plain")], &body)).await;
        assert!(reply.status == StatusCode::OK && reply.body == body, "{version:?} {}", reply.status);
    }
}

#[tokio::test]
async fn connections_end_with_a_close_notify() {
    let secure = Secure::start().await;
    let mut stream = connect(secure.gateway.address, secure.client(&["http/1.1"])).await.expect("a handshake");

    stream.write_all(b"GET /test/v1/say/hi HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.expect("sent");
    let mut answer = Vec::new();
    // An end without close_notify would be an error: the reply could have been cut off by anybody.
    soon(stream.read_to_end(&mut answer)).await.expect("an orderly end");

    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_client_certificate_is_required_where_an_authority_is_named() {
    let authority = Authority::new();
    let identity = authority.issue(VALID);
    let secure = Secure::with(authority, &identity, ", client_ca: {folder}/clients.pem", "").await;
    let right = secure.authority.issue(VALID);
    let expired = secure.authority.issue((2020, 2021));
    let foreign = Authority::new().issue(VALID);

    for (identity, accepted) in [(Some(&right), true), (None, false), (Some(&expired), false), (Some(&foreign), false)]
    {
        let config = secure.authority.client(&["http/1.1"], identity);
        let reply = async {
            let mut stream = connect(secure.gateway.address, config).await?;
            stream.write_all(b"GET /test/v1/say/hi HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
            let mut answer = Vec::new();
            // In TLS 1.3 the client is through before the gateway has looked at its certificate.
            stream.read_to_end(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let reply = soon(reply).await;

        assert_eq!(reply.as_ref().is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200")), accepted, "{reply:?}");
        if !accepted {
            let alert = reply.expect_err("no reply").to_string();
            assert!(alert.contains("received fatal alert"), "{alert}");
        }
    }
    secure.gateway.metric_reaches("portico_tls_failures_total", 3.0).await;
}

#[tokio::test]
async fn a_client_that_trusts_another_authority_leaves() {
    let secure = Secure::start().await;

    let refused = connect(secure.gateway.address, Authority::new().client(&["h2"], None)).await;

    assert!(refused.expect_err("another authority").to_string().contains("invalid peer certificate"));
    secure.gateway.metric_reaches("portico_tls_failures_total", 1.0).await;
}

#[tokio::test]
async fn clear_text_on_the_port_is_told_so() {
    let secure = Secure::start().await;
    let address = secure.gateway.address;

    let http1 = soon(raw_http1(address, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")).await;
    let http2 = soon(raw_http1(address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")).await;
    let noise = soon(raw_http1(address, b"\0\x01\x02\x03")).await;
    let broken = soon(raw_http1(address, b"\x16\x03\x01\0\x04\x01\0\0\0")).await;

    assert!(http1.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{http1}");
    assert!(http1.ends_with("\r\n\r\nthis port speaks TLS; use https:// here"), "{http1}");
    assert_eq!((http2.len(), http2.as_bytes()[12]), (26, 7), "SETTINGS, then GOAWAY: {http2:?}");
    assert_eq!(noise, "");
    assert_eq!(broken.as_bytes().first(), Some(&21), "an alert: {broken:?}");
    secure.gateway.metric_reaches("portico_tls_failures_total", 4.0).await;
    assert_eq!(secure.call(&["h2"], Version::Http2).await.1.status, StatusCode::OK);
}

#[tokio::test]
async fn slow_handshakes_are_cut_and_silent_visitors_are_no_failure() {
    let authority = Authority::new();
    let identity = authority.issue(VALID);
    let limits = "limits: { tls_handshake_timeout: 200ms }";
    let secure = Secure::with(authority, &identity, "", limits).await;

    drop(TcpStream::connect(secure.gateway.address).await.expect("the gateway listens"));
    let mut silent = TcpStream::connect(secure.gateway.address).await.expect("the gateway listens");
    let mut slow = TcpStream::connect(secure.gateway.address).await.expect("the gateway listens");
    slow.write_all(&[22, 3, 1, 2, 0, 1]).await.expect("sent");

    for stream in [&mut silent, &mut slow] {
        assert_eq!(soon(stream.read(&mut [0; 16])).await.unwrap_or(0), 0, "the gateway closes");
    }
    secure.gateway.metric_reaches("portico_tls_failures_total", 2.0).await;
    assert_eq!(secure.failures().await, 2.0);
}

#[tokio::test]
async fn what_was_agreed_upon_has_to_follow() {
    let secure = Secure::start().await;
    for (protocol, sent, expected) in [
        ("h2", &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], &b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07"[..]),
        ("http/1.1", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07"),
    ] {
        let mut stream = connect(secure.gateway.address, secure.client(&[protocol])).await.expect("a handshake");
        stream.write_all(sent).await.expect("sent");
        let mut answer = Vec::new();
        soon(stream.read_to_end(&mut answer)).await.expect("an orderly end");

        assert!(answer.starts_with(expected), "{protocol}: {answer:?}");
    }
}

#[tokio::test]
async fn an_end_of_the_gateway_waits_for_calls_and_not_for_handshakes() {
    let secure = Secure::start().await;
    let mut begun = TcpStream::connect(secure.gateway.address).await.expect("the gateway listens");
    let stream = connect(secure.gateway.address, secure.client(&["h2"])).await.expect("a handshake");
    let mut client = Raw::over(stream, secure.gateway.address, 1 << 20).await;
    let mut call = client.begin(CONVERSE, &[], false).await;
    call.message(&SayRequest { text: "a".into(), ..SayRequest::default() }, false);
    secure.gateway.metric_reaches("portico_upstream_active_streams", 1.0).await;
    let Secure { gateway, .. } = secure;

    let stopping = tokio::spawn(gateway.stop());
    assert_eq!(soon(begun.read(&mut [0; 16])).await.unwrap_or(0), 0, "nothing was said on this one");
    call.message(&SayRequest { text: "b".into(), ..SayRequest::default() }, true);
    let answer = call.answer().await.expect("the call comes to its end");

    assert_eq!((answer.code(), answer.messages::<SayReply>().len()), (0, 2));
    tokio::time::timeout(Duration::from_secs(20), stopping).await.expect("it stops").expect("without a panic");
}

#[tokio::test]
async fn the_program_prints_https_and_warns_of_an_expired_certificate() {
    let files = tempfile::tempdir().expect("a folder");
    let backend = backend::start().await;
    Authority::new().issue((2020, 2021)).write(files.path());
    let text = format!(
        "{}listeners: [{{ address: \"127.0.0.1:0\", tls: {{ certificate: server.pem, key: server.key }} }}]\nadmin: off\n",
        upstream("echo", backend.address)
    );
    let path = files.path().join("portico.yaml");
    std::fs::write(&path, text).expect("a file");

    let mut portico = Portico::start(&["run", "--config", path.to_str().expect("a path")]);
    portico.line("has expired").await;
    let line = portico.line("portico listens on").await;
    portico.terminate().await;
    let ended = portico.end().await;

    assert!(line.contains("https://127.0.0.1:"), "{line}");
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert!(!ended.said.contains("PRIVATE"), "{}", ended.said);
}

/// The serial number of the certificate that the gateway shows under a name.
async fn serial(secure: &Secure, name: &str) -> std::io::Result<u8> {
    let stream = connect_as(name, secure.gateway.address, secure.client(&["h2"])).await?;
    let shown = stream.get_ref().1.peer_certificates().expect("a certificate").first().expect("one").to_vec();
    Ok(serial_of(&shown))
}

#[tokio::test]
async fn the_name_that_a_client_asks_for_decides_which_certificate_it_sees() {
    let authority = Authority::new();
    let first = authority.issue_for("localhost", VALID, 1);
    let files = tempfile::tempdir().expect("a folder");
    for (name, serial) in [("api.example.com", 2), ("*.example.org", 3)] {
        let identity = authority.issue_for(name, VALID, serial);
        std::fs::write(files.path().join(format!("{serial}.pem")), &identity.certificate).expect("a file");
        std::fs::write(files.path().join(format!("{serial}.key")), &identity.key).expect("a file");
    }
    let dir = files.path().display();
    let more = format!(
        ", certificates: [{{ certificate: {dir}/2.pem, key: {dir}/2.key }}, {{ certificate: {dir}/3.pem, key: {dir}/3.key }}]"
    );
    let secure = Secure::with(authority, &first, &more, "").await;

    for (name, expected) in [("localhost", 1), ("api.example.com", 2), ("API.example.com", 2), ("a.example.org", 3)] {
        assert_eq!(serial(&secure, name).await.expect(name), expected, "{name}");
    }
    for name in ["a.b.example.org", "example.org", "other.example.com", "127.0.0.1"] {
        let refused = serial(&secure, name).await.expect_err(name).to_string();
        assert!(refused.contains("not valid for name"), "{name}: {refused}");
    }
    let expiries = secure.gateway.metric("portico_certificate_expiry_timestamp_seconds").await;
    assert!(expiries > 3.0 * 4_000_000_000.0, "{expiries}");
}

/// One call by a client with that certificate, in HTTP/1.1.
async fn call_as(secure: &Secure, identity: Option<&Identity>) -> std::io::Result<String> {
    let config = secure.authority.client(&["http/1.1"], identity);
    let call = async {
        let mut stream = connect(secure.gateway.address, config).await?;
        stream.write_all(b"GET /test/v1/say/hi HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    soon(call).await
}

#[tokio::test]
async fn a_client_certificate_may_be_optional_and_must_be_right_all_the_same() {
    let authority = Authority::new();
    let identity = authority.issue(VALID);
    let tls = ", client_ca: {folder}/clients.pem, client_auth: optional";
    let secure = Secure::with(authority, &identity, tls, "").await;
    let (right, foreign) = (secure.authority.issue(VALID), Authority::new().issue(VALID));

    for (identity, accepted) in [(None, true), (Some(&right), true), (Some(&foreign), false)] {
        let answer = call_as(&secure, identity).await;
        assert_eq!(answer.as_ref().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")), accepted, "{answer:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_was_taken_back_is_refused() {
    let authority = Authority::new();
    let identity = authority.issue(VALID);
    let files = tempfile::tempdir().expect("a folder");
    std::fs::write(files.path().join("crl.pem"), authority.revoke(&[66])).expect("a file");
    let tls = format!(", client_ca: {{folder}}/clients.pem, client_crl: {}/crl.pem", files.path().display());
    let secure = Secure::with(authority, &identity, &tls, "").await;
    let good = secure.authority.issue_for("client", VALID, 65);
    let revoked = secure.authority.issue_for("client", VALID, 66);

    assert!(call_as(&secure, Some(&good)).await.expect("a reply").starts_with("HTTP/1.1 200"));
    let refusal = call_as(&secure, Some(&revoked)).await.expect_err("no reply").to_string();
    assert!(refusal.contains("CertificateRevoked"), "{refusal}");
}

#[tokio::test]
async fn the_oldest_version_can_be_raised() {
    let authority = Authority::new();
    let identity = authority.issue(VALID);
    let secure = Secure::with(authority, &identity, ", min_version: \"1.3\"", "").await;

    let old = secure.authority.client_of(&[&rustls::version::TLS12], &["h2"], None);
    let new = secure.authority.client_of(&[&rustls::version::TLS13], &["h2"], None);

    assert!(connect(secure.gateway.address, old).await.is_err());
    assert!(connect(secure.gateway.address, new).await.is_ok());
}
