//! Every key reaches the configuration.

use std::time::Duration;

use super::*;
use crate::config::cors::{Names, Origins};
use crate::config::{
    AccessLog, Connections, DEFAULT_ADMIN, DEFAULT_LISTEN, Limits, LogFormat, MethodSettings, SchemaSource, Serve,
    ServicePattern,
};
use crate::pb::google::api::http_rule::Pattern;

#[test]
fn one_upstream_is_enough() {
    let config = with_upstream("");

    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].address, DEFAULT_LISTEN);
    assert_eq!(config.listeners[0].limits, Limits::default());
    assert!(!config.listeners[0].next_free_port);
    assert_eq!(config.admin, Some(DEFAULT_ADMIN));
    assert_eq!(&*config.upstreams[0].name, "library");
    assert_eq!(&*config.upstreams[0].endpoints.fixed()[0].address, "localhost:50051");
    assert_eq!(config.upstreams[0].schema, SchemaSource::Reflection);
    assert_eq!(config.upstreams[0].connections, Connections::default());
    assert_eq!(config.serve, Serve { reflection: true, health: true });
    assert_eq!(config.defaults, MethodSettings::default());
    assert_eq!(config.telemetry.access_log, AccessLog::Stdout(LogFormat::Text));
    assert!(config.workers >= 1);
}

#[test]
fn listener_keys() {
    let config = with_upstream(
        "listeners:
  - address: 0.0.0.0:0
    trusted_proxies: [10.0.0.0/8, \"::1\"]
    limits:
      max_connections: 1
      max_header_bytes: 8KiB
      max_headers: 2
      max_concurrent_streams: 3
      max_pending_resets: 4
      header_timeout: 5ms
      tls_handshake_timeout: 7ms
      idle_timeout: 6s
      stream_window: 64KiB
      connection_window: 1MiB
  - address: \"[::1]:81\"",
    );

    let expected = Limits {
        max_connections: 1,
        max_header_bytes: 8 << 10,
        max_headers: 2,
        max_concurrent_streams: 3,
        max_pending_resets: 4,
        header_timeout: Duration::from_millis(5),
        tls_handshake_timeout: Duration::from_millis(7),
        idle_timeout: Duration::from_secs(6),
        stream_window: 64 << 10,
        connection_window: 1 << 20,
    };
    assert_eq!(config.listeners[0].address.to_string(), "0.0.0.0:0");
    assert_eq!(config.listeners[0].limits, expected);
    let trusted = config.listeners[0].trusted_proxies.iter().map(ToString::to_string);
    assert_eq!(trusted.collect::<Vec<_>>(), ["10.0.0.0/8", "::1/128"]);
    assert_eq!(config.listeners[1].address.to_string(), "[::1]:81");
}

#[test]
fn admin_keys() {
    assert_eq!(with_upstream("admin: { address: 127.0.0.1:7 }").admin.map(|address| address.port()), Some(7));
    assert_eq!(with_upstream("admin: off").admin, None);
    assert_eq!(with_upstream("admin: {}").admin, Some(DEFAULT_ADMIN));
}

#[test]
fn upstream_keys() {
    let loaded = load(
        r#"
upstreams:
  - name: a
    endpoints: ["${HOST}:1", "[::1]:2"]
    services: [a.b.*, a.C]
    authority: internal:443
    connections:
      max_per_endpoint: 7
      connect_timeout: 250ms
      stream_window: 128KiB
      connection_window: 2MiB
      data_frame_budget: 1GiB
      max_age: none
      keepalive: 1m
"#,
    );

    let upstream = &loaded.expect("a right configuration").config.upstreams[0];
    assert_eq!(upstream.endpoints.to_string(), "example.com:1, [::1]:2");
    assert_eq!(upstream.services, [ServicePattern::Prefix("a.b.".into()), ServicePattern::Exact("a.C".into())]);
    assert_eq!(upstream.authority.as_deref(), Some("internal:443"));
    let expected = Connections {
        max_per_endpoint: 7,
        connect_timeout: Duration::from_millis(250),
        stream_window: 128 << 10,
        connection_window: 2 << 20,
        data_frame_budget: 1 << 30,
        max_age: None,
        keepalive: Some(Duration::from_mins(1)),
    };
    assert_eq!(upstream.connections, expected);
}

#[test]
fn schema_sources_are_found_beside_the_file() {
    let source = |schema: &str| {
        let text = format!("upstreams: [{{ name: a, endpoints: [\"a:1\"], schema: {{ {schema} }} }}]");
        load(&text).expect("a right configuration").config.upstreams.remove(0).schema
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let file = folder.join("inventory.proto");

    assert_eq!(source("reflection: {}"), SchemaSource::Reflection);
    let text = "upstreams: [{ name: a, endpoints: [\"a:1\"], schema: none }]";
    assert!(!load(text).expect("a right configuration").config.upstreams[0].serves());
    assert_eq!(source("descriptor_set: inventory.proto"), SchemaSource::DescriptorSet(file.clone()));
    assert_eq!(
        source("proto: [inventory.proto]"),
        SchemaSource::Proto { files: vec![file.clone()], include: vec![folder.clone()] }
    );
    assert_eq!(
        source("proto: [inventory.proto], include: [., ../proto]"),
        SchemaSource::Proto { files: vec![file], include: vec![folder.join("."), folder.join("../proto")] }
    );
}

#[test]
fn http_rule_keys() {
    let config = with_upstream(
        r#"
http_rules:
  - { selector: a.B.C, get: /c }
  - { selector: "a.B.D, a.C.*", put: /d, body: "*" }
  - { selector: a.B.E, post: /e, body: e, response_body: f }
  - { selector: a.B.F, delete: /f }
  - { selector: a.B.G, patch: /g, additional_bindings: [{ custom: { kind: HEAD, path: /h } }] }
"#,
    );

    let patterns: Vec<_> = config.http_rules.iter().filter_map(|rule| rule.pattern.clone()).collect();
    let path = |path: &str| path.to_owned();
    assert_eq!(
        patterns,
        [
            Pattern::Get(path("/c")),
            Pattern::Put(path("/d")),
            Pattern::Post(path("/e")),
            Pattern::Delete(path("/f")),
            Pattern::Patch(path("/g"))
        ]
    );
    assert_eq!((&*config.http_rules[2].selector, &*config.http_rules[2].body), ("a.B.E", "e"));
    assert_eq!(config.http_rules[2].response_body, "f");
    match &config.http_rules[4].additional_bindings[0].pattern {
        Some(Pattern::Custom(custom)) => assert_eq!((&*custom.kind, &*custom.path), ("HEAD", "/h")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn json_keys() {
    let config = with_upstream(
        "json:
  unknown_fields: ignore
  int64_as_number: true
  emit_defaults: true
  preserve_proto_names: true
  enums_as_numbers: true
policies:
  - match: a.B/*
    json: { unknown_fields: reject, int64_as_number: false, emit_defaults: false }
  - match: a.B/C
    json: { preserve_proto_names: false, enums_as_numbers: false }",
    );

    let json = config.defaults.json;
    assert!(json.ignore_unknown_fields && json.int64_as_number && json.emit_defaults);
    assert!(json.preserve_proto_names && json.enums_as_numbers);
    let json = config.method("a.B/D").json;
    assert!(!json.ignore_unknown_fields && !json.int64_as_number && !json.emit_defaults);
    assert!(json.preserve_proto_names && json.enums_as_numbers);
    assert_eq!(config.method("a.B/C").json, crate::config::Json::default());
}

#[test]
fn the_most_specific_policy_wins_key_by_key() {
    let config = with_upstream(
        r#"
policies:
  - match: a.B/C
    timeout: { unary: 1s }
  - match: a.*
    timeout: { unary: 2s, stream_idle: 2s }
  - match: "*"
    timeout: { unary: 3s, stream_idle: 3s }
    limits: { request_message: 3B, response_message: 4B }
  - match: a.B/Slow
    timeout: { unary: none }
"#,
    );

    let settings = config.method("a.B/C");
    assert_eq!(settings.unary_timeout, Some(Duration::from_secs(1)));
    assert_eq!(settings.stream_idle, Duration::from_secs(2));
    assert_eq!((settings.max_request_message, settings.max_response_message), (3, 4));
    assert_eq!(config.method("b.B/C").unary_timeout, Some(Duration::from_secs(3)));
    assert_eq!(config.method("a.B/Slow").unary_timeout, None);
}

#[test]
fn cors_keys() {
    let config = with_upstream(
        r#"
policies:
  - match: "*"
    cors: { allow_origins: ["*"] }
  - match: a.*
    cors:
      allow_origins: ["https://App.example.com:443", "https://*.example.com", "null"]
      allow_headers: [Authorization, x-tenant]
      expose_headers: [X-Total]
      allow_credentials: true
      max_age: 1h
  - match: a.B/*
    timeout: { unary: 1s }
  - match: a.B/Private
    cors: none
"#,
    );

    let everyone = config.cors("").expect("the policy of `*`");
    assert_eq!((&everyone.origins, everyone.credentials), (&Origins::Any, false));
    assert_eq!(everyone.allow_headers, Names::Listed(Vec::new()));
    assert_eq!(everyone.max_age, Duration::from_mins(10));
    let inherited = config.cors("a.B/C").expect("that of a.*");
    assert_eq!(inherited.origins.to_string(), "https://app.example.com https://*.example.com null");
    let name = http::HeaderName::from_static;
    assert_eq!(inherited.allow_headers, Names::Listed(vec![name("authorization"), name("x-tenant")]));
    assert_eq!(inherited.expose_headers, Names::Listed(vec![name("x-total")]));
    assert_eq!((inherited.credentials, inherited.max_age), (true, Duration::from_hours(1)));
    assert_eq!(config.cors("a.B/Private"), None);
    assert_eq!(with_upstream("").cors("a.B/C"), None);
}

#[test]
fn an_origin_pattern_over_a_whole_registry_is_taken_with_a_warning() {
    let loaded =
        load(&format!("policies: [{{ match: \"*\", cors: {{ allow_origins: [\"https://*.com\"] }} }}]\n{UPSTREAM}"));

    let warnings = loaded.expect("a right configuration").warnings;
    let lines: Vec<_> = warnings.iter().map(|warning| warning.to_string()).collect();
    let expected =
        "portico.yaml:1:50: policies[0].cors.allow_origins[0]: whoever has a host below this domain may call\n";
    assert!(lines.len() == 1 && lines[0].starts_with(expected), "{lines:?}");
}

#[test]
fn serve_telemetry_and_workers_keys() {
    let config = with_upstream(
        "serve: { reflection: false, health: false }
telemetry: { access_log: { format: json, path: access.log } }
workers: 3",
    );

    assert_eq!(config.serve, Serve { reflection: false, health: false });
    assert_eq!(config.workers, 3);
    match config.telemetry.access_log {
        AccessLog::File(path, LogFormat::Json) => assert!(path.ends_with("examples/access.log")),
        other => panic!("{other:?}"),
    }
    assert_eq!(with_upstream("telemetry: { access_log: { path: off } }").telemetry.access_log, AccessLog::Off);
}

#[test]
fn numbers_and_truth_come_from_the_environment_too() {
    let text = format!("workers: ${{N}}\nserve:\n  health: ${{NO}}\n{UPSTREAM}");
    let variable = |name: &str| Some(if name == "N" { "2" } else { "false" }.to_owned());
    let config = from_str_with(&text, "portico.yaml", Path::new(""), &variable).expect("a right configuration").config;

    assert_eq!((config.workers, config.serve.health), (2, false));
}

#[test]
fn anchors_and_merge_keys_work() {
    let config = with_upstream(
        "listeners:
  - &first { address: 127.0.0.1:1, limits: { max_headers: 5 } }
  - { <<: *first, address: 127.0.0.1:2 }",
    );

    assert_eq!(config.listeners[1].address.port(), 2);
    assert_eq!(config.listeners[1].limits.max_headers, 5);
}

#[test]
fn looser_limits_are_taken_with_a_warning() {
    let loaded = load(&format!(
        "listeners:
  - address: 0.0.0.0:80
    trusted_proxies: [0.0.0.0/0]
    limits: {{ max_headers: 101, idle_timeout: 2h, max_header_bytes: 60KiB }}
admin: {{ address: 0.0.0.0:81 }}
policies: [{{ match: a.B/C, limits: {{ request_message: 5MiB }} }}]
{UPSTREAM}"
    ))
    .expect("a right configuration");

    let warnings: Vec<String> = loaded
        .warnings
        .iter()
        .map(|warning| warning.to_string().lines().next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(
        warnings,
        [
            "portico.yaml:3:22: listeners[0].trusted_proxies: every client may say what its own address is",
            "portico.yaml:4:28: listeners[0].limits.max_headers: 101 is looser than the safe default of 100",
            "portico.yaml:4:47: listeners[0].limits.idle_timeout: 2h is looser than the safe default of 1h",
            "portico.yaml:5:19: admin.address: the admin address asks nobody for a password and is reachable from other machines",
            "portico.yaml:6:55: policies[0].limits.request_message: 5MiB is looser than the safe default of 4MiB",
        ]
    );
}

#[test]
fn what_has_no_effect_or_more_than_was_meant_is_taken_with_a_warning() {
    let connections = |keys: &str| UPSTREAM.replace("}]", &format!(", connections: {{ {keys} }} }}]"));
    let breaker = |keys: &str| UPSTREAM.replace("}]", &format!(", circuit_breaker: {{ {keys} }} }}]"));
    let policy = |keys: &str| format!("policies: [{{ match: a.B/C, {keys} }}]\n{UPSTREAM}");
    let said = |text: String| -> Vec<String> {
        let warnings = load(&text).unwrap_or_else(|errors| panic!("{text}: {errors}")).warnings;
        warnings.iter().map(|warning| format!("{}: {}", warning.path, warning.message)).collect()
    };

    for (text, expected) in [
        (
            connections("connection_window: 33MiB"),
            "upstreams[0].connections.connection_window: 33MiB is looser than the safe default of 32MiB",
        ),
        (breaker("max_requests: 0"), "upstreams[0].circuit_breaker.max_requests: 0 lets no call pass"),
        (
            breaker("per_endpoint: { max_requests: 0 }"),
            "upstreams[0].circuit_breaker.per_endpoint.max_requests: 0 lets no call pass",
        ),
        (
            breaker("per_endpoint: { max_requests: 16385 }"),
            "upstreams[0].circuit_breaker.per_endpoint.max_requests: has no effect: the upstream as a whole has 16384",
        ),
        (
            breaker("max_pending: 5, per_endpoint: { max_pending: 6 }"),
            "upstreams[0].circuit_breaker.per_endpoint.max_pending: has no effect: the upstream as a whole has 5",
        ),
        (
            policy("timeout: { stream: 1m, stream_idle: 1m }"),
            "policies[0].timeout.stream_idle: 1m has no effect: the whole stream has 1m",
        ),
        (
            policy("timeout: { unary: 1s }, retry: { per_try_timeout: 2s }"),
            "policies[0].retry: `per_try_timeout` of 2s has no effect: the whole call has 1s",
        ),
        (
            policy("timeout: { unary: 20ms }, hedge: {}"),
            "policies[0].hedge: `delay` of 50ms has no effect: the whole call has 20ms",
        ),
    ] {
        assert_eq!(said(text), [expected]);
    }
    for text in [
        connections("connection_window: 32MiB, stream_window: 4MiB"),
        breaker(
            "max_requests: 100, max_pending: 0, max_connections: 0, max_retries: 0, per_endpoint: { max_requests: 100 }",
        ),
        breaker("max_requests: 20000, per_endpoint: { max_requests: 18000 }"),
        policy("timeout: { stream: none, stream_idle: 1h }"),
        policy("timeout: { unary: 3s }, retry: { per_try_timeout: 1s }, hedge: none"),
    ] {
        assert_eq!(said(text), [""; 0]);
    }
}

#[test]
fn files_of_callers_are_watched_by_whoever_reads_them_and_secrets_with_the_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    identity(folder.path());
    let config = with_upstream(&format!(
        "authentication:
  api_keys: [ {{ name: a, file: credentials/partners.yaml }} ]
  basic: [ {{ name: b, file: credentials/office.yaml }} ]
  jwt:
    - {{ name: c, issuer: i, audiences: [d], jwks: {{ file: {}/server.pem }} }}
    - {{ name: d, issuer: i, audiences: [d], secret: {{ file: credentials/jobs.secret }} }}
",
        folder.path().display()
    ));

    assert_eq!(config.files, [Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/credentials/jobs.secret")]);
}
