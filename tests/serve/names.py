"""Names: of guests, in process lists and in messages."""

import os
import pathlib
import signal

from harness.checks import check, eventually, expect, expect_equal
from harness.qmp import Qmp, QmpError

from .server import IDLE, Server, exited


def process_name(pid):
    """What short process lists show."""
    return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()


def process_arguments(pid):
    """What long process lists show."""
    return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()


@check("serve: the server says what it listens on")
def start():
    with Server() as server:
        expect_equal(server.said(), f"remuda: info: serve: listening on {server.path}\n", "what it says at its start")


@check("serve: a worker is called by its guest's name: -name, or guest-create's, or the identifier")
def called():
    with Server() as server:
        cases = [
            ("plain", [], None, "plain", {}),
            ("named", [], "web 1", "web 1", {"name": "web 1"}),
            ("said", ["-name", "guest=db,,2"], None, "db,2", {"name": "db,2"}),
            ("both", ["-name", "mail"], "mail", "mail", {"name": "mail"}),
            ("long", [], "a-name-of-more-than-fifteen-bytes", "a-name-of-more-", {"name": "a-name-of-more-than-fifteen-bytes"}),
        ]
        for ident, arguments, name, shown, answered in cases:
            options = {"name": name} if name else {}
            guest = server.idle(ident, *arguments, **options)
            expect_equal(guest["name"], answered.get("name", ident), f"{ident}: name")
            expect_equal(process_name(guest["pid"]), shown, f"{ident}: comm")
            expect(process_arguments(guest["pid"]).startswith(shown), f"{ident}: arguments {process_arguments(guest['pid'])!r}")
            expect_equal(Qmp(guest["qmp"]).command("query-name"), answered, f"{ident}: query-name")
        try:
            server.idle("x", "-name", "a", name="b")
            expect(False, "two names are taken")
        except QmpError as error:
            expect("'name' contradicts '-name guest=a'" in error.desc, f"two names: {error.desc}")
        expect_equal(process_name(server.process.pid), "remuda", "the server")


@check("serve: what is said about a guest says which guest")
def messages():
    with Server() as server:
        one, two = server.idle("one"), server.idle("two")
        os.kill(one["pid"], signal.SIGTERM)
        exited(server, "one")
        os.kill(two["pid"], signal.SIGABRT)
        exited(server, "two")
        lines = server.said().splitlines()[1:]
        expect(any("guest 'one': terminating on signal 15" in line for line in lines), f"the first one: {lines}")
        expect(any("guest 'two': its worker" in line and "signal 6" in line for line in lines), f"the second one: {lines}")
        expect(all(line.startswith("remuda: ") and ("'one'" in line or "'two'" in line) for line in lines), f"all: {lines}")


@check("serve: what the server says for a guest, of its character devices, says which guest")
def chardev_messages():
    with Server() as server:
        for ident in ("one", "two"):
            nobody = f"socket,id=n,path={server.directory}/nobody,reconnect=60"
            server.idle(ident, "-chardev", "pty,id=p", "-chardev", nobody, "-chardev", "file,id=f,path=/dev/full")
            server.control.send({"execute": "guest-create", "arguments": {
                "id": f"{ident}-waits",
                "arguments": [*IDLE, "-chardev", f"socket,id=w,path={server.directory}/{ident}.wait,server=on"],
            }})
        for ident in ("one", "two"):
            for text in (
                f"guest '{ident}': char device redirected to /dev/pts/",
                f"remuda: guest '{ident}': Unable to connect character device n: ",
                f"remuda: guest '{ident}-waits': info: QEMU waiting for connection on: ",
            ):
                eventually(f"the server says {text!r}", 5, lambda text=text: text in server.said())
        expect(all("guest '" in line for line in server.said().splitlines()[1:]), f"it said {server.said()!r}")
