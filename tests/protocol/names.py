"""Every type of object and every command of the schema, each member naming in turn what is missing, of the wrong kind, slow, full or
somebody else's. What is asked comes from query-qmp-schema, so that a new object or command is covered when it is there."""

import errno
import os
import select
import tempfile

from harness.checks import Failure, check, expect, expect_equal
from harness.emulator import Emulator, need_kvm
from harness.qmp import Qmp

# How long a reply may take that waits for nothing.
SOON = 10
# How long something is waited for before it counts as waiting for the other end of a pipe.
PATIENCE = 0.5
# The process ends with it, or the guest leaves for good; what those of the second kind are given is in migration.py.
LEFT_OUT = {"quit", "migrate", "migrate-incoming"}
# What a member is given where the name says what it must be.
GOOD = {"size": 4096, "qom-type": None}


class Schema:
    """The types of query-qmp-schema, and values for them."""

    def __init__(self, qmp, names):
        self.types = {entry["name"]: entry for entry in qmp.command("query-qmp-schema")}
        self.names = names

    def commands(self):
        """Every command with the name of the type of its arguments."""
        return {name: entry["arg-type"] for name, entry in self.types.items() if entry["meta-type"] == "command"}

    def base(self, name, member=""):
        """One value of a type, with nothing optional in it."""
        entry = self.types[name]
        kind = entry["meta-type"]
        if kind == "builtin":
            simple = {"string": "nosuch", "int": GOOD.get(member, 0), "number": 0.0, "boolean": False, "null": None, "value": 0}
            return simple[entry["json-type"]]
        if kind == "enum":
            return entry["members"][0]["name"]
        if kind == "array":
            return []
        if kind == "alternate":
            return self.base(entry["members"][0]["type"], member)
        value = {item["name"]: self.base(item["type"], item["name"]) for item in entry["members"] if "default" not in item}
        for variant in entry.get("variants", []):
            if variant["case"] == value[entry["tag"]]:
                value |= self.base(variant["type"])
        return value

    def samples(self, name, member="", within=()):
        """Values of a type that differ from its base in one place. A type within itself, as nodes of the block layer are in
        nodes, stays at its base."""
        entry = self.types[name]
        kind = entry["meta-type"]
        if kind == "builtin" and entry["json-type"] == "string":
            yield from self.names
        elif kind == "builtin" and entry["json-type"] == "int":
            # So much memory would fill the disk.
            numbers = (-1, 99) if member == "size" else (-1, 99, (1 << 63) - 1)
            yield from numbers
        elif kind == "array":
            yield from ([value] for value in self.samples(entry["element-type"], member, within))
        elif kind == "alternate":
            for item in entry["members"]:
                yield from self.samples(item["type"], member, within)
        elif kind == "object" and name not in within:
            yield from self.members(entry, self.base(name), (*within, name))

    def members(self, entry, base, within):
        """Samples of an object: of each of its members, and of those of each of its variants."""
        for item in entry["members"]:
            if item["name"] != entry.get("tag"):
                for value in self.samples(item["type"], item["name"], within):
                    yield base | {item["name"]: value}
        for variant in entry.get("variants", []):
            own = {item["name"]: base[item["name"]] for item in entry["members"] if item["name"] in base}
            own |= {entry["tag"]: variant["case"]} | self.base(variant["type"])
            yield own
            if self.types[variant["type"]]["meta-type"] == "object":
                yield from self.members(self.types[variant["type"]], own, within)


class Subject:
    """A paused guest with two monitors, and names of all that a command could be told to use."""

    def __init__(self, folder):
        self.folder = folder
        # Names without a folder are among those that are tried.
        self.before = os.getcwd()
        os.chdir(folder)
        self.fifo = f"{folder}/fifo"
        os.mkfifo(self.fifo)
        with open(f"{folder}/file", "wb") as file:
            file.write(bytes(8192))
        self.names = ["nosuch", "", f"{folder}/missing/file", folder, f"{folder}/file/below", self.fifo, "/dev/full", "/dev/tty",
                      "a-chardev", "an-object", "a-device", "/machine", "-1", "\u00fc" * 300]
        self.emulator = Emulator(
            "-chardev", "null,id=a-chardev", "-object", "iothread,id=an-object", "-device", "isa-serial,id=a-device,chardev=a-chardev",
            "-qmp", f"unix:{folder}/other,server=on,wait=off", guest=False, paused=True, console=False, memory=16)
        self.qmp, self.other = self.emulator.qmp(), Qmp(f"{folder}/other")
        self.number = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.emulator.stop()
        os.chdir(self.before)

    def release(self):
        """Opens the pipe at both ends for a moment, with something to read in it."""
        end = os.open(self.fifo, os.O_RDWR | os.O_NONBLOCK)
        try:
            os.write(end, b"released")
            select.select([self.qmp.socket], [], [], PATIENCE)
            while True:
                os.read(end, 65536)
        except OSError as error:
            expect(error.errno in (errno.EAGAIN, errno.EWOULDBLOCK), f"the pipe: {error}")
        finally:
            os.close(end)

    def ask(self, command, arguments):
        """The reply to a command; others are answered meanwhile."""
        self.number += 1
        what = f"{command} {arguments}"[:400]
        try:
            self.qmp.send({"execute": command, "arguments": arguments, "id": self.number})
            for attempt in range(20):
                if self.qmp.buffer or select.select([self.qmp.socket], [], [], PATIENCE)[0]:
                    reply = self.qmp.read_reply(SOON)
                    expect_equal(reply.get("id"), self.number, f"id of the reply to {what}")
                    return reply
                for question in ("query-status", "query-memdev"):
                    self.other.command(question, timeout=SOON)
                self.release()
        except Failure as failure:
            raise Failure(f"{what}: {failure}; exit status {self.emulator.process.poll()}; {self.emulator.errors()[-600:]}") from None
        raise Failure(f"{what}: no reply")

    def alive(self):
        """Fails the check unless the guest is there as before."""
        for question in ("query-status", "query-memdev"):
            self.other.command(question, timeout=SOON)
        expect("panicked" not in self.emulator.errors(), self.emulator.errors())


def words(value):
    """Everything in the arguments of a command that its error could name: members and what they are given."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from (name, name.replace("-", "_"), name.split("-")[-1])
            yield from words(item)
    elif isinstance(value, list):
        for item in value:
            yield from words(item)
    else:
        # What has no name cannot be named.
        yield str(value)[:60]


# Errors that need no name, in QEMU's words: there is only one thing that they can be about.
ENOUGH = ("No file descriptor supplied via SCM_RIGHTS", "is not supported on this target", "hotswap", "does not support hotplugging",
          "expects uint16_t", "exactly one of listen=, connect=, mcast=, udp=, or fd= is required", "VM not running",
          "Cannot find device='' nor node-name=''")


def unnamed(reply, arguments):
    """The text of an error that names nothing of what was asked; none if it does, or nothing went wrong."""
    text = reply.get("error", {}).get("desc")
    if text is None or any(enough in text for enough in ENOUGH) or any(word in text for word in words(arguments)):
        return None
    return text


def sweep(subject, schema, command, type_name, complaints):
    """Gives a command every sample of its arguments."""
    for arguments in schema.samples(type_name):
        if command == "blockdev-add":
            # Without one, that is all there is to say.
            arguments = {"node-name": "a-node"} | arguments
        reply = subject.ask(command, arguments)
        text = unnamed(reply, arguments)
        if text is not None:
            complaints.append(f"{command} {arguments}: {text}"[:300])
        if "error" not in reply:
            undo(subject, command, arguments)


def undo(subject, command, arguments):
    """Takes back what a command has made."""
    if command == "blockdev-add":
        subject.ask("blockdev-del", {"node-name": arguments["node-name"]})
    back = {"object-add": "object-del", "chardev-add": "chardev-remove", "device_add": "device_del", "netdev_add": "netdev_del"}.get(command)
    if back and arguments.get("id"):
        subject.ask(back, {"id": arguments["id"]})


@check("names: every command, with each argument naming what is missing, of the wrong kind, slow or full, is answered and hinders nobody")
def commands():
    need_kvm()
    with tempfile.TemporaryDirectory() as folder:
        with Subject(folder) as subject:
            schema = Schema(subject.qmp, subject.names)
            complaints = []
            for command, type_name in schema.commands().items():
                if command not in LEFT_OUT:
                    sweep(subject, schema, command, type_name, complaints)
                    subject.alive()
            expect(subject.number > 1000, f"only {subject.number} commands were tried")
            expect(not complaints, "errors that name nothing:\n" + "\n".join(complaints))


# What an object needs though its type does not say so.
NEEDS = {"secret": {"data": "x"}}


@check("names: an object of each type can be made once, and of the second of that id it is said that it is there already")
def twice():
    need_kvm()
    with tempfile.TemporaryDirectory() as folder:
        with Subject(folder) as subject:
            schema = Schema(subject.qmp, subject.names)
            options = schema.types[schema.commands()["object-add"]]
            made = []
            for variant in options["variants"]:
                kind = variant["case"]
                wish = {"qom-type": kind, "id": "twin"} | schema.base(variant["type"]) | NEEDS.get(kind, {})
                reply = subject.ask("object-add", wish)
                if "error" in reply:
                    expect(unnamed(reply, wish) is None, f"{wish}: {reply}")
                    continue
                made.append(kind)
                for other in (wish, {"qom-type": "iothread", "id": "twin"}):
                    text = subject.ask("object-add", other).get("error", {}).get("desc", "no error")
                    expect("attempt to add duplicate property 'twin'" in text, f"{other} beside {kind}: {text}")
                expect_equal(subject.ask("object-del", {"id": "twin"}).get("return"), {}, f"the end of {kind}")
            expect({"iothread", "secret", "memory-backend-file", "memory-backend-memfd", "memory-backend-ram"} <= set(made), f"made: {made}")
            subject.alive()
