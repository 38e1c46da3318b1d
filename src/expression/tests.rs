//! What expressions see, what they may not name, and that they end.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn claims() -> Json {
    json!({
        "sub": "ann",
        "level": 3,
        "ratio": 0.5,
        "big": u64::MAX,
        "roles": ["reader", "librarian"],
        "realm_access": { "roles": ["admin"], "depth": { "x": null } },
        "groups": [{ "name": "art", "lead": true }, { "name": "law", "lead": false }],
        "https://example.com/tier": "gold",
        "admin": false,
    })
}

fn evaluate_with(text: &str, claims: &Json) -> Result<bool, String> {
    let mut headers = HeaderMap::new();
    headers.insert("x-tenant", "blue".parse().expect("a value"));
    headers.append("x-many", "1".parse().expect("a value"));
    headers.append("x-many", "2".parse().expect("a value"));
    let input = Input {
        identities: &[("staff", claims.as_object().expect("an object"))],
        request: Request {
            method: "library.v1.Library/GetBook",
            http_method: "GET",
            path: "/v1/books/1",
            query: "a=b",
            host: "api.example.com",
            protocol: "rest",
            client_ip: Ipv4Addr::new(192, 0, 2, 1).into(),
            headers: &headers,
            time: 1_700_000_000,
        },
    };
    Program::compile(text).map_err(|fault| fault.to_string())?.evaluate(&input)
}

fn evaluate(text: &str) -> Result<bool, String> {
    evaluate_with(text, &claims())
}

#[test]
fn claims_and_request_are_seen() {
    for text in [
        "claims.sub == 'ann'",
        "claims.level >= 3 && claims.ratio < 1.0",
        "claims.big == 18446744073709551615u",
        "'librarian' in claims.roles",
        "claims.roles == ['reader', 'librarian'] && ['reader', 'librarian'] == claims.roles",
        "size(claims.roles) == 2 && claims.roles.size() == 2",
        "claims.roles[1] == 'librarian'",
        "claims.realm_access.roles.exists(r, r == 'admin')",
        "claims.groups.exists(g, g.name == 'art' && g.lead)",
        "claims.groups.filter(g, g.lead).map(g, g.name) == ['art']",
        "claims.groups.all(g, size(g.name) == 3)",
        "claims.groups.exists_one(g, g.lead)",
        "claims['https://example.com/tier'] == 'gold'",
        "'sub' in claims && !('nobody' in claims)",
        "has(claims.sub) && !has(claims.nobody) && !has(claims.realm_access.nobody)",
        "claims.realm_access.depth.x == null",
        "claims.exists(name, name.startsWith('realm'))",
        "!claims.admin",
        "identities.staff.sub == claims.sub && 'staff' in identities && size(identities) == 1",
        "request.method == 'library.v1.Library/GetBook' && request.service == 'library.v1.Library'",
        "request.http_method == 'GET' && request.path.startsWith('/v1/') && request.query == 'a=b'",
        "request.host.endsWith('.example.com') && request.protocol == 'rest'",
        "request.client_ip == '192.0.2.1'",
        "request.headers['x-tenant'] == 'blue' && request.headers['X-Tenant'] == 'blue'",
        "request.headers['x-many'] == '1, 2' && !('x-other' in request.headers)",
        "request.time - 100 < 1700000000",
        "request.path.matches('^/v[0-9]+/books/')",
        "type(claims.sub) == string && int('3') == claims.level && string(claims.level) == '3'",
        "claims.level > 2 ? true : false",
        "claims.roles.map(r, r + '!') == ['reader!', 'librarian!']",
        "bool('true') && double(3) == 3.0 && uint(3) == 3u && bytes('a') == b'a' && dyn(1) == 1",
    ] {
        assert_eq!(evaluate(text), Ok(true), "{text}");
    }
    assert_eq!(evaluate("claims.sub == 'bob'"), Ok(false));
}

#[test]
fn what_has_no_truth_value_is_an_error() {
    for (text, expected) in [
        ("claims.nobody == 'x'", "there is no nobody"),
        ("claims.sub", "the result is a string, not true or false"),
        ("claims.sub > 3", "found no matching overload for '_>_' applied to '(string, int)'"),
        ("claims.roles[7] == 'x'", "the list is shorter"),
        ("claims.level / 0 == 1", "division by zero"),
        ("claims.level * 9223372036854775807 > 1", "a number is too large"),
        ("identities.other.sub == 'x'", "there is no other"),
        (
            "claims.sub.startsWith(claims.level)",
            "found no matching overload for 'startsWith' applied to 'string.(int)'",
        ),
    ] {
        assert_eq!(evaluate(text), Err(expected.to_owned()), "{text}");
    }
    assert_eq!(evaluate("claims.nobody == 'x' || claims.level == 3"), Ok(true));
}

#[test]
fn unknown_names_are_refused_with_their_place() {
    for (text, at, start) in [
        ("claim.sub == 'x'", (1, 1), "there is no variable `claim`; there are claims, identities, request"),
        ("claims.sub == 'é' &&\n  claimz.x", (2, 3), "there is no variable `claimz`"),
        ("request.metod == 'x'", (1, 8), "`request` has no `metod`; it has method, service"),
        ("startswith(claims.sub, 'a')", (1, 11), "there is no function `startswith`; there are size, contains"),
        ("claims.sub.lower() == 'a'", (1, 17), "there is no function `lower`"),
        ("claims.roles.exists(r)", (1, 20), "`exists` is not called so"),
        ("size(claims, claims) == 1", (1, 5), "`size` is not called so; write x.size(…)"),
        ("contains(claims.sub, 'a')", (1, 9), "`contains` is not called so; write x.contains(…)"),
        ("claims.sub.matches(claims.pattern)", (1, 19), "the pattern of `matches` must be a text in quotes"),
        ("claims.sub.matches('a(')", (1, 19), "the pattern of `matches` is wrong: unclosed group"),
        ("claims.sub.matches('(a{1000}){1000}')", (1, 19), "the pattern of `matches` is too large"),
        ("x.y{z: 1} == 1", (1, 4), "there is no message type x.y"),
        ("claims.roles.exists(r, s == 'x')", (1, 24), "there is no variable `s`"),
        ("[1].all(a, [1].all(b, [1].all(c, true)))", (1, 30), "loops stand within loops more than 2 deep"),
        ("claims.sub ==", (1, 14), "mismatched input 'the end'"),
        ("claims.?sub == 'x'", (1, 7), "unsupported syntax"),
        ("", (1, 1), "mismatched input 'the end'"),
    ] {
        let fault = Program::compile(text).expect_err(text);
        let message = fault.message.replace("input the end", "input 'the end'");
        assert!(message.starts_with(start), "{text}: {message}");
        assert_eq!(fault.at, at, "{text}");
    }
}

#[test]
fn what_is_too_large_or_nested_is_refused() {
    let long = format!("claims.sub == '{}'", "x".repeat(MAX_TEXT));
    for text in [
        long,
        format!("{}1{}", "(".repeat(40), ")".repeat(40)),
        format!("{}true{}", "true ? true : ".repeat(40), ""),
        format!("1{} == 1", "+1".repeat(MAX_TEXT / 2 - 10)),
        format!("claims{}", ".a".repeat(MAX_TEXT / 2 - 10)),
    ] {
        assert!(Program::compile(&text).is_err(), "{} bytes", text.len());
    }
}

/// The names that the check lets pass are names that the environment has.
#[test]
fn every_function_of_the_list_is_there() {
    for (name, arguments, kind) in check::FUNCTIONS.into_iter().filter(|(name, ..)| !name.starts_with('@')) {
        let text = match (kind, arguments) {
            (check::Call::Global, _) => format!("type({name}('1')) != int || true"),
            (check::Call::Either, _) => format!("{name}('1') == 1 && '1'.{name}() == 1"),
            (check::Call::Member, _) => format!("'1'.{name}('1')"),
        };
        if !matches!(name, "bool" | "type" | "dyn") {
            assert_eq!(evaluate(&text), Ok(true), "{text}");
        }
    }
}

#[test]
fn loops_end_in_time_whatever_the_caller_sent() {
    let many = |count: usize| Json::from((0..count).map(|number| json!(format!("group-{number}"))).collect::<Vec<_>>());
    let claims = |count: usize| json!({ "groups": many(count), "others": many(count), "wanted": "group-7" });

    assert_eq!(evaluate_with("claims.groups.exists(g, g == claims.wanted)", &claims(2000)), Ok(true));
    assert_eq!(evaluate_with("claims.groups.all(g, g in claims.others)", &claims(200)), Ok(true));
    assert_eq!(evaluate_with("claims.groups.all(a, claims.others.exists(b, a == b))", &claims(50)), Ok(true));
    for text in [
        "claims.groups.all(g, g in claims.others)",
        "claims.groups.all(g, g in claims.others) || true",
        "claims.groups.all(a, claims.others.exists(b, a == b))",
        "claims.groups.map(a, claims.others.map(b, a + b)).size() > 0",
        "claims.groups.exists(a, claims.exists(b, a == b && claims.groups == claims.others))",
    ] {
        let error = evaluate_with(text, &claims(3000)).expect_err(text);
        assert!(error.contains("steps"), "{text}: {error}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "[a-z.()\\[\\]{}'\"?:!&|=<>+*/%,0-9 \n-]{0,80}") {
        if let Ok(program) = Program::compile(&text) {
            let empty = Map::new();
            let headers = HeaderMap::new();
            let request = Request {
                method: "", http_method: "", path: "", query: "", host: "", protocol: "",
                client_ip: Ipv4Addr::LOCALHOST.into(), headers: &headers, time: 0,
            };
            program.evaluate(&Input { identities: &[("a", &empty)], request }).ok();
        }
    }
}
