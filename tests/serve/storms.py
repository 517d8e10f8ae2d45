"""Many guests, many deaths: what is left in the end."""

import os
import pathlib
import random
import signal
import threading
import time

from harness.checks import check, eventually, expect, expect_equal
from harness.qmp import QmpError

from .server import IDLE, Server, alive, descriptors


def threads(pid):
    """How many threads a process has."""
    return len(list(pathlib.Path(f"/proc/{pid}/task").iterdir()))


def zombies(pid):
    """The children of a process that were not waited for."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return [child for child in found if not alive(child)]


@check("serve: a hundred guests come, run and go, and leave nothing behind")
def hundred():
    with Server() as server:
        def used():
            pids = (server.process.pid, server.zygote())
            return [len(descriptors(pid)) for pid in pids] + [threads(server.zygote())]

        before = None
        for turn in range(100):
            guest = server.create("g") if turn % 10 == 0 else server.create("g", guest=False)
            guest.qmp.close()
            server.control.command("guest-destroy", id="g")
            if turn == 9:
                before = used()
        eventually(f"no more descriptors and threads than {before}", 10, lambda: all(a <= b for a, b in zip(used(), before)))
        for pid in (server.process.pid, server.zygote()):
            eventually("no zombies", 5, lambda pid=pid: zombies(pid) == [])
        eventually("threads of the server end", 30, lambda: threads(server.process.pid) <= 3)
        kept = sorted(name for name in os.listdir(server.directory) if not name.startswith("g.serial"))
        expect_equal(kept, ["control.sock", "control.sock.lock", "server.lock", "stderr"], "files")


@check("serve: workers killed at random moments are told of, each once, and nothing is left")
def killed_at_random():
    with Server() as server:
        rng = random.Random(7)
        made, stop = [], threading.Event()

        def kill():
            while not stop.is_set():
                time.sleep(rng.random() * 0.05)
                for pid in rng.sample(workers := server.workers(), min(1, len(workers))):
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass

        killer = threading.Thread(target=kill)
        killer.start()
        for turn in range(60):
            try:
                made.append(server.control.command("guest-create", id=f"g{turn % 7}", arguments=IDLE)["pid"])
            except QmpError as error:
                expect("has ended" in error.desc or "Duplicate" in error.desc, f"the reason: {error.desc}")
        stop.set()
        killer.join()
        for guest in server.control.command("query-guests"):
            server.control.command("guest-destroy", id=guest["id"]) if alive(guest["pid"]) else None
        eventually("nothing is listed", 10, lambda: not server.control.command("query-guests"))
        expect_equal(server.workers(), [], "workers")
        told = [server.control.wait_event("GUEST_EXITED")["data"]["pid"] for _ in made]
        expect_equal(sorted(told), sorted(made), "GUEST_EXITED for each guest that was made")


@check("serve: the server or its zygote killed at random moments leaves no process")
def all_killed():
    rng = random.Random(11)
    for turn in range(12):
        with Server() as server:
            zygote = server.zygote()
            victim = zygote if turn % 2 else server.process.pid
            for number in range(4):
                server.control.send({"execute": "guest-create", "arguments": {"id": f"g{number}", "arguments": IDLE}})
            time.sleep(rng.random() * 0.4)
            workers = server.workers()
            os.kill(victim, signal.SIGKILL)
            server.process.wait(15)
            marker = server.directory.encode()

            def left():
                found = [pid for pid in [zygote, *workers] if alive(pid)]
                for entry in pathlib.Path("/proc").iterdir():
                    try:
                        if entry.name.isdigit() and marker in (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes():
                            found.append(int(entry.name))
                    except OSError:
                        pass
                return [pid for pid in found if alive(pid)]

            eventually("every process ends", 10, lambda: not left())
