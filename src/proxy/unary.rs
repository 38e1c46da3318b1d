//! What unary calls of REST and Connect have in common: a body that is read whole, and a reply of one message.

use std::future::poll_fn;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;

use super::call::Call;
use super::exchange::{reply_frame_error, several_replies, too_slow};
use super::forward::{self, Incoming};
use super::pump::Pump;
use super::room::Arrival;
use super::timer::Timer;
use super::upstream_body::UpstreamBody;
use crate::body::RequestBody;
use crate::error::{Error, Reason};
use crate::grpc::messages::{Message, Messages};

/// Reads a body up to its limit.
///
/// # Errors
/// It is longer, the client left, or the time is over.
pub(super) async fn collect(
    headers: &HeaderMap,
    body: &mut RequestBody,
    limit: usize,
    timer: &mut Timer,
) -> Result<Bytes, Error> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let next = poll_fn(|cx| match body.poll_data(cx) {
            Poll::Ready(next) => Poll::Ready(Ok(next)),
            Poll::Pending => timer.poll(cx).map(Err),
        });
        let data = match next.await? {
            None => break,
            Some(Ok(data)) => data,
            Some(Err(broken)) => return Err(broken.into()),
        };
        body.release(data.len());
        if first.len() + rest.len() + data.len() > limit {
            return Err(too_large(limit));
        }
        // Most bodies come in one piece, which is then used as it is.
        if first.is_empty() && rest.is_empty() {
            first = data;
            continue;
        }
        if rest.is_empty() {
            rest.reserve(announced.and_then(|length| usize::try_from(length).ok()).unwrap_or(first.len() + data.len()));
            rest.extend_from_slice(&std::mem::take(&mut first));
        }
        rest.extend_from_slice(&data);
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// A request message over its limit.
pub(super) fn too_large(limit: usize) -> Error {
    Error::new(Reason::RequestTooLarge, format!("request message exceeds the limit of {limit} bytes"))
}

/// The whole of a reply to a unary call.
pub(super) struct One {
    pub(super) initial: HeaderMap,
    pub(super) message: Message,
    pub(super) trailers: HeaderMap,
}

/// Waits for the reply to a unary call.
///
/// # Errors
/// Its status is not OK, or it is not one message.
pub(super) async fn receive_one(call: &mut Call, incoming: Incoming) -> Result<One, Error> {
    let Incoming { head, mut body, mut pump, mut timer } = incoming;
    if forward::is_trailers_only(&head, &body) {
        call.trail.answered();
        forward::trailers_status(call.upstream_name(), &head.headers, &timer)?;
        return Err(no_message(call.upstream_name()));
    }
    let upstream = call.upstream_name();
    let limit = call.settings().max_response_message;
    let mut arrival = Arrival::of(call);
    let read = read_one(upstream, limit, &mut body, &mut pump, &mut timer, &mut arrival).await;
    let Arrival { since, place, .. } = arrival;
    call.trail.note(Some(&pump));
    call.place = place;
    let (message, trailers) = match since {
        None => read?,
        Some(since) => {
            // The client let it wait, which says nothing of its service.
            call.trail.answered_at(since);
            read.map_err(|error| if error.reason() == Reason::DeadlineExceeded { too_slow() } else { error })?
        }
    };
    call.trail.answered();
    drop(body);
    call.replied();
    let upstream = call.upstream_name();
    forward::trailers_status(upstream, &trailers, &timer)
        .map_err(|error| error.with_initial_metadata(&head.headers))?;
    let message = message?.ok_or_else(|| no_message(upstream))?;
    Ok(One { initial: head.headers, message, trailers })
}

/// Reads a reply to its end, while what is left of the request goes out. Whether its message is whole counts only when its
/// trailers say OK.
///
/// # Errors
/// It broke off, has several messages, took too long, or found too many that wait for room.
pub(super) async fn read_one(
    upstream: &str,
    limit: usize,
    body: &mut UpstreamBody,
    pump: &mut Pump,
    timer: &mut Timer,
    arrival: &mut Arrival<'_>,
) -> Result<(Result<Option<Message>, Error>, HeaderMap), Error> {
    let mut messages = Messages::new(limit);
    let mut only = None::<Message>;
    let trailers = poll_fn(|cx| {
        // A reply may begin before the whole request was sent.
        if let Poll::Ready(Err(error)) = pump.poll_touching(timer, cx) {
            return Poll::Ready(Err(error));
        }
        loop {
            let next = body.poll_data(cx);
            let is_over = next.is_ready();
            match next {
                Poll::Ready(Some(Ok(data))) => {
                    let bytes = data.len();
                    messages.push(data);
                    while let Some(message) = messages.take().map_err(reply_frame_error)? {
                        if only.replace(message).is_some() {
                            return Poll::Ready(Err(several_replies(upstream)));
                        }
                    }
                    let length = only.as_ref().map_or_else(|| messages.begun(), |message| message.bytes.len());
                    arrival.read(bytes, length, body)?;
                    continue;
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(forward::broken(upstream, &error, timer))),
                Poll::Ready(None) | Poll::Pending => {}
            }
            if arrival.poll(body, cx).is_pending() || !is_over {
                return timer.poll(cx).map(Err);
            }
            return match body.poll_trailers(cx) {
                Poll::Ready(Ok(trailers)) => Poll::Ready(Ok(trailers.unwrap_or_default())),
                Poll::Ready(Err(error)) => Poll::Ready(Err(forward::broken(upstream, &error, timer))),
                Poll::Pending => timer.poll(cx).map(Err),
            };
        }
    });
    let trailers = trailers.await?;
    Ok((messages.finish().map(|()| only).map_err(reply_frame_error), trailers))
}

/// A good end of a unary call without its reply.
pub(super) fn no_message(upstream: &str) -> Error {
    Error::new(Reason::UpstreamProtocol, format!("upstream {upstream} answered OK without a reply message"))
}
