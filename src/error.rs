//! Why a call was refused or failed: one type, and the one table from [`Reason`] to gRPC code and HTTP status.
//!
//! Whatever goes wrong in a call becomes an [`Error`]; `proxy::reply` renders it in the caller's protocol. No other
//! module chooses a status. Lower levels have small errors of their own, which the pipeline turns into this one.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::body::BrokenBody;
use crate::grpc::status::Code;
use crate::policy::authorizer::Refusal;
use crate::telemetry::Origin;

/// A refused or failed call.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    reason: Reason,
    message: Cow<'static, str>,
    violations: Vec<Violation>,
    allow: Option<HeaderValue>,
    challenge: Option<HeaderValue>,
    note: Option<Box<str>>,
    retry_after: Option<Duration>,
    quotas: Vec<Quota>,
    refusal: Option<Box<Refusal>>,
    upstream: Option<UpstreamStatus>,
}

/// What the upstream's own status carried beside its number and message.
#[derive(Debug, Default)]
pub struct UpstreamStatus {
    /// As sent, also outside the table.
    pub number: u32,
    /// The decoded `grpc-status-details-bin`: an encoded `google.rpc.Status`.
    pub details: Option<Bytes>,
    /// Of the reply's head, where it had one apart from its trailers.
    pub initial: HeaderMap,
    /// Trailers.
    pub metadata: HeaderMap,
}

/// One field of the request that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, such as `book.authors[0].birth_year`; empty for the whole body.
    pub field: String,
    /// What was expected and what stood there.
    pub description: String,
}

/// A limit that the call is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// The limit's name.
    pub name: String,
    /// How much is allowed.
    pub description: String,
}

/// Stable names of everything that can go wrong; they stand in `ErrorInfo.reason`, in the log and in the docs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The path is malformed or tries to escape.
    InvalidPath,
    /// Nothing is routed there.
    RouteNotFound,
    /// The path is known, the HTTP method is not.
    MethodNotAllowed,
    /// No upstream has the gRPC method.
    MethodUnknown,
    /// Health of a service that is not served was asked.
    ServiceUnknown,
    /// The method exists, but not in this form.
    MethodUnsupported,
    /// A page of that origin may not call the method.
    OriginNotAllowed,
    /// The method asks for credentials, and there are none.
    CredentialsMissing,
    /// The credentials are not valid, and it is not said why: `invalid_token` of
    /// [RFC 6750 §3.1](https://www.rfc-editor.org/rfc/rfc6750#section-3.1).
    InvalidToken,
    /// The caller may not do that: `insufficient_scope` of the same.
    InsufficientScope,
    /// Whoever knows whether the credentials are valid does not answer.
    AuthenticationUnavailable,
    /// The caller is over a limit on how often it may call, or on how many calls it may have open.
    RateLimited,
    /// An external authorizer refused the call, in its own words.
    Denied,
    /// The external authorizer does not answer.
    AuthorizationUnavailable,
    /// The store of a limit gives no answer, and the limit does not do without one.
    LimiterUnavailable,
    /// There is too much to do already, for the method or for the gateway.
    Overloaded,
    /// The body's content type is not one that the method takes.
    UnsupportedMediaType,
    /// A body, or messages, are compressed in a way that the gateway cannot inflate.
    UnsupportedEncoding,
    /// A header is malformed, or breaks the protocol.
    InvalidHeader,
    /// A query parameter, path variable or body does not fit the message.
    InvalidRequest,
    /// A gRPC message frame is malformed or cut off.
    InvalidFrame,
    /// A request message is over its limit.
    RequestTooLarge,
    /// A unary call with no or several request messages.
    MessageCount,
    /// A WebSocket was asked for and the method has no stream.
    NotAStream,
    /// A WebSocket of a version that is not spoken here was asked for.
    WebSocketVersion,
    /// The client's deadline or the method's timeout passed.
    DeadlineExceeded,
    /// A stream stood still for too long.
    StreamIdle,
    /// The client went away.
    ClientGone,
    /// The gateway ended, or the listener did, before the call.
    ShutDown,
    /// The upstream's schema is not there yet.
    SchemaUnavailable,
    /// No endpoint of the upstream could be reached.
    UpstreamUnreachable,
    /// The upstream has as much to do as it may.
    UpstreamOverloaded,
    /// The upstream's connection broke in the middle of the call.
    UpstreamReset,
    /// The upstream answered with something that is not gRPC.
    UpstreamProtocol,
    /// The upstream's reply message does not fit its schema.
    UpstreamMessage,
    /// A reply message is over its limit.
    ResponseTooLarge,
    /// The client does not read its reply, and too many such replies wait already.
    SlowReader,
    /// The upstream answered with this status; the number is in [`UpstreamStatus`].
    UpstreamStatus,
}

impl Reason {
    /// The name as machines read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidPath => "INVALID_PATH",
            Self::RouteNotFound => "ROUTE_NOT_FOUND",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::MethodUnknown => "METHOD_UNKNOWN",
            Self::ServiceUnknown => "SERVICE_UNKNOWN",
            Self::MethodUnsupported => "METHOD_UNSUPPORTED",
            Self::OriginNotAllowed => "ORIGIN_NOT_ALLOWED",
            Self::CredentialsMissing => "CREDENTIALS_MISSING",
            Self::InvalidToken => "INVALID_TOKEN",
            Self::InsufficientScope => "INSUFFICIENT_SCOPE",
            Self::AuthenticationUnavailable => "AUTHENTICATION_UNAVAILABLE",
            Self::RateLimited => "RATE_LIMITED",
            Self::Denied => "DENIED",
            Self::AuthorizationUnavailable => "AUTHORIZATION_UNAVAILABLE",
            Self::LimiterUnavailable => "LIMITER_UNAVAILABLE",
            Self::Overloaded => "OVERLOADED",
            Self::UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE",
            Self::UnsupportedEncoding => "UNSUPPORTED_ENCODING",
            Self::InvalidHeader => "INVALID_HEADER",
            Self::InvalidRequest => "INVALID_REQUEST",
            Self::InvalidFrame => "INVALID_FRAME",
            Self::RequestTooLarge => "REQUEST_TOO_LARGE",
            Self::MessageCount => "MESSAGE_COUNT",
            Self::NotAStream => "NOT_A_STREAM",
            Self::WebSocketVersion => "WEBSOCKET_VERSION",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::StreamIdle => "STREAM_IDLE",
            Self::ClientGone => "CLIENT_GONE",
            Self::ShutDown => "SHUT_DOWN",
            Self::SchemaUnavailable => "SCHEMA_UNAVAILABLE",
            Self::UpstreamUnreachable => "UPSTREAM_UNREACHABLE",
            Self::UpstreamOverloaded => "UPSTREAM_OVERLOADED",
            Self::UpstreamReset => "UPSTREAM_RESET",
            Self::UpstreamProtocol => "UPSTREAM_PROTOCOL",
            Self::UpstreamMessage => "UPSTREAM_MESSAGE",
            Self::ResponseTooLarge => "RESPONSE_TOO_LARGE",
            Self::SlowReader => "SLOW_READER",
            Self::UpstreamStatus => "UPSTREAM_STATUS",
        }
    }

    /// Whose fault it is.
    pub fn origin(self) -> Origin {
        self.row().2
    }

    /// The table: gRPC code, HTTP status of a REST reply, and whose fault it is.
    fn row(self) -> (Code, StatusCode, Origin) {
        use Origin::{Client, Gateway, Upstream};
        match self {
            Self::InvalidPath | Self::InvalidHeader | Self::InvalidRequest => {
                (Code::InvalidArgument, StatusCode::BAD_REQUEST, Client)
            }
            Self::RouteNotFound | Self::ServiceUnknown => (Code::NotFound, StatusCode::NOT_FOUND, Client),
            Self::MethodNotAllowed => (Code::Unimplemented, StatusCode::METHOD_NOT_ALLOWED, Client),
            Self::MethodUnknown => (Code::Unimplemented, StatusCode::NOT_FOUND, Client),
            Self::MethodUnsupported => (Code::Unimplemented, StatusCode::NOT_IMPLEMENTED, Client),
            Self::CredentialsMissing | Self::InvalidToken => (Code::Unauthenticated, StatusCode::UNAUTHORIZED, Client),
            Self::AuthenticationUnavailable | Self::AuthorizationUnavailable | Self::LimiterUnavailable => {
                (Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE, Gateway)
            }
            Self::OriginNotAllowed | Self::InsufficientScope | Self::Denied => {
                (Code::PermissionDenied, StatusCode::FORBIDDEN, Client)
            }
            Self::Overloaded => (Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE, Gateway),
            Self::RateLimited => (Code::ResourceExhausted, StatusCode::TOO_MANY_REQUESTS, Client),
            Self::UnsupportedMediaType => (Code::InvalidArgument, StatusCode::UNSUPPORTED_MEDIA_TYPE, Client),
            Self::UnsupportedEncoding => (Code::Unimplemented, StatusCode::UNSUPPORTED_MEDIA_TYPE, Client),
            // The code that gRPC servers answer with when they cannot read a frame.
            Self::InvalidFrame => (Code::Internal, StatusCode::BAD_REQUEST, Client),
            Self::RequestTooLarge => (Code::ResourceExhausted, StatusCode::PAYLOAD_TOO_LARGE, Client),
            // As the other gRPC servers answer.
            Self::MessageCount => (Code::Unimplemented, StatusCode::BAD_REQUEST, Client),
            Self::NotAStream => (Code::Unimplemented, StatusCode::BAD_REQUEST, Client),
            Self::WebSocketVersion => (Code::InvalidArgument, StatusCode::UPGRADE_REQUIRED, Client),
            Self::DeadlineExceeded => (Code::DeadlineExceeded, StatusCode::GATEWAY_TIMEOUT, Gateway),
            Self::StreamIdle => (Code::DeadlineExceeded, StatusCode::GATEWAY_TIMEOUT, Gateway),
            Self::ClientGone => (Code::Cancelled, Code::Cancelled.http(), Client),
            // As clients take the end of their connection.
            Self::ShutDown => (Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE, Gateway),
            Self::SchemaUnavailable | Self::UpstreamOverloaded => {
                (Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE, Gateway)
            }
            Self::UpstreamUnreachable | Self::UpstreamReset => {
                (Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE, Upstream)
            }
            Self::UpstreamProtocol | Self::UpstreamMessage => {
                (Code::Internal, StatusCode::INTERNAL_SERVER_ERROR, Upstream)
            }
            Self::ResponseTooLarge => (Code::ResourceExhausted, StatusCode::INTERNAL_SERVER_ERROR, Upstream),
            Self::SlowReader => (Code::ResourceExhausted, StatusCode::SERVICE_UNAVAILABLE, Client),
            Self::UpstreamStatus => (Code::Unknown, StatusCode::INTERNAL_SERVER_ERROR, Upstream),
        }
    }
}

/// Bytes of a message of the gateway's own. Some quote the request, and in gRPC they travel in a header, percent-encoded.
const MAX_MESSAGE: usize = 1 << 10;

fn cut(message: &mut String) {
    if message.len() > MAX_MESSAGE {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        message.push_str("...");
    }
}

impl Error {
    /// An error made by the gateway. A message beyond [`MAX_MESSAGE`] is cut.
    pub fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        let mut message = message.into();
        if let Cow::Owned(text) = &mut message {
            cut(text);
        }
        Self(Box::new(Inner {
            reason,
            message,
            violations: Vec::new(),
            allow: None,
            challenge: None,
            note: None,
            retry_after: None,
            quotas: Vec::new(),
            refusal: None,
            upstream: None,
        }))
    }

    /// A request that does not fit its message.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        let violation = Violation { field: field.into(), description: description.into() };
        let Violation { field, description } = &violation;
        // Of the two, the description says more, and the whole field is in the violation.
        let room = MAX_MESSAGE.saturating_sub(description.len() + "...: ".len());
        let message = match field.as_str() {
            "" => description.clone(),
            field if field.len() <= room => format!("{field}: {description}"),
            field => format!("{}...: {description}", field.split_at(field.floor_char_boundary(room)).0),
        };
        let mut error = Self::new(Reason::InvalidRequest, message);
        error.0.violations.push(violation);
        error
    }

    /// A status that the upstream answered with, in trailers or in a reply of trailers only.
    pub fn upstream_status(number: u32, message: String, details: Option<Bytes>, metadata: HeaderMap) -> Self {
        let mut error = Self::new(Reason::UpstreamStatus, "");
        error.0.message = message.into();
        error.0.upstream = Some(UpstreamStatus { number, details, initial: HeaderMap::new(), metadata });
        error
    }

    /// A reply that is not gRPC, or that broke off, under the gRPC code that the way it failed stands for.
    pub fn upstream_code(code: Code, message: String) -> Self {
        let mut error = Self::new(Reason::UpstreamProtocol, message);
        error.0.upstream = Some(UpstreamStatus { number: code.number(), ..UpstreamStatus::default() });
        error
    }

    /// The same error with the initial metadata of the reply that ended in it.
    #[must_use]
    pub fn with_initial_metadata(mut self, metadata: &HeaderMap) -> Self {
        if let Some(status) = &mut self.0.upstream {
            status.initial = metadata.clone();
        }
        self
    }

    /// The same error in the message of a stream with that number, counted from 1.
    #[must_use]
    pub fn in_message(mut self, number: u64) -> Self {
        self.0.message = format!("message {number}: {}", self.0.message).into();
        self
    }

    /// The same error with the methods that the path does take.
    #[must_use]
    pub fn with_allow(mut self, allow: HeaderValue) -> Self {
        self.0.allow = Some(allow);
        self
    }

    /// The same error with what a caller has to show: `WWW-Authenticate`.
    #[must_use]
    pub fn with_challenge(mut self, challenge: HeaderValue) -> Self {
        self.0.challenge = Some(challenge);
        self
    }

    /// The same error with words for the access log, which the caller never sees.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<Box<str>>) -> Self {
        self.0.note = Some(note.into());
        self
    }

    /// The same error with when to come back: `Retry-After`, `RetryInfo` and the pushback of gRPC. `Duration::MAX` is never.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// The same error with the limits that it is over.
    #[must_use]
    pub fn with_quotas(mut self, quotas: Vec<Quota>) -> Self {
        self.0.quotas = quotas;
        self
    }

    /// The same error with the status, code and headers of an external authorizer.
    #[must_use]
    pub fn with_refusal(mut self, refusal: Box<Refusal>) -> Self {
        self.0.refusal = Some(refusal);
        self
    }

    /// What went wrong.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// Whose fault it is.
    pub fn origin(&self) -> Origin {
        self.0.reason.origin()
    }

    /// The number of `grpc-status`; outside the table only when an upstream sent it.
    pub fn number(&self) -> u32 {
        match (&self.0.upstream, &self.0.refusal) {
            (Some(status), _) => status.number,
            (None, Some(refusal)) => refusal.code.number(),
            (None, None) => self.0.reason.row().0.number(),
        }
    }

    /// The HTTP status of a REST reply. A number outside the table is 500.
    pub fn http(&self) -> StatusCode {
        match (&self.0.upstream, &self.0.refusal) {
            (Some(status), _) => Code::from_number(status.number).map_or(StatusCode::INTERNAL_SERVER_ERROR, Code::http),
            (None, Some(refusal)) => refusal.status,
            (None, None) => self.0.reason.row().1,
        }
    }

    /// Code and HTTP status of a Connect reply: the table of <https://connectrpc.com/docs/protocol#error-codes>, but for
    /// what HTTP itself has a status for, where clients take the code from the status.
    pub fn connect(&self) -> (Code, StatusCode) {
        if matches!(self.0.reason, Reason::MethodNotAllowed | Reason::UnsupportedMediaType) {
            return (Code::Unknown, self.http());
        }
        let code = Code::from_number(self.number()).filter(|code| *code != Code::Ok).unwrap_or(Code::Unknown);
        let http = if self.0.reason == Reason::MethodUnknown { self.http() } else { code.http() };
        (code, http)
    }

    /// Whether HTTP has a status for it, so that even a stream is refused by that.
    pub fn is_of_http(&self) -> bool {
        matches!(
            self.0.reason,
            Reason::MethodNotAllowed | Reason::UnsupportedMediaType | Reason::MethodUnknown | Reason::RouteNotFound
        )
    }

    /// For people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The fields at fault.
    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// `Allow` of a 405.
    pub fn allow(&self) -> Option<&HeaderValue> {
        self.0.allow.as_ref()
    }

    /// `WWW-Authenticate` of a 401, and of a 403 for want of rights.
    pub fn challenge(&self) -> Option<&HeaderValue> {
        self.0.challenge.as_ref()
    }

    /// When the same call may be made again; `Duration::MAX` for never.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The limits that the call is over.
    pub fn quotas(&self) -> &[Quota] {
        &self.0.quotas
    }

    /// The words and headers of an external authorizer.
    pub fn authorizer(&self) -> Option<&Refusal> {
        self.0.refusal.as_deref()
    }

    /// Words for the access log alone.
    pub fn note(&self) -> Option<&str> {
        self.0.note.as_deref()
    }

    /// What the upstream sent beside its number and message; none for errors of the gateway's own.
    pub fn upstream(&self) -> Option<&UpstreamStatus> {
        self.0.upstream.as_ref().filter(|_| self.0.reason == Reason::UpstreamStatus)
    }
}

impl From<BrokenBody> for Error {
    fn from(broken: BrokenBody) -> Self {
        let reason = match broken {
            BrokenBody::ClientGone => Reason::ClientGone,
            BrokenBody::Malformed => Reason::InvalidRequest,
        };
        Self::new(reason, broken.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}
