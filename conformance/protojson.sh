#!/usr/bin/env bash
# Random schemas and messages through Portico and through Go's protojson, both ways; half a minute.
#
#   conformance/protojson.sh [SEEDS]

source "$(dirname "$0")/lib.sh"

command -v go >/dev/null || fail "the protojson suite needs Go"
(cd "$here" && go build -mod=readonly -o "$bin/protojson" ./protojson)
(cd "$root" && cargo run --locked --quiet --example conformance_protojson -- "$bin/protojson" "$@")
