"""The command line: help texts, and malformed lines that each end in a message and status 1."""

import os
import subprocess

from harness.checks import Skip, check, expect, expect_equal
from harness.emulator import ROOT, Emulator, binary, is_ours, need_kvm


def run(*arguments):
    """Runs the emulator to its end."""
    return subprocess.run([binary(), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=5)


MALFORMED = {
    "unknown option": ["-frobnicate"],
    "option without its value": ["-machine"],
    "unknown machine": ["-machine", "vax"],
    "unknown machine property": ["-machine", "q35,frobnicate=on"],
    "bad boolean": ["-machine", "q35,usb=perhaps"],
    "unknown accelerator": ["-accel", "warp"],
    "unknown CPU model": ["-machine", "q35", "-accel", "kvm", "-cpu", "Z80"],
    "unknown CPU feature": ["-machine", "q35", "-accel", "kvm", "-cpu", "host,frobnicate=on"],
    "memory not a size": ["-m", "lots"],
    "memory larger than its maximum": ["-machine", "q35", "-m", "size=1G,slots=2,maxmem=512M"],
    "topology that does not multiply up": ["-machine", "q35", "-smp", "4,sockets=3,cores=2,threads=1"],
    "unknown smp parameter": ["-smp", "cpus=1,frobs=2"],
    "bad uuid": ["-uuid", "not-a-uuid"],
    "unknown device": ["-machine", "none", "-device", "no-such-device"],
    "device without a driver": ["-machine", "none", "-device", "id=x"],
    "unknown device property": ["-machine", "q35", "-accel", "kvm", "-device", "isa-serial,frobnicate=1"],
    "device as bad JSON": ["-machine", "none", "-device", '{"driver": "isa-serial"'],
    "duplicate id": ["-machine", "none", "-chardev", "null,id=a", "-chardev", "null,id=a"],
    "unknown chardev": ["-machine", "none", "-chardev", "pigeon,id=a"],
    "chardev without an id": ["-machine", "none", "-chardev", "null"],
    "chardev that is not there": ["-machine", "none", "-mon", "chardev=nowhere,mode=control"],
    "bad monitor mode": ["-machine", "none", "-chardev", "null,id=a", "-mon", "chardev=a,mode=loud"],
    "socket path too long": ["-machine", "none", "-qmp", "unix:/" + "x" * 200 + ",server=on,wait=off"],
    "socket in no directory": ["-machine", "none", "-qmp", "unix:/nonexistent/qmp,server=on,wait=off"],
    "bad descriptor number": ["-machine", "none", "-chardev", "socket,id=a,fd=999,server=on"],
    "unknown object": ["-machine", "none", "-object", "no-such-object,id=o"],
    "object without an id": ["-machine", "none", "-object", "memory-backend-ram,size=1M"],
    "object as bad JSON": ["-machine", "none", "-object", '{"qom-type": "memory-backend-ram", "id": "m", "size": }'],
    "object with an unknown property": ["-machine", "none", "-object", "memory-backend-ram,id=m,size=1M,frobs=1"],
    "memory backend that is not there": ["-machine", "q35,memory-backend=nowhere", "-accel", "kvm"],
    "kernel that is not there": ["-machine", "q35", "-accel", "kvm", "-kernel", "/nonexistent/vmlinuz"],
    "initrd without a kernel": ["-machine", "q35", "-accel", "kvm", "-initrd", "/dev/null"],
    "guest that cannot migrate and has to": [
        "-machine", "q35", "-accel", "kvm", "-only-migratable", "-device", "virtio-net-pci",
    ],
    "guest from nowhere": ["-machine", "q35", "-accel", "kvm", "-incoming", "pigeon:1"],
    "bad clock base": ["-rtc", "base=yesterday"],
    "bad action": ["-action", "reboot=dance"],
    "bad sandbox": ["-machine", "none", "-sandbox", "maybe"],
    "bad add-fd": ["-add-fd", "set=x,fd=y"],
    "bad pidfile": ["-machine", "none", "-pidfile", "/nonexistent/dir/pid"],
    "bad serial": ["-machine", "q35", "-accel", "kvm", "-serial", "pigeon"],
    "QEMU's other displays": ["-display", "gtk"],
    "a VNC server": ["-machine", "none", "-vnc", ":0"],
    "a display adapter": ["-machine", "q35", "-vga", "std"],
    "a network card": ["-machine", "q35", "-nic", "user"],
    "teardown in another process": ["-machine", "none", "-run-with", "async-teardown=on"],
    "a property that the chipset lacks": ["-machine", "q35,accel=kvm", "-global", "ICH9-LPC.nosuch=1"],
    "stray word that is no disk": ["-machine", "none", "/nonexistent/disk.img"],
}

BAD_PATHS = [
    ["-machine", "none", "-D", "{}"],
    ["-machine", "none", "-pidfile", "{}"],
    ["-machine", "none", "-readconfig", "{}"],
    ["-machine", "none", "-qmp", "unix:{},server=on,wait=off"],
    ["-machine", "none", "-qmp", "unix:{}"],
    ["-machine", "none", "-monitor", "pipe:{}"],
    ["-machine", "none", "-chardev", "file,id=a,path={}"],
    ["-machine", "none", "-chardev", "pipe,id=a,path={}"],
    ["-machine", "none", "-chardev", "serial,id=a,path={}"],
    ["-machine", "none", "-chardev", "pty,id=a,path={}"],
    ["-machine", "none", "-chardev", "null,id=a,logfile={}"],
    ["-machine", "none", "-object", "secret,id=s,file={}"],
    ["-machine", "q35,accel=kvm", "-kernel", "{}"],
    ["-machine", "q35,accel=kvm", "-bios", "{}"],
    ["-machine", "q35,accel=kvm", "-fw_cfg", "name=opt/x,file={}"],
    ["-machine", "q35,accel=kvm", "-smbios", "file={}"],
    ["-machine", "q35,accel=kvm", "-boot", "splash={}"],
    ["-machine", "q35,accel=kvm", "-serial", "file:{}"],
    ["-machine", "q35,accel=kvm", "-object", "memory-backend-file,id=m,size=1M,mem-path={}"],
]


@check("cmdline: a path that cannot be opened is named with one reason, in the words of the system and without its number")
def bad_paths():
    if not is_ours(binary()):
        raise Skip("other emulators have other words")
    need_kvm()
    wrong = []
    for option in BAD_PATHS:
        for path, reason in (("/nonexistent/x", "No such file or directory"), ("/proc/version/x", "Not a directory")):
            arguments = [word.format(path) for word in option]
            try:
                done = run(*QUIET, *arguments)
            except subprocess.TimeoutExpired:
                wrong.append(f"{' '.join(arguments)}: was accepted and runs")
                continue
            if done.returncode != 1 or "os error" in done.stderr or done.stderr.count(reason) > 1 or path not in done.stderr:
                wrong.append(f"{' '.join(arguments)}: status {done.returncode}, {done.stderr!r}")
    expect(not wrong, "; ".join(wrong))


NEWER_THAN_QEMU_7_2 = {"no processors": ["-machine", "q35", "-smp", "0"]}

QUIET = ["-nodefaults", "-no-user-config", "-display", "none", "-S"]


@check("cmdline: every malformed line exits 1 with a message that names the culprit")
def malformed():
    wrong = []
    for what, arguments in (MALFORMED | (NEWER_THAN_QEMU_7_2 if is_ours(binary()) else {})).items():
        try:
            done = run(*QUIET, *arguments)
        except subprocess.TimeoutExpired:
            wrong.append(f"{what}: was accepted and runs")
            continue
        if done.returncode != 1:
            wrong.append(f"{what}: exit status {done.returncode}, stderr {done.stderr.strip()!r}")
        elif not done.stderr.startswith("qemu-system-x86_64: ") or "panicked" in done.stderr:
            wrong.append(f"{what}: stderr {done.stderr!r}")
    expect(not wrong, "; ".join(wrong))


@check("cmdline: -version and the help lists")
def help_texts():
    lists = {
        ("-version",): "version",
        ("-help",): "-machine",
        ("-machine", "help"): "q35",
        ("-cpu", "help"): "host",
        ("-accel", "help"): "kvm",
        ("-object", "help"): "memory-backend-ram",
        ("-device", "help"): "isa-serial",
        ("-device", "isa-serial,help"): "iobase=",
        ("-chardev", "help"): "pty",
        ("-audiodev", "help"): "none",
        ("-L", "/somewhere", "-L", "help"): "/somewhere",
        ("-trace", "help"): "_",
        ("-accel", "kvm,help"): "kernel-irqchip",
        ("-h",): "-machine",
        ("--version",): "QEMU emulator version",
    }
    for arguments, text in lists.items():
        done = run(*arguments)
        expect_equal(done.returncode, 0, f"exit status of {' '.join(arguments)} ({done.stderr.strip()})")
        expect(text in done.stdout, f"{' '.join(arguments)}: {text!r} is missing from stdout {done.stdout[:200]!r}")


@check("cmdline: remuda itself says how it is called and which it is")
def remuda_help():
    program = binary("remuda")
    for word, text in (("-h", "remuda serve"), ("--help", "remuda serve"), ("--version", "remuda ")):
        done = subprocess.run([program, word], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=5)
        expect_equal((done.returncode, done.stderr), (0, ""), f"remuda {word}")
        expect(text in done.stdout, f"remuda {word}: {done.stdout!r}")
    done = subprocess.run([program, "frobnicate"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=5)
    expect("'frobnicate'" in done.stderr and done.returncode != 0, f"remuda frobnicate: {done}")


@check("cmdline: tests/run lists its tiers and names one that it does not have")
def test_tiers():
    for words, status, text in ((["--help"], 0, "protocol"), (["-h"], 0, "s390x"), (["unit", "nosuch"], 2, "no tier nosuch")):
        done = subprocess.run([ROOT / "tests/run", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
        expect_equal(done.returncode, status, f"exit status of tests/run {words}")
        expect(text in done.stdout + done.stderr, f"tests/run {words}: {done}")


@check("cmdline: the versioned machine names are there and stay")
def machine_names():
    names = [line.split()[0] for line in run("-machine", "help").stdout.splitlines()[1:] if line.strip()]
    for name in ("q35", "pc-q35-7.2", "none"):
        expect(name in names, f"{name} is missing from {names}")


@check("cmdline: several messages can carry timestamps")
def timestamps():
    done = run(*QUIET, "-msg", "timestamp=on", "-machine", "none", "-device", "no-such-device")
    expect_equal(done.returncode, 1, "exit status")
    first = done.stderr.strip().splitlines()[-1]
    expect(first[:2] == "20" and "T" in first.split()[0] and first.split()[0].endswith("Z"), f"line {first!r}")


@check("cmdline: alone, the emulator says what to give it")
def nothing_given():
    done = run()
    expect_equal(done.returncode, 1, "exit status")
    for text in ("No machine specified", "-machine help", "-help", "-machine q35"):
        expect(text in done.stderr, f"{text!r} is missing from {done.stderr!r}")


def warnings_of(*arguments):
    """What a paused guest or probe prints on standard error until it is ended by its pid."""
    process = subprocess.Popen(
        [binary(), *QUIET, *arguments, "-qmp", "stdio"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    commands = '{"execute": "qmp_capabilities"}{"execute": "quit"}'
    _, errors = process.communicate(commands, timeout=20)
    expect_equal(process.returncode, 0, f"exit status ({errors})")
    return errors


@check("cmdline: what means nothing is a warning that names it, not silence")
def warnings():
    program = "qemu-system-x86_64: "
    for arguments, line in {
        ("-machine", "none", "-global", "nosuch.x=1"): "warning: global nosuch.x has invalid class name",
        ("-machine", "none", "-trace", "enable=nosuch"): "-trace enable=nosuch: warning: trace event 'nosuch' does not exist",
        ("-machine", "none", "-msg", "timestamp"): "-msg timestamp: warning: short-form boolean option 'timestamp' deprecated",
    }.items():
        errors = warnings_of(*arguments)
        expect(line in errors, f"{program + line!r} is missing from {errors!r}")


@check("cmdline: an accelerator that does not exist is told of when another is taken")
def accelerator_fallback():
    need_kvm()
    for arguments in (["-machine", "q35,accel=bogus:kvm"], ["-machine", "q35", "-accel", "bogus", "-accel", "kvm"]):
        errors = warnings_of(*arguments, "-cpu", "host")
        for line in ("invalid accelerator bogus", "falling back to KVM"):
            expect(line in errors, f"{line!r} is missing from {errors!r}")


@check("cmdline: JSON may have single quotes, and what is wrong with it is said as over QMP")
def json_quotes():
    quotes = ["-machine", "none,accel=kvm", *QUIET, "-object", "{'qom-type':'memory-backend-ram','id':'m','size':4096}", "-h"]
    expect_equal(run(*quotes).returncode, 0, "exit status")
    for text, reason in [
        ("{'driver':'pvpanic'", "premature EOI"),
        ("{'driver':'pvpanic'} 1", "Expecting at most one JSON value"),
        ("{'driver' 1}", "missing : in object pair"),
        ("{'driver':'x','driver':'x'}", "duplicate key"),
        ("{'driver':'\\uffff'}", "\\uffff is not a valid Unicode character"),
    ]:
        ended = run("-machine", "none", *QUIET, "-device", text)
        expect_equal(ended.returncode, 1, f"exit status of {text}")
        expect(reason in ended.stderr, f"{text}: {ended.stderr!r}")


@check("cmdline: a text that was asked for and cannot be written is an error")
def unwritable_help():
    for arguments in (["-help"], ["-version"], ["-machine", "help"], ["-device", "pvpanic,help"], ["-cpu", "help"]):
        with open("/dev/full", "wb") as full:
            ended = subprocess.run([binary(), *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=5)
        if is_ours(binary()):
            expect_equal(ended.returncode, 1, f"exit status of {arguments}")
            expect("No space left on device" in ended.stderr, f"{arguments}: {ended.stderr!r}")
        reader, writer = os.pipe()
        os.close(reader)
        ended = subprocess.run([binary(), *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=5)
        os.close(writer)
        if is_ours(binary()):
            expect_equal(ended.returncode, 1, f"exit status of {arguments} into a closed pipe")
            expect("Broken pipe" in ended.stderr, f"{arguments}: {ended.stderr!r}")


@check("cmdline: what libvirt sets of the chipset, whatever its version, is taken")
def chipset_globals():
    need_kvm()
    settings = ("noreboot=off", "disable_s3=1", "disable_s4=0")
    words = [word for setting in settings for word in ("-global", f"ICH9-LPC.{setting}")]
    with Emulator(*words, guest=False, console=False, paused=True) as emulator:
        expect_equal(emulator.qmp().command("query-status")["status"], "prelaunch", "status")
