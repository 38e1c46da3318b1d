#!/usr/bin/env bash
# The official gRPC interop client through Portico to the official interop server, case by case. About half a minute.
#
#   conformance/interop.sh [CASE…]

source "$(dirname "$0")/lib.sh"

cases=(
  empty_unary large_unary client_streaming server_streaming ping_pong empty_stream
  timeout_on_sleeping_server cancel_after_begin cancel_after_first_response
  status_code_and_message special_status_message custom_metadata
  unimplemented_method unimplemented_service
  rpc_soak channel_soak orca_per_rpc orca_oob
)
[ $# -eq 0 ] || cases=("$@")

build_tools
start_interop_server
start_gateway --upstream "127.0.0.1:$upstream_port" --descriptor-set "$work/interop.binpb"

passed=0
failed=0
for case in "${cases[@]}"; do
  options=()
  limit=20
  case $case in
    # 270 kB up and 314 kB down each; the limits leave room for a debug build on a busy machine.
    *_soak) limit=60 options=(-soak_iterations 100 -soak_num_threads 4 -soak_overall_timeout_seconds 50 -soak_per_iteration_max_acceptable_latency_ms 5000) ;;
    # The load reports reach the client's code through a balancer made for these two cases.
    orca_*) options=(-service_config_json '{"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}') ;;
  esac
  log=$work/interop-$case.log
  if timeout $limit "$bin/client" -server_host 127.0.0.1 -server_port "$gateway_port" -test_case "$case" "${options[@]}" >"$log" 2>&1; then
    echo "interop $case ... ok"
    passed=$((passed + 1))
  else
    status=$?
    echo "interop $case ... FAILED"
    [ $status -ne 124 ] || echo "    no end after $limit s"
    tail -n 5 "$log" | sed 's/^/    /'
    failed=$((failed + 1))
  fi
done
gateway_alive
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
