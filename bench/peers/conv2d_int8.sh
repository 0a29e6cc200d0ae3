#!/usr/bin/env bash
# Convolutions of 8-bit integers, ours against ONNX Runtime's QLinearConv: chains of eight with the same weights, in one process
# and by turns, each behind ten that are not timed, on one thread and on all. ONNX Runtime turns images to channels-last where a
# chain begins and back where it ends; ours are so already. Needs a built project (mvn package) and a JDK 25.
#
#   bench/peers/conv2d_int8.sh [rounds]     JAVA chooses the interpreter
#
# Prints threads, image size, channels, filters, kernel size, type of the images, groups, 10^9 operations a second of ours and of
# theirs by the median of the rounds (of processor time on one thread), their ratio, and the fastest round of ours in percent of
# the most that VPDPBUSD can do, four times the rate of fp32, whose fastest is measured between the rounds. Run it on a
# machine that does nothing else.
set -euo pipefail
cd "$(dirname "$0")/../.."

rounds=${1:-101}
shapes=(
    56 64 64 3 U8 1
    28 128 128 3 U8 1
    14 256 256 3 U8 1
    7 512 512 3 U8 1
    14 1024 256 1 U8 1
    14 256 1024 1 U8 1
    56 64 256 1 U8 1
    56 144 144 3 U8 144
    28 128 128 3 I8 1
)
jar=$(ls target/sentei-*.jar)
for threads in $(printf '%s\n' 1 "$(nproc)" | sort -nu); do
    "${JAVA:-java}" --enable-native-access=ALL-UNNAMED -cp "$jar:target/lib/*" bench/peers/Conv2dInt8.java \
        "$threads" "$rounds" "${shapes[@]}" | sed "s/^/$threads /"
done
