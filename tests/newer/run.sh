#!/usr/bin/env bash
# Tier "newer": what compares with libvirt and with QEMU again, with those of newer releases of Debian, each in a root
# directory of its own: tests/newer/run.sh [SUITE...]
#
#   the tier "libvirt" under that libvirt, beside that QEMU
#   the live peer of S390 CPU models, directly and through libvirt
#
# A root is made once, from $DEBIAN_MIRROR, in target/roots; it takes some 700 MB. Needs root, mmdebstrap and /dev/kvm.
# A suite that cannot be had is listed as skipped.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$top/target}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=(trixie sid)
passed=0 failed=0 skipped=0

skip() {
    echo "skip newer: $*"
    skipped=$((skipped + 1))
}

packages() {
    echo libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients python3 iproute2 qemu-system-x86 qemu-utils
    # The emulator of S390 machines left the package of odd ones after Debian 13.
    case $1 in
        trixie) echo qemu-system-misc ;;
        *) echo qemu-system-s390x ;;
    esac
}

# A mirror may be frozen at a day that its lists have outlived.
make_root() {
    local suite=$1 root=$2
    [ ! -d "$root" ] || return 0
    rm -rf "$root.new"
    mkdir -p "$(dirname "$root")"
    mmdebstrap --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' \
        --include="$(packages "$suite" | paste -sd, | tr ' ' ,)" \
        "$suite" "$root.new" "deb $mirror $suite main" </dev/null >"$root.log" 2>&1 || return 1
    mv "$root.new" "$root"
}

count() {
    awk -v word="$2" '/^[0-9]+ passed, [0-9]+ failed$/ { n = word == "passed" ? $1 : $3 } END { print n + 0 }' "$1"
}

# Runs checks in a root and counts them: try NAME ROOT RUN.PY [WORD...]
try() {
    local name=$1 root=$2 status=0 log=$2.log p f
    shift 2
    SHARED=$top:$target timeout -k 10 900 "$here/in_root.sh" "$root" env \
        PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1 CARGO_TARGET_DIR="$target" python3 "$@" \
        </dev/null >"$log" 2>&1 || status=$?
    sed -nE "/^[0-9]+ (passed, [0-9]+ failed|skipped)$/d; s/^(ok   |FAIL |skip )/\1$name: /; p" "$log"
    p=$(count "$log" passed) f=$(count "$log" failed)
    # Checks that broke down without counting a failure have failed all the same.
    [ "$status" = 0 ] || [ "$f" != 0 ] || f=1
    passed=$((passed + p)) failed=$((failed + f))
    skipped=$((skipped + $(grep -c '^skip ' "$log" || true)))
}

try_suite() {
    local suite=$1 root=$target/roots/$1 libvirt qemu
    if ! make_root "$suite" "$root"; then
        skip "no root with Debian's $suite: $(grep -a '^E: ' "$root.log" | head -1)"
        return
    fi
    libvirt=$(chroot "$root" virsh --version)
    qemu=$(chroot "$root" qemu-system-s390x -version | sed -nE '1s/.*version ([0-9.]+).*/\1/p')
    try "libvirt $libvirt" "$root" "$top/tests/libvirt/run.py"
    try "QEMU $qemu" "$root" "$top/tests/s390x/run.py" peer: "libvirt: hypervisor"
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
