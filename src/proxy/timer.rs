//! A call's clock: its deadline, and how long a stream may stand still.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::{Error, Reason};
use crate::grpc::status::Code;

/// Fires when the call has to end.
#[derive(Debug)]
pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
    started: Instant,
    deadline: Option<Instant>,
    idle: Option<Duration>,
    moved: Instant,
}

impl Timer {
    /// A clock that starts at `started`. Unary calls have a deadline, streams an idle bound and perhaps a deadline.
    pub(crate) fn new(started: Instant, deadline: Option<Instant>, idle: Option<Duration>) -> Self {
        // Neither bound: a day is as good as never, and the check below then starts over.
        let first = [deadline, idle.map(|idle| started + idle)].into_iter().flatten().min();
        let sleep = Box::pin(sleep_until(first.unwrap_or(started + Duration::from_secs(86_400))));
        Self { sleep, started, deadline, idle, moved: started }
    }

    /// When the call must be over.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The time until the call must be over, if there is such a time.
    ///
    /// # Errors
    /// It has passed.
    pub(crate) fn left(&self) -> Result<Option<Duration>, Error> {
        let Some(deadline) = self.deadline else { return Ok(None) };
        let now = Instant::now();
        self.exceeded(now).map_or_else(|| Ok(Some(deadline - now)), Err)
    }

    /// A message moved: the stream is not idle.
    pub(crate) fn touch(&mut self) {
        if self.idle.is_some() {
            self.moved = Instant::now();
        }
    }

    /// From here on the stream may stand still.
    pub(crate) fn allow_idleness(&mut self) {
        self.idle = None;
    }

    /// The same error, unless the upstream cancelled the call because of its deadline: it was told that as well, and may
    /// be the first to notice.
    pub(crate) fn unless_exceeded(&self, error: Error) -> Error {
        let cancelled = error.number() == Code::Cancelled.number();
        cancelled.then(|| self.exceeded(Instant::now())).flatten().unwrap_or(error)
    }

    fn exceeded(&self, now: Instant) -> Option<Error> {
        let given = self.deadline.filter(|deadline| *deadline <= now)? - self.started;
        let message = format!("the deadline of {given:?} passed before the call was complete");
        Some(Error::new(Reason::DeadlineExceeded, message))
    }

    /// Ready when the call has to end, with the reason.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        while self.sleep.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if let Some(error) = self.exceeded(now) {
                return Poll::Ready(error);
            }
            if let Some(idle) = self.idle.filter(|idle| self.moved + *idle <= now) {
                return Poll::Ready(Error::new(
                    Reason::StreamIdle,
                    format!("no message passed in either direction for {idle:?}"),
                ));
            }
            let idle = self.idle.map(|idle| self.moved + idle);
            let next = [self.deadline, idle].into_iter().flatten().min();
            self.sleep.as_mut().reset(next.unwrap_or(now + Duration::from_secs(86_400)));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn deadline_fires_once_it_has_passed() {
        let started = Instant::now();
        let mut timer = Timer::new(started, Some(started + Duration::from_secs(2)), None);

        let error = poll_fn(|cx| timer.poll(cx)).await;

        assert_eq!(error.reason(), Reason::DeadlineExceeded);
        assert_eq!(started.elapsed().as_secs(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancellation_after_the_deadline_is_the_deadline() {
        let started = Instant::now();
        let timer = Timer::new(started, Some(started + Duration::from_secs(2)), None);
        let cancelled = || Error::upstream_code(Code::Cancelled, String::new());

        let before = timer.unless_exceeded(cancelled());
        tokio::time::advance(Duration::from_secs(2)).await;

        assert_eq!(before.number(), 1);
        assert_eq!(timer.unless_exceeded(cancelled()).number(), 4);
        assert_eq!(timer.unless_exceeded(Error::upstream_code(Code::Aborted, String::new())).number(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn messages_keep_a_stream_alive() {
        let started = Instant::now();
        let mut timer = Timer::new(started, None, Some(Duration::from_secs(10)));
        tokio::time::advance(Duration::from_secs(8)).await;
        timer.touch();

        let error = poll_fn(|cx| timer.poll(cx)).await;

        assert_eq!(error.reason(), Reason::StreamIdle);
        assert_eq!(started.elapsed().as_secs(), 18);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_may_stand_still_ends_by_its_deadline_alone() {
        let started = Instant::now();
        let mut timer = Timer::new(started, Some(started + Duration::from_secs(30)), Some(Duration::from_secs(10)));
        timer.allow_idleness();

        let error = poll_fn(|cx| timer.poll(cx)).await;

        assert_eq!(error.reason(), Reason::DeadlineExceeded);
    }
}
