//! Expressions over whatever a caller may send.

use std::net::Ipv4Addr;

use http::HeaderMap;
use portico::expression::{Input, MAX_TEXT, Program, Request};
use serde_json::{Map, Value};

/// A text that compiles is evaluated, or fails with words; the same each time.
///
/// The claims stand in front, as JSON up to the first line break; the text of the expression follows.
pub fn expressions(input: &[u8]) {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let (claims, text) = input.split_once('\n').unwrap_or(("{}", input));
    let program = match Program::compile(text) {
        Ok(program) => program,
        Err(fault) => {
            let (line, column) = fault.at;
            assert!(line >= 1 && column >= 1 && line <= text.len() + 1 && column <= text.len() + 2, "{fault}");
            return;
        }
    };
    assert!(text.len() <= MAX_TEXT);
    let claims = match serde_json::from_str(claims) {
        Ok(Value::Object(map)) => map,
        Ok(_) | Err(_) => Map::new(),
    };
    let headers = HeaderMap::new();
    let request = || Request {
        method: "a.B/C",
        http_method: "GET",
        path: "/",
        query: "",
        host: "",
        protocol: "rest",
        client_ip: Ipv4Addr::LOCALHOST.into(),
        headers: &headers,
        time: 0,
    };
    let identities = [("a", &claims)];
    let first = program.evaluate(&Input { identities: &identities, request: request() });
    assert_eq!(program.evaluate(&Input { identities: &identities, request: request() }), first);
}
