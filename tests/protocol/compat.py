"""-compat: what QMP clients are to do without, for tests of those clients."""

import subprocess
import tempfile

from harness.checks import check, eventually, expect, expect_equal
from harness.emulator import Emulator, binary, need_kvm
from harness.qmp import Qmp, QmpError

OLD = {"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": "/nowhere"}}, "reconnect": 1, "server": False}}
NEW = {"type": "null", "data": {}}


def refusal(monitor, backend):
    """Class and text of the error of a chardev-add; nothing if it works."""
    try:
        monitor.command("chardev-add", id="c", backend=backend)
    except QmpError as error:
        return error.error_class, error.desc
    monitor.command("chardev-remove", id="c")
    return None


@check("compat: a client that is to do without what goes away is told when it uses that, and each other is too")
def rejected():
    text = "Deprecated parameter reconnect disabled by policy"
    cases = [
        ([], None),
        (["-compat", "deprecated-input=accept,unstable-input=reject"], None),
        (["-compat", "deprecated-input=reject"], ("GenericError", text)),
        (["-compat", "{'deprecated-input': 'reject'}", "-compat", "unstable-output=hide"], ("GenericError", text)),
        (["-compat", "deprecated-input=reject", "-compat", "deprecated-input=accept"], None),
    ]
    for options, expected in cases:
        with (
            tempfile.TemporaryDirectory() as folder,
            Emulator(*options, "-qmp", f"unix:{folder}/second,server=on,wait=off", machine="none") as emulator,
        ):
            for monitor in (emulator.qmp(), Qmp(f"{folder}/second")):
                expect_equal(refusal(monitor, OLD), expected, f"{options}: what goes away")
                expect_equal(refusal(monitor, NEW), None, f"{options}: what stays")


@check("compat: what may change is refused as well, in a guest's worker too; people and the command line are not concerned")
def unstable():
    need_kvm()
    old = "memory-backend-ram,size=4096,x-use-canonical-path-for-ramblock-id=on"
    options = ["-compat", "unstable-input=reject", "-object", f"{old},id=first"]
    with Emulator(*options, guest=False, console=False, paused=True) as emulator:
        monitor = emulator.qmp()
        backend = {"qom-type": "memory-backend-ram", "size": 4096}
        monitor.command("object-add", id="second", **backend)
        try:
            monitor.command("object-add", id="third", **backend, **{"x-use-canonical-path-for-ramblock-id": True})
        except QmpError as error:
            text = "Unstable parameter x-use-canonical-path-for-ramblock-id disabled by policy"
            expect_equal(error.desc, text, "object-add")
        else:
            expect(False, "object-add was taken")
        expect_equal(monitor.hmp(f"object_add {old},id=third"), "", "object_add")


@check("compat: with crash, the use of it ends the emulator and is said to be why")
def crash():
    need_kvm()
    with Emulator("-compat", "deprecated-input=crash", guest=False, console=False, paused=True) as emulator:
        emulator.qmp().send({"execute": "chardev-add", "arguments": {"id": "c", "backend": OLD}})
        eventually("the emulator ends", 20, lambda: emulator.process.poll() is not None)
        expect(emulator.process.returncode != 0, "the status is not zero")
        expect("Deprecated parameter reconnect disabled by policy" in emulator.errors(), emulator.errors())


@check("compat: the schema tells nothing that goes away, if that is to be hidden")
def hidden():
    with Emulator(machine="none") as emulator:
        whole = emulator.qmp().command("query-qmp-schema")
    with Emulator("-compat", "deprecated-output=hide,unstable-output=hide", machine="none") as emulator:
        told = {entry["name"]: entry for entry in emulator.qmp().command("query-qmp-schema")}
    for entry in whole:
        expected = dict(entry)
        expected.pop("values", None)
        if entry["meta-type"] == "object":
            members = [member for member in entry["members"] if "deprecated" not in member.get("features", [])]
            expected["members"] = members
        if "deprecated" in entry.get("features", []):
            expected = None
        expect_equal(told.pop(entry["name"], None), expected, entry["name"])
    expect_equal(told, {}, "what only the shorter one has")


@check("compat: what it cannot be is said in QEMU's words")
def wrong():
    for argument, text in [
        ("foo=reject", "Parameter 'foo' is unexpected"),
        ("{'foo': 'reject'}", "Parameter 'foo' is unexpected"),
        ("deprecated-input=hide", "Parameter 'deprecated-input' does not accept value 'hide'"),
        ("deprecated-output=crash", "Parameter 'deprecated-output' does not accept value 'crash'"),
        ("deprecated-input", "Expected '=' after parameter 'deprecated-input'"),
        ("help", "Help is not available for this option"),
    ]:
        command = [binary(), "-machine", "none", "-display", "none", "-compat", argument]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
        expect_equal(done.returncode, 1, f"{argument}: status")
        expect(done.stderr.endswith(f": -compat {argument}: {text}\n"), done.stderr)
