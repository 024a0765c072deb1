# SPDX-License-Identifier: AGPL-3.0-only
"""What must hold after a fault, whatever it was: every accepted operation in every member's set once, run once, its results at the
origin, nothing waiting anywhere, nothing left behind."""
import os
import time
from collections import defaultdict
from pathlib import Path

import load as loads
import psycopg2
from testbed import SITES

SETTLE_S = 120
FD_SLACK = 4
SWEPT = ("blobs/tmp", "spool")
STAYING = ("agent.lock", "shows")
ORPHANS = (("operation", "resource", "resource"), ("execution", "operation", "operation"),
           ("outbound", "operation", "operation"), ("listener", "operation", "operation"))
INBOXES = ("requests", "operations", "acks", "control", "bulk")


class Audit:
    """Made before the fault, when the sites are idle."""

    def __init__(self, bed):
        self.bed = bed
        self.descriptors = {site: descriptors(bed.pid(site)) for site in SITES}
        self.dead = {site: {letter["id"] for letter in bed.dead(site)} for site in SITES}

    def check(self, load, seconds=SETTLE_S, dead_letters=False, requests_lost=False, in_doubt=()):
        """dead_letters: the fault makes some. requests_lost: the broker lost requests that it had confirmed. in_doubt: sites
        whose commands may have been cut off by a crash of the machine."""
        assert not load.unexpected, load.unexpected[:5]
        self.settle(load, seconds, in_doubt)
        operations = self.operations(load)
        self.check_sets(load, operations, requests_lost)
        self.check_runs(load, operations, in_doubt)
        self.check_results(operations, in_doubt)
        self.check_leaks(dead_letters)

    # --- until nothing moves ---

    def settle(self, load, seconds, in_doubt=()):
        """Waits until everything has drained by itself; the time it took."""
        began = time.monotonic()
        left = None
        while time.monotonic() - began < seconds:
            left = self.waiting(load, in_doubt)
            if not left:
                return time.monotonic() - began
            time.sleep(0.3)
        raise AssertionError(f"not drained after {seconds} s: {left}; {loads.dump(load)}")

    def waiting(self, load, in_doubt):
        """What is still on its way, in words; empty when nothing is."""
        left = []
        for site in SITES:
            try:
                left += [f"{site}: {what}" for what in self.unfinished(site, load, in_doubt)]
            except psycopg2.Error as error:
                left.append(f"{site}: {error}")
        return left or self.in_queues()

    def unfinished(self, site, load, in_doubt):
        like = load.prefix + "-%"
        allowed = "in-doubt" if in_doubt else ""
        for what, statement, parameters in (
                ("executions", "SELECT count(*) FROM cheops.execution WHERE resource LIKE %s AND own AND NOT final AND state <> %s",
                 (like, allowed)),
                ("not completed", "SELECT count(*) FROM cheops.operation o WHERE resource LIKE %s AND origin = %s AND completed_ms IS"
                 " NULL AND NOT EXISTS (SELECT FROM cheops.execution e WHERE e.operation = o.id AND e.state = %s)",
                 (like, site, allowed)),
                ("outbound", "SELECT count(*) FROM cheops.outbound", ()),
                ("events", "SELECT (SELECT coalesce(max(number), 0) FROM cheops.event) - event_published FROM cheops.self", ())):
            count = self.bed.sql(site, statement, *parameters)[0][0]
            if count:
                yield f"{count} {what}"

    def in_queues(self):
        return [f"{site}: {count} messages in {name}" for site in SITES for name, count in queue_depths(self.bed, site).items() if count]

    # --- what there is then ---

    def operations(self, load):
        """site -> id -> row."""
        found = {}
        for site in SITES:
            rows = self.bed.sql(site, "SELECT id::text, key, resource, origin, incarnation, n, stamp_ms, stamp_counter, members"
                                " FROM cheops.operation WHERE resource LIKE %s"
                                " ORDER BY resource, stamp_ms, stamp_counter, origin, id", load.prefix + "-%")
            names = ("id", "key", "resource", "origin", "incarnation", "n", "stamp_ms", "stamp_counter", "members")
            found[site] = {row[0]: dict(zip(names, row)) for row in rows}
        return found

    def check_sets(self, load, operations, requests_lost):
        everything = {}
        for known in operations.values():
            everything.update(known)
        for identity, row in everything.items():
            # Members of a resource are the union of its concurrent creations; here all name the same.
            holders = {site for site in SITES if identity in operations[site]}
            assert holders == set(row["members"]) | {row["origin"]}, f"{identity} is held by {holders}, not {row['members']}"
            assert all(operations[site][identity] == row for site in holders), f"{identity} differs between sites"
        by_key = defaultdict(set)
        for identity, row in everything.items():
            by_key[row["key"]].add(identity)
        twice = {key: ids for key, ids in by_key.items() if len(ids) > 1}
        assert not twice, f"admitted twice: {twice}"
        asked = {request.key: request for request in load.requests}
        assert set(by_key) <= set(asked), "operations that nobody asked for"
        for request in load.requests:
            if request.operation:
                assert by_key.get(request.key) == {request.operation}, f"{request.key}: {request.operation} was accepted"
                assert set(everything[request.operation]["members"]) == request.members
            elif request.confirmed and not requests_lost:
                assert by_key.get(request.key), f"{request.key} was confirmed by the broker of {request.site} and vanished"
        self.check_sequences(operations)

    @staticmethod
    def check_sequences(operations):
        sequences = defaultdict(dict)
        for site, known in operations.items():
            for identity, row in known.items():
                sequences[row["resource"]].setdefault(site, []).append(identity)
        for resource, of_sites in sequences.items():
            assert len(set(map(tuple, of_sites.values()))) == 1, f"sites differ in the sequence of {resource}"
        for site, known in operations.items():
            dots = defaultdict(list)
            for row in known.values():
                dots[row["resource"], row["origin"], row["incarnation"]].append(row["n"])
            for stream, numbers in dots.items():
                assert sorted(numbers) == list(range(1, len(numbers) + 1)), f"{site}: {stream} has gaps or doubles"

    def check_runs(self, load, operations, in_doubt):
        ran = loads.runs(load.directory)
        for site in SITES:
            doubtful = self.doubtful(site, load) if site in in_doubt else set()
            member = {identity for identity, row in operations[site].items() if site in row["members"]}
            twice = {identity: count for identity, count in ran[site].items() if count > 1}
            assert not twice, f"{site} ran more than once: {twice}"
            never = member - set(ran[site]) - doubtful
            assert not never, f"{site} never ran {sorted(never)[:5]}, {len(never)} in all"
            assert set(ran[site]) <= member, f"{site} ran what is not its own"

    def doubtful(self, site, load):
        return {row[0] for row in self.bed.sql(site, "SELECT operation::text FROM cheops.execution WHERE own AND state = 'in-doubt'"
                                               " AND resource LIKE %s", load.prefix + "-%")}

    def check_results(self, operations, in_doubt):
        for site in SITES:
            mine = [identity for identity, row in operations[site].items() if row["origin"] == site]
            rows = self.bed.sql(site, "SELECT operation::text, site, state, exit_code, output FROM cheops.execution"
                                " WHERE operation = ANY (%s::uuid[])", mine)
            answers = {(operation, about): (state, code, output.strip()) for operation, about, state, code, output in rows}
            for identity in mine:
                for member in operations[site][identity]["members"]:
                    answer = answers.get((identity, member))
                    if member in in_doubt and answer and answer[0] == "in-doubt":
                        continue
                    assert answer == ("done", 0, identity), f"{site} has of {identity} at {member}: {answer}"

    # --- nothing left behind ---

    def check_leaks(self, dead_letters):
        for site in SITES:
            for table, column, of in ORPHANS:
                counts = self.bed.sql(site, f"SELECT count(*) FROM cheops.{table} t WHERE {column} IS NOT NULL AND NOT EXISTS"
                                            f" (SELECT FROM cheops.{of} WHERE id = t.{column})")[0][0]
                assert counts == 0, f"{site}: {counts} rows of {table} without their {of}"
            counts = self.bed.sql(site, "SELECT count(*) FROM cheops.stream WHERE mark <> last AND direction = 'out'"
                                   " AND incarnation = (SELECT incarnation FROM cheops.self)")[0][0]
            assert counts == 0, f"{site}: {counts} streams whose marks did not come back"
            until(lambda site=site: not runners(self.bed, site), 20, f"{site}: runners that do not end")
            until(lambda site=site: not leftovers(self.bed, site), 20, f"{site}: files left behind: {leftovers(self.bed, site)[:5]}")
            until(lambda site=site: descriptors(self.bed.pid(site)) <= self.descriptors[site] + FD_SLACK, 60,
                  f"{site}: the agent had {self.descriptors[site]} descriptors, has {descriptors(self.bed.pid(site))}")
            if not dead_letters:
                new = [letter for letter in self.bed.dead(site) if letter["id"] not in self.dead[site]]
                assert not new, f"{site}: {new[:3]}"
        marks = {(site, row[0], row[1]): row[2] for site in SITES for row in self.bed.sql(
            site, "SELECT site, key, mark FROM cheops.stream s WHERE direction = 'in' AND incarnation ="
            " (SELECT max(incarnation) FROM cheops.stream l WHERE l.site = s.site AND l.key = s.key AND l.direction = 'in')")}
        for site in SITES:
            for other, key, last in self.bed.sql(site, "SELECT site, key, last FROM cheops.stream WHERE direction = 'out' AND"
                                                 " incarnation = (SELECT incarnation FROM cheops.self) AND last > 0"):
                assert marks.get((other, site, key)) == last, f"{other} has {marks.get((other, site, key))} of {site}'s {key}, not {last}"


def until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def queue_depths(bed, site, lanes=("out", "bulk")):
    """Messages that wait in the queues of a broker, by name; -1: there is no such queue."""
    names = [f"cheops.{site}.{inbox}" for inbox in INBOXES]
    names += [f"cheops.{lane}.{other}" for lane in lanes for other in SITES if other != site]
    depths = {}
    connection = bed.amqp(site, admin=True)
    try:
        for name in names:
            channel = connection.channel()
            try:
                depths[name] = channel.queue_declare(name, passive=True).method.message_count
                channel.close()
            except Exception as error:  # the channel is closed by the broker: 404
                assert "404" in str(error), error
                depths[name] = -1
    finally:
        connection.close()
    return depths


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def runners(bed, site):
    """Pids of the runners that hold files of the site's agent."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "comm").read_text().strip() != "cheops-runner":
                continue
            held = [os.readlink(entry / "cwd")] + [os.readlink(link) for link in (entry / "fd").iterdir()]
        except OSError:
            continue
        if any(path.startswith(f"{bed.directory}/{site}/") for path in held):
            found.append(int(entry.name))
    return found


def leftovers(bed, site):
    """Runs in the spool that nobody forgot, and files of unfinished transfers."""
    state = bed.directory / site / "agent"
    return [str(path) for place in SWEPT for path in (state / place).glob("*") if path.name not in STAYING]
