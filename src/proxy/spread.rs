//! What an upstream's policy goes by when it gives calls of one kind the same endpoint.

use std::net::IpAddr;

use http::header::COOKIE;
use http::{HeaderMap, request};

use super::call::Call;
use super::limits;
use crate::config::balancing::HashOn;
use crate::policy::client;
use crate::upstream::balance::hash;
use crate::upstream::{Cluster, Pick};

/// What is known of a call before its endpoint is picked.
pub(super) fn pick(cluster: &Cluster, call: &Call, parts: &request::Parts) -> Pick {
    let Some(on) = cluster.hash_on() else { return Pick::default() };
    let key = match on {
        HashOn::Header(name) => parts.headers.get(name).map(|value| hash(value.as_bytes())),
        HashOn::Cookie(name) => cookie(&parts.headers, name).map(hash),
        HashOn::Claim(path) => call.identity.claim(path).and_then(limits::text).map(|text| hash(text.as_bytes())),
        HashOn::ClientIp => {
            let ip = client::ip(&parts.headers, call.peer.address.ip(), &call.peer.listener.trusted_proxies);
            Some(match ip {
                IpAddr::V4(ip) => hash(&ip.octets()),
                IpAddr::V6(ip) => hash(&ip.octets()),
            })
        }
    };
    Pick::by(key)
}

/// The value of a cookie ([RFC 6265 §4.2.1](https://www.rfc-editor.org/rfc/rfc6265#section-4.2.1)).
fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}
