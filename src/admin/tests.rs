//! The admin address over a real socket.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::config::{Config, SchemaSource};
use crate::telemetry::{Origin, Protocol};
use crate::upstream::Fleets;

struct Admin {
    address: SocketAddr,
    state: State,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn start() -> Admin {
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let readiness = Arc::new(Readiness::default());
    let registry = Arc::new(Registry::new(readiness.clone()));
    let config = Config::from_flags(&["127.0.0.1:1".into()], &SchemaSource::None, None).unwrap();
    let (config, control) = (Arc::new(config), tokio::runtime::Handle::current());
    let schemas = crate::snapshot::load::from_files(&config).unwrap();
    let source = Source::new(crate::snapshot::Snapshot::build(&config, schemas.clone()));
    let (fleets, lifecycle) = (Fleets::new(control.clone(), registry.clone()), registry.lifecycle());
    // With a readiness of its own: what is shown here is what a test says.
    let keeper = Keeper::start(config, schemas, source.clone(), Arc::default(), fleets, lifecycle, &control);
    let state = State { registry, readiness, keeper, source, reloads: None };
    let (stop, stopped) = oneshot::channel::<()>();
    let served = state.clone();
    let task = tokio::spawn(async move {
        serve(listener, served, async { drop(stopped.await) }).await;
    });
    Admin { address, state, stop, task }
}

/// Head and body of the reply to a request line.
async fn send(admin: &Admin, line: &str) -> (String, String) {
    let mut stream = TcpStream::connect(admin.address).await.unwrap();
    stream.write_all(format!("{line} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn is_alive() {
    let admin = start().await;

    let (head, body) = send(&admin, "GET /livez").await;

    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("content-type: text/plain; charset=utf-8"), "{head}");
    assert_eq!(body, "ok\n");
}

#[tokio::test]
async fn says_why_it_is_not_ready() {
    let admin = start().await;
    let readiness = &admin.state.readiness;
    readiness.set_upstreams(["library".into()]);
    readiness.schema_failed("library", "cannot connect to \"127.0.0.1:1\"\n".into());

    let (head, body) = send(&admin, "GET /readyz").await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let reason = "no schema for upstream library: cannot connect to \"127.0.0.1:1\"\n";
    assert_eq!(body, serde_json::json!({ "ready": false, "reasons": [reason], "missing": [reason] }));

    readiness.schema_loaded("library");
    let (head, body) = send(&admin, "GET /readyz").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, "{\"ready\":true,\"reasons\":[],\"missing\":[]}\n");

    readiness.drain();
    let (head, body) = send(&admin, "GET /readyz").await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(body, "{\"ready\":false,\"reasons\":[\"draining\"],\"missing\":[]}\n");
}

#[tokio::test]
async fn shows_metrics() {
    let admin = start().await;
    let method = admin.state.registry.worker().method("library", "lib.Library/Get");
    method.finish(Protocol::Rest, 5, Some(Origin::Upstream), Duration::from_millis(3));

    let (head, body) = send(&admin, "GET /metrics").await;

    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(
        body.contains(
            "portico_requests_total{upstream=\"library\",method=\"lib.Library/Get\",protocol=\"rest\",\
             code=\"NOT_FOUND\",origin=\"upstream\"} 1\n"
        ),
        "{body}"
    );
}

#[tokio::test]
async fn lists_its_pages() {
    let admin = start().await;

    let (_, body) = send(&admin, "GET /").await;

    for path in body.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        let (head, _) = send(&admin, &format!("GET {path}")).await;
        assert!(!head.starts_with("HTTP/1.1 404 "), "{path}");
    }
}

#[tokio::test]
async fn refuses_other_paths_and_methods() {
    let admin = start().await;

    let (head, _) = send(&admin, "GET /nothing").await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");

    let (head, _) = send(&admin, "POST /livez").await;
    assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
    assert!(head.contains("allow: GET, HEAD"), "{head}");

    let (head, _) = send(&admin, "GET /reload").await;
    assert!(head.starts_with("HTTP/1.1 405 ") && head.contains("allow: POST"), "{head}");

    let (head, body) = send(&admin, "POST /reload").await;
    assert!(head.starts_with("HTTP/1.1 409 "), "{head} {body}");
}

#[tokio::test]
async fn answers_head_without_a_body() {
    let admin = start().await;

    let (head, body) = send(&admin, "HEAD /livez").await;

    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-length: 3"), "{head}");
    assert_eq!(body, "");
}

#[tokio::test]
async fn serves_not_more_connections_than_its_limit() {
    let admin = start().await;
    let mut idle = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        idle.push(TcpStream::connect(admin.address).await.unwrap());
    }

    let reply = send(&admin, "GET /livez");
    let mut reply = std::pin::pin!(reply);
    tokio::time::timeout(Duration::from_millis(100), reply.as_mut()).await.expect_err("waits in the backlog");

    idle.pop();
    assert_eq!(reply.await.1, "ok\n");
}

#[tokio::test]
async fn closes_idle_connections_when_it_stops() {
    let admin = start().await;
    let mut idle = TcpStream::connect(admin.address).await.unwrap();
    // Accepted after the idle one, so that one is being served.
    send(&admin, "GET /livez").await;

    admin.stop.send(()).unwrap();

    tokio::time::timeout(Duration::from_secs(1), admin.task).await.unwrap().unwrap();
    assert_eq!(idle.read(&mut [0; 8]).await.unwrap(), 0);
    TcpStream::connect(admin.address).await.expect_err("the socket is closed");
}
