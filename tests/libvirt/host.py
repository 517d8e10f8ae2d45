"""A private host for libvirt: namespaces in which libvirtd and virtlogd run unmodified beside the machine's own.

The program that calls `enter` is started again as a child of pid 1 of new mount, UTS, IPC, network and pid
namespaces. There /run and libvirt's directories are its own, and the emulator under test lies over
/usr/bin/qemu-system-*. When the program ends, the pid namespace takes everything in it along."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

from harness.checks import Failure, Skip, eventually
from harness.emulator import binary

MARK = "REMUDA_PRIVATE_HOST"
DIRECTORIES = {"etc": "/etc/libvirt", "lib": "/var/lib/libvirt", "cache": "/var/cache/libvirt", "log": "/var/log/libvirt"}
LOG = pathlib.Path("/var/log/libvirt/libvirtd.log")
# The emulator under test, and Debian's where that is another one.
EMULATOR = "/usr/bin/qemu-system-x86_64"
PEER = "/run/debian/bin/qemu-system-x86_64"
EMULATOR_ERROR = re.compile(r": error : (qemu|virQEMU|virJSON|virCPU|x86|virDomain)\w+:\d+ :")
LIBVIRTD_CONF = """
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
log_filters = "{filters}"
log_outputs = "1:file:{log}"
"""
QEMU_CONF = """
user = "root"
group = "root"
security_driver = "none"
"""


def enter():
    """Goes on in the private host; returns only there. The caller's exit status becomes that of the whole."""
    if os.environ.get(MARK):
        _become_reaper()
        return
    state = tempfile.mkdtemp(prefix="remuda-libvirt-")
    command = ["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command += ["--propagation", "private", sys.executable, *sys.argv]
    try:
        status = subprocess.run(command, env=os.environ | {MARK: state}).returncode
    finally:
        shutil.rmtree(state, ignore_errors=True)
    sys.exit(status)


def _become_reaper():
    """Pid 1 stays behind to reap orphans: libvirt takes a killed emulator that nobody reaped for one it cannot kill."""
    child = os.fork()
    if child == 0:
        return
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def run(*command, **options):
    """Runs a command that must succeed and returns what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Host:
    """libvirtd and virtlogd in the private host."""

    def __init__(self):
        for program in ("libvirtd", "virtlogd", "virsh"):
            if not shutil.which(program):
                raise Skip(f"{program} is not installed (libvirt-daemon-system, libvirt-clients)")
        self._make_private()
        self.start_daemon("virtlogd")
        self.start_daemon("libvirtd")
        self.ask_libvirtd()

    def _make_private(self):
        state = pathlib.Path(os.environ[MARK])
        run("hostname", "remuda-test")
        run("ip", "link", "set", "lo", "up")
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
        os.makedirs("/run/lock")
        for name, target in DIRECTORIES.items():
            (state / name).mkdir()
            os.makedirs(target, exist_ok=True)
            run("mount", "--bind", str(state / name), target)
        default = "1:qemu.qemu_monitor 1:util.command 3:*" if os.environ.get("REMUDA_LIBVIRT_TRACE") else "3:*"
        pathlib.Path("/etc/libvirt/libvirtd.conf").write_text(LIBVIRTD_CONF.format(filters=default, log=LOG))
        pathlib.Path("/etc/libvirt/qemu.conf").write_text(QEMU_CONF)
        pathlib.Path("/etc/libvirt/virtlogd.conf").write_text("")
        for name in ("qemu-system-x86_64", "qemu-system-s390x"):
            target = shutil.which(name, path="/usr/bin")
            try:
                program = os.path.realpath(binary(name))
            except Skip:
                continue
            if target and program != os.path.realpath(target):
                if target == EMULATOR:
                    self._keep_peer(target)
                run("mount", "--bind", program, target)

    def _keep_peer(self, target):
        """Debian's emulator under another name; it finds its modules and firmware from where it lies."""
        peer = pathlib.Path(PEER)
        peer.parent.mkdir(parents=True)
        peer.touch()
        run("mount", "--bind", target, PEER)
        for name in ("lib", "share"):
            (peer.parents[1] / name).symlink_to(f"/usr/{name}")

    def start_daemon(self, name):
        """Starts one of libvirt's daemons in the background."""
        run(name, "-d", "-p", f"/run/{name}.pid", stdin=subprocess.DEVNULL)

    def ask_libvirtd(self):
        """Waits until libvirtd answers."""
        answers = lambda: subprocess.run(["virsh", "-q", "uri"], capture_output=True, timeout=30).returncode == 0  # noqa: E731
        eventually("libvirtd answers", 30, answers)

    def restart_libvirtd(self):
        """Ends libvirtd alone and starts it again; guests live on."""
        pid = int(pathlib.Path("/run/libvirtd.pid").read_text())
        os.kill(pid, signal.SIGTERM)
        eventually("libvirtd ends", 20, lambda: not pathlib.Path(f"/proc/{pid}").exists())
        self.start_daemon("libvirtd")
        self.ask_libvirtd()

    def log_errors(self):
        """The error lines about emulators that libvirtd has logged so far; what it misses on the host is left out."""
        return [line for line in LOG.read_text(errors="replace").splitlines() if EMULATOR_ERROR.search(line)]

    def explain(self):
        """Prints libvirtd's last errors and the end of the newest emulator's log."""
        for line in self.log_errors()[-8:]:
            print(f"     libvirtd: {line}", file=sys.stderr)
        logs = sorted(pathlib.Path("/var/log/libvirt/qemu").glob("*.log"), key=lambda log: log.stat().st_mtime)
        for log in logs[-1:]:
            for line in log.read_text(errors="replace").splitlines()[-6:]:
                print(f"     {log.name}: {line[-300:]}", file=sys.stderr)


def virsh(*arguments, timeout=60):
    """Runs virsh, which must succeed; returns what it prints, stripped."""
    command = ["virsh", "-q", *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise Failure(f"virsh {' '.join(arguments)} did not end in {timeout} s") from None
    if done.returncode != 0:
        raise Failure(f"virsh {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def virsh_fails(*arguments):
    """Runs virsh, which must fail; returns the error text."""
    done = subprocess.run(["virsh", "-q", *arguments], capture_output=True, text=True, timeout=60)
    if done.returncode == 0:
        raise Failure(f"virsh {' '.join(arguments)} succeeded")
    return done.stderr.strip()


class Events:
    """`virsh event --all` in the background, from when it is known to watch."""

    def __init__(self, domain):
        command = ["stdbuf", "-oL", "virsh", "event", "--all", "--loop", "--domain", domain]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.text = ""

        def heard():
            virsh("desc", domain, "--config", "watched")
            return "metadata-change" in self.read()

        eventually("virsh event watches", 20, heard)

    def read(self):
        """All that was printed so far."""
        self.text += (self.process.stdout.read() or b"").decode()
        return self.text

    def stop(self, last):
        """Ends the watching after an event with the text `last`; returns the lines printed."""
        try:
            eventually(f"an event {last}", 20, lambda: last in self.read())
        except Failure as failure:
            raise Failure(f"{failure}: saw {self.text!r}") from failure
        finally:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(10)
        return self.text
