"""A guest under gdb."""

import contextlib
import os
import socket
import subprocess
import tempfile

from harness.checks import Skip, check, expect, expect_equal, eventually
from harness.emulator import Emulator, binary, need_kvm, test_guest
from harness.gdb import Gdb


@contextlib.contextmanager
def running_guest(*options):
    """A guest that runs and may be debugged: the emulator, its QMP client, and where gdb connects to."""
    need_kvm()
    with tempfile.TemporaryDirectory() as folder:
        address = f"{folder}/gdb"
        with Emulator("-gdb", f"unix:{address},server=on,wait=off", *options) as emulator:
            qmp = emulator.qmp()
            emulator.console.expect("READY")
            yield emulator, qmp, address


def events(qmp):
    """What has happened since this was last asked; a command brings all that came before."""
    qmp.command("query-name")
    names = [event["event"] for event in qmp.events]
    qmp.events.clear()
    return names


def status(qmp):
    return qmp.command("query-status")["status"]


def run_on(gdb, qmp):
    """Lets the guest run; gdb says so before it has told the stub."""
    gdb.go()
    eventually("the guest runs", 10, lambda: status(qmp) == "running")


@check("gdb: registers, memory, steps, breakpoints of both kinds, Ctrl-C and detaching, with two vCPUs")
def under_gdb():
    need_kvm()
    with tempfile.TemporaryDirectory() as folder:
        address = f"{folder}/gdb"
        options = ["-smp", "2", "-gdb", f"unix:{address},server=on,wait=off"]
        with Emulator(*options, paused=True) as emulator:
            qmp = emulator.qmp()
            devices = {device["label"]: device for device in qmp.command("query-chardev")}
            expect(devices["gdb"]["filename"].startswith("disconnected:unix:"), f"its character device: {devices['gdb']}")
            with Gdb(address, test_guest()) as gdb:
                threads = gdb.run("-thread-info")
                for thread in ("CPU#0", "CPU#1"):
                    expect(thread in threads, f"{thread} among {threads}")
                expect_equal(status(qmp), "prelaunch", "a guest that has not run")
                start = gdb.number("$pc")
                expect_equal(start, gdb.number("&entry"), "where the guest begins")
                expect_equal(gdb.number("$cr0 & 1"), 1, "a control register")
                expect_equal(gdb.number("$eflags & 2"), 2, "the flags")

                events(qmp)
                gdb.go("-exec-step-instruction")
                gdb.stopped()
                expect_equal(gdb.number("$pc"), start + 1, "one instruction later")
                expect_equal(status(qmp), "debug", "after a step")
                expect_equal(events(qmp), ["RESUME", "STOP"], "what clients are told of a step")

                gdb.run("-break-insert -h guest_main")
                gdb.go()
                expect('reason="breakpoint-hit"' in gdb.stopped(), "a hardware breakpoint is hit")
                expect_equal(gdb.number("$pc"), gdb.number("&guest_main"), "where it was")
                expect_equal(gdb.number("*(unsigned *) &ticks = 77"), 77, "a write to memory")
                expect_equal(gdb.number("*(unsigned *) &ticks"), 77, "what memory holds then")
                expect_equal(qmp.hmp("xp /1dw 0x%x" % gdb.number("&ticks")).split(": ")[1].strip(), "77", "what QMP sees")
                expect_equal(gdb.number("$r9 = 0x123456789abc"), 0x123456789ABC, "a write to a register")
                expect("R9 =0000123456789abc" in qmp.hmp("info registers"), "what the human monitor sees")

                gdb.run("-break-insert guest_interrupt")
                gdb.go()
                emulator.console.expect("READY")
                emulator.console.type("e one")
                hit = gdb.stopped()
                expect('func="guest_interrupt"' in hit, f"a software breakpoint: {hit}")
                expect_equal(status(qmp), "debug", "at a breakpoint")
                seen = events(qmp)
                expect_equal(seen, ["RESUME", "STOP"] * (len(seen) // 2), "what clients are told of it")
                expect(seen, "clients are told of breakpoints")
                # Over the breakpoint, and to the next line.
                run_on(gdb, qmp)
                emulator.console.type("e two")
                expect('func="guest_interrupt"' in gdb.stopped(), "it is hit again")
                gdb.run("-break-delete")
                run_on(gdb, qmp)
                for word in ("one", "two"):
                    emulator.console.expect(f"{word}\r\n")

                gdb.interrupt()
                expect('signal-name="SIGINT"' in gdb.stopped(), "Ctrl-C")
                expect_equal(status(qmp), "paused", "after Ctrl-C")
                gdb.run("-target-detach")
                expect_equal(status(qmp), "running", "after detaching")
            emulator.console.type("e three")
            emulator.console.expect("three")


@check("gdb: a client that goes without a word leaves no breakpoint behind, and the next one finds the guest as it is")
def gdb_that_goes():
    with running_guest() as (emulator, qmp, address):
        with Gdb(address, test_guest()) as gdb:
            expect_equal(status(qmp), "paused", "once gdb is there")
            gdb.run("-break-insert guest_interrupt")
            run_on(gdb, qmp)
        emulator.console.type("e one")
        emulator.console.expect("one")
        expect_equal(status(qmp), "running", "after gdb has gone")
        with Gdb(address, test_guest()) as gdb:
            expect_equal(status(qmp), "paused", "for the next gdb")
        expect_equal(status(qmp), "paused", "after it has gone")
        qmp.command("cont")
        emulator.console.type("e two")
        emulator.console.expect("two")


@check("gdb: what stops the guest otherwise is told, and killing it ends the emulator")
def gdb_and_others():
    with running_guest("-device", "pvpanic") as (emulator, qmp, address):
        with Gdb(address, test_guest()) as gdb:
            run_on(gdb, qmp)
            qmp.command("stop")
            expect('signal-name="SIGINT"' in gdb.stopped(), "a stop by another client")
            run_on(gdb, qmp)
            expect_equal(status(qmp), "running", "when gdb says so")
            emulator.console.type("p")
            expect('reason="exited' in gdb.stopped(), "the end of the emulator")
            expect_equal(emulator.wait(), 0, "the exit status")
    with running_guest() as (emulator, _, address):
        with Gdb(address, test_guest()) as gdb:
            gdb.run('-interpreter-exec console "kill"', done=r"^\^(done|error)")
            expect_equal(emulator.wait(), 0, "the exit status")
        expect("QEMU: Terminated via GDBstub" in emulator.errors(), emulator.errors())


@check("gdb: a watchpoint stops the guest at a write")
def watchpoint():
    with running_guest() as (emulator, qmp, address):
        stats = qmp.command("query-stats", target="vcpu")[0]["stats"]
        emulated = next((stat["value"] for stat in stats if stat["name"] == "insn_emulation"), 0)
        with Gdb(address, test_guest()) as gdb:
            before = gdb.number("*(unsigned *) &ticks")
            gdb.run('-break-watch "*(unsigned *) &ticks"')
            run_on(gdb, qmp)
            emulator.console.type("w")
            if emulated > 1000:
                raise Skip("this KVM emulates every instruction, and looks at no watchpoint then")
            expect('reason="watchpoint-trigger"' in gdb.stopped(), "the watchpoint is hit")
            expect_equal(gdb.number("*(unsigned *) &ticks"), before + 1, "what was written")


@check("gdb: gdbserver of the human monitor, once, twice and no more")
def gdbserver():
    need_kvm()
    with tempfile.TemporaryDirectory() as folder, Emulator() as emulator:
        qmp = emulator.qmp()
        emulator.console.expect("READY")
        device = f"unix:{folder}/gdb,server=on,wait=off"
        waiting = f"Waiting for gdb connection on device '{device}'\r\n"
        refused = f"Could not open gdbserver on device '{device}'\r\n"
        expect_equal(qmp.hmp("gdbserver none"), "Disabled gdbserver\r\n", "none where there is none")
        expect_equal(qmp.hmp(f"gdbserver {device}"), waiting, "the first")
        expect_equal(qmp.hmp(f"gdbserver {device}"), f"Chardev with id 'gdb' already exists\r\n{refused}", "the second")
        with Gdb(f"{folder}/gdb", test_guest()) as gdb:
            gdb.run("-break-insert guest_interrupt")
            run_on(gdb, qmp)
            expect_equal(qmp.hmp("gdbserver none"), "Disabled gdbserver\r\n", "while gdb is there")
            emulator.console.type("e one")
            emulator.console.expect("one")
        expect("gdb" not in [device["label"] for device in qmp.command("query-chardev")], "its character device goes")
        expect_equal(qmp.hmp(f"gdbserver {device}"), waiting, "and comes again")
        with Gdb(f"{folder}/gdb", test_guest()):
            expect_equal(status(qmp), "paused", "once gdb is there")
        expect_equal(qmp.hmp("gdbserver nosuch").split("\r\n")[0], "'nosuch' is not a valid char driver", "a device of no kind")
    with Emulator(machine="none") as emulator:
        shown = emulator.qmp().hmp("gdbserver").split("\r\n")
        expect_equal(shown[0], "gdbstub: meaningless to attach gdb to a machine without any CPU.", "without a guest")


@check("gdb: nonsense in place of its protocol, and a client that does not read, harm nobody")
def nonsense():
    with running_guest() as (emulator, qmp, address):
        for sent in (os.urandom(100_000), b"$" + b"a" * 200_000, b"$m0,ffffffffffffffff#00", b"$g#67" * 500):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(address)
                client.settimeout(2)
                try:
                    client.sendall(sent)
                except TimeoutError:
                    pass
                eventually("the guest waits", 10, lambda: status(qmp) == "paused")
            qmp.command("cont")
        with Gdb(address, test_guest()) as gdb:
            expect(gdb.number("$pc") > 0, "gdb is served as before")


@check("gdb: options that cannot be")
def options():
    need_kvm()
    for arguments, expected in (
        (["-s", "-s"], "-s: Duplicate ID 'gdb' for chardev"),
        (["-gdb", "nosuch"], "-gdb nosuch: 'nosuch' is not a valid char driver"),
        (["-gdb", "chardev:c"], '-gdb chardev:c: chardev "c" not found'),
    ):
        command = [binary(), "-machine", "q35,accel=kvm", "-display", "none", "-nodefaults", "-S", *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
        expect_equal(ended.returncode, 1, f"the exit status of {arguments}")
        expect(expected in ended.stderr, f"{expected!r} in {ended.stderr!r}")
