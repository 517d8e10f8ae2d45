#!/usr/bin/env python3
"""Tier "nested": a stock Debian kernel as guest of the emulator, on KVM inside an emulated AMD-V machine (see
lab.py). Needs no /dev/kvm; downloads Debian's cloud kernel once. About a minute for each guest."""

import os
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
os.environ.setdefault("CHECK_TIME_LIMIT", "900")

from harness import checks  # noqa: E402
from harness.checks import check, expect, expect_equal  # noqa: E402
from harness.emulator import binary, is_ours  # noqa: E402
from nested import lab  # noqa: E402

GUEST_INIT = b"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
echo "GUEST-UP $(uname -r)"
echo "GUEST-CMDLINE $(cat /proc/cmdline)"
echo "GUEST-CPUS $(nproc)"
echo "GUEST-CLOCK $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
echo "GUEST-MEMORY $(sed -n 's/MemTotal: *//p' /proc/meminfo)"
dmesg | grep -E 'Hypervisor detected|ACPI (BIOS )?(Error|Warning)|firmware bug|IOAPIC|MP-BIOS|PM-Timer|MMCONFIG at|SMBIOS|DMI:' | sed 's/^/GUEST-DMESG /'
for function in /sys/bus/pci/devices/*; do echo "GUEST-PCI ${function##*/} $(cat $function/vendor):$(cat $function/device)"; done
for port in /sys/bus/serio/devices/*; do echo "GUEST-SERIO $(cat $port/description)"; done
case $(cat /proc/cmdline) in *do=rng*) sh /rng ;; esac
case $(cat /proc/cmdline) in *end=reboot*) reboot -f ;; *) poweroff -f ;; esac
"""

GUEST_MODULES = ["virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio-rng"]
GUEST_RNG = b"""
for module in %s; do insmod /modules/$module.ko; done
cd /sys/class/misc/hw_random
counted() { set -- $(cat rng_available); echo $#; }
until_there_are() { tries=0; while [ $(counted) != $1 -a $tries -lt 60 ]; do sleep 1; tries=$((tries + 1)); done; }
read_all() {
    for rng in $(cat rng_available); do
        echo $rng > rng_current
        echo "GUEST-RANDOM $rng $(dd if=/dev/hwrng bs=16 count=1 2>/dev/null | od -An -tx1 | tr -d ' ')"
    done
}
until_there_are 2
read_all
for device in /sys/bus/virtio/devices/*; do echo "GUEST-VIRTIO ${device##*/} $(cat $device/device) $(cat $device/features)"; done
sed -n 's/.* \\(virtio.*\\)/GUEST-IRQ \\1/p' /proc/interrupts
echo GUEST-PLUG-IN
until_there_are 3
echo "GUEST-HAS $(counted)"
read_all
echo GUEST-TAKE-OUT
until_there_are 2
echo "GUEST-KEEPS $(counted)"
""" % " ".join(GUEST_MODULES).encode()

CASES = {
    "one": "-smp 1 -append 'console=ttyS0 loglevel=4 panic=-1 end=poweroff'",
    "two": "-smp 2 -no-reboot -append 'console=ttyS0 loglevel=4 panic=-1 end=reboot'",
}
SCRIPT = """
echo "BEGIN {name}"
timeout 150 /emulator/qemu-system-x86_64 -machine q35,accel=kvm -cpu host -m 256 -nodefaults -no-user-config -display none \\
    {firmware} -serial stdio -kernel /guest/vmlinuz -initrd /guest/initrd {extra}
echo "STATUS {name} $?"
"""

RNG_SCRIPT = """
echo "BEGIN rng"
mkfifo /tmp/monitor.in /tmp/monitor.out
cat /tmp/monitor.out > /tmp/said &
sleep 1000 > /tmp/monitor.in &
timeout 250 /emulator/qemu-system-x86_64 -machine q35,accel=kvm -cpu host -m 256 -nodefaults -no-user-config -display none \\
    {firmware} -chardev pipe,id=m,path=/tmp/monitor -mon chardev=m,mode=control -serial file:/tmp/guest \\
    -device pcie-root-port,id=p1,chassis=1 -device pcie-root-port,id=p2,chassis=2 -object rng-random,id=r,filename=/dev/urandom \\
    -device virtio-rng-pci,rng=r -device virtio-rng-pci,bus=p1 -kernel /guest/vmlinuz -initrd /guest/initrd \\
    -append 'console=ttyS0 loglevel=4 panic=-1 end=poweroff do=rng' &
emulator=$!
say() {{ echo "$1" > /tmp/monitor.in; }}
heard() {{ tries=0; until grep -q "$1" /tmp/guest || [ $tries -ge 150 ]; do sleep 1; tries=$((tries + 1)); done; }}
say '{{"execute": "qmp_capabilities"}}'
heard GUEST-PLUG-IN
say '{{"execute": "device_add", "arguments": {{"driver": "virtio-rng-pci", "id": "hot", "bus": "p2", "rng": "r"}}}}'
heard GUEST-TAKE-OUT
say '{{"execute": "device_del", "arguments": {{"id": "hot"}}}}'
wait $emulator
status=$?
cat /tmp/guest /tmp/said
echo "STATUS rng $status"
"""

OUTPUTS = {}


def output(name):
    """What the guest `name` printed and the emulator's exit status; the lab runs once for all guests."""
    if not OUTPUTS:
        program = binary()
        firmware = "" if is_ours(program) else "-L /usr/share/seabios -L /usr/share/qemu"
        guest = lab.Archive()
        for directory in ("proc", "sys", "dev"):
            guest.directory(directory)
        guest.copy(lab.need("busybox", "busybox-static"), "/bin/busybox")
        guest.file("/init", GUEST_INIT)
        guest.file("/rng", GUEST_RNG)
        for module in GUEST_MODULES:
            for path in (lab.debian_kernel() / "lib" / "modules").rglob(f"{module}.ko"):
                guest.copy(path, f"/modules/{module}.ko")
        files = {"/guest/vmlinuz": lab.kernel_image(), "/guest/initrd": guest.bytes()}
        if firmware:
            files |= {"/usr/share/seabios": "/usr/share/seabios", "/usr/share/qemu": "/usr/share/qemu"}
        commands = "".join(SCRIPT.format(name=n, extra=e, firmware=firmware) for n, e in CASES.items())
        commands += RNG_SCRIPT.format(firmware=firmware)
        text = lab.run(commands, {"/emulator/qemu-system-x86_64": program}, files)
        if os.environ.get("REMUDA_NESTED_VERBOSE"):
            print(text)
        expect("BEGIN" in text, f"the lab came up: {text[-600:]!r}")
        for part in text.split("BEGIN ")[1:]:
            OUTPUTS[part.split("\n", 1)[0]] = part
    expect(name in OUTPUTS, f"guest {name} was not reached; the last one printed {list(OUTPUTS.values())[-1][-600:]!r}")
    return OUTPUTS[name]


def line(text, key):
    """What follows `key` in the guest's output."""
    found = re.search(rf"^{key} (.*)$", text, re.M)
    expect(found, f"{key} is missing; the end of the output is {text[-800:]!r}")
    return found[1]


@check("nested: a stock Debian kernel boots to its init and powers off")
def boots():
    text = output("one")
    expect("cloud-amd64" in line(text, "GUEST-UP"), "kernel release")
    expect_equal(line(text, "GUEST-CPUS"), "1", "processors")
    expect("end=poweroff" in line(text, "GUEST-CMDLINE"), "kernel command line")
    expect_equal(line(text, "STATUS one"), "0", "exit status of the emulator")


@check("nested: the kernel finds KVM, its clock, PCI and sound ACPI tables")
def platform():
    text = output("one")
    expect("KVM" in line(text, "GUEST-DMESG .*Hypervisor detected:"), "hypervisor")
    expect_equal(line(text, "GUEST-CLOCK"), "kvm-clock", "clock source")
    complaints = re.findall(r"GUEST-DMESG .*(?:Error|Warning|bug|MP-BIOS).*", text)
    expect_equal(complaints, [], "complaints of the kernel")
    for function in ("0000:00:00.0 0x8086:0x29c0", "0000:00:1f.0 0x8086:0x2918"):
        expect(f"GUEST-PCI {function}" in text, f"PCI function {function}")
    ports = re.findall(r"^GUEST-SERIO (.*)$", text, re.M)
    expect_equal(ports, ["i8042 KBD port", "i8042 AUX port"], "ports of the keyboard controller")
    expect(200_000 < int(line(text, "GUEST-MEMORY").split()[0]) <= 262_144, "memory in KiB")


@check("nested: two processors come up and a reboot ends the emulator with -no-reboot")
def two_processors():
    text = output("two")
    expect_equal(line(text, "GUEST-CPUS"), "2", "processors")
    expect_equal(line(text, "STATUS two"), "0", "exit status of the emulator")


@check("nested: virtio-rng gives random bytes, by its own vectors; one that is plugged in does as well, and goes again")
def random_bytes():
    text = output("rng")
    expect_equal(line(text, "STATUS rng"), "0", "exit status of the emulator")
    found = re.findall(r"^GUEST-RANDOM (\S+) ([0-9a-f]{32})$", text, re.M)
    expect_equal([name for name, _ in found], [f"virtio_rng.{n}" for n in (0, 1, 0, 1, 2)], "who gave bytes")
    expect_equal(len({data for _, data in found}), 5, "bytes that differ")
    kinds = re.findall(r"^GUEST-VIRTIO (virtio\d) 0x0004 ([01]+)$", text, re.M)
    expect_equal(len(kinds), 2, "devices that the driver found")
    for name, features in kinds:
        bits = [bit for bit, on in enumerate(features) if on == "1"]
        expect_equal(bits, [28, 29, 32, 40], f"features that the driver of {name} accepted")
    vectors = re.findall(r"^GUEST-IRQ (virtio\d-\S+)$", text, re.M)
    expect(any(vector.startswith("virtio1-input") for vector in vectors), f"a vector for the queue: {vectors}")
    expect_equal((line(text, "GUEST-HAS"), line(text, "GUEST-KEEPS")), ("3", "2"), "devices after plugging in, and after taking out")
    expect('"DEVICE_DELETED"' in text and '"device": "hot"' in text, "the guest let the device go")


checks.main()
