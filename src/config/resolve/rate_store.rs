//! Where limits are counted: what they may name as their store.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::{bounded, choose, require, value};
use crate::config::file::RateLimitService;
use crate::config::rate_limit::{KeyPart, Rate, RateLimit, Rule, Service, Store};
use crate::config::read::{List, Located, Report};
use crate::config::redis::{OnFailure, Redis};
use crate::config::spelling::nearest;
use crate::config::units::{Percent, Span};
use crate::config::{Upstream, pattern};

/// What limits may name.
#[derive(Debug, Default)]
pub(super) struct Stores {
    redis: Option<Arc<Redis>>,
    services: Arc<[Arc<Service>]>,
}

/// The keys of a limit that say where it is counted.
pub(super) struct RawStore {
    pub(super) store: Option<Located<String>>,
    pub(super) lease: Option<Located<Percent>>,
    pub(super) on_failure: Option<Located<String>>,
}

impl Stores {
    pub(super) fn new(
        redis: Option<Arc<Redis>>,
        services: Option<Located<List<RateLimitService>>>,
        upstreams: &[Upstream],
        report: &mut Report<'_>,
    ) -> Self {
        let mut known: Vec<Arc<Service>> = Vec::new();
        for raw in value(services).items {
            let at = raw.at.clone();
            let Some(service) = service(raw, upstreams, report) else { continue };
            if known.iter().any(|known| known.name == service.name) || RESERVED.contains(&&*service.name) {
                report.problem(&at, format!("{:?} is already the name of a store", service.name));
            }
            known.push(Arc::new(service));
        }
        Self { redis, services: known.into() }
    }

    pub(super) fn services(&self) -> Arc<[Arc<Service>]> {
        Arc::clone(&self.services)
    }

    /// The store that a limit names. What only some stores have is refused for the others.
    pub(super) fn choose(&self, raw: RawStore, report: &mut Report<'_>) -> Option<Store> {
        let RawStore { store, lease, on_failure } = raw;
        let on_failure = on_failure.and_then(|word| {
            let at = word.at.clone();
            Some((choose(word, &ON_FAILURE, report)?, at))
        });
        let Some(Located { value: name, at }) = store.filter(|store| store.value != "local") else {
            for at in lease.map(|lease| lease.at).into_iter().chain(on_failure.map(|(_, at)| at)) {
                report.problem(&at, "goes with a store that can fail; this limit is counted in the process");
            }
            return Some(Store::Local);
        };
        if name == "redis" {
            let Some(redis) = &self.redis else {
                report.problem(&at, "there is no section `redis` that says where it is");
                return None;
            };
            let on_failure = on_failure.map_or(redis.on_failure, |(word, _)| word);
            return Some(Store::Redis { lease: lease.map_or(0, |lease| bounded(&lease, LEASE, report).0), on_failure });
        }
        if let Some(lease) = lease {
            report.problem(&lease.at, "`lease` goes with `store: redis`");
        }
        let Some(service) = self.services.iter().find(|service| *service.name == *name) else {
            let mut names: Vec<&str> = RESERVED.to_vec();
            names.extend(self.services.iter().map(|service| &*service.name));
            let hint = nearest(&name, &names)
                .map_or_else(|| format!("there are {}", names.join(", ")), |near| format!("did you mean `{near}`?"));
            report.problem(&at, format!("{name:?} is no store; {hint}"));
            return None;
        };
        if let Some((OnFailure::Local, at)) = &on_failure {
            report.problem(at, NO_QUOTA);
        }
        let on_failure = on_failure.map_or(service.on_failure, |(word, _)| word);
        Some(Store::Service { service: Arc::clone(service), on_failure })
    }
}

/// What is wrong with a limit of that rule and key in that store.
pub(super) fn misfit(store: &Store, rule: &Rule, key: &[KeyPart]) -> Option<String> {
    if *store != Store::Local && key.iter().any(KeyPart::needs_message) {
        return Some("limits with a `field` in their key are counted in the process only".to_owned());
    }
    let Store::Redis { .. } = store else { return None };
    let Rule::Rate(Rate { quota, tiers, .. }) = rule else { return None };
    let quotas = tiers.iter().flat_map(|tiers| tiers.quotas.iter().map(|(_, quota)| quota)).chain([quota]);
    quotas.into_iter().find(|quota| quota.recovery() > MAX_RECOVERY).map(|quota| {
        format!("a burst of {} at {quota} takes more than 100 days to come back, which Redis cannot count", quota.burst)
    })
}

/// Why the lease of a limit never saves a question, if it does not.
pub(super) fn idle_lease(limit: &RateLimit) -> Option<String> {
    let (Store::Redis { lease, .. }, Rule::Rate(Rate { quota, cost, tiers, .. })) = (&limit.store, &limit.rule) else {
        return None;
    };
    if limit.shadow {
        return Some("what a limit in shadow mode would say is always asked".to_owned());
    }
    let tiers = tiers.iter().flat_map(|tiers| tiers.quotas.iter().map(|(_, quota)| quota));
    let burst = tiers.chain([quota]).map(|quota| quota.burst).max()?;
    let most = u64::from(burst) * u64::from(*lease) / 100;
    let spare = format!("{lease}% of a burst of {burst} is less than");
    match (most < u64::from(*cost), *cost) {
        (false, _) => None,
        (true, 1) => Some(format!("{spare} one call")),
        (true, cost) => Some(format!("{spare} the cost of a call, {cost}")),
    }
}

fn service(raw: Located<RateLimitService>, upstreams: &[Upstream], report: &mut Report<'_>) -> Option<Service> {
    let RateLimitService { name, upstream, domain, timeout, on_failure } = raw.value;
    for (key, present) in [("name", name.is_some()), ("upstream", upstream.is_some()), ("domain", domain.is_some())] {
        require(present, key, &raw.at, report);
    }
    let name = name.and_then(|name| name.parse(report, |text| pattern::upstream_name(text)));
    let upstream = upstream.and_then(|name| {
        name.parse(report, |name| {
            let found = upstreams.iter().position(|upstream| *upstream.name == **name);
            found.ok_or_else(|| format!("there is no upstream {name:?}"))
        })
    });
    let timeout = timeout.map_or(Duration::from_millis(20), |timeout| bounded(&timeout, TIMEOUT, report).0);
    let on_failure = on_failure.and_then(|word| {
        let at = word.at.clone();
        let word = choose(word, &ON_FAILURE, report)?;
        if word == OnFailure::Local {
            report.problem(&at, NO_QUOTA);
        }
        Some(word)
    });
    let domain = domain?.value.into();
    Some(Service { name: name?, upstream: upstream?, domain, timeout, on_failure: on_failure.unwrap_or_default() })
}

const NO_QUOTA: &str = "the gateway cannot count in its place, because only the service knows the quota";
const RESERVED: [&str; 2] = ["local", "redis"];
pub(super) const ON_FAILURE: [(&str, OnFailure); 3] =
    [("allow", OnFailure::Allow), ("deny", OnFailure::Deny), ("local", OnFailure::Local)];
const LEASE: RangeInclusive<Percent> = Percent(1)..=Percent(50);
/// What the numbers of Redis's scripts hold, see `store::MAX_CAPACITY`.
const MAX_RECOVERY: Duration = Duration::from_hours(100 * 24);
pub(super) const TIMEOUT: RangeInclusive<Span> = Span(Duration::from_millis(1))..=Span(Duration::from_secs(30));
