"""Processors as the command line asks for them: places, numbers and enlightenments that cannot be had are told at the start."""

import os
import subprocess

from harness.checks import Skip, check, expect, expect_equal
from harness.emulator import Emulator, binary, is_ours, need_kvm

QUIET = ["-nodefaults", "-no-user-config", "-display", "none", "-S", "-machine", "q35,accel=kvm"]


def refusal(*arguments):
    """The last line on standard error of a start that must fail."""
    need_kvm()
    done = subprocess.run(
        [binary(), *QUIET, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20
    )
    expect_equal(done.returncode, 1, f"exit status of {' '.join(arguments)} ({done.stderr.strip()})")
    return done.stderr.strip().splitlines()[-1].removeprefix("qemu-system-x86_64: ")


def start(*arguments):
    """A paused guest."""
    need_kvm()
    return Emulator("-smp", "1", *arguments, paused=True)


@check("processors: places of all vCPUs there may ever be, with the levels that the machine has")
def places():
    with start("-smp", "2,maxcpus=4,sockets=2,cores=2") as emulator:
        qmp = emulator.qmp()
        slots = qmp.command("query-hotpluggable-cpus")
        expect_equal(
            [slot["props"] for slot in slots],
            [{"socket-id": s, "core-id": c, "thread-id": 0} for s, c in ((1, 1), (1, 0), (0, 1), (0, 0))],
            "places, the last one first",
        )
        paths = ["/machine/unattached/device[2]", "/machine/unattached/device[0]"]
        expect_equal([slot.get("qom-path") for slot in slots], [None, None, *paths], "paths of those that are there")
        cpus = qmp.command("query-cpus-fast")
        expect_equal([cpu["qom-path"] for cpu in cpus], paths[::-1], "paths of query-cpus-fast")
        for path in paths:
            expect_equal(qmp.command("qom-get", path=path, property="realized"), True, f"{path} is there")
    with start("-smp", "4,dies=2,cores=2") as emulator:
        qmp = emulator.qmp()
        for command in ("query-hotpluggable-cpus", "query-cpus-fast"):
            names = {"socket-id", "die-id", "core-id", "thread-id"}
            expect(all(set(cpu["props"]) == names for cpu in qmp.command(command)), f"{command} names dies, not modules")
    numa = ["-m", "128", "-object", "memory-backend-ram,id=m,size=128M"]
    numa += ["-numa", "node,nodeid=0,cpus=0,memdev=m", "-numa", "node,nodeid=1,cpus=1-2"]
    with start("-smp", "1,maxcpus=3", *numa) as emulator:
        slots = emulator.qmp().command("query-hotpluggable-cpus")
        expect_equal([slot["props"]["node-id"] for slot in slots], [1, 1, 0], "nodes")


@check("processors: a place that is another vCPU's is refused by the property's name")
def other_places():
    for name in ("thread-id", "core-id", "die-id", "socket-id"):
        expect_equal(
            refusal("-cpu", f"qemu64,{name}=1"),
            f"property {name}: 1 doesn't match set apic-id: 0x0 ({name}: 0)",
            f"{name}=1",
        )
    expect_equal(
        refusal("-smp", "2,cores=2", "-cpu", "qemu64,core-id=0"),
        "property core-id: 0 doesn't match set apic-id: 0x1 (core-id: 1)",
        "a place that only one of two has",
    )
    expect_equal(refusal("-cpu", "qemu64,node-id=1"), "invalid node-id, must be 0", "node-id=1")
    with start("-cpu", "qemu64,thread-id=0,core-id=-1,node-id=0,start-powered-off=on") as emulator:
        qmp = emulator.qmp()
        path = qmp.command("query-cpus-fast")[0]["qom-path"]
        expect_equal(qmp.command("qom-get", path=path, property="start-powered-off"), True, "start-powered-off")


@check("processors: addresses that the processor cannot reach are refused")
def addresses():
    if not is_ours(binary()):
        raise Skip("machine types before 8.2 count otherwise there")
    expect_equal(
        refusal("-cpu", "qemu64,phys-bits=32", "-m", "128"),
        "Address space limit 0xffffffff < 0x8ffffffff phys-bits too low (32)",
        "a window of 32 GiB above 4 GiB",
    )
    expect_equal(
        refusal("-cpu", "qemu64,phys-bits=36", "-m", "1G,slots=4,maxmem=100G"),
        "Address space limit 0xfffffffff < 0x22bfffffff phys-bits too low (36)",
        "memory to be plugged later",
    )
    with start("-cpu", "qemu32", "-m", "128"):
        pass


@check("processors: more vCPUs than KVM recommends are warned about")
def recommended():
    count = os.cpu_count() + 1
    warnings = {}
    for smp in ("1", f"1,maxcpus={count}", str(count)):
        with start("-smp", smp) as emulator:
            emulator.qmp()
            lines = emulator.errors().splitlines()
            warnings[smp] = [line for line in lines if "recommended cpus supported by KVM" in line]
    expect_equal(warnings["1"], [], "one vCPU")
    expect_equal(len(warnings[f"1,maxcpus={count}"]), 1, "warnings for those to be plugged")
    expect("hotpluggable" in warnings[f"1,maxcpus={count}"][0], "which kind")
    expect_equal(len(warnings[str(count)]), 2, "warnings for those that are there")
    expect(f"SMP cpus requested ({count})" in warnings[str(count)][0], "which kind")


@check("processors: Hyper-V enlightenments that KVM lacks are refused")
def enlightenments():
    """Where KVM has Hyper-V, the same words start a guest."""
    needs = {
        "hv-vpindex": "hv-vpindex",
        "hv-relaxed": "hv-relaxed",
        "hv-synic": "hv-vpindex,hv-synic",
        "hv-stimer": "hv-vpindex,hv-synic,hv-time,hv-stimer",
        "hv-tlbflush": "hv-vpindex,hv-tlbflush",
        "hv-ipi": "hv-vpindex,hv-ipi",
        "hv-evmcs": "hv-vapic,hv-evmcs",
    }
    offered = hyperv_is_there()
    for name, words in needs.items():
        if offered and name != "hv-evmcs":
            with start("-cpu", f"qemu64,{words}"):
                pass
        elif not offered:
            text = refusal("-cpu", f"qemu64,{words}")
            vp_index = "kernel doesn't allow setting HyperV VP_INDEX"
            expect(text == vp_index or text.endswith("is not supported by kernel"), f"{words}: {text}")
    if not offered:
        expect_equal(refusal("-cpu", "qemu64,hv-vpindex"), "kernel doesn't allow setting HyperV VP_INDEX", "hv-vpindex")
        expect_equal(
            refusal("-cpu", "qemu64,hv-relaxed"), "Hyper-V relaxed timing (hv-relaxed) is not supported by kernel", "text"
        )


def hyperv_is_there():
    """Whether KVM has anything of Hyper-V."""
    if not is_ours(binary()):
        raise Skip("what KVM has is asked of the tool that comes with the emulator")
    need_kvm()
    tool = binary().removesuffix("qemu-system-x86_64") + "remuda"
    described = subprocess.run([tool, "host-describe"], capture_output=True, check=True, text=True).stdout
    return '"KVM_CAP_HYPERV":1' in described.replace(" ", "")
