//! One worker's view of an authority: who a request comes from, as one provider says.
//!
//! What was found out about a credential is remembered for as long as it holds, so that a signature or a password is
//! checked once and not with each call. What was found by a key, a file or a password is forgotten when these change.

use std::cell::RefCell;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Uri};
use rustls_pki_types::CertificateDer;

use super::files::File;
use super::passwords::Passwords;
use super::questions::Questions;
use super::{Authority, Known};
use crate::config::accounts::{Account, Digest};
use crate::config::authentication::{Introspection, Jwt, Kind as ProviderKind, Provider};
use crate::jose::{Key, KeySet};
use crate::policy::api_key::ApiKeys;
use crate::policy::authenticate::Finding;
use crate::policy::credential::{self, Shown};
use crate::policy::identity::{Identity, Kind};
use crate::policy::memory::{Limits, Memory};
use crate::policy::{certificate, introspection, jwt};

/// What a provider may look at.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'r> {
    /// Of the request.
    pub headers: &'r HeaderMap,
    /// With its query.
    pub uri: &'r Uri,
    /// Of the client, if the connection has one; the listener has verified it.
    pub certificate: Option<&'r CertificateDer<'static>>,
    /// Seconds since the Unix epoch.
    pub now: u64,
}

/// A provider at work on one worker.
#[derive(Debug)]
pub struct Authenticator {
    authority: Arc<Authority>,
    memory: RefCell<Memory<Remembered>>,
    keys: RefCell<(u64, Arc<KeySet>)>,
    api_keys: RefCell<Option<(u64, ApiKeys)>>,
}

/// What is known of a credential.
#[derive(Debug)]
struct Remembered {
    /// Nobody, if it is not good.
    identity: Option<Identity>,
    /// Second from which on it does not hold any more.
    until: u64,
    /// Of the keys or of the file that it was found by.
    generation: u64,
    /// That signed it.
    key: Option<Arc<Key>>,
}

impl Authenticator {
    /// A view of that authority.
    pub fn new(authority: Arc<Authority>) -> Self {
        let keys = match &authority.known {
            Known::FetchedKeys(remote) => (remote.generation(), remote.keys()),
            Known::KeyFile(file) => (file.generation(), file.contents()),
            Known::FixedKeys(keys) => (0, Arc::clone(keys)),
            Known::ApiKeys(_) | Known::Passwords(_) | Known::Certificates | Known::Questions(_) => Default::default(),
        };
        let (memory, keys) = (RefCell::new(Memory::new(REMEMBERED)), RefCell::new(keys));
        Self { authority, memory, keys, api_keys: RefCell::default() }
    }

    /// The provider.
    pub fn provider(&self) -> &Arc<Provider> {
        self.authority.provider()
    }

    /// Who the request comes from, as far as it can be said without asking anybody.
    pub fn find(&self, presented: &Presented<'_>) -> Finding {
        let shown = |places| credential::find(places, presented.headers, presented.uri);
        match (&self.authority.known, &self.provider().kind) {
            (_, ProviderKind::Jwt(rules)) => with(shown(&rules.from), |token| self.token(rules, token, presented.now)),
            (Known::ApiKeys(file), ProviderKind::ApiKeys(keys)) => {
                with(shown(&keys.from), |key| self.api_key(file, key))
            }
            (Known::Questions(_), ProviderKind::Introspection(rules)) => with(shown(&rules.from), |token| {
                self.remembered(digest(&SHA256, token).as_ref(), presented.now, 0).unwrap_or(Finding::Ask)
            }),
            (Known::Passwords(passwords), ProviderKind::Basic(_)) => {
                with(credential::of_scheme("basic", presented.headers), |pair| {
                    let generation = passwords.users().generation();
                    self.remembered(digest(&SHA256, pair).as_ref(), presented.now, generation).unwrap_or(Finding::Ask)
                })
            }
            (Known::Certificates, ProviderKind::Certificate) => self.certificate(presented),
            // An authority is made after its provider's kind.
            _ => Finding::Unavailable("kind"),
        }
    }

    /// Asks whoever has to be asked after [`Self::find`] said so, and says who the request comes from.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the question; what it would have found is asked again.
    pub async fn ask(&self, presented: &Presented<'_>) -> Finding {
        match (&self.authority.known, &self.provider().kind) {
            (Known::FetchedKeys(remote), ProviderKind::Jwt(_)) => {
                remote.renew().await;
                match self.find(presented) {
                    Finding::Ask if remote.keys().is_empty() => Finding::Unavailable("no_keys"),
                    Finding::Ask => Finding::Invalid("unknown_key"),
                    finding => finding,
                }
            }
            (Known::Questions(questions), ProviderKind::Introspection(rules)) => {
                match credential::find(&rules.from, presented.headers, presented.uri) {
                    Shown::Credential(token) => self.introspect(questions, rules, &token, presented.now).await,
                    Shown::Nothing => Finding::Missing,
                    Shown::Malformed => Finding::Invalid("malformed"),
                }
            }
            (Known::Passwords(passwords), ProviderKind::Basic(_)) => {
                match credential::of_scheme("basic", presented.headers) {
                    Shown::Credential(pair) => self.password(passwords, &pair, presented.now).await,
                    Shown::Nothing => Finding::Missing,
                    Shown::Malformed => Finding::Invalid("malformed"),
                }
            }
            _ => self.find(presented),
        }
    }

    fn name(&self) -> Arc<str> {
        Arc::clone(&self.provider().name)
    }

    /// What is known of a credential, unless it is over or was found by something older.
    fn remembered(&self, key: &[u8], now: u64, generation: u64) -> Option<Finding> {
        let mut memory = self.memory.borrow_mut();
        let known = memory.get(key)?;
        if now >= known.until || known.generation != generation {
            memory.remove(key);
            return None;
        }
        Some(known.identity.clone().map_or(Finding::Invalid("wrong"), Finding::Granted))
    }

    fn remember(&self, key: &[u8], identity: Option<Identity>, until: u64, generation: u64) {
        let size = identity.as_ref().map_or(0, Identity::size);
        self.memory.borrow_mut().insert(key, Remembered { identity, until, generation, key: None }, size);
    }

    fn token(&self, rules: &Jwt, token: &[u8], now: u64) -> Finding {
        self.refresh_keys();
        let keys = self.keys.borrow();
        let (generation, keys) = &*keys;
        let mut memory = self.memory.borrow_mut();
        if let Some(known) = memory.get(token) {
            let is_current =
                known.generation == *generation || known.key.as_ref().is_some_and(|key| keys.contains(key));
            if is_current && now < known.until {
                known.generation = *generation;
                return known.identity.clone().map_or(Finding::Invalid("wrong"), Finding::Granted);
            }
            memory.remove(token);
        }
        match jwt::verify(token, rules, keys, now) {
            Ok(verified) => {
                let identity = Identity::new(self.name(), Kind::Jwt, verified.claims);
                let (until, key) = (verified.until, Some(verified.key));
                let known = Remembered { identity: Some(identity.clone()), until, generation: *generation, key };
                memory.insert(token, known, identity.size());
                Finding::Granted(identity)
            }
            Err(jwt::Flaw::Bad(why)) => Finding::Invalid(why),
            Err(jwt::Flaw::UnknownKey) => match &self.authority.known {
                Known::FetchedKeys(_) => Finding::Ask,
                _ => Finding::Invalid("unknown_key"),
            },
        }
    }

    /// Takes newer keys, if there are any.
    fn refresh_keys(&self) {
        let mut keys = self.keys.borrow_mut();
        // The number first, so that keys which come in between are taken the next time.
        match &self.authority.known {
            Known::FetchedKeys(remote) if remote.generation() != keys.0 => *keys = (remote.generation(), remote.keys()),
            Known::KeyFile(file) if file.generation() != keys.0 => *keys = (file.generation(), file.contents()),
            _ => {}
        }
    }

    fn api_key(&self, file: &File<Vec<Account<Digest>>>, key: &[u8]) -> Finding {
        let generation = file.generation();
        let mut keys = self.api_keys.borrow_mut();
        let current = match &mut *keys {
            Some((known, keys)) if *known == generation => keys,
            stale => &mut stale.insert((generation, ApiKeys::new(&self.provider().name, &file.contents()))).1,
        };
        current.find(key).map_or(Finding::Invalid("unknown_key"), |identity| Finding::Granted(identity.clone()))
    }

    fn certificate(&self, presented: &Presented<'_>) -> Finding {
        let Some(certificate) = presented.certificate else { return Finding::Missing };
        if let Some(known) = self.remembered(certificate, presented.now, 0) {
            return known;
        }
        let claims = certificate::claims(certificate);
        let identity = claims.map(|claims| Identity::new(self.name(), Kind::Certificate, claims));
        self.remember(certificate, identity.clone(), u64::MAX, 0);
        identity.map_or(Finding::Invalid("nameless"), Finding::Granted)
    }

    async fn introspect(&self, questions: &Questions, rules: &Introspection, token: &[u8], now: u64) -> Finding {
        let answer = match questions.ask(token).await {
            Ok(answer) => answer,
            Err(why) => return Finding::Unavailable(why),
        };
        let key = digest(&SHA256, token);
        let latest = now.saturating_add(rules.cache.as_secs());
        match introspection::read(&answer, rules, now) {
            Ok(active) => {
                let identity = Identity::new(self.name(), Kind::Introspection, active.claims);
                let until = active.until.unwrap_or(u64::MAX).min(latest);
                self.remember(key.as_ref(), Some(identity.clone()), until, 0);
                Finding::Granted(identity)
            }
            Err(introspection::Flaw::Bad(why)) => {
                self.remember(key.as_ref(), None, latest.min(now.saturating_add(BAD)), 0);
                Finding::Invalid(why)
            }
            Err(introspection::Flaw::NoAnswer) => Finding::Unavailable("no_answer"),
        }
    }

    async fn password(&self, passwords: &Passwords, pair: &[u8], now: u64) -> Finding {
        let Ok(decoded) = STANDARD.decode(pair) else { return Finding::Invalid("malformed") };
        let Some(colon) = memchr::memchr(b':', &decoded) else { return Finding::Invalid("malformed") };
        let (name, password) = decoded.split_at(colon);
        let generation = passwords.users().generation();
        let found = passwords.check(name, password.get(1..).unwrap_or_default()).await;
        let key = digest(&SHA256, pair);
        match found {
            Ok(Some(user)) => {
                let identity = Identity::new(self.name(), Kind::Basic, user.claims());
                self.remember(key.as_ref(), Some(identity.clone()), now.saturating_add(GOOD), generation);
                Finding::Granted(identity)
            }
            Ok(None) => {
                self.remember(key.as_ref(), None, now.saturating_add(BAD), generation);
                Finding::Invalid("password")
            }
            Err(why) => Finding::Unavailable(why),
        }
    }
}

/// Looks at a credential, if there is one.
fn with(shown: Shown<'_>, look: impl FnOnce(&[u8]) -> Finding) -> Finding {
    match shown {
        Shown::Nothing => Finding::Missing,
        Shown::Malformed => Finding::Invalid("malformed"),
        Shown::Credential(credential) => look(&credential),
    }
}

/// What one worker remembers for one provider: about as many tokens of a usual size.
const REMEMBERED: Limits = Limits { entries: 4096, bytes: 8 << 20 };
/// Seconds for which a password that was good is not checked again.
const GOOD: u64 = 600;
/// The same for credentials that were not good.
const BAD: u64 = 10;
