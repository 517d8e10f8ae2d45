"""Run states: which events each cause leads to, under which action, and in which order with the replies.

What is expected was recorded from QEMU; `REMUDA_QEMU=/usr/bin/qemu-system-x86_64 run.py runstates` holds the table
against it again. A guest stopped in its sleep is that of 9.0 and later, pvpanic's shutdown that of 9.2 and later."""

import contextlib
import tempfile

from harness import firmware
from harness.checks import Failure, check, expect_equal
from harness.emulator import Emulator, need_kvm
from harness.qmp import QmpError

PANIC, CRASH, OFF = (firmware.out(0x505, event) for event in (1, 2, 4))
S5, S3, S4 = (firmware.sleep(kind) for kind in range(3))
RESET = firmware.out(0xCF9, 6)
EXIT = firmware.out(0xF4, 5)
# A guest that acts when it is told to, so that the reply to `cont` is there by then.
TOLD = firmware.wait_for_character()

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

# A conversation: ">" sends a command, "<" is its reply, "!" one that says an error; "=" asks for the run state;
# "." tells the guest to act.
CONVERSATIONS = [
    ("prelaunch", b"", [">stop", "<", "=prelaunch", ">cont", "RESUME", "<", "=running", ">cont", "<", "=running"]),
    ("stop and cont", b"", [">cont", "RESUME", "<", ">stop", "STOP", "<", "=paused", ">stop", "<", ">cont", "RESUME", "<"]),
    (
        "reset",
        b"",
        [">cont", "RESUME", "<", ">system_reset", "RESET host-qmp-system-reset", "<", "=running", ">stop", "STOP", "<"]
        + [">system_reset", "RESET host-qmp-system-reset", "<", "=prelaunch", ">cont", "RESUME", "<", "=running"],
    ),
    ("power button", b"", [">cont", "RESUME", "<", ">system_powerdown", "POWERDOWN", "<", ">stop", "STOP", "<"]
     + [">system_powerdown", "POWERDOWN", "<", "=paused"]),
    ("wake-up of one awake", b"", [">system_wakeup", "!", ">cont", "RESUME", "<", ">system_wakeup", "!", "=running"]),
    ("quit", b"", [">quit", "SHUTDOWN host-qmp-quit", "<", 0]),
    ("quit of one that runs", b"", [">cont", "RESUME", "<", ">quit", "SHUTDOWN host-qmp-quit", "<", 0]),
    ("quit without shutdown", b"", ["-no-shutdown", ">quit", "SHUTDOWN host-qmp-quit", "<", 0]),
    ("sleep", TOLD + S3, [">cont", "RESUME", "<", ".", "SUSPEND", "=suspended", ">cont", "<", "=suspended"]),
    ("sleep and wake-up", TOLD + S3, [">cont", "RESUME", "<", ".", "SUSPEND", ">system_wakeup", "WAKEUP", "<", ".", "SUSPEND", "=suspended"]),
    ("sleep and reset", TOLD + S3, [">cont", "RESUME", "<", ".", "SUSPEND", ">system_reset", "RESET host-qmp-system-reset", "<"]
     + ["=prelaunch", ">cont", "RESUME", "<", ".", "SUSPEND"]),
    ("stopped in its sleep", TOLD + S3, [">cont", "RESUME", "<", ".", "SUSPEND", ">stop", "STOP", "<", "=paused", ">system_wakeup", "!"]
     + [">stop", "<", ">cont", "RESUME", "<", "=suspended", ">system_wakeup", "WAKEUP", "<", ".", "SUSPEND"]),
    ("stopped in its sleep and reset", TOLD + S3, [">cont", "RESUME", "<", ".", "SUSPEND", ">stop", "STOP", "<"]
     + [">system_reset", "RESET host-qmp-system-reset", "<", "=prelaunch", ">cont", "RESUME", "<", ".", "SUSPEND"]),
    ("off, and started again", TOLD + S5, ["-no-shutdown", ">cont", "RESUME", "<", ".", "SHUTDOWN guest-shutdown", "STOP", "=shutdown"]
     + [">cont", "!", ">stop", "<", "=shutdown", ">system_reset", "RESET host-qmp-system-reset", "<", "=prelaunch"]),
    ("panicked, and continued", TOLD + PANIC, ["-no-shutdown", ">cont", "RESUME", "<", ".", "GUEST_PANICKED pause", "STOP", "=guest-panicked"]
     + [">stop", "<", "=guest-panicked", ">cont", "RESUME", "<", "=running", ">stop", "STOP", "<", "=paused"]),
    ("reset where that is the end", b"", ["-no-reboot", ">cont", "RESUME", "<", ">system_reset"]
     + ["SHUTDOWN host-qmp-system-reset", "<", 0]),
]


def shown(message):
    """A message as the tables write it."""
    if "event" not in message:
        return "!" if "error" in message else "<"
    data = message.get("data", {})
    return " ".join([message["event"], *(data[key] for key in ("action", "reason") if key in data)])


@contextlib.contextmanager
def machine(program, options, console=False):
    """An emulator whose guest, not started yet, runs `program`, and its monitor."""
    with tempfile.NamedTemporaryFile() as image:
        firmware.write(image.name, program)
        arguments = ["-bios", image.name, "-device", "pvpanic", *options]
        with Emulator(*arguments, guest=False, console=console, paused=True, memory=16) as emulator:
            yield emulator, emulator.qmp()


def state(qmp):
    """The run state; nothing else may come."""
    qmp.send({"execute": "query-status"})
    return qmp.read()["return"]["status"]


def converse(emulator, qmp, steps):
    """Follows a conversation; fails where something else comes."""
    for number, step in enumerate(steps):
        if isinstance(step, int):
            expect_equal(qmp.read_line(), b"", "after the last message")
            expect_equal(emulator.wait(), step, "exit status")
        elif step == ".":
            emulator.console.write(b".")
        elif step.startswith(">"):
            qmp.send({"execute": step[1:]})
        elif step.startswith("="):
            expect_equal(state(qmp), step[1:], f"state at step {number}")
        else:
            expect_equal(shown(qmp.read()), step, f"step {number}")


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


@check("runstates: events come before the reply to the command that caused them")
def conversations():
    need_kvm()
    for name, program, steps in CONVERSATIONS:
        options = [step for step in steps if isinstance(step, str) and step.startswith("-")]
        with machine(program, options, console=True) as (emulator, qmp):
            try:
                converse(emulator, qmp, [step for step in steps if step not in options])
            except (Failure, QmpError) as failure:
                raise Failure(f"{name}: {failure}") from None
