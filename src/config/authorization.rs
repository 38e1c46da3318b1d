//! What a caller must be, or must not be, to call a method: the `authorize` sections of policies, resolved.
//!
//! The rules of all policies that match a method add up, and each of them has to hold. Nothing here is held against a call:
//! that is `policy::authorize`.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use serde_json::Value;

use super::claim::ClaimPath;
use super::{Change, MethodPattern};
use crate::expression::Program;

/// Everything that must hold for a method's callers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authorization {
    /// In the order of the policies, the least specific first.
    pub rules: Vec<Arc<Rule>>,
    /// Who is asked once the rules hold, in the same order: indices into [`super::Config::authorizers`].
    pub external: Vec<usize>,
}

/// One thing that must hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// The operator's name for it, or its place in the configuration; for logs.
    pub name: Box<str>,
    /// What must hold.
    pub demand: Demand,
}

/// What a rule asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Demand {
    /// All conditions hold.
    Require(Conditions),
    /// All conditions of one of these hold. Never empty.
    Any(Vec<Conditions>),
    /// Not all conditions hold.
    Deny(Conditions),
}

/// Conditions that hold together or not; at least one is there.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Scopes that the caller has, each of them.
    pub scopes: Vec<Box<str>>,
    /// What the caller's claims are.
    pub claims: Vec<(ClaimPath, Test)>,
    /// What the request's headers are.
    pub headers: Vec<(HeaderName, Test)>,
    /// Methods, one of which is called.
    pub methods: Vec<MethodPattern>,
    /// Providers, one of which vouches for the caller.
    pub providers: Vec<Arc<str>>,
    /// Networks, in one of which the caller is.
    pub client_ip: Vec<IpNet>,
    /// An expression that is true.
    pub cel: Option<Program>,
}

/// What is asked of a claim or a header.
#[derive(Debug, PartialEq, Eq)]
pub enum Test {
    /// It is one of these values. Never empty.
    OneOf(Vec<Value>),
    /// It is or contains one of these. Never empty.
    ContainsAny(Vec<Value>),
    /// It contains each of these. Never empty.
    ContainsAll(Vec<Value>),
    /// It is there, or is not.
    Exists(bool),
}

/// A service that decides on calls: `envoy.service.auth.v3.Authorization`.
#[derive(Debug, PartialEq, Eq)]
pub struct Authorizer {
    /// Unique name, shown in logs and metrics.
    pub name: Arc<str>,
    /// Index of the upstream that it is.
    pub upstream: usize,
    /// For the whole answer. Default 200 ms.
    pub timeout: Duration,
    /// Whether calls pass when there is no answer. Default no.
    pub allow_on_failure: bool,
    /// Headers that it may set for the upstream. They are taken out of every request first.
    pub headers: Vec<HeaderName>,
    /// Headers that it may add to replies.
    pub reply_headers: Vec<HeaderName>,
    /// Told with each question: `context_extensions`.
    pub context: Vec<(Box<str>, Box<str>)>,
}

/// What the upstream learns of the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// Headers, each with the claim that it holds.
    pub headers: Vec<(HeaderName, ClaimPath)>,
    /// Whether lists are joined by commas instead of written as JSON.
    pub joined: bool,
    /// Whether the upstream gets the credentials themselves.
    pub credentials: bool,
}

impl Authorization {
    /// Adds what a more specific policy says.
    pub(super) fn apply(change: &Change<Arc<Self>>, target: &mut Option<Arc<Self>>) {
        match (change, target) {
            (Change::Inherited, _) => {}
            (Change::Cleared, target) => *target = None,
            (Change::To(more), Some(before)) => {
                let mut all = Self::clone(before);
                all.rules.extend(more.rules.iter().cloned());
                all.external.extend(more.external.iter().filter(|authorizer| !before.external.contains(authorizer)));
                *before = Arc::new(all);
            }
            (Change::To(first), target) => *target = Some(Arc::clone(first)),
        }
    }
}
