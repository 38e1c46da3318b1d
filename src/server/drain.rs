//! The end of a gateway: no new connections, time for those that are open, then the cut.
//!
//! ```text
//! Open ──▶ Ending ──▶ Draining ──▶ Cut
//! ```
//!
//! Each listener has a [`Shutdown`]; each worker follows it with a `Local` of its own, so that a connection
//! which is polled a million times never touches memory of another thread. Invariant: stages only advance.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{self, Instant};

use super::timer::Alarm;
use crate::runtime::{self, Workers};

/// How long tasks may take to end after the cut; they only have to be polled once.
const AFTER_CUT: Duration = Duration::from_secs(1);

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Serving.
    Open,
    /// The listener is closed. HTTP/2 connections are told to go and end after the requests that they carry; those of
    /// HTTP/1.1 end with their next reply, since a request may be on its way to one that waits.
    Ending,
    /// Connections that carry no request are closed.
    Draining,
    /// Connections are closed whatever they carry.
    Cut,
}

/// The switch of a listener and its connections. Clones are the same switch.
#[derive(Debug, Clone)]
pub struct Shutdown {
    stage: Arc<watch::Sender<Stage>>,
}

impl Shutdown {
    /// A switch at [`Stage::Open`].
    pub fn new() -> Self {
        Self { stage: Arc::new(watch::Sender::new(Stage::Open)) }
    }

    /// Closes the listener and lets each connection end as soon as nobody loses a request by it.
    pub fn begin(&self) {
        self.advance(Stage::Ending);
    }

    /// Closes the connections that carry nothing, too.
    pub fn hurry(&self) {
        self.advance(Stage::Draining);
    }

    /// Closes every connection.
    pub fn cut(&self) {
        self.advance(Stage::Cut);
    }

    /// Whether it is the same switch.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.stage, &other.stage)
    }

    /// How far the end has come.
    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Returns once the end has come at least this far.
    pub async fn reached(&self, stage: Stage) {
        // The sender lives in `self`, so that waiting cannot fail.
        self.stage.subscribe().wait_for(|now| *now >= stage).await.ok();
    }

    fn advance(&self, to: Stage) {
        self.stage.send_if_modified(|stage| {
            let advances = *stage < to;
            *stage = to.max(*stage);
            advances
        });
    }
}

/// The end of all connections of `workers`, which belong to these listeners: waits for them for at most `grace`, and cuts
/// those that remain.
///
/// Returns how many had to be cut. [`Workers::stop`] comes after it.
pub async fn finish<J: Send + 'static>(shutdowns: &[Shutdown], workers: &Workers<J>, grace: Duration) -> usize {
    shutdowns.iter().for_each(Shutdown::begin);
    let in_time = time::timeout(grace, workers.drained()).await;
    let remaining = if in_time.is_ok() { 0 } else { workers.live() };
    shutdowns.iter().for_each(Shutdown::cut);
    time::timeout(AFTER_CUT, workers.drained()).await.ok();
    remaining
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

/// One worker's copy of the stage and the connections to wake when it changes.
#[derive(Debug)]
pub(crate) struct Local {
    stage: Cell<Stage>,
    wakers: RefCell<HashMap<u64, Waker>>,
    next: Cell<u64>,
}

impl Local {
    /// Follows `shutdown` with a task on the current worker.
    pub(crate) fn follow(shutdown: Shutdown) -> Rc<Self> {
        let local = Rc::new(Self {
            stage: Cell::new(shutdown.stage()),
            wakers: RefCell::new(HashMap::new()),
            next: Cell::new(0),
        });
        let follower = Rc::clone(&local);
        runtime::spawn("drain", async move {
            for stage in [Stage::Ending, Stage::Draining, Stage::Cut] {
                shutdown.reached(stage).await;
                follower.stage.set(shutdown.stage());
                for waker in follower.wakers.borrow().values() {
                    waker.wake_by_ref();
                }
            }
        });
        local
    }

    /// How far the end has come.
    pub(crate) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// A connection's place among those that are woken.
    pub(crate) fn seat(self: &Rc<Self>) -> Seat {
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        Seat { local: Rc::clone(self), number, waker: None }
    }
}

/// One connection's view of the stage; leaving it unregisters the connection.
#[derive(Debug)]
pub(crate) struct Seat {
    local: Rc<Local>,
    number: u64,
    waker: Option<Waker>,
}

impl Seat {
    /// The stage now; the task is woken when it changes.
    pub(crate) fn stage(&mut self, cx: &Context<'_>) -> Stage {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
            self.local.wakers.borrow_mut().insert(self.number, cx.waker().clone());
        }
        self.local.stage.get()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.local.wakers.borrow_mut().remove(&self.number);
    }
}

/// How waiting for something ended.
#[derive(Debug)]
pub(super) enum Ended<T> {
    /// It came.
    Done(T),
    /// It took too long.
    TimedOut,
    /// The gateway waits no longer.
    Closed,
}

/// Waits for `future` until the deadline, or until the end of the gateway has come further than `last`.
pub(super) async fn bounded<T>(
    future: impl Future<Output = T>,
    deadline: Instant,
    last: Stage,
    drain: &Rc<Local>,
) -> Ended<T> {
    let mut future = pin!(future);
    let mut seat = drain.seat();
    let mut alarm = None;
    poll_fn(|cx: &mut Context<'_>| {
        if let Poll::Ready(done) = future.as_mut().poll(cx) {
            return Poll::Ready(Ended::Done(done));
        }
        if seat.stage(cx) > last {
            return Poll::Ready(Ended::Closed);
        }
        let alarm = alarm.get_or_insert_with(|| Alarm::new(deadline));
        alarm.poll_due(deadline, cx).map(|()| Ended::TimedOut)
    })
    .await
}
