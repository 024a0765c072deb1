# SPDX-License-Identifier: AGPL-3.0-only
"""One testbed for all system tests; each test uses resources of its own, and those that break something put it right."""
import itertools
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
from testbed import ROOT, Testbed  # noqa: E402

numbers = itertools.count(1)


@pytest.fixture(scope="session")
def sites():
    bed = Testbed(ROOT / "build" / "test" / "sites")
    try:
        bed.start()
        yield bed
    finally:
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
