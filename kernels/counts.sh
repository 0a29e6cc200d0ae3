#!/usr/bin/env bash
# Counts what can be known of the kernels without a GPU and prints it as Markdown, as bench/results/h200/kernels.md holds it:
#   mvn test-compile && JAVA_HOME=/a/jdk-25 CUOBJDUMP=/a/cuobjdump kernels/counts.sh > bench/results/h200/kernels.md
# cuobjdump and nvdisasm, which it calls, come with the CUDA toolkit and in the wheel of Triton, under backends/nvidia/bin.
set -euo pipefail
cd "$(dirname "$0")/.."
cuobjdump=${CUOBJDUMP:-cuobjdump}
command -v "$cuobjdump" >/dev/null || { echo "there is no $cuobjdump: set CUOBJDUMP" >&2; exit 1; }
PATH=$(dirname "$(command -v "$cuobjdump")"):$PATH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for image in kernels/target/fatbin/*.fatbin; do
    "$cuobjdump" -sass -arch sm_90a "$image" >"$work/$(basename "$image" .fatbin).sass"
done
mvn -B -q -o dependency:build-classpath -Dmdep.outputFile="$work/classpath" -Dmdep.includeScope=test >/dev/null 2>&1
"${JAVA_HOME:?must be a JDK 25}/bin/java" -cp "target/test-classes:target/classes:$(cat "$work/classpath")" \
    org.sentei.backend.cuda.KernelCounts kernels/target/fatbin "$work"
