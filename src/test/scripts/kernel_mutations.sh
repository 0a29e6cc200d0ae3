#!/usr/bin/env bash
# Breaks the device kernels on purpose, one change at a time, and looks whether their conformance on the emulated GPU notices.
#   JAVA_HOME=/a/jdk-25 src/test/scripts/kernel_mutations.sh planted|barriers|bounds [OP...]
# planted puts an off-by-one into each kernel: it turns < into <=, or makes an argument one smaller or a row one later, until
# such a change is noticed; a kernel of which none is has survived.
# barriers removes each barrier, and each wait for copies, in turn; a survivor is redundant. bounds turns each < into <= in
# turn; a survivor changes nothing that can be seen, as in reading one element more and not using it.
# The op "portable" is portable.h; "words" and "norm" are headers of cuda/. Wants the tests compiled (mvn test-compile), g++
# and make, for barriers also oclgrind. Prints a line a change and, last, what survived.
set -euo pipefail
cd "$(dirname "$0")/../../.."
kind=${1:?planted, barriers or bounds}
shift
case $kind in
  planted) ;;
  barriers) pattern='\b(BARRIER|await_copies\(\));' replacement=';' ;;
  bounds) pattern=' < ' replacement=' <= ' ;;
  *) echo "planted, barriers or bounds, not $kind" >&2; exit 2 ;;
esac
if [ $# -eq 0 ]; then
  [ "$kind" = planted ] || set -- portable words norm
  set -- "$@" $(basename -s .inc kernels/common/*.inc | grep -v '^probe$')
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r kernels "$work/kernels"
rm -rf "$work/kernels/target"
mvn -B -q -o dependency:build-classpath -Dmdep.outputFile="$work/classpath" -Dmdep.includeScope=test >/dev/null
mkdir "$work/images"
java=${JAVA_HOME:?must be a JDK 25}/bin/java

compiles() {
  make --silent -C "$work/kernels" emulator >"$work/make.log" 2>&1
}

# Whether the cases of ops pass with the kernels in $work; a crash or a hang is a failure like any other.
passes() {
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

# The same with OpenCL, because CUDA has a second version of some portable kernels for all sizes: a planted error by the values
# that a device finds, a missing barrier by the races that Oclgrind sees.
passes_opencl() {
  local kernels=$work/resources/org/sentei/backend/gpu/kernels
  mkdir -p "$kernels"
  cp -r "$work/kernels/portable.h" "$work/kernels/common" "$kernels/"
  if [ "$kind" = barriers ]; then
    RESOURCES=$work/resources src/test/scripts/oclgrind.sh "$1" >"$work/out" 2>&1
  else
    "$java" --enable-native-access=ALL-UNNAMED -cp "$work/resources:target/classes:$(cat "$work/classpath")" \
      src/test/scripts/OclgrindCases.java "$1" >"$work/out" 2>&1
  fi
}

survivors=()
noticed=0

# attempt FILE LINE EDIT KERNEL: whether the line of the file, changed by sed, is noticed. Status 2 when it does not compile.
attempt() {
  local file=$1 line=$2 edit=$3 change outcome=0
  sed -E "$line$edit" "$file" >"$work/$file"
  change="$file:$line ($4): $(diff "$file" "$work/$file" | sed -n 's/^> *//p')"
  if ! compiles; then
    echo "refused  $change"
    outcome=2
  elif passes "${checked[@]}" && { [ "$kind" = bounds ] || [[ $file != kernels/common/* ]] || passes_opencl "$op"; }; then
    survived=$change
    outcome=1
  else
    noticed=$((noticed + 1))
    echo "noticed  $change"
  fi
  cp "$file" "$work/$file"
  return $outcome
}

# Each change of a line that the pattern allows.
each() {
  local file=$1 line text kernel occurrences i outcome
  while IFS=: read -r line text; do
    kernel=$(head -n "$line" "$file" | grep -oP '(?<=KERNEL\()\w+|(?<=^DEVICE )\w+ \w+' | tail -1)
    occurrences=$(grep -oP "$pattern" <<<"$text" | wc -l)
    for ((i = 1; i <= occurrences; i++)); do
      outcome=0
      attempt "$file" "$line" "s/${pattern}/${replacement}/$i" "$kernel" || outcome=$?
      if [ "$outcome" -eq 1 ]; then
        survivors+=("$survived")
        echo "survived $survived"
      fi
    done
  done < <(grep -nP "$pattern" "$file" || true)
}

smaller='s/\b(cols|rows|size|prune|length|count)([,)])/\1 - 1\2/'

# One off-by-one in the body of each kernel of a file.
plant() {
  local file=$1 kernel first last line edit found
  while IFS=: read -r first kernel; do
    last=$(tail -n "+$first" "$file" | grep -n '^}' | head -n 1 | cut -d : -f 1)
    last=$((first + last - 1))
    # What follows the signature, which may take several lines.
    first=$((first + $(tail -n "+$first" "$file" | grep -n ') {$' | head -n 1 | cut -d : -f 1)))
    found=
    for edit in 's/ < / <= /' "$smaller" "${smaller}2" "${smaller}3" 's/\bROW\((\w+), /&1 + /'; do
      for ((line = first; line <= last && ${#found} == 0; line++)); do
        sed -n "${line}p" "$file" | sed -E "$edit" | cmp --silent - <(sed -n "${line}p" "$file") && continue
        if attempt "$file" "$line" "$edit" "$kernel"; then
          found=yes
        fi
      done
    done
    if [ -z "$found" ]; then
      survivors+=("$file ($kernel)")
      echo "survived $file ($kernel)"
    fi
  done < <(grep -noP '^(TUNED_)?KERNEL\(\K\w+' "$file")
}

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
  { compiles && passes "${checked[@]}"; } || { echo "$op fails unchanged:"; cat "$work/make.log"; tail -5 "$work/out"; exit 1; }
  for file in "${files[@]}"; do
    echo "== $file"
    if [ "$kind" = planted ]; then
      plant "$file"
    else
      each "$file"
    fi
  done
done
echo "$noticed noticed, ${#survivors[@]} survived"
[ ${#survivors[@]} -eq 0 ] || printf '%s\n' "${survivors[@]}"
