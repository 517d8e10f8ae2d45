"""When things go wrong: libvirtd restarted, the emulator killed, the guest in panic, a start that cannot work."""

import os
import signal

from harness.checks import check, expect

from .domain import Domain, booted
from .host import virsh, virsh_fails

HOST = None


@check("libvirtd restarted: it finds the running guest again")
def restart_libvirtd():
    with booted() as running, Domain(paused=True) as paused:
        running.close_console()
        HOST.restart_libvirtd()
        running.expect_state("running (booted)")
        expect(paused.state() == "paused", "the paused guest is still paused")
        running.talk("found again")
        virsh("suspend", running.name)
        running.expect_state("paused (user)")
        virsh("resume", running.name)
        expect("VM status: running" in virsh("qemu-monitor-command", running.name, "--hmp", "info status"), "its monitor")
        running.console.type("o")
        running.expect_state("shut off (shutdown)")


@check("SIGKILL of the emulator is seen as a crash")
def killed():
    with booted() as domain:
        os.kill(domain.pid(), signal.SIGKILL)
        domain.expect_state("shut off (crashed)")
        domain.close_console()
        domain.start()
        domain.talk("started after the crash")


@check("a panic shows as crashed where on_crash is preserve")
def panic_preserved():
    with booted(ON_CRASH="preserve") as domain:
        domain.console.type("p")
        domain.expect_state("crashed (panicked)")
        virsh("destroy", domain.name)
        domain.expect_state("shut off (destroyed)")


@check("a panic ends or restarts the guest as on_crash says")
def panic_acted_upon():
    with booted(ON_CRASH="destroy") as domain:
        domain.console.type("p")
        domain.expect_state("shut off (crashed)")
    with booted(ON_CRASH="restart") as domain:
        domain.console.type("p")
        domain.console.expect("READY")
        domain.expect_state("running (crashed)")


@check("a start that cannot work says why")
def bad_start():
    with Domain(start=False, KERNEL="/run/not-a-kernel") as domain:
        with open("/run/not-a-kernel", "w") as kernel:
            kernel.write("this is no kernel\n")
        text = virsh_fails("start", domain.name)
        expect("kernel" in text.lower(), f"error text {text!r}")
        expect(domain.state() == "shut off", "it stays shut off")
    with booted() as domain:
        domain.talk("libvirtd is still of use")
