#!/usr/bin/env bash
# Kills bin/sentei compress with SIGKILL at random moments, resumes, and holds every file against an undisturbed run.
# A moment is a random time, up to a quarter of the run, after a random number of groups is in the journal, so that moments
# spread over the whole run however long the start takes.
#   src/test/scripts/kill_resume.sh [KILLS] [SEED] [compress arguments without --out]
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
kills=${1:-20}
RANDOM=${2:-1}
shift $(($# < 2 ? $# : 2))
[ $# -gt 0 ] || set -- "$root/src/test/resources/models/austen-llama" --recipe stade-50 \
  --calibration "$root/src/test/resources/text/calibration.txt"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sentei() { "$root/bin/sentei" compress "$@"; }
now() { date +%s%3N; }

begun=$(now)
sentei "$@" --out "$work/undisturbed" 2>"$work/err" >/dev/null || { cat "$work/err" >&2; exit 1; }
duration=$(($(now) - begun))
echo "undisturbed: $duration ms"
groups=4 # of the default model; with more the moments are early, with fewer some runs finish and are run again

journaled() { (find "$work/.out.partial/journal" -name 'group-*' 2>/dev/null || true) | wc -l; }

killed=0
while [ "$killed" -lt "$kills" ]; do
  "$root/bin/sentei" compress "$@" --out "$work/out" >/dev/null 2>&1 &
  process=$!
  behind=$((RANDOM % (groups + 1)))
  while [ "$(journaled)" -lt "$behind" ] && kill -0 "$process" 2>/dev/null; do
    sleep 0.01
  done
  moment=$(((RANDOM * 32768 + RANDOM) % (duration / 4)))
  sleep "$(printf '%d.%03d' $((moment / 1000)) $((moment % 1000)))"
  # the process is ours until it is waited for, finished or not
  kill -9 "$process" 2>/dev/null || true
  if wait "$process" 2>/dev/null; then
    rm -r "$work/out"
    continue # it was faster this time
  fi
  killed=$((killed + 1))
  entries=$(journaled)
  finished=no
  if [ -e "$work/out" ]; then
    finished=yes # killed behind the last move
    rm -rf "$work/.out.partial"
  else
    sentei "$@" --out "$work/out" --resume >/dev/null 2>"$work/err" || { cat "$work/err" >&2; exit 1; }
  fi
  diff -r --exclude 'report.*' "$work/undisturbed" "$work/out"
  for report in json html; do
    [ -s "$work/out/report.$report" ]
  done
  times='s/"(seconds|started)" : [^,]*//'
  diff <(sed -E "$times" "$work/undisturbed/report.json") <(sed -E "$times" "$work/out/report.json")
  echo "kill $killed, $moment ms behind group $behind: $entries groups in the journal, finished: $finished, every file the same"
  rm -r "$work/out"
done
echo "$killed kills, $killed results like the undisturbed one"
