"""Descriptors, terminal and files: what a guest's command line can name."""

import fcntl
import os
import pty
import socket
import termios

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


def reaching(path):
    """Command lines that have `path` opened."""
    return [
        ["-chardev", f"file,id=c,path={path}"],
        ["-chardev", f"file,id=c,path=/dev/null,input-path={path}"],
        ["-chardev", f"pipe,id=c,path={path}"],
        ["-chardev", f"serial,id=c,path={path}"],
        ["-chardev", f"null,id=c,logfile={path},logappend=on"],
        ["-readconfig", path],
    ]


@check("serve: no path leads a guest to what the server has open")
def by_path():
    with Server() as server:
        monitor = Qmp(server.idle("one")["qmp"])
        before = descriptors(server.process.pid)
        pid = server.process.pid
        link = f"{server.directory}/link"
        os.symlink("/proc/self/fd/1", link)
        numbers = [number for number, what in before.items() if not what.startswith(("socket:", "anon_inode:"))]
        expect(len(numbers) > 3, f"files and pipes of the server: {before}")
        paths = ["/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/fd/1", link, f"/proc/{pid}/fd/1", f"/proc/{server.zygote()}/fd/2"]
        for path in [*(f"/proc/self/fd/{number}" for number in numbers), *paths]:
            for wrong in reaching(path):
                fails(server, "links to what a process has open are not followed", "guest-create", id="x", arguments=[*IDLE, *wrong])
            try:
                monitor.command("chardev-add", id="c", backend={"type": "file", "data": {"out": path, "append": True}})
                expect(False, f"the guest's monitor opens {path}")
            except QmpError as error:
                expect("are not followed" in error.desc, f"the reason: {error.desc}")
        expect_equal(descriptors(pid), before, "the server's descriptors")
        # Other links, and sets of the guest's own, are files like any other.
        plain = f"{server.directory}/plain"
        os.symlink(f"{server.directory}/console", plain)
        server.idle("two", "-chardev", f"file,id=c,path={plain}", "-serial", "chardev:c")
        expect(os.path.exists(f"{server.directory}/console"), "what an ordinary link stands for is made")


@check("serve: nor to its terminal, by whatever name, but to others")
def by_terminal():
    master, terminal = pty.openpty()
    other_master, other = pty.openpty()
    name = os.ttyname(terminal)
    controlling = {"stdin": terminal, "start_new_session": True, "preexec_fn": lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)}
    for options, paths in ((controlling, ["/dev/tty", name]), ({"stdin": terminal, "start_new_session": True}, [name])):
        with Server(**options) as server:
            before = termios.tcgetattr(terminal)
            for path in paths:
                for wrong in reaching(path)[:-1]:
                    fails(server, "it is the server's terminal", "guest-create", id="x", arguments=[*IDLE, *wrong])
            expect_equal(termios.tcgetattr(terminal), before, "settings of the server's terminal")
            server.idle("one", "-chardev", f"serial,id=c,path={os.ttyname(other)}", "-serial", "chardev:c")
    for fd in (master, terminal, other_master, other):
        os.close(fd)


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
