//! One process after the other on the same sockets: no connection is refused, no call is lost.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::support::backend::{self, Backend, pb};
use crate::support::client::{Client, Version};
use crate::support::process::Portico;

/// Starts a process that takes over if there is one to take over from.
async fn start(backend: &Backend, path: &str) -> (Portico, SocketAddr, SocketAddr) {
    let upstream = backend.address.to_string();
    let mut portico = Portico::start(&[
        "run",
        "--upstream",
        &upstream,
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--takeover",
        path,
    ]);
    let listener = portico.address("portico listens on").await;
    let admin = portico.address("admin listens on").await;
    (portico, listener, admin)
}

#[tokio::test]
async fn three_processes_follow_each_other_and_no_call_is_lost() {
    let backend = backend::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("takeover.sock").display().to_string();
    let (mut first, listener, admin) = start(&backend, &path).await;
    first.said("schema loaded").await;
    let stop = Arc::new(AtomicBool::new(false));
    let calls = Arc::new(AtomicUsize::new(0));
    // Callers that connect for each call, and callers that keep their connection for as long as they may.
    let callers: Vec<_> = (0..6)
        .map(|index| {
            let (stop, calls) = (Arc::clone(&stop), Arc::clone(&calls));
            let version = if index % 2 == 0 { Version::Http1 } else { Version::Http2 };
            tokio::spawn(async move {
                let mut client = None;
                while !stop.load(Ordering::Relaxed) {
                    let mut open = match client.take() {
                        Some(open) => open,
                        None => Client::connect(listener, version).await,
                    };
                    let reply = open.get("/test/v1/say/a").await;
                    assert_eq!(reply.status, StatusCode::OK, "{version:?} {reply:?}");
                    calls.fetch_add(1, Ordering::Relaxed);
                    let closes = reply.headers.get("connection").is_some_and(|value| value == "close");
                    if index >= 4 && version == Version::Http1 && !closes {
                        client = Some(open);
                    }
                }
            })
        })
        .collect();
    let mut grpc = backend::client(listener).await;
    let delay = Some(pb::google::protobuf::Duration { seconds: 0, nanos: 200_000_000 });
    let behaviour = Some(pb::Behaviour { delay, count: 10, ..pb::Behaviour::default() });
    let mut stream = grpc.repeat(pb::SayRequest { text: "a".into(), behaviour }).await.expect("a stream").into_inner();
    stream.message().await.expect("no error").expect("a message");

    let mut serving = first;
    for _ in 0..2 {
        let (mut next, same, same_admin) = start(&backend, &path).await;
        assert_eq!((same, same_admin), (listener, admin));
        next.line("took over").await;
        let ended = serving.end().await;
        assert_eq!(ended.code, Some(0), "{}", ended.said);
        assert!(!ended.said.contains("ERROR") && !ended.said.contains("cut"), "{}", ended.said);
        let ready = Client::connect(admin, Version::Http1).await.get("/readyz").await;
        assert_eq!(ready.status, StatusCode::OK);
        serving = next;
    }
    let mut messages = 1;
    while stream.message().await.expect("no error").is_some() {
        messages += 1;
    }

    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.expect("no call was lost");
    }
    assert_eq!(messages, 10);
    assert!(calls.load(Ordering::Relaxed) > 50, "{calls:?}");
    serving.terminate().await;
    assert_eq!(serving.end().await.code, Some(0));
    assert!(!std::path::Path::new(&path).exists());
}

#[tokio::test]
async fn a_process_that_cannot_start_takes_nothing_over() {
    let backend = backend::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("takeover.sock").display().to_string();
    let (mut first, listener, _) = start(&backend, &path).await;
    first.said("schema loaded").await;
    let bad = folder.path().join("bad.binpb");
    std::fs::write(&bad, b"\xff\xff").expect("a file");

    let upstream = backend.address.to_string();
    let bad = bad.display().to_string();
    let failed = crate::support::process::run(&[
        "run",
        "--upstream",
        &upstream,
        "--descriptor-set",
        &bad,
        "--listen",
        "127.0.0.1:0",
        "--takeover",
        &path,
    ])
    .await;
    first.line("this one goes on").await;

    assert_eq!(failed.code, Some(1), "{}", failed.said);
    let reply = Client::connect(listener, Version::Http1).await.get("/test/v1/say/a").await;
    assert_eq!(reply.status, StatusCode::OK);
}

#[tokio::test]
async fn a_process_whose_predecessor_is_gone_serves_all_the_same() {
    let backend = backend::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("takeover.sock");
    let old = std::os::unix::net::UnixListener::bind(&path).expect("a path");
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    let gives_and_dies = tokio::task::spawn_blocking(move || {
        let (stream, _) = old.accept().expect("a process asks");
        let descriptors = [socket.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        sendmsg(&stream, &[IoSlice::new(b"portico/1\n")], &mut control, SendFlags::empty()).expect("it listens");
    });

    let (mut portico, listener, _) = start(&backend, &path.display().to_string()).await;
    gives_and_dies.await.expect("sockets were given");
    portico.line("the process before does not hear").await;

    assert_eq!(listener, address);
    let reply = Client::connect(listener, Version::Http1).await.get("/test/v1/say/a").await;
    assert_eq!(reply.status, StatusCode::OK);
    portico.terminate().await;
    assert_eq!(portico.end().await.code, Some(0));
}

#[tokio::test]
async fn sockets_of_systemd_are_used() {
    let backend = backend::start().await;
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::empty()).expect("it can be inherited");
    // Connects before anybody accepts.
    let early = tokio::net::TcpStream::connect(address).await.expect("the socket listens");

    let program = format!(
        "exec 3<&{}; export LISTEN_FDS=1 LISTEN_PID=$$; exec {} run --upstream {} --listen {address} --admin off",
        socket.as_raw_fd(),
        env!("CARGO_BIN_EXE_portico"),
        backend.address
    );
    let mut child = Command::new("bash")
        .args(["-c", &program])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("there is bash");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let loaded = async {
        while let Some(line) = lines.next_line().await.expect("a readable pipe") {
            if line.contains("schema loaded") {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), loaded).await.expect("it starts");
    drop(socket);

    let reply = Client::over(early, address, Version::Http1).await.get("/test/v1/say/a").await;
    assert_eq!(reply.status, StatusCode::OK);
}
