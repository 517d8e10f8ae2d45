#!/usr/bin/env python3
"""Drives our qemu-system-s390x, built for s390x, on a simulated /dev/kvm: probing, a guest with a CPU model, and refusals.

usage: guest.py BINARY KVMSIM.SO HOST DESCRIPTION.json

HOST is what kvmsim/describe.py made of DESCRIPTION.json.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading

BINARY, PRELOAD, HOST, DESCRIPTION = sys.argv[1:]
SECONDS = 60
# More than one model of each kind of host: some can run it, some cannot.
MODELS = ["z13", "2964-ga1,te=off", "gen15a-base", "gen16a", "gen17a", "host", "z99"]


class Emulator:
    """The binary with QMP on its standard input and output; ended by force if it hangs."""

    def __init__(self, log, *arguments):
        command = ["qemu-s390x-static", "-L", "/usr/s390x-linux-gnu"]
        for pair in (f"LD_PRELOAD={PRELOAD}", f"KVMSIM_HOST={HOST}", f"KVMSIM_LOG={log}"):
            command += ["-E", pair]
        command += [BINARY, "-nodefaults", "-display", "none", "-S", *arguments, "-qmp", "stdio"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self.timer = threading.Timer(SECONDS, self.process.kill)
        self.timer.start()

    def start(self):
        assert "QMP" in json.loads(self.process.stdout.readline()), "no greeting"
        self.value("qmp_capabilities")

    def reply(self, execute, **arguments):
        request = {"execute": execute, **({"arguments": arguments} if arguments else {})}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        while True:
            line = self.process.stdout.readline()
            assert line, f"ended at {execute}"
            reply = json.loads(line)
            if "event" not in reply:
                return reply

    def value(self, execute, **arguments):
        reply = self.reply(execute, **arguments)
        assert "return" in reply, f"{execute}: {reply}"
        return reply["return"]

    def quit(self):
        self.value("quit")
        self.end(0)

    def end(self, status):
        """Waits for the end; what it said on standard error."""
        said = self.process.communicate()[1]
        self.timer.cancel()
        assert self.process.returncode == status, f"exit status {self.process.returncode}: {said}"
        return said


def expected_host():
    with open(DESCRIPTION) as file:
        description = json.load(file)
    model = description["expect_static"]
    model["props"].update({name: True for name in description["expect_extra_with_newest_rules"]})
    return model


def static(emulator, model):
    return emulator.value("query-cpu-model-expansion", type="static", model={"name": model})["model"]


def probe(log):
    """-machine none: what the host is and what it can run."""
    emulator = Emulator(log, "-machine", "none", "-accel", "kvm")
    emulator.start()
    assert emulator.value("query-cpu-model") == {}
    assert static(emulator, "host") == expected_host()
    definitions = {entry["name"]: entry for entry in emulator.value("query-cpu-definitions")}
    for entry in definitions.values():
        kvm = [accelerator for accelerator in entry["accelerators"] if accelerator["name"] == "kvm"]
        assert len(kvm) == 1 and kvm[0]["runnable"] == (entry["unavailable-features"] == []), entry
    default = [name for name, entry in definitions.items() if entry["accelerators"][0]["default"]]
    assert len(default) == 1, default
    assert definitions[default[0]]["alias-of"] + "-base" == expected_host()["name"]
    machines = emulator.value("query-machines")
    types = {entry.get("default-cpu-type") for entry in machines if entry["name"].startswith("s390-ccw-virtio")}
    assert types == {"host-s390x-cpu"}, types
    emulator.quit()
    return definitions


def guest(log, cpu, definitions):
    """A guest with this model, if the host can run it; else the refusal."""
    name = cpu.split(",")[0]
    arguments = ("-machine", "s390-ccw-virtio", "-accel", "kvm", "-smp", "2", "-cpu", cpu)
    emulator = Emulator(log, *arguments)
    entry = definitions.get(name)
    if entry is None or entry["unavailable-features"]:
        said = emulator.end(1)
        if entry is None:
            assert f"unable to find CPU model '{name}'" in said, said
        elif "type" in entry["unavailable-features"]:
            assert "Selected CPU generation is too new. Maximum supported model" in said, said
        else:
            missing = " ".join(entry["unavailable-features"])
            assert f"not available in the current configuration: {missing} " in said, said
        return "refused"
    emulator.start()
    cpus = emulator.value("query-cpus-fast")
    assert [cpu["qom-type"] for cpu in cpus] == [entry["typename"]] * 2, cpus
    active = emulator.value("query-cpu-model")
    assert active["accelerator"] == "kvm", active
    target = definitions[active["name"]]["alias-of"]
    assert static(emulator, name)["name"] == target + "-base", active
    on = emulator.value("qom-get", path=cpus[0]["qom-path"], property="te")
    wanted = static(emulator, name).get("props", {}).get("te", False) and "te=off" not in cpu
    assert on == wanted, f"te is {on}"
    error = emulator.reply("cont")["error"]
    assert "no SCLP" in error["desc"], error
    emulator.quit()
    with open(log) as file:
        lines = [line.split()[0:2] for line in file]
    first_vcpu = lines.index(["create", "vcpu"])
    set_at = [place for place, line in enumerate(lines) if line[0] == "set"]
    assert ["set", "3/0"] in lines and set_at and max(set_at) < first_vcpu, lines
    assert not any("EBUSY" in line or "EINVAL" in line for line in lines), lines
    return "made"


def main():
    with tempfile.TemporaryDirectory() as folder:
        definitions = probe(os.path.join(folder, "probe.log"))
        for place, cpu in enumerate(MODELS):
            outcome = guest(os.path.join(folder, f"{place}.log"), cpu, definitions)
            print(f"  guest with -cpu {cpu}: {outcome}")


main()
