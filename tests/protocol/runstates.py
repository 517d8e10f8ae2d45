"""Run states: which events each cause leads to, under which action.

What is expected was recorded from QEMU; `REMUDA_QEMU=/usr/bin/qemu-system-x86_64 run.py runstates` holds the table
against it again. A guest stopped in its sleep is that of 9.0 and later, pvpanic's shutdown that of 9.2 and later."""

import contextlib
import tempfile

from harness import firmware
from harness.checks import Failure, check, expect_equal
from harness.emulator import Emulator, need_kvm

PANIC, CRASH, OFF = (firmware.out(0x505, event) for event in (1, 2, 4))
S5, S3, S4 = (firmware.sleep(kind) for kind in range(3))
RESET = firmware.out(0xCF9, 6)
EXIT = firmware.out(0xF4, 5)

# cause, what the guest does, options, events after RESUME, then the run state or the exit status
CAUSES = [
    ("panic", PANIC, "", ["GUEST_PANICKED poweroff", "SHUTDOWN guest-panic"], 0),
    ("panic", PANIC, "-no-shutdown", ["GUEST_PANICKED pause", "STOP"], "guest-panicked"),
    ("panic", PANIC, "-action panic=pause", ["GUEST_PANICKED pause", "STOP"], "guest-panicked"),
    ("panic", PANIC, "-action panic=pause -no-shutdown", ["GUEST_PANICKED pause", "STOP"], "guest-panicked"),
    ("panic", PANIC, "-action panic=exit-failure", ["GUEST_PANICKED poweroff", "SHUTDOWN guest-panic"], 1),
    (
        "panic",
        PANIC,
        "-action panic=exit-failure -no-shutdown",
        ["GUEST_PANICKED poweroff", "SHUTDOWN guest-panic", "STOP"],
        "shutdown",
    ),
    ("panic", PANIC, "-action panic=none", ["GUEST_PANICKED run"], "running"),
    ("panic", PANIC, "-action panic=none -no-shutdown", ["GUEST_PANICKED run"], "running"),
    ("panic twice", PANIC + PANIC, "-action panic=none", ["GUEST_PANICKED run"] * 2, "running"),
    ("panic twice", PANIC + PANIC, "", ["GUEST_PANICKED poweroff", "SHUTDOWN guest-panic"], 0),
    ("crash kernel", CRASH, "", ["GUEST_CRASHLOADED run"], "running"),
    ("crash kernel", CRASH, "-action panic=pause -no-shutdown", ["GUEST_CRASHLOADED run"], "running"),
    ("pvpanic's shutdown", OFF, "", ["GUEST_PVSHUTDOWN", "SHUTDOWN guest-shutdown"], 0),
    ("pvpanic's shutdown", OFF, "-no-shutdown", ["GUEST_PVSHUTDOWN", "SHUTDOWN guest-shutdown", "STOP"], "shutdown"),
    ("power-off", S5, "", ["SHUTDOWN guest-shutdown"], 0),
    ("power-off", S5, "-no-shutdown", ["SHUTDOWN guest-shutdown", "STOP"], "shutdown"),
    ("power-off", S5, "-action panic=exit-failure", ["SHUTDOWN guest-shutdown"], 0),
    ("reset", RESET, "-no-reboot", ["SHUTDOWN guest-reset"], 0),
    ("reset", RESET, "-no-reboot -no-shutdown", ["SHUTDOWN guest-reset", "STOP"], "shutdown"),
    ("reset", RESET, "-action reboot=shutdown,shutdown=poweroff", ["SHUTDOWN guest-reset"], 0),
    ("sleep", S3, "", ["SUSPEND"], "suspended"),
    ("sleep", S3, "-no-shutdown", ["SUSPEND"], "suspended"),
    ("hibernation", S4, "", ["SUSPEND_DISK", "SHUTDOWN guest-shutdown"], 0),
    ("hibernation", S4, "-no-shutdown", ["SUSPEND_DISK", "SHUTDOWN guest-shutdown", "STOP"], "shutdown"),
    ("debug exit", EXIT, "-device isa-debug-exit,iobase=0xf4", ["SHUTDOWN guest-shutdown"], 11),
]

def shown(message):
    """A message as the tables write it."""
    if "event" not in message:
        return "!" if "error" in message else "<"
    data = message.get("data", {})
    return " ".join([message["event"], *(data[key] for key in ("action", "reason") if key in data)])


@contextlib.contextmanager
def machine(program, options):
    """An emulator whose guest, not started yet, runs `program`, and its monitor."""
    with tempfile.NamedTemporaryFile() as image:
        firmware.write(image.name, program)
        arguments = ["-bios", image.name, "-device", "pvpanic", *options]
        with Emulator(*arguments, guest=False, console=False, paused=True, memory=16) as emulator:
            yield emulator, emulator.qmp()


def state(qmp):
    """The run state; nothing else may come."""
    qmp.send({"execute": "query-status"})
    return qmp.read()["return"]["status"]


@check("runstates: what a guest does leads to QEMU's events, for each action")
def causes():
    need_kvm()
    for cause, program, options, events, end in CAUSES:
        wrong = f"{cause} {options}"
        with machine(program, options.split()) as (emulator, qmp):
            qmp.send({"execute": "cont"})
            try:
                seen = [shown(qmp.read()) for _ in range(2 + len(events))]
            except Failure as failure:
                raise Failure(f"{wrong}: {failure}") from None
            expect_equal([message for message in seen if message != "<"], ["RESUME", *events], wrong)
            if isinstance(end, int):
                expect_equal((qmp.read_line(), emulator.wait()), (b"", end), wrong)
            else:
                expect_equal(state(qmp), end, wrong)
