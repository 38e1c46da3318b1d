//! Upstreams: endpoints, schema and connections.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::listener::WINDOW;
use super::{bounded, each, existing_file, existing_folder, has_unread, require, to_u32, to_usize, value};
use crate::config::file::{Connections as RawConnections, Schema, Upstream as RawUpstream};
use crate::config::pattern;
use crate::config::problem::Place;
use crate::config::read::{List, Located, Report};
use crate::config::units::{Size, Span};
use crate::config::{Connections, SchemaSource, Upstream};

/// The upstreams of a file.
pub(super) fn upstreams(
    list: Option<Located<List<RawUpstream>>>,
    base: &Path,
    report: &mut Report<'_>,
) -> Vec<Upstream> {
    match &list {
        Some(list) if list.value.written == 0 => report.problem(&list.at, "at least one upstream is needed"),
        Some(_) => {}
        None => require(false, "upstreams", &Place { path: String::new(), position: None }, report),
    }
    let mut names: Vec<(Arc<str>, Place)> = Vec::new();
    let mut upstreams = Vec::new();
    for raw in value(list).items {
        if let Some(name) = &raw.value.name {
            match names.iter().find(|(first, _)| **first == *name.value) {
                Some((_, first)) => report.problem(&name.at, format!("{:?} is already {}", name.value, first.path)),
                None => names.push((name.value.as_str().into(), name.at.clone())),
            }
        }
        upstreams.extend(upstream(raw, base, report));
    }
    upstreams
}

fn upstream(raw: Located<RawUpstream>, base: &Path, report: &mut Report<'_>) -> Option<Upstream> {
    let RawUpstream { name, endpoints, schema, services, authority, connections } = raw.value;
    require(name.is_some(), "name", &raw.at, report);
    require(endpoints.is_some(), "endpoints", &raw.at, report);
    let name = name.and_then(|name| name.parse(report, |text| pattern::upstream_name(text)));
    if let Some(endpoints) = endpoints.as_ref().filter(|endpoints| endpoints.value.written == 0) {
        report.problem(&endpoints.at, "at least one endpoint is needed");
    }
    let endpoints = each(endpoints, report, |text| pattern::host_port(text));
    let schema = schema.map_or(Some(SchemaSource::Reflection), |schema| self::schema(schema, base, report));
    let services = each(services, report, |text| text.parse());
    let authority = authority.and_then(|authority| authority.parse(report, |text| pattern::authority(text)));
    let connections = self::connections(value(connections), report);
    Some(Upstream { name: name?, endpoints, schema: schema?, services, authority, connections })
}

fn schema(raw: Located<Schema>, base: &Path, report: &mut Report<'_>) -> Option<SchemaSource> {
    let Schema { reflection, descriptor_set, proto, include } = raw.value;
    if proto.is_none()
        && let Some(include) = &include
    {
        report.problem(&include.at, "`include` goes with `proto`");
    }
    match (reflection, descriptor_set, proto) {
        (Some(_), None, None) => Some(SchemaSource::Reflection),
        (None, Some(file), None) => Some(SchemaSource::DescriptorSet(existing_file(&file, base, report))),
        (None, None, Some(files)) => {
            if files.value.written == 0 {
                report.problem(&files.at, "at least one file is needed");
            }
            let files = files.value.items.iter().map(|file| existing_file(file, base, report)).collect();
            let include = value(include).items;
            let include = include.iter().map(|folder| existing_folder(folder, base, report)).collect();
            Some(SchemaSource::proto(files, include))
        }
        (None, None, None) => {
            if include.is_none() && !has_unread(&raw.at, report) {
                report.problem(&raw.at, "one of `reflection`, `descriptor_set` and `proto` is needed");
            }
            None
        }
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
            report.problem(&raw.at, "only one of `reflection`, `descriptor_set` and `proto` can be the source");
            None
        }
    }
}

fn connections(raw: RawConnections, report: &mut Report<'_>) -> Connections {
    let mut connections = Connections::default();
    if let Some(most) = raw.max_per_endpoint {
        connections.max_per_endpoint = to_usize(bounded(&most, PER_ENDPOINT, report));
    }
    if let Some(timeout) = raw.connect_timeout {
        connections.connect_timeout = bounded(&timeout, CONNECT_TIMEOUT, report).0;
    }
    if let Some(window) = &raw.stream_window {
        connections.stream_window = to_u32(bounded(window, WINDOW, report).0);
    }
    if let Some(window) = &raw.connection_window {
        connections.connection_window = to_u32(bounded(window, WINDOW, report).0);
    }
    let (stream, connection) = (Size(connections.stream_window.into()), Size(connections.connection_window.into()));
    if let Some(window) = raw.connection_window.or(raw.stream_window).filter(|_| connection.0 / stream.0 < READERS) {
        report.problem(
            &window.at,
            format!("connection_window ({connection}) must be at least {READERS} times stream_window ({stream}), or a few slow readers hold up every call"),
        );
    }
    if let Some(budget) = raw.data_frame_budget {
        connections.data_frame_budget = to_usize(bounded(&budget, DATA_FRAME_BUDGET, report).0);
    }
    connections
}

/// How many streams may wait for their clients without the connection running out of window.
const READERS: u64 = 8;
const PER_ENDPOINT: RangeInclusive<u64> = 1..=1024;
const CONNECT_TIMEOUT: RangeInclusive<Span> = Span(Duration::from_millis(1))..=Span(Duration::from_mins(5));
const DATA_FRAME_BUDGET: RangeInclusive<Size> = Size(64 << 10)..=Size(4 << 30);
