//! Looks at the memory of the process, for calls that are refused when it runs out.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::interval;

use crate::policy::admission::Capacity;
use crate::runtime;

const INTERVAL: Duration = Duration::from_millis(100);

/// Looks now, and then again for as long as anybody is there who may want to know.
pub(super) fn watch(capacity: &Arc<Capacity>, control: &Handle) {
    look(capacity);
    control.spawn(follow(Arc::downgrade(capacity)));
}

async fn follow(capacity: Weak<Capacity>) {
    let mut ticks = interval(INTERVAL);
    loop {
        ticks.tick().await;
        let Some(capacity) = capacity.upgrade() else { return };
        look(&capacity);
    }
}

fn look(capacity: &Capacity) {
    if capacity.overload.is_watched()
        && let Some(bytes) = runtime::resident_memory()
    {
        capacity.overload.set_memory(bytes);
    }
}
