"""Guests come, answer, and go."""

import os
import pathlib
import signal
import subprocess
import threading
import time

from harness.checks import check, eventually, expect, expect_equal
from harness.emulator import binary

from .server import Server, alive, exited, fails


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


@check("serve: the example client does what it says")
def example():
    client = binary("examples/pool")
    with Server() as server:
        done = subprocess.run([client, server.path], capture_output=True, text=True, timeout=60)
        expect_equal(done.returncode, 0, f"exit status; it said {done.stderr!r}")
        for text in ('"web": process', '"destroyed"', '"guest1": process', '"reason":"exited"', "left: []"):
            expect(text in done.stdout, f"it printed {done.stdout!r}, without {text!r}")
