# Each target installs the programs that it misses (tools/install.sh) and runs from a clean checkout.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 14

test: ## unit tests, tests against a real gateway, documentation examples
	@tools/install.sh cc cargo redis-server
	cargo test --locked

check: fmt lint doc test deny ## everything that a change must pass: fmt, lint, doc, test, deny

fmt: ## formatting
	@tools/install.sh cargo
	cargo fmt --check

lint: ## clippy, where a warning is an error
	@tools/install.sh cc cargo
	cargo clippy --locked --all-targets -- -D warnings
# `--all-targets` leaves out what `cargo test` does not run.
	cargo clippy --locked --test soak -- -D warnings

doc: ## the library's documentation, where a warning is an error
	@tools/install.sh cc cargo
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

deny: ## licences, duplicates and origins of the dependencies
	@tools/install.sh cc cargo cargo-deny
	cargo deny --locked check -D unmatched-skip -D unnecessary-skip bans licenses sources

conformance: ## protobuf's suite for JSON; Go's protojson; gRPC interop, Connect's suite, Open Policy Agent, a browser, an OpenID provider and h2spec through the gateway; editions; Envoy's rate-limit service
	@tools/install.sh cc cargo chromium curl go npm prometheus python3 python3-venv redis-server
	cargo build --locked
	conformance/protobuf.sh
	conformance/protojson.sh
	conformance/interop.sh
	conformance/connect.sh
	conformance/authorizer.sh
	conformance/browser.sh
	conformance/oidc.sh
	conformance/h2spec.sh
	conformance/editions.sh
	conformance/prometheus.sh
	conformance/ratelimit.sh

third-party: ## real calls to OpenFGA through the gateway, by reflection alone; minutes to build the first time
	@tools/install.sh cc cargo go python3
	cargo build --locked
	conformance/third_party.sh

soak: ## load of 2,000 calls a second while backends die and restart, the gateway is reloaded and replaced, and certificates and names change, or nothing happens and memory is watched; SOAK_SECONDS (6) for each part of a scene, SOAK_SCENES=steady,killed for some alone
	@tools/install.sh cc cargo
	cargo test --locked --release --test soak

fuzz: ## every fuzz target for FUZZ_SECONDS (60); SAVE=1 keeps what was found; minutes to build the first time
	@tools/install.sh cc cargo cargo-fuzz
	fuzz/run.sh

bench: ## Portico beside six other gateways, which it installs; BENCH="--gateways envoy,portico --loads core" passes options to bench/compare.py
	bench/setup.sh
	tools/dist.sh
	bench/compare.py $(BENCH)

dist: ## target/dist/portico as it is shipped: optimised for the loads of bench/; a quarter of an hour
	tools/dist.sh

instructions: ## instructions per transcoded message and per request beside those that are kept (benches/*/instructions.txt)
	@tools/install.sh cc cargo valgrind
	bench/instructions.sh

.PHONY: help dist instructions test check fmt lint doc deny conformance third-party fuzz soak bench
