"""Keyboard and mouse: what clients press and move is what a guest reads."""

import pathlib
import socket
import tempfile

from harness.checks import Failure, check, expect, expect_equal
from harness.emulator import Emulator, need_kvm
from harness.qmp import Qmp, QmpError

# 16-bit firmware that enables the mouse, and then prints what the keyboard controller has for it.
READER = bytes.fromhex(
    "b060e664b040e660"  # command byte 0x40: codes are translated to set 1
    "b0d4e664b0f4e660"  # 0xf4 to the mouse: tell of movement
    "e464a80174fa"  # wait until the status says that there is a byte
    "e6e9e460e6e9ebf2"  # print the status and the byte; go back to waiting
)
FROM_KEYBOARD, FROM_MOUSE = 0x19, 0x39
# What the mouse says to being enabled.
ACKNOWLEDGED = 0xFA


class Reader:
    """A guest that prints what it reads."""

    def __init__(self, *arguments, has_controller=True):
        need_kvm()
        self.folder = tempfile.TemporaryDirectory()
        rom = bytearray(b"\xf4" * (64 << 10))
        rom[-16:-11] = b"\xea\x00\x00\x00\xf0"  # jmp 0xf000:0
        rom[: len(READER)] = READER
        pathlib.Path(self.folder.name, "rom").write_bytes(rom)
        self.log, theirs = socket.socketpair()
        self.log.settimeout(30)
        self.other_path = f"{self.folder.name}/other"
        devices = ["-chardev", f"socket,id=log,fd={theirs.fileno()}", "-device", "isa-debugcon,iobase=0xe9,chardev=log"]
        firmware = ["-L", self.folder.name, "-bios", "rom", "-qmp", f"unix:{self.other_path},server=on,wait=off"]
        self.emulator = Emulator(*firmware, *devices, *arguments, guest=False, pass_fds=[theirs])
        self.monitor = self.emulator.qmp()
        if has_controller:
            self.reads(FROM_MOUSE, ACKNOWLEDGED)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.emulator.stop()
        self.log.close()
        self.folder.cleanup()

    def reads(self, source, *wanted):
        """The guest reads these bytes next, from there."""
        wanted = bytes(byte for value in wanted for byte in (source, value))
        seen = b""
        while len(seen) < len(wanted):
            try:
                seen += self.log.recv(len(wanted) - len(seen))
            except TimeoutError:
                raise Failure(f"the guest has read {seen.hex(' ', 2)} only, not {wanted.hex(' ', 2)}") from None
        expect_equal(seen.hex(" ", 2), wanted.hex(" ", 2), "statuses and bytes")

    def send_key(self, *keys, **arguments):
        """Sends keys, by name or number."""
        kinds = {int: "number", str: "qcode"}
        self.monitor.command("send-key", keys=[{"type": kinds[type(key)], "data": key} for key in keys], **arguments)

    def error_of(self, **arguments):
        """Class and text of the error of `input-send-event`."""
        try:
            self.monitor.command("input-send-event", **arguments)
        except QmpError as error:
            return error.error_class, error.desc
        return None


def key(name, down):
    """A key event."""
    return {"type": "key", "data": {"down": down, "key": {"type": "qcode", "data": name}}}


def button(name, down):
    """A button event."""
    return {"type": "btn", "data": {"down": down, "button": name}}


def move(axis, value, kind="rel"):
    """Movement, or a position."""
    return {"type": kind, "data": {"axis": axis, "value": value}}


@check("input: keys come by name and by number, one and several, each with its codes, with either irqchip")
def keys():
    for irqchip in ("on", "split"):
        with Reader("-machine", f"kernel-irqchip={irqchip}") as guest:
            guest.send_key("a")
            guest.reads(FROM_KEYBOARD, 0x1E, 0x9E)
            guest.send_key(0x1E, 0xB8, **{"hold-time": 1})
            guest.reads(FROM_KEYBOARD, 0x1E, 0xE0, 0x38, 0xE0, 0xB8, 0x9E)
            guest.send_key("pause")
            guest.reads(FROM_KEYBOARD, 0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5)
            guest.send_key()
            guest.send_key("unmapped", "b")
            guest.reads(FROM_KEYBOARD, 0x30, 0xB0)


@check("input: sendkey of the human monitor names keys as people do, and what is none")
def sendkey():
    with Reader() as guest:
        def human(line):
            return guest.monitor.command("human-monitor-command", **{"command-line": line})

        expect_equal(human("sendkey ctrl-alt-delete 20"), "", "sendkey")
        guest.reads(FROM_KEYBOARD, 0x1D, 0x38, 0xE0, 0x53, 0xE0, 0xD3, 0xB8, 0x9D)
        expect_equal(human("sendkey <-0x2"), "", "sendkey")
        guest.reads(FROM_KEYBOARD, 0x56, 0x02, 0x82, 0xD6)
        for line, word in [("foo", "foo"), ("a-", ""), ("a-0x", "0x"), ("ctrl-0xz", "0xz"), ("0x100000000", "0x100000000")]:
            expect_equal(human(f"sendkey {line}"), f"invalid parameter: {word}\r\n", line)


@check("input: keys of two clients do not mix, and a reset ends nothing")
def two_clients():
    with Reader() as guest:
        other = Qmp(guest.other_path)
        guest.send_key("a", "b", **{"hold-time": 50})
        other.command("human-monitor-command", **{"command-line": "sendkey c 1"})
        guest.reads(FROM_KEYBOARD, 0x1E, 0x30, 0xB0, 0x9E, 0x2E, 0xAE)
        guest.monitor.command("system_reset")
        guest.reads(FROM_MOUSE, ACKNOWLEDGED)
        guest.send_key("c")
        guest.reads(FROM_KEYBOARD, 0x2E, 0xAE)


@check("input: events come as they are sent, movement and buttons with the mouse")
def events():
    with Reader() as guest:
        def send(*happening):
            guest.monitor.command("input-send-event", events=list(happening))

        send(key("shift", True), key("q", True), key("q", False), key("shift", False))
        guest.reads(FROM_KEYBOARD, 0x2A, 0x10, 0x90, 0xAA)
        send(move("x", 3), move("y", -2), button("left", True))
        guest.reads(FROM_MOUSE, 0x09, 3, 2)
        send(button("left", False), move("x", -300))
        guest.reads(FROM_MOUSE, 0x18, 0x81, 0, 0x18, 0x81, 0, 0x18, 0xD2, 0)


@check("input: what no device takes, no display shows or no running guest hears is refused, and nothing happens")
def refused():
    with Reader() as guest:
        no_handler = "Input handler not found for event type "
        for kind in ("abs", "mtt"):
            touch = {"type": "mtt", "data": {"type": "begin", "slot": 0, "tracking-id": 0, "axis": "x", "value": 1}}
            event = touch if kind == "mtt" else move("x", 1, "abs")
            expect_equal(guest.error_of(events=[key("a", True), event]), ("GenericError", no_handler + kind), kind)
        device = guest.error_of(device="x", events=[])
        expect_equal(device, ("DeviceNotFound", "Device 'x' not found"), "a display")
        guest.monitor.command("stop")
        expect_equal(guest.error_of(events=[]), ("GenericError", "VM not running"), "while stopped")
        guest.send_key("a")
        guest.monitor.command("cont")
        guest.send_key("b")
        guest.reads(FROM_KEYBOARD, 0x30, 0xB0)
    with Reader("-machine", "i8042=off", has_controller=False) as guest:
        for event, kind in [(key("a", True), "key"), (button("left", True), "btn"), (move("y", 1), "rel")]:
            expect_equal(guest.error_of(events=[event]), ("GenericError", no_handler + kind), kind)
        guest.send_key("a")
        expect(guest.error_of(events=[]) is None, "nothing at all is no error")
