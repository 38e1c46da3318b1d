#!/usr/bin/env bash
# Connect's conformance runner, for gRPC, gRPC-Web and Connect, against its own gRPC reference server behind Portico.
# The first run builds the runner, which takes a minute.
#
#   conformance/connect.sh [OPTION…]     options of connectconformance, such as --run '**/unary/**' or --trace

source "$(dirname "$0")/lib.sh"

CONFORMANCE=v1.0.7

command -v go >/dev/null || fail "the Connect suite needs Go"
runner=$bin/connect-$CONFORMANCE
[ -x "$runner/grpcserver" ] || {
  echo "building connectconformance $CONFORMANCE"
  mkdir -p "$runner"
  GOBIN=$runner go install "connectrpc.com/conformance/cmd/connectconformance@$CONFORMANCE" \
    "connectrpc.com/conformance/cmd/grpcserver@$CONFORMANCE"
}
# The module's own descriptors.
protos=$(cd "$work" && go mod download -json "connectrpc.com/conformance@$CONFORMANCE" |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])')/proto

portico=$(realpath "${PORTICO:-$root/target/debug/portico}")
[ -x "$portico" ] || (cd "$root" && cargo build --locked)

# The only cases that may fail: the reference server itself has no IdempotentUnary, so it answers UNIMPLEMENTED whoever asks.
grep -q IdempotentUnary "$protos/../internal/app/grpcserver/impl.go" && fail "connect-known.txt is out of date"

"$runner/connectconformance" --known-failing "@$here/connect-known.txt" --conf "$here/connect.yaml" --mode server "$@" -- \
  python3 "$here/connect_server.py" "$portico" "$runner/grpcserver" "$protos"
