//! Upstreams: endpoints, schema and connections.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::listener::WINDOW;
use super::{
    bounded, choose, each, existing_file, existing_folder, has_unread, limit, optional, protection, require, to_u32,
    to_usize, unwatched_file, value,
};
use crate::config::balancing::{Algorithm, Balancing, HashOn};
use crate::config::endpoints::{Endpoint, Endpoints};
use crate::config::file::{
    Connections as RawConnections, Endpoint as RawEndpoint, EndpointSection, LoadBalancing, Schema,
    Upstream as RawUpstream,
};
use crate::config::pattern;
use crate::config::problem::Place;
use crate::config::read::{Clearable, List, Located, Report};
use crate::config::units::{Size, Span};
use crate::config::{Connections, SchemaChanges, SchemaSource, Upstream};

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
    let RawUpstream {
        name,
        endpoints,
        dns,
        srv,
        endpoints_file,
        resolvers,
        load_balancing,
        schema,
        services,
        authority,
        tls,
        connections,
        health_check,
        outlier_detection,
        circuit_breaker,
    } = raw.value;
    require(name.is_some(), "name", &raw.at, report);
    let name = name.and_then(|name| name.parse(report, |text| pattern::upstream_name(text)));
    let found = Found { endpoints, dns, srv, file: endpoints_file, resolvers };
    let endpoints = found.resolve(base, &raw.at, report);
    let mut balancing = balancing(value(load_balancing), report);
    let schema_changes = schema_changes(schema.as_ref(), report);
    let schema = schema.map_or(Some(SchemaSource::Reflection), |schema| self::schema(schema, base, report));
    if let Some(services) = services.as_ref().filter(|_| schema == Some(SchemaSource::None)) {
        report.problem(&services.at, "an upstream with `schema: none` serves no calls");
    }
    let services = each(services, report, |text| text.parse());
    let authority = authority.and_then(|authority| authority.parse(report, |text| pattern::authority(text)));
    let tls = match tls {
        None => None,
        Some(tls) => Some(super::tls::upstream(tls, base, report)?),
    };
    let connections = self::connections(value(connections), report);
    let health_check = health_check.map(|check| protection::health_check(check, report));
    let outliers = outlier_detection.map(|section| protection::outliers(section.value, report));
    if outliers.is_some() {
        // Who failed comes back little by little.
        balancing.slow_start.get_or_insert(RETURN);
    }
    let breaker = protection::breaker(value(circuit_breaker), report);
    let (name, endpoints, schema) = (name?, endpoints?, schema?);
    Some(Upstream {
        name,
        endpoints,
        balancing,
        schema,
        schema_changes,
        services,
        authority,
        tls,
        connections,
        health_check,
        outliers,
        breaker,
    })
}

/// The keys that say where endpoints are found, of which there must be one.
struct Found {
    endpoints: Option<Located<List<RawEndpoint>>>,
    dns: Option<Located<String>>,
    srv: Option<Located<String>>,
    file: Option<Located<String>>,
    resolvers: Option<Located<List<String>>>,
}

impl Found {
    fn resolve(self, base: &Path, at: &Place, report: &mut Report<'_>) -> Option<Endpoints> {
        let Self { endpoints: list, dns, srv, file, resolvers } = self;
        if let Some(resolvers) = resolvers.as_ref().filter(|_| dns.is_none() && srv.is_none()) {
            report.problem(&resolvers.at, "`resolvers` goes with `dns` and `srv`");
        }
        let resolvers = each(resolvers, report, |text| {
            text.parse().map_err(|_| {
                format!("{text:?} is not the address of a name server; write IP:PORT, such as 10.0.0.2:53")
            })
        });
        match (list, dns, srv, file) {
            (Some(list), None, None, None) => {
                if list.value.written == 0 {
                    report.problem(&list.at, "at least one endpoint is needed");
                }
                Some(Endpoints::Fixed(endpoints(Some(list), report)))
            }
            (None, Some(name), None, None) => {
                let (host, port) = name.parse(report, |text| host_and_port(text))?;
                Some(Endpoints::Dns { host, port, resolvers })
            }
            (None, None, Some(name), None) => Some(Endpoints::Srv { name: name.value.into(), resolvers }),
            (None, None, None, Some(file)) => Some(Endpoints::File(unwatched_file(&file, base, report))),
            (None, None, None, None) => {
                require(false, "endpoints", at, report);
                None
            }
            (..) => {
                report.problem(at, "only one of `endpoints`, `dns`, `srv` and `endpoints_file` can say where they are");
                None
            }
        }
    }
}

/// A list of endpoints; an address stands in it once.
pub(in crate::config) fn endpoints(list: Option<Located<List<RawEndpoint>>>, report: &mut Report<'_>) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for raw in value(list).items {
        let EndpointSection { address, weight, zone } = raw.value.0;
        require(address.is_some(), "address", &raw.at, report);
        let weight = weight.map_or(1, |weight| to_u32(bounded(&weight, WEIGHT, report)));
        let zone = zone.map(|zone| zone.value.into());
        let Some(address) = address.and_then(|address| address.parse(report, |text| pattern::host_port(text))) else {
            continue;
        };
        if endpoints.iter().any(|known| known.address == address) {
            report.problem(&raw.at, format!("{address} is given twice; `weight` gives an endpoint a larger share"));
            continue;
        }
        endpoints.push(Endpoint { address, weight, zone });
    }
    endpoints
}

fn host_and_port(text: &str) -> Result<(Box<str>, u16), String> {
    let address = pattern::host_port(text)?;
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host.into(), port.parse().ok()?)));
    parts.ok_or_else(|| format!("{text:?} is not HOST:PORT, such as library.internal:50051"))
}

fn balancing(raw: LoadBalancing, report: &mut Report<'_>) -> Balancing {
    let LoadBalancing { policy, hash_on, slow_start, panic_threshold, zone } = raw;
    let mut balancing = Balancing::default();
    let at = policy.as_ref().map(|policy| policy.at.clone());
    if let Some(algorithm) = policy.and_then(|policy| choose(policy, &ALGORITHMS, report)) {
        balancing.algorithm = algorithm;
    }
    let hashes = matches!(balancing.algorithm, Algorithm::RingHash | Algorithm::Maglev);
    match (&hash_on, at) {
        (Some(key), _) if !hashes => report.problem(&key.at, "`hash_on` goes with `policy: ring_hash` and `maglev`"),
        (None, Some(at)) if hashes => {
            report.problem(&at, "the policy needs `hash_on`, such as header:x-user or client_ip")
        }
        _ => {}
    }
    balancing.hash_on = hash_on.and_then(|key| key.parse(report, |text| self::hash_on(text)));
    balancing.slow_start = slow_start.map(|span| bounded(&span, SLOW_START, report).0);
    if let Some(percent) = panic_threshold {
        balancing.panic_threshold = percent.value.0;
    }
    balancing.zone = zone.map(|zone| zone.value.into());
    balancing
}

fn hash_on(text: &str) -> Result<HashOn, String> {
    match text.split_once(':') {
        Some(("header", name)) => HeaderName::from_bytes(name.as_bytes())
            .map(HashOn::Header)
            .map_err(|_| format!("{name:?} is not the name of a header")),
        Some(("cookie", name)) if !name.is_empty() => Ok(HashOn::Cookie(name.into())),
        Some(("claim", path)) => path.parse().map(HashOn::Claim),
        None if text == "client_ip" => Ok(HashOn::ClientIp),
        _ => Err(format!("{text:?} is nothing to go by; write header:NAME, cookie:NAME, claim:PATH or client_ip")),
    }
}

fn schema_changes(schema: Option<&Located<Clearable<Schema>>>, report: &mut Report<'_>) -> SchemaChanges {
    let mut changes = SchemaChanges::default();
    let Some(Clearable::Some(schema)) = schema.map(|schema| &schema.value) else { return changes };
    if let Some(refuses) = schema.breaking_changes.clone().and_then(|word| choose(word, &BREAKING, report)) {
        changes.refuse_breaking = refuses;
    }
    if let Some(refresh) = schema.reflection.as_ref().and_then(|reflection| reflection.value.refresh.as_ref()) {
        let span = |span| bounded(&Located { value: Span(span), at: refresh.at.clone() }, REFRESH, report).0;
        changes.refresh = refresh.value.0.map(span);
    }
    changes
}

fn schema(raw: Located<Clearable<Schema>>, base: &Path, report: &mut Report<'_>) -> Option<SchemaSource> {
    let Schema { reflection, descriptor_set, proto, include, breaking_changes: _ } = match raw.value {
        Clearable::None => return Some(SchemaSource::None),
        Clearable::Some(schema) => schema,
    };
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
    let default = Size(connections.connection_window.into());
    connections.connection_window = to_u32(limit(raw.connection_window.clone(), WINDOW, default, report).0);
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
    if let Some(age) = raw.max_age {
        connections.max_age = optional(&age, MAX_AGE, report);
    }
    if let Some(keepalive) = raw.keepalive {
        connections.keepalive = optional(&keepalive, KEEPALIVE, report);
    }
    connections
}

/// How many streams may wait for their clients without the connection running out of window.
const READERS: u64 = 8;
const ALGORITHMS: [(&str, Algorithm); 6] = [
    ("peak_ewma", Algorithm::PeakEwma),
    ("least_request", Algorithm::LeastRequest),
    ("round_robin", Algorithm::RoundRobin),
    ("random", Algorithm::Random),
    ("ring_hash", Algorithm::RingHash),
    ("maglev", Algorithm::Maglev),
];
const BREAKING: [(&str, bool); 2] = [("report", false), ("refuse", true)];
const REFRESH: RangeInclusive<Span> = Span(Duration::from_secs(1))..=Span(Duration::from_hours(24));
const WEIGHT: RangeInclusive<u64> = 1..=1000;
/// In which ejected endpoints come to their full share, unless slow start says otherwise.
const RETURN: Duration = Duration::from_secs(10);
const SLOW_START: RangeInclusive<Span> = Span(Duration::from_secs(1))..=Span(Duration::from_mins(15));
const PER_ENDPOINT: RangeInclusive<u64> = 1..=1024;
const CONNECT_TIMEOUT: RangeInclusive<Span> = Span(Duration::from_millis(1))..=Span(Duration::from_mins(5));
const MAX_AGE: RangeInclusive<Span> = Span(Duration::from_secs(1))..=Span(Duration::from_hours(24));
const KEEPALIVE: RangeInclusive<Span> = Span(Duration::from_secs(1))..=Span(Duration::from_hours(1));
const DATA_FRAME_BUDGET: RangeInclusive<Size> = Size(64 << 10)..=Size(4 << 30);
