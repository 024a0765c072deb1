# SPDX-License-Identifier: AGPL-3.0-only
"""Messages that nobody can read: dead-lettered once with the reason, never requeued, and what comes behind them is served."""
import msgpack
import psycopg2
import pytest
from testbed import SITES, AmqpClient, wait_until

INBOXES = {"request": "requests", "operation": "operations", "ack": "acks", "control": "control", "beat": "beats", "bulk": "bulk"}


def header(key, **change):
    return {"v": 1, "from": "Nantes", "to": "Paris", "inc": 1, "key": key, "first": 0, "marks": [], **change}


def nested(depth):
    return b"\x91" * depth + b"\xc0"


POISON = {
    "empty": lambda key: b"",
    "garbage": lambda key: b"\xc1 this is not msgpack",
    "text": lambda key: b"hello",
    "truncated": lambda key: msgpack.packb([header(key), [b"x" * 100]])[:-10],
    "trailing": lambda key: msgpack.packb([header(key), []]) + b"more",
    "too deep": lambda key: nested(200),
    "size bomb": lambda key: b"\xdd\x0f\xff\xff\xff",
    "too big": lambda key: b"\x00" * (1100 * 1024),
    "unknown version": lambda key: msgpack.packb([header(key, v=99), []]),
    "no version": lambda key: msgpack.packb([{"from": "Nantes"}, []]),
    "too many items": lambda key: msgpack.packb([header(key), [b"\xc0"] * 300]),
    "wrong types": lambda key: msgpack.packb([header(key, **{"from": 7}), "x"]),
}


@pytest.fixture
def publish(bed):
    connection = bed.amqp("Paris", admin=True)
    channel = connection.channel()
    channel.confirm_delivery()
    yield lambda key, body: channel.basic_publish("cheops.site.Paris", key, body, mandatory=True)
    connection.close()
    bed.drop_dead()


def letters_of(bed, inbox):
    return [letter for letter in bed.dead("Paris") if letter["queue"] == f"cheops.Paris.{inbox}"]


@pytest.mark.parametrize("key,inbox", INBOXES.items())
def test_every_poison_on_every_inbox(bed, publish, rid, key, inbox):
    pid = bed.pid("Paris")
    before = bed.metric("Paris", "dead_letters_total")
    for poison in POISON.values():
        publish(key, poison(key))
    letters = wait_until(lambda: (found := letters_of(bed, inbox)) and len(found) == len(POISON) and found,
                         what=f"{len(POISON)} dead letters of {inbox}, there are {len(letters_of(bed, inbox))}")
    for letter in letters:
        assert letter["reason"] and "\n" not in letter["reason"], letter
    reasons = " | ".join(letter["reason"] for letter in letters)
    if key != "request":
        assert "version 99" in reasons, reasons
    # What is behind them is served, over the same queues, and nothing came round again.
    assert bed.run(rid, "true").exit_code == 0
    with AmqpClient(bed, "Paris") as client:
        client.publish({"key": rid, "resource": rid, "type": "set", "command": ["true"]})
        assert client.replies()[-1]["state"] == "done"
    assert bed.metric("Paris", "dead_letters_total") == before + len(POISON)
    assert bed.pid("Paris") == pid and len(letters_of(bed, inbox)) == len(POISON)


def test_bad_item_is_dead_lettered_alone(bed, publish, rid):
    """A message whose header is good and whose items are not: each item is a letter, the streams go on."""
    status = bed.get("Nantes", "/v1/status")
    incarnation = status["incarnation"]
    publish("control", msgpack.packb([header("control", inc=incarnation), [b"\xc1", msgpack.packb([3, {}, None]), b""]]))
    wait_until(lambda: len(letters_of(bed, "control")) == 3, what="dead letters of items")
    assert bed.run(rid, "true").exit_code == 0


@pytest.fixture
def spoiled(broken):
    """Operations at Nantes for Paris that leave Nantes in one message: its broker and agent come back when all are there."""
    whole = {}

    def update(items):
        with psycopg2.connect(broken.environment["CHEOPS_DSN_NANTES"]) as connection, connection.cursor() as cursor:
            for operation, item in items.items():
                cursor.execute("UPDATE cheops.operation SET item = %s WHERE id = %s", (item, operation))

    def give(resources, spoil):
        broken.demo("stop", "Nantes", "broker")
        operations = {}
        for resource in resources:
            answer = broken.http("Nantes", "POST", "/v1/operations", json={
                "resource": resource, "type": "set", "scope": "Paris", "command": ["true"]})
            assert answer.status_code == 202, answer.text
            operations[resource] = answer.json()["operation"]
        broken.demo("stop", "Nantes", "agent")
        broken.demo("stop", "Paris", "agent")
        for resource in spoil:
            whole[operations[resource]] = bytes(broken.sql("Nantes", "SELECT item FROM cheops.operation WHERE id = %s", operations[resource])[0][0])
        update({operations[resource]: change(whole[operations[resource]]) for resource, change in spoil.items()})
        broken.demo("start", "Nantes", "broker")
        broken.demo("start", "Nantes", "agent")
        return operations
    yield give
    update(whole)
    broken.restore()
    broken.drop_dead()


def biggest(bed):
    """The number of items of the fullest message that waits for Paris."""
    connection = bed.amqp("Paris", admin=True)
    try:
        channel = connection.channel()
        bodies = iter(lambda: channel.basic_get("cheops.Paris.operations")[2], None)
        return max((len(msgpack.unpackb(body)[1]) for body in bodies), default=0)
    finally:
        connection.close()  # what was not acked goes back


def with_level(item, level):
    kind, fields, *rest = msgpack.unpackb(item, strict_map_key=False)
    assert fields["level"] == "eventual"
    return msgpack.packb([kind, {**fields, "level": level}, *rest])


def test_one_bad_item_of_256_is_dead_lettered_alone(broken, spoiled, rid):
    """One item is nothing that can be read, one is an operation that Paris refuses; 254 are good. Both are letters, alone; who
    gave the second is told; the stream goes on."""
    resources = [f"{rid}-{number}" for number in range(256)]
    operations = spoiled(resources, {resources[100]: lambda item: b"\xc1" + item[1:], resources[200]: lambda item: with_level(item, "strong")})
    wait_until(lambda: biggest(broken) == 256, 90, "one message of 256 items waits for Paris")
    broken.demo("start", "Paris", "agent")
    wait_until(lambda: len(letters_of(broken, "operations")) == 2, 120, "two dead letters")
    states = {}

    def answered():
        for number, resource in enumerate(resources):
            if number != 100 and states.get(resource) not in ("done", "refused"):
                states[resource] = broken.get("Nantes", f"/v1/operations/{operations[resource]}")["sites"][0]["state"]
        return all(states.get(resource) in ("done", "refused") for number, resource in enumerate(resources) if number != 100)
    wait_until(answered, 300, "every other is answered")
    assert [resource for resource, state in states.items() if state == "refused"] == [resources[200]]
    reason = broken.get("Nantes", f"/v1/operations/{operations[resources[200]]}")["sites"][0]["reason"]
    assert "level" in reason, reason
    assert len(letters_of(broken, "operations")) == 2 and {letter["body_bytes"] < 4096 for letter in letters_of(broken, "operations")} == {True}
    doctor = broken.cli("doctor", site="Paris")
    assert doctor.exit_code == 1 and "2 messages could not be processed" in doctor.out and "cheops dead list" in doctor.out, doctor
    assert broken.run(rid + "-after", "true", scope="Nantes & Paris", options=("--timeout", "60s")).exit_code == 0
    # Paris lacks them, so it is given them again whenever Nantes and it compare what they hold: no letter for each time.
    received = broken.metric("Paris", "messages_received_total")
    wait_until(lambda: broken.metric("Paris", "messages_received_total") >= received + 40, 120, "heartbeats of twenty seconds")
    assert broken.metric("Paris", "dead_letters_total") == 2  # of the agent that was started for it


def test_message_for_somebody_else(bed, publish):
    publish("operation", msgpack.packb([header("operation", to="Rennes"), []]))
    letter = wait_until(lambda: next(iter(letters_of(bed, "operations")), None), what="a dead letter")
    assert "Rennes" in letter["reason"]


def test_what_nothing_is_bound_for_is_a_dead_letter(bed, publish):
    publish("no-such-key", b"lost?")
    wait_until(lambda: [letter for letter in bed.dead("Paris") if letter["routing_key"] == "no-such-key"],
               what="the unroutable message")


def test_list_show_requeue_drop(bed, publish, rid):
    body = {"key": rid, "resource": rid, "type": "set", "scope": "Nowhere", "command": ["true"]}
    publish("request", msgpack.packb(body))
    publish("request", b"\xc1")
    wait_until(lambda: len(bed.dead("Paris")) == 2, what="two dead letters")
    listed = bed.cli("dead", "list", "-o", "json", site="Paris").lines
    assert len(listed) == 2
    one = next(letter for letter in listed if letter["body_bytes"] > 1)
    shown = bed.cli("dead", "show", one["id"], site="Paris")
    assert shown.exit_code == 0 and one["reason"] in shown.out, shown
    again = bed.cli("dead", "requeue", one["id"], site="Paris")
    assert again.exit_code == 0, again
    # Still bad: it becomes a letter again, once.
    wait_until(lambda: len(bed.dead("Paris")) == 2, what="the letter is back")
    for letter in bed.dead("Paris"):
        assert bed.cli("dead", "drop", letter["id"], site="Paris").exit_code == 0
    assert bed.dead("Paris") == []
    assert bed.cli("dead", "show", one["id"], site="Paris").exit_code == 3
    assert all(bed.ready(site) for site in SITES)
