//! Brings every upstream's schema in and publishes a snapshot whenever one arrives.
//!
//! Files are read once, before the gateway opens its listeners: one that is wrong is a mistake of the operator's.
//! Reflection is asked in the background and asked again until it answers: an upstream that is down must not keep
//! the others from being served.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Notice, NoticeKind, SchemaState, Snapshot, Source};
use crate::config::endpoints::Endpoint;
use crate::config::{self, Config, SchemaSource};
use crate::schema::{Schema, source};
use crate::telemetry::readiness::Readiness;
use crate::transcode::Plans;
use crate::upstream::Security;
use crate::upstream::discovery;
use crate::upstream::reflection::{self, Target};

/// First pause between attempts to reach reflection; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// All of one upstream's descriptors, from connect to the last file.
const REFLECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads what is in files; upstreams that are known by reflection are left for [`follow`].
///
/// # Errors
/// A file cannot be read, is no descriptor set, or does not compile: the upstream's name and the reason, for all.
pub fn from_files(config: &Config) -> Result<Vec<SchemaState>, Vec<String>> {
    let mut errors = Vec::new();
    let mut schemas = Vec::new();
    for upstream in &config.upstreams {
        let loaded = match &upstream.schema {
            SchemaSource::Reflection => {
                schemas.push(SchemaState::Missing("its reflection has not answered yet".into()));
                continue;
            }
            SchemaSource::None => Ok(Schema::from_files(Vec::new())),
            SchemaSource::DescriptorSet(path) => source::load_descriptor_set(path),
            SchemaSource::Proto { files, include } => source::compile(files, include),
        };
        match loaded {
            Ok(schema) => schemas.push(SchemaState::Loaded(Plans::new(Arc::new(schema)))),
            Err(error) => errors.push(format!("upstream {}: {}", upstream.name, chain(&error))),
        }
    }
    if errors.is_empty() { Ok(schemas) } else { Err(errors) }
}

/// Asks an upstream's reflection once, each endpoint in turn.
///
/// # Errors
/// What the last endpoint said.
pub async fn by_reflection(upstream: &config::Upstream) -> Result<Schema, String> {
    let mut failure = String::from("it has no endpoints");
    let found = discovery::find(&upstream.endpoints).await?;
    for Endpoint { address, .. } in &found.endpoints {
        let target = Target {
            address: address.to_string(),
            authority: upstream.authority_of(address).to_string(),
            security: Security::of(upstream),
            connect_timeout: upstream.connections.connect_timeout,
            timeout: REFLECTION_TIMEOUT,
        };
        match reflection::fetch(&target).await {
            Ok(fetched) => {
                let linked = tokio::task::spawn_blocking(move || {
                    let mut schema = Schema::from_files(fetched.files);
                    schema.keep_services(&fetched.services);
                    schema.add_problems(fetched.problems);
                    schema
                });
                return linked.await.map_err(|error| error.to_string());
            }
            Err(error) => failure = format!("reflection at {address}: {}", chain(&error)),
        }
    }
    Err(failure)
}

/// Follows the reflection of every upstream that has no schema yet, until all have one. Runs on the control runtime.
pub async fn follow(
    config: Arc<Config>,
    mut schemas: Vec<SchemaState>,
    source: Arc<Source>,
    readiness: Arc<Readiness>,
) {
    let (sender, mut arrivals) = mpsc::channel(config.upstreams.len().max(1));
    let mut seekers = JoinSet::new();
    for (index, upstream) in config.upstreams.iter().enumerate() {
        if matches!(schemas[index], SchemaState::Missing(_)) {
            seekers.spawn(seek(index, upstream.clone(), sender.clone()));
        } else {
            readiness.schema_loaded(&upstream.name);
        }
    }
    drop(sender);
    while let Some((index, state)) = arrivals.recv().await {
        let name = &config.upstreams[index].name;
        schemas[index] = state;
        let (built_from, states) = (Arc::clone(&config), schemas.clone());
        let Ok(snapshot) = tokio::task::spawn_blocking(move || Snapshot::build(&built_from, states)).await else {
            tracing::error!(upstream = %name, "schema could not be compiled, the old state stays");
            continue;
        };
        if schemas[index].schema().is_some() {
            report(&snapshot, Some(index));
        }
        // Whoever hears that the gateway is ready must find it so.
        source.publish(snapshot);
        match &schemas[index] {
            SchemaState::Loaded(_) => readiness.schema_loaded(name),
            SchemaState::Missing(why) => readiness.schema_failed(name, why.to_string()),
        }
    }
}

/// An error with everything that caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Asks until there is an answer; the first failure is reported too, so that callers hear the reason.
async fn seek(index: usize, upstream: config::Upstream, arrivals: mpsc::Sender<(usize, SchemaState)>) {
    let mut pause = FIRST_PAUSE;
    let mut reported = String::new();
    loop {
        match by_reflection(&upstream).await {
            Ok(schema) => {
                let plans = Plans::new(Arc::new(schema));
                // Fails only when the gateway is gone.
                arrivals.send((index, SchemaState::Loaded(plans))).await.ok();
                return;
            }
            Err(why) if why != reported => {
                tracing::warn!(upstream = %upstream.name, error = %why, "schema is not there yet, asking again");
                arrivals.send((index, SchemaState::Missing(why.clone().into()))).await.ok();
                reported = why;
            }
            Err(_) => {}
        }
        tokio::time::sleep(pause.mul_f64(1.0 - fastrand::f64() / 4.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Logs what an operator should know of a snapshot; of one upstream, or of all.
pub fn report(snapshot: &Snapshot, upstream: Option<usize>) {
    let name = upstream.map(|index| &snapshot.upstreams[index].config.name);
    let about = |notice: &&Notice| name.is_none_or(|name| notice.upstream == *name);
    // What is missing is told by whoever looks for it, with the reason, and not before it was looked for.
    for notice in snapshot.notices.iter().filter(about).filter(|notice| notice.kind != NoticeKind::Missing) {
        tracing::warn!(upstream = %notice.upstream, kind = ?notice.kind, "{}", notice.text);
    }
    for (index, upstream) in
        snapshot.upstreams.iter().enumerate().filter(|(index, _)| upstream.is_none_or(|only| only == *index))
    {
        if upstream.schema.schema().is_some() && upstream.config.serves() {
            let methods = snapshot.methods.iter().filter(|method| method.upstream == index).count();
            tracing::info!(upstream = %upstream.config.name, methods, "schema loaded");
        }
    }
}
