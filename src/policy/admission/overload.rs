//! Whether the process has too much to do.
//!
//! Two things are measured: how long work waits for its turn on a worker, by whom each worker for itself, and the
//! memory of the process. Each is compared with its bound; the larger part is the pressure. Which calls are refused at
//! which pressure is a matter of their priority.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::Refused;
use crate::config::admission::{Priority, Shedding};

/// What is measured of the whole process.
#[derive(Debug, Default)]
pub struct Overload {
    memory: AtomicUsize,
    /// Whether anybody wants to know it.
    watched: AtomicUsize,
}

/// How long work waits for its turn on one worker.
#[derive(Debug, Default)]
pub struct Delay {
    average: Cell<Duration>,
    /// When the last look was begun.
    asked: Cell<Option<Instant>>,
    pending: Cell<bool>,
}

/// How much there is to do, in percent of the bound that is nearest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pressure {
    /// Of the bound.
    pub percent: u64,
    /// Which bound.
    pub of: Refused,
}

impl Overload {
    /// Notes the resident memory of the process, in bytes.
    pub fn set_memory(&self, bytes: usize) {
        self.memory.store(bytes, Ordering::Relaxed);
    }

    /// As it was noted last.
    pub fn memory(&self) -> usize {
        self.memory.load(Ordering::Relaxed)
    }

    /// Says whether memory is bounded.
    pub fn watch(&self, bounds: Shedding) {
        self.watched.store(bounds.max_memory.unwrap_or(0), Ordering::Relaxed);
    }

    /// Whether memory is bounded, so that it has to be measured.
    pub fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed) > 0
    }

    /// The pressure that there is.
    pub fn pressure(&self, bounds: Shedding, delay: Duration) -> Option<Pressure> {
        let queue = bounds
            .max_queue_delay
            .map(|most| Pressure { percent: percent(delay.as_micros(), most.as_micros()), of: Refused::QueueDelay });
        let memory = bounds
            .max_memory
            .map(|most| Pressure { percent: percent(self.memory() as u128, most as u128), of: Refused::Memory });
        queue.into_iter().chain(memory).max_by_key(|pressure| pressure.percent)
    }
}

impl Pressure {
    /// Lets a call pass, or says why not.
    ///
    /// # Errors
    /// What there is too much of.
    pub fn admit(self, priority: Priority) -> Result<(), Refused> {
        match priority.threshold() {
            Some(threshold) if self.percent >= u64::from(threshold) => Err(self.of),
            Some(_) | None => Ok(()),
        }
    }
}

impl Delay {
    /// How long work has waited lately.
    pub fn average(&self) -> Duration {
        self.average.get()
    }

    /// Whether it is time to look again: nobody is looking, and the last look was long enough ago.
    pub fn is_due(&self, now: Instant) -> bool {
        let due = !self.pending.get()
            && self.asked.get().is_none_or(|asked| now.saturating_duration_since(asked) >= LOOK_INTERVAL);
        if due {
            // What nobody has looked at for so long says nothing any more.
            if self.asked.get().is_some_and(|asked| now.saturating_duration_since(asked) >= STALE) {
                self.average.set(Duration::ZERO);
            }
            self.asked.set(Some(now));
            self.pending.set(true);
        }
        due
    }

    /// Work that was begun when it was due has its turn.
    pub fn looked(&self, now: Instant) {
        self.pending.set(false);
        let waited = self.asked.get().map_or(Duration::ZERO, |asked| now.saturating_duration_since(asked));
        self.average.set((self.average.get() * 3 + waited) / 4);
    }
}

fn percent(part: u128, whole: u128) -> u64 {
    u64::try_from(part.saturating_mul(100) / whole.max(1)).unwrap_or(u64::MAX)
}

/// A look costs a task.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);
/// Who was not called for so long is not busy.
const STALE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_important_go_first() {
        let bounds = Shedding { max_queue_delay: Some(Duration::from_millis(100)), max_memory: Some(1000) };
        let overload = Overload::default();
        let admitted = |memory: usize, delay: u64| {
            overload.set_memory(memory);
            let pressure = overload.pressure(bounds, Duration::from_millis(delay)).expect("there are bounds");
            [Priority::Low, Priority::Normal, Priority::High, Priority::Critical]
                .map(|priority| pressure.admit(priority).err().map(Refused::name))
        };

        assert_eq!(admitted(799, 79), [None; 4]);
        assert_eq!(admitted(800, 0), [Some("memory"), None, None, None]);
        assert_eq!(admitted(0, 100), [Some("queue_delay"), Some("queue_delay"), None, None]);
        assert_eq!(admitted(1200, 100), [Some("memory"), Some("memory"), Some("memory"), None]);
        assert_eq!(overload.pressure(Shedding::default(), Duration::MAX), None);
    }

    #[test]
    fn delay_follows_what_waits_and_is_forgotten_in_silence() {
        let delay = Delay::default();
        let mut now = Instant::now();
        for _ in 0..20 {
            now += Duration::from_millis(50);
            assert!(delay.is_due(now) && !delay.is_due(now));
            now += Duration::from_millis(40);
            delay.looked(now);
        }
        let busy = delay.average();
        assert!(busy > Duration::from_millis(39) && busy <= Duration::from_millis(40), "{busy:?}");
        assert!(!delay.is_due(now - Duration::from_millis(40)));

        now += Duration::from_secs(5);
        assert!(delay.is_due(now));
        assert_eq!(delay.average(), Duration::ZERO);
    }
}
