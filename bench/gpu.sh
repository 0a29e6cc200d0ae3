#!/usr/bin/env bash
# Everything about the speed of this machine's GPU, in one command of at most nine minutes: conformance of all kernels, the
# device's ceilings, every kernel on cuda and on opencl beside PyTorch, and compute-sanitizer. What is missing here (a GPU,
# OpenCL, PyTorch, a tool) becomes a row with its reason; the exit code is 0 whenever the table could be written.
#
#   bench/gpu.sh OUT     writes, while it goes, OUT/gpu.jsonl (a line a part), OUT/gpu.md (the table), OUT/gpu.log,
#                        OUT/trace-METHOD.json (copies beside kernels in whole compressions)
#
#   PYTHON     a Python with torch, and with triton for Triton's kernels; default python3
#   MINUTES    for everything; default 9
#   CASES      only cases whose names match this extended regular expression, for example '4096x4096$'
set -uo pipefail
[ $# -eq 1 ] || { echo "usage: $0 OUT" >&2; exit 2; }
mkdir -p "$1" || exit 3
out=$(cd "$1" && pwd)
cd "$(dirname "$0")/.." || exit 1

python=${PYTHON:-python3}
# The table at the end needs some seconds of its own.
deadline=$((SECONDS + ${MINUTES:-9} * 60 - 15))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: >"$out/gpu.jsonl"
: >"$out/gpu.log"

table() {
    bin/sentei bench --gpu-table "$out/gpu.jsonl" >"$work/table" 2>>"$out/gpu.log" && cp "$work/table" "$out/gpu.md"
}

# One line: part LABELS EXIT_CODE REASON; the result is what lies in $work/result, if it is a JSON document.
append() {
    local outcome
    # What was stopped may have left the beginning of a document.
    if [ "$(head -c 1 "$work/result")" = "{" ] && [ "$(tail -n 1 "$work/result" | tail -c 2)" = "}" ]; then
        outcome="\"result\":$(tr -d '\n' <"$work/result")"
    else
        outcome="\"reason\":\"$(printf %s "$3" | tr '\n\t' '  ' | tr -d '\000-\037' | sed 's/\\/\\\\/g; s/"/\\"/g')\""
    fi
    printf '{%s,"seconds":%d,"exit_code":%d,%s}\n' "$1" "$4" "$2" "$outcome" >>"$out/gpu.jsonl"
}

# skip LABELS REASON: a part that cannot run here.
skip() {
    : >"$work/result"
    echo "== $1: $2" | tee -a "$out/gpu.log"
    append "$1" 0 "$2" 0
}

# part LABELS SECONDS COMMAND...: runs it for at most so long, and no longer than to the end.
part() {
    local labels=$1 limit=$2 code=0 start=$SECONDS reason
    shift 2
    [ "$limit" -le $((deadline - SECONDS)) ] || limit=$((deadline - SECONDS))
    if [ "$limit" -le 0 ]; then
        skip "$labels" "the time was over"
        return
    fi
    echo "== $labels: $*" | tee -a "$out/gpu.log"
    timeout --kill-after=5 "$limit" "$@" >"$work/result" 2>"$work/messages" || code=$?
    cat "$work/messages" >>"$out/gpu.log"
    reason=$(grep -v '^ *$' "$work/messages" | tail -n 1)
    [ "$code" -ne 124 ] || reason="stopped after $limit s"
    append "$labels" "$code" "${reason:-exit code $code}" $((SECONDS - start))
}

# Whether the doctor found the backend.
available() {
    tr -d '\n ' <"$work/doctor.$1" | grep -q "\"name\":\"$1\",\"available\":true"
}

# Our products run by cuBLASLt where it is found; a machine may have none but PyTorch's.
blas=$("$python" -c 'import torch
print(next((line.split()[-1] for line in open("/proc/self/maps") if "/libcublasLt.so" in line), ""))' 2>>"$out/gpu.log")
[ -z "$blas" ] || export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}${blas%/*}"

# Apart from each other, so that a driver that ends the process takes only its own backend along.
doctor() {
    part "\"part\":\"doctor\",\"backend\":\"$1\"" 90 bin/sentei doctor --backend "$1" --json
    cp "$work/result" "$work/doctor.$1"
}
doctor cuda
table

# The names of all cases, and of those that take no gigabytes.
bin/sentei bench --list --model-shapes 2>>"$out/gpu.log" | grep -E -- "${CASES:-.}" >"$work/cases.cuda"
bin/sentei bench --list 2>>"$out/gpu.log" | grep -E -- "${CASES:-.}" >"$work/cases.opencl"

# Whether PyTorch can be a peer; why not, otherwise.
peer=
if ! command -v "$python" >/dev/null; then
    peer="there is no $python: set PYTHON to one with torch"
elif ! "$python" -c 'import torch' 2>>"$out/gpu.log"; then
    peer="$python has no torch"
elif ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>>"$out/gpu.log"; then
    peer="the torch of $python finds no GPU"
fi

if [ -n "$peer" ]; then
    skip '"part":"ceilings"' "$peer"
else
    part '"part":"ceilings"' 45 "$python" bench/peers/ops.py ceilings cuda
fi

if ! available cuda; then
    skip '"part":"launch","backend":"cuda"' "not run on a GPU: the doctor finds no backend cuda here"
else
    part '"part":"launch","backend":"cuda"' 30 sh -c "TIME=400ms bench/launch.sh '$work/launch' >&2 && cat '$work/launch/launch.json'"
fi

# kernels BACKEND SECONDS PATTERN: those cases, not run before, whose names begin like this; a run an op, so that every one is
# kept as soon as it is there.
kernels() {
    local backend=$1 until=$((SECONDS + $2)) op names left
    grep -E -- "^($3)" "$work/cases.$backend" >"$work/chosen"
    grep -vE -- "^($3)" "$work/cases.$backend" >"$work/others"
    mv "$work/others" "$work/cases.$backend"
    for op in $(cut -d / -f 1 "$work/chosen" | awk '!seen[$0]++'); do
        mapfile -t names < <(grep "^$op/" "$work/chosen")
        left=$((until - SECONDS))
        [ "$left" -le $((deadline - SECONDS)) ] || left=$((deadline - SECONDS))
        part "\"part\":\"bench\",\"backend\":\"$backend\",\"op\":\"$op\",\"cases\":[$(printf ',"%s"' "${names[@]}" | cut -c 2-)]" \
            "$left" bin/sentei bench --backend "$backend" --op "$op" "${names[@]/#/--case=}" --model-shapes \
            --forks 0 --warmup 1 --iterations 5 --time 0.04 --limit $((left > 25 ? left - 15 : 10)) --json
    done
    table
}

# peers SECONDS PATTERN: PyTorch and Triton beside the cases whose names begin like this.
peers() {
    [ -z "$peer" ] || return 0
    grep -E -- "^($2)" "$work/cases.peers" >"$work/chosen"
    grep -vE -- "^($2)" "$work/cases.peers" >"$work/others"
    mv "$work/others" "$work/cases.peers"
    [ -s "$work/chosen" ] || return 0
    local limit=$1
    [ "$limit" -le $((deadline - SECONDS)) ] || limit=$((deadline - SECONDS))
    # It writes its file twin by twin, so what it had when it was stopped counts.
    part '"part":"peers"' "$limit" sh -c "timeout $((limit > 10 ? limit - 5 : 5)) '$python' bench/peers/ops.py time $(nproc) '$work/peers' cuda '$work/chosen' >&2
        code=\$?; cat '$work/peers'; rm -f '$work/peers'; exit \$code"
    table
}
[ -z "$peer" ] || skip '"part":"peers"' "$peer"
cp "$work/cases.cuda" "$work/cases.peers"

# What the kernels must reach comes first.
if ! available cuda; then
    skip '"part":"bench","backend":"cuda"' "not run on a GPU: the doctor finds no backend cuda here"
    peers 75 ''
else
    kernels cuda 45 column_moments
    kernels cuda 60 'score_select/(50|2:4)'
    kernels cuda 30 apply_mask
    peers 90 'column_moments|score_select/(50|2:4)|apply_mask'
    kernels cuda 40 'attention|gemm|gram'
    kernels cuda 130 ''
    peers 75 ''
fi

doctor opencl
if ! available opencl; then
    skip '"part":"bench","backend":"opencl"' "not run on a GPU: the doctor finds no backend opencl here"
else
    kernels opencl 90 ''
fi

# Whole compressions of a synthetic model that fits the time; its file is the result.
if ! available cuda; then
    skip '"part":"throughput","backend":"cuda"' "not run on a GPU: the doctor finds no backend cuda here"
else
    part '"part":"throughput","backend":"cuda"' 90 env BACKEND=cuda SHAPE=1b SAMPLES=32 LENGTH=1024 \
        bench/throughput "$work/throughput"
    cp "$work"/throughput/trace-*.json "$out/" 2>/dev/null || :
fi

if ! available cuda; then
    skip '"part":"compute-sanitizer","backend":"cuda"' "the doctor finds no backend cuda here"
elif ! command -v compute-sanitizer >/dev/null; then
    skip '"part":"compute-sanitizer","backend":"cuda"' "there is no compute-sanitizer: it comes with the CUDA toolkit"
else
    part '"part":"compute-sanitizer","backend":"cuda"' 540 compute-sanitizer --target-processes all \
        bin/sentei doctor --backend cuda --json
fi

table || { echo "the table could not be written: see $out/gpu.log" >&2; exit 1; }
cat "$out/gpu.md"
