//! Every wrong value is named with its line, its column and what would be right, and all of them at once.

use proptest::prelude::*;

use super::*;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");

/// The first line of each error.
fn errors(text: &str) -> Vec<String> {
    match load(text) {
        Ok(loaded) => panic!("accepted: {loaded:?}"),
        Err(errors) => errors
            .problems()
            .iter()
            .map(|problem| problem.to_string().lines().next().unwrap_or_default().to_owned())
            .collect(),
    }
}

/// Each line, put into a file with an upstream, gives exactly this error.
fn assert_refused(cases: &[(&str, &str)]) {
    for (line, expected) in cases {
        assert_eq!(errors(&format!("{line}\n{UPSTREAM}")), [format!("portico.yaml:{expected}")], "{line}");
    }
}

/// Each entry of an upstream gives exactly this error.
fn assert_upstream_refused(cases: &[(&str, &str)]) {
    for (entry, expected) in cases {
        let text = format!("upstreams:\n  - name: library\n    endpoints: [\"localhost:50051\"]\n    {entry}\n");
        assert_eq!(errors(&text), [format!("portico.yaml:{expected}")], "{entry}");
    }
}

#[test]
fn wrong_types() {
    assert_refused(&[
        ("listeners: 5", "1:12: listeners: expected a list; found the number 5"),
        (
            "listeners: [5]",
            "1:13: listeners[0]: expected a map of address, tls, limits, trusted_proxies, proxy_protocol; found the number 5",
        ),
        (
            "listeners: [{ address: 80 }]",
            "1:24: listeners[0].address: expected text; found the number 80: put it in quotes",
        ),
        ("admin: on", "1:8: admin: expected a map or `off`; found \"on\""),
        ("serve: { health: yes }", "1:18: serve.health: expected true or false; found \"yes\""),
        ("workers: two", "1:10: workers: expected a whole number; found \"two\""),
        ("workers: -1", "1:10: workers: expected a whole number; found the number -1"),
        ("workers: 1.5", "1:10: workers: expected a whole number; found the number 1.5"),
        ("workers:", "1:8: workers: expected a whole number; found nothing"),
    ]);
}

#[test]
fn wrong_listeners() {
    assert_refused(&[
        (
            "listeners: []",
            "1:12: listeners: at least one listener is needed; without the key there is one on 127.0.0.1:8080",
        ),
        ("listeners: [{}]", "1:13: listeners[0]: `address` is missing"),
        (
            "listeners: [{ address: localhost:80 }]",
            "1:24: listeners[0].address: \"localhost:80\" is not an address to listen on; write 127.0.0.1:80",
        ),
        (
            "listeners: [{ address: 127.0.0.1:65536 }]",
            "1:24: listeners[0].address: \"127.0.0.1:65536\" is not an address to listen on; write IP:PORT, such as 127.0.0.1:8080",
        ),
        (
            "listeners: [{ address: 127.0.0.1:1 }, { address: 127.0.0.1:1 }]",
            "1:39: listeners[1]: 127.0.0.1:1 is already the address of listeners[0]",
        ),
        (
            "listeners: [{ address: 127.0.0.1:9901 }]\nadmin: { address: 127.0.0.1:9901 }",
            "2:19: admin.address: 127.0.0.1:9901 is already the address of listeners[0]",
        ),
        (
            "listeners: [{ address: 127.0.0.1:1, trusted_proxies: [all] }]",
            "1:55: listeners[0].trusted_proxies[0]: \"all\" is not a network or an address, such as 10.0.0.0/8 or 192.0.2.1",
        ),
    ]);
}

#[test]
fn limits_out_of_range() {
    let ranges = [
        ("max_connections", "0", "1 to 1000000"),
        ("max_connections", "1000001", "1 to 1000000"),
        ("max_header_bytes", "1KiB", "8KiB to 8MiB"),
        ("max_headers", "0", "1 to 10000"),
        ("max_concurrent_streams", "0", "1 to 100000"),
        ("max_pending_resets", "0", "1 to 100000"),
        ("header_timeout", "0ms", "1ms to 10m"),
        ("header_timeout", "11m", "1ms to 10m"),
        ("tls_handshake_timeout", "0ms", "1ms to 10m"),
        ("idle_timeout", "25h", "1ms to 24h"),
        ("stream_window", "65534B", "65535B to 2147483647B"),
        ("connection_window", "2GiB", "65535B to 2147483647B"),
    ];

    for (key, value, range) in ranges {
        let text = format!("listeners:\n- address: 127.0.0.1:1\n  limits:\n    {key}: {value}\n{UPSTREAM}");
        let column = key.len() + 7;
        let path = format!("portico.yaml:4:{column}: listeners[0].limits.{key}");
        assert_eq!(errors(&text), [format!("{path}: {value} is out of range; allowed are {range}")]);
    }
    assert_refused(&[
        ("workers: 0", "1:10: workers: 0 is out of range; allowed are 1 to 1024"),
        (
            "policies: [{ match: \"*\", timeout: { unary: 0s } }]",
            "1:44: policies[0].timeout.unary: 0ms is out of range; allowed are 1ms to 24h",
        ),
        (
            "policies: [{ match: \"*\", limits: { response_message: 2GiB } }]",
            "1:54: policies[0].limits.response_message: 2GiB is out of range; allowed are 1B to 1GiB",
        ),
    ]);
    assert_upstream_refused(&[(
        "schema: none\n    services: [\"a.*\"]",
        "5:15: upstreams[0].services: an upstream with `schema: none` serves no calls",
    )]);
    assert_upstream_refused(&[
        (
            "connections: { max_per_endpoint: 0 }",
            "4:38: upstreams[0].connections.max_per_endpoint: 0 is out of range; allowed are 1 to 1024",
        ),
        (
            "connections: { connect_timeout: 6m }",
            "4:37: upstreams[0].connections.connect_timeout: 6m is out of range; allowed are 1ms to 5m",
        ),
        (
            "connections: { data_frame_budget: 1B }",
            "4:39: upstreams[0].connections.data_frame_budget: 1B is out of range; allowed are 64KiB to 4GiB",
        ),
        (
            "connections: { stream_window: 8MiB }",
            "4:35: upstreams[0].connections.stream_window: connection_window (32MiB) must be at least 8 times stream_window (8MiB), or a few slow readers hold up every call",
        ),
    ]);
}

#[test]
fn numbers_without_a_unit() {
    assert_refused(&[
        (
            "policies: [{ match: \"*\", timeout: { unary: 10 } }]",
            "1:44: policies[0].timeout.unary: a duration needs a unit (ms, s, m, h), such as 10s or 250ms; found \"10\"",
        ),
        (
            "policies: [{ match: \"*\", limits: { request_message: 4096 } }]",
            "1:53: policies[0].limits.request_message: a size needs a unit (B, KiB, MiB, GiB, kB, KB, MB, GB), such as 4MiB or 64KiB; found \"4096\"",
        ),
    ]);
}

#[test]
fn wrong_upstreams() {
    assert_eq!(errors(""), ["portico.yaml: `upstreams` is missing"]);
    assert_eq!(errors("upstreams: []"), ["portico.yaml:1:12: upstreams: at least one upstream is needed"]);
    assert_eq!(
        errors("upstreams: [{}]"),
        [
            "portico.yaml:1:13: upstreams[0]: `name` is missing",
            "portico.yaml:1:13: upstreams[0]: `endpoints` is missing"
        ]
    );
    assert_eq!(
        errors(
            "upstreams:\n- { name: a b, endpoints: [] }\n- { name: c, endpoints: [\"c:1\"] }\n- { name: c, endpoints: [c] }"
        ),
        [
            "portico.yaml:2:11: upstreams[0].name: \"a b\" is not a name; names have 1 to 100 letters, digits and `-_.:`",
            "portico.yaml:2:27: upstreams[0].endpoints: at least one endpoint is needed",
            "portico.yaml:4:11: upstreams[2].name: \"c\" is already upstreams[1].name",
            "portico.yaml:4:26: upstreams[2].endpoints[0]: \"c\" is not HOST:PORT, such as localhost:50051",
        ]
    );
    assert_upstream_refused(&[
        (
            "services: [a*]",
            "4:16: upstreams[0].services[0]: \"a*\" is not a service pattern; write `*`, `pkg.*` or `pkg.Service`",
        ),
        ("authority: a@b", "4:16: upstreams[0].authority: \"a@b\" is not an authority; write HOST or HOST:PORT"),
    ]);
}

#[test]
fn wrong_schema_sources() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let folder = folder.display();
    assert_upstream_refused(&[
        ("schema: {}", "4:13: upstreams[0].schema: one of `reflection`, `descriptor_set` and `proto` is needed"),
        (
            "schema: { reflection: yes }",
            "4:27: upstreams[0].schema.reflection: expected a map of refresh; found \"yes\"",
        ),
        (
            "schema: { descriptor_sets: a }",
            "4:15: upstreams[0].schema.descriptor_sets: unknown key; did you mean `descriptor_set`?",
        ),
        (
            "schema: { reflection: {}, proto: [] }",
            "4:13: upstreams[0].schema: only one of `reflection`, `descriptor_set` and `proto` can be the source",
        ),
        ("schema: { reflection: {}, include: [] }", "4:40: upstreams[0].schema.include: `include` goes with `proto`"),
        ("schema: { proto: [] }", "4:22: upstreams[0].schema.proto: at least one file is needed"),
        (
            "schema: { descriptor_set: no.binpb }",
            &format!("4:31: upstreams[0].schema.descriptor_set: the file {folder}/no.binpb does not exist"),
        ),
        (
            "schema: { descriptor_set: . }",
            &format!("4:31: upstreams[0].schema.descriptor_set: {folder}/. is a folder, not a file"),
        ),
        (
            "schema: { proto: [no.proto] }",
            &format!("4:23: upstreams[0].schema.proto[0]: the file {folder}/no.proto does not exist"),
        ),
        (
            "schema: { proto: [inventory.proto], include: [no] }",
            &format!("4:51: upstreams[0].schema.include[0]: the folder {folder}/no does not exist"),
        ),
    ]);
}

#[test]
fn wrong_http_rules() {
    assert_refused(&[
        ("http_rules: [{ get: /a }]", "1:14: http_rules[0]: `selector` is missing"),
        (
            "http_rules: [{ selector: a.B/C, get: /a }]",
            "1:26: http_rules[0].selector: \"a.B/C\" is not a selector; write `pkg.Service.Method` or `pkg.*`; the method follows a dot here, not a slash",
        ),
        (
            "http_rules: [{ selector: a.B.C }]",
            "1:14: http_rules[0]: one of `get`, `put`, `post`, `delete`, `patch` and `custom` is needed",
        ),
        (
            "http_rules: [{ selector: a.B.C, get: /a, post: /a }]",
            "1:14: http_rules[0]: only one of `get`, `put`, `post`, `delete`, `patch` and `custom` can stand in a rule; use `additional_bindings`",
        ),
        (
            "http_rules: [{ selector: a.B.C, get: a }]",
            "1:38: http_rules[0].get: \"a\" is not a path template; it starts with `/`, such as /v1/{name=shelves/*}",
        ),
        (
            "http_rules: [{ selector: a.B.C, custom: { kind: A B, path: /a } }]",
            "1:49: http_rules[0].custom.kind: \"A B\" is not an HTTP method; write one such as HEAD, or `*` for any",
        ),
        ("http_rules: [{ selector: a.B.C, custom: { kind: HEAD } }]", "1:41: http_rules[0].custom: `path` is missing"),
        (
            "http_rules: [{ selector: a.B.C, get: /a }, { selector: a.B.C, get: /b }]",
            "1:56: http_rules[1].selector: \"a.B.C\" is already http_rules[0].selector; use `additional_bindings` there",
        ),
        (
            "http_rules: [{ selector: \"a.B.D, a.B.C\", get: /a }, { selector: \"c.*,a.B.C\", get: /b }]",
            "1:65: http_rules[1].selector: \"a.B.C\" is already http_rules[0].selector; use `additional_bindings` there",
        ),
        (
            "http_rules: [{ selector: \"a.B.D, a.B/C\", get: /a }]",
            "1:26: http_rules[0].selector: \"a.B/C\" is not a selector; write `pkg.Service.Method` or `pkg.*`; the method follows a dot here, not a slash",
        ),
        (
            "http_rules: [{ selector: a.B.C, get: /a, additional_bindings: [{ selector: a.B.C, get: /b }] }]",
            "1:76: http_rules[0].additional_bindings[0].selector: an additional binding has no `selector` of its own",
        ),
    ]);
}

#[test]
fn wrong_policies_and_words() {
    assert_refused(&[
        ("policies: [{}]", "1:12: policies[0]: `match` is missing"),
        (
            "policies: [{ match: a.B }]",
            "1:21: policies[0].match: \"a.B\" is not a method pattern; write `*`, `pkg.*`, `pkg.Service/*` or `pkg.Service/Method`",
        ),
        (
            "policies: [{ match: a.* }, { match: a.* }]",
            "1:37: policies[1].match: the pattern is already that of policies[0].match",
        ),
        (
            "json: { unknown_fields: ignored }",
            "1:25: json.unknown_fields: \"ignored\" is unknown; did you mean `ignore`?",
        ),
        (
            "policies: [{ match: \"*\", compression: { encodings: [gzip, deflate] } }]",
            "1:59: policies[0].compression.encodings[1]: \"deflate\" is unknown; there are zstd, br, gzip",
        ),
        (
            "policies: [{ match: \"*\", compression: { encodings: [] } }]",
            "1:52: policies[0].compression.encodings: at least one encoding is needed; `compression: off` is for none",
        ),
        (
            "policies: [{ match: \"*\", compression: { encodings: [br, br] } }]",
            "1:57: policies[0].compression.encodings[1]: br is given twice",
        ),
        (
            "policies: [{ match: \"*\", reply: { headers: [content-length] } }]",
            "1:45: policies[0].reply.headers[0]: \"content-length\" is set by the gateway alone",
        ),
        (
            "policies: [{ match: \"*\", reply: { status_metadata: grpc-status } }]",
            "1:52: policies[0].reply.status_metadata: \"grpc-status\" cannot be the name of metadata that holds a status; such as x-http-code can",
        ),
        (
            "telemetry: { access_log: { format: xml } }",
            "1:36: telemetry.access_log.format: \"xml\" is unknown; there are text, json",
        ),
    ]);
}

#[test]
fn wrong_ways_to_authenticate() {
    let jwt = |more: &str| {
        format!(
            "authentication: {{ jwt: [{{ {more}, name: a, issuer: b, audiences: [c], secret: {{ text: {} }} }}] }}",
            "s".repeat(32)
        )
    };
    let introspection = |more: &str| {
        format!("authentication: {{ introspection: [{{ {more}, name: a, url: \"http://localhost/\" }}] }}")
    };
    assert_refused(&[
        (
            &jwt("types: []"),
            "1:34: authentication.jwt[0].types: at least one type is needed; without `types` every one is taken",
        ),
        (&jwt("leeway: 1500ms"), "1:35: authentication.jwt[0].leeway: whole seconds are needed; found 1500ms"),
        (
            &introspection("cache: 500ms"),
            "1:44: authentication.introspection[0].cache: whole seconds are needed; found 500ms",
        ),
        (
            "authentication: { jwt: [{ name: a, issuer: b, audiences: [c], jwks: { file: none.json } }] }",
            &format!("1:77: authentication.jwt[0].jwks.file: the file {FOLDER}/none.json does not exist"),
        ),
        (
            "authentication: { api_keys: [{ name: a, file: /dev/null }] }",
            "1:47: authentication.api_keys[0].file: /dev/null is a pipe or a device, not a file",
        ),
        (
            "authentication: { basic: [{ name: a, file: /dev/null }] }",
            "1:44: authentication.basic[0].file: /dev/null is a pipe or a device, not a file",
        ),
        (
            "authentication: { jwt: [{ name: a, issuer: b, audiences: [c], secret: { file: /dev/null } }] }",
            "1:79: authentication.jwt[0].secret.file: /dev/null is a pipe or a device, not a file",
        ),
        (
            &introspection("cache: 2h"),
            "1:44: authentication.introspection[0].cache: 2h is out of range; allowed are 0ms to 1h",
        ),
    ]);
}

#[test]
fn wrong_origins() {
    assert_refused(&[
        ("policies: [{ match: \"*\", cors: off }]", "1:32: policies[0].cors: expected a map or `none`; found \"off\""),
        ("policies: [{ match: \"*\", cors: {} }]", "1:32: policies[0].cors: `allow_origins` is missing"),
        (
            "policies: [{ match: \"*\", cors: { allow_origins: [] } }]",
            "1:49: policies[0].cors.allow_origins: at least one origin is needed; `cors: none` takes back what was inherited",
        ),
        (
            "policies: [{ match: \"*\", cors: { allow_origins: [\"https://a.com/\"] } }]",
            "1:50: policies[0].cors.allow_origins[0]: \"https://a.com/\" is more than an origin; write https://a.com",
        ),
        (
            "policies: [{ match: \"*\", cors: { allow_origins: [\"*\"], allow_credentials: true } }]",
            "1:50: policies[0].cors.allow_origins[0]: `*` cannot stand beside `allow_credentials`: every site could act in the name of its visitors",
        ),
        (
            "policies: [{ match: \"*\", cors: { allow_origins: [\"https://a\"], allow_headers: [\"*\"], allow_credentials: true } }]",
            "1:80: policies[0].cors.allow_headers[0]: `*` cannot stand beside `allow_credentials`: browsers take it for the name of a header",
        ),
        (
            "policies: [{ match: \"*\", cors: { allow_origins: [\"*\", \"https://a\"] } }]",
            "1:50: policies[0].cors.allow_origins[0]: `*` takes in the others of the list; write it alone or leave it out",
        ),
        (
            "policies: [{ match: \"*\", cors: { allow_origins: [\"*\"], expose_headers: [\"a b\"] } }]",
            "1:73: policies[0].cors.expose_headers[0]: \"a b\" is not the name of a header, such as x-tenant",
        ),
        (
            "policies: [{ match: \"*\", cors: { allow_origins: [\"*\"], max_age: 25h } }]",
            "1:65: policies[0].cors.max_age: 25h is out of range; allowed are 0ms to 24h",
        ),
    ]);
}

#[test]
fn unknown_keys_name_the_nearest() {
    assert_refused(&[
        ("listener: []", "1:1: listener: unknown key; did you mean `listeners`?"),
        ("workres: 4", "1:1: workres: unknown key; did you mean `workers`?"),
        ("serve: { wibble: 1 }", "1:10: serve.wibble: unknown key; known here: reflection, health"),
        (
            "policies: [{ match: \"*\", reply: { wibble: [] } }]",
            "1:35: policies[0].reply.wibble: unknown key; known here: status_metadata, headers",
        ),
        ("workers: 1\nworkers: 2", "2:1: workers: the key is given twice"),
    ]);
    assert_upstream_refused(&[(
        "wibble: {}",
        "4:5: upstreams[0].wibble: unknown key; known here: name, endpoints, dns, srv, endpoints_file, resolvers, load_balancing, schema, services, authority, tls, connections, health_check, outlier_detection, circuit_breaker",
    )]);
}

#[test]
fn a_misspelled_key_is_not_missing_too() {
    assert_eq!(
        errors("upstreams:\n- name: a\n  endpoint: [a]"),
        ["portico.yaml:3:3: upstreams[0].endpoint: unknown key; did you mean `endpoints`?"]
    );
    assert_eq!(errors("upstream: []"), ["portico.yaml:1:1: upstream: unknown key; did you mean `upstreams`?"]);
}

#[test]
fn environment_variables_that_are_not_set() {
    assert_upstream_refused(&[
        ("authority: \"${NONE}\"", "4:16: upstreams[0].authority: the environment variable NONE is not set"),
        (
            "authority: ${NONE",
            "4:16: upstreams[0].authority: `${` is not closed by `}`; write `$${` for the characters themselves",
        ),
        (
            "authority: $${HOST}",
            "4:16: upstreams[0].authority: \"${HOST}\" is not an authority; write HOST or HOST:PORT",
        ),
    ]);
    assert_refused(&[("workers: ${HOST}", "1:10: workers: expected a whole number; found what ${HOST} stands for")]);
}

#[test]
fn lines_that_may_hold_a_secret_are_not_shown() {
    let shown = |text: &str| load(&format!("{text}\n{UPSTREAM}")).expect_err("refused").to_string();

    assert!(shown("workers: many, many").contains("| workers: many, many"));
    for text in [
        "redis: { url: \"redis://localhost\", password: hunter2, timeout: 20 }",
        "redis: { url: \"redis://user:hunter2@localhost/x\" }",
        "redis:\n  password: [hunter2]",
        "redis:\n  passwrd: hunter2",
        "redis:\n  url: redis://:hunter2",
        "redis:\n  url: redis://h/0?password=hunter2",
        "authentication: { jwt: [{ name: a, issuer: b, audiences: [c], secret: hunter2 }] }",
        "authentication:\n  jwt:\n  - name: a\n    issuer: b\n    audiences: [c]\n    jwks:\n      url: https://u:hunter2#@h/",
        "authentication:\n  jwt:\n  - secret:\n      text: *hunter2",
        "authentication: { jwt: [{ name: a, issuer: b, audiences: [c], secret: { text: hunter2 }, leeway: 1 }] }",
        r#"authentication: { "jwt": [ { "name": "a", "secret": {
          "text": "hunter2" }, "leeway": 1 } ] }"#,
        "authentication: { jwt: [ { name: a, secret: {\n  base64 : hunter2 }, leeway: 1 } ] }",
    ] {
        assert!(!shown(text).contains("hunter2"), "{}", shown(text));
    }
}

#[test]
fn text_that_is_not_yaml() {
    assert_eq!(errors("a: [1"), ["portico.yaml:1:4: unclosed bracket '['"]);
    assert_eq!(
        errors("policies:\n- match: *"),
        [
            "portico.yaml:2:10: while scanning an anchor or alias, did not find expected alphabetic or numeric character; a value that starts with `*` or `&` stands in quotes"
        ]
    );
    assert_eq!(errors("1: a\n[b]: c\n").len(), 1);
    assert_eq!(errors("a: 1\n---\nb: 2"), ["portico.yaml:3:1: only single YAML document expected but multiple found"]);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let errors = crate::config::load(Path::new("none/portico.yaml")).expect_err("no file");

    assert_eq!(errors.to_string(), "none/portico.yaml: cannot be read: No such file or directory (os error 2)");
}

#[test]
fn deep_nesting_and_alias_bombs_are_refused() {
    let deep = "[".repeat(100_000);
    let mut bomb = "a0: &a0 [x, x]\n".to_owned();
    for level in 1..64 {
        let below = level - 1;
        bomb.push_str(&format!("a{level}: &a{level} [*a{below}, *a{below}, *a{below}, *a{below}]\n"));
    }

    assert_eq!(errors(&deep).len(), 1);
    assert_eq!(errors(&bomb).len(), 1);
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        load(&text).ok();
    }

    #[test]
    fn no_yaml_panics(text in "([a-z]{1,3}: |- |\\[|\\]|\\{|\\}|, |\n|  |&a |\\*a |\\$\\{|\"|'|[0-9]{1,3}|~|!!str |<<: |\\|\n|#){0,60}") {
        load(&text).ok();
    }

    #[test]
    fn no_damage_to_a_right_file_panics(at in any::<prop::sample::Index>(), cut in 0..20_usize, put in "\\PC{0,8}") {
        let whole: Vec<char> = include_str!("../../../examples/limits.yaml").chars().collect();
        let start = at.index(whole.len());
        let end = (start + cut).min(whole.len());
        let damaged: String = whole[..start].iter().copied().chain(put.chars()).chain(whole[end..].iter().copied()).collect();
        load(&damaged).ok();
    }
}

#[test]
fn keys_of_headers_that_no_caller_can_send() {
    for name in ["x-user", "X_User"] {
        let policy = format!(
            "{{ match: \"*\", identity: {{ headers: {{ x-user: sub }} }}, rate_limits: [{{ key: [\"header:{name}\"], quota: 1/s }}] }}"
        );
        let errors = errors(&format!("policies: [{policy}]\n{UPSTREAM}"));
        assert!(errors.len() == 1 && errors[0].ends_with("use `claim:sub`"), "{errors:?}");
    }
}
