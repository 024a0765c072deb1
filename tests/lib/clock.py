# SPDX-License-Identifier: AGPL-3.0-only
"""The wall clock of one site, set wrong.

Its agent runs under libfaketime, which adds to the clock what a file says at every look; the monotonic clock stays what
it is, and so do the clocks of whatever else demo.sh starts.
"""
import os
from contextlib import contextmanager
from pathlib import Path


class Clock:
    def __init__(self, bed, site, directory):
        self.bed, self.site = bed, site
        self.file = Path(directory) / f"clock.{site}"
        library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
        self.environment = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(self.file),
                            "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
                            "FAKETIME_ONLY_CMDS": "cheops-agent"}

    def set(self, days):
        """Ahead of the right time; from now on."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{days:+d}d\n", encoding="ascii")
        os.replace(new, self.file)

    def restart(self):
        """The agent, which has heard nobody then."""
        self.bed.demo("stop", self.site, "agent")
        self.bed.demo("start", self.site, "agent", environment=self.environment)


@contextmanager
def clock_of(bed, site, directory):
    """A clock that can be set; right at first, and at the end."""
    clock = Clock(bed, site, directory)
    clock.set(0)
    clock.restart()
    try:
        yield clock
    finally:
        clock.set(0)
        bed.demo("stop", site, "agent")  # the next start is a usual one
        bed.demo("start", site, "agent")
