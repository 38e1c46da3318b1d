//! Whether a call is sent once more, and when. Pure: what went wrong, what was done, and chance are arguments.
//!
//! A call that provably reached no application is sent again whatever its method is. Everything else is up to the
//! method's policy (<https://github.com/grpc/proposal/blob/master/A6-client-retries.md>).

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::MethodSettings;
use crate::config::retry::{DEFAULT_BUFFER, Hedge, Retry};
use crate::snapshot::Method;

/// What the server wants to be waited for, or that it wants no retry.
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// Attempts before this one.
pub(super) const PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// How often a call that reached nobody is sent again.
const UNSEEN: u32 = 2;

/// What holds for the further attempts of one call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    pub(super) retry: Option<Arc<Retry>>,
    pub(super) hedge: Option<Arc<Hedge>>,
    /// Whether the reply is one message.
    pub(super) unary_reply: bool,
}

/// What went wrong with an attempt, as far as it matters for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// No server looked at the call: its stream was never opened, or a GOAWAY did not cover it.
    Unseen,
    /// The server refused the stream without looking at it.
    Refused,
    /// It ended with that code, sent or derived.
    Status { number: u32, pushback: Pushback },
    /// It took longer than one attempt may.
    TimedOut,
}

/// What a server says of retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushback {
    Silent,
    /// After so long.
    After(Duration),
    /// Not at all.
    Never,
}

/// What was done so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Done {
    /// Times that the call was sent again because nobody saw it.
    pub(super) unseen: u32,
    /// Times that it was sent again because the policy says so.
    pub(super) retries: u32,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Stop,
    /// At once, since nobody saw it. `refused`: a server had work with it.
    Resend {
        refused: bool,
    },
    /// After so long.
    Retry(Duration),
}

impl Rules {
    /// For a method with these settings, which a schema may know.
    pub(super) fn of(settings: &MethodSettings, method: Option<&Method>) -> Self {
        let unary_reply = method.is_some_and(|method| !method.server_streaming);
        let unary = unary_reply && method.is_some_and(|method| !method.client_streaming);
        let idempotent = method.is_some_and(|method| method.idempotent);
        let hedge = settings.hedge.clone().filter(|hedge| unary && (idempotent || hedge.assume_idempotent));
        // Both together would multiply the attempts.
        let retry = settings.retry.clone().filter(|_| hedge.is_none());
        Self { retry, hedge, unary_reply }
    }

    /// Bytes of a request that are kept for another attempt.
    pub(super) fn buffer(&self) -> usize {
        self.retry.as_ref().map_or(DEFAULT_BUFFER, |retry| retry.buffer)
    }

    /// Whether the beginning of a reply is to be held back because the call may be sent again.
    pub(super) fn reads_ahead(&self) -> bool {
        self.retry.is_some() || self.hedge.is_some()
    }

    /// For one attempt, if another can follow it.
    pub(super) fn per_try_timeout(&self, done: Done) -> Option<Duration> {
        self.retry.as_ref().filter(|retry| done.retries < retry.retries)?.per_try_timeout
    }

    /// What to do after a fault. `chance` is from 0 to 1.
    pub(super) fn next(&self, fault: Fault, done: Done, chance: f64) -> Next {
        let unseen = |refused| if done.unseen < UNSEEN { Next::Resend { refused } } else { Next::Stop };
        let Some(retry) = &self.retry else {
            return match fault {
                Fault::Unseen => unseen(false),
                Fault::Refused => unseen(true),
                Fault::Status { .. } | Fault::TimedOut => Next::Stop,
            };
        };
        let left = done.retries < retry.retries;
        let backoff = retry.base_backoff.saturating_mul(1 << done.retries.min(16)).min(retry.max_backoff);
        let later = Next::Retry(backoff.mul_f64(chance));
        match fault {
            Fault::Unseen => unseen(false),
            Fault::Refused => unseen(true),
            Fault::TimedOut if left => later,
            Fault::Status { number, pushback } if left && retry.on.contain(number) => match pushback {
                Pushback::Silent => later,
                Pushback::After(wait) => Next::Retry(wait),
                Pushback::Never => Next::Stop,
            },
            Fault::Status { .. } | Fault::TimedOut => Next::Stop,
        }
    }
}

impl Fault {
    /// A status with what came beside it.
    pub(super) fn status(number: u32, metadata: &HeaderMap) -> Self {
        let pushback = match metadata.get(PUSHBACK) {
            None => Pushback::Silent,
            // A value that cannot be read means what a negative one means.
            Some(value) => value
                .to_str()
                .ok()
                .and_then(|value| value.parse::<u32>().ok())
                .map_or(Pushback::Never, |ms| Pushback::After(Duration::from_millis(ms.into()))),
        };
        Self::Status { number, pushback }
    }

    /// Whether another attempt may still succeed, for a hedged call.
    pub(super) fn is_fatal(self, hedge: &Hedge) -> bool {
        match self {
            Self::Unseen | Self::Refused | Self::TimedOut => false,
            Self::Status { number, pushback } => pushback == Pushback::Never || !hedge.non_fatal.contain(number),
        }
    }
}

/// Says how many attempts there were, beside those that the client made itself.
pub(super) fn tell(headers: &mut HeaderMap, attempts: u32) {
    if attempts == 0 {
        return;
    }
    let given = headers.get(PREVIOUS_ATTEMPTS).and_then(|value| value.to_str().ok()?.parse::<u32>().ok()).unwrap_or(0);
    headers.insert(PREVIOUS_ATTEMPTS, HeaderValue::from(given.saturating_add(attempts)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::retry::Codes;
    use crate::grpc::status::Code;

    const MS: Duration = Duration::from_millis(1);

    fn rules(retries: u32) -> Rules {
        let retry = Retry { retries, on: Codes::of(&[Code::Unavailable]), ..Retry::default() };
        Rules { retry: Some(Arc::new(retry)), ..Rules::default() }
    }

    fn status(number: u32, pushback: &'static str) -> Fault {
        let mut metadata = HeaderMap::new();
        if !pushback.is_empty() {
            metadata.insert(PUSHBACK, HeaderValue::from_static(pushback));
        }
        Fault::status(number, &metadata)
    }

    #[test]
    fn what_nobody_saw_is_sent_again_and_the_rest_as_the_policy_says() {
        let done = |unseen, retries| Done { unseen, retries };
        let table = [
            (Rules::default(), Fault::Unseen, done(0, 0), Next::Resend { refused: false }),
            (Rules::default(), Fault::Refused, done(1, 0), Next::Resend { refused: true }),
            (Rules::default(), Fault::Refused, done(2, 0), Next::Stop),
            (Rules::default(), status(14, ""), done(0, 0), Next::Stop),
            (Rules::default(), Fault::TimedOut, done(0, 0), Next::Stop),
            (rules(2), Fault::Refused, done(1, 2), Next::Resend { refused: true }),
            (rules(2), status(14, ""), done(2, 0), Next::Retry(25 * MS)),
            (rules(2), status(14, ""), done(0, 1), Next::Retry(50 * MS)),
            (rules(2), status(14, ""), done(0, 2), Next::Stop),
            (rules(2), status(13, ""), done(0, 0), Next::Stop),
            (rules(2), Fault::TimedOut, done(0, 0), Next::Retry(25 * MS)),
            (rules(2), status(14, "700"), done(0, 0), Next::Retry(700 * MS)),
            (rules(2), status(14, "0"), done(0, 0), Next::Retry(Duration::ZERO)),
            (rules(2), status(14, "-1"), done(0, 0), Next::Stop),
            (rules(2), status(14, "soon"), done(0, 0), Next::Stop),
            (rules(2), status(13, "0"), done(0, 0), Next::Stop),
            (rules(5), status(14, ""), done(0, 4), Next::Retry(250 * MS)),
        ];
        for (index, (rules, fault, done, expected)) in table.into_iter().enumerate() {
            assert_eq!(rules.next(fault, done, 1.0), expected, "case {index}");
        }
        assert_eq!(rules(1).next(status(14, ""), done(0, 0), 0.0), Next::Retry(Duration::ZERO));
    }

    #[test]
    fn attempts_are_told_beside_those_of_the_client() {
        let mut headers = HeaderMap::new();
        tell(&mut headers, 0);
        assert!(headers.is_empty());
        tell(&mut headers, 1);
        assert_eq!(headers[PREVIOUS_ATTEMPTS], "1");

        headers.insert(PREVIOUS_ATTEMPTS, HeaderValue::from_static("3"));
        tell(&mut headers, 2);
        assert_eq!(headers[PREVIOUS_ATTEMPTS], "5");
    }
}
