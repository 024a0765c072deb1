# SPDX-License-Identifier: AGPL-3.0-only
"""The AMQP door: requests and events for programs, by a client that knows schema/wire.md and nothing else."""
import json
import subprocess

import msgpack
import pika
import pytest
from testbed import ALL, ROOT, SITES, AmqpClient, wait_until

EXAMPLES = ROOT / "schema" / "examples"


@pytest.fixture
def client(bed):
    with AmqpClient(bed, "Rennes") as amqp:
        yield amqp


def request(resource, *command, **fields):
    return {"key": resource, "resource": resource, "type": "set", "scope": ALL, "command": list(command) or ["true"], **fields}


def test_request_is_answered_site_by_site(bed, client, rid):
    client.publish(request(rid, "sh", "-c", "printf %s $CHEOPS_SITE"), correlation_id="mine")
    replies = client.replies("mine")
    assert replies[0]["kind"] == "accepted" and sorted(replies[0]["members"]) == sorted(SITES)
    results = {reply["site"]: reply for reply in replies if reply["kind"] == "result" and reply["state"] == "done"}
    assert {site: reply["output"] for site, reply in results.items()} == {site: site.encode() for site in SITES}
    assert replies[-1] == {"kind": "completed", "operation": replies[0]["operation"], "resource": rid, "state": "done",
                           "answered": 3, "members": 3}
    assert bed.get("Rennes", f"/v1/operations/{replies[0]['operation']}")["completed"] is True


def test_message_id_is_the_key_when_the_body_has_none(bed, client, rid):
    body = request(rid)
    del body["key"]
    client.publish(body, correlation_id="1", message_id=rid)
    first = client.replies("1")
    client.publish(body, correlation_id="2", message_id=rid)
    second = client.replies("2")
    assert second[0]["kind"] == "accepted" and second[0]["duplicate"] is True
    assert second[0]["operation"] == first[0]["operation"]
    assert len(bed.history("Rennes", rid)) == 1


def test_file_and_rest_request(bed, client, rid):
    client.publish(request(rid, "cat", "{note}", files=[{"name": "note", "content": b"from a file"}]))
    assert {reply["output"] for reply in client.replies() if reply["kind"] == "result" and reply["state"] == "done"} == {
        b"from a file"}
    rest = {"key": rid + "-rest", "resource": rid, "type": "set",
            "http": {"service": "inventory", "method": "PUT", "path": f"items/{rid}", "body": b"{}"}}
    client.publish(rest, correlation_id="rest")
    replies = client.replies("rest")
    assert replies[-1]["kind"] == "completed" and replies[-1]["state"] == "done", replies
    assert (bed.directory / "Paris" / "inventory" / rid).exists()


def test_failure_is_told(client, rid):
    client.publish(request(rid, "false"))
    assert client.replies()[-1]["state"] == "failed"


@pytest.mark.parametrize("change,words", [
    ({"scope": "Nantes & Lyon"}, "Lyon"), ({"scope": "Nantes &"}, "character"), ({"resource": ""}, "resource"),
    ({"type": 7}, "type"), ({"command": []}, "command"), ({"level": "sometimes"}, "level"),
    ({"files": [{"name": "../x", "content": b""}]}, "name"), ({"http": {}}, None)])
def test_bad_requests_are_refused_to_the_client(bed, client, rid, change, words):
    client.publish({**request(rid), **change})
    replies = client.replies()
    assert [reply["kind"] for reply in replies] == ["refused"]
    assert words is None or words in replies[0]["error"]
    bed.drop_dead()


def test_request_without_a_key_is_dead_lettered(bed, client, rid):
    body = request(rid)
    del body["key"]
    client.publish(body)
    assert "key" in client.replies()[0]["error"]
    letter = wait_until(lambda: next(iter(bed.dead("Rennes")), None), what="a dead letter")
    assert "no key" in letter["reason"] and letter["queue"] == "cheops.Rennes.requests"
    bed.drop_dead()


def test_reply_to_of_ours_is_refused(bed, client, rid):
    properties = pika.BasicProperties(reply_to="cheops.Rennes.operations", correlation_id="1")
    client.channel.basic_publish("cheops.site.Rennes", "request", msgpack.packb(request(rid)), properties)
    letter = wait_until(lambda: next(iter(bed.dead("Rennes")), None), what="a dead letter")
    assert "reply_to" in letter["reason"]
    assert bed.history("Rennes", rid) == []
    bed.drop_dead()


@pytest.mark.parametrize("exchange,key", [("cheops.site.Rennes", "operation"), ("cheops.site.Rennes", "ack"),
                                          ("cheops.site.Nantes", "request"), ("cheops.dead.Rennes", ""),
                                          ("cheops.events.Rennes", "operation.accepted")])
def test_integrators_may_only_write_requests(bed, exchange, key):
    with AmqpClient(bed, "Rennes") as client:
        with pytest.raises((pika.exceptions.ChannelClosedByBroker, pika.exceptions.UnroutableError)) as caught:
            client.channel.basic_publish(exchange, key, b"x", mandatory=True)
        assert not isinstance(caught.value, pika.exceptions.ChannelClosedByBroker) or caught.value.reply_code in (403, 404)


def test_events_on_the_exchange(bed, client, rid):
    queue = client.channel.queue_declare("", exclusive=True).method.queue
    client.channel.queue_bind(queue, "cheops.events.Rennes", "operation.*")
    client.publish(request(rid))
    client.replies()
    kinds, numbers = [], []

    def completed():
        method, _, body = client.channel.basic_get(queue, auto_ack=True)
        if method is not None:
            event = json.loads(body)
            assert method.routing_key == event["kind"]
            numbers.append(event["number"])
            if event["resource"] == rid:
                kinds.append(event["kind"])
        return "operation.completed" in kinds
    wait_until(completed, what="event operation.completed")
    assert kinds[0] == "operation.accepted" and "operation.executed" in kinds and numbers == sorted(numbers)


def test_who_binds_a_queue_in_the_midst_of_it_misses_nothing(bed, client, rid):
    """Nobody listens at first, and then to some kinds only; much of another kind happens all the time."""
    commands = (["true"] * 20 + ["false"]) * 3
    asked = 0

    def publish_many():
        nonlocal asked
        for command in commands:
            asked += 1
            client.publish(request(f"{rid}-{asked}", command, scope="Rennes"))

    def completed():
        return bed.sql("Rennes", "SELECT count(completed_ms) FROM cheops.operation WHERE resource LIKE %s AND type <> 'void'",
                       rid + "-%")[0][0]

    def events(pattern, after):
        like = pattern.replace("#", "%").replace(".*", ".%")
        rows = bed.sql("Rennes", "SELECT number FROM cheops.event WHERE number > %s AND kind LIKE %s", after, like)
        return {number for number, in rows}

    for pattern in ("operation.failed", "operation.completed", "#", "operation.failed"):
        publish_many()
        queue = client.channel.queue_declare("", exclusive=True).method.queue
        client.channel.queue_bind(queue, "cheops.events.Rennes", pattern)
        after = bed.sql("Rennes", "SELECT max(number) FROM cheops.event")[0][0]
        publish_many()
        wait_until(lambda: completed() == asked, 60, "all have run")
        got = set()

        def all_came(queue=queue, pattern=pattern, after=after, got=got):
            while (answer := client.channel.basic_get(queue, auto_ack=True))[0] is not None:
                got.add(json.loads(answer[2])["number"])
            return events(pattern, after) <= got
        assert events(pattern, after)
        wait_until(all_came, 30, f"events {pattern} after {after}")
        client.channel.queue_delete(queue)


@pytest.fixture
def example(bed):
    """Runs a program of schema/examples as an integrator would."""
    environment = {**bed.environment, "CHEOPS_AMQP": bed.environment["CHEOPS_AMQP_RENNES"], "CHEOPS_SITE": "Rennes",
                   "CHEOPS_API": bed.url("Rennes")}

    def run(*command):
        return subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
                              check=False)
    return run


def check_request_example(example, rid, program):
    asked = ("--id", rid, "--type", "set", "--scope", ALL, "--")
    done = example(*program, *asked, "echo", "from an example")
    assert done.returncode == 0 and all(site in done.stdout for site in SITES) and "from an example" in done.stdout, done
    assert example(*program, *asked, "false").returncode == 1
    assert example(*program, "--id", rid, "--type", "set", "--scope", "Lyon", "--", "true").returncode == 2


def test_python_example(example, rid):
    check_request_example(example, rid, ["/usr/bin/python3", EXAMPLES / "python" / "request.py"])


def test_c_example(example, rid, tmp_path):
    program = tmp_path / "request"
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "librabbitmq", "msgpack"], stdout=subprocess.PIPE, text=True,
                           check=True).stdout.split()
    subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", EXAMPLES / "c" / "request.c", "-o",
                    program, *flags], check=True)
    check_request_example(example, rid, [program])


def test_durable_subscriber_resumes_where_it_was(bed, example, rid, tmp_path):
    state = tmp_path / "last-event"

    def follow(count):
        done = example("/usr/bin/python3", EXAMPLES / "python" / "subscribe.py", "--state", str(state), "--queue", rid,
                       "--count", str(count))
        assert done.returncode == 0, done
        return [json.loads(line)["number"] for line in done.stdout.splitlines()]
    begin = bed.last_event("Rennes")
    state.write_text(str(begin))
    bed.run_ok(rid, "true", site="Rennes")
    numbers = follow(2)
    bed.run_ok(rid, "true", site="Rennes")  # while nobody follows
    numbers += follow(bed.last_event("Rennes") - numbers[-1])
    assert numbers == list(range(begin + 1, begin + 1 + len(numbers))) and len(numbers) > 4, "no gap, nothing twice"
