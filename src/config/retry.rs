//! When a method's calls are sent again, or to two endpoints: the `retry` and `hedge` sections of a policy, resolved.

use std::time::Duration;

use crate::grpc::status::Code;

/// Codes, one bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Codes(u32);

/// Settings of retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts beyond the first. Default 1.
    pub retries: u32,
    /// Codes after which there is another. Default UNAVAILABLE.
    pub on: Codes,
    /// The longest wait before the first retry; it doubles with each, and a part of it is drawn by chance. Default 25 ms.
    pub base_backoff: Duration,
    /// What it grows to. Default 250 ms.
    pub max_backoff: Duration,
    /// For one attempt up to its reply, if there is another one left. Default none.
    pub per_try_timeout: Option<Duration>,
    /// Bytes of a request that are kept to be sent again. Default 64 KiB.
    pub buffer: usize,
}

/// Settings of hedging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hedge {
    /// Attempts, the first included, that a call may have under way. Default 2.
    pub attempts: u32,
    /// After which a further one is sent if there is no reply. Default 50 ms.
    pub delay: Duration,
    /// Codes that do not end the call while another attempt may still succeed. Default UNAVAILABLE.
    pub non_fatal: Codes,
    /// Whether the method may be called twice although its schema does not say so. Default `false`.
    pub assume_idempotent: bool,
}

impl Codes {
    /// A set of these.
    pub const fn of(codes: &[Code]) -> Self {
        let (mut bits, mut index) = (0, 0);
        while index < codes.len() {
            bits |= 1 << codes[index] as u32;
            index += 1;
        }
        Self(bits)
    }

    /// Whether the code of that number is among them.
    pub fn contain(self, number: u32) -> bool {
        number < u32::BITS && self.0 & (1 << number) != 0
    }

    /// The codes, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Code> {
        (0..).map_while(Code::from_number).filter(move |code| self.contain(code.number()))
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            retries: 1,
            on: Codes::of(&[Code::Unavailable]),
            base_backoff: Duration::from_millis(25),
            max_backoff: Duration::from_millis(250),
            per_try_timeout: None,
            buffer: DEFAULT_BUFFER,
        }
    }
}

impl Default for Hedge {
    fn default() -> Self {
        Self {
            attempts: 2,
            delay: Duration::from_millis(50),
            non_fatal: Codes::of(&[Code::Unavailable]),
            assume_idempotent: false,
        }
    }
}

/// Bytes of a request that are kept for another attempt unless something else is said.
pub const DEFAULT_BUFFER: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_codes_has_what_was_put_in() {
        let codes = Codes::of(&[Code::Unavailable, Code::Aborted]);

        assert_eq!(codes.iter().collect::<Vec<_>>(), [Code::Aborted, Code::Unavailable]);
        assert!(!codes.contain(0) && !codes.contain(4711));
    }
}
