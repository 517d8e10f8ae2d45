"""Disks whose images are of qcow2: what a guest writes there, what is behind them, and what clients are told."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time

from harness.checks import Skip, check, expect, expect_equal
from harness.emulator import Emulator, need_kvm
from protocol.devices import GUEST, error_of, last_line
from protocol.disks import DISK, MIB, SECTOR, ask


def tool(folder, *words, statuses=(0,)):
    """Runs one of QEMU's tools in a folder. Returns what it says."""
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60)
    expect(done.returncode in statuses, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


@contextlib.contextmanager
def folder_with(*images):
    """A folder with images: name, size and options of `qemu-img create` for each."""
    if not shutil.which("qemu-img"):
        raise Skip("qemu-img (package qemu-utils) is not here")
    with tempfile.TemporaryDirectory() as folder:
        for name, size, *options in images:
            words = [word for option in options for word in ("-o", option)]
            tool(folder, "qemu-img", "create", "-q", "-f", "qcow2", *words, name, *([str(size)] if size else []))
        yield folder


def image(name, path, options=""):
    """The arguments for an image, as libvirt names its nodes."""
    return [
        "-blockdev", f"driver=file,node-name={name}-storage,filename={path},auto-read-only=on,discard=unmap",
        "-blockdev", f"driver=qcow2,node-name={name}-format,file={name}-storage{options}",
    ]


def check_image(folder, name):
    """QEMU finds nothing wrong with an image, not even clusters that nobody uses."""
    tool(folder, "qemu-img", "check", "-q", name)


@check("qcow2: a guest reads and writes two images, and QEMU's tools find what it wrote")
def read_and_write():
    need_kvm()
    with folder_with(("a", "4M"), ("b", "1M", "compat=0.10")) as folder:
        tool(folder, "qemu-io", "-f", "qcow2", "-c", "write -P 17 0 64k", "a")
        nodes = image("a", f"{folder}/a", ",discard=unmap") + image("b", f"{folder}/b")
        disks = ["-device", f"{DISK},drive=a-format,id=da", "-device", f"{DISK},drive=b-format,id=db"]
        with Emulator(*nodes, *disks) as emulator:
            emulator.console.expect("READY")
            ask(emulator, "c", "8192 status 0")
            ask(emulator, "c 0 0 1", "2048 status 0")
            ask(emulator, "r", "status 0 bytes 111111")
            ask(emulator, "r 500", "status 0 bytes 000000")
            ask(emulator, "w 3 171", "status 0")
            ask(emulator, "w 8191 205", "status 0")
            ask(emulator, "w 700 34 1", "status 0")
            ask(emulator, "r 3", "status 0 bytes ababab")
            ask(emulator, "r 8191", "status 0 bytes cdcdcd")
            ask(emulator, "d 256 128", "status 0")
            ask(emulator, "z 8191 1", "status 0")
            ask(emulator, "r 8191", "status 0 bytes 000000")
            ask(emulator, "f", "status 0")
            # What was flushed is there for others, though the image is still open.
            seen = tool(folder, "qemu-io", "-U", "-r", "-f", "qcow2", "-c", "read -P 171 1536 512", "a")
            expect("Pattern" not in seen, f"a flushed sector: {seen}")
            emulator.qmp().command("quit")
            emulator.wait()
        for name, requests in [("a", ["read -P 171 1536 512", "read -P 17 2k 62k", "read -P 0 64k 4032k"]), ("b", ["read -P 34 350k 512"])]:
            words = [word for request in requests for word in ("-c", request)]
            seen = tool(folder, "qemu-io", "-r", "-f", "qcow2", *words, name)
            expect("Pattern" not in seen, f"what {name} has: {seen}")
            check_image(folder, name)


# What is the same of every image of 4 MiB that `qemu-img create` makes.
LIMITS = {
    "request-alignment": 1, "min-mem-alignment": 1, "opt-mem-alignment": 4096, "max-iov": 1024,
    "write-zeroes-alignment": 65536, "discard-alignment": 65536,
}
DATA = {
    "compat": "1.1", "compression-type": "zlib", "lazy-refcounts": False, "refcount-bits": 16, "corrupt": False, "extended-l2": False,
}
IMAGE = {
    "format": "qcow2", "virtual-size": 4 * MIB, "cluster-size": 65536, "dirty-flag": False,
    "format-specific": {"type": "qcow2", "data": DATA}, "limits": LIMITS,
}


def without_size(told):
    """An image without its size on the host, and those behind it as well."""
    told = {key: value for key, value in told.items() if key != "actual-size"}
    return {key: without_size(value) if key == "backing-image" else value for key, value in told.items()}


def described(told):
    """What a name says that is a description."""
    expect(told.startswith("json:"), f"a name that is a description: {told}")
    return json.loads(told.removeprefix("json:"))


@check("qcow2: what is behind an image is what it names, or what was asked for, and clients are told which")
def chains():
    need_kvm()
    behind = "backing_fmt=qcow2"
    chain = [("base", "4M"), ("mid", None, "backing_file=base", behind), ("top", None, "backing_file=mid", behind)]
    with folder_with(*chain) as folder:
        tool(folder, "qemu-io", "-f", "qcow2", "-c", "write -P 17 0 2M", "base")
        tool(folder, "qemu-io", "-f", "qcow2", "-c", "write -P 34 64k 64k", "mid")
        files = {name: {"driver": "qcow2", "file": {"driver": "file", "filename": f"{folder}/{name}"}} for name in ("base", "mid", "top")}
        named = {"backing-filename-format": "qcow2"}
        base = {**IMAGE, "filename": f"{folder}/base"}
        implicit = {**IMAGE, **named, "filename": f"{folder}/mid", "backing-filename": "base", "full-backing-filename": f"{folder}/base"}
        by_name = image("top", f"{folder}/top")
        asked_for = image("base", f"{folder}/base", ",read-only=on") + image("mid", f"{folder}/mid", ",read-only=on,backing=base-format")
        asked_for += image("top", f"{folder}/top", ",backing=mid-format")
        for nodes, is_described in [(by_name, False), (asked_for, True)]:
            with Emulator(*nodes, "-device", f"{DISK},drive=top-format,id=d") as emulator:
                emulator.console.expect("READY")
                ask(emulator, "r", "status 0 bytes 111111")
                ask(emulator, "r 128", "status 0 bytes 222222")
                ask(emulator, "r 4096", "status 0 bytes 000000")
                ask(emulator, "w 130 51", "status 0")
                ask(emulator, "r 129", "status 0 bytes 222222")
                monitor = emulator.qmp()
                inserted = monitor.command("query-block")[0]["inserted"]
                expect_equal(inserted["backing_file_depth"], 2, "images behind it")
                expect_equal([child["child"] for child in inserted["children"]], ["file", "backing"], "what it is made of")
                told = without_size(inserted["image"])
                if is_described:
                    mid = {**files["mid"], "backing": files["base"]}
                    expect_equal(described(inserted["backing_file"]), mid, "the image behind it")
                    expect_equal(described(told.pop("filename")), {**files["top"], "backing": mid}, "its own name")
                    expect_equal(described(told["backing-image"].pop("filename")), mid, "the name of the image behind it")
                    expect_equal(told["backing-image"]["backing-image"], base, "the last")
                else:
                    expect_equal((inserted["file"], inserted["backing_file"]), (f"{folder}/top", f"{folder}/mid"), "names")
                    expect_equal(told["backing-image"], {**implicit, "backing-image": base}, "the images behind it")
                about = {**named, "backing-filename": "mid", "full-backing-filename": f"{folder}/mid", "format-specific": IMAGE["format-specific"]}
                expect_equal({name: told[name] for name in about}, about, "what the image says itself")
                flat = {node["node-name"]: node["image"] for node in monitor.command("query-named-block-nodes", flat=True)}
                expect("backing-image" not in flat["top-format"], "flat: nothing of what is behind it")
                if is_described:
                    complaint = error_of(monitor, "block_resize", **{"node-name": "mid-format", "size": 8 * MIB})
                    expect_equal(complaint, "Node 'mid-format' is busy: node is used as backing hd of 'top-format'", "another size")
                    complaint = error_of(monitor, "blockdev-del", **{"node-name": "mid-format"})
                    expect_equal(complaint, "Block device mid-format is in use", "without it")
                monitor.command("quit")
                emulator.wait()
            check_image(folder, "top")
        # With nothing behind it, the image has what it has itself.
        with Emulator(*image("top", f"{folder}/top"), guest=False, console=False, paused=True) as emulator:
            monitor = emulator.qmp()
            before = [node["node-name"] for node in monitor.command("query-named-block-nodes")]
            expect_equal(len(before), 6, f"nodes, those without a name too: {before}")
            monitor.command("blockdev-del", **{"node-name": "top-format"})
            names = [node["node-name"] for node in monitor.command("query-named-block-nodes")]
            expect_equal(names, ["top-storage"], "what came with it went with it")
            monitor.command("blockdev-add", **{"driver": "qcow2", "node-name": "alone", "file": "top-storage", "backing": None})
            node = monitor.command("query-named-block-nodes")[0]
            expect_equal((node["backing_file_depth"], "backing_file" in node), (0, False), "nothing is behind it")
            expect_equal(described(node["file"]), {**files["top"], "backing": None}, "its name")


@check("qcow2: what an image has is told: snapshots, bitmaps, a data file, version and features")
def traits():
    kinds = [("old", "4M", "compat=0.10"), ("new", "4M", "extended_l2=on,lazy_refcounts=on,compression_type=zstd,refcount_bits=8"),
             ("split", "4M", "data_file=data,data_file_raw=on")]
    with folder_with(*kinds) as folder:
        tool(folder, "qemu-img", "snapshot", "-c", "before", "old")
        tool(folder, "qemu-img", "bitmap", "--add", "-g", "128k", "new", "changes")
        with Emulator(machine="none", guest=False, console=False, paused=True) as emulator:
            monitor = emulator.qmp()
            for name, *_ in kinds:
                file = {"driver": "file", "filename": f"{folder}/{name}"}
                monitor.command("blockdev-add", **{"driver": "qcow2", "node-name": name, "file": file, "read-only": True})
            told = {node["node-name"]: node["image"] for node in monitor.command("query-named-block-nodes")}
            data = {name: told[name]["format-specific"]["data"] for name in ("old", "new", "split")}
            expect_equal(data["old"], {"compat": "0.10", "compression-type": "zlib", "refcount-bits": 16}, "an old one")
            snapshot = told["old"]["snapshots"][0]
            expect_equal((snapshot["id"], snapshot["name"], snapshot["vm-state-size"]), ("1", "before", 0), "its snapshot")
            bitmap = {"name": "changes", "granularity": 131072, "flags": ["auto"]}
            wanted = {**DATA, "extended-l2": True, "lazy-refcounts": True, "compression-type": "zstd", "refcount-bits": 8, "bitmaps": [bitmap]}
            expect_equal(data["new"], wanted, "a new one")
            expect_equal(data["split"], {**DATA, "data-file": "data", "data-file-raw": True}, "one whose data are elsewhere")


@check("qcow2: images that cannot be used are refused, and what is wrong is named")
def wrong_images():
    with folder_with(("good", "4M"), ("lost", "4M"), ("loop", "4M"), ("far", "4M"), ("other", "4M"), ("locked", "4M"), ("split", "4M", "data_file=data")) as folder:
        for name, behind in [("lost", "gone"), ("loop", "loop"), ("far", "nbd:host"), ("other", "good")]:
            kind = "vmdk" if name == "other" else "qcow2"
            tool(folder, "qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", behind, name)
            if name == "other":
                with open(f"{folder}/{name}", "r+b") as file:
                    content = file.read().replace(b"\xe2\x79\x2a\xca\0\0\0\5qcow2\0\0\0", b"\xe2\x79\x2a\xca\0\0\0\4" + kind.encode() + b"\0\0\0\0")
                    file.seek(0)
                    file.write(content)
        with open(f"{folder}/raw", "wb") as file:
            file.truncate(MIB)
        with open(f"{folder}/good", "rb") as file:
            good = file.read()
        for name, at, value in [("corrupt", 79, 2), ("newer", 72, 1), ("luks", 35, 2)]:
            with open(f"{folder}/{name}", "wb") as file:
                file.write(good[:at] + bytes([value]) + good[at + 1 :])
        wrong = [
            ("raw", {}, "Image is not in qcow2 format"),
            ("lost", {}, f"Could not open backing file: Could not open '{folder}/gone': No such file or directory"),
            ("far", {}, "Could not open backing file: Unknown protocol 'nbd'"),
            ("other", {}, "Could not open backing file: Unknown driver 'vmdk'"),
            ("corrupt", {}, "qcow2: Image is corrupt; cannot be opened read/write"),
            ("newer", {}, f"Unsupported qcow2 feature(s): Unknown incompatible feature: {1 << 56:x}"),
            ("luks", {}, "encrypted images (LUKS) are not supported"),
            ("good", {"backing": "nosuch"}, "Cannot find device='nosuch' nor node-name='nosuch'"),
            ("good", {"l2-cache-size": -1}, "Parameter 'l2-cache-size' expects a non-negative number"),
            ("good", {"bogus": 1}, "Parameter 'bogus' is unexpected"),
            ("good", {"data-file": {"driver": "file", "filename": f"{folder}/raw"}}, "'data-file' can only be set for images with an external data file"),
        ]
        with Emulator(machine="none", guest=False, console=False, paused=True) as emulator:
            monitor = emulator.qmp()
            for name, more, complaint in wrong:
                options = {"driver": "qcow2", "node-name": "n", "file": {"driver": "file", "filename": f"{folder}/{name}"}, **more}
                expect_equal(error_of(monitor, "blockdev-add", **options), complaint, f"{name} {more}")
                expect_equal(monitor.command("query-named-block-nodes"), [], f"nodes that {name} leaves")
            options = {"driver": "qcow2", "node-name": "n", "file": {"driver": "file", "filename": f"{folder}/loop"}}
            complaint = error_of(monitor, "blockdev-add", **options)
            expect_equal(complaint, 'Could not open backing file: Failed to get shared "write" lock', "an image that is behind itself")
            read_only = {**options, "read-only": True}
            complaint = error_of(monitor, "blockdev-add", **read_only)
            expect(complaint.endswith(": more than 100 nodes are made one with the other"), f"the same, only read: {complaint[-100:]}")
            expect_equal(monitor.command("query-named-block-nodes"), [], "nodes that are left")
            nested = {"driver": "raw", "file": {"driver": "file", "filename": f"{folder}/raw"}}
            for _ in range(400):
                nested = {"driver": "raw", "file": nested}
            complaint = error_of(monitor, "blockdev-add", **{**nested, "node-name": "n"})
            expect_equal(complaint, "more than 100 nodes are made one with the other", "nodes in nodes")
            expect_equal(monitor.command("query-named-block-nodes"), [], "nodes that are left")
            options["file"]["filename"] = f"{folder}/corrupt"
            monitor.command("blockdev-add", **{**options, "read-only": True})
            told = monitor.command("query-named-block-nodes")[0]["image"]["format-specific"]["data"]
            expect_equal(told["corrupt"], True, "a corrupt image that is only read")


@check("qcow2: an image that is written to is one emulator's alone; what is only read may be many's")
def locks():
    need_kvm()
    with folder_with(("base", "4M"), ("a", None, "backing_file=base,backing_fmt=qcow2"), ("b", None, "backing_file=base,backing_fmt=qcow2")) as folder:
        first, second = (image(name, f"{folder}/{name}") + ["-device", f"{DISK},drive={name}-format"] for name in ("a", "b"))
        with Emulator(*first, guest=False, console=False, paused=True) as emulator:
            monitor = emulator.qmp()
            complaint = last_line(*GUEST, *first)
            expect(complaint.endswith('Failed to get "write" lock'), f"the same image twice: {complaint}")
            with Emulator(*second, guest=False, console=False, paused=True) as other:
                expect_equal(len(other.qmp().command("query-block")), 1, "another image over the same one")
            options = {"driver": "qcow2", "node-name": "n", "file": "a-storage"}
            complaint = error_of(monitor, "blockdev-add", **options)
            expect(complaint.startswith("Permission conflict on node 'a-storage': "), f"the same node twice: {complaint}")


@check("qcow2: one that is resized while the guest looks at it, and a full host that stops the guest")
def resize():
    need_kvm()
    with folder_with(("a", "1M")) as folder:
        with Emulator(*image("a", f"{folder}/a"), "-device", f"{DISK},drive=a-format,id=d") as emulator:
            monitor = emulator.qmp()
            emulator.console.expect("READY")
            ask(emulator, "w 2000 17", "status 0")
            monitor.command("block_resize", **{"node-name": "a-format", "size": 1 << 40})
            ask(emulator, "r 2000", "status 0 bytes 111111")
            ask(emulator, "c", f"{(1 << 40) // SECTOR % (1 << 32)} status 0")
            ask(emulator, "w 4000000 34", "status 0")
            monitor.command("block_resize", **{"node-name": "a-format", "size": MIB})
            ask(emulator, "r 2000", "status 0 bytes 111111")
            monitor.command("quit")
            emulator.wait()
        expect_equal(json.loads(tool(folder, "qemu-img", "info", "--output=json", "a"))["virtual-size"], MIB, "its size")
        check_image(folder, "a")


@check("qcow2: an emulator killed while its guest writes leaves an image that is whole, and has what was flushed")
def killed():
    need_kvm()
    seeded = random.Random(7)
    with folder_with(("base", "64M"), ("plain", "64M"), ("lazy", "64M", "lazy_refcounts=on"), ("small", "64M", "cluster_size=512"),
                     ("parts", None, "backing_file=base,backing_fmt=qcow2,extended_l2=on")) as folder:
        for turn in range(8):
            name = ("plain", "lazy", "small", "parts")[turn % 4]
            written, flushed = {}, {}
            requests = [(seeded.choice("wwwwwdzf"), seeded.randrange(130000), seeded.randrange(1, 255)) for _ in range(150)]
            stop_at = seeded.randrange(10, 149)
            with Emulator(*image("a", f"{folder}/{name}", ",discard=unmap"), "-device", f"{DISK},drive=a-format") as emulator:
                emulator.console.expect("READY")
                for kind, sector, value in requests[:stop_at]:
                    emulator.console.type(f"q {kind} {sector} {value}")
                    emulator.console.expect("DISK status 0\r\n")
                    if kind == "f":
                        flushed = dict(written)
                    elif kind == "w":
                        written[sector] = value
                    else:
                        gone = [other for other in written if sector <= other < sector + value]
                        for other in gone:
                            written.pop(other)
                            flushed.pop(other, None)
                # The next is under way when it ends.
                kind, sector, value = requests[stop_at]
                emulator.console.type(f"q {kind} {sector} {value}")
                time.sleep(seeded.random() / 500)
                for other in range(sector, sector + (1 if kind == "w" else value)):
                    flushed.pop(other, None)
                os.kill(emulator.process.pid, signal.SIGKILL)
                emulator.process.wait(timeout=60)
            for sector, value in written.items():
                if flushed.get(sector, value) != value:
                    flushed.pop(sector)
            if name == "lazy":
                tool(folder, "qemu-img", "check", "-q", "-r", "all", name, statuses=(0, 1, 2, 3))
                tool(folder, "qemu-img", "check", "-q", name)
            # 3: there are clusters that nobody uses, and nothing else.
            tool(folder, "qemu-img", "check", "-q", name, statuses=(0, 3))
            reads = [word for sector, value in flushed.items() for word in ("-c", f"read -P {value} {sector * SECTOR} {SECTOR}")]
            if reads:
                seen = tool(folder, "qemu-io", "-r", "-f", "qcow2", *reads, name)
                expect("Pattern" not in seen, f"turn {turn}, {name}: flushed, and lost: {seen}")
