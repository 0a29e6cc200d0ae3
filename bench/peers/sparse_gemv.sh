#!/usr/bin/env bash
# Pruned weights as kept values and a bit mask times one vector: ours against OpenBLAS's sgemv and our own dense products,
# 50 and 70 % sparsity, on a matrix larger than the last-level cache; interleaved rounds in one process.
# Needs a built project (mvn package) and a JDK 25; x86-64 Linux.
#
#   bench/peers/sparse_gemv.sh [rounds] [threads]     JAVA chooses the interpreter
#
# Writes bench/results/<machine>/sparse_gemv.{json,md}; run it on a machine that does nothing else.
set -euo pipefail
cd "$(dirname "$0")/../.."

rounds=${1:-200}
threads=${2:-$(nproc)}
rows=11008 cols=4096
java=${JAVA:-java}

if [ ! -d target/classes/org/sentei ] || [ ! -d target/lib ]; then
    echo "Sentei is not built: run mvn package first" >&2
    exit 1
fi
model=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)
machine=$(echo "${model:-$(uname -m)}" | tr 'A-Z' 'a-z' | sed 's/[^a-z0-9]\+/-/g; s/^-//; s/-$//')-$(nproc)core
commit=$(git rev-parse --short=10 HEAD)
git diff --quiet HEAD -- src native bench/peers pom.xml || commit+=-changed
"$java" --enable-native-access=ALL-UNNAMED -Xmx2g -cp "target/classes:target/lib/*" bench/peers/SparseGemv.java \
    $rows $cols "$threads" "$rounds" "bench/results/$machine" "$commit"
