"""A QMP client that hides nothing: bytes on a socket, replies by id, events in a list."""

import json
import select
import socket
import time

from .checks import Failure


class QmpError(Exception):
    """An error reply; `error_class` and `desc` as the server sent them."""

    def __init__(self, error):
        super().__init__(f"{error.get('class')}: {error.get('desc')}")
        self.error_class = error.get("class")
        self.desc = error.get("desc")


class Qmp:
    """One connection to a monitor. Every wait has a time limit, so a silent server fails the check."""

    def __init__(self, address, negotiate=True, oob=False, timeout=20):
        self.timeout = timeout
        self.buffer = b""
        self.events = []
        self.socket = connect(address)
        self.greeting = self.read()
        self.next_id = 0
        if negotiate:
            self.command("qmp_capabilities", **({"enable": ["oob"]} if oob else {}))

    def close(self):
        """Closes the connection; the guest lives on."""
        self.socket.close()

    def send(self, data, fds=()):
        """Sends bytes as they are, or a value as one JSON line; `fds` ride on the first byte."""
        if not isinstance(data, bytes):
            data = json.dumps(data).encode() + b"\r\n"
        if fds:
            sent = socket.send_fds(self.socket, [data], list(fds))
            data = data[sent:]
        self.socket.sendall(data)

    def read_line(self, timeout=None):
        """The next line with its end, or b'' when the server closed the connection."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.socket], [], [], left)[0]:
                raise Failure(f"no line from the monitor in time; pending {self.buffer[:200]!r}")
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                return b""
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line + b"\n"

    def read(self, timeout=None):
        """The next message of any kind."""
        line = self.read_line(timeout)
        if not line:
            raise Failure("the monitor closed the connection")
        return json.loads(line)

    def read_reply(self, timeout=None):
        """The next reply; events that come before it are kept in `events`."""
        while True:
            message = self.read(timeout)
            if "event" not in message:
                return message
            self.events.append(message)

    def command(self, name, /, fds=(), timeout=None, **arguments):
        """Runs a command in band and returns its value; raises QmpError on an error reply."""
        self.next_id += 1
        ident = f"t-{self.next_id}"
        message = {"execute": name, "id": ident}
        if arguments:
            message["arguments"] = {key.replace("_", "-"): value for key, value in arguments.items()}
        self.send(message, fds)
        reply = self.read_reply(timeout)
        if reply.get("id") != ident:
            raise Failure(f"reply to {name} has id {reply.get('id')!r}, wanted {ident!r}")
        if "error" in reply:
            raise QmpError(reply["error"])
        return reply["return"]

    def hmp(self, line):
        """Runs one line of the human monitor and returns the text it prints."""
        return self.command("human-monitor-command", command_line=line)

    def wait_event(self, name, timeout=20):
        """The first event `name` not yet taken, which it takes along with all events before it."""
        deadline = time.monotonic() + timeout
        while True:
            for index, event in enumerate(self.events):
                if event["event"] == name:
                    del self.events[: index + 1]
                    return event
            left = deadline - time.monotonic()
            if left <= 0:
                raise Failure(f"event {name} did not come; pending {[e['event'] for e in self.events]}")
            message = self.read(left)
            if "event" not in message:
                raise Failure(f"a reply nobody asked for: {message}")
            self.events.append(message)


def connect(address, timeout=2):
    """A connected stream socket; `address` is a path or a (host, port) pair. Waits for the server to appear."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    deadline = time.monotonic() + timeout
    while True:
        stream = socket.socket(family, socket.SOCK_STREAM)
        try:
            stream.connect(address)
            return stream
        except (FileNotFoundError, ConnectionRefusedError):
            stream.close()
            if time.monotonic() > deadline:
                raise Failure(f"nobody listens on {address}") from None
            time.sleep(0.005)
