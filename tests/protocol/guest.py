"""A guest on KVM: its console, its run states, and the events that tell of them."""

import os
import pathlib
import tempfile

from harness.checks import check, eventually, expect, expect_equal
from harness.emulator import Console, Emulator, need_kvm
from harness.qmp import QmpError


def running(*arguments, **options):
    """An emulator whose guest has come up, with a monitor as `.monitor`."""
    need_kvm()
    emulator = Emulator(*arguments, **options)
    try:
        emulator.monitor = emulator.qmp()
        emulator.console.expect("READY\r\n")
    except BaseException:
        emulator.stop()
        raise
    return emulator


def status(qmp):
    """The run state."""
    return qmp.command("query-status")["status"]


def data(event):
    """The data of an event."""
    return event.get("data", {})


@check("guest: boots, prints its command line, talks both ways")
def console():
    with running("-append", "one two=three") as emulator:
        expect("CMDLINE one two=three\r\n" in emulator.console.seen.decode(), "the guest got its command line")
        emulator.console.type("e there and back")
        emulator.console.expect("ECHO there and back\r\n")
        emulator.console.type("e " + "x" * 100)
        emulator.console.expect("ECHO " + "x" * 100)


@check("guest: sees the memory it was given")
def memory():
    with running(memory=256) as emulator:
        emulator.console.type("m")
        lines = [line.split() for line in emulator.console.expect("MEM-END").splitlines() if " type 1" in line]
        total = sum(int(size, 16) for _, _, _, size, _, _ in lines)
        expect(250 << 20 <= total <= 256 << 20, f"memory in the map: {total} bytes")


@check("guest: an initrd arrives as a module")
def initrd():
    with running("-initrd", __file__) as emulator:
        expect("MODULES 1\r\n" in emulator.console.seen.decode(), "one module")


@check("guest: finds the q35 host bridge and the ICH9 on PCI")
def pci():
    with running("-device", "pcie-root-port,id=rp1,bus=pcie.0,addr=0x2,chassis=1,port=16") as emulator:
        emulator.console.type("l")
        seen = emulator.console.expect("PCI-END")
        for function in ["00:00.0 8086:29c0 class 060000", "00:1f.0 8086:2918 class 060100", "00:02.0 1b36:000c class 060400"]:
            expect(function in seen, f"{function} is missing from {seen}")


@check("guest: paused at start, continued, stopped, continued")
def stop_and_continue():
    need_kvm()
    with Emulator(paused=True) as emulator:
        qmp = emulator.qmp()
        expect_equal(qmp.command("query-status")["status"], "prelaunch", "status before")
        expect_equal(qmp.command("query-status")["running"], False, "running before")
        qmp.command("cont")
        qmp.wait_event("RESUME")
        emulator.console.expect("READY\r\n")
        expect_equal(status(qmp), "running", "status")
        qmp.command("stop")
        qmp.wait_event("STOP")
        expect_equal(status(qmp), "paused", "status")
        emulator.console.type("e later")
        qmp.command("stop")
        qmp.command("cont")
        qmp.wait_event("RESUME")
        emulator.console.expect("ECHO later")
        expect_equal([e["event"] for e in qmp.events], [], "other events")


@check("guest: system_reset starts it again")
def system_reset():
    with running() as emulator:
        emulator.monitor.command("system_reset")
        event = emulator.monitor.wait_event("RESET")
        expect_equal(data(event), {"guest": False, "reason": "host-qmp-system-reset"}, "data of RESET")
        emulator.console.expect("REMUDA-GUEST")
        emulator.console.expect("READY\r\n")
        emulator.console.type("e again")
        emulator.console.expect("ECHO again")


@check("guest: each way to reset itself gives RESET and a fresh start")
def guest_reset():
    with running() as emulator:
        for command in "rkt":
            emulator.console.type(command)
            event = emulator.monitor.wait_event("RESET")
            expect_equal(data(event), {"guest": True, "reason": "guest-reset"}, f"data of RESET after {command}")
            emulator.console.expect("READY\r\n")
        expect_equal(status(emulator.monitor), "running", "status")


@check("guest: reset becomes a shutdown with -no-reboot")
def no_reboot():
    with running("-no-reboot") as emulator:
        emulator.console.type("r")
        event = emulator.monitor.wait_event("SHUTDOWN")
        expect_equal(data(event), {"guest": True, "reason": "guest-reset"}, "data of SHUTDOWN")
        expect_equal(emulator.wait(), 0, "exit status")


@check("guest: the power button powers it off")
def power_button():
    with running() as emulator:
        emulator.monitor.command("system_powerdown")
        emulator.monitor.wait_event("POWERDOWN")
        event = emulator.monitor.wait_event("SHUTDOWN")
        expect_equal(data(event), {"guest": True, "reason": "guest-shutdown"}, "data of SHUTDOWN")
        expect("POWER-BUTTON" in emulator.console.expect("POWER-OFF"), "the guest saw the button")
        expect_equal(emulator.wait(), 0, "exit status")


@check("guest: its last words reach whoever has its terminal open")
def last_words():
    need_kvm()
    with Emulator("-serial", "pty", paused=True, console=False) as emulator:
        qmp = emulator.qmp()
        (serial,) = [device for device in qmp.command("query-chardev") if device["label"] == "serial0"]
        terminal = Console(os.open(serial["filename"].removeprefix("pty:"), os.O_RDWR | os.O_NOCTTY))
        qmp.command("cont")
        terminal.expect("READY")
        qmp.command("system_powerdown")
        qmp.wait_event("SHUTDOWN")
        expect("POWER-BUTTON" in terminal.expect("POWER-OFF\r\n"), "the guest saw the button")
        os.close(terminal.fd)
        expect_equal(emulator.wait(), 0, "exit status")


@check("guest: -no-shutdown keeps a powered-off guest, which can be reset and continued")
def no_shutdown():
    with running("-no-shutdown") as emulator:
        qmp = emulator.monitor
        emulator.console.type("o")
        qmp.wait_event("SHUTDOWN")
        qmp.wait_event("STOP")
        expect_equal(status(qmp), "shutdown", "status")
        try:
            qmp.command("cont")
            expect(False, "cont succeeded on a guest that has shut down")
        except QmpError as error:
            expect("Resetting the Virtual Machine is required" in error.desc, f"text {error.desc!r}")
        qmp.command("system_reset")
        qmp.wait_event("RESET")
        qmp.command("cont")
        qmp.wait_event("RESUME")
        emulator.console.expect("READY\r\n")
        expect_equal(status(qmp), "running", "status")


@check("guest: quit and SIGTERM end it with SHUTDOWN and status 0")
def quit_and_signal():
    with running() as emulator:
        emulator.monitor.command("quit")
        event = emulator.monitor.wait_event("SHUTDOWN")
        expect_equal(data(event), {"guest": False, "reason": "host-qmp-quit"}, "data of SHUTDOWN")
        expect_equal(emulator.wait(), 0, "exit status")
    with running() as emulator:
        emulator.process.terminate()
        event = emulator.monitor.wait_event("SHUTDOWN")
        expect_equal(data(event), {"guest": False, "reason": "host-signal"}, "data of SHUTDOWN")
        expect_equal(emulator.wait(5), 0, "exit status")
        expect("terminating on signal 15" in emulator.errors(), f"stderr {emulator.errors()!r}")


@check("guest: a panic pauses it, or ends it, as -action says")
def panic():
    with running("-device", "pvpanic", "-action", "panic=pause") as emulator:
        emulator.console.type("p")
        event = emulator.monitor.wait_event("GUEST_PANICKED")
        expect_equal(data(event)["action"], "pause", "action")
        emulator.monitor.wait_event("STOP")
        expect_equal(status(emulator.monitor), "guest-panicked", "status")
    with running("-device", "pvpanic") as emulator:
        emulator.console.type("p")
        event = emulator.monitor.wait_event("GUEST_PANICKED")
        expect_equal(data(event)["action"], "poweroff", "action")
        event = emulator.monitor.wait_event("SHUTDOWN")
        expect_equal(data(event), {"guest": True, "reason": "guest-panic"}, "data of SHUTDOWN")
        expect_equal(emulator.wait(), 0, "exit status")


@check("guest: set-action changes what a reset does")
def set_action():
    with running() as emulator:
        emulator.monitor.command("set-action", reboot="shutdown")
        emulator.console.type("r")
        emulator.monitor.wait_event("SHUTDOWN")
        expect_equal(emulator.wait(), 0, "exit status")


@check("guest: inject-nmi arrives")
def nmi():
    with running() as emulator:
        emulator.monitor.command("inject-nmi")
        emulator.console.type("n")
        emulator.console.expect("NMIS 1\r\n")


@check("guest: debug-exit ends the emulator with the guest's status")
def debug_exit():
    with running("-device", "isa-debug-exit,iobase=0xf4,iosize=4") as emulator:
        emulator.console.type("d 3")
        expect_equal(emulator.wait(), 7, "exit status")


@check("guest: vCPUs are threads of the process, by name")
def vcpu_threads():
    with running("-smp", "2", "-name", "guest=named,debug-threads=on") as emulator:
        cpus = emulator.monitor.command("query-cpus-fast")
        expect_equal([cpu["cpu-index"] for cpu in cpus], [0, 1], "indices")
        for cpu in cpus:
            comm = pathlib.Path(f"/proc/{emulator.process.pid}/task/{cpu['thread-id']}/comm").read_text().strip()
            expect_equal(comm, f"CPU {cpu['cpu-index']}/KVM", "thread name")
            expect("thread-id" in cpu and cpu["qom-path"].startswith("/machine/unattached/"), f"entry {cpu}")
        expect_equal(emulator.monitor.command("query-name"), {"name": "named"}, "name")


def tick(emulator):
    """Counts the timer's interrupts for a second. A host that is busy may give the guest too little of one second."""
    counts = []
    while len(counts) < 10 and not any(80 <= ticks <= 130 for ticks in counts):
        emulator.console.type("w")
        seen = emulator.console.expect("TICKS ") + emulator.console.expect("\n")
        counts.append(int(seen.split("TICKS ")[1]))
    expect(len(counts) < 10, f"ticks of 100 Hz in seconds of their own: {counts}")


@check("guest: timer ticks and the clock")
def time():
    with running("-rtc", "base=2031-05-06T07:08:09") as emulator:
        emulator.console.type("c")
        emulator.console.expect("RTC 20310506070")
        tick(emulator)


@check("guest: boots with several processors")
def processors():
    with running("-smp", "4,sockets=1,cores=2,threads=2") as emulator:
        slots = emulator.monitor.command("query-hotpluggable-cpus")
        expect_equal(len(slots), 4, "places for vCPUs")
        expect(all("qom-path" in slot for slot in slots), "all are taken")


def in_and_out(emulator):
    """Timer, serial port, pause and reset: whatever needs interrupts."""
    tick(emulator)
    emulator.console.type("e " + "x" * 100)
    emulator.console.expect("ECHO " + "x" * 100)
    emulator.monitor.command("stop")
    emulator.monitor.wait_event("STOP")
    emulator.console.type("e later")
    emulator.monitor.command("cont")
    emulator.console.expect("ECHO later")


@check("guest: interrupts come from PICs and I/O APIC, in the kernel or not")
def interrupt_controllers():
    for arguments in [("-machine", "kernel_irqchip=on"), ("-machine", "kernel_irqchip=split")]:
        with running(*arguments) as emulator:
            in_and_out(emulator)
            emulator.console.type("a")
            emulator.console.expect("APIC version ")
            in_and_out(emulator)
            emulator.monitor.command("system_reset")
            emulator.monitor.wait_event("RESET")
            emulator.console.expect("READY\r\n")
            in_and_out(emulator)
            emulator.monitor.command("system_powerdown")
            emulator.console.expect("POWER-BUTTON")
            emulator.monitor.wait_event("SHUTDOWN")
            expect_equal(emulator.wait(), 0, "exit status")


@check("guest: the power button through a level-triggered input of the I/O APIC")
def power_button_through_apic():
    with running("-machine", "kernel_irqchip=split") as emulator:
        emulator.console.type("a")
        emulator.console.expect("APIC version 00170020")
        emulator.monitor.command("system_powerdown")
        emulator.monitor.wait_event("SHUTDOWN")
        expect_equal(emulator.wait(), 0, "exit status")


@check("guest: interrupt controllers outside the kernel altogether are refused")
def no_irqchip():
    need_kvm()
    with Emulator("-machine", "kernel_irqchip=off", guest=False) as emulator:
        expect_equal(emulator.wait(), 1, "exit status")
        expect("=off: interrupt controllers outside the kernel are not supported" in emulator.errors(), emulator.errors())


@check("guest: memory from a shared memfd, from a file, and preallocated")
def memory_backends():
    for backend in [
        "memory-backend-memfd,id=ram,size=128M,share=on",
        "memory-backend-file,id=ram,size=128M,mem-path=/dev/shm,share=on",
        "memory-backend-ram,id=ram,size=128M,prealloc=on",
    ]:
        with running("-object", backend, "-machine", "memory-backend=ram") as emulator:
            devices = emulator.monitor.command("query-memdev")
            expect_equal([(d["id"], d["size"]) for d in devices], [("ram", 128 << 20)], "memory devices")


@check("guest: KVM's statistics of vCPU and VM")
def stats():
    with running() as emulator:
        vcpu = emulator.monitor.command("query-stats", target="vcpu")
        names = [stat["name"] for stat in vcpu[0]["stats"]]
        expect("exits" in names, f"vCPU statistics {names[:8]}")
        expect(emulator.monitor.command("query-stats", target="vm"), "VM statistics")
        schemas = emulator.monitor.command("query-stats-schemas")
        expect_equal(sorted({s["target"] for s in schemas}), ["vcpu", "vm"], "targets")


# 16-bit code that runs from ROM below 1 MiB, lets RAM show there, and writes to both.
TRIES_ITS_ROM = bytes.fromhex(
    "2ec60600015a"  # mov byte ptr cs:[0x100], 0x5a
    "31c08ed88ec0"  # ds = es = 0
    "2ea00001a20005"  # what is at cs:0x100 now, to 0x500
    "31f6bf0006b980002ef3a4"  # this code, to RAM at 0x600
    "ea23060000"  # jmp 0:0x623, which is what follows
    "66b890000080baf80c66ef"  # out 0xcf8, 0x80000090: the host bridge's register for the last segment
    "b030bafc0cee"  # out 0xcfc, 0x30: RAM
    "b800f08ec026c60600015a"  # mov byte ptr [0xf0100], 0x5a
    "f4"  # hlt
)


@check("guest: firmware shows below 1 MiB as ROM until it asks for RAM there, and again after a reset")
def firmware_shadow():
    need_kvm()
    rom = bytearray(b"\xf4" * (64 << 10))
    rom[-16:-11] = b"\xea\x00\x00\x00\xf0"  # jmp 0xf000:0
    rom[: len(TRIES_ITS_ROM)] = TRIES_ITS_ROM
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "rom").write_bytes(rom)
        with Emulator("-L", folder, "-bios", "rom", guest=False, paused=True) as emulator:
            monitor = emulator.qmp()

            def memory(start, size):
                saved = pathlib.Path(emulator.directory, "memory")
                monitor.command("pmemsave", val=start, size=size, filename=str(saved))
                return saved.read_bytes()

            for _ in range(2):
                eventually("the ROM shows", 20, lambda: memory(0xF0000, len(rom)) == rom)
                monitor.command("cont")
                eventually("RAM shows, and was written to", 20, lambda: memory(0xF0100, 1) == b"\x5a")
                expect_equal(memory(0x500, 1), b"\xf4", "what the ROM had after something was written to it")
                expect(memory(0xF0000, 0x100) == bytes(0x100), "nobody has written to that RAM before")
                monitor.command("stop")
                monitor.command("system_reset")


@check("guest: a kernel image that is none is refused")
def bad_kernel():
    need_kvm()
    with tempfile.NamedTemporaryFile(suffix=".elf") as image:
        image.write(b"\x7fELF" + b"\0" * 60)
        image.flush()
        with Emulator("-kernel", image.name, guest=False) as emulator:
            expect_equal(emulator.wait(), 1, "exit status")
            expect("kernel" in emulator.errors(), f"stderr {emulator.errors()!r}")


@check("guest: two at a time do not disturb each other")
def two_guests():
    with running() as one, running() as two:
        one.console.type("b")
        one.console.expect("BUSY")
        two.console.type("e free")
        two.console.expect("ECHO free")
        one.process.kill()
        eventually("the first ends", 5, lambda: one.process.poll() is not None)
        two.console.type("e still")
        two.console.expect("ECHO still")


@check("guest: starts with a terminal whose name cannot be printed")
def unprintable_terminal():
    need_kvm()
    with open("/dev/full", "wb") as full:
        emulator = Emulator("-serial", "pty", guest=False, console=False, paused=True, output=full)
    with emulator:
        label = next(port for port in emulator.qmp().command("query-chardev") if port["label"] == "serial0")
        expect(label["filename"].startswith("pty:/dev/pts/"), f"{label}")
