#!/usr/bin/env bash
# Installs each named program that is absent, as root or through sudo, and says what it cannot install.
#
#   tools/install.sh PROGRAM…     cc cargo cargo-deny cargo-fuzz chromium curl go h2load haproxy llvm-profdata-MAJOR nginx npm
#                                 openssl prometheus protoc python3 python3-venv redis-server valgrind

set -euo pipefail

CARGO_DENY=0.20.2
CARGO_FUZZ=0.13.2

fail() {
  echo "$*" >&2
  exit 1
}

apt_install() {
  command -v apt-get >/dev/null || fail "please install: $*"
  local as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

packages=()
# need PROGRAM PACKAGE…
need() {
  if ! command -v "$1" >/dev/null; then packages+=("${@:2}"); fi
}

for program in "$@"; do
  case $program in
    cc) need cc gcc libc6-dev ;;
    chromium) command -v chromium-headless-shell >/dev/null || need chromium chromium ;;
    curl) need curl curl ;;
    prometheus) need prometheus prometheus ;;
    h2load) need h2load nghttp2-client ;;
    haproxy) need haproxy haproxy ;;
    nginx) need nginx nginx-light ;;
    llvm-profdata-*) need "$program" "llvm-${program##*-}" ;;
    npm) need npm npm ;;
    openssl) need openssl openssl ;;
    protoc) need protoc protobuf-compiler ;;
    python3) need python3 python3 ;;
    redis-server) need redis-server redis-server ;;
    valgrind) need valgrind valgrind ;;
    python3-venv) python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv) ;;
    # The distribution's own are too old for these two, and which one to take is the reader's choice.
    cargo) command -v cargo >/dev/null || fail "please install Rust, see rust-version in Cargo.toml" ;;
    go) command -v go >/dev/null || fail "please install Go, see conformance/go.mod for the version" ;;
    cargo-deny) ;;
    # libFuzzer is C++.
    cargo-fuzz) need c++ g++ ;;
    *) fail "tools/install.sh does not know $program" ;;
  esac
done
[ ${#packages[@]} -eq 0 ] || apt_install "${packages[@]}"

# Built without optimization: it runs for seconds, and building it well takes longer than that.
if [[ " $* " == *" cargo-deny "* ]] && ! cargo deny --version >/dev/null 2>&1; then
  cargo install --locked "cargo-deny@$CARGO_DENY" --no-default-features --profile dev --config profile.dev.debug=false
fi

if [[ " $* " == *" cargo-fuzz "* ]] && ! cargo fuzz --version >/dev/null 2>&1; then
  cargo install --locked "cargo-fuzz@$CARGO_FUZZ" --profile dev --config profile.dev.debug=false
fi
