"""What the checks of this tier use: a running server, its guests, and what they leave in the system."""

import os
import pathlib
import shutil
import subprocess
import tempfile

from harness.checks import expect, expect_equal
from harness.emulator import CPU, Console, binary, need_kvm, test_guest
from harness.qmp import Qmp, QmpError, connect

# A guest that never runs: no kernel, no console.
IDLE = ["-machine", "q35,accel=kvm", "-cpu", CPU, "-m", "16", "-nodefaults", "-display", "none", "-S"]


class Server:
    """A running `remuda serve` with a connection to its control socket."""

    def __init__(self, directory=None, **popen):
        need_kvm()
        self.directory = directory or tempfile.mkdtemp(prefix="remuda-serve-")
        self.path = f"{self.directory}/control.sock"
        self.errors_path = f"{self.directory}/stderr"
        self.errors = open(self.errors_path, "ab")
        command = [binary("remuda"), "serve", "--directory", self.directory]
        popen = {"stdin": subprocess.DEVNULL, "stdout": self.errors, "stderr": self.errors} | popen
        self.process = subprocess.Popen(command, **popen)
        try:
            self.control = Qmp(self.path)
        except Exception:
            self.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Ends the server and all it started."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.errors.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def said(self):
        """What the server and its guests have printed."""
        return pathlib.Path(self.errors_path).read_text(errors="replace")

    def client(self):
        """Another connection to the control socket."""
        return Qmp(self.path)

    def zygote(self):
        """The process id of the zygote, the server's only child."""
        (pid,) = children(self.process.pid)
        return pid

    def workers(self):
        """The process ids of all workers, those in no list included."""
        return children(self.zygote())

    def idle(self, ident, *arguments, client=None, **options):
        """Creates a guest that never runs; returns what guest-create returned."""
        client = client or self.control
        return create(client, id=ident, arguments=[*IDLE, *arguments], **options)

    def create(self, ident, *arguments, guest=True):
        """Creates a guest; returns it with its monitor and, if it runs our test guest, its console."""
        return Guest(self, ident, arguments, guest)


class Guest:
    """One guest of the server: `info` as guest-create returned it, `qmp`, `console`."""

    def __init__(self, server, ident, arguments, boots):
        serial = f"{server.directory}/{ident}.serial"
        words = ["-machine", "q35,accel=kvm", "-cpu", CPU, "-m", "64", "-nodefaults", "-display", "none"]
        words += ["-chardev", f"socket,id=console0,path={serial},server=on,wait=off", "-serial", "chardev:console0"]
        words += ["-S", *arguments] + (["-kernel", test_guest()] if boots else [])
        self.info = server.control.command("guest-create", id=ident, arguments=words)
        self.qmp = Qmp(self.info["qmp"])
        self.console = None
        if boots:
            self.stream = connect(serial)
            self.console = Console(self.stream.fileno())
            self.qmp.command("cont")
            self.console.expect("READY\r\n")


def create(client, **arguments):
    """guest-create with all its arguments, `name` among them; returns its value."""
    client.send({"execute": "guest-create", "arguments": arguments})
    reply = client.read_reply()
    if "error" in reply:
        raise QmpError(reply["error"])
    return reply["return"]


def children(pid):
    """The process ids of the children of a process, zombies left out."""
    try:
        tasks = list(pathlib.Path(f"/proc/{pid}/task").iterdir())
        found = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [child for child in found if alive(child)]


def descriptors(pid):
    """What the open descriptors of a process are, by number."""
    found = {}
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            found[int(entry.name)] = os.readlink(entry)
        except FileNotFoundError:
            pass
    return found


def alive(pid):
    """Whether a process exists and is not a zombie."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def exited(server, ident):
    """Waits for GUEST_EXITED and returns its data, which must be about the guest `ident`."""
    data = server.control.wait_event("GUEST_EXITED")["data"]
    expect_equal(data["id"], ident, "id in GUEST_EXITED")
    return data


def fails(server, text, command, client=None, **arguments):
    """Expects an error that contains `text`."""
    client = client or server.control
    client.send({"execute": command, "arguments": arguments})
    reply = client.read_reply()
    expect("error" in reply, f"{command} {arguments} succeeded with {reply}")
    expect(text in reply["error"]["desc"], f"{command}: {reply['error']['desc']!r} lacks {text!r}")
