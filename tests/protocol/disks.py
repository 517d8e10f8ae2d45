"""Disks: nodes that clients make, and what a guest reads from and writes to them."""

import contextlib
import os
import subprocess
import tempfile

from harness.checks import Skip, check, expect, expect_equal
from harness.emulator import Emulator, need_kvm
from protocol.devices import GUEST, error_of, last_line

DISK = "virtio-blk-pci"
SECTOR = 512
MIB = 1 << 20


@contextlib.contextmanager
def images(*contents):
    """Paths of files with these contents; a number stands for as many zero bytes."""
    with tempfile.TemporaryDirectory() as directory:
        paths = []
        for number, content in enumerate(contents):
            paths.append(os.path.join(directory, f"disk{number}"))
            with open(paths[-1], "wb") as file:
                if isinstance(content, int):
                    file.truncate(content)
                else:
                    file.write(content)
        yield paths


def blockdev(name, path, options=""):
    """The arguments for an image and the format over it, as libvirt names them."""
    return [
        "-blockdev", f"driver=file,node-name={name}-storage,filename={path},auto-read-only=on,discard=unmap",
        "-blockdev", f"driver=raw,node-name={name},file={name}-storage{options}",
    ]


def ask(emulator, text, answer):
    """Lets the guest ask its disk, and waits for what it makes of it."""
    emulator.console.type(f"q {text}")
    emulator.console.expect(f"DISK {answer}\r\n")


@check("disks: a guest reads and writes two of them, each its own")
def read_and_write():
    need_kvm()
    with images(bytes(range(1, 256)) + b"\0" * (MIB - 255), 2 * MIB) as (first, second):
        arguments = blockdev("a", first) + blockdev("b", second)
        arguments += ["-device", f"{DISK},drive=a,id=da,serial=first", "-device", f"{DISK},drive=b,id=db,serial={'s' * 30}"]
        with Emulator(*arguments) as emulator:
            emulator.console.expect("READY")
            ask(emulator, "c", "2048 status 0")
            ask(emulator, "c 0 0 1", "4096 status 0")
            ask(emulator, "r", "status 0 bytes 010000")
            ask(emulator, "w 3 171", "status 0")
            ask(emulator, "w 4095 205 1", "status 0")
            ask(emulator, "f", "status 0")
            ask(emulator, "r 3", "status 0 bytes ababab")
            ask(emulator, "r 4095 0 1", "status 0 bytes cdcdcd")
            ask(emulator, "r 4096 0 1", "status 1 bytes 000000")
            ask(emulator, "w 2048 1", "status 1")
            ask(emulator, "i", "status 0 id first")
            ask(emulator, "i 0 0 1", f"status 0 id {'s' * 20}")
            monitor = emulator.qmp()
            stats = {entry["qdev"]: entry["stats"] for entry in monitor.command("query-blockstats")}
            first_stats, second_stats = (stats[f"/machine/peripheral/{name}/virtio-backend"] for name in ("da", "db"))
            counted = {
                "rd_bytes": 2 * SECTOR, "rd_operations": 2, "wr_bytes": SECTOR, "wr_operations": 1, "flush_operations": 1,
                "invalid_wr_operations": 1, "invalid_rd_operations": 0, "wr_highest_offset": 4 * SECTOR,
            }
            expect_equal({name: first_stats[name] for name in counted}, counted, "what the first disk counted")
            expect_equal(second_stats["invalid_rd_operations"], 1, "reads beyond the end of the second")
        with open(first, "rb") as file:
            expect_equal(file.read()[3 * SECTOR : 5 * SECTOR], b"\xab" * SECTOR + b"\0" * SECTOR, "the first image")
        with open(second, "rb") as file:
            expect_equal(file.read()[-SECTOR:], b"\xcd" * SECTOR, "the second image")
            expect_equal(os.path.getsize(second), 2 * MIB, "its length")


# Prints a letter on COM1, and halts.
BOOT_SECTOR = b"\xba\xf8\x03\xb0%c\xee\xf4\xeb\xfd"


@check("disks: firmware starts from the disk that bootindex says, and from none that it was not told of")
def boot_order():
    need_kvm()
    sectors = [(BOOT_SECTOR % letter).ljust(510, b"\0") + b"\x55\xaa" + bytes(MIB - 512) for letter in b"QZ"]
    with images(*sectors) as (first, second):
        nodes = blockdev("a", first) + blockdev("b", second)
        port = ["-device", "pcie-root-port,id=p,chassis=1"]
        for devices, letter in [
            ([f"{DISK},drive=a,bootindex=2", f"{DISK},drive=b,bus=p,bootindex=1"], "Z"),
            ([f"{DISK},drive=a,bootindex=0", f"{DISK},drive=b,bus=p"], "Q"),
        ]:
            words = [word for device in devices for word in ("-device", device)]
            with Emulator(*nodes, *port, *words, "-boot", "strict=on", guest=False) as emulator:
                emulator.console.expect(letter)
        twice = [*nodes, "-device", f"{DISK},drive=a,bootindex=1", "-device", f"{DISK},drive=b,bootindex=1"]
        complaint = f"-device {DISK},drive=b,bootindex=1: The bootindex 1 has already been used"
        expect_equal(last_line(*GUEST, *twice), complaint, "two that would be first")
        with Emulator(*nodes, "-device", f"{DISK},drive=a,id=d", guest=False, console=False, paused=True) as emulator:
            index = emulator.qmp().command("qom-get", path="/machine/peripheral/d", property="bootindex")
            expect_equal(index, -1, "the index of a disk that has none")


@check("disks: nodes that cannot be made are refused in QEMU's words, with a guest and without")
def wrong_nodes():
    with images(MIB) as (path,):
        directory = os.path.dirname(path)
        file = {"driver": "file", "node-name": "x1", "filename": path}
        wrong = [
            ({**file}, "Duplicate nodes with node-name='x1'"),
            ({"driver": "raw", "file": "x1"}, "'node-name' must be specified for the root node"),
            ({"driver": "raw", "node-name": "x3", "file": "no"}, "Cannot find device='no' nor node-name='no'"),
            ({**file, "node-name": "x4", "filename": "/nodir/x"}, "Could not open '/nodir/x': No such file or directory"),
            ({**file, "node-name": "x4", "filename": directory}, f"Could not open '{directory}': Is a directory"),
            ({"driver": "nosuch", "node-name": "x6"}, "Parameter 'driver' does not accept value 'nosuch'"),
            ({**file, "node-name": "x7", "bogus": 1}, "Parameter 'bogus' is unexpected"),
            ({**file, "node-name": "1bad"}, "Invalid node-name: '1bad'"),
            ({**file, "node-name": "x" * 32}, "Node name too long"),
            ({"node-name": "x8"}, "Parameter 'driver' is missing"),
            ({"driver": "file", "node-name": "x9"}, "Parameter 'filename' is missing"),
            ({**file, "node-name": "x10", "aio": "native"}, "Parameter 'aio' does not accept value 'native'"),
            (
                {"driver": "host_device", "node-name": "x22", "filename": path},
                f"'host_device' driver requires '{path}' to be either a character or block device",
            ),
            (
                {"driver": "raw", "node-name": "x2", "file": "x1", "offset": 4096, "size": 1 << 40},
                "The sum of offset (4096) and size (1099511627776) has to be smaller or equal to the  actual size of "
                f"the containing file ({MIB})",
            ),
        ]
        machines = ["none"] + (["q35"] if os.access("/dev/kvm", os.R_OK | os.W_OK) else [])
        for machine in machines:
            with Emulator(machine=machine, guest=False, console=False, paused=True) as emulator:
                monitor = emulator.qmp()
                monitor.command("blockdev-add", **file)
                for options, complaint in wrong:
                    expect_equal(error_of(monitor, "blockdev-add", **options), complaint, f"{options} on {machine}")
                found = [node["node-name"] for node in monitor.command("query-named-block-nodes")]
                expect_equal(found, ["x1"], "nodes that are left")
                missing = "Failed to find node with node-name='x2'"
                expect_equal(error_of(monitor, "blockdev-del", **{"node-name": "x2"}), missing, "one that is not there")
                monitor.command("blockdev-del", **{"node-name": "x1"})
                expect_equal(monitor.command("query-named-block-nodes"), [], "none")
                expect_equal((monitor.command("query-block"), monitor.command("query-blockstats")), ([], []), "no disk")


@check("disks: what a start is refused for is named")
def wrong_starts():
    need_kvm()
    with images(MIB) as (path,):
        node = ["-blockdev", f"driver=file,node-name=a,filename={path}"]
        for words, complaint in [
            (["-blockdev", "driver=file,node-name=a,filename=/nodir/x"], "Could not open '/nodir/x': No such file or directory"),
            (["-blockdev", "driver=file,filename=/nodir/x"], "'node-name' must be specified for the root node"),
            (["-blockdev", '{"driver":"raw","node-name":"r","file":"no"}'], "Cannot find device='no' nor node-name='no'"),
            (["-device", DISK], "drive property not set"),
            (["-device", f"{DISK},drive=no"], "Property 'virtio-blk-device.drive' can't find value 'no'"),
            ([*node, "-device", f"{DISK},drive=a,queue-size=100"], "invalid queue-size property (100), must be a power of 2 (max 1024)"),
            ([*node, "-device", f"{DISK},drive=a,num-queues=0"], "num-queues property must be larger than 0"),
            ([*node, "-device", f"{DISK},drive=a,werror=never"], "Parameter 'werror' does not accept value 'never'"),
            (
                [*node, "-device", f"{DISK},drive=a,logical_block_size=4096,physical_block_size=512"],
                "logical_block_size > physical_block_size not supported",
            ),
        ]:
            expect_equal(last_line(*GUEST, *words), f"{words[-2]} {words[-1]}: {complaint}", f"message about {words}")


@check("disks: two users of an image are kept apart: two disks, two emulators, and QEMU's tools")
def locks():
    need_kvm()
    with images(MIB) as (path,):
        node = blockdev("a", path)
        with Emulator(*node, "-device", f"{DISK},drive=a,id=d", console=False, guest=False, paused=True) as emulator:
            monitor = emulator.qmp()
            monitor.command("blockdev-add", **{"driver": "file", "node-name": "b", "filename": path})
            expect_equal(error_of(monitor, "blockdev-del", **{"node-name": "a"}), "Node a is in use", "the disk's node")
            complaint = error_of(monitor, "blockdev-del", **{"node-name": "a-storage"})
            expect_equal(complaint, "Block device a-storage is in use", "the node below it")
            lock = 'Failed to get "write" lock'
            expect_equal(last_line(*GUEST, *node, "-device", f"{DISK},drive=a"), f"-device {DISK},drive=a: {lock}", "another guest")
            opened = subprocess.run(["qemu-io", "-f", "raw", "-c", "read 0 512", path], capture_output=True, text=True, timeout=60)
            expect(lock in opened.stderr, f"QEMU's tool opens an image in use: {opened}")
            shared = subprocess.run(["qemu-img", "info", "-U", path], capture_output=True, text=True, timeout=60)
            expect_equal(shared.returncode, 0, "a tool that does not mind")
        tool = ["qemu-io", "-f", "raw", path]
        with subprocess.Popen(tool, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            holder.stdin.write("read 0 512\n")
            holder.stdin.flush()
            holder.stdout.readline()
            complaint = last_line(*GUEST, *node, "-device", f"{DISK},drive=a")
            lock = 'Failed to get shared "write" lock'
            expect_equal(complaint, f"-device {DISK},drive=a: {lock}", "an image that QEMU's tool has")
            holder.stdin.close()
        with Emulator(*node, "-device", f"{DISK},drive=a", console=False, guest=False, paused=True) as emulator:
            expect_equal(len(emulator.qmp().command("query-block")), 1, "disks once the tool is gone")


@check("disks: what clients are told of disks and nodes has QEMU's members")
def told():
    need_kvm()
    with images(MIB, MIB) as (first, second):
        nodes = blockdev("a", first) + ["-blockdev", f"driver=file,node-name=b,filename={second},read-only=on,cache.direct=on"]
        devices = ["-device", f"{DISK},drive=a,id=d", "-device", f"{DISK},drive=b,write-cache=off"]
        with Emulator(*nodes, *devices, console=False, guest=False, paused=True) as emulator:
            monitor = emulator.qmp()
            first_disk, second_disk = monitor.command("query-block")
            path = "/machine/peripheral/d/virtio-backend"
            about = {"device": "", "qdev": path, "type": "unknown", "removable": False, "locked": False, "io-status": "ok"}
            expect_equal({name: first_disk[name] for name in about}, about, "the first disk")
            inserted = first_disk["inserted"]
            cache = {"writeback": True, "direct": False, "no-flush": False}
            about = {"node-name": "a", "drv": "raw", "file": first, "ro": False, "cache": cache, "detect_zeroes": "off"}
            expect_equal({name: inserted[name] for name in about}, about, "its node")
            expect_equal(inserted["children"], [{"child": "file", "node-name": "a-storage"}], "what that is made of")
            about = {"filename": first, "format": "raw", "virtual-size": MIB, "actual-size": 0}
            expect_equal({name: inserted["image"][name] for name in about}, about, "its image")
            inserted = second_disk["inserted"]
            cache = {"writeback": False, "direct": True, "no-flush": False}
            about = {"node-name": "b", "drv": "file", "ro": True, "cache": cache}
            expect_equal({name: inserted[name] for name in about}, about, "the node of the second")
            names = [node["node-name"] for node in monitor.command("query-named-block-nodes")]
            expect_equal(names, ["b", "a", "a-storage"], "nodes, the newest first")
            stats = monitor.command("query-blockstats")
            expect_equal([entry["qdev"] for entry in stats][0], path, "the first disk's counts")
            specific = stats[0]["parent"]["driver-specific"]
            zeros = {"driver": "file", "discard-nb-ok": 0, "discard-nb-failed": 0, "discard-bytes-ok": 0}
            expect_equal(specific, zeros, "what its file counts")
            by_node = monitor.command("query-blockstats", **{"query-nodes": True})
            expect_equal([entry["node-name"] for entry in by_node], names, "the counts of nodes")


@check("disks: one that is resized, discarded from and zeroed, as its guest and its file show")
def resize_and_discard():
    need_kvm()
    with images(b"\xee" * MIB) as (path,):
        with Emulator(*blockdev("a", path, ",discard=unmap"), "-device", f"{DISK},drive=a,id=d") as emulator:
            monitor = emulator.qmp()
            emulator.console.expect("READY")
            ask(emulator, "c", "2048 status 0")
            monitor.command("block_resize", **{"node-name": "a", "size": 2 * MIB})
            ask(emulator, "c", "4096 status 0")
            for size, complaint in [(1000, "The new size must be a multiple of 512"), (-512, "Parameter 'size' expects a >0 size")]:
                expect_equal(error_of(monitor, "block_resize", **{"node-name": "a", "size": size}), complaint, f"size {size}")
            before = os.stat(path).st_blocks
            ask(emulator, "d 0 1024", "status 0")
            ask(emulator, "r 8", "status 0 bytes 000000")
            ask(emulator, "z 1024 8", "status 0")
            ask(emulator, "r 1024", "status 0 bytes 000000")
            ask(emulator, "r 1032", "status 0 bytes eeeeee")
            expect(os.stat(path).st_blocks <= before - 1024, "discarded bytes are given back")
            counted = monitor.command("query-blockstats")[0]["parent"]["driver-specific"]
            expect_equal(counted["discard-bytes-ok"], 1024 * SECTOR, "what the file counts")
        expect_equal(os.path.getsize(path), 2 * MIB, "the file's length")


@check("disks: a guest whose image has no room is stopped, and goes on where it was; or it is told")
def no_room():
    need_kvm()
    with small_folder(64 << 10) as folder:
        path = os.path.join(folder, "disk")
        ballast = os.path.join(folder, "ballast")
        for options, stops in [("", True), (",werror=report", False), (",werror=stop", True)]:
            with open(path, "wb") as file:
                file.truncate(MIB)
            fill_up(ballast)
            with Emulator(*blockdev("a", path), "-device", f"{DISK},drive=a,id=d{options}") as emulator:
                monitor = emulator.qmp()
                emulator.console.expect("READY")
                emulator.console.type("q w 5 66")
                path_in_tree = "/machine/peripheral/d/virtio-backend"
                about = {
                    "qom-path": path_in_tree, "device": "", "node-name": "a", "operation": "write", "nospace": True,
                    "action": "stop" if stops else "report", "reason": "No space left on device",
                }
                expect_equal(monitor.wait_event("BLOCK_IO_ERROR")["data"], about, "what clients are told")
                if not stops:
                    emulator.console.expect("DISK status 1\r\n")
                    expect_equal(monitor.command("query-status")["status"], "running", "the state")
                    continue
                monitor.wait_event("STOP")
                expect_equal(monitor.command("query-status")["status"], "io-error", "the state")
                expect_equal(monitor.command("query-block")[0]["io-status"], "nospace", "the disk's state")
                monitor.command("cont")
                monitor.wait_event("BLOCK_IO_ERROR")
                monitor.wait_event("STOP")
                os.truncate(ballast, 0)
                monitor.command("cont")
                emulator.console.expect("DISK status 0\r\n")
                expect_equal(monitor.command("query-block")[0]["io-status"], "ok", "the disk's state at the end")
            with open(path, "rb") as file:
                expect_equal(file.read()[5 * SECTOR : 6 * SECTOR], b"B" * SECTOR, "what was written")


def fill_up(path):
    """Writes a file until there is no room any more."""
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


@contextlib.contextmanager
def small_folder(size):
    """A folder of a file system that has room for `size` bytes."""
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True, timeout=60)
        if mounted.returncode:
            raise Skip(f"no file system can be mounted: {mounted.stderr.strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", folder], check=True, timeout=60)


@check("disks: plugged in and out while the guest stands, from a descriptor set, and its node removed after it")
def hotplug():
    need_kvm()
    with images(MIB, MIB) as (first, second):
        port = ["-device", "pcie-root-port,id=rp1,chassis=1", "-device", "pcie-root-port,id=rp2,chassis=2"]
        opened = open(first, "r+b")
        descriptor = ["-add-fd", f"set=3,fd={opened.fileno()}"]
        with Emulator(*port, *descriptor, console=False, guest=False, paused=True, pass_fds=[opened]) as emulator:
            monitor = emulator.qmp()
            monitor.command("blockdev-add", **{"driver": "file", "node-name": "s", "filename": "/dev/fdset/3"})
            monitor.command("blockdev-add", **{"driver": "raw", "node-name": "f", "file": "s"})
            monitor.command("blockdev-add", **{"driver": "file", "node-name": "g", "filename": second})
            monitor.command("device_add", driver=DISK, id="d1", bus="rp1", drive="f", **{"bootindex": 3})
            for wrong, complaint in [
                ({"drive": "nodrive"}, "Property 'virtio-blk-device.drive' can't find value 'nodrive'"),
                ({}, "drive property not set"),
                ({"drive": "g", "bogus": 1}, f"Property '{DISK}.bogus' not found"),
                ({"drive": "g", "bootindex": 3}, "The bootindex 3 has already been used"),
                (
                    {"drive": "f"},
                    "Permission conflict on node 'f': permissions 'write' are both required by block device "
                    "'/machine/peripheral/d1/virtio-backend' (uses node 'f' as 'root' child) and unshared by block device "
                    "'/machine/peripheral/d2/virtio-backend' (uses node 'f' as 'root' child).",
                ),
            ]:
                expect_equal(error_of(monitor, "device_add", driver=DISK, id="d2", bus="rp2", **wrong), complaint, f"{wrong}")
            monitor.command("device_add", driver=DISK, id="d2", bus="rp2", drive="g")
            expect_equal(len(monitor.command("query-block")), 2, "disks")
            expect_equal(error_of(monitor, "blockdev-del", **{"node-name": "f"}), "Node f is in use", "a node in use")
            monitor.command("device_del", id="d1")
            monitor.command("system_reset")
            monitor.wait_event("DEVICE_DELETED")
            expect_equal([disk["inserted"]["node-name"] for disk in monitor.command("query-block")], ["g"], "disks that are left")
            monitor.command("blockdev-del", **{"node-name": "f"})
            monitor.command("blockdev-del", **{"node-name": "s"})
            monitor.command("blockdev-add", **{"driver": "file", "node-name": "s", "filename": first})
            monitor.command("device_add", driver=DISK, id="d1", bus="rp1", drive="s", **{"bootindex": 3})
