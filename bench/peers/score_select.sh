#!/usr/bin/env bash
# Row selection, ours against PyTorch's stable sort and kthvalue: same data, same machine, one thread, interleaved rounds.
# Needs a built project (mvn package), a JDK 25 and a Python with torch and numpy.
#
#   bench/peers/score_select.sh [rounds]     PYTHON and JAVA choose the interpreters, OUT the folder of the results
#
# Writes score_select.{json,md}, into bench/results/<machine> unless OUT says otherwise; run it on a machine that does nothing else.
set -euo pipefail
cd "$(dirname "$0")/../.."

rounds=${1:-5}
rows=4096 cols=4096 prune=2048 ours=20 theirs=2
python=${PYTHON:-python3}
java=${JAVA:-java}

if [ ! -d target/classes/org/sentei ] || [ ! -d target/lib ]; then
    echo "Sentei is not built: run mvn package first" >&2
    exit 1
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$python" bench/peers/score_select.py make "$folder" $rows $cols
for ((round = 1; round <= rounds; round++)); do
    "$java" --enable-native-access=ALL-UNNAMED -cp "target/classes:target/lib/*" bench/peers/ScoreSelect.java \
        "$folder" $rows $cols $prune $ours >>"$folder/sentei.jsonl"
    "$python" bench/peers/score_select.py time "$folder" $rows $cols $prune $theirs >>"$folder/torch.jsonl"
done
"$python" bench/peers/score_select.py check "$folder" $rows $cols $prune
# Earlier results are rewritten by this very run; only a change of the code makes the commit a wrong name for it.
commit=$(git rev-parse --short=10 HEAD)
git diff --quiet HEAD -- src native bench/peers pom.xml || commit+=-changed
"$python" bench/peers/score_select.py report "$folder" $rows $cols $prune \
    "${OUT:-bench/results/$("$python" bench/peers/machine.py)}" "$commit"
