#!/usr/bin/env bash
# Envoy's reference rate-limit service, with a real Redis behind it, counts the calls of two Portico gateways. The first run
# builds the service, which takes minutes.

source "$(dirname "$0")/lib.sh"

RATELIMIT=v1.4.1-0.20260122083618-3fb702589d36

command -v go >/dev/null || fail "the rate-limit suite needs Go"
command -v redis-server >/dev/null || fail "the rate-limit suite needs redis-server"
service=$bin/ratelimit-$RATELIMIT
[ -x "$service" ] || {
  echo "building envoyproxy/ratelimit $RATELIMIT"
  GOBIN=$work go install "github.com/envoyproxy/ratelimit/src/service_cmd@$RATELIMIT"
  mv "$work/service_cmd" "$service"
}

folder=$(mktemp -d "$work/ratelimit.XXXXXX")
mkdir -p "$folder/limits/config"
cat >"$folder/limits/config/portico.yaml" <<'EOF'
domain: portico
descriptors:
  # Three an hour for each tenant, one for the tenant that is named.
  - key: x-tenant
    rate_limit: { unit: hour, requests_per_unit: 3 }
  - key: x-tenant
    value: small
    rate_limit: { unit: hour, requests_per_unit: 1 }
  # What is looked at and never refused.
  - key: generic_key
    value: everyone
    rate_limit: { unit: day, requests_per_unit: 1000 }
EOF

redis_port=$(free_port)
start redis redis-server --port "$redis_port" --bind 127.0.0.1 --save '' --dir "$folder"
wait_port redis "$redis_port"
service_port=$(free_port)
start ratelimit env USE_STATSD=false LOG_LEVEL=warn RUNTIME_ROOT="$folder" RUNTIME_SUBDIRECTORY=limits RUNTIME_WATCH_ROOT=false \
  HOST=127.0.0.1 PORT="$(free_port)" GRPC_HOST=127.0.0.1 GRPC_PORT="$service_port" DEBUG_HOST=127.0.0.1 DEBUG_PORT="$(free_port)" \
  REDIS_SOCKET_TYPE=tcp REDIS_URL="127.0.0.1:$redis_port" LIMIT_RESPONSE_HEADERS_ENABLED=true "$service"
wait_port ratelimit "$service_port"

build_tools
start_interop_server
cat >"$folder/portico.yaml" <<EOF
upstreams:
  - { name: interop, endpoints: ["127.0.0.1:$upstream_port"], schema: { descriptor_set: "$work/interop.binpb" } }
  - { name: limiter, endpoints: ["127.0.0.1:$service_port"], schema: none }
rate_limiting:
  services: [ { name: envoy, upstream: limiter, domain: portico, timeout: 2s, on_failure: deny } ]
policies:
  - match: "*"
    rate_limits:
      - { name: tenant, key: [header:x-tenant], missing: skip, store: envoy }
      - { name: everyone, key: [constant:everyone], store: envoy }
EOF
start_gateway --config "$folder/portico.yaml"
first=$gateway_port
start_gateway --config "$folder/portico.yaml"
timeout 120 python3 "$here/ratelimit.py" "http://127.0.0.1:$first" "http://127.0.0.1:$gateway_port"
gateway_alive
