"""What virsh does to a guest: pause, reset, reboot, shutdown, destroy."""

import pathlib
import subprocess
import tempfile

from harness.checks import check, eventually, expect
from harness.qmp import Qmp

from .domain import Domain, booted
from .host import virsh

HOST = None


@check("start --paused: the guest waits for resume")
def start_paused():
    with Domain(paused=True) as domain:
        domain.expect_state("paused (user)")
        console = domain.open_console()
        virsh("resume", domain.name)
        domain.expect_state("running (unpaused)")
        console.expect("READY")


@check("suspend, resume: the guest stands still and goes on")
def suspend_and_resume():
    with booted() as domain:
        virsh("suspend", domain.name)
        domain.expect_state("paused (user)")
        virsh("resume", domain.name)
        domain.expect_state("running (unpaused)")
        domain.talk("still here")


@check("reset: the guest starts anew at once")
def reset():
    with booted() as domain:
        virsh("reset", domain.name)
        domain.console.expect("READY")
        domain.expect_state("running (booted)")
        domain.talk("after the reset")


@check("reboot: the guest shuts down on the button and starts anew")
def reboot():
    with booted() as domain:
        pid = domain.pid()
        virsh("reboot", domain.name, "--mode", "acpi")
        domain.console.expect("POWER-BUTTON")
        domain.console.expect("READY")
        domain.talk("after the reboot")
        expect(domain.pid() == pid, "it is the same process")


@check("shutdown: the guest powers off on the button")
def shutdown():
    # What the guest prints last may be lost on libvirt's way to a console, but not on that to a log.
    log = pathlib.Path("/var/log/libvirt/qemu/remuda-serial.log")
    with booted(SERIAL_LOG=f"<log file='{log}' append='off'/>") as domain:
        virsh("shutdown", domain.name, "--mode", "acpi")
        domain.expect_state("shut off (shutdown)")
        eventually("the log ends with the guest's last words", 20, lambda: log.read_text().endswith("POWER-OFF\n"))
        expect("POWER-BUTTON" in log.read_text(), "the guest saw the button")


@check("poweroff: the guest ends by itself")
def poweroff():
    with booted() as domain:
        domain.console.type("o")
        domain.expect_state("shut off (shutdown)")
        domain.start()
        domain.close_console()
        domain.talk("started again")


@check("destroy: the guest is gone, and so are its processes")
def destroy():
    with booted() as domain:
        pid = domain.pid()
        started = [f"guest={domain.name},", "qemu-system"]
        session = [p for p in pathlib.Path("/proc").glob("[0-9]*/cmdline") if all(w in p.read_text() for w in started)]
        expect(session, "the emulator is found among the processes")
        virsh("destroy", domain.name)
        domain.expect_state("shut off (destroyed)")
        eventually("all its processes end", 5, lambda: not any(p.exists() for p in session))
        expect(not pathlib.Path(f"/proc/{pid}").exists(), "the emulator has ended")
    with booted() as domain:
        virsh("destroy", domain.name, "--graceful")
        domain.expect_state("shut off (destroyed)")


@check("guest reset: the domain lives on, or ends where on_reboot is destroy")
def guest_reset():
    with booted() as domain:
        domain.console.type("k")
        domain.console.expect("READY")
        domain.expect_state("running (booted)")
    with booted(ON_REBOOT="destroy") as domain:
        domain.console.type("r")
        domain.expect_state("shut off (shutdown)")


@check("two domains at once")
def two_domains():
    with booted() as one, booted() as two:
        virsh("destroy", one.name)
        two.talk("alone now")


MANY_DEVICES = """
    <serial type='file'><source path='{folder}/file'/><target port='1'/></serial>
    <serial type='unix'><source mode='bind' path='{folder}/unix'/><target port='2'/></serial>
    <serial type='null'><target port='3'/></serial>
    <serial type='file'><source path='{folder}/debug'/>
      <target type='isa-debug' port='4'><model name='isa-debugcon'/></target>
      <address type='isa' iobase='0x402'/>
    </serial>
"""
SECOND_MONITOR = """
  <qemu:commandline>
    <qemu:arg value='-qmp'/><qemu:arg value='unix:{folder}/second,server=on,wait=off'/>
  </qemu:commandline>
"""


@check("serial: four ports of different kinds, a debug console and a second monitor, ten starts")
def many_devices():
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        fields = {"DEVICES": MANY_DEVICES.format(folder=folder), "COMMANDLINE": SECOND_MONITOR.format(folder=folder)}
        with Domain(start=False, **fields) as domain:
            for _ in range(10):
                domain.start()
                domain.talk("all of them")
                expect(Qmp(f"{folder}/second").command("query-status")["running"], "the second monitor answers")
                found = {path.name for path in pathlib.Path(folder).iterdir()}
                expect({"file", "unix", "debug"} <= found, f"files and sockets: {found}")
                domain.close_console()
                virsh("destroy", domain.name)


@check("start: a guest that cannot start is told of by its reason, every time")
def reason_of_failure():
    with Domain(start=False, KERNEL="/dev/null") as domain:
        for _ in range(20):
            said = subprocess.run(["virsh", "-q", "start", domain.name], capture_output=True, text=True, timeout=60)
            expect(said.returncode != 0 and "kernel" in said.stderr, f"what virsh says: {said.stderr!r}")
