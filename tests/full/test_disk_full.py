# SPDX-License-Identifier: AGPL-3.0-only
"""A database whose disk is full, under load: 503, nothing lost, and on it goes when there is room."""
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from audit import Audit
from faults import others
from load import Load
from sampler import Sampler
from testbed import wait_until

SITE = "Nantes"
ROOM = 192 << 20


@pytest.fixture
def small_disk(broken, tmp_path):
    """The database of one site on a file system of its own; its directory."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    data = Path(os.readlink(f"/proc/{broken.pid(SITE, 'database')}/cwd"))
    aside = data.with_name("data.aside")
    size = int(subprocess.run(["du", "-sb", data], stdout=subprocess.PIPE, check=True).stdout.split()[0]) + ROOM
    broken.demo("stop", SITE, "database")
    data.rename(aside)
    data.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", data], check=True)
        try:
            subprocess.run(["cp", "-a", f"{aside}/.", data], check=True)
            shutil.copystat(aside, data)
            os.chown(data, aside.stat().st_uid, aside.stat().st_gid)
            broken.demo("start", SITE, "database")
            yield data
        finally:
            broken.demo("stop", SITE, "database", check=False)
            subprocess.run(["rm", "-rf", aside], check=True)
            subprocess.run(["cp", "-a", data, aside], check=True)
            subprocess.run(["umount", data], check=True)
    finally:
        data.rmdir()
        aside.rename(data)


def fill(directory):
    """Leaves nothing."""
    path = directory / "filler"
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                pass
    return path


def test_database_disk_full(broken, small_disk, rid, shared):
    wait_until(lambda: broken.ready(SITE), 60, f"{SITE} is ready")
    audit = Audit(broken)
    with Load(broken, rid, shared) as load:
        with Sampler(broken, load) as sampler:
            load.wait(3)
            filler = fill(small_disk)
            refused = len(load.failures)
            wait_until(lambda: any("503" in what for *_, what in load.failures[refused:]), 90, "503 from the site")
            load.wait(5, others(SITE))
            time.sleep(5)
            filler.unlink()
            if broken.states()[SITE, "database"] == "stopped":  # it gives up when it has no room to recover
                broken.demo("start", SITE, "database")
            load.wait(2, seconds=120)
            load.stop()
            audit.settle(load, 180)
        sampler.check()
    audit.check(load)
