//! Keeps the snapshot up to date: when the configuration is read again, and when a schema arrives or changes.
//!
//! Everything is built aside and swapped in by one step; what cannot be built leaves everything as it was. Reflection is
//! asked until it answers, from then on at intervals, and whenever an upstream that was gone is back. One change is made
//! at a time. Runs on the control runtime.
//!
//! **Invariant**: what [`Keeper::reload`] and arrivals publish is built from the same configuration and schemas that the
//! keeper holds.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::sleep;

use super::{SchemaState, Snapshot, Source, load};
use crate::config::{self, Config, SchemaSource};
use crate::schema::Schema;
use crate::schema::diff::{Diff, diff, is_same};
use crate::telemetry::lifecycle::Lifecycle;
use crate::telemetry::readiness::Readiness;
use crate::transcode::Plans;
use crate::upstream::{Fleet, Fleets};

/// First pause between attempts to reach reflection; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// After an upstream came back, before it is asked: its other connections come back meanwhile.
const REVIVED_PAUSE: Duration = Duration::from_millis(100);
/// After an answer that was news: versions that take turns behind one address are news each time.
const NEWS_PAUSE: Duration = Duration::from_secs(1);
/// After an answer that was no news, before an upstream is asked because it came back: some close their connections all the time.
const SAME_PAUSE: Duration = Duration::from_secs(10);

/// Holds what the snapshot is built from.
#[derive(Debug)]
pub struct Keeper {
    source: Arc<Source>,
    readiness: Arc<Readiness>,
    fleets: Arc<Fleets>,
    lifecycle: Arc<Lifecycle>,
    control: Handle,
    state: Mutex<State>,
    told: ArcSwap<Vec<Told>>,
}

#[derive(Debug)]
struct State {
    config: Arc<Config>,
    /// In the order of the configuration's upstreams.
    held: Vec<Held>,
    /// Likewise. Held here, so that endpoints are found and checked before the first call.
    fleets: Vec<Arc<Fleet>>,
    /// Who asks for reflection.
    seekers: Vec<(config::Upstream, AbortHandle)>,
    /// What operators were told of patterns that match nothing.
    idle: Vec<String>,
}

/// The schema of an upstream and how it came.
#[derive(Debug, Clone)]
struct Held {
    state: SchemaState,
    since: SystemTime,
    problem: Option<Arc<str>>,
    change: Option<Arc<Diff>>,
}

/// What operators are told of an upstream's schema.
#[derive(Debug, Clone)]
pub struct Told {
    /// The upstream, with its endpoints.
    pub fleet: Arc<Fleet>,
    /// Since when it is the one in use, or is missing.
    pub since: SystemTime,
    /// Why it is missing, or why there is no newer one.
    pub problem: Option<Arc<str>>,
    /// What its last change was.
    pub change: Option<Arc<Diff>>,
}

impl Held {
    fn new(state: SchemaState) -> Self {
        Self { state, since: SystemTime::now(), problem: None, change: None }
    }
}

impl Keeper {
    /// Keeps the snapshot in `source`, which was built from this configuration and these schemas.
    pub fn start(
        config: Arc<Config>,
        schemas: Vec<SchemaState>,
        source: Arc<Source>,
        readiness: Arc<Readiness>,
        fleets: Arc<Fleets>,
        lifecycle: Arc<Lifecycle>,
        control: &Handle,
    ) -> Arc<Self> {
        let held: Vec<_> = schemas.into_iter().map(Held::new).collect();
        let state = Mutex::new(State { config, held, fleets: Vec::new(), seekers: Vec::new(), idle: Vec::new() });
        let (control, told) = (control.clone(), ArcSwap::default());
        let keeper = Arc::new(Self { source, readiness, fleets, lifecycle, control, told, state });
        // Nobody else has it yet.
        if let Ok(mut state) = keeper.state.try_lock() {
            // Before anything can arrive: readiness knows nothing of what it was not told to wait for.
            keeper.expect(&state.config);
            load::report(&keeper.source.load(), None, &mut state.idle);
            state.seek(&Arc::downgrade(&keeper), &keeper.fleets, &keeper.control);
            keeper.told.store(Arc::new(state.told()));
        }
        keeper.tell_readiness(&keeper.source.load());
        keeper
    }

    /// The files that a schema in use was made of beside those which the configuration names. Blocks.
    pub fn imports(&self) -> Vec<PathBuf> {
        load::imports(&self.source.load())
    }

    /// What is known of the schemas, in the order of the configuration's upstreams.
    pub fn told(&self) -> Arc<Vec<Told>> {
        self.told.load_full()
    }

    /// Puts another configuration into use. What `prepare` does for it comes last before it is, and keeps it out of use
    /// if it fails; what that returns is for whoever goes on from there.
    ///
    /// Schemas of files are read again. Where an upstream of the same name is known by reflection from now on, the schema that it
    /// has stays until it answers.
    ///
    /// # Errors
    /// In words: a schema is wrong, or breaks callers and may not, or `prepare` failed. Nothing has changed then but what is told of
    /// a schema that is refused.
    pub async fn reload<T>(
        self: &Arc<Self>,
        config: Config,
        prepare: impl FnOnce(&Config) -> Result<T, String>,
    ) -> Result<T, String> {
        let mut state = self.state.lock().await;
        let config = Arc::new(config);
        let read = Arc::clone(&config);
        let fresh = spawn_blocking(move || load::from_files(&read)).await.map_err(|error| error.to_string())?;
        let fresh = fresh.map_err(|errors| errors.join("\n"))?;
        let (held, changed) = self.held(&mut state, &config, fresh)?;
        let snapshot = build(&config, &held).await?;
        let prepared = prepare(&config)?;
        state.config = config;
        state.held = held;
        self.expect(&state.config);
        state.seek(&Arc::downgrade(self), &self.fleets, &self.control);
        self.publish(&state, snapshot);
        for index in changed {
            self.tell_change(&state, index);
        }
        load::report(&self.source.load(), None, &mut state.idle);
        Ok(prepared)
    }

    /// The schemas for another configuration, those that are known already in place of equal ones; and which of them have
    /// changed. What is refused is noted beside the schemas that are in use.
    fn held(
        &self,
        state: &mut State,
        config: &Config,
        fresh: Vec<SchemaState>,
    ) -> Result<(Vec<Held>, Vec<usize>), String> {
        let (mut all, mut changed) = (Vec::new(), Vec::new());
        for (index, (upstream, fresh)) in config.upstreams.iter().zip(fresh).enumerate() {
            let known = state.config.upstreams.iter().position(|known| known.name == upstream.name);
            let held = match (known, fresh) {
                (Some(known), SchemaState::Missing(_))
                    if state.config.upstreams[known].schema != SchemaSource::None =>
                {
                    state.held[known].clone()
                }
                (Some(known), SchemaState::Loaded(plans)) => match compare(upstream, &state.held[known], plans) {
                    Ok(None) => Held { problem: None, ..state.held[known].clone() },
                    Ok(Some(held)) => {
                        changed.push(index);
                        held
                    }
                    Err(refusal) => {
                        let why = refusal.why.to_string();
                        self.refuse(upstream, &mut state.held[known], refusal);
                        self.told.store(Arc::new(state.told()));
                        return Err(why);
                    }
                },
                (Some(_) | None, fresh) => Held::new(fresh),
            };
            all.push(held);
        }
        Ok((all, changed))
    }

    /// Says how a schema that is in use now differs from the one before.
    fn tell_change(&self, state: &State, index: usize) {
        let (upstream, Some(change)) = (&state.config.upstreams[index].name, &state.held[index].change) else { return };
        self.lifecycle.schema_changed(upstream, change.breaking_count, false);
        if change.breaking_count > 0 {
            tracing::warn!(%upstream, changes = change.breaking_count, "schema changes break callers: {change}");
        } else {
            tracing::info!(%upstream, added = change.added, "schema has changed");
        }
    }

    /// Notes why a schema is not taken. Returns whether that is news.
    fn refuse(&self, upstream: &config::Upstream, held: &mut Held, refusal: Refusal) -> bool {
        let is_news = held.problem.as_ref() != Some(&refusal.why);
        if is_news {
            self.lifecycle.schema_changed(&upstream.name, refusal.breaking, true);
            held.problem = Some(refusal.why);
        }
        is_news
    }

    /// Reflection answered.
    async fn arrived(&self, upstream: &config::Upstream, schema: Schema) {
        let mut state = self.state.lock().await;
        // Unless there is another configuration by now.
        let Some(index) = state.config.upstreams.iter().position(|known| known == upstream) else { return };
        let plans = Plans::new(Arc::new(schema));
        match compare(upstream, &state.held[index], plans) {
            Ok(None) => state.held[index].problem = None,
            Ok(Some(held)) => {
                let before = std::mem::replace(&mut state.held[index], held);
                match build(&state.config, &state.held).await {
                    Ok(snapshot) => {
                        self.publish(&state, snapshot);
                        self.tell_change(&state, index);
                        load::report(&self.source.load(), Some(index), &mut state.idle);
                    }
                    Err(error) => {
                        tracing::error!(upstream = %upstream.name, %error, "schema could not be compiled, the old state stays");
                        state.held[index] = before;
                    }
                }
            }
            Err(refusal) => {
                let why = Arc::clone(&refusal.why);
                if self.refuse(upstream, &mut state.held[index], refusal) {
                    tracing::error!("{why}; the old one stays in use");
                }
            }
        }
        self.told.store(Arc::new(state.told()));
    }

    /// Reflection did not answer.
    async fn missed(&self, upstream: &config::Upstream, why: String) {
        let mut state = self.state.lock().await;
        let Some(index) = state.config.upstreams.iter().position(|known| known == upstream) else { return };
        if state.held[index].problem.as_deref() == Some(&why) {
            return;
        }
        let has_one = state.held[index].state.schema().is_some();
        let says = if has_one {
            "schema cannot be asked for, the old one stays"
        } else {
            "schema is not there yet, asking again"
        };
        tracing::warn!(upstream = %upstream.name, error = %why, "{says}");
        let why: Arc<str> = why.into();
        state.held[index].problem = Some(Arc::clone(&why));
        if !has_one {
            // Those who look for it get the reason: operators in readiness and in the log of each call.
            state.held[index].state = SchemaState::Missing(why);
            if let Ok(snapshot) = build(&state.config, &state.held).await {
                self.publish(&state, snapshot);
            }
        }
        self.told.store(Arc::new(state.told()));
    }

    fn publish(&self, state: &State, snapshot: Snapshot) {
        self.source.publish(snapshot);
        self.told.store(Arc::new(state.told()));
        // Whoever hears that the gateway is ready must find it so.
        self.tell_readiness(&self.source.load());
    }

    /// Says whose schemas the gateway is to have.
    fn expect(&self, config: &Config) {
        let serving = config.upstreams.iter().filter(|upstream| upstream.serves());
        self.readiness.set_upstreams(serving.map(|upstream| Arc::clone(&upstream.name)));
    }

    fn tell_readiness(&self, snapshot: &Snapshot) {
        for upstream in &snapshot.upstreams {
            match &upstream.schema {
                SchemaState::Loaded(_) => self.readiness.schema_loaded(&upstream.config.name),
                SchemaState::Missing(why) => self.readiness.schema_failed(&upstream.config.name, why.to_string()),
            }
        }
    }
}

impl State {
    /// Lets every upstream that is known by reflection be asked, by one task each; those that are asked already go on.
    fn seek(&mut self, keeper: &Weak<Keeper>, fleets: &Arc<Fleets>, control: &Handle) {
        let mut before = std::mem::take(&mut self.seekers);
        self.fleets = self.config.upstreams.iter().map(|upstream| fleets.get(upstream)).collect();
        for ((upstream, held), fleet) in self.config.upstreams.iter().zip(&self.held).zip(&self.fleets) {
            if upstream.schema != SchemaSource::Reflection {
                continue;
            }
            if let Some(index) = before.iter().position(|(known, _)| known == upstream) {
                self.seekers.push(before.swap_remove(index));
                continue;
            }
            // One that has a schema from before may have another by now.
            let is_new = held.state.schema().is_none();
            let task = seek(Weak::clone(keeper), upstream.clone(), Arc::clone(fleet), is_new);
            self.seekers.push((upstream.clone(), control.spawn(task).abort_handle()));
        }
        before.into_iter().for_each(|(_, seeker)| seeker.abort());
    }

    fn told(&self) -> Vec<Told> {
        let upstreams = self.fleets.iter().zip(&self.held);
        upstreams
            .map(|(fleet, held)| Told {
                fleet: Arc::clone(fleet),
                since: held.since,
                problem: held.problem.clone(),
                change: held.change.clone(),
            })
            .collect()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.seekers.iter().for_each(|(_, seeker)| seeker.abort());
    }
}

/// Why a schema is not taken.
struct Refusal {
    breaking: usize,
    why: Arc<str>,
}

/// What becomes of a schema that came: `None` if it is the one that is there.
fn compare(upstream: &config::Upstream, held: &Held, plans: Arc<Plans>) -> Result<Option<Held>, Refusal> {
    let Some(old) = held.state.schema() else { return Ok(Some(Held::new(SchemaState::Loaded(plans)))) };
    if is_same(old, plans.schema()) {
        return Ok(None);
    }
    let change = Arc::new(diff(old, plans.schema()));
    let breaking = change.breaking_count;
    if breaking > 0 && upstream.schema_changes.refuse_breaking {
        let changes = if breaking == 1 { "a change".to_owned() } else { format!("{breaking} changes") };
        let why = format!("upstream {}: the schema has {changes} that would break callers: {change}", upstream.name);
        return Err(Refusal { breaking, why: why.into() });
    }
    Ok(Some(Held { change: Some(change), ..Held::new(SchemaState::Loaded(plans)) }))
}

async fn build(config: &Arc<Config>, held: &[Held]) -> Result<Snapshot, String> {
    let (config, states) = (Arc::clone(config), held.iter().map(|held| held.state.clone()).collect());
    spawn_blocking(move || Snapshot::build(&config, states)).await.map_err(|error| error.to_string())
}

/// Asks an upstream for its schema for as long as it is configured so.
async fn seek(keeper: Weak<Keeper>, upstream: config::Upstream, fleet: Arc<Fleet>, is_new: bool) {
    let mut pause = FIRST_PAUSE;
    // What was told the last time, unless asking has failed since: what is the same needs no second look.
    let mut last = None;
    if !is_new {
        sleep(pause).await;
    }
    loop {
        let answer = match load::ask(&upstream).await {
            Ok(told) if last.as_ref() == Some(&told) => {
                until_stale(&upstream, &fleet, SAME_PAUSE).await;
                continue;
            }
            Ok(told) => {
                last = Some(told.clone());
                load::link(told).await
            }
            Err(why) => {
                last = None;
                Err(why)
            }
        };
        let Some(keeper) = keeper.upgrade() else { return };
        match answer {
            Ok(schema) => {
                keeper.arrived(&upstream, schema).await;
                drop(keeper);
                pause = FIRST_PAUSE;
                until_stale(&upstream, &fleet, NEWS_PAUSE).await;
            }
            Err(why) => {
                keeper.missed(&upstream, why).await;
                drop(keeper);
                sleep(pause.mul_f64(1.0 - fastrand::f64() / 4.0)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Returns when an upstream may have another schema. That it came back is not looked at before `pause` is over.
async fn until_stale(upstream: &config::Upstream, fleet: &Fleet, pause: Duration) {
    let refresh = async {
        match upstream.schema_changes.refresh {
            // Less up to a tenth, so that gateways do not ask together.
            Some(interval) => sleep(interval.mul_f64(1.0 - fastrand::f64() / 10.0)).await,
            None => std::future::pending().await,
        }
    };
    let revived = async {
        sleep(pause).await;
        fleet.changes().revived().await;
        sleep(REVIVED_PAUSE).await;
    };
    tokio::select! {
        () = refresh => {}
        () = revived => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_comes_back_all_the_time_is_asked_soon_after_news_and_else_seldom() {
        let config = Config::from_flags(&["127.0.0.1:1".to_owned()], &SchemaSource::Reflection, None);
        let mut upstream = config.expect("right flags").upstreams.remove(0);
        for (refresh, pause, expected) in [
            (None, NEWS_PAUSE, NEWS_PAUSE + REVIVED_PAUSE),
            (None, SAME_PAUSE, SAME_PAUSE + REVIVED_PAUSE),
            (Some(Duration::from_secs(1)), SAME_PAUSE, Duration::from_secs(1)),
        ] {
            upstream.schema_changes.refresh = refresh;
            let fleet = Fleet::new(upstream.clone(), Arc::default());
            let standing = Arc::clone(&fleet.list().members[0].standing);
            standing.lose();
            standing.reach();
            let begun = Instant::now();

            until_stale(&upstream, &fleet, pause).await;

            // Timers have milliseconds, and a tenth may be left out of intervals.
            let took = begun.elapsed();
            assert!(
                took >= expected.mul_f64(0.9) && took <= expected + Duration::from_millis(5),
                "{took:?} {expected:?}"
            );
        }
    }
}
