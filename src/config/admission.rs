//! How many calls the gateway takes on at once, and which it refuses first: the sections `admission`, resolved.
//!
//! Here is what is asked for. Who gets in is decided in `policy::admission`.

use std::time::Duration;

/// When calls are refused because the whole process has too much to do. Nothing, unless set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shedding {
    /// How long work may wait for its turn on a worker.
    pub max_queue_delay: Option<Duration>,
    /// Resident memory of the process, in bytes.
    pub max_memory: Option<usize>,
}

/// How many calls of one method are taken on at once. Default all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Admission {
    /// Over the whole process.
    pub max_concurrent: Option<u32>,
    /// A limit that follows how long calls take.
    pub adaptive: Option<Adaptive>,
    /// How early calls are refused when there is too much to do.
    pub priority: Priority,
}

/// Bounds of a limit that finds its place by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adaptive {
    /// Never fewer calls at once. Default 4.
    pub min: u32,
    /// Never more. Default 1000.
    pub max: u32,
}

/// How early calls are refused when there is too much to do, the first ones first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// At 80% of the bound.
    Low,
    /// At the bound.
    #[default]
    Normal,
    /// At 120% of it.
    High,
    /// Never.
    Critical,
}

/// [`Admission`] of which only some is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields of Admission")]
pub struct PartialAdmission {
    pub max_concurrent: Option<u32>,
    pub adaptive: Option<Option<Adaptive>>,
    pub priority: Option<Priority>,
}

impl Priority {
    /// The part of the bound from which on calls are refused, in percent.
    pub fn threshold(self) -> Option<u32> {
        match self {
            Self::Low => Some(80),
            Self::Normal => Some(100),
            Self::High => Some(120),
            Self::Critical => None,
        }
    }

    /// As the reference names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl Admission {
    /// Whether anything is asked of a call for it.
    pub fn is_bounded(&self) -> bool {
        self.max_concurrent.is_some() || self.adaptive.is_some()
    }
}

impl PartialAdmission {
    pub(super) fn apply(self, target: &mut Admission) {
        target.max_concurrent = self.max_concurrent.or(target.max_concurrent);
        target.adaptive = self.adaptive.unwrap_or(target.adaptive);
        target.priority = self.priority.unwrap_or(target.priority);
    }
}

impl Default for Adaptive {
    fn default() -> Self {
        Self { min: 4, max: 1000 }
    }
}
