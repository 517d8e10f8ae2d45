#!/usr/bin/env bash
# Builds the crate for s390x, a big-endian machine, and runs tests there: unit tests, the recorded replies about CPU models,
# and the whole path through a simulated /dev/kvm.
#
#   tests/s390x/cross.sh            everything
#   tests/s390x/cross.sh build      compiles library and binaries only
#   tests/s390x/cross.sh unit       unit tests
#   tests/s390x/cross.sh vectors    recorded replies
#   tests/s390x/cross.sh kvm        simulated /dev/kvm
#   tests/s390x/cross.sh cargo ...  cargo with everything set up for the target
#
# The compiler is Debian 12's rustc-web with the target's standard library, unpacked into a cache and not installed: it would
# conflict with rustup. gcc-s390x-linux-gnu, libc6-dev-s390x-cross and qemu-user-static are installed if they are missing.
set -euo pipefail

version=1.85.0+dfsg3-1~deb12u3
top=$(cd "$(dirname "$0")/../.." && pwd)
cache=${REMUDA_S390X_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/remuda/s390x}
target=s390x-unknown-linux-gnu
sysroot=$cache/rust-$version

# Packages of both architectures, with lists of our own: the machine's set of architectures stays as it is.
fetch_rust() {
    [ -x "$sysroot/usr/bin/rustc" ] && return
    mkdir -p "$cache/lists/partial" "$cache/debs"
    local apt=(-q -o "Dir::State::lists=$cache/lists" -o APT::Architectures::=amd64 -o APT::Architectures::=s390x)
    apt-get "${apt[@]}" update
    (cd "$cache/debs" && apt-get "${apt[@]}" download \
        "rustc-web=$version" "libstd-rust-web-1.85=$version" "libstd-rust-web-dev=$version" \
        "libstd-rust-web-1.85:s390x=$version" "libstd-rust-web-dev:s390x=$version" libllvm19)
    local unpacked
    unpacked=$(mktemp -d "$cache/unpack.XXXXXX")
    for package in "$cache"/debs/*.deb; do
        dpkg-deb -x "$package" "$unpacked"
    done
    mv "$unpacked" "$sysroot"
    rm -r "$cache/debs" "$cache/lists"
}

install_tools() {
    local missing=()
    command -v s390x-linux-gnu-gcc >/dev/null || missing+=(gcc-s390x-linux-gnu libc6-dev-s390x-cross)
    command -v qemu-s390x-static >/dev/null || missing+=(qemu-user-static)
    [ ${#missing[@]} -eq 0 ] || apt-get install -qy --no-install-recommends "${missing[@]}"
}

setup() {
    install_tools
    fetch_rust
    export RUSTC=$sysroot/usr/bin/rustc
    export LD_LIBRARY_PATH=$sysroot/usr/lib/x86_64-linux-gnu
    export CARGO_TARGET_DIR=${REMUDA_S390X_TARGET:-$top/target/cross}
    export CARGO_BUILD_TARGET=$target
    export CARGO_TARGET_S390X_UNKNOWN_LINUX_GNU_LINKER=s390x-linux-gnu-gcc
    export CARGO_TARGET_S390X_UNKNOWN_LINUX_GNU_RUNNER="qemu-s390x-static -L /usr/s390x-linux-gnu"
    cd "$top"
}

setup
case ${1:-all} in
    build) cargo build --lib --bins ;;
    unit) cargo test --lib ;;
    vectors) cargo test --test cpu_s390x ;;
    kvm) "$top/tests/s390x/kvm.sh" ;;
    cargo) cargo "${@:2}" ;;
    all)
        cargo test --lib
        cargo test --test cpu_s390x
        "$top/tests/s390x/kvm.sh"
        ;;
    *)
        sed -n '2,/^set/{/^#/p}' "$0" >&2
        exit 2
        ;;
esac
