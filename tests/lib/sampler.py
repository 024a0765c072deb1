# SPDX-License-Identifier: AGPL-3.0-only
"""Asks every site again and again how operations stand, and holds what it shows against the databases.

No shown state may be ahead of the database of the site that it is about (which is read after it was shown: a database only goes
forward), and none may move backwards except by MOVES. What cannot be compared because a database is away is compared
when it is back: what was shown before it died must have survived.
"""
import queue
import random
import threading
import time

import psycopg2
import requests
from testbed import SITES

INTERVAL_S = 0.05
RANK = {"accepted": 0, "queued": 1, "delivered": 2, "running": 3, "in-doubt": 4, "done": 5, "failed": 5, "refused": 5,
        "superseded": 5, "voided": 5, "expired": 5}
# The only ways back, each with a higher run: somebody resolved a doubt by running again, or a failure is tried again.
MOVES = {("in-doubt", "running"), ("in-doubt", "delivered"), ("failed", "running"), ("done", "running")}


class Sampler:
    def __init__(self, bed, load, recent=40):
        self.bed, self.load, self.recent = bed, load, recent
        self.violations = []
        self.samples = dict.fromkeys(SITES, 0)
        self.compared = 0
        self.shown = {}  # (asked site, operation, about) -> (state, run)
        self.stopping = threading.Event()
        self.queues = {site: queue.Queue() for site in SITES}
        self.lookers = [threading.Thread(target=self.look, args=(site,), daemon=True) for site in SITES]
        self.comparers = [threading.Thread(target=self.compare, args=(site,), daemon=True) for site in SITES]

    def __enter__(self):
        for thread in self.lookers + self.comparers:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Call when all databases are back."""
        self.stopping.set()
        for thread in self.lookers:
            thread.join(30)
        for site in SITES:
            self.queues[site].put(None)
        for thread in self.comparers:
            thread.join(60)

    def check(self):
        left = sum(waiting.qsize() for waiting in self.queues.values())
        assert not [thread for thread in self.lookers + self.comparers if thread.is_alive()] and not left, f"{left} not compared"
        assert not self.violations, f"{len(self.violations)} untrue: {self.violations[:5]}"
        assert all(self.samples.values()) and self.compared, f"too little was asked: {self.samples}, compared {self.compared}"

    def look(self, site):
        session, rng, due = requests.Session(), random.Random(site), time.monotonic()
        while not self.stopping.is_set():
            due = max(due + INTERVAL_S, time.monotonic())
            accepted = self.load.accepted()
            if accepted:
                # Mostly what happens now, at times what should long be settled.
                pool = accepted[-self.recent:] if rng.random() < 0.8 else accepted
                self.ask(session, site, rng.choice(pool).operation)
            self.stopping.wait(due - time.monotonic())

    def ask(self, session, site, operation):
        try:
            answer = session.get(self.bed.url(site, f"/v1/operations/{operation}"), timeout=10)
        except requests.RequestException:
            return
        if answer.status_code == 404 and (site, operation, None) in self.shown:
            self.violations.append(f"{site} has forgotten {operation}")
        if answer.status_code != 200:
            return
        self.samples[site] += 1
        self.shown[site, operation, None] = True
        for entry in answer.json()["sites"]:
            self.note(site, operation, entry["site"], entry["state"], entry["run"])

    def note(self, site, operation, about, state, run):
        before, run_before = self.shown.get((site, operation, about), (state, run))
        if (state, run) == (before, run_before) and (site, operation, about) in self.shown:
            return
        back = RANK[state] < RANK[before] or (RANK[state] == RANK[before] == 5 and state != before)
        if run < run_before or (back and not ((before, state) in MOVES and run > run_before)):
            self.violations.append(f"{site} about {about}, {operation}: {before} ({run_before}), then {state} ({run})")
        self.shown[site, operation, about] = (state, run)
        # Until it is delivered, only the origin knows of it, which is who says so.
        self.queues[site if RANK[state] < 2 else about].put((site, operation, about, state, run))

    def compare(self, site):
        connection, todo, ended = None, [], False
        deadline = None
        while not ended or todo:
            todo += drain(self.queues[site], block=not todo)
            ended = ended or None in todo
            todo = [one for one in todo if one is not None]
            if ended and deadline is None:
                deadline = time.monotonic() + 40
            if not todo:
                continue
            try:
                connection = connection or connect(self.bed, site)
                known = rows(connection, [one[1] for one in todo])
            except psycopg2.Error as error:
                connection = None
                if deadline and time.monotonic() > deadline:
                    self.violations.append(f"the database of {site} does not answer: {error}")
                    return
                time.sleep(0.1)
                continue
            for one in todo:
                self.judge(site, known, *one)
            self.compared += len(todo)
            todo = []
        if connection:
            connection.close()

    def judge(self, site, known, asked, operation, about, state, run):
        has = known.get(operation)
        if has is None:
            self.violations.append(f"{asked} says {operation} is {state} at {about}, the database of {site} does not have it")
        elif RANK[state] >= 2:
            stored, stored_run = has
            behind = (stored_run, RANK.get(stored, -1)) < (run, RANK[state])
            other = RANK[state] == 5 and stored_run == run and stored != state
            if behind or other:
                self.violations.append(f"{asked} says {operation} is {state} ({run}) at {about}, where it is {stored} ({stored_run})")


def drain(waiting, block):
    got = []
    try:
        got.append(waiting.get(block, 0.5 if block else None))
        while True:
            got.append(waiting.get_nowait())
    except queue.Empty:
        return got


def connect(bed, site):
    connection = psycopg2.connect(bed.environment[f"CHEOPS_DSN_{site.upper()}"], connect_timeout=5)
    connection.autocommit = True
    return connection


def rows(connection, operations):
    """operation -> (state, run) of the site's own execution, (None, 0) where it has none."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT o.id::text, e.state, coalesce(e.run, 0) FROM cheops.operation o LEFT JOIN cheops.execution e"
                       " ON e.operation = o.id AND e.own WHERE o.id = ANY (%s::uuid[])", (list(set(operations)),))
        return {operation: (state, run) for operation, state, run in cursor.fetchall()}
