//! Where schemas come from: files, and the upstreams themselves.
//!
//! A file that is wrong is a mistake of the operator's. An upstream that does not answer is none, and must not keep the
//! others from being served: [`super::keeper`] asks it again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Notice, NoticeKind, SchemaState, Snapshot};
use crate::config::endpoints::Endpoint;
use crate::config::{self, Config, SchemaSource};
use crate::schema::{File, Schema, source};
use crate::transcode::Plans;
use crate::upstream::Security;
use crate::upstream::discovery;
use crate::upstream::fleet::List;
use crate::upstream::reflection::{self, Fetched, Target};

/// All of one upstream's descriptors, from connect to the last file.
const REFLECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads what is in files; those that are known by reflection are missing in it.
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

/// The files that were imported by those which the configuration names, where they are the operator's.
pub fn imports(snapshot: &Snapshot) -> Vec<PathBuf> {
    let mut imports = Vec::new();
    for upstream in &snapshot.upstreams {
        let (SchemaSource::Proto { files, include }, Some(schema)) =
            (&upstream.config.schema, upstream.schema.schema())
        else {
            continue;
        };
        let folders = source::folders(files, include);
        let found = |file: &File| folders.iter().map(|folder| folder.join(&*file.name)).find(|path| path.is_file());
        imports.extend(schema.files().iter().filter_map(found));
    }
    imports
}

/// An upstream's schema by its reflection, which is asked once, each endpoint in turn.
///
/// # Errors
/// What the last endpoint said.
pub async fn by_reflection(upstream: &config::Upstream) -> Result<Schema, String> {
    link(ask(upstream).await?).await
}

/// The schema that was told.
///
/// # Errors
/// In words: it could not be linked.
pub(super) async fn link(fetched: Fetched) -> Result<Schema, String> {
    let link = move || {
        let mut schema = Schema::from_files(fetched.files);
        schema.keep_services(&fetched.services);
        schema.add_problems(fetched.problems);
        schema
    };
    tokio::task::spawn_blocking(link).await.map_err(|error| error.to_string())
}

/// Asks an upstream's reflection once, each endpoint in turn.
///
/// # Errors
/// What the last endpoint said.
pub(super) async fn ask(upstream: &config::Upstream) -> Result<Fetched, String> {
    let mut failure = String::from("it has no endpoints");
    let found = discovery::find(&upstream.endpoints, &List::default()).await?;
    for Endpoint { address, .. } in &found.endpoints {
        let target = Target {
            address: address.to_string(),
            authority: upstream.authority_of(address).to_string(),
            security: Security::of(upstream),
            connect_timeout: upstream.connections.connect_timeout,
            timeout: REFLECTION_TIMEOUT,
        };
        match reflection::fetch(&target).await {
            Ok(fetched) => return Ok(fetched),
            Err(error) => failure = format!("reflection at {address}: {}", chain(&error)),
        }
    }
    Err(failure)
}

/// An error with everything that caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Logs what an operator should know of a snapshot; of one upstream, or of all. Of patterns that match nothing, which are
/// about no upstream alone, only those that are not `told` already; these are then.
pub(super) fn report(snapshot: &Snapshot, upstream: Option<usize>, told: &mut Vec<String>) {
    let name = upstream.map(|index| &snapshot.upstreams[index].config.name);
    let about = |notice: &&Notice| name.is_none_or(|name| notice.upstream == *name);
    // What is missing is told by whoever looks for it, with the reason, and not before it was looked for.
    for notice in snapshot.notices.iter().filter(about).filter(|notice| notice.kind != NoticeKind::Missing) {
        tracing::warn!(upstream = %notice.upstream, kind = ?notice.kind, "{}", notice.text);
    }
    // As long as one is missing nobody knows, so that what was told stays so.
    if snapshot.missing().next().is_none() {
        let idle = snapshot.idle_patterns();
        for line in idle.iter().filter(|line| !told.contains(line)) {
            tracing::warn!("{line}");
        }
        *told = idle;
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
