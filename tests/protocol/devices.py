"""Devices and objects: what is wrong with one is said in the words that clients know, and what is right is shown."""

import base64
import os
import pathlib
import subprocess
import tempfile

from harness.checks import Skip, check, expect, expect_equal
from harness.emulator import Emulator, need_kvm
from harness.qmp import Qmp, QmpError
from protocol.cmdline import QUIET, run, warnings_of

GUEST = ["-machine", "q35,accel=kvm", "-cpu", "host"]


def error_of(monitor, command, /, **arguments):
    """The text of a command's error."""
    try:
        monitor.command(command, **arguments)
    except QmpError as error:
        return error.desc
    return "no error"


def last_line(*arguments):
    """What a start that fails says last."""
    done = run(*QUIET, *arguments)
    expect_equal(done.returncode, 1, f"exit status of {arguments}")
    return done.stderr.strip().splitlines()[-1].removeprefix("qemu-system-x86_64: ")


@check("devices: a place that is not there, taken or of another kind is named at start")
def wrong_places():
    need_kvm()
    port = "pcie-root-port"
    for devices, complaint in [
        (["pvpanic,bus=nobus"], "Bus 'nobus' not found"),
        (["pvpanic,bus=pcie.0"], "Device 'pvpanic' can't go on PCIE bus"),
        ([f"{port},bus=isa.0"], f"Device '{port}' can't go on ISA bus"),
        ([f"{port},id=a", f"{port},id=b"], "Can't add chassis slot, error -16"),
        ([f"{port},chassis=1,acpi-index=5", f"{port},chassis=2,acpi-index=5"], "a PCI device with acpi-index = 5 already exist"),
        ([f"{port},romfile=nosuch"], 'failed to find romfile "nosuch"'),
        ([f"{port},pref32-reserve=1M,pref64-reserve=1M"], "PCI resource reserve cap: PREF32 and PREF64 conflict"),
        ([f"{port},x-speed=3"], "Parameter 'x-speed' does not accept value '3'"),
        (["pci-device"], "Parameter 'driver' expects a non-abstract device type"),
    ]:
        arguments = [word for device in devices for word in ("-device", device)]
        expect_equal(last_line(*GUEST, *arguments), f"-device {devices[-1]}: {complaint}", f"message about {devices}")


@check("devices: a port beyond slot 0 of a port is a warning")
def beyond_slot_0():
    need_kvm()
    ports = ["pcie-root-port,id=a,chassis=1", "pcie-root-port,bus=a,addr=1,chassis=2"]
    errors = warnings_of(*GUEST, *[word for port in ports for word in ("-device", port)])
    text = "warning: PCI: slot 1 is not valid for pcie-root-port, parent device only allows plugging into slot 0."
    expect(text in errors, f"{text!r} is missing from {errors!r}")


@check("devices: ports without an id, with nothing given and with everything given")
def ports_of_all_kinds():
    need_kvm()
    full = "pcie-root-port,id=p,chassis=3,bus-reserve=2,io-reserve=0,mem-reserve=2M,pref64-reserve=1G,x-speed=2_5,x-width=1"
    devices = ["pcie-root-port,chassis=1", "pcie-root-port,chassis=2", "pcie-root-port,chassis=4,bus=pcie.2", full]
    arguments = [word for device in devices for word in ("-device", device)]
    with Emulator(*arguments, "-machine", "q35", console=False, guest=False, paused=True) as emulator:
        monitor = emulator.qmp()
        value = monitor.command("qom-get", path="/machine/peripheral/p", property="x-speed")
        expect_equal(value, "2_5", "x-speed")
        addr = monitor.command("qom-get", path="/machine/peripheral/p", property="addr")
        expect_equal(addr, 3 << 3, "addr that the port was given")


RNG = "virtio-rng-pci"


@check("virtio-rng: what it may not be given is named at start")
def wrong_rng():
    need_kvm()
    neither = "device cannot work as neither modern nor legacy mode is enabled"
    for objects, device, complaint in [
        ([], f"{RNG},rng=nobody", "Device 'nobody' not found"),
        (["iothread,id=t"], f"{RNG},rng=t", "Device 't' not found"),
        ([], f"{RNG},period=0", "'period' parameter expects a positive integer"),
        ([], f"{RNG},max-bytes=0x8000000000000000", "'max-bytes' parameter must be non-negative, and less than 2^63"),
        ([], f"{RNG},iommu_platform=on", "VIRTIO_F_IOMMU_PLATFORM was supported by neither legacy nor transitional device"),
        ([], f"{RNG},ats=on", f"Property '{RNG}.ats' not found"),
        ([], f"{RNG}-transitional,disable-legacy=on", f"Property '{RNG}-transitional.disable-legacy' not found"),
        ([], "virtio-rng-device", "Parameter 'driver' expects a pluggable device type"),
        ([], f"{RNG}-base", "Parameter 'driver' expects a non-abstract device type"),
        ([], f"{RNG},bus=isa.0", f"Device '{RNG}' can't go on ISA bus"),
    ]:
        arguments = [word for entry in objects for word in ("-object", entry)] + ["-device", device]
        expect_equal(last_line(*GUEST, *arguments), f"-device {device}: {complaint}", f"message about {device}")
    both = f"{RNG},disable-legacy=on,disable-modern=on"
    errors = run(*QUIET, *GUEST, "-device", both).stderr
    expect(f"-device {both}: {neither}\n" in errors, f"{neither!r} is missing from {errors!r}")
    expect_equal(
        last_line(*GUEST, "-object", "rng-random,id=r,filename=/nodir/x"),
        "Could not open '/nodir/x': No such file or directory",
        "message about a source that is not there",
    )


@check("virtio-rng: on the root bus and behind a port, as QEMU's functions are laid out; two, and none")
def rng_functions():
    need_kvm()
    devices = ["pcie-root-port,id=p,chassis=1", "pcie-root-port,id=q,chassis=2", f"{RNG},id=a,rng=r", f"{RNG},id=b,bus=p"]
    devices += [f"{RNG}-transitional,id=c,bus=q,vectors=0"]
    arguments = ["-object", "rng-random,id=r"] + [word for device in devices for word in ("-device", device)]
    with Emulator(*arguments, "-machine", "q35", console=False, guest=False, paused=True) as emulator:
        monitor = emulator.qmp()
        root = monitor.command("query-pci")[0]["devices"]
        behind = [device for port in root for device in port.get("pci_bridge", {}).get("devices", [])]
        found = {device["qdev_id"]: device for device in root + behind}
        table = {"bar": 1, "type": "memory", "address": -1, "size": 4096, "prefetch": False, "mem_type_64": False}
        modern = {"bar": 4, "type": "memory", "address": -1, "size": 16384, "prefetch": True, "mem_type_64": True}
        ports = {"bar": 0, "type": "io", "address": -1, "size": 32}
        for name, device, subsystem, regions in [
            ("a", 0x1005, 4, [ports, table, modern]),
            ("b", 0x1044, 0x1100, [table, modern]),
            ("c", 0x1005, 4, [ports, modern]),
        ]:
            ids = {"vendor": 0x1AF4, "device": device, "subsystem-vendor": 0x1AF4, "subsystem": subsystem}
            expect_equal(found[name]["id"], ids, f"ids of {name}")
            expect_equal(found[name]["regions"], regions, f"regions of {name}")
            expect_equal(found[name]["class_info"], {"class": 0xFF}, f"class of {name}")
        listed = monitor.command("device-list-properties", typename=RNG)
        listed = {entry["name"]: (entry["type"], entry.get("default-value")) for entry in listed}
        for name, shape in {
            "disable-legacy": ("OnOffAuto", "auto"),
            "disable-modern": ("bool", False),
            "event_idx": ("bool", True),
            "indirect_desc": ("bool", True),
            "ioeventfd": ("bool", True),
            "iommu_platform": ("bool", False),
            "max-bytes": ("uint64", (1 << 63) - 1),
            "packed": ("bool", False),
            "page-per-vq": ("bool", False),
            "period": ("uint32", 65536),
            "queue_reset": ("bool", True),
            "rng": ("link<rng-backend>", None),
            "vectors": ("uint32", 0xFFFFFFFF),
            "virtio-backend": ("child<virtio-rng-device>", None),
        }.items():
            expect_equal(listed[name], shape, f"property {name}")
        path = "/machine/peripheral/b"
        expect_equal(monitor.command("qom-get", path=path, property="disable-legacy"), "on", "disable-legacy behind a port")
        expect_equal(monitor.command("qom-get", path=path, property="vectors"), 2, "vectors")
        listed = [entry for entry in monitor.command("qom-list", path=path) if entry["name"] == "virtio-backend"]
        expect_equal(listed, [{"name": "virtio-backend", "type": "child<virtio-rng-device>"}], "the device behind it")
        rng = monitor.command("qom-get", path="/machine/peripheral/a/virtio-backend", property="rng")
        expect_equal(rng, "/objects/r", "where it reads from")
    with Emulator("-machine", "q35", console=False, guest=False, paused=True) as emulator:
        monitor = emulator.qmp()
        expect(all(device["class_info"]["class"] != 0xFF for device in monitor.command("query-pci")[0]["devices"]), "none")
        for source in ["rng-builtin", "rng-random"]:
            monitor.command("object-add", **{"qom-type": source, "id": "r"})
            expect_equal(monitor.command("qom-get", path="/objects/r", property="opened"), True, source)
            complaint = error_of(monitor, "object-add", **{"qom-type": source, "id": "r"})
            expect_equal(complaint, "attempt to add duplicate property 'r' to object (type 'container')", "an id twice")
            monitor.command("object-del", id="r")
        complaint = error_of(monitor, "object-add", **{"qom-type": "rng-random", "id": "r", "filename": "/nodir/x"})
        expect_equal(complaint, "Could not open '/nodir/x': No such file or directory", "a file that is not there")


@check("virtio-rng: a source that gives nothing holds up neither start, monitor nor end")
def rng_without_entropy():
    need_kvm()
    with tempfile.TemporaryDirectory() as directory:
        fifo = os.path.join(directory, "fifo")
        os.mkfifo(fifo)
        arguments = ["-object", f"rng-random,id=r,filename={fifo}", "-device", f"{RNG},rng=r"]
        with Emulator(*arguments, "-machine", "q35", console=False, guest=False, paused=True) as emulator:
            monitor = emulator.qmp()
            monitor.command("cont")
            monitor.command("stop")
            monitor.command("system_reset")
            expect_equal(monitor.command("query-status")["running"], False, "running")


@check("devices: hot-plugging says which bus takes no devices")
def no_hotplug():
    need_kvm()
    devices = ["-device", "pcie-root-port,id=rp,chassis=1", "-device", "pvpanic,id=pv"]
    with Emulator(*devices, console=False, guest=False, paused=True) as emulator:
        monitor = emulator.qmp()
        for command, arguments, text in [
            ("device_add", {"driver": "pvpanic"}, "Bus 'isa.0' does not support hotplugging"),
            ("device_add", {"driver": "pvpanic", "bus": "nobus"}, "Bus 'nobus' not found"),
            ("device_add", {"driver": "pvpanic", "bus": "pcie.0"}, "Device 'pvpanic' can't go on PCIE bus"),
            ("device_add", {"driver": "pcie-root-port"}, "Bus 'pcie.0' does not support hotplugging"),
            ("device_del", {"id": "pv"}, "Bus 'isa.0' does not support hotplugging"),
            ("device_del", {"id": "rp"}, "Bus 'pcie.0' does not support hotplugging"),
            ("device_del", {"id": "/machine/unattached/device[0]"}, "Boot CPU is unpluggable"),
            ("device_del", {"id": "nosuch"}, "Device 'nosuch' not found"),
            ("memsave", {"val": 0, "size": 1, "filename": "/dev/null", "cpu-index": 9}, "Parameter 'cpu-index' expects a CPU number"),
            ("human-monitor-command", {"command-line": "info cpus", "cpu-index": 7}, "Parameter 'cpu-index' expects a CPU number"),
        ]:
            expect_equal(error_of(monitor, command, **arguments), text, f"{command} {arguments}")


@check("devices: into and out of a slot, while the guest stands and over a reset, with ACPI and without")
def hotplug():
    need_kvm()
    devices = [word for number in (1, 2) for word in ("-device", f"pcie-root-port,id=rp{number},chassis={number}")]
    devices += ["-device", "pcie-root-port,id=fixed,chassis=3,hotplug=off"]
    native = ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"]
    for options in ([], native):
        with Emulator(*devices, *options, console=False, guest=False, paused=True) as emulator:
            monitor = emulator.qmp()
            for wrong, text in [
                ({}, "Bus 'pcie.0' does not support hotplugging"),
                ({"bus": "fixed"}, "Bus 'fixed' does not support hotplugging"),
                ({"bus": "rp1", "id": "1 x"}, "Invalid qdev ID '1 x'"),
                ({"bus": "rp1", "id": "rp2"}, "Duplicate device ID 'rp2'"),
                ({"bus": "rp1", "rng": "nobody"}, "Device 'nobody' not found"),
                ({"bus": "rp1", "max-bytes": True}, "Parameter 'max-bytes' expects uint64"),
            ]:
                expect_equal(error_of(monitor, "device_add", driver=RNG, **wrong), text, f"device_add {wrong}")
            expect_equal(error_of(monitor, "device_del", id="nosuch"), "Device 'nosuch' not found", "one that is not there")
            for number in (1, 2):
                monitor.command("device_add", driver=RNG, id=f"r{number}", bus=f"rp{number}")
            taken = f"PCI: slot 0 function 0 already occupied by {RNG}, new func {RNG} cannot be exposed to guest."
            expect_equal(error_of(monitor, "device_add", driver=RNG, bus="rp1"), taken, "a slot that is taken")
            for property, value in [("hotplugged", True), ("parent_bus", "/machine/peripheral/rp1/rp1"), ("realized", True)]:
                found = monitor.command("qom-get", path="/machine/peripheral/r1", property=property)
                expect_equal(found, value, property)
            tree = monitor.hmp("info qtree").replace("\r", "")
            expect(f'          dev: {RNG}, id "r2"\n' in tree, f"r2 is missing from {tree}")
            # A guest that has never run has not switched the slots of native hot plug on: they let go at once.
            monitor.command("device_del", id="r1")
            if not options:
                pending = "Device r1 is already in the process of unplug"
                expect_equal(error_of(monitor, "device_del", id="/machine/peripheral/r1"), pending, "asked twice")
                expect("r1" in names(monitor, "/machine/peripheral"), "r1, which the guest has not let go of")
                monitor.command("system_reset")
            for data in [{"path": "/machine/peripheral/r1/virtio-backend"}, {"device": "r1", "path": "/machine/peripheral/r1"}]:
                expect_equal(monitor.wait_event("DEVICE_DELETED")["data"], data, "what is gone")
            left = names(monitor, "/machine/peripheral")
            expect("r1" not in left and "r2" in left, f"devices that are left: {left}")
            monitor.command("device_add", driver=RNG, id="r1", bus="rp1")


def names(monitor, path):
    """The names of what is below a path."""
    return {entry["name"] for entry in monitor.command("qom-list", path=path)}


@check("devices: the tree of objects shows the chipset as it is now")
def living_chipset():
    need_kvm()
    with Emulator(console=False, guest=False, paused=True) as emulator:
        monitor = emulator.qmp()
        bridge = next(
            entry["name"]
            for entry in monitor.command("qom-list", path="/machine/unattached")
            if entry["type"] == "child<ICH9-LPC>"
        )
        path = f"/machine/unattached/{bridge}"
        expect_equal(monitor.command("qom-get", path=path, property="pm_io_base"), 0, "ports that are not mapped yet")
        # As firmware does: the base, and the bit that switches it on.
        for line in ("o/w 0xcf8 0x8000f840", "o/w 0xcfc 0x601", "o/w 0xcf8 0x8000f844", "o/b 0xcfc 0x80"):
            monitor.hmp(line)
        for property, value in [("pm_io_base", 0x600), ("gpe0_blk", 0x620)]:
            expect_equal(monitor.command("qom-get", path=path, property=property), value, property)
        date = monitor.command("qom-get", path=f"{path}/rtc", property="date")
        expect(date["tm_year"] >= 124, f"the clock shows {date}")
        for path, kind in [("/machine/q35", "q35-pcihost"), ("/machine/q35/mch", "mch"), ("/machine/fw_cfg", "fw_cfg_io")]:
            expect_equal(monitor.command("qom-get", path=path, property="type"), kind, path)


@check("devices: pmemsave reads RAM, ROM and what is neither")
def physical_memory():
    need_kvm()
    with tempfile.TemporaryDirectory(prefix="remuda-test-") as folder:
        with Emulator(console=False, guest=False, paused=True) as emulator:
            monitor = emulator.qmp()
            for name, address in (("hole", 0xC0000000), ("reset", 0xFFFFFFF0), ("end", 0x7FFFFF0)):
                monitor.command("pmemsave", val=address, size=32 if name == "end" else 16, filename=f"{folder}/{name}")
        expect_equal(pathlib.Path(f"{folder}/hole").read_bytes(), bytes(16), "where nothing is")
        expect_equal(pathlib.Path(f"{folder}/reset").read_bytes()[:1], b"\xea", "first byte of the reset vector, a far jump")
        expect_equal(len(pathlib.Path(f"{folder}/end").read_bytes()), 32, "bytes over the end of RAM")


@check("objects: ids, and memory that the machine made by itself")
def object_ids():
    need_kvm()
    with Emulator(console=False, guest=False, paused=True) as emulator:
        monitor = emulator.qmp()
        for wrong in ("1x", "a/b", "a b", "", "_x"):
            text = error_of(monitor, "object-add", **{"qom-type": "iothread", "id": wrong})
            expect_equal(text, "Parameter 'id' expects an identifier", f"text about id {wrong!r}")
        monitor.command("object-add", **{"qom-type": "iothread", "id": "a-b.c_1"})
        text = error_of(monitor, "object-del", id="pc.ram")
        expect_equal(text, "object 'pc.ram' is in use, can not be deleted", "text about the guest's memory")
        size = monitor.command("qom-get", path="/objects/pc.ram", property="size")
        expect_equal(size, 128 << 20, "size of /objects/pc.ram")
        nodes = monitor.command("qom-get", path="/objects/pc.ram", property="host-nodes")
        expect_equal(nodes, [], "host nodes of /objects/pc.ram")


def encrypted(key, iv, plain):
    """`plain` as libvirt writes a secret: AES-256-CBC, in base64."""
    command = ["openssl", "enc", "-aes-256-cbc", "-K", key.hex(), "-iv", iv.hex()]
    try:
        done = subprocess.run(command, input=plain, capture_output=True, check=True)
    except FileNotFoundError:
        raise Skip("openssl is not installed") from None
    return base64.b64encode(done.stdout).decode()


@check("objects: a secret that another one decrypts, at start and over QMP")
def secrets():
    key, iv = os.urandom(32), os.urandom(16)
    written, vector = encrypted(key, iv, b"letmein"), base64.b64encode(iv).decode()
    with tempfile.TemporaryDirectory(prefix="remuda-test-") as folder:
        path = pathlib.Path(folder, "master")
        path.write_bytes(key)
        master = f"secret,id=master,format=raw,file={path}"
        disk = f"secret,id=disk,data={written},keyid=master,iv={vector},format=base64"
        with Emulator("-object", master, "-object", disk, machine="none") as emulator:
            monitor = emulator.qmp()
            secret = {"qom-type": "secret", "id": "vnc", "data": written, "format": "base64", "keyid": "master"}
            monitor.command("object-add", **secret, iv=vector)
            # A secret may be decrypted by one that came encrypted itself; this one is no key.
            text = error_of(monitor, "object-add", **(secret | {"id": "x", "keyid": "vnc"}), iv=vector)
            expect_equal(text, "Key should be 32 bytes in length", "text about a key of another length")
            for change, text in [
                ({"keyid": "nosuch"}, "No secret with id 'nosuch'"),
                ({"iv": None}, "IV is required to decrypt secret"),
                ({"iv": "QUJD"}, "IV should be 16 bytes in length not 3"),
                ({"data": "!!!"}, "Base64 data contains invalid characters"),
                ({"data": "QUJD"}, "Length 3 must be a multiple of block size 16"),
            ]:
                arguments = {name: value for name, value in (secret | {"id": "x", "iv": vector} | change).items() if value}
                expect_equal(error_of(monitor, "object-add", **arguments), text, f"text about {change}")
        message = last_line("-machine", "none", "-object", disk)
        expect_equal(message, "No secret with id 'master'", "message at start")


@check("objects: what the forms of a value are called, on the command line and in JSON")
def forms():
    for argument, complaint in {
        "iothread,id=a,poll-max-ns=x": "Parameter 'poll-max-ns' expects an int64 value",
        "iothread,id=a,frob=1": "Invalid parameter 'frob'",
        "memory-backend-ram,id=m,size=1M,prealloc-threads=x": "Parameter 'prealloc-threads' expects a uint64 value",
        '{"qom-type":"iothread","id":"a","poll-max-ns":"x"}': "Invalid parameter type for 'poll-max-ns', expected: integer",
        '{"qom-type":"memory-backend-ram","id":"a","size":"x"}': "Parameter 'size' expects uint64",
    }.items():
        expect_equal(last_line("-machine", "none", "-object", argument), f"-object {argument}: {complaint}", "message")
    message = last_line("-machine", "none", "-object", "secret,id=s,data=a,file=b")
    expect_equal(message, "'file' and 'data' are mutually exclusive", "message about properties that contradict each other")
    need_kvm()
    message = last_line(*GUEST, "-machine", "memory-backend=nosuch")
    expect_equal(message, "Memory backend 'nosuch' not found", "message about the machine's backend")


@check("human monitor: memory, registers, ports and addresses of a paused guest")
def looking_into_a_guest():
    need_kvm()
    with Emulator(console=False, guest=False, paused=True) as emulator:
        monitor = emulator.qmp()

        def ask(line):
            return monitor.command("human-monitor-command", **{"command-line": line}).replace("\r", "")

        expect_equal(ask("p $pc"), "0xfffffff0\n", "the reset vector")
        expect(ask("xp /2xb 0xfffffff0").startswith("00000000fffffff0: 0xea "), "the jump at the reset vector")
        expect_equal(ask("x/2xb $pc"), ask("xp/2xb 0xfffffff0"), "memory as the vCPU sees it")
        expect_equal(ask("xp/2xw 0xd0000000"), "00000000d0000000: Cannot access memory\n", "where nothing is")
        expect_equal(ask("gva2gpa 0x1234"), "gpa: 0x1234\n", "an address without paging")
        expect("(pc.ram) is 0x" in ask("gpa2hva 0x1000"), "where this process has the guest's memory")
        expect_equal(ask("gpa2hva 0xd0000000"), "No memory is mapped at address 0xd0000000\n", "an address of nothing")
        expect_equal(ask("sum 0x100000 4096"), "00000\n", "the sum of zeros")
        ask("o/b 0x70 0x0f")
        expect(ask("i/b 0x71").startswith("portb[0x0071] = 0x"), "a register of the clock")
        expect_equal(ask("i/b 0x70.0x0f"), ask("i/b 0x71"), "the same register by its index")
        expect("RIP=000000000000fff0" in ask("info registers"), "the instruction pointer")
        expect("CPU#0" in ask("info registers -a"), "all vCPUs")
        expect("pc.ram" in ask("info ramblock"), "the blocks of memory")
        expect("isa-serial" in ask("info qdm"), "the devices that can be made")
        expect(ask("info stats vm").startswith("provider: kvm\n"), "statistics of the guest")
        expect("exits (cumulative): " in ask("info stats vcpu exits"), "one number of the vCPU")
        expect_equal(ask("p $nosuch"), 'unknown register\nTry "help p" for more information\n', "a register of no name")


@check("human monitor: interrupt controllers in the kernel and outside, NUMA nodes, and the order to boot in")
def controllers_nodes_and_boot_order():
    need_kvm()
    nodes = [word for name in ("a", "b") for word in ("-object", f"memory-backend-ram,id={name},size=64M", "-numa", f"node,memdev={name}")]
    for chips, version, looks in (("on", "0x11", "on"), ("split", "0x20", "off")):
        options = ["-machine", f"q35,kernel-irqchip={chips},fd-bootchk={looks}", "-smp", "2", *nodes]
        with Emulator(*options, console=False, guest=False, paused=True, memory=128) as emulator:
            monitor = emulator.qmp()

            def ask(line):
                return monitor.command("human-monitor-command", **{"command-line": line}).replace("\r", "")

            ask("o/b 0x21 0xfb")
            lines = ask("info pic").splitlines()
            expect_equal(lines[0], f"ioapic0: ver={version} id=0x00 sel=0x00", f"the I/O APIC with {chips}")
            masked = "  pin 23 0x0000000000010000 dest=0 vec=0   active-hi edge  masked fixed  physical"
            expect_equal(lines[24:27], [masked, "  IRR      (none)", "  Remote IRR (none)"], f"its last input with {chips}")
            expect_equal([line[:5] for line in lines[27:]], ["pic1:", "pic0:"], f"the other controllers with {chips}")
            if chips == "split":
                expect("imr=fb" in lines[28], f"the mask that was written: {lines[28]}")
            for number in (0, 1):
                lines = ask(f"info lapic {number}").splitlines()
                expect_equal(lines[0], f"dumping local APIC state for CPU {number} ", "whose local APIC it is")
                expect_equal(lines[8], "Timer\t DCR=0x0 (divide by 2) initial_count = 0 current_count = 0", "its timer")
            expect_equal(ask("info lapic 2"), "No CPU available\n", "the local APIC of a vCPU that is not there")
            sizes = "node 0 size: 64 MB\nnode 0 plugged: 0 MB\nnode 1 cpus:\nnode 1 size: 64 MB\nnode 1 plugged: 0 MB\n"
            expect_equal(ask("info numa"), f"2 nodes\nnode 0 cpus: 0 1\n{sizes}", "the nodes")
            expect_equal(ask("boot_set dc"), "boot device list now set to dc\n", "a boot order")
            ask("o/b 0x70 0x3d")
            expect_equal(ask("i/b 0x71"), "portb[0x0071] = 0x23\n", "what firmware finds of it")
            ask("o/b 0x70 0x38")
            unchecked = {"on": "0x00", "off": "0x01"}[looks]
            expect_equal(ask("i/b 0x71"), f"portb[0x0071] = {unchecked}\n", f"its third device, with fd-bootchk={looks}")
            ask("o/b 0x70 0x3d")
            expect_equal(ask("boot_set q"), "Invalid boot device 'q'\n", "a device that does not exist")
            expect_equal(ask("boot_set e"), "Invalid boot device for PC: 'e'\n", "a device that a PC does not boot from")
            expect_equal(ask("i/b 0x71"), "portb[0x0071] = 0x23\n", "the order after a mistake")


@check("human monitor: the tree of memory and ports, as the devices that are there make it")
def memory_tree():
    need_kvm()
    with Emulator("-device", "pvpanic,ioport=0x606", guest=False, paused=True) as emulator:
        monitor = emulator.qmp()
        shown = monitor.command("human-monitor-command", **{"command-line": "info mtree"}).replace("\r", "")
        spaces = {space.split("\n")[0]: space.split("\n")[1:] for space in shown.rstrip("\n").split("\n\n")}
        titles = list(spaces)
        expect_equal(titles[:2], ["address-space: I/O", "address-space: memory"], "the address spaces")
        ports, memory = (spaces[title] for title in titles[:2])
        expect_equal(ports[0], "  0000000000000000-000000000000ffff (prio 0, i/o): io", "the root of all ports")
        for place in ("0000000000000070-0000000000000071", "0000000000000606-0000000000000606"):
            expect(any(line.startswith(f"    {place} (prio 0, i/o): ") for line in ports), f"{place} among {ports}")
        low = "    0000000000000000-0000000007ffffff (prio 0, ram): "
        expect(any(line.startswith(low) for line in memory), f"RAM among {memory}")
        expect(any(line.endswith("(prio -1, i/o): pci") for line in memory), f"PCI among {memory}")
        where = [int(line.split("-")[0], 16) for line in memory if line.startswith("    0")]
        expect_equal(where, sorted(where), "the order of what is in memory")
        expect_equal(monitor.command("human-monitor-command", **{"command-line": "info mtree -x"}).split("\r")[0],
                     "mtree: extraneous characters at the end of line", "an argument that it does not take")


@check("human monitor: while one client sums up a terabyte, others are answered, and the guest can be ended")
def long_sums():
    need_kvm()
    with tempfile.TemporaryDirectory(prefix="remuda-test-") as folder:
        path = f"{folder}/other"
        with Emulator("-qmp", f"unix:{path},server=on,wait=off", console=False, guest=False, paused=True) as emulator:
            monitor, other = emulator.qmp(), Qmp(path)
            text = monitor.command("human-monitor-command", **{"command-line": "info mem"})
            expect_equal(text, "PG disabled\r\n", "mappings before there is paging")
            arguments = {"command-line": "sum 0 0x10000000000"}
            monitor.send({"execute": "human-monitor-command", "arguments": arguments})
            for _ in range(20):
                expect_equal(other.command("query-status")["status"], "prelaunch", "status beside a sum")
            other.command("quit")


@check("human monitor: where there is no guest, questions about one say so")
def looking_into_nothing():
    with Emulator(machine="none") as emulator:
        monitor = emulator.qmp()
        text = monitor.command("human-monitor-command", **{"command-line": "xp 0"})
        expect_equal(text, "Error: this machine has no guest\r\n", "what xp says")
        text = monitor.command("human-monitor-command", **{"command-line": "info registers"})
        expect_equal(text, "No CPU available\r\n", "what info registers says")
