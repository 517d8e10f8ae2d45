#!/usr/bin/env python3
"""Tier "serve": several guests on one `remuda serve`, driven over its control socket. `run.py [WORD...]` runs the
checks whose names hold one of the words. Needs /dev/kvm."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness import checks  # noqa: E402
from harness.checks import check, eventually, expect, expect_equal  # noqa: E402
from harness.emulator import CPU, Console, binary, need_kvm, test_guest  # noqa: E402
from harness.qmp import Qmp, QmpError, connect  # noqa: E402


class Server:
    """A running `remuda serve` with a connection to its control socket."""

    def __init__(self):
        need_kvm()
        self.directory = tempfile.mkdtemp(prefix="remuda-serve-")
        self.path = f"{self.directory}/control.sock"
        self.errors = open(f"{self.directory}/stderr", "wb")
        command = [binary("remuda"), "serve", "--directory", self.directory]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors)
        try:
            self.control = Qmp(self.path)
        except Exception:
            self.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Ends the server and all it started."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.errors.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def create(self, ident, *arguments, guest=True):
        """Creates a guest; returns it with its monitor and, if it runs our test guest, its console."""
        return Guest(self, ident, arguments, guest)


class Guest:
    """One guest of the server: `info` as guest-create returned it, `qmp`, `console`."""

    def __init__(self, server, ident, arguments, boots):
        serial = f"{server.directory}/{ident}.serial"
        words = ["-machine", "q35,accel=kvm", "-cpu", CPU, "-m", "64", "-nodefaults", "-display", "none"]
        words += ["-chardev", f"socket,id=console0,path={serial},server=on,wait=off", "-serial", "chardev:console0"]
        words += ["-S", *arguments] + (["-kernel", test_guest()] if boots else [])
        self.info = server.control.command("guest-create", id=ident, arguments=words)
        self.qmp = Qmp(self.info["qmp"])
        self.console = None
        if boots:
            self.stream = connect(serial)
            self.console = Console(self.stream.fileno())
            self.qmp.command("cont")
            self.console.expect("READY\r\n")


def alive(pid):
    """Whether a process exists and is not a zombie."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def exited(server, ident):
    """Waits for GUEST_EXITED and returns its data, which must be about the guest `ident`."""
    data = server.control.wait_event("GUEST_EXITED")["data"]
    expect_equal(data["id"], ident, "id in GUEST_EXITED")
    return data


def fails(server, text, command, **arguments):
    """Expects an error that contains `text`."""
    try:
        value = server.control.command(command, **arguments)
    except QmpError as error:
        expect(text in error.desc, f"{command}: {error.desc!r} lacks {text!r}")
    else:
        expect(False, f"{command} {arguments} succeeded with {value}")


@check("serve: two guests answer, each on its own monitor and console")
def two_guests():
    with Server() as server:
        guests = [server.create("one"), server.create("two")]
        listed = {g["id"]: g for g in server.control.command("query-guests")}
        expect_equal(listed, {g.info["id"]: g.info for g in guests}, "query-guests")
        expect_equal(len({g.info["pid"] for g in guests}), 2, "worker processes")
        for guest in guests:
            expect_equal(guest.qmp.command("query-status")["status"], "running", "status")
            thread = guest.qmp.command("query-cpus-fast")[0]["thread-id"]
            expect(pathlib.Path(f"/proc/{guest.info['pid']}/task/{thread}").exists(), "the vCPU is a thread of the worker")
            guest.console.type("e " + guest.info["id"])
            guest.console.expect("ECHO " + guest.info["id"])


@check("serve: SIGKILL of one worker gives GUEST_EXITED and leaves the other alone")
def worker_killed():
    with Server() as server:
        one, two = server.create("one"), server.create("two")
        os.kill(one.info["pid"], signal.SIGKILL)
        data = exited(server, "one")
        expect_equal((data["pid"], data["reason"], data.get("signal")), (one.info["pid"], "crashed", 9), "GUEST_EXITED")
        said = b"".join(iter(lambda: one.qmp.read_line(5), b""))
        expect(b"RESUME" in said or not said, f"the monitor of the dead guest said {said!r} before it closed")
        two.console.type("e unharmed")
        two.console.expect("ECHO unharmed")
        expect_equal([g["id"] for g in server.control.command("query-guests")], ["two"], "query-guests")
        server.create("one")


@check("serve: a guest that powers off has exited, one that is destroyed was destroyed")
def ends():
    with Server() as server:
        one, two = server.create("one"), server.create("two")
        one.console.type("o")
        one.qmp.wait_event("SHUTDOWN")
        data = exited(server, "one")
        expect_equal((data["reason"], data.get("status")), ("exited", 0), "GUEST_EXITED")
        server.control.command("guest-destroy", id="two")
        expect_equal(exited(server, "two")["reason"], "destroyed", "reason")
        eventually("the worker is gone", 5, lambda: not alive(two.info["pid"]))
        expect_equal(server.control.command("query-guests"), [], "query-guests")


@check("serve: a command that takes long in one guest delays nothing in the other")
def isolation():
    with Server() as server:
        busy, quick = server.create("busy"), server.create("quick")
        took = []

        def fill():
            start = time.monotonic()
            busy.qmp.command("object-add", qom_type="memory-backend-ram", id="big", size=1 << 30, prealloc=True, timeout=60)
            took.append(time.monotonic() - start)

        filler = threading.Thread(target=fill)
        filler.start()
        answered = 0
        while filler.is_alive():
            quick.qmp.command("query-status")
            answered += 1
        filler.join()
        expect(took, "the long command was answered")
        expect(answered > 20, f"{answered} answers from one guest in the {took[0]:.3f} s that the other was busy")


@check("serve: what is wrong with a guest is said, and the server goes on")
def bad_guests():
    with Server() as server:
        fails(server, "frobnicate", "guest-create", id="bad", arguments=["-frobnicate"])
        fails(server, "no-such-device", "guest-create", id="bad", arguments=["-machine", "q35", "-device", "no-such-device"])
        fails(server, "Parameter 'arguments' is missing", "guest-create", id="bad")
        fails(server, "nobody", "guest-destroy", id="nobody")
        server.create("one")
        fails(server, "one", "guest-create", id="one", arguments=["-machine", "none"])
        server.control.send(b'}garbage\n{"execute": "query-guests", "id": "after"}\n')
        replies = []
        while not replies or replies[-1].get("id") != "after":
            replies.append(server.control.read_reply())
        expect(len(replies) > 1 and all("error" in reply for reply in replies[:-1]), "bad JSON gets an error")
        expect_equal(len(replies[-1]["return"]), 1, "guests after all this")


@check("serve: thirty guests come and go and leave nothing behind")
def many():
    with Server() as server:
        def descriptors():
            return len(list(pathlib.Path(f"/proc/{server.process.pid}/fd").iterdir()))

        before = None
        for round_number in range(3):
            guests = [server.create(f"g{number}", guest=False) for number in range(10)]
            expect_equal(len(server.control.command("query-guests")), 10, "guests")
            for guest in guests:
                guest.qmp.close()
                server.control.command("guest-destroy", id=guest.info["id"])
                exited(server, guest.info["id"])
            if round_number == 0:
                before = descriptors()
        eventually(f"no more open descriptors than {before}", 5, lambda: descriptors() <= before)


@check("serve: when the server ends, by signal or by force, so do its workers")
def server_ends():
    for number in (signal.SIGTERM, signal.SIGKILL):
        with Server() as server:
            pids = [server.create(ident).info["pid"] for ident in ("one", "two")]
            server.process.send_signal(number)
            eventually("the workers end", 5, lambda: not any(alive(pid) for pid in pids))


checks.main()
