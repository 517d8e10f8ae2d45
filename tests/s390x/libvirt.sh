#!/usr/bin/env bash
# libvirt's questions about S390 hypervisor CPUs, put to our qemu-system-s390x and to QEMU's own: for models that both know
# the answers must be the same, refusals included. libvirt runs embedded, with a root of its own.
#
# usage: libvirt.sh [OURS [PEER]]
set -euo pipefail

top=$(cd "$(dirname "$0")/../.." && pwd)
ours=$(realpath "${1:-$top/target/debug/qemu-system-s390x}")
peer=${2:-/usr/bin/qemu-system-s390x}
command -v virsh >/dev/null || apt-get install -qy --no-install-recommends libvirt-clients libvirt-daemon
[ -x "$peer" ] || apt-get install -qy --no-install-recommends qemu-system-misc
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

# NAME or NAME:feature:!feature as libvirt writes a CPU.
cpu() {
    local parts part
    IFS=: read -ra parts <<<"$1"
    printf "<cpu mode='custom' match='exact'><model>%s</model>" "${parts[0]}"
    for part in "${parts[@]:1}"; do
        case $part in
            !*) printf "<feature policy='disable' name='%s'/>" "${part#!}" ;;
            *) printf "<feature policy='require' name='%s'/>" "$part" ;;
        esac
    done
    printf '</cpu>\n'
}

# What virsh says when it asks this emulator, the emulator's own name left out.
ask() {
    local emulator=$1
    shift
    { timeout 60 virsh -c "qemu:///embed?root=$work/root" "$@" --arch s390x --emulator "$emulator" "$work/cpus.xml" 2>&1 \
        || echo "exit status $?"; } | sed "s|$emulator|EMULATOR|g" | sort
}

failed=0
check() {
    local models=$1
    shift
    : >"$work/cpus.xml"
    for model in $models; do
        cpu "$model" >>"$work/cpus.xml"
    done
    ask "$ours" "$@" >"$work/ours"
    ask "$peer" "$@" >"$work/peer"
    if diff "$work/ours" "$work/peer"; then
        echo "same: $* of $models"
    else
        echo "differs (ours <, peer >): $* of $models"
        failed=1
    fi
}

for models in "z13" "z13-base:vx z14" "gen15a gen15b" "z14ZR1 z14ZR1" "z196.2 z114 zEC12" "z900 gen16a" \
    "z13:!esan3 z14" "z13:!vx:msa5 z13s" "gen16a gen16b:!nnpa" "z10EC:pfmfi z10BC.2" "z900:vx z13" "nosuch z13"; do
    check "$models" hypervisor-cpu-baseline
    check "$models" hypervisor-cpu-baseline --features
done
# Agreement is worth nothing if libvirt asked neither.
check "z13 z14" hypervisor-cpu-baseline
grep -q '<model>z13-base</model>' "$work/ours" || { echo "no baseline was found: $(cat "$work/ours")"; failed=1; }
# What libvirt says of a host whose CPU it does not know.
for model in z13 z14-base:vx nosuch; do
    check "$model" hypervisor-cpu-compare --virttype qemu
done
exit $failed
