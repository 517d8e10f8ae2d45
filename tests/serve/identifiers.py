"""Identifiers: whose they are, and from when until when."""

import os
import signal
import threading

from harness.checks import check, eventually, expect, expect_equal
from harness.qmp import QmpError

from .server import IDLE, Server, fails


def outcome(client, command, **arguments):
    """What a command returns, or its error."""
    try:
        return client.command(command, **arguments)
    except QmpError as error:
        return error


def in_creation(server, ident):
    """Starts a guest that waits for the reader of a named pipe, on a connection of its own. Returns that connection once
    the guest's worker is there, with the worker's process id and the pipe."""
    pipe = f"{server.directory}/{ident}.pipe"
    os.mkfifo(pipe)
    arguments = [*IDLE, "-chardev", f"file,id=f,path={pipe}", "-serial", "chardev:f"]
    client = server.client()
    client.send({"execute": "guest-create", "arguments": {"id": ident, "arguments": arguments}})

    def worker():
        found = [guest for guest in server.control.command("query-guests") if guest["id"] == ident]
        return found and found[0]["state"] == "creating" and found[0].get("pid")

    return client, eventually(f"the worker of '{ident}' is there", 10, worker), pipe


@check("serve: of ten clients that create one guest, one wins; of ten that destroy it, one wins")
def one_winner():
    with Server() as server:
        clients = [server.client() for _ in range(10)]
        for _ in range(3):
            for client in clients:
                client.send({"execute": "guest-create", "arguments": {"id": "same", "arguments": IDLE}})
            replies = [client.read_reply() for client in clients]
            made = [reply["return"] for reply in replies if "return" in reply]
            expect_equal(len(made), 1, "guests made")
            refused = [reply["error"]["desc"] for reply in replies if "error" in reply]
            expect_equal(set(refused), {"Duplicate ID 'same' for guest"}, "what the others hear")
            expect_equal(server.control.command("query-guests"), made, "query-guests")
            expect_equal(server.workers(), [made[0]["pid"]], "workers")
            for client in clients:
                client.send({"execute": "guest-destroy", "arguments": {"id": "same"}})
            replies = [client.read_reply() for client in clients]
            expect_equal(sum("return" in reply for reply in replies), 1, "who destroyed it")
            refused = {reply["error"]["class"] for reply in replies if "error" in reply}
            expect_equal(refused, {"DeviceNotFound"}, "what the others hear")
            expect_equal((server.control.command("query-guests"), server.workers()), ([], []), "what is left")


@check("serve: once guest-destroy has answered, nothing is left and the identifier is free")
def free_at_once():
    with Server() as server:
        for _ in range(10):
            guest = server.idle("again")
            server.control.command("guest-destroy", id="again")
            expect(not os.path.exists(guest["qmp"]), "the guest's socket is gone")
            expect_equal(server.workers(), [], "workers")
            said = server.control.wait_event("GUEST_EXITED")["data"]
            expect_equal((said["pid"], said["reason"]), (guest["pid"], "destroyed"), "GUEST_EXITED")


@check("serve: a guest that is being created is listed, has its identifier, and can be destroyed")
def destroyed_while_created():
    with Server() as server:
        client, pid, _ = in_creation(server, "slow")
        fails(server, "Duplicate ID 'slow'", "guest-create", id="slow", arguments=IDLE)
        server.idle("quick")
        server.control.command("guest-destroy", id="slow")
        expect("destroyed while it was created" in client.read_reply()["error"]["desc"], "who created it hears")
        expect(pid not in server.workers(), "its worker is gone")
        server.idle("slow")
        expect_equal([guest["id"] for guest in server.control.command("query-guests")], ["quick", "slow"], "guests")


@check("serve: a worker that dies while its guest is created leaves nothing")
def dies_in_the_gap():
    with Server() as server:
        for number in (signal.SIGKILL, signal.SIGABRT):
            client, pid, pipe = in_creation(server, "brief")
            os.kill(pid, number)
            expect("worker process of guest 'brief' has ended" in client.read_reply()["error"]["desc"], "the reason")
            os.unlink(pipe)
            expect_equal((server.control.command("query-guests"), server.workers()), ([], []), "what is left")


@check("serve: a guest whose client left before it was there is there all the same")
def client_leaves():
    with Server() as server:
        client, pid, pipe = in_creation(server, "orphan")
        client.close()
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        created = lambda: [g["pid"] for g in server.control.command("query-guests") if g["state"] == "created"]  # noqa: E731
        eventually("the guest is there", 10, lambda: created() == [pid])
        os.close(reader)
        server.control.command("guest-destroy", id="orphan")


@check("serve: identifiers are letters first, and chosen by the server if nobody does")
def rules():
    with Server() as server:
        for bad in ("", "1a", "a b", "a/b", "../a", "#a", "ä", "a\0b"):
            fails(server, "Parameter 'id' expects an identifier", "guest-create", id=bad, arguments=IDLE)
        server.idle("guest1")
        chosen = server.control.command("guest-create", arguments=IDLE)
        expect_equal(chosen["id"], "guest2", "the identifier the server chose")
        long = "x" * 120
        fails(server, "too long", "guest-create", id=long, arguments=IDLE)
        expect_equal(len(server.workers()), 2, "workers")


@check("serve: ten clients create, destroy and list the same three guests for a while, and nothing is lost")
def storm():
    with Server() as server:
        unexpected, made = [], []

        def work(number):
            client = server.client()
            for turn in range(16):
                ident = f"g{(number + turn) % 3}"
                result = outcome(client, "guest-create", id=ident, arguments=IDLE)
                if isinstance(result, dict):
                    made.append(result["pid"])
                elif "Duplicate ID" not in result.desc and "destroyed while" not in result.desc:
                    unexpected.append(result.desc)
                listed = [guest["id"] for guest in client.command("query-guests")]
                if len(listed) != len(set(listed)) or not set(listed) <= {"g0", "g1", "g2"}:
                    unexpected.append(listed)
                # Who made it destroys it, and now and then somebody else, who may catch it in the making.
                if isinstance(result, dict) or turn % 4 == 3:
                    result = outcome(client, "guest-destroy", id=ident)
                    if result != {} and result.error_class != "DeviceNotFound":
                        unexpected.append(result.desc)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expect_equal(unexpected, [], "surprises")
        expect(made, "some were made")
        expect_equal((server.control.command("query-guests"), server.workers()), ([], []), "what is left")
        ended = [server.control.wait_event("GUEST_EXITED")["data"]["pid"] for _ in made]
        expect_equal(sorted(ended), sorted(made), "each has its GUEST_EXITED")
