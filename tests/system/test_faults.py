# SPDX-License-Identifier: AGPL-3.0-only
"""Parts that fail while work goes on: nothing that was accepted is lost, nothing runs twice, and it says what it waits for."""
import os
import subprocess
import time

import psycopg2
import requests
from testbed import ALL, ROOT, SITES, AmqpClient, wait_until


def start(bed, resource, *command, site="Nantes", scope=ALL):
    """Admits without waiting; the operation's id."""
    result = bed.cli("exec", "--no-wait", "--id", resource, "--type", "set", *(("--scope", scope) if scope else ()), "--",
                     *command, site=site)
    assert result.exit_code == 0, result
    return result.out.strip()


def states(bed, site, operation):
    return {entry["site"]: entry["state"] for entry in bed.get(site, f"/v1/operations/{operation}")["sites"]}


def completed(bed, site, operation, seconds=60):
    wait_until(lambda: bed.get(site, f"/v1/operations/{operation}")["completed"], seconds,
               f"{operation} is completed; {states(bed, site, operation)}")
    assert set(states(bed, site, operation).values()) == {"done"}


def lines(path):
    return path.read_text().split() if path.exists() else []


def test_agent_killed_mid_command_runs_it_once(broken, rid, shared):
    operation = start(broken, rid, "sh", "-c", f"echo begin >> {shared}/$CHEOPS_SITE; sleep 3; echo end >> {shared}/$CHEOPS_SITE")
    wait_until(lambda: all(lines(shared / site) for site in SITES), what="it runs everywhere")
    for site in ("Nantes", "Paris"):
        broken.demo("kill", site, "agent")
    for site in ("Nantes", "Paris"):
        broken.demo("start", site, "agent")
    wait_until(lambda: broken.ready("Nantes"), 30, "Nantes is ready")
    completed(broken, "Nantes", operation)
    assert {site: lines(shared / site) for site in SITES} == {site: ["begin", "end"] for site in SITES}


def test_command_that_ends_while_the_agent_is_down_is_answered(broken, rid, shared):
    operation = start(broken, rid, "sh", "-c", f"sleep 4; echo ran >> {shared}/$CHEOPS_SITE; echo out", site="Rennes",
                      scope="Nantes & Rennes")
    wait_until(lambda: states(broken, "Rennes", operation)["Nantes"] == "running", what="it runs at Nantes")
    broken.demo("kill", "Nantes", "agent")
    wait_until(lambda: lines(shared / "Nantes"), what="the command goes on without its agent")
    broken.demo("start", "Nantes", "agent")
    completed(broken, "Rennes", operation)
    assert lines(shared / "Nantes") == ["ran"]


def test_writes_on_both_sides_of_a_cut(broken, rid, shared):
    broken.run_ok(rid, "sh", "-c", f"echo 0 >> {shared}/$CHEOPS_SITE")
    broken.demo("cut", "Nantes", "Rennes")
    broken.demo("cut", "Paris", "Rennes")
    left = start(broken, rid, "sh", "-c", f"echo left >> {shared}/$CHEOPS_SITE", site="Nantes", scope=None)
    right = start(broken, rid, "sh", "-c", f"echo right >> {shared}/$CHEOPS_SITE", site="Rennes", scope=None)
    wait_until(lambda: states(broken, "Nantes", left)["Paris"] == "done", what="Nantes and Paris go on together")
    wait_until(lambda: states(broken, "Rennes", right)["Rennes"] == "done", what="Rennes goes on alone")
    assert states(broken, "Nantes", left)["Rennes"] in ("queued", "accepted")
    assert lines(shared / "Rennes") == ["0", "right"]
    broken.demo("heal")
    completed(broken, "Nantes", left)
    completed(broken, "Rennes", right)
    for site in SITES:
        assert sorted(lines(shared / site)) == ["0", "left", "right"], site
    sequences = [[entry["id"] for entry in broken.history(site, rid)] for site in SITES]
    assert sequences[0] == sequences[1] == sequences[2] and len(sequences[0]) == 3


def test_lost_and_regained_sites_are_events(broken):
    last = broken.last_event("Nantes")
    broken.demo("stop", "Paris", "agent")

    def seen(kind):
        events = broken.get("Nantes", f"/v1/events?after={last}&limit=1000")["events"]
        return [event for event in events if event["kind"] == kind and event["site"] == "Paris"]
    wait_until(lambda: seen("site.down"), 60, "event site.down")
    paris = next(line for line in broken.get("Nantes", "/v1/sites")["sites"] if line["site"] == "Paris")
    assert paris["state"] == "down" and broken.metric("Nantes", "sites_down") == 1
    assert "Paris" in broken.log("Nantes")
    assert "Paris" in broken.cli("doctor").out
    broken.demo("start", "Paris", "agent")
    wait_until(lambda: seen("site.up"), 60, "event site.up")


def test_broker_down_is_accepted_and_run_locally(broken, rid, shared):
    broken.run_ok(rid, "true")
    broken.demo("stop", "Nantes", "broker")
    operation = start(broken, rid, "sh", "-c", f"echo x >> {shared}/$CHEOPS_SITE", scope=None)
    wait_until(lambda: states(broken, "Nantes", operation)["Nantes"] == "done", what="it runs at Nantes")
    assert broken.http("Nantes", "GET", "/readyz").status_code == 503
    assert broken.http("Nantes", "GET", "/healthz").status_code == 200
    doctor = broken.cli("doctor")
    assert doctor.exit_code != 0 and "broker" in doctor.out.lower(), doctor
    assert lines(shared / "Rennes") == []
    broken.demo("start", "Nantes", "broker")
    completed(broken, "Nantes", operation)
    assert all(lines(shared / site) == ["x"] for site in SITES)


def test_database_down_is_503_and_nothing_is_lost(broken, rid, shared):
    broken.run_ok(rid, "true")
    with AmqpClient(broken, "Nantes") as client:
        broken.demo("stop", "Nantes", "database")

        def refusal():
            answer = broken.http("Nantes", "POST", "/v1/operations", json={"resource": rid, "type": "set", "command": ["true"]})
            return answer.status_code == 503 and answer.json()["error"]
        wait_until(refusal, what="503")
        assert broken.cli("exec", "--id", rid, "--type", "set", "--", "true").exit_code == 6
        assert broken.http("Nantes", "GET", "/readyz").status_code == 503
        # What comes from elsewhere waits in the broker, unacked until it is committed.
        there = start(broken, rid, "sh", "-c", f"echo there >> {shared}/$CHEOPS_SITE", site="Rennes", scope=None)
        client.publish({"key": rid, "resource": rid, "type": "set", "command": ["sh", "-c", f"echo here >> {shared}/$CHEOPS_SITE"]})
        wait_until(lambda: states(broken, "Rennes", there)["Paris"] == "done", what="the others go on")
        assert lines(shared / "Nantes") == []
        broken.demo("start", "Nantes", "database")
        assert client.replies(seconds=60)[-1]["state"] == "done"
    completed(broken, "Rennes", there)
    assert all(sorted(lines(shared / site)) == ["here", "there"] for site in SITES)


def test_database_and_broker_crash_while_requests_are_given(broken, rid, shared):
    """Every request that was accepted is run exactly once on every site."""
    broken.run_ok(rid, "true")
    accepted = []
    deadline = time.monotonic() + 12
    faults = iter([(2, "kill", "Nantes", "database"), (3, "start", "Nantes", "database"), (6, "kill", "Rennes", "broker"),
                   (7, "start", "Rennes", "broker")])
    fault, jobs = next(faults), []
    began, number = time.monotonic(), 0
    while time.monotonic() < deadline:
        if fault and time.monotonic() - began > fault[0]:
            jobs.append(subprocess.Popen([ROOT / "demo.sh", *fault[1:]], env=broken.environment, stdout=subprocess.DEVNULL))
            fault = next(faults, None)
        number += 1
        resource = f"{rid}-{number % 4}"
        try:
            answer = broken.http("Nantes", "POST", "/v1/operations", timeout=10, headers={"Idempotency-Key": f"{rid}-{number}"},
                                 json={"resource": resource, "type": "add", "scope": ALL,
                                       "command": ["sh", "-c", f"echo {number} >> {shared}/$CHEOPS_SITE"]})
        except requests.RequestException:
            continue
        if answer.status_code == 202:
            accepted.append((number, answer.json()["operation"]))
        time.sleep(0.2)
    assert [job.wait(120) for job in jobs] == [0] * len(jobs)
    assert len(accepted) > 10
    for _, operation in accepted:
        completed(broken, "Nantes", operation, 90)
    for site in SITES:
        ran = [int(word) for word in lines(shared / site)]
        assert len(ran) == len(set(ran)), f"{site} ran something twice"
        assert {number for number, _ in accepted} <= set(ran)


def test_agent_started_without_broker_and_database_waits(broken, rid):
    for part in ("agent", "broker", "database"):
        broken.demo("stop", "Paris", part)
    broken.demo("start", "Paris", "agent")
    assert broken.http("Paris", "GET", "/healthz").status_code == 200
    ready = broken.http("Paris", "GET", "/readyz")
    assert ready.status_code == 503 and ready.json()["error"]
    assert broken.http("Paris", "POST", "/v1/operations", json={
        "resource": rid, "type": "set", "scope": "Paris", "command": ["true"]}).status_code == 503
    doctor = broken.cli("doctor", site="Paris")
    assert doctor.exit_code != 0 and "database" in doctor.out.lower() and "broker" in doctor.out.lower(), doctor
    broken.demo("start", "Paris", "database")
    wait_until(lambda: broken.run(rid, "true", site="Paris", scope="Paris").exit_code == 0, 30, "a local command works")
    broken.demo("start", "Paris", "broker")
    wait_until(lambda: broken.ready("Paris"), 60, "Paris is ready")
    assert broken.run(rid + "-all", "true", site="Paris").exit_code == 0


def test_schema_that_is_too_new_is_refused(broken):
    configuration = broken.directory / "Paris" / "agent.conf"
    program = os.path.join(broken.environment["CHEOPS_DEMO_BIN"], "cheops-agent")

    def migrate():
        return subprocess.run([program, "migrate", "-c", configuration], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=60, check=False)
    assert migrate().returncode == 0
    broken.demo("stop", "Paris", "agent")
    sql_paris(broken, "INSERT INTO cheops.migration (version, name) VALUES (1000, 'of a later release')")
    try:
        refused = migrate()
        assert refused.returncode != 0 and "schema" in refused.stdout.lower(), refused.stdout
    finally:
        sql_paris(broken, "DELETE FROM cheops.migration WHERE version = 1000")
    assert migrate().returncode == 0


def sql_paris(bed, statement):
    with psycopg2.connect(bed.environment["CHEOPS_DSN_PARIS"]) as connection, connection.cursor() as cursor:
        cursor.execute(statement)


def test_configuration_mistakes_are_refused_with_their_line(broken, tmp_path):
    program = os.path.join(broken.environment["CHEOPS_DEMO_BIN"], "cheops-agent")
    good = (broken.directory / "Paris" / "agent.conf").read_text()
    for text, words in ((good + "[agent]\nno_such_option = 1\n", "no_such_option"), (good.replace("log_level = info", "log_level = loud"), "log_level"),
                        (good.replace("site = Paris", ""), "site"), ("[agent", "1")):
        path = tmp_path / "agent.conf"
        path.write_text(text)
        done = subprocess.run([program, "-c", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20,
                              check=False)
        assert done.returncode != 0 and words in done.stdout, done.stdout
        assert "Paris" not in done.stdout or "password" not in done.stdout
