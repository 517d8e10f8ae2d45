"""Monitors on every kind of chardev: several at once, one after the other, on TCP, on a passed socket, human ones."""

import os
import pty
import select
import socket
import subprocess
import tempfile

from harness.checks import Skip, check, expect, expect_equal
from harness.emulator import CPU, Console, Emulator, binary, is_ours, need_kvm, test_guest
from harness.qmp import Qmp, connect


@check("monitors: a second client waits for the first to leave and then negotiates anew")
def one_after_the_other():
    with Emulator(machine="none") as emulator:
        first = emulator.qmp()
        second = connect(emulator.qmp_path)
        expect(not select.select([second], [], [], 0.3)[0], "the second client gets nothing while the first is there")
        expect_equal(first.command("query-name"), {}, "reply to the first")
        first.close()
        expect(b'"QMP"' in second.recv(65536), "the second client is greeted")
        second.sendall(b'{"execute":"query-name"}')
        expect(b"CommandNotFound" in second.recv(65536), "the second client has to negotiate")
        second.close()


@check("monitors: clients that leave before their reply do not confuse the next")
def gone_early():
    if not is_ours(binary()):
        raise Skip("this emulator hands late replies to the next client")
    with Emulator(machine="none") as emulator:
        for _ in range(20):
            client = emulator.qmp()
            client.send({"execute": "query-qmp-schema"})
            client.close()
        expect_equal(emulator.qmp().command("query-name"), {}, "reply after clients that left early")


@check("monitors: all negotiated monitors get every event")
def many_at_once():
    need_kvm()
    with tempfile.TemporaryDirectory() as directory:
        paths = [f"{directory}/{number}" for number in range(5)]
        extra = [word for path in paths for word in ("-qmp", f"unix:{path},server=on,wait=off")]
        with Emulator(*extra, paused=True, guest=False) as emulator:
            main = emulator.qmp()
            others = [Qmp(path) for path in paths[:4]]
            silent = Qmp(paths[4], negotiate=False)
            main.command("cont")
            main.command("stop")
            for monitor in [main, *others]:
                monitor.wait_event("RESUME")
                monitor.wait_event("STOP")
            silent.send({"execute": "qmp_capabilities"})
            expect_equal(silent.read(), {"return": {}}, "first message to a monitor that had not negotiated")
            others[0].close()
            others[1].command("cont")
            others[2].wait_event("RESUME")
            expect_equal(others[3].command("query-status")["status"], "running", "status on another monitor")


@check("monitors: on TCP")
def tcp():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Emulator("-qmp", f"tcp:127.0.0.1:{port},server=on,wait=off", machine="none") as emulator:
        expect_equal(Qmp(("127.0.0.1", port)).command("query-name"), {}, "reply")
        emulator.qmp()


@check("monitors: on a listening socket passed by number, as libvirt does it")
def passed_socket():
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/monitor.sock"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(1)
        chardev = f"socket,id=charmonitor,fd={listener.fileno()},server=on,wait=off"
        monitor = "chardev=charmonitor,id=monitor,mode=control"
        with Emulator("-chardev", chardev, "-mon", monitor, machine="none", pass_fds=[listener]) as emulator:
            expect_equal(Qmp(path).command("query-name"), {}, "reply")
            expect_equal(Qmp(path).command("query-name"), {}, "reply to the next client")
            labels = [c["label"] for c in emulator.qmp().command("query-chardev")]
            expect("charmonitor" in labels, f"chardevs {labels}")


@check("monitors: the human monitor")
def human():
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/hmp"
        with Emulator("-monitor", f"unix:{path},server=on,wait=off", machine="none") as emulator:
            stream = connect(path)
            stream.settimeout(20)

            def answer(line):
                stream.sendall(line + b"\n")
                text = b""
                while not text.rstrip().endswith(b"(qemu)"):
                    text += stream.recv(65536)
                return text

            greeting = b""
            while b"(qemu)" not in greeting:
                greeting += stream.recv(65536)
            expect(b"monitor - type 'help' for more information" in greeting, f"greeting {greeting!r}")
            expect(b"VM status: " in answer(b"info status"), "info status")
            expect(b"unknown command: 'frobnicate'" in answer(b"frobnicate"), "an unknown command")
            qmp = emulator.qmp()
            expect(qmp.hmp("info status").startswith("VM status: "), "info status by QMP")
            expect("unknown command: 'frobnicate'" in qmp.hmp("frobnicate x"), "an unknown command by QMP")


@check("monitors: with -nographic the terminal is the guest's, and the monitor's after C-a c")
def terminal():
    need_kvm()
    ours, theirs = pty.openpty()
    command = [binary(), "-machine", "q35,accel=kvm", "-cpu", CPU, "-m", "128", "-kernel", test_guest(), "-nographic"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    console = Console(ours)
    try:
        console.expect("READY")
        console.type("e to the guest")
        console.expect("ECHO to the guest")
        expect(b"(qemu)" not in console.seen, "the monitor says nothing before it is asked")
        os.write(ours, b"\x01c")
        console.expect("monitor - type 'help' for more information")
        console.expect("(qemu) ")
        console.type("info status")
        console.expect("VM status: running")
        os.write(ours, b"\x01c")
        console.type("e to the guest again")
        console.expect("ECHO to the guest again")
        os.write(ours, b"\x01x")
        console.expect("QEMU: Terminated")
        expect_equal(process.wait(20), 0, "exit status")
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@check("monitors: pretty=on spreads a reply over lines")
def pretty():
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/pretty"
        chardev = ["-chardev", f"socket,id=c,path={path},server=on,wait=off"]
        with Emulator(*chardev, "-mon", "chardev=c,mode=control,pretty=on", machine="none"):
            stream = connect(path)
            stream.settimeout(20)
            text = b""
            while text.count(b"{") != text.count(b"}") or not text:
                text += stream.recv(65536)
            expect(text.startswith(b"{\r\n") or text.startswith(b"{\n"), f"the greeting {text[:40]!r}")
