//! What callers may do: rules over what was proven of them, with equal answers in every protocol, and what the upstream
//! learns of them.

use http::Method;

use crate::support::callers::{Outcome, everywhere};
use crate::support::client::{Version, request};
use crate::support::grpc::{Raw, framed};
use crate::support::rest::seen;
use crate::support::rpc;
use crate::support::site::{Site, key};
use crate::support::websocket::Socket;

const DENIED: &str = "the caller may not make this call";

/// Every protocol must end so for that caller.
async fn judged(site: &Site, caller: &str, headers: &[(&str, &str)], expected: (usize, Option<&str>), what: &str) {
    let (name, value) = key(caller);
    let headers: Vec<(&str, &str)> = [(name, &*value)].into_iter().chain(headers.iter().copied()).collect();
    for (way, outcome) in everywhere(&site.gateway, &headers).await {
        let Outcome { code, message, challenge, .. } = outcome;
        assert_eq!((code, challenge.as_deref()), expected, "{what} {caller}: {way}: {message}");
        if code != 0 {
            assert_eq!(message, DENIED, "{what} {caller}: {way}");
        }
    }
}

#[tokio::test]
async fn rules_over_claims_hold_in_every_protocol() {
    for (rule, allowed, refused) in [
        ("{ claims: { roles: { contains: librarian } } }", "ann", "bob"),
        ("{ claims: { name: ann } }", "ann", "bob"),
        ("{ claims: { name: [ann, eve] } }", "eve", "bob"),
        ("{ claims: { level: 3 } }", "ann", "bob"),
        ("{ claims: { team.name: { exists: true } } }", "ann", "bob"),
        ("{ claims: { roles: { contains_all: [reader, librarian] } } }", "ann", "eve"),
        ("{ deny: { claims: { suspended: true } } }", "ann", "eve"),
        ("{ any_of: [ { claims: { name: bob } }, { claims: { level: 3 } } ] }", "bob", "zoe"),
        ("{ cel: \"claims.level >= 2 && !has(claims.suspended)\" }", "ann", "eve"),
        ("{ cel: \"claims.team.name == 'art' && request.service.startsWith('portico.test.')\" }", "ann", "bob"),
        ("[ { claims: { level: 3 } }, { deny: { claims: { suspended: true } } } ]", "ann", "eve"),
    ] {
        let site = Site::start("", &format!("- {{ match: \"*\", authenticate: keys, authorize: {rule} }}")).await;

        judged(&site, allowed, &[], (0, None), rule).await;
        judged(&site, refused, &[], (7, None), rule).await;
    }
}

#[tokio::test]
async fn missing_scopes_are_named_and_the_rule_only_in_the_log() {
    let policy =
        "- { match: \"*\", authenticate: keys, authorize: { name: may-write, scopes: [books.read, books.write] } }";
    let site = Site::start("", policy).await;
    let challenge = "Bearer realm=\"portico\", error=\"insufficient_scope\", scope=\"books.read books.write\"";

    judged(&site, "ann", &[], (0, None), "scopes").await;
    judged(&site, "bob", &[], (7, Some(challenge)), "scopes").await;

    let mut client = site.gateway.client(Version::Http2).await;
    let reply = client.send(request(Method::GET, "/test/v1/say/hi", &[("x-api-key", "k-bob")], "")).await;
    assert_eq!(reply.reason(), "INSUFFICIENT_SCOPE");
    assert!(!format!("{reply:?}").contains("may-write"), "{reply:?}");
    let line = site.logged(&["INSUFFICIENT_SCOPE", "rest"]).await;
    assert!(line.contains("rule may-write"), "{line}");
}

#[tokio::test]
async fn what_cannot_be_decided_is_denied_and_the_log_says_why() {
    let policy =
        "- { match: \"*\", authenticate: keys, authorize: { name: odd, deny: { cel: \"claims.nobody == 1\" } } }";
    let site = Site::start("", policy).await;

    judged(&site, "ann", &[], (7, None), "undecided").await;

    site.logged(&["rule odd: there is no nobody"]).await;
    assert_eq!(
        site.gateway.metric("portico_authorization_decisions_total{by=\"rules\",decision=\"allowed\"}").await,
        0.0
    );
    assert!(
        site.gateway.metric("portico_authorization_decisions_total{by=\"rules\",decision=\"denied\"}").await > 30.0
    );
}

#[tokio::test]
async fn rules_of_all_policies_add_up_and_none_clears_them() {
    let site = Site::start(
        "",
        "- { match: \"*\", authenticate: keys, authorize: { claims: { level: 3 } } }
- { match: \"portico.test.v1.Echo/*\", authorize: { deny: { claims: { suspended: true } } } }
- { match: portico.test.v1.Echo/Repeat, authorize: none }",
    )
    .await;
    let mut client = site.gateway.client(Version::Http2).await;
    let mut raw = Raw::connect(site.gateway.address).await;

    for (caller, say, repeat, unknown) in
        [("k-ann", 200, 200, 12), ("k-bob", 403, 200, 7), ("k-eve", 403, 200, 12), ("", 401, 401, 16)]
    {
        let headers: &[_] = if caller.is_empty() { &[] } else { &[("x-api-key", caller)] };
        let told = client.send(request(Method::GET, "/test/v1/say/hi", headers, "")).await;
        assert_eq!(told.status.as_u16(), say, "{caller}");
        let told = client.send(request(Method::GET, "/test/v1/repeat/hi", headers, "")).await;
        assert_eq!(told.status.as_u16(), repeat, "{caller}");
        // No schema knows it; the policies for everything hold.
        let told = raw.call("/other.v1.Service/Do", headers, Vec::new()).await;
        assert_eq!(told.code(), unknown, "{caller}");
    }
}

#[tokio::test]
async fn the_gateways_own_services_obey_rules_too() {
    let site = Site::start("", "- { match: \"*\", authenticate: keys, authorize: { claims: { level: 3 } } }").await;
    let mut raw = Raw::connect(site.gateway.address).await;
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let health = || framed(&portico::pb::grpc::health::v1::HealthCheckRequest::default());

    assert_eq!(raw.call(reflection, &[("x-api-key", "k-ann")], Vec::new()).await.code(), 0);
    assert_eq!(raw.call(reflection, &[("x-api-key", "k-bob")], Vec::new()).await.code(), 7);
    assert_eq!(raw.call("/grpc.health.v1.Health/Check", &[], health()).await.code(), 0);
}

#[tokio::test]
async fn metadata_with_the_prefix_of_rest_is_judged_as_what_the_service_sees() {
    let site = Site::start(
        "",
        "- { match: \"*\", authenticate: keys, authorize: { cel: \"request.headers['x-tenant'] == 'blue'\" } }",
    )
    .await;
    let ann = ("x-api-key", "k-ann");
    for (headers, expected) in [
        (&[ann, ("x-tenant", "blue")][..], 200),
        (&[ann, ("grpc-metadata-x-tenant", "blue")], 200),
        (&[ann, ("x-tenant", "blue"), ("Grpc-Metadata-X-Tenant", "red")], 403),
        (&[("grpc-metadata-x-api-key", "k-ann"), ("x-tenant", "blue")], 200),
        (&[ann, ("grpc-metadata-x-api-key", "k-bob"), ("x-tenant", "blue")], 401),
    ] {
        for version in Version::BOTH {
            let mut client = site.gateway.client(version).await;
            let reply = client.send(request(Method::GET, "/test/v1/say/hi", headers, "")).await;
            assert_eq!(reply.status.as_u16(), expected, "{version:?} {headers:?}");
            let socket = Socket::ask(site.gateway.address, version, "/test/v1/repeat/hi", headers).await;
            assert_eq!(socket.map_or_else(|refusal| refusal.status, |_| 200), expected, "{version:?} {headers:?}");
        }
    }
}

#[tokio::test]
async fn requests_are_looked_at_beside_callers() {
    for (rule, headers, expected) in [
        ("{ headers: { x-tenant: blue } }", &[("x-tenant", "blue")][..], 0),
        ("{ headers: { x-tenant: blue } }", &[("x-tenant", "red")], 7),
        ("{ headers: { x-tenant: blue } }", &[], 7),
        ("{ headers: { x-tenant: blue } }", &[("x-tenant", "blue"), ("x-tenant", "red")], 7),
        ("{ deny: { headers: { x-tenant: blue } } }", &[("x-tenant", "red")], 0),
        ("{ deny: { headers: { x-tenant: blue } } }", &[("x-tenant", "blue")], 7),
        ("{ deny: { headers: { x-tenant: blue } } }", &[("x-tenant", "red"), ("x-tenant", "blue")], 7),
        ("{ headers: { host: { exists: true } } }", &[], 0),
        ("{ deny: { headers: { host: { exists: true } } } }", &[], 7),
        ("{ client_ip: [127.0.0.0/8] }", &[], 0),
        ("{ client_ip: [10.0.0.0/8] }", &[("x-forwarded-for", "10.0.0.1")], 7),
        ("{ methods: [\"portico.test.v1.Echo/*\"] }", &[], 0),
        ("{ methods: [\"library.*\"] }", &[], 7),
        ("{ providers: [keys] }", &[], 0),
        ("{ providers: [cookies] }", &[], 7),
        ("{ cel: \"request.headers['x-tenant'] == 'blue'\" }", &[("X-Tenant", "blue")], 0),
        ("{ cel: \"request.client_ip == '127.0.0.1' && identities.keys.name == 'ann'\" }", &[], 0),
        ("{ cel: \"request.method.matches('Echo/(Say|Repeat)$') && request.time > 1700000000\" }", &[], 0),
    ] {
        let site = Site::start("", &format!("- {{ match: \"*\", authenticate: keys, authorize: {rule} }}")).await;
        judged(&site, "ann", headers, (expected, None), &format!("{rule} {headers:?}")).await;
    }
}

#[tokio::test]
async fn who_has_proven_nothing_is_asked_to() {
    let optional = "- { match: \"*\", authenticate: { optional: keys }, authorize: { claims: { level: 3 } } }";
    let open = "- { match: \"*\", authorize: { headers: { x-tenant: blue } } }";
    for (policy, expected) in [(optional, (16, Some("ApiKey realm=\"portico\""))), (open, (7, None))] {
        let site = Site::start("", policy).await;
        for (way, outcome) in everywhere(&site.gateway, &[]).await {
            assert_eq!((outcome.code, outcome.challenge.as_deref()), expected, "{way}");
        }
    }
}

#[tokio::test]
async fn the_upstream_learns_who_calls_and_nobody_can_pretend() {
    let site = Site::start(
        "",
        "- match: \"*\"
  authenticate: { optional: keys }
  identity: { headers: { x-user: display, x-user-roles: roles, x-user-team: team, x-raw-bin: display }, credentials: remove }",
    )
    .await;
    let forged = [
        ("x-user", "eve"),
        ("X-User", "eve"),
        ("x_user", "eve"),
        ("x-user_roles", "admin"),
        ("grpc-metadata-x-user", "eve"),
        ("Grpc-Metadata-X_User", "eve"),
        ("x-raw-bin", "ZXZl"),
        ("x_user_id", "kept"),
        ("x-other", "kept"),
    ];
    let with_key: Vec<(&str, &str)> = forged.iter().copied().chain([("x-api-key", "k-zoe")]).collect();
    for (headers, user, roles) in
        [(&forged[..], None, None), (&with_key, Some("zo%C3%AB"), Some(r#"["a,b","\u00e9"]"#))]
    {
        for (way, outcome) in everywhere(&site.gateway, headers).await {
            assert_eq!(outcome.code, 0, "{way}");
            let Some(seen) = outcome.seen else { continue };
            let text = |name: &str| seen.get(name).map(|value| value.to_str().expect("ASCII"));
            assert_eq!((text("x-user"), text("x-user-roles")), (user, roles), "{way}");
            assert_eq!(seen.get("x-raw-bin").map(|value| value.as_bytes()), user.map(|_| "zoë".as_bytes()), "{way}");
            assert_eq!((text("x_user_id"), text("x-other")), (Some("kept"), Some("kept")), "{way}");
            let gone = ["x_user", "x-user_roles", "grpc-metadata-x-user", "grpc-metadata-x_user", "x-api-key"];
            assert!(gone.iter().all(|name| text(name).is_none()), "{way}: {seen:?}");
        }
    }
}

#[tokio::test]
async fn credentials_that_nobody_asked_for_are_removed_too() {
    let policies =
        "- { match: \"*\", authenticate: keys, identity: { headers: { x-user: name }, credentials: remove } }
- { match: portico.test.v1.Echo/Say, authenticate: none }";
    let site = Site::start("", policies).await;
    for (way, outcome) in everywhere(&site.gateway, &[("x-api-key", "k-ann")]).await {
        assert_eq!(outcome.code, 0, "{way}");
        assert!(outcome.seen.is_none_or(|seen| !seen.contains_key("x-api-key")), "{way}");
    }
}

#[tokio::test]
async fn connection_takes_nothing_out_that_the_gateway_says() {
    let site = Site::start(
        "",
        "- { match: \"*\", authenticate: keys, identity: { headers: { x-user: name }, lists: joined } }",
    )
    .await;
    for names in ["x-user", "close, X_User", "x-user, keep-alive"] {
        let bytes = format!(
            "GET /test/v1/say/hi HTTP/1.1\r\nhost: h\r\nx-api-key: k-ann\r\nx-user: eve\r\nconnection: {names}\r\nconnection: close\r\n\r\n"
        );
        let answer = crate::support::rest::raw_http1(site.gateway.address, bytes.as_bytes()).await;
        // `ann` in base64.
        assert!(answer.contains(r#"{"name":"x-user","value":"YW5u"}"#), "{names}: {answer}");
        assert!(answer.contains("\"name\":\"x-api-key\""), "credentials stay unless they are to go: {answer}");
    }
}

#[tokio::test]
async fn headers_bound_to_fields_come_from_the_gateway() {
    let site = Site::start(
        "",
        "- match: \"*\"
  authenticate: keys
  identity: { headers: { x-user: name } }
  request_headers: { x-user: text }",
    )
    .await;
    for version in Version::BOTH {
        let mut client = site.gateway.client(version).await;
        let headers = [("x-api-key", "k-ann"), ("x-user", "eve"), ("content-type", "application/json")];

        let reply = client.send(request(Method::POST, "/portico.test.v1.Echo/Say", &headers, "{}")).await;

        assert_eq!(reply.json()["text"], "ann", "{reply:?}");
    }
}

#[tokio::test]
async fn pages_of_others_cannot_act_by_a_cookie() {
    let site = Site::start(
        "",
        "- match: \"*\"
  authenticate: cookies
  cors: { allow_origins: [\"https://app.example.com\"], allow_credentials: true, allow_headers: [x-session] }",
    )
    .await;
    let cookie = ("cookie", "session=k-ann");
    let path = "/portico.test.v1.Echo/Say";
    let json = ("content-type", "application/json");
    for version in Version::BOTH {
        let mut client = site.gateway.client(version).await;
        for (more, expected) in [
            (&[][..], 200),
            (&[("origin", "https://app.example.com")], 200),
            (&[("origin", "https://evil.example.org")], 403),
            (&[("origin", "null")], 403),
            (&[("sec-fetch-site", "same-origin")], 200),
            (&[("sec-fetch-site", "cross-site")], 403),
            (&[("sec-fetch-site", "same-site"), ("origin", "https://app.example.com")], 200),
        ] {
            let headers: Vec<_> = [cookie, json].into_iter().chain(more.iter().copied()).collect();
            let reply = client.send(request(Method::POST, path, &headers, "{}")).await;
            assert_eq!(reply.status.as_u16(), expected, "{more:?} {reply:?}");
            // A header is no cookie: no page of others can set it.
            let headers: Vec<_> = [("x-session", "k-ann"), json].into_iter().chain(more.iter().copied()).collect();
            let reply = client.send(request(Method::POST, path, &headers, "{}")).await;
            assert_eq!(reply.status.as_u16(), 200, "{more:?}");
            // What is read and not done may be asked for from anywhere; CORS says who may read it.
            let headers: Vec<_> = [cookie].into_iter().chain(more.iter().copied()).collect();
            let reply = client.send(request(Method::GET, "/test/v1/say/hi", &headers, "")).await;
            assert_eq!(reply.status.as_u16(), 200, "{more:?}");
        }
        for dialect in rpc::dialects(version, path).filter(|dialect| dialect.ending != rpc::Ending::Trailers) {
            let evil = [cookie, ("origin", "https://evil.example.org")];
            let told = dialect.call(&mut client, path, &evil, &[serde_json::json!({})]).await;
            assert_eq!(told.code, 7, "{dialect:?}");
        }
        let evil = [cookie, ("origin", "https://evil.example.org")];
        let refusal = Socket::ask(site.gateway.address, version, "/test/v1/repeat/hi", &evil).await.err();
        assert_eq!(refusal.map(|refusal| refusal.status), Some(403));
        let app = [cookie, ("origin", "https://app.example.com")];
        assert!(Socket::ask(site.gateway.address, version, "/test/v1/repeat/hi", &app).await.is_ok());
    }
}

#[tokio::test]
async fn a_key_in_the_query_does_not_make_a_cookie_the_word_of_its_owner() {
    let site = Site::start("", "- { match: \"*\", authenticate: { all_of: [cookies, queries] } }").await;
    let evil = [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example.org")];
    let json = ("content-type", "application/json");
    for version in Version::BOTH {
        let mut client = site.gateway.client(version).await;
        for (path, credential, from, expected) in [
            ("?key=k-bob", ("cookie", "session=k-ann"), &evil[..], 403),
            ("?key=k-ann", ("cookie", "session=k-ann"), &[], 200),
            ("?key=k-bob", ("x-session", "k-ann"), &evil, 200),
        ] {
            let headers: Vec<_> = [credential, json].into_iter().chain(from.iter().copied()).collect();
            let path = format!("/portico.test.v1.Echo/Say{path}");
            let reply = client.send(request(Method::POST, &path, &headers, "{}")).await;
            assert_eq!(reply.status.as_u16(), expected, "{path} {credential:?} {reply:?}");
        }
    }
}

#[tokio::test]
async fn preflights_are_answered_before_credentials_are_asked_for() {
    let site = Site::start(
        "",
        "- match: \"*\"
  authenticate: keys
  authorize: { claims: { level: 3 } }
  cors: { allow_origins: [\"https://app.example.com\"], allow_headers: [x-api-key], expose_headers: [x-left] }",
    )
    .await;
    let origin = ("origin", "https://app.example.com");
    for version in Version::BOTH {
        let mut client = site.gateway.client(version).await;
        let asked = [origin, ("access-control-request-method", "GET"), ("access-control-request-headers", "x-api-key")];

        let preflight = client.send(request(Method::OPTIONS, "/test/v1/say/hi", &asked, "")).await;
        let without = client.send(request(Method::GET, "/test/v1/say/hi", &[origin], "")).await;
        let denied = client.send(request(Method::GET, "/test/v1/say/hi", &[origin, ("x-api-key", "k-bob")], "")).await;
        let allowed = client.send(request(Method::GET, "/test/v1/say/hi", &[origin, ("x-api-key", "k-ann")], "")).await;

        let statuses = [&preflight, &without, &denied, &allowed].map(|reply| reply.status.as_u16());
        assert_eq!(statuses, [204, 401, 403, 200]);
        for reply in [preflight, without, denied, allowed] {
            // Also a refusal is for the page to read.
            assert_eq!(reply.headers["access-control-allow-origin"], "https://app.example.com", "{reply:?}");
        }
    }
}

#[tokio::test]
async fn headers_with_underscores_are_metadata_like_any_other() {
    let site = Site::start("", "- { match: \"*\", authenticate: keys }").await;
    let mut client = site.gateway.client(Version::Http1).await;
    let headers = [("x-api-key", "k-ann"), ("x_tenant_id", "7")];

    let reply = client.send(request(Method::GET, "/test/v1/say/hi", &headers, "")).await;

    assert_eq!(seen(&reply, "x_tenant_id"), ["7"]);
}
