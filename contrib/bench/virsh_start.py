#!/usr/bin/env python3
"""Times `virsh start` of the domain of tests/libvirt, in its private host: virsh_start.py RUNS prints the median in
seconds. $REMUDA_QEMU is the emulator. The first start, in which libvirt probes the emulator, is not counted."""

import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests"))

from libvirt import host  # noqa: E402

host.enter()
host.Host()

from libvirt.domain import Domain  # noqa: E402

times = []
with Domain(start=False) as domain:
    for run in range(int(sys.argv[1]) + 1):
        start = time.perf_counter()
        domain.start()
        times.append(time.perf_counter() - start)
        host.virsh("destroy", domain.name)
print(statistics.median(times[1:]))
