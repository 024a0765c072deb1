# SPDX-License-Identifier: AGPL-3.0-only
"""The short ones of the faults under load; tests/full has all of them."""
import random

import pytest
from faults import FAULTS
from underload import under_load


@pytest.mark.parametrize("name", [fault.name for fault in FAULTS.values() if fault.short])
def test_fault(broken, rid, shared, name):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    print(under_load(broken, rid, shared, FAULTS[name], seed))
