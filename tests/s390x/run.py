#!/usr/bin/env python3
"""S390 CPU models beyond the crate's own tests. `run.py [WORD...]` runs the checks whose names hold one of the words.
cross.sh runs it, and tells it what was built for s390x; without that, those checks are skipped."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness import checks  # noqa: E402
from s390x import guest, libvirt, peer, probe, replies  # noqa: E402, F401

checks.main()
