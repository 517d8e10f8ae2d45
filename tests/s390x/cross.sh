#!/usr/bin/env bash
# Builds the crate for s390x, a big-endian machine, and runs tests there: unit tests, the recorded replies about CPU models,
# and the whole path through a simulated /dev/kvm.
#
#   tests/s390x/cross.sh [all]      everything, run.py included
#   tests/s390x/cross.sh build      compiles library and binaries only
#   tests/s390x/cross.sh unit       unit tests
#   tests/s390x/cross.sh vectors    recorded replies
#   tests/s390x/cross.sh run ...    run.py with these arguments
#   tests/s390x/cross.sh cargo ...  cargo with everything set up for the target
#
# The compiler is Debian 12's rustc-web with the target's standard library, unpacked into a cache and not installed: it would
# conflict with rustup. Its warnings are errors. gcc-s390x-linux-gnu, libc6-dev-s390x-cross and qemu-user-static are installed
# if they are missing.
set -euo pipefail

version=1.85.0+dfsg3-1~deb12u3
top=$(cd "$(dirname "$0")/../.." && pwd)
cache=${REMUDA_S390X_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/remuda/s390x}
built=${REMUDA_S390X_TARGET:-$top/target/cross}
sysroot=$cache/rust-$version

# Packages of both architectures, with lists of our own: the machine's set of architectures stays as it is.
fetch_rust() {
    [ -x "$sysroot/usr/bin/rustc" ] && return
    mkdir -p "$cache/lists/partial" "$cache/debs"
    local apt=(-q -o "Dir::State::lists=$cache/lists" -o APT::Sandbox::User=root
        -o APT::Architectures::=amd64 -o APT::Architectures::=s390x)
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
    command -v cc >/dev/null || missing+=(gcc libc6-dev)
    command -v s390x-linux-gnu-gcc >/dev/null || missing+=(gcc-s390x-linux-gnu libc6-dev-s390x-cross)
    command -v qemu-s390x-static >/dev/null || missing+=(qemu-user-static)
    [ ${#missing[@]} -gt 0 ] || return 0
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

# cargo for the target; what it needs is in its environment alone.
cross() {
    env RUSTC="$sysroot/usr/bin/rustc" LD_LIBRARY_PATH="$sysroot/usr/lib/x86_64-linux-gnu" \
        CARGO_TARGET_DIR="$built" CARGO_BUILD_TARGET=s390x-unknown-linux-gnu \
        CARGO_TARGET_S390X_UNKNOWN_LINUX_GNU_LINKER=s390x-linux-gnu-gcc \
        CARGO_TARGET_S390X_UNKNOWN_LINUX_GNU_RUSTFLAGS="-D warnings" \
        CARGO_TARGET_S390X_UNKNOWN_LINUX_GNU_RUNNER="qemu-s390x-static -L /usr/s390x-linux-gnu" \
        cargo "$@"
}

# Unit tests of what the user-mode emulator lacks. The same code passes them in the tier `unit`.
lacking=(
    "host::outside::tests::|the emulator has no openat2(2)"
    "server::title::tests::this_process_has_arguments|the emulator's /proc/self/stat ends before their place"
)

# Runs cargo's tests with these arguments, and says which are left out.
tests() {
    local entry all names name without=() status=0
    for entry in "${lacking[@]}"; do
        without+=(--skip "${entry%%|*}")
    done
    cross test "$@" -- "${without[@]}" || status=1
    all=$(cross test -q --lib -- --list 2>/dev/null | sed -n 's/: test$//p')
    for entry in "${lacking[@]}"; do
        names=$(grep "^${entry%%|*}" <<<"$all") || { echo "no test is called ${entry%%|*}" >&2; return 1; }
        while read -r name; do
            echo "skip $name: ${entry#*|}"
            echo "1 skipped"
        done <<<"$names"
    done
    return $status
}

# The path of what cargo builds with these arguments and this name.
path_of() {
    local name=$1 path
    shift
    path=$(cross "$@" --message-format=json | python3 -c 'import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == sys.argv[1]:
        print(message["executable"])' "$name")
    [ -x "$path" ] || { echo "$name was not built" >&2; exit 1; }
    echo "$path"
}

checks() {
    local test binary
    test=$(path_of kvm_s390x test --test kvm_s390x --no-run)
    binary=$(path_of qemu-system-s390x build --bin qemu-system-s390x)
    REMUDA_S390X_KVM_TEST=$test REMUDA_S390X_BINARY=$binary "$top/tests/s390x/run.py" "$@"
}

install_tools
fetch_rust
cd "$top"
case ${1:-all} in
    build) cross build --lib --bins ;;
    unit) tests --lib ;;
    vectors) cross test --test cpu_s390x ;;
    run) checks "${@:2}" ;;
    cargo) cross "${@:2}" ;;
    all)
        status=0
        tests --lib --test cpu_s390x --no-fail-fast || status=1
        checks || status=1
        exit $status
        ;;
    *)
        sed -n '2,/^set/{/^#/p}' "$0" >&2
        exit 2
        ;;
esac
