"""The processes behind one guest: monitor and worker end together, and nothing is left behind."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import tempfile

from harness.checks import Skip, check, eventually, expect, expect_equal
from harness.emulator import Emulator, binary, is_ours, need_kvm
from harness.qmp import Qmp


def children(pid):
    """The pids of the children of a process."""
    return [int(word) for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()]


def alive(pid):
    """Whether a process exists and is not a zombie."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def two_processes():
    """A running pair of processes: the emulator and the pid of its child."""
    need_kvm()
    if not is_ours(binary()):
        raise Skip("one process only: this emulator is not remuda")
    emulator = Emulator()
    try:
        emulator.monitor = emulator.qmp()
        emulator.console.expect("READY\r\n")
        pids = children(emulator.process.pid)
        expect_equal(len(pids), 1, "number of child processes")
    except BaseException:
        emulator.stop()
        raise
    return emulator, pids[0]


@check("processes: the process that was started holds the vCPUs, its child serves the monitor")
def roles():
    emulator, child = two_processes()
    with emulator:
        thread = emulator.monitor.command("query-cpus-fast")[0]["thread-id"]
        expect(pathlib.Path(f"/proc/{emulator.process.pid}/task/{thread}").exists(), "the vCPU is a thread of the parent")
        links = [os.readlink(fd) for fd in pathlib.Path(f"/proc/{child}/fd").iterdir() if fd.is_symlink()]
        expect(not any("kvm" in link for link in links), f"descriptors of the monitor: {links}")


@check("processes: when the worker is killed the monitor ends at once")
def worker_dies():
    emulator, child = two_processes()
    with emulator:
        emulator.process.kill()
        emulator.process.wait()
        eventually("the monitor process ends", 2, lambda: not alive(child))


@check("processes: when the monitor is killed the worker ends and says why")
def monitor_dies():
    emulator, child = two_processes()
    with emulator:
        os.kill(child, signal.SIGKILL)
        expect(emulator.wait(5) != 0, "the exit status tells of the failure")
        expect("monitor" in emulator.errors(), f"the reason is on stderr: {emulator.errors()!r}")


@check("processes: SIGTERM to the worker, the monitor or both ends the guest in good order")
def terminated():
    for order in [[0], [1], [0, 1], [1, 0]]:
        emulator, child = two_processes()
        with emulator:
            for which in order:
                with contextlib.suppress(ProcessLookupError):
                    os.kill([emulator.process.pid, child][which], signal.SIGTERM)
            event = emulator.monitor.wait_event("SHUTDOWN")
            expect_equal(event["data"], {"guest": False, "reason": "host-signal"}, "data of SHUTDOWN")
            expect_equal(emulator.wait(5), 0, "exit status")
            expect_equal(emulator.errors().count("terminating on signal 15"), 1, "how often it says so")


@check("processes: -daemonize returns when pidfile and socket are there")
def daemonize():
    with tempfile.TemporaryDirectory() as directory:
        command = [binary(), "-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-S", "-daemonize"]
        command += ["-pidfile", f"{directory}/pid", "-qmp", f"unix:{directory}/qmp,server=on,wait=off"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        expect_equal((done.returncode, done.stderr), (0, ""), "exit status and stderr")
        text = pathlib.Path(f"{directory}/pid").read_text()
        expect(text.endswith("\n") and text.strip().isdigit(), f"pidfile {text!r}")
        pid = int(text)
        try:
            expect(pathlib.Path(f"{directory}/qmp").exists(), "the socket is there")
            qmp = Qmp(f"{directory}/qmp", timeout=5)
            expect_equal(qmp.command("query-status")["running"], False, "running")
            expect(os.getpgid(pid) != os.getpgid(0), "it left our process group")
            os.kill(pid, signal.SIGTERM)
            eventually("it ends within a second", 1.5, lambda: not alive(pid))
            expect(not pathlib.Path(f"{directory}/pid").exists(), "the pidfile is removed")
        finally:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


@check("processes: -daemonize that cannot start exits 1 and says why")
def daemonize_failure():
    command = [binary(), "-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-daemonize"]
    command += ["-qmp", "unix:/nonexistent/dir/qmp,server=on,wait=off"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    expect_equal(done.returncode, 1, "exit status")
    expect("-qmp unix:/nonexistent/dir/qmp,server=on,wait=off: Failed to bind" in done.stderr, f"stderr {done.stderr!r}")


STRICT = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


@check("processes: -sandbox on puts a filter on every thread of worker and monitor")
def sandbox():
    need_kvm()
    with Emulator("-sandbox", STRICT) as emulator:
        emulator.console.expect("READY\r\n")
        emulator.qmp().command("object-add", **{"qom-type": "iothread", "id": "late"})
        for pid in [emulator.process.pid, *children(emulator.process.pid)]:
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                status = (task / "status").read_text()
                expect("\nSeccomp:\t2\n" in status, f"{task} has no filter")
                expect("\nNoNewPrivs:\t1\n" in status, f"{task} may gain privileges")


@check("processes: -D and -trace put events into a file")
def log_file():
    need_kvm()
    if not is_ours(binary()):
        raise Skip("the events have other names: this emulator is not remuda")
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder, "log")
        with Emulator("-D", str(log), "-trace", "accel_kvm_*", paused=True) as emulator:
            emulator.qmp()
            text = log.read_text()
            expect("memory slot" in text, f"the log holds {text!r}")
            expect_equal(emulator.errors(), "", "standard error")


@check("processes: -name process= is the name of the process")
def process_name():
    with Emulator("-name", "guest,process=stallion", machine="none") as emulator:
        emulator.qmp()
        expect_equal(pathlib.Path(f"/proc/{emulator.process.pid}/comm").read_text().strip(), "stallion", "name")


@check("processes: a start that fails has said why when its monitor closes")
def why_first():
    need_kvm()
    for _ in range(20):
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as client:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(f"{folder}/monitor")
            listener.listen(1)
            client.settimeout(20)
            client.connect(f"{folder}/monitor")
            monitor = ["-chardev", f"socket,id=early,fd={listener.fileno()},server=on,wait=off", "-mon", "early,mode=control"]
            with Emulator("-kernel", "/dev/null", *monitor, guest=False, console=False, pass_fds=[listener]) as emulator:
                # A connection that was not accepted yet is reset.
                with contextlib.suppress(ConnectionResetError):
                    while client.recv(4096):
                        pass
                expect("kernel" in emulator.errors(), f"standard error when the monitor closed: {emulator.errors()!r}")
