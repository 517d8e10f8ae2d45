"""Networks: two guests that reach each other by each kind of back end, what comes and goes, and what is wrong."""

import contextlib
import os
import pathlib
import socket
import struct
import tempfile

from harness.checks import check, eventually, expect, expect_equal
from harness.emulator import Emulator, need_kvm
from harness.networks import bridge, frame, frames_of, private_network, receive, set_up, tap
from protocol.devices import GUEST, error_of, last_line

NET = "virtio-net-pci"
MACS = ["52:54:00:00:00:01", "52:54:00:00:00:02"]
BROADCAST = "ff:ff:ff:ff:ff:ff"


def card(number, options="", netdev="n0"):
    """A card with an address of its own."""
    return ["-device", f"{NET},id=nic,netdev={netdev},mac={MACS[number]}{options}"]


def start(emulator, letters="", number=0):
    """Has the guest take its card; returns what it says of it."""
    emulator.console.type(f"x i {number} {letters}")
    emulator.console.expect("CARD ")
    return emulator.console.expect("\n").strip()


def say(emulator, command, answer):
    """Has the guest do something; returns the rest of the line that begins with `answer`."""
    emulator.console.type(command)
    emulator.console.expect(answer)
    return emulator.console.expect("\n").strip()


@contextlib.contextmanager
def joined(one, other, options=""):
    """Two guests, the back end of the second of which is made when that of the first is there."""
    need_kvm()
    with Emulator("-netdev", one, *card(0, options)) as first:
        first.monitor = first.qmp()
        with Emulator("-netdev", other, *card(1, options)) as second:
            second.monitor = second.qmp()
            for emulator in (first, second):
                emulator.console.expect("READY\r\n")
            yield first, second


def exchange(first, second, letters=""):
    """Frames of all sizes, there and back."""
    for emulator in (first, second):
        start(emulator, letters)
    first.console.type("x e")
    first.console.expect("ECHOING\r\n")
    for size in (14, 60, 1514):
        expect_equal(say(second, f"x p 5 {size}", "PINGS "), "5 wrong 0", f"frames of {size} bytes")
    first.console.type("")
    expect_equal(first.console.expect("ECHOED 15"), "ECHOED 15", "frames that were sent back")


@check("net: two guests joined by a stream, by either interface, in one buffer and in several")
def by_stream():
    with tempfile.TemporaryDirectory() as folder:
        address = f"addr.type=unix,addr.path={folder}/s"
        with joined(f"stream,id=n0,server=on,{address}", f"stream,id=n0,{address}") as (first, second):
            event = first.monitor.wait_event("NETDEV_STREAM_CONNECTED")
            wanted = {"netdev-id": "n0", "addr": {"type": "unix", "path": f"{folder}/s"}}
            expect_equal(event["data"], wanted, "data of the event")
            for letters in ("", "m", "l", "lm"):
                exchange(first, second, letters)
            expect(f" \\ n0: index=0,type=stream,unix:{folder}/s" in first.monitor.hmp("info network"), "info network")
            second.process.kill()
            event = first.monitor.wait_event("NETDEV_STREAM_DISCONNECTED")
            expect_equal(event["data"], {"netdev-id": "n0"}, "data of the event")
            expect(say(first, "x s 60 0", "SENT "), "a frame for nobody is sent all the same")


@check("net: split rings all the same where packed ones are on offer, and without event indices")
def beside_packed_rings():
    with tempfile.TemporaryDirectory() as folder:
        address = f"addr.type=unix,addr.path={folder}/s"
        ends = f"stream,id=n0,server=on,{address}", f"stream,id=n0,{address}"
        with joined(*ends, ",packed=on,event_idx=off") as (first, second):
            exchange(first, second, "m")


@check("net: a stream's client connects again, and again")
def reconnecting():
    need_kvm()
    with tempfile.TemporaryDirectory() as folder:
        address = f"addr.type=unix,addr.path={folder}/s"
        with Emulator("-netdev", f"stream,id=n0,{address},reconnect-ms=10", *card(1)) as client:
            monitor = client.qmp()
            client.console.expect("READY\r\n")
            for _ in range(2):
                with Emulator("-netdev", f"stream,id=n0,server=on,{address}", *card(0)) as server:
                    server.console.expect("READY\r\n")
                    monitor.wait_event("NETDEV_STREAM_CONNECTED")
                    exchange(server, client)
                monitor.wait_event("NETDEV_STREAM_DISCONNECTED")


@check("net: two guests joined by datagrams, on this host and by UDP; a third hears a group")
def by_datagrams():
    with tempfile.TemporaryDirectory() as folder:
        ends = [f"type=unix,{{}}.path={folder}/{name}" for name in "ab"]

        def end(local, remote):
            return f"dgram,id=n0,local.{local.format('local')},remote.{remote.format('remote')}"

        with joined(end(*ends), end(*reversed(ends))) as guests:
            exchange(*guests)
    with private_network(), contextlib.ExitStack() as stack:
        set_up("lo")
        ends = [f"type=inet,{{0}}.host=127.0.0.1,{{0}}.port={port}" for port in (5001, 5002)]
        with joined(end(*ends), end(*reversed(ends))) as guests:
            exchange(*guests, "m")
        group = "socket,id=n0,mcast=230.0.0.1:5003,localaddr=127.0.0.1"
        first, second = stack.enter_context(joined(group, group))
        third = stack.enter_context(Emulator("-netdev", group, "-device", f"{NET},netdev=n0"))
        third.console.expect("READY\r\n")
        for emulator in (first, second, third):
            start(emulator)
        seen = say(first, "x s 100 0", "SENT ")
        for emulator in (second, third):
            expect(f"sum {seen} " in say(emulator, "x r", "FRAME 100 "), "what the group heard")


@check("net: two guests joined by sockets in the old spelling: TCP, UDP, and open already")
def by_old_spelling():
    with private_network():
        set_up("lo")
        for one, other in [
            ("listen=127.0.0.1:5004", "connect=127.0.0.1:5004"),
            ("udp=127.0.0.1:5006,localaddr=127.0.0.1:5005", "udp=127.0.0.1:5005,localaddr=127.0.0.1:5006"),
        ]:
            with joined(f"socket,id=n0,{one}", f"socket,id=n0,{other}") as guests:
                exchange(*guests)
    need_kvm()
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        one, other = socket.socketpair(socket.AF_UNIX, kind)
        with Emulator("-netdev", f"socket,id=n0,fd={one.fileno()}", *card(0), pass_fds=[one]) as first:
            with Emulator("-netdev", f"socket,id=n0,fd={other.fileno()}", *card(1), pass_fds=[other]) as second:
                for emulator in (first, second):
                    emulator.console.expect("READY\r\n")
                exchange(first, second)


@check("net: a tap by descriptor and by name, with a header and without")
def by_tap():
    need_kvm()
    for header in (False, True):
        with private_network():
            (file,) = tap("tap0", header)
            options = {"fd": (f"fd={file.fileno()}", [file]), "name": (f"ifname=tap1,script=no,downscript=no,vnet_hdr={'on' if header else 'off'}", [])}
            for name, (how, files) in options.items():
                interface = "tap0" if name == "fd" else "tap1"
                with Emulator("-netdev", f"tap,id=n0,{how}", *card(0), pass_fds=files) as emulator:
                    emulator.console.expect("READY\r\n")
                    if name == "name":
                        set_up(interface)
                    with frames_of(interface) as frames:
                        features = start(emulator, "m").split("features ")[1]
                        expect_equal(int(features.split(".")[1], 16) & 1 == 1, header, "whether checksums may be left to the host")
                        say(emulator, "x s 1000 0", "SENT ")
                        data = receive(frames)
                        expect_equal((len(data), data[6:12].hex(":")), (1000, MACS[0]), "what the guest sent")
                        frames.send(frame(MACS[0], MACS[1], bytes(range(200)) * 5))
                        seen = say(emulator, "x r", "FRAME ")
                        expect(seen.startswith(f"1014 to {MACS[0]} from {MACS[1]} sum "), f"what the guest received: {seen}")
                        expect(" buffers 5 " in seen, f"in how many buffers: {seen}")


@check("net: what a guest leaves to the host is cut and summed up on its way through a bridge")
def offloads():
    need_kvm()
    with private_network():
        (file,) = tap("guest0", header=True)
        (outside,) = tap("outside")
        bridge("br0", "guest0", "outside")
        with Emulator("-netdev", f"tap,id=n0,fd={file.fileno()}", *card(0), pass_fds=[file]) as emulator:
            emulator.console.expect("READY\r\n")
            start(emulator, "o")
            say(emulator, "x g 4500", "SENT")
            sizes = []
            while sum(sizes) < 4500:
                data = receive(outside)
                if data[12:14] != b"\x08\x00" or data[6:12].hex(":") != MACS[0]:
                    continue
                packet = data[14:]
                total = struct.unpack_from(">H", packet, 2)[0]
                expect_equal(checksum(packet[:20]), 0, "sum of the header")
                pseudo = packet[12:20] + struct.pack(">HH", 6, total - 20)
                expect_equal(checksum(pseudo + packet[20:total]), 0, "sum of the segment")
                sizes.append(total - 40)
            expect_equal(sizes, [1000, 1000, 1000, 1000, 500], "bytes of the segments")
        outside.close()


def checksum(data):
    """The Internet's checksum; of what holds its own it is zero."""
    words = struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


@check("net: several queues of a tap, all and one of them")
def several_queues():
    need_kvm()
    with private_network():
        files = tap("tap0", header=True, queues=2)
        fds = ":".join(str(file.fileno()) for file in files)
        with Emulator("-netdev", f"tap,id=n0,fds={fds}", *card(0, ",mq=on,vectors=6"), pass_fds=files) as emulator:
            emulator.console.expect("READY\r\n")
            with frames_of("tap0") as frames:
                for letters, queues in (("q", 2), ("", 1), ("qm", 2)):
                    expect(f" pairs {queues} " in start(emulator, letters), f"queue pairs with {letters!r}")
                    if queues > 1:
                        expect_equal(say(emulator, "x c 04000200", "ACK "), "0", "both pairs are used")
                        expect_equal(say(emulator, "x c 04000300", "ACK "), "1", "three of two pairs")
                    for queue in range(queues):
                        say(emulator, f"x s 100 {queue}", "SENT ")
                        expect_equal(len(receive(frames)), 100, f"what came by pair {queue}")
                    frames.send(frame(MACS[0], MACS[1], b"x" * 86))
                    expect(say(emulator, "x r", "FRAME ").startswith("100 to "), "what came in")


@check("net: older machines offer no segments of UDP")
def older_machines():
    need_kvm()
    udp = 1 << 22 | 1 << 23 | 1 << 24
    with private_network():
        for machine, wanted in [("pc-q35-8.1", 0), ("pc-q35-8.2", udp)]:
            (file,) = tap("tap0", header=True)
            with Emulator("-netdev", f"tap,id=n0,fd={file.fileno()}", *card(0), "-cpu", "qemu64", machine=machine, pass_fds=[file]) as emulator:
                emulator.console.expect("READY\r\n")
                features = start(emulator).split("features ")[1]
                expect_equal(int(features.split(".")[0], 16) & udp, wanted, f"what {machine} offers")


@check("net: what the guest filters, as clients are told of it")
def filters():
    need_kvm()
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with Emulator("-netdev", f"socket,id=n0,fd={one.fileno()}", *card(0), pass_fds=[one]) as emulator:
        monitor = emulator.qmp()
        emulator.console.expect("READY\r\n")
        (before,) = monitor.command("query-rx-filter")
        wanted = {"name": "nic", "promiscuous": True, "main-mac": MACS[0], "vlan": "all", "unicast": "normal", "multicast": "normal"}
        expect_equal({name: before[name] for name in wanted}, wanted, "before there is a driver")
        expect_equal(before["vlan-table"], list(range(4095, -1, -1)), "all tags")
        start(emulator)
        monitor.events.clear()
        group, mine = "01:00:5e:00:00:05", "52:54:00:00:00:77"
        table = f"0100 01000000 {mine} 01000000 {group}"
        for command in ("0000 00", table, "0200 0700"):
            expect_equal(say(emulator, "x c " + command.replace(" ", "").replace(":", ""), "ACK "), "0", f"answer to {command}")
        (after,) = monitor.command("query-rx-filter", name="nic")
        wanted = {"promiscuous": False, "unicast-table": [mine], "multicast-table": [group], "vlan-table": [7], "vlan": "normal"}
        expect_equal({name: after[name] for name in wanted}, wanted, "what the driver has set")
        told = [event["data"] for event in monitor.events if event["event"] == "NIC_RX_FILTER_CHANGED"]
        wanted = {"name": "nic", "path": "/machine/peripheral/nic/virtio-backend"}
        expect_equal(told, [wanted], "events until somebody asks")
        for to in ("52:54:00:00:00:99", "01:00:5e:00:00:06", mine, group, BROADCAST, MACS[0]):
            other.send(frame(to, MACS[1], b"data"))
        for to in (mine, group, BROADCAST, MACS[0]):
            expect(f"to {to} " in say(emulator, "x r", "FRAME "), f"a frame to {to}")
        for command, answer in (("0101525400000088", "0"), ("0900", "1"), ("0000", "1"), ("0100ffffffff", "1"), ("02000010", "1")):
            expect_equal(say(emulator, f"x c {command}", "ACK "), answer, f"answer to {command}")
        monitor.wait_event("NIC_RX_FILTER_CHANGED")
        (after,) = monitor.command("query-rx-filter", name="nic")
        expect_equal(after["main-mac"], "52:54:00:00:00:88", "the address that the driver set")
        monitor.command("system_reset")
        emulator.console.expect("READY\r\n")
        expect_equal(monitor.command("query-rx-filter"), [before], "after a reset")
        expect_equal(error_of(monitor, "query-rx-filter", name="nobody"), "invalid net client name: nobody", "no card")
        expect_equal(error_of(monitor, "query-rx-filter", name="n0"), "net client(n0) isn't a NIC", "a back end")
    other.close()


@check("net: a cable is plugged out and in again; of the card and of its back end")
def cables():
    need_kvm()
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with Emulator("-netdev", f"socket,id=n0,fd={one.fileno()}", *card(0), pass_fds=[one]) as emulator:
        monitor = emulator.qmp()
        emulator.console.expect("READY\r\n")
        start(emulator)
        for name in ("nic", "n0"):
            monitor.command("set_link", name=name, up=False)
            expect_equal(say(emulator, "x t", "STATUS 0f config "), "0", f"status without the cable of {name}")
            say(emulator, "x s 60 0", "SENT ")
            monitor.command("set_link", name=name, up=True)
            expect_equal(say(emulator, "x t", "STATUS 0f config "), "1", "status with it")
            say(emulator, "x s 61 0", "SENT ")
            expect_equal(len(receive(other)), 61, "what came out: nothing of before")
        expect_equal(error_of(monitor, "set_link", name="nobody", up=True), "Device 'nobody' not found", "neither")
        expect_equal(monitor.hmp("set_link nic off"), "", "the human monitor")
        expect_equal(say(emulator, "x t", "STATUS 0f config "), "0", "status")
    other.close()


@check("net: cards tell their networks where they are")
def announcing():
    need_kvm()
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with Emulator("-netdev", f"socket,id=n0,fd={one.fileno()}", *card(0), pass_fds=[one]) as emulator:
        monitor = emulator.qmp()
        emulator.console.expect("READY\r\n")
        start(emulator)
        monitor.command("announce-self", initial=1, max=2, rounds=2, step=1)
        for _ in range(2):
            told = receive(other)
            expect_equal((told[:6].hex(":"), told[6:12].hex(":"), told[12:14].hex()), (BROADCAST, MACS[0], "8035"), "what is told")
        expect_equal(say(emulator, "x t", "STATUS 0f config "), "3", "the driver is asked to do so as well")
        expect_equal(say(emulator, "x c 0300", "ACK "), "0", "it says that it has")
        expect_equal(say(emulator, "x t", "STATUS 0f config "), "1", "status")
        monitor.command("announce-self", initial=1, max=2, rounds=1, step=1, interfaces=["other"])
        monitor.command("announce-self", initial=100000, max=100000, rounds=1, step=1, id="a")
        monitor.command("announce-self", initial=1, max=1, rounds=0, step=1, id="a")
        say(emulator, "x s 70 0", "SENT ")
        expect_equal(len(receive(other)), 70, "nothing of the others came before")
        expect_equal(error_of(monitor, "announce-self"), "Parameter 'initial' is missing", "nothing given")
    other.close()


@check("net: two cards of one guest, one of which breaks its ring, and one without a back end")
def two_cards():
    need_kvm()
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    cards = ["-device", f"{NET},netdev=n0,id=a,disable-legacy=on", "-device", f"{NET},id=b,disable-legacy=on"]
    with Emulator("-netdev", f"socket,id=n0,fd={one.fileno()}", *cards, pass_fds=[one]) as emulator:
        monitor = emulator.qmp()
        emulator.console.expect("READY\r\n")
        expect(start(emulator, number=1).startswith("52:54:00:12:34:57 status 1"), "the second's address and status")
        say(emulator, "x s 60 0", "SENT ")
        emulator.console.type("x b")
        emulator.console.expect("BROKEN")
        eventually("the card needs a reset", 20, lambda: say(emulator, "x t", "STATUS ").startswith("4f"))
        expect(start(emulator).startswith("52:54:00:12:34:56 status 1"), "the first's address and status")
        say(emulator, "x s 60 0", "SENT ")
        expect_equal(len(receive(other)), 60, "what the first sent")
        expect("virtio" in emulator.errors(), f"what the log says of the second: {emulator.errors()!r}")
        seen = start(emulator, number=1)
        expect(seen.startswith("52:54:00:12:34:57 status 1"), f"the second after its reset: {seen}")
        listed = monitor.hmp("info network").replace("\r", "")
        lines = [f"a: index=0,type=nic,model={NET},macaddr=52:54:00:12:34:56", " \\ n0: index=0,type=socket,fd"]
        lines.append(f"b: index=0,type=nic,model={NET},macaddr=52:54:00:12:34:57")
        expect_equal(listed, "".join(line + "\n" for line in lines), "info network")
    other.close()


@check("net: back ends come and go, whether a card has them or not")
def back_ends():
    need_kvm()
    with tempfile.TemporaryDirectory() as folder, Emulator(paused=True, guest=False, console=False) as emulator:
        monitor = emulator.qmp()
        expect_equal(monitor.hmp("info network"), "", "none")
        address = {"type": "unix", "path": f"{folder}/s"}
        for _ in range(2):
            monitor.command("netdev_add", type="stream", id="n0", server=True, addr=address)
            expect(os.path.exists(f"{folder}/s"), "somebody listens")
            expect_equal(error_of(monitor, "netdev_add", type="stream", id="n0", server=True, addr=address), "Duplicate ID 'n0'", "twice")
            monitor.command("netdev_del", id="n0")
            expect(not os.path.exists(f"{folder}/s"), "nobody listens any more")
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with one, other:
            monitor.command("getfd", fdname="f", fds=[one.fileno()])
            monitor.command("netdev_add", type="socket", id="n1", fd="f")
            again = error_of(monitor, "netdev_add", type="socket", id="n2", fd="f")
            expect_equal(again, "File descriptor named 'f' has not been found", "a descriptor that is taken")
        for wrong, text in [
            ({"id": "n9"}, "Parameter 'type' is missing"),
            ({"type": "bogus", "id": "n9"}, "Parameter 'type' does not accept value 'bogus'"),
            ({"type": "user", "id": "n9"}, "Parameter 'type' does not accept value 'user'"),
            ({"type": "tap", "script": "no"}, "Parameter 'id' is missing"),
            ({"type": "tap", "id": "1n", "fd": "f"}, "Parameter 'id' expects an identifier"),
            ({"type": "tap", "id": "n9", "fd": "nofd"}, "File descriptor named 'nofd' has not been found"),
            ({"type": "stream", "id": "n9"}, "Parameter 'addr' is missing"),
            ({"type": "tap", "id": "n9", "fd": "f", "bogus": 1}, "Parameter 'bogus' is unexpected"),
            (
                {"type": "tap", "id": "n9", "fd": "nofd", "ifname": "t0"},
                "ifname=, script=, downscript=, vnet_hdr= are invalid with fd=/fds=/helper=",
            ),
        ]:
            expect_equal(error_of(monitor, "netdev_add", **wrong), text, f"netdev_add {wrong}")
        with pathlib.Path("/dev/null").open("rb") as null:
            monitor.command("getfd", fdname="null", fds=[null.fileno()])
        complaint = error_of(monitor, "netdev_add", type="tap", id="n9", fd="null")
        expect(complaint.startswith("Unable to query TUNGETIFF on FD"), f"a descriptor of another kind: {complaint}")
        for name in ("nobody", "n0"):
            expect_equal(error_of(monitor, "netdev_del", id=name), f"Device '{name}' not found", "one that is not there")
        expect_equal(monitor.hmp(f"netdev_add dgram,id=n3,local.type=unix,local.path={folder}/l,remote.type=unix,remote.path={folder}/r"), "", "for people")
        expect("n3: index=0,type=dgram," in monitor.hmp("info network"), "info network")
        expect_equal(monitor.hmp("netdev_del n3"), "", "for people")


@check("net: what cards and back ends may not be given is named at start")
def wrong_cards():
    need_kvm()
    back_end = ["-netdev", "socket,id=n0,udp=127.0.0.1:1,localaddr=127.0.0.1:0"]
    for device, complaint in [
        (f"{NET},netdev=nobody", "Property 'virtio-net-device.netdev' can't find value 'nobody'"),
        (f"{NET},netdev=n0,mac=zz", "Property 'virtio-net-device.mac' doesn't take value 'zz'"),
        (f"{NET},netdev=n0,rx_queue_size=300", "Invalid rx_queue_size (= 300), must be a power of 2 between 256 and 1024."),
        (f"{NET},netdev=n0,duplex=both", "'duplex' must be 'half' or 'full'"),
        (f"{NET},netdev=n0,rss=on", f"Property '{NET}.rss' not found"),
        ("virtio-net-device", "Parameter 'driver' expects a pluggable device type"),
        ("e1000", "'e1000' is not a valid device model name"),
    ]:
        expect_equal(last_line(*GUEST, *back_end, "-device", device), f"-device {device}: {complaint}", f"message about {device}")
    twice = ["-device", f"{NET},netdev=n0,id=a", "-device", f"{NET},netdev=n0"]
    complaint = f"-device {NET},netdev=n0: Property 'virtio-net-device.netdev' can't take value 'n0', it's in use"
    expect_equal(last_line(*GUEST, *back_end, *twice), complaint, "a back end that another card has")
    for netdev, complaint in [
        ("user,id=n1", "Parameter 'type' does not accept value 'user'"),
        ("socket,id=n0,fd=999", "File descriptor '999' is not open or is in use already"),
        ("stream,id=n1,server=on,addr.type=unix,addr.path=/nodir/x", "can't bind unix:/nodir/x: No such file or directory"),
        ("tap,id=n1", "tap: a script cannot be run, only 'script=no' is supported"),
    ]:
        seen = last_line(*GUEST, "-netdev", netdev)
        expect(seen.startswith(f"-netdev {netdev}: {complaint}"), f"message about {netdev}: {seen}")


@check("net: into and out of a slot while the guest runs, with its back end")
def plugged_in():
    need_kvm()
    ports = [word for name in ("rp", "rp2") for word in ("-device", f"pcie-root-port,id={name},chassis={name[2:] or 1}")]
    with Emulator(*ports) as emulator:
        monitor = emulator.qmp()
        emulator.console.expect("READY\r\n")
        for _ in range(2):
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            with one, other:
                monitor.command("getfd", fdname="f", fds=[one.fileno()])
                monitor.command("netdev_add", type="socket", id="n0", fd="f")
                for wrong, text in [
                    ({"netdev": "nobody"}, "Property 'virtio-net-device.netdev' can't find value 'nobody'"),
                    ({"netdev": "n0", "mac": "zz"}, "Property 'virtio-net-device.mac' doesn't take value 'zz'"),
                    ({"netdev": "n0", "bogus": 1}, f"Property '{NET}.bogus' not found"),
                ]:
                    expect_equal(error_of(monitor, "device_add", driver=NET, bus="rp", id="nic", **wrong), text, f"device_add {wrong}")
                monitor.command("device_add", driver=NET, id="nic", bus="rp", netdev="n0", mac=MACS[0])
                taken = "Property 'virtio-net-device.netdev' can't take value 'n0', it's in use"
                expect_equal(error_of(monitor, "device_add", driver=NET, bus="rp2", netdev="n0"), taken, "twice")
                expect(start(emulator, "m").startswith(MACS[0]), "the address")
                say(emulator, "x s 100 0", "SENT ")
                expect_equal(len(receive(other)), 100, "what came out")
                other.send(frame(MACS[0], MACS[1], b"x" * 86))
                expect(say(emulator, "x r", "FRAME ").startswith("100 to "), "what came in")
                monitor.command("netdev_del", id="n0")
                expect_equal(error_of(monitor, "netdev_del", id="n0"), "Device 'n0' not found", "twice")
                expect_equal(say(emulator, "x t", "STATUS 0f config "), "0", "a card without its back end has no link")
                monitor.command("device_del", id="nic")
                monitor.command("system_reset")
                for data in [{"path": "/machine/peripheral/nic/virtio-backend"}, {"device": "nic", "path": "/machine/peripheral/nic"}]:
                    expect_equal(monitor.wait_event("DEVICE_DELETED")["data"], data, "what is gone")
                expect_equal(monitor.command("query-rx-filter"), [], "cards that are left")
                expect_equal(monitor.hmp("info network"), "", "what is left")
                emulator.console.expect("READY\r\n")
