"""Asks our qemu-system-s390x and QEMU's own the same random questions about CPU models and compares the replies.

QEMU runs with its emulation (TCG). What that emulation can do is asked first and written to a host description, which
our binary gets with -accel hostfile. The two are of different versions, so before replies are compared

* models and features that only one of the two knows are left out, of questions and of replies;
* so are the models `qemu`, which is another one in each version, and `host`, which the emulation does not have;
* `deprecated-props` is left out, which came with 9.1;
* the path in front of a property's name is left out of error texts, which 7.2 does not print;
* definitions are sorted by name: their order in QEMU is that of a hash table.

Nothing else may differ. PEER_SEED and PEER_REQUESTS choose other questions and how many.
"""

import json
import os
import pathlib
import random
import re
import shutil
import tempfile

from harness.checks import Skip, check, expect, expect_equal
from harness.emulator import binary

from .monitor import Monitor

PEER = "/usr/bin/qemu-system-s390x"
SEED = int(os.environ.get("PEER_SEED", "2015"))
REQUESTS = int(os.environ.get("PEER_REQUESTS", "2500"))
OTHER_MODELS = {"qemu", "host"}
OTHER_SWITCHES = {"static", "migration-safe", "realized", "start-powered-off", "hotplugged", "hotpluggable", "dedicated"}
EXPANSION, COMPARISON, BASELINE = (f"query-cpu-model-{what}" for what in ("expansion", "comparison", "baseline"))


def switches(monitor):
    """Every feature and group the process knows."""
    properties = monitor.value("device-list-properties", typename="z900-s390x-cpu")
    return {entry["name"] for entry in properties if entry["type"] == "bool"} - OTHER_SWITCHES


def describe(peer, path):
    """Writes what the peer's emulation can do as a host description."""
    model = peer.value(EXPANSION, type="full", model={"name": "max"})["model"]
    features = sorted(name for name, on in model["props"].items() if on)
    name = model["name"].removesuffix("-base")
    path.write_text(json.dumps({"target": "s390x", "accelerator": "tcg", "model": name, "features": features}))


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
            return execute, {"type": self.random.choice(["static", "full"]), "model": self.model()}
        return execute, {"modela": self.model(), "modelb": self.model()}


def comparable(value, known):
    """A reply without what may differ."""
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


def compare(peer, ours):
    """Puts the same questions to both."""
    lists = [monitor.definitions() for monitor in (ours, peer)]
    models = lists[0].keys() & lists[1].keys() - OTHER_MODELS
    features = switches(ours) & switches(peer)
    known = features | {"type"}
    expect(len(models) >= 77 and len(features) >= 320, f"only {len(models)} models and {len(features)} features in common")
    members = ("name", "typename", "static", "migration-safe", "unavailable-features")
    for name in sorted(models):
        mine, theirs = (comparable({key: entries[name][key] for key in members}, known) for entries in lists)
        expect_equal(mine, theirs, f"definition of {name}")
    questions = Questions(random.Random(SEED), models, features)
    answered = 0
    for number in range(REQUESTS):
        execute, arguments = questions.request()
        mine, theirs = (comparable(monitor.reply(execute, **arguments), known) for monitor in (ours, peer))
        expect_equal(mine, theirs, f"seed {SEED}, request {number}: {execute} {json.dumps(arguments)}")
        answered += "return" in mine
    expect(answered > REQUESTS / 3, f"{answered} of {REQUESTS} requests were answered")


@check(f"peer: {REQUESTS} random requests get the same answer from QEMU's own emulator")
def same_answers():
    if not shutil.which(PEER):
        raise Skip(f"{PEER} is not installed (qemu-system-misc)")
    with tempfile.TemporaryDirectory() as folder, Monitor(PEER, "-S", "-machine", "none", "-accel", "tcg") as peer:
        path = pathlib.Path(folder, "host.json")
        describe(peer, path)
        with Monitor(binary("qemu-system-s390x"), "-probe", "-accel", f"hostfile,path={path}") as ours:
            compare(peer, ours)
