"""Paths: what is there already is left alone, and a directory has one server."""

import os
import pathlib
import signal
import socket
import subprocess
import tempfile

from harness.checks import check, eventually, expect, expect_equal
from harness.emulator import binary
from harness.qmp import Qmp

from .server import IDLE, Server, fails


def refused(*arguments):
    """Starts a server that must not start; returns what it said."""
    command = [binary("remuda"), "serve", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    expect_equal(done.returncode, 1, f"exit status of {command}; it said {done.stderr!r}")
    return done.stderr


@check("serve: a second server on a directory or control socket is refused, and the first goes on")
def second_server():
    with Server() as server, tempfile.TemporaryDirectory() as elsewhere:
        guest = server.idle("one")
        said = refused("--directory", server.directory)
        expect(server.directory in said and f"(process {server.process.pid})" in said, f"it said {said!r}")
        said = refused("--directory", server.directory, "--control", f"{elsewhere}/control")
        expect(server.directory in said, f"it said {said!r}")
        said = refused("--directory", elsewhere, "--control", server.path)
        expect(server.path in said, f"it said {said!r}")
        expect_equal(os.listdir(elsewhere), [], "what the refused left elsewhere")
        expect_equal(Qmp(guest["qmp"]).command("query-status")["running"], False, "the first one's guest answers")
        expect_equal(len(server.client().command("query-guests")), 1, "the first one answers")


@check("serve: of servers that start on one directory at once, one runs")
def at_once():
    with tempfile.TemporaryDirectory() as directory:
        command = [binary("remuda"), "serve", "--directory", directory]
        servers = [subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(6)]
        try:
            eventually("all but one are refused", 20, lambda: sum(s.poll() is None for s in servers) == 1)
            expect_equal(Qmp(f"{directory}/control.sock").command("query-guests"), [], "query-guests")
        finally:
            for process in servers:
                process.terminate()
                process.communicate(timeout=20)
        expect_equal(os.listdir(directory), [], "what is left")


@check("serve: a directory whose server was killed is taken over")
def taken_over():
    with Server() as server:
        server.idle("one")
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        with Server(directory=server.directory) as heir:
            expect_equal(heir.control.command("query-guests"), [], "query-guests")
            heir.idle("one")


@check("serve: what is not the server's is not touched")
def not_ours():
    with tempfile.TemporaryDirectory() as directory:
        diary = pathlib.Path(directory, "diary")
        diary.write_text("dear diary")
        for arguments in (
            ["--directory", directory, "--control", str(diary)],
            ["--directory", str(diary)],
        ):
            said = refused(*arguments)
            expect(str(diary) in said, f"it said {said!r}")
            expect_equal(diary.read_text(), "dear diary", "the file")
        expect_equal(os.listdir(directory), ["diary"], "files")
        lock = pathlib.Path(directory, "server.lock")
        lock.write_text("not a process")
        expect("is no lock file" in refused("--directory", directory), "a foreign lock file")
        expect_equal(lock.read_text(), "not a process", "the file")
    with Server() as server:
        mine = pathlib.Path(server.directory, "one.qmp")
        mine.write_text("mine")
        fails(server, "exists and is no socket", "guest-create", id="one", arguments=IDLE)
        expect_equal(mine.read_text(), "mine", "the file")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{server.directory}/two.qmp")
            listener.listen(1)
            fails(server, "somebody listens there", "guest-create", id="two", arguments=IDLE)
        # Now nobody does.
        guest = server.idle("two")
        os.unlink(guest["qmp"])
        pathlib.Path(guest["qmp"]).write_text("mine too")
        server.control.command("guest-destroy", id="two")
        expect_equal(pathlib.Path(guest["qmp"]).read_text(), "mine too", "what replaced the guest's socket")


@check("serve: its sockets are for its own user, and its directory too")
def modes():
    with tempfile.TemporaryDirectory() as directory:
        before = os.umask(0)
        try:
            with _Made(f"{directory}/new/deep") as server:
                expect_equal(os.stat(f"{directory}/new/deep").st_mode & 0o777, 0o700, "mode of the directory")
                expect_equal(os.stat(server.path).st_mode & 0o777, 0o600, "mode of the control socket")
        finally:
            os.umask(before)


class _Made:
    """A server that makes its directory itself."""

    def __init__(self, directory):
        self.path = f"{directory}/control.sock"
        command = [binary("remuda"), "serve", "--directory", directory]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        Qmp(self.path)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(20)
