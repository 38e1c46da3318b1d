//! How calls are spread over the endpoints of an upstream.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::claim::ClaimPath;

/// Settings of an upstream's balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balancing {
    /// How one is picked. Default: peak EWMA.
    pub algorithm: Algorithm,
    /// What ring hash and Maglev go by; none for the others.
    pub hash_on: Option<HashOn>,
    /// In which an endpoint that became usable comes to its full share. Default none.
    pub slow_start: Option<Duration>,
    /// Below this part of usable endpoints, in percent, all are called. Default 50.
    pub panic_threshold: u8,
    /// Where the gateway is: endpoints of the same zone are preferred. Default nowhere.
    pub zone: Option<Arc<str>>,
}

/// A way to pick an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// By answering time and calls under way.
    PeakEwma,
    /// By calls under way.
    LeastRequest,
    /// In turn.
    RoundRobin,
    /// By chance.
    Random,
    /// By a key, on a ring.
    RingHash,
    /// By a key, in a table.
    Maglev,
}

/// What a call's key is taken from. Calls without it are spread as by chance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOn {
    /// A header's value.
    Header(HeaderName),
    /// A cookie's value.
    Cookie(Box<str>),
    /// A claim of the caller's identity, as text.
    Claim(ClaimPath),
    /// The client's address.
    ClientIp,
}

impl Default for Balancing {
    fn default() -> Self {
        Self { algorithm: Algorithm::PeakEwma, hash_on: None, slow_start: None, panic_threshold: 50, zone: None }
    }
}
