# SPDX-License-Identifier: AGPL-3.0-only
"""The main job: a command with a scope reaches three sites and comes back."""
import json
import re
import subprocess

import pytest
from testbed import ALL, SITES, wait_until

LINE = re.compile(r"\[([1-3])/3\] (Nantes|Rennes|Paris) +(done|failed) +\d+(\.\d+)? m?s")


@pytest.mark.parametrize("site", SITES)
def test_command_runs_on_three_sites(bed, rid, shared, site):
    result = bed.cli("exec", "--id", rid, "--type", "set", "--scope", ALL, "--", "sh", "-c",
                     f"echo hello > {shared}/$CHEOPS_SITE.txt", site=site)
    assert result.exit_code == 0, result
    rows = [LINE.match(line) for line in result.out.splitlines()]
    assert all(rows) and len(rows) == 3, result
    assert {row[2] for row in rows} == set(SITES)
    assert [row[1] for row in rows] == ["1", "2", "3"]
    assert {path.name for path in shared.iterdir()} == {f"{name}.txt" for name in SITES}
    assert all(path.read_text() == "hello\n" for path in shared.iterdir())


def test_pipe_gets_no_escapes(bed, rid):
    result = bed.cli("exec", "--id", rid, "--type", "set", "--scope", ALL, "--", "echo", "hi")
    assert "\x1b" not in result.out and "\r" not in result.out


def test_terminal_lines_are_updated_in_place(bed, rid):
    done = subprocess.run(["script", "-qec", f"cheops --site Nantes exec --id {rid} --type set --scope '{ALL}' -- sleep 0.6",
                           "/dev/null"], env={**bed.environment, "TERM": "xterm"}, stdout=subprocess.PIPE, timeout=60,
                          stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0 and b"\x1b[" in done.stdout, done.stdout


def test_json_has_one_object_a_line(bed, rid):
    result = bed.run(rid, "sh", "-c", "echo $CHEOPS_SITE; echo oops >&2")
    assert result.exit_code == 0, result
    assert set(result.sites) == set(SITES)
    for site, line in result.sites.items():
        assert line["state"] == "done" and line["exit_code"] == 0
        assert site in line["output"]


def test_environment_is_clean(bed, rid):
    result = bed.run_ok(rid, "env", scope="Nantes")
    names = dict(line.split("=", 1) for line in result.sites["Nantes"]["output"].splitlines())
    assert names["CHEOPS_SITE"] == "Nantes" and names["CHEOPS_RESOURCE"] == rid and names["CHEOPS_TYPE"] == "set"
    assert re.fullmatch(r"[0-9a-f-]{36}", names["CHEOPS_OPERATION"])
    assert not [name for name in names if name.startswith("CHEOPS_API") or name.startswith("RABBITMQ")]


def test_scope_is_needed_only_at_creation(bed, rid):
    missing = bed.run(rid, "true", scope=None)
    assert missing.exit_code == 3 and "scope" in missing.err
    bed.run_ok(rid, "true")
    again = bed.run_ok(rid, "true", scope=None)
    assert set(again.sites) == set(SITES)
    other = bed.run(rid, "true", scope="Nantes & Rennes")
    assert other.exit_code == 3 and "rescope" in other.err, other


def test_order_of_one_resource_is_kept(bed, rid, shared):
    for word in ("one", "two", "three"):
        bed.run_ok(rid, "sh", "-c", f"echo {word} >> {shared}/$CHEOPS_SITE")
    for site in SITES:
        assert (shared / site).read_text().split() == ["one", "two", "three"]


@pytest.mark.parametrize("scope,expected", [
    ("*", set(SITES)), ("(Nantes & Paris)", {"Nantes", "Paris"}), ("Rennes", {"Rennes"}), ('"Paris"', {"Paris"})])
def test_scopes(bed, rid, scope, expected):
    result = bed.run_ok(rid, "true", scope=scope)
    assert set(result.sites) == expected


def test_failure_on_some_site(bed, rid):
    result = bed.run(rid, "sh", "-c", '[ "$CHEOPS_SITE" != Paris ]')
    assert result.exit_code == 1
    assert {site: line["state"] for site, line in result.sites.items()} == {
        "Nantes": "done", "Rennes": "done", "Paris": "failed"}
    assert result.sites["Paris"]["exit_code"] == 1


def test_timeout_of_waiting(bed, rid):
    result = bed.run(rid, "sleep", "5", scope="Nantes", options=("--timeout", "300ms"))
    assert result.exit_code == 4, result


def test_unreachable_agent(bed):
    result = bed.cli("op", "list", environment={"CHEOPS_API_NANTES": "http://x:0123456789abcdef@127.0.0.1:1"})
    assert result.exit_code == 5 and result.err.count("\n") == 1, result


def test_no_wait_then_show_watch_and_list(bed, rid):
    result = bed.cli("exec", "--no-wait", "--id", rid, "--type", "set", "--scope", ALL, "--", "sleep", "0.3")
    operation = result.out.strip()
    assert result.exit_code == 0 and re.fullmatch(r"[0-9a-f-]{36}", operation), result
    watched = bed.cli("op", "watch", operation, "-o", "json")
    assert watched.exit_code == 0 and set(watched.sites) == set(SITES), watched
    shown = bed.cli("op", "show", operation, "-o", "json").lines[0]
    assert shown["completed"] is True and shown["resource"] == rid and shown["state"] == "done"
    listed = bed.cli("op", "list", "--resource", rid, "-o", "json").lines
    assert operation in json.dumps(listed)


def test_resource_list_show_history(bed, rid):
    bed.run_ok(rid, "true", options=("--level", "eventual"))
    bed.run_ok(rid, "true", scope=None)
    assert rid in bed.cli("resource", "list", "-o", "json", "--limit", "1000").out
    shown = bed.cli("resource", "show", rid, "-o", "json", site="Paris").lines[0]
    assert shown["id"] == rid and sorted(shown["members"]) == sorted(SITES) and shown["level"] == "eventual"
    wait_until(lambda: len(bed.history("Paris", rid)) == 2, what="history of two operations")
    ids = [[operation["id"] for operation in bed.history(site, rid)] for site in SITES]
    assert ids[0] == ids[1] == ids[2]


def test_same_key_runs_once(bed, rid, shared):
    command = ("sh", "-c", f"echo x >> {shared}/$CHEOPS_SITE")
    first = bed.run_ok(rid, *command, options=("--key", rid))
    second = bed.run_ok(rid, *command, options=("--key", rid))
    assert {line["operation"] for line in first.sites.values()} == {line["operation"] for line in second.sites.values()}
    assert all((shared / site).read_text() == "x\n" for site in SITES)
    other = bed.run(rid, "echo", "other content", options=("--key", rid))
    assert other.exit_code == 3 and "key" in other.err, other


def test_level_none(bed, rid):
    assert set(bed.run_ok(rid, "true", options=("--level", "none")).sites) == set(SITES)


def test_matrix_is_taken_with_a_warning(bed, rid, tmp_path):
    matrix = tmp_path / "matrix.json"
    matrix.write_text(json.dumps({"ResolutionMatrix": [{"Before": "set", "After": "add", "Result": "take-both-keep-order"}]}))
    result = bed.run_ok(rid, "true", options=("--config", str(matrix)))
    assert "(set, set) is not listed: assumed to commute" in result.err, result
    shown = bed.get("Rennes", f"/v1/resources/{rid}")
    assert shown["config"]


def test_show_marks_sites_that_differ(bed, rid):
    bed.run_ok(rid, "true")
    same = bed.http("Nantes", "POST", f"/v1/resources/{rid}/show", json={"command": ["echo", "same"]}).json()
    assert same["differ"] is False and {site["output"] for site in same["sites"].values()} == {"same\n"}
    result = bed.cli("show", "--id", rid, "--", "sh", "-c", "echo I am $CHEOPS_SITE")
    assert result.exit_code == 0 and all(f"I am {site}" in result.out for site in SITES) and "differ" in result.out


def test_sites_and_doctor(bed):
    def listed():
        return {line["site"]: line for line in bed.cli("site", "list", "-o", "json").lines}
    assert set(listed()) == set(SITES)
    wait_until(lambda: all(line["state"] == "up" and line["round_trip_ms"] is not None
                           for site, line in listed().items() if site != "Nantes"), 30, "the others are up")
    # Resources of other tests may be degraded, whose operations failed at one site for good.
    checks = bed.http("Nantes", "GET", "/v1/doctor").json()["checks"]
    assert [check for check in checks if not check["ok"] and check["check"] not in ("degraded", "diverged")] == []
    doctor = bed.cli("doctor")
    assert doctor.exit_code == 0 or "degraded" in doctor.out or "diverged" in doctor.out, doctor


def test_events_are_numbered_without_gaps(bed, rid):
    before = bed.last_event("Nantes")
    bed.run_ok(rid, "true")

    def mine():
        events = bed.cli("events", "--after", str(before), "-o", "json").lines
        return events if any(event["kind"] == "operation.completed" and event["resource"] == rid for event in events) else None
    events = wait_until(mine, what="event operation.completed")
    numbers = [event["number"] for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) and numbers[0] == before + 1
    kinds = [event["kind"] for event in events if event["resource"] == rid]
    assert kinds[0] == "operation.accepted" and "operation.executed" in kinds


def test_scope_explain(bed):
    result = bed.cli("scope", "explain", "Nantes & (Rennes & Paris)")
    assert result.exit_code == 0 and all(site in result.out for site in SITES), result


def test_help_everywhere_and_completion(bed):
    assert bed.cli("--help").exit_code == 0
    for verb in ("exec", "http", "show", "op show", "op list", "op watch", "resource list", "resource show",
                 "resource history", "resource plan", "resource diff", "site list", "events", "scope explain", "dead list", "dead show", "dead requeue",
                 "dead drop", "doctor", "completion"):
        done = bed.cli(*verb.split(), "--help")
        assert done.exit_code == 0 and "usage" in done.out.lower(), (verb, done)
    script = bed.cli("completion", "bash").out
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0 and "cheops" in script


def test_many_operations_at_once(bed, rid):
    """Concurrent writers to one resource: every one is answered, none twice, and all sites know the same sequence."""
    writers = [subprocess.Popen(["cheops", "--site", SITES[i % 3], "exec", "--id", rid, "--type", "set", "--scope", ALL, "--",
                                 "true"], env=bed.environment, stdout=subprocess.DEVNULL) for i in range(12)]
    assert [writer.wait(60) for writer in writers] == [0] * 12
    wait_until(lambda: all(len(bed.history(site, rid)) == 12 for site in SITES), what="12 operations everywhere")
    ids = [[operation["id"] for operation in bed.history(site, rid)] for site in SITES]
    assert ids[0] == ids[1] == ids[2] and len(set(ids[0])) == 12
