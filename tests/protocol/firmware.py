"""Firmware that people run, on this machine: SeaBIOS through its power-on self-test."""

import os
import socket

from harness.checks import Skip, check, expect
from harness.emulator import Console, Emulator, need_kvm

# Where Debian's package seabios has it.
SEABIOS = "/usr/share/seabios/bios-256k.bin"


def seabios(*arguments, **options):
    """A guest that starts SeaBIOS, with what that says of itself as `.log`."""
    need_kvm()
    if not os.path.exists(SEABIOS):
        raise Skip("SeaBIOS is not installed (apt-get install seabios)")
    ours, theirs = socket.socketpair()
    chardev = f"socket,id=log,fd={theirs.fileno()}"
    devices = ["-chardev", chardev, "-device", "isa-debugcon,iobase=0x402,chardev=log"]
    emulator = Emulator(*devices, *arguments, guest=False, pass_fds=[theirs], **options)
    emulator.log = Console(os.dup(ours.fileno()))
    ours.close()
    return emulator


def self_test(emulator):
    """SeaBIOS runs from its first line to where it gives up, as there is nothing to boot."""
    emulator.log.expect("SeaBIOS (version ", timeout=120)
    seen = emulator.log.expect("No bootable device.", timeout=240)
    for line in ["Found QEMU fw_cfg", "Relocating init", "PCI: ", "Found 1 cpu(s)", "All threads complete."]:
        expect(line in seen, f"{line!r} is missing from {seen[-2000:]!r}")


@check("firmware: SeaBIOS is found and runs through its self-test, and again after a reset")
def post():
    with seabios("-device", "pcie-root-port,id=p,chassis=1,addr=0x2") as emulator:
        self_test(emulator)
        emulator.qmp().command("system_reset")
        self_test(emulator)


@check("firmware: SeaBIOS named by -bios, and looked for in the folder of -L, finds two vCPUs, with either irqchip")
def named():
    folder, name = os.path.split(SEABIOS)
    ports = [word for n in (1, 2) for word in ("-device", f"pcie-root-port,id=p{n},chassis={n},port={n}")]
    for where, irqchip in ((["-bios", SEABIOS], "on"), (["-L", folder, "-bios", name], "split")):
        with seabios(*where, "-machine", f"kernel-irqchip={irqchip}", "-smp", "2", *ports) as emulator:
            seen = emulator.log.expect("No bootable device.", timeout=240)
            expect("Found 2 cpu(s) max supported 2 cpu(s)" in seen, f"vCPUs in {seen[-2000:]!r}")
