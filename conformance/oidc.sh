#!/usr/bin/env bash
# A real OpenID provider (npm's oidc-provider) in front of the gateway's callers, whose keys rotate under load.

source "$(dirname "$0")/lib.sh"

suite=$work/oidc
mkdir -p "$suite"
cp "$here"/oidc/* "$suite"
(cd "$suite" && npm install --silent --no-fund --no-audit)

portico=${PORTICO:-$root/target/debug/portico}
[ -x "$portico" ] || (cd "$root" && cargo build --locked)
start demo "$portico" demo --listen 127.0.0.1:0 --admin off
for _ in $(seq 100); do
  upstream=$(sed -n 's/^the library service listens on //p' "$work/demo.log")
  [ -z "$upstream" ] || break
  sleep 0.1
done
provider_port=$(free_port)
gateway_port=$(free_port)
admin_port=$(free_port)
cat >"$suite/portico.yaml" <<YAML
listeners: [ { address: "127.0.0.1:$gateway_port" } ]
admin: { address: "127.0.0.1:$admin_port" }
upstreams: [ { name: library, endpoints: ["$upstream"] } ]
authentication:
  jwt:
    - name: provider
      issuer: "http://127.0.0.1:$provider_port"
      audiences: [library]
      types: [at+jwt]
      jwks: { url: "http://127.0.0.1:$provider_port/jwks", refresh: 2s, min_interval: 1s }
policies: [ { match: "*", authenticate: provider } ]
YAML
start portico "$portico" run --config "$suite/portico.yaml"
wait_port portico "$admin_port"

(cd "$suite" && timeout 120 node run.mjs "$provider_port" "http://127.0.0.1:$gateway_port" "http://127.0.0.1:$admin_port" 2>oidc.log) ||
  { tail -20 "$suite/oidc.log" >&2; exit 1; }
