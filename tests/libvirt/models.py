"""CPU models as libvirt sees them: the same with the emulator under test as with Debian's QEMU on the same host."""

import functools
import pathlib
import re
import subprocess
import xml.etree.ElementTree as ElementTree

from harness.checks import Failure, Skip, check, expect, expect_equal

from .domain import Domain
from .host import EMULATOR, PEER, virsh

HOST = None

# A machine type that both have.
MACHINE = "pc-q35-7.2"
QUESTION = ("--virttype", "kvm", "--arch", "x86_64", "--machine", MACHINE)

# What QEMU 10.2, whose behaviour is claimed, does otherwise than older ones, if one of these is what there is to compare
# with: it takes the first from the processor where KVM does not list them, and leaves the others to Intel's processors.
CLAIMED = (10, 2)
CHANGED = set("""
    erms fsrm
    arch-capabilities rdctl-no ibrs-all rsba skip-l1dfl-vmentry ssb-no mds-no pschange-mc-no tsx-ctrl taa-no
    sbdr-ssdp-no fbsdp-no psdp-no fb-clear rrsba bhi-no pbrsb-no gds-no rfds-no rfds-clear
""".split())
# The outcome of a start that the emulator itself refused; how it words that is its own affair.
GAVE_UP = "the emulator gave up"

CPUS = {
    "host-passthrough": "<cpu mode='host-passthrough'/>",
    "host-passthrough, migratable off": "<cpu mode='host-passthrough' migratable='off'/>",
    "host-model": "<cpu mode='host-model'/>",
    "maximum": "<cpu mode='maximum'/>",
    "a model the host lacks something of": "<cpu mode='custom' match='exact' check='full'><model>Nehalem</model></cpu>",
    "partial check": "<cpu mode='custom' match='exact' check='partial'><model fallback='forbid'>qemu64</model></cpu>",
    "no check": "<cpu mode='custom' match='exact' check='none'><model fallback='forbid'>qemu64</model></cpu>",
    "a model that is cut to the host": """<cpu mode='custom' match='exact' check='full'>
      <model fallback='forbid'>qemu64</model><feature policy='disable' name='pni'/></cpu>""",
    "policies": """<cpu mode='custom' match='exact' check='full'>
      <model fallback='forbid'>qemu64</model><feature policy='disable' name='pni'/>
      <feature policy='require' name='clflush'/><feature policy='optional' name='avx512f'/>
      <feature policy='force' name='x2apic'/></cpu>""",
    "a feature that must not be there": """<cpu mode='custom' match='exact' check='full'>
      <model fallback='forbid'>qemu64</model><feature policy='forbid' name='sse2'/></cpu>""",
    "a feature that the host lacks": """<cpu mode='custom' match='exact' check='full'>
      <model fallback='forbid'>qemu64</model><feature policy='require' name='avx512f'/></cpu>""",
    "minimum": "<cpu match='minimum'><model>qemu64</model><feature policy='disable' name='pni'/></cpu>",
}


def need_peer():
    """The checks compare with Debian's QEMU, which is under /usr/bin where it is not under test itself."""
    if not pathlib.Path(PEER).exists():
        raise Skip("there is no other emulator to compare with")


@functools.cache
def changed():
    """The features about which the QEMU that is compared with may say something else."""
    text = subprocess.run([PEER, "-version"], capture_output=True, text=True, timeout=30).stdout
    version = re.search(r"version (\d+)\.(\d+)", text)
    return CHANGED if tuple(map(int, version.groups())) < CLAIMED else set()


def canonical(cpu):
    """A <cpu> or <mode> element as text that does not depend on the order of its features."""
    features = sorted(
        (feature.get("policy", ""), feature.get("name"))
        for feature in cpu.iter("feature")
        if feature.get("name") not in changed()
    )
    models = [(model.text, dict(model.attrib)) for model in cpu.iter("model")]
    others = [(part.tag, dict(part.attrib)) for part in cpu if part.tag not in ("feature", "model")]
    return {"attributes": dict(cpu.attrib), "models": models, "features": features, "others": others}


def capabilities(emulator):
    """virsh domcapabilities, parsed."""
    return ElementTree.fromstring(virsh("domcapabilities", "--emulatorbin", emulator, *QUESTION))


def outcome(emulator, cpu):
    """The live <cpu> element of a domain started with this emulator, or why it does not start."""
    with Domain(start=False, CPU=cpu, EMULATOR=emulator, MACHINE=MACHINE) as domain:
        try:
            domain.start("--paused")
        except Failure as failure:
            texts = ("unexpectedly closed the monitor", "process exited while connecting to monitor")
            gave_up = any(text in str(failure) for text in texts)
            return GAVE_UP if gave_up else str(failure).replace(domain.name, "DOMAIN")
        live = ElementTree.fromstring(virsh("dumpxml", domain.name))
        return canonical(live.find("cpu"))


def answers(command, document):
    """Exit status and text of a virsh command about a CPU, for both emulators."""
    path = pathlib.Path("/run/cpu.xml")
    path.write_text(document)
    results = []
    for emulator in (EMULATOR, PEER):
        words = ["virsh", "-q", command, str(path), "--emulator", emulator, *QUESTION]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        text = done.stdout.strip()
        answer = canonical(ElementTree.fromstring(text)) if text.startswith("<") else text
        results.append((done.returncode, answer, done.stderr.strip()))
    return results


@check("models: domcapabilities tells the same host model and the same usable models as with QEMU")
def domcapabilities():
    need_peer()
    ours, theirs = capabilities(EMULATOR), capabilities(PEER)
    for mode in ("host-model", "maximum", "host-passthrough"):
        found = [canonical(root.find(f"cpu/mode[@name='{mode}']")) for root in (ours, theirs)]
        expect_equal(found[0], found[1], f"mode {mode}")
    custom = [root.findall("cpu/mode[@name='custom']/model") for root in (ours, theirs)]
    usable = [{model.text: model.get("usable") for model in models} for models in custom]
    both = usable[0].keys() & usable[1].keys()
    expect(len(both) > 40, f"models that both know: {sorted(both)}")
    different = {name: (usable[0][name], usable[1][name]) for name in both if usable[0][name] != usable[1][name]}
    expect_equal(different, {}, "models that only one of them calls usable")
    blockers = [
        {part.get("model"): sorted(name.get("name") for name in part) for part in root.iter("blockers")}
        for root in (ours, theirs)
    ]
    both = blockers[0].keys() & blockers[1].keys()
    different = {name: (blockers[0][name], blockers[1][name]) for name in both if blockers[0][name] != blockers[1][name]}
    expect_equal(different, {}, "blockers")


@check("models: hypervisor-cpu-compare and -baseline answer as with QEMU")
def compare_and_baseline():
    need_peer()
    host_model = capabilities(PEER).find("cpu/mode[@name='host-model']")
    expanded = ElementTree.Element("cpu", {"mode": "custom", "match": "exact"})
    wanted = (part for part in host_model if part.tag in ("model", "feature", "vendor"))
    # What the older one switches off in its model stays off, or the document would ask it for what it lacks.
    kept = (part for part in wanted if part.get("policy") == "disable" or part.get("name") not in changed())
    expanded.extend(kept)
    documents = {
        "the host model": ElementTree.tostring(expanded, encoding="unicode"),
        "Nehalem": "<cpu match='exact'><model>Nehalem</model></cpu>",
        "EPYC": "<cpu match='exact'><model>EPYC</model></cpu>",
        "qemu64": "<cpu match='exact'><model>qemu64</model><feature policy='disable' name='pni'/></cpu>",
    }
    for name, document in documents.items():
        for command in ("hypervisor-cpu-compare", "hypervisor-cpu-baseline"):
            ours, theirs = answers(command, document)
            if changed() and (name, command) == ("the host model", "hypervisor-cpu-compare"):
                # What the older one has on top may make its CPU the larger one; both must be compatible.
                ours, theirs = ours[0], theirs[0]
            expect_equal(ours, theirs, f"{command}: {name}")
    expect("Skylake-Server" in virsh("cpu-models", "x86_64"), "cpu-models lists them")


@check("models: every CPU mode and policy gives the live XML that it gives with QEMU")
def start():
    need_peer()
    differences = []
    for name, cpu in CPUS.items():
        ours, theirs = outcome(EMULATOR, cpu), outcome(PEER, cpu)
        # An emulator that KVM refuses a CPU is nothing to be measured by.
        if theirs not in (GAVE_UP, ours):
            differences.append(f"{name}: {ours}, with QEMU {theirs}")
    expect(not differences, "\n".join(differences))
