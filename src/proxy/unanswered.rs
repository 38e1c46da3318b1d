//! A stream whose reply has not begun.
//!
//! A server that finds a stream opened and reset in one read takes it for an attack (rapid reset) and, after some of
//! them, closes the connection with everybody's calls on it. Clients that leave early must not do that to the others: a
//! stream that is given up unanswered lives on until its server had [`SETTLE`] to take it. Who gave it up does not wait.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::client::ResponseFuture;
use tokio::time::{Instant, sleep_until};

use super::pump::Pump;
use super::timer::Timer;
use crate::error::Error;
use crate::runtime;
use crate::upstream::Lease;

/// How long a stream lives at least, unless it is answered.
const SETTLE: Duration = Duration::from_millis(50);

/// An open stream. Dropping it resets the stream, not before [`SETTLE`] has passed.
#[derive(Debug)]
pub(super) struct Unanswered {
    /// Gone when the stream was answered.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    reply: ResponseFuture,
    pump: Box<Pump>,
    lease: Lease,
}

impl Unanswered {
    pub(super) fn new(reply: ResponseFuture, pump: Box<Pump>, lease: Lease) -> Self {
        Self { open: Some(Open { reply, pump, lease }) }
    }

    /// Moves the request until the reply begins, or the stream ends without one.
    pub(super) fn poll(
        &mut self,
        timer: &mut Timer,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Result<http::Response<h2::RecvStream>, h2::Error>, Error>> {
        let open = self.open();
        if let Poll::Ready(Err(error)) = open.pump.poll_touching(timer, cx) {
            return Poll::Ready(Err(error));
        }
        if let Poll::Ready(answer) = Pin::new(&mut open.reply).poll(cx) {
            return Poll::Ready(Ok(answer));
        }
        timer.poll(cx).map(Err)
    }

    pub(super) fn pump(&self) -> &Pump {
        &self.open.as_ref().expect("taken only with the whole").pump
    }

    /// Gives the stream up; what is left of the request can be sent elsewhere.
    pub(super) fn abandon(mut self) -> Box<Pump> {
        let open = self.open();
        open.lease.broke();
        open.pump.detach()
    }

    /// What goes on living when the stream was answered, or its server ended it. `fine`: not by a failure of the server.
    pub(super) fn answered(mut self, fine: bool) -> (Box<Pump>, Lease) {
        let Open { pump, lease, .. } = self.open.take().expect("taken here only");
        lease.answered(fine);
        (pump, lease)
    }

    fn open(&mut self) -> &mut Open {
        self.open.as_mut().expect("taken only with the whole")
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        // Only the stream lives on. The client's body, or what was made of it, is nobody's any more.
        open.pump.give_up();
        open.lease.gave_up();
        let settled = open.lease.since() + SETTLE;
        if Instant::now() < settled {
            runtime::spawn("given-up stream", async move {
                let _open = open;
                sleep_until(settled).await;
            });
        }
    }
}
