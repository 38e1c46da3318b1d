#!/usr/bin/env bash
# `.proto` files in editions, compiled by a real protoc and by a real buf. The first run builds buf, which takes minutes.

source "$(dirname "$0")/lib.sh"

BUF=v1.75.0
# Brings protoc 35.
GRPCIO_TOOLS=1.85.1

command -v go >/dev/null || fail "the editions suite needs Go"
[ -x "$bin/buf-$BUF" ] || {
  echo "building buf $BUF"
  GOBIN=$work go install "github.com/bufbuild/buf/cmd/buf@$BUF"
  mv "$work/buf" "$bin/buf-$BUF"
}
venv=$work/venv-$GRPCIO_TOOLS
[ -x "$venv/done" ] || {
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check "grpcio-tools==$GRPCIO_TOOLS"
  install /dev/null "$venv/done"
}

# Each compiler alone in a folder that is the whole PATH.
rm -rf "$work/with-protoc" "$work/with-buf"
mkdir "$work/with-protoc" "$work/with-buf"
printf '#!/bin/sh\nexec "%s" -m grpc_tools.protoc "$@"\n' "$venv/bin/python3" >"$work/with-protoc/protoc"
chmod +x "$work/with-protoc/protoc"
ln -s "$bin/buf-$BUF" "$work/with-buf/buf"

portico=$(realpath "${PORTICO:-$root/target/debug/portico}")
[ -x "$portico" ] || (cd "$root" && cargo build --locked)

# routes COMPILER FILE: what `portico routes` says with this compiler.
routes() {
  (cd "$here/editions" && PATH=$work/with-$1 "$portico" routes --upstream 127.0.0.1:1 --include . --proto "shop/$2" 2>&1) || true
}

failed=0
# expect COMPILER FILE TEXT
expect() {
  local said
  said=$(routes "$1" "$2")
  if [[ $said == *"$3"* ]]; then
    echo "editions $1 $2 ... ok"
  else
    echo "editions $1 $2 ... FAILED, no \`$3\` in:"
    sed 's/^/    /' <<<"$said"
    failed=$((failed + 1))
  fi
}

for compiler in protoc buf; do
  for edition in 2023 2024; do
    expect "$compiler" "shop-$edition.proto" "/v1/{name=items/*}        shop.Shop/Get"
  done
  expect "$compiler" broken.proto "$compiler says: shop/broken.proto:4:3:"
done
expect nothing shop-2023.proto "shop/shop-2023.proto:1: edition 2023 needs protoc or buf, and neither is on the PATH"
[ "$failed" -eq 0 ]
