//! How often callers may call: what a call is counted by, and what it is told of it.
//!
//! The limits of a method are asked in two stages, [`peer`] before the caller's credentials are looked at and [`identity`]
//! once it is known; those on messages and their fields follow in [`super::gate`]. Each stage charges its limits together
//! or not at all. What a stage says is kept in the call, and [`tell`] puts it into the head of the reply.
//!
//! **Invariant**: a call is counted by its method and by what is known of its caller, never by the form in which it came.

use std::rc::Rc;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, request};
use serde_json::Value;
use smallvec::{SmallVec, smallvec};
use tokio::time::Instant;

use super::call::Call;
use super::forward::Outgoing;
use super::gate::{Gate, Gated, Pending, Segment};
use super::pump::Source;
use super::remote;
use super::timer::Timer;
use super::worker::Worker;
use crate::config::claim::ClaimPath;
use crate::config::rate_limit::{KeyPart, Missing, Rule, Store};
use crate::encoding::Encoding;
use crate::error::{Error, Quota, Reason};
use crate::grpc;
use crate::policy::identity::Kind;
use crate::policy::rate_limit::{Charge, Decision, Key, Limit, OpenCall, Plan, Stage, Verdict, fields};

/// What a call was told of its limits, and what it holds of them.
#[derive(Debug, Default)]
pub(crate) struct Limited {
    /// By limit.
    pub(super) told: SmallVec<[fields::Told; 4]>,
    /// What services add to the reply.
    pub(super) headers: Option<Box<HeaderMap>>,
    /// Closed when the call ends.
    open: SmallVec<[Open; 1]>,
}

/// An open call under a limit. Dropped, it is open no more.
//
// By the worker: the count of references to the store itself would be written by all of them.
#[derive(Debug)]
struct Open {
    worker: Rc<Worker>,
    call: OpenCall,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.shared.limits.close(&self.call);
    }
}

/// The limits that can be asked before anybody knows who calls.
///
/// # Errors
/// One of them refuses.
pub(super) async fn peer(call: &mut Call, parts: &request::Parts, timer: &Timer) -> Result<(), Error> {
    stage(call, parts, Stage::Peer, timer).await
}

/// The limits on the caller's identity.
///
/// # Errors
/// One of them refuses.
pub(super) async fn identity(call: &mut Call, parts: &request::Parts, timer: &Timer) -> Result<(), Error> {
    stage(call, parts, Stage::Identity, timer).await
}

/// What the limits that need the call's messages are asked by; `None` where there are none.
pub(super) fn gate(call: &mut Call, parts: &request::Parts) -> Option<Gate> {
    let plan = call.limits()?;
    let pending = |stage| plan.at(stage).filter_map(|limit| pending(call, parts, plan, limit)).collect();
    let (first, each) = (pending(Stage::Message), pending(Stage::Messages));
    let gate = Gate::new(Rc::clone(call.worker()), Rc::clone(plan), first, each)?;
    call.limited.told.extend(gate.peek());
    Some(gate)
}

/// A limit with all of its key that is known before the first message.
fn pending(call: &Call, parts: &request::Parts, plan: &Plan, limit: &Limit) -> Option<Pending> {
    let tier = tier(call, limit);
    let (quota, rate) = limit.rate(tier.as_deref())?;
    let mut segments = Vec::new();
    let mut key = begin(limit, tier.as_deref());
    for part in &limit.config.key {
        if let KeyPart::Field(path) = part {
            segments.push(Segment::Known(std::mem::replace(&mut key, Key::empty())));
            segments.extend(plan.fields().iter().position(|(known, _)| known == path).map(Segment::Field));
        } else if !push(&mut key, call, parts, part) && limit.config.missing == Missing::Skip {
            return None;
        }
    }
    segments.push(Segment::Known(key));
    let (cost, metrics) = (limit.cost()?, call.limit_metrics(limit));
    Some(Pending { limit: limit.index, tier, quota, rate, cost, key: segments, metrics })
}

/// Sets a gate before a request's frames.
pub(super) fn put(gate: Gate, outgoing: &mut Outgoing, limit: usize) {
    let encoding = outgoing.headers.get(grpc::ENCODING).and_then(|value| Encoding::parse(value.to_str().ok()?));
    let source = std::mem::replace(&mut outgoing.body, Source::End);
    outgoing.body = Source::Gated(Box::new(Gated::new(source, gate, encoding, limit)));
}

/// Sets a gate before a request's frames, and waits until it has let the first message pass, if it has to.
///
/// # Errors
/// It refuses the call, or the call's time is over.
pub(super) async fn pass(call: &mut Call, gate: Gate, outgoing: &mut Outgoing, timer: &mut Timer) -> Result<(), Error> {
    put(gate, outgoing, call.settings().max_request_message);
    let opened = outgoing.body.open(timer).await;
    if let Source::Gated(gated) = &mut outgoing.body {
        call.limited.told.extend(gated.told());
    }
    opened
}

async fn stage(call: &mut Call, parts: &request::Parts, stage: Stage, timer: &Timer) -> Result<(), Error> {
    let Some(plan) = call.limits().cloned() else { return Ok(()) };
    let of_identity = stage == Stage::Identity;
    for limit in plan.at(Stage::Open).filter(|limit| limit.config.needs_identity() == of_identity) {
        open(call, parts, limit)?;
    }
    let limits: SmallVec<[&Limit; 4]> = plan.at(stage).collect();
    if limits.is_empty() {
        return Ok(());
    }
    if limits.iter().any(|limit| limit.config.store != Store::Local) {
        // Not in line, so that those who ask nobody do not carry its state.
        return Box::pin(remote::stage(call, parts, &limits, timer)).await;
    }
    let dues = Dues::of(call, parts, limits.into_iter());
    let now = call.worker().shared.limits.clock(Instant::now());
    charge(call, &dues, now).map(|_| ())
}

/// Limits that a call comes under, ready to be charged.
pub(super) struct Dues<'l> {
    pub(super) charges: SmallVec<[Charge<'l>; 4]>,
    /// By charge, its limit and the caller's tier.
    pub(super) limits: Vec<(&'l Limit, Option<Box<str>>)>,
}

impl<'l> Dues<'l> {
    /// Of those that are for the call.
    pub(super) fn of(call: &Call, parts: &request::Parts, limits: impl Iterator<Item = &'l Limit>) -> Self {
        let mut dues = Self { charges: SmallVec::new(), limits: Vec::new() };
        for limit in limits {
            let tier = tier(call, limit);
            let Some(key) = key(call, parts, limit, tier.as_deref()) else { continue };
            let (Some((_, rate)), Some(cost)) = (limit.rate(tier.as_deref()), limit.cost()) else { continue };
            dues.charges.push(Charge { limit: &limit.config.id, key, rate, cost, shadow: limit.config.shadow });
            dues.limits.push((limit, tier));
        }
        dues
    }
}

/// Charges limits in the process, by the clock of whose store it is `now`.
///
/// # Errors
/// One of them refuses.
pub(super) fn charge(call: &mut Call, dues: &Dues<'_>, now: u64) -> Result<Verdict, Error> {
    let verdict = call.worker().shared.limits.charge(&dues.charges, now);
    let mut refusal = Refusal::default();
    for ((limit, tier), decision) in dues.limits.iter().zip(&verdict.decisions) {
        note(call, limit, tier.as_deref(), decision, verdict.refused, &mut refusal);
    }
    if verdict.overflowed {
        dues.limits.iter().for_each(|(limit, _)| call.limit_metrics(limit).overflowed.add(1));
    }
    if verdict.refused { Err(refusal.error()) } else { Ok(verdict) }
}

/// Notes what a limit says: for metrics, for the client, and for the refusal if there is one. What lets in a call that
/// another limit has `refused` was not charged, and does not count.
pub(super) fn note(
    call: &mut Call,
    limit: &Limit,
    tier: Option<&str>,
    decision: &Decision,
    refused: bool,
    refusal: &mut Refusal,
) {
    if !(refused && decision.allowed) {
        call.limit_metrics(limit).count(decision.allowed, limit.config.shadow);
    }
    refusal.note(limit, tier, decision);
    if !limit.config.shadow
        && let Some((quota, _)) = limit.rate(tier)
    {
        call.limited.told.push(fields::Told::rate(limit, quota, decision));
    }
}

/// Opens the call under a limit on open calls.
fn open(call: &mut Call, parts: &request::Parts, limit: &Limit) -> Result<(), Error> {
    let Rule::Open(most) = limit.config.rule else { return Ok(()) };
    let Some(key) = key(call, parts, limit, None) else { return Ok(()) };
    let opened = call.worker().shared.limits.open(&key, most);
    let metrics = call.limit_metrics(limit);
    metrics.count(opened.is_some(), limit.config.shadow);
    let left = opened.as_ref().map_or(0, |(_, left)| *left);
    if !limit.config.shadow {
        call.limited.told.push(fields::Told::open(limit, most, left));
    }
    match opened {
        Some((open, _)) => {
            let worker = Rc::clone(call.worker());
            call.limited.open.push(Open { worker, call: open });
        }
        None if limit.config.shadow => {}
        None => {
            let mut refusal = Refusal::default();
            refusal
                .quotas
                .push(Quota { name: limit.config.name.to_string(), description: format!("{most} calls open at once") });
            return Err(refusal.error());
        }
    }
    Ok(())
}

/// What a caller is counted by under a limit; `None` when the limit is not for it.
fn key(call: &Call, parts: &request::Parts, limit: &Limit, tier: Option<&str>) -> Option<Key> {
    let mut key = begin(limit, tier);
    for part in &limit.config.key {
        let present = push(&mut key, call, parts, part);
        if !present && limit.config.missing == Missing::Skip {
            return None;
        }
    }
    Some(key)
}

/// What a key begins with.
fn begin(limit: &Limit, tier: Option<&str>) -> Key {
    let mut key = Key::new(&limit.config.id);
    if limit.tier_claim().is_some() {
        key.push(tier.map(str::as_bytes));
    }
    key
}

/// Adds a part to a key, and says whether the call has it.
fn push(key: &mut Key, call: &Call, parts: &request::Parts, part: &KeyPart) -> bool {
    match part {
        KeyPart::ClientIp => {
            key.push_ip(call.client_ip(&parts.headers));
            true
        }
        KeyPart::Constant(text) => {
            key.push(Some(text.as_bytes()));
            true
        }
        KeyPart::Method | KeyPart::Service => {
            let name = if matches!(part, KeyPart::Service) { service(call) } else { call.method_name() };
            key.push(Some(call.upstream_name().as_bytes()));
            key.push(name.map(str::as_bytes));
            true
        }
        KeyPart::Header(name) => {
            let values = header(parts, name);
            key.push_all(&values);
            !values.is_empty()
        }
        KeyPart::Claim(path) => match claim(call, path) {
            Some((source, value)) => {
                key.push(Some(source.as_bytes()));
                key.push(Some(value.as_bytes()));
                true
            }
            None => {
                key.push(None);
                false
            }
        },
        KeyPart::ApiKey => {
            let name = api_key(call);
            match name {
                Some((source, name)) => {
                    key.push(Some(source.as_bytes()));
                    key.push(Some(name.as_bytes()));
                }
                None => key.push(None),
            }
            name.is_some()
        }
        // Known later, to the gate.
        KeyPart::Field(_) => true,
    }
}

/// The values of a header. What the caller calls the gateway is none over HTTP/2, and is asked for as one all the same.
pub(super) fn header<'p>(parts: &'p request::Parts, name: &HeaderName) -> SmallVec<[&'p [u8]; 2]> {
    match parts.uri.authority().filter(|_| name == HOST) {
        Some(authority) => smallvec![authority.as_str().as_bytes()],
        None => parts.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect(),
    }
}

/// The service of the method, which only the caller names where nobody knows the method.
pub(super) fn service(call: &Call) -> Option<&str> {
    call.method_name().map(|name| name.split('/').next().unwrap_or(name))
}

/// The provider of the caller's API key, and the name of the key.
pub(super) fn api_key(call: &Call) -> Option<(&str, &str)> {
    let mut keys = call.identity.iter().filter(|identity| identity.kind() == Kind::ApiKey);
    keys.find_map(|identity| Some((identity.source(), identity.claims().get("name")?.as_str()?)))
}

/// Who vouches for a claim, and its value as text; none for `null`.
pub(super) fn claim<'c>(call: &'c Call, path: &ClaimPath) -> Option<(&'c str, String)> {
    call.identity.iter().find_map(|identity| Some((identity.source(), text(identity.claim(path)?)?)))
}

pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Some(value.to_string()),
    }
}

/// The tier that the caller's claim names, if the limit has one of that name.
fn tier(call: &Call, limit: &Limit) -> Option<Box<str>> {
    let (_, value) = claim(call, limit.tier_claim()?)?;
    limit.tier(&value).map(Box::from)
}

/// The limits that refuse a call.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    pub(super) quotas: Vec<Quota>,
    /// Until all of them would let it in.
    pub(super) retry_after: Option<Duration>,
}

impl Refusal {
    pub(super) fn note(&mut self, limit: &Limit, tier: Option<&str>, decision: &Decision) {
        if decision.allowed || limit.config.shadow {
            return;
        }
        self.retry_after = self.retry_after.max(Some(decision.retry_after));
        if let Some((quota, _)) = limit.rate(tier) {
            let burst = if quota.burst == quota.count { String::new() } else { format!(", {} at once", quota.burst) };
            self.quotas.push(Quota { name: limit.config.name.to_string(), description: format!("{quota}{burst}") });
        }
    }

    pub(super) fn error(self) -> Error {
        let limits: Vec<String> =
            self.quotas.iter().map(|quota| format!("{} ({})", quota.name, quota.description)).collect();
        let wait = self.retry_after.map(|wait| format!("; try again in {} s", fields::seconds(wait)));
        let message = format!("over the limit {}{}", limits.join(" and "), wait.unwrap_or_default());
        let error = Error::new(Reason::RateLimited, message).with_quotas(self.quotas);
        match self.retry_after {
            Some(wait) => error.with_retry_after(wait),
            None => error,
        }
    }
}

/// Tells the client of the limits that its call came under, in the head of its reply.
pub(super) fn tell(headers: &mut HeaderMap, call: &Call) {
    if let Some(plan) = call.limits() {
        let name = |index: usize| plan.limits().get(index).map_or("", |limit| &*limit.config.name);
        fields::put(headers, &call.limited.told, name, call.prepared.snapshot.config.rate_limiting.headers);
    }
    for (name, value) in call.limited.headers.iter().flat_map(|headers| headers.iter()) {
        headers.append(name, value.clone());
    }
}
