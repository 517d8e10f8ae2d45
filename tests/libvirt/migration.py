"""Guests that are saved and come back."""

import json
import pathlib
import tempfile

from harness.checks import check, eventually, expect, expect_equal

from .devices import AGENT, BUILTIN, PORTS, RANDOM, SERIAL, channels
from .domain import booted
from .host import virsh

HOST = None


@check("save, restore: the guest goes on where it was")
def save_and_restore():
    with booted() as domain, tempfile.TemporaryDirectory() as folder:
        domain.talk("before")
        domain.close_console()
        image = f"{folder}/image"
        virsh("save", domain.name, image)
        expect_equal(domain.state(), "shut off", "state after save")
        expect(pathlib.Path(image).stat().st_size > 1 << 16, "the image has a guest in it")
        for _ in range(2):
            virsh("restore", image)
            domain.expect_state("running (restored)")
            domain.talk("after")
            expect("READY" not in domain.console.seen.decode(), "it has not started anew")
            domain.close_console()
            virsh("destroy", domain.name)
        virsh("restore", image, "--paused")
        expect_equal(domain.state(), "paused", "state after restore --paused")
        virsh("resume", domain.name)
        domain.talk("at last")


@check("managedsave, start: the guest goes on where it was, once")
def managed_save():
    with booted() as domain:
        domain.talk("before")
        domain.close_console()
        virsh("managedsave", domain.name)
        expect_equal(domain.state(), "shut off", "state after managedsave")
        domain.start()
        domain.expect_state("running (restored)")
        domain.talk("after")
        expect("READY" not in domain.console.seen.decode(), "it has not started anew")


@check("save, restore: with random number generators and an agent, which answers before and after")
def save_with_devices():
    devices = PORTS + RANDOM + BUILTIN + SERIAL + AGENT
    with booted(DEVICES=devices) as domain, tempfile.TemporaryDirectory() as folder:
        ping = json.dumps({"execute": "guest-ping"})
        domain.console.type("v")
        domain.console.expect("PORT 1 connected")
        eventually("the agent is there", 20, lambda: channels(domain)["org.qemu.guest_agent.0"] == "connected")
        expect_equal(json.loads(virsh("qemu-agent-command", domain.name, ping)), {"return": {}}, "answer before")
        domain.close_console()
        virsh("save", domain.name, f"{folder}/image")
        virsh("restore", f"{folder}/image")
        domain.expect_state("running (restored)")
        eventually("the agent is there again", 20, lambda: channels(domain)["org.qemu.guest_agent.0"] == "connected")
        expect_equal(json.loads(virsh("qemu-agent-command", domain.name, ping)), {"return": {}}, "answer after")
