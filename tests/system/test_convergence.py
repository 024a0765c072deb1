# SPDX-License-Identifier: AGPL-3.0-only
"""Sites that were cut off and written to on both sides come back to one state, decided by the resolution matrix."""
import json
import time

import pytest
from testbed import ALL, SITES, wait_until

SET_ADD = {"ResolutionMatrix": [
    {"Before": "set", "After": "set", "Result": "take-one"},
    {"Before": "add", "After": "set", "Result": "take-one"},
    {"Before": "set", "After": "add", "Result": "take-both-keep-order"},
    {"Before": "add", "After": "add", "Result": "take-both-any-order"}]}
APPEND = {"ResolutionMatrix": [{"Before": "append", "After": "append", "Result": "take-both-keep-order"}]}


class Document:
    """A file of each site, which is the resource."""

    def __init__(self, bed, rid, shared, matrix):
        self.bed, self.rid, self.shared = bed, rid, shared
        self.matrix = shared / "matrix.json"
        self.matrix.write_text(json.dumps(matrix))

    def write(self, kind, text, site="Nantes", create=False, options=(), mode=None, check=True):
        """Starts the operation; its id."""
        mode = mode or {"set": ">", "add": ">>", "append": ">>"}[kind]
        creating = ("--scope", ALL, "--config", str(self.matrix)) if create else ()
        done = self.bed.cli("exec", "--no-wait", "--id", self.rid, "--type", kind, *creating, *options, "--", "sh", "-c",
                            f"echo {text} {mode} {self.shared}/$CHEOPS_SITE", site=site)
        assert not check or done.exit_code == 0, done
        return done.out.strip()

    def read(self, site):
        path = self.shared / site
        return path.read_text().split() if path.exists() else []

    def known(self, site):
        """What the site knows of the resource; {} when it is not there yet."""
        answer = self.bed.http(site, "GET", f"/v1/resources/{self.rid}")
        return answer.json() if answer.status_code == 200 else {}

    def state(self, site):
        return self.known(site).get("state")

    def execution(self, operation, site, seen_from=None):
        answer = self.bed.get(seen_from or site, f"/v1/operations/{operation}")
        return next(entry for entry in answer["sites"] if entry["site"] == site)

    def at_rest(self, seconds=30, state="ready"):
        def settled():
            counts = {self.known(site).get("operations") for site in SITES}
            return len(counts) == 1 and all(self.state(site) in (state, "order-assumed") for site in SITES)
        wait_until(settled, seconds, f"{self.rid} is {state} everywhere: {[self.state(site) for site in SITES]}")

    def assert_everywhere(self, *words):
        self.at_rest()
        assert {site: self.read(site) for site in SITES} == {site: list(words) for site in SITES}


def cut_off(bed, site):
    for other in SITES:
        if other != site:
            bed.demo("cut", site, other)


@pytest.fixture
def document(broken, rid, shared):
    return Document(broken, rid, shared, SET_ADD)


def test_the_later_set_stays_and_the_earlier_says_why(document):
    document.write("set", "first", create=True)
    document.at_rest()
    cut_off(document.bed, "Rennes")
    loser = document.write("set", "left")
    wait_until(lambda: document.read("Paris") == ["left"], what="the connected sites go on")
    time.sleep(0.01)
    winner = document.write("set", "right", site="Rennes")
    wait_until(lambda: document.read("Rennes") == ["right"], what="the one that is cut off, too")
    document.bed.demo("heal")
    healed = time.monotonic()
    document.assert_everywhere("right")
    assert time.monotonic() - healed < 15
    reasons = set()
    for site in SITES:
        wait_until(lambda site=site: document.execution(loser, site)["state"] == "superseded", what=f"superseded at {site}")
        reasons.add(document.execution(loser, site)["reason"])
    assert reasons == {f"superseded by {winner} (take-one set/set)"}
    wait_until(lambda: {document.execution(loser, site, "Nantes")["state"] for site in SITES} == {"superseded"},
               what="its origin knows")


def test_an_add_runs_again_behind_the_set_that_it_follows(document):
    document.write("set", "first", create=True)
    document.at_rest()
    cut_off(document.bed, "Rennes")
    document.write("set", "left")
    time.sleep(0.01)
    add = document.write("add", "more", site="Rennes")
    wait_until(lambda: document.read("Rennes") == ["first", "more"], what="Rennes goes on alone")
    document.bed.demo("heal")
    document.assert_everywhere("left", "more")
    assert document.execution(add, "Rennes")["run"] == 2


def test_one_id_created_on_two_sides(document):
    cut_off(document.bed, "Rennes")
    document.write("set", "left", create=True)
    time.sleep(0.01)
    document.write("set", "right", site="Rennes", create=True)
    document.bed.demo("heal")
    document.assert_everywhere("right")
    assert all(document.bed.get(site, f"/v1/resources/{document.rid}")["merged"] for site in SITES)


def test_what_fails_everywhere_is_voided_and_what_it_displaced_is_back(document):
    document.write("set", "first", create=True)
    document.at_rest()
    bad = document.bed.cli("exec", "--id", document.rid, "--type", "set", "--", "sh", "-c", "exit 3")
    assert bad.exit_code != 0
    operation = document.bed.get("Nantes", f"/v1/resources/{document.rid}")["last_operation"]
    wait_until(lambda: document.bed.get("Rennes", f"/v1/resources/{document.rid}")["operations"] == 3, what="the void")
    document.write("add", "more", site="Rennes")
    document.assert_everywhere("first", "more")
    void = document.bed.get("Nantes", f"/v1/operations/{operation}")
    assert void["type"] == "void" and void["driver"] == "cheops" and void["state"] == "done"
    voided = void["summary"].split()[-1]
    wait_until(lambda: {document.execution(voided, site)["state"] for site in SITES} == {"voided"}, what="voided everywhere")


def test_what_fails_on_one_site_is_tried_again_there(document):
    document.write("set", "first", create=True)
    document.at_rest()
    document.bed.cli("exec", "--id", document.rid, "--type", "add", "--", "sh", "-c",
                     f"test -e {document.shared}/ok -o $CHEOPS_SITE != Paris && echo more >> {document.shared}/$CHEOPS_SITE")
    assert document.read("Paris") == ["first"] and document.read("Nantes") == ["first", "more"]
    wait_until(lambda: document.state("Paris") == "degraded", what="Paris says so")
    check = next(one for one in document.bed.get("Paris", "/v1/doctor")["checks"] if one["check"] == "degraded")
    assert not check["ok"] and document.rid in check["detail"] and "--site Paris" in check["advice"], check
    wait_until(lambda: document.bed.metric("Paris", "resources_degraded") == 1, 20, "it is counted")
    (document.shared / "ok").touch()
    document.assert_everywhere("first", "more")


def test_an_undo_brings_back_the_order(broken, rid, shared):
    document = Document(broken, rid, shared, APPEND)
    undo = ("--undo", f"sh -c 'sed -i \\$d {shared}/$CHEOPS_SITE'")
    document.write("append", "one", create=True)
    document.at_rest()
    cut_off(broken, "Rennes")
    document.write("append", "left")
    time.sleep(0.01)
    document.write("append", "right", site="Rennes", options=undo)
    wait_until(lambda: document.read("Rennes") == ["one", "right"], what="Rennes goes on alone")
    broken.demo("heal")
    document.assert_everywhere("one", "left", "right")


def test_without_a_way_back_a_site_says_that_it_is_diverged(broken, rid, shared):
    document = Document(broken, rid, shared, APPEND)
    document.write("append", "one", create=True)
    document.at_rest()
    cut_off(broken, "Rennes")
    document.write("append", "left")
    time.sleep(0.01)
    document.write("append", "right", site="Rennes")
    wait_until(lambda: document.read("Rennes") == ["one", "right"], what="Rennes goes on alone")
    last = broken.last_event("Rennes")
    broken.demo("heal")
    wait_until(lambda: document.state("Rennes") == "diverged", what="Rennes is diverged")
    assert "can't be undone" in broken.get("Rennes", f"/v1/resources/{rid}")["diverged"]
    wait_until(lambda: document.state("Nantes") == document.state("Paris") == "ready", what="the others are right")
    assert document.read("Nantes") == document.read("Paris") == ["one", "left", "right"]
    wait_until(lambda: broken.metric("Rennes", "resources_diverged") == 1, 20, "it is counted")
    assert broken.metric("Nantes", "resources_diverged") == 0
    said = broken.cli("doctor", site="Rennes")
    assert said.exit_code != 0 and rid in said.out and "cheops resource rebuild ID --site Rennes" in said.out, said
    events = broken.get("Rennes", f"/v1/events?after={last}&limit=1000")["events"]
    assert [event["resource"] for event in events if event["kind"] == "resource.diverged"] == [rid]
    # A person puts it right.
    refused = broken.cli("resource", "rebuild", rid, site="Rennes")
    assert refused.exit_code == 3 and "empty it in the application" in refused.err, refused
    (shared / "Rennes").unlink()
    rebuilt = broken.cli("resource", "rebuild", rid, "--from-empty", "--api", broken.url("Nantes"), site="Rennes")
    assert rebuilt.exit_code == 0 and "rebuilt at Rennes" in rebuilt.out, rebuilt
    document.assert_everywhere("one", "left", "right")
    assert document.known("Rennes")["diverged"] is None
    assert rid not in broken.cli("doctor", site="Rennes").out
    wait_until(lambda: broken.metric("Rennes", "resources_diverged") == 0, 20, "nothing is counted any more")


def test_what_an_application_lost_is_rebuilt(document):
    document.write("set", "first", create=True)
    document.write("add", "more")
    document.at_rest()
    (document.shared / "Paris").write_text("lost\n")
    rebuilt = document.bed.cli("resource", "rebuild", document.rid, site="Paris")
    assert rebuilt.exit_code == 0, rebuilt
    document.assert_everywhere("first", "more")


def test_what_is_deleted_stays_deleted(document):
    document.write("set", "first", create=True)
    document.at_rest()
    cut_off(document.bed, "Rennes")
    document.write("set", "left")
    time.sleep(0.01)
    done = document.bed.cli("exec", "--no-wait", "--id", document.rid, "--type", "delete", "--", "sh", "-c",
                            f"rm -f {document.shared}/$CHEOPS_SITE", site="Rennes")
    assert done.exit_code == 0, done
    document.bed.demo("heal")
    document.at_rest(state="deleted")
    assert [document.read(site) for site in SITES] == [[], [], []]


def test_an_agent_killed_in_the_middle_of_a_replay_goes_on(document):
    document.write("set", "first", create=True)
    document.at_rest()
    cut_off(document.bed, "Rennes")
    document.write("set", "left")
    time.sleep(0.01)
    for i in range(4):
        document.bed.cli("exec", "--no-wait", "--id", document.rid, "--type", "add", "--", "sh", "-c",
                         f"sleep 0.3; echo {i} >> {document.shared}/$CHEOPS_SITE", site="Rennes")
    wait_until(lambda: document.read("Rennes") == ["first", "0", "1", "2", "3"], what="Rennes goes on alone")
    document.bed.demo("heal")
    wait_until(lambda: document.read("Rennes")[:2] == ["left", "0"], what="it replays")
    document.bed.demo("kill", "Rennes", "agent")
    document.bed.demo("start", "Rennes", "agent")
    wait_until(lambda: document.bed.ready("Rennes"), 30, "Rennes is ready")
    document.at_rest(60)
    assert all(document.read(site)[0] == "left" and sorted(document.read(site)[1:]) == list("0123") for site in SITES)
