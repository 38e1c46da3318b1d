//! Services that the gateway itself answers on its listeners: server reflection and health.
//!
//! Reflection speaks for every service that is routed, from the bytes that the upstreams' descriptors came in. Health
//! speaks for the gateway (the empty name) and for each of those services.

use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut as _, Bytes};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, request};
use prost::Message as _;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::body::{Abort, ReplyBody};
use super::call::Call;
use super::gate::Gate;
use super::timer::Timer;
use super::worker::Worker;
use super::{admit, pump, reply};
use crate::body::{Part, RequestBody};
use crate::config::Serve;
use crate::error::{Error, Reason};
use crate::grpc;
use crate::grpc::frame;
use crate::grpc::messages::Messages;
use crate::grpc::status::{self, Code};
use crate::pb::grpc::health::v1::health_check_response::ServingStatus;
use crate::pb::grpc::health::v1::{HealthCheckRequest, HealthCheckResponse};
use crate::pb::grpc::reflection::v1::ServerReflectionRequest;
use crate::snapshot::Snapshot;

/// A request for reflection or health is a name or two.
const MAX_REQUEST: usize = 64 << 10;
/// How often a watched service is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// A method that is answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// `ServerReflectionInfo` of v1 and of v1alpha, which are the same on the wire.
    Reflection,
    /// `grpc.health.v1.Health/Check`.
    HealthCheck,
    /// `grpc.health.v1.Health/Watch`.
    HealthWatch,
}

impl Service {
    /// Whether it tells of health.
    pub(crate) fn is_health(self) -> bool {
        matches!(self, Self::HealthCheck | Self::HealthWatch)
    }

    /// The method at that path, if it is served.
    pub(crate) fn at(path: &str, serve: Serve) -> Option<Self> {
        match path {
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
            | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => {
                serve.reflection.then_some(Self::Reflection)
            }
            "/grpc.health.v1.Health/Check" => serve.health.then_some(Self::HealthCheck),
            "/grpc.health.v1.Health/Watch" => serve.health.then_some(Self::HealthWatch),
            _ => None,
        }
    }
}

/// Starts the reply of a local service.
pub(crate) fn answer(
    call: Box<Call>,
    service: Service,
    body: RequestBody,
    gate: Option<Gate>,
    timer: Timer,
    worker: &Rc<Worker>,
) -> Response<ReplyBody> {
    let mut headers = HeaderMap::with_capacity(3);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    reply::echo_identifiers(&mut headers, &call);
    let body = LocalBody {
        call,
        service,
        body,
        gate,
        timer,
        worker: Rc::clone(worker),
        messages: Messages::new(MAX_REQUEST),
        asked: None,
        state: State::Asking,
    };
    let mut response = Response::new(ReplyBody::local(Box::new(body)));
    *response.headers_mut() = headers;
    response
}

/// Admits a call that is answered here; gives the clock that it has.
///
/// # Errors
/// A policy refuses it, or its deadline cannot be read.
pub(crate) async fn admit(call: &mut Call, service: Service, parts: &mut request::Parts) -> Result<Timer, Error> {
    call.set_local(service.is_health());
    let deadline = call.deadline(parts)?;
    let mut timer = clock(call, service, deadline);
    admit::admit(call, parts, &mut timer).await?;
    Ok(timer)
}

/// The policies hold for these methods as for any other, though no schema lists them.
fn clock(call: &Call, service: Service, deadline: Option<Instant>) -> Timer {
    let settings = call.settings();
    match service {
        Service::HealthCheck => {
            let own = settings.unary_timeout.and_then(|whole| call.started.checked_add(whole));
            Timer::new(call.started, deadline.into_iter().chain(own).min(), None)
        }
        Service::Reflection | Service::HealthWatch => Timer::new(call.started, deadline, Some(settings.stream_idle)),
    }
}

/// The reply of a local service, made as requests come.
#[derive(Debug)]
pub(crate) struct LocalBody {
    call: Box<Call>,
    service: Service,
    body: RequestBody,
    /// Limits on its messages.
    gate: Option<Gate>,
    timer: Timer,
    worker: Rc<Worker>,
    messages: Messages,
    /// The one request of a health method, until the client has said that there is no other.
    asked: Option<Bytes>,
    state: State,
}

/// ```text
///            message (Reflection), message and end (Check, Watch)
///  Asking ────────────────▶ answered: Asking again (Reflection), Last (Check), Watching (Watch)
///     │
///     └── end of requests ──▶ Over ◀── Last
/// ```
#[derive(Debug)]
enum State {
    Asking,
    Watching { service: String, last: ServingStatus, ticks: Interval },
    Last,
    Over,
}

impl LocalBody {
    pub(crate) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Abort>>> {
        if let State::Over = self.state {
            return Poll::Ready(None);
        }
        let result = match self.poll_next(cx) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(ready!(self.timer.poll(cx))),
        };
        Poll::Ready(Some(match result {
            Ok(Part::Data(data)) => {
                self.timer.touch();
                self.call.response_bytes += data.len() as u64;
                Ok(Part::Data(data))
            }
            Ok(Part::Trailers(trailers)) => {
                self.state = State::Over;
                self.call.complete();
                Ok(Part::Trailers(trailers))
            }
            Err(error) => {
                self.state = State::Over;
                self.call.failed(&error);
                self.call.complete();
                Ok(Part::Trailers(reply::grpc_trailers(&self.call, &error)))
            }
        }))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Error>> {
        match &mut self.state {
            State::Last | State::Over => Poll::Ready(Ok(Part::Trailers(ok_trailers()))),
            State::Watching { service, last, ticks } => loop {
                ready!(ticks.poll_tick(cx));
                let now = health(&self.worker.prepared().snapshot, &self.worker, service)
                    .unwrap_or(ServingStatus::ServiceUnknown);
                if now != *last {
                    *last = now;
                    return Poll::Ready(Ok(Part::Data(health_frame(now))));
                }
            },
            State::Asking => Poll::Ready(match ready!(self.poll_asked(cx))? {
                Some(message) => self.reply(&message).map(Part::Data),
                None => Ok(Part::Trailers(ok_trailers())),
            }),
        }
    }

    /// The next request to answer, `None` after the last one; health methods have exactly one.
    fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        if self.service == Service::Reflection {
            return self.poll_message(cx);
        }
        while let Some(message) = ready!(self.poll_message(cx))? {
            if self.asked.replace(message).is_some() {
                return Poll::Ready(Err(pump::too_many_messages()));
            }
        }
        Poll::Ready(self.asked.take().map(Some).ok_or_else(pump::no_message))
    }

    /// The next whole request message.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        loop {
            if let Some(message) = self.messages.take().map_err(pump::request_frame_error)? {
                if message.compressed {
                    return Poll::Ready(Err(Error::new(
                        Reason::InvalidFrame,
                        "compressed requests are not taken here",
                    )));
                }
                if let Some(gate) = &mut self.gate {
                    gate.message(&message.bytes)?;
                }
                return Poll::Ready(Ok(Some(message.bytes)));
            }
            match ready!(self.body.poll_data(cx)) {
                None => {
                    let end = self.messages.finish();
                    return Poll::Ready(end.map(|()| None).map_err(pump::request_frame_error));
                }
                Some(Err(broken)) => return Poll::Ready(Err(broken.into())),
                Some(Ok(data)) => {
                    self.timer.touch();
                    self.body.release(data.len());
                    self.call.trail.request_bytes += data.len() as u64;
                    self.messages.push(data);
                }
            }
        }
    }

    fn reply(&mut self, message: &[u8]) -> Result<Bytes, Error> {
        let malformed = |error: prost::DecodeError| Error::invalid("", error.to_string());
        let snapshot = &self.call.prepared.snapshot;
        if self.service == Service::Reflection {
            let request = ServerReflectionRequest::decode(message).map_err(malformed)?;
            return Ok(frame(&snapshot.reflection.answer(request)));
        }
        let service = HealthCheckRequest::decode(message).map_err(malformed)?.service;
        let known = health(snapshot, &self.worker, &service);
        if self.service == Service::HealthCheck {
            self.state = State::Last;
            let known = known.ok_or_else(|| {
                let message = format!("health of the unknown service {service:?} was asked");
                Error::new(Reason::ServiceUnknown, message)
            })?;
            return Ok(health_frame(known));
        }
        let last = known.unwrap_or(ServingStatus::ServiceUnknown);
        let mut ticks = interval(WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // No news is what a watch is for.
        self.timer.allow_idleness();
        self.state = State::Watching { service, last, ticks };
        Ok(health_frame(last))
    }
}

/// What a service's health is; `None` for one that is not served.
fn health(snapshot: &Snapshot, worker: &Worker, service: &str) -> Option<ServingStatus> {
    let serving = if worker.is_draining() { ServingStatus::NotServing } else { ServingStatus::Serving };
    if service.is_empty() {
        return Some(serving);
    }
    snapshot.serves(service).then_some(serving)
}

fn health_frame(status: ServingStatus) -> Bytes {
    frame(&HealthCheckResponse { status: status.into() })
}

fn frame(message: &impl prost::Message) -> Bytes {
    let mut bytes = frame::open(message.encoded_len());
    bytes.put_slice(&message.encode_to_vec());
    frame::close(bytes, 0, usize::MAX).unwrap_or_default()
}

fn ok_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(grpc::STATUS, status::status_value(Code::Ok.number()));
    trailers
}
