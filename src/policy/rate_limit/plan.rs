//! The limits of a method, prepared.

use std::sync::Arc;

use super::gcra::Gcra;
use crate::config::claim::ClaimPath;
use crate::config::rate_limit::{Counted, KeyPart, Quota, RateLimit, Rule};
use crate::schema::probe::Probe;

/// The limits of a method.
#[derive(Debug, Clone)]
pub struct Plan {
    limits: Box<[Limit]>,
    /// Fields that are parts of keys, with where they are in the request message, if it has them.
    fields: Box<[(Box<str>, Option<Probe>)]>,
}

/// When a limit is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Once for a call, before anybody knows who calls.
    Peer,
    /// Once for a call, when its caller is known.
    Identity,
    /// Once for a call, when its first message is there.
    Message,
    /// For each message.
    Messages,
    /// When a call begins, until it ends.
    Open,
}

/// A limit, prepared.
#[derive(Debug, Clone)]
pub struct Limit {
    /// What it was made of.
    pub config: Arc<RateLimit>,
    /// Its place among the limits of the method, which is the order in which clients are told of them.
    pub index: usize,
    stage: Stage,
    /// The quota of a caller without a tier; none where open calls are limited.
    rate: Option<(Quota, Gcra)>,
    /// Quotas by tier.
    tiers: Box<[(Box<str>, Quota, Gcra)]>,
}

impl Plan {
    /// Prepares what the policies say of a method; `None` when they say nothing. `probe` finds a field by its path.
    pub fn new(limits: &[Arc<RateLimit>], mut probe: impl FnMut(&str) -> Option<Probe>) -> Option<Self> {
        if limits.is_empty() {
            return None;
        }
        let mut fields: Vec<(Box<str>, Option<Probe>)> = Vec::new();
        for part in limits.iter().flat_map(|limit| &limit.key) {
            if let KeyPart::Field(path) = part
                && !fields.iter().any(|(known, _)| known == path)
            {
                fields.push((path.clone(), probe(path)));
            }
        }
        let limits = limits.iter().enumerate().map(|(index, config)| Limit::new(Arc::clone(config), index)).collect();
        Some(Self { limits, fields: fields.into() })
    }

    /// The limits of a stage.
    pub fn at(&self, stage: Stage) -> impl Iterator<Item = &Limit> {
        self.limits.iter().filter(move |limit| limit.stage == stage)
    }

    /// All limits, by their index.
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// Fields that are parts of keys, by their path.
    pub fn fields(&self) -> &[(Box<str>, Option<Probe>)] {
        &self.fields
    }
}

impl Stage {
    fn of(limit: &RateLimit) -> Self {
        let counts_messages = match &limit.rule {
            Rule::Open(_) => return Self::Open,
            Rule::Rate(rate) => rate.counts == Counted::Messages,
            Rule::Asked(_) => false,
        };
        match () {
            () if counts_messages => Self::Messages,
            () if limit.needs_message() => Self::Message,
            () if limit.needs_identity() => Self::Identity,
            () => Self::Peer,
        }
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
        Self { stage: Stage::of(&config), config, index, rate, tiers }
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
