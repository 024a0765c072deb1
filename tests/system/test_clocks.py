# SPDX-License-Identifier: AGPL-3.0-only
"""A site whose wall clock is a year ahead, a year behind, or jumps: work goes on, nobody is misled, and it is said."""
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from clock import clock_of
from testbed import ALL, SITES, wait_until

YEAR = 365
HOUR_S = 3600  # far less than the clocks are wrong, and more than a test takes
BAD, OTHERS = "Rennes", ("Nantes", "Paris")


@pytest.fixture
def clock(broken, tmp_path):
    with clock_of(broken, BAD, tmp_path) as clock:
        heard_by_all(broken)
        yield clock


def heard_by_all(bed):
    for site in SITES:
        wait_until(lambda site=site: bed.metric(site, "sites_up") == 2, 60, f"{site} hears the others")


def clock_check(bed, site):
    return next(check for check in bed.get(site, "/v1/doctor")["checks"] if check["check"] == "clock")


def ask(bed, resource, site, key=None, wait=True):
    """Runs everywhere unless it need not wait; the operation's id."""
    options = ("--key", key) if key else ()
    if not wait:
        return bed.cli("exec", "--no-wait", "--id", resource, "--type", "set", "--scope", ALL, "--", "true",
                       site=site).out.strip()
    answer = bed.run_ok(resource, "true", site=site, options=options)
    assert {entry["state"] for entry in answer.sites.values()} == {"done"} and set(answer.sites) == set(SITES)
    return answer.lines[0]["operation"]


def held(bed, site, operation):
    return bed.get(site, f"/v1/operations/{operation}")


def runs_at(bed, site, resource):
    return any(operation["state"] == "running" for operation in bed.history(site, resource))


def assert_stamped_now(bed, operation, sites=SITES):
    """By the right clock, which is this program's; and these have no doubts."""
    for site in sites:
        shown = held(bed, site, operation)
        assert abs(shown["stamp"]["ms"] / 1000 - time.time()) < HOUR_S, (site, shown)
        assert shown["clock_suspect"] is False, (site, shown)


def assert_sequence(bed, resource, operations):
    for site in SITES:
        assert [entry["id"] for entry in bed.history(site, resource)] == operations, site


def assert_clocks_are_well(bed):
    for site in SITES:
        wait_until(lambda site=site: clock_check(bed, site)["ok"], 30, f"{site}: {clock_check(bed, site)}")


def events_of(bed, site, after, kind):
    return [event for event in bed.get(site, f"/v1/events?after={after}&limit=1000")["events"] if event["kind"] == kind]


def test_a_clock_that_jumps_costs_nothing(clock, rid):
    bed = clock.bed
    oldest = {site: bed.get(site, "/v1/events?after=0&limit=1")["oldest"] for site in SITES}
    last = {site: bed.last_event(site) for site in SITES}
    operations = [ask(bed, rid, BAD, key=rid)]

    with ThreadPoolExecutor() as pool:
        meanwhile = pool.submit(bed.run_ok, f"{rid}-meanwhile", "sleep", "2", site=BAD)
        wait_until(lambda: runs_at(bed, BAD, f"{rid}-meanwhile"), 30, "it runs")
        clock.set(+YEAR)
        for entry in meanwhile.result().sites.values():
            assert max(entry["elapsed_ms"], entry["duration_ms"]) < HOUR_S * 1000
    check = clock_check(bed, BAD)
    assert not check["ok"] and "not trusted" in check["detail"] and "NTP" in check["advice"]
    told = bed.cli("doctor", site=BAD)
    assert told.exit_code != 0 and "not trusted: it leads what other sites confirm" in told.out
    operations += [ask(bed, rid, site) for site in (BAD, *OTHERS, BAD)]
    for operation in operations:
        assert_stamped_now(bed, operation)
    for site in OTHERS:
        assert clock_check(bed, site)["detail"].startswith("trusted")

    clock.set(-YEAR)
    wait_until(lambda: "differs from that of every other" in clock_check(bed, BAD)["advice"], 30, "doctor sees it")
    operations += [ask(bed, rid, site) for site in (BAD, *OTHERS, BAD)]
    for site in OTHERS:
        assert clock_check(bed, site)["detail"].startswith("trusted")
        assert not any(held(bed, site, operation)["clock_suspect"] for operation in operations)
        assert_stamped_now(bed, ask(bed, f"{rid}-of-{site}", site), OTHERS)
    assert held(bed, BAD, operations[-1])["clock_suspect"]  # seen from a year ago

    clock.set(0)
    assert_clocks_are_well(bed)
    operations += [ask(bed, rid, site) for site in (*OTHERS, BAD)]
    assert_sequence(bed, rid, operations)
    assert_stamped_now(bed, operations[-1])
    # What the site knew before is still known: the key, the events; and nobody was taken for dead.
    assert ask(bed, rid, BAD, key=rid) == operations[0]
    for site in SITES:
        assert bed.get(site, "/v1/events?after=0&limit=1")["oldest"] == oldest[site]
        assert not events_of(bed, site, last[site], "site.down"), site


def test_what_was_stamped_a_year_ahead_is_suspect_and_does_not_win(clock, rid):
    bed = clock.bed
    last = {site: bed.last_event(site) for site in OTHERS}
    for site in OTHERS:
        bed.demo("cut", BAD, site)
    clock.set(+YEAR)
    clock.restart()  # alone, it has nobody to ask
    ahead = ask(bed, rid, BAD, wait=False)
    concurrent = ask(bed, rid, OTHERS[0], wait=False)
    bed.demo("heal")
    for site, operation in ((BAD, ahead), (OTHERS[0], concurrent)):
        wait_until(lambda site=site, operation=operation: held(bed, site, operation)["completed"], 60,
                   f"{operation} of {site}")
    for site in OTHERS:
        shown = held(bed, site, ahead)
        assert shown["clock_suspect"] and shown["stamp"]["ms"] / 1000 > time.time() + 300 * 24 * 3600
        assert "clock-suspect" in bed.cli("op", "show", ahead, site=site).out
        assert "clock-suspect" in bed.cli("op", "list", "--resource", rid, site=site).out
        assert [event["data"]["clock_suspect"] for event in events_of(bed, site, last[site], "operation.received")
                if event["operation"] == ahead] == [True]
        assert not held(bed, site, concurrent)["clock_suspect"]
        assert clock_check(bed, site)["detail"].startswith("trusted")
        assert_stamped_now(bed, ask(bed, f"{rid}-of-{site}", site), OTHERS)
    heard_by_all(bed)
    assert "not trusted" in clock_check(bed, BAD)["detail"]
    assert_stamped_now(bed, ask(bed, f"{rid}-of-{BAD}", BAD))  # it takes its time from the others by now

    newer = [ask(bed, rid, site) for site in (*OTHERS, BAD)]
    clock.set(0)
    assert_clocks_are_well(bed)
    newer += [ask(bed, rid, site) for site in (BAD, *OTHERS)]
    assert_sequence(bed, rid, [concurrent, ahead, *newer])
