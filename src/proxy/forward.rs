//! Sends a call to its upstream: picks an endpoint, sends head and body, waits for the head of the reply.
//!
//! A call that provably never reached the application (no connection, a refused stream, a GOAWAY that does not cover
//! it) is sent again, elsewhere where there is an elsewhere. Others are repeated as their method's policy says
//! ([`super::retry`]), never after something of the reply went to the client, and never beyond the upstream's budget.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use h2::Reason as H2Reason;
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version, response};
use tokio::time::{Instant, sleep};

use super::attempt::{Attempt, Outcome};
use super::pump::{Pump, Source};
use super::retry::{self, Done, Fault, Next, Rules};
use super::timer::Timer;
use super::unanswered::Unanswered;
use super::upstream_body::UpstreamBody;
use crate::error::{Error, Reason};
use crate::grpc;
use crate::grpc::status::{self, Code};
use crate::grpc::timeout;
use crate::upstream::{Cluster, Endpoint, Further, Lease, Pick, Unreachable, Want};

/// A call ready to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) path: PathAndQuery,
    /// Metadata and the headers that gRPC asks for, without `grpc-timeout`.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Source,
}

/// A reply whose head is here; the request may still be on its way.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) head: response::Parts,
    pub(crate) body: UpstreamBody,
    pub(crate) pump: Box<Pump>,
    pub(crate) timer: Timer,
}

/// What is known of the sending, also when it failed.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    pub(crate) endpoint: Option<Arc<str>>,
    pub(crate) attempts: u32,
    pub(crate) request_bytes: u64,
    /// When all of the request was on its way.
    pub(super) sent: Option<Instant>,
    /// When the first of the reply behind its head was here.
    answered: Option<Instant>,
}

impl Trail {
    /// Something of the reply is here, or all of it. The first time counts.
    pub(super) fn answered(&mut self) {
        self.answered.get_or_insert_with(Instant::now);
    }

    /// The same, at that time.
    pub(super) fn answered_at(&mut self, at: Instant) {
        self.answered.get_or_insert(at);
    }

    /// How long the upstream took to answer the whole request; none if it did so before it had it.
    pub(super) fn answered_in(&self) -> Option<Duration> {
        self.answered?.checked_duration_since(self.sent?)
    }

    /// Notes how far a request is. What is sent anew is not sent yet.
    pub(super) fn note(&mut self, pump: Option<&Pump>) {
        self.request_bytes = pump.and_then(Pump::bytes).unwrap_or(self.request_bytes);
        self.sent = pump.and_then(Pump::sent);
    }
}

/// A call while it is sent, perhaps several times.
pub(super) struct Sender<'a> {
    pub(super) cluster: &'a Cluster,
    path: PathAndQuery,
    headers: HeaderMap,
    pub(super) pick: Pick,
    pub(super) timer: Timer,
    pub(super) rules: Rc<Rules>,
    pub(super) trail: &'a mut Trail,
    done: Done,
    /// Attempts that a server may have looked at.
    seen: u32,
}

/// A further attempt that may be made.
struct Again {
    wait: Option<Duration>,
    /// What lets it be under way; none for a call that nobody had work with.
    further: Option<Further>,
}

/// Sends a call and returns the head of its reply, which is known to be gRPC.
///
/// # Errors
/// The deadline passed, the client misbehaved or left, no endpoint could be reached, or its reply is not gRPC.
///
/// # Cancel safety
/// Dropping the future resets the upstream's stream.
pub(crate) async fn send(
    cluster: &Cluster,
    outgoing: Outgoing,
    pick: Pick,
    timer: Timer,
    rules: Rc<Rules>,
    trail: &mut Trail,
) -> Result<Incoming, Error> {
    let Outgoing { path, headers, body } = outgoing;
    cluster.shares().called();
    let mut pump = Pump::new(body, rules.buffer());
    let mut sender =
        Sender { cluster, path, headers, pick, timer, rules: Rc::clone(&rules), trail, done: Done::default(), seen: 0 };
    // Counts as a further attempt for as long as its reply has not begun.
    let mut further = None;
    loop {
        let outcome = match &rules.hedge {
            Some(hedge) => Box::pin(sender.hedged(pump, hedge)).await?,
            None => sender.attempt(pump).await?,
        };
        let Outcome { reply, fault, pump: sent } = outcome;
        pump = sent;
        drop(further.take());
        if let Some(fault) = fault
            && let Some(again) = sender.again(fault, &mut pump)
        {
            // Its place is free for others while this call waits.
            drop(reply);
            further = again.further;
            if let Some(wait) = again.wait {
                within(&mut sender.timer, sleep(wait)).await?;
            }
            continue;
        }
        let (head, body) = reply?;
        pump.arrived();
        return Ok(Incoming { head, body, pump, timer: sender.timer });
    }
}

impl Sender<'_> {
    /// Sends the call once.
    ///
    /// # Errors
    /// The call is over, whatever could be tried.
    async fn attempt(&mut self, pump: Box<Pump>) -> Result<Outcome, Error> {
        let lease = match within(&mut self.timer, self.cluster.acquire(&mut self.pick)).await? {
            Ok(lease) => lease,
            Err(unreachable) => return Ok(no_place(&unreachable, pump)),
        };
        let mut attempt = match self.open(lease, pump)? {
            Ok(attempt) => attempt,
            Err(outcome) => return Ok(outcome),
        };
        let (cluster, timer) = (self.cluster, &mut self.timer);
        let ended = poll_fn(|cx| attempt.poll(cluster, timer, cx)).await;
        self.trail.note(match &ended {
            Ok(outcome) => Some(&outcome.pump),
            Err(_) => attempt.pump(),
        });
        ended
    }

    /// Opens a stream for the call.
    ///
    /// # Errors
    /// The deadline has passed.
    pub(super) fn open(&mut self, lease: Lease, mut pump: Box<Pump>) -> Result<Result<Attempt, Outcome>, Error> {
        let mut request = head(&self.path, lease.endpoint(), &self.headers, self.timer.left()?);
        retry::tell(request.headers_mut(), self.seen);
        self.seen += 1;
        let (reply, stream) = match lease.send(request, false) {
            Ok(opened) => opened,
            Err(error) => {
                let error = broken(self.cluster.name(), &error, &self.timer);
                return Ok(Err(Outcome { reply: Err(error), fault: Some(Fault::Unseen), pump }));
            }
        };
        self.trail.attempts += 1;
        self.trail.endpoint = Some(Arc::clone(lease.endpoint().address()));
        pump.attach(stream);
        Ok(Ok(Attempt::new(Unanswered::new(reply, pump, lease), &self.rules, self.done)))
    }

    /// Whether the call is to be sent once more; if so, the request is as it was.
    fn again(&mut self, fault: Fault, pump: &mut Pump) -> Option<Again> {
        if matches!(fault, Fault::Unseen | Fault::Refused) {
            self.seen = self.seen.saturating_sub(1);
        }
        let next = self.rules.next(fault, self.done, fastrand::f64());
        let wait = match next {
            Next::Stop => return None,
            Next::Resend { .. } => None,
            Next::Retry(wait) => Some(wait),
        };
        let too_late = |wait: Duration| self.timer.left().is_ok_and(|left| left.is_some_and(|left| left <= wait));
        if wait.is_some_and(too_late) || !pump.rewind() {
            return None;
        }
        let shares = self.cluster.shares();
        let want = match next {
            Next::Resend { refused: false } | Next::Stop => None,
            Next::Resend { refused: true } => Some(Want::Refused),
            Next::Retry(_) => Some(Want::Policy),
        };
        let further = match want {
            Some(want) => Some(shares.further(want)?),
            None => None,
        };
        match wait {
            None => self.done.unseen += 1,
            Some(_) => self.done.retries += 1,
        }
        shares.metrics().retries.add(1);
        Some(Again { wait, further })
    }
}

/// The end of an attempt that found no place.
pub(super) fn no_place(unreachable: &Unreachable, pump: Box<Pump>) -> Outcome {
    let (reason, fault) = match unreachable.bound() {
        Some(_) => (Reason::UpstreamOverloaded, None),
        None => (Reason::UpstreamUnreachable, Some(Fault::status(Code::Unavailable.number(), &HeaderMap::new()))),
    };
    let mut error = Error::new(reason, unreachable.to_string()).with_retry_after(RETRY_AFTER);
    if let Some(note) = unreachable.note() {
        error = error.with_note(note);
    }
    Outcome { reply: Err(error), fault, pump }
}

/// After which it is worth asking again when there is no place for a call.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Waits for `future` for as long as the call may take.
pub(super) async fn within<T>(timer: &mut Timer, future: impl Future<Output = T>) -> Result<T, Error> {
    let mut future = std::pin::pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Ok(value)),
        Poll::Pending => timer.poll(cx).map(Err),
    })
    .await
}

fn head(path: &PathAndQuery, endpoint: &Endpoint, headers: &HeaderMap, left: Option<Duration>) -> Request<()> {
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(endpoint.scheme());
    uri.authority = Some(endpoint.authority().clone());
    uri.path_and_query = Some(path.clone());
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = Uri::from_parts(uri).expect("scheme, authority and path make a URI");
    *request.headers_mut() = headers.clone();
    if let Some(left) = left {
        request.headers_mut().insert(grpc::TIMEOUT, timeout::grpc_value(left));
    }
    request
}

/// What the end of a stream means for another attempt, if the peer promised that no application saw the call:
/// RFC 9113 §8.7.
pub(super) fn fault_of(error: &h2::Error) -> Option<Fault> {
    match error {
        error if !error.is_remote() => None,
        error if error.is_go_away() => Some(Fault::Unseen),
        error => (error.reason() == Some(H2Reason::REFUSED_STREAM)).then_some(Fault::Refused),
    }
}

/// What a status means for another attempt; nothing when it is OK.
pub(super) fn status_fault(trailers: &HeaderMap) -> Option<Fault> {
    let number = trailers.get(grpc::STATUS).and_then(status::parse_status).unwrap_or_else(|| Code::Internal.number());
    (number != Code::Ok.number()).then(|| Fault::status(number, trailers))
}

/// The error for a call that the upstream's connection or stream failed.
pub(crate) fn broken(upstream: &str, error: &h2::Error, timer: &Timer) -> Error {
    // What the system says of a connection, and what the peer says as it goes, is for operators.
    let broken = error.to_string();
    // How a reset translates: PROTOCOL-HTTP2 "Errors". What is not listed there is a broken connection.
    // A stream that is reset by HTTP/2 itself has broken its rules, or our limits.
    let reset = error.reason().filter(|_| error.is_reset() && (error.is_remote() || error.is_library()));
    let how = reset.map(|reason| format!(": {reason}")).unwrap_or_default();
    let text = format!("upstream {upstream} broke off the call{how}");
    let error = match reset {
        Some(H2Reason::CANCEL) => timer.unless_exceeded(Error::upstream_code(Code::Cancelled, text)),
        Some(H2Reason::ENHANCE_YOUR_CALM) => Error::upstream_code(Code::ResourceExhausted, text),
        Some(H2Reason::INADEQUATE_SECURITY) => Error::upstream_code(Code::PermissionDenied, text),
        Some(H2Reason::REFUSED_STREAM) | None => Error::new(Reason::UpstreamReset, text),
        Some(_) => Error::upstream_code(Code::Internal, text),
    };
    error.with_note(broken)
}

/// Whether the head of a reply, as far as it says, is none of a server that failed.
pub(super) fn is_fine(reply: &Response<h2::RecvStream>) -> bool {
    let number = reply.headers().get(grpc::STATUS).and_then(status::parse_status);
    reply.status() == StatusCode::OK && !FAILURES.iter().any(|code| Some(code.number()) == number)
}

/// Codes by which servers fail, not callers.
const FAILURES: [Code; 6] =
    [Code::Unknown, Code::DeadlineExceeded, Code::ResourceExhausted, Code::Internal, Code::Unavailable, Code::DataLoss];

/// Refuses a reply that is not gRPC.
pub(super) fn check(upstream: &str, head: &response::Parts) -> Result<(), Error> {
    let status = head.status;
    let content_type = head.headers.get(CONTENT_TYPE);
    let is_grpc = content_type.is_some_and(|value| super::protocol::is_grpc(value.as_bytes()));
    // A reply of trailers only says everything in its status, whatever else it says.
    if is_grpc && status == StatusCode::OK || head.headers.contains_key(grpc::STATUS) {
        return Ok(());
    }
    let code = match status {
        StatusCode::OK => Code::Internal,
        status => Code::from_http(status),
    };
    let kind = content_type.map_or_else(|| "no content type".to_owned(), |value| format!("content type {value:?}"));
    Err(Error::upstream_code(
        code,
        format!("upstream {upstream} answered HTTP {} with {kind} instead of a gRPC reply", status.as_u16()),
    ))
}

/// Whether the head says how the call ended, so that nothing that follows it matters.
pub(crate) fn is_trailers_only(head: &response::Parts, body: &UpstreamBody) -> bool {
    body.is_end_stream() || head.headers.contains_key(grpc::STATUS)
}

/// The status that trailers carry, as an error unless it is OK.
pub(crate) fn trailers_status(upstream: &str, trailers: &HeaderMap, timer: &Timer) -> Result<(), Error> {
    let Some(value) = trailers.get(grpc::STATUS) else {
        return Err(Error::new(
            Reason::UpstreamProtocol,
            format!("upstream {upstream} ended its reply without a grpc-status"),
        ));
    };
    let number = status::parse_status(value).ok_or_else(|| {
        Error::new(
            Reason::UpstreamProtocol,
            format!("upstream {upstream} ended its reply with the unreadable grpc-status {value:?}"),
        )
    })?;
    if number == 0 {
        return Ok(());
    }
    let message = trailers.get(grpc::MESSAGE).map(status::decode_message).unwrap_or_default();
    let details = trailers.get(grpc::DETAILS).and_then(|value| status::decode_binary(value.as_bytes()));
    let error = Error::upstream_status(number, message, details.map(Into::into), trailers.clone());
    Err(timer.unless_exceeded(error))
}
