//! What callers' credentials are checked against, kept current beside the calls.
//!
//! An [`Authority`] is what the whole process knows for one provider; [`Credentials`] gives the same one for the same
//! configuration, whoever asks, so that a reload forgets nothing. Each worker has an [`Authenticator`] over it, with
//! copies of its own. Files and networks are only touched on the control runtime.

pub mod authenticator;
mod files;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::runtime::Handle;

use crate::config::accounts::{self, Account};
use crate::config::authentication::{Kind, Provider};
use files::File;

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
    ApiKeys(Arc<File<Vec<Account>>>),
}

impl Authority {
    fn new(provider: &Arc<Provider>) -> Self {
        let known = match &provider.kind {
            Kind::ApiKeys(keys) => Known::ApiKeys(File::open(&keys.file, accounts::read_keys)),
        };
        Self { provider: Arc::clone(provider), known }
    }

    /// Keeps it current for as long as somebody has it.
    fn follow(&self, control: &Handle) {
        match &self.known {
            Known::ApiKeys(file) => files::follow(file, control),
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
    /// Where files and networks are watched; without it nothing changes.
    control: Option<Handle>,
    known: Mutex<Vec<Weak<Authority>>>,
    /// Those of the current configuration, so that they are there before the first call.
    kept: Mutex<Vec<Arc<Authority>>>,
}

impl Credentials {
    /// Files and networks are watched on that runtime.
    pub fn new(control: Handle) -> Arc<Self> {
        Arc::new(Self { control: Some(control), ..Self::default() })
    }

    /// The authority of a provider: the one that somebody has already, if its configuration is the same.
    pub fn get(&self, provider: &Arc<Provider>) -> Arc<Authority> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|authority| authority.strong_count() > 0);
        let same = known.iter().filter_map(Weak::upgrade).find(|authority| authority.provider == *provider);
        same.unwrap_or_else(|| {
            let authority = Arc::new(Authority::new(provider));
            known.push(Arc::downgrade(&authority));
            if let Some(control) = &self.control {
                authority.follow(control);
            }
            authority
        })
    }

    /// Has everything ready for these providers, and lets go of what only others needed. To be called with each
    /// configuration before it is used; reads files.
    pub fn keep(&self, providers: &[Arc<Provider>]) {
        let kept = providers.iter().map(|provider| self.get(provider)).collect();
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept;
    }
}
