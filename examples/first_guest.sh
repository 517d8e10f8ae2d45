#!/bin/sh
# Installs what is missing, builds remuda and a small guest, and runs the guest: examples/first_guest.sh
set -eu
cd "$(dirname "$0")/.."
if ! command -v cc >/dev/null || ! command -v as >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc libc6-dev binutils >/dev/null
fi
cargo build --release --bins --example first_guest
target=${CARGO_TARGET_DIR:-target}
tests/guests/build.sh "$target/guests"
exec "$target/release/examples/first_guest" "$target/release/qemu-system-x86_64" "$target/guests/guest.elf"
