//! How many calls are taken on at once.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{bounded, choose, to_u32, to_usize, value};
use crate::config::admission::{Adaptive, PartialAdmission, Priority, Shedding};
use crate::config::file::{Adaptive as RawAdaptive, Admission as RawAdmission, Shedding as RawShedding};
use crate::config::read::{Located, Report, Switch};
use crate::config::units::{Size, Span};

/// When the process has too much to do.
pub(super) fn shedding(raw: Option<Located<RawShedding>>, report: &mut Report<'_>) -> Shedding {
    let RawShedding { max_queue_delay, max_memory } = value(raw);
    let at = max_memory.as_ref().map(|memory| memory.at.clone());
    if let Some(at) = at.filter(|_| !cfg!(target_os = "linux")) {
        report.problem(&at, "the memory of a process is known on Linux only");
    }
    Shedding {
        max_queue_delay: max_queue_delay.map(|delay| bounded(&delay, DELAY, report).0),
        max_memory: max_memory.map(|memory| to_usize(bounded(&memory, MEMORY, report).0)),
    }
}

/// What a policy says of the calls of each of its methods.
pub(super) fn admission(raw: Option<Located<RawAdmission>>, report: &mut Report<'_>) -> PartialAdmission {
    let RawAdmission { max_concurrent, adaptive, priority } = value(raw);
    let words = [Priority::Low, Priority::Normal, Priority::High, Priority::Critical]
        .map(|priority| (priority.name(), priority));
    PartialAdmission {
        max_concurrent: max_concurrent.map(|most| to_u32(bounded(&most, CALLS, report))),
        adaptive: adaptive.map(|adaptive| self::adaptive(adaptive, report)),
        priority: priority.and_then(|word| choose(word, &words, report)),
    }
}

fn adaptive(raw: Located<Switch<RawAdaptive>>, report: &mut Report<'_>) -> Option<Adaptive> {
    let Located { value: raw, at } = raw;
    let RawAdaptive { min, max } = match raw {
        Switch::Off => return None,
        Switch::On(raw) => raw,
    };
    let default = Adaptive::default();
    let min = min.map_or(default.min, |min| to_u32(bounded(&min, CALLS, report)));
    let max = max.map_or_else(|| default.max.max(min), |max| to_u32(bounded(&max, CALLS, report)));
    if min > max {
        report.problem(&at, format!("`min` is {min}, which is more than the {max} of `max`"));
    }
    Some(Adaptive { min, max })
}

const CALLS: RangeInclusive<u64> = 1..=1_000_000;
const DELAY: RangeInclusive<Span> = Span(Duration::from_millis(1))..=Span(Duration::from_mins(1));
const MEMORY: RangeInclusive<Size> = Size(1 << 20)..=Size(1 << 44);
