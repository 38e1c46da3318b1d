//! PROXY headers of balancers in front: who is believed, and what becomes of the others.

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend;
use crate::support::client::{Client, Version};
use crate::support::gateway::{TestGateway, upstream};
use crate::support::grpc::soon;
use crate::support::rest::seen;
use crate::support::tls::{Authority, VALID};

async fn gateway(listener: &str) -> (backend::Backend, TestGateway) {
    let backend = backend::start().await;
    let listeners = format!("listeners: [{{ address: \"127.0.0.1:0\"{listener} }}]\n");
    let gateway = TestGateway::start(&format!("{}{listeners}", upstream("echo", backend.address))).await;
    gateway.ready().await;
    (backend, gateway)
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 50412 443\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\xc4\xec\x01\xbb";

#[tokio::test]
async fn the_client_is_whom_a_trusted_peer_names() {
    let (_backend, gateway) = gateway(", proxy_protocol: [127.0.0.0/8]").await;
    for (header, client) in [(V1, "192.0.2.7"), (V2, "192.0.2.7"), (b"PROXY UNKNOWN\r\n", "127.0.0.1")] {
        for version in Version::BOTH {
            let mut stream = TcpStream::connect(gateway.address).await.expect("the gateway listens");
            stream.write_all(header).await.expect("sent");
            let reply = Client::over(stream, gateway.address, version).await.get("/test/v1/say/hi").await;

            assert_eq!(reply.status, StatusCode::OK, "{version:?} {reply:?}");
            assert_eq!(seen(&reply, "x-forwarded-for"), [client], "{version:?}");
        }
    }
}

#[tokio::test]
async fn a_trusted_peer_without_a_header_is_not_served() {
    let (_backend, gateway) = gateway(", proxy_protocol: [127.0.0.1], limits: { header_timeout: 200ms }").await;
    for bytes in [&b"GET /test/v1/say/hi HTTP/1.1\r\nhost: a\r\n\r\n"[..], b"PROXY TCP4 192.0.2.7", b""] {
        let mut stream = TcpStream::connect(gateway.address).await.expect("the gateway listens");
        stream.write_all(bytes).await.expect("sent");
        let mut answer = Vec::new();
        soon(stream.read_to_end(&mut answer)).await.ok();

        assert_eq!(answer, b"");
    }
    gateway.metric_reaches("portico_proxy_protocol_failures_total", 3.0).await;
}

#[tokio::test]
async fn a_balancer_that_has_said_nothing_does_not_hold_up_the_end() {
    let (_backend, gateway) = gateway(", proxy_protocol: [127.0.0.1], limits: { header_timeout: 1m }").await;
    let mut silent = TcpStream::connect(gateway.address).await.expect("the gateway listens");
    gateway.metric_reaches("portico_connections_accepted_total", 1.0).await;

    soon(gateway.stop()).await;

    assert_eq!(soon(silent.read(&mut [0])).await.expect("it is closed"), 0);
}

#[tokio::test]
async fn others_cannot_choose_their_address() {
    let (_backend, gateway) = gateway(", proxy_protocol: [10.0.0.0/8]").await;

    let reply = gateway.client(Version::Http1).await.get("/test/v1/say/hi").await;
    let mut forged = TcpStream::connect(gateway.address).await.expect("the gateway listens");
    forged.write_all(&[V1, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"].concat()).await.expect("sent");
    let mut answer = String::new();
    soon(forged.read_to_string(&mut answer)).await.expect("it is closed");

    assert_eq!((reply.status, seen(&reply, "x-forwarded-for")), (StatusCode::OK, vec!["127.0.0.1".to_owned()]));
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn the_header_comes_before_tls() {
    let (authority, files) = (Authority::new(), tempfile::tempdir().expect("a folder"));
    authority.issue(VALID).write(files.path());
    let dir = files.path().display();
    let tls = format!(", proxy_protocol: [127.0.0.1], tls: {{ certificate: {dir}/server.pem, key: {dir}/server.key }}");
    let (_backend, gateway) = gateway(&tls).await;

    let mut stream = TcpStream::connect(gateway.address).await.expect("the gateway listens");
    stream.write_all(V2).await.expect("sent");
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(authority.client(&["h2"], None)));
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let stream = connector.connect(name, stream).await.expect("a handshake");
    let reply = Client::over(stream, gateway.address, Version::Http2).await.get("/test/v1/say/hi").await;

    assert_eq!((reply.status, seen(&reply, "x-forwarded-for")), (StatusCode::OK, vec!["192.0.2.7".to_owned()]));
}
