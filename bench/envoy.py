"""Envoy's configuration for a setting."""

NETWORK = "type.googleapis.com/envoy.extensions.filters.network"
HTTP = "type.googleapis.com/envoy.extensions.filters.http"
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
ALWAYS = {"default_value": {"numerator": 100}}
# More than any load asks for: what is measured is the counting.
BUCKET = {"max_tokens": 1_000_000_000, "tokens_per_fill": 1_000_000_000, "fill_interval": "1s"}


def config(setting, place, access_log):
    manager = {
        "@type": f"{NETWORK}.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "codec_type": "AUTO",
        "http2_protocol_options": {"max_concurrent_streams": 1000},
        "route_config": {"virtual_hosts": [virtual_host(setting)]},
        "http_filters": [*filters(setting, place), typed("router", f"{HTTP}.router.v3.Router")],
    }
    if access_log:
        kind = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
        manager["access_log"] = [{"name": "file", "typed_config": {"@type": kind, "path": place.log}}]
    chain = {"filters": [{"name": "manager", "typed_config": manager}]}
    if setting.tls:
        chain["transport_socket"] = secure("DownstreamTlsContext", {
            "tls_certificates": [{"certificate_chain": {"filename": place.certificate}, "private_key": {"filename": place.key}}],
            "alpn_protocols": ["h2", "http/1.1"],
        })
    return {
        "static_resources": {
            "listeners": [{"address": address(place.port), "filter_chains": [chain]}],
            "clusters": [cluster(f"upstream{number}", setting, place) for number in range(setting.upstreams)],
        }
    }


def virtual_host(setting):
    def route(prefix, number):
        return {"match": {"prefix": prefix}, "route": {"cluster": f"upstream{number}", "timeout": "30s"}}

    routes = [route(f"/bench.u{number}.", number) for number in range(setting.upstreams)] if setting.upstreams > 1 else []
    host = {"name": "all", "domains": ["*"], "routes": [*routes, route("/", 0)]}
    if setting.keys:
        path = {"request_headers": {"header_name": ":path", "descriptor_key": "path"}}
        host["rate_limits"] = [{"actions": [path]}]
    return host


def filters(setting, place):
    if setting.guarded:
        yield typed("jwt_authn", f"{HTTP}.jwt_authn.v3.JwtAuthentication", {
            "providers": {
                "bench": {
                    "issuer": place.issuer,
                    "audiences": ["bench"],
                    "local_jwks": {"filename": place.jwks},
                    "forward": True,
                    "jwt_cache_config": {"jwt_cache_size": 100},
                }
            },
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "bench"}}],
        })
    if setting.guarded or setting.keys:
        limit = {"stat_prefix": "bench", "token_bucket": BUCKET, "filter_enabled": ALWAYS, "filter_enforced": ALWAYS}
        if setting.keys:
            limit["descriptors"] = [{"entries": [{"key": "path"}], "token_bucket": BUCKET}]
            limit["max_dynamic_descriptors"] = setting.keys
        yield typed("local_ratelimit", f"{HTTP}.local_ratelimit.v3.LocalRateLimit", limit)
    if setting.web:
        yield typed("connect_grpc_bridge", f"{HTTP}.connect_grpc_bridge.v3.FilterConfig")
        yield typed("grpc_web", f"{HTTP}.grpc_web.v3.GrpcWeb")
    yield transcoder(place.descriptors, place.services)


def transcoder(descriptors, services):
    return typed("grpc_json_transcoder", f"{HTTP}.grpc_json_transcoder.v3.GrpcJsonTranscoder", {
        "proto_descriptor": descriptors, "services": services, "convert_grpc_status": True,
    })


def cluster(name, setting, place):
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    # Its own limits, of 1,024 each, are below what the loads with most connections and streams have open.
    limits = {"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000}
    port = place.tls_upstream if setting.tls else place.upstream
    made = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": {"thresholds": [limits]},
        "typed_extension_protocol_options": {
            kind: {"@type": f"type.googleapis.com/{kind}", "explicit_http_config": {"http2_protocol_options": {}}}
        },
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]},
    }
    if setting.tls:
        made["transport_socket"] = secure("UpstreamTlsContext", {
            "alpn_protocols": ["h2"],
            "validation_context": {"trusted_ca": {"filename": place.authority}},
        })
    return made


def transcoder_alone(descriptors, services):
    """Enough for Envoy to say what it thinks of a descriptor set."""
    manager = {
        "@type": f"{NETWORK}.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"]}]},
        "http_filters": [transcoder(descriptors, services), typed("router", f"{HTTP}.router.v3.Router")],
    }
    listener = {"address": address(0), "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}]}
    return {"static_resources": {"listeners": [listener]}}


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def typed(name, kind, more=None):
    return {"name": f"envoy.filters.http.{name}", "typed_config": {"@type": kind, **(more or {})}}


def secure(kind, common, **more):
    return {"name": "tls", "typed_config": {"@type": f"{TLS}.{kind}", "common_tls_context": common, **more}}
