#!/usr/bin/env bash
# Fuzzes: `fuzz/run.sh [TARGET…]`, every target unless some are named, each for FUZZ_SECONDS (60). SAVE=1 keeps the inputs
# that were found: the fewest that reach the same code, as lines of base64 in fuzz/corpus/TARGET.
#
# No sanitizer: there is no unsafe code to watch, and so the stable toolchain will do.

set -euo pipefail
cd "$(dirname "$0")"

work=$PWD/target/corpus
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(sed -n '/^\[\[bin/,/^name/s/^name = "\(.*\)"/\1/p' Cargo.toml)
cargo fuzz build --sanitizer none

# unpack TARGET: its saved inputs as files.
unpack() {
  mkdir -p "$work/$1" "$PWD/artifacts/$1"
  local line
  [ ! -e "corpus/$1" ] || while read -r line; do
    base64 -d <<<"$line" >"$work/$1/$(sha1sum <<<"$line" | cut -c1-40)"
  done <"corpus/$1"
}

# pack TARGET: the fewest inputs that reach the same, the short ones first.
pack() {
  rm -rf "$work/$1.fewest"
  mkdir "$work/$1.fewest"
  fuzz "$1" "$work/$1.fewest" "$work/$1" -set_cover_merge=1 -max_len=256
  for input in "$work/$1.fewest"/*; do base64 -w0 "$input"; echo; done |
    awk '{ print length, $0 }' | sort -k1n -k2 | cut -d' ' -f2 >"corpus/$1"
}

# fuzz TARGET OPTION…
fuzz() {
  # Of an option that is given twice, the last one counts.
  "target/$(rustc -vV | sed -n 's/^host: //p')/release/$1" -max_len=4096 -timeout=10 -rss_limit_mb=2048 \
    -artifact_prefix="$PWD/artifacts/$1/" -print_final_stats=1 "${@:2}" 2>"$work/$1.log" || {
    tail -40 "$work/$1.log" >&2
    exit 1
  }
}

for target in "${targets[@]}"; do
  unpack "$target"
  fuzz "$target" "$work/$target" "-max_total_time=${FUZZ_SECONDS:-60}"
  echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$target.log") inputs, $(
    grep -o 'cov: [0-9]*' "$work/$target.log" | tail -1
  )"
  [ "${SAVE:-0}" != 1 ] || pack "$target"
done
