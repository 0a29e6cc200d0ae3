#!/usr/bin/env bash
# Builds the native library and places it where the jar will carry it: <resource dir>/<os>-<arch>/libsentei.so.
# Without a C compiler it says so and succeeds: the jar then has the reference backend only.
set -euo pipefail

if [ $# -ne 1 ]; then
    echo "usage: $0 <resource directory>" >&2
    exit 2
fi
compiler=${CC:-gcc}
for tool in "$compiler" make; do
    if ! command -v "$tool" >/dev/null; then
        echo "Native library not built: $tool was not found; the cpu backend will be unavailable (install gcc and make, then build again)."
        exit 0
    fi
done

here=$(cd "$(dirname "$0")" && pwd)
target=$1/linux-$(uname -m)
make --silent -C "$here" -j "$(nproc)" CC="$compiler"
mkdir -p "$target"
if ! cmp --silent "$here/target/libsentei.so" "$target/libsentei.so"; then
    cp "$here/target/libsentei.so" "$target/libsentei.so.new"
    mv "$target/libsentei.so.new" "$target/libsentei.so"
fi
