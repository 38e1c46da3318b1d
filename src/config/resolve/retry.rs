//! When calls are sent again, or to two endpoints.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::{bounded, codes, to_u32, to_usize, value};
use crate::config::Change;
use crate::config::file::{Backoff, Hedge as RawHedge, Retry as RawRetry};
use crate::config::read::{Clearable, Located, Report};
use crate::config::retry::{Codes, Hedge, Retry};
use crate::config::units::{Size, Span};

pub(super) fn retry(raw: Option<Located<Clearable<RawRetry>>>, report: &mut Report<'_>) -> Change<Arc<Retry>> {
    let raw = match raw.map(|raw| raw.value) {
        None => return Change::Inherited,
        Some(Clearable::None) => return Change::Cleared,
        Some(Clearable::Some(raw)) => raw,
    };
    let mut retry = Retry::default();
    if let Some(retries) = &raw.retries {
        retry.retries = to_u32(bounded(retries, RETRIES, report));
    }
    if let Some(on) = raw.on {
        retry.on = Codes::of(&codes(on, report));
    }
    let Backoff { base, max } = value(raw.backoff);
    if let Some(base) = &base {
        retry.base_backoff = bounded(base, BACKOFF, report).0;
    }
    retry.max_backoff = max.as_ref().map_or_else(
        || retry.max_backoff.max(retry.base_backoff),
        |max| {
            if max.value.0 < retry.base_backoff {
                report.problem(&max.at, format!("{} is less than `base`", max.value));
            }
            bounded(max, BACKOFF, report).0
        },
    );
    retry.per_try_timeout = raw.per_try_timeout.map(|timeout| bounded(&timeout, TIMEOUT, report).0);
    if let Some(buffer) = &raw.buffer {
        retry.buffer = to_usize(bounded(buffer, BUFFER, report).0);
    }
    Change::To(Arc::new(retry))
}

pub(super) fn hedge(raw: Option<Located<Clearable<RawHedge>>>, report: &mut Report<'_>) -> Change<Arc<Hedge>> {
    let raw = match raw.map(|raw| raw.value) {
        None => return Change::Inherited,
        Some(Clearable::None) => return Change::Cleared,
        Some(Clearable::Some(raw)) => raw,
    };
    let mut hedge = Hedge::default();
    if let Some(attempts) = &raw.attempts {
        hedge.attempts = to_u32(bounded(attempts, HEDGES, report));
    }
    if let Some(delay) = &raw.delay {
        hedge.delay = bounded(delay, TIMEOUT, report).0;
    }
    if let Some(non_fatal) = raw.non_fatal {
        hedge.non_fatal = Codes::of(&codes(non_fatal, report));
    }
    hedge.assume_idempotent = raw.assume_idempotent.is_some_and(|assume| assume.value);
    Change::To(Arc::new(hedge))
}

const RETRIES: RangeInclusive<u64> = 1..=5;
const HEDGES: RangeInclusive<u64> = 2..=5;
const BACKOFF: RangeInclusive<Span> = Span(Duration::from_millis(1))..=Span(Duration::from_mins(1));
const TIMEOUT: RangeInclusive<Span> = Span(Duration::from_millis(1))..=Span(Duration::from_hours(1));
const BUFFER: RangeInclusive<Size> = Size(0)..=Size(4 << 20);
