# SPDX-License-Identifier: AGPL-3.0-only
"""What is full, away or stopping pushes back: nothing grows, nothing is lost, and it says why."""
import re
import threading
import time
from contextlib import contextmanager

import msgpack
import pytest
import requests
from faults import alarm, ctl
from testbed import AmqpClient, wait_until


def states(bed, site, operation):
    return {entry["site"]: entry["state"] for entry in bed.get(site, f"/v1/operations/{operation}")["sites"]}


def give(bed, site, resource, scope, *command):
    answer = bed.http(site, "POST", "/v1/operations", json={"resource": resource, "type": "set", "scope": scope,
                                                            "command": list(command) or ["true"]})
    assert answer.status_code == 202, answer.text
    return answer.json()["operation"]


def check(bed, site, name):
    return next(one for one in bed.get(site, "/v1/doctor")["checks"] if one["check"] == name)


def queue(bed, site, name):
    """(messages ready, consumers) of a queue; unacked messages are not counted."""
    connection = bed.amqp(site, admin=True)
    try:
        declared = connection.channel().queue_declare(f"cheops.{site}.{name}", passive=True).method
        return declared.message_count, declared.consumer_count
    finally:
        connection.close()


@contextmanager
def configured(bed, site, section, line):
    """The agent with one more option."""
    path = bed.directory / site / "agent.conf"
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace(f"[{section}]\n", f"[{section}]\n{line}\n"), encoding="utf-8")
    try:
        restart(bed, site)
        yield
    finally:
        path.write_text(before, encoding="utf-8")
        bed.demo("stop", site, "agent", check=False)  # the next restore() starts it


def restart(bed, site):
    bed.demo("stop", site, "agent")
    bed.demo("start", site, "agent")
    wait_until(lambda: bed.ready(site), 60, f"{site} is ready")


def test_a_database_that_stays_away_gives_messages_back(broken, rid, shared):
    broken.run_ok(rid, "true")
    with configured(broken, "Nantes", "database", "requeue_after_ms = 6s"), AmqpClient(broken, "Nantes") as client:
        broken.demo("stop", "Nantes", "database")
        wait_until(lambda: broken.metric("Nantes", "store_up") == 0, 30, "Nantes has noticed")
        lost = time.monotonic()
        there = give(broken, "Rennes", rid, None, "sh", "-c", f"echo there >> {shared}/$CHEOPS_SITE")
        client.publish({"key": rid, "resource": rid, "type": "set", "command": ["sh", "-c", f"echo here >> {shared}/$CHEOPS_SITE"]})
        # Short outages keep what was delivered ...
        if time.monotonic() - lost < 3:
            assert queue(broken, "Nantes", "requests")[1] == 1 and "messages go back" not in broken.log("Nantes")
        # ... and then it lies in its queue again, and nothing is taken; but heartbeats.
        wait_until(lambda: queue(broken, "Nantes", "requests") == (1, 0), 60, "the request is back in its queue")
        wait_until(lambda: queue(broken, "Nantes", "operations")[0] >= 1, 60, "the operation is back in its queue")
        assert queue(broken, "Nantes", "operations")[1] == 0 and queue(broken, "Nantes", "beats")[1] == 1
        assert broken.metric("Nantes", "inbound_bytes") == 0
        said = check(broken, "Nantes", "database")
        assert not said["ok"] and re.search(r"away for \d+ (s|min)", said["detail"]) and "start PostgreSQL" in said["advice"]
        # A site that accepts nothing is shown down by the others.
        wait_until(lambda: not check(broken, "Rennes", "link Nantes")["ok"], 60, "Rennes sees Nantes down")
        assert "waits for it" in check(broken, "Rennes", "link Nantes")["detail"] or \
            "wait for it" in check(broken, "Rennes", "link Nantes")["detail"]
        broken.demo("start", "Nantes", "database")
        assert client.replies(seconds=90)[-1]["state"] == "done"
        wait_until(lambda: broken.get("Rennes", f"/v1/operations/{there}")["completed"], 90, "the operation is completed")
    wait_until(lambda: all(sorted((shared / site).read_text().split()) == ["here", "there"] for site in ("Nantes", "Rennes", "Paris")),
               30, "each ran once everywhere")


def test_an_alarm_stops_publishing_and_nothing_else(broken, rid):
    broken.run_ok(rid, "true")
    with alarm(broken, "Nantes", "set_vm_memory_high_watermark", ("absolute", "1"), ("absolute", "512MB")):
        assert broken.metric("Nantes", "broker_blocked") == 1
        operation = give(broken, "Nantes", rid, None)
        wait_until(lambda: states(broken, "Nantes", operation)["Nantes"] == "done", 60, "it runs here")
        assert states(broken, "Nantes", operation)["Rennes"] == "queued"
        said = check(broken, "Nantes", "broker")
        assert not said["ok"] and "alarm" in said["detail"] and "memory or disk" in said["advice"]
        assert queue(broken, "Nantes", "operations")[1] == 1 and queue(broken, "Nantes", "requests")[1] == 1
        # Its heartbeats do not leave: the others show it down, and it hears them.
        wait_until(lambda: not check(broken, "Paris", "link Nantes")["ok"], 60, "Paris does not hear Nantes")
        row = next(site for site in broken.get("Nantes", "/v1/sites")["sites"] if site["site"] == "Rennes")
        stream = next(one for one in row["streams"] if one["key"] == "operation")
        assert row["waiting"] >= 1 and stream["last"] > stream["sent"] >= stream["mark"]
        listed = broken.cli("site", "list")
        assert re.search(r"^Rennes +operation +\d+ +\d+ +\d+ +[1-9]", listed.out, re.M), listed
    wait_until(lambda: set(states(broken, "Nantes", operation).values()) == {"done"}, 90, "it drains by itself")


def test_a_stream_that_does_not_move_is_told(broken, rid):
    """The link is up and nothing drains: the shovel of the operations is gone, that of the heartbeats is not."""
    broken.run_ok(rid, "true")
    rows = [line.split("\t") for line in ctl(broken, "Nantes", "list_parameters").splitlines()]
    name, definition = next((row[1], row[2]) for row in rows if len(row) > 2 and "cheops.out.Rennes" in row[2])
    ctl(broken, "Nantes", "clear_parameter", "shovel", name)
    try:
        operation = give(broken, "Nantes", rid, None)
        said = wait_until(lambda: (one := check(broken, "Nantes", "link Rennes")) and not one["ok"] and one, 120, "doctor says so")
        assert "nothing moves towards it: 1 items wait" in said["detail"] and "cheops.out" in said["advice"], said
    finally:
        ctl(broken, "Nantes", "set_parameter", "shovel", name, definition)
    wait_until(lambda: set(states(broken, "Nantes", operation).values()) == {"done"}, 120, "it drains by itself")
    wait_until(lambda: check(broken, "Nantes", "link Rennes")["ok"], 60, "doctor is content")


class Clients:
    """Threads that give operations one after another, each again with its key while nobody answers."""

    def __init__(self, bed, site, resource, shared, count=4):
        self.bed, self.site, self.resource, self.shared = bed, site, resource, shared
        self.accepted, self.refused, self.lost_answers = [], [], 0
        self.stopping, self.lock = threading.Event(), threading.Lock()
        self.threads = [threading.Thread(target=self.work, args=(number,)) for number in range(count)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def work(self, number):
        for turn in range(100000):
            if self.stopping.is_set():
                return
            self.give(f"{self.resource}-{number}-{turn}", number)

    def give(self, key, number):
        body = {"resource": f"{self.resource}-{number}", "type": "add", "scope": "Nantes & Rennes",
                "command": ["sh", "-c", f"echo {key} >> {self.shared}/$CHEOPS_SITE-{number}"]}
        unanswered = False
        for _ in range(600):
            try:
                answer = self.bed.http(self.site, "POST", "/v1/operations", timeout=30, json=body, headers={"Idempotency-Key": key})
            except requests.ConnectionError as error:
                unanswered = unanswered or "Connection refused" not in str(error)
            else:
                if answer.status_code == 202:
                    with self.lock:
                        self.lost_answers += unanswered and answer.json()["duplicate"]
                        self.accepted.append((key, number, answer.json()["operation"]))
                    return
                assert answer.status_code == 503 and answer.headers["Retry-After"], answer.text
                with self.lock:
                    self.refused.append(answer.json()["error"])
            time.sleep(0.1)
        raise AssertionError("no answer for a minute")


def test_restarts_under_load_lose_and_double_nothing(broken, rid, shared):
    with Clients(broken, "Nantes", rid, shared) as clients:
        for _ in range(3):
            count = len(clients.accepted)
            wait_until(lambda: len(clients.accepted) >= count + 8, 120, "work goes on")
            restart(broken, "Nantes")
    assert clients.lost_answers == 0, "a request that was taken is answered before the agent goes"
    assert all("stopping" in text or "database" in text for text in clients.refused), clients.refused
    for key, _, operation in clients.accepted:
        wait_until(lambda: broken.get("Nantes", f"/v1/operations/{operation}")["completed"], 180, f"{key} is completed")
    for site in ("Nantes", "Rennes"):
        for number in range(4):
            ran = (shared / f"{site}-{number}").read_text().split()
            assert ran == [key for key, of, _ in clients.accepted if of == number], f"{site}-{number}"


@pytest.mark.parametrize("hold", (False, True))
def test_more_requests_than_may_be_in_hand(broken, rid, hold):
    """Requests of hundreds of kilobytes: over 8 MiB the agent reads no further, whether it works or has lost its database."""
    body = {"type": "set", "scope": "Nantes", "command": ["true", "x" * 60000],
            "files": [{"name": f"f{number}", "content": b"y" * 60000} for number in range(2)]}
    before = broken.rss_kib("Nantes")
    if hold:
        broken.demo("stop", "Nantes", "database")
        wait_until(lambda: broken.metric("Nantes", "store_up") == 0, 30, "Nantes has noticed")
    with AmqpClient(broken, "Nantes") as client:
        for number in range(120):
            client.publish({**body, "resource": f"{rid}-{number % 8}", "key": f"{rid}-{number}"}, correlation_id=str(number))
        if hold:
            wait_until(lambda: broken.metric("Nantes", "inbound_held") == 1, 60, "nothing further is read")
            assert 8 << 20 <= broken.metric("Nantes", "inbound_bytes") <= 10 << 20
            said = check(broken, "Nantes", "inbound")
            assert not said["ok"] and "MiB" in said["detail"]
            assert broken.rss_kib("Nantes") < before + 64 * 1024
            broken.demo("start", "Nantes", "database")
        completed = set()

        def all_completed():
            method, properties, reply = client.channel.basic_get(client.queue, auto_ack=True)
            while method is not None:
                if msgpack.unpackb(reply)["kind"] == "completed":
                    completed.add(int(properties.correlation_id))
                method, properties, reply = client.channel.basic_get(client.queue, auto_ack=True)
            return len(completed) == 120
        wait_until(all_completed, 240, "every request is completed")
    wait_until(lambda: broken.metric("Nantes", "inbound_held") == 0, 60, "messages are taken again")
    wait_until(lambda: broken.metric("Nantes", "inbound_bytes") == 0, 60, "nothing is in hand")


def test_a_client_that_is_refused_for_want_of_room_is_told_when_to_come_back(bed):
    """Connections over the bound: 503 with Retry-After, and those within it are served meanwhile."""
    limit = 1024
    held = []
    try:
        for _ in range(limit + 8):
            connection = requests.Session()
            held.append(connection)
            answer = connection.get(bed.url("Paris", "/healthz"), timeout=30)
            if answer.status_code == 503:
                break
        assert answer.status_code == 503 and int(answer.headers["Retry-After"]) >= 1
        assert "too many connections" in answer.json()["error"]
        assert held[0].get(bed.url("Paris", "/healthz"), timeout=30).status_code == 200
    finally:
        for connection in held:
            connection.close()
    wait_until(lambda: bed.ready("Paris"), 30, "room again")
