//! What a reply says of limits: `RateLimit-Policy` and `RateLimit`, and the older fields that many clients read.
//!
//! The former are lists of RFC 9651, one item for each limit by its name
//! ([draft-ietf-httpapi-ratelimit-headers](https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/)):
//!
//! ```text
//! ratelimit-policy: "per-client";q=100;w=1;portico-burst=200, "open";q=50;qu="concurrent-requests"
//! ratelimit: "per-client";r=199;t=1, "open";r=49
//! ```
//!
//! `q` and `w` are the quota as it was configured, `r` is what is left and `t` is when: after a refusal, when the same call
//! would be let in; else, when everything has come back. What an upstream says in the same fields stays beside it.

use std::fmt::Write as _;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Limit;
use super::gcra::Decision;
use super::service::Said;
use crate::config::rate_limit::{Quota, ReplyFields};

/// The limits, as they were configured.
pub const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// What is left of them.
pub const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const LEGACY_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const LEGACY_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const LEGACY_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// All of them, for browsers.
pub const ALL: [HeaderName; 5] = [POLICY, LIMIT, LEGACY_LIMIT, LEGACY_REMAINING, LEGACY_RESET];

/// What a caller is told of one limit.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// The limit's place among those of the method.
    index: usize,
    what: What,
    remaining: u64,
    /// Seconds.
    until: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Rate(Quota),
    Open(u32),
    /// So many in so many seconds, by a service.
    Asked(u32, u64),
}

impl Told {
    /// Of a quota.
    pub fn rate(limit: &Limit, quota: Quota, decision: &Decision) -> Self {
        let until = if decision.allowed { decision.reset } else { decision.retry_after };
        Self {
            index: limit.index,
            what: What::Rate(quota),
            remaining: if decision.allowed { decision.remaining } else { 0 },
            until: Some(seconds(until)),
        }
    }

    /// Of a limit that a service keeps, with how many it lets in in which time.
    pub fn asked(limit: &Limit, (count, window): (u32, Duration), said: &Said) -> Self {
        let what = What::Asked(count, window.as_secs());
        Self { index: limit.index, what, remaining: said.remaining, until: said.reset.map(seconds) }
    }

    /// Of a limit on open calls.
    pub fn open(limit: &Limit, most: u32, left: u32) -> Self {
        Self { index: limit.index, what: What::Open(most), remaining: left.into(), until: None }
    }

    fn policy(&self, name: &str, into: &mut String) {
        let written = match self.what {
            What::Rate(quota) if quota.burst == quota.count => {
                write!(into, "\"{name}\";q={};w={}", quota.count, quota.unit.seconds())
            }
            What::Rate(Quota { count, unit, burst }) => {
                write!(into, "\"{name}\";q={count};w={};portico-burst={burst}", unit.seconds())
            }
            What::Asked(count, window) => write!(into, "\"{name}\";q={count};w={window}"),
            What::Open(most) => write!(into, "\"{name}\";q={most};qu=\"concurrent-requests\""),
        };
        written.expect("a string takes whatever is written");
    }

    fn state(&self, name: &str, into: &mut String) {
        let until = self.until.map(|until| format!(";t={until}")).unwrap_or_default();
        write!(into, "\"{name}\";r={}{until}", self.remaining).expect("a string takes whatever is written");
    }

    fn quota(&self) -> u64 {
        match self.what {
            What::Rate(quota) => quota.count.into(),
            What::Open(most) | What::Asked(most, _) => most.into(),
        }
    }
}

/// Whole seconds, rounded up, so that who waits as long does not come too early.
pub fn seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

/// Puts what a caller is told into the head of its reply. `name` gives the name of a limit by its place, of characters that
/// need no escape.
pub fn put<'n>(headers: &mut HeaderMap, told: &[Told], name: impl Fn(usize) -> &'n str, wanted: ReplyFields) {
    if told.is_empty() {
        return;
    }
    if matches!(wanted, ReplyFields::Standard | ReplyFields::Both) {
        let mut sorted: Vec<&Told> = told.iter().collect();
        sorted.sort_by_key(|told| told.index);
        for (field, write) in [(POLICY, Told::policy as fn(&Told, &str, &mut String)), (LIMIT, Told::state)] {
            let mut text = String::with_capacity(sorted.len() * 48);
            for (index, told) in sorted.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { ", " });
                write(told, name(told.index), &mut text);
            }
            if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(text)) {
                headers.append(field, value);
            }
        }
    }
    if matches!(wanted, ReplyFields::Legacy | ReplyFields::Both)
        && let Some(nearest) = told.iter().min_by_key(|told| told.remaining)
    {
        headers.insert(LEGACY_LIMIT, HeaderValue::from(nearest.quota()));
        headers.insert(LEGACY_REMAINING, HeaderValue::from(nearest.remaining));
        if let Some(until) = nearest.until {
            headers.insert(LEGACY_RESET, HeaderValue::from(until));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rate_limit::Unit;

    fn told(index: usize, what: What, remaining: u64, until: Option<u64>) -> Told {
        Told { index, what, remaining, until }
    }

    fn name(index: usize) -> &'static str {
        ["a", "b", "c"][index]
    }

    #[test]
    fn every_limit_is_an_item_of_both_lists() {
        let burst = |count, unit, burst| What::Rate(Quota::new(count, unit, burst).expect("a quota"));
        let told = [
            told(1, burst(10, Unit::Minute, Some(20)), 7, Some(3)),
            told(0, burst(100, Unit::Second, None), 99, Some(1)),
            told(2, What::Open(5), 4, None),
        ];
        let mut headers = HeaderMap::new();

        put(&mut headers, &told, name, ReplyFields::Both);

        assert_eq!(
            headers[POLICY],
            "\"a\";q=100;w=1, \"b\";q=10;w=60;portico-burst=20, \"c\";q=5;qu=\"concurrent-requests\""
        );
        assert_eq!(headers[LIMIT], "\"a\";r=99;t=1, \"b\";r=7;t=3, \"c\";r=4");
        assert_eq!(
            (&headers[LEGACY_LIMIT], &headers[LEGACY_REMAINING]),
            (&"5".parse().unwrap(), &"4".parse().unwrap())
        );
        assert!(!headers.contains_key(LEGACY_RESET));
    }

    #[test]
    fn nothing_is_said_where_nothing_is_wanted() {
        let told = [told(0, What::Open(5), 4, None)];
        for (wanted, expected) in
            [(ReplyFields::Off, 0), (ReplyFields::Standard, 2), (ReplyFields::Legacy, 2), (ReplyFields::Both, 4)]
        {
            let mut headers = HeaderMap::new();
            put(&mut headers, &told, name, wanted);
            assert_eq!(headers.len(), expected, "{wanted:?}");
            put(&mut headers, &[], name, wanted);
            assert_eq!(headers.len(), expected, "{wanted:?}");
        }
    }

    #[test]
    fn seconds_are_rounded_up() {
        for (millis, expected) in [(0, 0), (1, 1), (1000, 1), (1001, 2)] {
            assert_eq!(seconds(Duration::from_millis(millis)), expected);
        }
    }
}
