#!/usr/bin/env bash
# Counts the instructions that each message of benches/transcode takes, and compares them with benches/transcode/instructions.txt.
#
#   bench/instructions.sh            fails where a count is more than 5 % above the one that is kept
#   bench/instructions.sh --renew    keeps what was counted now
#
# Unlike times, counts are the same on a busy machine. They do depend on the compiler, so the file says which one it was
# and nothing is compared under another; and a little on the CPU: valgrind shows the program that of the machine without
# AVX-512, and simdutf8, memchr and base64-simd take AVX2 where it is. A machine without AVX2 counts more for long texts.

set -euo pipefail
cd "$(dirname "$0")/.."

KEPT=benches/transcode/instructions.txt
TOLERANCE=5

compiler=$(rustc --version --verbose | sed -n 's/^release: /rustc /p; s/^host: /for /p' | tac | xargs)
if [ "${1:-}" != --renew ] && ! grep -qxF "# $compiler" "$KEPT"; then
  echo "$KEPT was counted with another compiler than $compiler: nothing is compared, --renew counts again"
  exit 0
fi

binary=$(cargo bench --locked --bench transcode --no-run --message-format json \
  | sed -n 's/.*"name":"transcode".*"executable":"\([^"]*\)".*/\1/p' | tail -1)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# The benchmark calls each direction once per line that it prints; valgrind writes one file per call, with what was
# executed since the call before. The last of several calls counts: the first ones compile plans and grow buffers.
valgrind --quiet --tool=callgrind --callgrind-out-file="$folder/call" \
  --zero-before='transcode::Subject::read' --zero-before='transcode::Subject::write' \
  --dump-after='transcode::Subject::read' --dump-after='transcode::Subject::write' \
  "$binary" --once >"$folder/names" 2>"$folder/errors" || { cat "$folder/errors" >&2; exit 1; }

{
  echo "# $compiler"
  number=0
  while IFS= read -r name; do
    number=$((number + 1))
    if [ -z "$name" ]; then continue; fi
    printf '%10s  %s\n' "$(sed -n 's/^totals: //p' "$folder/call.$number")" "$name"
  done <"$folder/names"
} >"$folder/counted"

if [ "${1:-}" = --renew ]; then
  cp "$folder/counted" "$KEPT"
  exit
fi
awk -v tolerance="$TOLERANCE" '
  /^#/ { next }
  { count = $1; $1 = ""; }
  NR == FNR { kept[$0] = count; next }
  !($0 in kept) { printf "%s: not kept yet\n", $0; failed = 1; next }
  {
    change = 100 * (count / kept[$0] - 1)
    remark = ""
    if (change > tolerance) remark = "  too many"
    if (change < -tolerance) remark = "  fewer: --renew"
    printf "%-26s %10d %+7.1f %%%s\n", $0, count, change, remark
    if (change > tolerance) failed = 1
  }
  END { exit failed }
' "$KEPT" "$folder/counted"
