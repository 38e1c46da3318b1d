//! How much an upstream is given to do at once: its `circuit_breaker` section, resolved.
//!
//! All of it counts over the whole process.

/// Bounds on what goes to an upstream at once. Beyond them calls fail at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// Calls and streams at all endpoints. Default 16,384.
    pub max_requests: u64,
    /// Calls that wait for a place on a connection. Default 1,024.
    pub max_pending: u64,
    /// Open connections. Default 1,024; each worker's first one to an endpoint is never refused.
    pub max_connections: u64,
    /// Attempts at once that are not the first one of their call. Default 256.
    pub max_retries: u64,
    /// Calls and streams at one endpoint. Default 16,384.
    pub endpoint_requests: u64,
    /// Calls that wait for a place at one endpoint. Default 1,024.
    pub endpoint_pending: u64,
    /// The share of further attempts beside the calls of the last ten seconds, in percent. Default 20.
    pub retry_budget: u8,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            max_requests: 16_384,
            max_pending: 1024,
            max_connections: 1024,
            max_retries: 256,
            endpoint_requests: 16_384,
            endpoint_pending: 1024,
            retry_budget: 20,
        }
    }
}
