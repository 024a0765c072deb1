# SPDX-License-Identifier: AGPL-3.0-only
"""The sequence against a plain implementation of the rules, on very many random histories."""
import os
import subprocess
from pathlib import Path

from testbed import ROOT

HISTORIES = 100000


def test_a_hundred_thousand_histories():
    programs = Path(os.environ.get("CHEOPS_DEMO_BIN") or ROOT / "build/release/bin").parent
    subprocess.run([programs / "tests/test_sequence"], env={**os.environ, "CHEOPS_SEQUENCE_SEEDS": str(HISTORIES)}, timeout=3600,
                   check=True)
