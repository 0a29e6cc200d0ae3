#!/usr/bin/env bash
# Compiles the kernels for CUDA and places them where the jar will carry them: <resource dir>/<op>.fatbin and
# kernels.properties. Without nvcc it says so and succeeds: the jar then has no kernels for NVIDIA GPUs.
set -euo pipefail

if [ $# -ne 2 ]; then
    echo "usage: $0 <resource directory> <targets, for example 'sm_80 sm_90a compute_80'>" >&2
    exit 2
fi
compiler=${NVCC:-nvcc}
for tool in "$compiler" make; do
    if ! command -v "$tool" >/dev/null; then
        echo "CUDA kernels not built: $tool was not found; the cuda backend will be unavailable (install the CUDA toolkit, then build again)."
        exit 0
    fi
done

here=$(cd "$(dirname "$0")" && pwd)
make --silent -C "$here" -j "$(nproc)" NVCC="$compiler" TARGETS="$2" fatbins
built=$here/target/fatbin
if ! cmp --silent "$built/kernels.properties" "$1/kernels.properties"; then
    rm -rf "$1"
    mkdir -p "$1"
    sed -n 's/^\([a-z0-9_]*\)=[0-9a-f]\{64\}$/\1/p' "$built/kernels.properties" | while read -r stem; do
        cp "$built/$stem.fatbin" "$1/"
    done
    cp "$built/kernels.properties" "$1/"
fi
