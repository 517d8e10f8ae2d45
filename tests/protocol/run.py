#!/usr/bin/env python3
"""Tier "protocol": the emulator alone, by QMP and by its command line. `run.py [WORD...]` runs the checks
whose names hold one of the words. Needs the PyPI package qemu.qmp; guests need /dev/kvm."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness import checks  # noqa: E402
from protocol import (  # noqa: E402, F401
    client,
    cmdline,
    compat,
    cpu,
    debugger,
    descriptors,
    devices,
    disks,
    endings,
    firmware,
    guest,
    keyboard,
    logs,
    migration,
    monitors,
    names,
    networks,
    options,
    ports,
    processes,
    processors,
    qcow2,
    replay,
    runstates,
    serial,
    session,
    startup,
    twice,
)

checks.main()
