//! How callers prove who they are, and what a method asks of them.
//!
//! A [`Provider`] is one way to prove it, under a name of the operator's. A [`Requirement`] says which of them a method
//! takes; it names them by their place in [`super::Config::authentication`]. Nothing here is checked against a request:
//! that is `policy::authenticate`.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::tls::ClientTls;
use super::url::Url;
use crate::jose::{Algorithms, KeySet};

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
    /// A signed token ([RFC 7519](https://www.rfc-editor.org/rfc/rfc7519)).
    Jwt(Box<Jwt>),
    /// A key that stands in a file as a hash.
    ApiKeys(ApiKeys),
    /// A name and a password ([RFC 7617](https://www.rfc-editor.org/rfc/rfc7617)).
    Basic(Basic),
    /// The certificate of the connection, which the listener has verified.
    Certificate,
    /// A token that its issuer is asked about ([RFC 7662](https://www.rfc-editor.org/rfc/rfc7662)).
    Introspection(Box<Introspection>),
}

/// Tokens of one issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwt {
    /// What `iss` must be.
    pub issuer: Box<str>,
    /// Whom tokens must be for.
    pub audiences: Audiences,
    /// How they may be signed; a key's own algorithms narrow it further.
    pub algorithms: Algorithms,
    /// What clocks may differ by. Whole seconds.
    pub leeway: Duration,
    /// Values of `typ`, in lower case and without `application/`; any unless given. Never empty.
    pub types: Option<Arc<[Box<str>]>>,
    /// Where a request has its token.
    pub from: Places,
    /// What tokens are verified by.
    pub keys: Keys,
}

/// What `aud` must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audiences {
    /// Anything, or nothing.
    Any,
    /// One of these. Never empty.
    Of(Arc<[Box<str>]>),
}

/// Where the keys of an issuer come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// From the issuer, again and again.
    Url(Jwks),
    /// From a file, a JWK set or PEM, that is read again when it changes.
    File(PathBuf),
    /// From the configuration.
    Fixed(KeySet),
}

/// A JWK set that is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwks {
    /// Whom to ask.
    pub server: Server,
    /// Between fetches, unless the reply's `cache-control` says otherwise. Default 10 min.
    pub refresh: Duration,
    /// Between two fetches at least, whatever tokens come. Default 10 s.
    pub min_interval: Duration,
}

/// A server that the gateway asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub url: Url,
    /// How it is trusted; none for clear text.
    pub tls: Option<ClientTls>,
    /// For everything, from the name's look-up to the last byte.
    pub timeout: Duration,
}

/// Users with passwords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basic {
    /// Who has which password; read again when it changes.
    pub file: PathBuf,
    /// What browsers show when they ask for the password.
    pub realm: Box<str>,
}

/// Tokens whose issuer says what they mean.
#[derive(Clone, PartialEq, Eq)]
pub struct Introspection {
    /// Whom to ask.
    pub server: Server,
    /// As whom the gateway asks: the value of `authorization`.
    pub authorization: Option<HeaderValue>,
    /// How long an answer is believed, at most. Whole seconds; default 1 min.
    pub cache: Duration,
    /// What `iss` of the answer must be, if anything.
    pub issuer: Option<Box<str>>,
    /// What `aud` of the answer must have.
    pub audiences: Audiences,
    /// Where a request has its token.
    pub from: Places,
}

/// Without what the gateway asks by.
impl fmt::Debug for Introspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Introspection").field("server", &self.server).field("from", &self.from).finish_non_exhaustive()
    }
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
            Self::Jwt(jwt) => Some(&jwt.from),
            Self::ApiKeys(keys) => Some(&keys.from),
            Self::Introspection(introspection) => Some(&introspection.from),
            Self::Basic(_) | Self::Certificate => None,
        }
    }

    /// The scheme of its challenge, with its parameters.
    ///
    /// RFC 9110 wants one in every 401 ([§11.6.1](https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1)); there is none that is
    /// registered for API keys and certificates.
    fn challenge(&self) -> Cow<'static, str> {
        match self {
            Self::Jwt(_) | Self::Introspection(_) => BEARER.into(),
            Self::ApiKeys(keys) if keys.from.header == http::header::AUTHORIZATION => BEARER.into(),
            Self::ApiKeys(_) => "ApiKey realm=\"portico\"".into(),
            Self::Basic(basic) => format!("Basic realm=\"{}\", charset=\"UTF-8\"", basic.realm).into(),
            // No header can bring one.
            Self::Certificate => "Mutual realm=\"portico\"".into(),
        }
    }
}

impl Requirement {
    /// A requirement with its challenges.
    pub fn new(rule: Rule, optional: bool, providers: &[Arc<Provider>]) -> Self {
        let mut challenges: Vec<Cow<'static, str>> = Vec::new();
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
