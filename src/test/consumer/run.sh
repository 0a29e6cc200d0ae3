#!/usr/bin/env bash
# Builds and tests the consumer project against a built jar, which it gets like any embedder: by coordinates, from a
# repository. The repository is thrown away: a folder of links to the local one, where only our own artifact is a real file.
#   run.sh MAVEN_HOME LOCAL_REPOSITORY JAR POM VERSION WORK_FOLDER offline=true|offline=false [MAVEN_OPTION...]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
maven=$1 local=$2 jar=$3 pom=$4 version=$5 work=$6 offline=$7
shift 7
[ "$offline" = offline=false ] || set -- --offline "$@"

rm -rf "$work"
mkdir -p "$work/repository/org/sentei/sentei/$version" "$work/tmp"
for entry in "$local"/* "$local"/org/*; do
  link=$work/repository/${entry#"$local"/}
  [ -e "$link" ] || ln -s "$entry" "$link"
done
cp "$jar" "$work/repository/org/sentei/sentei/$version/sentei-$version.jar"
cp "$pom" "$work/repository/org/sentei/sentei/$version/sentei-$version.pom"

exec "$maven/bin/mvn" -B -ntp -q -f "$here/pom.xml" "$@" \
  -Dmaven.repo.local="$work/repository" -Dsentei.version="$version" \
  -Dsentei.resources="$here/../resources" -Dconsumer.target="$work/target" -Dconsumer.tmp="$work/tmp" test
