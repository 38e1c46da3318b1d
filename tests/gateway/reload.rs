//! What changes while the gateway runs: its configuration, its certificates, the schemas of its upstreams; and what stays.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::rr::rdata::A;
use hickory_resolver::proto::rr::{RData, RecordType};
use http::{Method, StatusCode};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend::{self, Backend, Options, act, pb, scripted};
use crate::support::client::{Client, Reply, Version, request};
use crate::support::grpc::soon;
use crate::support::names::name_server;
use crate::support::process::Portico;
use crate::support::redis::{Server, free_port};
use crate::support::tls::{Authority, VALID, connect, serial_of};

/// The program with a configuration file that a test changes.
struct Changing {
    portico: Portico,
    listener: SocketAddr,
    admin: SocketAddr,
    backend: Backend,
    files: TempDir,
}

/// What the file says unless a test adds to it: `BACKEND` is the backend's address.
const BASE: &str = "listeners: [{ address: \"127.0.0.1:0\" }]
admin: { address: \"127.0.0.1:0\" }
telemetry: { access_log: { path: off } }
upstreams: [{ name: echo, endpoints: [\"BACKEND\"] }]
";

const RULE: &str = "http_rules: [{ selector: portico.test.v1.Echo.Say, get: \"/fresh/{text}\" }]\n";

impl Changing {
    async fn start(text: &str) -> Self {
        let backend = backend::start().await;
        let files = tempfile::tempdir().expect("a folder");
        Self::with(text, backend, files).await
    }

    async fn with(text: &str, backend: Backend, files: TempDir) -> Self {
        let path = files.path().join("portico.yaml");
        std::fs::write(&path, text.replace("BACKEND", &backend.address.to_string())).expect("a file");
        let mut portico = Portico::start(&["run", "--config", path.to_str().expect("a path")]);
        let listener = portico.address("portico listens on").await;
        let admin = portico.address("admin listens on").await;
        let changing = Self { portico, listener, admin, backend, files };
        changing.until(async |changing| changing.operator("/readyz").await.status == StatusCode::OK).await;
        changing
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Writes the file anew.
    fn write(&self, text: &str) {
        let text = text.replace("BACKEND", &self.backend.address.to_string());
        std::fs::write(self.path("portico.yaml"), text).expect("a file");
    }

    async fn operator(&self, path: &str) -> Reply {
        Client::connect(self.admin, Version::Http1).await.get(path).await
    }

    /// What `POST /reload` answers.
    async fn reload(&self) -> Reply {
        Client::connect(self.admin, Version::Http1).await.send(request(Method::POST, "/reload", &[], "")).await
    }

    async fn get(&self, path: &str) -> Reply {
        Client::connect(self.listener, Version::Http1).await.get(path).await
    }

    async fn metric(&self, series: &str) -> f64 {
        let page = self.operator("/metrics").await;
        let text = String::from_utf8(page.body.to_vec()).expect("text");
        let is_it = |line: &&str| line.strip_prefix(series).is_some_and(|rest| rest.starts_with([' ', '{']));
        let line = text.lines().find(is_it);
        let value = line.and_then(|line| line.rsplit(' ').next()).expect("the series is there");
        value.parse().expect("a number")
    }

    /// Waits until that holds, at most thirty seconds.
    async fn until(&self, holds: impl AsyncFn(&Self) -> bool) {
        let waiting = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            while !holds(self).await {
                ticks.tick().await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(30), waiting).await.is_ok(), "it does not come to that");
    }
}

#[tokio::test]
async fn a_file_that_changes_is_taken_without_being_asked() {
    let changing = Changing::start(BASE).await;
    assert_eq!(changing.get("/fresh/a").await.status, StatusCode::NOT_FOUND);

    changing.write(&format!("{BASE}{RULE}"));

    changing.until(async |changing| changing.get("/fresh/a").await.status == StatusCode::OK).await;
    assert_eq!(changing.metric("portico_config_reloads_total{result=\"ok\"}").await, 1.0);
}

#[tokio::test]
async fn a_signal_and_a_post_reload_too() {
    let mut changing = Changing::start(&format!("{BASE}reload: {{ watch: false }}\n")).await;
    changing.write(&format!("{BASE}{RULE}reload: {{ watch: false }}\n"));

    let reply = changing.reload().await;
    assert_eq!((reply.status, reply.json()), (StatusCode::OK, serde_json::json!({ "reloaded": true, "warnings": [] })));
    assert_eq!(changing.get("/fresh/a").await.status, StatusCode::OK);

    changing.write(&format!("{BASE}reload: {{ watch: false }}\n"));
    changing.portico.signal("-HUP").await;
    changing.portico.line("configuration reloaded").await;
    changing.portico.line("configuration reloaded").await;
    assert_eq!(changing.get("/fresh/a").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_configuration_that_is_wrong_changes_nothing_and_is_told_everywhere() {
    let mut changing = Changing::start(&format!("{BASE}{RULE}")).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address");
    let both = format!("listeners: [{{ address: \"127.0.0.1:0\" }}, {{ address: \"{taken}\" }}]");
    let no_schema =
        BASE.replace("endpoints: [\"BACKEND\"]", "endpoints: [\"BACKEND\"], schema: { proto: [bad.proto] }");
    std::fs::write(changing.path("bad.proto"), "syntax = \"proto3\"; message M { Missing a = 1; }").expect("a file");

    for (text, words) in [
        (BASE.replace("upstreams", "upstraems"), "did you mean `upstreams`"),
        (BASE.replace("listeners: [{ address: \"127.0.0.1:0\" }]", &both), "cannot listen on"),
        (no_schema, "Missing"),
    ] {
        changing.write(&text);
        let reply = changing.reload().await;

        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{reply:?}");
        assert!(reply.json()["error"].as_str().expect("an error").contains(words), "{reply:?}");
        changing.portico.line("configuration not reloaded, the old one stays in use").await;
        assert_eq!(changing.get("/fresh/a").await.status, StatusCode::OK);
        assert_eq!(changing.metric("portico_config_last_reload_successful").await, 0.0);
    }
    changing.write(&format!("{BASE}{RULE}"));
    assert_eq!(changing.reload().await.status, StatusCode::OK);
    assert_eq!(changing.metric("portico_config_last_reload_successful").await, 1.0);
}

#[tokio::test]
async fn workers_without_calls_let_go_of_an_upstream_that_is_gone() {
    let changing = Changing::start(BASE).await;
    assert_eq!(changing.get("/test/v1/say/a").await.status, StatusCode::OK);
    let connections = async |changing: &Changing| {
        let page = changing.operator("/metrics").await;
        let text = String::from_utf8(page.body.to_vec()).expect("text");
        let open = text.lines().filter(|line| line.starts_with("portico_upstream_connections{upstream=\"echo\""));
        open.filter(|line| !line.ends_with(" 0")).count()
    };
    assert_eq!(connections(&changing).await, 1);

    changing.write(&BASE.replace("name: echo", "name: other"));
    assert_eq!(changing.reload().await.status, StatusCode::OK);

    changing.until(async |changing| connections(changing).await == 0).await;
}

#[tokio::test]
async fn calls_finish_on_what_they_began_with_and_upstreams_keep_their_connections() {
    let changing = Changing::start(BASE).await;
    let mut grpc = backend::client(changing.listener).await;
    let delay = Some(pb::google::protobuf::Duration { seconds: 0, nanos: 100_000_000 });
    let behaviour = Some(pb::Behaviour { delay, count: 10, ..pb::Behaviour::default() });
    let mut stream = grpc.repeat(pb::SayRequest { text: "a".into(), behaviour }).await.expect("a stream").into_inner();
    stream.message().await.expect("no error").expect("a message");
    let connections = changing.backend.tally.counts().connections;

    for round in 0..5 {
        let rule = if round % 2 == 0 { RULE } else { "" };
        changing.write(&format!("{BASE}{rule}policies: [{{ match: \"*\", timeout: {{ unary: 1{round}s }} }}]\n"));
        assert_eq!(changing.reload().await.status, StatusCode::OK);
        grpc.say(pb::SayRequest::default()).await.expect("an answer");
    }
    let mut messages = 1;
    while stream.message().await.expect("no error").is_some() {
        messages += 1;
    }

    assert_eq!(messages, 10);
    assert_eq!(changing.backend.tally.counts().connections, connections);
}

#[tokio::test]
async fn what_is_known_of_endpoints_outlives_a_change_of_their_upstream() {
    let bad = scripted::start(vec![act::trailers_only(14, "no")]).await;
    let keys = "outlier_detection: { consecutive_failures: 3, base_ejection: 5m }, \
                load_balancing: { policy: round_robin, panic_threshold: 0% }";
    let text = BASE.replace("[\"BACKEND\"]", &format!("[\"BACKEND\", \"{}\"], {keys}", bad.address));
    let changing = Changing::start(&text).await;
    let health = async |changing: &Changing| {
        let json = changing.operator("/upstreams").await.json();
        json["upstreams"][0]["endpoints"].as_array().expect("a list")[1]["health"].as_str().expect("text").to_owned()
    };
    changing
        .until(async |changing| {
            changing.get("/test/v1/say/a").await;
            health(changing).await == "ejected"
        })
        .await;

    changing.write(&text.replace(keys, &format!("{keys}, connections: {{ connect_timeout: 7s }}")));
    assert_eq!(changing.reload().await.status, StatusCode::OK);

    assert_eq!(health(&changing).await, "ejected");
    let calls = bad.calls().len();
    for _ in 0..4 {
        assert_eq!(changing.get("/test/v1/say/a").await.status, StatusCode::OK);
    }
    assert_eq!(bad.calls().len(), calls);
}

#[tokio::test]
async fn endpoints_that_were_found_outlive_a_change_of_their_upstream() {
    let backend = backend::start().await;
    let SocketAddr::V4(address) = backend.address else { panic!("backends listen on IPv4") };
    let records = Arc::new(Mutex::new(vec![(RecordType::A, RData::A(A(*address.ip())))]));
    let server = name_server(Arc::clone(&records)).await;
    let set = concat!(env!("OUT_DIR"), "/test/echo.binpb");
    let keys = format!(
        "dns: \"backend.test:{}\", resolvers: [\"{server}\"], schema: {{ descriptor_set: \"{set}\" }}",
        address.port()
    );
    let text = BASE.replace("endpoints: [\"BACKEND\"]", &keys);
    let changing = Changing::with(&text, backend, tempfile::tempdir().expect("a folder")).await;
    changing.until(async |changing| changing.get("/test/v1/say/a").await.status == StatusCode::OK).await;

    // The name server fails from here on.
    records.lock().expect("nobody panicked").clear();
    changing.write(&text.replace(&keys, &format!("{keys}, connections: {{ connect_timeout: 7s }}")));
    assert_eq!(changing.reload().await.status, StatusCode::OK);

    assert_eq!(changing.get("/test/v1/say/a").await.status, StatusCode::OK);
}

#[tokio::test]
async fn listeners_come_and_go_and_the_others_keep_their_connections() {
    let changing = Changing::start(BASE).await;
    let mut kept = Client::connect(changing.listener, Version::Http1).await;
    let mut streams = Client::connect(changing.listener, Version::Http2).await;
    let (say, free) = ("/test/v1/say/a", std::net::TcpListener::bind("127.0.0.1:0").expect("a port"));
    let second = free.local_addr().expect("an address");
    drop(free);
    let with = |limits: &str| {
        BASE.replace(
            "[{ address: \"127.0.0.1:0\" }]",
            &format!("[{{ address: \"127.0.0.1:0\" }}, {{ address: \"{second}\"{limits} }}]"),
        )
    };
    assert_eq!(kept.get(say).await.status, StatusCode::OK);

    changing.write(&with(""));
    assert_eq!(changing.reload().await.status, StatusCode::OK);
    let mut added = Client::connect(second, Version::Http1).await;
    assert_eq!(added.get(say).await.status, StatusCode::OK);
    changing.write(&with(", limits: { max_headers: 3 }"));
    assert_eq!(changing.reload().await.status, StatusCode::OK);
    let many: Vec<_> = ["x-a", "x-b", "x-c", "x-d"].into_iter().map(|name| (name, "1")).collect();
    let refused = Client::connect(second, Version::Http1).await.send(request(Method::GET, say, &many, "")).await;
    assert_eq!(refused.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(added.send(request(Method::GET, say, &many, "")).await.status, StatusCode::OK, "opened before");

    changing.write(BASE);
    assert_eq!(changing.reload().await.status, StatusCode::OK);
    let last = added.get(say).await;
    assert_eq!((last.status, last.headers["connection"].as_bytes()), (StatusCode::OK, &b"close"[..]));
    changing.until(async |_| TcpStream::connect(second).await.is_err()).await;
    for client in [&mut kept, &mut streams] {
        let reply = client.get(say).await;
        assert!(reply.status == StatusCode::OK && !reply.headers.contains_key("connection"), "{reply:?}");
    }
}

#[tokio::test]
async fn certificates_are_taken_when_their_files_change() {
    let authority = Authority::new();
    let (backend, files) = (backend::start().await, tempfile::tempdir().expect("a folder"));
    authority.issue_for("localhost", VALID, 1).write(files.path());
    let tls =
        BASE.replace("\"127.0.0.1:0\" }]", "\"127.0.0.1:0\", tls: { certificate: server.pem, key: server.key } }]");
    let changing = Changing::with(&tls, backend, files).await;
    let shown = async || {
        let stream = connect(changing.listener, authority.client(&["http/1.1"], None)).await.expect("a handshake");
        serial_of(stream.get_ref().1.peer_certificates().expect("a certificate").first().expect("one"))
    };
    let mut old = connect(changing.listener, authority.client(&["http/1.1"], None)).await.expect("a handshake");
    assert_eq!(shown().await, 1);

    authority.issue_for("localhost", (2020, 2090), 2).write(changing.files.path());

    changing.until(async |_| shown().await == 2).await;
    old.write_all(b"GET /test/v1/say/a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    soon(old.read_to_string(&mut answer)).await.expect("an orderly end");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    std::fs::write(changing.path("server.key"), "nonsense").expect("a file");
    changing.until(async |changing| changing.metric("portico_config_last_reload_successful").await == 0.0).await;
    assert_eq!(shown().await, 2);
}

#[tokio::test]
async fn an_upstream_that_comes_back_with_another_schema_is_asked_again() {
    let text = BASE.replace("[\"BACKEND\"]", "[\"BACKEND\"], schema: { reflection: { refresh: none } }");
    let mut options = Options { descriptors: without_say(), ..Options::default() };
    let backend = backend::start_with(options.clone()).await;
    let mut changing = Changing::with(&text, backend, tempfile::tempdir().expect("a folder")).await;
    assert_eq!(changing.get("/test/v1/say/a").await.status, StatusCode::NOT_FOUND);
    assert_eq!(changing.get("/portico.test.v1.Echo/Nothing").await.status, StatusCode::NOT_FOUND);
    let mut first = backend::client(changing.listener).await;
    first.say(pb::SayRequest::default()).await.expect("an answer");

    options.address = changing.backend.address;
    options.descriptors = pb::ECHO_SET.to_vec();
    // Dropped before the next one takes its address.
    let address = options.address;
    drop(std::mem::replace(&mut changing.backend, backend::start().await));
    changing.backend = backend::start_with(options).await;
    assert_eq!(changing.backend.address, address);

    // Calls make the connection that tells of its return; where there is another worker than the one that lost it, they are
    // that one's, because the first client's connection is still there.
    changing
        .until(async |changing| {
            backend::client(changing.listener).await.say(pb::SayRequest::default()).await.ok();
            changing.get("/test/v1/say/a").await.status == StatusCode::OK
        })
        .await;
    let json = changing.operator("/upstreams").await.json();
    let schema = &json["upstreams"][0]["schema"];
    assert_eq!((&schema["loaded"], &schema["last_change"]["breaking"]), (&true.into(), &0.into()), "{json}");
    assert!(schema["last_change"]["added"].as_u64() > Some(0), "{json}");
    drop(first);
}

/// The descriptors of the echo service without its first method.
fn without_say() -> Vec<u8> {
    use prost::Message as _;
    let mut set = prost_reflect::prost_types::FileDescriptorSet::decode(pb::ECHO_SET).expect("a set");
    for service in set.file.iter_mut().flat_map(|file| &mut file.service) {
        service.method.retain(|method| method.name() != "Say");
    }
    set.encode_to_vec()
}

const PROTO: &str = "syntax = \"proto3\"; package portico.test.v1;
service Echo { rpc Say(SayRequest) returns (SayReply); }
message SayRequest { string text = 1; } message SayReply { string text = 1; }";

#[tokio::test]
async fn changes_of_a_schema_that_break_callers_are_reported_or_refused() {
    for (option, taken) in [("report", true), ("refuse", false)] {
        let files = tempfile::tempdir().expect("a folder");
        std::fs::write(files.path().join("echo.proto"), PROTO).expect("a file");
        let schema = format!("[\"BACKEND\"], schema: {{ proto: [echo.proto], breaking_changes: {option} }}");
        let text = BASE.replace("[\"BACKEND\"]", &schema);
        let changing = Changing::with(&text, backend::start().await, files).await;
        let say = async |changing: &Changing, field: &str| {
            let mut client = Client::connect(changing.listener, Version::Http1).await;
            client.json(Method::POST, "/portico.test.v1.Echo/Say", &format!("{{\"{field}\": \"a\"}}")).await.status
        };
        assert_eq!(say(&changing, "text").await, StatusCode::OK);

        std::fs::write(changing.path("echo.proto"), PROTO.replace("{ string text", "{ string words")).expect("a file");

        changing
            .until(async |changing| {
                let page = changing.operator("/metrics").await;
                String::from_utf8_lossy(&page.body)
                    .contains("portico_schema_breaking_changes_total{upstream=\"echo\"} 2")
            })
            .await;
        if taken {
            changing.until(async |changing| say(changing, "words").await == StatusCode::OK).await;
            let json = changing.operator("/upstreams").await.json();
            let change = &json["upstreams"][0]["schema"]["last_change"];
            assert_eq!(change["breaking"], 2, "{json}");
            let words = "field portico.test.v1.SayReply.text is now called words (JSON words)";
            assert!(change["what_breaks"].as_array().expect("a list").contains(&words.into()), "{json}");
        } else {
            let reply = changing.reload().await;
            assert!(reply.json()["error"].as_str().expect("refused").contains("would break callers"), "{reply:?}");
            assert_eq!(say(&changing, "text").await, StatusCode::OK);
        }
    }
}

#[tokio::test]
async fn changes_of_a_schema_count_once_they_are_in_use_and_refusals_once() {
    let files = tempfile::tempdir().expect("a folder");
    let names = ["one", "two"];
    let proto = |name: &str| PROTO.replace("portico.test.v1", name);
    for name in names {
        std::fs::write(files.path().join(format!("{name}.proto")), proto(name)).expect("a file");
    }
    let upstreams = names.map(|name| {
        format!("{{ name: {name}, endpoints: [\"BACKEND\"], schema: {{ proto: [{name}.proto], breaking_changes: refuse }} }}")
    });
    let text = BASE.replace("{ name: echo, endpoints: [\"BACKEND\"] }", &upstreams.join(", "));
    let changing = Changing::with(&format!("{text}reload: {{ watch: false }}\n"), backend::start().await, files).await;
    let changes = async |name: &str, result: &str| {
        let page = changing.operator("/metrics").await;
        let series = format!("portico_schema_changes_total{{upstream=\"{name}\",result=\"{result}\"}} ");
        let page = String::from_utf8(page.body.to_vec()).expect("text");
        page.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |count| count.parse().expect("a number"))
    };
    let more = proto("one").replace("string text = 1;", "string text = 1; string more = 2;");
    std::fs::write(changing.path("one.proto"), more).expect("a file");
    std::fs::write(changing.path("two.proto"), proto("two").replace("string text", "string words")).expect("a file");

    for _ in 0..2 {
        assert_eq!(changing.reload().await.status, StatusCode::UNPROCESSABLE_ENTITY);
    }

    assert_eq!((changes("one", "taken").await, changes("two", "refused").await), (0, 1));
    let json = changing.operator("/upstreams").await.json();
    let problem = json["upstreams"][1]["schema"]["problem"].as_str().expect("it is said why there is no newer one");
    assert!(problem.contains("would break callers"), "{json}");
    std::fs::write(changing.path("two.proto"), proto("two")).expect("a file");
    assert_eq!(changing.reload().await.status, StatusCode::OK);
    assert_eq!((changes("one", "taken").await, changes("two", "refused").await), (1, 1));
    let json = changing.operator("/upstreams").await.json();
    assert!(json["upstreams"][1]["schema"]["problem"].is_null(), "{json}");
}

#[tokio::test]
async fn an_upstream_that_is_added_and_does_not_answer_leaves_the_gateway_ready() {
    let mut changing = Changing::start(BASE).await;
    let late = free_port();

    changing.write(&BASE.replace("] }]", &format!("] }}, {{ name: late, endpoints: [\"127.0.0.1:{late}\"] }}]")));
    assert_eq!(changing.reload().await.status, StatusCode::OK);
    changing.portico.line("schema is not there yet, asking again").await;

    let ready = changing.operator("/readyz").await;
    assert_eq!((ready.status, &ready.json()["reasons"]), (StatusCode::OK, &serde_json::json!([])));
    let missing = ready.json()["missing"][0].as_str().expect("one is missing").to_owned();
    assert!(missing.starts_with("no schema for upstream late: "), "{missing}");
    assert_eq!(changing.metric("portico_schema_loaded{upstream=\"late\"}").await, 0.0);
    let address = SocketAddr::from(([127, 0, 0, 1], late));
    let _late = backend::start_with(Options { address, ..Options::default() }).await;
    changing
        .until(async |changing| changing.operator("/readyz").await.json()["missing"] == serde_json::json!([]))
        .await;
}

#[tokio::test]
async fn what_needs_a_restart_is_said() {
    let changing = Changing::start(BASE).await;
    changing.write(&format!("{BASE}workers: 7\n"));

    let reply = changing.reload().await;

    assert_eq!(reply.json()["warnings"], serde_json::json!(["a new value of `workers` needs a restart"]));
}

#[tokio::test]
async fn the_access_log_goes_on_in_a_new_file_after_the_signal() {
    let changing = Changing::start(&BASE.replace("path: off", "path: access.log")).await;
    let lines = |name: &str| std::fs::read_to_string(changing.path(name)).unwrap_or_default().lines().count();
    changing.get("/test/v1/say/a").await;
    changing.until(async |_| lines("access.log") == 1).await;
    std::fs::rename(changing.path("access.log"), changing.path("access.log.1")).expect("a file");

    changing.portico.signal("-HUP").await;
    changing.until(async |changing| changing.path("access.log").exists()).await;
    changing.get("/test/v1/say/b").await;

    changing.until(async |_| lines("access.log") == 1).await;
    assert_eq!(lines("access.log.1"), 1);
}

#[tokio::test]
async fn what_was_counted_for_a_limit_stays_counted() {
    let limits = |burst: &str| {
        format!(
            "{BASE}policies: [{{ match: \"*\", rate_limits: [{{ name: all, key: [client_ip], quota: 100/day{burst} }}] }}]\n"
        )
    };
    let changing = Changing::start(&limits(", burst: 3")).await;
    let codes = async |path: &str, count: usize| {
        let mut client = Client::connect(changing.listener, Version::Http1).await;
        let mut codes = Vec::new();
        for _ in 0..count {
            codes.push(client.get(path).await.status.as_u16());
        }
        codes
    };
    assert_eq!(codes("/test/v1/say/a", 2).await, [200, 200]);

    // Something else changes.
    changing.write(&format!("{}{RULE}", limits(", burst: 3")));
    assert_eq!(changing.reload().await.status, StatusCode::OK);
    assert_eq!(codes("/fresh/a", 2).await, [200, 429]);

    // The limit itself does: what is spent stays spent.
    changing.write(&limits(", burst: 5"));
    assert_eq!(changing.reload().await.status, StatusCode::OK);
    assert_eq!(codes("/test/v1/say/a", 3).await, [200, 200, 429]);
}

#[tokio::test]
async fn stores_and_places_are_those_of_the_new_configuration() {
    let server = Server::start().await;
    let text = |redis: &str, places: u32| {
        format!(
            "{BASE}redis: {{ url: \"{redis}\", timeout: 1s, on_failure: deny }}
policies:
- {{ match: portico.test.v1.Echo/Identity, rate_limits: [{{ key: [client_ip], quota: 100/day, store: redis }}] }}
- {{ match: portico.test.v1.Echo/Say, admission: {{ max_concurrent: {places} }} }}\n"
        )
    };
    let changing = Changing::start(&text(&format!("redis://127.0.0.1:{}", free_port()), 1)).await;
    let mut stalling = Client::connect(changing.listener, Version::Http1).await;
    let stalled = tokio::spawn(async move { stalling.get("/test/v1/say/a?behaviour.stall=true").await });
    changing.backend.tally.until(|counts| counts.started == 1).await;
    let statuses = async || {
        let paths = ["/test/v1/identity", "/test/v1/say/a"].map(|path| changing.get(path));
        let [limited, placed] = paths;
        (limited.await.status.as_u16(), placed.await.status.as_u16())
    };
    assert_eq!(statuses().await, (503, 503));

    changing.write(&text(&server.url(), 2));
    assert_eq!(changing.reload().await.status, StatusCode::OK);

    assert_eq!(statuses().await, (200, 200));
    stalled.abort();
}

#[tokio::test]
async fn a_proto_file_that_is_only_imported_is_read_again_when_it_changes() {
    let files = tempfile::tempdir().expect("a folder");
    let (service, messages) = PROTO.split_once("\nmessage").expect("two parts");
    let (service, package) = service.split_once("service").expect("two parts");
    let echo = format!("{service}import \"messages.proto\"; service{package}");
    let messages = format!("{service}message{messages}");
    std::fs::write(files.path().join("echo.proto"), echo).expect("a file");
    std::fs::write(files.path().join("messages.proto"), &messages).expect("a file");
    let text = BASE.replace("[\"BACKEND\"]", "[\"BACKEND\"], schema: { proto: [echo.proto] }");
    let changing = Changing::with(&text, backend::start().await, files).await;

    std::fs::write(changing.path("messages.proto"), messages.replace("string text", "string words")).expect("a file");

    changing.until(async |changing| changing.metric("portico_config_reloads_total{result=\"ok\"}").await >= 1.0).await;
    let json = changing.operator("/upstreams").await.json();
    assert_eq!(json["upstreams"][0]["schema"]["last_change"]["breaking"], 2, "{json}");
}

#[tokio::test]
async fn the_schema_of_a_file_stays_until_reflection_answers() {
    let silent = scripted::start(vec![act::hold()]).await;
    let files = tempfile::tempdir().expect("a folder");
    std::fs::write(files.path().join("echo.proto"), PROTO).expect("a file");
    let text = BASE.replace("[\"BACKEND\"]", "[\"BACKEND\"], schema: { proto: [echo.proto] }");
    let changing = Changing::with(&text, backend::start().await, files).await;

    // Its reflection never answers.
    changing.write(&BASE.replace("BACKEND", &silent.address.to_string()));
    assert_eq!(changing.reload().await.status, StatusCode::OK);

    let json = changing.operator("/routes").await.json();
    assert_eq!(json["methods"][0]["method"], "portico.test.v1.Echo/Say", "{json}");
    changing.write(BASE);
    assert_eq!(changing.reload().await.status, StatusCode::OK);
    changing.until(async |changing| changing.get("/test/v1/say/a").await.status == StatusCode::OK).await;
}
