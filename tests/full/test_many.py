# SPDX-License-Identifier: AGPL-3.0-only
"""Many at once: what an agent must bear without refusing, forgetting, doubling or growing."""
import socket
import threading
import time

from audit import Audit, descriptors
from load import Load
from testbed import ALL, SITES, wait_until

MIB = 1024


def test_a_thousand_operations_on_one_resource_from_three_sites(broken, rid, shared):
    audit = Audit(broken)
    before = {site: broken.rss_kib(site) for site in SITES}
    with Load(broken, rid, shared, clients=("http",) * 8 + ("amqp", "cli"), pause=0, limit=1000, resources=1) as load:
        load.finish(600)
    assert len(load.requests) == 1000
    audit.check(load, seconds=900)
    for site in SITES:
        assert broken.rss_kib(site) - before[site] < 24 * MIB, f"{site}: {before[site]} KiB, then {broken.rss_kib(site)}"


def hang_up(bed, site, text):
    """Sends it and is gone."""
    with socket.create_connection(bed.address(site), timeout=30) as client:
        client.sendall(text)


def test_a_thousand_clients_that_hang_up(broken, rid, shared):
    audit = Audit(broken)
    operation = broken.run_ok(rid, "true").lines[0]["operation"]
    rss = broken.rss_kib("Nantes")
    head = "\r\nHost: 127.0.0.1\r\n" + authorization(broken, "Nantes")
    body = f'{{"resource": "{rid}-gone", "type": "set", "scope": "{ALL}", "command": ["sleep", "0.5"]}}'
    texts = [
        f"POST /v1/operations?wait=true HTTP/1.1{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}",
        f"POST /v1/operations?wait=true HTTP/1.1{head}Content-Length: 1000\r\n\r\n{{",
        f"GET /v1/operations/{operation}/watch HTTP/1.1{head}\r\n",
        f"GET /v1/events?follow=true HTTP/1.1{head}\r\n",
        f"POST /v1/resources/{rid}/show HTTP/1.1{head}Content-Type: application/json\r\nContent-Length: 24\r\n\r\n"
        '{"command": ["sleep","1"]}'[:24],
    ]

    def many(number):
        for index in range(125):
            # Few of those that make work: each is run, whoever waits for it or not.
            hang_up(broken, "Nantes", (texts[0] if index % 25 == 0 else texts[1 + (index + number) % 4]).encode())
    threads = [threading.Thread(target=many, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    began = time.monotonic()
    broken.run_ok(f"{rid}-next", "true")
    assert time.monotonic() - began < 30, "the next operation waits for clients that have gone"
    wait_until(lambda: descriptors(broken.pid("Nantes")) <= audit.descriptors["Nantes"] + 4, 60, "descriptors are closed")
    assert broken.rss_kib("Nantes") - rss < 24 * MIB


def authorization(bed, site):
    answer = bed.http(site, "GET", "/v1/status")
    return f"Authorization: {answer.request.headers['Authorization']}\r\n"


def test_first_operation_after_a_start(broken, rid):
    broken.demo("stop", "Nantes", "agent")
    broken.demo("start", "Nantes", "agent")
    began = time.monotonic()
    wait_until(lambda: broken.run(rid, "true").exit_code == 0, 30, "the first operation is done")
    assert time.monotonic() - began < 30


def test_a_long_life_of_one_resource_leaves_little(broken, rid, shared):
    """Of 6,000 operations no more stay than are kept, since each set makes the whole state; the others' agents run on."""
    matrix = {"ResolutionMatrix": [{"Before": "set", "After": "set", "Result": "take-one"},
                                   {"Before": "set", "After": "add", "Result": "take-both-keep-order"},
                                   {"Before": "add", "After": "set", "Result": "take-one"}]}
    total, asked = 6000, iter(range(6000))
    lock = threading.Lock()

    def ask(number):
        kind, mode = ("set", ">") if number % 4 == 0 else ("add", ">>")
        body = {"resource": rid, "type": kind, "command": ["sh", "-c", f"echo {number} {mode} {shared}/$CHEOPS_SITE"]}
        if number == 0:
            body |= {"scope": ALL, "config": matrix}
        answer = broken.http("Nantes", "POST", "/v1/operations", timeout=60, json=body)
        assert answer.status_code == 202, answer.text

    def ask_all():
        while True:
            with lock:
                number = next(asked, None)
            if number is None:
                return
            ask(number)
    ask(next(asked))
    threads = [threading.Thread(target=ask_all) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(900)
    wait_until(lambda: all(broken.get(site, f"/v1/resources/{rid}")["state"] == "ready" for site in SITES), 600, "all have run")
    for number in (total, total + 1, total + 2):  # what is stable is told by what follows
        ask(number)
    wait_until(lambda: all(broken.get(site, f"/v1/resources/{rid}")["state"] == "ready" for site in SITES), 60, "these, too")
    for site in SITES:
        for table in ("operation", "execution"):
            rows = broken.sql(site, f"SELECT count(*) FROM cheops.{table} WHERE resource = %s", rid)[0][0]
            members = 3 if table == "execution" and site == "Nantes" else 1
            assert 1000 <= rows / members < 1400, f"{site} has {rows} rows of {table}"
        vector = broken.sql(site, "SELECT vector FROM cheops.resource WHERE id = %s", rid)[0][0]
        assert [dot[0] for dot in vector] == ["Nantes"] and vector[0][2] == total + 3
    assert len({(shared / site).read_text() for site in SITES}) == 1
    kill(broken, "Paris")
    broken.run_ok(rid, "sh", "-c", f"echo last > {shared}/$CHEOPS_SITE", scope=None)
    assert {(shared / site).read_text() for site in SITES} == {"last\n"}


def kill(bed, site):
    bed.demo("kill", site, "agent")
    bed.demo("start", site, "agent")
    wait_until(lambda: bed.ready(site), 60, f"{site} is ready")
