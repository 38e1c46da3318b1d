#!/usr/bin/env bash
# Open Policy Agent's own server of Envoy's external authorization decides on calls through Portico, in every protocol.
# Some minutes to build the first time, then seconds.
#
#   conformance/authorizer.sh

source "$(dirname "$0")/lib.sh"

build_tools
echo "building Open Policy Agent"
(cd "$here/authorizer" && CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags='-s -w' -o "$bin/" tool)

opa_port=$(free_port)
cat >"$work/opa.yaml" <<END
plugins:
  envoy_ext_authz_grpc: { addr: "127.0.0.1:$opa_port", path: envoy/authz/decision }
END
start opa "$bin/opa-envoy-plugin" run --server --addr "127.0.0.1:$(free_port)" --disable-telemetry \
  --config-file "$work/opa.yaml" "$here/authorizer/policy.rego"
wait_port opa "$opa_port"
start_interop_server

cat >"$work/authorizer.yaml" <<END
upstreams:
  - name: interop
    endpoints: ["127.0.0.1:$upstream_port"]
    schema: { descriptor_set: interop.binpb }
  - { name: opa, endpoints: ["127.0.0.1:$opa_port"], schema: none }
authorization:
  external:
    - name: opa
      upstream: opa
      timeout: 5s
      headers: [x-grpc-test-echo-initial]
      reply_headers: [x-policy]
      context: { site: portico }
policies:
  - { match: "*", authorize: { external: opa } }
END
start_gateway --config "$work/authorizer.yaml"

passed=0
failed=0

# call PROTOCOL METHOD TOKEN: sets status, code and head.
call() {
  local protocol=$1 method=$2 token=$3
  local url=http://127.0.0.1:$gateway_port/grpc.testing.TestService/$method
  local options=(-s -o "$work/authorizer.body" -D "$work/authorizer.head" -w '%{http_code}')
  # A client that says itself who it is, in the header that the policy sets.
  [ -z "$token" ] || options+=(-H "authorization: Bearer $token")
  options+=(-H 'x-grpc-test-echo-initial: eve' -H 'x_grpc_test_echo_initial: eve')
  printf '\0\0\0\0\0' >"$work/authorizer.frame"
  case $protocol in
    rest) options+=(-H 'content-type: application/json' -d '{}') ;;
    connect) options+=(-H 'content-type: application/json' -H 'connect-protocol-version: 1' -d '{}') ;;
    grpc-web) options+=(-H 'content-type: application/grpc-web+proto' --data-binary "@$work/authorizer.frame") ;;
    grpc) options+=(--http2-prior-knowledge -H 'te: trailers' -H 'content-type: application/grpc' --data-binary "@$work/authorizer.frame") ;;
  esac
  # A reply may be whole before the request is: some versions of curl take the NO_ERROR behind it (RFC 9113 §8.1) for a failure.
  status=$(curl "${options[@]}" "$url" || true)
  head=$(tr -d '\r' <"$work/authorizer.head")
  code=$(sed -n 's/^grpc-status: *//p' "$work/authorizer.head" | tr -d '\r')
  # In gRPC-Web the trailers are in the body.
  [ -n "$code" ] || code=$(grep -ao 'grpc-status: *[0-9]*' "$work/authorizer.body" | tr -dc 0-9 || true)
}

# expect PROTOCOL METHOD TOKEN STATUS CODE HEADER
expect() {
  call "$1" "$2" "$3"
  local name="$1 $2 ${3:-nobody}"
  case $1 in
    rest | connect) local wanted="HTTP $4" found="HTTP $status" ;;
    *) local wanted="grpc-status $5" found="grpc-status $code" ;;
  esac
  if [ "$found" = "$wanted" ] && { [ -z "$6" ] || grep -qi "^$6\$" <<<"$head"; }; then
    echo "authorizer $name ... ok"
    passed=$((passed + 1))
  else
    echo "authorizer $name ... FAILED: $found, expected $wanted and ${6:-nothing more}"
    sed 's/^/    /' <<<"$head"
    failed=$((failed + 1))
  fi
}

for protocol in rest connect grpc-web grpc; do
  expect $protocol EmptyCall token-of-ann 200 0 'x-policy: portico'
  # The interop server echoes this header: it has what the policy says and not what the client did.
  expect $protocol UnaryCall token-of-ann 200 0 'x-grpc-test-echo-initial: ann'
  expect $protocol EmptyCall token-of-bob 200 0 'x-policy: portico'
  expect $protocol UnaryCall token-of-bob 403 7 ''
  expect $protocol EmptyCall '' 401 16 'www-authenticate: Bearer realm="policy"'
  expect $protocol EmptyCall forged 401 16 ''
done
kill "${children[0]}"
wait "${children[0]}" 2>/dev/null || true
expect rest EmptyCall token-of-ann 503 14 ''
expect grpc EmptyCall token-of-ann 503 14 ''
gateway_alive
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
