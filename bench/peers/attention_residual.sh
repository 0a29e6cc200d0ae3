#!/usr/bin/env bash
# Loss and gradient of attention-matrix pruning, ours against PyTorch's eager autograd in fp32: projections on both sides, the
# dense attention known before on PyTorch's, the same threads, interleaved rounds of nine iterations, each after a second of
# iterations that are not counted. Needs a built project (mvn package), a JDK 25 and a Python with torch.
#
#   bench/peers/attention_residual.sh [rounds]     PYTHON and JAVA choose the interpreters
#
# Prints length, heads, head size, mask, our milliseconds, theirs and the ratio. Run it on a machine that does nothing else.
set -euo pipefail
cd "$(dirname "$0")/../.."

rounds=${1:-5}
threads=$(nproc)
shapes=("2048 12 64 causal" "2048 12 64 both" "512 8 64 causal" "512 8 64 both")
jar=$(ls target/sentei-*.jar)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for ((round = 1; round <= rounds; round++)); do
    for shape in "${shapes[@]}"; do
        # A shape is four arguments.
        # shellcheck disable=SC2086
        "${JAVA:-java}" --enable-native-access=ALL-UNNAMED -cp "$jar:target/lib/*" bench/peers/AttentionResidual.java \
            "$threads" 9 $shape 2>>"$folder/errors" >>"$folder/ours" || { cat "$folder/errors" >&2; exit 1; }
        # shellcheck disable=SC2086
        "${PYTHON:-python3}" bench/peers/attention_residual.py "$threads" 9 $shape >>"$folder/theirs"
    done
done
# The median of a shape's rounds in a file.
median() {
    grep "^$2 " "$1" | sort -g -k 5 | awk '{ values[NR] = $5 } END { print values[int((NR + 1) / 2)] }'
}
for shape in "${shapes[@]}"; do
    ours=$(median "$folder/ours" "$shape")
    theirs=$(median "$folder/theirs" "$shape")
    echo "$shape $ours $theirs" | awk '{ printf "%s %s %s %s %.2f %.2f %.2f\n", $1, $2, $3, $4, $5, $6, $6 / $5 }'
done
