//! What a backend went through, for tests to look at and to wait for.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// How often what happened since the start. Once started, a call ends in exactly one of `finished` and `cancelled`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Connections accepted.
    pub(crate) connections: usize,
    /// Calls that reached the service.
    pub(crate) started: usize,
    /// Calls that the service answered to the end.
    pub(crate) finished: usize,
    /// Calls that the other side gave up.
    pub(crate) cancelled: usize,
    /// Request messages of streams that the service took.
    pub(crate) received: usize,
    /// Reply messages of streams that the service handed to its connection. Flow control holds this one back.
    pub(crate) sent: usize,
}

/// The counts of one backend; clones are the same ones.
#[derive(Debug, Clone)]
pub(crate) struct Tally(Arc<watch::Sender<Counts>>);

impl Default for Tally {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Counts::default())))
    }
}

impl Tally {
    /// The counts of this moment.
    pub(crate) fn counts(&self) -> Counts {
        *self.0.borrow()
    }

    /// Waits until the counts are as wanted, and fails the test when they are not within twenty seconds.
    pub(crate) async fn until(&self, wanted: impl Fn(&Counts) -> bool) -> Counts {
        let mut counts = self.0.subscribe();
        let found = tokio::time::timeout(Duration::from_secs(20), counts.wait_for(wanted)).await;
        let found = found.map(|found| *found.expect("the tally keeps the sender"));
        assert!(found.is_ok(), "the backend did not get there in time: {:?}", self.counts());
        found.unwrap_or_default()
    }

    /// Waits until the counts are as wanted, however long that takes.
    pub(crate) async fn reaches(&self, wanted: impl Fn(&Counts) -> bool) {
        self.0.subscribe().wait_for(wanted).await.ok();
    }

    /// Begins a call, which counts as cancelled if the guard is dropped before it is finished.
    pub(crate) fn begin(&self) -> Ongoing {
        self.change(|counts| counts.started += 1);
        Ongoing { tally: self.clone(), finished: false }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Counts)) {
        self.0.send_modify(change);
    }
}

/// A call that runs.
#[derive(Debug)]
pub(crate) struct Ongoing {
    tally: Tally,
    finished: bool,
}

impl Ongoing {
    /// The call came to its end.
    pub(crate) fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        self.tally.change(|counts| if self.finished { counts.finished += 1 } else { counts.cancelled += 1 });
    }
}
