//! Whether the gateway can take calls, and if not, why.
//!
//! Set by those who load schemas and by the one who drains; asked by `/readyz` and `/metrics`. It decides nothing:
//! calls are answered or refused by what the snapshot holds.
//!
//! ```text
//! starting ── set_upstreams ──▶ waiting for schemas and keys ── the last one comes ──▶ ready
//!     │                                    │   └─ wait_no_longer, and there is a schema ──▲ │
//!     └────────────────────────────────────┴──────────────────── drain ────────────────────┴──▶ draining
//! ```
//!
//! Who starts while an upstream is down waits for it only so long: it is to be no less ready than those that started before,
//! which go on without that upstream. Without any schema there would be nothing to serve.
//!
//! What a reload adds and is not there yet is told, and takes no gateway that serves out of its load balancer: all of them
//! read the same configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shared by everybody who knows something about it.
#[derive(Debug, Default)]
pub struct Readiness {
    state: Mutex<State>,
}

impl Readiness {
    /// Takes the names of all upstreams that have a schema, or are to have one. New ones have no schema yet, known ones keep
    /// their state, others are forgotten.
    pub fn set_upstreams(&self, names: impl IntoIterator<Item = Arc<str>>) {
        let mut state = self.state();
        let mut known = std::mem::take(&mut state.schemas);
        let keep = |name: Arc<str>| {
            let problem = known.remove(&name).unwrap_or_else(|| Some("not loaded yet".into()));
            (name, problem)
        };
        state.schemas = names.into_iter().map(keep).collect();
        state.begun = true;
    }

    /// Says that the upstream's schema is in use.
    pub fn schema_loaded(&self, upstream: &str) {
        self.set_schema(upstream, None);
    }

    /// Says why the upstream's schema could not be loaded. One that was loaded before stays in use and stays ready.
    pub fn schema_failed(&self, upstream: &str, problem: String) {
        self.set_schema(upstream, Some(problem));
    }

    /// Takes the names of all whose keys are fetched, each with whether there are any. Others are forgotten.
    pub fn set_issuers(&self, issuers: impl IntoIterator<Item = (Arc<str>, bool)>) {
        // At start before the first schema is, so that the gateway is not ready without them.
        let keys = issuers.into_iter().map(|(name, loaded)| (name, (!loaded).then(|| "not fetched yet".into())));
        self.state().keys = keys.collect();
    }

    /// Says that keys of the provider are in use.
    pub fn keys_loaded(&self, provider: &str) {
        let mut state = self.state();
        if let Some(known) = state.keys.get_mut(provider) {
            *known = None;
        }
        state.settle();
    }

    /// Says why the keys of the provider could not be fetched. Those that were fetched before stay in use.
    pub fn keys_failed(&self, provider: &str, problem: String) {
        if let Some(known @ Some(_)) = self.state().keys.get_mut(provider) {
            *known = Some(problem.into_boxed_str());
        }
    }

    /// Says that what is missing by now may come later, as long as some of the schemas are there.
    pub fn wait_no_longer(&self) {
        let mut state = self.state();
        state.waited = true;
        state.settle();
    }

    /// Says that the gateway is about to stop. There is no way back.
    pub fn drain(&self) {
        self.state().draining = true;
    }

    /// Whether the gateway is about to stop.
    pub fn is_draining(&self) -> bool {
        self.state().draining
    }

    /// Why no calls should be sent here; empty when ready. Once ready, only the end is a reason.
    pub fn reasons(&self) -> Vec<Reason> {
        let state = self.state();
        let mut reasons = if state.ready { Vec::new() } else { state.missing() };
        if !state.begun {
            reasons.push(Reason::Starting);
        }
        if state.draining {
            reasons.push(Reason::Draining);
        }
        reasons
    }

    /// What has never been there, whether or not the gateway is ready without it.
    pub fn missing(&self) -> Vec<Reason> {
        self.state().missing()
    }

    /// Every upstream by name, with whether its schema is loaded.
    pub fn schemas(&self) -> Vec<(Arc<str>, bool)> {
        self.state().schemas.iter().map(|(name, problem)| (name.clone(), problem.is_none())).collect()
    }

    /// Leaves an upstream alone that is not, or no longer, there: its loader may be slower than a reload.
    fn set_schema(&self, upstream: &str, problem: Option<String>) {
        let mut state = self.state();
        if let Some(known) = state.schemas.get_mut(upstream)
            && (known.is_some() || problem.is_none())
        {
            *known = problem.map(String::into_boxed_str);
        }
        state.settle();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why no calls should be sent to this gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The first snapshot is not there.
    Starting,
    /// Calls to this upstream cannot be routed.
    NoSchema {
        /// Its name.
        upstream: Arc<str>,
        /// What the last attempt to load it met.
        problem: Box<str>,
    },
    /// Nobody can be let in by this provider.
    NoKeys {
        /// Its name.
        provider: Arc<str>,
        /// What the last attempt to fetch them met.
        problem: Box<str>,
    },
    /// The gateway finishes the calls that it has and stops.
    Draining,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::NoSchema { upstream, problem } => write!(f, "no schema for upstream {upstream}: {problem}"),
            Self::NoKeys { provider, problem } => write!(f, "no keys for provider {provider}: {problem}"),
            Self::Draining => f.write_str("draining"),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    begun: bool,
    /// Everything that the configuration at start needs has been there, or was waited for long enough.
    ready: bool,
    waited: bool,
    draining: bool,
    /// By upstream, what keeps its schema away; `None` when loaded.
    schemas: BTreeMap<Arc<str>, Option<Box<str>>>,
    /// By provider, what keeps its keys away; `None` when there are some.
    keys: BTreeMap<Arc<str>, Option<Box<str>>>,
}

impl State {
    /// To be called after whatever came.
    fn settle(&mut self) {
        let is_whole = self.schemas.values().chain(self.keys.values()).all(Option::is_none);
        let is_enough = self.waited && self.schemas.values().any(Option::is_none);
        self.ready |= self.begun && (is_whole || is_enough);
    }

    fn missing(&self) -> Vec<Reason> {
        fn left(all: &BTreeMap<Arc<str>, Option<Box<str>>>) -> impl Iterator<Item = (Arc<str>, Box<str>)> {
            all.iter().filter_map(|(name, problem)| Some((Arc::clone(name), problem.clone()?)))
        }
        let schemas = left(&self.schemas).map(|(upstream, problem)| Reason::NoSchema { upstream, problem });
        let keys = left(&self.keys).map(|(provider, problem)| Reason::NoKeys { provider, problem });
        schemas.chain(keys).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(readiness: &Readiness) -> Vec<String> {
        readiness.reasons().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn is_ready_once_every_schema_is_loaded() {
        let readiness = Readiness::default();
        assert_eq!(reasons(&readiness), ["starting"]);

        readiness.set_upstreams(["books".into(), "films".into()]);
        readiness.schema_loaded("books");
        readiness.schema_failed("films", "connection refused".into());
        assert_eq!(reasons(&readiness), ["no schema for upstream films: connection refused"]);

        readiness.schema_loaded("films");
        assert!(readiness.reasons().is_empty());
    }

    #[test]
    fn stays_ready_when_a_schema_cannot_be_loaded_again() {
        let readiness = Readiness::default();
        readiness.set_upstreams(["books".into()]);
        readiness.schema_loaded("books");

        readiness.schema_failed("books", "connection refused".into());

        assert!(readiness.reasons().is_empty());
    }

    #[test]
    fn keeps_what_it_knows_of_upstreams_across_a_reload() {
        let readiness = Readiness::default();
        readiness.set_upstreams(["books".into(), "films".into()]);
        readiness.schema_loaded("books");

        readiness.set_upstreams(["books".into(), "music".into()]);
        readiness.schema_loaded("films");

        assert_eq!(readiness.schemas(), [("books".into(), true), ("music".into(), false)]);
    }

    #[test]
    fn stays_ready_without_what_a_reload_adds() {
        let readiness = Readiness::default();
        readiness.set_upstreams(["books".into()]);
        readiness.schema_loaded("books");

        readiness.set_upstreams(["books".into(), "films".into()]);
        readiness.set_issuers([("staff".into(), false)]);
        readiness.schema_failed("films", "connection refused".into());

        assert!(readiness.reasons().is_empty());
        let missing: Vec<_> = readiness.missing().iter().map(ToString::to_string).collect();
        assert_eq!(
            missing,
            ["no schema for upstream films: connection refused", "no keys for provider staff: not fetched yet"]
        );
    }

    #[test]
    fn waits_for_keys_and_keeps_those_that_came() {
        let readiness = Readiness::default();
        readiness.set_upstreams(["books".into()]);
        readiness.set_issuers([("staff".into(), false), ("other".into(), true)]);
        readiness.schema_loaded("books");
        readiness.keys_failed("staff", "connection refused".into());
        readiness.keys_failed("other", "connection refused".into());
        assert_eq!(reasons(&readiness), ["no keys for provider staff: connection refused"]);

        readiness.keys_loaded("staff");
        readiness.keys_failed("staff", "connection refused".into());
        readiness.keys_failed("gone", "connection refused".into());

        assert!(readiness.reasons().is_empty());
    }

    #[test]
    fn waits_no_longer_than_it_is_told_once_there_is_something_to_serve() {
        let readiness = Readiness::default();
        readiness.set_upstreams(["books".into(), "films".into()]);
        readiness.set_issuers([("staff".into(), false)]);
        readiness.wait_no_longer();
        assert_eq!(readiness.reasons().len(), 3);

        readiness.schema_failed("films", "connection refused".into());
        readiness.schema_loaded("books");

        assert!(readiness.reasons().is_empty());
        assert_eq!(readiness.missing().len(), 2);
    }

    #[test]
    fn is_not_ready_while_draining() {
        let readiness = Readiness::default();
        readiness.set_upstreams(["books".into()]);
        readiness.schema_loaded("books");

        readiness.drain();

        assert_eq!(reasons(&readiness), ["draining"]);
    }
}
