//! What operators see of a running gateway: pages, counters, and a line for each call.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tonic::Code;

use crate::support::backend::{self, pb};
use crate::support::client::{Version, request};
use crate::support::frames::{END_HEADERS, END_STREAM, HEADERS, Raw, frame};
use crate::support::gateway::{TestGateway, upstream};
use crate::support::rest::raw_http1;
use crate::support::websocket::Socket;

const SAY: &str = "/portico.test.v1.Echo/Say";

/// A gateway that logs its calls to a file.
struct Logging {
    gateway: TestGateway,
    backend: backend::Backend,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Logging {
    async fn start() -> Self {
        let backend = backend::start().await;
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("access.log");
        let log = format!("telemetry: {{ access_log: {{ format: json, path: {:?} }} }}\n", file.display().to_string());
        let gateway = TestGateway::start(&format!("{}{log}", upstream("echo", backend.address))).await;
        gateway.ready().await;
        Self { gateway, backend, file, _folder: folder }
    }

    /// Stops the gateway and reads what it wrote.
    async fn lines(self) -> Vec<Value> {
        self.gateway.stop().await;
        lines(&self.file)
    }
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).expect("the log is there");
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

fn fails(code: Code) -> Option<pb::Behaviour> {
    let failure = pb::Failure { code: code.into(), message: "because".into(), ..pb::Failure::default() };
    Some(pb::Behaviour { failure: Some(failure), ..pb::Behaviour::default() })
}

#[tokio::test]
async fn the_configuration_is_shown_in_the_words_of_the_file() {
    let text = "telemetry: { access_log: { path: off } }
listeners: [ { address: \"127.0.0.1:0\", limits: { max_headers: 7 } } ]
admin: { address: \"127.0.0.1:0\" }
upstreams: [ { name: echo, endpoints: [\"127.0.0.1:9\"], schema: none } ]
redis: { url: \"redis://127.0.0.1:9\", password: s3cret }
";
    let gateway = TestGateway::start(text).await;

    let shown = gateway.operator("/config").await;

    assert_eq!(shown.headers["content-type"], "application/json");
    let expected = json!({
        "telemetry": { "access_log": { "path": "off" } },
        "listeners": [{ "address": "127.0.0.1:0", "limits": { "max_headers": 7 } }],
        "admin": { "address": "127.0.0.1:0" },
        "upstreams": [{ "name": "echo", "endpoints": ["127.0.0.1:9"], "schema": "none" }],
        "redis": { "url": "redis://127.0.0.1:9", "password": "[hidden]" },
    });
    assert_eq!(shown.json(), expected);
}

#[tokio::test]
async fn pages_say_that_it_lives_and_is_ready() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;

    let (live, ready) = (gateway.operator("/livez").await, gateway.operator("/readyz").await);

    assert_eq!((live.status, &live.body[..]), (StatusCode::OK, &b"ok\n"[..]));
    assert_eq!((ready.status, ready.json()), (StatusCode::OK, json!({ "ready": true, "reasons": [], "missing": [] })));
    assert_eq!(gateway.operator("/metrics").await.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    // Clients must not find them.
    assert_eq!(gateway.client(Version::Http1).await.get("/metrics").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn calls_are_counted_by_method_protocol_code_and_origin() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    let mut rest = gateway.client(Version::Http1).await;
    let mut grpc = backend::client(gateway.address).await;

    for _ in 0..3 {
        rest.get("/test/v1/say/a").await;
    }
    rest.get("/test/v1/say/a?nothing=1").await;
    rest.get("/nowhere").await;
    grpc.say(pb::SayRequest::default()).await.unwrap();
    grpc.say(pb::SayRequest { text: String::new(), behaviour: fails(Code::NotFound) }).await.unwrap_err();

    let echo = "portico_requests_total{upstream=\"echo\",method=\"portico.test.v1.Echo/Say\"";
    for (labels, count) in [
        (format!("{echo},protocol=\"rest\",code=\"OK\",origin=\"none\"}}"), 3.0),
        (format!("{echo},protocol=\"rest\",code=\"INVALID_ARGUMENT\",origin=\"client\"}}"), 1.0),
        (format!("{echo},protocol=\"grpc\",code=\"OK\",origin=\"none\"}}"), 1.0),
        (format!("{echo},protocol=\"grpc\",code=\"NOT_FOUND\",origin=\"upstream\"}}"), 1.0),
        ("portico_requests_total{upstream=\"\",method=\"unknown\",protocol=\"rest\",code=\"NOT_FOUND\"".into(), 1.0),
        ("portico_request_duration_seconds_count{upstream=\"echo\"".into(), 6.0),
        ("portico_requests_total".into(), 7.0),
    ] {
        gateway.metric_reaches(&labels, count).await;
        assert_eq!(gateway.metric(&labels).await, count, "{labels}");
    }
}

#[tokio::test]
async fn calls_of_methods_that_no_schema_knows_count_for_their_upstream_under_one_name() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    let mut client = gateway.client(Version::Http2).await;

    for path in ["/portico.test.v1.Echo/New", "/other.Service/Method"] {
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        let reply = client.send(request(Method::POST, path, &headers, "\0\0\0\0\0")).await;
        assert_eq!(reply.headers.get("grpc-status").or_else(|| reply.trailers.get("grpc-status")).unwrap(), "12");
    }

    let series = "portico_requests_total{upstream=\"echo\",method=\"unknown\",protocol=\"grpc\",code=\"UNIMPLEMENTED\"";
    gateway.metric_reaches(series, 2.0).await;
    assert_eq!(gateway.metric("portico_requests_total{upstream=\"\"").await, 0.0);
}

#[tokio::test]
async fn connections_are_counted_by_listener_and_endpoint() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    let open =
        |protocol: &str| format!("portico_connections{{listener=\"{}\",protocol=\"{protocol}\"}}", gateway.address);
    let mut http1 = gateway.client(Version::Http1).await;
    let mut http2 = gateway.client(Version::Http2).await;

    http1.get("/test/v1/say/a").await;
    http2.get("/test/v1/say/a").await;

    assert_eq!((gateway.metric(&open("http1")).await, gateway.metric(&open("http2")).await), (1.0, 1.0));
    assert_eq!(gateway.metric("portico_connections_accepted_total").await, 2.0);
    let endpoint = format!("{{upstream=\"echo\",endpoint=\"{}\"}}", backend.address);
    let connections = gateway.metric(&format!("portico_upstream_connections{endpoint}")).await;
    assert!((1.0..=2.0).contains(&connections), "{connections}");
    assert_eq!(gateway.metric(&format!("portico_upstream_active_streams{endpoint}")).await, 0.0);
    assert_eq!(gateway.metric("portico_schema_loaded{upstream=\"echo\"}").await, 1.0);
    assert_eq!(gateway.metric("portico_panics_total").await, 0.0);
    assert_eq!(gateway.metric("portico_access_log_dropped_lines_total").await, 0.0);

    drop(backend);
    http1.get("/test/v1/say/a").await;
    gateway.metric_reaches(&format!("portico_upstream_connect_failures_total{endpoint}"), 1.0).await;
    assert_eq!(gateway.metric(&format!("portico_upstream_connections{endpoint}")).await, 0.0);
}

#[tokio::test]
async fn requests_that_become_no_calls_are_counted_as_refused() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;

    for version in Version::BOTH {
        let twice = request(Method::GET, "/test/v1/say/a", &[("host", "a"), ("host", "b")], "");
        // HTTP/2 resets the stream.
        gateway.client(version).await.try_send(twice).await.ok();
    }
    gateway.metric_reaches("portico_refused_requests_total", 2.0).await;

    // Refused by hyper.
    raw_http1(gateway.address, b"GET /test/v1/say/a HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n").await;
    gateway.metric_reaches("portico_refused_requests_total", 3.0).await;
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(70 << 10));
    raw_http1(gateway.address, large.as_bytes()).await;
    gateway.metric_reaches("portico_refused_requests_total", 4.0).await;
    // By h2: an index that is in no table of headers.
    let mut client = Raw::open(gateway.address).await;
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff, 0xff, 0x7f])).await;
    while client.frame().await.is_some() {}
    gateway.metric_reaches("portico_refused_requests_total", 5.0).await;
}

#[tokio::test]
async fn each_call_has_a_line() {
    let logging = Logging::start().await;
    let gateway = &logging.gateway;
    let mut client = gateway.client(Version::Http1).await;
    let headers = [("x-request-id", "mine"), ("user-agent", "test/1"), ("content-type", "application/json")];
    let traced = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")];

    client.send(request(Method::POST, "/test/v1/say?", &headers, r#"{"text": "a"}"#)).await;
    client.send(request(Method::GET, "/nowhere?secret=1", &traced, "")).await;
    let mut grpc = backend::client(gateway.address).await;
    grpc.say(pb::SayRequest { text: String::new(), behaviour: fails(Code::Aborted) }).await.unwrap_err();
    let lines = logging.lines().await;

    assert_eq!(lines.len(), 3, "{lines:?}");
    let fields = |line: &Value, names: &[&str]| names.iter().map(|name| line[name].clone()).collect::<Vec<_>>();
    let first =
        ["protocol", "http_method", "path", "method", "upstream", "http_status", "code", "request_id", "attempts"];
    assert_eq!(
        json!(fields(&lines[0], &first)),
        json!(["rest", "POST", "/test/v1/say", "portico.test.v1.Echo/Say", "echo", 200, "OK", "mine", 1])
    );
    assert_eq!(json!(fields(&lines[0], &["user_agent", "origin", "request_bytes"])), json!(["test/1", null, 13]));
    assert!(lines[0]["duration_ms"].as_f64().unwrap() >= lines[0]["upstream_duration_ms"].as_f64().unwrap());
    let second = ["path", "method", "http_status", "code", "origin", "reason", "attempts", "trace_id"];
    assert_eq!(
        json!(fields(&lines[1], &second)),
        json!(["/nowhere", null, 404, "NOT_FOUND", "client", "ROUTE_NOT_FOUND", 0, "0af7651916cd43dd8448eb211c80319c"])
    );
    let third = ["protocol", "path", "method", "http_status", "code", "origin", "reason"];
    assert_eq!(
        json!(fields(&lines[2], &third)),
        json!(["grpc", null, "portico.test.v1.Echo/Say", 200, "ABORTED", "upstream", "UPSTREAM_STATUS"])
    );
}

#[tokio::test]
async fn a_call_that_the_client_gives_up_has_its_line_too() {
    let logging = Logging::start().await;
    let stalling = r#"{"behaviour": {"stall": true}}"#;

    for version in Version::BOTH {
        let mut client = logging.gateway.client(version).await;
        let mut call = std::pin::pin!(client.json(Method::POST, SAY, stalling));
        tokio::time::timeout(Duration::from_millis(100), call.as_mut()).await.expect_err("it stalls");
    }
    let mut grpc = backend::client(logging.gateway.address).await;
    let behaviour = Some(pb::Behaviour { stall: true, count: 1, ..pb::Behaviour::default() });
    let mut stream = grpc.repeat(pb::SayRequest { text: String::new(), behaviour }).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    drop(stream);
    logging.backend.tally.until(|counts| counts.cancelled == 3).await;
    logging.gateway.metric_reaches("portico_requests_total", 3.0).await;
    let resets = logging.gateway.metric("portico_client_resets_total").await;
    let lines = logging.lines().await;

    assert_eq!(lines.len(), 3, "{lines:?}");
    for line in &lines {
        assert_eq!(
            json!([line["code"], line["origin"], line["reason"]]),
            json!(["CANCELLED", "client", "CLIENT_GONE"])
        );
    }
    assert!(resets >= 1.0);
}

#[tokio::test]
async fn calls_that_are_cut_at_the_end_are_the_gateways_own_doing() {
    let logging = Logging::start().await;
    let gateway = &logging.gateway;
    let json_body = [("content-type", "application/json")];
    let behaviour = Some(pb::Behaviour { stall: true, count: 1, ..pb::Behaviour::default() });
    let mut held = tokio::task::JoinSet::new();
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        let call = request(Method::POST, SAY, &json_body, r#"{"behaviour": {"stall": true}}"#);
        held.spawn(async move { client.try_send(call).await.map(|_| ()) });
    }
    let mut grpc = backend::client(gateway.address).await;
    let mut stream = grpc.repeat(pb::SayRequest { text: String::new(), behaviour }).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    let mut sockets = Vec::new();
    for version in Version::BOTH {
        let mut socket = Socket::open(gateway.address, version, "/portico.test.v1.Echo/Converse", &[]).await;
        socket.text(r#"{"text": "a"}"#).await;
        socket.json().await;
        sockets.push(socket);
    }
    logging.backend.tally.until(|counts| counts.started == 5).await;

    logging.gateway.stop_unless(std::future::ready(())).await;

    let mut told: Vec<_> = lines(&logging.file)
        .iter()
        .map(|line| {
            json!([line["protocol"], line["http_status"], line["code"], line["origin"], line["reason"]]).to_string()
        })
        .collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            r#"["grpc",200,"UNAVAILABLE","gateway","SHUT_DOWN"]"#,
            r#"["rest",503,"UNAVAILABLE","gateway","SHUT_DOWN"]"#,
            r#"["rest",503,"UNAVAILABLE","gateway","SHUT_DOWN"]"#,
            r#"["websocket",101,"UNAVAILABLE","gateway","SHUT_DOWN"]"#,
            r#"["websocket",200,"UNAVAILABLE","gateway","SHUT_DOWN"]"#,
        ]
    );
}
