"""Exits of a guest's vCPUs per second: each vCPU does nothing but write to one port, or to memory that nobody answers."""

import json
import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests"))

from harness import firmware  # noqa: E402

PORT = b"\xee\xeb\xfd"  # out dx, al; again
MEMORY = b"\xa2\x00\x00\xeb\xfb"  # mov [0], al; again
# The window of a graphics card there is none of.
HOLE = 0xA000


def write_image(path, body):
    """Firmware on which the first vCPU starts the others; then all do `body` for ever. Port 0x80 is in DX, the hole in DS."""
    local_apic = b"\x66\xb9\x1b\x00\x00\x00\x0f\x32"  # mov ecx, IA32_APIC_BASE; rdmsr
    x2apic = b"\x66\x0d\x00\x0c\x00\x00\x0f\x30"  # or eax, EN | EXTD; wrmsr
    command = b"\x66\xb9\x30\x08\x00\x00" + b"\x66\x31\xd2"  # mov ecx, x2APIC ICR; xor edx, edx
    init = b"\x66\xb8\x00\x45\x0c\x00\x0f\x30"  # to all but itself: INIT
    start = b"\x66\xb8\xf0\x46\x0c\x00\x0f\x30"  # start at F000:0000
    others = x2apic + command + init + start + start
    first = b"\xa9\x00\x01" + b"\x74" + bytes([len(others)])  # test ax, BSP; jz: not the first
    setup = b"\xb8" + HOLE.to_bytes(2, "little") + b"\x8e\xd8" + b"\xba\x80\x00"
    firmware.write(path, local_apic + first + others + setup + body)


def exits(monitor):
    """All vCPUs' exits so far."""
    arguments = {"target": "vcpu", "providers": [{"provider": "kvm", "names": ["exits"]}]}
    reply = json.loads(monitor.command("query-stats", **arguments))["return"]
    return sum(entry["stats"][0]["value"] for entry in reply)


def per_second(session, body, vcpus, seconds=0.5):
    """Exits per second of a guest with so many vCPUs; `session` starts one with these arguments."""
    with tempfile.NamedTemporaryFile() as image:
        write_image(image.name, body)
        with session(["-bios", image.name, "-smp", str(vcpus)]) as monitor:
            monitor.command("cont")
            time.sleep(0.1)
            start, before = time.perf_counter(), exits(monitor)
            time.sleep(seconds)
            after = exits(monitor)
            return (after - before) / (time.perf_counter() - start)
