# SPDX-License-Identifier: AGPL-3.0-only
"""What tests on three real sites share. One testbed for a whole run; each test uses resources of its own, and those that break
something put it right."""
import itertools
import os
import re

import pytest
from testbed import ROOT, Testbed

numbers = itertools.count(1)


@pytest.fixture(scope="session")
def sites():
    """In CHEOPS_TEST_SITES; with CHEOPS_TEST_KEEP those that run already are used, and go on running."""
    bed = Testbed(os.environ.get("CHEOPS_TEST_SITES", ROOT / "build" / "test" / "sites"))
    keep = bool(os.environ.get("CHEOPS_TEST_KEEP"))
    try:
        bed.start(anew=not keep)
        yield bed
    finally:
        if not keep:
            bed.stop()


@pytest.fixture
def bed(sites):
    return sites


@pytest.fixture
def broken(sites):
    """For tests that cut links or stop parts: whatever happens, all is whole again afterwards."""
    yield sites
    sites.restore()


@pytest.fixture
def rid(request):
    """A resource id that no other test uses."""
    return re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)[:60].strip("-") + f"-{next(numbers)}"


@pytest.fixture
def shared(tmp_path):
    """A directory that commands on all sites can write to: here sites are one machine."""
    tmp_path.chmod(0o777)
    return tmp_path
