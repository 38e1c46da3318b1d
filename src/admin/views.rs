//! What the gateway serves from, as JSON: upstreams with their endpoints and schemas, and routes.

use std::fmt::Write as _;

use super::State;
use crate::schema::diff::Diff;
use crate::snapshot::keeper::Told;
use crate::snapshot::{Method, SchemaState, Snapshot, Upstream};
use crate::telemetry::json_string;
use crate::telemetry::timestamp;
use crate::upstream::balance::Fault;
use crate::upstream::fleet::Known;

/// Every upstream of the configuration.
pub(super) fn upstreams(state: &State) -> String {
    let snapshot = state.source.load();
    let told = state.keeper.told();
    let entries = snapshot.upstreams.iter().enumerate().map(|(index, upstream)| {
        // A reload may have come between.
        let told = told.iter().find(|told| told.fleet.config().name == upstream.config.name);
        let methods = snapshot.methods.iter().filter(|method| method.upstream == index).count();
        let endpoints = told.map(|told| endpoints(state, told)).unwrap_or_default();
        format!(
            "{{\"name\":{},\"tls\":{},\"schema\":{},\"methods\":{methods},\"discovery\":{},\"endpoints\":[{endpoints}]}}",
            json_string(&upstream.config.name),
            upstream.config.tls.is_some(),
            schema(upstream, told),
            optional(told.and_then(|told| told.fleet.list().problem.as_deref().map(str::to_owned)).as_deref()),
        )
    });
    format!("{{\"upstreams\":[{}]}}\n", list(entries))
}

fn schema(upstream: &Upstream, told: Option<&Told>) -> String {
    let (loaded, missing) = match &upstream.schema {
        SchemaState::Loaded(_) => (true, None),
        SchemaState::Missing(why) => (false, Some(&**why)),
    };
    let problem = told.and_then(|told| told.problem.as_deref()).or(missing);
    let since = told.map(|told| {
        let mut text = Vec::new();
        timestamp::write(&mut text, told.since);
        String::from_utf8_lossy(&text).into_owned()
    });
    let change = told.and_then(|told| told.change.as_deref()).map_or_else(|| "null".to_owned(), change);
    format!(
        "{{\"loaded\":{loaded},\"since\":{},\"problem\":{},\"last_change\":{change}}}",
        optional(since.as_deref()),
        optional(problem),
    )
}

fn change(diff: &Diff) -> String {
    format!(
        "{{\"breaking\":{},\"added\":{},\"what_breaks\":[{}]}}",
        diff.breaking_count,
        diff.added,
        list(diff.breaking.iter().map(|text| json_string(text))),
    )
}

fn endpoints(state: &State, told: &Told) -> String {
    let name = &told.fleet.config().name;
    list(told.fleet.list().members.iter().map(|known| endpoint(state, name, known)))
}

fn endpoint(state: &State, upstream: &str, known: &Known) -> String {
    let (endpoint, standing) = (&known.endpoint, &known.standing);
    let (connections, streams) = state.registry.endpoint_now(upstream, &endpoint.address);
    let health = if standing.has(Fault::Unhealthy) {
        "unhealthy"
    } else if standing.has(Fault::Ejected) {
        "ejected"
    } else {
        "usable"
    };
    format!(
        "{{\"address\":{},\"weight\":{},\"zone\":{},\"health\":\"{health}\",\"connections\":{connections},\"active_streams\":{streams}}}",
        json_string(&endpoint.address),
        endpoint.weight,
        optional(endpoint.zone.as_deref()),
    )
}

/// Every method, each with its HTTP routes.
pub(super) fn routes(snapshot: &Snapshot) -> String {
    let methods = snapshot.methods.iter().enumerate().map(|(index, method)| {
        let bindings = snapshot.bindings.iter().filter(|binding| binding.method == index);
        let routes = bindings.map(|binding| json_string(&format!("{} {}", binding.http_method, binding.template)));
        let upstream = &snapshot.upstreams[method.upstream].config.name;
        format!(
            "{{\"method\":{},\"upstream\":{},\"kind\":\"{}\",\"routes\":[{}]}}",
            json_string(&method.name),
            json_string(upstream),
            kind(method),
            list(routes),
        )
    });
    let notices = snapshot.notices.iter().map(|notice| {
        let text = format!("{:?}: {}: {}", notice.kind, notice.upstream, notice.text);
        json_string(&text)
    });
    format!("{{\"methods\":[{}],\"notices\":[{}]}}\n", list(methods), list(notices))
}

fn kind(method: &Method) -> &'static str {
    match (method.client_streaming, method.server_streaming) {
        (false, false) => "unary",
        (true, false) => "client_stream",
        (false, true) => "server_stream",
        (true, true) => "bidi_stream",
    }
}

fn optional(text: Option<&str>) -> String {
    text.map_or_else(|| "null".to_owned(), json_string)
}

fn list(items: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    for item in items {
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a string does not fail.
        write!(text, "{comma}{item}").ok();
    }
    text
}
