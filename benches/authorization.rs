//! Time to decide on a call by its rules: `cargo bench --bench authorization`.
//!
//! The caller has a token of ordinary size, the request twelve headers.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use portico::config::authorization::{Authorization, Conditions, Demand, Rule, Test};
use portico::expression::Program;
use portico::policy::authorize::{Facts, decide};
use portico::policy::identity::{Identities, Identity, Kind};
use portico::policy::identity_headers;
use serde_json::{Value, json};
use tokio::time::Instant;

/// Decisions per measurement; the best of [`ROUNDS`] counts.
const DECISIONS: u32 = 200_000;
const ROUNDS: usize = 5;

fn main() {
    let identities = caller();
    let headers = headers();
    let facts = facts(&identities, &headers);
    let claim = |path: &str, value: Value| Conditions {
        claims: vec![(path.parse().expect("a path"), Test::ContainsAny(vec![value]))],
        ..Conditions::default()
    };
    let cel = |text: &str| Conditions { cel: Some(Program::compile(text).expect(text)), ..Conditions::default() };
    let scopes = Conditions { scopes: vec!["books.write".into()], ..Conditions::default() };
    for (name, demands) in [
        ("a claim in a list", vec![Demand::Require(claim("realm_access.roles", json!("librarian")))]),
        ("a scope", vec![Demand::Require(scopes)]),
        (
            "three rules",
            vec![
                Demand::Deny(claim("suspended", json!(true))),
                Demand::Require(claim("realm_access.roles", json!("librarian"))),
                Demand::Any(vec![claim("plan", json!("gold")), claim("plan", json!("platinum"))]),
            ],
        ),
        ("CEL: a comparison", vec![Demand::Require(cel("claims.level >= 3"))]),
        ("CEL: a header and a claim", vec![Demand::Require(cel("request.headers['x-tenant'] == claims.tenant"))]),
        ("CEL: a loop over ten groups", vec![Demand::Require(cel("claims.groups.exists(g, g == 'group-9')"))]),
        ("CEL: a pattern", vec![Demand::Require(cel("request.path.matches('^/v1/shelves/[0-9]+/books')"))]),
    ] {
        let rules = demands.into_iter().map(|demand| Arc::new(Rule { name: name.into(), demand })).collect();
        let authorization = Authorization { rules, external: Vec::new() };
        assert_eq!(decide(&authorization, &facts), Ok(()), "{name}");
        measure(name, || {
            black_box(decide(black_box(&authorization), black_box(&facts)).is_ok());
        });
    }
    let names = [HeaderName::from_static("x-user"), HeaderName::from_static("x-user-roles")];
    let mut request = headers.clone();
    measure("two identity headers stripped from twelve", || {
        identity_headers::strip(black_box(&mut request), black_box(&names));
    });
}

fn measure(name: &str, mut once: impl FnMut()) {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..DECISIONS {
            once();
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(DECISIONS));
    }
    println!("{name:<44} {best:>7.0} ns");
}

fn caller() -> Identities {
    let groups: Vec<String> = (0..10).map(|number| format!("group-{number}")).collect();
    let claims = json!({
        "iss": "https://login.example.com", "sub": "user-17", "aud": ["api"], "exp": 1_900_000_000, "level": 3,
        "plan": "gold", "tenant": "blue", "scope": "books.read books.write", "groups": groups,
        "realm_access": { "roles": ["reader", "editor", "librarian"] },
    });
    let Value::Object(claims) = claims else { unreachable!("it is a map") };
    Identity::new("staff".into(), Kind::ApiKey, claims).into()
}

fn headers() -> HeaderMap {
    let names = [
        ("host", "api.example.com"),
        ("user-agent", "bench"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip"),
        ("authorization", "Bearer a.b.c"),
        ("content-type", "application/json"),
        ("x-tenant", "blue"),
        ("traceparent", "00-00000000000000000000000000000001-0000000000000001-01"),
        ("x-request-id", "1"),
        ("cookie", "a=b; c=d"),
        ("origin", "https://app.example.com"),
        ("referer", "https://app.example.com/"),
    ];
    names.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).into_iter().collect()
}

fn facts<'f>(identities: &'f Identities, headers: &'f HeaderMap) -> Facts<'f> {
    Facts {
        identities,
        method: "library.v1.Library/GetBook",
        headers,
        http_method: "GET",
        path: "/v1/shelves/1/books/2",
        query: "",
        host: "api.example.com",
        protocol: "rest",
        peer: [192, 0, 2, 1].into(),
        trusted: &[],
        time: 1_700_000_000,
    }
}
