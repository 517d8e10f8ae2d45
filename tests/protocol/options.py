"""What a guest is made of, as options say it: memory, NUMA nodes, boot order. Texts are QEMU's."""

import pathlib
import subprocess
import tempfile

from harness.checks import check, expect, expect_equal
from harness.emulator import Emulator, binary, need_kvm, test_guest
from harness.qmp import Qmp

from .descriptors import fails

BASE = ["-nodefaults", "-no-user-config", "-display", "none", "-S", "-machine", "q35", "-accel", "kvm"]
M0 = ["-object", "memory-backend-ram,id=m0,size=64M"]
M1 = ["-object", "memory-backend-ram,id=m1,size=64M"]


def bare(*arguments, **options):
    """A paused guest with nothing but what the arguments say."""
    need_kvm()
    return Emulator(*arguments, guest=False, paused=True, console=False, **options)


def refusal(arguments):
    """What the emulator says and its status, where it ends by itself; none where it goes on."""
    try:
        done = subprocess.run(
            [binary(), *BASE, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=5
        )
    except subprocess.TimeoutExpired:
        return None
    lines = [line for line in done.stderr.splitlines() if "warning: " not in line]
    return done.returncode, "\n".join(lines)


def expect_refusals(table):
    """Each row: arguments, and what is said of them after the program's name."""
    wrong = []
    for arguments, text in table:
        seen = refusal(arguments)
        wanted = (1, "\n".join(f"qemu-system-x86_64: {line}" for line in text.splitlines()))
        if seen != wanted:
            wrong.append(f"{' '.join(arguments)}: saw {seen!r}, wanted {wanted!r}")
    expect(not wrong, "; ".join(wrong))


NUMA = [
    (["-m", "128", *M0, "-numa", "node,memdev=m0", "-numa", "node,memdev=m0"], "memory backend m0 can't be used multiple times."),
    (["-m", "64", "-numa", "node"], "total memory for NUMA nodes (0x0) should equal RAM size (0x4000000)"),
    (["-numa", "node,memdev=m0", *M0], "total memory for NUMA nodes (0x4000000) should equal RAM size (0x8000000)"),
    (
        ["-m", "64", *M0, "-machine", "memory-backend=m0", "-numa", "node,memdev=m0"],
        "'-machine memory-backend' and '-numa memdev' properties are mutually exclusive",
    ),
    (
        ["-m", "64", *M0, "-numa", "node,memdev=m0", "-numa", "node,nodeid=0"],
        "-numa node,nodeid=0: Duplicate NUMA nodeid: 0",
    ),
    (
        ["-m", "64", *M0, "-numa", "node,memdev=m0,cpus=0", "-numa", "node,cpus=0"],
        "-numa node,cpus=0: CPU is already assigned to node-id: 0",
    ),
    (
        ["-numa", "node,mem=128M"],
        "-numa node,mem=128M: Parameter -numa node,mem is not supported by this machine type\n"
        "Use -numa node,memdev instead",
    ),
    (
        ["-m", "64", *M0, *["-numa", "node,memdev=m0", "-numa", "node", "-numa", "node"], "-numa", "dist,src=0,dst=1,val=20"],
        "The distance between node 0 and 2 is missing, at least one distance value between each nodes should be provided.",
    ),
]


@check("options: -numa that cannot be is refused in QEMU's words, with the option at fault in front")
def numa_refusals():
    need_kvm()
    expect_refusals(NUMA)


@check("options: CPUs that no node names belong to node 0, and a warning says so")
def left_over_cpus():
    nodes = ["-numa", "node,memdev=m0,cpus=0", "-numa", "node,memdev=m1,cpus=1"]
    with bare("-smp", "4,sockets=4", *M0, *M1, *nodes, memory=128) as emulator:
        cpus = emulator.qmp().command("query-cpus-fast")
        expect_equal([cpu["props"]["node-id"] for cpu in cpus], [0, 1, 0, 0], "nodes")
        errors = emulator.errors()
    expect("CPU(s) not present in any NUMA nodes: CPU 2 [socket-id: 2, core-id: 0, thread-id: 0], CPU 3 " in errors, errors)


@check("options: memory is as large as its backend, which -mem-prealloc fills")
def backend_size():
    with bare(*M0, "-machine", "memory-backend=m0", "-mem-prealloc", memory=None) as emulator:
        qmp = emulator.qmp()
        expect_equal(qmp.command("query-memory-size-summary")["base-memory"], 64 << 20, "size")
        expect_equal([(dev["id"], dev["prealloc"]) for dev in qmp.command("query-memdev")], [("m0", True)], "backend")
        ram = {"qom-type": "memory-backend-ram", "size": 1 << 20}
        qmp.command("object-add", **ram, id="m1")
        qmp.command("object-add", **ram, id="m2", prealloc=False)
        later = {dev["id"]: dev["prealloc"] for dev in qmp.command("query-memdev")}
        expect_equal(later, {"m0": True, "m1": True, "m2": False}, "backends made later")


@check("options: a file of memory that is a template, ROM, or given up with its object")
def file_backends():
    with tempfile.NamedTemporaryFile() as file:
        size = 64 << 20
        file.truncate(size)
        file.write(b"template")
        file.flush()
        path = f"memory-backend-file,id=m,size=64M,mem-path={file.name}"
        template = f"{path},readonly=on,rom=off"
        with bare("-object", template, "-machine", "memory-backend=m", memory=64) as emulator:
            qmp = emulator.qmp()
            shown = {name: qmp.command("qom-get", path="/objects/m", property=name) for name in ("readonly", "rom", "discard-data")}
            expect_equal(shown, {"readonly": True, "rom": "off", "discard-data": False}, "properties")
            later = {"qom-type": "memory-backend-file", "size": 4096, "mem-path": file.name}
            qmp.command("object-add", **later, id="rom", readonly=True)
            qmp.command("object-del", id="rom")
            expect_equal(pathlib.Path(file.name).read_bytes()[:8], b"template", "what a template holds")
            qmp.command("object-add", **later, id="kept", share=True)
            qmp.command("object-del", id="kept")
            expect_equal(pathlib.Path(file.name).read_bytes()[:8], b"template", "what is kept")
            qmp.command("object-add", **later, id="gone", share=True, **{"discard-data": True})
            qmp.command("object-del", id="gone")
            expect_equal(pathlib.Path(file.name).read_bytes()[:8], bytes(8), "what is given up")
            expect_equal(pathlib.Path(file.name).stat().st_size, size, "length of the file")
            file.seek(4)
            file.write(b"later")
            file.flush()
        with bare("-object", f"{path},share=on,discard-data=on", "-machine", "memory-backend=m", memory=64) as emulator:
            emulator.qmp().command("quit")
            expect_equal(emulator.wait(), 0, "exit status")
        expect_equal(pathlib.Path(file.name).read_bytes()[:16], bytes(16), "what a guest leaves")


@check("options: a file of memory is mapped where it is asked to be, and placed by whole pages")
def aligned():
    need_kvm()
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(64 << 20)
        path = f"memory-backend-file,id=m,size=64M,mem-path={file.name}"
        with bare("-object", f"{path},align=1G,share=on", "-machine", "memory-backend=m", memory=64) as emulator:
            qmp = emulator.qmp()
            expect_equal(qmp.command("qom-get", path="/objects/m", property="align"), 1 << 30, "align")
            maps = pathlib.Path(f"/proc/{emulator.process.pid}/maps").read_text().splitlines()
            starts = [int(line.split("-")[0], 16) for line in maps if line.endswith(file.name)]
            expect_equal([start % (1 << 30) for start in starts], [0], "where it begins")
            ram = {"qom-type": "memory-backend-file", "id": "more", "size": 4096, "mem-path": file.name}
            for values, text in (
                ({"align": 3}, "alignment 0x3 must be multiples of page size 0x1000"),
                ({"align": 12288}, "alignment 0x3000 must be a power of two"),
                ({"offset": 100}, "offset 0x64 must be multiples of page size 0x1000"),
            ):
                fails(qmp, text, "object-add", **ram, **values)
            qmp.command("object-add", **ram, align=2 << 20, offset=4096)


# Firmware that writes 0x55 to address 0x1000 and ends with what is there: mov byte [0x1000],0x55; mov al,[0x1000];
# out 0xf4,al; hlt.
WRITER = bytes.fromhex("c606001055 a00010 e6f4 f4")


@check("options: guest RAM from a file that is only read is ROM: what the guest writes is lost, and nobody else fails over it")
def rom_as_ram():
    need_kvm()
    size = 16 << 20
    with tempfile.TemporaryDirectory() as folder:
        path, saved, bios = (pathlib.Path(folder, name) for name in ("memory", "saved", "bios"))
        path.write_bytes(b"rom!" * (size // 4))
        bios.write_bytes(bytes(65536 - 16) + WRITER.ljust(16, b"\xf4"))
        backend = f"memory-backend-file,id=m,size=16M,mem-path={path},readonly=on"
        words = ["-machine", "memory-backend=m", "-bios", str(bios), "-device", "isa-debug-exit,iobase=0xf4"]
        for more, read in (("", ord("r")), (",share=on", ord("r")), (",rom=on", ord("r")), (",rom=off", 0x55)):
            with bare(*words, "-object", backend + more, memory=16) as emulator:
                qmp = emulator.qmp()
                qmp.command("system_reset")
                qmp.command("pmemsave", val=0x1000, size=4096, filename=str(saved))
                expect_equal(saved.read_bytes(), b"rom!" * 1024, "memory")
                qmp.command("cont")
                expect_equal(emulator.wait(), read << 1 | 1, f"what the guest reads after it wrote, with {more}")
            expect_equal(path.read_bytes(), b"rom!" * (size // 4), f"the file, with {more}")
        with bare("-machine", "memory-backend=m", "-object", backend, "-kernel", test_guest(), memory=16) as emulator:
            expect_equal(emulator.wait(), 1, "exit status of a kernel for memory that cannot be written")
            expect("guest memory at 0x" in emulator.errors(), emulator.errors())


@check("options: a machine without a guest has the memory that -m asks for, and none otherwise")
def memory_of_none():
    with Emulator("-m", "200", machine="none") as emulator:
        qmp = emulator.qmp()
        expect_equal([(dev["id"], dev["size"]) for dev in qmp.command("query-memdev")], [("ram", 200 << 20)], "backends")
        expect_equal(qmp.command("qom-get", path="/machine", property="memory-backend"), "/objects/ram", "the link")
        expect_equal(qmp.command("query-memory-size-summary")["base-memory"], 200 << 20, "size")
        fails(qmp, "object 'ram' is in use, can not be deleted", "object-del", id="ram")
    with Emulator(machine="none") as emulator:
        qmp = emulator.qmp()
        expect_equal(qmp.command("query-memdev"), [], "backends without -m")
        expect_equal(qmp.command("query-memory-size-summary")["base-memory"], 0, "size without -m")


@check("options: memory that takes its time to fill keeps nobody else waiting")
def slow_memory():
    need_kvm()
    with tempfile.TemporaryDirectory() as folder:
        with bare("-qmp", f"unix:{folder}/other,server=on,wait=off", memory=64) as emulator:
            qmp, other = emulator.qmp(), Qmp(f"{folder}/other")
            big = {"qom-type": "memory-backend-memfd", "id": "big", "size": 1 << 30, "prealloc": True}
            qmp.send({"execute": "object-add", "arguments": big})
            other.command("cont")
            expect("big" not in [dev["id"] for dev in other.command("query-memdev")], "the object is not there yet")
            fails(other, "object 'big' not found", "object-del", id="big")
            expect("error" not in qmp.read_reply(60), "the reply in the end")
            fails(qmp, "attempt to add duplicate property 'big'", "object-add", **big)
            other.command("object-del", id="big")


@check("options: -global is for devices: objects do not heed it, and a warning says so")
def globals_of_objects():
    words = ["-global", "memory-backend-ram.share=on", "-global", "iothread.poll-max-ns=5", "-object", "iothread,id=t"]
    with Emulator(*words, machine="none") as emulator:
        qmp = emulator.qmp()
        qmp.command("object-add", **{"qom-type": "memory-backend-ram"}, id="m", size=4096)
        expect_equal([dev["share"] for dev in qmp.command("query-memdev")], [False], "share")
        expect_equal([thread["poll-max-ns"] for thread in qmp.command("query-iothreads")], [32768], "poll-max-ns")
        for name in ("memory-backend-ram.share", "iothread.poll-max-ns"):
            expect(f"warning: global {name} has invalid class name\n" in emulator.errors(), emulator.errors())


BOOT = [
    (["-boot", "p"], "Invalid boot device for PC: 'p'"),
    (["-boot", "order=acdn"], "Too many boot devices for PC"),
    (["-boot", "once=q"], "Invalid boot device 'q'"),
    (["-boot", "splash=/nonexistent"], "failed to find file '/nonexistent'"),
    (["-boot", "splash=/etc/passwd"], "splash file '/etc/passwd' format not recognized; must be JPEG or 24 bit BMP"),
    (["-boot", "splash-time=70000"], "splash-time is invalid,it should be a value between 0 and 65535"),
    (
        ["-fw_cfg", "opt/x,string="],
        "-fw_cfg opt/x,string=: name, plus exactly one of file, string and gen_id, are needed",
    ),
    (["-fw_cfg", "opt/x,gen_id=nosuch"], "-fw_cfg opt/x,gen_id=nosuch: Cannot find object ID 'nosuch'"),
    (
        [*M0, "-fw_cfg", "opt/x,gen_id=m0"],
        "-fw_cfg opt/x,gen_id=m0: Object ID 'm0' is not a 'fw_cfg-data-generator' subclass",
    ),
    (
        ["-fw_cfg", "opt/x,string=a", "-fw_cfg", "opt/x,string=b"],
        "-fw_cfg opt/x,string=b: duplicate fw_cfg file name: opt/x",
    ),
]


@check("options: -boot and -fw_cfg that cannot be are refused in QEMU's words")
def boot_refusals():
    need_kvm()
    expect_refusals(BOOT)


MACHINE = [
    (["-machine", "hmat=on"], "hmat=on: the ACPI table HMAT is not supported"),
    (["-machine", "nvdimm=on"], "nvdimm=on: NVDIMMs are not supported"),
    (["-machine", "cxl=on"], "cxl=on: CXL is not supported"),
    (["-machine", "pic=off"], "pic=off: the interrupt controllers cannot be left out"),
    (["-machine", "pit=off"], "pit=off: the timer cannot be left out"),
    (["-machine", "x-oem-id=TOOLONG"], "User specified x-oem-id value is bigger than 6 bytes in size"),
    (
        ["-machine", "max-ram-below-4g=5G"],
        "Machine option 'max-ram-below-4g=5368709120' expects size less than or equal to 4G",
    ),
    (["-machine", "append=x"], "-append only allowed with -kernel option"),
    (["-machine", "initrd=x"], "-initrd only allowed with -kernel option"),
    (
        ["-object", "memory-backend-memfd,id=m,size=4M,hugetlb=on,hugetlbsize=3M"],
        "Hugepage size must be a power of 2",
    ),
    (
        ["-object", "memory-backend-ram,id=m,size=4M,host-nodes=127,policy=bind", "-machine", "memory-backend=m"],
        "cannot bind memory to host NUMA nodes: Invalid argument",
    ),
]


@check("options: machine properties that cannot be are refused by name")
def machine_refusals():
    need_kvm()
    expect_refusals(MACHINE)


@check("options: machine properties that make no difference here, or work, can be given and read back")
def machine_properties():
    given = "i8042=off,max-ram-below-4g=64M,max-fw-size=4M,x-oem-id=ABC,default-bus-bypass-iommu=on,fd-bootchk=off,pit=on"
    backend = ["-object", "memory-backend-memfd,id=m,size=128M,hugetlbsize=2M", "-machine", "memory-backend=m"]
    with bare("-machine", given, *backend, memory=128) as emulator:
        qmp = emulator.qmp()
        wanted = {
            "i8042": False,
            "max-ram-below-4g": 64 << 20,
            "max-fw-size": 4 << 20,
            "x-oem-id": "ABC",
            "x-oem-table-id": "BXPC    ",
            "default-bus-bypass-iommu": True,
            "pit": "on",
            "pic": "auto",
            "hmat": False,
            "kernel": "",
            "memory-backend": "/objects/m",
        }
        seen = {name: qmp.command("qom-get", path="/machine", property=name) for name in wanted}
        expect_equal(seen, wanted, "properties")
        expect_equal(qmp.command("qom-get", path="/machine", property="memory")["size"], 128 << 20, "memory")
        expect_equal(qmp.command("qom-get", path="/machine", property="smp")["maxcpus"], 1, "smp")
        listed = {entry["name"] for entry in qmp.command("qom-list", path="/machine")}
        expect(listed >= wanted.keys() | {"boot", "vmport", "acpi", "peripheral"}, f"listed: {sorted(listed)}")


@check("options: -smp help and -boot help list the parameters")
def parameter_help():
    for option, parameter in (("-smp", "maxcpus=<"), ("-boot", "order=<")):
        done = subprocess.run([binary(), option, "help"], capture_output=True, text=True, timeout=5)
        expect_equal(done.returncode, 0, f"{option} help")
        expect(parameter in done.stdout, done.stdout)


REFUSED = [
    (["-add-fd", "fd=177,set=1"], "-add-fd fd=177,set=1: fd is not valid or already in use"),
    (["-add-fd", "fd=1,set=1"], "-add-fd fd=1,set=1: fd cannot be a standard I/O stream"),
    (["-add-fd", "set=1"], "-add-fd set=1: fd option is required and must be non-negative"),
    (["-add-fd", "fd=-1,set=1"], "-add-fd fd=-1,set=1: fd option is required and must be non-negative"),
    (["-add-fd", "fd=3"], "-add-fd fd=3: set option is required and must be non-negative"),
    (
        ["-object", "memory-backend-memfd,id=m,size=2M,hugetlb=on,hugetlbsize=3M"],
        "Hugepage size must be a power of 2",
    ),
]


@check("options: descriptors and huge pages that cannot be are refused in QEMU's words")
def descriptor_and_page_refusals():
    need_kvm()
    expect_refusals(REFUSED)


@check("options: a descriptor of -add-fd is in its set, with two in one set and one in another")
def added_descriptors():
    with open("/dev/null", "rb") as null, open("/dev/zero", "rb") as zero, open("/dev/full", "rb") as full:
        given = [(null, 1, ",opaque=a"), (zero, 1, ""), (full, 2, "")]
        options = [word for file, group, opaque in given for word in ("-add-fd", f"fd={file.fileno()},set={group}{opaque}")]
        with Emulator(*options, machine="none", pass_fds=[null, zero, full]) as emulator:
            sets = {entry["fdset-id"]: entry["fds"] for entry in emulator.qmp().command("query-fdsets")}
        expect_equal({group: len(fds) for group, fds in sets.items()}, {1: 2, 2: 1}, "descriptors of each set")
        expect_equal([fd["opaque"] for fd in sets[1] if "opaque" in fd], ["a"], "what is said of them")


@check("options: flash memory, which needs block devices, is refused by name")
def flash():
    need_kvm()
    for name in ("pflash0", "pflash1"):
        status, text = refusal(["-machine", f"q35,{name}=x"]) or (None, "")
        expect_equal(status, 1, f"exit status with {name}")
        expect(f"{name}=x" in text, f"text about {name}: {text!r}")
