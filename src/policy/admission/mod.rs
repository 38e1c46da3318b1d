//! How many calls are taken on at once, and which are refused first when there is too much to do.
//!
//! A method may have a bound on its calls, one that is set or one that follows how long they take ([`Gradient`]); both count
//! over the whole process ([`Load`]), and a call's place is a [`Permit`]. Apart from that the process sheds calls when
//! work waits too long for its turn or memory runs out ([`Overload`]), the least important ones first.
//!
//! Not here: limits on how often somebody calls (`rate_limit`), and what an upstream bears, which its circuit breaker knows.

mod gradient;
mod load;
mod overload;

pub use gradient::Gradient;
pub use load::{End, Load, LoadView, Loads, Permit};
pub use overload::{Delay, Overload, Pressure};

/// What all workers know together of how much there is to do.
#[derive(Debug, Default)]
pub struct Capacity {
    /// Calls by method.
    pub loads: Loads,
    /// The process.
    pub overload: Overload,
}

/// Why a call was not taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The method has its `max_concurrent` calls.
    Concurrency,
    /// The method has as many calls as it answers in good time.
    Adaptive,
    /// Work waits too long for its turn.
    QueueDelay,
    /// Memory runs out.
    Memory,
}

impl Refused {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Concurrency, Self::Adaptive, Self::QueueDelay, Self::Memory];

    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Concurrency => "concurrency",
            Self::Adaptive => "adaptive",
            Self::QueueDelay => "queue_delay",
            Self::Memory => "memory",
        }
    }
}
