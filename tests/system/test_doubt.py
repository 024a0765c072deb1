# SPDX-License-Identifier: AGPL-3.0-only
"""A crash of a machine hides whether a command ran: nobody guesses, its resource waits, and a person ends the doubt."""
import os
import signal

import pytest
from audit import runners
from testbed import ALL, SITES, wait_until

@pytest.fixture(autouse=True)
def released(shared):
    """What was resolved as failed is tried again, since it succeeded elsewhere: then it ends."""
    yield
    for site in SITES:
        (shared / f"go-{site}").touch()


HANG = "echo ran >> {shared}/$CHEOPS_SITE; [ -e {shared}/go-$CHEOPS_SITE ] || sleep 600"


def states(bed, site, operation):
    return {entry["site"]: entry["state"] for entry in bed.get(site, f"/v1/operations/{operation}")["sites"]}


def entry_of(bed, site, operation, at):
    return next(entry for entry in bed.get(site, f"/v1/operations/{operation}")["sites"] if entry["site"] == at)


def lines(path):
    return path.read_text().split() if path.exists() else []


def admit(bed, rid, command, site, scope=ALL):
    result = bed.cli("exec", "--no-wait", "--id", rid, "--type", "set", *(("--scope", scope) if scope else ()), "--deadline",
                     "15m", "--", "sh", "-c", command, site=site)
    assert result.exit_code == 0, result
    return result.out.strip()


def crash(bed, site):
    """The agent and its runners go together, as with the machine."""
    bed.demo("kill", site, "agent")
    for pid in runners(bed, site):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not runners(bed, site), what="the runners are gone")
    bed.demo("start", site, "agent")
    wait_until(lambda: bed.ready(site), 60, f"{site} is ready")


def doubt(bed, rid, shared, at, origin="Nantes"):
    """An operation that is in doubt at a site and done elsewhere, and one that waits behind it."""
    for site in SITES:
        if site != at:
            (shared / f"go-{site}").touch()
    operation = admit(bed, rid, HANG.format(shared=shared), origin)
    wait_until(lambda: lines(shared / at) == ["ran"] and
               all(state == "done" for site, state in states(bed, origin, operation).items() if site != at), 60,
               "it hangs there and is done elsewhere")
    behind = admit(bed, rid, f"echo behind >> {shared}/$CHEOPS_SITE", "Paris", None)
    crash(bed, at)
    wait_until(lambda: states(bed, origin, operation)[at] == "in-doubt", 60, "it is in doubt")
    (shared / f"go-{at}").touch()
    return operation, behind


def by_its_own_agent(bed, operation, at, resolution):
    return bed.cli("op", "resolve", operation, resolution, site=at)


def by_a_third(bed, operation, at, resolution):
    third = next(site for site in SITES if site not in (at, "Nantes"))
    return bed.cli("op", "resolve", operation, resolution, "--api", bed.url(third), site=at)


@pytest.mark.parametrize("at, resolve, resolution, state, ran", [
    ("Nantes", by_its_own_agent, "done", "done", ["ran", "behind"]),
    ("Rennes", by_a_third, "failed", "failed", ["ran", "behind"]),
    ("Rennes", by_a_third, "rerun", "done", ["ran", "ran", "behind"]),
])
def test_doubt_holds_the_resource_until_it_is_resolved(broken, rid, shared, at, resolve, resolution, state, ran):
    operation, behind = doubt(broken, rid, shared, at)
    assert lines(shared / at) == ["ran"]
    assert states(broken, "Paris", behind)[at] in ("queued", "delivered", "accepted")
    hint = f"cheops op resolve {operation} --site {at} done|failed|rerun"
    assert hint in broken.cli("op", "show", operation).out
    assert hint in broken.cli("resource", "show", rid, site=at).out
    assert broken.get(at, f"/v1/resources/{rid}")["state"] == "in-doubt"
    assert operation in broken.cli("doctor", site=at).out
    last = broken.last_event(at)
    result = resolve(broken, operation, at, resolution)
    assert result.exit_code == 0 and operation in result.out, result
    wait_until(lambda: states(broken, "Nantes", operation)[at] == state, 60, "its origin knows how it ended")
    wait_until(lambda: states(broken, "Paris", behind)[at] == "done", 60, "the resource goes on")
    assert lines(shared / at) == ran
    entry = entry_of(broken, "Nantes", operation, at)
    assert entry["reason"] == (None if resolution == "rerun" else f"resolved as {resolution} by demo"), entry
    assert broken.get("Nantes", f"/v1/operations/{operation}")["completed"]
    event, = [event for event in broken.get(at, f"/v1/events?after={last}&limit=1000")["events"]
              if event["kind"] == "operation.resolved"]
    assert event["operation"] == operation and event["data"]["resolution"] == resolution
    assert event["data"]["principal"] == "demo"
    # Once: what is not in doubt any more is not resolved, wherever it is asked.
    for again in (by_its_own_agent, by_a_third):
        refused = again(broken, operation, at, "failed")
        assert refused.exit_code == 3 and f"is {state} at {at}" in refused.err, refused
    assert broken.get(at, f"/v1/resources/{rid}")["state"] != "in-doubt"


def test_many_at_once(broken, rid, shared):
    """What of several resources was under way when a machine crashed."""
    (shared / "go-Rennes").touch()
    rids = [f"{rid}-{n}" for n in range(4)]
    doubted = {one: admit(broken, one, HANG.format(shared=shared), "Rennes", "Nantes & Rennes") for one in rids}
    wait_until(lambda: len(lines(shared / "Nantes")) == 4, 60, "all four run")
    crash(broken, "Nantes")
    wait_until(lambda: all(states(broken, "Rennes", one)["Nantes"] == "in-doubt" for one in doubted.values()), 60,
               "all four are in doubt")
    one = broken.cli("op", "resolve", "--resource", rids[2], "done", site="Nantes")
    assert one.exit_code == 0 and "1 of 1 executions in doubt at Nantes are resolved as done" in one.out, one
    # By the origin, which knows of them, too.
    rest = broken.cli("op", "resolve", "--all", "failed", "--api", broken.url("Rennes"), site="Nantes")
    assert rest.exit_code == 0 and "3 of 3" in rest.out and "ask the agent of Nantes" in rest.err, rest
    for one, operation in doubted.items():
        expected = "done" if one == rids[2] else "failed"
        wait_until(lambda: states(broken, "Rennes", operation)["Nantes"] == expected, 30, f"{one} is {expected}")
    none = broken.cli("op", "resolve", "--all", "done", site="Nantes")
    assert none.exit_code == 0 and "0 of 0" in none.out, none
    assert len(lines(shared / "Nantes")) == 4


def test_wrong_uses_are_refused(broken, rid, shared):
    operation = broken.run_ok(rid, "true").lines[0]["operation"]
    unknown = "0192f000-0000-7000-8000-000000000001"

    def post(site, path, body):
        answer = broken.http(site, "POST", f"/v1/operations/{path}", json=body)
        return answer.status_code, answer.json()["error"]
    for asked in SITES:
        status, error = post(asked, f"{operation}/resolve", {"site": "Rennes", "resolution": "done"})
        assert status == 409 and "is done at Rennes: only an execution in doubt is resolved" in error, error
    assert post("Rennes", f"{unknown}/resolve", {"site": "Rennes", "resolution": "done"})[0] == 404
    assert "not known at Rennes" in post("Nantes", f"{unknown}/resolve", {"site": "Rennes", "resolution": "done"})[1]
    status, error = post("Nantes", f"{operation}/resolve", {"site": "Lyon", "resolution": "done"})
    assert status == 404 and '"Lyon" is not known here' in error
    assert post("Nantes", f"{operation}/resolve", {"site": "Rennes", "resolution": "perhaps"})[0] == 400
    # A site that is away is waited for, and not for ever; it does not do it later.
    broken.demo("stop", "Rennes", "agent")
    status, error = post("Nantes", f"{operation}/resolve?timeout_ms=1500", {"site": "Rennes", "resolution": "done"})
    assert status == 504 and "Rennes did not answer in time" in error
    broken.demo("stop", "Nantes", "database")
    wait_until(lambda: post("Nantes", f"{operation}/resolve", {"site": "Nantes", "resolution": "done"})[0] == 503, what="503")
