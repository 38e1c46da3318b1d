//! Keeps web pages away from the admin address.
//!
//! A page that an operator looks at can send requests to the operator's own machine. It cannot read the replies of another
//! origin, unless its own name is made to resolve to this machine (DNS rebinding): then `Host` has that name. And it cannot
//! hide that it is a page from requests that change something: browsers say so in `Origin` and
//! [`Sec-Fetch-Site`](https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header).

use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Method};

/// Why a request is refused, if it is; `is_loopback` says whether it came to an address of the loopback.
pub(super) fn refusal(method: &Method, headers: &HeaderMap, is_loopback: bool) -> Option<&'static str> {
    if is_loopback && !headers.get(HOST).is_none_or(|host| host.to_str().is_ok_and(is_local)) {
        return Some("this address is asked for by another name than its own\n");
    }
    let reads = method == Method::GET || method == Method::HEAD;
    if !reads && (headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site")) {
        return Some("web pages may change nothing here\n");
    }
    None
}

/// Whether `host` or `host:port` is a name of this machine that nobody else can give.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        Some(_) | None => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(method: &Method, headers: &[(&'static str, &'static str)], is_loopback: bool) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)));
        refusal(method, &headers.collect(), is_loopback).is_some()
    }

    #[test]
    fn a_name_that_was_made_to_resolve_here_is_refused() {
        for host in ["localhost:9901", "LOCALHOST", "127.0.0.1:9901", "127.0.0.1", "[::1]:9901", "[::1]", "10.0.0.1:1"]
        {
            assert!(!refused(&Method::GET, &[("host", host)], true), "{host}");
        }
        for host in ["evil.example.com:9901", "evil.example.com", "localhost.evil.example.com:1", ""] {
            assert!(refused(&Method::GET, &[("host", host)], true), "{host}");
            assert!(!refused(&Method::GET, &[("host", host)], false), "{host}");
        }
    }

    #[test]
    fn pages_change_nothing() {
        for headers in [[("origin", "https://evil.example.com")], [("origin", "null")], [("sec-fetch-site", "none")]] {
            assert!(refused(&Method::POST, &headers, false) && refused(&Method::PUT, &headers, true), "{headers:?}");
            assert!(!refused(&Method::GET, &headers, true), "{headers:?}");
        }
        assert!(!refused(&Method::POST, &[("host", "localhost")], true));
    }
}
