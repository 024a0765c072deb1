# SPDX-License-Identifier: AGPL-3.0-only
"""Agents and runners that die at every instant between two effects, and what is true when they are back.

The instants are the calls of chp_boundary() in the sources (agent/base/boundary.h): every one of them is tried.
"""
import os
import re
import signal
import uuid
from pathlib import Path

import msgpack
import pytest
from audit import Audit, leftovers, runners, until
from load import Load
from test_poison import header
from testbed import ALL, ROOT, SITES, wait_until

POINTS = sorted({point for folder in ("agent", "drivers") for path in (ROOT / folder).rglob("*.c")
                 for point in re.findall(r'chp_boundary\("([a-z.]+)"\)', path.read_text(encoding="utf-8"))})
AGENT_POINTS = [point for point in POINTS if point.startswith("agent.")]
# Passed at every turn: late enough that the agent has work.
PASSES = {"agent.submit": 12, "agent.submitted": 13, "agent.committed": 14, "agent.acted": 15, "agent.pumped": 16,
          "agent.stream": 12, "agent.control": 1, "agent.dead": 1, "agent.fetch": 1}
# Has the command run when its runner dies there (None: maybe), and what is said of it.
RUNNER_POINTS = {"detached": (True, "done"), "prepared": (True, "done"), "locked": (True, "done"),
                 "claimed": (False, "in-doubt"), "durable": (False, "in-doubt"), "started": (None, "in-doubt"),
                 "exited": (True, "in-doubt"), "swept": (True, "in-doubt"), "written": (True, "in-doubt"),
                 "renamed": (True, "done"), "answered": (True, "done"), "tidied": (True, "done")}


def lines(path):
    return path.read_text().split() if path.exists() else []


def dead(bed, site):
    """The agent's process has ended; it may be a zombie that nobody reaps."""
    try:
        return Path(f"/proc/{bed.pid(site)}/stat").read_text(encoding="utf-8").rpartition(") ")[2].startswith("Z")
    except OSError:
        return True


# --- what a small load alone does not bring about ---

def publish(bed, site, key, message):
    connection = bed.amqp(site, admin=True)
    connection.channel().basic_publish(f"cheops.site.{site}", key, msgpack.packb(message))
    connection.close()


def from_other(bed, site):
    other = next(name for name in SITES if name != site)
    return {"from": other, "to": site, "inc": bed.sql(other, "SELECT incarnation FROM cheops.self")[0][0]}


def unknown_ack(bed, site):
    """Of an operation that nobody knows: dead-lettered."""
    ack = {"operation": uuid.uuid4().bytes, "resource": "none", "site": "Paris", "inc": 1, "run": 1, "state": "done", "exit": 0}
    publish(bed, site, "ack", [header("ack", **from_other(bed, site)), [msgpack.packb([2, ack, None])]])


def gap(bed, site):
    """A message that says that others before it were lost: they are asked for."""
    publish(bed, site, "operation", [header("operation", first=10**9, **from_other(bed, site)), []])


def big_file(bed, site):
    """An operation whose file is on another site."""
    other = next(name for name in SITES if name != site)
    blob = bed.http(other, "POST", "/v1/blobs", data=os.urandom(200_000))
    answer = bed.http(other, "POST", "/v1/operations", json={
        "resource": f"file-{uuid.uuid4()}", "type": "set", "scope": ALL, "command": ["cat", "{f}"],
        "files": [{"name": "f", "sha256": blob.json()["sha256"]}]})
    assert answer.status_code == 202, answer.text


PROVOKED = {"agent.dead": unknown_ack, "agent.control": gap, "agent.fetch": big_file}
# At most one of a kind to a group: what is provoked needs another site that lives.
GROUPS = [AGENT_POINTS[i::(len(AGENT_POINTS) + 2) // 3] for i in range((len(AGENT_POINTS) + 2) // 3)]


@pytest.mark.parametrize("points", GROUPS, ids=" ".join)
def test_agents_that_die_at(broken, rid, shared, points):
    dying = dict(zip(SITES, sorted(points, key=lambda point: point not in PROVOKED)))
    audit = Audit(broken)
    with Load(broken, rid, shared, clients=("http", "amqp"), pause=0.5, limit=300) as load:
        load.wait(1)
        for site, point in dying.items():
            broken.demo("kill", site, "agent")
            broken.demo("start", site, "agent", check=False, environment={
                "CHEOPS_DEMO_BIN": str(broken.programs().parent / "dying"), "CHEOPS_DIE_AT": f"{point}:{PASSES.get(point, 2)}"})
            if point in PROVOKED:
                wait_until(lambda site=site: dead(broken, site) or broken.ready(site), 60, f"{site} is ready")
                PROVOKED[point](broken, site)
            wait_until(lambda site=site: dead(broken, site), 60, f"{site} dies at {point}")
            broken.demo("start", site, "agent")
        broken.restore()
        load.wait(1)
    audit.check(load, dead_letters=True)
    broken.drop_dead()


def ended(bed, operation):
    answer = bed.get("Nantes", f"/v1/operations/{operation}")["sites"][0]
    return answer["state"] in ("done", "failed", "refused", "in-doubt") and answer


def start(bed, resource, script):
    result = bed.cli("exec", "--no-wait", "--id", resource, "--type", "set", "--scope", "Nantes", "--", "sh", "-c", script)
    assert result.exit_code == 0, result
    return result.out.strip()


def resolve(bed, resource, operation):
    """Nothing is in doubt any more, for the tests that follow."""
    result = bed.cli("op", "resolve", operation, "failed")
    assert result.exit_code == 0, f"{resource}: {result}"


@pytest.fixture
def mortal(broken, tmp_path):
    """Nantes with runners of which the next one dies at the point that is written into a file."""
    programs = tmp_path / "programs"
    programs.mkdir(mode=0o755)
    (programs / "cheops-agent").symlink_to(broken.programs() / "cheops-agent")
    (programs / "cheops-runner").write_text(f"""#!/bin/bash
PATH=/usr/bin:/bin
if mv {programs}/next {programs}/taken.$$ 2>/dev/null; then
    export CHEOPS_DIE_AT=$(<{programs}/taken.$$)
fi
exec {broken.programs().parent}/dying/cheops-runner "$@"
""")
    (programs / "cheops-runner").chmod(0o755)
    broken.demo("kill", "Nantes", "agent")
    broken.demo("start", "Nantes", "agent", environment={"CHEOPS_DEMO_BIN": str(programs)})
    wait_until(lambda: broken.ready("Nantes"), 60, "Nantes is ready")
    yield programs / "next"
    broken.demo("stop", "Nantes", "agent")


def test_every_point_of_the_runner_is_known():
    assert {"runner." + name for name in RUNNER_POINTS} == set(POINTS) - set(AGENT_POINTS)


def test_runners_that_die(broken, mortal, rid, shared):
    for name, (ran, said) in RUNNER_POINTS.items():
        mortal.write_text(f"runner.{name}:1")
        operation = start(broken, f"{rid}-{name}", f"echo $CHEOPS_OPERATION >> {shared}/Nantes")
        answer = wait_until(lambda operation=operation: ended(broken, operation), 60, f"{name}: an answer")
        assert not mortal.exists(), name
        assert answer["state"] == said and bool(answer["reason"]) == (said == "in-doubt"), f"{name}: {answer}"
        count = lines(shared / "Nantes").count(operation)
        assert count in ((0, 1) if ran is None else (int(ran),)), f"{name}: ran {count} times"
        if said == "in-doubt":
            resolve(broken, f"{rid}-{name}", operation)
    until(lambda: not runners(broken, "Nantes"), 30, "runners that do not end")
    until(lambda: not leftovers(broken, "Nantes"), 30, f"left behind: {leftovers(broken, 'Nantes')}")


def test_crash_of_the_machine_is_doubt(broken, rid, shared):
    """Agent, runner and command end together: whether the command did its work cannot be told, and nobody tells it."""
    operation = start(broken, rid, f"echo begin >> {shared}/Nantes; sleep 600; echo end >> {shared}/Nantes")
    wait_until(lambda: lines(shared / "Nantes"), what="it has begun")
    os.kill(broken.pid("Nantes"), signal.SIGKILL)
    for runner in runners(broken, "Nantes"):
        os.killpg(runner, signal.SIGKILL)
    broken.demo("kill", "Nantes", "agent")
    broken.demo("start", "Nantes", "agent")
    wait_until(lambda: broken.ready("Nantes"), 60, "Nantes is ready")
    answer = wait_until(lambda: ended(broken, operation), 60, "an answer")
    assert answer["state"] == "in-doubt" and answer["reason"], answer
    # What stands behind it on this resource waits, other resources don't.
    behind = start(broken, rid, f"echo behind >> {shared}/Nantes")
    broken.run_ok(rid + "-other", "true", scope="Nantes")
    assert not ended(broken, behind) and lines(shared / "Nantes") == ["begin"]
    resolve(broken, rid, operation)
    wait_until(lambda: ended(broken, behind), 30, "what waited runs")
    assert lines(shared / "Nantes") == ["begin", "behind"]
    until(lambda: not leftovers(broken, "Nantes"), 30, f"left behind: {leftovers(broken, 'Nantes')}")


def test_a_second_agent_is_refused_the_spool(bed, rid, tmp_path):
    text = (bed.directory / "Nantes" / "agent.conf").read_text()
    copy = tmp_path / "agent.conf"
    copy.touch(0o600)
    copy.write_text(re.sub(r"(?m)^listen = .*", "listen = 127.0.0.1:0", text))
    status, said = bed.program("cheops-agent", "-c", copy)
    assert status == 1 and f"in use by another agent, process {bed.pid('Nantes')}" in said, said
    bed.run_ok(rid, "true")
