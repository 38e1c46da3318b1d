//! One worker's view of an authority: who a request comes from, as one provider says.

use std::cell::RefCell;
use std::sync::Arc;

use http::{HeaderMap, Uri};

use super::files::File;
use super::{Authority, Known};
use crate::config::accounts::Account;
use crate::config::authentication::{self, Provider};
use crate::policy::api_key::ApiKeys;
use crate::policy::authenticate::Finding;
use crate::policy::credential::{self, Shown};

/// What a provider may look at.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'r> {
    /// Of the request.
    pub headers: &'r HeaderMap,
    /// With its query.
    pub uri: &'r Uri,
}

/// A provider at work on one worker.
#[derive(Debug)]
pub struct Authenticator {
    authority: Arc<Authority>,
    keys: RefCell<Option<(u64, ApiKeys)>>,
}

impl Authenticator {
    /// A view of that authority.
    pub fn new(authority: Arc<Authority>) -> Self {
        Self { authority, keys: RefCell::default() }
    }

    /// The provider.
    pub fn provider(&self) -> &Arc<Provider> {
        self.authority.provider()
    }

    /// Who the request comes from, as far as it can be said without asking anybody.
    pub fn find(&self, presented: &Presented<'_>) -> Finding {
        match (&self.authority.known, &self.provider().kind) {
            (Known::ApiKeys(file), authentication::Kind::ApiKeys(config)) => {
                match credential::find(&config.from, presented.headers, presented.uri) {
                    Shown::Nothing => Finding::Missing,
                    Shown::Malformed => Finding::Invalid("malformed"),
                    Shown::Credential(key) => self.api_key(file, &key),
                }
            }
        }
    }

    fn api_key(&self, file: &File<Vec<Account>>, key: &[u8]) -> Finding {
        let generation = file.generation();
        let mut keys = self.keys.borrow_mut();
        let current = match &mut *keys {
            Some((known, keys)) if *known == generation => keys,
            stale => &stale.insert((generation, ApiKeys::new(&self.provider().name, &file.contents()))).1,
        };
        current.find(key).map_or(Finding::Invalid("unknown_key"), |identity| Finding::Granted(identity.clone()))
    }
}
