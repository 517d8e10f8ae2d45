"""The recorded replies of QEMU 10.0.13 to questions about CPU models, from our binary over QMP: on this machine and big-endian.

That QEMU ran with its emulation, so our binary gets a host description of what the emulation can do."""

import json
import pathlib
import tempfile

from harness.checks import check, expect, expect_equal
from harness.emulator import binary

from . import simulation
from .monitor import Monitor

VECTORS = simulation.HERE.parent / "vectors" / "s390x" / "tcg"
STATE = "10.0.13-none"
# What QEMU does not know: our name for z196.2, and a command.
OURS = ('"2817-ga2"', '"query-cpu-model"')


def recorded():
    """Every request of that QEMU with its reply."""
    for path in sorted(VECTORS.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            vector = json.loads(line)
            if STATE in vector["states"]:
                yield vector["request"], vector["reply"]


def describe(path):
    """Writes a host description of what the emulation can do, which it told for the model `max`."""
    full = {"execute": "query-cpu-model-expansion", "arguments": {"type": "full", "model": {"name": "max"}}}
    model = next(reply["return"]["model"] for request, reply in recorded() if request == full)
    features = [name for name, on in model["props"].items() if on]
    name = model["name"].removesuffix("-base")
    path.write_text(json.dumps({"target": "s390x", "accelerator": "tcg", "model": name, "features": features}))


def as_recorded(reply):
    """A reply without what we add to QEMU's: names of our own, and the accelerators. Definitions have no order."""
    if not isinstance(reply.get("return"), list):
        return reply
    entries = [entry for entry in reply["return"] if "alias-of" not in entry and entry["typename"] != "host-s390x-cpu"]
    for entry in entries:
        del entry["accelerators"]
    return {"return": sorted(entries, key=lambda entry: entry["name"])}


def replay(command, is_native):
    """Puts every recorded question; the name `host` means something where KVM is built in."""
    asked = 0
    with Monitor(*command) as monitor:
        for request, reply in recorded():
            text = json.dumps(request)
            if any(ours in text for ours in OURS) or is_native and '"host"' in text:
                continue
            mine = as_recorded(monitor.reply(request["execute"], **request.get("arguments", {})))
            expect_equal(mine, reply, text)
            asked += 1
    expect(asked > 1290, f"only {asked} requests were there to ask")


@check("replies: the recorded ones of QEMU 10.0.13 come back over QMP")
def here():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "host.json")
        describe(path)
        replay([binary("qemu-system-s390x"), "-machine", "none", "-accel", f"hostfile,path={path}"], is_native=False)


@check("replies: the recorded ones of QEMU 10.0.13 come back over QMP from a big-endian machine")
def big_endian():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "host.json")
        describe(path)
        # Whichever host: the binary is told of another one.
        words = simulation.ALL[-1].command(simulation.built("REMUDA_S390X_BINARY"), "/dev/null")
        replay([*words, "-machine", "none", "-accel", f"hostfile,path={path}"], is_native=True)
