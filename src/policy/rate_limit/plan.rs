//! The limits of a method, prepared.

use std::sync::Arc;

use super::gcra::Gcra;
use crate::config::claim::ClaimPath;
use crate::config::rate_limit::{Counted, KeyPart, Quota, RateLimit, Rule};
use crate::schema::probe::Probe;

/// The limits of a method by when they are asked.
#[derive(Debug, Default)]
pub struct Plan {
    /// On calls, and known without the caller's identity.
    pub peer: Box<[Limit]>,
    /// On calls, and known once the caller is.
    pub identity: Box<[Limit]>,
    /// On calls, and known once the first message is there.
    pub message: Box<[Limit]>,
    /// On the messages of a call.
    pub messages: Box<[Limit]>,
    /// On open calls.
    pub open: Box<[Limit]>,
    /// Of all, by their index.
    names: Box<[Arc<str>]>,
    /// Fields that are parts of keys, with where they are in the request message, if it has them.
    fields: Box<[(Box<str>, Option<Probe>)]>,
}

/// A limit, prepared.
#[derive(Debug, Clone)]
pub struct Limit {
    /// What it was made of.
    pub config: Arc<RateLimit>,
    /// Its place among the limits of the method, which is the order in which clients are told of them.
    pub index: usize,
    /// The quota of a caller without a tier; none where open calls are limited.
    rate: Option<(Quota, Gcra)>,
    /// Quotas by tier.
    tiers: Box<[(Box<str>, Quota, Gcra)]>,
}

impl Plan {
    /// Prepares what the policies say of a method; `None` when they say nothing. `probe` finds a field by its path.
    pub fn new(limits: &[Arc<RateLimit>], mut probe: impl FnMut(&str) -> Option<Probe>) -> Option<Arc<Self>> {
        if limits.is_empty() {
            return None;
        }
        let all: Vec<_> =
            limits.iter().enumerate().map(|(index, config)| Limit::new(Arc::clone(config), index)).collect();
        let some = |wanted: &dyn Fn(&RateLimit) -> bool| -> Box<[Limit]> {
            all.iter().filter(|limit| wanted(&limit.config)).cloned().collect()
        };
        let counts = |limit: &RateLimit, counted: Counted| match &limit.rule {
            Rule::Rate(rate) => rate.counts == counted,
            Rule::Asked(_) => counted == Counted::Calls,
            Rule::Open(_) => false,
        };
        let calls = |limit: &RateLimit| counts(limit, Counted::Calls);
        let mut fields: Vec<(Box<str>, Option<Probe>)> = Vec::new();
        for part in limits.iter().flat_map(|limit| &limit.key) {
            if let KeyPart::Field(path) = part
                && !fields.iter().any(|(known, _)| known == path)
            {
                fields.push((path.clone(), probe(path)));
            }
        }
        Some(Arc::new(Self {
            fields: fields.into(),
            peer: some(&|limit| calls(limit) && !limit.needs_message() && !limit.needs_identity()),
            identity: some(&|limit| calls(limit) && !limit.needs_message() && limit.needs_identity()),
            message: some(&|limit| calls(limit) && limit.needs_message()),
            messages: some(&|limit| counts(limit, Counted::Messages)),
            open: some(&|limit| matches!(limit.rule, Rule::Open(_))),
            names: limits.iter().map(|limit| Arc::clone(&limit.name)).collect(),
        }))
    }

    /// Fields that are parts of keys, by their path.
    pub fn fields(&self) -> &[(Box<str>, Option<Probe>)] {
        &self.fields
    }

    /// The names of all limits, by their index.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }
}

impl Limit {
    fn new(config: Arc<RateLimit>, index: usize) -> Self {
        let (rate, tiers) = match &config.rule {
            Rule::Open(_) | Rule::Asked(_) => (None, Box::default()),
            Rule::Rate(rate) => {
                let tiers = rate.tiers.iter().flat_map(|tiers| &tiers.quotas);
                let tiers = tiers.map(|(name, quota)| (name.clone(), *quota, Gcra::new(*quota))).collect();
                (Some((rate.quota, Gcra::new(rate.quota))), tiers)
            }
        };
        Self { config, index, rate, tiers }
    }

    /// The path of the claim that chooses the tier.
    pub fn tier_claim(&self) -> Option<&ClaimPath> {
        match &self.config.rule {
            Rule::Rate(rate) => rate.tiers.as_ref().map(|tiers| &tiers.claim),
            Rule::Open(_) | Rule::Asked(_) => None,
        }
    }

    /// The tier of that name, if there is one.
    pub fn tier(&self, name: &str) -> Option<&str> {
        self.tiers.iter().map(|(known, ..)| &**known).find(|known| *known == name)
    }

    /// The quota of a tier, or of a caller without one; none where open calls are limited.
    pub fn rate(&self, tier: Option<&str>) -> Option<(Quota, Gcra)> {
        let tier = tier.and_then(|name| self.tiers.iter().find(|(known, ..)| **known == *name));
        tier.map(|(_, quota, rate)| (*quota, *rate)).or(self.rate)
    }

    /// What a call costs; none where open calls are limited.
    pub fn cost(&self) -> Option<u32> {
        match &self.config.rule {
            Rule::Rate(rate) => Some(rate.cost),
            Rule::Asked(cost) => Some(*cost),
            Rule::Open(_) => None,
        }
    }
}
