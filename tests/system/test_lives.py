# SPDX-License-Identifier: AGPL-3.0-only
"""Databases that go back in time: noticed before anything is admitted, nothing issued or run twice, the past comes back."""
import os
import subprocess

import pytest
from testbed import ALL, SITES, wait_until


def dsn(bed, site):
    return bed.environment[f"CHEOPS_DSN_{site.upper()}"]


def database(bed, site, statement):
    subprocess.run(["psql", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement, dsn(bed, site)], check=True,
                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def back_up(bed, site, path):
    subprocess.run(["pg_dump", "-Fc", "-n", "cheops", "-f", str(path), dsn(bed, site)], check=True)


def put_back(bed, site, path):
    database(bed, site, "DROP SCHEMA cheops CASCADE")
    if path is not None:
        subprocess.run(["pg_restore", "-d", dsn(bed, site), str(path)], check=True)


def give(bed, rid, shared, count, sites=SITES):
    """Operations on two resources from each site, without waiting: (resource, site of origin, id)."""
    given = []
    for i in range(count):
        for site in sites:
            resource = f"{rid}-{i % 2}"
            result = bed.cli("exec", "--no-wait", "--id", resource, "--type", "set", "--scope", ALL, "--", "sh", "-c",
                             f"echo $CHEOPS_OPERATION >> {shared}/$CHEOPS_SITE", site=site)
            assert result.exit_code == 0, result
            given.append((resource, site, result.out.strip()))
    return given


def wait_completed(bed, given, seconds=60):
    for _, origin, operation in given:
        wait_until(lambda origin=origin, operation=operation: bed.get(origin, f"/v1/operations/{operation}")["completed"],
                   seconds, f"{operation} of {origin} is completed")


def held(bed, site, resources):
    return {operation["id"] for resource in resources for operation in bed.history(site, resource)}


def state_at(bed, at, operation, site):
    return {entry["site"]: entry["state"] for entry in bed.get(at, f"/v1/operations/{operation}")["sites"]}[site]


def incarnation(bed, site):
    answer = wait_until(lambda: (got := bed.http(site, "GET", "/v1/status")).status_code == 200 and got, 60,
                        f"{site} says how it is")
    return answer.json()["incarnation"]


@pytest.mark.parametrize("lost", [False, True], ids=["backup", "lost"])
def test_database_that_went_back_in_time(broken, rid, shared, tmp_path, lost):
    given = give(broken, rid, shared, 3)
    back_up(broken, "Nantes", tmp_path / "backup")
    given += give(broken, rid, shared, 3)
    wait_completed(broken, given)
    life = incarnation(broken, "Nantes")
    broken.demo("kill", "Nantes", "agent")
    put_back(broken, "Nantes", None if lost else tmp_path / "backup")
    broken.demo("start", "Nantes", "agent")
    wait_until(lambda: broken.ready("Nantes"), 60, "Nantes is ready")
    assert incarnation(broken, "Nantes") > life
    new = give(broken, f"{rid}-new", shared, 1)
    wait_completed(broken, new)  # others go on at once, and so does Nantes with what is new
    resources = {resource for resource, _, _ in given}
    everything = {operation for _, _, operation in given}
    for site in SITES:
        wait_until(lambda site=site: everything <= held(broken, site, resources), 60, f"{site} holds everything")
    counts = {site: (shared / site).read_text(encoding="utf-8").split() for site in SITES}
    for site in SITES:
        assert sorted(counts[site]) == sorted(operation for _, _, operation in given + new), site
    # What its origin knows to be done is done; what only the lost database knew is in doubt, and a person ends it.
    for _, origin, operation in given:
        wait_until(lambda operation=operation: state_at(broken, "Nantes", operation, "Nantes") in ("done", "in-doubt"), 60,
                   f"the state of {operation} is known")
        if origin != "Nantes":
            wait_until(lambda operation=operation: state_at(broken, "Nantes", operation, "Nantes") == "done", 60,
                       f"{operation} of {origin} is known to be done")
    result = broken.cli("op", "resolve", "--all", "done", site="Nantes")
    assert result.exit_code == 0, result
    wait_completed(broken, given)
    last = give(broken, rid, shared, 1)
    wait_completed(broken, last)
    assert not any(broken.dead(site) for site in SITES)


def test_copied_state_directory_is_not_believed(broken, rid, shared):
    wait_completed(broken, give(broken, rid, shared, 1))
    life = incarnation(broken, "Nantes")
    broken.demo("kill", "Nantes", "agent")
    water = broken.directory / "Nantes/agent/high-water"
    copy = water.read_bytes()
    owner = water.stat()
    water.rename(water.with_suffix(".old"))
    water.write_bytes(copy)
    os.chown(water, owner.st_uid, owner.st_gid)
    broken.demo("start", "Nantes", "agent")
    wait_until(lambda: broken.ready("Nantes"), 60, "Nantes is ready")
    assert incarnation(broken, "Nantes") > life
    # Until the others have reported, what arrives may have been run by the life that the copy is older than.
    wait_until(lambda: broken.sql("Nantes", "SELECT count(*) FROM cheops.peer WHERE gap_open")[0][0] == 0, 60,
               "the gaps are closed")
    wait_completed(broken, give(broken, rid, shared, 1))


def test_restart_is_the_same_life(broken, rid, shared):
    wait_completed(broken, give(broken, rid, shared, 1))
    life = incarnation(broken, "Nantes")
    for part in ("agent", "database"):
        broken.demo("kill", "Nantes", part)
        broken.demo("start", "Nantes", part)
        wait_until(lambda: broken.ready("Nantes"), 60, "Nantes is ready")
    assert incarnation(broken, "Nantes") == life
    wait_completed(broken, give(broken, rid, shared, 1))
