//! How often a method may be called: the `rate_limits` of a policy and the section `rate_limiting`, resolved.
//!
//! Here is what a limit says. What it means for a call is decided in `policy::rate_limit`.
//!
//! **Invariant**: a [`Quota`] can be kept and can be used: its interval is between a microsecond and a year, and a call's
//! cost is not more than its burst.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::claim::ClaimPath;
use super::redis::OnFailure;

/// What holds for all limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimiting {
    /// Bytes that the counters of the process's own store may take. Default 64 MiB.
    pub memory: usize,
    /// What replies say of limits. Default the standard's fields.
    pub headers: ReplyFields,
    /// Services that count, other than this one.
    pub services: Arc<[Arc<Service>]>,
}

/// Which fields tell the client of its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplyFields {
    /// `ratelimit-policy` and `ratelimit`
    /// ([draft-ietf-httpapi-ratelimit-headers](https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/)).
    #[default]
    Standard,
    /// `x-ratelimit-limit`, `x-ratelimit-remaining` and `x-ratelimit-reset`, for the limit that is nearest to its end.
    Legacy,
    /// Both.
    Both,
    /// None; a refusal still says when to come back.
    Off,
}

/// One limit, as one policy sets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// By which its state is found again after a reload, and by other replicas: unique in the configuration.
    pub id: Arc<str>,
    /// Shown to clients and in metrics: unique in the configuration.
    pub name: Arc<str>,
    /// What tells callers apart; all share one count when it is empty.
    pub key: Vec<KeyPart>,
    /// Whether a header of the key is set by an authorizer, so that it is not there before.
    pub late: bool,
    /// What happens to calls that lack a part of the key.
    pub missing: Missing,
    /// What is limited.
    pub rule: Rule,
    /// Where it is counted.
    pub store: Store,
    /// Counted and never refused.
    pub shadow: bool,
}

/// What is limited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// How often something happens.
    Rate(Rate),
    /// How many calls are open at once.
    Open(u32),
    /// How often calls begin, by the quota of the service that is the limit's store; what each costs.
    Asked(u32),
}

/// How often something may happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate {
    /// Of a caller without a tier.
    pub quota: Quota,
    /// What each costs, at most the burst of every quota. Default 1.
    pub cost: u32,
    /// What is counted. Default calls.
    pub counts: Counted,
    /// Quotas by a claim.
    pub tiers: Option<Tiers>,
}

/// What a rate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Counted {
    /// Calls, when they begin.
    #[default]
    Calls,
    /// Messages that the client sends, the first one too.
    Messages,
}

/// Quotas by the value of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tiers {
    /// Path of the claim.
    pub claim: ClaimPath,
    /// Value and quota, in file order.
    pub quotas: Vec<(Box<str>, Quota)>,
}

/// So many per unit, and as many at once as the burst says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How many in each unit, at least 1.
    pub count: u32,
    /// In which.
    pub unit: Unit,
    /// How many at once after a pause, at least 1.
    pub burst: u32,
}

/// A unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// `s`
    Second,
    /// `min`
    Minute,
    /// `h`
    Hour,
    /// `day`, of 24 hours.
    Day,
}

/// A part of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPart {
    /// The client's address, of IPv6 the first 64 bits.
    ClientIp,
    /// `pkg.Service/Method`; one for all methods of an upstream that no schema knows.
    Method,
    /// `pkg.Service`; the same.
    Service,
    /// A claim of the caller's identity, by its path.
    Claim(ClaimPath),
    /// The name of the caller's API key.
    ApiKey,
    /// A header's values.
    Header(HeaderName),
    /// A field of the first request message, by its path.
    Field(Box<str>),
    /// A text.
    Constant(Box<str>),
}

/// What becomes of calls that lack a part of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missing {
    /// They share a count among themselves, so that leaving something out wins nothing.
    #[default]
    Share,
    /// The limit is not for them.
    Skip,
}

/// Where a limit is counted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Store {
    /// In the process, for all its workers together.
    #[default]
    Local,
    /// In the Redis of the configuration, for all gateways together.
    Redis {
        /// The part of a burst that one gateway may take in advance, in percent; 0 where it asks for each call.
        lease: u8,
        /// What becomes of a call for which there is no answer.
        on_failure: OnFailure,
    },
    /// By a service, which knows the quotas.
    Service {
        /// Which.
        service: Arc<Service>,
        /// What becomes of a call for which there is no answer.
        on_failure: OnFailure,
    },
}

/// A service that counts: `envoy.service.ratelimit.v3.RateLimitService`.
#[derive(Debug, PartialEq, Eq)]
pub struct Service {
    /// Unique name, by which limits name it as their store.
    pub name: Arc<str>,
    /// Index of the upstream that it is.
    pub upstream: usize,
    /// The domain that it knows the gateway's limits by.
    pub domain: Box<str>,
    /// For the whole answer. Default 20 ms.
    pub timeout: Duration,
    /// What becomes of a call for which there is no answer, unless its limit says otherwise. Never local.
    pub on_failure: OnFailure,
}

impl KeyPart {
    /// Whether it is known only once the caller is.
    pub fn needs_identity(&self) -> bool {
        match self {
            Self::Claim(_) | Self::ApiKey => true,
            Self::ClientIp | Self::Method | Self::Service | Self::Header(_) | Self::Field(_) | Self::Constant(_) => {
                false
            }
        }
    }

    /// Whether there are calls without it.
    pub fn may_be_absent(&self) -> bool {
        match self {
            Self::Claim(_) | Self::ApiKey | Self::Header(_) | Self::Field(_) => true,
            Self::ClientIp | Self::Method | Self::Service | Self::Constant(_) => false,
        }
    }

    /// Whether it is known only once the first message is there.
    pub fn needs_message(&self) -> bool {
        matches!(self, Self::Field(_))
    }
}

impl RateLimit {
    /// Whether the caller must be known, and what authorizers say of it.
    pub fn needs_identity(&self) -> bool {
        let tiers = match &self.rule {
            Rule::Rate(rate) => rate.tiers.is_some(),
            Rule::Open(_) | Rule::Asked(_) => false,
        };
        tiers || self.late || self.key.iter().any(KeyPart::needs_identity)
    }

    /// Whether the first message must be there.
    pub fn needs_message(&self) -> bool {
        self.key.iter().any(KeyPart::needs_message)
    }
}

impl Unit {
    /// As it is written in a quota.
    pub fn name(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "min",
            Self::Hour => "h",
            Self::Day => "day",
        }
    }

    /// How long it is.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.seconds())
    }

    /// The same in seconds.
    pub fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86_400,
        }
    }
}

impl Quota {
    /// The most that may happen in a second: intervals are whole nanoseconds, and rounding stays below a thousandth.
    pub const MAX_PER_SECOND: u64 = 1_000_000;
    /// How long a burst that was used up may take to come back.
    pub const MAX_RECOVERY: Duration = Duration::from_hours(366 * 24);

    /// A quota whose burst is one whole unit's worth, or another.
    ///
    /// # Errors
    /// What is out of its bounds.
    pub fn new(count: u32, unit: Unit, burst: Option<u32>) -> Result<Self, String> {
        let quota = Self { count, unit, burst: burst.unwrap_or(count) };
        if count == 0 || quota.burst == 0 {
            return Err("a quota of nothing lets nobody in; leave the method out or refuse it by `authorize`".into());
        }
        if u64::from(count) > Self::MAX_PER_SECOND.saturating_mul(unit.seconds()) {
            return Err(format!("{quota} is more than {} per second", Self::MAX_PER_SECOND));
        }
        if quota.recovery() > Self::MAX_RECOVERY {
            return Err(format!("a burst of {} at {quota} takes more than a year to come back", quota.burst));
        }
        Ok(quota)
    }

    /// How long a burst that was used up takes to come back, in whole seconds.
    pub fn recovery(self) -> Duration {
        let burst = u64::from(self.burst).saturating_mul(self.unit.seconds());
        Duration::from_secs(burst / u64::from(self.count).max(1))
    }
}

/// `100/s`, `10/min`, `1000/h` or `5000/day`, with a burst of as many.
impl FromStr for Quota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not a quota; write how many in which unit, such as 100/s, 10/min or 1000/h");
        let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
        let (count, unit) = (count.trim(), unit.trim());
        let digits = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
        if !digits {
            return Err(wrong());
        }
        let unit = [Unit::Second, Unit::Minute, Unit::Hour, Unit::Day].into_iter().find(|known| known.name() == unit);
        let unit = unit.ok_or_else(|| format!("{text:?} has no unit that there is; there are s, min, h, day"))?;
        let count = count.parse().map_err(|_| format!("{text:?} is too large"))?;
        Self::new(count, unit, None)
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.unit.name())
    }
}

/// In one line, for people.
impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Rule::Open(most) => write!(f, "{}: {most} calls open at once", self.name)?,
            Rule::Asked(_) => write!(f, "{}: as its service says", self.name)?,
            Rule::Rate(Rate { quota, counts, tiers, .. }) => {
                let what = if *counts == Counted::Messages { " messages" } else { "" };
                write!(f, "{}: {quota}{what}, {} at once", self.name, quota.burst)?;
                for (tier, quota) in tiers.iter().flat_map(|tiers| &tiers.quotas) {
                    write!(f, ", {tier} {quota}")?;
                }
            }
        }
        let parts: Vec<String> = self.key.iter().map(KeyPart::to_string).collect();
        if !parts.is_empty() {
            write!(f, ", by {}", parts.join(" and "))?;
        }
        f.write_str(if self.shadow { ", in shadow mode" } else { "" })
    }
}

/// As the reference names the kinds.
impl fmt::Display for KeyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientIp => f.write_str("client_ip"),
            Self::Method => f.write_str("method"),
            Self::Service => f.write_str("service"),
            Self::ApiKey => f.write_str("api_key"),
            Self::Claim(path) => write!(f, "claim:{path}"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Field(path) => write!(f, "field:{path}"),
            Self::Constant(text) => write!(f, "constant:{text}"),
        }
    }
}

impl FromStr for KeyPart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, rest) = text.split_once(':').map_or((text, None), |(kind, rest)| (kind, Some(rest.trim())));
        let rest = rest.filter(|rest| !rest.is_empty());
        let is_path = |path: &str| path.split('.').all(|part| !part.is_empty());
        match (kind, rest) {
            ("client_ip", None) => Ok(Self::ClientIp),
            ("method", None) => Ok(Self::Method),
            ("service", None) => Ok(Self::Service),
            ("api_key", None) => Ok(Self::ApiKey),
            ("claim", Some(path)) => path.parse().map(Self::Claim),
            ("field", Some(path)) if is_path(path) => Ok(Self::Field(path.into())),
            ("constant", Some(text)) => Ok(Self::Constant(text.into())),
            ("header", Some(name)) => HeaderName::from_bytes(name.as_bytes())
                .map(Self::Header)
                .map_err(|_| format!("{name:?} is not the name of a header")),
            _ => Err(format!(
                "{text:?} is no part of a key; there are client_ip, method, service, api_key, claim:PATH, header:NAME, \
                 field:PATH and constant:TEXT"
            )),
        }
    }
}

impl Default for RateLimiting {
    fn default() -> Self {
        Self { memory: 64 << 20, headers: ReplyFields::default(), services: Arc::new([]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_read_as_they_are_shown() {
        for text in ["100/s", "10/min", "1000/h", "1/day", "1000000/s"] {
            let quota: Quota = text.parse().expect(text);

            assert_eq!(quota.to_string(), text);
            assert_eq!(quota.burst, quota.count);
        }
    }

    #[test]
    fn refuses_quotas_that_cannot_be_kept() {
        let cases = [
            ("100", "write how many in which unit"),
            ("/s", "write how many in which unit"),
            ("-1/s", "write how many in which unit"),
            ("1.5/s", "write how many in which unit"),
            ("10/m", "there are s, min, h, day"),
            ("10/ms", "there are s, min, h, day"),
            ("99999999999/s", "is too large"),
            ("1000001/s", "more than 1000000 per second"),
            ("0/s", "lets nobody in"),
        ];

        for (text, expected) in cases {
            let message = text.parse::<Quota>().expect_err(text);
            assert!(message.contains(expected), "{text}: {message}");
        }
        assert!(Quota::new(1, Unit::Day, Some(367)).is_err());
        assert!(Quota::new(1, Unit::Day, Some(366)).is_ok());
    }

    #[test]
    fn parts_of_keys_read_as_they_are_shown() {
        for text in [
            "client_ip",
            "method",
            "service",
            "api_key",
            "claim:sub",
            "claim:realm_access.roles",
            "header:x-tenant",
            "field:book.name",
            "constant:a:b",
        ] {
            assert_eq!(text.parse::<KeyPart>().map(|part| part.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "ip", "claim", "claim:", "claim:a..b", "client_ip:x", "header:", "header:a b", "Method"] {
            assert!(text.parse::<KeyPart>().is_err(), "{text}");
        }
    }
}
