#!/usr/bin/env python3
"""Tier "libvirt": real libvirtd and virsh on the emulator, in private namespaces. `run.py [WORD...]` runs the
checks whose names hold one of the words. Needs root, libvirt-daemon-system and /dev/kvm.
REMUDA_LIBVIRT_TRACE=1 logs every QMP message and prints the log's path on failure."""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness import checks  # noqa: E402
from harness.emulator import need_kvm, test_guest  # noqa: E402
from libvirt import host  # noqa: E402


def main():
    """Enters the private host and runs the checks there."""
    try:
        if os.geteuid() != 0:
            raise checks.Skip("needs root for its namespaces")
        need_kvm()
        test_guest()
        os.environ.setdefault("REMUDA_RUN", str(os.getpid()))
        host.enter()
        private = host.Host()
    except checks.Skip as reason:
        print(f"skip libvirt: {reason}\n1 skipped\n0 passed, 0 failed")
        return
    # Checks run in this order: the first looks for errors in a log that no other has given any yet.
    from libvirt import inspection
    from libvirt import devices, disks, lifecycle, migration, models, trouble

    for module in (inspection, devices, disks, lifecycle, migration, models, trouble):
        module.HOST = private
    checks.main(on_failure=private.explain)


main()
