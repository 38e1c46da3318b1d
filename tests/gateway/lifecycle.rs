//! From the start, whatever is down then, to the end, whatever runs then.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::sync::oneshot;
use tonic::Code;

use crate::support::backend::{self, Options, pb};
use crate::support::client::{Client, Version};
use crate::support::gateway::{TestGateway, upstream};
use crate::support::grpc::soon;
use crate::support::process::{self, Portico};

const SAY: &str = "/portico.test.v1.Echo/Say";

/// An address on which nobody listens.
fn unused() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound listener")
}

/// The demo's service as a backend of another kind.
struct Library {
    address: SocketAddr,
    _alive: oneshot::Sender<()>,
}

fn library() -> Library {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound listener");
    let (alive, ended) = oneshot::channel::<()>();
    tokio::spawn(portico::demo::start(listener, async {
        ended.await.ok();
    }));
    Library { address, _alive: alive }
}

#[tokio::test]
async fn a_gateway_that_starts_before_its_upstream_serves_once_it_is_there() {
    let address = unused();
    let gateway = TestGateway::start(&upstream("echo", address)).await;
    let readiness = async || {
        let reply = gateway.operator("/readyz").await;
        (reply.status, reply.json()["reasons"].to_string())
    };
    let mut client = gateway.client(Version::Http1).await;

    gateway.metric_reaches("portico_schema_loaded", 0.0).await;
    let (status, reasons) = until_says(&gateway, "reflection at").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reasons.contains("no schema for upstream echo") && reasons.contains(&address.to_string()), "{reasons}");
    let reply = client.get("/test/v1/say/hello").await;
    assert_eq!((reply.status, reply.reason().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "SCHEMA_UNAVAILABLE"));
    assert!(reply.json()["message"].as_str().unwrap().contains("upstream echo"), "{reply:?}");
    let status = backend::client(gateway.address).await.say(pb::SayRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);

    let _backend = backend::start_with(Options { address, ..Options::default() }).await;
    gateway.ready().await;

    assert_eq!(readiness().await, (StatusCode::OK, "[]".to_owned()));
    assert_eq!(client.get("/test/v1/say/hello").await.json()["text"], "hello");
    assert_eq!(client.get("/nowhere").await.status, StatusCode::NOT_FOUND);
    backend::client(gateway.address).await.say(pb::SayRequest::default()).await.unwrap();
}

/// Waits until `/readyz` gives a reason with those words.
async fn until_says(gateway: &TestGateway, words: &str) -> (StatusCode, String) {
    let waiting = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        loop {
            ticks.tick().await;
            let reply = gateway.operator("/readyz").await;
            let reasons = reply.json()["reasons"].to_string();
            if reasons.contains(words) {
                return (reply.status, reasons);
            }
        }
    };
    soon(waiting).await
}

/// Two upstreams, both known by reflection: nobody, and the library.
fn beside_one_that_is_down(library: &Library) -> String {
    format!(
        "upstreams:\n  - {{ name: down, endpoints: [\"{}\"], schema: {{ reflection: {{}} }} }}\n  \
         - {{ name: library, endpoints: [\"{}\"], schema: {{ reflection: {{}} }} }}\n",
        unused(),
        library.address
    )
}

#[tokio::test]
async fn an_upstream_that_is_down_keeps_no_other_from_serving() {
    let library = library();
    let yaml = beside_one_that_is_down(&library);
    let gateway = TestGateway::start(&yaml).await;
    gateway.metric_reaches("portico_schema_loaded{upstream=\"library\"}", 1.0).await;

    let mut client = gateway.client(Version::Http2).await;
    let shelves = client.get("/v1/shelves").await;
    let elsewhere = client.get("/v2/shelves").await;

    assert_eq!(shelves.status, StatusCode::OK, "{shelves:?}");
    assert_eq!(
        (elsewhere.status, elsewhere.reason().as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "SCHEMA_UNAVAILABLE")
    );
    assert!(elsewhere.json()["message"].as_str().unwrap().contains("upstream down"), "{elsewhere:?}");
    assert_eq!(gateway.operator("/readyz").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(gateway.operator("/livez").await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_upstream_that_is_down_keeps_a_new_gateway_from_being_ready_only_so_long() {
    let library = library();
    let yaml = beside_one_that_is_down(&library);

    let gateway = TestGateway::start_in(Duration::ZERO, &yaml).await;
    gateway.ready().await;

    let ready = gateway.operator("/readyz").await;
    assert_eq!((ready.status, ready.json()["reasons"].to_string()), (StatusCode::OK, "[]".to_owned()));
    assert!(ready.json()["missing"].to_string().contains("no schema for upstream down"), "{ready:?}");
    assert_eq!(gateway.client(Version::Http2).await.get("/v1/shelves").await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_upstream_that_comes_back_is_called_again_and_never_made_the_gateway_unready() {
    let backend = backend::start().await;
    let address = backend.address;
    let gateway = TestGateway::over(address).await;
    let mut client = gateway.client(Version::Http1).await;
    assert_eq!(client.get("/test/v1/say/a").await.status, StatusCode::OK);

    drop(backend);
    let reply = client.get("/test/v1/say/a").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{reply:?}");
    assert_eq!(gateway.operator("/readyz").await.status, StatusCode::OK);

    let _backend = backend::start_with(Options { address, ..Options::default() }).await;
    let again = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        while client.get("/test/v1/say/a").await.status != StatusCode::OK {
            ticks.tick().await;
        }
    };
    soon(again).await;
}

#[tokio::test]
async fn sigterm_lets_calls_and_streams_end_and_exits_with_0() {
    let backend = backend::start().await;
    let upstream = backend.address.to_string();
    let flags = ["run", "--upstream", &upstream, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut portico = Portico::start(&flags);
    let listener = portico.address("portico listens on").await;
    let admin = portico.address("admin listens on").await;
    portico.said("schema loaded").await;
    let mut http1 = Client::connect(listener, Version::Http1).await;
    let mut grpc = backend::client(listener).await;
    let mut operator = Client::connect(admin, Version::Http1).await;
    let said = |text: &str| pb::SayRequest { text: text.into(), behaviour: None };

    let unary = tokio::spawn(async move {
        http1.json(Method::POST, SAY, r#"{"text": "last", "behaviour": {"delay": "0.5s"}}"#).await
    });
    // The client ends this stream, so that the process stays for as long as it is asked.
    let (requests, receiver) = tokio::sync::mpsc::channel(1);
    let stream = grpc.converse(tokio_stream::wrappers::ReceiverStream::new(receiver));
    requests.send(said("before")).await.unwrap();
    let mut stream = stream.await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().text, "before");
    backend.tally.until(|counts| counts.started == 2).await;
    portico.terminate().await;

    while TcpProbe(listener).accepts().await {}
    let readiness = operator.get("/readyz").await;
    assert_eq!(readiness.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(readiness.json()["reasons"], serde_json::json!(["draining"]));
    requests.send(said("after")).await.unwrap();
    assert_eq!(stream.message().await.unwrap().unwrap().text, "after");
    drop(requests);
    assert!(stream.message().await.unwrap().is_none());
    let reply = unary.await.unwrap();
    assert_eq!((reply.status, reply.json()["text"].as_str()), (StatusCode::OK, Some("last")));
    let ended = portico.end().await;
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert!(!ended.said.contains("WARN") && !ended.said.contains("ERROR"), "{}", ended.said);
}

#[tokio::test]
async fn a_second_signal_cuts_what_still_runs() {
    let backend = backend::start().await;
    let upstream = backend.address.to_string();
    let flags = ["run", "--upstream", &upstream, "--listen", "127.0.0.1:0", "--admin", "off"];
    let mut portico = Portico::start(&flags);
    let listener = portico.address("portico listens on").await;
    portico.said("schema loaded").await;
    let mut grpc = backend::client(listener).await;
    let behaviour = Some(pb::Behaviour { stall: true, count: 1, ..pb::Behaviour::default() });
    let mut stream = grpc.repeat(pb::SayRequest { text: String::new(), behaviour }).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();

    portico.terminate().await;
    while TcpProbe(listener).accepts().await {}
    portico.terminate().await;

    stream.message().await.unwrap_err();
    let ended = portico.end().await;
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert!(ended.said.contains("cut"), "{}", ended.said);
    backend.tally.until(|counts| counts.cancelled == 1).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_read_to_its_end_keeps_no_process_from_exiting() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("portico.yaml");
    let listeners = "listeners: [ { address: \"127.0.0.1:0\" } ]\nadmin: off\nreload: { watch: false }\n";
    std::fs::write(&file, format!("{listeners}{}", upstream("echo", unused()))).unwrap();
    let mut portico = Portico::start(&["run", "--config", file.to_str().unwrap()]);
    portico.line("portico listens on").await;
    std::fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().expect("there is mkfifo").success());

    portico.signal("-HUP").await;
    // Opened once somebody reads, who then waits for its end.
    let held = std::thread::spawn(move || std::fs::OpenOptions::new().write(true).open(file));
    soon(async {
        while !held.is_finished() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    portico.terminate().await;

    let ended = portico.end().await;
    assert_eq!(ended.code, Some(0), "{}", ended.said);
}

/// Asks whether somebody listens.
struct TcpProbe(SocketAddr);

impl TcpProbe {
    async fn accepts(&self) -> bool {
        tokio::net::TcpStream::connect(self.0).await.is_ok()
    }
}

#[tokio::test]
async fn run_prints_a_line_for_each_listener() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("portico.yaml");
    let listeners = "listeners: [ { address: \"127.0.0.1:0\" }, { address: \"127.0.0.1:0\" } ]\n";
    let admin = "admin: { address: \"127.0.0.1:0\" }\n";
    std::fs::write(&file, format!("{}{listeners}{admin}", upstream("echo", unused()))).unwrap();

    let mut portico = Portico::start(&["run", "--config", file.to_str().unwrap()]);
    let first = portico.address("portico listens on http://").await;
    let second = portico.address("portico listens on http://").await;
    let admin = portico.address("admin listens on http://").await;

    assert_ne!(first.port(), second.port());
    for (address, path, status) in [
        (first, "/", StatusCode::SERVICE_UNAVAILABLE),
        (second, "/", StatusCode::SERVICE_UNAVAILABLE),
        (admin, "/livez", StatusCode::OK),
    ] {
        assert_eq!(Client::connect(address, Version::Http1).await.get(path).await.status, status);
    }
    portico.terminate().await;
    let ended = portico.end().await;
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert_eq!(ended.said.matches("listens on").count(), 3, "{}", ended.said);
}

#[tokio::test]
async fn mistakes_end_with_1_and_wrong_usage_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().expect("the path is text").to_owned();
    let (broken, garbage, bad_proto) = (path("broken.yaml"), path("garbage.binpb"), path("bad.proto"));
    std::fs::write(&broken, "upstreams: [ { nmae: echo } ]\n").unwrap();
    std::fs::write(&garbage, b"\xff\xff\xff").unwrap();
    std::fs::write(&bad_proto, "syntax = \"proto3\"; service S { rpc A(Missing) returns (Missing); }").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let up = ["--upstream", "127.0.0.1:1", "--admin", "off"];

    for (arguments, code, words) in [
        (vec!["run", "--config", &broken], 1, "did you mean"),
        (vec!["run", "--config", "/no/such/file.yaml"], 1, "cannot be read"),
        ([&["run", "--descriptor-set", &garbage][..], &up].concat(), 1, "garbage.binpb"),
        ([&["run", "--proto", &bad_proto][..], &up].concat(), 1, "Missing"),
        ([&["run", "--listen", &taken][..], &up].concat(), 1, &format!("cannot listen on {taken}: ")),
        ([&["run", "--listen", &taken][..], &up].concat(), 1, "; --listen or the configuration"),
        (vec!["run"], 2, "--upstream"),
        (vec!["run", "--upstream", "nonsense"], 2, "nonsense"),
        (vec!["rnu"], 2, "rnu"),
    ] {
        let ended = process::run(&arguments).await;
        assert_eq!(ended.code, Some(code), "{arguments:?}: {}", ended.said);
        assert!(ended.said.contains(words), "{arguments:?}: {}", ended.said);
    }
    for arguments in [["--help"], ["--version"]] {
        assert_eq!(process::run(&arguments).await.code, Some(0));
    }
}

#[tokio::test]
async fn as_many_files_may_be_open_as_the_system_grants() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("portico.yaml");
    let limits = "limits: { max_connections: 150 }";
    let listener =
        format!("listeners: [{{ address: \"127.0.0.1:0\", {limits} }}]\nadmin: {{ address: \"127.0.0.1:0\" }}\n");
    let upstream = "upstreams: [{ name: echo, endpoints: [\"127.0.0.1:9\"], schema: none }]\n";
    std::fs::write(&path, listener + upstream).expect("a file");
    let arguments = ["run", "--config", path.to_str().expect("a path")];

    let mut enough = Portico::start_with_files(64, 200, &arguments);
    let address = enough.address("portico listens on").await;
    let mut too_few = Portico::start_with_files(64, 100, &arguments);

    // More than it could have had open, had it not asked.
    let mut open = Vec::new();
    for _ in 0..100 {
        open.push(tokio::net::TcpStream::connect(address).await.expect("the gateway listens"));
    }
    let mut last = Client::connect(address, Version::Http1).await;
    assert_eq!(last.get("/").await.status, StatusCode::NOT_FOUND);
    too_few.line("fewer files may be open than the listeners may have connections").await;
}
