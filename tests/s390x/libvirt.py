"""libvirt's questions about S390 CPUs, put to our qemu-system-s390x through libvirt's own driver, embedded in virsh.

On this machine our binary and QEMU's own must give the same for models that both know, refusals included. On the
recorded hosts, which a simulated KVM plays for the binary built for s390x while libvirt believes to be on an S390, the
domain capabilities must be those that were recorded."""

import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor

from harness.checks import Skip, check, expect, expect_equal
from harness.emulator import binary

from . import simulation
from .guest import on_every_host
from .peer import PEER

# What `hypervisor-cpu-baseline` is asked about: NAME:feature:!feature, several to a question.
SETS = [
    "z13", "z13 z14", "z13-base:vx z14", "gen15a gen15b", "z14ZR1 z14ZR1", "z196.2 z114 zEC12", "z900 gen16a",
    "z13:!esan3 z14", "z13:!vx:msa5 z13s", "gen16a gen16b:!nnpa", "z10EC:pfmfi z10BC.2", "z900:vx z13", "nosuch z13",
]  # fmt: skip
MARK = "next question"


def cpu(text):
    """A CPU as libvirt writes it."""
    name, *features = text.split(":")
    lines = [f"<cpu mode='custom' match='exact'><model>{name}</model>"]
    for feature in features:
        policy = "disable" if feature.startswith("!") else "require"
        lines.append(f"<feature policy='{policy}' name='{feature.removeprefix('!')}'/>")
    return "".join(lines) + "</cpu>"


class Virsh:
    """virsh with libvirt's driver in the same process, and state of its own."""

    def __init__(self, name, emulator, on_s390=False):
        for program in ("virsh", "stdbuf"):
            if not shutil.which(program):
                raise Skip(f"{program} is not installed (libvirt-clients, coreutils)")
        self.folder = simulation.FOLDER / f"libvirt-{name}"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.emulator = str(emulator)
        self.environment = dict(os.environ)
        if on_s390:
            self.environment["LD_PRELOAD"] = str(simulation.compiled("s390host", compiler="cc"))

    def ask(self, questions):
        """What virsh prints for each (words, CPUs), the emulator's and files' names left out."""
        script = []
        for number, (words, cpus) in enumerate(questions):
            path = self.folder / f"cpus{number}.xml"
            path.write_text("\n".join(cpu(text) for text in cpus.split()))
            option = "--emulatorbin" if words.startswith("domcapabilities") else "--emulator"
            file = "" if words.startswith("domcapabilities") else f" {path}"
            script += [f"{words} --arch s390x {option} {self.emulator}{file}", f"echo {MARK}"]
        uri = f"qemu:///embed?root={self.folder}"
        done = subprocess.run(
            ["stdbuf", "-oL", "virsh", "-c", uri, "; ".join(script)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.environment, timeout=110,
        )  # fmt: skip
        text = done.stdout.replace(self.emulator, "EMULATOR").replace(str(self.folder), "")
        parts = re.split(rf"^{MARK}$", text, flags=re.MULTILINE)
        expect_equal(len(parts), len(questions) + 1, f"answers of virsh to {len(questions)} questions: {text[-500:]}")
        return [part.strip() for part in parts[:-1]]


def ours_and_peer(questions):
    """The answers with each emulator."""
    if not shutil.which(PEER):
        raise Skip(f"{PEER} is not installed (qemu-system-misc)")
    sessions = [Virsh("ours", os.path.realpath(binary("qemu-system-s390x"))), Virsh("peer", PEER)]
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda session: session.ask(questions), sessions))


@check("libvirt: hypervisor-cpu-baseline gives the same as with QEMU's own emulator")
def baseline():
    questions = [("hypervisor-cpu-baseline", cpus) for cpus in SETS]
    questions += [("hypervisor-cpu-baseline --features", cpus) for cpus in SETS[1:4]]
    ours, peers = ours_and_peer(questions)
    for question, mine, theirs in zip(questions, ours, peers):
        # Members of <cpu> come in the order of a hash table of libvirt's.
        expect_equal(sorted(mine.splitlines()), sorted(theirs.splitlines()), f"{question}")
    # Agreement is worth nothing if libvirt asked neither.
    expect("<model>z13-base</model>" in ours[1], f"no baseline was found: {ours[1]}")


@check("libvirt: hypervisor-cpu-compare gives the same as with QEMU's own emulator")
def comparison():
    questions = [("hypervisor-cpu-compare --virttype qemu", cpus) for cpus in ("z13", "z14-base:vx", "nosuch")]
    for question, mine, theirs in zip(questions, *ours_and_peer(questions)):
        expect_equal(mine, theirs, f"{question}")


@check("libvirt: on this machine our binary runs no S390 guests, neither emulated nor with KVM, and libvirt says so")
def no_guests_here():
    questions = [(f"domcapabilities --virttype {kind}", "") for kind in ("qemu", "kvm")]
    answers = Virsh("here", os.path.realpath(binary("qemu-system-s390x"))).ask(questions)
    for kind, answer in zip(("qemu", "kvm"), answers):
        expect(f"Emulator 'EMULATOR' does not support virt type '{kind}'" in answer, answer)


def wrapped(host):
    """A program that runs our emulator, built for s390x, on the host."""
    path = simulation.FOLDER / f"qemu-system-s390x-{host.name}"
    command = " ".join(host.command(simulation.built("REMUDA_S390X_BINARY"), "/dev/null"))
    path.write_text(f'#!/bin/sh\nunset LD_PRELOAD\nexec {command} "$@"\n')
    path.chmod(0o755)
    return path


@on_every_host("libvirt's domain capabilities are those of the recorded host")
def recorded(host):
    model = host.model()
    usable = {entry["name"]: entry["unavailable-features"] == [] for entry in host.definitions() if entry["name"] != "host"}
    [capabilities] = Virsh(host.name, wrapped(host), on_s390=True).ask([("domcapabilities --virttype kvm", "")])
    modes = {mode.get("name"): mode for mode in ElementTree.fromstring(capabilities).findall("cpu/mode")}
    expect_equal(modes["host-passthrough"].get("supported"), "yes", "host-passthrough")
    seen = {entry.get("name"): entry.get("policy") == "require" for entry in modes["host-model"].findall("feature")}
    expect_equal((modes["host-model"].findtext("model"), seen), (model["name"], model["props"]), "host-model")
    custom = {entry.text: entry.get("usable") == "yes" for entry in modes["custom"].findall("model")}
    expect_equal({name: custom.get(name) for name in usable}, usable, "models that can be used")
    expect_equal(custom["2964-ga1"], usable["z13"], "2964-ga1")


@check("simulated host 9.2.0: libvirt compares CPUs with the host's, and finds a baseline")
def compared_with_host():
    host = simulation.ALL[-1]
    model = host.model()
    features = "".join(f":{feature}" if on else f":!{feature}" for feature, on in model["props"].items())
    compared = {model["name"] + features: "identical to", "z900-base": "superset of", "gen17a": "incompatible with"}
    questions = [("hypervisor-cpu-compare --virttype kvm", text) for text in compared]
    questions += [("hypervisor-cpu-baseline --virttype kvm", "z13 z14")]
    *comparisons, common = Virsh(f"{host.name}-compare", wrapped(host), on_s390=True).ask(questions)
    for (text, wanted), answer in zip(compared.items(), comparisons):
        expect(wanted in answer, f"{text}: {answer}")
    expect("<model>z13-base</model>" in common, common)
