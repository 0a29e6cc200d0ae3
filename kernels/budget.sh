#!/usr/bin/env bash
# Prints what the compiled kernels need, as kernels/budget.tsv holds it: bytes of shared memory a block, bytes of spills a
# thread on the worst target, and on each target registers a thread, rounded up to the eight that a GPU hands out at a time.
# After a change that is worth it:
#   mvn -Pall-gpus process-resources && kernels/budget.sh > kernels/budget.tsv
set -euo pipefail
cd "$(dirname "$0")/target/fatbin"
LC_ALL=C awk '
  /Compiling entry function/ { split($0, quoted, "\047"); kernel = quoted[2]; target = quoted[4] }
  /bytes stack frame/ && $5 + $9 > spills[kernel] { spills[kernel] = $5 + $9 }
  /Used [0-9]+ registers/ {
    registers[kernel, target] = int(($5 + 7) / 8) * 8
    kernels[kernel]; targets[target]
    for (i = 3; i <= NF; i++) if ($i ~ /^smem/ && $(i - 2) > shared[kernel]) shared[kernel] = $(i - 2)
  }
  END {
    count = keys(targets, columns)
    printf "kernel\tshared\tspills"
    for (i = 1; i <= count; i++) printf "\t%s", columns[i]
    printf "\n"
    rows = keys(kernels, names)
    for (k = 1; k <= rows; k++) {
      printf "%s\t%d\t%d", names[k], shared[names[k]], spills[names[k]]
      for (i = 1; i <= count; i++) printf "\t%d", registers[names[k], columns[i]]
      printf "\n"
    }
  }
  # The keys of an array in order: targets by number, kernels by name.
  function keys(array, sorted,   n, key, i) {
    n = 0
    for (key in array) {
      for (i = ++n; i > 1 && before(key, sorted[i - 1]); i--) sorted[i] = sorted[i - 1]
      sorted[i] = key
    }
    return n
  }
  function before(a, b,   x, y) {
    x = a; y = b
    if (sub(/^sm_/, "", x) && sub(/^sm_/, "", y) && x + 0 != y + 0) return x + 0 < y + 0
    return a < b
  }' ./*.ptxas
