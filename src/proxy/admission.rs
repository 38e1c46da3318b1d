//! Whether the gateway takes a call on: the measures of `policy::admission`, asked for one call.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::call::Call;
use crate::config::admission::Shedding;
use crate::error::{Error, Reason};
use crate::policy::admission::Refused;
use crate::runtime;
use crate::snapshot::Method;

/// Gives a call a place among those of its method, where there is a bound.
///
/// # Errors
/// There is none.
pub(super) fn admit(call: &mut Call) -> Result<(), Error> {
    let admission = call.settings().admission;
    if admission.is_bounded()
        && let Some(load) = call.load()
    {
        // How long a stream takes says nothing of its service.
        let unary = call.method().is_some_and(Method::is_unary);
        let permit = load.admit(admission, unary);
        call.permit = Some(permit.map_err(|refused| overloaded(call, refused))?);
    }
    Ok(())
}

/// Lets a call pass unless the process has too much to do for one of its priority.
///
/// # Errors
/// It has.
pub(super) fn shed(call: &Call) -> Result<(), Error> {
    let bounds = call.prepared.snapshot.config.shedding;
    if bounds == Shedding::default() {
        return Ok(());
    }
    let worker = call.worker();
    if bounds.max_queue_delay.is_some() {
        let delay = &worker.delay;
        if !call.rehearsed && delay.is_due(Instant::now()) {
            // Behind all that is ready to run by now.
            let (delay, metrics) = (Rc::clone(delay), worker.metrics.clone());
            runtime::spawn("queue delay", async move {
                delay.looked(Instant::now());
                metrics.set_queue_delay(delay.average());
            });
        }
    }
    match worker.shared.capacity.overload.pressure(bounds, worker.delay.average()) {
        Some(pressure) => {
            let admitted = pressure.admit(call.settings().admission.priority);
            admitted.map_err(|refused| overloaded(call, refused))
        }
        None => Ok(()),
    }
}

fn overloaded(call: &Call, refused: Refused) -> Error {
    let method = call.method_name().unwrap_or_default();
    call.worker().metrics.overloaded(method, refused.name()).add(1);
    let message = match refused {
        Refused::Concurrency => "as many calls of this method are under way as are taken on at once",
        Refused::Adaptive => "as many calls of this method are under way as are answered in good time",
        Refused::QueueDelay | Refused::Memory => "the gateway has too much to do",
    };
    // Not all at the same time.
    let wait = Duration::from_millis(fastrand::u64(500..1500));
    Error::new(Reason::Overloaded, message).with_retry_after(wait)
}
