//! Calls that wait because every endpoint has as many as its connections take.
//!
//! A call stands in line at one endpoint, whose bounds it counts against, and watches the others: whichever has room first takes
//! it. **Invariant**: who is told of room and does not use it leaves that to the next one in line.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use smallvec::SmallVec;
use tokio::time::{Instant, timeout_at};

use super::connection::Lease;
use super::endpoint::{Endpoint, Look, Unreachable, Waiting};
use super::quota::Permit;

/// Endpoints that one call watches. Among more that are all full, it makes little difference where a call waits.
const MOST: usize = 16;

/// A call in line.
struct Place {
    request: Permit,
    waiting: Waiting,
}

/// A place on the first of the endpoints that has one. `None` when none will, for reasons of which the last one is noted.
pub(super) async fn first_free<'e>(
    mut endpoints: impl Iterator<Item = &'e Rc<Endpoint>>,
    failure: &mut Option<Unreachable>,
) -> Option<(&'e Rc<Endpoint>, Lease)> {
    let mut left: SmallVec<[&Rc<Endpoint>; 4]> = endpoints.by_ref().take(MOST).collect();
    let mut place: Option<Place> = None;
    loop {
        let mut changes: SmallVec<[_; 4]> = left.iter().map(|endpoint| Box::pin(endpoint.changed())).collect();
        let mut due: Option<Instant> = None;
        let mut index = 0;
        while let Some(&endpoint) = left.get(index) {
            let looked = match endpoint.look() {
                Ok(Look::Room(connection)) => {
                    let own = place.take_if(|place| place.waiting.is_at(endpoint)).map(|place| Ok(place.request));
                    match own.unwrap_or_else(|| endpoint.take_request()) {
                        Ok(permit) => return Some((endpoint, Lease::new(connection, Rc::clone(endpoint), permit))),
                        Err(error) => {
                            endpoint.stream_ended();
                            Err(error)
                        }
                    }
                }
                Ok(Look::Full { until }) => {
                    due = due.into_iter().chain(until).min();
                    Ok(())
                }
                Ok(Look::Dialing) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = looked {
                *failure = Some(error);
                drop(place.take_if(|place| place.waiting.is_at(endpoint)));
                left.remove(index);
                drop(changes.remove(index));
                // One that is down keeps nobody from those behind it.
                if let Some(next) = endpoints.next() {
                    left.push(next);
                    changes.push(Box::pin(next.changed()));
                }
                continue;
            }
            index += 1;
        }
        if place.is_none() {
            place = stand(&left, failure);
            if place.is_none() {
                left = endpoints.by_ref().take(MOST).collect();
                if left.is_empty() {
                    return None;
                }
                continue;
            }
        }
        let changed = poll_fn(|cx| {
            let index = changes.iter_mut().position(|change| change.as_mut().poll(cx).is_ready());
            index.map_or(Poll::Pending, Poll::Ready)
        });
        let index = match due {
            Some(due) => timeout_at(due, changed).await.ok(),
            None => Some(changed.await),
        };
        // Who was told of room looks there first, for nobody else was.
        if let Some(told) = index.and_then(|index| left.get_mut(..=index)) {
            told.rotate_right(1);
        }
    }
}

/// Stands in line at the first endpoint that lets one more call wait.
fn stand(endpoints: &[&Rc<Endpoint>], failure: &mut Option<Unreachable>) -> Option<Place> {
    let mut at = |endpoint: &&Rc<Endpoint>| {
        let place = endpoint.take_request().and_then(|request| Ok(Place { request, waiting: endpoint.wait()? }));
        place.map_err(|error| *failure = Some(error)).ok()
    };
    endpoints.iter().find_map(&mut at)
}
