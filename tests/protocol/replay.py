"""libvirt's recorded conversations (tests/vectors/traffic), played again: every reply has the recorded shape."""

import copy
import json

from harness.checks import check, expect_equal
from harness.emulator import ROOT, Emulator, need_kvm
from harness.qmp import QmpError
from harness.shape import differences, shape

TRAFFIC = ROOT / "tests" / "vectors" / "traffic"
# Gone from QEMU itself between 7.2, where the conversations come from, and 10.2.
REMOVED_SINCE = {"query-status": "return.singlestep is missing"}
# libvirt asks these only where query-commands or a type of qom-list-types offers them.
OFFERED = {
    "query-dirty-rate",
    "query-sev-capabilities",
    "query-sgx-capabilities",
    "query-tpm-models",
    "query-tpm-types",
}
# Which of them there are depends on the host and the model.
OPEN_MEMBERS = {"query-cpu-model-expansion": "return.model.props."}


def play(qmp, name):
    """Says what libvirt said in a conversation; returns where the replies and events differ from the recording."""
    found = []
    for line in (TRAFFIC / f"{name}.jsonl").read_text().splitlines():
        recorded = json.loads(line)
        if "event" in recorded:
            event = qmp.wait_event(recorded["event"], timeout=60)
            found += differences(recorded["shape"], shape(event.get("data", {})), recorded["event"])
            continue
        if recorded["send"]["execute"] == "qmp_capabilities":
            continue
        found += exchange(qmp, recorded)
    return found


def exchange(qmp, recorded):
    """Sends one command; returns in what its reply differs."""
    sent = copy.deepcopy(recorded["send"])
    arguments = sent.get("arguments", {})
    if str(arguments.get("path", "")).startswith("/machine/unattached/"):
        arguments["path"] = qmp.command("query-cpus-fast")[0]["qom-path"]
    command = sent["execute"]
    try:
        reply = qmp.command(command, **arguments)
    except QmpError as error:
        absent = command == "device-list-properties" and error.error_class == "DeviceNotFound"
        absent = absent or command in OFFERED and error.error_class == "CommandNotFound"
        if absent or error.error_class == recorded.get("error"):
            return []
        return [f"{command} {arguments}: {error}"]
    if "error" in recorded:
        return []
    return [
        f"{command} {arguments}: {difference}"
        for difference in differences(recorded["shape"], shape(reply))
        if difference != REMOVED_SINCE.get(command)
        and not (command in OPEN_MEMBERS and difference.startswith(OPEN_MEMBERS[command]) and "missing" in difference)
    ]


@check("replay: the probe")
def probe():
    arguments = ["-S", "-nographic", "-machine", "accel=kvm:tcg"]
    with Emulator(*arguments, machine="none") as emulator:
        expect_equal(play(emulator.qmp(), "probe"), [], "differences")


@check("replay: start, reset, shutdown and what lies between")
def start():
    need_kvm()
    with Emulator("-device", '{"driver":"pvpanic"}', "-no-shutdown", paused=True) as emulator:
        qmp = emulator.qmp()
        found = play(qmp, "start") + play(qmp, "resume")
        emulator.console.expect("READY\r\n")
        for name in ("suspend", "domstats", "reset"):
            found += play(qmp, name)
        qmp.close()
        qmp = emulator.qmp()
        found += play(qmp, "reconnect") + play(qmp, "resume")
        emulator.console.expect("READY\r\n")
        found += play(qmp, "inject-nmi") + play(qmp, "shutdown")
        expect_equal(found, [], "differences")
