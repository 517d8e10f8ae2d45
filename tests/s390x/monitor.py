"""An emulator with QMP on its standard input and output."""

import json
import subprocess
import threading

from harness.checks import Failure, expect

SECONDS = 90


class Monitor:
    """A process that is ended by force if it takes longer than it can need."""

    def __init__(self, *command):
        command = [*command, "-display", "none", "-nodefaults", "-qmp", "stdio"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self.ended = None
        self.timer = threading.Timer(SECONDS, self.process.kill)
        self.timer.start()

    def __enter__(self):
        line = self.process.stdout.readline()
        if not line:
            raise Failure(f"no greeting: {self.end()[1]}")
        expect("QMP" in json.loads(line), f"greeting {line!r}")
        self.value("qmp_capabilities")
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.value("quit")
            status, said = self.end()
            expect(status == 0, f"exit status {status}: {said}")
        else:
            self.process.kill()
            self.end()

    def reply(self, execute, **arguments):
        """The reply to a command; events on the way are dropped."""
        request = {"execute": execute}
        if arguments:
            request["arguments"] = arguments
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        while True:
            line = self.process.stdout.readline()
            if not line:
                raise Failure(f"the emulator ended at {execute}: {self.end()[1]}")
            reply = json.loads(line)
            if "event" not in reply:
                return reply

    def value(self, execute, **arguments):
        """What a command returns; an error fails the check."""
        reply = self.reply(execute, **arguments)
        expect("return" in reply, f"{execute}: {reply}")
        return reply["return"]

    def definitions(self):
        """The reply to query-cpu-definitions by name."""
        return {entry["name"]: entry for entry in self.value("query-cpu-definitions")}

    def static(self, name):
        """A model's static expansion."""
        return self.value("query-cpu-model-expansion", type="static", model={"name": name})["model"]

    def end(self):
        """Waits for the end: exit status, and what was said on standard error."""
        if self.ended is None:
            said = self.process.communicate()[1]
            self.timer.cancel()
            self.ended = self.process.returncode, said
        return self.ended


def refusal(*command):
    """What a command line that must be refused says, without the program's name."""
    status, said = Monitor(*command).end()
    expect(status == 1, f"exit status {status}: {said}")
    lines = said.strip().splitlines()
    return "\n".join(line.split(": ", 1)[1] if line.startswith("qemu-system") else line for line in lines)
