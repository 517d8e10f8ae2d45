"""File descriptors that ride on QMP messages: getfd, closefd, add-fd, remove-fd, query-fdsets."""

import os
import resource

from harness.checks import check, eventually, expect, expect_equal
from harness.emulator import Emulator
from harness.qmp import QmpError


def fails(qmp, text, command, **arguments):
    """Expects an error of class GenericError that contains `text`."""
    try:
        value = qmp.command(command, **arguments)
    except QmpError as error:
        expect_equal(error.error_class, "GenericError", f"class of {command}")
        expect(text in error.desc, f"{command}: {error.desc!r} lacks {text!r}")
    else:
        expect(False, f"{command} {arguments} succeeded with {value}")


@check("descriptors: getfd takes one, closefd closes it")
def named_descriptors():
    reader, writer = os.pipe()
    with Emulator(machine="none") as emulator:
        qmp = emulator.qmp()
        fails(qmp, "No file descriptor supplied via SCM_RIGHTS", "getfd", fdname="f")
        expect_equal(qmp.command("getfd", fds=[writer], fdname="f"), {}, "reply")
        os.close(writer)
        os.set_blocking(reader, False)
        try:
            os.read(reader, 1)
            expect(False, "the pipe is closed although the emulator holds its end")
        except BlockingIOError:
            pass
        fails(qmp, "not found", "closefd", fdname="g")
        fails(qmp, "", "getfd", fdname="0f")
        qmp.command("closefd", fdname="f")
        os.set_blocking(reader, True)
        expect_equal(os.read(reader, 1), b"", "what the reader sees when the descriptor is closed")
    os.close(reader)


@check("descriptors: add-fd makes sets that query-fdsets shows and remove-fd empties")
def fdsets():
    null = os.open("/dev/null", os.O_RDWR)
    with Emulator(machine="none") as emulator:
        qmp = emulator.qmp()
        fails(qmp, "No file descriptor supplied via SCM_RIGHTS", "add-fd")
        first = qmp.command("add-fd", fds=[null], opaque="first")
        second = qmp.command("add-fd", fds=[null], fdset_id=7, opaque="second")
        third = qmp.command("add-fd", fds=[null], fdset_id=7)
        expect_equal([second["fdset-id"], third["fdset-id"]], [7, 7], "set numbers")
        expect(second["fd"] != third["fd"], "two descriptors have two numbers")
        sets = {s["fdset-id"]: s["fds"] for s in qmp.command("query-fdsets")}
        expect_equal(sorted(sets), sorted([first["fdset-id"], 7]), "sets")
        expect_equal({fd["fd"]: fd.get("opaque") for fd in sets[7]}, {second["fd"]: "second", third["fd"]: None}, "set 7")
        fails(qmp, "not found", "remove-fd", fdset_id=7, fd=9999)
        qmp.command("remove-fd", fdset_id=7, fd=second["fd"])
        qmp.command("remove-fd", fdset_id=first["fdset-id"])
        left = qmp.command("query-fdsets")
        expect_equal([(s["fdset-id"], [f["fd"] for f in s["fds"]]) for s in left], [(7, [third["fd"]])], "what is left")
    os.close(null)


@check("descriptors: a batch of messages each with its own descriptor")
def one_each():
    with Emulator(machine="none") as emulator:
        qmp = emulator.qmp()
        pipes = [os.pipe() for _ in range(4)]
        for number, (_, writer) in enumerate(pipes):
            qmp.send({"execute": "getfd", "arguments": {"fdname": f"f{number}"}, "id": number}, fds=[writer])
            os.close(writer)
        for number in range(4):
            expect_equal(qmp.read_reply(), {"return": {}, "id": number}, "reply")
        qmp.command("closefd", fdname="f2")
        expect_equal(os.read(pipes[2][0], 1), b"", "reader of the closed one")
        for reader, _ in pipes:
            os.close(reader)


@check("descriptors: a chardev writes to a descriptor set")
def chardev_file():
    reader, writer = os.pipe()
    with Emulator(machine="none") as emulator:
        qmp = emulator.qmp()
        qmp.command("add-fd", fds=[writer], fdset_id=3)
        os.close(writer)
        backend = {"type": "file", "data": {"out": "/dev/fdset/3", "append": True}}
        expect_equal(qmp.command("chardev-add", id="log", backend=backend), {}, "reply")
        labels = {c["label"]: c["filename"] for c in qmp.command("query-chardev")}
        expect("log" in labels, f"chardevs {labels}")
        qmp.command("chardev-remove", id="log")
        fails(qmp, "", "chardev-remove", id="log")
    os.close(reader)


def count_of_descriptors(emulator):
    """How many descriptors the process has that serves the monitor."""
    return len(os.listdir(f"/proc/{emulator.process.pid}/fd"))


@check("descriptors: those that no command takes are closed")
def unclaimed():
    reader, writer = os.pipe()
    with Emulator(machine="none") as emulator:
        qmp = emulator.qmp()
        before = count_of_descriptors(emulator)
        for _ in range(50):
            expect_equal(qmp.command("query-name", fds=[writer, writer]), {}, "reply")
        eventually("descriptors that no command took are closed", 5, lambda: count_of_descriptors(emulator) <= before)
        # A command takes what came with it, not what came with one before.
        other = os.open("/dev/null", os.O_RDWR)
        for fd in (other, writer):
            qmp.send({"execute": "query-name" if fd == other else "getfd", "arguments": {} if fd == other else {"fdname": "w"}}, fds=[fd])
        os.close(writer)
        expect_equal([qmp.read_reply(), qmp.read_reply()], [{"return": {}}] * 2, "replies")
        qmp.command("closefd", fdname="w")
        expect_equal(os.read(reader, 1), b"", "what the reader of the pipe sees once its writer is closed")
        os.close(other)
    os.close(reader)


@check("descriptors: where there is no room for all that come, none is lost for ever and others are served")
def no_room():
    null = os.open("/dev/null", os.O_RDWR)
    with Emulator(machine="none") as emulator:
        limit = 100
        resource.prlimit(emulator.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        qmp = emulator.qmp()
        before = count_of_descriptors(emulator)
        for _ in range(10):
            expect_equal(qmp.command("query-name", fds=[null] * 253), {}, "reply")
        eventually("they are closed", 5, lambda: count_of_descriptors(emulator) <= before)
        qmp.command("getfd", fds=[null], fdname="one")
        qmp.close()
        expect_equal(emulator.qmp().command("query-name"), {}, "a new client is served")
    os.close(null)
