//! Sends a call to its upstream: picks an endpoint, sends head and body, waits for the head of the reply.
//!
//! A call that provably never reached the application (no connection, a refused stream, a GOAWAY that does not cover
//! it) is sent again, elsewhere where there is an elsewhere. Nothing else is ever repeated here.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use h2::{Reason as H2Reason, RecvStream};
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, StatusCode, Uri, Version, response};

use super::pump::{Pump, Source};
use super::timer::Timer;
use super::unanswered::Unanswered;
use crate::error::{Error, Reason};
use crate::grpc;
use crate::grpc::status::{self, Code};
use crate::grpc::timeout;
use crate::upstream::{Cluster, Endpoint, Lease, Pick};

/// Attempts of one call, the first included.
const ATTEMPTS: u32 = 3;

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
    pub(crate) body: RecvStream,
    pub(crate) pump: Pump,
    pub(crate) timer: Timer,
    pub(crate) lease: Lease,
}

/// What is known of the sending, also when it failed.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    pub(crate) endpoint: Option<Arc<str>>,
    pub(crate) attempts: u32,
    pub(crate) request_bytes: u64,
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
    mut pick: Pick,
    mut timer: Timer,
    trail: &mut Trail,
) -> Result<Incoming, Error> {
    let Outgoing { path, headers, body } = outgoing;
    let mut pump = Pump::new(body);
    let mut attempts = 0..ATTEMPTS;
    loop {
        attempts.next();
        let lease = within(&mut timer, cluster.acquire(&mut pick))
            .await?
            .map_err(|unreachable| Error::new(Reason::UpstreamUnreachable, unreachable.to_string()))?;
        let request = head(&path, lease.endpoint(), &headers, timer.left()?);
        let (reply, stream) = match lease.send(request, false) {
            Ok(opened) => opened,
            Err(_) if !attempts.is_empty() => continue,
            Err(error) => return Err(broken(cluster.name(), &error, &timer)),
        };
        trail.attempts += 1;
        trail.endpoint = Some(Arc::clone(lease.endpoint().address()));
        pump.attach(stream);
        let mut opened = Unanswered::new(reply, pump, lease);
        let answer = poll_fn(|cx| opened.poll(&mut timer, cx)).await;
        trail.request_bytes = opened.pump().bytes().unwrap_or(trail.request_bytes);
        let answer = answer?;
        let lease;
        (pump, lease) = opened.answered();
        match answer {
            Ok(answer) => {
                let (head, body) = answer.into_parts();
                check(cluster.name(), &head)?;
                cluster.learn(&head.headers);
                pump.arrived();
                return Ok(Incoming { head, body, pump, timer, lease });
            }
            Err(error) => {
                if error.is_go_away() {
                    lease.retire();
                }
                if attempts.is_empty() || !never_arrived(&error) || !pump.rewind() {
                    return Err(broken(cluster.name(), &error, &timer));
                }
            }
        }
    }
}

/// Waits for `future` for as long as the call may take.
async fn within<T>(timer: &mut Timer, future: impl Future<Output = T>) -> Result<T, Error> {
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

/// Whether the peer promised that no application saw the call: RFC 9113 §8.7.
fn never_arrived(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(H2Reason::REFUSED_STREAM))
}

/// The error for a call that the upstream's connection or stream failed.
pub(crate) fn broken(upstream: &str, error: &h2::Error, timer: &Timer) -> Error {
    let text = format!("upstream {upstream} broke off the call: {error}");
    // How a reset translates: PROTOCOL-HTTP2 "Errors". What is not listed there is a broken connection.
    match error.reason().filter(|_| error.is_reset() && error.is_remote()) {
        Some(H2Reason::CANCEL) => timer.unless_exceeded(Error::upstream_code(Code::Cancelled, text)),
        Some(H2Reason::ENHANCE_YOUR_CALM) => Error::upstream_code(Code::ResourceExhausted, text),
        Some(H2Reason::INADEQUATE_SECURITY) => Error::upstream_code(Code::PermissionDenied, text),
        Some(H2Reason::REFUSED_STREAM) | None => Error::new(Reason::UpstreamReset, text),
        Some(_) => Error::upstream_code(Code::Internal, text),
    }
}

/// Refuses a reply that is not gRPC.
fn check(upstream: &str, head: &response::Parts) -> Result<(), Error> {
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
pub(crate) fn is_trailers_only(head: &response::Parts, body: &RecvStream) -> bool {
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
