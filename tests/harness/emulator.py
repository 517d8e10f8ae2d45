"""The emulator under test, its processes, and the console of its guest."""

import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from .checks import Failure, Skip
from .qmp import Qmp

ROOT = pathlib.Path(__file__).resolve().parents[2]
CPU = os.environ.get("REMUDA_CPU", "host")


def binary(name="qemu-system-x86_64"):
    """The program under test: $REMUDA_QEMU in place of qemu-system-x86_64, else the release build, else the debug build."""
    chosen = os.environ.get("REMUDA_QEMU")
    if chosen and name != "qemu-system-x86_64":
        raise Skip(f"$REMUDA_QEMU stands for qemu-system-x86_64, not for {name}")
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    candidates = [chosen] if chosen else [target / profile / name for profile in ("release", "debug")]
    for candidate in candidates:
        if shutil.which(candidate):
            return str(candidate)
    raise Skip(f"{name} is not built (cargo build --release --bins --example pool)")


def is_ours(program):
    """Whether `program` is remuda and not another emulator that the tests are being tried against."""
    text = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=30).stdout
    return "remuda" in text


def need_kvm():
    """Skips the running check where /dev/kvm cannot be used."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise Skip("/dev/kvm cannot be opened")


def test_guest():
    """Path of the test guest, built from tests/guests when its source is newer."""
    source = ROOT / "tests" / "guests"
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "guests"
    image = target / "guest.elf"
    newest = max(path.stat().st_mtime for path in source.iterdir())
    if not image.exists() or image.stat().st_mtime < newest:
        subprocess.run([source / "build.sh", target], check=True)
    return str(image)


class Console:
    """The guest's serial port, reached through a file descriptor."""

    def __init__(self, fd):
        self.fd = fd
        self.seen = b""
        self.mark = 0

    def expect(self, text, timeout=60):
        """Waits until the guest has printed `text` after what was expected before; returns what led to it."""
        wanted = text.encode()
        deadline = time.monotonic() + timeout
        while True:
            at = self.seen.find(wanted, self.mark)
            if at >= 0:
                passed = self.seen[self.mark : at + len(wanted)]
                self.mark = at + len(wanted)
                return passed.decode("latin-1")
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                raise Failure(f"the guest did not print {text!r} in {timeout} s; since: {self.seen[self.mark:][-400:]!r}")
            try:
                data = os.read(self.fd, 1 << 16)
            except OSError:
                data = b""
            if not data:
                raise Failure(f"the console closed before {text!r}; since: {self.seen[self.mark:][-400:]!r}")
            self.seen += data

    def type(self, line):
        """Types a line."""
        self.write(line.encode() + b"\r")

    def write(self, data):
        """Sends bytes as they are."""
        os.write(self.fd, data)


class Emulator:
    """One running emulator with a QMP socket and, unless `console` is False, a serial port on a socket pair. `memory` is
    in MiB; None leaves it to the other arguments.

    Sockets in `pass_fds` are handed over under their numbers and closed here. Standard output goes to the file `output`
    in place of that of errors."""

    def __init__(
        self, *arguments, guest=True, machine="q35", paused=False, console=True, memory=128, program=None, pass_fds=(),
        output=None,
    ):
        self.directory = tempfile.mkdtemp(prefix="remuda-test-")
        self.qmp_path = f"{self.directory}/qmp"
        self.errors_path = f"{self.directory}/stderr"
        accelerator = ",accel=kvm" if machine != "none" else ""
        command = [program or binary(), "-machine", machine + accelerator, "-nodefaults", "-no-user-config"]
        command += ["-display", "none", "-qmp", f"unix:{self.qmp_path},server=on,wait=off"]
        fds = list(pass_fds)
        self.console = None
        if machine != "none":
            command += ["-cpu", CPU]
            if memory:
                command += ["-m", str(memory)]
            if guest:
                command += ["-kernel", test_guest()]
            if console:
                ours, theirs = socket.socketpair()
                fds.append(theirs)
                self.console = Console(os.dup(ours.fileno()))
                ours.close()
                command += ["-chardev", f"socket,id=console0,fd={theirs.fileno()}", "-serial", "chardev:console0"]
        if paused:
            command.append("-S")
        command += arguments
        with open(self.errors_path, "wb") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output or errors,
                stderr=errors,
                pass_fds=[fd.fileno() for fd in fds],
            )
        for fd in fds:
            fd.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def qmp(self, **options):
        """A new connection to the monitor."""
        deadline = time.monotonic() + 20
        while not os.path.exists(self.qmp_path) and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        try:
            return Qmp(self.qmp_path, **options)
        except Failure as failure:
            raise Failure(f"{failure}; exit status {self.process.poll()}; stderr: {self.errors()}") from None

    def errors(self):
        """What the emulator has written to standard error and output."""
        return pathlib.Path(self.errors_path).read_text(errors="replace")

    def wait(self, timeout=20):
        """Waits for the emulator to end; returns its exit status as Popen does."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failure(f"the emulator did not end in {timeout} s") from None

    def stop(self):
        """Ends the emulator if it still runs and removes its directory."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.console:
            os.close(self.console.fd)
        shutil.rmtree(self.directory, ignore_errors=True)
