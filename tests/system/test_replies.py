# SPDX-License-Identifier: AGPL-3.0-only
"""What an AMQP client's reply_to is told survives brokers that are away and agents that are killed."""
import time

import msgpack
import pika
import pytest
from testbed import AmqpClient, wait_until

RESOURCES, DEEP = 4, 15  # so many resources, and operations one behind the other on each


class Client:
    """A client with a durable queue, that comes back after its connection was lost."""

    def __init__(self, bed, queue, **arguments):
        self.bed, self.queue = bed, queue
        self.got = []  # (correlation_id, message_id, body), as they came
        self.connect()
        self.channel.queue_declare(queue, durable=True, arguments=arguments)

    def connect(self):
        self.connection = self.bed.amqp("Rennes")
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()

    def ask(self, key, resource, *command, **fields):
        body = {"key": key, "resource": resource, "type": "set", "scope": "Rennes", "command": command, **fields}
        properties = pika.BasicProperties(delivery_mode=2, reply_to=self.queue, correlation_id=key)
        self.channel.basic_publish("cheops.site.Rennes", "request", msgpack.packb(body), properties, mandatory=True)

    def read(self):
        try:
            while True:
                method, properties, body = self.channel.basic_get(self.queue, auto_ack=True)
                if method is None:
                    return
                self.got.append((properties.correlation_id, properties.message_id, msgpack.unpackb(body)))
        except pika.exceptions.AMQPError:
            self.connect_again()

    def connect_again(self):
        try:
            self.connect()
        except pika.exceptions.AMQPError:
            time.sleep(0.2)

    def of(self, kind):
        return {key for key, _, body in self.got if body["kind"] == kind}

    def wait_for(self, kind, count, seconds=90):
        def came():
            self.read()
            return len(self.of(kind)) >= count
        wait_until(came, seconds, f"{count} clients' requests have their \"{kind}\"")

    def check(self, keys):
        """Each was told all of it, in order; what came twice can be told.

        A broker that was killed may deliver a request again: then it is accepted again, as a duplicate.
        """
        told = {}
        for key, message_id, body in self.got:
            name = message_id.split("/", 1)[1]
            assert message_id.startswith(body["operation"] + "/" + body["kind"])
            body.pop("duplicate", None)
            assert told.setdefault(key, {}).setdefault(name, body) == body, "what has the same message_id says the same"
        expected = ["accepted", "result/Rennes/1/done", "completed"]
        assert {key: list(names) for key, names in told.items()} == {key: expected for key in keys}


@pytest.fixture
def client(broken, rid):
    client = Client(broken, rid)
    yield client
    broken.restore()
    client.connect()
    client.channel.queue_delete(client.queue)
    client.connection.close()


def ask_many(client, rid, gate):
    """Operations that wait for the gate, and others behind them."""
    wait = ("sh", "-c", f"until [ -e {gate} ]; do sleep 0.05; done")
    keys = []
    for n in range(DEEP):
        for resource in range(RESOURCES):
            keys.append(f"{rid}-{resource}-{n}")
            client.ask(keys[-1], f"{rid}-{resource}", *(wait if n == 0 else ("true",)))
    return keys


def replies(bed):
    return bed.sql("Rennes", "SELECT count(*) FROM cheops.reply")[0][0]


def done(bed, rid):
    return bed.sql("Rennes", "SELECT count(completed_ms) FROM cheops.operation WHERE resource LIKE %s", rid + "-%")[0][0]


def test_results_that_come_while_the_broker_is_dead_are_told(broken, client, rid, shared):
    keys = ask_many(client, rid, shared / "gate")
    client.wait_for("accepted", len(keys))
    broken.demo("kill", "Rennes", "broker")
    (shared / "gate").touch()
    wait_until(lambda: done(broken, rid) == len(keys), 90, "all has run")
    assert replies(broken) >= 2 * len(keys)
    broken.demo("start", "Rennes", "broker", seconds=240)
    client.wait_for("completed", len(keys))
    client.check(keys)
    wait_until(lambda: replies(broken) == 0, what="nothing waits")


def test_results_survive_broker_and_agent(broken, client, rid, shared):
    keys = ask_many(client, rid, shared / "gate")
    client.wait_for("accepted", len(keys))
    broken.demo("kill", "Rennes", "broker")
    (shared / "gate").touch()
    wait_until(lambda: done(broken, rid) >= len(keys) // 2, 90, "half of it has run")
    broken.demo("kill", "Rennes", "agent")
    broken.demo("start", "Rennes", "broker", seconds=240)
    broken.demo("start", "Rennes", "agent")
    client.wait_for("completed", len(keys))
    client.check(keys)


def test_agent_killed_while_it_tells(broken, client, rid, shared):
    (shared / "gate").touch()
    keys = ask_many(client, rid, shared / "gate")
    for count in (3, len(keys) // 2):
        client.wait_for("completed", count)
        broken.demo("kill", "Rennes", "agent")
        broken.demo("start", "Rennes", "agent")
    client.wait_for("completed", len(keys))
    client.check(keys)


def test_refusals_are_told_by_an_agent_that_is_killed(broken, client, rid):
    keys = [f"{rid}-{n}" for n in range(100)]
    for key in keys:
        client.ask(key, rid, "true", scope="Lyon")
    broken.demo("kill", "Rennes", "agent")
    broken.demo("start", "Rennes", "agent")
    client.wait_for("refused", len(keys))
    assert client.of("accepted") == set()


def test_queue_that_is_gone_holds_nobody(broken, client, rid, shared):
    dropped = broken.metric("Rennes", "replies_unroutable_total")
    other = Client(broken, rid + "-gone")
    keys = ask_many(other, rid + "-other", shared / "gate")
    other.wait_for("accepted", len(keys))
    other.channel.queue_delete(other.queue)
    other.connection.close()
    (shared / "gate").touch()
    own = ask_many(client, rid, shared / "gate")
    client.wait_for("completed", len(own))
    client.check(own)
    wait_until(lambda: broken.metric("Rennes", "replies_unroutable_total") == dropped + 2 * len(keys),
               what="what nobody could get is counted")
    wait_until(lambda: replies(broken) == 0, what="nothing waits")


def test_queue_that_refuses_holds_nobody_and_gets_all(broken, client, rid, shared):
    (shared / "gate").touch()
    full = Client(broken, rid + "-full", **{"x-max-length": 40, "x-overflow": "reject-publish"})
    keys = ask_many(full, rid + "-other", shared / "gate")
    wait_until(lambda: done(broken, rid + "-other") == len(keys), 90, "all has run")
    own = ask_many(client, rid, shared / "gate")
    client.wait_for("completed", len(own))
    client.check(own)
    assert replies(broken) > 0
    full.wait_for("completed", len(keys), 300)
    full.check(keys)
    full.channel.queue_delete(full.queue)
    full.connection.close()


def test_who_asked_again_is_told_after_a_kill(broken, client, rid, shared):
    wait = ("sh", "-c", f"until [ -e {shared}/gate ]; do sleep 0.05; done")
    with AmqpClient(broken, "Rennes") as first:
        body = {"key": rid, "resource": rid, "type": "set", "scope": "Rennes", "command": wait}
        first.publish(body, correlation_id="first")
        wait_until(lambda: broken.history("Rennes", rid), what="it is admitted")
        client.ask(rid, rid, *wait)
        client.wait_for("accepted", 1)
        assert client.got[0][2]["duplicate"] is True
        broken.demo("kill", "Rennes", "agent")
        broken.demo("start", "Rennes", "agent")
        (shared / "gate").touch()
        client.wait_for("completed", 1)
        told = dict.fromkeys(reply["kind"] for reply in first.replies("first"))  # at least once each
        assert list(told) == ["accepted", "result", "completed"]
    client.check([rid])
