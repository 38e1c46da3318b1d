//! Whether the peer of a connection is still there, when there is reason to doubt it.
//!
//! A peer that vanished without a word (a machine that lost its power, a firewall that forgot) takes calls and never answers
//! them, and TCP needs a minute to notice. A call that was given up on a connection from which nothing has come since it
//! began, for no call, is such a reason: the peer is asked by an HTTP/2 PING, new calls go elsewhere until it answers, and if it does not,
//! the connection is over. Asking more often would be taken for an attack by some servers.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

/// What is known of a peer's presence.
#[derive(Debug)]
pub(super) struct Pulse {
    doubt: Cell<Doubt>,
    /// Counts what came for calls.
    heard: Cell<u64>,
    /// Before which nobody is asked again, and for how long that is the next time.
    rest: Cell<(Instant, Duration)>,
    ask: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    None,
    /// It is about to be asked.
    Asked,
    /// It takes its time.
    Strong,
}

impl Pulse {
    /// Of a connection that was just made.
    pub(super) fn new(now: Instant) -> Self {
        Self { doubt: Cell::new(Doubt::None), heard: Cell::new(0), rest: Cell::new((now, REST)), ask: Notify::new() }
    }

    /// Whether calls had better go elsewhere until the peer has answered.
    pub(super) fn is_doubted(&self) -> bool {
        self.doubt.get() != Doubt::None
    }

    /// Whether another connection had better take the place of this one.
    pub(super) fn is_lost(&self) -> bool {
        self.doubt.get() == Doubt::Strong
    }

    /// How often something came for a call.
    pub(super) fn count(&self) -> u64 {
        self.heard.get()
    }

    /// Something came for a call.
    pub(super) fn heard(&self) {
        self.heard.set(self.heard.get() + 1);
    }

    /// A call was given up after so long without an answer; `count` is what it was when the call began.
    pub(super) fn unanswered(&self, count: u64, waited: Duration, now: Instant) {
        let (until, span) = self.rest.get();
        if self.count() != count || waited < PATIENCE || now < until || self.is_doubted() {
            return;
        }
        self.rest.set((now + span, (span * 2).min(LONGEST_REST)));
        self.doubt.set(Doubt::Asked);
        self.ask.notify_one();
    }

    /// Ready when the peer is gone. It is asked when there is doubt, and after each `keepalive` in which it said nothing
    /// while there were calls. `changed` is told when doubt becomes strong, and when it is gone.
    pub(super) async fn watch(
        &self,
        mut pings: PingPong,
        keepalive: Option<Duration>,
        is_active: impl Fn() -> bool,
        changed: impl Fn(),
    ) {
        // h2 has one at a time, and one that was not answered in time stays.
        let mut outstanding = false;
        loop {
            tokio::select! {
                () = self.ask.notified() => {}
                () = self.silence(keepalive, &is_active) => {}
            }
            let count = self.count();
            // What was answered meanwhile says nothing of now.
            outstanding &= poll_fn(|cx| Poll::Ready(pings.poll_pong(cx))).await.is_pending();
            if !outstanding && pings.send_ping(Ping::opaque()).is_err() {
                return;
            }
            let mut pong = pin!(poll_fn(|cx| pings.poll_pong(cx)));
            let answered = match timeout(PROMPT, &mut pong).await {
                Ok(answered) => answered.is_ok(),
                Err(_) => {
                    if self.is_doubted() {
                        self.doubt.set(Doubt::Strong);
                        changed();
                    }
                    timeout(PONG, pong).await.is_ok_and(|answered| answered.is_ok())
                }
            };
            outstanding = !answered;
            // One that answers calls is there, however long it keeps an answer to a PING.
            if !answered && self.count() == count {
                return;
            }
            if self.doubt.replace(Doubt::None) != Doubt::None {
                changed();
            }
        }
    }

    /// Ready when the peer said nothing for so long while there were calls.
    async fn silence(&self, keepalive: Option<Duration>, is_active: &impl Fn() -> bool) {
        let Some(keepalive) = keepalive else { return std::future::pending().await };
        loop {
            let count = self.count();
            sleep(keepalive).await;
            if is_active() && self.count() == count {
                return;
            }
        }
    }
}

/// A call must have waited that long for its silence to mean something.
const PATIENCE: Duration = Duration::from_millis(100);
/// Most peers answer a PING in that time.
const PROMPT: Duration = Duration::from_millis(100);
/// More than that, for those that have much to do.
const PONG: Duration = Duration::from_secs(2);
/// Between two doubts; it doubles, since servers count PINGs.
const REST: Duration = Duration::from_secs(20);
const LONGEST_REST: Duration = Duration::from_mins(5);

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[test]
    fn only_silence_since_a_call_began_is_a_reason_for_doubt() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let pulse = Pulse::new(start);

        let count = pulse.count();
        pulse.heard();
        pulse.unanswered(count, Duration::from_secs(1), at(500));
        assert!(!pulse.is_doubted(), "another call was answered meanwhile");
        pulse.unanswered(pulse.count(), Duration::from_millis(20), at(500));
        assert!(!pulse.is_doubted(), "that call did not wait");
        pulse.unanswered(pulse.count(), Duration::from_millis(300), at(500));
        assert!(pulse.is_doubted());

        pulse.doubt.set(Doubt::None);
        pulse.unanswered(pulse.count(), Duration::from_millis(300), at(900));
        assert!(!pulse.is_doubted(), "too soon to ask again");
        pulse.unanswered(pulse.count(), Duration::from_millis(300), at(21_000));
        assert!(pulse.is_doubted());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_answers_calls_and_no_ping_is_never_given_up() {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        far.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let (_sender, mut connection) = h2::client::handshake(near).await.unwrap();
        let pings = connection.ping_pong().unwrap();
        let pulse = Pulse::new(Instant::now());

        let watching = pulse.watch(pings, Some(Duration::from_secs(1)), || true, || {});
        let calls = async {
            for _ in 0..10 {
                sleep(Duration::from_secs(2)).await;
                pulse.heard();
            }
        };

        tokio::select! {
            () = watching => panic!("given up"),
            ended = connection => panic!("{ended:?}"),
            () = calls => {}
        }
    }
}
