//! One sending of a call: from the head of its request to a reply that is worth passing on, or what went wrong.
//!
//! ```text
//!            head                      first message, or a status
//!   Waiting ──────▶ Reading ahead ──────────────────────────────▶ done
//!      │ no head        (only of methods that may be sent again)
//!      └──────────────────────────────────────────────────────────▶ done
//! ```

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Response, response};
use tokio::time::{Sleep, sleep};

use super::forward;
use super::pump::{Pump, Source};
use super::retry::{Done, Fault, Rules};
use super::timer::Timer;
use super::unanswered::Unanswered;
use super::upstream_body::{Ahead, UpstreamBody};
use crate::error::{Error, Reason};
use crate::upstream::Cluster;

/// An attempt under way. Dropping it resets its stream.
#[derive(Debug)]
pub(super) struct Attempt {
    stage: Stage,
    /// How long it may take once its request was sent, before which its server is not to blame.
    timeout: Option<Duration>,
    /// When that is over; begun when the request was sent.
    late: Option<Pin<Box<Sleep>>>,
    reads_ahead: bool,
    unary_reply: bool,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "every call is in the large one, most in no other")]
enum Stage {
    Waiting(Unanswered),
    ReadingAhead(Box<Reading>),
    Done,
}

#[derive(Debug)]
struct Reading {
    head: response::Parts,
    body: UpstreamBody,
    pump: Box<Pump>,
    /// When the reply is passed on although nothing came; none for a unary one.
    until: Option<Pin<Box<Sleep>>>,
}

/// How an attempt ended.
#[derive(Debug)]
pub(super) struct Outcome {
    /// A reply that can be passed on, whether or not it is a success.
    pub(super) reply: Result<(response::Parts, UpstreamBody), Error>,
    /// What is wrong with it, if anything is.
    pub(super) fault: Option<Fault>,
    /// The request as far as it is not sent.
    pub(super) pump: Box<Pump>,
}

impl Attempt {
    pub(super) fn new(opened: Unanswered, rules: &Rules, done: Done) -> Self {
        Self {
            stage: Stage::Waiting(opened),
            timeout: rules.per_try_timeout(done),
            late: None,
            reads_ahead: rules.reads_ahead(),
            unary_reply: rules.unary_reply,
        }
    }

    /// Moves the request until it is known how the attempt ends.
    ///
    /// # Errors
    /// The call is over: its deadline passed, or its client is gone or broke a rule.
    pub(super) fn poll(
        &mut self,
        cluster: &Cluster,
        timer: &mut Timer,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Outcome, Error>> {
        loop {
            match &mut self.stage {
                Stage::Waiting(opened) => match opened.poll(timer, cx) {
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(answer)) => {
                        let Stage::Waiting(opened) = std::mem::replace(&mut self.stage, Stage::Done) else { continue };
                        if let Some(outcome) = self.answered(cluster, timer, opened, answer) {
                            return Poll::Ready(Ok(outcome));
                        }
                    }
                    Poll::Pending => break,
                },
                Stage::ReadingAhead(reading) => {
                    if let Poll::Ready(Err(error)) = reading.pump.poll_touching(timer, cx) {
                        return Poll::Ready(Err(error));
                    }
                    let read = reading.body.poll_ahead(self.unary_reply, cx);
                    let mut is_quiet =
                        || reading.until.as_mut().is_some_and(|until| until.as_mut().poll(cx).is_ready());
                    let ahead = match read {
                        Poll::Ready(ahead) => ahead,
                        // A stream may be quiet for as long as it likes.
                        Poll::Pending if is_quiet() => Ahead::Begun,
                        Poll::Pending => match timer.poll(cx) {
                            Poll::Ready(error) => return Poll::Ready(Err(error)),
                            Poll::Pending => break,
                        },
                    };
                    let Stage::ReadingAhead(reading) = std::mem::replace(&mut self.stage, Stage::Done) else {
                        continue;
                    };
                    return Poll::Ready(Ok(reading.end(cluster, timer, ahead)));
                }
                Stage::Done => return Poll::Pending,
            }
        }
        let Some(timeout) = self.timeout.filter(|_| self.is_sent()) else { return Poll::Pending };
        ready!(self.late.get_or_insert_with(|| Box::pin(sleep(timeout))).as_mut().poll(cx));
        let error = Error::new(
            Reason::DeadlineExceeded,
            format!("upstream {} did not answer an attempt within {timeout:?}", cluster.name()),
        );
        let pump = match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Waiting(opened) => opened.abandon(),
            Stage::ReadingAhead(reading) => {
                reading.body.lease.broke();
                reading.pump
            }
            Stage::Done => return Poll::Pending,
        };
        Poll::Ready(Ok(Outcome { reply: Err(error), fault: Some(Fault::TimedOut), pump }))
    }

    /// Whether all of the request was sent.
    fn is_sent(&self) -> bool {
        match &self.stage {
            Stage::Waiting(opened) => opened.pump().is_sent(),
            Stage::ReadingAhead(reading) => reading.pump.is_sent(),
            Stage::Done => false,
        }
    }

    /// The request so far, where it was sent: see [`Pump::whole`].
    pub(super) fn request(&self) -> Option<Source> {
        match &self.stage {
            Stage::Waiting(opened) => opened.pump().whole(),
            Stage::ReadingAhead(_) | Stage::Done => None,
        }
    }

    /// What moves the request.
    pub(super) fn pump(&self) -> Option<&Pump> {
        match &self.stage {
            Stage::Waiting(opened) => Some(opened.pump()),
            Stage::ReadingAhead(reading) => Some(&reading.pump),
            Stage::Done => None,
        }
    }

    /// Judges the head of a reply, or that there is none. Returns nothing when there is more to be known.
    fn answered(
        &mut self,
        cluster: &Cluster,
        timer: &Timer,
        opened: Unanswered,
        answer: Result<Response<h2::RecvStream>, h2::Error>,
    ) -> Option<Outcome> {
        let (pump, lease) = opened.answered(answer.as_ref().is_ok_and(forward::is_fine));
        let failed = |error: Error, fault, pump| Some(Outcome { reply: Err(error), fault: Some(fault), pump });
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                if error.is_go_away() {
                    lease.retire();
                }
                let fault = forward::fault_of(&error);
                let error = forward::broken(cluster.name(), &error, timer);
                let fault = fault.unwrap_or_else(|| {
                    lease.broke();
                    Fault::status(error.number(), &http::HeaderMap::new())
                });
                return failed(error, fault, pump);
            }
        };
        let (head, stream) = answer.into_parts();
        if let Err(error) = forward::check(cluster.name(), &head) {
            lease.broke();
            let fault = Fault::status(error.number(), &head.headers);
            return failed(error, fault, pump);
        }
        cluster.learn(&head.headers);
        let body = UpstreamBody::new(stream, &head.headers, lease);
        let fault = match forward::is_trailers_only(&head, &body) {
            true => forward::status_fault(&head.headers),
            false if self.reads_ahead && pump.can_rewind() => {
                let until = (!self.unary_reply).then(|| Box::pin(sleep(HOLD)));
                self.stage = Stage::ReadingAhead(Box::new(Reading { head, body, pump, until }));
                return None;
            }
            false => None,
        };
        Some(Outcome { reply: Ok((head, body)), fault, pump })
    }
}

impl Reading {
    fn end(self: Box<Self>, cluster: &Cluster, timer: &Timer, ahead: Ahead) -> Outcome {
        let Self { head, body, pump, .. } = *self;
        match ahead {
            Ahead::Begun => Outcome { reply: Ok((head, body)), fault: None, pump },
            Ahead::Over(trailers) => {
                let fault = forward::status_fault(&trailers);
                Outcome { reply: Ok((head, body)), fault, pump }
            }
            Ahead::Broken(error) => {
                let error = forward::broken(cluster.name(), &error, timer);
                let fault = Fault::status(error.number(), &http::HeaderMap::new());
                Outcome { reply: Err(error), fault: Some(fault), pump }
            }
        }
    }
}

/// How long the head of a stream is held back for its first message.
const HOLD: Duration = Duration::from_secs(1);
