"""Ends: of guests that are stuck, of the server, of the zygote."""

import os
import signal
import socket
import subprocess

from harness.checks import check, eventually, expect, expect_equal
from harness.qmp import Qmp

from .server import IDLE, Server, alive, descriptors, exited, fails


def stick(server, how, guest):
    """Keeps a worker from doing anything more."""
    if how == "stopped":
        os.kill(guest["pid"], signal.SIGSTOP)
        return
    pipe = f"{server.directory}/{guest['id']}.fifo"
    os.mkfifo(pipe)
    monitor = Qmp(guest["qmp"])
    monitor.send({"execute": "pmemsave", "arguments": {"val": 0, "size": 4096, "filename": pipe}})


@check("serve: guest-destroy ends a worker that is stuck")
def stuck_worker():
    with Server() as server:
        for how in ("stopped", "writing to a pipe that nobody reads"):
            guest, other = server.idle("stuck"), server.idle("other")
            stick(server, how, guest)
            expect_equal(server.control.command("guest-destroy", id="stuck"), {}, f"{how}: guest-destroy")
            expect_equal(exited(server, "stuck")["reason"], "destroyed", f"{how}: reason")
            expect_equal(server.workers(), [other["pid"]], f"{how}: workers")
            server.control.command("guest-destroy", id="other")
            exited(server, "other")


@check("serve: a stuck worker does not keep the server from its end, however that comes")
def stuck_server():
    for how in ("SIGTERM", "SIGINT", "SIGHUP", "SIGKILL", "quit"):
        with Server() as server:
            pids = [server.idle("stuck")["pid"], server.idle("other")["pid"]]
            zygote = server.zygote()
            os.kill(pids[0], signal.SIGSTOP)
            if how == "quit":
                server.control.command("quit")
            else:
                server.process.send_signal(signal.Signals[how])
            server.process.wait(12)
            eventually(f"{how}: nothing is left", 10, lambda: not any(map(alive, [*pids, zygote])))
            left = os.listdir(server.directory)
            expect(how == "SIGKILL" or left == ["stderr"], f"{how}: left in the directory: {left}")


@check("serve: when the server ends, by signal or by force, so do its workers")
def server_ends():
    for number in (signal.SIGTERM, signal.SIGKILL):
        with Server() as server:
            pids = [server.create(ident).info["pid"] for ident in ("one", "two")]
            server.process.send_signal(number)
            eventually("the workers end", 5, lambda: not any(alive(pid) for pid in pids))


@check("serve: a zygote that dies takes the server along, in good order")
def zygote_dies():
    with Server() as server:
        pids = [server.idle("one")["pid"], server.idle("stuck")["pid"]]
        os.kill(pids[1], signal.SIGSTOP)
        os.kill(server.zygote(), signal.SIGKILL)
        expect_equal(server.process.wait(12), 1, "exit status of the server")
        eventually("the workers end", 5, lambda: not any(map(alive, pids)))
        expect("the zygote is gone" in server.said(), f"the server said {server.said()!r}")


@check("serve: what is typed at the server's terminal is not for its guests")
def terminal():
    with Server(start_new_session=True) as server:
        one = server.idle("one")
        for pid in (server.zygote(), one["pid"]):
            expect_equal(os.getsid(pid), server.zygote(), "session")
            expect_equal(descriptors(pid)[0], "/dev/null", "standard input")


@check("serve: a guest that cannot be made leaves nothing behind, however it fails")
def failed():
    with Server() as server:
        wrongs = [
            (["-chardev", "file,id=x,path=/nonexistent/x", "-serial", "chardev:x"], "/nonexistent/x"),
            (["-qmp", "unix:/nonexistent/q,server=on,wait=off"], "/nonexistent/q"),
            (["-kernel", "/nonexistent"], "/nonexistent"),
            (["-mon", "chardev=nobody"], "nobody"),
            (["-object", "memory-backend-file,id=m,size=1M,mem-path=/nonexistent/m"], "/nonexistent/m"),
            (["-pidfile", "/nonexistent/pid"], "/nonexistent/pid"),
            (["-device", "no-such-device"], "no-such-device"),
            (["-no-such-option"], "no-such-option"),
            (["-name", "a\0b"], "arguments"),
        ]
        before = None
        for turn in range(4):
            for arguments, text in wrongs:
                fails(server, text, "guest-create", id="x", arguments=[*IDLE, *arguments])
                expect_equal((server.control.command("query-guests"), server.workers()), ([], []), f"after {arguments}")
            before = before or len(descriptors(server.process.pid))
        eventually("no more descriptors", 5, lambda: len(descriptors(server.process.pid)) <= before)
        expect_equal(sorted(os.listdir(server.directory)), ["control.sock", "control.sock.lock", "server.lock", "stderr"], "files")
        server.idle("x")


@check("serve: a client of the control socket that never reads keeps nobody waiting")
def deaf_client():
    with Server() as server:
        deaf = server.client()
        deaf.socket.settimeout(1)
        try:
            while True:
                deaf.send({"execute": "query-version"})
        except TimeoutError:
            pass
        for _ in range(3):
            server.idle("one")
            server.control.command("guest-destroy", id="one")
            exited(server, "one")
        expect_equal(server.workers(), [], "workers")
        server.control.command("quit")
        expect_equal(server.process.wait(12), 0, "exit status")


@check("serve: a client that takes no events keeps nobody waiting")
def slow_client():
    with Server() as server:
        server.client().send({"execute": "query-guests"})
        guest = server.create("one")
        sleeper = subprocess.Popen(["sleep", "30"])
        try:
            for _ in range(200):
                guest.qmp.send({"execute": "query-qmp-schema"})
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            sleeper.kill()
            sleeper.wait()
        server.control.command("guest-destroy", id="one")
        expect_equal(server.workers(), [], "workers")


@check("serve: a client of the control socket that hangs up at once is obeyed, and one that only stops talking is answered")
def hung_up():
    with Server() as server:
        hasty = server.client()
        for ident in ("one", "two"):
            hasty.send({"execute": "guest-create", "arguments": {"id": ident, "arguments": IDLE}})
        hasty.close()
        eventually("both guests are made", 20, lambda: [guest["state"] for guest in server.control.command("query-guests")] == ["created"] * 2)
        polite = server.client()
        for ident in ("one", "two"):
            polite.send({"execute": "guest-destroy", "id": ident, "arguments": {"id": ident}})
        polite.socket.shutdown(socket.SHUT_WR)
        for ident in ("one", "two"):
            expect_equal(polite.read_reply()["id"], ident, "the reply")
            told = [event["data"]["id"] for event in polite.events if event["event"] == "GUEST_EXITED"]
            expect_equal(told[-1:], [ident], "the event before the reply to what caused it")
        expect_equal(polite.read_line(), b"", "the end")


@check("serve: the last thing that every client hears is the server's end, and who ended it is answered first")
def farewell():
    with Server() as server:
        other = server.client()
        server.idle("one")
        server.control.send({"execute": "quit", "id": "q"})
        expect_equal(server.control.read_reply(), {"return": {}, "id": "q"}, "the reply to quit")
        exited(server, "one")
        expect_equal(other.read()["event"], "GUEST_EXITED", "what the other client hears")
        for client in (server.control, other):
            expect_equal(client.read_line(), b"", "the end")
        expect_equal(server.process.wait(12), 0, "exit status")
