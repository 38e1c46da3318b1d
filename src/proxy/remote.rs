//! Limits that are counted elsewhere: by Redis or by a service, for all gateways together.
//!
//! A stage that has one asks here. Its limits in the process come first, because they cost nothing, then Redis, then
//! services; each store charges its own together or not at all. When a later one refuses, the earlier ones get back what
//! they took. What becomes of a call for which a store has no answer is for its limits to say.
//!
//! **Invariant**: a call that is refused has cost nothing, but where a service counts, which takes nothing back, and where
//! an answer was lost.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use http::request;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::ask::redis;
use super::call::Call;
use super::limits::{Dues, Refusal, api_key, charge, claim, header, note, service as service_name};
use super::timer::Timer;
use crate::config::rate_limit::{KeyPart, Missing, Rule, Service, Store};
use crate::config::redis::OnFailure;
use crate::error::{Error, Quota, Reason};
use crate::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use crate::policy::rate_limit::service::{self, Said};
use crate::policy::rate_limit::{Arrival, Charge, Limit, fields};
use crate::store::Failure;
use crate::telemetry::stores::{Fallback, StoreMetrics};

/// The charges of a call that were taken so far, each with when its caller will have paid for it: on the clock of the
/// process's own store, and on that of all.
#[derive(Debug, Default)]
struct Taken<'l> {
    local: SmallVec<[(Charge<'l>, Arrival); 4]>,
    redis: SmallVec<[(Charge<'l>, Instant); 2]>,
}

/// Charges the limits of a stage, some of which are counted elsewhere.
///
/// # Errors
/// One of them refuses, or a store has no answer and its limits do not do without one.
///
/// # Cancel safety
/// What was asked for may be charged.
pub(super) async fn stage(
    call: &mut Call,
    parts: &request::Parts,
    limits: &[&Limit],
    timer: &Timer,
) -> Result<(), Error> {
    if !call.worker().shared.live {
        return Ok(());
    }
    let mut taken = Taken::default();
    let charged = charge_all(call, parts, limits, timer, &mut taken).await;
    if charged.is_err() {
        let store = &call.worker().shared.limits;
        store.give_back(&taken.local, store.clock(Instant::now()));
        if let Some(redis) = call.prepared.stores.redis().filter(|_| !taken.redis.is_empty()) {
            redis::give_back(redis, &taken.redis);
        }
    }
    charged
}

async fn charge_all<'l>(
    call: &mut Call,
    parts: &request::Parts,
    limits: &[&'l Limit],
    timer: &Timer,
    taken: &mut Taken<'l>,
) -> Result<(), Error> {
    let local = limits.iter().copied().filter(|limit| limit.config.store == Store::Local);
    in_process(call, Dues::of(call, parts, local), taken)?;
    let shared = limits.iter().copied().filter(|limit| matches!(limit.config.store, Store::Redis { .. }));
    let dues = Dues::of(call, parts, shared);
    if !dues.charges.is_empty() {
        by_redis(call, dues, timer, taken).await?;
    }
    let mut asked: SmallVec<[&Limit; 4]> =
        limits.iter().copied().filter(|limit| matches!(limit.config.rule, Rule::Asked(_))).collect();
    while let Some(first) = asked.first().copied() {
        let is_alike = |limit: &Limit| limit.config.store == first.config.store && limit.cost() == first.cost();
        let (group, rest): (SmallVec<[&Limit; 4]>, SmallVec<[&Limit; 4]>) =
            asked.into_iter().partition(|limit| is_alike(limit));
        asked = rest;
        if let Store::Service { service, on_failure } = &first.config.store {
            by_service(call, parts, &group, service, *on_failure, timer).await?;
        }
    }
    Ok(())
}

/// Charges limits in the process.
fn in_process<'l>(call: &mut Call, dues: Dues<'l>, taken: &mut Taken<'l>) -> Result<(), Error> {
    if dues.charges.is_empty() {
        return Ok(());
    }
    let now = call.worker().shared.limits.clock(Instant::now());
    let verdict = charge(call, &dues, now)?;
    let charged = dues.charges.into_iter().zip(verdict.decisions).filter(|(_, decision)| decision.allowed);
    taken.local.extend(charged.map(|(charge, decision)| (charge, decision.arrival(now))));
    Ok(())
}

async fn by_redis<'l>(call: &mut Call, dues: Dues<'l>, timer: &Timer, taken: &mut Taken<'l>) -> Result<(), Error> {
    // There is one if a limit names it.
    let Some(client) = call.prepared.stores.redis().cloned() else { return Ok(()) };
    // Before anything can have been charged.
    let asked = Instant::now();
    let leases = dues.limits.iter().map(|(limit, _)| lease(limit));
    let charges = dues.charges.iter().zip(leases);
    let verdict = match redis::charge(&client, &call.worker().shared.ledger, charges, timer.deadline()).await {
        Ok(verdict) => verdict,
        Err(failure) => {
            // A call whose own time is over says so.
            timer.left()?;
            return without(call, dues, client.metrics(), failure, taken);
        }
    };
    let mut refusal = Refusal::default();
    for ((limit, tier), decision) in dues.limits.iter().zip(&verdict.decisions) {
        if let Some(decision) = decision {
            note(call, limit, tier.as_deref(), decision, verdict.refused, &mut refusal);
        }
    }
    if verdict.refused {
        return Err(refusal.error());
    }
    let charged = dues.charges.into_iter().zip(verdict.decisions);
    let charged = charged.filter_map(|(charge, decision)| Some((charge, decision.filter(|told| told.allowed)?)));
    taken.redis.extend(charged.map(|(charge, decision)| (charge, asked + decision.reset)));
    Ok(())
}

fn lease(limit: &Limit) -> u8 {
    match limit.config.store {
        Store::Redis { lease, .. } => lease,
        Store::Local | Store::Service { .. } => 0,
    }
}

/// What becomes of a call for whose limits Redis has no answer.
fn without<'l>(
    call: &mut Call,
    dues: Dues<'l>,
    metrics: &StoreMetrics,
    failure: Failure,
    taken: &mut Taken<'l>,
) -> Result<(), Error> {
    let on_failure = |limit: &Limit| match limit.config.store {
        Store::Redis { on_failure, .. } | Store::Service { on_failure, .. } => on_failure,
        Store::Local => OnFailure::Local,
    };
    // A limit in shadow mode refuses nothing, whatever happens to it.
    let denies = |limit: &Limit| on_failure(limit) == OnFailure::Deny && !limit.config.shadow;
    if let Some((limit, _)) = dues.limits.iter().find(|(limit, _)| denies(limit)) {
        metrics.fell_back(Fallback::Denied);
        return Err(unknown(&limit.config.name, failure));
    }
    let mut local = Dues { charges: SmallVec::new(), limits: Vec::new() };
    for (charge, (limit, tier)) in dues.charges.into_iter().zip(dues.limits) {
        if on_failure(limit) == OnFailure::Local {
            local.charges.push(charge);
            local.limits.push((limit, tier));
        }
    }
    metrics.fell_back(if local.charges.is_empty() { Fallback::Allowed } else { Fallback::Local });
    in_process(call, local, taken)
}

/// Asks a service about limits of one cost.
async fn by_service(
    call: &mut Call,
    parts: &request::Parts,
    limits: &[&Limit],
    service: &Service,
    on_failure: OnFailure,
    timer: &Timer,
) -> Result<(), Error> {
    let (limits, descriptors): (SmallVec<[&Limit; 4]>, Vec<_>) =
        limits.iter().filter_map(|limit| Some((*limit, descriptor(call, parts, limit)?))).unzip();
    let Some(limiter) = call.prepared.stores.limiter(service).cloned() else { return Ok(()) };
    // The one that refusals name when nobody says which it was.
    let Some(first) = limits.iter().find(|limit| !limit.config.shadow).or_else(|| limits.first()) else {
        return Ok(());
    };
    let cost = first.cost().unwrap_or(1);
    let judged = match limiter.ask(call, descriptors, cost, timer.deadline()).await {
        Ok(judged) => judged,
        Err(failure) => {
            timer.left()?;
            let denies = on_failure == OnFailure::Deny && !first.config.shadow;
            limiter.metrics().fell_back(if denies { Fallback::Denied } else { Fallback::Allowed });
            return if denies { Err(unknown(&first.config.name, failure)) } else { Ok(()) };
        }
    };
    let mut refusal = Refusal::default();
    for (limit, said) in limits.iter().zip(&judged.limits) {
        if let Some(said) = said {
            note_said(call, limit, said, judged.over, &mut refusal);
        }
    }
    if judged.over && !judged.names_one() && !first.config.shadow {
        let description = "of its service".to_owned();
        refusal.quotas.push(Quota { name: first.config.name.to_string(), description });
    }
    call.limited.headers.get_or_insert_default().extend(judged.headers);
    if refusal.quotas.is_empty() { Ok(()) } else { Err(refusal.error()) }
}

/// Notes what a service says of a limit. A service in shadow mode of its own lets pass what is over a limit.
fn note_said(call: &mut Call, limit: &Limit, said: &Said, refuses: bool, refusal: &mut Refusal) {
    call.limit_metrics(limit).count(!said.over, limit.config.shadow || !refuses);
    if limit.config.shadow {
        return;
    }
    if said.over && refuses {
        refusal.retry_after = refusal.retry_after.max(said.reset);
        let description = said.quota.map_or_else(
            || "of its service".to_owned(),
            |(count, window)| format!("{count} in {} s", window.as_secs()),
        );
        refusal.quotas.push(Quota { name: limit.config.name.to_string(), description });
    }
    if let Some(quota) = said.quota {
        call.limited.told.push(fields::Told::asked(limit, quota, said));
    }
}

/// What a service is told of a limit; `None` when the limit is not for the call.
fn descriptor(call: &Call, parts: &request::Parts, limit: &Limit) -> Option<RateLimitDescriptor> {
    let mut values: SmallVec<[(&KeyPart, String); 4]> = SmallVec::new();
    for part in &limit.config.key {
        match value(call, parts, part) {
            Some(value) => values.push((part, value)),
            None if limit.config.missing == Missing::Skip => return None,
            None => values.push((part, String::new())),
        }
    }
    Some(service::descriptor(&limit.config.name, values.into_iter()))
}

/// A part of a key as text, if the call has it.
fn value(call: &Call, parts: &request::Parts, part: &KeyPart) -> Option<String> {
    match part {
        KeyPart::ClientIp => Some(site(call.client_ip(&parts.headers)).to_string()),
        KeyPart::Constant(text) => Some(text.to_string()),
        KeyPart::Method => call.method_name().map(str::to_owned),
        KeyPart::Service => service_name(call).map(str::to_owned),
        KeyPart::Header(name) => joined(&header(parts, name)),
        KeyPart::Claim(path) => claim(call, path).map(|(_, value)| value),
        KeyPart::ApiKey => api_key(call).map(|(_, name)| name.to_owned()),
        // Refused by the configuration.
        KeyPart::Field(_) => None,
    }
}

/// What is counted as one client: an address, of IPv6 the network of 64 bits.
fn site(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

/// The values of a header as one text; what is not UTF-8 becomes U+FFFD, since protobuf's strings have nothing else.
fn joined(values: &[&[u8]]) -> Option<String> {
    let values: Vec<_> = values.iter().map(|value| String::from_utf8_lossy(value)).collect();
    (!values.is_empty()).then(|| values.join(","))
}

/// Of a call that must not pass uncounted.
fn unknown(limit: &str, failure: Failure) -> Error {
    let message = format!("the store of the limit {limit} gives no answer; try again");
    Error::new(Reason::LimiterUnavailable, message).with_note(failure.to_string()).with_retry_after(RETRY_AFTER)
}

/// After which a store is asked again that did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);
