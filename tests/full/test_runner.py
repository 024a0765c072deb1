# SPDX-License-Identifier: AGPL-3.0-only
"""Agents that are killed within commands, very often: tests/unit/drivers/runner_loop.c says what must hold."""
import os
import subprocess
from pathlib import Path

from testbed import ROOT

KILLS = 10000


def test_ten_thousand_kills_within_commands():
    programs = Path(os.environ.get("CHEOPS_DEMO_BIN") or ROOT / "build/release/bin").parent
    command = [programs / "tests/runner_loop", str(KILLS)]
    if seed := os.environ.get("CHEOPS_FULL_SEED"):
        command.append(seed)
    subprocess.run(command, env={**os.environ, "CHEOPS_BINARY_DIR": str(programs)}, timeout=3600, check=True)
