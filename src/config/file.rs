//! The configuration file as it is typed: one struct per section, every key optional and with its position.
//!
//! Nothing here is checked beyond its type; [`super::resolve`] turns it into [`super::Config`]. The keys of these
//! structs are the reference that `docs/configuration.md` is tested against.

pub(crate) mod authentication;
pub(crate) mod authorization;

use self::authentication::{Authentication, Demand};
use self::authorization::{Authorization, Forwarded, Rules};
use super::node::{Node, Value};
use super::problem::Place;
use super::read::{Clearable, Entries, List, Located, Marker, Named, Read, Report, Switch, Table, section};
use super::units::{OptionalSpan, Percent, Size, Span, Tenths};

section! {
    /// The whole file.
    File {
        listeners: List<Listener>,
        admin: Switch<Admin>,
        upstreams: List<Upstream>,
        http_rules: List<HttpRule>,
        json: Json,
        serve: Serve,
        errors: Errors,
        authentication: Authentication,
        authorization: Authorization,
        policies: List<Policy>,
        admission: Shedding,
        rate_limiting: RateLimiting,
        redis: Redis,
        telemetry: Telemetry,
        drain: Drain,
        reload: Reload,
        workers: u64,
    }
}

section! {
    /// The end of the process.
    Drain {
        timeout: Span,
        delay: Span,
    }
}

section! {
    /// What makes the gateway read its configuration again.
    Reload {
        watch: bool,
    }
}

section! {
    /// A socket for clients.
    Listener {
        address: String,
        tls: Tls,
        limits: Limits,
        trusted_proxies: List<String>,
        proxy_protocol: List<String>,
    }
}

section! {
    /// Files of a listener's TLS.
    Tls {
        certificate: String,
        key: String,
        certificates: List<Certificate>,
        client_ca: String,
        client_auth: String,
        client_crl: String,
        min_version: String,
    }
}

section! {
    /// One more certificate of a listener.
    Certificate {
        certificate: String,
        key: String,
    }
}

section! {
    /// Bounds on what the clients of a listener may use.
    Limits {
        max_connections: u64,
        max_header_bytes: Size,
        max_headers: u64,
        max_concurrent_streams: u64,
        max_pending_resets: u64,
        header_timeout: Span,
        tls_handshake_timeout: Span,
        idle_timeout: Span,
        stream_window: Size,
        connection_window: Size,
    }
}

section! {
    /// The operator's own address.
    Admin {
        address: String,
    }
}

section! {
    /// A group of endpoints that serve the same services.
    Upstream {
        name: String,
        endpoints: List<Endpoint>,
        dns: String,
        srv: String,
        endpoints_file: String,
        resolvers: List<String>,
        load_balancing: LoadBalancing,
        schema: Clearable<Schema>,
        services: List<String>,
        authority: String,
        tls: UpstreamTls,
        connections: Connections,
        health_check: HealthCheck,
        outlier_detection: OutlierDetection,
        circuit_breaker: CircuitBreaker,
    }
}

section! {
    /// How endpoints are asked for their health; at most one of `grpc` and `tcp`.
    HealthCheck {
        grpc: GrpcProbe,
        tcp: Marker,
        interval: Span,
        timeout: Span,
        healthy_threshold: u64,
        unhealthy_threshold: u64,
    }
}

section! {
    /// A question of `grpc.health.v1`.
    GrpcProbe {
        service: String,
        watch: bool,
    }
}

section! {
    /// When endpoints whose calls fail are left alone.
    OutlierDetection {
        codes: List<String>,
        consecutive_failures: u64,
        failure_rate: Percent,
        success_deviation: Tenths,
        minimum_calls: u64,
        interval: Span,
        base_ejection: Span,
        longest_ejection: Span,
        max_ejected: Percent,
    }
}

section! {
    /// How much an upstream is given to do at once.
    CircuitBreaker {
        max_requests: u64,
        max_pending: u64,
        max_connections: u64,
        max_retries: u64,
        retry_budget: Percent,
        per_endpoint: EndpointBreaker,
    }
}

section! {
    /// The same for one endpoint.
    EndpointBreaker {
        max_requests: u64,
        max_pending: u64,
    }
}

section! {
    /// TLS towards an upstream.
    UpstreamTls {
        ca: String,
        server_name: String,
        certificate: String,
        key: String,
    }
}

section! {
    /// An endpoint, where its address does not say everything.
    EndpointSection {
        address: String,
        weight: u64,
        zone: String,
    }
}

/// An address, or a section.
#[derive(Debug)]
pub(crate) struct Endpoint(pub(crate) EndpointSection);

impl Read for Endpoint {
    fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self> {
        if matches!(node.value, Value::Map(_)) {
            return EndpointSection::read(node, at, report).map(Self);
        }
        let address = Located { value: String::read(node, at, report)?, at: at.clone() };
        Some(Self(EndpointSection { address: Some(address), ..EndpointSection::default() }))
    }
}

section! {
    /// A file of endpoints.
    EndpointFile {
        endpoints: List<Endpoint>,
    }
}

section! {
    /// How calls are spread over endpoints.
    LoadBalancing {
        policy: String,
        hash_on: String,
        slow_start: Span,
        panic_threshold: Percent,
        zone: String,
    }
}

section! {
    /// Where descriptors come from; `none`, or exactly one of `reflection`, `descriptor_set` and `proto`.
    Schema {
        reflection: Reflection,
        descriptor_set: String,
        proto: List<String>,
        include: List<String>,
        breaking_changes: String,
    }
}

section! {
    /// How an upstream is asked for its descriptors.
    Reflection {
        refresh: OptionalSpan,
    }
}

section! {
    /// Connections to an upstream.
    Connections {
        max_per_endpoint: u64,
        connect_timeout: Span,
        stream_window: Size,
        connection_window: Size,
        data_frame_budget: Size,
        max_age: OptionalSpan,
        keepalive: OptionalSpan,
    }
}

section! {
    /// A `google.api.HttpRule`; inside `additional_bindings` without `selector` and further bindings.
    HttpRule {
        selector: String,
        get: String,
        put: String,
        post: String,
        delete: String,
        patch: String,
        custom: CustomPattern,
        body: String,
        response_body: String,
        additional_bindings: List<HttpRule>,
    }
}

section! {
    /// A pattern for any other HTTP method.
    CustomPattern {
        kind: String,
        path: String,
    }
}

section! {
    /// How JSON is read and written.
    Json {
        unknown_fields: String,
        int64_as_number: bool,
        emit_defaults: bool,
        preserve_proto_names: bool,
        enums_as_numbers: bool,
        stream_envelope: bool,
    }
}

section! {
    /// What the gateway answers itself.
    Serve {
        reflection: bool,
        health: bool,
    }
}

section! {
    /// Settings of the methods that a pattern names.
    Policy {
        r#match: String,
        timeout: Timeout,
        json: Json,
        limits: MessageLimits,
        compression: Switch<Compression>,
        reply: Reply,
        request_headers: Table,
        reply_headers: Table,
        cors: Clearable<Cors>,
        rate_limits: Clearable<List<RateLimit>>,
        admission: Admission,
        authenticate: Demand,
        authorize: Rules,
        identity: Forwarded,
        retry: Clearable<Retry>,
        hedge: Clearable<Hedge>,
    }
}

section! {
    /// When a call is sent again.
    Retry {
        retries: u64,
        on: List<String>,
        backoff: Backoff,
        per_try_timeout: Span,
        buffer: Size,
    }
}

section! {
    /// How long it is waited before a call is sent again.
    Backoff {
        base: Span,
        max: Span,
    }
}

section! {
    /// When a call goes to another endpoint beside the first.
    Hedge {
        attempts: u64,
        delay: Span,
        non_fatal: List<String>,
        assume_idempotent: bool,
    }
}

section! {
    /// What the service may say of the HTTP reply.
    Reply {
        status_metadata: String,
        headers: List<String>,
    }
}

section! {
    /// How replies of REST are compressed.
    Compression {
        min_size: Size,
        encodings: List<String>,
    }
}

section! {
    /// Which pages of other origins may call.
    Cors {
        allow_origins: List<String>,
        allow_headers: List<String>,
        expose_headers: List<String>,
        allow_credentials: bool,
        max_age: Span,
    }
}

section! {
    /// When the process has too much to do.
    Shedding {
        max_queue_delay: Span,
        max_memory: Size,
    }
}

section! {
    /// How many calls of a method are taken on at once.
    Admission {
        max_concurrent: u64,
        adaptive: Switch<Adaptive>,
        priority: String,
    }
}

section! {
    /// Bounds of a limit that finds its place by itself.
    Adaptive {
        min: u64,
        max: u64,
    }
}

section! {
    /// What holds for all limits.
    RateLimiting {
        memory: Size,
        headers: String,
        services: List<RateLimitService>,
    }
}

section! {
    /// A service that counts.
    RateLimitService {
        name: String,
        upstream: String,
        domain: String,
        timeout: Span,
        on_failure: String,
    }
}

section! {
    /// How often a method may be called, or how many calls may be open.
    RateLimit {
        name: String,
        key: List<String>,
        quota: String,
        burst: u64,
        cost: u64,
        count: String,
        max_open: u64,
        tiers: Tiers,
        missing: String,
        store: String,
        lease: Percent,
        on_failure: String,
        shadow: bool,
    }
}

section! {
    /// Quotas by a claim.
    Tiers {
        claim: String,
        quotas: Named<Tier>,
    }
}

section! {
    /// A quota with its burst.
    TierSection {
        quota: String,
        burst: u64,
    }
}

/// A quota, or a section.
#[derive(Debug)]
pub(crate) struct Tier(pub(crate) TierSection);

impl Read for Tier {
    fn read(node: &Node, at: &Place, report: &mut Report<'_>) -> Option<Self> {
        if matches!(node.value, Value::Map(_)) {
            return TierSection::read(node, at, report).map(Self);
        }
        let quota = Located { value: String::read(node, at, report)?, at: at.clone() };
        Some(Self(TierSection { quota: Some(quota), ..TierSection::default() }))
    }
}

section! {
    /// How long a call may take.
    Timeout {
        unary: OptionalSpan,
        stream_idle: Span,
        stream: OptionalSpan,
    }
}

section! {
    /// How large one message may be.
    MessageLimits {
        request_message: Size,
        response_message: Size,
    }
}

section! {
    /// Where counts are kept that several gateways share; exactly one of `url`, `cluster` and `sentinel`.
    Redis {
        url: String,
        cluster: List<String>,
        sentinel: RedisSentinel,
        username: String,
        password: String,
        tls: RedisTls,
        timeout: Span,
        connect_timeout: Span,
        on_failure: String,
        key_prefix: String,
    }
}

section! {
    /// Who knows which server is the master.
    RedisSentinel {
        endpoints: List<String>,
        master: String,
        username: String,
        password: String,
    }
}

section! {
    /// Files of the TLS to Redis.
    RedisTls {
        ca: String,
        certificate: String,
        key: String,
    }
}

section! {
    /// What the gateway's own errors say.
    Errors {
        details: bool,
    }
}

section! {
    /// Logs.
    Telemetry {
        access_log: AccessLog,
    }
}

section! {
    /// One line per call.
    AccessLog {
        format: String,
        path: String,
    }
}
