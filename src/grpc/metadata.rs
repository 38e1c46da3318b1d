//! Which header names are metadata, and which belong to a protocol.

use http::HeaderName;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};

/// What REST callers may put in front of the name of metadata.
pub const PREFIX: &str = "grpc-metadata-";

/// Whether a header speaks of one connection only (RFC 9110 §7.6.1) and so never passes a gateway.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION].contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}

/// Whether a name is reserved for gRPC itself: metadata may not start with `grpc-` (PROTOCOL-HTTP2 "Custom-Metadata").
pub fn is_reserved(name: &HeaderName) -> bool {
    name.as_str().starts_with("grpc-")
}

/// Whether metadata may have that name at all (PROTOCOL-HTTP2 "Header-Name"); HTTP has others.
pub fn is_name(name: &HeaderName) -> bool {
    name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

/// Whether values of that name are base64 (PROTOCOL-HTTP2 "Binary-Header").
pub fn is_binary(name: &HeaderName) -> bool {
    name.as_str().ends_with("-bin")
}

/// Whether a service may take one name for the other: whatever stands between the words, in any case.
pub fn is_alike(left: &str, right: &str) -> bool {
    left.len() == right.len() && begins_alike(left, right)
}

/// Whether a service may take the beginning of a name for that one.
fn begins_alike(name: &str, beginning: &str) -> bool {
    let read = |byte: u8| if matches!(byte, b'_' | b'.') { b'-' } else { byte.to_ascii_lowercase() };
    name.len() >= beginning.len() && name.bytes().zip(beginning.bytes()).all(|(left, right)| read(left) == read(right))
}

/// Whether only a gateway may say it, or the gateway has done what it asks for: who the caller is, by what way it came,
/// and how long it waits. In each spelling that a service may take for the name.
pub fn is_of_edge(name: &HeaderName) -> bool {
    let text = name.as_str();
    matches!(text, "forwarded" | "x-server-timeout" | "request-timeout")
        || begins_alike(text, "x-forwarded-")
        || begins_alike(text, "x-envoy-")
}

/// Whether a REST request's header describes the HTTP request itself, so that it means nothing to a gRPC service:
/// its body, its target, what reply it takes, and what is [of the edge](is_of_edge).
pub fn is_http_only(name: &HeaderName) -> bool {
    let text = name.as_str();
    is_hop_by_hop(name)
        || is_of_edge(name)
        || [HOST, CONTENT_LENGTH, EXPECT].contains(name)
        || text.starts_with("content-")
        || text.starts_with("accept")
        || text.starts_with("if-")
        || text.starts_with("sec-")
        || text.starts_with("access-control-")
        || matches!(text, "range" | "origin")
}

/// Whether reply metadata of that name may become a header of a REST reply. What would steer a browser, describe the
/// body, or speak for the gateway stays inside.
pub fn is_public(name: &HeaderName) -> bool {
    let text = name.as_str();
    !(is_hop_by_hop(name)
        || is_reserved(name)
        || text.starts_with("content-")
        || text.starts_with("access-control-")
        || matches!(
            text,
            "set-cookie"
                | "location"
                | "refresh"
                | "clear-site-data"
                | "www-authenticate"
                | "accept-encoding"
                | "date"
                | "server"
                | "alt-svc"
        )
        || text.starts_with("strict-transport-"))
}
