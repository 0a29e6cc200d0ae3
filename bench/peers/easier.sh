#!/bin/bash
# Fashion-MNIST by EASIER: dense networks on 12,000 images, then rounds of 3 epochs that take the activation of lowest entropy,
# of highest, or any; as many rounds as take 30 % of the activations.
#
#   bench/peers/easier.sh FASHION_MNIST_FOLDER OUT [NET:SEED...]
#
# SENTEI names the command, bin/sentei otherwise; ORDERS are all four otherwise, dense first. ROUNDS are another number of rounds,
# LINE what takes an activation's place instead of the identity. What OUT has already is not done again. The tables are those of
# docs/methods/easier.md.
set -euo pipefail
data=$1
out=$2
shift 2
sentei=${SENTEI:-$(dirname "$0")/../../bin/sentei}
runs=("$@")
[ ${#runs[@]} -gt 0 ] || runs=(vgg-small:1 vgg-small:2 mobilenetv2-small:1 mobilenetv2-small:2 resnet18-small:1)
mkdir -p "$out"

dense() { # NAME NET SEED WIDTH DECAY
    "$sentei" recipes "$2" | sed "s/^seed: .*/seed: $3/; s/width: 16}/width: $4}/; s/^  decay: .*/  decay: $5/
        s/samples: 60000, valid: 5000/samples: 12000, valid: 2000/; s/^  epochs: .*/  epochs: 12/" > "$out/$1.yaml"
    "$sentei" train --recipe "$out/$1.yaml" --data "$data" --out "$out/$1" --resume 2> "$out/$1.err"
}

rounds() { # NAME DENSE SEED DECAY ORDER ROUNDS LINE
    "$sentei" recipes easier | sed "s/^seed: .*/seed: $3/; s/^    decay: .*/    decay: $4/; s/order: lowest /order: $5 /
        s/linearise: identity/linearise: $7/
        s/    mode: fine-tune/    mode: fine-tune\n    layers: $6/; s/delta: 0.01 /delta: 1 /; s/merge: auto/merge: off/
        s/samples: 60000 /samples: 12000 /; s/valid: 5000 /valid: 2000 /" > "$out/$1.yaml"
    "$sentei" compress "$out/$2/model.onnx" --recipe "$out/$1.yaml" --data "$data" --out "$out/$1" --resume 2> "$out/$1.err"
}

for run in "${runs[@]}"; do
    net=${run%:*}
    seed=${run#*:}
    case $net in
        vgg-small) width=16 decay=2e-3 number=3 ;;
        mobilenetv2-small) width=8 decay=1e-3 number=4 ;;
        resnet18-small) width=4 decay=2e-3 number=6 ;;
        *) echo "no such network here: $net" >&2; exit 2 ;;
    esac
    name=$net-$seed
    for order in ${ORDERS:-dense lowest highest random}; do
        made=$name-$order
        [ "$order" = dense ] || made=$made${ROUNDS:+-$ROUNDS}${LINE:+-$LINE}
        [ ! -d "$out/$made" ] || continue
        date -u +"%T $made"
        if [ "$order" = dense ]; then
            dense "$made" "$net" "$seed" "$width" "$decay"
        else
            rounds "$made" "$name-dense" "$seed" "$decay" "$order" "${ROUNDS:-$number}" "${LINE:-identity}"
        fi
    done
done
date -u +%T
python3 "$(dirname "$0")/easier_table.py" "$out"
