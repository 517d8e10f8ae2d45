#!/usr/bin/env bash
# Tier "newer": the tier "libvirt" again, with the libvirt of newer releases of Debian, each in a root directory of its
# own, and beside the QEMU that comes with it: tests/newer/run.sh [SUITE...]
#
# A root is made once, from $DEBIAN_MIRROR, in target/roots; it takes some 700 MB. Needs root, mmdebstrap and /dev/kvm.
# A suite that cannot be had is listed as skipped.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$top/target}
emulator=${REMUDA_QEMU:-$target/release/qemu-system-x86_64}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
packages=libvirt-daemon-system,libvirt-daemon-driver-qemu,libvirt-clients,qemu-system-x86,python3,iproute2
suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=(trixie sid)
passed=0 failed=0 skipped=0

skip() {
    echo "skip newer: $*"
    skipped=$((skipped + 1))
}

# A mirror may be frozen at a day that its lists have outlived.
make_root() {
    local suite=$1 root=$2
    [ ! -d "$root" ] || return 0
    rm -rf "$root.new"
    mkdir -p "$(dirname "$root")"
    mmdebstrap --quiet --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' --include="$packages" \
        "$suite" "$root.new" "deb $mirror $suite main" </dev/null >"$root.log" 2>&1 || return 1
    mv "$root.new" "$root"
}

count() {
    awk -v word="$2" '/^[0-9]+ passed, [0-9]+ failed$/ { n = word == "passed" ? $1 : $3 } END { print n + 0 }' "$1"
}

try_suite() {
    local suite=$1 root=$target/roots/$1 log=$target/roots/$1.log version status=0
    make_root "$suite" "$root" || {
        skip "no root with Debian's $suite: $(grep -a '^E: ' "$log" | head -1)"
        return
    }
    version=$(chroot "$root" virsh --version)
    SHARED=$top:$target:$(dirname "$emulator") timeout -k 10 900 "$here/in_root.sh" "$root" env \
        PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1 \
        REMUDA_QEMU="$emulator" CARGO_TARGET_DIR="$target" python3 "$top/tests/libvirt/run.py" \
        </dev/null >"$log" 2>&1 || status=$?
    sed -nE "/^[0-9]+ (passed, [0-9]+ failed|skipped)$/d; s/^(ok   |FAIL |skip )/\1libvirt $version: /; p" "$log"
    local p f
    p=$(count "$log" passed) f=$(count "$log" failed)
    # A suite that broke down without counting a failure has failed all the same.
    [ "$status" = 0 ] || [ "$f" != 0 ] || f=1
    passed=$((passed + p)) failed=$((failed + f))
    skipped=$((skipped + $(grep -c '^skip ' "$log" || true)))
}

if [ "$(id -u)" != 0 ]; then
    skip "needs root for its root directories"
elif ! command -v mmdebstrap >/dev/null; then
    skip "mmdebstrap is not installed"
else
    # The roots have no compiler.
    "$top/tests/guests/build.sh" "$target/guests"
    for suite in "${suites[@]}"; do
        try_suite "$suite"
    done
fi
[ "$skipped" = 0 ] || echo "$skipped skipped"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
