"""Every option of -help: given twice, and naming what is missing, a folder, or full."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

from harness.checks import check, expect
from harness.emulator import binary

QUIT = b'{"execute":"qmp_capabilities"}\n{"execute":"quit"}\n'
BASE = ["-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-qmp", "stdio"]
# These end the process at once, or take it off the terminal.
LEFT_OUT = {"h", "help", "version", "daemonize", "probe"}
MISSING = "/nonexistent/file"


def options():
    """The options of -help, each with whether it takes an argument."""
    text = subprocess.run([binary(), "-help"], capture_output=True, text=True, timeout=30, check=True).stdout
    found = re.findall(r"^-([\w-]+)( \S+)?", text, re.MULTILINE)
    return {name: bool(argument) for name, argument in found if name not in LEFT_OUT}


def run(arguments, folder):
    """Runs the emulator without a guest in `folder` until `quit`; returns its exit status, what it said, and whether anything was
    left of its process group, which is ended."""
    process = subprocess.Popen(
        [os.path.abspath(shutil.which(binary())), *BASE, *arguments],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, said = process.communicate(QUIT, timeout=20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return "hangs", "", True
    deadline = time.monotonic() + 3
    while (left := members(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.01)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return process.returncode, said.decode(errors="replace"), bool(left)


def members(session):
    """The processes of a session, zombies left out."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split() if entry.name.isdigit() else None
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields and fields[0] != "Z" and int(fields[3]) == session:
            found.append(int(entry.name))
    return found


def troubles(arguments, folder):
    """What is wrong with how these arguments are taken, in words."""
    status, said, left = run(arguments, folder)
    if status not in (0, 1):
        yield f"{arguments}: exit status {status}: {said!r}"
    if "panicked" in said:
        yield f"{arguments}: panic: {said!r}"
    if status == 1 and not said.strip():
        yield f"{arguments}: fails without a word"
    if left:
        yield f"{arguments}: leaves a process behind"


@check("options: each given twice, and each naming a file that is not there, a folder or a full device")
def sweep():
    # What is named is made in a folder of its own: relative names are among the values.
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as working:
        values = ["", MISSING, folder, "/dev/full", f"file={MISSING}", f"path={MISSING}", "nosuch", "nosuch=1", "id=a", "help,", ",", "=", "1", "-1", "\u00fc"]
        wrong = []
        for name, takes in options().items():
            given = [[f"-{name}", value] for value in values] if takes else [[f"-{name}"]]
            for words in given:
                wrong += troubles(words, working)
                wrong += troubles([*words, *words], working)
        expect(not wrong, "\n".join(wrong))
