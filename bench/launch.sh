#!/usr/bin/env bash
# What one kernel launch costs the calling thread: by FFM as the backend calls the driver, by FFM without the thread's
# transition, by JCuda, and all that the backend does for one. JMH's LaunchBenchmark; half a minute.
#
#   bench/launch.sh OUT              on the driver of this machine's GPU, whose own work is part of every figure
#   bench/launch.sh OUT --emulated   on the emulated driver, whose launches do nothing but return: the cost of the binding
#                                    (wants a built project with CUDA kernels, g++ and make)
#
# Writes OUT/launch.{json,md}. JAVA chooses the JDK 25, TIME how long an iteration takes, as JMH reads it (1, 400ms); a pack has
# its own Java.
set -euo pipefail
if [ $# -lt 1 ] || [ $# -gt 2 ] || [ "${2:---emulated}" != --emulated ]; then
    echo "usage: $0 OUT [--emulated]" >&2
    exit 2
fi
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."

if [ -x runtime/bin/java ]; then
    java=runtime/bin/java classes=$(echo sentei-*.jar) built=.
else
    java=${JAVA:-java} classes=target/classes built=target
fi
if [ ! -e "$classes" ] || [ ! -d "$built/bench/classes" ]; then
    echo "Sentei is not built: run mvn package first" >&2
    exit 1
fi
driver="the driver of this machine's GPU"
if [ $# -eq 2 ]; then
    make --silent -C kernels emulator >&2
    export SENTEI_CUDA_DRIVER=$PWD/kernels/target/emulator/libcuda.so.1 SENTEI_CUBLASLT=none SENTEI_EMULATED_STUB=1
    driver="the emulated driver, whose launches do nothing but return"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
read -r load _ </proc/loadavg
"$java" --enable-native-access=ALL-UNNAMED --sun-misc-unsafe-memory-access=allow \
    -cp "$classes:$built/lib/*:$built/bench/classes:$built/bench/lib/*" org.openjdk.jmh.Main \
    'cuda.LaunchBenchmark' -f 1 -wi 3 -i 5 -w "${TIME:-1}" -r "${TIME:-1}" -foe true -rf csv -rff "$work/csv" >&2

commit=unknown
if git rev-parse --short=10 HEAD >"$work/commit" 2>/dev/null; then
    commit=$(cat "$work/commit")
    git diff --quiet HEAD -- src kernels bench/jmh pom.xml || commit+=-changed
fi
model=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)
# A row of JMH's: "Benchmark","Mode","Threads","Samples","Score","Score Error (99.9%)","Unit"
awk -F, -v out="$out" -v driver="$driver" -v where="${model:-$(uname -m)}, $(nproc) processors, load average $load; $(date -u +%F), commit $commit" '
    BEGIN {
        how["ffm"] = "launch by FFM"; how["ffmCritical"] = "launch by FFM, critical"
        how["ffmRefused"] = "launch by FFM, refused by the driver"
        how["jcuda"] = "launch by JCuda"; how["device"] = "launch, all that the backend does"
    }
    NR > 1 {
        gsub(/"/, "")
        name = $1
        sub(/.*\./, "", name)
        rows = rows sprintf("%s\n  {\"name\": \"%s\", \"unit\": \"ns\", \"value\": %.1f, \"error\": %.1f, \"how\": \"%s samples, %s\"}", rows == "" ? "" : ",", how[name], $5, $6, $4, driver)
        table = table sprintf("| %s | %.1f | %.1f |\n", how[name], $5, $6)
    }
    END {
        if (rows == "") exit 1
        printf "{\"machine\": \"%s\", \"ceilings\": [%s]}\n", where, rows > (out "/launch.json")
        printf "# What a kernel launch costs the calling thread\n\n| | ns | +- |\n|---|---:|---:|\n%s\n", table > (out "/launch.md")
        printf "On %s. Mean of JMH and half of its 99.9 %% confidence interval.\n%s; `bench/launch.sh`.\n", driver, where > (out "/launch.md")
    }' "$work/csv"
cat "$out/launch.md"
