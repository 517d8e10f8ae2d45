#!/usr/bin/env python3
"""Tier "serve": many guests on one `remuda serve`, driven over its control socket. `run.py [WORD...]` runs the checks
whose names hold one of the words. Needs /dev/kvm."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness import checks  # noqa: E402
from serve import descriptors, ends, guests, identifiers, logs, names, paths, storms  # noqa: E402, F401

checks.main()
