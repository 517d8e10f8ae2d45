"""Descriptors, terminal and files: what a guest's command line can name."""

import os
import socket

from harness.checks import check, eventually, expect, expect_equal
from harness.qmp import Qmp, QmpError

from .server import IDLE, Server, create, descriptors, fails


@check("serve: a guest's command line cannot name the server's descriptors, nor its standard input and output")
def not_its_own():
    with Server() as server:
        before = descriptors(server.process.pid)
        for number in [*before, 99]:
            for wrong in (
                ["-chardev", f"socket,id=c,fd={number}", "-serial", "chardev:c"],
                ["-chardev", f"socket,id=c,fd={number},server=on,wait=off"],
                ["-add-fd", f"set=1,fd={number}", "-chardev", "file,id=c,path=/dev/fdset/1"],
            ):
                fails(server, "fd", "guest-create", id="x", arguments=[*IDLE, *wrong])
        for wrong in ("-serial", "-monitor", "-qmp"):
            fails(server, f"{wrong} stdio: standard input and output are the server's", "guest-create", id="x", arguments=[*IDLE, wrong, "stdio"])
        fails(server, "standard input and output are the server's", "guest-create", id="x", arguments=[*IDLE, "-chardev", "stdio,id=c"])
        expect_equal(descriptors(server.process.pid), before, "the server's descriptors")
        expect_equal(server.control.command("query-guests"), [], "the control connection lives")


@check("serve: nor can a guest's own monitor")
def nor_its_monitor():
    with Server() as server:
        monitor = Qmp(server.idle("one")["qmp"])
        for kind, data in (
            ("stdio", {}),
            ("socket", {"addr": {"type": "fd", "data": {"str": "7"}}}),
        ):
            try:
                monitor.command("chardev-add", id="c", backend={"type": kind, "data": data})
                expect(False, f"a chardev of kind {kind} was made")
            except QmpError as error:
                expect("server's" in error.desc or "'7'" in error.desc, f"the reason: {error.desc}")
        expect_equal(len(server.control.command("query-guests")), 1, "the control connection lives")


@check("serve: a guest gets descriptors by getfd and their names, and nobody else does")
def given():
    with Server() as server:
        ours, theirs = socket.socketpair()
        server.control.command("getfd", fds=[theirs.fileno()], fdname="console")
        theirs.close()
        other = server.client()
        arguments = [*IDLE, "-chardev", "socket,id=c,fd=console", "-mon", "chardev=c,mode=control"]
        fails(server, "console", "guest-create", client=other, id="x", arguments=arguments, fds=["console"])
        fails(server, "console", "guest-create", id="x", arguments=arguments)
        create(server.control, id="one", arguments=arguments, fds=["console"])
        ours.settimeout(10)
        expect(b'"QMP"' in ours.recv(1000), "the guest greets through the descriptor")
        fails(server, "console", "guest-create", id="two", arguments=arguments, fds=["console"])
        server.control.command("guest-destroy", id="one")
        expect_equal(ours.recv(1000)[-1000:].count(b"SHUTDOWN") in (0, 1), True, "the last words")
        fails(server, "No file descriptor supplied", "getfd", fdname="console")
        fails(server, "not found", "closefd", fdname="console")


@check("serve: descriptors that nobody takes are closed")
def unclaimed():
    with Server() as server:
        reader, writer = os.pipe()
        server.control.command("query-guests", fds=[reader])
        before = len(descriptors(server.process.pid))
        for _ in range(50):
            server.control.command("query-guests", fds=[reader] * 5)
        expect(len(descriptors(server.process.pid)) <= before + 5, f"{len(descriptors(server.process.pid))} descriptors, {before} before")
        client = server.client()
        for number in range(20):
            client.command("getfd", fds=[writer], fdname=f"f{number}")
        os.close(writer)
        client.close()
        # Only now is every copy of the pipe's end closed.
        eventually("what a connection kept goes with it", 5, lambda: len(descriptors(server.process.pid)) <= before + 5)
        expect_equal(os.read(reader, 1), b"", "the end of the pipe")
        os.close(reader)


@check("serve: a worker has its own descriptors and none of the server's")
def worker_descriptors():
    with Server() as server:
        one, two = server.idle("one"), server.idle("two")
        for guest in (one, two):
            mine = descriptors(guest["pid"])
            expect_equal(mine[0], "/dev/null", "standard input")
            expect(mine[1].startswith("pipe:") and mine[1] == mine[2], f"standard output and error: {mine[1]}, {mine[2]}")
            foreign = set(descriptors(server.process.pid).values()) & set(mine.values()) - {mine[2]}
            expect(not [what for what in foreign if ":[" in what and "anon" not in what], f"shared with the server: {foreign}")
        shared = {what for what in descriptors(one["pid"]).values() if what in descriptors(two["pid"]).values()}
        expect(not [what for what in shared if what.startswith(("socket:", "pipe:"))], f"shared by two workers: {shared}")
