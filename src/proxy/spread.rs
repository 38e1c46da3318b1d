//! What an upstream's policy goes by when it gives calls of one kind the same endpoint.

use std::net::IpAddr;

use http::request;

use super::call::Call;
use super::limits;
use crate::config::balancing::HashOn;
use crate::policy::credential;
use crate::upstream::balance::hash;
use crate::upstream::{Cluster, Pick};

/// What is known of a call before its endpoint is picked.
pub(super) fn pick(cluster: &Cluster, call: &Call, parts: &request::Parts) -> Pick {
    let Some(on) = cluster.hash_on() else { return Pick::default() };
    let key = match on {
        HashOn::Header(name) => parts.headers.get(name).map(|value| hash(value.as_bytes())),
        HashOn::Cookie(name) => credential::cookies(&parts.headers, name).next().map(hash),
        HashOn::Claim(path) => call.identity.claim(path).and_then(limits::text).map(|text| hash(text.as_bytes())),
        HashOn::ClientIp => Some(match call.client_ip(&parts.headers) {
            IpAddr::V4(ip) => hash(&ip.octets()),
            IpAddr::V6(ip) => hash(&ip.octets()),
        }),
    };
    Pick::by(key)
}
