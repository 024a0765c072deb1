# SPDX-License-Identifier: AGPL-3.0-only
"""Fleets of which not all sites have the same version of the agent, as while they are upgraded site by site.

The other agents are built from the same sources, with the wire versions before and after this one's (tests/versions).
"""
import time

import msgpack
import pytest
from audit import Audit
from load import Load, runs
from sampler import Sampler
from testbed import SITES, wait_until

THIS = "bin"
VERSIONS = {"previous": 1, THIS: 2, "next": 3}
# A failure is noted when it is seen, by clients that the machine may keep waiting.
SLACK_S = 5


class Fleet:
    """Says which program is the agent of a site."""

    def __init__(self, bed):
        self.bed = bed
        self.others = {site: THIS for site in SITES}

    def programs(self, version):
        """A directory as a package of that version would fill it."""
        if version == THIS:
            return self.bed.programs()
        folder = self.bed.directory / f"programs-{version}"
        if not folder.exists():
            folder.mkdir()
            (folder / "cheops-agent").symlink_to(self.bed.programs().parent / version / "cheops-agent")
            (folder / "cheops-runner").symlink_to(self.bed.programs() / "cheops-runner")
        return folder

    def start(self, site, version):
        self.others[site] = version
        self.bed.demo("start", site, "agent", environment={"CHEOPS_DEMO_BIN": str(self.programs(version))})
        wait_until(lambda: self.bed.ready(site), 60, f"{site} is ready")

    def change(self, site, version):
        """As a package manager does: SIGTERM, and the other program. From when to when it was away."""
        began = time.monotonic()
        self.bed.demo("stop", site, "agent")
        self.start(site, version)
        return site, began, time.monotonic()

    def hear(self):
        """Until all know what the others speak now."""
        for site in SITES:
            for other in SITES:
                if other != site:
                    wait_until(lambda site=site, other=other: about(self.bed, site, other)["version"] ==
                               VERSIONS[self.others[other]], 60, f"{site} hears what {other} speaks")


@pytest.fixture
def fleet(broken):
    fleet = Fleet(broken)
    yield fleet
    for site, version in fleet.others.items():
        if version != THIS:
            fleet.change(site, THIS)


class Tap:
    """The versions of the messages that come to a site from another one."""

    def __init__(self, bed, site):
        self.connection = bed.amqp(site, admin=True)
        self.channel = self.connection.channel()
        self.queue = self.channel.queue_declare("", exclusive=True).method.queue
        for key in ("operation", "ack"):
            self.channel.queue_bind(self.queue, f"cheops.site.{site}", key)

    def seen(self):
        """Site -> versions."""
        found = {}
        while True:
            method, _, body = self.channel.basic_get(self.queue, auto_ack=True)
            if method is None:
                self.connection.close()
                return found
            header = msgpack.unpackb(body)[0]
            found.setdefault(header["from"], set()).add(header["v"])


def about(bed, site, other):
    return next(row for row in bed.get(site, "/v1/sites")["sites"] if row["site"] == other)


def dead_since(bed, audit):
    return {site: [letter for letter in bed.dead(site) if letter["id"] not in audit.dead[site]] for site in SITES}


@pytest.mark.parametrize("version", ["previous", "next"])
def test_one_site_of_another_version(fleet, broken, rid, shared, version):
    broken.demo("stop", "Paris", "agent")
    for site in ("Nantes", "Rennes"):  # when it is back they compare what they hold, if it can
        wait_until(lambda site=site: about(broken, site, "Paris")["state"] == "down", 60, f"{site} misses Paris")
    fleet.start("Paris", version)
    fleet.hear()
    for site in SITES:
        for row in broken.get(site, "/v1/sites")["sites"]:
            assert row["version"] == VERSIONS[fleet.others[row["site"]]], f"at {site}: {row}"
            assert row["problem"] is None, f"at {site}: {row}"
    audit = Audit(broken)
    taps = {site: Tap(broken, site) for site in SITES}
    with Load(broken, rid, shared, clients=("http", "amqp", "cli"), pause=0.3, limit=300) as load:
        load.wait(6)
    for site in SITES:
        result = broken.run_ok(f"{rid}-all", "sh", "-c", "echo $CHEOPS_SITE", site=site)
        assert {name: line["output"].strip() for name, line in result.sites.items()} == dict(zip(SITES, SITES)), result
    audit.check(load)
    for site, tap in taps.items():
        for other, versions in tap.seen().items():
            common = min(VERSIONS[fleet.others[site]], VERSIONS[fleet.others[other]])
            assert versions == {common}, f"{other} to {site}"
    assert broken.metric("Paris", "items_unknown_total") == 0, "it was sent what it does not know"
    # What needs version 2 is refused at once where it cannot be asked.
    operation = load.accepted()[0].operation
    result = broken.cli("op", "resolve", operation, "done", "--api", broken.url("Nantes"), site="Paris")
    assert result.exit_code != 0, result
    assert ("the agent of Paris cannot be asked from here: upgrade it, or resolve it there" in result.err) == \
        (version == "previous"), result


def check_failures(load, windows):
    """Nothing failed but what was asked of a site while its agent was away; AMQP clients didn't notice."""
    for when, site, door, what in load.failures:
        assert door != "amqp", (site, what)
        assert any(site == name and began <= when <= ended + SLACK_S for name, began, ended in windows), (site, what)


def test_rolling_upgrade_under_load(fleet, broken, rid, shared):
    for site in SITES:
        fleet.change(site, "previous")
    fleet.hear()
    audit = Audit(broken)
    windows = []
    with Load(broken, rid, shared, clients=("http", "amqp", "cli")) as load, Sampler(broken, load) as sampler:
        load.wait(2)
        for site in ("Rennes", "Nantes", "Paris"):
            windows.append(fleet.change(site, THIS))
            load.wait(2)
        fleet.hear()
        assert not any(dead_since(broken, audit).values())
        # And one back: what was sent to it in the later version is refused there, and sent again in the one before.
        windows.append(fleet.change("Rennes", "previous"))
        load.wait(2)
        windows.append(fleet.change("Rennes", THIS))
        load.wait(2)
        load.stop()
        audit.settle(load, 120)
    sampler.check()
    check_failures(load, windows)
    print(f"{len(load.accepted())} operations, {len(load.failures)} failures")
    dead = dead_since(broken, audit)
    assert not dead["Nantes"] and not dead["Paris"], dead
    assert all("version 2, this agent speaks 1 to 1" in letter["reason"] for letter in dead["Rennes"]), dead
    audit.check(load, dead_letters=True)
    broken.drop_dead()


def test_items_of_a_later_kind_wait_for_the_upgrade(fleet, broken, rid, shared):
    """Nantes has numbered an item of version 2 when Paris goes back to version 1."""
    fleet.change("Paris", "previous")
    broken.demo("stop", "Paris", "agent")
    result = broken.cli("exec", "--no-wait", "--id", rid, "--type", "set", "--scope", "Nantes & Paris", "--", "sh", "-c",
                        f"echo $CHEOPS_OPERATION >> {shared}/$CHEOPS_SITE; echo $CHEOPS_SITE")
    assert result.exit_code == 0, result
    operation = result.out.strip()
    make_past(broken, fleet, operation)
    fleet.start("Paris", "previous")
    problem = wait_until(lambda: about(broken, "Paris", "Nantes")["problem"], 60, "Paris says what waits")
    assert problem == "has sent 1 items that only a later version reads: upgrade this site"
    # Its stream goes on meanwhile.
    broken.run_ok(f"{rid}-behind", "true", scope="Nantes & Paris")
    assert operation not in runs(shared)["Paris"]
    fleet.change("Paris", THIS)
    wait_until(lambda: broken.get("Nantes", f"/v1/operations/{operation}")["completed"], 60, "it is completed")
    rows = broken.get("Nantes", f"/v1/operations/{operation}")["sites"]
    assert {row["site"]: (row["state"], row["output"].strip()) for row in rows} == \
        {site: ("done", site) for site in ("Nantes", "Paris")}
    assert runs(shared)["Paris"][operation] == runs(shared)["Nantes"][operation] == 1
    assert about(broken, "Paris", "Nantes")["problem"] is None
    assert broken.sql("Paris", "SELECT count(*) FROM cheops.undecoded") == [(0,)]


def make_past(bed, fleet, operation):
    """What Nantes has for Paris is no longer the operation but a past with it, as who lacked it is given."""
    with bed.amqp("Paris", admin=True) as connection:
        channel = connection.channel()
        queue = "cheops.Paris.operations"
        wait_until(lambda: channel.queue_declare(queue, passive=True).method.message_count, what="it is on its way")
        bed.demo("stop", "Nantes", "agent")
        channel.queue_purge(queue)
    item = bytes(bed.sql("Nantes", "SELECT item FROM cheops.operation WHERE id = %s", operation)[0][0])
    past = msgpack.packb([10, {"operation": item}, None])
    assert bed.sql("Nantes", "UPDATE cheops.outbound SET operation = NULL, item = %s WHERE operation = %s"
                   " RETURNING number", past, operation, commit=True)
    fleet.start("Nantes", THIS)
