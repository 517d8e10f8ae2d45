#!/usr/bin/env python3
"""Measures remuda beside another QMP server, turn by turn in one run, and prints a table in Markdown.

usage: bench.py [--runs N] [--ours EMULATOR] [--other EMULATOR] [--no-libvirt] [--gate]

Each figure is a median; both emulators take turns, so that whatever else the machine does falls on both. The guest is
q35 with 128 MiB, one vCPU and nothing in it, paused; it needs /dev/kvm. `virsh start` is timed with the domain and in
the private host of tests/libvirt, which needs root and libvirt. Exits are counted by KVM, while all vCPUs of a guest do
nothing else.

With --gate it fails where remuda is not as much better as GATES says, which leaves room for a machine that does something
else meanwhile. Only ratios count: both emulators run on it."""

import argparse
import gc
import json
import os
import pathlib
import platform
import re
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import exits

TOP = pathlib.Path(__file__).resolve().parents[2]
PROBE = TOP / "tests" / "vectors" / "traffic" / "probe.jsonl"
QUIET = ["-nodefaults", "-no-user-config", "-display", "none", "-S"]
PROBE_MACHINE = ["-machine", "none,accel=kvm:tcg"]
# A model that every emulator and host has.
MODEL = "qemu64"
PREALLOCATED = 4 << 30
GUEST = ["-machine", "q35,accel=kvm", "-cpu", MODEL, "-m", "128"]

# What remuda is better by, at the least.
GATES = {
    "exec to greeting, probe": 2,
    "query-qmp-schema": 50,
    "query-cpu-definitions, first of a process": 5,
    "query-cpu-definitions": 5,
    "query-cpu-model-expansion full host": 4,
    "libvirt's whole probe, from exec": 3,
    "exec to greeting, paused guest": 1.2,
    "query-status round trip, p50": 1.3,
    "query-status round trip, p99": 0.6,
    "pipelined commands per second": 8,
    "memory (PSS) of the paused 128 MiB guest": 2,
    "longest query-status while 4 GiB are preallocated": 5,
    "port writes per second, 1 vCPU": 0.6,
    "port writes per second, 8 vCPUs": 0.6,
    "memory-mapped writes per second, 1 vCPU": 0.6,
    "memory-mapped writes per second, 8 vCPUs": 0.6,
    "virsh start to running": 1,
}


class Session:
    """An emulator just started, with a monitor on a socket that was connected before it began."""

    def __init__(self, program, arguments):
        with tempfile.TemporaryDirectory() as directory:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(f"{directory}/qmp")
            listener.listen(1)
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.connect(f"{directory}/qmp")
        self.socket.settimeout(60)
        monitor = ["-chardev", f"socket,id=m,fd={listener.fileno()},server=on,wait=off", "-mon", "chardev=m,mode=control"]
        self.start = time.perf_counter()
        self.process = subprocess.Popen(
            [program, *QUIET, *arguments, *monitor],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
        )
        listener.close()
        self.buffer = bytearray(1 << 20)
        self.start_of_line = self.end = 0
        if not self.line():
            raise RuntimeError(f"{program} {' '.join(arguments)} did not start")
        self.to_greeting = time.perf_counter() - self.start
        self.command("qmp_capabilities")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.socket.close()

    def send(self, message, count=1):
        """Sends a command without waiting."""
        self.socket.sendall((json.dumps(message) + "\r\n").encode() * count)

    def line(self):
        """The next line; nothing if the monitor closed. Costs as little as can be, for it is part of what is measured."""
        while (newline := self.buffer.find(b"\n", self.start_of_line, self.end)) < 0:
            if self.start_of_line:
                self.buffer[: self.end - self.start_of_line] = self.buffer[self.start_of_line : self.end]
                self.start_of_line, self.end = 0, self.end - self.start_of_line
            count = self.socket.recv_into(memoryview(self.buffer)[self.end :])
            if count == 0:
                return b""
            self.end += count
        line = bytes(self.buffer[self.start_of_line : newline])
        self.start_of_line = newline + 1
        if self.start_of_line == self.end:
            self.start_of_line = self.end = 0
        return line

    def reply(self):
        """The line of the next reply."""
        while True:
            line = self.line()
            if not line:
                raise RuntimeError("the monitor closed")
            if b'"event": ' not in line[:80] and b'"event":' not in line[:80] and b'"timestamp"' not in line[:20]:
                return line

    def command(self, name, **arguments):
        """Runs a command; returns the line of its reply."""
        self.socket.sendall(self.message(name, arguments))
        line = self.reply()
        self.check(name, line)
        return line

    @staticmethod
    def message(name, arguments):
        """The bytes of a command."""
        return (json.dumps({"execute": name, "arguments": arguments} if arguments else {"execute": name}) + "\r\n").encode()

    @staticmethod
    def check(name, line):
        """Fails if a reply is an error."""
        if line.startswith(b'{"error"') or b'"error": {"class"' in line[:80]:
            raise RuntimeError(f"{name}: {line.decode()}")

    def timed(self, name, **arguments):
        """Seconds that a command takes."""
        message = self.message(name, arguments)
        start = time.perf_counter()
        self.socket.sendall(message)
        line = self.reply()
        seconds = time.perf_counter() - start
        self.check(name, line)
        return seconds


def pss_mib(pid):
    """Proportional share of memory of a process and its descendants, in MiB."""
    total = int(re.search(r"^Pss: +(\d+) kB", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1]) / 1024
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        total += sum(pss_mib(int(child)) for child in (task / "children").read_text().split())
    return total


def probe_conversation(program):
    """Seconds from exec to the last reply of what libvirt asks a new emulator."""
    with Session(program, PROBE_MACHINE) as session:
        for line in PROBE.read_text().splitlines():
            exchange = json.loads(line)
            if exchange.get("send", {}).get("execute") == "qmp_capabilities" and session.process.poll() is None:
                continue
            session.send(exchange["send"])
            session.reply()
        return time.perf_counter() - session.start


def quantile(values, share):
    """The value below which `share` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def one_round(program, round_trips):
    """All figures of one turn of one emulator."""
    figures = {}
    with Session(program, PROBE_MACHINE) as session:
        figures["exec to greeting, probe"] = session.to_greeting
        expansion = {"type": "full", "model": {"name": "host"}}
        for name, arguments in [("query-qmp-schema", {}), ("query-cpu-definitions", {}), ("query-cpu-model-expansion", expansion)]:
            title = name + (" full host" if arguments else "")
            first = session.timed(name, **arguments)
            if name == "query-cpu-definitions":
                figures[f"{title}, first of a process"] = first
            figures[title] = statistics.median(session.timed(name, **arguments) for _ in range(5))
    figures["libvirt's whole probe, from exec"] = probe_conversation(program)
    with Session(program, GUEST) as session:
        figures["exec to greeting, paused guest"] = session.to_greeting
        trips = [session.timed("query-status") for _ in range(round_trips)]
        figures["query-status round trip, p50"] = quantile(trips, 0.50)
        figures["query-status round trip, p99"] = quantile(trips, 0.99)
        start = time.perf_counter()
        for _ in range(round_trips // 100):
            session.send({"execute": "query-status"}, 100)
            for _ in range(100):
                session.reply()
        figures["pipelined commands per second"] = round_trips // 100 * 100 / (time.perf_counter() - start)
        time.sleep(0.2)
        figures["memory (PSS) of the paused 128 MiB guest"] = pss_mib(session.process.pid)
    figures["longest query-status while 4 GiB are preallocated"] = beside_preallocation(program)
    for title, body in [("port", exits.PORT), ("memory-mapped", exits.MEMORY)]:
        for vcpus, count in [(1, "1 vCPU"), (8, "8 vCPUs")]:
            figures[f"{title} writes per second, {count}"] = exits.per_second(
                lambda arguments: Session(program, [*GUEST, *arguments]), body, vcpus
            )
    return figures


def beside_preallocation(program):
    """The longest round trip while another client has memory filled. Nothing else runs then, so that every wait is seen."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/second"
        with Session(program, [*GUEST, "-qmp", f"unix:{path},server=on,wait=off"]) as session:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as second:
                second.connect(path)
                second.settimeout(60)
                lines = second.makefile("rb")
                lines.readline()
                second.sendall(b'{"execute": "qmp_capabilities"}')
                lines.readline()
                backend = {"qom-type": "memory-backend-ram", "id": "filled", "size": PREALLOCATED, "prealloc": True}
                second.sendall(json.dumps({"execute": "object-add", "arguments": backend}).encode())
                longest = 0
                while not select.select([second], [], [], 0)[0]:
                    longest = max(longest, session.timed("query-status"))
                reply = lines.readline()
                if b"return" not in reply:
                    raise RuntimeError(f"object-add: {reply.decode()}")
                return longest


def virsh_start(program, model, runs):
    """Medians of the seconds `virsh start` takes; None where libvirt cannot be used."""
    script = pathlib.Path(__file__).with_name("virsh_start.py")
    environment = os.environ | {"REMUDA_QEMU": program, "REMUDA_CPU": model}
    done = subprocess.run([sys.executable, script, str(runs)], env=environment, capture_output=True, text=True)
    try:
        return float(done.stdout.split()[-1])
    except (IndexError, ValueError):
        print(f"virsh start with {program}: {done.stderr.strip() or done.stdout.strip()}", file=sys.stderr)
        return None


def shown(title, value):
    """A figure with its unit."""
    if value is None:
        return "-"
    if "per second" in title:
        return f"{value:,.0f}"
    if "memory" in title:
        return f"{value:.1f} MiB"
    return f"{value * 1e3:.2f} ms" if value >= 1e-3 else f"{value * 1e6:.0f} us"


def main():
    """Measures and prints."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--round-trips", type=int, default=2000)
    parser.add_argument("--ours", default=str(target / "release" / "qemu-system-x86_64"))
    parser.add_argument("--other", default="/usr/bin/qemu-system-x86_64")
    parser.add_argument("--no-libvirt", action="store_true")
    parser.add_argument("--gate", action="store_true")
    options = parser.parse_args()
    programs = [options.ours, options.other]
    # The client is part of every round trip; its collections need not be.
    gc.disable()
    rounds = [[], []]
    # The first round only warms up. After it each goes first every other time.
    for number in range(options.runs + 1):
        for index in (0, 1) if number % 2 else (1, 0):
            figures = one_round(programs[index], options.round_trips)
            if number > 0:
                rounds[index].append(figures)
    titles = list(rounds[0][0])
    medians = [{title: statistics.median(r[title] for r in own) for title in titles} for own in rounds]
    if not options.no_libvirt:
        titles.append("virsh start to running")
        for index, program in enumerate(programs):
            medians[index][titles[-1]] = virsh_start(program, MODEL, options.runs)
    versions = [subprocess.run([p, "-version"], capture_output=True, text=True).stdout.splitlines()[0] for p in programs]
    print(f"Medians of {options.runs} turns on {platform.processor() or platform.machine()}, {os.cpu_count()} processors,")
    print(f"Linux {platform.release()}: {versions[0]} and {versions[1]}, both with `-cpu {MODEL}`.\n")
    print("| | remuda | other | ratio |\n|---|---:|---:|---:|")
    ratios = {}
    for title in titles:
        ours, other = medians[0][title], medians[1][title]
        better = None if None in (ours, other) else ours / other if "per second" in title else other / ours
        ratios[title] = better
        print(f"| {title} | {shown(title, ours)} | {shown(title, other)} | {'-' if better is None else f'{better:.1f}'} |")
    if options.gate:
        sys.exit(gate(ratios))


def gate(ratios):
    """Says of each ratio whether it is what it has to be; the exit status."""
    wrong = 0
    for title, ratio in ratios.items():
        good = ratio is not None and ratio >= GATES[title]
        wrong += not good
        print(f"{'ok  ' if good else 'FAIL'} bench: {title}: {'none' if ratio is None else f'{ratio:.1f}'}, at least {GATES[title]}")
    print(f"{len(ratios) - wrong} passed, {wrong} failed")
    return int(wrong > 0)


main()
