#!/usr/bin/env bash
# Builds target/dist/portico as it is shipped: with the profile `dist`, and guided by a profile of its own work.
#
# A build that counts how often each way through the code is taken, half a minute of the loads of bench/, and the build
# that knows the counts. Both builds optimise the program as a whole: a quarter of an hour on two cores.

set -euo pipefail
cd "$(dirname "$0")/.."

target=$(rustc -vV | sed -n 's/^host: //p')
# Of the compiler's own LLVM, in whose format the counts are: from `rustup component add llvm-tools`, or a package.
profdata=$(rustc --print sysroot)/lib/rustlib/$target/bin/llvm-profdata
if ! [ -x "$profdata" ]; then
  profdata=llvm-profdata-$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
  tools/install.sh "$profdata"
fi
bench/setup.sh none

work=$PWD/target/guided
rm -rf "$work/counts"
# build FLAG…: with --target, which keeps the flags from what only runs while building.
build() {
  CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; echo "$*") \
    cargo build --locked --profile dist --bin portico --target "$target" --target-dir "$work"
}

build "-Cprofile-generate=$work/counts"
bench/compare.py --gateways portico --portico "portico=$work/$target/dist/portico" --rounds 1 --seconds 1 --rates '' \
  --loads core,guarded,tls,web,1mib,start-4-methods --out "$work/loads"
"$profdata" merge -o "$work/portico.profdata" "$work/counts"
# What is often used stands together in memory, apart from what is not.
build "-Cprofile-use=$work/portico.profdata" -Clink-arg=-Wl,-z,keep-text-section-prefix
mkdir -p target/dist
cp -f "$work/$target/dist/portico" target/dist/portico
