#!/usr/bin/env bash
# Runs tests/kvm_s390x.rs on a simulated /dev/kvm, once for each recorded host. Needs what cross.sh sets up, and is run by it.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
hosts=$here/../vectors/s390x/hosts
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

s390x-linux-gnu-gcc -O1 -Wall -Wextra -Werror -shared -fPIC -o "$work/kvmsim.so" "$here/kvmsim/kvmsim.c" -ldl
test=$("$here/cross.sh" cargo test --test kvm_s390x --no-run --message-format=json \
    | python3 -c 'import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == "kvm_s390x":
        print(message["executable"])')
[ -x "$test" ] || { echo "kvm_s390x was not built" >&2; exit 1; }

for description in "$hosts"/*/sim_host.json; do
    name=$(basename "$(dirname "$description")")
    echo "simulated host $name"
    "$here/kvmsim/describe.py" "$description" "$work/$name.host"
    : >"$work/$name.log"
    # One thread: the tests share the log.
    qemu-s390x-static -L /usr/s390x-linux-gnu -E "LD_PRELOAD=$work/kvmsim.so" -E "KVMSIM_HOST=$work/$name.host" \
        -E "KVMSIM_LOG=$work/$name.log" -E "KVMSIM_DESCRIPTION=$description" "$test" --test-threads=1
done
