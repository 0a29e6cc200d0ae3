#!/usr/bin/env bash
# Everything of ours beside its peers, on one machine, in interleaved rounds: the kernels (ops.py), row selection
# (score_select.sh) and a whole compression (compress_minilm.sh). Needs a built project (mvn package), a JDK 25 and a Python
# with torch, transformers, onnx, onnxruntime, safetensors and numpy.
#
#   bench/peers/run.sh [FOLDER]     where JSON and tables go; default bench/results/<machine>
#
#   PYTHON, JAVA     the interpreters
#   ROUNDS           of each; default 3
#   ONLY             kernels, score_select or compress
#
# About ten minutes; run it on a machine that does nothing else.
set -euo pipefail
cd "$(dirname "$0")/../.."

python=${PYTHON:-python3}
rounds=${ROUNDS:-3}
only=${ONLY:-}
out=${1:-bench/results/$("$python" bench/peers/machine.py)}
threads=$(nproc)

if [ ! -d target/bench/classes ] || [ ! -d target/bench/lib ]; then
    echo "Sentei is not built: run mvn package first" >&2
    exit 1
fi

# Whether the part with this name is wanted.
wanted() { [ -z "$only" ] || [ "$only" = "$1" ]; }

if wanted kernels; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    bin/sentei bench --list >"$folder/cases"
    for ((round = 1; round <= rounds; round++)); do
        bin/sentei bench --backend cpu --threads "$threads" --forks 1 --warmup 2 --iterations 5 --time 0.1 --json \
            >"$folder/sentei.$round.json"
        "$python" bench/peers/ops.py time "$threads" "$folder/peers.$round.json" cpu "$folder/cases"
    done
    # Earlier results are rewritten by this very run; only a change of the code makes the commit a wrong name for it.
    commit=$(git rev-parse --short=10 HEAD)
    git diff --quiet HEAD -- src native bench/jmh bench/peers pom.xml || commit+=-changed
    "$python" bench/peers/ops.py report "$folder" "$out" "$commit"
fi
if wanted score_select; then
    OUT=$out bench/peers/score_select.sh "$rounds"
fi
if wanted compress; then
    OUT=$out bench/peers/compress_minilm.sh "$rounds"
fi
