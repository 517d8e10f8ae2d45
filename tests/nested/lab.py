"""A machine with hardware-like KVM inside this one: QEMU's TCG emulates a processor with AMD-V and nested paging,
a stock Debian cloud kernel loads kvm-amd on it, and programs run there as root. /dev/kvm of this host is not used.

Everything the lab holds is put into an initramfs made here; what it prints comes back as text."""

import os
import pathlib
import re
import shutil
import stat
import subprocess
import tempfile

from harness.checks import Failure, Skip
from harness.emulator import ROOT

CACHE = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "nested"
HOST_MODULES = ["irqbypass", "ccp", "kvm", "kvm-amd"]
LAB_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
for module in {modules}; do insmod /modules/$module.ko; done
[ -e /dev/kvm ] || echo "LAB no /dev/kvm"
sh /commands </dev/null 2>&1
echo LAB-END
poweroff -f
"""


class Archive:
    """An initramfs in the "newc" format of Documentation/driver-api/early-userspace/buffer-format.rst."""

    def __init__(self):
        self.parts = []
        self.known = {"."}

    def _entry(self, name, mode, data=b""):
        header = [len(self.known), mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        entry = b"070701" + b"".join(b"%08x" % value for value in header) + name.encode() + b"\0"
        entry += b"\0" * (-len(entry) % 4) + data
        self.parts.append(entry + b"\0" * (-len(entry) % 4))

    def directory(self, name):
        """Adds a directory and those above it."""
        name = name.strip("/")
        if name in self.known or not name:
            return
        self.directory(os.path.dirname(name))
        self.known.add(name)
        self._entry(name, stat.S_IFDIR | 0o755)

    def file(self, name, data, mode=0o755):
        """Adds a file with its contents."""
        name = name.strip("/")
        if name not in self.known:
            self.directory(os.path.dirname(name))
            self.known.add(name)
            self._entry(name, stat.S_IFREG | mode, data)

    def copy(self, source, name):
        """Adds a file or a directory of the host."""
        source = pathlib.Path(source)
        if source.is_dir():
            for entry in source.iterdir():
                self.copy(entry, f"{name}/{entry.name}")
        elif source.exists():
            self.file(name, source.read_bytes())

    def program(self, source, name):
        """Adds a program with the shared libraries it needs."""
        self.copy(source, name)
        listing = subprocess.run(["ldd", source], capture_output=True, text=True).stdout
        for library in re.findall(r"(/\S+) \(0x", listing):
            self.copy(library, library)

    def bytes(self):
        """The archive."""
        trailer = Archive()
        trailer._entry("TRAILER!!!", 0)
        return b"".join(self.parts) + trailer.parts[0]


def debian_kernel():
    """The unpacked package of Debian's current cloud kernel, downloaded once."""
    root = CACHE / "kernel"
    if not (root / "complete").exists():
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        found = kernel_package()
        if not found:
            # A fresh machine has no lists of packages yet.
            subprocess.run(["apt-get", "update", "-qq"], capture_output=True, text=True)
            found = kernel_package()
        if not found:
            raise Failure("apt knows no linux-image-cloud-amd64")
        with tempfile.TemporaryDirectory() as download:
            done = subprocess.run(["apt-get", "download", "-qq", found[1]], cwd=download, capture_output=True, text=True)
            packages = list(pathlib.Path(download).glob("*.deb"))
            if not packages:
                raise Failure(f"{found[1]} cannot be downloaded: {done.stderr.strip()}")
            subprocess.run(["dpkg-deb", "-x", packages[0], root], check=True)
        (root / "complete").touch()
    return root


def kernel_package():
    """A match whose group 1 is the name of the package of the current cloud kernel."""
    depends = subprocess.run(["apt-cache", "depends", "linux-image-cloud-amd64"], capture_output=True, text=True)
    return re.search(r"Depends: (linux-image-[0-9]\S+)", depends.stdout)


def kernel_image():
    """The bzImage of Debian's cloud kernel."""
    return next((debian_kernel() / "boot").glob("vmlinuz-*"))


def need(program, package):
    """Path of a host program; skips where it is not installed."""
    path = shutil.which(program)
    if not path:
        raise Skip(f"{program} is not installed (package {package})")
    return path


def run(commands, programs, files, seconds=400):
    """Runs shell `commands` in the lab with `programs` and `files` (name: source) in it; returns what was printed."""
    tcg = need("qemu-system-x86_64", "qemu-system-x86")
    archive = Archive()
    for directory in ("proc", "sys", "dev", "tmp"):
        archive.directory(directory)
    archive.copy(need("busybox", "busybox-static"), "/bin/busybox")
    for module in HOST_MODULES:
        for path in (debian_kernel() / "lib" / "modules").rglob(f"{module}.ko"):
            archive.copy(path, f"/modules/{module}.ko")
    for name, source in programs.items():
        archive.program(source, name)
    for name, source in files.items():
        archive.file(name, source) if isinstance(source, bytes) else archive.copy(source, name)
    archive.file("/commands", commands.encode())
    archive.file("/init", LAB_INIT.format(modules=" ".join(HOST_MODULES)).encode())
    with tempfile.TemporaryDirectory() as directory:
        initrd = pathlib.Path(directory) / "lab.cpio"
        output = pathlib.Path(directory) / "serial"
        initrd.write_bytes(archive.bytes())
        command = [tcg, "-machine", "q35,accel=tcg", "-cpu", "max,+svm", "-smp", "1", "-m", "1536", "-nodefaults"]
        command += ["-no-user-config", "-display", "none", "-serial", f"file:{output}", "-no-reboot"]
        command += ["-kernel", kernel_image(), "-initrd", initrd, "-append", "console=ttyS0 quiet loglevel=1 panic=-1"]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds)
            trouble = done.stderr
        except subprocess.TimeoutExpired:
            trouble = f"the lab did not end in {seconds} s"
        text = output.read_text(errors="replace").replace("\r", "") if output.exists() else ""
    return text + (f"\nLAB-TROUBLE {trouble}" if trouble else "")
