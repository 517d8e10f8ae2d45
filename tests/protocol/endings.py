"""How processes end: in time, whatever they are stuck in, and with nothing left behind."""

import contextlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time

from harness.checks import Skip, check, eventually, expect, expect_equal
from harness.emulator import Emulator, binary, is_ours, need_kvm
from harness.qmp import Qmp

from .devices import error_of
from .processes import alive, children, two_processes
from .startup import PAUSED

# How long a process may take to end, and whoever depends on it.
LIMIT = 12


def strike(pid, how):
    """Sends a signal. Rust's handler lets the first SIGSEGV pass that no access caused, since a real one comes again; and
    one that comes while the first still waits is no second one."""
    os.kill(pid, how)
    deadline = time.monotonic() + LIMIT
    while how == signal.SIGSEGV and alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)


@check("endings: a monitor that is stopped goes with its worker, however that ends")
def stopped_monitor():
    for how in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV):
        emulator, child = two_processes()
        with emulator:
            os.kill(child, signal.SIGSTOP)
            strike(emulator.process.pid, how)
            emulator.wait(LIMIT)
            eventually(f"the monitor ends after {how.name} to the worker", LIMIT, lambda: not alive(child))


@check("endings: a worker that is stopped is ended by SIGTERM to its monitor")
def stopped_worker():
    emulator, child = two_processes()
    with emulator:
        emulator.process.send_signal(signal.SIGSTOP)
        os.kill(child, signal.SIGTERM)
        expect_equal(emulator.wait(LIMIT), -signal.SIGKILL, "how the worker ended")
        eventually("the monitor ends", LIMIT, lambda: not alive(child))


@contextlib.contextmanager
def pipe_nobody_opens():
    """The path of a named pipe without a reader or writer."""
    with tempfile.TemporaryDirectory() as folder:
        os.mkfifo(f"{folder}/fifo")
        yield f"{folder}/fifo"


def ends_on_sigterm(emulator, what):
    """Ends an emulator, and expects nothing to be left of it."""
    started = [emulator.process.pid, *children(emulator.process.pid)]
    emulator.process.send_signal(signal.SIGTERM)
    emulator.wait(LIMIT)
    eventually(f"every process ends: {what}", LIMIT, lambda: not any(map(alive, started)))


@check("endings: a command that waits for a file keeps nobody else waiting, and SIGTERM ends the guest")
def slow_files():
    need_kvm()
    with pipe_nobody_opens() as fifo:
        file = {"type": "file", "data": {"out": fifo}}
        logged = {"type": "null", "data": {"logfile": fifo}}
        for command, arguments in [
            ("pmemsave", {"val": 0, "size": 4096, "filename": fifo}),
            ("memsave", {"val": 0, "size": 4096, "filename": fifo}),
            ("object-add", {"qom-type": "secret", "id": "s", "file": fifo}),
            ("chardev-add", {"id": "f", "backend": file}),
            ("chardev-add", {"id": "f", "backend": logged}),
        ]:
            with tempfile.TemporaryDirectory() as folder:
                second = ["-qmp", f"unix:{folder}/second,server=on,wait=off"]
                with Emulator(*second, guest=False, console=False, paused=True, memory=16) as emulator:
                    emulator.qmp().send({"execute": command, "arguments": arguments})
                    other = Qmp(f"{folder}/second", timeout=LIMIT)
                    expect_equal(len(other.command("query-cpus-fast")), 1, f"vCPUs during {command}")
                    other.command("stop")
                    ends_on_sigterm(emulator, command)


@check("endings: what a command saved is whole once somebody reads it")
def slow_reader():
    need_kvm()
    with pipe_nobody_opens() as fifo, Emulator(guest=False, console=False, paused=True, memory=16) as emulator:
        qmp = emulator.qmp()
        qmp.send({"execute": "pmemsave", "arguments": {"val": 0x100000, "size": 5 << 20, "filename": fifo}})
        with open(fifo, "rb") as pipe:
            expect_equal(len(pipe.read()), 5 << 20, "bytes saved")
        expect_equal(qmp.read_reply(), {"return": {}}, "reply")


@check("endings: saving much memory keeps nobody waiting, takes one thread, and tells how it fails")
def much_memory():
    need_kvm()
    with tempfile.TemporaryDirectory() as folder:
        second = ["-qmp", f"unix:{folder}/second,server=on,wait=off"]
        with Emulator(*second, guest=False, console=False, paused=True, memory=16) as emulator:
            qmp = emulator.qmp()
            for command in ("pmemsave", "memsave"):
                for path, text in [
                    ("/dev/full", "writing memory to '/dev/full' failed: No space left on device"),
                    (f"{folder}/none/x", f"Could not open '{folder}/none/x': No such file or directory"),
                ]:
                    expect_equal(error_of(qmp, command, val=0, size=5 << 20, filename=path), text, command)
            other = Qmp(f"{folder}/second", timeout=LIMIT)
            tasks = f"/proc/{emulator.process.pid}/task"
            before, savers = set(os.listdir(tasks)), set()
            qmp.send({"execute": "pmemsave", "arguments": {"val": 0, "size": 1 << 60, "filename": "/dev/null"}})
            for _ in range(20):
                other.command("query-cpus-fast")
                savers |= set(os.listdir(tasks)) - before
            expect_equal(len(savers), 1, "threads that save")
            ends_on_sigterm(emulator, "saving without end")


@check("endings: a start that waits for a file ends on SIGTERM, and nothing is left")
def slow_start():
    need_kvm()
    with pipe_nobody_opens() as fifo:
        for options in [
            ["-serial", f"file:{fifo}"],
            ["-chardev", f"null,id=l,logfile={fifo}"],
            ["-D", fifo],
            ["-kernel", fifo],
            ["-fw_cfg", f"name=opt/x,file={fifo}"],
            ["-readconfig", fifo],
            ["-object", f"secret,id=s,file={fifo}"],
        ]:
            with Emulator(*options, guest=False, console=False, paused=True, memory=16) as emulator:
                time.sleep(0.3)
                expect_equal(emulator.process.poll(), None, f"{options} waits")
                ends_on_sigterm(emulator, options)


@check("endings: a send between the processes that fails is tried again")
def failing_sends():
    need_kvm()
    if not is_ours(binary()):
        raise Skip("one process only: this emulator is not remuda")
    if not shutil.which("strace"):
        raise Skip("strace is missing")
    for errno in ("ENOBUFS", "ETOOMANYREFS"):
        for number in range(1, 5):
            command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=sendmsg"]
            command += ["-e", f"inject=sendmsg:error={errno}:when={number}"]
            command += [binary(), *PAUSED, "-serial", "null", "-qmp", "stdio"]
            talk = '{"execute":"qmp_capabilities"}{"execute":"query-cpus-fast"}{"execute":"query-memdev"}{"execute":"quit"}'
            done = subprocess.run(command, input=talk, capture_output=True, text=True, timeout=60)
            expect_equal((done.returncode, done.stderr), (0, ""), f"send {number} fails with {errno}: status, standard error")
            expect_equal(done.stdout.count('"return"'), 4, f"answers where send {number} fails with {errno}")


def of_session(session):
    """The living processes of a session."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rsplit(")", 1)[1].split()
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(int(path.parent.name))
    return found


@check("endings: SIGKILL, SIGSTOP and SIGSEGV at random moments leave nothing that blocks the next start")
def sweep():
    need_kvm()
    if not is_ours(binary()):
        raise Skip("one process only: this emulator is not remuda")
    seed = int(os.environ.get("SWEEP_SEED", random.randrange(1 << 32)))
    rounds = int(os.environ.get("SWEEP_ROUNDS", "12"))
    print(f"     SWEEP_SEED={seed} SWEEP_ROUNDS={rounds}", flush=True)
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        command = [binary(), *PAUSED, "-qmp", f"unix:{folder}/qmp,server=on,wait=off", "-pidfile", f"{folder}/pid"]
        command += ["-serial", "pty", "-serial", f"file:{folder}/serial"]
        for number in range(rounds):
            blow, victim = chance.choice(["KILL", "STOP", "SEGV"]), chance.choice(["worker", "monitor"])
            moment = chance.choice([0.03, 0.4]) * chance.random()
            what = f"round {number} of seed {seed}: SIG{blow} to the {victim} after {moment:.4f} s"
            with open(f"{folder}/errors", "w+b") as errors:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, start_new_session=True
                )
            time.sleep(moment)
            others = [pid for pid in of_session(process.pid) if pid != process.pid]
            target = others[0] if victim == "monitor" and others else process.pid
            strike(target, getattr(signal, f"SIG{blow}"))
            if blow == "STOP":
                # A process that is stopped can only be ended by force; its partner has to notice that.
                time.sleep(chance.random() * 0.05)
                os.kill(process.pid, signal.SIGKILL if target == process.pid else signal.SIGTERM)
            try:
                process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                expect(False, f"the worker does not end: {what}")
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                process.wait()
            eventually(f"nothing is left: {what}", LIMIT, lambda: not of_session(process.pid))
            again = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            try:
                qmp = Qmp(f"{folder}/qmp", timeout=LIMIT)
                expect_equal(qmp.command("query-status")["running"], False, f"the next start after {what}")
                qmp.command("quit")
                expect_equal(again.wait(LIMIT), 0, f"the end of the next start after {what}")
            finally:
                again.kill()
                again.communicate()
