#!/usr/bin/env python3
"""Asks our qemu-system-s390x and QEMU's own the same random questions about CPU models and compares the replies.

QEMU runs with its emulation (TCG). What that emulation can do is asked first and written to a host description, which
our binary gets with -accel hostfile. Models and features that only one of the two knows are left out; so is what
later versions say differently: deprecated-props, the path in an error about a value's type, and the model qemu,
which follows the version.

usage: peer.py [--ours PATH] [--peer PATH] [--machine NAME] [--requests N] [--seed N]
       peer.py --self-check      compares the peer with itself
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile

QEMU_ONLY_NAMES = {"qemu", "host"}
EXPANSION, COMPARISON, BASELINE = (f"query-cpu-model-{what}" for what in ("expansion", "comparison", "baseline"))


class Monitor:
    """A process with QMP on its standard input and output."""

    def __init__(self, binary, *arguments):
        command = [binary, "-display", "none", "-nodefaults", "-S", *arguments, "-qmp", "stdio"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if "QMP" not in json.loads(self.process.stdout.readline()):
            sys.exit(f"{binary}: no greeting")
        self.ask({"execute": "qmp_capabilities"})

    def ask(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        while True:
            line = self.process.stdout.readline()
            if not line:
                sys.exit(f"{self.process.args[0]} ended at {json.dumps(request)}")
            reply = json.loads(line)
            if "event" not in reply:
                return reply

    def value(self, execute, **arguments):
        return self.ask({"execute": execute, "arguments": arguments})["return"]

    def quit(self):
        self.ask({"execute": "quit"})
        self.process.wait(timeout=10)


def switches(monitor):
    """Every feature and group the process knows."""
    properties = monitor.value("device-list-properties", typename="z900-s390x-cpu")
    others = {"static", "migration-safe", "realized", "start-powered-off", "hotplugged", "hotpluggable", "dedicated"}
    return {entry["name"] for entry in properties if entry["type"] == "bool"} - others


def describe(peer, path):
    """Writes what the peer's emulation can do as a host description."""
    model = peer.value(EXPANSION, type="full", model={"name": "max"})["model"]
    features = sorted(name for name, on in model["props"].items() if on)
    name = model["name"].removesuffix("-base")
    with open(path, "w") as file:
        json.dump({"target": "s390x", "accelerator": "tcg", "model": name, "features": features}, file)


class Questions:
    """Random requests about models and features that both know."""

    def __init__(self, source, models, features):
        self.random, self.models, self.features = source, sorted(models), sorted(features)

    def model(self):
        model = {"name": self.random.choice(self.models)}
        if self.random.random() < 0.02:
            model["name"] = self.random.choice(["nosuch", "", "Z13", "z13-s390x-cpu"])
        count = self.random.choice([0, 0, 1, 2, 3, 8, 40])
        if count:
            names = self.random.sample(self.features, count)
            # Switching on what is too new ends a request; mostly it is switched off.
            model["props"] = {name: self.random.random() < 0.15 for name in names}
            if self.random.random() < 0.03:
                model["props"][self.random.choice(["nosuch", "static", "vx"])] = self.random.choice([True, "on", 1, None])
        return model

    def request(self):
        execute = self.random.choice([EXPANSION, EXPANSION, COMPARISON, BASELINE])
        if execute == EXPANSION:
            arguments = {"type": self.random.choice(["static", "full"]), "model": self.model()}
        else:
            arguments = {"modela": self.model(), "modelb": self.model()}
        return {"execute": execute, "arguments": arguments}


def comparable(value, known):
    """A reply without what only one of the two knows."""
    if isinstance(value, dict):
        if "desc" in value:
            text = re.sub(r"'model[ab]?\.props\.", "'", value["desc"])
            return {"class": value["class"], "desc": text}
        pairs = {name: comparable(entry, known) for name, entry in value.items() if name != "deprecated-props"}
        if "props" in pairs:
            pairs["props"] = {name: on for name, on in pairs["props"].items() if name in known}
            if not pairs["props"]:
                del pairs["props"]
        return pairs
    if isinstance(value, list):
        return [comparable(entry, known) for entry in value if not isinstance(entry, str) or entry in known]
    return value


def by_name(definitions, models, known):
    """Definitions as both have them. QEMU's order is that of a hash table."""
    members = ("name", "typename", "static", "migration-safe", "unavailable-features")
    kept = [{key: entry[key] for key in members} for entry in definitions if entry["name"] in models]
    return sorted((comparable(entry, known) for entry in kept), key=lambda entry: entry["name"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", default="target/debug/qemu-system-s390x")
    parser.add_argument("--peer", default="/usr/bin/qemu-system-s390x")
    parser.add_argument("--machine", default="none")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--self-check", action="store_true")
    options = parser.parse_args()

    peer = Monitor(options.peer, "-machine", options.machine, "-accel", "tcg")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "host.json")
        describe(peer, path)
        if options.self_check:
            ours = Monitor(options.peer, "-machine", options.machine, "-accel", "tcg")
        else:
            ours = Monitor(options.ours, "-machine", options.machine, "-accel", f"hostfile,path={path}")

        lists = [monitor.value("query-cpu-definitions") for monitor in (ours, peer)]
        models = set.intersection(*({entry["name"] for entry in entries} for entries in lists)) - QEMU_ONLY_NAMES
        features = switches(ours) & switches(peer)
        known = features | {"type"}
        wrong = 0
        if by_name(lists[0], models, known) != by_name(lists[1], models, known):
            wrong += 1
            print("definitions differ")
        questions = Questions(random.Random(options.seed), models, features)
        for _ in range(options.requests):
            request = questions.request()
            replies = [comparable(monitor.ask(request), known) for monitor in (ours, peer)]
            if replies[0] != replies[1]:
                wrong += 1
                print(f"asked {json.dumps(request)}\n  ours {json.dumps(replies[0])}\n  peer {json.dumps(replies[1])}")
                if wrong == 10:
                    break
        ours.quit()
        peer.quit()
    print(f"{options.requests} requests, {len(models)} models, {len(features)} features, seed {options.seed}: {wrong} differ")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
