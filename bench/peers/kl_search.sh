#!/bin/sh
# Our search for the least divergence beside onnxruntime's, on the same histograms; one thread each.
# Needs a built project (target/classes), a JDK 25 as java and javac, and PYTHON with onnxruntime.
set -e
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
javac -cp "${CLASSES:-target/classes}" -d "$folder" bench/peers/KlSearch.java
java -cp "$folder:${CLASSES:-target/classes}" org.sentei.method.quantize.KlSearch "$folder"
"${PYTHON:-python3}" bench/peers/kl_search.py "$folder"
