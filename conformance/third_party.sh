#!/usr/bin/env bash
# Real calls to OpenFGA, a service that nobody here wrote, through Portico by reflection alone; the replies are compared
# with those of OpenFGA's own HTTP gateway. The first run builds OpenFGA, which takes minutes.

source "$(dirname "$0")/lib.sh"

OPENFGA=v1.22.1

command -v go >/dev/null || fail "the third-party suite needs Go"
[ -x "$bin/openfga-$OPENFGA" ] || {
  echo "building OpenFGA $OPENFGA"
  GOBIN=$work go install "github.com/openfga/openfga/cmd/openfga@$OPENFGA"
  mv "$work/openfga" "$bin/openfga-$OPENFGA"
}

upstream_port=$(free_port)
own_port=$(free_port)
start openfga "$bin/openfga-$OPENFGA" run --log-level warn --playground-enabled=false --metrics-enabled=false \
  --grpc-addr "127.0.0.1:$upstream_port" --http-addr "127.0.0.1:$own_port"
wait_port openfga "$own_port"
start_gateway --upstream "127.0.0.1:$upstream_port"
[ "${DIRECT:-0}" != 1 ] || gateway_port=$own_port
timeout 120 python3 "$here/third_party.py" "http://127.0.0.1:$own_port" "http://127.0.0.1:$gateway_port"
gateway_alive
