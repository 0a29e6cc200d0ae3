#!/bin/bash
# Fashion-MNIST by EASIER: dense networks of width 8 (ResNet-18: 4) on 12,000 images, then rounds of 3 epochs that take the
# activation of lowest entropy, of highest, or any; as many rounds as take 30 % of the activations.
#
#   bench/peers/easier.sh FASHION_MNIST_FOLDER OUT [NET:SEED...]
#
# SENTEI names the command, bin/sentei otherwise. What OUT has already is not done again. The table is that of
# docs/methods/easier.md.
set -euo pipefail
data=$1
out=$2
shift 2
sentei=${SENTEI:-$(dirname "$0")/../../bin/sentei}
runs=("$@")
[ ${#runs[@]} -gt 0 ] || runs=(vgg-small:1 mobilenetv2-small:1 resnet18-small:1 vgg-small:2 mobilenetv2-small:2)
mkdir -p "$out"
for order in dense lowest highest random; do
    for run in "${runs[@]}"; do
        net=${run%:*}
        seed=${run#*:}
        case $net in
            vgg-small) rounds=3 width=8 ;;
            mobilenetv2-small) rounds=4 width=8 ;;
            resnet18-small) rounds=6 width=4 ;;
            *) echo "no such network here: $net" >&2; exit 2 ;;
        esac
        name=$out/$net-$seed-$order
        [ ! -d "$name" ] || continue
        date -u +"%T $net seed $seed $order"
        if [ "$order" = dense ]; then
            "$sentei" recipes "$net" | sed "s/^seed: .*/seed: $seed/; s/width: 16}/width: $width}/
                s/samples: 60000, valid: 5000/samples: 12000, valid: 2000/; s/^  epochs: .*/  epochs: 12/" > "$name.yaml"
            "$sentei" train --recipe "$name.yaml" --data "$data" --out "$name" --resume 2> "$name.err"
            continue
        fi
        "$sentei" recipes easier | sed "s/^seed: .*/seed: $seed/; s/delta: 0.01 /delta: 1/; s/order: lowest /order: $order/
            s/samples: 60000 /samples: 12000/; s/valid: 5000 /valid: 2000/; s/merge: auto/merge: off/
            s/    mode: fine-tune/    mode: fine-tune\n    layers: $rounds/" > "$name.yaml"
        "$sentei" compress "$out/$net-$seed-dense/model.onnx" --recipe "$name.yaml" --data "$data" --out "$name" --resume \
            2> "$name.err"
    done
done
date -u +%T
python3 "$(dirname "$0")/easier_table.py" "$out"
