//! Sends a call of an idempotent method to another endpoint beside the first when that one does not answer in time, and takes
//! the first answer that is one (<https://github.com/grpc/proposal/blob/master/A6-client-retries.md#hedging-policy>).
//!
//! Further attempts come out of the upstream's budget like retries, so that an upstream which is slow as a whole does not get
//! slower by them. Attempts that are not needed any more are reset.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep};

use super::attempt::{Attempt, Outcome};
use super::forward::{self, Sender};
use super::pump::Pump;
use crate::config::retry::Hedge;
use crate::error::Error;
use crate::upstream::{Cluster, Further, Lease, Pick, Unreachable, Want};

/// A place that is waited for, for a further attempt.
type Placing<'a> = Pin<Box<dyn Future<Output = (Pick, Result<Lease, Unreachable>)> + 'a>>;

/// What happened next.
enum Event {
    /// Of the attempt at that place in the list.
    Ended(usize, Box<Outcome>),
    /// A further attempt has a place, or has none.
    Placed(Pick, Result<Lease, Unreachable>),
    /// It is time for a further attempt.
    Due,
}

/// The attempts of one call.
struct Race<'a> {
    cluster: &'a Cluster,
    running: Vec<Attempt>,
    placing: Option<Placing<'a>>,
    due: Pin<Box<Sleep>>,
    /// Attempts that may still be begun.
    left: u32,
    /// What lets them be under way.
    further: Vec<Further>,
    /// Of an attempt that ended although another may still succeed.
    ended: Option<Outcome>,
}

impl Sender<'_> {
    /// Sends the call once, and again beside that.
    ///
    /// # Errors
    /// The call is over, whatever could be tried.
    pub(super) async fn hedged(&mut self, pump: Box<Pump>, hedge: &Hedge) -> Result<Outcome, Error> {
        let lease = match forward::within(&mut self.timer, self.cluster.acquire(&mut self.pick)).await? {
            Ok(lease) => lease,
            Err(unreachable) => return Ok(forward::no_place(&unreachable, pump)),
        };
        let first = match self.open(lease, pump)? {
            Ok(attempt) => attempt,
            Err(outcome) => return Ok(outcome),
        };
        let mut race = Race {
            cluster: self.cluster,
            running: vec![first],
            placing: None,
            due: Box::pin(sleep(hedge.delay)),
            left: hedge.attempts - 1,
            further: Vec::new(),
            ended: None,
        };
        loop {
            let event = poll_fn(|cx| race.poll(&mut self.timer, cx)).await;
            let bytes = race.running.iter().filter_map(|attempt| attempt.pump()?.bytes()).max();
            self.trail.request_bytes = bytes.unwrap_or_default().max(self.trail.request_bytes);
            self.trail.sent = race.running.iter().find_map(|attempt| attempt.pump()?.sent());
            match event? {
                Event::Due => race.place(self.pick.clone()),
                Event::Placed(pick, lease) => {
                    self.pick = pick;
                    if let (Ok(lease), Some(source)) = (lease, race.request()) {
                        self.cluster.shares().metrics().hedges.add(1);
                        let pump = Pump::new(source, self.rules.buffer());
                        match self.open(lease, pump)? {
                            Ok(attempt) => race.running.push(attempt),
                            Err(outcome) => race.ended = race.ended.or(Some(outcome)),
                        }
                    }
                    race.due.as_mut().reset(Instant::now() + hedge.delay);
                }
                Event::Ended(index, outcome) => {
                    drop(race.running.remove(index));
                    let is_over = outcome.fault.is_none_or(|fault| fault.is_fatal(hedge));
                    if is_over {
                        self.trail.sent = outcome.pump.sent();
                        if let Ok((_, body)) = &outcome.reply {
                            self.trail.endpoint = Some(Arc::clone(body.lease.endpoint().address()));
                        }
                        return Ok(*outcome);
                    }
                    race.ended = Some(*outcome);
                    // Who failed does not have to be waited for.
                    race.due.as_mut().reset(Instant::now());
                }
            }
            if let Some(outcome) =
                race.ended.take_if(|_| race.running.is_empty() && race.placing.is_none() && race.left == 0)
            {
                return Ok(outcome);
            }
        }
    }
}

impl<'a> Race<'a> {
    fn poll(&mut self, timer: &mut super::timer::Timer, cx: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        for (index, attempt) in self.running.iter_mut().enumerate() {
            if let Poll::Ready(ended) = attempt.poll(self.cluster, timer, cx) {
                return Poll::Ready(ended.map(|outcome| Event::Ended(index, Box::new(outcome))));
            }
        }
        if let Some(placing) = &mut self.placing
            && let Poll::Ready((pick, lease)) = placing.as_mut().poll(cx)
        {
            self.placing = None;
            return Poll::Ready(Ok(Event::Placed(pick, lease)));
        }
        if self.placing.is_none() && self.left > 0 && self.due.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(Event::Due));
        }
        timer.poll(cx).map(Err)
    }

    /// Looks for a place for a further attempt, if there may be one and the request is there to be sent.
    fn place(&mut self, pick: Pick) {
        self.left -= 1;
        if self.request().is_none() {
            self.left = 0;
            return;
        }
        let Some(further) = self.cluster.shares().further(Want::Policy) else {
            self.left = 0;
            return;
        };
        self.further.push(further);
        let (cluster, mut pick) = (self.cluster, pick);
        self.placing = Some(Box::pin(async move {
            let lease = cluster.acquire(&mut pick).await;
            (pick, lease)
        }));
    }

    /// The request once more.
    fn request(&self) -> Option<super::pump::Source> {
        self.running.iter().find_map(Attempt::request).or_else(|| self.ended.as_ref()?.pump.whole())
    }
}
