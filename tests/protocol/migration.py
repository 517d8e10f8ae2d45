"""Guests that move: into files and back, over sockets and programs, from QEMU and to it."""

import os
import pathlib
import random
import re
import shutil
import socket
import subprocess
import tempfile

from harness.checks import Skip, check, eventually, expect, expect_equal
from harness.emulator import Emulator, need_kvm, test_guest
from harness.qmp import QmpError
from protocol.ports import Client, is_open

QEMU = "/usr/bin/qemu-system-x86_64"

def beating(*arguments, program=None, machine="pc-q35-7.2", **options):
    """An emulator whose guest rewrites its memory and counts on its console, with a monitor as `.monitor`."""
    need_kvm()
    firmware = pathlib.Path(test_guest()).with_name("beat.bin")
    emulator = Emulator(
        "-bios", str(firmware), "-cpu", "qemu64", *arguments,
        guest=False, memory=16, machine=machine, program=program, **options,
    )  # fmt: skip
    try:
        emulator.monitor = emulator.qmp()
        emulator.monitor.command("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    except BaseException:
        emulator.stop()
        raise
    return emulator


def awaiting(source="defer", **options):
    """The other side."""
    return beating("-incoming", source, **options)


def beats(emulator, count=3):
    """Reads so many beats; returns the number of the last, after a look at all that were seen so far."""
    for _ in range(count):
        emulator.console.expect("\n")
    return last_beat(emulator)


def beats_in(text):
    return [int(number, 16) for number in re.findall(r"B([0-9a-f]{8})\n", text)]


def last_beat(emulator):
    text = emulator.console.seen.decode()
    expect("X" not in text, f"the guest lost something: {text[-60:]!r}")
    numbers = beats_in(text)
    expect(numbers, "no beat")
    expect_equal(numbers, list(range(numbers[0], numbers[0] + len(numbers))), "beats in sequence")
    return numbers[-1]


def check_sequence(source, target):
    """The beats of both, one after the other, are in sequence."""
    beats(target)

    def is_whole():
        drain(source)
        numbers = beats_in((source.console.seen + target.console.seen).decode())
        return numbers == list(range(numbers[0], numbers[0] + len(numbers)))

    # What the source said last may still be on its way.
    eventually("the beats of both are in sequence", 20, is_whole)
    source.console.seen += target.console.seen
    last_beat(source)


def drain(emulator):
    os.set_blocking(emulator.console.fd, False)
    try:
        while data := os.read(emulator.console.fd, 1 << 16):
            emulator.console.seen += data
    except BlockingIOError:
        pass
    os.set_blocking(emulator.console.fd, True)


def status(emulator):
    return emulator.monitor.command("query-status")["status"]


def migration(emulator):
    return emulator.monitor.command("query-migrate")


def ended(emulator, wanted="completed"):
    """Waits for the end of a migration, which is to be this one."""
    final = ("completed", "failed", "cancelled")
    eventually("the migration ends", 60, lambda: migration(emulator).get("status") in final)
    info = migration(emulator)
    expect_equal(info["status"], wanted, f"status of the migration ({info.get('error-desc')})")
    return info


def steps(emulator):
    """What the events so far told of the migration and the run state."""
    told = []
    for event in emulator.monitor.events:
        match event["event"]:
            case "MIGRATION":
                told.append(event["data"]["status"])
            case "STOP" | "RESUME" as name:
                told.append(name)
    return told


def set_capabilities(emulator, **capabilities):
    emulator.monitor.command(
        "migrate-set-capabilities",
        capabilities=[{"capability": name.replace("_", "-"), "state": state} for name, state in capabilities.items()],
    )


def moved(source, target, uri, source_uri=None):
    """Moves a guest, and looks whether it goes on where it was."""
    beats(source)
    target.monitor.command("migrate-incoming", uri=uri)
    source.monitor.command("migrate", uri=source_uri or uri)
    info = ended(source)
    ended(target)
    expect_equal(status(source), "postmigrate", "run state of the source")
    expect_equal(status(target), "running", "run state of the target")
    check_sequence(source, target)
    return info


@check("migration: into a file and back, stopped and started")
def save_and_restore():
    with tempfile.TemporaryDirectory() as folder, beating() as source:
        last = beats(source)
        source.monitor.command("stop")
        source.monitor.command("migrate", uri=f"file:{folder}/saved")
        info = ended(source)
        expect_equal(info["ram"]["remaining"], 0, "bytes that remain")
        expect(info["ram"]["duplicate"] > 0 and info["ram"]["normal"] >= 512, f"pages: {info['ram']}")
        expect_equal(status(source), "postmigrate", "run state of the source")
        expect_equal(steps(source), ["STOP", "setup", "active", "device", "completed"], "steps of the source")
        for paused in (True, False):
            with awaiting(paused=paused) as target:
                expect_equal(status(target), "inmigrate", "run state of the target")
                target.monitor.command("migrate-incoming", uri=f"file:{folder}/saved")
                ended(target)
                # The source was stopped: so is the target, whatever it was told.
                expect_equal(status(target), "paused", "run state of the target")
                expect_equal(steps(target), ["setup", "active", "completed"], "steps of the target")
                target.monitor.command("cont")
                beats(target)
                check_sequence(source, target)
                source.console.seen = source.console.seen[: source.console.mark]
        expect(last < last_beat(source) + 1, "beats of the source")
        # It has not gone for good: a guest that was saved may go on here.
        source.monitor.command("cont")
        expect_equal(status(source), "running", "run state of the source")
        beats(source)


@check("migration: live over unix, tcp, a file with an offset, a program, and a passed socket")
def live():
    with tempfile.TemporaryDirectory() as folder:
        unix = f"unix:{folder}/socket"
        with beating() as source, awaiting() as target:
            info = moved(source, target, unix)
            expect(not os.path.exists(f"{folder}/socket"), "the socket's file is gone")
            expect(info["downtime"] >= 0 and info["total-time"] >= info["downtime"], f"times: {info}")
            expect("STOP" in steps(source), "the source told of its stop")
            expect_equal(steps(target)[-2:], ["RESUME", "completed"], "steps of the target")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with beating() as source, awaiting() as target:
            moved(source, target, f"tcp:127.0.0.1:{port}")
        with beating() as source, awaiting() as target:
            ours, theirs = socket.socketpair()
            source.monitor.command("getfd", fds=[ours.fileno()], fdname="out")
            target.monitor.command("getfd", fds=[theirs.fileno()], fdname="in")
            ours.close()
            theirs.close()
            moved(source, target, "fd:in", "fd:out")
        for leave, arrive in [
            (f"file:{folder}/f,offset=0x1000", f"file:{folder}/f,offset=4096"),
            (f"exec:cat > {folder}/e", f"exec:cat {folder}/e"),
        ]:
            with beating() as source, awaiting() as target:
                beats(source)
                source.monitor.command("migrate", uri=leave)
                ended(source)
                if leave.startswith("exec"):
                    eventually("the program ends", 20, lambda: (pathlib.Path(folder) / "e").stat().st_size > 1 << 20)
                target.monitor.command("migrate-incoming", uri=arrive)
                ended(target)
                check_sequence(source, target)
        with beating() as source, awaiting(unix) as target:
            beats(source)
            channel = {"transport": "socket", "type": "unix", "path": f"{folder}/socket"}
            eventually("the target listens", 20, lambda: os.path.exists(f"{folder}/socket"))
            source.monitor.command("migrate", channels=[{"channel-type": "main", "addr": channel}])
            ended(source)
            ended(target)
            check_sequence(source, target)


@check("migration: the source waits before the switch, and is told how it went")
def switchover():
    with tempfile.TemporaryDirectory() as folder, beating() as source, awaiting(paused=True) as target:
        set_capabilities(source, pause_before_switchover=True, return_path=True)
        set_capabilities(target, return_path=True, late_block_activate=True)
        beats(source)
        target.monitor.command("migrate-incoming", uri=f"unix:{folder}/socket")
        source.monitor.command("migrate", uri=f"unix:{folder}/socket")
        eventually("the source waits", 30, lambda: migration(source)["status"] == "pre-switchover")
        expect_equal(status(source), "finish-migrate", "run state of the source")
        try:
            source.monitor.command("cont")
            expect(False, "cont works in the middle of a migration")
        except QmpError as error:
            expect_equal(error.desc, "Migration is not finalized yet", "cont")
        source.monitor.command("migrate-continue", state="pre-switchover")
        ended(source)
        ended(target)
        wanted = ["setup", "active", "STOP", "pre-switchover", "device", "completed"]
        expect_equal(steps(source), wanted, "steps of the source")
        expect_equal(status(target), "paused", "run state of the target")
        target.monitor.command("cont")
        check_sequence(source, target)


@check("migration: cancelled on the way and before the switch, then done after all")
def cancelled():
    with tempfile.TemporaryDirectory() as folder, beating() as source:
        for capability in (False, True):
            with awaiting() as target:
                set_capabilities(source, pause_before_switchover=capability)
                bandwidth = 128 << 20 if capability else 1 << 20
                source.monitor.command("migrate-set-parameters", **{"max-bandwidth": bandwidth})
                target.monitor.command(
                    "migrate-incoming", uri=f"unix:{folder}/socket", **{"exit-on-error": False}
                )
                beats(source)
                source.monitor.command("migrate", uri=f"unix:{folder}/socket")
                wanted = "pre-switchover" if capability else "active"
                eventually(wanted, 30, lambda: migration(source)["status"] == wanted)
                source.monitor.command("migrate_cancel")
                ended(source, "cancelled")
                expect_equal(status(source), "running", "run state of the source")
                expect("the stream ends" in ended(target, "failed")["error-desc"], "the target says why")
                expect_equal(status(target), "inmigrate", "run state of the target")
                target.monitor.command("cont")
                expect_equal(status(target), "inmigrate", "run state of the target after cont")
        beats(source)
        set_capabilities(source, pause_before_switchover=False)
        source.monitor.command("migrate_cancel")
        with awaiting() as target:
            moved(source, target, f"unix:{folder}/socket")


@check("migration: there and back ten times")
def there_and_back():
    with tempfile.TemporaryDirectory() as folder:
        source = beating()
        try:
            for round_ in range(10):
                target = awaiting()
                try:
                    moved(source, target, f"unix:{folder}/{round_}")
                except BaseException:
                    target.stop()
                    raise
                source.stop()
                source = target
        finally:
            source.stop()


def refusal(emulator, command, **arguments):
    """The text of the error that a command gets."""
    try:
        emulator.monitor.command(command, **arguments)
    except QmpError as error:
        return error.desc
    return None


@check("migration: what cannot be is refused, and nothing has changed")
def refused():
    with beating() as source:
        for arguments, text in [
            ({}, "neither 'uri' or 'channels' argument are specified in 'migrate' qmp command "),
            ({"uri": "rdma:host:1"}, "unknown migration protocol: rdma:host:1"),
            ({"uri": "fd:none"}, "File descriptor named 'none' has not been found"),
            ({"uri": "file:/nonexistent/x"}, "Failed to open '/nonexistent/x': No such file or directory"),
            ({"uri": "exec:x", "resume": True}, "Cannot resume if there is no paused migration"),
        ]:
            expect_equal(refusal(source, "migrate", **arguments), text, f"migrate {arguments}")
        expect_equal(
            refusal(source, "migrate-incoming", uri="tcp:x:1"),
            "'-incoming' was not specified on the command line", "migrate-incoming",
        )  # fmt: skip
        text = refusal(source, "migrate-continue", state="pre-switchover")
        expect("Migration not in expected state" in text, text)
        # Nobody listens there.
        source.monitor.command("migrate", uri="unix:/nonexistent/socket")
        expect("/nonexistent/socket" in ended(source, "failed")["error-desc"], "the reason is told")
        expect_equal(status(source), "running", "run state")
        beats(source)
        limit = refusal(source, "migrate-set-parameters", **{"downtime-limit": 2_000_001})
        expect("0 to 2000000" in limit, limit)
        parameters = source.monitor.command("query-migrate-parameters")
        source.monitor.command("migrate-set-parameters", **parameters)
        expect_equal(source.monitor.command("query-migrate-parameters"), parameters, "parameters")
    with awaiting() as target:
        expect_equal(refusal(target, "migrate", uri="exec:true"), "Guest is waiting for an incoming migration", "migrate")


@check("migration: a stream that is cut or has a wrong byte is refused, and what is wrong is named")
def broken_streams():
    chance = random.Random(11)
    with tempfile.TemporaryDirectory() as folder, beating() as source:
        beats(source)
        source.monitor.command("migrate", uri=f"file:{folder}/good")
        ended(source)
        good = (pathlib.Path(folder) / "good").read_bytes()
        description = good.rindex(b'{"configuration"')
        devices = good.rindex(b"\x04apic") - 5
        streams = {f"cut at {at}": good[:at] for at in [0, 4, 40, chance.randrange(devices), devices + 3, description - 100]}
        for _ in range(6):
            at = chance.randrange(devices, description - 5)
            # The kind of a section, its name, length or content: anything.
            streams[f"byte {at} changed"] = good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :]
        streams["another machine"] = good.replace(b"pc-q35-7.2", b"pc-q35-8.0", 1)
        named = {"another machine": "Machine type received is 'pc-q35-8.0' and local is 'pc-q35-7.2'"}
        for what, stream in streams.items():
            (pathlib.Path(folder) / "bad").write_bytes(stream)
            with awaiting() as target:
                target.monitor.command("migrate-incoming", uri=f"file:{folder}/bad", **{"exit-on-error": False})
                eventually(what, 30, lambda: migration(target)["status"] in ("completed", "failed"))
                info = migration(target)
                expect_equal(info["status"] == "failed", status(target) == "inmigrate", f"{what}: status and run state")
                if "changed" not in what:
                    expect_equal(info["status"], "failed", what)
                    expect(named.get(what, "the stream ends in the middle of") in info["error-desc"], f"{what}: {info}")
        with awaiting() as target:
            target.monitor.command("migrate-incoming", uri=f"file:{folder}/bad")
            expect_equal(target.wait(), 1, "exit status of a target that is to end")
            expect("load of migration failed: Machine type" in target.errors(), target.errors())


def need_qemu():
    """QEMU 7.2, to which guests of pc-q35-7.2 move."""
    text = ""
    if shutil.which(QEMU):
        text = subprocess.run([QEMU, "-version"], capture_output=True, text=True, timeout=30).stdout
    if "version 7.2" not in text:
        raise Skip(f"{QEMU} is not QEMU 7.2")


@check("migration: from QEMU 7.2 and to it, live and through a file")
def with_qemu():
    need_qemu()
    with tempfile.TemporaryDirectory() as folder:
        for source_program, target_program in [(QEMU, None), (None, QEMU)]:
            with beating(program=source_program) as source, awaiting(program=target_program) as target:
                moved(source, target, f"unix:{folder}/socket")
            with beating(program=source_program) as source, awaiting(program=target_program) as target:
                beats(source)
                source.monitor.command("migrate", uri=f"exec:cat > {folder}/saved")
                ended(source)
                size = lambda: (pathlib.Path(folder) / "saved").stat().st_size  # noqa: E731
                eventually("the program ends", 20, lambda: size() > 1 << 20)
                target.monitor.command("migrate-incoming", uri=f"exec:cat {folder}/saved")
                ended(target)
                check_sequence(source, target)


def serving(path, *arguments, program=None, **options):
    """An emulator with the test guest, a source of random bytes, and a port of virtio-serial whose host's end is at `path`."""
    need_kvm()
    devices = ["-cpu", "qemu64", "-object", "rng-builtin,id=source", "-device", "pcie-root-port,id=root,chassis=1,addr=4"]
    devices += ["-device", "virtio-rng-pci,rng=source,bus=root", "-device", "virtio-rng-pci,rng=source,addr=6"]
    devices += ["-chardev", f"socket,id=port,path={path},server=on,wait=off", "-device", "virtio-serial-pci,id=vs,addr=5"]
    devices += ["-device", "virtserialport,bus=vs.0,chardev=port,id=p1,nr=1,name=org.example.port"]
    emulator = Emulator(*devices, *arguments, machine="pc-q35-7.2", program=program, **options)
    try:
        emulator.monitor = emulator.qmp()
    except BaseException:
        emulator.stop()
        raise
    return emulator


def moved_while_serving(source_program, target_program):
    """Moves a guest that has a port open, between these two, and talks to it at both ends."""
    with tempfile.TemporaryDirectory() as folder, serving(f"{folder}/a", program=source_program) as source:
        source.console.expect("READY")
        source.console.type("v")
        source.console.expect("PORT 1 name org.example.port")
        client = Client(f"{folder}/a")
        client.say(b"before\n")
        expect_equal(client.line(), b"before\n", "echo at the source")
        with serving(f"{folder}/b", "-incoming", "defer", program=target_program) as target:
            target.monitor.command("migrate-incoming", uri=f"unix:{folder}/socket")
            source.monitor.command("migrate", uri=f"unix:{folder}/socket")
            ended(source)
            ended(target)
            client.close()
            eventually("the port is open at the target", 20, lambda: is_open(target.monitor, "port"))
            client = Client(f"{folder}/b")
            client.say(b"after\n")
            expect_equal(client.line(), b"after\n", "echo at the target")
            for number in range(10):
                line = f"{number} ".encode() + b"x" * 2000 + b"\n"
                client.say(line)
                expect_equal(client.line(), line, "a long echo at the target")
            target.console.type("")
            target.console.expect("NO MORE PORTS")
            # The driver starts anew there.
            target.console.type("v")
            target.console.expect("PORT 1 name org.example.port")


@check("migration: a driver of virtio-serial goes on with its port open")
def with_ports():
    moved_while_serving(None, None)


@check("migration: a driver of virtio-serial goes on with its port open, from QEMU 7.2 and to it")
def with_ports_of_qemu():
    need_qemu()
    moved_while_serving(QEMU, None)
    moved_while_serving(None, QEMU)


@check("migration: what a guest wrote and nobody has read yet is read at the target, once and whole")
def with_a_slow_reader():
    with tempfile.TemporaryDirectory() as folder, serving(f"{folder}/a") as source:
        source.console.expect("READY")
        source.console.type("v")
        client = Client(f"{folder}/a")
        source.console.expect("PORT 1 connected")
        # Nobody reads the answers, so that they come to fill everything up to the guest's buffers.
        said = b"".join(f"{number:07}".encode() + (b"\n" if number % 100 == 99 else b" ") for number in range(400_000))
        client.socket.settimeout(2)
        sent = 0
        try:
            while sent < len(said):
                sent += client.socket.send(said[sent : sent + 65536])
            expect(False, "all that was said found room")
        except TimeoutError:
            pass
        with serving(f"{folder}/b", "-incoming", "defer") as target:
            # What the guest says while nobody is there is heard by nobody.
            second = Client(f"{folder}/b")
            target.monitor.command("migrate-incoming", uri=f"unix:{folder}/socket")
            source.monitor.command("migrate", uri=f"unix:{folder}/socket")
            ended(source)
            ended(target)
            # It ends the line that the guest has half of.
            second.say(b"\nend\n")
            heard = b""
            while not heard.endswith(b"\nend\n"):
                heard += second.line()
            heard = heard.removesuffix(b"\nend\n")
            expect(len(heard) > 16, f"the target said nothing of before: {heard}")
            # Sixteen characters are nowhere else.
            begins = said.index(heard[:16])
            expect_equal(heard, said[begins : begins + len(heard)], "what the target said")
            client.socket.settimeout(60)
            got = b""
            while len(got) < begins:
                data = client.socket.recv(1 << 16)
                expect(data, f"the source's end comes after {len(got)} of {begins} characters")
                got += data
            expect_equal(len(got), begins, "characters that the source said")
            expect(got == said[:begins], "what the source said is in sequence")
