#!/usr/bin/env bash
# Counts instructions, and compares them with those that are kept: of each message of benches/transcode in
# benches/transcode/instructions.txt, of a request on each path of benches/requests in benches/requests/instructions.txt.
#
#   bench/instructions.sh            fails where a count is more than 5 % above the one that is kept
#   bench/instructions.sh --renew    keeps what was counted now
#
# Unlike times, counts are the same on a busy machine; those of requests differ by 1 % from run to run, as it depends on the
# moment how much a turn of the worker finds to do. They do depend on the compiler, so the files say which one it was and
# nothing is compared under another; and a little on the CPU: valgrind shows the program that of the machine without
# AVX-512, and simdutf8, memchr and base64-simd take AVX2 where it is. A machine without AVX2 counts more for long texts.

set -euo pipefail
cd "$(dirname "$0")/.."

TOLERANCE=5
# What is counted depends on how it is built, so all build alike.
export CARGO_INCREMENTAL=0
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# program NAME: builds a benchmark and says where it is.
program() {
  cargo bench --locked --bench "$1" --no-run --message-format json |
    sed -n 's/.*"name":"'"$1"'".*"executable":"\([^"]*\)".*/\1/p' | tail -1
}

# callgrind OPTION… PROGRAM ARGUMENT…
callgrind() {
  valgrind --quiet --tool=callgrind "$@" 2>"$folder/errors" || { cat "$folder/errors" >&2; exit 1; }
}

# The benchmark calls each direction once per line that it prints; valgrind writes one file per call, with what was
# executed since the call before. The last of several calls counts: the first ones compile plans and grow buffers.
count_transcode() {
  callgrind --callgrind-out-file="$folder/call" \
    --zero-before='transcode::Subject::read' --zero-before='transcode::Subject::write' \
    --dump-after='transcode::Subject::read' --dump-after='transcode::Subject::write' \
    "$1" --once >"$folder/names"
  local number=0 name
  while IFS= read -r name; do
    number=$((number + 1))
    [ -z "$name" ] || printf '%10s  %s\n' "$(sed -n 's/^totals: //p' "$folder/call.$number")" "$name"
  done <"$folder/names"
}

# What the worker's thread executes for a thousand requests more than for those that warm it up, for each of them.
count_requests() {
  local paths path few many
  paths=$("$1" --paths)
  for path in $paths; do
    few=$(worker "$1" "$path" 300)
    many=$(worker "$1" "$path" 1300)
    printf '%10s  %s\n' $(((many - few) / 1000)) "$path"
  done
}

# worker PROGRAM PATH REQUESTS: of all threads, each of which has a file, it is the one that is in the pipeline.
worker() {
  rm -f "$folder"/thread*
  callgrind --separate-threads=yes --callgrind-out-file="$folder/thread" "$1" --count "$3" "$2" >/dev/null
  sed -n 's/^totals: //p' "$(grep -l 'portico::proxy::Proxy::handle' "$folder"/thread-*)"
}

compiler=$(rustc --version --verbose | sed -n 's/^release: /rustc /p; s/^host: /for /p' | tac | xargs)
failed=0
for name in transcode requests; do
  kept=benches/$name/instructions.txt
  # A file that is not there fails where it is read.
  if [ "${1:-}" != --renew ] && [ -e "$kept" ] && ! grep -qxF "# $compiler" "$kept"; then
    echo "$kept was counted with another compiler than $compiler: nothing is compared, --renew counts again"
    continue
  fi
  binary=$(program "$name")
  { echo "# $compiler"; "count_$name" "$binary"; } >"$folder/counted"
  if [ "${1:-}" = --renew ]; then
    cp "$folder/counted" "$kept"
    continue
  fi
  awk -v tolerance="$TOLERANCE" '
    /^#/ { next }
    { count = $1; $1 = ""; }
    NR == FNR { kept[$0] = count; left++; next }
    !($0 in kept) { printf "%s: not kept yet\n", $0; failed = 1; next }
    {
      left--
      change = 100 * (count / kept[$0] - 1)
      remark = ""
      if (change > tolerance) remark = "  too many"
      if (change < -tolerance) remark = "  fewer: --renew"
      printf "%-26s %10d %+7.1f %%%s\n", $0, count, change, remark
      if (change > tolerance) failed = 1
    }
    END {
      if (left) { printf "%d of those that are kept were not counted\n", left; failed = 1 }
      exit failed
    }
  ' "$kept" "$folder/counted" || failed=1
done
exit "$failed"
