#!/usr/bin/env bash
# A page of another origin in a real browser (headless Chromium): fetch with NDJSON, a preflight, a form with a file, EventSource, WebSocket, and
# the gRPC-Web client of npm, through Portico to the library service; and a page whose origin is not allowed.

source "$(dirname "$0")/lib.sh"

browser=$(command -v chromium-headless-shell || command -v chromium || command -v google-chrome) ||
  fail "the browser suite needs Chromium; tools/install.sh chromium installs it"
suite=$work/browser
mkdir -p "$suite"
cp "$here"/browser/* "$suite"
(cd "$suite" && npm install --silent --no-fund --no-audit)
install_protoc
"$protoc" -I "$root/proto" --include_imports --descriptor_set_out "$suite/library.binpb" portico/library/v1/library.proto
mkdir -p "$suite/site"
cp "$suite/library.binpb" "$suite/site"
(cd "$suite" && npx esbuild page.js --bundle --format=esm --log-level=warning --outfile=site/page.js)

portico=${PORTICO:-$root/target/debug/portico}
[ -x "$portico" ] || (cd "$root" && cargo build --locked)
friend=$(free_port)
stranger=$(free_port)
start demo "$portico" demo --listen 127.0.0.1:0 --admin off
for _ in $(seq 100); do
  upstream=$(sed -n 's/^the library service listens on //p' "$work/demo.log")
  [ -z "$upstream" ] || break
  sleep 0.1
done
gateway_port=$(free_port)
cat >"$suite/portico.yaml" <<YAML
listeners: [ { address: "127.0.0.1:$gateway_port" } ]
admin: off
upstreams: [ { name: library, endpoints: ["$upstream"], schema: { descriptor_set: library.binpb } } ]
policies: [ { match: "*", cors: { allow_origins: ["http://127.0.0.1:$friend"] } } ]
YAML
start portico "$portico" run --config "$suite/portico.yaml"
wait_port portico "$gateway_port"

node "$suite/serve.js" "$browser" "$suite/site" "$friend" "$stranger" "http://127.0.0.1:$gateway_port"
