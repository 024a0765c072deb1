# SPDX-License-Identifier: AGPL-3.0-only
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
pytest_plugins = ["bed_fixtures"]
