#!/usr/bin/env bash
# Runs small cases of every op, or of the ops named, on Oclgrind's simulated device: results must be right, and no two
# work-items may touch one place without a barrier between them. Wants a build (bin/sentei) and Debian's oclgrind. A folder
# RESOURCES goes before the build on the class path.
set -euo pipefail
cd "$(dirname "$0")/../../.."
library=/usr/lib/oclgrind/liboclgrind-rt-icd.so
[ -e "$library" ] || { echo "oclgrind is not installed: apt-get install oclgrind" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "$library" >"$work/oclgrind.icd"
status=0
# Without optimization, because this simulator does not know every instruction of its own optimizer.
OCL_ICD_VENDORS=$work OCLGRIND_DATA_RACES=1 OCLGRIND_BUILD_OPTIONS=-cl-opt-disable OCLGRIND_LOG=$work/log \
  "${JAVA_HOME:-/usr/lib/jvm/temurin-25-jdk-amd64}/bin/java" --enable-native-access=ALL-UNNAMED \
  -cp "${RESOURCES:+$RESOURCES:}target/classes:target/lib/*" src/test/scripts/OclgrindCases.java "$@" || status=1
if [ -s "$work/log" ]; then
  head -n 40 "$work/log"
  status=1
fi
[ "$status" -eq 0 ] && echo "no data race"
exit "$status"
