//! One lazy timer per connection.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{self, Instant, Sleep};

/// One timer for a deadline that mostly moves away from now.
///
/// The timer under it is set again only when it fires or when the deadline comes nearer, so that a connection which
/// moves its idle deadline at each request does not touch the timer wheel.
#[derive(Debug)]
pub(super) struct Alarm {
    sleep: Pin<Box<Sleep>>,
}

impl Alarm {
    pub(super) fn new(deadline: Instant) -> Self {
        Self { sleep: Box::pin(time::sleep_until(deadline)) }
    }

    /// Ready once the deadline has passed; the task is woken then.
    pub(super) fn poll_due(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if deadline < self.sleep.deadline() {
            self.sleep.as_mut().reset(deadline);
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            if self.sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}
