# Shared by the suites of this folder: sourced, never run.
#
# A suite starts its processes with `start`, which records them; whatever way the suite ends, they end with it.
#
# PORTICO   the gateway to test (default: target/debug/portico, built when absent)
# DIRECT=1  no gateway: the suite talks to the upstream itself, which checks the suite

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
work=$root/target/conformance
bin=$work/bin
mkdir -p "$bin"

children=()

stop_children() {
  local status=$?
  trap - EXIT INT TERM
  if [ ${#children[@]} -gt 0 ]; then
    kill "${children[@]}" 2>/dev/null || true
    # Draining takes up to five seconds; what is still there then is not asked again.
    for _ in $(seq 50); do
      kill -0 "${children[@]}" 2>/dev/null || break
      sleep 0.1
    done
    kill -9 "${children[@]}" 2>/dev/null || true
    wait "${children[@]}" 2>/dev/null || true
  fi
  exit "$status"
}
trap stop_children EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
  echo "$*" >&2
  exit 1
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# start NAME COMMAND…: runs the command in the background, its output in target/conformance/NAME.log.
start() {
  local name=$1
  shift
  "$@" >"$work/$name.log" 2>&1 &
  children+=($!)
}

# wait_port NAME PORT: until the newest child accepts connections there; fails with its log after 30 s or when it died.
wait_port() {
  local name=$1 port=$2 pid=${children[-1]}
  for _ in $(seq 300); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then return; fi
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  cat "$work/$name.log" >&2
  fail "$name does not accept connections on port $port"
}

# build_tools: the pinned Go programs of go.mod, in target/conformance/bin.
build_tools() {
  command -v go >/dev/null || fail "the conformance suites need Go"
  echo "building the conformance tools"
  (cd "$here" && go build -mod=readonly -o "$bin/" tool && go run -mod=readonly ./descriptors >"$work/interop.binpb")
}

# install_protoc: sets protoc, one that knows editions (35) and the well-known types.
install_protoc() {
  local grpcio_tools=1.85.1
  local venv=$work/venv-$grpcio_tools
  protoc=$venv/bin/protoc
  [ -x "$protoc" ] || {
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check "grpcio-tools==$grpcio_tools"
    printf '#!/bin/sh\nexec "%s" -m grpc_tools.protoc "$@"\n' "$venv/bin/python3" >"$venv/protoc"
    chmod +x "$venv/protoc"
    # Only now, so that an installation that was cut short is made again.
    mv "$venv/protoc" "$protoc"
  }
}

# start_interop_server: sets upstream_port.
start_interop_server() {
  upstream_port=$(free_port)
  start server "$bin/server" -port "$upstream_port"
  wait_port server "$upstream_port"
}

# start_gateway OPTION…: `portico run` with these options; sets gateway_port.
start_gateway() {
  if [ "${DIRECT:-0}" = 1 ]; then
    gateway_port=$upstream_port
    return
  fi
  local portico=${PORTICO:-$root/target/debug/portico}
  [ -x "$portico" ] || (cd "$root" && cargo build --locked)
  gateway_port=$(free_port)
  start portico "$portico" run --listen "127.0.0.1:$gateway_port" --admin off "$@"
  wait_port portico "$gateway_port"
}

# gateway_alive: fails with the log when the gateway died during the suite.
gateway_alive() {
  [ "${DIRECT:-0}" = 1 ] || kill -0 "${children[-1]}" 2>/dev/null || { cat "$work/portico.log" >&2; fail "the gateway died"; }
}
