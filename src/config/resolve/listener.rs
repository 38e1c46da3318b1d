//! Listeners and the bounds on their clients.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::{each, limit, require, to_u32, to_usize, value};
use crate::config::file::{Limits as RawLimits, Listener as RawListener};
use crate::config::pattern;
use crate::config::problem::Place;
use crate::config::read::{List, Located, Report};
use crate::config::units::{Size, Span};
use crate::config::{DEFAULT_LISTEN, Limits, Listener};

/// The listeners of a file, one on the default address when the key is absent.
pub(super) fn listeners(
    list: Option<Located<List<RawListener>>>,
    base: &Path,
    report: &mut Report<'_>,
) -> Vec<Located<Listener>> {
    let Some(list) = list else {
        let at = Place { path: "the default listener".to_owned(), position: None };
        return vec![Located { value: Listener::on(DEFAULT_LISTEN), at }];
    };
    if list.value.written == 0 {
        report.problem(&list.at, "at least one listener is needed; without the key there is one on 127.0.0.1:8080");
    }
    let mut listeners: Vec<Located<Listener>> = Vec::new();
    for raw in list.value.items {
        let Some(listener) = listener(raw, base, report) else { continue };
        let address = listener.value.address;
        if address.port() != 0
            && let Some(first) = listeners.iter().find(|first| first.value.address == address)
        {
            report.problem(&listener.at, format!("{address} is already the address of {}", first.at.path));
        }
        listeners.push(listener);
    }
    listeners
}

fn listener(raw: Located<RawListener>, base: &Path, report: &mut Report<'_>) -> Option<Located<Listener>> {
    let RawListener { address, tls, limits, trusted_proxies, proxy_protocol } = raw.value;
    require(address.is_some(), "address", &raw.at, report);
    let address: Option<SocketAddr> =
        address.and_then(|address| address.parse(report, |text| pattern::listen_address(text)));
    let mut networks = |list: Option<Located<List<String>>>| {
        let everyone = list.as_ref().map(|list| list.at.clone());
        let networks = each(list, report, |text| pattern::network(text));
        if let Some(at) = everyone
            && networks.iter().any(|network| network.prefix_len() == 0)
        {
            report.warn(&at, "every client may say what its own address is");
        }
        networks
    };
    let (trusted_proxies, proxy_protocol) = (networks(trusted_proxies), networks(proxy_protocol));
    let limits = self::limits(value(limits), report);
    let tls = tls.and_then(|tls| super::tls::listener(tls, base, report));
    let mut listener = Listener::on(address?);
    listener.limits = limits;
    listener.trusted_proxies = trusted_proxies.into();
    listener.proxy_protocol = proxy_protocol.into();
    listener.tls = tls;
    Some(Located { value: listener, at: raw.at })
}

fn limits(raw: RawLimits, report: &mut Report<'_>) -> Limits {
    let default = Limits::default();
    let mut count = |value, range, default: u64| limit(value, range, default, report);
    let max_connections = count(raw.max_connections, CONNECTIONS, default.max_connections as u64);
    let max_headers = count(raw.max_headers, HEADERS, default.max_headers as u64);
    let streams = count(raw.max_concurrent_streams, STREAMS, default.max_concurrent_streams.into());
    let resets = count(raw.max_pending_resets, RESETS, default.max_pending_resets as u64);
    let mut size = |value, range, default: u32| to_u32(limit(value, range, Size(default.into()), report).0);
    let max_header_bytes = size(raw.max_header_bytes, HEADER_BYTES, default.max_header_bytes);
    let stream_window = size(raw.stream_window, WINDOW, default.stream_window);
    let connection_window = size(raw.connection_window, WINDOW, default.connection_window);
    let mut time = |value, range, default| limit(value, range, Span(default), report).0;
    Limits {
        max_connections: to_usize(max_connections),
        max_header_bytes,
        max_headers: to_usize(max_headers),
        max_concurrent_streams: to_u32(streams),
        max_pending_resets: to_usize(resets),
        header_timeout: time(raw.header_timeout, HEADER_TIMEOUT, default.header_timeout),
        tls_handshake_timeout: time(raw.tls_handshake_timeout, HEADER_TIMEOUT, default.tls_handshake_timeout),
        idle_timeout: time(raw.idle_timeout, IDLE_TIMEOUT, default.idle_timeout),
        stream_window,
        connection_window,
    }
}

/// An HTTP/2 window: from what every connection starts with to what the protocol can express
/// ([RFC 9113 §6.9](https://www.rfc-editor.org/rfc/rfc9113#section-6.9)).
pub(super) const WINDOW: RangeInclusive<Size> = Size(65_535)..=Size((1 << 31) - 1);
const CONNECTIONS: RangeInclusive<u64> = 1..=1_000_000;
/// hyper cannot read an HTTP/1.1 head into less than 8 KiB.
const HEADER_BYTES: RangeInclusive<Size> = Size(8 << 10)..=Size(8 << 20);
/// A header map holds fewer than 32,768 fields.
const HEADERS: RangeInclusive<u64> = 1..=10_000;
const STREAMS: RangeInclusive<u64> = 1..=100_000;
const RESETS: RangeInclusive<u64> = 1..=100_000;
const HEADER_TIMEOUT: RangeInclusive<Span> = Span(Duration::from_millis(1))..=Span(Duration::from_mins(10));
const IDLE_TIMEOUT: RangeInclusive<Span> = Span(Duration::from_millis(1))..=Span(Duration::from_hours(24));
