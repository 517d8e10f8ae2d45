#!/usr/bin/env python3
"""Records what libvirt says to an emulator, as the compact conversations next to this file.

usage: REMUDA_QEMU=/usr/bin/qemu-system-x86_64 record.py DIRECTORY

Runs virsh in the private host of tests/libvirt with QMP logging and writes one NAME.jsonl for each conversation: a
line {"send": COMMAND, "shape": SHAPE} for a command and its reply, {"send": COMMAND, "error": CLASS} for one that
failed, {"event": NAME, "shape": SHAPE}. A shape says which members a value has and of what types, not their values."""

import json
import os
import pathlib
import re
import sys
import time

TESTS = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TESTS))
os.environ["REMUDA_LIBVIRT_TRACE"] = "1"

from harness.shape import shape  # noqa: E402
from libvirt import host  # noqa: E402

MESSAGE = re.compile(
    r"QEMU_MONITOR_SEND_MSG: mon=\S+ msg=(?P<send>\{.*?\})\r?\n|"
    r"QEMU_MONITOR_RECV_REPLY: mon=\S+ reply=(?P<reply>\{.*?\})\r?\n|"
    r"QEMU_MONITOR_RECV_EVENT: mon=\S+ event=(?P<event>\{.*?\})\r?\n",
)
MOST_QUESTIONS_OF_ONE_KIND = 12


def conversation(log):
    """The compact lines for a piece of libvirtd's log."""
    pending, asked, held = None, {}, []
    for match in MESSAGE.finditer(log):
        if match["send"]:
            pending = json.loads(match["send"])
            pending.pop("id", None)
        elif match["event"]:
            event = json.loads(match["event"])
            held.append({"event": event["event"], "shape": shape(event.get("data", {}))})
        elif pending:
            reply = json.loads(match["reply"])
            asked[pending["execute"]] = asked.get(pending["execute"], 0) + 1
            if pending["execute"] != "qom-get" or asked["qom-get"] <= MOST_QUESTIONS_OF_ONE_KIND:
                end = {"error": reply["error"]["class"]} if "error" in reply else {"shape": shape(reply["return"])}
                yield {"send": pending} | end
            pending = None
        if not pending:
            yield from held
            held = []


def main(directory):
    """Plays the operations and writes their conversations."""
    host.enter()
    private = host.Host()
    from libvirt.domain import Domain

    position = 0

    def write(name):
        nonlocal position
        time.sleep(0.5)
        text = host.LOG.read_bytes()[position:].decode(errors="replace")
        position += len(text.encode())
        lines = [json.dumps(line, separators=(",", ":")) for line in conversation(text)]
        pathlib.Path(directory, f"{name}.jsonl").write_text("".join(line + "\n" for line in lines))

    position = host.LOG.stat().st_size
    host.virsh("domcapabilities", "--virttype", "kvm", "--arch", "x86_64", "--machine", "q35")
    write("probe")
    host.virsh("capabilities")
    with Domain(start=False) as domain:
        position = host.LOG.stat().st_size
        domain.start("--paused")
        write("start")
        for name in ("resume", "suspend", "domstats", "reset", "inject-nmi"):
            host.virsh(name, domain.name)
            write(name)
        private.restart_libvirtd()
        write("reconnect")
        host.virsh("resume", domain.name)
        domain.talk("up")
        position = host.LOG.stat().st_size
        host.virsh("shutdown", domain.name, "--mode", "acpi")
        domain.expect_state("shut off (shutdown)")
        write("shutdown")


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]))
