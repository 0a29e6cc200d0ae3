#!/usr/bin/env bash
# What training to a budget and running its result rest on, one thread each: the soft histogram of 262,144 values and 100 bins
# beside PyTorch's eager broadcast over all bins, and a skeleton network with 95 % of its weights gone, dense and sparse.
# Needs a built project (mvn package), a JDK 25 and a Python with torch.
#
#   bench/peers/pmp.sh [rounds]     PYTHON and JAVA choose the interpreters
#
# Prints each round; run it on a machine that does nothing else.
set -euo pipefail
cd "$(dirname "$0")/../.."

values=262144 bins=100
ours() { "${JAVA:-java}" --enable-native-access=ALL-UNNAMED -cp "target/classes:target/lib/*" bench/peers/Pmp.java "$@"; }
for ((round = 1; round <= ${1:-3}; round++)); do
    read -r forward both < <(ours histogram $values $bins)
    read -r forward_torch both_torch < <("${PYTHON:-python3}" bench/peers/soft_histogram.py $values $bins)
    echo "$forward $both $forward_torch $both_torch" | awk \
        '{ printf "histogram: ours %s ms, PyTorch %s ms, %.1fx; with gradient: %s, %s, %.1fx\n", $1, $3, $3 / $1, $2, $4, $4 / $2 }'
    for batch in 1 16 256; do
        ours skeletons 0.95 $batch | awk -v batch=$batch \
            '{ printf "skeletons, batch %d: dense %s ms, sparse %s ms, %.1fx\n", batch, $1, $2, $1 / $2 }'
    done
done
