#!/usr/bin/env bash
# Breaks the device kernels on purpose, one change at a time, and looks whether their conformance on the emulated GPU notices.
#   JAVA_HOME=/a/jdk-25 src/test/scripts/kernel_mutations.sh barriers|bounds [OP...]
# barriers removes each barrier, and each wait for copies, in turn; a survivor is redundant. bounds turns each < into <= in
# turn; a survivor changes nothing that can be seen, as in reading one element more and not using it, but each kernel must
# have one that is noticed.
# The op "portable" is portable.h; "words" and "norm" are headers of cuda/. Wants the tests compiled (mvn test-compile), g++ and make. Prints a line a change and, last, what survived.
set -euo pipefail
cd "$(dirname "$0")/../../.."
kind=${1:?barriers or bounds}
shift
case $kind in
  barriers) pattern='\b(BARRIER|await_copies\(\));' replacement=';' ;;
  bounds) pattern=' < ' replacement=' <= ' ;;
  *) echo "barriers or bounds, not $kind" >&2; exit 2 ;;
esac
[ $# -gt 0 ] || set -- portable words norm $(basename -s .inc kernels/common/*.inc | grep -v '^probe$')

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r kernels "$work/kernels"
rm -rf "$work/kernels/target"
mvn -B -q -o dependency:build-classpath -Dmdep.outputFile="$work/classpath" -Dmdep.includeScope=test >/dev/null
mkdir "$work/images"
java=${JAVA_HOME:?must be a JDK 25}/bin/java

# Whether the cases of ops pass with the kernels in $work; a crash or a hang is a failure like any other.
passes() {
  make --silent -C "$work/kernels" emulator >"$work/make.log" 2>&1 || return 1
  for seed in 1 2 3; do
    SENTEI_EMULATED_SEED=$seed timeout 120 "$java" -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:-CreateCoredumpOnCrash \
      -XX:ErrorFile=/dev/null --enable-native-access=ALL-UNNAMED -Dsentei.native.dir="$work/native" \
      -Dsentei.cuda.driver="$work/kernels/target/emulator/libcuda.so.1" -Dsentei.cublaslt=none \
      -cp "target/test-classes:target/classes:$(cat "$work/classpath")" org.sentei.backend.cuda.EmulatedCuda \
      "$work/images/" conformance "$@" >"$work/out" 2>&1 || return 1
    grep -q "^checked $1 " "$work/out" || return 1
    grep -q '^failure' "$work/out" && return 1
    grep -q '^count damaged 0' "$work/out" || return 1
  done
}

survivors=()
noticed=0
for op in "$@"; do
  files=("kernels/common/$op.inc")
  checked=("$op")
  if [ "$op" = portable ]; then
    files=(kernels/portable.h)
    checked=(count_values layer_norm score_select)
  elif [ "$op" = words ]; then
    files=(kernels/cuda/words.h)
    checked=(apply_mask score_select)
  elif [ "$op" = norm ]; then
    files=(kernels/cuda/norm.h)
    checked=(layer_norm rms_norm)
  elif [ -e "kernels/cuda/$op.cu" ]; then
    files+=("kernels/cuda/$op.cu")
  fi
  passes "${checked[@]}" || { echo "$op fails unchanged:"; cat "$work/make.log"; tail -5 "$work/out"; exit 1; }
  for file in "${files[@]}"; do
    echo "== $file"
    while IFS=: read -r line text; do
      kernel=$(head -n "$line" "$file" | grep -oP '(?<=KERNEL\()\w+|(?<=^DEVICE )\w+ \w+' | tail -1)
      occurrences=$(grep -oP "$pattern" <<<"$text" | wc -l)
      for ((i = 1; i <= occurrences; i++)); do
        sed -E "${line}s/${pattern}/${replacement}/$i" "$file" >"$work/$file"
        change="$file:$line ($kernel): $text"
        if passes "${checked[@]}"; then
          survivors+=("$change")
          echo "survived $change"
        else
          noticed=$((noticed + 1))
          echo "noticed  $change"
        fi
      done
    done < <(grep -nP "$pattern" "$file" || true)
    cp "$file" "$work/$file"
  done
done
echo "$noticed noticed, ${#survivors[@]} survived"
[ ${#survivors[@]} -eq 0 ] || printf '%s\n' "${survivors[@]}"
