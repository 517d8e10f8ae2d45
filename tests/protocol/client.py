"""A foreign client: the PyPI package qemu.qmp, which is what QEMU's own tools use."""

import asyncio
import contextlib

from harness.checks import Skip, check, expect, expect_equal
from harness.emulator import Emulator, need_kvm

try:
    from qemu.qmp import ExecuteError, QMPClient
except ImportError:
    QMPClient = None


def run(conversation, *arguments, ends=False, **options):
    """Runs `conversation(client)` on a connected client and disconnects; `ends` where it ends the emulator, which may
    then be gone before the client disconnects."""
    if QMPClient is None:
        raise Skip("Python package qemu.qmp is missing")

    async def connected():
        client = QMPClient("remuda-tests")
        emulator.qmp().close()
        await client.connect(emulator.qmp_path)
        try:
            await asyncio.wait_for(conversation(client), 60)
        finally:
            with contextlib.suppress(*([EOFError] if ends else [])):
                await client.disconnect()

    with Emulator(*arguments, **options) as emulator:
        asyncio.run(connected())


@check("client: qemu.qmp connects, runs commands and reads errors")
def commands():
    async def conversation(client):
        version = await client.execute("query-version")
        expect(version["qemu"]["major"] >= 7, f"version {version}")
        expect(len(await client.execute("query-qmp-schema")) > 100, "the schema is there")
        try:
            await client.execute("no-such-command")
            expect(False, "an unknown command succeeded")
        except ExecuteError as error:
            expect_equal(error.error.error.class_, "CommandNotFound", "class")
        replies = await asyncio.gather(*(client.execute("query-kvm") for _ in range(50)))
        expect(all(reply["present"] for reply in replies), f"KVM is present: {replies[0]}")

    need_kvm()
    run(conversation, guest=False, paused=True, console=False)


@check("client: qemu.qmp receives the events of a guest's life")
def events():
    async def conversation(client):
        with client.listener() as listener:
            await client.execute("cont")
            await client.execute("stop")
            await client.execute("cont")
            await client.execute("system_reset")
            await client.execute("quit")
            seen = []
            async for event in listener:
                seen.append(event["event"])
                expect(set(event["timestamp"]) == {"seconds", "microseconds"}, f"timestamp of {event}")
                if seen[-1] == "SHUTDOWN":
                    break
        wanted = ["RESUME", "STOP", "RESUME", "SHUTDOWN"]
        expect_equal([name for name in seen if name in wanted], wanted, "events")

    need_kvm()
    run(conversation, ends=True, paused=True)
