//! How callers prove who they are, and what a method asks of them.
//!
//! A [`Provider`] is one way to prove it, under a name of the operator's. A [`Requirement`] says which of them a method
//! takes; it names them by their place in [`super::Config::authentication`]. Nothing here is checked against a request:
//! that is `policy::authenticate`.

use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

/// One way for a caller to prove who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Unique name, shown in logs and metrics.
    pub name: Arc<str>,
    /// What is proven, and how.
    pub kind: Kind,
}

/// What callers show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A key that stands in a file as a hash.
    ApiKeys(ApiKeys),
}

/// Keys that the operator gave to callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeys {
    /// Where a request has its key.
    pub from: Places,
    /// Who has which key; read again when it changes, see [`super::accounts`].
    pub file: PathBuf,
}

/// Where a request may carry a credential; the first place that has one counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// In `authorization` behind the scheme `Bearer`, in any other header as it is.
    pub header: HeaderName,
    /// The name of a cookie.
    pub cookie: Option<Box<str>>,
    /// The name of a query parameter, which is taken out before the request goes on.
    pub query: Option<Box<str>>,
}

/// What a method asks of its callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Which providers.
    pub rule: Rule,
    /// Whether a call without any credentials passes too; one with wrong credentials never does.
    pub optional: bool,
    /// `WWW-Authenticate` for a call without credentials.
    pub challenge: HeaderValue,
    /// The same for one whose credentials are not good.
    pub invalid: HeaderValue,
}

/// A provider, or several of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// By its index in [`super::Config::authentication`].
    Provider(usize),
    /// One of them is enough. Never empty.
    Any(Vec<Self>),
    /// Each is needed. Never empty.
    All(Vec<Self>),
}

impl Rule {
    /// Every provider that it names, some perhaps twice.
    pub fn providers(&self) -> Vec<usize> {
        match self {
            Self::Provider(index) => vec![*index],
            Self::Any(rules) | Self::All(rules) => rules.iter().flat_map(Self::providers).collect(),
        }
    }
}

impl Kind {
    /// Where a request has its credential, if it is a text in the request.
    pub fn places(&self) -> Option<&Places> {
        match self {
            Self::ApiKeys(keys) => Some(&keys.from),
        }
    }

    /// The scheme of its challenge, with its parameters.
    ///
    /// RFC 9110 wants one in every 401 ([§11.6.1](https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1)); there is none that is
    /// registered for API keys.
    fn challenge(&self) -> &'static str {
        match self {
            Self::ApiKeys(keys) if keys.from.header == http::header::AUTHORIZATION => BEARER,
            Self::ApiKeys(_) => "ApiKey realm=\"portico\"",
        }
    }
}

impl Requirement {
    /// A requirement with its challenges.
    pub fn new(rule: Rule, optional: bool, providers: &[Arc<Provider>]) -> Self {
        let mut challenges: Vec<&str> = Vec::new();
        for provider in rule.providers().into_iter().filter_map(|index| providers.get(index)) {
            let challenge = provider.kind.challenge();
            if !challenges.contains(&challenge) {
                challenges.push(challenge);
            }
        }
        let joined = |parameter: &str| {
            let each: Vec<String> = challenges.iter().map(|challenge| format!("{challenge}{parameter}")).collect();
            HeaderValue::try_from(each.join(", ")).unwrap_or(HeaderValue::from_static(BEARER))
        };
        // RFC 6750 §3.1: nothing is said of an error to who has shown nothing.
        Self { challenge: joined(""), invalid: joined(", error=\"invalid_token\""), rule, optional }
    }
}

const BEARER: &str = "Bearer realm=\"portico\"";
