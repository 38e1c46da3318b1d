//! What the gateway tells its operators: metrics, access log, identifiers of calls, diagnostics, readiness.
//!
//! It knows nothing of routes, schemas or sockets; those who do report here, in the words of this module. Nothing
//! on the way of a call locks, hashes or waits: handles are resolved when a snapshot is built, values are summed
//! when somebody asks for them, log lines are written by a thread of their own.

pub mod access_log;
pub mod decisions;
mod escape;
mod exposition;
mod handles;
mod histogram;
pub mod lifecycle;
mod limits;
pub mod line;
pub mod logs;
pub mod metrics;
mod providers;
pub mod readiness;
mod sizes;
pub mod stores;
pub(crate) mod timestamp;
pub mod trace;

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Native gRPC over HTTP/2.
    Grpc,
    /// gRPC-Web, binary or text.
    GrpcWeb,
    /// Connect, unary or streaming.
    Connect,
    /// JSON over HTTP.
    Rest,
    /// JSON or protobuf over WebSocket.
    WebSocket,
}

impl Protocol {
    /// Every protocol, in the order of the discriminants.
    pub const ALL: [Self; 5] = [Self::Grpc, Self::GrpcWeb, Self::Connect, Self::Rest, Self::WebSocket];

    /// The name in labels and log lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::GrpcWeb => "grpc-web",
            Self::Connect => "connect",
            Self::Rest => "rest",
            Self::WebSocket => "websocket",
        }
    }
}

/// Whose fault a failed call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The request is wrong, too large or was given up.
    Client,
    /// The gateway refused or failed.
    Gateway,
    /// The upstream answered with an error, or could not be reached.
    Upstream,
}

impl Origin {
    /// Every origin, in the order of the discriminants.
    pub const ALL: [Self; 3] = [Self::Client, Self::Gateway, Self::Upstream];

    /// The name in labels and log lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Gateway => "gateway",
            Self::Upstream => "upstream",
        }
    }
}

/// The version of HTTP on a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// HTTP/1.0 and HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Transport {
    /// Both versions, in the order of the discriminants.
    pub const ALL: [Self; 2] = [Self::Http1, Self::Http2];

    /// The name in labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
        }
    }
}

/// Something on a client's connection that operators count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// A request was refused before it reached the proxy: malformed, or over a limit; or a connection of HTTP/2 was closed for
    /// what is against the protocol. Streams that h2 refuses by itself are not among them, since it does not tell.
    Refused,
    /// A connection was closed because its first bytes or a request's head took too long.
    HeaderTimeout,
    /// A connection was closed because it carried no request for too long.
    IdleTimeout,
    /// A stream or connection was cut because the client took nothing of a reply for too long.
    Stalled,
    /// The client reset a stream, or left, before the reply was complete.
    ClientReset,
    /// A connection was closed for resetting too many streams, or for making us do so.
    ResetFlood,
    /// A TLS handshake failed or took too long.
    TlsFailure,
    /// A balancer's connection did not begin with a right PROXY header in time.
    BadProxyHeader,
}

impl ConnectionEvent {
    /// Every event, in the order of the discriminants.
    pub const ALL: [Self; 8] = [
        Self::Refused,
        Self::HeaderTimeout,
        Self::IdleTimeout,
        Self::Stalled,
        Self::ClientReset,
        Self::ResetFlood,
        Self::TlsFailure,
        Self::BadProxyHeader,
    ];
}

/// A bound on what an upstream is given to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Calls and streams at once.
    Requests,
    /// Calls that wait for a place on a connection.
    Pending,
    /// Connections.
    Connections,
    /// Further attempts at once.
    Retries,
    /// Further attempts beside the calls of the last seconds.
    Budget,
}

impl Bound {
    /// Every bound, in the order of the discriminants.
    pub const ALL: [Self; 5] = [Self::Requests, Self::Pending, Self::Connections, Self::Retries, Self::Budget];

    /// The name in labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Pending => "pending",
            Self::Connections => "connections",
            Self::Retries => "retries",
            Self::Budget => "retry_budget",
        }
    }

    /// What it bounds.
    pub fn words(self) -> &'static str {
        match self {
            Self::Requests => "calls",
            Self::Pending => "waiting calls",
            Self::Connections => "connections",
            Self::Retries | Self::Budget => "retries",
        }
    }
}

/// Text as a JSON string, with its quotes.
pub(crate) fn json_string(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    escape::json(&mut out, text.as_bytes());
    String::from_utf8_lossy(&out).into_owned()
}
