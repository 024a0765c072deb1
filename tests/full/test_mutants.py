# SPDX-License-Identifier: AGPL-3.0-only
"""The simulator finds bugs that are planted into the engine: those picked by hand, and at least half of as many that are drawn."""
import subprocess

from testbed import ROOT


def test_planted_bugs_are_found(tmp_path):
    done = subprocess.run([ROOT / "tests" / "sim" / "mutants", "--work", str(tmp_path)], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=1800, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-4000:]
