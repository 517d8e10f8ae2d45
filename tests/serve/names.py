"""Names: of guests, in process lists and in messages."""

import os
import pathlib
import signal

from harness.checks import check, expect, expect_equal
from harness.qmp import Qmp, QmpError

from .server import Server, exited


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
