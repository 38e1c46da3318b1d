//! How often methods may be called.

use std::ops::RangeInclusive;
use std::sync::Arc;

use http::HeaderName;

use super::rate_store::{RawStore, Stores, idle_lease, misfit};
use super::{bounded, choose, each, require, to_u32, to_usize, value, value_or};
use crate::config::authorization::Authorizer;
use crate::config::file::{RateLimit as RawLimit, RateLimiting as RawLimiting, TierSection, Tiers as RawTiers};
use crate::config::problem::Place;
use crate::config::rate_limit::{
    Counted, KeyPart, Missing, Quota, Rate, RateLimit, RateLimiting, ReplyFields, Rule, Store, Tiers,
};
use crate::config::read::{Clearable, List, Located, Report};
use crate::config::units::Size;
use crate::config::{Change, Policy};
use crate::grpc::metadata::is_alike;

/// What holds for all limits.
pub(super) fn limiting(raw: RawLimiting, stores: &Stores, report: &mut Report<'_>) -> RateLimiting {
    let RawLimiting { memory, headers, services: _ } = raw;
    let default = RateLimiting::default();
    let words = [
        ("standard", ReplyFields::Standard),
        ("legacy", ReplyFields::Legacy),
        ("both", ReplyFields::Both),
        ("off", ReplyFields::Off),
    ];
    RateLimiting {
        memory: memory.map_or(default.memory, |memory| to_usize(bounded(&memory, MEMORY, report).0)),
        headers: headers.and_then(|word| choose(word, &words, report)).unwrap_or_default(),
        services: stores.services(),
    }
}

/// The limits of a file, as they are read one policy after the other.
#[derive(Debug)]
pub(super) struct Limits<'s> {
    stores: &'s Stores,
    authorizers: &'s [Arc<Authorizer>],
    /// Headers in keys.
    headers: Vec<(HeaderName, Place)>,
    /// Names that are taken, with the place of those that were given.
    names: Vec<(Arc<str>, Option<Place>)>,
}

impl<'s> Limits<'s> {
    /// None yet; they may name these stores, and headers that these authorizers set.
    pub(super) fn new(stores: &'s Stores, authorizers: &'s [Arc<Authorizer>]) -> Self {
        Self { stores, authorizers, headers: Vec::new(), names: Vec::new() }
    }

    /// Reports each header in a key that tells services who calls, and is never there when limits are asked.
    pub(super) fn check(&self, policies: &[Policy], report: &mut Report<'_>) {
        let told = || policies.iter().filter_map(|policy| policy.settings.identity.as_ref());
        for (name, at) in &self.headers {
            let claim =
                told().flat_map(|told| &told.headers).find(|(known, _)| is_alike(known.as_str(), name.as_str()));
            if let Some((_, claim)) = claim
                && !self.is_set(name)
            {
                let problem = "no caller can send it, because services learn by it who calls";
                report.problem(at, format!("`header:{name}` would never be there: {problem}; use `claim:{claim}`"));
            }
        }
    }

    /// Whether an authorizer sets it.
    fn is_set(&self, name: &HeaderName) -> bool {
        self.authorizers.iter().any(|authorizer| authorizer.headers.contains(name))
    }

    /// The limits that the policy of a pattern adds.
    pub(super) fn of(
        &mut self,
        raw: Option<Located<Clearable<List<RawLimit>>>>,
        pattern: &str,
        report: &mut Report<'_>,
    ) -> Change<Arc<[Arc<RateLimit>]>> {
        let Some(Located { value: raw, at }) = raw else { return Change::Inherited };
        let list = match raw {
            Clearable::None => return Change::Cleared,
            Clearable::Some(list) => list,
        };
        if list.written == 0 {
            report.problem(&at, "at least one limit is needed; `rate_limits: none` takes back what was inherited");
        }
        let limits: Vec<_> =
            list.items.into_iter().filter_map(|raw| self.limit(raw, pattern, report)).map(Arc::new).collect();
        Change::To(limits.into())
    }

    fn limit(&mut self, raw: Located<RawLimit>, pattern: &str, report: &mut Report<'_>) -> Option<RateLimit> {
        let Located { value: raw, at } = raw;
        let written = raw.key.as_ref().map_or(0, |list| list.value.written);
        if written > MAX_PARTS {
            report.problem(&at, format!("a key of {written} parts is too long; {MAX_PARTS} are allowed"));
        }
        let key = each(raw.key, report, |text| text.parse::<KeyPart>());
        if key.len() < written.min(MAX_PARTS) {
            return None;
        }
        let name = raw.name.and_then(|name| {
            let place = name.at.clone();
            Some((name.parse(report, |text| limit_name(text))?, place))
        });
        let headers = key.iter().filter_map(|part| if let KeyPart::Header(name) = part { Some(name) } else { None });
        let late = headers.clone().any(|name| self.is_set(name));
        self.headers.extend(headers.map(|name| (name.clone(), at.clone())));
        let (id, name) = self.name(name, &key, pattern, report);
        let lease_at = raw.lease.as_ref().map(|lease| lease.at.clone());
        let missing_at = raw.missing.as_ref().map(|missing| missing.at.clone());
        let store = RawStore { store: raw.store, lease: raw.lease, on_failure: raw.on_failure };
        let store = self.stores.choose(store, report)?;
        let rate = RawRate { burst: raw.burst, cost: raw.cost, count: raw.count, tiers: raw.tiers };
        let rule = rule(raw.quota, raw.max_open, rate, &store, &at, report)?;
        if let Some(problem) = misfit(&store, &rule, &key) {
            report.problem(&at, problem);
        }
        if key.iter().any(KeyPart::needs_message) && rule_is_open(&rule) {
            report.problem(&at, "`max_open` counts calls before their messages; `field` cannot be a part of its key");
        }
        let missing = raw.missing.and_then(|word| choose(word, &MISSING, report)).unwrap_or_default();
        let shadow = value_or(raw.shadow, false);
        let limit = RateLimit { id, name, key, late, missing, rule, store, shadow };
        if let Some(at) = missing_at
            && !limit.key.iter().any(KeyPart::may_be_absent)
        {
            report.warn(&at, "has no effect: every call has all parts of this key");
        }
        if let (Some(at), Some(reason)) = (lease_at, idle_lease(&limit)) {
            report.warn(&at, format!("has no effect: {reason}"));
        }
        Some(limit)
    }

    /// The identifier and the name of a limit. One without a name is called by its key, and found again by its policy.
    fn name(
        &mut self,
        given: Option<(Arc<str>, Place)>,
        key: &[KeyPart],
        pattern: &str,
        report: &mut Report<'_>,
    ) -> (Arc<str>, Arc<str>) {
        if let Some((name, at)) = given {
            match self.names.iter_mut().find(|(taken, _)| *taken == name) {
                Some((_, Some(first))) => {
                    report.problem(&at, format!("{name:?} is already the name of {}", first.path));
                }
                Some((_, made)) => *made = Some(at),
                None => self.names.push((Arc::clone(&name), Some(at))),
            }
            return (Arc::clone(&name), name);
        }
        let parts: Vec<String> = key.iter().map(KeyPart::to_string).collect();
        let base: String = parts.join("+").chars().map(|c| if is_plain(c) { c } else { '_' }).take(MAX_NAME).collect();
        let base = if base.is_empty() { "all".to_owned() } else { base };
        let numbered = |number: usize| if number == 1 { base.clone() } else { format!("{base}-{number}") };
        let free = |name: &str| !self.names.iter().any(|(taken, _)| **taken == *name);
        let name: Arc<str> = (1..).map(numbered).find(|name| free(name)).unwrap_or_default().into();
        // Counted within its policy, so that limits of other policies come and go without a change here.
        let own = |number: usize| format!("{pattern} {}", numbered(number));
        let id = (1..).map(own).find(|id| free(id)).unwrap_or_default();
        self.names.push((id.as_str().into(), None));
        self.names.push((Arc::clone(&name), None));
        (id.into(), name)
    }
}

/// The keys that belong to a quota.
struct RawRate {
    burst: Option<Located<u64>>,
    cost: Option<Located<u64>>,
    count: Option<Located<String>>,
    tiers: Option<Located<RawTiers>>,
}

impl RawRate {
    /// Reports each that is given, although there is no quota.
    fn refuse(self, reason: &str, report: &mut Report<'_>) {
        for (key, given) in [
            ("burst", self.burst.map(|key| key.at)),
            ("cost", self.cost.map(|key| key.at)),
            ("count", self.count.map(|key| key.at)),
            ("tiers", self.tiers.map(|key| key.at)),
        ] {
            if let Some(at) = given {
                report.problem(&at, format!("`{key}` belongs to a `quota`; {reason}"));
            }
        }
    }
}

/// What is limited.
fn rule(
    quota: Option<Located<String>>,
    max_open: Option<Located<u64>>,
    rate: RawRate,
    store: &Store,
    at: &Place,
    report: &mut Report<'_>,
) -> Option<Rule> {
    match (quota, max_open, store) {
        (Some(quota), None, Store::Local | Store::Redis { .. }) => {
            let counts = rate.count.as_ref().map(|count| count.at.clone());
            let rate = self::rate(quota, rate, report)?;
            if rate.counts == Counted::Messages && *store != Store::Local {
                report.problem(counts.as_ref().unwrap_or(at), "messages are counted in the process only");
            }
            Some(Rule::Rate(rate))
        }
        (None, Some(open), Store::Local) => {
            rate.refuse("`max_open` has none", report);
            Some(Rule::Open(to_u32(bounded(&open, NUMBER, report))))
        }
        (_, Some(open), Store::Redis { .. } | Store::Service { .. }) => {
            report.problem(&open.at, "open calls are counted in the process only");
            None
        }
        (Some(_), Some(open), Store::Local) => {
            report.problem(&open.at, "`max_open` and `quota` are two limits; write each for itself");
            None
        }
        (Some(quota), None, Store::Service { service, .. }) => {
            report.problem(&quota.at, format!("the quota is for the service {} to know", service.name));
            None
        }
        (None, None, Store::Service { .. }) => {
            let cost = rate.cost.as_ref().map_or(1, |cost| to_u32(bounded(cost, NUMBER, report)));
            RawRate { cost: None, ..rate }.refuse("a service has its own", report);
            Some(Rule::Asked(cost))
        }
        (None, None, Store::Local | Store::Redis { .. }) => {
            require(false, "quota", at, report);
            None
        }
    }
}

fn rate(quota: Located<String>, raw: RawRate, report: &mut Report<'_>) -> Option<Rate> {
    let cost = raw.cost.as_ref().map_or(1, |cost| to_u32(bounded(cost, NUMBER, report)));
    let at = raw.cost.map(|cost| cost.at);
    let counts = [("calls", Counted::Calls), ("messages", Counted::Messages)];
    let counts = raw.count.and_then(|word| choose(word, &counts, report)).unwrap_or_default();
    let quota = self::quota(quota, raw.burst, cost, at.as_ref(), report);
    let tiers = raw.tiers.and_then(|tiers| self::tiers(tiers, cost, at.as_ref(), report));
    Some(Rate { quota: quota?, cost, counts, tiers })
}

fn tiers(raw: Located<RawTiers>, cost: u32, cost_at: Option<&Place>, report: &mut Report<'_>) -> Option<Tiers> {
    let Located { value: RawTiers { claim, quotas }, at } = raw;
    require(claim.is_some(), "claim", &at, report);
    require(quotas.is_some(), "quotas", &at, report);
    let mut found: Vec<(Box<str>, Quota)> = Vec::new();
    for (name, tier) in value(quotas).entries {
        let TierSection { quota, burst } = tier.value.0;
        require(quota.is_some(), "quota", &tier.at, report);
        let Some(quota) = quota else { continue };
        let Some(quota) = self::quota(quota, burst, cost, cost_at, report) else { continue };
        found.push((name.value.into(), quota));
    }
    if found.is_empty() && report.problems.is_empty() {
        report.problem(&at, "at least one tier is needed in `quotas`");
    }
    Some(Tiers { claim: claim?.parse(report, |text| text.parse())?, quotas: found })
}

fn quota(
    quota: Located<String>,
    burst: Option<Located<u64>>,
    cost: u32,
    cost_at: Option<&Place>,
    report: &mut Report<'_>,
) -> Option<Quota> {
    let at = quota.at.clone();
    let quota = quota.parse(report, |text| text.parse::<Quota>())?;
    let burst = burst.map(|burst| to_u32(bounded(&burst, NUMBER, report)));
    let quota = match Quota::new(quota.count, quota.unit, burst) {
        Ok(quota) => quota,
        Err(problem) => {
            report.problem(&at, problem);
            return None;
        }
    };
    if cost > quota.burst {
        let problem = format!("a cost of {cost} is more than the burst of {}, so that nothing would pass", quota.burst);
        report.problem(cost_at.unwrap_or(&at), problem);
    }
    Some(quota)
}

fn rule_is_open(rule: &Rule) -> bool {
    matches!(rule, Rule::Open(_))
}

fn limit_name(text: &str) -> Result<Arc<str>, String> {
    if (1..=MAX_NAME).contains(&text.len()) && text.chars().all(is_plain) {
        return Ok(text.into());
    }
    Err(format!("{text:?} is not a name; names have 1 to {MAX_NAME} letters, digits and `-_.:+`"))
}

/// What may stand in a name, which is shown in a header and in labels.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '+')
}

const MISSING: [(&str, Missing); 2] = [("share", Missing::Share), ("skip", Missing::Skip)];
const NUMBER: RangeInclusive<u64> = 1..=1_000_000_000;
const MEMORY: RangeInclusive<Size> = Size(1 << 20)..=Size(64 << 30);
/// A key has a handful of parts.
const MAX_PARTS: usize = 8;
const MAX_NAME: usize = 60;
