//! What one request costs the gateway: how often it allocates, and how many instructions it takes
//! (`bench/instructions.sh`).
//!
//! ```text
//! cargo test --bench requests                      fails where a path allocates more than it may
//! cargo bench --bench requests [-- PATH]           prints what each path allocates, and microseconds of the process
//! requests --count 500 PATH                        nothing but so many requests, for a tool that counts instructions
//! requests --paths                                 the names of all paths
//! ```
//!
//! A real gateway with one worker, its access log on, runs in this process; the library service of the demo is its upstream
//! and runs in a child, so that nothing else here allocates while a client that reads and writes fixed buffers calls it.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod client;

use std::alloc::System;
use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use client::{Http1, Http2};
use portico::gateway::Gateway;
use portico::{config, demo, runtime};
use rustix::time::{ClockId, clock_gettime};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A way through the gateway, and how often a request on it may allocate.
struct Way {
    name: &'static str,
    most: usize,
}

/// Requests before anything is counted: connections are made, buffers grow, plans are compiled.
const WARM: usize = 300;
/// Requests that are counted.
const COUNTED: usize = 500;
/// Allocations meanwhile that belong to no request.
const ASIDE: usize = 100;

const BOOK: &str = "shelves/computing/books/the-art-of-computer-programming";

const PATHS: [Way; 4] = [
    Way { name: "rest-get-h1", most: 37 },
    Way { name: "rest-get-h2", most: 37 },
    Way { name: "rest-list-h2", most: 37 },
    Way { name: "grpc-get", most: 32 },
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--upstream") {
        return serve();
    }
    if arguments.iter().any(|argument| argument == "--paths") {
        PATHS.iter().for_each(|path| println!("{}", path.name));
        return Ok(());
    }
    let (mut upstream, address) = start_upstream()?;
    let control = runtime::control()?;
    let gateway = start_gateway(address, &control)?;
    let result = run(&arguments, *gateway.addresses().first().ok_or("no listener")?);
    gateway.stop();
    upstream.kill()?;
    upstream.wait()?;
    result
}

fn run(arguments: &[String], gateway: SocketAddr) -> Result<(), Box<dyn Error>> {
    let count = arguments.iter().position(|argument| argument == "--count");
    let count = count.and_then(|at| arguments.get(at + 1)).map(|count| count.parse::<usize>()).transpose()?;
    let wanted = arguments.iter().find(|argument| PATHS.iter().any(|path| path.name == **argument));
    let mut failures = Vec::new();
    for path in PATHS.iter().filter(|path| wanted.is_none_or(|wanted| path.name == wanted)) {
        let mut request = request(path.name, gateway)?;
        if let Some(count) = count {
            for _ in 0..count {
                request()?;
            }
            continue;
        }
        for _ in 0..WARM {
            request()?;
        }
        let (region, before) = (Region::new(ALLOCATOR), on_cpu());
        for _ in 0..COUNTED {
            request()?;
        }
        let (change, spent) = (region.change(), on_cpu() - before);
        let all = change.allocations + change.reallocations;
        let allocations = (all + COUNTED / 2) / COUNTED;
        let bytes = change.bytes_allocated / COUNTED;
        println!("{:14} {allocations:4} allocations {bytes:7} bytes {:6.1} us", path.name, micros(spent));
        if all > path.most * COUNTED + ASIDE {
            failures.push(format!("{} allocates {allocations} times, {} are allowed", path.name, path.most));
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ").into()) }
}

/// What sends one request of that kind and reads the reply to its end.
fn request(name: &str, gateway: SocketAddr) -> std::io::Result<Box<dyn FnMut() -> std::io::Result<()>>> {
    Ok(match name {
        "rest-get-h1" => {
            let mut client = Http1::connect(gateway, &format!("/v1/{BOOK}"))?;
            Box::new(move || client.get())
        }
        "rest-get-h2" => {
            let mut client = Http2::connect(gateway, "GET", &format!("/v1/{BOOK}"), &[])?;
            Box::new(move || client.call())
        }
        "rest-list-h2" => {
            let mut client = Http2::connect(gateway, "GET", "/v1/books", &[])?;
            Box::new(move || client.call())
        }
        _ => {
            // A frame of one field; the lengths are those of the name.
            let length = u8::try_from(BOOK.len()).map_err(std::io::Error::other)?;
            let mut message = vec![0, 0, 0, 0, length + 2, 0x0a, length];
            message.extend_from_slice(BOOK.as_bytes());
            let mut client = Http2::connect(gateway, "POST", "/portico.library.v1.Library/GetBook", &message)?;
            Box::new(move || client.call())
        }
    })
}

fn start_gateway(upstream: SocketAddr, control: &Runtime) -> Result<Gateway, Box<dyn Error>> {
    let text = format!(
        "listeners: [ {{ address: \"127.0.0.1:0\" }} ]\nadmin: off\nworkers: 1\n\
         telemetry: {{ access_log: {{ path: /dev/null }} }}\n\
         upstreams: [ {{ name: library, endpoints: [\"{upstream}\"], schema: {{ reflection: {{}} }} }} ]\n"
    );
    let loaded = config::from_str(&text, "requests.yaml", Path::new(".")).map_err(|errors| errors.to_string())?;
    let gateway = Gateway::start(loaded.config, control.handle())?;
    let started = on_cpu();
    while !gateway.is_ready() {
        if on_cpu() - started > Duration::from_secs(10) {
            return Err("the schema does not come".into());
        }
        std::thread::yield_now();
    }
    Ok(gateway)
}

/// Starts this program once more as the upstream, which says where it listens.
fn start_upstream() -> Result<(Child, SocketAddr), Box<dyn Error>> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--upstream")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    Ok((child, line.trim().parse()?))
}

/// The upstream: serves until its input ends.
fn serve() -> Result<(), Box<dyn Error>> {
    let control = runtime::control()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    control.spawn(demo::start(listener, std::future::pending()));
    std::io::stdin().read_to_end(&mut Vec::new())?;
    control.shutdown_background();
    Ok(())
}

/// How long all threads of this process have run.
fn on_cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn micros(spent: Duration) -> f64 {
    spent.as_secs_f64() * 1e6 / COUNTED as f64
}
