"""gdb, driven through its machine interface."""

import os
import re
import select
import shutil
import signal
import subprocess
import time

from .checks import Failure, Skip


class Gdb:
    """A gdb that knows the symbols of `image` and is connected to the stub at `address`."""

    def __init__(self, address, image):
        if not shutil.which("gdb"):
            raise Skip("gdb is not installed")
        self.seen = ""
        self.process = subprocess.Popen(
            ["gdb", "-nx", "-q", "--interpreter=mi3", image], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.wait(r"^\(gdb\) ?$")
        self.run(f"-target-select remote {address}", done=r"^\^connected")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """The connection is closed without a word to the stub."""
        self.process.kill()
        self.process.wait()

    def wait(self, pattern, timeout=30):
        """Reads until a line fits; returns the match and forgets what came before."""
        deadline = time.monotonic() + timeout
        while True:
            found = re.search(pattern + r".*\n", self.seen, re.MULTILINE)
            if found:
                self.seen = self.seen[found.end() :]
                return found
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise Failure(f"gdb did not say {pattern!r} in {timeout} s; since: {self.seen[-600:]!r}")
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            if not data:
                raise Failure(f"gdb has ended; its last words: {self.seen[-600:]!r}")
            self.seen += data.decode(errors="replace")

    def run(self, command, done=r"^\^done"):
        """Runs a command of the machine interface and returns what it answers."""
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()
        answer = self.wait(r"^\^(done|running|connected|error)").group(0)
        if not re.match(done, answer):
            raise Failure(f"{command}: {answer.strip()}")
        return answer

    def number(self, expression):
        """The value of an expression that is a number."""
        answer = self.run(f'-data-evaluate-expression "(long long) ({expression})"')
        return int(re.search(r'value="(-?\d+)"', answer).group(1))

    def go(self, command="-exec-continue"):
        """Lets the guest run, or step."""
        self.run(command, done=r"^\^running")

    def stopped(self):
        """Waits until the guest has stopped; returns the record that says why and where."""
        return self.wait(r"^\*stopped").group(0)

    def interrupt(self):
        """What Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
