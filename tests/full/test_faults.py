# SPDX-License-Identifier: AGPL-3.0-only
"""Every fault under load; with CHEOPS_FULL_MINUTES again and again, at other instants, until the time is over (see run)."""
import os
import random

import pytest
from faults import FAULTS
from underload import under_load

SEED = int(os.environ.get("CHEOPS_FULL_SEED") or random.randrange(1 << 32))
ROUNDS = 1000 if os.environ.get("CHEOPS_FULL_MINUTES") else 1


@pytest.mark.parametrize("name,number", [(name, number) for number in range(ROUNDS) for name in FAULTS])
def test_fault(broken, rid, shared, name, number):
    print(f"seed {SEED}")
    print(under_load(broken, rid, shared, FAULTS[name], SEED + number))
