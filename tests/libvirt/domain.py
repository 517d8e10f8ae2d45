"""A domain of the tests: made from domain.xml, started, watched on its console, removed."""

import os
import pathlib
import pty
import subprocess
import tty

from harness.checks import Failure, eventually
from harness.emulator import CPU, Console, test_guest

from .host import EMULATOR, virsh

TEMPLATE = pathlib.Path(__file__).with_name("domain.xml")
SERIAL_NUMBERS = iter(range(1, 1000))


def cpu_xml():
    """The <cpu> element for the CPU model under test."""
    if CPU == "host":
        return "<cpu mode='host-passthrough' check='none'/>"
    return f"<cpu mode='custom' match='exact' check='none'><model fallback='forbid'>{CPU}</model></cpu>"


class Domain:
    """A defined domain; leaving the `with` block destroys and undefines it."""

    def __init__(self, start=True, paused=False, **fields):
        self.name = f"remuda-{os.environ.get('REMUDA_RUN', os.getpid())}-{next(SERIAL_NUMBERS)}"
        values = {"NAME": self.name, "VCPUS": "1", "KERNEL": test_guest(), "CPU": cpu_xml()}
        values |= {"ON_REBOOT": "restart", "ON_CRASH": "destroy", "EMULATOR": EMULATOR, "MACHINE": "q35"}
        values |= {"SERIAL_LOG": "", "DEVICES": "", "COMMANDLINE": ""} | fields
        text = TEMPLATE.read_text()
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        self.console = None
        self.virsh_console = None
        self.xml = pathlib.Path(f"/run/{self.name}.xml")
        self.xml.write_text(text)
        virsh("define", str(self.xml))
        if start:
            self.start("--paused") if paused else self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close_console()
        if self.state() != "shut off":
            subprocess.run(["virsh", "-q", "destroy", self.name], capture_output=True, timeout=60)
        subprocess.run(["virsh", "-q", "undefine", self.name], capture_output=True, timeout=60)

    def start(self, *options):
        """Starts the domain."""
        virsh("start", self.name, *options)

    def state(self):
        """The state without its reason."""
        return virsh("domstate", self.name)

    def expect_state(self, wanted, seconds=20):
        """Waits for a state with its reason, as `virsh domstate --reason` shows it."""
        state = None

        def reached():
            nonlocal state
            state = virsh("domstate", self.name, "--reason")
            return state == wanted

        try:
            eventually("domstate --reason", seconds, reached)
        except Failure as failure:
            raise Failure(f"{failure}: saw {state!r}, wanted {wanted!r}") from failure

    def open_console(self):
        """Runs `virsh console` on a terminal of ours and waits for the guest to be up."""
        ours, theirs = pty.openpty()
        tty.setraw(theirs)
        command = ["virsh", "-q", "console", self.name, "--force"]
        self.virsh_console = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        self.console = Console(ours)
        return self.console

    def close_console(self):
        """Leaves `virsh console`."""
        if self.virsh_console:
            self.virsh_console.kill()
            self.virsh_console.wait()
            os.close(self.console.fd)
            self.virsh_console = self.console = None

    def talk(self, text):
        """Has the guest repeat `text`, which shows that it runs and that bytes go both ways.

        A guest that is still starting may lose some of what is typed: so it is typed again after a second, and in
        capitals, of which no rest is a command."""
        text = text.upper()
        console = self.console or self.open_console()

        def answered():
            console.type("")
            console.type(f"e {text}")
            try:
                return console.expect(f"ECHO {text}", timeout=1)
            except Failure:
                return None

        try:
            eventually("", 20, answered)
        except Failure:
            raise Failure(f"the guest did not repeat {text!r}; console: {console.seen[-300:]!r}") from None

    def pid(self):
        """Pid of the emulator, from the file libvirt had it write."""
        return int(pathlib.Path(f"/run/libvirt/qemu/{self.name}.pid").read_text())


def booted(**fields):
    """A started domain whose guest is up."""
    domain = Domain(**fields)
    try:
        domain.open_console()
        domain.talk("up")
    except BaseException:
        domain.__exit__()
        raise
    return domain
