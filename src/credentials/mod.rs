//! What callers' credentials are checked against, kept current beside the calls.
//!
//! An [`Authority`] is what the whole process knows for one provider; [`Credentials`] gives the same one for the same
//! configuration, whoever asks, so that a reload forgets nothing. Each worker has an [`Authenticator`] over it, with
//! copies of its own. Files, networks and passwords are only touched on the control runtime.

pub mod authenticator;
mod current;
mod files;
mod keys;
mod passwords;
mod questions;
mod schedule;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::runtime::Handle;

use crate::config::accounts::{self, Account, Digest};
use crate::config::authentication::{Keys, Kind, Provider};
use crate::config::password::PasswordHash;
use crate::jose::KeySet;
use crate::telemetry::metrics::WorkerMetrics;
use crate::telemetry::readiness::Readiness;
use files::File;
use keys::{Audience, Remote};
use passwords::Passwords;
use questions::Questions;

pub use authenticator::{Authenticator, Presented};

/// What the process knows for one provider.
#[derive(Debug)]
pub struct Authority {
    provider: Arc<Provider>,
    known: Known,
}

/// By kind of provider.
#[derive(Debug)]
enum Known {
    FetchedKeys(Arc<Remote>),
    KeyFile(Arc<File<KeySet>>),
    FixedKeys(Arc<KeySet>),
    ApiKeys(Arc<File<Vec<Account<Digest>>>>),
    Passwords(Passwords),
    Certificates,
    Questions(Questions),
}

impl Authority {
    fn new(provider: &Arc<Provider>, control: Option<&Handle>) -> Self {
        let known = match &provider.kind {
            Kind::Jwt(jwt) => match &jwt.keys {
                Keys::Url(jwks) => Known::FetchedKeys(Remote::new(&provider.name, jwks, jwt.algorithms)),
                Keys::File(path) => {
                    let algorithms = jwt.algorithms;
                    Known::KeyFile(File::open(path, move |path| accounts::read_key_set(path, algorithms)))
                }
                Keys::Fixed(keys) => Known::FixedKeys(Arc::new(keys.clone())),
            },
            Kind::ApiKeys(keys) => Known::ApiKeys(File::open(&keys.file, accounts::read_keys)),
            Kind::Basic(basic) => {
                let users: Arc<File<Vec<Account<PasswordHash>>>> = File::open(&basic.file, accounts::read_users);
                Known::Passwords(Passwords::new(users, control.cloned()))
            }
            Kind::Certificate => Known::Certificates,
            Kind::Introspection(rules) => Known::Questions(Questions::new(rules, control.cloned())),
        };
        Self { provider: Arc::clone(provider), known }
    }

    /// Keeps it current for as long as somebody has it.
    fn follow(&self, control: &Handle, audience: Audience) {
        match &self.known {
            Known::FetchedKeys(remote) => keys::follow(remote, audience, control),
            Known::KeyFile(file) => files::follow(file, control),
            Known::ApiKeys(file) => files::follow(file, control),
            Known::Passwords(passwords) => files::follow(passwords.users(), control),
            Known::FixedKeys(_) | Known::Certificates | Known::Questions(_) => {}
        }
    }

    /// Its keys, if they are fetched.
    fn fetched(&self) -> Option<&Remote> {
        match &self.known {
            Known::FetchedKeys(remote) => Some(remote),
            Known::KeyFile(_)
            | Known::FixedKeys(_)
            | Known::ApiKeys(_)
            | Known::Passwords(_)
            | Known::Certificates
            | Known::Questions(_) => None,
        }
    }

    /// What it was made from.
    pub fn provider(&self) -> &Arc<Provider> {
        &self.provider
    }
}

/// All authorities of the process.
#[derive(Debug, Default)]
pub struct Credentials {
    /// Without it nothing changes, and nobody can be asked.
    control: Option<Control>,
    known: Mutex<Vec<Weak<Authority>>>,
    /// Those of the current configuration, so that they are there before the first call.
    kept: Mutex<Vec<Arc<Authority>>>,
}

#[derive(Debug)]
struct Control {
    handle: Handle,
    readiness: Arc<Readiness>,
    metrics: WorkerMetrics,
}

impl Credentials {
    /// Files and networks are watched on that runtime.
    pub fn new(handle: Handle, readiness: Arc<Readiness>, metrics: WorkerMetrics) -> Arc<Self> {
        Arc::new(Self { control: Some(Control { handle, readiness, metrics }), ..Self::default() })
    }

    /// The authority of a provider: the one that somebody has already, if its configuration is the same.
    pub fn get(&self, provider: &Arc<Provider>) -> Arc<Authority> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|authority| authority.strong_count() > 0);
        let same = known.iter().filter_map(Weak::upgrade).find(|authority| authority.provider == *provider);
        same.unwrap_or_else(|| {
            let authority = Arc::new(Authority::new(provider, self.control.as_ref().map(|control| &control.handle)));
            known.push(Arc::downgrade(&authority));
            if let Some(control) = &self.control {
                let metrics = control.metrics.provider(&provider.name);
                authority.follow(&control.handle, Audience { readiness: Arc::clone(&control.readiness), metrics });
            }
            authority
        })
    }

    /// Has everything ready for these providers, and lets go of what only others needed. To be called with each
    /// configuration before it is used, one at a time; reads files.
    ///
    /// A gateway that is ready stays so: keys of an issuer that is new to it are waited for by the calls that need them.
    pub fn keep(&self, providers: &[Arc<Provider>]) {
        let fresh: Vec<Arc<Authority>> = providers.iter().map(|provider| self.get(provider)).collect();
        let before = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *kept, fresh.clone())
        };
        let Some(control) = &self.control else { return };
        // Nobody speaks while the names change, lest what it says be lost.
        before.iter().filter_map(|authority| authority.fetched()).for_each(Remote::let_go);
        let is_ready = control.readiness.reasons().is_empty();
        let fetched = || fresh.iter().filter_map(|authority| Some((&authority.provider.name, authority.fetched()?)));
        control.readiness.set_issuers(fetched().map(|(name, _)| (Arc::clone(name), is_ready)));
        fetched().for_each(|(_, remote)| remote.keep(&control.readiness));
    }
}
