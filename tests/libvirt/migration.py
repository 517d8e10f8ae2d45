"""Guests that are saved and come back."""

import pathlib
import tempfile

from harness.checks import check, expect, expect_equal

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
