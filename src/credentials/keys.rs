//! Keys of an issuer that are fetched from it, before the first call and again and again.
//!
//! One task fetches; whoever misses a key asks it to and waits for a moment. Keys that were fetched once stay in use when
//! the issuer cannot be reached.
//!
//! **Invariant**: only those of the configuration in use are fetched and spoken of; calls that began under another one, and
//! workers that had no call since, still have the old ones.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::HeaderMap;
use http::header::{AGE, CACHE_CONTROL};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::current::Current;
use super::schedule::{Pace, Schedule};
use crate::config::authentication::Jwks;
use crate::fetch::{self, Question};
use crate::jose::{Algorithms, KeySet};
use crate::telemetry::metrics::ProviderMetrics;
use crate::telemetry::readiness::Readiness;

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct Remote {
    name: Arc<str>,
    jwks: Jwks,
    algorithms: Algorithms,
    keys: Current<KeySet>,
    schedule: Mutex<Schedule>,
    wake: Notify,
    /// Whether the configuration in use has it.
    kept: Mutex<bool>,
    /// Counts fetches that have ended.
    ended: watch::Sender<u64>,
}

/// Who hears of it.
#[derive(Debug)]
pub(super) struct Audience {
    pub(super) readiness: Arc<Readiness>,
    pub(super) metrics: Arc<ProviderMetrics>,
}

impl Remote {
    pub(super) fn new(name: &Arc<str>, jwks: &Jwks, algorithms: Algorithms) -> Arc<Self> {
        let pace = Pace { refresh: jwks.refresh, floor: jwks.min_interval };
        Arc::new(Self {
            name: Arc::clone(name),
            jwks: jwks.clone(),
            algorithms,
            keys: Current::default(),
            schedule: Mutex::new(Schedule::new(pace, Instant::now())),
            wake: Notify::new(),
            kept: Mutex::new(false),
            ended: watch::Sender::new(0),
        })
    }

    /// The keys that were fetched last; none before the first time.
    pub(super) fn keys(&self) -> Arc<KeySet> {
        self.keys.get()
    }

    /// See [`Current::generation`].
    pub(super) fn generation(&self) -> u64 {
        self.keys.generation()
    }

    /// Asks for newer keys, and waits for them if they are fetched at this moment; for a second at most.
    pub(super) async fn renew(&self) {
        let mut ended = self.ended.subscribe();
        let soon = self.schedule().wanted(Instant::now());
        self.wake.notify_one();
        if soon {
            // Whether they came in time is seen by looking at them.
            timeout(PATIENCE, ended.changed()).await.ok();
        }
    }

    /// Begins to fetch and to speak, or goes on. Its readers know of it by then.
    pub(super) fn keep(&self, readiness: &Readiness) {
        let mut kept = self.kept();
        *kept = true;
        // They may have come while nothing was to be said.
        if !self.keys().is_empty() {
            readiness.keys_loaded(&self.name);
        }
        self.wake.notify_one();
    }

    /// Ends that.
    pub(super) fn let_go(&self) {
        *self.kept() = false;
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells others, unless another of that name may have taken its place.
    fn tell(&self, tell: impl FnOnce()) {
        let kept = self.kept();
        if *kept {
            tell();
        }
    }

    fn kept(&self) -> MutexGuard<'_, bool> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches once.
    async fn fetch(&self, audience: &Audience) {
        self.schedule().begin(Instant::now());
        let question = Question { headers: HeaderMap::new(), body: None, limit: MAX_SET };
        let answer = fetch::ask(&self.jwks.server, question).await;
        let fresh = answer.as_ref().ok().and_then(|answer| fresh_for(&answer.headers));
        let read = answer.and_then(|answer| {
            let read = KeySet::from_jwks(&answer.body, self.algorithms);
            read.map_err(|problem| format!("{}: {problem}", self.jwks.server.url))
        });
        match read {
            Ok(read) => {
                let keys = read.keys.sharing(&self.keys());
                let count = keys.len();
                if self.keys.replace(keys) {
                    for skipped in &read.skipped {
                        tracing::info!(provider = %self.name, "{skipped}");
                    }
                    tracing::info!(provider = %self.name, keys = count, "keys fetched");
                }
                self.tell(|| {
                    audience.metrics.fetched(true, count);
                    audience.readiness.keys_loaded(&self.name);
                });
                self.schedule().succeeded(Instant::now(), fresh);
            }
            Err(problem) => {
                let kept = self.keys().len();
                tracing::warn!(provider = %self.name, %problem, kept, "keys cannot be fetched");
                self.tell(|| {
                    audience.metrics.fetched(false, kept);
                    audience.readiness.keys_failed(&self.name, problem);
                });
                self.schedule().failed(Instant::now());
            }
        }
        self.ended.send_modify(|count| *count += 1);
    }
}

/// Fetches keys for as long as somebody has them.
pub(super) fn follow(remote: &Arc<Remote>, audience: Audience, control: &Handle) {
    let weak = Arc::downgrade(remote);
    control.spawn(async move {
        while let Some(due) = due(&weak) {
            match due {
                Next::Fetch(remote) => remote.fetch(&audience).await,
                Next::Wait(at, remote) => {
                    let woken = remote.wake.notified();
                    tokio::pin!(woken);
                    // Somebody who asks keeps the source alive; nobody else should.
                    tokio::select! {
                        () = &mut woken => {}
                        () = sleep_until(at.min(Instant::now() + LOOK)) => {}
                    }
                }
            }
        }
    });
}

/// What the task does next.
enum Next {
    Fetch(Arc<Remote>),
    Wait(Instant, Arc<Remote>),
}

/// What to do next: fetch, or wait until then; nothing once nobody has the keys any more.
fn due(remote: &Weak<Remote>) -> Option<Next> {
    let remote = remote.upgrade()?;
    // This task's own hold does not count.
    if Arc::strong_count(&remote) == 1 {
        return None;
    }
    let now = Instant::now();
    let at = if *remote.kept() { remote.schedule().due() } else { now + LOOK };
    Some(if at <= now { Next::Fetch(remote) } else { Next::Wait(at, remote) })
}

/// How long a reply is fresh ([RFC 9111 §4.2](https://www.rfc-editor.org/rfc/rfc9111#section-4.2)), if it says so.
fn fresh_for(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let directives: Vec<_> =
        values.flat_map(|value| value.split(',')).map(|text| text.trim().to_ascii_lowercase()).collect();
    if directives.iter().any(|directive| directive == "no-store" || directive == "no-cache") {
        return Some(Duration::ZERO);
    }
    let seconds =
        directives.iter().find_map(|text| text.strip_prefix("max-age=")?.trim_matches('"').parse::<u64>().ok())?;
    let age = headers.get(AGE).and_then(|age| age.to_str().ok()?.trim().parse::<u64>().ok()).unwrap_or(0);
    Some(Duration::from_secs(seconds.saturating_sub(age)))
}

/// How long a call waits for a key that it misses.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of a set.
const MAX_SET: usize = 1 << 20;
/// Between looks whether anybody needs the keys.
const LOOK: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness_is_what_the_reply_says() {
        type Given = &'static [(&'static str, &'static str)];
        let table: [(Given, Option<u64>); 8] = [
            (&[], None),
            (&[("cache-control", "public, max-age=300")], Some(300)),
            (&[("cache-control", "Max-Age=300"), ("age", "100")], Some(200)),
            (&[("cache-control", "max-age=300"), ("age", "900")], Some(0)),
            (&[("cache-control", "no-store, max-age=300")], Some(0)),
            (&[("cache-control", "no-cache")], Some(0)),
            (&[("cache-control", "max-age=x")], None),
            (&[("cache-control", "s-maxage=5")], None),
        ];
        for (given, expected) in table {
            let headers = given
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)))
                .collect();
            assert_eq!(fresh_for(&headers), expected.map(Duration::from_secs), "{given:?}");
        }
    }
}
