//! One call: what is known of it from its first header to its last byte.
//!
//! The call travels with the reply's body. When that ends, or is dropped because the client left, the call is counted
//! and its line goes to the access log; there is no other place where calls end.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::TE;
use http::{HeaderMap, Method as HttpMethod, Request, StatusCode, Uri, Version, request};
use tokio::time::Instant;

use super::Peer;
use super::compression::Accepted;
use super::forward::Trail;
use super::limits::Limited;
use super::protocol::Dialect;
use super::retry::Rules;
use super::room::Place;
use super::timer::Timer;
use super::worker::{Other, Prepared, Whose, Worker};
use crate::body::RequestBody;
use crate::config::MethodSettings;
use crate::encoding::Encoding;
use crate::error::{Error, Reason};
use crate::grpc::status::Code;
use crate::policy::admission::{End, LoadView, Permit};
use crate::policy::client;
use crate::policy::headers::Caller;
use crate::policy::identity::Identities;
use crate::policy::rate_limit::{Limit, Plan};
use crate::snapshot::{self, Method};
use crate::telemetry::Protocol;
use crate::telemetry::line::{Entry, Failure};
use crate::telemetry::metrics::LimitMetrics;
use crate::telemetry::trace::{RequestId, TraceParent};

/// One call.
#[derive(Debug)]
pub(crate) struct Call {
    worker: Rc<Worker>,
    pub(crate) prepared: Rc<Prepared>,
    pub(crate) peer: Rc<Peer>,
    pub(crate) protocol: Protocol,
    pub(crate) dialect: Dialect,
    pub(crate) http_method: HttpMethod,
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) trailers: Trailers,
    /// Encodings that the reply may have.
    pub(crate) accepted: Accepted,
    pub(crate) started: Instant,
    time: SystemTime,
    pub(crate) request_id: RequestId,
    pub(crate) traceparent: TraceParent,
    user_agent: Option<http::HeaderValue>,
    target: Target,
    /// What holds for a method that no schema knows.
    other: Option<Rc<Other>>,
    /// Whether its client gives it less time than its method has.
    hurried: bool,
    /// What its limits said.
    pub(crate) limited: Limited,
    /// Its place among the calls that the gateway takes on.
    pub(crate) permit: Option<Permit>,
    /// What its reply takes of the room of its connection.
    pub(crate) place: Option<Place>,
    /// Who it comes from, once that is known.
    pub(crate) identity: Identities,
    /// What the reply gets beside what the upstream and the protocol say.
    pub(crate) reply_headers: HeaderMap,
    /// Whether nothing is to be sent anywhere.
    pub(crate) rehearsed: bool,
    pub(crate) trail: Trail,
    forwarded: Option<Instant>,
    upstream_duration: Option<Duration>,
    pub(crate) response_bytes: u64,
    /// Of the reply, once there is one.
    pub(crate) http_status: Option<StatusCode>,
    outcome: Outcome,
    complete: bool,
}

/// Where a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Not known, or nowhere.
    Unknown,
    /// A method of the schema, by its index in the snapshot.
    Method(usize),
    /// An upstream, by its index, that may know a method which no schema knows.
    Upstream(usize),
}

/// What becomes of trailers that belong to a REST reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trailers {
    /// They are sent.
    Sent,
    /// They are sent, named before in the header `trailer`.
    Announced,
    /// The client cannot take them.
    Dropped,
}

impl Trailers {
    /// HTTP/2 has a place for trailers in every reply; HTTP/1.1 clients must say that they keep them
    /// ([RFC 9110 §6.5.1](https://www.rfc-editor.org/rfc/rfc9110#section-6.5.1)).
    fn of<B>(request: &Request<B>) -> Self {
        let takes = |value: &http::HeaderValue| {
            let codings = value.to_str().unwrap_or_default().split(',');
            codings.into_iter().any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
        };
        match request.version() {
            _ if request.method() == HttpMethod::HEAD => Self::Dropped,
            Version::HTTP_2 => Self::Sent,
            Version::HTTP_11 if request.headers().get_all(TE).iter().any(takes) => Self::Announced,
            _ => Self::Dropped,
        }
    }
}

/// How a call ended.
#[derive(Debug)]
struct Outcome {
    code: u32,
    failure: Option<Reason>,
    note: Option<Box<str>>,
}

impl Call {
    pub(crate) fn begin(
        worker: &Rc<Worker>,
        prepared: Rc<Prepared>,
        peer: Rc<Peer>,
        request: &Request<RequestBody>,
    ) -> Box<Self> {
        let headers = request.headers();
        let dialect = Dialect::of(request.method(), request.uri(), headers);
        Box::new(Self {
            worker: Rc::clone(worker),
            prepared,
            peer,
            protocol: dialect.protocol(),
            dialect,
            http_method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            trailers: Trailers::of(request),
            accepted: Accepted::of(headers),
            started: Instant::now(),
            time: SystemTime::now(),
            request_id: RequestId::of(headers),
            traceparent: TraceParent::of(headers),
            user_agent: headers.get(http::header::USER_AGENT).cloned(),
            target: Target::Unknown,
            other: None,
            hurried: false,
            limited: Limited::default(),
            permit: None,
            place: None,
            identity: Identities::default(),
            reply_headers: HeaderMap::new(),
            rehearsed: false,
            trail: Trail::default(),
            forwarded: None,
            upstream_duration: None,
            response_bytes: 0,
            http_status: None,
            outcome: Outcome { code: 0, failure: None, note: None },
            complete: false,
        })
    }

    pub(crate) fn set_target(&mut self, target: Target) {
        if let Target::Upstream(index) = target {
            self.set_other(Whose::Upstream(index));
        }
        self.target = target;
    }

    /// The gateway answers the call itself, at a method that no schema lists.
    pub(crate) fn set_local(&mut self, is_health: bool) {
        self.set_other(Whose::Local { is_health });
    }

    fn set_other(&mut self, whose: Whose) {
        let method = self.uri.path().trim_start_matches('/');
        self.other = Some(self.prepared.other(method, whose, &self.worker));
    }

    /// How often its method may be called; none for as often as anybody likes.
    pub(crate) fn limits(&self) -> Option<&Rc<Plan>> {
        match self.target {
            Target::Method(method) => self.prepared.limits(method, &self.worker),
            Target::Upstream(_) | Target::Unknown => self.other.as_ref()?.limits.as_ref(),
        }
    }

    /// Where a limit's decisions are counted.
    pub(crate) fn limit_metrics(&self, limit: &Limit) -> Arc<LimitMetrics> {
        match self.target {
            Target::Method(method) => Arc::clone(self.prepared.limit_metrics(method, limit.index, &self.worker)),
            Target::Upstream(_) | Target::Unknown => match &self.other {
                Some(other) => Arc::clone(other.limit_metrics(limit.index)),
                None => self.worker.limit_metrics(&limit.config.name),
            },
        }
    }

    /// `pkg.Service/Method`, unless only the client says that there is such a method.
    pub(crate) fn method_name(&self) -> Option<&str> {
        match self.target {
            Target::Method(index) => Some(&self.prepared.snapshot.methods[index].name),
            Target::Upstream(_) => None,
            // One of the few that are answered here.
            Target::Unknown => Some(self.uri.path().trim_start_matches('/')),
        }
    }

    /// The calls of its method that are under way; none where the call goes nowhere.
    pub(crate) fn load(&self) -> Option<&Rc<LoadView>> {
        match self.target {
            Target::Method(method) => Some(self.prepared.load(method, &self.worker)),
            Target::Upstream(_) | Target::Unknown => Some(self.other.as_ref()?.load(&self.worker)),
        }
    }

    /// What its end says of how busy its service is.
    //
    // Nothing that a client can bring about by itself may count, or it could take the limit away from all others: no
    // deadline of its own, nothing that it sends wrong, slowly or not at all, no reply that it does not read.
    fn end(&self) -> End {
        let answered = self.trail.answered_in().map_or(End::Silent, End::Answered);
        let in_time = !self.hurried && self.trail.sent.is_some();
        let late = if in_time { End::Dropped } else { End::Silent };
        match self.outcome.failure {
            None => answered,
            Some(Reason::UpstreamStatus) => match Code::from_number(self.outcome.code) {
                Some(Code::Unavailable | Code::ResourceExhausted) => End::Dropped,
                // It was told of the deadline, too.
                Some(Code::DeadlineExceeded) => late,
                Some(Code::Cancelled) => End::Silent,
                _ => answered,
            },
            Some(Reason::UpstreamUnreachable | Reason::UpstreamReset) => End::Dropped,
            Some(Reason::DeadlineExceeded) => late,
            Some(
                Reason::InvalidPath
                | Reason::RouteNotFound
                | Reason::MethodNotAllowed
                | Reason::MethodUnknown
                | Reason::ServiceUnknown
                | Reason::MethodUnsupported
                | Reason::OriginNotAllowed
                | Reason::CredentialsMissing
                | Reason::InvalidToken
                | Reason::InsufficientScope
                | Reason::AuthenticationUnavailable
                | Reason::RateLimited
                | Reason::Denied
                | Reason::AuthorizationUnavailable
                | Reason::LimiterUnavailable
                | Reason::Overloaded
                | Reason::UnsupportedMediaType
                | Reason::UnsupportedEncoding
                | Reason::InvalidHeader
                | Reason::InvalidRequest
                | Reason::InvalidFrame
                | Reason::RequestTooLarge
                | Reason::MessageCount
                | Reason::NotAStream
                | Reason::WebSocketVersion
                | Reason::StreamIdle
                | Reason::ClientGone
                | Reason::ShutDown
                | Reason::SchemaUnavailable
                | Reason::UpstreamOverloaded
                | Reason::UpstreamProtocol
                | Reason::UpstreamMessage
                | Reason::ResponseTooLarge
                | Reason::SlowReader,
            ) => End::Silent,
        }
    }

    /// Its worker's own things.
    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// Where it comes from, by what the trusted proxies say in its headers.
    pub(crate) fn client_ip(&self, headers: &HeaderMap) -> IpAddr {
        client::ip(headers, self.peer.address.ip(), &self.peer.listener.trusted_proxies)
    }

    /// When the head of the request was there.
    pub(crate) fn time(&self) -> SystemTime {
        self.time
    }

    pub(crate) fn target(&self) -> Target {
        self.target
    }

    /// The method, when a schema knows it.
    pub(crate) fn method(&self) -> Option<&Method> {
        match self.target {
            Target::Method(index) => Some(&self.prepared.snapshot.methods[index]),
            Target::Unknown | Target::Upstream(_) => None,
        }
    }

    /// The upstream's index in the snapshot.
    pub(crate) fn upstream_index(&self) -> Option<usize> {
        match self.target {
            Target::Method(index) => Some(self.prepared.snapshot.methods[index].upstream),
            Target::Upstream(index) => Some(index),
            Target::Unknown => None,
        }
    }

    /// The upstream that the call goes to.
    pub(crate) fn upstream(&self) -> Option<&snapshot::Upstream> {
        self.prepared.snapshot.upstreams.get(self.upstream_index()?)
    }

    /// Its name, for messages; empty when there is none.
    pub(crate) fn upstream_name(&self) -> &str {
        self.upstream().map_or("", |upstream| &upstream.config.name)
    }

    /// What holds for the call.
    pub(crate) fn settings(&self) -> &MethodSettings {
        match self.method() {
            Some(method) => &method.settings,
            None => match &self.other {
                Some(other) => &other.settings,
                None => &self.prepared.snapshot.config.defaults,
            },
        }
    }

    /// When it began, in seconds since the Unix epoch.
    pub(crate) fn unix_time(&self) -> u64 {
        self.time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    /// Whether the upstream takes messages of that encoding.
    pub(crate) fn takes(&self, encoding: Encoding) -> bool {
        self.upstream_index().is_some_and(|index| self.prepared.cluster(index).takes(encoding))
    }

    /// What the upstream is told of the caller.
    pub(crate) fn caller(&self) -> Caller<'_> {
        Caller {
            peer: self.peer.address.ip(),
            peer_value: &self.peer.ip,
            tls: self.peer.tls,
            trusted: &self.peer.listener.trusted_proxies,
            uri: &self.uri,
            request_id: self.request_id.value(),
            traceparent: self.traceparent.value(),
            new_trace: self.traceparent.is_new(),
        }
    }

    /// When the call must be over: the client's deadline, if it gave one, and the timeout of the method.
    ///
    /// # Errors
    /// A deadline that cannot be read.
    pub(crate) fn deadline(&mut self, parts: &request::Parts) -> Result<Option<Instant>, Error> {
        let client = super::deadline::requested(&parts.headers)?;
        let connect = match self.protocol {
            Protocol::Connect => super::deadline::of_connect(&parts.headers)?,
            Protocol::Grpc | Protocol::GrpcWeb | Protocol::Rest | Protocol::WebSocket => None,
        };
        let unary = self.method().is_some_and(Method::is_unary);
        let settings = self.settings();
        let method = if unary { settings.unary_timeout } else { settings.stream_timeout };
        let client = client.into_iter().chain(connect).min();
        self.hurried = client.is_some_and(|client| method.is_none_or(|method| client < method));
        Ok(client.into_iter().chain(method).min().and_then(|left| self.started.checked_add(left)))
    }

    /// The clock of a call that goes upstream.
    ///
    /// # Errors
    /// A deadline that cannot be read.
    pub(crate) fn timer(&mut self, parts: &request::Parts) -> Result<Timer, Error> {
        Ok(Timer::new(self.started, self.deadline(parts)?, self.idle()))
    }

    /// How long the call may stand still; unary calls have a deadline instead.
    pub(crate) fn idle(&self) -> Option<Duration> {
        let unary = self.method().is_some_and(Method::is_unary);
        (!unary).then(|| self.settings().stream_idle)
    }

    /// What holds for its further attempts.
    pub(crate) fn attempt_rules(&self) -> Rc<Rules> {
        match self.target {
            Target::Method(index) => self.prepared.attempt_rules(index, &self.worker),
            Target::Unknown | Target::Upstream(_) => match &self.other {
                Some(other) => Rc::clone(&other.rules),
                None => Rc::new(Rules::of(self.settings(), None)),
            },
        }
    }

    /// The call is on its way upstream.
    pub(crate) fn forwarded(&mut self) {
        self.forwarded = Some(Instant::now());
    }

    /// The upstream's reply is here, whole.
    pub(crate) fn replied(&mut self) {
        self.upstream_duration = self.forwarded.map(|since| since.elapsed());
    }

    /// The call failed. The first failure counts.
    pub(crate) fn failed(&mut self, error: &Error) {
        if self.outcome.failure.is_none() {
            self.outcome =
                Outcome { code: error.number(), failure: Some(error.reason()), note: error.note().map(Into::into) };
        }
    }

    /// The reply went out whole.
    pub(crate) fn complete(&mut self) {
        self.complete = true;
    }

    /// There is nothing more to do for it: others may be taken on.
    pub(crate) fn retire(&mut self) {
        if let Some(permit) = self.permit.take() {
            permit.end(self.end());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.complete && self.outcome.failure.is_none() {
            let reason = if self.peer.is_cut() { Reason::ShutDown } else { Reason::ClientGone };
            let error = Error::new(reason, "");
            self.http_status.get_or_insert_with(|| error.http());
            self.failed(&error);
        }
        self.retire();
        let now = Instant::now();
        let elapsed = now - self.started;
        let origin = self.outcome.failure.map(Reason::origin);
        let metrics = match self.target {
            Target::Method(index) => self.prepared.metrics(index, &self.worker),
            Target::Upstream(index) => self.prepared.unknown_method(index, &self.worker),
            Target::Unknown => &self.worker.unknown,
        };
        metrics.finish(self.protocol, self.outcome.code, origin, elapsed);
        metrics.transferred(self.trail.request_bytes, self.response_bytes);
        if !self.worker.log.is_on() {
            return;
        }
        let known = self.protocol == Protocol::Grpc && self.method().is_some();
        self.worker.log.write(&Entry {
            time: self.time,
            request_id: self.request_id.as_str(),
            trace_id: self.traceparent.trace_id(),
            peer: &self.peer.text,
            protocol: self.protocol,
            http_method: (!known).then_some(self.http_method.as_str()),
            path: (!known).then(|| self.uri.path()),
            method: self.method().map(|method| &*method.name),
            upstream: self.upstream().map(|upstream| &*upstream.config.name),
            endpoint: self.trail.endpoint.as_deref(),
            http_status: self.http_status.unwrap_or_default().as_u16(),
            code: self.outcome.code,
            failure: self.outcome.failure.map(|reason| Failure {
                origin: reason.origin(),
                reason: reason.name(),
                note: self.outcome.note.as_deref(),
            }),
            duration: elapsed,
            upstream_duration: self.upstream_duration.or_else(|| Some(now - self.forwarded?)),
            request_bytes: self.trail.request_bytes,
            response_bytes: self.response_bytes,
            attempts: self.trail.attempts,
            user_agent: self.user_agent.as_ref().map(|value| value.as_bytes()),
        });
    }
}
