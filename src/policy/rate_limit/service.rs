//! What a rate-limit service is asked, and what its answer means: `envoy.service.ratelimit.v3`
//! ([rls.proto](https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/ratelimit/v3/rls.proto)).
//!
//! Pure: who asks is `proxy::ask`. **Invariant**: an answer adds nothing to a reply but headers that are free to be set, and
//! no value in it can start another header.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use crate::config::rate_limit::{KeyPart, Service};
use crate::grpc::metadata;
use crate::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use crate::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use crate::pb::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
use crate::pb::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus};
use crate::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};

/// Where calls are asked.
pub const SHOULD_RATE_LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
/// Headers that one answer may add to a reply.
const MAX_HEADERS: usize = 64;
/// Bytes of a header's value in an answer.
const MAX_VALUE: usize = 4 << 10;

/// What a service says of the limits of a call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judged {
    /// Whether the call is refused.
    pub over: bool,
    /// By descriptor; none where the service knows no limit.
    pub limits: SmallVec<[Option<Said>; 4]>,
    /// For the reply.
    pub headers: HeaderMap,
}

/// What a service says of one limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// Whether the call is over it. What becomes of the call is not for one limit to say.
    pub over: bool,
    /// What is left.
    pub remaining: u64,
    /// When there will be more, after a refusal, or else all of it; none where the service does not tell.
    pub reset: Option<Duration>,
    /// How many in which time; none where the service does not tell.
    pub quota: Option<(u32, Duration)>,
}

impl Judged {
    /// Whether it is said which limit refuses.
    pub fn names_one(&self) -> bool {
        self.limits.iter().flatten().any(|said| said.over)
    }
}

/// Asks for a call that costs so much, by one descriptor for each limit.
pub fn question(service: &Service, descriptors: Vec<RateLimitDescriptor>, cost: u32) -> RateLimitRequest {
    RateLimitRequest { domain: service.domain.to_string(), descriptors, hits_addend: cost }
}

/// The descriptor of a limit: an entry for each part of its key, named as Envoy names what it has a name for. A limit
/// without a key is known by its name.
pub fn descriptor<'k>(name: &str, parts: impl Iterator<Item = (&'k KeyPart, String)>) -> RateLimitDescriptor {
    let mut entries: Vec<Entry> = parts.map(|(part, value)| entry(part, value)).collect();
    if entries.is_empty() {
        entries.push(Entry { key: "generic_key".to_owned(), value: name.to_owned() });
    }
    RateLimitDescriptor { entries }
}

fn entry(part: &KeyPart, value: String) -> Entry {
    let key = match part {
        KeyPart::ClientIp => "remote_address",
        KeyPart::Method => "method",
        KeyPart::Service => "service",
        KeyPart::ApiKey => "api_key",
        KeyPart::Claim(path) => return Entry { key: path.to_string(), value },
        KeyPart::Field(path) => path,
        KeyPart::Header(name) => name.as_str(),
        KeyPart::Constant(text) => {
            let (key, value) = text.split_once('=').unwrap_or(("generic_key", text));
            return Entry { key: key.to_owned(), value: value.to_owned() };
        }
    };
    Entry { key: key.to_owned(), value }
}

/// What the answer to so many descriptors means.
///
/// # Errors
/// It decides nothing, and is no answer.
pub fn judge(answer: &RateLimitResponse, descriptors: usize) -> Result<Judged, String> {
    let over = match answer.overall_code() {
        Code::Ok => false,
        Code::OverLimit => true,
        Code::Unknown => return Err(format!("its code {} is neither OK nor OVER_LIMIT", answer.overall_code)),
    };
    let limits = answer.statuses.iter().map(said).chain(std::iter::repeat_with(|| None)).take(descriptors);
    let mut headers = HeaderMap::new();
    for header in answer.response_headers_to_add.iter().take(MAX_HEADERS) {
        let value = if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value };
        // Metadata is printable ASCII; and a line break would start a header of its own.
        let fits = value.len() <= MAX_VALUE && value.iter().all(|byte| (0x20..=0x7e).contains(byte));
        let name = HeaderName::from_bytes(header.key.as_bytes()).ok().filter(|name| fits && metadata::is_public(name));
        if let (Some(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    Ok(Judged { over, limits: limits.collect(), headers })
}

fn said(status: &DescriptorStatus) -> Option<Said> {
    let over = status.code() == Code::OverLimit;
    let reset = status.duration_until_reset.as_ref().map(|reset| {
        Duration::new(
            u64::try_from(reset.seconds).unwrap_or(0),
            u32::try_from(reset.nanos).unwrap_or(0).min(999_999_999),
        )
    });
    let quota = status.current_limit.as_ref().and_then(|limit| Some((limit.requests_per_unit, length(limit.unit())?)));
    if quota.is_none() && !over {
        return None;
    }
    let remaining = if over { 0 } else { status.limit_remaining.into() };
    // At once is no answer to when the same call would be let in.
    Some(Said { over, remaining, reset: reset.filter(|reset| !over || !reset.is_zero()), quota })
}

fn length(unit: Unit) -> Option<Duration> {
    let days = match unit {
        Unit::Unknown => return None,
        Unit::Second => return Some(Duration::from_secs(1)),
        Unit::Minute => return Some(Duration::from_secs(60)),
        Unit::Hour => return Some(Duration::from_secs(3600)),
        Unit::Day => 1,
        Unit::Week => 7,
        Unit::Month => 30,
        Unit::Year => 365,
    };
    Some(Duration::from_secs(days * 86_400))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::envoy::config::core::v3::HeaderValue as Header;
    use crate::pb::envoy::service::ratelimit::v3::rate_limit_response::RateLimit;
    use crate::pb::google::protobuf::Duration as Span;

    fn status(code: Code, remaining: u32, seconds: i64) -> DescriptorStatus {
        DescriptorStatus {
            code: code.into(),
            current_limit: Some(RateLimit { requests_per_unit: 5, unit: Unit::Minute.into(), name: String::new() }),
            limit_remaining: remaining,
            duration_until_reset: Some(Span { seconds, nanos: 0 }),
        }
    }

    #[test]
    fn names_entries_as_envoy_does() {
        let parts = ["client_ip", "method", "claim:a.b", "header:x-tenant", "constant:api", "constant:plan=gold"]
            .map(|text| text.parse::<KeyPart>().unwrap());

        let named = descriptor("limit", parts.iter().map(|part| (part, "v".to_owned())));

        let named: Vec<_> = named.entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())).collect();
        let expected = [
            ("remote_address", "v"),
            ("method", "v"),
            ("a.b", "v"),
            ("x-tenant", "v"),
            ("generic_key", "api"),
            ("plan", "gold"),
        ];
        assert_eq!(named, expected);
        assert_eq!(descriptor("limit", std::iter::empty()).entries[0].value, "limit");
    }

    #[test]
    fn tells_of_each_limit_what_the_service_says() {
        let statuses = vec![status(Code::Ok, 3, 40), status(Code::OverLimit, 0, 7)];
        let answer =
            RateLimitResponse { overall_code: Code::OverLimit.into(), statuses, ..RateLimitResponse::default() };

        let judged = judge(&answer, 3).unwrap();

        let minute = Some((5, Duration::from_secs(60)));
        assert!(judged.over);
        let said = |over, remaining, reset| {
            Some(Said { over, remaining, reset: Some(Duration::from_secs(reset)), quota: minute })
        };
        assert_eq!(judged.limits.as_slice(), [said(false, 3, 40), said(true, 0, 7), None]);
    }

    #[test]
    fn an_answer_that_decides_nothing_is_none() {
        assert!(judge(&RateLimitResponse::default(), 1).is_err());
        assert!(judge(&RateLimitResponse { overall_code: 9, ..RateLimitResponse::default() }, 1).is_err());
    }

    #[test]
    fn adds_only_headers_that_are_free_to_be_set() {
        let headers = [
            ("x-ratelimit-limit", "5"),
            ("grpc-status", "0"),
            ("content-length", "7"),
            ("connection", "close"),
            ("x-line", "a\r\nset-cookie: b"),
            ("no name", "1"),
        ];
        let headers = headers.map(|(key, value)| Header { key: key.into(), value: value.into(), ..Header::default() });
        let answer = RateLimitResponse {
            overall_code: Code::Ok.into(),
            response_headers_to_add: headers.into(),
            ..RateLimitResponse::default()
        };

        let judged = judge(&answer, 0).unwrap();

        assert_eq!(judged.headers.len(), 1);
        assert_eq!(judged.headers["x-ratelimit-limit"], "5");
    }
}
