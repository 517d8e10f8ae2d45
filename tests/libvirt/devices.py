"""Devices that a domain has from the start, and those that virsh attaches."""

import json
import pathlib
import socket
import xml.etree.ElementTree as tree

from harness.checks import Skip, check, eventually, expect, expect_equal

from .domain import booted
from .host import run, virsh

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


# On the root bus it has the legacy interface, which the test guest knows.
SERIAL = "<controller type='virtio-serial' index='0'><address type='pci' bus='0' slot='5'/></controller>"
AGENT = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
SECOND = "<channel type='pty'><target type='virtio' name='org.example.second'/></channel>"


def channels(domain):
    """The domain's channels by name, and whether the guest has them open, as they are now."""
    devices = tree.fromstring(virsh("dumpxml", domain.name)).find("devices")
    targets = [channel.find("target") for channel in devices.findall("channel")]
    return {target.get("name"): target.get("state") for target in targets}


@check("channel: the guest's agent answers, before and after a reset; a second channel is attached and detached")
def agent_channel():
    with booted(DEVICES=PORTS + SERIAL + AGENT) as domain:
        path = pathlib.Path(f"/run/{domain.name}-channel.xml")
        path.write_text(SECOND)
        agent = "org.qemu.guest_agent.0"
        try:
            expect_equal(channels(domain), {agent: "disconnected"}, "channels of a guest without an agent")
            for number in range(2):
                domain.console.type("v")
                domain.console.expect("PORT 1 connected")
                eventually("the agent is there", 20, lambda: channels(domain)[agent] == "connected")
                for _ in range(3):
                    answer = virsh("qemu-agent-command", domain.name, json.dumps({"execute": "guest-ping"}))
                    expect_equal(json.loads(answer), {"return": {}}, "answer of the agent")
                virsh("attach-device", domain.name, str(path), "--live")
                domain.console.expect("PORT 2 name org.example.second")
                eventually("the guest has it open", 20, lambda: channels(domain)["org.example.second"] == "connected")
                targets = tree.fromstring(virsh("dumpxml", domain.name)).findall("devices/channel")
                virsh("detach-device-alias", domain.name, targets[1].find("alias").get("name"), "--live")
                domain.console.expect("PORT 2 removed")
                eventually("the channel is gone", 20, lambda: list(channels(domain)) == [agent])
                virsh("reset", domain.name)
                domain.console.expect("READY")
                eventually("the agent is gone", 20, lambda: channels(domain)[agent] == "disconnected")
        finally:
            path.unlink()


BRIDGE = "remuda0"
MAC = "52:54:00:00:00:0{}"


def interface(number):
    """An interface on the bridge of the tests."""
    return f"<interface type='bridge'><mac address='{MAC.format(number)}'/><source bridge='{BRIDGE}'/><model type='virtio'/></interface>"


def make_bridge():
    """Makes the bridge of the tests, once."""
    if not pathlib.Path("/dev/net/tun").exists():
        raise Skip("taps need /dev/net/tun")
    if BRIDGE not in [name for _, name in socket.if_nameindex()]:
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "link", "set", BRIDGE, "up")


def interfaces(domain):
    """The host's name of each of the domain's interfaces, by its address."""
    devices = tree.fromstring(virsh("dumpxml", domain.name)).find("devices")
    return {entry.find("mac").get("address"): entry.find("target").get("dev") for entry in devices.findall("interface")}


def take_card(domain, number):
    """Has the guest take its first network card, which is to have this address."""
    domain.console.type("x i 0")
    domain.console.expect(f"CARD {MAC.format(number)} ")


@check("interface: two domains on a bridge from the start; their cables and what passed through them")
def bridged():
    make_bridge()
    with booted(DEVICES=PORTS + interface(1)) as one, booted(DEVICES=PORTS + interface(2)) as other:
        take_card(one, 1)
        take_card(other, 2)
        one.console.type("x e")
        one.console.expect("ECHOING")
        other.console.type("x p 10 1000")
        other.console.expect("PINGS 10 wrong 0")
        name = interfaces(other)[MAC.format(2)]
        counted = dict(line.split()[1:] for line in virsh("domifstat", other.name, name).splitlines())
        expect(int(counted["rx_packets"]) >= 10 and int(counted["tx_packets"]) >= 10, f"what was counted: {counted}")
        for state, wanted in [("down", 0), ("up", 1)]:
            virsh("domif-setlink", other.name, name, state)
            expect_equal(virsh("domif-getlink", other.name, name).split()[-1], state, "state of the cable")
            other.console.type("x t")
            other.console.expect(f"STATUS 0f config {wanted}")
        other.console.type("x p 10 1000")
        other.console.expect("PINGS 10 wrong 0")


@check("interface: attach-interface and detach-interface, three times")
def attach_and_detach_interface():
    make_bridge()
    with booted(DEVICES=PORTS) as domain:
        for number in range(3):
            arguments = ["--type", "bridge", "--source", BRIDGE, "--model", "virtio", "--mac", MAC.format(3), "--live"]
            virsh("attach-interface", domain.name, *arguments)
            expect_equal(list(interfaces(domain)), [MAC.format(3)], f"interfaces, round {number}")
            take_card(domain, 3)
            virsh("detach-interface", domain.name, "bridge", "--mac", MAC.format(3), "--live")
            virsh("reset", domain.name)
            eventually("the interface is gone", 20, lambda: not interfaces(domain))
            domain.talk("without an interface")
