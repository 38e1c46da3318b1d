//! A test for each flag, and what a stranger sees when one is wrong.

use std::net::SocketAddr;

use clap::CommandFactory as _;

use super::*;
use crate::config::AccessLog;

fn parsed(line: &str) -> Result<Command, Exit> {
    parse(line.split(' '))
}

fn run(flags: &str) -> Run {
    match parsed(&format!("portico run {flags}")) {
        Ok(Command::Run(run)) => run,
        other => panic!("{other:?}"),
    }
}

fn usage(line: &str) -> String {
    match parsed(line) {
        Err(Exit::Usage(text)) => text.lines().next().unwrap_or_default().to_owned(),
        other => panic!("{other:?}"),
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[test]
fn definitions_are_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn one_upstream_is_enough() {
    let run = run("--upstream localhost:50051");

    let config = run.loaded.config;
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].address, address("127.0.0.1:8080"));
    assert_eq!(config.admin, Some(address("127.0.0.1:9901")));
    assert_eq!(&*config.upstreams[0].name, "localhost:50051");
    assert_eq!(&*config.upstreams[0].endpoints.fixed()[0].address, "localhost:50051");
    assert_eq!(config.upstreams[0].schema, SchemaSource::Reflection);
    assert_eq!(config.telemetry.access_log, AccessLog::Stdout(LogFormat::Text));
    assert_eq!(run.log, Log { format: LogFormat::Text, level: tracing::Level::INFO });
}

#[test]
fn upstream_repeats() {
    let upstreams = run("--upstream a:1 --upstream b:2").loaded.config.upstreams;

    assert_eq!(upstreams.iter().map(|upstream| &*upstream.name).collect::<Vec<_>>(), ["a:1", "b:2"]);
}

#[test]
fn descriptor_set_is_the_schema() {
    let upstreams = run("--upstream a:1 --descriptor-set Cargo.toml").loaded.config.upstreams;

    assert_eq!(upstreams[0].schema, SchemaSource::DescriptorSet("Cargo.toml".into()));
}

#[test]
fn proto_and_include_repeat() {
    let flags = "--upstream a:1 --proto Cargo.toml --proto build.rs --include src --include proto";
    let upstreams = run(flags).loaded.config.upstreams;

    let files = vec!["Cargo.toml".into(), "build.rs".into()];
    assert_eq!(upstreams[0].schema, SchemaSource::Proto { files, include: vec!["src".into(), "proto".into()] });
}

#[test]
fn listen_admin_and_workers_are_taken() {
    let config = run("--upstream a:1 --listen [::]:0 --admin 127.0.0.1:0 --workers 3").loaded.config;

    assert_eq!(config.listeners[0].address, address("[::]:0"));
    assert_eq!(config.admin, Some(address("127.0.0.1:0")));
    assert_eq!(config.workers, 3);
}

#[test]
fn admin_can_be_off() {
    assert_eq!(run("--upstream a:1 --admin off").loaded.config.admin, None);
}

#[test]
fn log_flags_are_taken() {
    for (word, level) in [
        ("error", tracing::Level::ERROR),
        ("warn", tracing::Level::WARN),
        ("info", tracing::Level::INFO),
        ("debug", tracing::Level::DEBUG),
    ] {
        assert_eq!(run(&format!("--upstream a:1 --log-level {word}")).log.level, level);
    }
    let run = run("--upstream a:1 --log-format json");
    assert_eq!(run.log.format, LogFormat::Json);
    assert_eq!(run.loaded.config.telemetry.access_log, AccessLog::Stdout(LogFormat::Json));
}

#[test]
fn flags_stand_above_the_file() {
    let run = run("--config examples/limits.yaml --listen 127.0.0.1:0 --workers 1 --admin off");

    assert_eq!(run.loaded.config.listeners[0].address, address("127.0.0.1:0"));
    assert_eq!(run.loaded.config.workers, 1);
    assert_eq!(run.loaded.config.admin, None);
}

#[test]
fn demo_takes_the_flags_of_a_gateway() {
    let Ok(Command::Demo(demo)) = parsed("portico demo --listen 127.0.0.1:1 --admin off --log-level debug") else {
        panic!("not a demo");
    };

    assert_eq!(demo.overrides.listen, Some(address("127.0.0.1:1")));
    assert_eq!(demo.overrides.admin, Some(None));
    assert_eq!(demo.overrides.workers, None);
    assert_eq!(demo.log.level, tracing::Level::DEBUG);
}

#[test]
fn check_and_routes_take_the_same_sources() {
    assert!(matches!(parsed("portico check --config examples/portico.yaml"), Ok(Command::Check(_))));
    assert!(matches!(parsed("portico check --upstream a:1"), Ok(Command::Check(_))));
    assert!(matches!(parsed("portico routes --config examples/portico.yaml"), Ok(Command::Routes(_))));
    assert!(matches!(parsed("portico routes --upstream a:1"), Ok(Command::Routes(_))));
}

#[test]
fn explain_takes_a_request() {
    let words = ["portico", "explain", "--upstream", "a:1", "POST", "/v1/shelves?a=b", "-H", "X-Id: 7", "-d", "{}"];
    let Ok(Command::Explain(explain)) = parse(words) else { panic!("not explained") };

    assert_eq!(explain.method, http::Method::POST);
    assert_eq!(explain.target, "/v1/shelves?a=b");
    assert_eq!(explain.headers["x-id"], "7");
    assert_eq!(&explain.body[..], b"{}");
}

#[test]
fn usage_errors_say_what_would_be_right() {
    let cases = [
        ("run", "error: the following required arguments were not provided:"),
        (
            "run --upstream a:1 --config b",
            "error: the argument '--upstream <HOST:PORT>' cannot be used with '--config <FILE>'",
        ),
        (
            "run --upstream a",
            "error: invalid value 'a' for '--upstream <HOST:PORT>': \"a\" is not HOST:PORT, such as localhost:50051",
        ),
        (
            "run --upstream a:1 --admin on",
            "error: invalid value 'on' for '--admin <IP:PORT|off>': write IP:PORT, such as 127.0.0.1:9901, or `off`",
        ),
        ("run --upstream a:1 --workers 0", "error: invalid value '0' for '--workers <N>': 0 is not in 1..=1024"),
        ("run --upstream a:1 --log-format xml", "error: invalid value 'xml' for '--log-format <FORMAT>'"),
        ("run --upstream a:1 --log-level trace", "error: invalid value 'trace' for '--log-level <LEVEL>'"),
        (
            "run --upstream a:1 --listen 127.0.0.1:9901",
            "error: 127.0.0.1:9901 is both the admin address and one for clients; --admin moves the former",
        ),
        (
            "run --upstream localhost:8080",
            "error: upstream localhost:8080 is the gateway itself, which listens on localhost:8080: calls would go round in circles; --listen moves the gateway",
        ),
        (
            "run --upstream 127.0.0.1:81 --listen 0.0.0.0:81",
            "error: upstream 127.0.0.1:81 is the gateway itself, which listens on 127.0.0.1:81: calls would go round in circles; --listen moves the gateway",
        ),
        (
            "run --upstream a:1 --upstream b:1 --proto x",
            "error: --descriptor-set and --proto describe one --upstream; several take a --config file",
        ),
        (
            "run --config examples/two-upstreams.yaml --descriptor-set x",
            "error: the argument '--config <FILE>' cannot be used with '--descriptor-set <FILE>'",
        ),
        ("check --upstream a:1 --listen 127.0.0.1:1", "error: unexpected argument '--listen' found"),
        (
            "explain --upstream a:1 GET v1",
            "error: invalid value 'v1' for '<TARGET>': write the path as it stands after the host, such as /v1/shelves/1",
        ),
        (
            "explain --upstream a:1 G(T /v1",
            "error: invalid value 'G(T' for '<METHOD>': not an HTTP method, such as GET",
        ),
        (
            "explain --upstream a:1 GET /v1 -H x",
            "error: invalid value 'x' for '--header <NAME: VALUE>': write name: value",
        ),
    ];

    for (line, expected) in cases {
        assert_eq!(usage(&format!("portico {line}")), expected);
    }
}

#[test]
fn missing_files_are_wrong_configuration() {
    let cases = [
        ("--upstream a:1 --descriptor-set none.binpb", "--descriptor-set: the file none.binpb does not exist"),
        ("--upstream a:1 --descriptor-set src", "--descriptor-set: src is a folder, not a file"),
        ("--upstream a:1 --proto /dev/null", "--proto: /dev/null is a pipe or a device, not a file"),
        (
            "--upstream a:1 --proto none.proto --include none",
            "--proto: the file none.proto does not exist\n--include: the folder none does not exist",
        ),
        ("--upstream a:1 --upstream a:1", "--upstream: \"a:1\" is given twice"),
    ];

    for (flags, expected) in cases {
        let exit = parsed(&format!("portico check {flags}")).expect_err("a wrong configuration");
        assert_eq!((exit.code(), &exit), (1, &Exit::Wrong(expected.to_owned())));
    }
}

#[test]
fn help_and_version_end_well() {
    for line in ["portico --help", "portico run --help", "portico explain --help", "portico --version"] {
        assert_eq!(parsed(line).map_err(|exit| exit.code()).err(), Some(0), "{line}");
    }
    let Err(Exit::Help(help)) = parsed("portico --help") else { panic!("no help") };
    for command in ["demo", "run", "check", "routes", "explain", "Examples:", "Exit codes: 0"] {
        assert!(help.contains(command), "{command}");
    }
}
