"""Monitors on every kind of chardev: several at once, one after the other, on TCP, on a passed socket, human ones."""

import os
import pty
import select
import socket
import subprocess
import tempfile

from harness import firmware
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


def next_client(path):
    """The reply of a new client that asks for the name, once it is greeted."""
    client = Qmp(path, timeout=20)
    reply = client.command("query-name")
    client.close()
    return reply


@check("monitors: a client that has said all and does not read its answers keeps nobody out")
def half_closed():
    if not is_ours(binary()):
        raise Skip("this emulator hands late replies to the next client")
    with Emulator(machine="none") as emulator:
        emulator.qmp().close()
        for count in (1, 10, 60):
            lazy = connect(emulator.qmp_path)
            lazy.sendall(b'{"execute":"qmp_capabilities"}' + b'{"execute":"query-qmp-schema"}' * count)
            lazy.shutdown(socket.SHUT_WR)
            expect_equal(next_client(emulator.qmp_path), {}, f"reply beside {count} unread answers")
            lazy.close()


@check("monitors: a client that has said all gets every answer if nobody waits")
def answers_after_the_end():
    with Emulator(machine="none") as emulator:
        emulator.qmp().close()
        client = connect(emulator.qmp_path)
        client.sendall(b'{"execute":"qmp_capabilities"}' + b'{"execute":"query-name"}' * 10)
        client.shutdown(socket.SHUT_WR)
        said = b""
        while data := client.recv(65536):
            said += data
        if is_ours(binary()):
            expect_equal(said.count(b'{"return": {}}'), 11, f"answers in {said!r}")


@check("monitors: a client that dies while its command waits keeps nobody out")
def dead_beside_its_command():
    if not is_ours(binary()):
        raise Skip("this emulator does nothing else while it waits")
    with tempfile.TemporaryDirectory() as directory, Emulator(machine="none") as emulator:
        for number, oob in enumerate((False, True)):
            path = f"{directory}/{number}"
            server = {"addr": {"type": "unix", "data": {"path": path}}, "server": True, "wait": True}
            backend = {"type": "socket", "data": server}
            client = emulator.qmp(oob=oob)
            client.send({"execute": "chardev-add", "arguments": {"id": f"w{number}", "backend": backend}})
            client.send(b'{"execute":"query-name"}' * 20)
            client.close()
            expect_equal(next_client(emulator.qmp_path), {}, "reply to the next client")
            connect(path, timeout=20).close()
            expect_equal(next_client(emulator.qmp_path), {}, "reply once the command is done")


@check("monitors: what was received before a client hung up is carried out, by machines and people alike")
def hang_up_at_once():
    need_kvm()
    if not is_ours(binary()):
        raise Skip("this emulator forgets what waits when its client hangs up")
    with tempfile.TemporaryDirectory() as directory:
        human, program = f"{directory}/human", f"{directory}/qmp"
        arguments = ["-monitor", f"unix:{human},server=on,wait=off", "-qmp", f"unix:{program},server=on,wait=off"]
        with Emulator(*arguments, guest=False, console=False, paused=True, memory=16) as emulator:
            watcher = emulator.qmp()
            for path, line in [
                (human, b"system_powerdown\n"),
                (program, b'{"execute":"qmp_capabilities"}{"execute":"system_powerdown"}'),
            ] * 10:
                client = connect(path)
                client.sendall(line)
                client.close()
                watcher.wait_event("POWERDOWN")


@check("monitors: the first answer finds a guest that runs, unless it was to wait")
def runs_at_once():
    need_kvm()
    for _ in range(5):
        with Emulator(guest=False, console=False, memory=16) as emulator:
            expect_equal(emulator.qmp().command("query-status")["status"], "running", "status without -S")
    for paused, status in ((False, "running"), (True, "prelaunch")):
        with Emulator(machine="none", paused=paused) as emulator:
            qmp = emulator.qmp()
            expect_equal(qmp.command("query-status")["status"], status, "status of a machine without a guest")
            qmp.command("cont")
            expect_equal(qmp.command("query-status")["status"], "running", "after cont")
            qmp.command("stop")
            expect_equal(qmp.command("query-status")["status"], "paused", "after stop")


@check("monitors: a guest that makes events without end keeps nobody from asking, stopping and ending it")
def event_flood():
    need_kvm()
    flood = firmware.repeat(firmware.out(0x505, 2) + firmware.out(0x505, 2))
    with tempfile.NamedTemporaryFile() as image:
        firmware.write(image.name, flood)
        arguments = ["-bios", image.name, "-device", "pvpanic", "-smp", "2"]
        with Emulator(*arguments, guest=False, console=False, paused=True, memory=16) as emulator:
            reader = emulator.qmp()
            reader.command("cont")
            for _ in range(100):
                expect_equal(reader.command("query-status")["status"], "running", "status")
            reader.command("stop")
            reader.events.clear()
            expect_equal(reader.command("query-status")["status"], "paused", "status after stop")
            reader.command("cont")
            reader.command("quit")
            expect_equal(emulator.wait(), 0, "exit status")
