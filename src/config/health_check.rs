//! How endpoints are asked whether they can take calls: the `health_check` section of an upstream, resolved.

use std::time::Duration;

/// Settings of an upstream's health checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked. Default: the health of the server as a whole, again and again.
    pub probe: Probe,
    /// Between two checks of one endpoint, less up to a tenth. Default 5 s.
    pub interval: Duration,
    /// For one check, connecting included. Default 1 s.
    pub timeout: Duration,
    /// Checks in a row that must pass before an endpoint that failed is called again. Default 1.
    pub healthy_threshold: u32,
    /// Checks in a row that must fail before an endpoint is not called any more. Default 2.
    pub unhealthy_threshold: u32,
}

/// A question to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// `grpc.health.v1`.
    Grpc {
        /// Whose health it is; empty for the server as a whole.
        service: Box<str>,
        /// Whether the endpoint is to tell by itself when something changes.
        watch: bool,
    },
    /// Whether it accepts connections.
    Tcp,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            probe: Probe::Grpc { service: "".into(), watch: false },
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            healthy_threshold: 1,
            unhealthy_threshold: 2,
        }
    }
}
