#!/usr/bin/env bash
# Unpacks the pack into an otherwise empty root, without Java and without a network, and runs doctor, demo and bench/gpu.sh
# there. The root holds the pack, the C library with libstdc++, and the commands that the pack's scripts call.
# Needs root, for chroot; run it after mvn -Pdist package.
#   src/test/scripts/pack_chroot.sh [ARCHIVE]
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
archives=("$root"/target/dist/sentei-*-linux-x86-64.tar.xz)
archive=${1:-${archives[0]}}

bare=$(mktemp -d)
trap 'umount "$bare/proc" 2>/dev/null || true; rm -rf "$bare"' EXIT
mkdir -p "$bare"/{bin,dev,etc,proc,root,tmp,usr}
ln -s ../bin "$bare/usr/bin" # for /usr/bin/env
mknod -m 666 "$bare/dev/null" c 1 3
mknod -m 444 "$bare/dev/urandom" c 1 9
mount -t proc proc "$bare/proc"

# Places a file with the libraries that it is linked with.
bring() {
  local library
  cp --dereference "$1" "$bare/bin/"
  { ldd "$1" || true; } | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$bare$(dirname "$library")"
    cp --dereference --no-clobber "$library" "$bare$library"
  done
}
for command in sh bash awk basename cat cp cut date dirname find grep head mkdir mktemp mv nproc readlink rm sed tail tee \
  timeout tr; do
  bring "$(command -v "$command")"
done
libraries=/lib/x86_64-linux-gnu
mkdir -p "$bare$libraries"
# What the pack's own libraries ask of the system.
for library in libstdc++.so.6 libgcc_s.so.1 libm.so.6 libdl.so.2 librt.so.1 libpthread.so.0; do
  cp --dereference --no-clobber "$libraries/$library" "$bare$libraries/"
done
tar --extract --xz --file "$archive" --directory "$bare/root"
pack=/root/$(basename "$archive" .tar.xz)

inside() {
  unshare --net chroot "$bare" /bin/env -i PATH=/bin HOME=/root "$@"
}
bring "$(command -v env)"
echo "archive: $(stat --format %s "$archive") bytes"
[ -z "$(find "$bare/bin" "$bare/lib" "$bare/lib64" -name 'java*')" ]
inside "$pack/bin/sentei" doctor
inside "$pack/bin/sentei" demo --out /root/demo
[ -s "$bare/root/demo/model.safetensors" ]
inside "$pack/bench/gpu.sh" /root/results
[ "$(find "$bare/root/results" -type f | wc -l)" -le 6 ]
echo "the pack runs in an empty root"
