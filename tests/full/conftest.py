# SPDX-License-Identifier: AGPL-3.0-only
import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
pytest_plugins = ["bed_fixtures"]

BEGAN = time.monotonic()


@pytest.fixture(autouse=True)
def bounded():
    """No test begins when the minutes that were asked for are over."""
    minutes = float(os.environ.get("CHEOPS_FULL_MINUTES") or "inf")
    if time.monotonic() - BEGAN > minutes * 60:
        pytest.exit(f"{minutes:g} minutes are over", returncode=0)


def pytest_collection_modifyitems(items):
    """Everything once before anything again."""
    items.sort(key=lambda item: item.callspec.params.get("number", 0) if hasattr(item, "callspec") else 0)
