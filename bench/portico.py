"""Portico's configuration for a setting. What is not said here is as shipped: metrics and access log are on."""

# More than any load asks for: what is measured is the counting.
QUOTA = "1000000/s"


def config(setting, place):
    listener = {"address": f"127.0.0.1:{place.port}"}
    if setting.tls:
        listener["tls"] = {"certificate": place.certificate, "key": place.key}
    if setting.many_streams:
        listener["limits"] = {"max_concurrent_streams": 1000}
    made = {
        "listeners": [listener],
        "admin": {"address": "127.0.0.1:0"},
        "workers": setting.workers,
        "upstreams": [upstream(number, setting, place) for number in range(setting.upstreams)],
    }
    if setting.guarded:
        token = {"name": "bench", "issuer": place.issuer, "audiences": ["bench"], "jwks": {"file": place.jwks}}
        made["authentication"] = {"jwt": [token]}
        made["policies"] = [{"match": "*", "authenticate": "bench", "rate_limits": [{"key": ["claim:sub"], "quota": QUOTA}]}]
    if setting.keys:
        made["policies"] = [{"match": "*", "rate_limits": [{"key": ["field:name"], "quota": QUOTA}]}]
    return made


def upstream(number, setting, place):
    port = place.tls_upstream if setting.tls else place.upstream
    made = {
        "name": f"upstream{number}",
        "endpoints": [f"127.0.0.1:{port}"],
        "schema": {"descriptor_set": place.descriptors},
    }
    if setting.tls:
        made["tls"] = {"ca": place.authority}
    if setting.upstreams > 1:
        made["services"] = [f"bench.u{number}.*"]
    return made
