"""Recorded hosts behind a simulated /dev/kvm, for programs that were built for s390x."""

import json
import os
import pathlib
import subprocess
import tempfile

from harness.checks import Skip

HERE = pathlib.Path(__file__).resolve().parent
HOSTS = sorted((HERE.parent / "vectors" / "s390x" / "hosts").iterdir())
_FOLDER = tempfile.TemporaryDirectory(prefix="remuda-kvmsim-")
FOLDER = pathlib.Path(_FOLDER.name)


def built(variable):
    """The program that cross.sh built and tells us by an environment variable."""
    path = os.environ.get(variable)
    if not path:
        raise Skip(f"${variable} is not set: run tests/s390x/cross.sh")
    return path


def compiled(name, compiler="s390x-linux-gnu-gcc"):
    """A library for LD_PRELOAD from kvmsim/NAME.c."""
    path = FOLDER / f"{name}.so"
    if not path.exists():
        flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        subprocess.run([compiler, *flags, "-o", path, HERE / "kvmsim" / f"{name}.c", "-ldl"], check=True)
    return path


class Host:
    """One recorded host."""

    def __init__(self, folder):
        self.name = folder.name
        self.folder = folder
        self.description = folder / "sim_host.json"
        self.data = FOLDER / f"{self.name}.host"

    def command(self, program, log):
        """The words that run a program of this host's architecture on it; the simulation tells `log` what it was asked."""
        if not self.data.exists():
            subprocess.run([HERE / "kvmsim" / "describe.py", self.description, self.data], check=True)
        words = ["qemu-s390x-static", "-L", "/usr/s390x-linux-gnu"]
        environment = {
            "LD_PRELOAD": compiled("kvmsim"),
            "KVMSIM_HOST": self.data,
            "KVMSIM_LOG": log,
            "KVMSIM_DESCRIPTION": self.description,
        }
        for name, value in environment.items():
            words += ["-E", f"{name}={value}"]
        return [*words, str(program)]

    def model(self):
        """The host's own model, as a static expansion."""
        description = json.loads(self.description.read_text())
        model = description["expect_static"]
        model["props"].update({name: True for name in description["expect_extra_with_newest_rules"]})
        return model

    def definitions(self):
        """The recorded definitions."""
        return [json.loads(line) for line in (self.folder / "definitions.jsonl").read_text().splitlines()]


ALL = [Host(folder) for folder in HOSTS]
