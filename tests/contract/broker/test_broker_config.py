#!/usr/bin/python3
# SPDX-License-Identifier: AGPL-3.0-only
"""What broker-config/generate writes, tried on two real brokers: A plain, B with TLS, with shovels both ways."""
import json
import os
import pathlib
import shutil
import ssl
import stat
import subprocess
import sys
import tempfile
import time
import unittest

import pika

from node import Node

SOURCE = pathlib.Path(__file__).resolve().parents[3]
GENERATE = str(SOURCE / "broker-config/generate")
BASE_PORT = 24300 + os.getpid() % 300 * 2  # apart from world_amqp.c's


def generate(description, output):
    path = pathlib.Path(output) / "description.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(description), encoding="utf-8")
    return subprocess.run([GENERATE, str(path), str(output)], text=True, stderr=subprocess.PIPE, check=False)


class Descriptions(unittest.TestCase):
    def setUp(self):
        self.output = tempfile.mkdtemp(prefix="cheops-config-")
        self.addCleanup(shutil.rmtree, self.output)

    def refused(self, description, word):
        done = generate(description, self.output)
        self.assertEqual(1, done.returncode)
        self.assertEqual(1, done.stderr.count("\n"), done.stderr)
        self.assertIn(word, done.stderr)

    def test_errors_are_one_sentence(self):
        site = {"listen": "127.0.0.1:5672"}
        self.refused([], "sites")
        self.refused({"sites": {}}, "sites")
        self.refused({"sites": {"a b": site}}, "names are")
        self.refused({"sites": {"A": {}}}, "listen")
        self.refused({"sites": {"A": {"listen": "nowhere"}}}, "HOST:PORT")
        self.refused({"sites": {"A": {**site, "lsiten": ""}}}, "lsiten")
        self.refused({"sites": {"A": {**site, "peers": {"B": "b:1"}}}}, "'B'")
        self.refused({"sites": {"A": {**site, "tls": {"ca": "x"}}}}, "tls")
        self.refused({"sites": {"A": {"shares": "A"}}}, "shares")
        self.refused({"sites": {"A": site}, "integrators": ["agent-A"]}, "integrators")

    def test_adding_a_site_changes_no_password(self):
        sites = {"A": {"listen": "127.0.0.1:1"}, "B": {"listen": "127.0.0.1:2"}}
        self.assertEqual(0, generate({"sites": sites}, self.output).returncode)
        before = json.loads(pathlib.Path(self.output, "A/credentials.json").read_text("utf-8"))
        sites["C"] = {"listen": "127.0.0.1:3"}
        self.assertEqual(0, generate({"sites": sites}, self.output).returncode)
        after = json.loads(pathlib.Path(self.output, "A/credentials.json").read_text("utf-8"))
        self.assertEqual(before["agent"], after["agent"])
        self.assertEqual({"B", "C"}, set(after["shovels"]))
        for name in ("passwords.json", "A/credentials.json", "A/definitions.json"):
            self.assertEqual(0o600, stat.S_IMODE(os.stat(pathlib.Path(self.output, name)).st_mode), name)

    def test_sites_that_share_a_broker_have_no_shovels_between_them(self):
        sites = {"A": {"listen": "127.0.0.1:1"}, "A2": {"shares": "A"}, "B": {"listen": "127.0.0.1:2"}}
        self.assertEqual(0, generate({"sites": sites}, self.output).returncode)
        definitions = json.loads(pathlib.Path(self.output, "A/definitions.json").read_text("utf-8"))
        self.assertEqual({"cheops.out.B", "cheops.beat.B", "cheops.bulk.B"},
                         {parameter["name"] for parameter in definitions["parameters"]})
        self.assertIn("cheops.A2.operations", {queue["name"] for queue in definitions["queues"]})
        definitions = json.loads(pathlib.Path(self.output, "B/definitions.json").read_text("utf-8"))
        self.assertIn("cheops.out.A2", {parameter["name"] for parameter in definitions["parameters"]})


class Brokers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = pathlib.Path(tempfile.mkdtemp(prefix="cheops-config-"))
        tls = cls.directory / "tls"
        subprocess.run([str(SOURCE / "broker-config/make-certificates"), str(tls), "A=localhost,127.0.0.1",
                        "B=localhost,127.0.0.1"], check=True)
        sites = {"A": {"listen": f"127.0.0.1:{BASE_PORT}"},
                 "B": {"listen": f"127.0.0.1:{BASE_PORT + 1}",
                       "tls": {"ca": str(tls / "ca.pem"), "cert": str(tls / "B.pem"), "key": str(tls / "B.key"),
                               "server_name": "localhost"}}}
        done = generate({"sites": sites}, cls.directory)
        assert done.returncode == 0, done.stderr
        cls.nodes = [Node(cls.directory / ("node" + site), BASE_PORT + i, cls.directory / site / "rabbitmq.conf",
                          cls.directory / site / "enabled_plugins") for i, site in enumerate("AB")]
        for node in cls.nodes:
            node.start()
        cls.credentials = {site: json.loads((cls.directory / site / "credentials.json").read_text("utf-8"))
                           for site in "AB"}
        cls.ca = str(tls / "ca.pem")

    @classmethod
    def tearDownClass(cls):
        for node in cls.nodes:
            node.stop()
        shutil.rmtree(cls.directory)

    def channel(self, site, user):
        credentials = self.credentials[site]
        uri = credentials["shovels"][user[7:]] if user.startswith("shovel-") else credentials[user]
        parameters = pika.URLParameters(uri)
        if uri.startswith("amqps"):
            context = ssl.create_default_context(cafile=self.ca)
            parameters.ssl_options = pika.SSLOptions(context, "localhost")
        deadline = time.monotonic() + 30
        while True:
            try:
                connection = pika.BlockingConnection(parameters)
                break
            except pika.exceptions.AMQPConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        self.addCleanup(lambda: connection.is_open and connection.close())
        channel = connection.channel()
        channel.confirm_delivery()
        return channel

    def may(self, site, user, action):
        action(self.channel(site, user))

    def may_not(self, site, user, action):
        with self.assertRaises(pika.exceptions.ChannelClosedByBroker) as caught:
            action(self.channel(site, user))
        self.assertEqual(403, caught.exception.reply_code)

    @staticmethod
    def publish(exchange, key, body=b"x", **properties):
        return lambda channel: channel.basic_publish(
            exchange, key, body, pika.BasicProperties(delivery_mode=2, **properties), mandatory=True)

    def fetch(self, site, queue, timeout_s=15):
        channel = self.channel(site, "agent")
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            method, properties, body = channel.basic_get(queue, auto_ack=True)
            if method is not None:
                return method, properties, body
            time.sleep(0.05)
        self.fail(f"nothing came to {queue}")

    def test_shovels_carry_every_lane_both_ways_and_keep_key_and_properties(self):
        for here, there in ("AB", "BA"):
            for inbox in ("operations", "acks", "control", "beats", "bulk"):
                self.channel(there, "agent").queue_purge(f"cheops.{there}.{inbox}")
            for key, inbox in (("operation", "operations"), ("ack", "acks"), ("control", "control"),
                               ("beat", "beats"), ("bulk", "bulk")):
                body = f"{here} {key}".encode()
                self.may(here, "agent", self.publish(f"cheops.site.{there}", key, body, message_id="m-1",
                                                     content_type="application/msgpack"))
                method, properties, got = self.fetch(there, f"cheops.{there}.{inbox}")
                self.assertEqual((body, key, "m-1"), (got, method.routing_key, properties.message_id))
                self.assertEqual(f"cheops.site.{there}", method.exchange)
                self.assertFalse(properties.headers)

    def test_unroutable_becomes_a_dead_letter(self):
        self.may("A", "admin", self.publish("cheops.site.A", "nonsense", b"lost"))
        method, _, body = self.fetch("A", "cheops.dead.A")
        self.assertEqual((b"lost", "cheops.site.A", "nonsense"), (body, method.exchange, method.routing_key))

    def test_the_agent(self):
        self.may_not("A", "agent", self.publish("cheops.site.B", "request"))
        self.may("A", "agent", self.publish("", "cheops.A.control"))
        self.may_not("A", "agent", lambda channel: channel.queue_declare("mine"))

    def test_an_integrator_writes_requests_only(self):
        self.may("A", "integrator", self.publish("cheops.site.A", "request"))
        for key in ("operation", "ack", "control", "beat", "bulk", "request.x"):
            self.may_not("A", "integrator", self.publish("cheops.site.A", key))
        for exchange in ("", "cheops.site.B", "cheops.events.A", "cheops.dead.A", "amq.topic"):
            self.may_not("A", "integrator", self.publish(exchange, "cheops.A.operations"))

    def test_an_integrator_reads_events_and_its_own_queues_only(self):
        def subscribe(channel):
            channel.queue_declare("inventory.events", durable=True)
            channel.queue_bind("inventory.events", "cheops.events.A", "operation.#")
        self.may("A", "integrator", subscribe)
        self.may("A", "integrator", lambda channel: channel.basic_get("inventory.events"))
        self.may("A", "integrator", lambda channel: channel.queue_declare("", exclusive=True))
        self.may_not("A", "integrator", lambda channel: channel.basic_get("cheops.A.operations"))
        self.may_not("A", "integrator", lambda channel: channel.queue_bind("inventory.events", "cheops.site.A", "#"))
        self.may_not("A", "integrator", lambda channel: channel.queue_declare("cheops.mine"))

    def test_a_shovel_user_writes_agents_keys_only(self):
        self.may("A", "shovel-B", self.publish("cheops.site.A", "operation"))
        self.may_not("A", "shovel-B", self.publish("cheops.site.A", "request"))
        self.may_not("A", "shovel-B", self.publish("", "cheops.A.requests"))
        self.may_not("A", "shovel-B", lambda channel: channel.basic_get("cheops.A.requests"))
        self.may_not("A", "shovel-B", lambda channel: channel.queue_declare("", exclusive=True))

    def test_guest_does_not_exist(self):
        with self.assertRaises(pika.exceptions.AMQPConnectionError):
            pika.BlockingConnection(pika.URLParameters(f"amqp://guest:guest@127.0.0.1:{BASE_PORT}/%2F"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"] + sys.argv[1:])
