"""Devices that a domain has from the start, and those that virsh attaches."""

import pathlib
import xml.etree.ElementTree as tree

from harness.checks import check, eventually, expect, expect_equal

from .domain import booted
from .host import virsh

HOST = None

PORTS = "<controller type='pci' index='0' model='pcie-root'/>"
PORTS += "".join(f"<controller type='pci' index='{number}' model='pcie-root-port'/>" for number in range(1, 6))
RANDOM = "<rng model='virtio'><rate bytes='1024' period='1000'/><backend model='random'>/dev/urandom</backend></rng>"
BUILTIN = "<rng model='virtio'><backend model='builtin'/></rng>"


def rngs(domain):
    """The back ends of the domain's random number generators, as they are now."""
    devices = tree.fromstring(virsh("dumpxml", domain.name)).find("devices")
    return [rng.find("backend").get("model") for rng in devices.findall("rng")]


@check("rng: random and builtin ones from the start")
def from_the_start():
    with booted(DEVICES=PORTS + RANDOM + BUILTIN) as domain:
        expect_equal(rngs(domain), ["random", "builtin"], "generators")
        domain.talk("with two generators")


@check("rng: attach-device and detach-device; a guest that does not let go loses it at the reset, ten times")
def attach_and_detach():
    with booted(DEVICES=PORTS) as domain:
        path = pathlib.Path(f"/run/{domain.name}-rng.xml")
        path.write_text(RANDOM)
        try:
            for number in range(10):
                virsh("attach-device", domain.name, str(path), "--live")
                expect_equal(rngs(domain), ["random"], f"generators, round {number}")
                alias = tree.fromstring(virsh("dumpxml", domain.name)).find("devices/rng/alias").get("name")
                virsh("detach-device-alias", domain.name, alias, "--live")
                virsh("reset", domain.name)
                eventually("the generator is gone", 20, lambda: not rngs(domain))
        finally:
            path.unlink()
        expect(domain.state() == "running", "it runs")
        domain.talk("without a generator")
