#!/usr/bin/env bash
# A whole compression, ours against a PyTorch program: the same model, text, threads and machine, interleaved rounds. Timed
# are the whole processes, both after JVM start and imports, and both again in the same process, as a service compresses one
# model after the other. Needs a built project (mvn package), a JDK 25 and a Python with torch, transformers, safetensors, onnx.
#
#   bench/peers/compress_minilm.sh [rounds]     PYTHON and JAVA choose the interpreters, OUT the folder of the results
#
# Run it on a machine that does nothing else.
set -euo pipefail
cd "$(dirname "$0")/../.."

rounds=${1:-5}
python=${PYTHON:-python3}
java=${JAVA:-java}
threads=$(nproc)
# Of a window: about a sentence, and what the built-in recipes take.
lengths=(32 256)
# Compressions in one process; the last one counts as the one of a service.
times=6
model=target/models/all-minilm-l6-v2/model.onnx
text=src/main/resources/org/sentei/cli/demo/glosses.txt

if [ ! -d target/lib ]; then
    echo "Sentei is not built: run mvn package first" >&2
    exit 1
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export HF_HUB_OFFLINE=1 SENTEI_MODELS=${SENTEI_MODELS:-$PWD/target/models}
# Unpacks the model on first use.
bin/sentei inspect all-minilm-l6-v2 >"$folder/sites"
"$python" bench/peers/compress_minilm.py make $model "$(dirname $model)/tokenizer.json" "$folder/minilm"
jar=$(ls target/sentei-*.jar)

# Seconds of a command, whose output goes to a file. We wait until our files are on the disk: not also for those of others.
seconds() {
    local out=$1 start
    shift
    sync
    start=$EPOCHREALTIME
    "$@" >"$out" 2>"$folder/errors" || { cat "$folder/errors" >&2; exit 1; }
    echo "$start $EPOCHREALTIME" | awk '{ printf "%.4f", $2 - $1 }'
}

for length in "${lengths[@]}"; do
    cat >"$folder/recipe.yaml" <<EOF
steps: [{method: stade, sparsity: 0.5, bias: paper, ignore: [pooler.dense]}]
calibration: {samples: 64, length: $length}
EOF
    for ((round = 1; round <= rounds; round++)); do
        rm -rf "$folder/ours" "$folder/theirs"* "$folder/inside"*
        ours=$(seconds "$folder/log" bin/sentei compress all-minilm-l6-v2 --recipe "$folder/recipe.yaml" \
            --calibration $text --threads "$threads" --out "$folder/ours")
        theirs=$(seconds "$folder/torch" "$python" bench/peers/compress_minilm.py compress \
            "$folder/minilm" $text "$folder/theirs" "$threads" "$length" 1)
        "$java" --enable-native-access=ALL-UNNAMED -cp "$jar:target/lib/*" bench/peers/CompressMiniLm.java \
            $model "$folder/recipe.yaml" $text "$folder/inside" $times >"$folder/java" 2>"$folder/errors" \
            || { cat "$folder/errors" >&2; exit 1; }
        "$python" bench/peers/compress_minilm.py compress \
            "$folder/minilm" $text "$folder/theirs" "$threads" "$length" $times >"$folder/torch" 2>"$folder/errors" \
            || { cat "$folder/errors" >&2; exit 1; }
        echo "{\"sentei\": {\"process\": $ours, $(sed 's/^{//' "$folder/java"), \"torch\": {\"process\": $theirs," \
            "$(sed 's/^{//' "$folder/torch")}" | tee -a "$folder/rounds.$length" >&2
    done
    "$python" bench/peers/compress_minilm.py check $model "$folder/theirs0" "$folder/ours/model.onnx" >"$folder/check.$length"
done
commit=$(git rev-parse --short=10 HEAD)
git diff --quiet HEAD -- src native bench/peers pom.xml || commit+=-changed
"$python" bench/peers/compress_minilm.py report "$folder" \
    "${OUT:-bench/results/$("$python" bench/peers/machine.py)}" "$commit" "${lengths[@]}"
