"""The processor that a guest finds is the one that was promised: what CPUID and the feature registers say inside, beside
the CPU object of QOM."""

import contextlib
import json
import pathlib
import struct
import subprocess

from harness.checks import Skip, check, expect, expect_equal
from harness.emulator import binary, is_ours

from .guest import running

REGISTERS = ("EAX", "EBX", "ECX", "EDX")
# Bits that follow the guest's own control registers, or its interrupt controller: leaf, subleaf, register.
LIVE = {(1, 0, "ECX"): 1 << 27, (7, 0, "ECX"): 1 << 4, (1, 0, "EDX"): 1 << 9, (0x80000001, 0, "EDX"): 1 << 9}


def shining_through():
    """Bits that a guest may find without a promise, by leaf, subleaf and register.

    On hardware there are none. A KVM that runs guests in software lets the processor's own bits of some leaves through,
    whatever it is told; such a one does not offer SSE3 where the processor has it."""
    tool = pathlib.Path(binary()).with_name("remuda")
    host = json.loads(subprocess.run([tool, "host-describe"], capture_output=True, check=True).stdout)
    native, offered = (
        {
            (int(entry["function"], 16), entry["index"], name): int(entry[name.lower()], 16)
            for entry in host[key]
            for name in REGISTERS
        }
        for key in ("native_cpuid", "kvm_supported_cpuid")
    )
    sse3 = (1, 0, "ECX")
    return native if native[sse3] & 1 and not offered[sse3] & 1 else {}


class Found:
    """What the guest's command `u` printed."""

    def __init__(self, console):
        console.type("u")
        self.leaves, self.msrs = {}, {}
        for line in console.expect("CPU-END").splitlines():
            words = line.replace(":", "").split()
            numbers = [int(word, 16) for word in words[1:]] if words[:1] in (["CPUID"], ["MSR"]) else []
            if words[:1] == ["CPUID"]:
                self.leaves[tuple(numbers[:2])] = dict(zip(REGISTERS, numbers[2:]))
            if words[:1] == ["MSR"]:
                self.msrs[numbers[0]] = numbers[1] << 32 | numbers[2]

    def register(self, leaf, subleaf, name):
        """A register; leaves that are all zero are not printed."""
        return self.leaves.get((leaf, subleaf), {}).get(name, 0)

    def text(self, leaf, names):
        """The bytes of some registers as text."""
        return struct.pack(f"<{len(names)}I", *(self.register(leaf, 0, name) for name in names)).decode()


def differences(found, get, through):
    """Where the guest finds another processor than the object `get` asks promises."""
    wrong = []

    def compare(what, seen, wanted):
        if seen != wanted:
            wrong.append(f"{what}: the guest finds {seen}, promised was {wanted}")

    for word in get("feature-words"):
        leaf, subleaf, name = word["cpuid-input-eax"], word.get("cpuid-input-ecx", 0), word["cpuid-register"]
        place = (leaf, subleaf, name)
        promised = word["features"] & ~LIVE.get(place, 0)
        seen = found.register(*place) & ~LIVE.get(place, 0) & ~(through.get(place, 0) & ~promised)
        compare(f"leaf {leaf:#x}.{subleaf} {name}", f"{seen:#x}", f"{promised:#x}")
    compare("vendor", found.text(0, ("EBX", "EDX", "ECX")), get("vendor"))
    brand = "".join(found.text(leaf, REGISTERS) for leaf in (0x80000002, 0x80000003, 0x80000004))
    compare("model-id", brand.rstrip("\0"), get("model-id"))
    signature = found.register(1, 0, "EAX")
    family, model = signature >> 8 & 0xF, signature >> 4 & 0xF | signature >> 12 & 0xF0
    compare("family", family + (signature >> 20 & 0xFF if family == 15 else 0), get("family"))
    compare("model", model, get("model"))
    compare("stepping", signature & 0xF, get("stepping"))
    compare("level", found.register(0, 0, "EAX"), get("level"))
    compare("xlevel", found.register(0x80000000, 0, "EAX"), get("xlevel"))
    compare("phys-bits", found.register(0x80000008, 0, "EAX") & 0xFF, get("phys-bits"))
    return wrong


@contextlib.contextmanager
def promised(text, *arguments):
    """Starts the guest with this -cpu text and compares; gives what the guest found, and a function that asks QOM."""
    if not is_ours(binary()):
        raise Skip("what the words mean is that of the emulator under test")
    with running("-cpu", text, *arguments) as emulator:
        path = emulator.monitor.command("query-cpus-fast")[0]["qom-path"]

        def get(name):
            return emulator.monitor.command("qom-get", path=path, property=name)

        found = Found(emulator.console)
        wrong = differences(found, get, shining_through())
        expect(not wrong, f"-cpu {text}: " + "; ".join(wrong))
        yield found, get


@check("cpu: the guest finds the features, names and levels of the model, and no others")
def models():
    for text in ("host", "qemu64", "EPYC", "Nehalem", "kvm64,host-phys-bits=on"):
        with promised(text):
            pass


@check("cpu: features switched on and off, and numbers that were set, arrive")
def changed():
    text = "qemu64,-nx,+x2apic,family=6,model=26,stepping=3,model-id=A processor of our own,level=7"
    with promised(text) as (found, get):
        expect(not found.register(0x80000001, 0, "EDX") & 1 << 20 and get("nx") is False, "nx is off")
        expect(found.register(1, 0, "ECX") & 1 << 21, "x2apic is on")
        expect_equal(found.register(1, 0, "EAX"), 0x106A3, "signature")
        expect_equal(found.register(0x40000000, 0, "EBX"), 0x4B4D564B, "KVM's signature")
    with promised("qemu64,kvm=off") as (found, _):
        expect((0x40000000, 0) not in found.leaves, "kvm=off hides KVM")


@check("cpu: the topology of -smp is in the leaves")
def topology():
    with promised("host", "-smp", "8,sockets=2,dies=1,cores=2,threads=2") as (found, _):
        expect_equal(found.register(1, 0, "EBX") >> 16 & 0xFF, 4, "logical processors of a package")
        expect_equal(found.register(0xB, 0, "EBX"), 2, "threads of a core")
        expect_equal(found.register(0xB, 1, "EBX"), 4, "threads of a package")


@check("cpu: IA32_ARCH_CAPABILITIES holds what its features promise")
def arch_capabilities():
    bits = {"rdctl-no": 0, "ibrs-all": 1, "rsba": 2, "skip-l1dfl-vmentry": 3, "ssb-no": 4, "mds-no": 5, "taa-no": 8}
    with promised("host") as (found, get):
        there = bool(found.register(7, 0, "EDX") & 1 << 29)
        expect_equal(there, get("arch-capabilities"), "arch-capabilities")
        value = found.msrs.get(0x10A, 0)
        expect_equal({bit: bool(value >> at & 1) for bit, at in bits.items()}, {bit: get(bit) for bit in bits}, "bits")
