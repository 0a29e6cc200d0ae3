#!/usr/bin/env bash
# Lets bin/sentei compress run out of disk on small file systems in memory, makes room, resumes, and holds every file
# against an undisturbed run. Needs root, to mount.
#   src/test/scripts/full_disk.sh [SIZE]...
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
[ $# -gt 0 ] || set -- 64k 256k 512k 2m 4m

work=$(mktemp -d)
disk=$work/disk
mkdir "$disk"
trap 'umount "$disk" 2>/dev/null || true; rm -rf "$work"' EXIT
sentei() {
  "$root/bin/sentei" compress "$root/src/test/resources/models/austen-llama" --recipe stade-50 \
    --calibration "$root/src/test/resources/text/calibration.txt" "$@" >/dev/null 2>"$work/err"
}

sentei --out "$work/undisturbed" || { cat "$work/err" >&2; exit 1; }
for size in "$@"; do
  mount -t tmpfs -o size="$size" tmpfs "$disk"
  code=0
  sentei --out "$disk/out" || code=$?
  grep '^sentei: .*No space' "$work/err"
  entries=$( (find "$disk/.out.partial/journal" -name 'group-*' 2>/dev/null || true) | wc -l)
  [ "$code" -eq 6 ]
  [ ! -e "$disk/out" ]
  [ "$entries" -gt 0 ] || [ ! -e "$disk/.out.partial" ]
  mount -o remount,size=64m "$disk"
  sentei --out "$disk/out" --resume || { cat "$work/err" >&2; exit 1; }
  grep -E '^(resuming|there is nothing)' "$work/err"
  diff -r --exclude 'report.*' "$work/undisturbed" "$disk/out"
  [ "$(ls -A "$disk")" = out ]
  echo "$size: exit 6 with $entries groups in the journal, no output; with more room every file the same"
  umount "$disk"
done
