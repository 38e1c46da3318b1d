//! Metrics as Prometheus reads them: the
//! [text format](https://github.com/prometheus/docs/blob/main/docs/instrumenting/exposition_formats.md), version 0.0.4.
//!
//! Everything is summed over the workers here, when somebody asks. Every family is announced even while it is empty,
//! so that its name and help can be found; `docs/operations.md` lists the same names.

mod authentication;
mod limits;
mod stores;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;

use self::limits::Limits;
use super::decisions::{self, DecisionMetrics};
use super::histogram::Total;
use super::lifecycle::Lifecycle;
use super::metrics::{
    CODES, EndpointMetrics, FleetMetrics, ListenerMetrics, MethodMetrics, ProviderMetrics, Registry, UNKNOWN_METHOD,
    UpstreamMetrics,
};
use super::stores::StoreMetrics;
use super::{Bound, ConnectionEvent, Origin, Protocol, Transport, sizes};
use crate::grpc::status::Code;
use crate::runtime;

impl Registry {
    /// The media type of what [`Self::encode`] writes.
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// Every metric with its current value, in the text format of Prometheus. Endpoints that have left are in it for the last
    /// time.
    pub fn encode(&self) -> String {
        let left = self.left_endpoints();
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(Collected::from(self)));
        let mut text = String::new();
        // Nothing but writing to the string could fail, and that does not.
        prometheus_client::encoding::text::encode_registry(&mut text, &registry).ok();
        // It has handles of all.
        drop(registry);
        self.forget_endpoints(&left);
        text
    }
}

/// The handles of all workers under each set of labels.
pub(super) type Groups<const N: usize, T> = BTreeMap<[Arc<str>; N], Vec<Arc<T>>>;

/// The handles of all workers side by side: one per worker under each set of labels.
#[derive(Debug)]
struct Collected {
    methods: BTreeMap<[Arc<str>; 2], Vec<Arc<MethodMetrics>>>,
    listeners: BTreeMap<[Arc<str>; 1], Vec<Arc<ListenerMetrics>>>,
    endpoints: BTreeMap<[Arc<str>; 2], Vec<Arc<EndpointMetrics>>>,
    limits: Limits,
    upstreams: BTreeMap<[Arc<str>; 1], Vec<Arc<UpstreamMetrics>>>,
    fleets: Vec<([Arc<str>; 1], Arc<FleetMetrics>)>,
    providers: BTreeMap<[Arc<str>; 1], Vec<Arc<ProviderMetrics>>>,
    decisions: Groups<1, DecisionMetrics>,
    stores: BTreeMap<[Arc<str>; 1], Vec<Arc<StoreMetrics>>>,
    schemas: Vec<(Arc<str>, bool)>,
    dropped_log_lines: u64,
    lifecycle: Arc<Lifecycle>,
    started: SystemTime,
}

impl From<&Registry> for Collected {
    fn from(registry: &Registry) -> Self {
        let mut collected = Self {
            methods: BTreeMap::new(),
            listeners: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            limits: Limits::new(registry),
            upstreams: BTreeMap::new(),
            fleets: registry.fleets.list(),
            providers: BTreeMap::new(),
            decisions: BTreeMap::new(),
            stores: BTreeMap::new(),
            schemas: registry.readiness.schemas(),
            dropped_log_lines: registry.dropped_log_lines.value(),
            lifecycle: Arc::clone(&registry.lifecycle),
            started: registry.started,
        };
        for worker in registry.workers() {
            let unknown = ([Arc::from(""), Arc::from(UNKNOWN_METHOD)], worker.unknown.clone());
            group(&mut collected.methods, worker.methods.list().into_iter().chain([unknown]));
            group(&mut collected.listeners, worker.listeners.list());
            group(&mut collected.endpoints, worker.endpoints.list());
            collected.limits.add(&worker);
            group(&mut collected.upstreams, worker.upstreams.list());
            group(&mut collected.providers, worker.providers.list());
            group(&mut collected.decisions, worker.decisions.list());
            group(&mut collected.stores, worker.stores.list());
        }
        collected
    }
}

fn group<K: Ord, T>(groups: &mut BTreeMap<K, Vec<T>>, handles: impl IntoIterator<Item = (K, T)>) {
    for (labels, handle) in handles {
        groups.entry(labels).or_default().push(handle);
    }
}

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.calls(&mut encoder)?;
        self.durations(&mut encoder)?;
        sizes::encode(&self.methods, &mut encoder)?;
        self.connections(&mut encoder)?;
        self.upstreams(&mut encoder)?;
        self.limits.encode(&mut encoder)?;
        self.attempts(&mut encoder)?;
        self.fleets(&mut encoder)?;
        authentication::encode(&self.providers, &mut encoder)?;
        decisions::write(&self.decisions, &mut encoder)?;
        self.lifecycle.encode(&mut encoder)?;
        self.stores(&mut encoder)?;
        self.process(&mut encoder)
    }
}

impl Collected {
    fn calls(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = REQUESTS.begin(encoder)?;
        for ([upstream, method], handles) in &self.methods {
            for protocol in Protocol::ALL {
                for origin in [None, Some(Origin::Client), Some(Origin::Gateway), Some(Origin::Upstream)] {
                    for (code, name) in (0..CODES).zip(code_names()) {
                        let calls: u64 = handles.iter().filter_map(|it| it.calls(protocol, origin, code)).sum();
                        if calls > 0 {
                            let labels = [
                                ("upstream", &**upstream),
                                ("method", &**method),
                                ("protocol", protocol.name()),
                                ("code", name),
                                ("origin", origin.map_or("none", Origin::name)),
                            ];
                            sample(&mut family, &labels, &calls)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn durations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = REQUEST_DURATION.begin(encoder)?;
        for ([upstream, method], handles) in &self.methods {
            let mut total = Total::default();
            handles.iter().for_each(|it| it.duration.add_to(&mut total));
            if total.count() > 0 {
                family.encode_family(&[("upstream", &**upstream), ("method", &**method)])?.encode_histogram(
                    total.sum(),
                    total.count(),
                    &total.buckets(),
                    NO_EXEMPLARS,
                )?;
            }
        }
        Ok(())
    }

    fn connections(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = CONNECTIONS.begin(encoder)?;
        for ([listener], handles) in &self.listeners {
            for transport in Transport::ALL {
                let open: i64 = handles.iter().map(|it| it.open_now(transport)).sum();
                sample(&mut family, &[("listener", &**listener), ("protocol", transport.name())], &open)?;
            }
        }
        let mut family = CONNECTIONS_ACCEPTED.begin(encoder)?;
        for ([listener], handles) in &self.listeners {
            let accepted: u64 = handles.iter().map(|it| it.accepted_so_far()).sum();
            sample(&mut family, &[("listener", &**listener)], &accepted)?;
        }
        for event in ConnectionEvent::ALL {
            let mut family = family_of(event).begin(encoder)?;
            for ([listener], handles) in &self.listeners {
                let count: u64 = handles.iter().map(|it| it.counted(event)).sum();
                sample(&mut family, &[("listener", &**listener)], &count)?;
            }
        }
        Ok(())
    }

    fn upstreams(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut write = |family: &Family, value: fn(&EndpointMetrics) -> i64| {
            let mut family = family.begin(encoder)?;
            for ([upstream, endpoint], handles) in &self.endpoints {
                let value: i64 = handles.iter().map(|it| value(it)).sum();
                sample(&mut family, &[("upstream", &**upstream), ("endpoint", &**endpoint)], &value)?;
            }
            Ok(())
        };
        write(&UPSTREAM_CONNECTIONS, |it| it.connections.value())?;
        write(&UPSTREAM_STREAMS, |it| it.streams.value())?;
        write(&UPSTREAM_CONNECT_FAILURES, |it| i64::try_from(it.connect_failures.value()).unwrap_or(i64::MAX))?;
        let mut family = UPSTREAM_DURATION.begin(encoder)?;
        for ([upstream, endpoint], handles) in &self.endpoints {
            let mut total = Total::default();
            handles.iter().for_each(|it| it.duration.add_to(&mut total));
            if total.count() > 0 {
                family.encode_family(&[("upstream", &**upstream), ("endpoint", &**endpoint)])?.encode_histogram(
                    total.sum(),
                    total.count(),
                    &total.buckets(),
                    NO_EXEMPLARS,
                )?;
            }
        }
        let mut family = SCHEMA_LOADED.begin(encoder)?;
        for (upstream, loaded) in &self.schemas {
            sample(&mut family, &[("upstream", &**upstream)], &u64::from(*loaded))?;
        }
        Ok(())
    }

    fn attempts(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut write = |family: &Family, value: fn(&UpstreamMetrics) -> u64| {
            let mut family = family.begin(encoder)?;
            for ([upstream], handles) in &self.upstreams {
                let value: u64 = handles.iter().map(|it| value(it)).sum();
                sample(&mut family, &[("upstream", &**upstream)], &value)?;
            }
            Ok(())
        };
        write(&UPSTREAM_RETRIES, |it| it.retries.value())?;
        write(&UPSTREAM_HEDGES, |it| it.hedges.value())?;
        let mut family = UPSTREAM_REFUSED.begin(encoder)?;
        for ([upstream], handles) in &self.upstreams {
            for bound in Bound::ALL {
                let value: u64 = handles.iter().map(|it| it.refused_by(bound)).sum();
                sample(&mut family, &[("upstream", &**upstream), ("limit", bound.name())], &value)?;
            }
        }
        Ok(())
    }

    fn fleets(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = UPSTREAM_ENDPOINTS.begin(encoder)?;
        for ([upstream], fleet) in &self.fleets {
            for (health, gauge) in
                [("usable", &fleet.usable), ("unhealthy", &fleet.unhealthy), ("ejected", &fleet.ejected)]
            {
                sample(&mut family, &[("upstream", &**upstream), ("health", health)], &gauge.value())?;
            }
        }
        let mut family = UPSTREAM_EJECTIONS.begin(encoder)?;
        for ([upstream], fleet) in &self.fleets {
            sample(&mut family, &[("upstream", &**upstream)], &fleet.ejections.value())?;
        }
        let mut family = UPSTREAM_HEALTH_CHECKS.begin(encoder)?;
        for ([upstream], fleet) in &self.fleets {
            for (result, counter) in [("passed", &fleet.checks_passed), ("failed", &fleet.checks_failed)] {
                sample(&mut family, &[("upstream", &**upstream), ("result", result)], &counter.value())?;
            }
        }
        Ok(())
    }

    fn process(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        DROPPED_LOG_LINES.begin(encoder)?.encode_gauge(&self.dropped_log_lines)?;
        PANICS.begin(encoder)?.encode_gauge(&runtime::panics())?;
        sample(&mut BUILD.begin(encoder)?, &[("version", env!("CARGO_PKG_VERSION"))], &1_u64)?;
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        START_TIME.begin(encoder)?.encode_gauge(&started.as_secs_f64())
    }
}

/// The names of the codes by number, and one for those outside the table.
fn code_names() -> impl Iterator<Item = &'static str> {
    (0..).map_while(Code::from_number).map(Code::name).chain(["OTHER"])
}

fn family_of(event: ConnectionEvent) -> &'static Family {
    match event {
        ConnectionEvent::Refused => &REFUSED_REQUESTS,
        ConnectionEvent::HeaderTimeout => &HEADER_TIMEOUTS,
        ConnectionEvent::IdleTimeout => &IDLE_TIMEOUTS,
        ConnectionEvent::Stalled => &STALLED_REPLIES,
        ConnectionEvent::ClientReset => &CLIENT_RESETS,
        ConnectionEvent::ResetFlood => &RESET_FLOODS,
        ConnectionEvent::TlsFailure => &TLS_FAILURES,
        ConnectionEvent::BadProxyHeader => &PROXY_FAILURES,
    }
}

/// Writes `name{labels} value`.
//
// Also for counters: their encoder would write the name as OpenMetrics has it, announced without `_total`.
pub(super) fn sample<L: EncodeLabelSet>(
    family: &mut MetricEncoder<'_>,
    labels: &L,
    value: &impl EncodeGaugeValue,
) -> fmt::Result {
    family.encode_family(labels)?.encode_gauge(value)
}

/// What the samples of one name have in common.
pub(super) struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
}

impl Family {
    pub(super) const fn new(kind: MetricType, name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind }
    }

    pub(super) fn begin<'e>(&self, encoder: &'e mut DescriptorEncoder<'_>) -> Result<MetricEncoder<'e>, fmt::Error> {
        encoder.encode_descriptor(self.name, self.help, None, self.kind)
    }
}

pub(super) const NO_EXEMPLARS: Option<&HashMap<usize, Exemplar<NoLabelSet, f64>>> = None;

const REQUESTS: Family = Family::new(MetricType::Counter, "portico_requests_total", "Finished calls.");
const REQUEST_DURATION: Family = Family::new(
    MetricType::Histogram,
    "portico_request_duration_seconds",
    "Time from the head of a request to the end of its reply.",
);
const CONNECTIONS: Family = Family::new(MetricType::Gauge, "portico_connections", "Open connections of clients.");
const CONNECTIONS_ACCEPTED: Family =
    Family::new(MetricType::Counter, "portico_connections_accepted_total", "Connections accepted from clients.");
const REFUSED_REQUESTS: Family = Family::new(
    MetricType::Counter,
    "portico_refused_requests_total",
    "Requests refused before they became calls: malformed, or over a limit.",
);
const TLS_FAILURES: Family =
    Family::new(MetricType::Counter, "portico_tls_failures_total", "TLS handshakes that failed or took too long.");
const PROXY_FAILURES: Family = Family::new(
    MetricType::Counter,
    "portico_proxy_protocol_failures_total",
    "Connections of trusted balancers that did not begin with a right PROXY header.",
);
const HEADER_TIMEOUTS: Family = Family::new(
    MetricType::Counter,
    "portico_header_timeouts_total",
    "Connections closed because their first bytes or the head of a request took too long.",
);
const IDLE_TIMEOUTS: Family = Family::new(
    MetricType::Counter,
    "portico_idle_timeouts_total",
    "Connections closed because they carried no request for too long.",
);
const STALLED_REPLIES: Family = Family::new(
    MetricType::Counter,
    "portico_stalled_replies_total",
    "Streams and connections cut because the client took nothing of a reply for too long.",
);
const CLIENT_RESETS: Family = Family::new(
    MetricType::Counter,
    "portico_client_resets_total",
    "HTTP/2 streams that the client gave up before the reply was complete.",
);
const RESET_FLOODS: Family = Family::new(
    MetricType::Counter,
    "portico_reset_floods_total",
    "HTTP/2 connections closed with ENHANCE_YOUR_CALM for the resets that they made or caused.",
);
const UPSTREAM_CONNECTIONS: Family =
    Family::new(MetricType::Gauge, "portico_upstream_connections", "Open connections to an endpoint.");
const UPSTREAM_STREAMS: Family =
    Family::new(MetricType::Gauge, "portico_upstream_active_streams", "Calls in progress at an endpoint.");
const UPSTREAM_CONNECT_FAILURES: Family = Family::new(
    MetricType::Counter,
    "portico_upstream_connect_failures_total",
    "Attempts to connect to an endpoint that failed.",
);
const UPSTREAM_DURATION: Family = Family::new(
    MetricType::Histogram,
    "portico_upstream_duration_seconds",
    "Time from the head of an attempt to the head of its reply.",
);
const UPSTREAM_RETRIES: Family = Family::new(
    MetricType::Counter,
    "portico_upstream_retries_total",
    "Attempts of calls after an attempt that failed.",
);
const UPSTREAM_HEDGES: Family = Family::new(
    MetricType::Counter,
    "portico_upstream_hedges_total",
    "Attempts of calls beside an attempt that had not answered.",
);
const UPSTREAM_REFUSED: Family = Family::new(
    MetricType::Counter,
    "portico_upstream_refused_total",
    "Calls, connections and attempts that an upstream was not given because of a limit.",
);
const UPSTREAM_ENDPOINTS: Family =
    Family::new(MetricType::Gauge, "portico_upstream_endpoints", "Endpoints of an upstream by their health.");
const UPSTREAM_EJECTIONS: Family =
    Family::new(MetricType::Counter, "portico_upstream_ejections_total", "Ejections of endpoints whose calls failed.");
const UPSTREAM_HEALTH_CHECKS: Family =
    Family::new(MetricType::Counter, "portico_upstream_health_checks_total", "Health checks of endpoints by result.");
const SCHEMA_LOADED: Family = Family::new(
    MetricType::Gauge,
    "portico_schema_loaded",
    "Whether the schema of an upstream is loaded (1) or not (0).",
);
const DROPPED_LOG_LINES: Family = Family::new(
    MetricType::Counter,
    "portico_access_log_dropped_lines_total",
    "Lines of the access log that were lost because its output was too slow or failed.",
);
const PANICS: Family = Family::new(
    MetricType::Counter,
    "portico_panics_total",
    "Tasks that ended in a panic, which is a defect of Portico.",
);
const BUILD: Family = Family::new(MetricType::Gauge, "portico_build_info", "Always 1; the label has the version.");
const START_TIME: Family = Family::new(
    MetricType::Gauge,
    "process_start_time_seconds",
    "When the process started, in seconds since the Unix epoch.",
);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::readiness::Readiness;
    use super::*;

    /// Two workers that served a few calls.
    fn registry() -> Registry {
        let readiness = Arc::new(Readiness::default());
        readiness.set_upstreams(["library".into(), "archive".into()]);
        readiness.schema_loaded("library");
        let registry = Registry::new(readiness);
        for worker in [registry.worker(), registry.worker()] {
            let method = worker.method("library", "lib.Library/Get");
            method.finish(Protocol::Grpc, 0, None, Duration::from_millis(2));
            method.finish(Protocol::Rest, 5, Some(Origin::Upstream), Duration::from_secs(90));
            method.transferred(10, 200);
            worker.method("library", "lib.Library/NeverCalled");
            worker.unknown().finish(Protocol::Rest, 5, Some(Origin::Client), Duration::from_micros(40));
            worker.listener("0.0.0.0:8080").accepted();
            worker.listener("0.0.0.0:8080").count(ConnectionEvent::Stalled);
            // Open for good.
            std::mem::forget(worker.listener("0.0.0.0:8080").open(Transport::Http2));
            let endpoint = worker.endpoint("library", "10.0.0.1:50051");
            std::mem::forget((endpoint.open(), endpoint.stream(), endpoint.stream()));
            endpoint.connect_failed();
            endpoint.answered(Duration::from_millis(3));
            let upstream = worker.upstream("library");
            upstream.retries.add(2);
            upstream.hedges.add(1);
            upstream.refused(Bound::Pending);
        }
        let fleet = registry.fleet("library");
        fleet.endpoints(3, 1, 2);
        fleet.ejections.add(5);
        fleet.checks_failed.add(4);
        registry.dropped_log_lines().add(7);
        registry
    }

    /// The samples of a family, without what is announced.
    fn samples(text: &str, family: &str) -> Vec<String> {
        let lines = text.lines().filter(|line| line.strip_prefix(family).is_some_and(|rest| !rest.starts_with('_')));
        lines.map(|line| line.replacen(family, "", 1)).collect()
    }

    #[test]
    fn sums_the_calls_of_all_workers() {
        assert_eq!(
            samples(&registry().encode(), "portico_requests_total"),
            [
                r#"{upstream="",method="unknown",protocol="rest",code="NOT_FOUND",origin="client"} 2"#,
                r#"{upstream="library",method="lib.Library/Get",protocol="grpc",code="OK",origin="none"} 2"#,
                r#"{upstream="library",method="lib.Library/Get",protocol="rest",code="NOT_FOUND",origin="upstream"} 2"#,
            ]
        );
    }

    #[test]
    fn writes_cumulative_buckets() {
        let text = registry().encode();

        let labels = r#"upstream="library",method="lib.Library/Get""#;
        let bucket = |le: &str, count: u64| format!("{{le=\"{le}\",{labels}}} {count}");
        let buckets: Vec<_> = samples(&text, "portico_request_duration_seconds_bucket")
            .into_iter()
            .filter(|line| line.contains(labels))
            .collect();
        assert_eq!(buckets.len(), 17);
        assert_eq!(buckets[..3], [bucket("0.0005", 0), bucket("0.001", 0), bucket("0.0025", 2)]);
        assert_eq!(buckets[15..], [bucket("60.0", 2), bucket("+Inf", 4)]);
        assert!(text.contains(&format!("portico_request_duration_seconds_count{{{labels}}} 4\n")), "{text}");
        assert!(text.contains(&format!("portico_request_duration_seconds_sum{{{labels}}} 180.004\n")), "{text}");
        assert!(!text.contains("NeverCalled"));
    }

    #[test]
    fn writes_the_rest_of_the_families() {
        let text = registry().encode();

        for (family, expected) in [
            ("portico_request_bytes_total", &[r#"{upstream="library",method="lib.Library/Get"} 20"#][..]),
            ("portico_response_bytes_total", &[r#"{upstream="library",method="lib.Library/Get"} 400"#]),
            (
                "portico_connections",
                &[r#"{listener="0.0.0.0:8080",protocol="http1"} 0"#, r#"{listener="0.0.0.0:8080",protocol="http2"} 2"#],
            ),
            ("portico_connections_accepted_total", &[r#"{listener="0.0.0.0:8080"} 2"#]),
            ("portico_stalled_replies_total", &[r#"{listener="0.0.0.0:8080"} 2"#]),
            ("portico_client_resets_total", &[r#"{listener="0.0.0.0:8080"} 0"#]),
            ("portico_upstream_connections", &[r#"{upstream="library",endpoint="10.0.0.1:50051"} 2"#]),
            ("portico_upstream_active_streams", &[r#"{upstream="library",endpoint="10.0.0.1:50051"} 4"#]),
            ("portico_upstream_connect_failures_total", &[r#"{upstream="library",endpoint="10.0.0.1:50051"} 2"#]),
            ("portico_upstream_duration_seconds_count", &[r#"{upstream="library",endpoint="10.0.0.1:50051"} 2"#]),
            ("portico_upstream_retries_total", &[r#"{upstream="library"} 4"#]),
            ("portico_upstream_hedges_total", &[r#"{upstream="library"} 2"#]),
            (
                "portico_upstream_refused_total",
                &[
                    r#"{upstream="library",limit="requests"} 0"#,
                    r#"{upstream="library",limit="pending"} 2"#,
                    r#"{upstream="library",limit="connections"} 0"#,
                    r#"{upstream="library",limit="retries"} 0"#,
                    r#"{upstream="library",limit="retry_budget"} 0"#,
                ],
            ),
            (
                "portico_upstream_endpoints",
                &[
                    r#"{upstream="library",health="usable"} 3"#,
                    r#"{upstream="library",health="unhealthy"} 1"#,
                    r#"{upstream="library",health="ejected"} 2"#,
                ],
            ),
            ("portico_upstream_ejections_total", &[r#"{upstream="library"} 5"#]),
            (
                "portico_upstream_health_checks_total",
                &[r#"{upstream="library",result="passed"} 0"#, r#"{upstream="library",result="failed"} 4"#],
            ),
            ("portico_schema_loaded", &[r#"{upstream="archive"} 0"#, r#"{upstream="library"} 1"#]),
            ("portico_access_log_dropped_lines_total", &[" 7"]),
            ("portico_build_info", &[concat!(r#"{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#)]),
        ] {
            assert_eq!(samples(&text, family), expected, "{family}");
        }
    }

    #[test]
    fn escapes_labels() {
        let registry = Registry::new(Arc::default());
        registry.worker().listener("a\"b\\c\nd");

        let text = registry.encode();

        assert!(text.contains(r#"portico_connections_accepted_total{listener="a\"b\\c\nd"} 0"#), "{text}");
    }

    #[test]
    fn announces_only_what_the_documentation_lists() {
        let documentation = include_str!("../../docs/operations.md");
        let text = Registry::new(Arc::default()).encode();

        let announced = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        for (name, kind) in announced {
            let row = documentation.lines().find(|line| line.starts_with(&format!("| `{name}` | {kind} |")));
            assert!(row.is_some(), "docs/operations.md has no row for the {kind} {name}");
        }
        for name in documentation.split('`').filter(|word| word.starts_with("portico_") && !word.contains('{')) {
            assert!(text.contains(&format!("# TYPE {name} ")), "docs/operations.md lists {name}, which does not exist");
        }
    }
}
