//! `portico demo` as a stranger meets it: what it prints works.

use std::net::{SocketAddr, TcpListener};

use portico::pb::portico::library::v1 as library;
use prost::Message;
use tokio::process::Command;
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::support::client::{Client, Version};
use crate::support::process::Portico;

/// A running demo and the calls that it printed.
struct Demo {
    portico: Portico,
    service: SocketAddr,
    listener: SocketAddr,
    admin: SocketAddr,
    calls: Vec<String>,
}

async fn demo(flags: &[&str]) -> Demo {
    let mut portico = Portico::start(&[&["demo"], flags].concat());
    let service = portico.address("the library service listens on ").await;
    let listener = portico.address("portico listens on http://").await;
    let admin = portico.address("admin listens on http://").await;
    portico.line("Ctrl-C ends the demo").await;
    let is_call = |line: &&String| line.starts_with("curl ") || line.starts_with("grpcurl ");
    let calls = portico.seen.iter().filter(is_call).cloned().collect();
    Demo { portico, service, listener, admin, calls }
}

/// Runs a printed line as a shell does; the status of the reply and its body.
async fn curl(line: &str) -> (u16, serde_json::Value) {
    let asked = line.replacen("curl ", "curl --silent --show-error --max-time 10 --write-out '\\n%{http_code}' ", 1);
    let output = Command::new("sh").args(["-c", &asked]).output().await.expect("there is a shell");
    let text = String::from_utf8(output.stdout).expect("a reply is text");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    let (body, status) = text.rsplit_once('\n').expect("curl writes the status in a line of its own");
    let status = status.parse().expect("a status is a number");
    (status, serde_json::from_str(body).expect("the body is JSON"))
}

/// What a printed grpcurl line asks for.
struct Grpcurl {
    message: serde_json::Value,
    address: SocketAddr,
    method: String,
    files: Vec<String>,
}

/// Reads a line that holds no more than the flags known here, quoted as the shell wants it.
fn grpcurl(line: &str) -> Grpcurl {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    let mut words = words.into_iter().skip(1);
    let (mut message, mut folder, mut files, mut plain) = (None, String::new(), Vec::new(), Vec::new());
    let mut clear_text = false;
    while let Some(word) = words.next() {
        let mut value = || words.next().expect("the flag has a value");
        match word.as_str() {
            "-plaintext" => clear_text = true,
            "-d" => message = Some(serde_json::from_str(&value()).expect("the message is JSON")),
            "-import-path" => folder = value(),
            "-proto" => files.push(format!("{folder}/{}", value())),
            flag => {
                assert!(!flag.starts_with('-'), "grpcurl has a flag {flag}?");
                plain.push(word);
            }
        }
    }
    assert!(clear_text, "the demo has no TLS: {line}");
    assert_eq!(plain.len(), 2, "address and method: {line}");
    let address = plain[0].parse().expect("an address");
    Grpcurl { message: message.expect("a message"), address, method: plain.remove(1), files }
}

async fn grpc(address: SocketAddr) -> Grpc<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address makes a URI");
    let mut grpc = Grpc::new(endpoint.connect().await.expect("something listens there"));
    grpc.ready().await.expect("the connection stands");
    grpc
}

#[tokio::test]
async fn the_six_printed_calls_work() {
    let demo = demo(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).await;
    let rest: Vec<&String> = demo.calls.iter().filter(|call| call.starts_with("curl ")).collect();
    let native: Vec<Grpcurl> =
        demo.calls.iter().filter(|call| call.starts_with("grpcurl ")).map(|call| grpcurl(call)).collect();
    assert_eq!((rest.len(), native.len()), (4, 2), "{:?}", demo.calls);

    let (status, listed) = curl(rest[0]).await;
    assert_eq!((status, listed["books"].as_array().map(Vec::len)), (200, Some(3)), "{listed}");
    let (status, created) = curl(rest[1]).await;
    assert_eq!((status, created["name"].as_str()), (200, Some("shelves/adventure/books/emma")), "{created}");
    let (status, changed) = curl(rest[2]).await;
    assert_eq!((status, changed["title"].as_str(), changed["price"].as_f64()), (200, Some("Emma"), Some(9.5)));
    let (status, lent) = curl(rest[3]).await;
    assert_eq!((status, lent["loan"]["borrower"].as_str()), (200, Some("Emma")), "{lent}");
    let (status, refused) = curl(rest[3]).await;
    assert_eq!((status, refused["code"].as_i64()), (400, Some(9)), "{refused}");

    // The same calls as grpcurl would make them, without the program.
    let watch = &native[0];
    assert_eq!((watch.address, watch.method.as_str()), (demo.listener, "portico.library.v1.Library/WatchBooks"));
    let wanted = usize::try_from(watch.message["max_events"].as_i64().unwrap()).unwrap();
    let request = library::WatchBooksRequest {
        parent: watch.message["parent"].as_str().unwrap().into(),
        max_events: i32::try_from(wanted).unwrap(),
    };
    let path = "/portico.library.v1.Library/WatchBooks".parse().unwrap();
    let codec: ProstCodec<_, library::BookEvent> = ProstCodec::default();
    let reply = grpc(demo.listener).await.server_streaming(Request::new(request), path, codec).await.unwrap();
    let mut events = reply.into_inner();
    for _ in 0..wanted {
        assert!(events.message().await.unwrap().is_some());
    }
    assert!(events.message().await.unwrap().is_none());

    let list = &native[1];
    assert_eq!((list.address, list.method.as_str()), (demo.listener, "portico.library.v1.Library/ListBooks"));
    assert!(list.files.iter().all(|file| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file).is_file()));
    let filter = list.message["filter"].as_str().unwrap().into();
    let request = library::ListBooksRequest { filter, ..library::ListBooksRequest::default() };
    let found: library::ListBooksResponse =
        unary(demo.listener, "/portico.library.v1.Library/ListBooks", request).await;
    assert!(!found.books.is_empty());
}

async fn unary<Q, R>(address: SocketAddr, path: &'static str, request: Q) -> R
where
    Q: Message + 'static,
    R: Message + Default + 'static,
{
    let path = http::uri::PathAndQuery::from_static(path);
    let reply = grpc(address).await.unary(Request::new(request), path, ProstCodec::default()).await;
    reply.expect("it succeeds").into_inner()
}

#[tokio::test]
async fn the_next_free_ports_are_taken_and_said() {
    // Busy by whoever runs on this machine, or by these.
    let _busy = [50051, 8080, 9901].map(|port| TcpListener::bind(("127.0.0.1", port)));

    let demo = demo(&[]).await;

    assert!((50052..=50071).contains(&demo.service.port()), "{}", demo.service);
    assert!((8081..=8100).contains(&demo.listener.port()), "{}", demo.listener);
    assert!((9902..=9921).contains(&demo.admin.port()), "{}", demo.admin);
    let found = [demo.service, demo.listener, demo.admin].map(|address| address.port());
    for (wanted, found) in [50051, 8080, 9901].into_iter().zip(found) {
        let sentence = format!("port {wanted} is taken, so it is {found} instead");
        assert!(demo.portico.seen.contains(&sentence), "{:?}", demo.portico.seen);
    }
    assert!(demo.calls.iter().all(|call| call.contains(&demo.listener.to_string())), "{:?}", demo.calls);
    assert_eq!(Client::connect(demo.admin, Version::Http1).await.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_port_that_was_asked_for_is_that_one_or_none() {
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();

    for (flag, flags) in [
        ("--listen", ["--listen", &address, "--admin", "off"]),
        ("--admin", ["--listen", "127.0.0.1:0", "--admin", &address]),
    ] {
        let ended = crate::support::process::run(&[&["demo"], &flags[..]].concat()).await;

        assert_eq!(ended.code, Some(1), "{}", ended.said);
        assert!(ended.said.contains(&format!("cannot listen on {address}")), "{}", ended.said);
        assert!(ended.said.contains(&format!("; {flag} or the configuration")), "{}", ended.said);
    }
}

#[tokio::test]
async fn the_demo_ends_at_once_though_somebody_watches() {
    let demo = demo(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).await;
    let path = "/portico.library.v1.Library/WatchBooks".parse().unwrap();
    let codec: ProstCodec<library::WatchBooksRequest, library::BookEvent> = ProstCodec::default();
    let request = Request::new(library::WatchBooksRequest::default());
    let mut events = grpc(demo.listener).await.server_streaming(request, path, codec).await.unwrap().into_inner();
    events.message().await.unwrap().unwrap();
    let begun = tokio::time::Instant::now();

    demo.portico.terminate().await;
    while let Ok(Some(_)) = events.message().await {}
    let ended = demo.portico.end().await;

    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert!(begun.elapsed() < std::time::Duration::from_secs(8), "{:?}", begun.elapsed());
}
