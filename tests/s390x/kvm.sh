#!/usr/bin/env bash
# Runs tests/kvm_s390x.rs and our qemu-system-s390x (guest.py) on a simulated /dev/kvm, once for each recorded host. Needs what
# cross.sh sets up, and is run by it.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
hosts=$here/../vectors/s390x/hosts
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

s390x-linux-gnu-gcc -O1 -Wall -Wextra -Werror -shared -fPIC -o "$work/kvmsim.so" "$here/kvmsim/kvmsim.c" -ldl
# The path of what cargo builds with these arguments and this name.
build() {
    local name=$1 path
    shift
    path=$("$here/cross.sh" cargo "$@" --message-format=json | python3 -c 'import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == sys.argv[1]:
        print(message["executable"])' "$name")
    [ -x "$path" ] || { echo "$name was not built" >&2; exit 1; }
    echo "$path"
}
test=$(build kvm_s390x test --test kvm_s390x --no-run)
binary=$(build qemu-system-s390x build --bin qemu-system-s390x)

for description in "$hosts"/*/sim_host.json; do
    name=$(basename "$(dirname "$description")")
    echo "simulated host $name"
    "$here/kvmsim/describe.py" "$description" "$work/$name.host"
    : >"$work/$name.log"
    # One thread: the tests share the log.
    qemu-s390x-static -L /usr/s390x-linux-gnu -E "LD_PRELOAD=$work/kvmsim.so" -E "KVMSIM_HOST=$work/$name.host" \
        -E "KVMSIM_LOG=$work/$name.log" -E "KVMSIM_DESCRIPTION=$description" "$test" --test-threads=1
    "$here/guest.py" "$binary" "$work/kvmsim.so" "$work/$name.host" "$description"
done
