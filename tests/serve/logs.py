"""The log of a guest of a server."""

from harness.checks import check, eventually, expect, expect_equal

from .server import Server

COMPLAINT = "keyboard controller: unknown command"


@check("serve: each guest chooses its own log, which is among the server's messages")
def logs():
    with Server() as server:
        one, two = server.create("one"), server.create("two")
        expect_equal(one.qmp.hmp("log guest_errors"), "", "log")
        for guest in (two, one):
            guest.qmp.hmp("o/b 0x64 0xbe")
        eventually("the guest's log", 20, lambda: COMPLAINT in server.said())
        told = [line for line in server.said().splitlines() if COMPLAINT in line]
        expect(len(told) == 1 and "'one'" in told[0], f"it said {told}")
        expect("server's messages" in one.qmp.hmp("logfile /tmp/nowhere"), "a file of its own is refused")
        expect_equal(two.qmp.command("trace-event-get-state", name="devices_i8042")[0]["state"], "disabled", "the other guest's event")
