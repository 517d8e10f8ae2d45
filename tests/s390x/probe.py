"""Probing on the machine at hand: -probe, several accelerators, one that crashes, one that hangs."""

import json
import os
import pathlib
import signal
import tempfile
import threading
import time

from harness.checks import check, eventually, expect, expect_equal
from harness.emulator import binary

from . import simulation
from .monitor import Monitor, refusal

Z15, Z16 = (f"hostfile,path={simulation.HERE.parent}/vectors/s390x/hosts/{name}/sim_host.json" for name in ("4.2.0", "9.2.0"))


def emulator(*arguments):
    return [binary("qemu-system-s390x"), *arguments]


def entries(definition):
    """The accelerators of a definition, each as name, runnable and default."""
    return [(entry["name"], entry["runnable"], entry["default"]) for entry in definition["accelerators"]]


@check("probe: two hosts on one command line each say what they run, in order")
def two_hosts():
    listed = ["-accel", f"{Z16},name=z16", "-accel", f"{Z15},name=z15"]
    for words in (["-probe", *listed], ["--probe", *listed], ["-machine", "none", *listed]):
        with Monitor(*emulator(*words)) as monitor:
            definitions = monitor.definitions()
            expect_equal(monitor.value("query-cpu-model"), {}, "query-cpu-model")
    expect_equal(entries(definitions["z14"]), [("z16", True, False), ("z15", True, False)], "z14")
    expect_equal(entries(definitions["gen16a"]), [("z16", True, False), ("z15", False, False)], "gen16a")
    expect_equal(entries(definitions["gen17a"]), [("z16", False, False), ("z15", False, False)], "gen17a")
    # The accelerator in use is the first.
    expect_equal(definitions["gen16a"]["unavailable-features"], [], "what keeps gen16a from running")
    expect("type" in definitions["gen17a"]["unavailable-features"], "gen17a is too new")


@check("probe: a client of 2015 finds its names, one of today today's")
def names():
    with Monitor(*emulator("-probe", "-accel", Z16)) as monitor:
        definitions = monitor.definitions()
        for seed, today in [("2964-ga1", "z13"), ("2066-ga1", "z800"), ("2817-ga2", "z196.2"), ("2828-ga1", "zBC12")]:
            entry = definitions[seed]
            expect_equal((entry["alias-of"], entries(entry)), (today, [("hostfile", True, False)]), seed)
            expect("alias-of" not in definitions[today], f"{today} is no alias")
            expect_equal(monitor.static(seed), monitor.static(today), seed)
            same = monitor.value("query-cpu-model-comparison", modela={"name": seed}, modelb={"name": today})
            expect_equal(same["result"], "identical", seed)
            common = monitor.value("query-cpu-model-baseline", modela={"name": seed}, modelb={"name": seed})
            expect_equal(common["model"]["name"], f"{today}-base", "baseline of " + seed)
        defaults = [name for name, entry in definitions.items() if entry["accelerators"][0]["default"]]
        expect_equal(defaults, ["3931-ga1"], "the model that host stands for")
        error = monitor.reply("query-cpu-model-expansion", type="static", model={"name": "2964-ga9"})["error"]
        expect_equal(error["desc"], "The CPU definition '2964-ga9' is unknown.", "an unknown name")


@check("probe: an accelerator that does not know of CPU models leaves the name host alone")
def no_descriptions():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "mute.json")
        path.write_text('{"target": "s390x", "accelerator": "kvm"}')
        with Monitor(*emulator("-probe", "-accel", f"hostfile,path={path}")) as monitor:
            expect_equal(monitor.value("query-cpu-definitions"), [{"name": "host"}], "definitions")
        with Monitor(*emulator("-probe", "-accel", f"hostfile,path={path},name=mute", "-accel", Z15)) as monitor:
            expect_equal(entries(monitor.definitions()["z13"]), [("hostfile", True, False)], "z13")


def children(pid):
    return [int(word) for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()]


@check("probe: one that crashes and one that hangs are out of use, and nothing else is")
def crash_and_hang():
    with tempfile.TemporaryDirectory() as folder:
        # Whoever opens a pipe that nobody writes to waits for ever.
        crashing, hanging = (os.path.join(folder, name) for name in ("crashing", "hanging"))
        os.mkfifo(crashing)
        os.mkfifo(hanging)
        listed = [f"hostfile,path={crashing},name=crashing", f"{Z16},name=sound", f"hostfile,path={hanging},name=hanging"]
        monitor = Monitor(*emulator("-probe", *(word for entry in listed for word in ("-accel", entry))))
        killed = []

        def crash():
            killed.extend(eventually("the first probe", 10, lambda: children(monitor.process.pid)))
            os.kill(killed[0], signal.SIGABRT)

        with monitor:
            thread = threading.Thread(target=crash)
            thread.start()
            start = time.monotonic()
            definitions = monitor.definitions()
            took = time.monotonic() - start
            thread.join()
            expect(0 < len(killed) <= len(listed), f"a probe for each accelerator at most: {killed}")
            expect_equal(entries(definitions["gen16a"]), [("sound", True, False)], "gen16a")
            expect(took < 60, f"took {took:.1f} s")
            again = time.monotonic()
            monitor.definitions()
            expect(time.monotonic() - again < 8, "nothing is probed twice")
            eventually("no probe is left", 5, lambda: not children(monitor.process.pid))


@check("probe: what makes no sense with -probe is an error")
def senseless():
    for words in (
        ["-m", "1G"], ["-smp", "2"], ["-cpu", "z13"], ["-kernel", "vmlinux"], ["-device", "virtio-net-ccw"], ["-no-reboot"],
        ["-no-shutdown"], ["-global", "z13-s390x-cpu.vx=off"], ["-only-migratable"], ["-uuid", "00000000-0000-0000-0000-000000000001"], ["-serial", "null"],
    ):
        wanted = f"{' '.join(words)}: makes no sense with -probe, which runs no guest"
        expect_equal(refusal(*emulator("-probe", *words)), wanted, f"{words}")
    expect_equal(
        refusal(*emulator("-probe", "-machine", "s390-ccw-virtio")), "-probe runs no guest and needs no -machine", "-machine"
    )
    for words, wanted in [
        (["-probe", "-accel", "hostfile"], "accelerator hostfile needs path=FILE"),
        (["-probe", "-accel", f"{Z15},size=1"], "Property 'hostfile-accel.size' not found"),
        (["-probe", "-accel", Z15, "-accel", Z16], "two accelerators answer as 'hostfile': tell them apart with name=NAME"),
        (["-probe", "-accel", "hax"], "invalid accelerator hax"),
        (["-machine", "none,speed=9"], "Property 'none-machine.speed' not found"),
    ]:
        expect_equal(refusal(*emulator(*words)), wanted, f"{words}")


@check("probe: a host file that cannot be read is named in a warning")
def unreadable():
    with Monitor(*emulator("-probe", "-accel", "hostfile,path=/nonexistent", "-accel", f"{Z15},name=z15")) as monitor:
        expect_equal(entries(monitor.definitions()["z13"]), [("z15", True, False)], "z13")
    said = monitor.end()[1]
    wanted = "warning: accelerator hostfile cannot be used: /nonexistent: cannot read the host description: No such file"
    expect(wanted in said, said)


@check("probe: where the machine is not an S390, KVM is no accelerator for S390 guests")
def elsewhere():
    for words, wanted in [
        (["-machine", "s390-ccw-virtio", "-accel", "kvm", "-cpu", "z13"], "invalid accelerator kvm"),
        (["-machine", "s390-ccw-virtio,accel=kvm:tcg"], "invalid accelerator kvm\ninvalid accelerator tcg"),
        (["-machine", "s390-ccw-virtio"], "No accelerator selected and no default accelerator available"),
        (["-machine", "none", "-accel", "kvm"], "invalid accelerator kvm"),
    ]:
        expect_equal(refusal(*emulator(*words)), wanted, f"{words}")
    # As libvirt asks.
    with Monitor(*emulator("-S", "-machine", "none,accel=kvm:tcg")) as monitor:
        expect_equal(monitor.value("query-kvm"), {"enabled": False, "present": False}, "query-kvm")
        types = {entry["name"] for entry in monitor.value("qom-list-types")}
        expect(not types & {"kvm-accel", "tcg-accel", "host-s390x-cpu"}, f"types {json.dumps(sorted(types))}")
        expect("z13-s390x-cpu" in types, "z13-s390x-cpu is a type")
        machines = monitor.value("query-machines")
        types = {entry.get("default-cpu-type") for entry in machines if entry["name"] != "none"}
        expect_equal(types, {"qemu-s390x-cpu"}, "default-cpu-type")
