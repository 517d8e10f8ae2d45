"""virtio-serial: ports between a guest and those who talk to it, from the start and while the guest is there."""

import json
import os
import socket
import tempfile

from harness.checks import check, expect, expect_equal
from harness.emulator import Emulator, need_kvm
from protocol.devices import GUEST, error_of, last_line

SERIAL = "virtio-serial-pci"


class Client:
    """Somebody at the host's end of a port."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self.buffered = b""

    def say(self, text):
        self.socket.sendall(text)

    def line(self):
        while b"\n" not in self.buffered:
            data = self.socket.recv(65536)
            expect(data, "the port ended")
            self.buffered += data
        line, self.buffered = self.buffered.split(b"\n", 1)
        return line + b"\n"

    def close(self):
        self.socket.close()


def socket_chardev(name, path):
    return ["-chardev", f"socket,id={name},path={path},server=on,wait=off"]


def port_event(monitor, name, is_open):
    """Waits until a port is as it should be: of changes that follow each other closely only the last is told."""
    while True:
        data = monitor.wait_event("VSERPORT_CHANGE")["data"]
        if data == {"id": name, "open": is_open}:
            return


def is_open(monitor, chardev):
    return {entry["label"]: entry["frontend-open"] for entry in monitor.command("query-chardev")}[chardev]


@check("virtio-serial: what a port may not be given is named, at start and later")
def wrong_ports():
    need_kvm()
    null = ["-chardev", "null,id=n", "-chardev", "null,id=m"]
    device = ["-device", f"{SERIAL},id=vs,max_ports=4"]
    port = "virtserialport"
    for devices, complaint in [
        ([f"{SERIAL},max_ports=0"], "Maximum number of serial ports not specified"),
        ([f"{SERIAL},max_ports=512"], "maximum ports supported: 511"),
        ([port], f"No 'virtio-serial-bus' bus found for device '{port}'"),
        ([SERIAL, f"{port},bus=nobus"], "Bus 'nobus' not found"),
        ([SERIAL, f"{port},bus=pcie.0"], f"Device '{port}' can't go on PCIE bus"),
        ([f"{SERIAL},id=vs", "virtio-rng-pci,bus=vs.0"], "Device 'virtio-rng-pci' can't go on virtio-serial-bus bus"),
        ([SERIAL, f"{port},nr=0"], "Port number 0 on virtio-serial devices reserved for virtconsole devices for backward compatibility."),
        ([SERIAL, f"{port},nr=2", f"{port},nr=2"], "virtio-serial-bus: A port already exists at id 2"),
        ([SERIAL, f"{port},name=a", SERIAL, f"{port},name=a"], "virtio-serial-bus: A port already exists by name a"),
        ([f"{SERIAL},max_ports=4", f"{port},nr=4"], "virtio-serial-bus: Out-of-range port id specified, max. allowed: 3"),
        ([f"{SERIAL},max_ports=1", port], "virtio-serial-bus: Maximum port limit for this device reached"),
        ([SERIAL, f"{port},chardev=noc"], f"Property '{port}.chardev' can't find value 'noc'"),
        ([SERIAL, f"{port},chardev=n", f"{port},chardev=n"], f"Property '{port}.chardev' can't take value 'n': chardev 'n' is already in use"),
        (["virtio-serial-port"], "Parameter 'driver' expects a non-abstract device type"),
    ]:
        arguments = null + [word for entry in devices for word in ("-device", entry)]
        expect_equal(last_line(*GUEST, *arguments), f"-device {devices[-1]}: {complaint}", f"message about {devices}")
    arguments = [*null, *device, "-device", f"{port},id=a,chardev=n,name=org.a", "-machine", "q35"]
    with Emulator(*arguments, console=False, guest=False, paused=True) as emulator:
        monitor = emulator.qmp()
        for wrong, text in [
            ({"chardev": "noc"}, f"Property '{port}.chardev' can't find value 'noc'"),
            ({"chardev": "n"}, f"Property '{port}.chardev' can't take value 'n': chardev 'n' is already in use"),
            ({"chardev": "m", "nr": 1}, "virtio-serial-bus: A port already exists at id 1"),
            ({"chardev": "m", "nr": 9}, "virtio-serial-bus: Out-of-range port id specified, max. allowed: 3"),
            ({"chardev": "m", "name": "org.a"}, "virtio-serial-bus: A port already exists by name org.a"),
            ({"chardev": "m", "bus": "nobus"}, "Bus 'nobus' not found"),
        ]:
            expect_equal(error_of(monitor, "device_add", driver=port, **{"id": "x", "bus": "vs.0", **wrong}), text, f"{wrong}")
        # What failed has left nothing behind.
        monitor.command("device_add", driver=port, id="x", bus="vs.0", chardev="m")
        expect_equal(monitor.command("qom-get", path="/machine/peripheral/x", property="nr"), 2, "number of the second port")
        parent = monitor.command("qom-get", path="/machine/peripheral/x", property="parent_bus")
        expect_equal(parent, "/machine/peripheral/vs/virtio-backend/vs.0", "bus of the second port")
        tree = monitor.hmp("info qtree").replace("\r", "")
        expect('bus: vs.0\n' in tree and 'dev: virtserialport, id "x"' in tree, f"the port is missing from {tree}")
        expect_equal(error_of(monitor, "chardev-remove", id="m"), "Chardev 'm' is busy", "a chardev in use")
        monitor.command("device_del", id="x")
        event = monitor.wait_event("DEVICE_DELETED")["data"]
        expect_equal(event, {"device": "x", "path": "/machine/peripheral/x"}, "the port is gone")
        monitor.command("chardev-remove", id="m")


@check("virtio-serial: two ports carry what is said both ways, and those who manage the guest hear who is there")
def two_ports():
    need_kvm()
    with tempfile.TemporaryDirectory() as directory:
        paths = {name: os.path.join(directory, name) for name in ("a", "b", "c")}
        arguments = [word for name in ("a", "b") for word in socket_chardev(name, paths[name])]
        arguments += ["-device", f"{SERIAL},id=vs,addr=5", "-device", "virtserialport,id=pa,chardev=a,name=org.qemu.guest_agent.0"]
        arguments += ["-device", "virtserialport,id=pb,chardev=b"]
        with Emulator(*arguments, "-machine", "q35") as emulator:
            monitor, console = emulator.qmp(), emulator.console
            console.expect("READY")
            expect_equal([is_open(monitor, name) for name in ("a", "b")], [False, False], "open before the guest is there")
            early = Client(paths["a"])
            early.say(b'{"execute":"guest-sync", "arguments":{"id":1721}}\n')
            console.type("v")
            for text in ("PORTS", "PORT 1 added", "PORT 2 added", "PORT 1 name org.qemu.guest_agent.0", "PORT 1 connected"):
                console.expect(text)
            opened = sorted((event["data"]["id"], event["data"]["open"]) for event in (monitor.wait_event("VSERPORT_CHANGE") for _ in range(2)))
            expect_equal(opened, [("pa", True), ("pb", True)], "ports that the guest opened")
            expect_equal([is_open(monitor, name) for name in ("a", "b")], [True, True], "open once the guest is there")
            expect_equal(json.loads(early.line()), {"return": 1721}, "answer to what was said before")
            early.say(b'{"execute":"guest-ping"}\n')
            expect_equal(json.loads(early.line()), {"return": {}}, "answer to a ping")
            other = Client(paths["b"])
            console.expect("PORT 2 connected")
            # More than all queues hold, while nobody reads the answers.
            texts = [bytes(f"{number:04} ", "ascii") + b"x" * 995 + b"\n" for number in range(100)]
            other.socket.setblocking(False)
            sent, waiting = 0, b"".join(texts)
            early.say(b'{"execute":"guest-ping"}\n')
            while waiting:
                try:
                    count = other.socket.send(waiting)
                    waiting, sent = waiting[count:], sent + count
                except BlockingIOError:
                    other.socket.settimeout(60)
                    other.buffered += other.socket.recv(4096)
                    other.socket.setblocking(False)
            other.socket.settimeout(60)
            for number, text in enumerate(texts):
                expect_equal(other.line(), text, f"line {number}")
            expect_equal(json.loads(early.line()), {"return": {}}, "the other port goes on")
            early.close()
            console.expect("PORT 1 disconnected")
            late = Client(paths["a"])
            console.expect("PORT 1 connected")
            late.say(b"hello\n")
            expect_equal(late.line(), b"hello\n", "what a second client hears")
            # A third port comes and goes.
            backend = {"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": paths["c"]}}, "server": True, "wait": False}}
            monitor.command("chardev-add", id="c", backend=backend)
            monitor.command("device_add", driver="virtserialport", id="pc", chardev="c", bus="vs.0", name="org.c", nr=3)
            for text in ("PORT 3 added", "PORT 3 name org.c"):
                console.expect(text)
            port_event(monitor, "pc", True)
            third = Client(paths["c"])
            console.expect("PORT 3 connected")
            third.say(b"third\n")
            expect_equal(third.line(), b"third\n", "what the third port says")
            monitor.command("device_del", id="pc")
            expect_equal(monitor.wait_event("DEVICE_DELETED")["data"]["device"], "pc", "what is gone")
            console.expect("PORT 3 removed")
            monitor.command("chardev-remove", id="c")
            # While the guest is paused nothing moves, and nothing is lost.
            monitor.command("stop")
            late.say(b"paused\n")
            monitor.command("cont")
            expect_equal(late.line(), b"paused\n", "what was said to a paused guest")
            console.type("")
            console.expect("NO MORE PORTS")
            closed = sorted((event["data"]["id"], event["data"]["open"]) for event in (monitor.wait_event("VSERPORT_CHANGE") for _ in range(2)))
            expect_equal(closed, [("pa", False), ("pb", False)], "ports that the guest closed")
            expect_equal([is_open(monitor, name) for name in ("a", "b")], [False, False], "open after the guest has gone")
            console.type("v")
            console.expect("PORT 1 connected")
            port_event(monitor, "pa", True)
            monitor.command("system_reset")
            console.expect("READY")
            expect_equal(is_open(monitor, "a"), False, "open after a reset")


@check("virtio-serial: a console's characters get out, and what is typed gets in; functions as QEMU has them")
def console_port():
    need_kvm()
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "c")
        arguments = [*socket_chardev("c", path), "-device", f"{SERIAL},id=vs,addr=5,max_ports=8", "-device", "virtconsole,id=con,chardev=c"]
        with Emulator(*arguments, "-machine", "q35") as emulator:
            monitor, console = emulator.qmp(), emulator.console
            console.expect("READY")
            expect_equal(is_open(monitor, "c"), True, "a console is open always")
            console.type("v")
            for text in ("PORT 0 added", "PORT 0 console", "PORT 0 connected"):
                console.expect(text)
            client = Client(path)
            client.say(b"login\n")
            expect_equal(client.line(), b"login\n", "echo of the console")
            device = next(device for device in monitor.command("query-pci")[0]["devices"] if device["qdev_id"] == "vs")
            expect_equal(device["id"], {"vendor": 0x1AF4, "device": 0x1003, "subsystem-vendor": 0x1AF4, "subsystem": 3}, "ids")
            expect_equal(device["class_info"]["class"], 0x780, "class")
            expect_equal([region["size"] for region in device["regions"]], [64, 4096, 16384], "regions")
            expect_equal(monitor.command("qom-get", path="/machine/peripheral/vs", property="class"), 0x780, "class property")
        listed = ["-device", "pcie-root-port,id=p,chassis=1", "-device", f"{SERIAL},id=vs,bus=p", "-device", "virtserialport,id=a"]
        with Emulator(*listed, "-machine", "q35", console=False, guest=False, paused=True) as emulator:
            monitor = emulator.qmp()
            monitor.command("device_del", id="vs")
            monitor.command("system_reset")
            gone = [monitor.wait_event("DEVICE_DELETED")["data"].get("device") for _ in range(3)]
            expect_equal(gone, ["a", None, "vs"], "a port goes with its device, and before it")
            left = {entry["name"] for entry in monitor.command("qom-list", path="/machine/peripheral")}
            expect("a" not in left and "vs" not in left, f"devices that are left: {left}")
