//! A protected method stays protected however its path is spelled, in every protocol and version of HTTP.
//!
//! What each spelling means is not judged here, only that no call reaches the service without credentials. With them some
//! do, so that the spellings are ones that mean something.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::support::client::{Version, request};
use crate::support::frames::{self, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, block, frame};
use crate::support::rest::{raw_http1, seen};
use crate::support::site::Site;

const REST: &str = "/test/v1/say/hi";
const GRPC: &str = "/portico.test.v1.Echo/Say";
const KEY: &str = "x-api-key: k-ann\r\n";

/// Every spelling of both paths that somebody may have thought of.
fn spellings() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for path in [REST, GRPC] {
        let encoded = |at: usize, upper: bool, twice: bool| {
            let (before, rest) = path.split_at(at);
            let (character, after) = rest.split_at(1);
            let byte = character.as_bytes()[0];
            let code = if upper { format!("{byte:02X}") } else { format!("{byte:02x}") };
            let percent = if twice { "%25" } else { "%" };
            format!("{before}{percent}{code}{after}")
        };
        for at in 0..path.len() {
            all.extend([encoded(at, true, false), encoded(at, false, false), encoded(at, true, true)]);
        }
        let slashes: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
        for at in slashes {
            let (before, after) = path.split_at(at);
            for between in [
                "/",
                "//",
                "/.",
                "/./.",
                "/..",
                "/x/..",
                "/%2e",
                "/%2e%2e",
                "/.%2e",
                "/x/%2E%2e",
                "/;",
                "/;a=b",
                "/..;",
                "/x/..;a",
                "/%2f",
                "/%5c",
                "/%00",
                "/%20",
                "/%09",
                "/%c0%af",
                "/%e2%88%95",
                "/.;/x/..",
            ] {
                all.insert(format!("{before}{between}{after}"));
            }
            for instead in
                ["\\", "%5c", "%5C", "%2f", "%2F", "%252f", "/\\", "\\/", ";/", "%c0%af", "\u{2215}", "/%0d%0a/"]
            {
                all.insert(format!("{before}{instead}{}", after.trim_start_matches('/')));
            }
        }
        for suffix in [
            "/", "//", "/.", "/..", ";", ";a=b", "?", "?a=b", "?/../x", "#", "#x", "%00", "%20", "%23", "%3f", ".",
            ":", "*", "%0a", "\\",
        ] {
            all.insert(format!("{path}{suffix}"));
        }
        all.extend([path.to_owned(), path.to_uppercase(), path.to_lowercase(), path.replacen('/', "", 1)]);
        all.extend(
            ["http://test", "HTTP://test", "https://evil:1", "http://a@test", "//test", "\\\\test", "*", "test"]
                .map(|host| format!("{host}{path}")),
        );
        all.extend(["..", "/..", "/../..", "./", "/%2e%2e", "%2f", "/;", "?"].map(|before| format!("{before}{path}")));
    }
    all
}

/// Requests over HTTP/1.1 for a target in each protocol that it carries.
fn over_http1(target: &str, more: &str) -> Vec<Vec<u8>> {
    let query = if target.contains('?') { '&' } else { '?' };
    let json = "content-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    let forms = [
        (format!("GET {target}"), "\r\n".to_owned()),
        (format!("POST {target}"), json.to_owned()),
        (
            format!("POST {target}"),
            format!("x-http-method-override: GET\r\nx-http-method: GET\r\nx-method-override: GET\r\n{json}"),
        ),
        (format!("GET {target}"), format!("x-http-method-override: POST\r\n{json}")),
        (format!("HEAD {target}"), "\r\n".to_owned()),
        (format!("POST {target}"), format!("connect-protocol-version: 1\r\n{json}")),
        (format!("GET {target}{query}connect=v1&encoding=json&message=%7B%7D"), "\r\n".to_owned()),
        (
            format!("POST {target}"),
            "content-type: application/grpc-web+proto\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0".to_owned(),
        ),
    ];
    forms
        .into_iter()
        .map(|(line, rest)| format!("{line} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{more}{rest}").into_bytes())
        .collect()
}

/// Asks for a target over HTTP/2, by GET and by gRPC and gRPC-Web calls, and waits until each stream was answered.
async fn over_http2(address: SocketAddr, target: &str, more: &[(&str, &str)]) {
    let mut client = frames::Raw::open(address).await;
    let with = |content: &'static str| [&[("content-type", content), ("te", "trailers")], more].concat();
    let mut get = block(target, more);
    // `:method: GET` of the static table.
    get[0] = 0x82;
    let message = |stream| frame(frames::DATA, END_STREAM, stream, &[0; 5]);
    let open = |stream, block: &[u8]| frame(HEADERS, END_HEADERS, stream, block);
    let bytes = [
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &get),
        open(3, &block(target, &with("application/grpc"))),
        message(3),
        open(5, &block(target, &with("application/grpc-web"))),
        message(5),
    ];
    client.send(&bytes.concat()).await;
    let mut waiting = BTreeSet::from([1, 3, 5]);
    while !waiting.is_empty() {
        let Some(frame) = client.frame().await else { return };
        if frame.kind == RST_STREAM || frame.flags & END_STREAM != 0 && frame.kind <= HEADERS {
            waiting.remove(&frame.stream);
        }
    }
}

async fn protected() -> Site {
    Site::start("", "- { match: \"*\", authenticate: keys }").await
}

#[tokio::test]
async fn no_spelling_of_a_path_gets_around_its_policy() {
    let site = protected().await;
    let address = site.gateway.address;
    let spellings = spellings();
    assert!(spellings.len() >= 200, "{}", spellings.len());

    for spelling in &spellings {
        for bytes in over_http1(spelling, "") {
            raw_http1(address, &bytes).await;
        }
        over_http2(address, spelling, &[]).await;
        assert_eq!(site.backend.tally.counts().started, 0, "{spelling:?} reached the service");
    }

    for spelling in &spellings {
        over_http2(address, spelling, &[("x-api-key", "k-ann")]).await;
        for bytes in over_http1(spelling, KEY).into_iter().take(2) {
            raw_http1(address, &bytes).await;
        }
    }
    let started = site.backend.tally.counts().started;
    assert!(started >= 60, "with credentials only {started} calls arrive");
}

/// A path of which some characters are written otherwise, with pieces between that somebody may read over.
fn spelling() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("/"),
        Just("//"),
        Just("/./"),
        Just("/../"),
        Just("/x/../"),
        Just(";"),
        Just(";a=b"),
        Just("\\"),
        Just("%2f"),
        Just("%5c"),
        Just("%2e"),
        Just("%00"),
        Just("."),
        Just(""),
        Just("?"),
        Just("%25"),
        Just("%"),
        Just("~"),
        Just(":"),
    ];
    let written = (any::<u8>(), any::<bool>());
    let path = prop_oneof![Just(REST), Just(GRPC)];
    (path, proptest::collection::vec(written, 32), proptest::collection::vec((0_usize..26, piece), 0..4)).prop_map(
        |(path, written, pieces)| {
            let mut out = String::new();
            for (at, (character, (how, upper))) in path.chars().zip(written.into_iter().cycle()).enumerate() {
                out.extend(pieces.iter().filter(|(place, _)| *place == at).map(|(_, piece)| *piece));
                let code = u32::from(character);
                match (how, upper) {
                    (0..24, true) => out.push_str(&format!("%{code:02X}")),
                    (0..24, false) => out.push_str(&format!("%{code:02x}")),
                    (24..28, _) => out.push_str(&format!("%25{code:02x}")),
                    (28..32, _) => out.extend(character.to_uppercase()),
                    _ => out.push(character),
                }
            }
            out
        },
    )
}

#[tokio::test]
async fn no_random_spelling_gets_around_it_either() {
    let site = protected().await;
    let mut runner = TestRunner::deterministic();
    let strategy = spelling();
    for _ in 0..300 {
        let target = strategy.new_tree(&mut runner).expect("a spelling").current();
        for bytes in over_http1(&target, "") {
            raw_http1(site.gateway.address, &bytes).await;
        }
        over_http2(site.gateway.address, &target, &[]).await;
        assert_eq!(site.backend.tally.counts().started, 0, "{target:?} reached the service");
    }
}

/// What a caller may say of itself that is not what it proved.
fn lie() -> impl Strategy<Value = (&'static str, String)> {
    let name = prop_oneof![
        Just("x-forwarded-for"),
        Just("x-real-ip"),
        Just("forwarded"),
        Just("x-client-ip"),
        Just("true-client-ip"),
        Just("x-api-key-name"),
        Just("x_api_key"),
        Just("x-session"),
        Just("cookie"),
        Just("authorization"),
        Just("x-request-id"),
        Just("user-agent"),
        Just("grpc-timeout"),
        Just("grpc-previous-rpc-attempts"),
        Just("x-forwarded-proto"),
    ];
    (name, "[a-zA-Z0-9.:=-]{0,12}")
}

#[tokio::test]
async fn no_random_spelling_header_or_protocol_wins_a_call_over_the_limit() {
    const QUOTA: usize = 200;
    let limits = format!("rate_limits: [{{ key: [api_key], quota: {QUOTA}/day }}]");
    let site = Site::start("", &format!("- {{ match: \"*\", authenticate: keys, {limits} }}")).await;
    let address = site.gateway.address;
    let mut runner = TestRunner::deterministic();
    let call = (spelling(), proptest::collection::vec(lie(), 0..3), "x-api-key|X-API-KEY|X-Api-Key");
    for round in 0..600 {
        let (spelled, lies, name) = call.new_tree(&mut runner).expect("a call").current();
        // Few random spellings reach anything; the plain ones spend what there is.
        let target = [spelled.as_str(), REST, GRPC][round % 3];
        let lines: String = lies.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        for bytes in over_http1(target, &format!("{lines}{name}: k-ann\r\n")) {
            raw_http1(address, &bytes).await;
        }
        let mut more: Vec<_> = lies.iter().map(|(name, value)| (*name, value.as_str())).collect();
        more.push(("x-api-key", "k-ann"));
        over_http2(address, target, &more).await;
        let started = site.backend.tally.counts().started;
        assert!(started <= QUOTA, "{started} calls arrive after {target:?} with {lies:?}");
    }

    // Calls that are let in and then turn out to be wrong have spent the rest.
    let started = site.backend.tally.counts().started;
    assert!(started > QUOTA / 2, "only {started} calls arrive");
    let mut client = site.gateway.client(Version::Http1).await;
    let reply = client.send(request(http::Method::GET, REST, &[("x-api-key", "k-ann")], "")).await;
    assert_eq!(reply.status.as_u16(), 429);
    // Another caller has what was promised it.
    let reply = client.send(request(http::Method::GET, REST, &[("x-api-key", "k-bob")], "")).await;
    assert_eq!(reply.status.as_u16(), 200);
}

#[tokio::test]
async fn headers_that_name_another_path_mean_nothing() {
    let site = Site::start(
        "",
        "- { match: \"*\", authenticate: keys }
- { match: portico.test.v1.Echo/Repeat, authenticate: none }",
    )
    .await;
    for version in Version::BOTH {
        let mut client = site.gateway.client(version).await;
        for name in [
            "x-original-url",
            "x-rewrite-url",
            "x-original-uri",
            "x-envoy-original-path",
            "x-forwarded-uri",
            "x-forwarded-prefix",
            "x-http-path",
            "destination",
            "grpc-metadata-:path",
        ] {
            for path in [REST, GRPC] {
                let Ok(_) = http::HeaderName::from_bytes(name.as_bytes()) else { continue };
                let headers = [(name, path), ("x-http-method-override", "POST"), ("accept", "application/json")];

                let open = client.send(request(http::Method::GET, "/test/v1/repeat/hi", &headers, "")).await;
                let nowhere = client.send(request(http::Method::GET, "/", &headers, "")).await;

                assert_eq!(open.status.as_u16(), 200, "{name}");
                assert!(
                    String::from_utf8_lossy(&open.body).contains("L3BvcnRpY28udGVzdC52MS5FY2hvL1JlcGVhd"),
                    "{name}: {open:?}"
                );
                assert_eq!(nowhere.status.as_u16(), 404, "{name}");
                assert_eq!(seen(&nowhere, "x"), Vec::<String>::new());
            }
        }
    }
}
