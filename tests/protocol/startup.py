"""How a guest starts: with any set of character devices, and without a trace where it cannot start."""

import concurrent.futures
import contextlib
import itertools
import os
import pathlib
import signal
import socket
import subprocess
import tempfile

from harness.checks import check, eventually, expect, expect_equal
from harness.emulator import CPU, Emulator, binary, need_kvm
from harness.qmp import Qmp

from . import processes

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


def processes_with(mark):
    """The pids of the living processes whose environment holds `mark`."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes() and (path.parent / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                found.append(int(path.parent.name))
    return found


def fails(arguments, mark=None, **options):
    """Runs a command line that is wrong; returns what it says on standard error."""
    environment = os.environ | ({"REMUDA_TEST_MARK": mark} if mark else {})
    command = [binary(), *PAUSED, *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=environment, **options)
    expect_equal(done.returncode, 1, f"exit status of {arguments} ({done.stderr.strip()!r})")
    expect(done.stderr and "panicked" not in done.stderr, f"standard error of {arguments}: {done.stderr!r}")
    return done.stderr


@check("startup: a descriptor that was not handed down is an error, whatever its number means to the process")
def foreign_descriptors():
    need_kvm()
    mark = f"foreign-{os.getpid()}"
    for number in range(3, 10):
        for arguments in [["-chardev", f"socket,id=a,fd={number}"], ["-add-fd", f"fd={number},set=1"]]:
            text = fails(arguments, mark)
            expect("fd" in text.lower() or str(number) in text, f"standard error of {arguments}: {text!r}")
            expect_equal(processes_with(mark), [], f"processes that {arguments} leaves behind")


def wrong_lines(folder):
    """Command lines that cannot work, without end: each wrong in its own way and at its own stage of the start."""
    for number in itertools.count():
        name = f"n{number}"
        yield ["-device", f"nosuch{number}"]
        yield ["-device", f"isa-serial,chardev={name}"]
        yield ["-serial", f"chardev:{name}"]
        yield ["-serial", f"file:/nonexistent/{name}"]
        yield ["-chardev", f"socket,id={name},path={folder}/{name},fd=7"]
        yield ["-chardev", f"socket,id={name},fd={1000 + number}"]
        yield ["-chardev", f"socket,id={name},path=/nonexistent/{name},server=on,wait=off"]
        yield ["-chardev", f"socket,id={name},path={folder}/{name}"]
        yield ["-chardev", f"null,id={name}", "-chardev", f"null,id={name}"]
        yield ["-chardev", f"null,id={name},logfile=/nonexistent/{name}"]
        yield ["-chardev", f"pipe,id={name},path=/nonexistent/{name}"]
        yield ["-qmp", f"unix:/nonexistent/{name},server=on,wait=off"]
        yield ["-mon", f"chardev={name}"]
        yield ["-add-fd", f"fd={500 + number},set=1"]
        yield ["-kernel", f"/nonexistent/{name}"]
        yield ["-bios", f"/nonexistent/{name}"]
        yield ["-object", f"secret,id={name},file=/nonexistent/{name}"]
        yield ["-object", f"memory-backend-file,id={name},size=1M,mem-path=/nonexistent/{name}"]
        yield ["-fw_cfg", f"name=opt/{name},file=/nonexistent/{name}"]
        yield ["-pidfile", f"/nonexistent/{name}"]
        yield ["-D", f"/nonexistent/{name}"]
        yield ["-smp", f"cpus={number + 5000}"]
        yield ["-daemonize", "-qmp", f"unix:/nonexistent/{name},server=on,wait=off"]
        yield ["-serial", "null", "-serial", "pty", "-device", f"nosuch{number}"]
        yield ["-chardev", f"null,id={name}", "-serial", f"chardev:{name}", "-kernel", "/dev/null"]


@check("startup: of wrong command lines nothing is left, no process and no socket")
def nothing_left():
    need_kvm()
    count = int(os.environ.get("WRONG_LINES", "500"))
    mark = f"wrong-{os.getpid()}"
    with tempfile.TemporaryDirectory() as folder:
        lines = itertools.islice(wrong_lines(folder), count)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda line: fails(line, mark), lines))
        eventually("every process of them ends", 5, lambda: not processes_with(mark))
        expect_equal(os.listdir(folder), [], "files that are left")


@check("startup: -daemonize lets go of its caller's output and folder")
def daemon_lets_go():
    need_kvm()
    with tempfile.TemporaryDirectory() as folder:
        command = [binary(), *PAUSED, "-daemonize", "-pidfile", f"{folder}/pid", "-serial", "null"]
        # Ends once nobody holds the pipe.
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, cwd=folder)
        pid = int(pathlib.Path(f"{folder}/pid").read_text())
        try:
            expect_equal((done.returncode, done.stdout, done.stderr), (0, "", ""), "status, output, standard error")
            for process in [pid, *processes.children(pid)]:
                expect_equal(os.readlink(f"/proc/{process}/cwd"), "/", f"working directory of process {process}")
        finally:
            os.kill(pid, signal.SIGTERM)
            eventually("the daemon ends", 10, lambda: not processes.alive(pid))


@check("startup: what a probe learns does not depend on what the monitor has started")
def probe_beside_a_name():
    need_kvm()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for host in ("127.0.0.1", "localhost"):
        with Emulator("-accel", "kvm", "-qmp", f"tcp:{host}:{port},server=on,wait=off", machine="none") as emulator:
            expect_equal(emulator.qmp().command("query-kvm"), {"enabled": True, "present": True}, f"query-kvm with a monitor on {host}")


@check("startup: whoever handed down the socket of a monitor finds its end after a start that failed")
def late_client():
    need_kvm()
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as client:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{folder}/monitor")
        listener.listen(1)
        monitor = ["-chardev", f"socket,id=m,fd={listener.fileno()},server=on,wait=off", "-mon", "m,mode=control"]
        with Emulator("-kernel", "/dev/null", *monitor, guest=False, console=False, pass_fds=[listener]) as emulator:
            eventually("it says why it cannot start", 20, lambda: "kernel" in emulator.errors())
            client.settimeout(20)
            client.connect(f"{folder}/monitor")
            expect_equal(client.recv(4096), b"", "what the client reads")
            expect_equal(emulator.wait(10), 1, "exit status")
