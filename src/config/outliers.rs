//! When endpoints whose calls fail are left alone for a while: the `outlier_detection` section of an upstream, resolved.

use std::time::Duration;

use super::retry::Codes;
use crate::grpc::status::Code;

/// Settings of an upstream's outlier detection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Codes with which a call counts as failed, beside resets and replies that are not gRPC. Default UNAVAILABLE and
    /// INTERNAL.
    pub codes: Codes,
    /// Failed calls in a row after which an endpoint is ejected; none for any number. Default 5.
    pub consecutive_failures: Option<u32>,
    /// The part of failed calls in an interval, in percent, from which on an endpoint is ejected. Default 85.
    pub failure_rate: Option<u8>,
    /// Standard deviations below the mean success rate of all endpoints, in tenths, from which on an endpoint is ejected.
    /// Default 1.9 deviations.
    pub success_deviation: Option<u32>,
    /// Calls that an endpoint must have had in an interval for its rates to mean something. Default 100.
    pub minimum_calls: u64,
    /// After which rates are looked at. Default 10 s.
    pub interval: Duration,
    /// For how long the first ejection lasts; the second one twice as long, and so on. Default 30 s.
    pub base_ejection: Duration,
    /// The longest ejection. Default 5 min.
    pub longest_ejection: Duration,
    /// Of all endpoints, in percent; one of several may always be ejected, the only one never. Default 50.
    pub max_ejected: u8,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            codes: Codes::of(&[Code::Unavailable, Code::Internal]),
            consecutive_failures: Some(5),
            failure_rate: Some(85),
            success_deviation: Some(19),
            minimum_calls: 100,
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            longest_ejection: Duration::from_mins(5),
            max_ejected: 50,
        }
    }
}
