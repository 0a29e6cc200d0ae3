#!/bin/bash
# Fashion-MNIST by EASIER: dense networks of width 8 (ResNet-18: 4) on 12,000 images, then rounds of 3 epochs (VGG) or 2 that
# take the activation of lowest entropy, of highest, or any; as many rounds as take 30 % of the activations.
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
for run in "${runs[@]}"; do
    net=${run%:*}
    seed=${run#*:}
    case $net in
        vgg-small) rounds=3 epochs=3 width=8 ;;
        mobilenetv2-small) rounds=4 epochs=2 width=8 ;;
        resnet18-small) rounds=6 epochs=2 width=4 ;;
        *) echo "no such network here: $net" >&2; exit 2 ;;
    esac
    dense=$out/$net-$seed
    if [ ! -d "$dense" ]; then
        "$sentei" recipes "$net" | sed "s/^seed: .*/seed: $seed/; s/width: 16}/width: $width}/
            s/samples: 60000, valid: 5000/samples: 12000, valid: 2000/; s/^  epochs: .*/  epochs: 12/" > "$dense.yaml"
        date -u +"%T $net seed $seed"
        "$sentei" train --recipe "$dense.yaml" --data "$data" --out "$dense" --resume 2> "$dense.err"
    fi
    for order in lowest highest random; do
        shallow=$dense-$order
        [ ! -d "$shallow" ] || continue
        "$sentei" recipes easier | sed "s/^seed: .*/seed: $seed/; s/delta: 0.01 /delta: 1/; s/order: lowest /order: $order/
            s/samples: 60000 /samples: 12000/; s/valid: 5000 /valid: 2000/; s/epochs: 3/epochs: $epochs/
            s/    mode: fine-tune/    mode: fine-tune\n    layers: $rounds/" > "$shallow.yaml"
        date -u +"%T $net seed $seed $order"
        "$sentei" compress "$dense/model.onnx" --recipe "$shallow.yaml" --data "$data" --out "$shallow" --resume \
            2> "$shallow.err"
    done
done
date -u +%T
python3 "$(dirname "$0")/easier_table.py" "$out"
