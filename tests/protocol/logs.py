"""The log while a guest is there: what is in it and where it goes, of the worker and of the monitor."""

import os
import pathlib
import tempfile

from harness.checks import Failure, Skip, check, eventually, expect, expect_equal
from harness.emulator import Emulator, binary, is_ours, need_kvm
from harness.qmp import Qmp, QmpError

# A port of the keyboard controller, and a command that it does not know.
MISTAKE = "o/b 0x64 0xbe"
COMPLAINT = "keyboard controller: unknown command"


def only_ours():
    """Skips where events have other names."""
    if not is_ours(binary()):
        raise Skip("the events have other names: this emulator is not remuda")


def mistakes(monitor, path):
    """How many lines of the log tell of a mistake that is made now."""
    before = pathlib.Path(path).read_text().count(COMPLAINT)
    expect_equal(monitor.hmp(MISTAKE), "", "a write to a port")
    return pathlib.Path(path).read_text().count(COMPLAINT) - before


@check("log: items and events are chosen while the guest is there, by two clients and in both processes")
def chosen():
    need_kvm()
    only_ours()
    with tempfile.TemporaryDirectory() as folder:
        log, second = f"{folder}/log", f"{folder}/second"
        extra = ["-qmp", f"unix:{second},server=on,wait=off"]
        with Emulator("-D", log, *extra, guest=False, console=False, paused=True) as emulator:
            monitor = emulator.qmp()
            other = Qmp(second)
            expect_equal(mistakes(monitor, log), 0, "lines before anything was chosen")
            expect_equal(monitor.hmp("log guest_errors"), "", "log")
            expect_equal(mistakes(monitor, log), 1, "lines with guest_errors")
            expect_equal(other.hmp("log none"), "", "log none")
            expect_equal(mistakes(monitor, log), 0, "lines with none")
            for _ in range(2):
                other.command("trace-event-set-state", name="devices_*", enable=True)
                expect_equal(mistakes(monitor, log), 1, "lines with the event")
            states = monitor.command("trace-event-get-state", name="devices_i8042")
            expect_equal(states, [{"name": "devices_i8042", "state": "enabled"}], "the event")
            expect("devices_i8042 : state 1\r\n" in monitor.hmp("info trace-events devices_*"), "info trace-events")
            expect_equal(monitor.hmp("trace-event devices_i8042 off"), "", "trace-event")
            expect_equal(mistakes(monitor, log), 0, "lines without the event")
            expect_equal(emulator.errors(), "", "standard error")
            # A client's connection that cannot be made is the monitor's to log.
            monitor.hmp("trace-event chardev_socket on")
            address = {"type": "unix", "data": {"path": f"{folder}/nobody"}}
            backend = {"type": "socket", "data": {"addr": address, "server": False, "reconnect-ms": 20}}
            monitor.command("chardev-add", id="lonely", backend=backend)
            eventually("the monitor logs", 20, lambda: "nobody" in pathlib.Path(log).read_text())


@check("log: logfile goes on in another file, and in one that cannot be had it stays where it is")
def another_file():
    need_kvm()
    only_ours()
    with tempfile.TemporaryDirectory() as folder:
        second_monitor = f"{folder}/monitor"
        extra = ["-qmp", f"unix:{second_monitor},server=on,wait=off"]
        with Emulator("-d", "guest_errors", *extra, guest=False, console=False, paused=True) as emulator:
            monitor = emulator.qmp()
            first, second = f"{folder}/first", f"{folder}/second-%d"
            pathlib.Path(first).write_text("what was there\n")
            expect_equal(monitor.hmp(f"logfile {first}"), "", "logfile")
            expect_equal(mistakes(monitor, first), 1, "lines in the first file")
            expect(pathlib.Path(first).read_text().startswith("what was there\n"), "the file keeps what it held")
            for name, reason in [
                (f"{folder}/no/where", f"Error opening logfile {folder}/no/where: No such file or directory"),
                (f"{folder}/%s", f"Bad logfile template: {folder}/%s"),
                (f"{folder}/%d%d", f"Bad logfile template: {folder}/%d%d"),
            ]:
                expect_equal(monitor.hmp(f"logfile {name}"), reason + "\r\n", "a file that cannot be had")
            expect_equal(mistakes(monitor, first), 1, "lines in the first file after that")
            expect_equal(monitor.hmp(f"logfile {second}"), "", "logfile")
            named = second.replace("%d", str(emulator.process.pid))
            expect_equal(mistakes(monitor, named), 1, "lines in the second file")
            os.mkfifo(f"{folder}/pipe")
            # Nobody reads the pipe: the command waits, and nobody else does.
            monitor.send({"execute": "human-monitor-command", "arguments": {"command-line": f"logfile {folder}/pipe"}})
            expect_equal(mistakes(Qmp(second_monitor), named), 1, "lines in the second file meanwhile")
            expect_equal(emulator.errors(), "", "standard error")


@check("log: names of nothing are refused by name, here and on the command line")
def names():
    need_kvm()
    only_ours()
    with Emulator(guest=False, console=False, paused=True) as emulator:
        monitor = emulator.qmp()
        hint = '\r\nTry "help log" for more information\r\n'
        expect_equal(monitor.hmp("log in_asm"), "log item 'in_asm' is not supported" + hint, "an item of a translator")
        expect_equal(monitor.hmp("log nosuch"), "unknown log item 'nosuch'" + hint, "no item")
        expect_equal(monitor.hmp("log trace:nosuch"), "warning: trace event 'nosuch' does not exist\r\n", "no event")
        expect_equal(monitor.hmp("trace-event nosuch on"), 'unknown event "nosuch"\r\n', "no event")
        expect_equal(monitor.hmp("info trace-events nosuch"), 'unknown event "nosuch"\r\n', "no event")
        for command, more in (("trace-event-get-state", {}), ("trace-event-set-state", {"enable": True})):
            try:
                monitor.command(command, name="nosuch", **more)
                raise Failure(f"{command} of an event that is not there succeeded")
            except QmpError as error:
                expect('unknown event "nosuch"' in str(error), f"{command}: {error}")
        expect_equal(monitor.command("trace-event-get-state", name="nosuch*"), [], "a pattern that fits nothing")
        expect("guest_errors" in monitor.hmp("log help"), "log help")
    for option, wrong, reason in [
        ("-d", "unimp,in_asm", "-d unimp,in_asm: log item 'in_asm' is not supported"),
        ("-d", "nosuch", "-d nosuch: unknown log item 'nosuch'"),
        ("-D", "/nonexistent/log", "Error opening logfile /nonexistent/log: No such file or directory"),
        ("-D", "/tmp/%s", "Bad logfile template: /tmp/%s"),
    ]:
        with Emulator(option, wrong, guest=False, console=False, paused=True) as emulator:
            expect_equal(emulator.wait(), 1, f"exit status of {option} {wrong}")
            expect(reason in emulator.errors(), f"{option} {wrong}: {emulator.errors()!r}")


@check("human monitor: info roms tells of firmware and of the tables it is given")
def roms():
    need_kvm()
    with Emulator(guest=False, console=False, paused=True) as emulator:
        lines = emulator.qmp().hmp("info roms").replace("\r", "").splitlines()
        expect('addr=00000000fffc0000 size=0x040000 mem=rom name="bios-256k.bin"' in lines, f"the firmware: {lines}")
        for name in ("etc/acpi/tables", "etc/acpi/rsdp", "etc/table-loader"):
            expect(any(line.startswith(f"/rom@{name} size=0x") and line.endswith(f' name="{name}"') for line in lines), f"{name}: {lines}")
    with Emulator(console=False, paused=True) as emulator:
        expect("bios" not in emulator.qmp().hmp("info roms"), "a guest that needs no firmware has none")
