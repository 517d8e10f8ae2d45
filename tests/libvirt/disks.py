"""Disks of a domain: those it has from the start, and those that virsh attaches."""

import contextlib
import pathlib
import subprocess
import xml.etree.ElementTree as tree

from harness.checks import check, eventually, expect, expect_equal

from .devices import PORTS
from .domain import Domain, booted
from .host import virsh

HOST = None

MIB = 1 << 20
# The root bus, where the test guest looks.
ROOT_BUS = "<address type='pci' bus='0x00' slot='0x{slot:02x}'/>"


def disk(path, target, more="", driver=""):
    """The element of a raw disk."""
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'{driver}/><source file='{path}'/>"
        f"<target dev='{target}' bus='virtio'/>{more}</disk>"
    )


@contextlib.contextmanager
def images(count, size=2 * MIB):
    """Paths of empty images."""
    paths = [pathlib.Path(f"/run/disk{number}.img") for number in range(count)]
    try:
        for path in paths:
            with open(path, "wb") as file:
                file.truncate(size)
        yield paths
    finally:
        for path in paths:
            path.unlink()


def targets(domain):
    """The domain's disks as `domblklist` tells them: target and source."""
    lines = virsh("domblklist", domain.name).splitlines()
    return dict(line.split() for line in lines if line.startswith("vd") or line.startswith(" vd"))


def table(text):
    """The words of lines `[TARGET] NAME VALUE` or `NAME: VALUE`."""
    words = [line.replace(":", " ").split() for line in text.splitlines() if line.strip()]
    return {line[-2]: line[-1] for line in words}


@check("disks: two from the start, which the guest writes to; domblklist, domblkinfo, domblkstat, blockresize")
def from_the_start():
    with images(2) as (first, second):
        serial = "<serial>remuda-1</serial>"
        disks = disk(first, "vda", serial + ROOT_BUS.format(slot=5), " cache='writethrough' discard='unmap'")
        disks += disk(second, "vdb", ROOT_BUS.format(slot=6), " cache='writeback' error_policy='stop'")
        with booted(DEVICES=PORTS + disks) as domain:
            expect_equal(targets(domain), {"vda": str(first), "vdb": str(second)}, "disks")
            domain.console.type("q w 1 65")
            domain.console.expect("DISK status 0")
            domain.console.type("q i")
            domain.console.expect("DISK status 0 id remuda-1")
            domain.console.type("q w 4095 66 1")
            domain.console.expect("DISK status 0")
            info = table(virsh("domblkinfo", domain.name, "vda"))
            expect_equal(info["Capacity"], str(2 * MIB), "capacity")
            stats = table(virsh("domblkstat", domain.name, "vda"))
            expect_equal((stats["wr_req"], stats["wr_bytes"]), ("1", "512"), "writes of the first disk")
            virsh("blockresize", domain.name, "vdb", "3M")
            expect_equal(table(virsh("domblkinfo", domain.name, "vdb"))["Capacity"], str(3 * MIB), "its new capacity")
            domain.console.type("q c 0 0 1")
            domain.console.expect("DISK 6144 status 0")
            stats = virsh("domstats", domain.name, "--block")
            expect("block.count=2" in stats and f"block.1.capacity={3 * MIB}" in stats, f"domstats: {stats}")
        expect_equal(first.read_bytes()[512:1024], b"A" * 512, "the first image")


@check("disks: attach-disk and detach-disk; a guest that does not let go loses it at the reset, five times")
def attach_and_detach():
    with images(2) as (first, second):
        with booted(DEVICES=PORTS + disk(first, "vda")) as domain:
            for number in range(5):
                virsh("attach-disk", domain.name, str(second), "vdb", "--targetbus", "virtio", "--subdriver", "raw", "--live")
                expect_equal(targets(domain), {"vda": str(first), "vdb": str(second)}, f"disks, round {number}")
                virsh("detach-disk", domain.name, "vdb", "--live")
                virsh("reset", domain.name)
                eventually("the disk is gone", 20, lambda: "vdb" not in targets(domain))
            domain.talk("with one disk")
            expect_equal(table(virsh("domblkstat", domain.name, "vda"))["rd_req"], "0", "the disk that stayed")


@check("disks: an image that another domain has is refused, and the domain runs on")
def shared_image():
    with images(1) as (path,):
        devices = PORTS + disk(path, "vda")
        with booted(DEVICES=devices) as domain, Domain(start=False, DEVICES=devices) as other:
            try:
                other.start()
            except Exception as failure:  # noqa: BLE001
                expect("lock" in str(failure), f"what libvirt says: {failure}")
            else:
                expect(False, "two domains have one image")
            domain.talk("still here")
        with booted(DEVICES=devices, ON_REBOOT="restart") as domain:
            attached = tree.fromstring(virsh("dumpxml", domain.name)).find("devices/disk/source").get("file")
            expect_equal(attached, str(path), "the image when it is free again")


@check("disks: two images of qcow2, one of them over another, from the start and attached")
def grown():
    folder = pathlib.Path("/run")
    base, top, other = (folder / name for name in ("base.qcow2", "top.qcow2", "other.qcow2"))
    try:
        for words in [[base, "2M"], [top, "-b", base, "-F", "qcow2"], [other, "1M"]]:
            run("qemu-img", "create", "-q", "-f", "qcow2", *map(str, words))
        run("qemu-io", "-f", "qcow2", "-c", "write -P 17 0 64k", str(base))
        element = disk(top, "vda", ROOT_BUS.format(slot=5), " discard='unmap'").replace("type='raw'", "type='qcow2'")
        with booted(DEVICES=PORTS + element) as domain:
            domain.console.type("q r")
            domain.console.expect("DISK status 0 bytes 111111")
            domain.console.type("q w 1 65")
            domain.console.expect("DISK status 0")
            info = table(virsh("domblkinfo", domain.name, "vda"))
            expect_equal(info["Capacity"], str(2 * MIB), "capacity")
            stats = virsh("domstats", domain.name, "--block", "--backing")
            expect("block.count=2" in stats, f"the image behind it is told of as well: {stats}")
            virsh("attach-disk", domain.name, str(other), "vdb", "--targetbus", "virtio", "--subdriver", "qcow2", "--live")
            expect_equal(targets(domain), {"vda": str(top), "vdb": str(other)}, "disks")
        for path in (base, top, other):
            run("qemu-img", "check", "-q", str(path))
        seen = run("qemu-io", "-r", "-f", "qcow2", "-c", "read -P 65 512 512", "-c", "read -P 17 1k 63k", str(top))
        expect("Pattern" not in seen, f"what the image has: {seen}")
    finally:
        for path in (base, top, other):
            path.unlink(missing_ok=True)


def run(*words):
    """Runs one of QEMU's tools, which succeeds. Returns what it says."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    expect_equal(done.returncode, 0, f"{words}: {done.stdout}{done.stderr}")
    return done.stdout
