//! Questions that the gateway asks on its own account before a call may pass, such as those to an external authorizer.
//!
//! A question is one unary gRPC call over the worker's own connections to a configured upstream. It is made by
//! [`forward::send`], as calls are: the same endpoints, deadlines and second attempts. What an answer means, and what
//! becomes of the call when there is none, is for those who ask.
//!
//! **Invariant**: a question ends by its time, and no answer of more than [`MAX_ANSWER`] is kept.

pub(super) mod authorizer;
pub(in crate::proxy) mod rate_limit;
pub(in crate::proxy) mod redis;
pub(in crate::proxy) mod stores;

use std::rc::Rc;

use bytes::{BufMut as _, Bytes};
use http::header::{CONTENT_TYPE, TE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue};
use prost::Message;
use tokio::time::Instant;

use super::call::Call;
use super::forward::{self, Incoming, Outgoing, Trail};
use super::pump::Source;
use super::room::Arrival;
use super::timer::Timer;
use super::{negotiate, unary};
use crate::error::{Error, Reason};
use crate::grpc::frame;
use crate::telemetry::trace::{RequestId, TraceParent};
use crate::upstream::{Cluster, Pick};

/// Bytes of an answer; those that are expected here have a few hundred.
const MAX_ANSWER: usize = 1 << 20;

/// Asks for `call`, whose identifiers go along, and waits for the answer until that time.
///
/// # Errors
/// What kept the answer away: no endpoint was reached, the time is over, the status is not OK, or the answer is not a
/// message of that type.
///
/// # Cancel safety
/// Dropping the future resets the stream.
pub(crate) async fn unary<A: Message + Default>(
    call: &Call,
    cluster: &Cluster,
    path: &'static str,
    question: &impl Message,
    until: Instant,
) -> Result<A, Error> {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(RequestId::HEADER, call.request_id.value().clone());
    headers.insert(TraceParent::HEADER, call.traceparent.value().clone());
    let mut message = frame::open(question.encoded_len());
    message.put_slice(&question.encode_to_vec());
    let frame = frame::close(message, 0, usize::MAX).unwrap_or_default();
    let outgoing = Outgoing { path: PathAndQuery::from_static(path), headers, body: Source::Frame(frame) };
    let timer = Timer::new(Instant::now(), Some(until), None);
    let incoming =
        forward::send(cluster, outgoing, Pick::default(), timer, Rc::default(), &mut Trail::default()).await?;
    let answer = answer(cluster.name(), incoming).await?;
    A::decode(answer).map_err(|error| {
        Error::new(Reason::UpstreamMessage, format!("the answer of upstream {} is unreadable: {error}", cluster.name()))
    })
}

/// The one message of the answer, once its status is known to be OK.
async fn answer(upstream: &str, incoming: Incoming) -> Result<Bytes, Error> {
    let Incoming { head, mut body, mut pump, mut timer } = incoming;
    if forward::is_trailers_only(&head, &body) {
        forward::trailers_status(upstream, &head.headers, &timer)?;
        return Err(unary::no_message(upstream));
    }
    let mut arrival = Arrival::free();
    let read = unary::read_one(upstream, MAX_ANSWER, &mut body, &mut pump, &mut timer, &mut arrival);
    let (message, trailers) = read.await?;
    forward::trailers_status(upstream, &trailers, &timer)?;
    let message = message?.ok_or_else(|| unary::no_message(upstream))?;
    negotiate::plain(upstream, negotiate::sent(&head.headers), &message, MAX_ANSWER)
}

/// All that is known of what kept an answer away: for the log, callers hear none of it.
fn words(error: &Error) -> String {
    let message = error.message();
    error.note().map_or_else(|| message.to_owned(), |note| format!("{message}: {note}"))
}
