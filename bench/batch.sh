#!/usr/bin/env bash
# What a batch saves: twenty compressions of small models as twenty processes and as one, by turns, with the same results.
#
#   bench/batch.sh OUT
#
# Wants a built project or a pack. Writes OUT/batch.{json,md}; ROUNDS says how often each is measured (3), the median counts.
# The jobs are those of a server with small models: five of the test models under seven recipes.
set -euo pipefail
if [ $# -ne 1 ]; then
    echo "usage: $0 OUT" >&2
    exit 2
fi
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
rounds=${ROUNDS:-3}
models=src/test/resources/models
text=src/test/resources/text/calibration.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

printf 'steps: [{method: stade, sparsity: 0.5}]\ncalibration: {samples: 16, length: 64}\n' >"$work/stade.yaml"
printf 'steps: [{method: wanda, pattern: "2:4"}]\ncalibration: {samples: 16, length: 64}\n' >"$work/wanda.yaml"
jobs=() # model recipe
for recipe in "$work/stade.yaml" "$work/wanda.yaml"; do
    jobs+=("austen-llama $recipe" "austen-opt $recipe")
done
for model in austen-llama austen-opt gpt2 qwen3-qknorm; do
    for recipe in magnitude-50 "$work/low.yaml" "$work/layer.yaml" "$work/global.yaml"; do
        jobs+=("$model $recipe")
    done
done
printf 'steps: [{method: magnitude, sparsity: 0.2}]\n' >"$work/low.yaml"
printf 'steps: [{method: magnitude, sparsity: 0.5, scope: layer}]\n' >"$work/layer.yaml"
printf 'steps: [{method: magnitude, sparsity: 0.5, scope: global}]\n' >"$work/global.yaml"
options() { case $1 in */stade.yaml | */wanda.yaml) echo "--calibration $text" ;; esac; }

seconds() { # of a command
    local begin end
    begin=$(date +%s%N)
    "$@" >"$work/said" 2>&1 || { cat "$work/said" >&2; exit 1; }
    end=$(date +%s%N)
    echo $(((end - begin) / 1000000))
}
apart() { # folder
    local number=0 job model recipe
    for job in "${jobs[@]}"; do
        read -r model recipe <<<"$job"
        # shellcheck disable=SC2046 # an option and its value
        bin/sentei compress "$models/$model" --recipe "$recipe" $(options "$recipe") --backend cpu --out "$1/$number"
        number=$((number + 1))
    done
}
together() { # folder, options
    local number=0 job model recipe calibration folder=$1
    shift
    for job in "${jobs[@]}"; do
        read -r model recipe <<<"$job"
        calibration=$(options "$recipe")
        echo "{\"model\": \"$models/$model\", \"recipe\": \"$recipe\", \"out\": \"$folder/$number\"${calibration:+, \"calibration\": \"$text\"}}"
        number=$((number + 1))
    done >"$folder.jsonl"
    bin/sentei batch "$folder.jsonl" --backend cpu "$@"
}

read -r load _ </proc/loadavg
bin/sentei --version >/dev/null # builds what is not built
: >"$work/times"
for round in $(seq "$rounds"); do
    for how in apart together workers; do
        rm -rf "$work/$how"
        mkdir "$work/$how"
        case $how in
            apart) time=$(seconds apart "$work/$how") ;;
            together) time=$(seconds together "$work/$how") ;;
            workers) time=$(seconds together "$work/$how" --devices 0,0) ;;
        esac
        echo "round $round, $how: $time ms" >&2
        echo "$how $time" >>"$work/times"
    done
    for how in together workers; do
        diff -r --exclude='report.*' "$work/apart" "$work/$how" >&2 || { echo "$how gives other results" >&2; exit 1; }
    done
done
read -r after _ </proc/loadavg

commit=unknown
if git rev-parse --short=10 HEAD >"$work/commit" 2>/dev/null; then
    commit=$(cat "$work/commit")
    git diff --quiet HEAD -- src native pom.xml bin || commit+=-changed
fi
model=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)
median() { sed -n "s/^$1 //p" "$work/times" | sort -n | awk '{t[NR] = $1} END {print t[int((NR + 1) / 2)] / 1000}'; }
awk -v out="$out" -v jobs=${#jobs[@]} -v rounds="$rounds" -v apart="$(median apart)" -v together="$(median together)" \
    -v workers="$(median workers)" \
    -v where="${model:-$(uname -m)}, $(nproc) processors, load average $load before and $after after; $(date -u +%F), commit $commit" '
    BEGIN {
        printf "{\"machine\": \"%s\", \"jobs\": %d, \"rounds\": %d, \"results\": [\n", where, jobs, rounds >out "/batch.json"
        printf "# %d small models: one process each, or one for all\n\n| | seconds | models an hour | ratio |\n|---|---:|---:|---:|\n", jobs >out "/batch.md"
        row("a process each", apart, ",")
        row("`sentei batch`", together, ",")
        row("`sentei batch --devices 0,0`", workers, "]}")
        printf "\nMedian of %d rounds, by turns; all results are equal byte for byte but for `report.*`.\n%s; `bench/batch.sh`.\n", rounds, where >out "/batch.md"
    }
    function row(name, seconds, end) {
        printf "| %s | %.2f | %.0f | %.2f |\n", name, seconds, jobs / seconds * 3600, apart / seconds >out "/batch.md"
        gsub(/`/, "", name)
        printf "  {\"name\": \"%s\", \"seconds\": %.3f, \"models_per_hour\": %.0f, \"ratio\": %.3f}%s\n", name, seconds, jobs / seconds * 3600, apart / seconds, end >out "/batch.json"
    }'
cat "$out/batch.md"
