# SPDX-License-Identifier: AGPL-3.0-only
"""What became of operations and why, what a new one would do, and where sites differ: the same from every site."""
import json
import re
import subprocess
from pathlib import Path

import openapi_check
import pytest
from testbed import ALL, ROOT, SITES, wait_until

MATRIX = {"ResolutionMatrix": [
    {"Before": "set", "After": "set", "Result": "take-one"},
    {"Before": "set", "After": "add", "Result": "take-both-keep-order"},
    {"Before": "add", "After": "add", "Result": "take-both-keep-order"}]}


@pytest.fixture
def note(bed, rid, shared):
    """A file of each site: set, set, add."""
    matrix = shared / "matrix.json"
    matrix.write_text(json.dumps(MATRIX))
    operations = [write(bed, rid, shared, "set", "first", "--scope", ALL, "--config", str(matrix)),
                  write(bed, rid, shared, "set", "second", site="Rennes"), write(bed, rid, shared, "add", "more", site="Paris")]
    wait_until(lambda: all(len(bed.history(site, rid)) == 3 for site in SITES), what="all sites hold all")
    return operations


def write(bed, rid, shared, kind, text, *options, site="Nantes"):
    mode = ">" if kind == "set" else ">>"
    done = bed.cli("exec", "-o", "json", "--id", rid, "--type", kind, *options, "--", "sh", "-c",
                   f"echo {text} {mode} {shared}/$CHEOPS_SITE", site=site)
    assert done.exit_code == 0, done
    return done.lines[0]["operation"]


def call(bed, site, rid, name, **body):
    path = f"/v1/resources/{rid}/{name}"
    answer = bed.http(site, "POST", path, json=body)
    openapi_check.check("POST", path, answer.status_code, answer.headers, answer.content)
    return answer


def told(history):
    """What does not depend on the site."""
    return [{key: entry[key] for key in ("place", "id", "type", "origin", "summary", "reason")} for entry in history]


def test_every_site_tells_the_same(bed, rid, note):
    first, second, more = note
    histories = [bed.history(site, rid) for site in SITES]
    assert told(histories[0]) == told(histories[1]) == told(histories[2])
    assert [(entry["place"], entry["id"]) for entry in histories[0]] == [(1, second), (2, more), (None, first)]
    assert histories[0][2]["reason"] == f"superseded by {second} (take-one set/set)"
    assert all(entry["applied"] and entry["state"] == "done" for entry in histories[0])
    shown = bed.cli("resource", "history", rid).out
    assert f"    superseded by {second} (take-one set/set)\n" in shown
    cut = bed.http("Nantes", "GET", f"/v1/resources/{rid}/history?limit=1").json()
    assert ([entry["id"] for entry in cut["operations"]], cut["total"], cut["left_out"]) == ([more], 3, 2)
    assert bed.http("Nantes", "GET", f"/v1/resources/{rid}x/history").status_code == 404


def test_a_plan_says_it_and_does_nothing(bed, rid, note, shared):
    plans = call(bed, "Paris", rid, "plan", type="set", command=["true"]).json()["sites"]
    assert sorted(plans) == sorted(SITES)
    for site, plan in plans.items():
        assert plan["state"] == "done" and plan["plan"]["plan"] == "append", (site, plan)
        assert [entry["operation"] for entry in plan["plan"]["displaces"]] == note[1:], (site, plan)
        assert plan["plan"]["run"] == [{"operation": None, "type": "set", "new": True, "again": False}], (site, plan)
    assert len(bed.history("Nantes", rid)) == 3 and (shared / "Nantes").read_text() == "second\nmore\n"
    appended = bed.cli("resource", "plan", rid, "--type", "add")
    assert appended.exit_code == 0 and re.search(r"^Nantes +append +3 +0 ", appended.out, re.M), appended
    refused = call(bed, "Nantes", rid, "plan", type="set", http={"service": "nothere", "method": "PUT", "path": "x"})
    assert refused.status_code == 422 and "nothere" in refused.text, refused.text
    assert call(bed, "Nantes", f"{rid}x", "plan", type="set").status_code == 404


def test_a_diff_names_what_differs(bed, rid, note, shared):
    read = ["sh", "-c", f"cat {shared}/$CHEOPS_SITE"]
    same = call(bed, "Nantes", rid, "diff", command=read).json()
    assert same["same"] is True and same["groups"] == [sorted(SITES)], same
    knows = [entry["knows"] for entry in same["sites"].values()]
    assert {entry["digest"] for entry in knows} == {knows[0]["digest"]} and knows[0]["sequence"] == 2
    assert bed.cli("resource", "diff", rid, "--", *read).exit_code == 0
    (shared / "Paris").write_text("something else\n")
    differs = bed.cli("resource", "diff", rid, "--", *read, site="Rennes")
    assert differs.exit_code == 1 and "Their applications answer differently:\nNantes, Rennes\n" in differs.out, differs
    assert call(bed, "Nantes", f"{rid}x", "diff").status_code == 404


def test_who_is_away_is_named(broken, rid):
    broken.run_ok(rid, "true")
    broken.demo("stop", "Rennes", "agent")
    away = broken.cli("resource", "diff", rid, "--timeout", "1s")
    assert away.exit_code == 4 and "no answer from Rennes" in away.err and "Those that answered know the same." in away.out, away
    plan = broken.cli("resource", "plan", rid, "--type", "set", "--timeout", "1s", "-o", "json")
    assert plan.exit_code == 4 and plan.lines[0]["sites"]["Rennes"]["state"] == "timeout", plan


def test_level_none_has_a_history_and_no_plan(bed, rid):
    bed.run_ok(rid, "true", options=("--level", "none"))
    entry, = bed.history("Paris", rid)
    assert (entry["place"], entry["state"], entry["reason"]) == (None, "done", None)
    refused = bed.cli("resource", "plan", rid, "--type", "set")
    assert refused.exit_code == 3 and "is of level none" in refused.err, refused
    assert bed.cli("resource", "diff", rid).exit_code == 0


def test_an_undo_is_seen_and_checked(bed, rid):
    done = bed.cli("exec", "-o", "json", "--id", rid, "--type", "set", "--scope", ALL, "--undo", "sh -c 'true undone'", "--", "true")
    assert done.exit_code == 0, done
    operation = done.lines[0]["operation"]
    for site in SITES:
        assert "true (undo: sh -c 'true undone')" in bed.cli("op", "show", operation, site=site).out, site
    refused = bed.cli("http", "--id", rid, "--type", "set", "--undo", "DELETE nothere/x", "PUT", f"inventory/items/{rid}")
    assert refused.exit_code == 3 and "its undo: " in refused.err and "nothere" in refused.err, refused


def test_the_example_of_the_documents(broken, tmp_path):
    """The block runs as it is written, and comes to what the text says."""
    text = Path(ROOT, "agent", "doc", "consistency.md").read_text(encoding="utf-8")
    script = re.search(r"^```sh example\n(.*?)^```$", text, re.M | re.S)[1]
    result = subprocess.run(["bash", "-e"], input=script, cwd=ROOT, env={**broken.environment, "TMPDIR": str(tmp_path)},
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=90, check=False)
    assert result.returncode == 0, result.stdout
    assert "    rice\n    salt\n    lemon\n    oil\n" in result.stdout
    histories = re.findall(r"^ *(\d+|-)  (\S+)  (set|add)  +(Nantes|Paris) .*?echo (\w+)[^\n]*(?:\n    (?![\d-]  )([^\n]+))?", result.stdout, re.M)
    assert len(histories) == 14
    names = {operation: dish for _, operation, _, _, dish, _ in histories}
    wanted = re.search(r"^```text\nPLACE .*?\n(.*?)^```$", text, re.M | re.S)[1]
    said = [[re.sub(r"[0-9a-f-]{36}", lambda match: names[match[0]], part) for part in entry] for entry in histories]
    expected = [[place, dish, kind, origin, dish, reason] for place, dish, kind, origin, reason in
                re.findall(r"^ *(\d|-)  (\w+) +(set|add) +(Nantes|Paris) [^\n]*(?:\n    (?![\d-]  )([^\n]+))?", wanted, re.M)]
    assert said == expected + expected
