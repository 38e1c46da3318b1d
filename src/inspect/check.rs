//! `portico check`: everything that is wrong with a configuration and the schemas that it names.
//!
//! Wrong is what an operator has to change: descriptors that do not load, services and routes that are left out or in
//! conflict, rules for methods that do not exist, and reflection that does not answer. A warning is what may be meant.

use crate::cli::Exit;
use crate::config::flags::Overrides;
use crate::config::{self, Loaded, SchemaSource};
use crate::schema::http_rule::Rules;
use crate::snapshot::{Notice, NoticeKind, SchemaState, Snapshot, Upstream};

use super::{control, count, error_lines, print, snapshot};

/// Reports what is there on standard output.
///
/// # Errors
/// What is wrong.
pub fn check(loaded: Loaded) -> Result<(), Exit> {
    let Loaded { mut config, warnings } = loaded;
    let usable = config.apply(&Overrides::default());
    let snapshot = snapshot(config, &control()?)?;
    let mut warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    warnings.extend(snapshot.idle_patterns());
    let (unused, wrong): (Vec<_>, Vec<_>) = snapshot.notices.iter().partition(|notice| notice.is_warning());
    warnings.extend(unused.into_iter().map(notice_line));
    let mut errors: Vec<String> = wrong.into_iter().map(notice_line).collect();
    errors.extend(idle_rules(&snapshot));
    errors.extend(usable.err());

    let mut report = String::new();
    for (index, upstream) in snapshot.upstreams.iter().enumerate() {
        report.push_str(&upstream_line(&snapshot, index, upstream));
    }
    for warning in &warnings {
        report.push_str(&format!("warning: {warning}\n"));
    }
    let services = services(&snapshot, None);
    report.push_str(&format!(
        "{}, {}, {}, {}; {}, {}\n",
        count(snapshot.upstreams.len(), "upstream"),
        count(services, "service"),
        count(snapshot.methods.len(), "method"),
        count(snapshot.bindings.len(), "HTTP route"),
        count(errors.len(), "error"),
        count(warnings.len(), "warning"),
    ));
    print(&report)?;
    if errors.is_empty() { Ok(()) } else { Err(Exit::Wrong(error_lines(&errors))) }
}

/// A notice in one line.
pub(super) fn notice_line(notice: &Notice) -> String {
    let Notice { kind, upstream, text } = notice;
    match kind {
        NoticeKind::LeftOut => format!("upstream {upstream}: left out: {text}"),
        NoticeKind::Conflict => format!("upstream {upstream}: conflict: {text}"),
        NoticeKind::Missing => format!(
            "upstream {upstream}: no schema: {text}; `portico run` starts nevertheless, answers 503 for what may be its \
             services, and keeps asking"
        ),
        NoticeKind::Unused => format!("upstream {upstream}: {text}"),
    }
}

fn upstream_line(snapshot: &Snapshot, index: usize, upstream: &Upstream) -> String {
    if !upstream.config.serves() {
        let config::Upstream { name, endpoints, .. } = &upstream.config;
        return format!("upstream {name} at {endpoints}: no schema, asked by the gateway alone\n");
    }
    let source = match &upstream.config.schema {
        SchemaSource::Reflection => "reflection".to_owned(),
        SchemaSource::None => "nowhere".to_owned(),
        SchemaSource::DescriptorSet(path) => path.display().to_string(),
        SchemaSource::Proto { files, include: _ } => {
            files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
        }
    };
    let endpoints = upstream.config.endpoints.to_string();
    let found = match &upstream.schema {
        SchemaState::Loaded(_) => {
            let methods = snapshot.methods.iter().filter(|method| method.upstream == index).count();
            let routes = snapshot.bindings.iter().filter(|binding| snapshot.methods[binding.method].upstream == index);
            format!(
                "{}, {}, {}",
                count(services(snapshot, Some(index)), "service"),
                count(methods, "method"),
                count(routes.count(), "HTTP route")
            )
        }
        SchemaState::Missing(_) => "no schema".to_owned(),
    };
    format!("upstream {} at {endpoints}: {found}, from {source}\n", upstream.config.name)
}

/// How many services are served, by one upstream or by all. Methods of a service stand together.
fn services(snapshot: &Snapshot, upstream: Option<usize>) -> usize {
    let methods = snapshot.methods.iter().filter(|method| upstream.is_none_or(|only| only == method.upstream));
    let mut names: Vec<&str> = methods.map(|method| method.name.split('/').next().unwrap_or_default()).collect();
    names.dedup();
    names.len()
}

/// Rules from the configuration that select nothing; unknown as long as a schema is missing.
fn idle_rules(snapshot: &Snapshot) -> Vec<String> {
    if snapshot.missing().next().is_some() {
        return Vec::new();
    }
    let Ok(rules) = Rules::new(&snapshot.config.http_rules) else { return Vec::new() };
    let methods = snapshot.methods.iter().map(|method| &*method.name);
    let line = |selector: &str| format!("http_rules: the selector `{selector}` names no method that is served");
    rules.idle(methods).map(|rule| line(&rule.selector)).collect()
}
