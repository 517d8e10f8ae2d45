"""Serial ports and the debug console: every kind of character device behind them, quick, slow, full or gone."""

import fcntl
import os
import select
import signal
import socket
import subprocess
import tempfile
import time

from harness.checks import Failure, check, eventually, expect, expect_equal
from harness.emulator import CPU, Emulator, binary, need_kvm

PAUSED = ["-machine", "q35,accel=kvm", "-nodefaults", "-no-user-config", "-display", "none", "-m", "16", "-cpu", CPU, "-S"]


def content(path):
    """What a file holds; nothing if it is not there yet."""
    if not os.path.exists(path):
        return b""
    with open(path, "rb") as file:
        return file.read()


class Far:
    """What is at the other end of a character device: how it is made, what came, and what is typed."""

    typing = True

    def __init__(self, kind, folder, name):
        self.kind, self.id, self.fd, self.pass_fds, self.seen = kind, name, None, [], b""
        self.path = f"{folder}/{name}"
        self.emulator = self.qmp = None
        self.option = f"{getattr(self, kind)()},id={name}"

    def null(self):
        self.typing = False
        return "null"

    def file(self):
        self.typing = False
        return f"file,path={self.path}"

    def ringbuf(self):
        self.typing = False
        return "ringbuf"

    def stdio(self):
        self.typing = False
        return "stdio"

    def pty(self):
        return "pty"

    def pipe(self):
        for end in (".in", ".out"):
            os.mkfifo(self.path + end)
        self.fd = os.open(f"{self.path}.out", os.O_RDWR | os.O_NONBLOCK)
        return f"pipe,path={self.path}"

    def server(self):
        return f"socket,path={self.path},server=on,wait=off"

    def mux(self):
        return f"socket,path={self.path},server=on,wait=off,mux=on"

    def tcp_server(self):
        return "socket,host=127.0.0.1,port=0,server=on,wait=off"

    def client(self):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        return f"socket,path={self.path}"

    def tcp_client(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        return f"socket,host=127.0.0.1,port={self.listener.getsockname()[1]}"

    def udp(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as spare:
            spare.bind(("127.0.0.1", 0))
            self.local = spare.getsockname()
        return f"udp,host=127.0.0.1,port={self.socket.getsockname()[1]},localaddr=127.0.0.1,localport={self.local[1]}"

    def descriptor(self):
        self.socket, theirs = socket.socketpair()
        self.pass_fds = [theirs]
        return f"socket,fd={theirs.fileno()}"

    def join(self, emulator, qmp):
        """Goes to the other end, once the emulator is there."""
        self.emulator, self.qmp = emulator, qmp
        names = {chardev["label"]: chardev["filename"] for chardev in qmp.command("query-chardev")}
        if self.kind == "pty":
            self.fd = os.open(names[self.id].removeprefix("pty:"), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        elif self.kind in ("server", "mux"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(self.path)
        elif self.kind == "tcp_server":
            port = names[self.id].removeprefix("disconnected:tcp:127.0.0.1:").removesuffix(",server=on")
            self.socket = socket.create_connection(("127.0.0.1", int(port)))
        elif self.kind in ("client", "tcp_client"):
            self.socket, _ = self.listener.accept()

    def type(self, text):
        """Sends a line to the guest."""
        data = text.encode() + b"\r"
        if self.kind == "udp":
            self.socket.sendto(data, self.local)
        elif self.kind == "pipe":
            with open(f"{self.path}.in", "wb") as pipe:
                pipe.write(data)
        elif self.fd is not None:
            os.write(self.fd, data)
        else:
            self.socket.sendall(data)

    def read(self):
        """All that the guest has printed so far."""
        if self.kind in ("file", "stdio"):
            self.seen = content(self.path if self.kind == "file" else self.emulator.errors_path)
        elif self.kind == "ringbuf":
            self.seen += self.qmp.command("ringbuf-read", device=self.id, size=65536).encode()
        elif self.kind != "null":
            fd = self.fd if self.fd is not None else self.socket.fileno()
            while select.select([fd], [], [], 0)[0]:
                data = os.read(fd, 65536)
                if not data:
                    break
                self.seen += data
        return self.seen.decode("latin-1")

    def expect(self, text):
        """Waits until the guest has printed `text`; nothing can be known of what is written to nobody."""
        if self.kind != "null":
            try:
                eventually(f"{text!r} on {self.kind}", 30, lambda: text in self.read())
            except Failure as failure:
                raise Failure(f"{failure}; seen: {self.seen[-400:]!r}") from None


KINDS = ["null", "file", "stdio", "pty", "server", "client", "tcp_server", "tcp_client", "udp", "pipe", "ringbuf", "mux", "descriptor"]


def two_ports(first, second):
    """A guest with two serial ports of two kinds: bytes arrive on both, and it ends cleanly."""
    with tempfile.TemporaryDirectory() as folder:
        ends = [Far(first, folder, "one"), Far(second, folder, "two")]
        options = [word for end in ends for word in ("-chardev", end.option, "-serial", f"chardev:{end.id}")]
        fds = [fd for end in ends for fd in end.pass_fds]
        with Emulator(*options, "-append", "run y second-port", paused=True, console=False, memory=16, pass_fds=fds) as emulator:
            qmp = emulator.qmp()
            for end in ends:
                end.join(emulator, qmp)
            qmp.command("cont")
            ends[0].expect("READY\r\n")
            ends[1].expect("second-port")
            if ends[0].typing:
                ends[0].type("e typed")
                ends[0].expect("ECHO typed\r\n")
            if ends[0].typing and ends[1].typing:
                ends[0].type("i")
                ends[0].expect("COM2 ")
                ends[1].type("on-the-second")
                ends[0].expect("COM2 on-the-second\r\n")
            qmp.command("quit")
            expect_equal(emulator.wait(), 0, f"exit status with {first} and {second}")
            expect("warning" not in emulator.errors(), f"{first} and {second}: {emulator.errors()}")


def sweep(first):
    """Registers the check of one kind beside each other."""

    @check(f"serial: {first} beside every kind of character device, both at work")
    def pairs():
        need_kvm()
        for second in KINDS:
            if (first, second) != ("stdio", "stdio"):
                two_ports(first, second)


for kind in KINDS:
    sweep(kind)


def without_gap(data):
    """Whether `data` is the alphabet over and over."""
    return all(byte == ord("A") + at % 26 for at, byte in enumerate(data))


def slow_reader(command, device, console):
    """A guest that prints more than all queues hold to a reader that does not read at first."""
    size = 192 << 10
    with tempfile.TemporaryDirectory() as folder:
        os.mkfifo(f"{folder}/slow")
        reader = os.open(f"{folder}/slow", os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
        words = ["-chardev", f"file,id=slow,path={folder}/slow", *device, "-append", f"run {command} {size >> 10}"]
        with Emulator(*words, console=console) as emulator:
            qmp = emulator.qmp()
            eventually("the guest prints", 60, lambda: select.select([reader], [], [], 0)[0])
            time.sleep(0.5)
            for _ in range(3):
                qmp.command("stop", timeout=10)
                expect_equal(qmp.command("query-status")["status"], "paused", "run state")
                qmp.command("cont")
            seen, flood = b"", b""
            while len(flood) < size:
                expect(select.select([reader], [], [], 60)[0], f"more comes after {len(seen)} bytes")
                seen += os.read(reader, 1 << 16)
                flood = seen if console else seen.partition(b"FLOOD\r\n")[2]
            expect(without_gap(flood[:size]), "no byte is lost")
            if console:
                emulator.console.expect("DONE")
            qmp.command("quit")
            expect_equal(emulator.wait(), 0, "exit status")
        os.close(reader)


@check("serial: whoever reads slowly loses nothing, and keeps nobody from the monitor")
def slow_reader_of_a_port():
    need_kvm()
    slow_reader("f", ["-serial", "chardev:slow"], False)


@check("serial: whoever reads a debug console slowly loses nothing, and keeps nobody from the monitor")
def slow_reader_of_a_console():
    need_kvm()
    slow_reader("g", ["-device", "isa-debugcon,chardev=slow"], True)


@check("serial: a guest whose reader never reads can be ended")
def never_read():
    need_kvm()
    for end in ("quit", "SIGTERM"):
        with tempfile.TemporaryDirectory() as folder, Emulator(
            "-serial", f"unix:{folder}/stuck,server=on,wait=off", "-append", "run f 4096", paused=True, console=False
        ) as emulator:
            qmp = emulator.qmp()
            with socket.socket(socket.AF_UNIX) as reader:
                reader.connect(f"{folder}/stuck")
                qmp.command("cont")
                eventually("the guest prints", 60, lambda: select.select([reader], [], [], 0)[0])
                time.sleep(0.3)
                if end == "quit":
                    qmp.command("quit")
                else:
                    emulator.process.send_signal(signal.SIGTERM)
                expect_equal(emulator.wait(), 0, f"exit status after {end}")


@check("serial: a disk that is full and a reader that is gone are told of, and the guest goes on")
def full_or_gone():
    need_kvm()
    with tempfile.TemporaryDirectory() as folder:
        os.mkfifo(f"{folder}/fifo")
        reader = os.open(f"{folder}/fifo", os.O_RDONLY | os.O_NONBLOCK)
        for path, reason in (("/dev/full", "No space left on device"), (f"{folder}/fifo", "Broken pipe")):
            with Emulator("-serial", f"file:{path}", "-device", f"isa-serial,chardev=log", "-chardev", f"file,id=log,path={folder}/log",
                          "-append", "run y still here", paused=True, console=False) as emulator:
                qmp = emulator.qmp()
                if reader is not None and path.startswith(folder):
                    os.close(reader)
                    reader = None
                qmp.command("cont")
                eventually("the second port's file", 30, lambda: content(f"{folder}/log") == b"still here")
                qmp.command("quit")
                expect_equal(emulator.wait(), 0, "exit status")
                text = f"cannot write to '{path}': {reason}; what the guest prints is lost until that changes"
                expect_equal(emulator.errors().count(text), 1, f"how often it is told, in {emulator.errors()}")
                os.unlink(f"{folder}/log")


@check("serial: what a file holds is typed into the port")
def input_path():
    need_kvm()
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/in", "w") as file:
            file.write("from-the-file\r")
        chardev = f"file,id=c,path={folder}/out,input-path={folder}/in"
        with Emulator("-chardev", chardev, "-serial", "chardev:c", "-append", "run i") as emulator:
            emulator.console.expect("COM2 from-the-file\r\n")


@check("serial: two ports and a monitor share one character device")
def shared():
    need_kvm()
    with tempfile.TemporaryDirectory() as folder:
        chardev = f"socket,id=shared,path={folder}/shared,server=on,wait=off,mux=on"
        options = ["-chardev", chardev, "-serial", "chardev:shared", "-serial", "chardev:shared"]
        with Emulator(*options, "-mon", "chardev=shared", "-append", "run y vwxz", paused=True, console=False) as emulator:
            qmp = emulator.qmp()
            end = Far("mux", folder, "shared")
            end.join(emulator, qmp)
            qmp.command("cont")
            # The ports print at once, each in its own order. The first prints the command line too.
            eventually("the first port's READY", 30, lambda: "READY" in "".join(filter(str.isupper, end.read())))
            eventually("both ports' text", 30, lambda: sorted(c for c in end.read() if c in "vwxz") == list("vvwwxxzz"))
            # One turn of the switch reaches every user once, in the order in which they came: the monitor, then the ports,
            # of which the guest reads the first.
            for answer in ("unknown command: 'e'\r\n", "ECHO here\r\n", None):
                end.socket.sendall(b"\x01c")
                end.type("e here")
                if answer:
                    end.expect(answer)
            end.socket.sendall(b"\x01h")
            end.expect("C-a c    switch between console and monitor")
            end.socket.sendall(b"\x01x")
            expect_equal(emulator.wait(), 0, "exit status")
        chardev = "null,id=n,mux=on"
        ports = ["-serial", "chardev:n"] * 3 + ["-device", "isa-debugcon,chardev=n"]
        run = subprocess.run([binary(), *PAUSED, "-chardev", chardev, *ports, "-mon", "chardev=n"],
                             capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
        expect_equal(run.returncode, 1, "exit status with five users")
        expect("too many uses of multiplexed chardev 'n' (maximum is 4)" in run.stderr, run.stderr)


@check("serial: a port without a character device is there and prints to nobody")
def unconnected():
    need_kvm()
    with Emulator("-device", "isa-serial,index=1,wakeup=on,baudbase=921600", "-append", "run y nobody") as emulator:
        emulator.console.expect("READY")
        emulator.console.type("e after")
        emulator.console.expect("ECHO after")


@check("serial: what cannot be connected is named")
def faults():
    need_kvm()
    null = ["-chardev", "null,id=c"]
    for words, text in (
        (["-device", "isa-serial,chardev=nosuch"], "-device isa-serial,chardev=nosuch: Property 'serial.chardev' can't find value 'nosuch'"),
        (["-device", "isa-debugcon,chardev=nosuch"], "-device isa-debugcon,chardev=nosuch: Property 'isa-debugcon.chardev' can't find value 'nosuch'"),
        ([*null, *["-device", "isa-serial,chardev=c"] * 2], "-device isa-serial,chardev=c: Property 'serial.chardev' can't take value 'c': chardev 'c' is already in use"),
        ([*null, *["-serial", "chardev:c"] * 2], "-serial chardev:c: chardev 'c' is already in use"),
        (["-device", "isa-debugcon"], "-device isa-debugcon: Can't create debugcon device, empty char device"),
        (["-device", "isa-serial,irq=16"], '-device isa-serial,irq=16: Maximum value for "irq" is: 15'),
        (["-device", "isa-serial,index=4"], "-device isa-serial,index=4: Max. supported number of ISA serial ports is 4."),
        (["-device", "isa-serial"] * 5, "-device isa-serial: Max. supported number of ISA serial ports is 4."),
    ):
        run = subprocess.run([binary(), *PAUSED, *words], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
        expect_equal((run.returncode, run.stderr), (1, f"qemu-system-x86_64: {text}\n"), f"status and text of {words}")


@check("serial: what a failure is about is said on every line, as by QEMU")
def consequences():
    need_kvm()
    null = ["-chardev", "null,id=c"]
    port = "could not connect serial device to character backend"
    twice = "cannot use stdio by multiple character devices"
    virtual = "'vc' is not supported: there is no display for a virtual console"
    authorization = "'tls_authz' option requires 'tls_creds' option"
    missing = "Could not open '/nosuch/x': No such file or directory"
    for words, option, texts in (
        (["-serial", "stdio", "-serial", "stdio"], "-serial stdio", [twice, f"{port} 'stdio'"]),
        (["-serial", "stdio", "-monitor", "stdio"], "-serial stdio", [twice, f"{port} 'stdio'"]),
        (["-serial", "mon:stdio", "-serial", "stdio"], "-serial stdio", [twice, f"{port} 'stdio'"]),
        (["-qmp", "stdio", "-monitor", "stdio"], "-monitor stdio", [twice]),
        (["-chardev", "stdio,id=a", "-chardev", "stdio,id=b"], "-chardev stdio,id=b", [twice]),
        (["-serial", "stdio", "-debugcon", "stdio"], "-debugcon stdio", [twice, "invalid character backend 'stdio'"]),
        (["-serial", "stdio", "-daemonize"], "-serial stdio", ["cannot use stdio with -daemonize", f"{port} 'stdio'"]),
        (["-qmp", "stdio", "-daemonize"], "-qmp stdio", ["cannot use stdio with -daemonize"]),
        (["-serial", "chardev:nosuch"], "-serial chardev:nosuch", [f"{port} 'chardev:nosuch'"]),
        (["-serial", "foo"], "-serial foo", ["'foo' is not a valid char driver", f"{port} 'foo'"]),
        (["-serial", "null", "-serial", "file:/nosuch/x"], "-serial file:/nosuch/x", [missing, f"{port} 'file:/nosuch/x'"]),
        (["-monitor", "file:/nosuch/x"], "-monitor file:/nosuch/x", [missing]),
        (["-monitor", "foo"], "-monitor foo", ["'foo' is not a valid char driver", "parse error: foo"]),
        (["-serial", "vc"], "-serial vc", [virtual, f"{port} 'vc'"]),
        (["-serial", "vc:80Cx24C"], "-serial vc:80Cx24C", [virtual, f"{port} 'vc:80Cx24C'"]),
        (["-monitor", "vc"], "-monitor vc", [virtual]),
        (["-chardev", "vc,id=a"], "-chardev vc,id=a", [virtual]),
        (["-parallel", "vc"], "-parallel vc", ["parallel ports are not supported"]),
        (["-chardev", "socket,id=a,path=/x,tls-authz=z"], "-chardev socket,id=a,path=/x,tls-authz=z", [authorization]),
        (["-serial", "tcp:h:1,tls-authz=z"], "-serial tcp:h:1,tls-authz=z", [authorization, f"{port} 'tcp:h:1,tls-authz=z'"]),
        (["-debugcon", "vc"], "-debugcon vc", [virtual, "invalid character backend 'vc'"]),
        (["-debugcon", "none"], "-debugcon none", ["'none' is not a valid char driver", "invalid character backend 'none'"]),
        (["-debugcon", "chardev:nosuch"], "-debugcon chardev:nosuch", ["invalid character backend 'chardev:nosuch'"]),
        (["-debugcon", "file:/nosuch/x"], "-debugcon file:/nosuch/x", [missing, "invalid character backend 'file:/nosuch/x'"]),
        (["-device", "pvpanic,id=debugcon", "-debugcon", "null"], "-debugcon null", ["already have a debugcon device"]),
        (["-debugcon", "null"] * 2, "-debugcon null", ["Duplicate ID 'debugcon' for chardev", "invalid character backend 'null'"]),
        ([*null, "-serial", "chardev:c", "-debugcon", "chardev:c"], "-debugcon chardev:c",
         ["Property 'isa-debugcon.chardev' can't take value 'c': chardev 'c' is already in use"]),
    ):
        run = subprocess.run([binary(), *PAUSED, *words], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
        lines = "".join(f"qemu-system-x86_64: {option}: {text}\n" for text in texts)
        expect_equal((run.returncode, run.stderr), (1, lines), f"status and text of {words}")


@check("serial: -debugcon is a console at port 0xe9, on every kind of device")
def debug_console():
    need_kvm()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/out"
        for words, label in (
            (["-debugcon", f"file:{path}"], "debugcon"),
            (["-chardev", f"file,id=c,path={path}", "-debugcon", "chardev:c"], "c"),
            (["-debugcon", "null"], "debugcon"),
            (["-debugcon", "stdio"], "debugcon"),
            (["-debugcon", f"file:{path}", "-chardev", f"file,id=two,path={path}.2", "-device", "isa-debugcon,iobase=0x402,chardev=two"], "debugcon"),
        ):
            with Emulator(*words, "-append", "run g 1") as emulator:
                qmp = emulator.qmp()
                emulator.console.expect("DONE")
                expect(label in [chardev["label"] for chardev in qmp.command("query-chardev")], f"{label} with {words}")
                devices = qmp.command("qom-list", path="/machine/peripheral")
                expect({"name": "debugcon", "type": "child<isa-debugcon>"} in devices, f"{devices} with {words}")
                expect_equal(qmp.command("qom-get", path="/machine/peripheral/debugcon", property="iobase"), 0xE9, "port")
                qmp.command("quit")
                expect_equal(emulator.wait(), 0, f"exit status with {words}")
                printed = {"null": b"", "stdio": emulator.errors().encode()}.get(words[-1], None)
                printed = content(path) if printed is None else printed
                expect_equal(len(printed), 0 if words[-1] == "null" else 1024, f"bytes printed with {words}")
                expect(without_gap(printed), f"all bytes are there with {words}")
                expect_equal(content(f"{path}.2"), b"", "what the other console printed")
            if os.path.exists(path):
                os.unlink(path)


@check("serial: a guest that waits for the reader of a named pipe can be ended, and starts when there is one")
def waiting_for_reader():
    need_kvm()
    with tempfile.TemporaryDirectory() as folder:
        os.mkfifo(f"{folder}/fifo")
        with Emulator("-serial", f"file:{folder}/fifo", console=False) as emulator:
            time.sleep(0.5)
            expect_equal(emulator.process.poll(), None, "exit status while it waits")
            emulator.process.send_signal(signal.SIGTERM)
            expect(emulator.wait(10) is not None, "it ends")
        with Emulator("-serial", f"file:{folder}/fifo", console=False) as emulator:
            time.sleep(0.2)
            reader = os.open(f"{folder}/fifo", os.O_RDONLY)
            seen = b""
            while b"READY" not in seen:
                expect(select.select([reader], [], [], 30)[0], f"the guest prints; so far {seen!r}")
                seen += os.read(reader, 4096)
            os.close(reader)
