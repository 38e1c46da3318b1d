//! The gRPC protocol's own pieces, as data: status codes, timeouts, message frames, metadata names.
//!
//! Everything here follows the gRPC over HTTP/2 specification
//! (<https://github.com/grpc/grpc/blob/v1.76.0/doc/PROTOCOL-HTTP2.md>). No sockets, no schema, no policy.

pub mod frame;
pub mod messages;
pub mod metadata;
pub mod status;
pub mod text;
pub mod timeout;

use http::HeaderName;

/// `grpc-status`: the decimal code, in the trailers.
pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// `grpc-message`: percent-encoded text beside a status.
pub const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// `grpc-status-details-bin`: an encoded `google.rpc.Status` in base64.
pub const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
/// When a client may try again, in milliseconds
/// ([gRFC A6](https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback)).
pub const RETRY_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// `grpc-timeout`: what is left of the deadline.
pub const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// `grpc-encoding`: how compressed messages are compressed.
pub const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// `grpc-accept-encoding`: what the sender can inflate.
pub const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Whether a service is one that every server may have beside its own: health, reflection, channelz, in any capitals. No gateway routes
/// those, and none of its upstreams declares them.
pub fn is_infrastructure(service: &str) -> bool {
    let is_of = |prefix: &str| service.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    ["grpc.health.", "grpc.reflection.", "grpc.channelz."].iter().any(|prefix| is_of(prefix))
}
