#!/usr/bin/env bash
# What Prometheus makes of the metrics: promtool finds no fault with them, and a real server scrapes them. Half a minute.

source "$(dirname "$0")/lib.sh"

gateway_port=$(free_port)
admin_port=$(free_port)
prometheus_port=$(free_port)
portico=${PORTICO:-$root/target/debug/portico}
[ -x "$portico" ] || (cd "$root" && cargo build --locked)

# The demo is a service with a gateway in front of it, which is all that is needed here.
start portico "$portico" demo --listen "127.0.0.1:$gateway_port" --admin "127.0.0.1:$admin_port"
wait_port portico "$gateway_port"
curl -s -o /dev/null --retry 20 --retry-all-errors --retry-delay 1 -f "http://127.0.0.1:$admin_port/readyz"
for path in /v1/shelves /v1/shelves /v1/nothing /v1/shelves/none; do
  curl -s -o /dev/null "http://127.0.0.1:$gateway_port$path"
done

curl -sf "http://127.0.0.1:$admin_port/metrics" >"$work/metrics.txt" || fail "no metrics"
promtool check metrics <"$work/metrics.txt" >"$work/promtool.log" 2>&1 || {
  cat "$work/promtool.log" >&2
  fail "promtool finds fault"
}
[ ! -s "$work/promtool.log" ] || { cat "$work/promtool.log" >&2; fail "promtool has something to say"; }
echo "promtool check metrics: clean, $(grep -c '^# TYPE' "$work/metrics.txt") families"

printf '%s\n' 'global: { scrape_interval: 1s }' 'scrape_configs:' '  - job_name: portico' \
  "    static_configs: [ { targets: ['127.0.0.1:$admin_port'] } ]" >"$work/prometheus.yml"
rm -rf "$work/prometheus-data"
start prometheus prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/prometheus-data" \
  --web.listen-address="127.0.0.1:$prometheus_port" --log.level=warn
wait_port prometheus "$prometheus_port"

# query EXPRESSION: the value of the only series, or nothing.
query() {
  curl -sG "http://127.0.0.1:$prometheus_port/api/v1/query" --data-urlencode "query=$1" |
    python3 -c 'import json, sys; found = json.load(sys.stdin)["data"]["result"]; print(found[0]["value"][1] if found else "")'
}

# expect EXPRESSION VALUE: waits until that is its value, for twenty seconds.
expect() {
  for _ in $(seq 100); do
    found=$(query "$1")
    if [ "$found" = "$2" ]; then
      echo "$1 = $2"
      return
    fi
    sleep 0.2
  done
  fail "$1 is '$found' and not '$2'"
}

expect 'up{job="portico"}' 1
expect 'sum(portico_requests_total{code="OK"})' 2
expect 'sum(portico_requests_total{code="NOT_FOUND"})' 2
expect 'sum(portico_request_duration_seconds_count)' 4
expect 'count(histogram_quantile(0.99, sum by (le) (portico_request_duration_seconds_bucket)) > 0)' 1
expect 'sum(portico_response_size_bytes_count)' 4
expect 'portico_config_last_reload_successful' 1
expect 'min(portico_schema_loaded)' 1
