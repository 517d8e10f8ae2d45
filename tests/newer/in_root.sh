#!/usr/bin/env bash
# Runs a command in another root directory: in_root.sh ROOT COMMAND...
#
# The command sees the root as the machine's: with a /dev of its own, /proc, /sys with its control groups, and the folders
# in $SHARED (separated by colons) under the names they have here. What it mounts goes when it ends.
set -euo pipefail
[ -n "${IN_ROOT_MOUNTS:-}" ] || exec env IN_ROOT_MOUNTS=1 unshare --mount --propagation private "$0" "$@"
unset IN_ROOT_MOUNTS
root=$1
shift
mount --bind "$root" "$root"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root"/dev/{pts,shm,mqueue,hugepages}
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 ptmx:5:2; do
    IFS=: read -r name major minor <<<"$node"
    mknod -m 666 "$root/dev/$name" c "$major" "$minor"
done
[ ! -e /dev/kvm ] || cp -a /dev/kvm "$root/dev/kvm"
if [ -e /dev/net/tun ]; then
    mkdir "$root/dev/net"
    cp -a /dev/net/tun "$root/dev/net/tun"
fi
ln -s /proc/self/fd "$root/dev/fd"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
IFS=: read -ra shared <<<"${SHARED:-}"
for folder in "${shared[@]}"; do
    mkdir -p "$root$folder"
    mount --bind "$folder" "$root$folder"
done
mkdir -p "$root/oldroot"
cd "$root"
# libvirt makes guests a /dev of their own from the table of mounts, which only a real root has in full.
pivot_root . oldroot
cd /
umount -l /oldroot
exec "$@"
