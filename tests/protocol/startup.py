"""How a guest starts: with any set of character devices, and without a trace where it cannot start."""

import itertools
import os
import socket
import subprocess
import tempfile

from harness.checks import check, expect, expect_equal
from harness.emulator import CPU, Emulator, binary, need_kvm
from harness.qmp import Qmp

PAUSED = ["-machine", "q35,accel=kvm", "-nodefaults", "-no-user-config", "-display", "none", "-m", "16", "-cpu", CPU, "-S"]


def kinds(folder, name):
    """A character device `name` of each kind that needs nobody at the other side, by kind."""
    return {
        "null": "null",
        "ringbuf": "ringbuf",
        "file": f"file,path={folder}/{name}.file",
        "pty": "pty",
        "udp": "udp,host=127.0.0.1,port=9",
        "server": f"socket,path={folder}/{name}.sock,server=on,wait=off",
        "client": f"socket,path={folder}/peer",
        "logged": f"null,logfile={folder}/{name}.log",
    }


@check("startup: two serial ports and a debug console, of all pairs of kinds of character devices")
def pairs():
    need_kvm()
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as peer:
        peer.bind(f"{folder}/peer")
        peer.listen(1000)
        for first, second in itertools.product(kinds(folder, ""), repeat=2):
            devices = [kinds(folder, "a")[first], kinds(folder, "b")[second], kinds(folder, "c")[first]]
            command = [binary(), *PAUSED, "-qmp", "stdio"]
            for name, device in zip("abc", devices):
                command += ["-chardev", f"{device},id={name}"]
            command += ["-serial", "chardev:a", "-serial", "chardev:b", "-device", "isa-debugcon,iobase=0x402,chardev=c"]
            talk = '{"execute":"qmp_capabilities"}{"execute":"query-chardev"}{"execute":"quit"}'
            done = subprocess.run(command, input=talk, capture_output=True, text=True, timeout=30)
            expect_equal((done.returncode, done.stderr), (0, ""), f"exit status and standard error of {first} with {second}")
            for name in "abc":
                expect(f'"label": "{name}"' in done.stdout, f"{name} is listed for {first} with {second}: {done.stdout}")


@check("startup: four serial ports, a debug console and two monitors, all of them at work")
def many_devices():
    need_kvm()
    with tempfile.TemporaryDirectory() as folder:
        devices = ["-serial", "null", "-serial", f"file:{folder}/out", "-serial", "pty"]
        devices += ["-chardev", f"file,id=debug,path={folder}/debug", "-device", "isa-debugcon,iobase=0x402,chardev=debug"]
        devices += ["-qmp", f"unix:{folder}/second,server=on,wait=off"]
        with Emulator(*devices) as emulator:
            first = emulator.qmp()
            emulator.console.expect("READY\r\n")
            second = Qmp(f"{folder}/second")
            expect_equal([qmp.command("query-status")["status"] for qmp in (first, second)], ["running"] * 2, "run states")
            expect_equal(len(first.command("query-chardev")), 7, "number of character devices")
            expect(os.path.exists(f"{folder}/out") and os.path.exists(f"{folder}/debug"), "both files are there")
