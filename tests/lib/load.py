# SPDX-License-Identifier: AGPL-3.0-only
"""Bounded load on three sites over HTTP, AMQP and the cheops program, made so that every run of a command can be counted.

Each command appends the id of its operation to a file of the site that runs it, and prints it. Every request has a key; one whose
answer was lost is asked again under it, or given up: then it may have been admitted or not, but not twice.
"""
import json
import random
import subprocess
import threading
import time
import uuid
from collections import Counter

import msgpack
import pika
import pika.exceptions
import requests
from testbed import ALL, SITES

TRIES = 6


class Request:
    """What a client asked, and what it knows of it."""

    def __init__(self, site, door, resource, scope):
        self.site, self.door, self.resource, self.scope = site, door, resource, scope
        self.key = f"{door}-{uuid.uuid4()}"
        self.operation = None   # accepted: its id
        self.confirmed = False  # AMQP: the broker has it
        self.members = frozenset(scope.split(" & "))


class Load:
    def __init__(self, bed, prefix, directory, seed=None, clients=("http", "http", "amqp", "cli"), pause=1.0, limit=2000,
                 sites=SITES, resources=None):
        """resources: so many that all sites share, and no others."""
        self.bed, self.directory, self.pause, self.limit = bed, directory, pause, limit
        self.prefix = f"{prefix}-{uuid.uuid4().hex[:8]}"
        self.resources = resources
        self.requests = []
        self.failures = []      # (monotonic time, site, door, what): 429, 503, lost connections
        self.unexpected = []    # answers that no fault explains
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        seed = random.randrange(1 << 32) if seed is None else seed
        self.threads = [threading.Thread(target=self.work, args=(site, door, random.Random(f"{seed}/{site}/{index}")), daemon=True)
                        for site in sites for index, door in enumerate(clients)]

    # --- for tests ---

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def finish(self, seconds):
        """Until as many as the limit says were asked."""
        for thread in self.threads:
            thread.join(seconds)
        self.stop()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(90)
        assert not [thread for thread in self.threads if thread.is_alive()], "a client does not come back"

    def accepted(self, site=None):
        """Those whose acceptance some client has seen, in the order of asking."""
        return [request for request in list(self.requests) if request.operation and site in (None, request.site)]

    def wait(self, more, sites=SITES, seconds=60):
        """Until each of the sites has accepted that many more."""
        goal = {site: len(self.accepted(site)) + more for site in sites}
        deadline = time.monotonic() + seconds
        while any(len(self.accepted(site)) < count for site, count in goal.items()):
            counts = {site: len(self.accepted(site)) for site in SITES}
            assert time.monotonic() < deadline, f"after {seconds} s accepted {counts}, not {goal}; last: {self.failures[-3:]}"
            assert len(self.requests) < self.limit, f"{self.limit} requests, accepted {counts}"
            time.sleep(0.05)

    # --- clients ---

    def make(self, site, door, rng):
        pairs = [] if self.resources else [tuple(name for name in SITES if name != other) for other in SITES if other != site]
        members = rng.choice([SITES] * 3 + pairs)
        resource = f"{self.prefix}-{rng.randrange(self.resources or 4)}" if members == SITES else "-".join((self.prefix, *members))
        request = Request(site, door, resource, " & ".join(members))
        with self.lock:
            if len(self.requests) >= self.limit:
                return None
            self.requests.append(request)
        return request

    def body(self, request):
        script = f"echo $CHEOPS_OPERATION >> {self.directory}/$CHEOPS_SITE; sleep 0.02; echo $CHEOPS_OPERATION"
        return {"resource": request.resource, "type": "add", "scope": request.scope, "command": ["sh", "-c", script]}

    def answered(self, request, operation):
        with self.lock:
            if request.operation not in (None, operation):
                self.unexpected.append(f"{request.key}: {request.operation}, then {operation}")
            request.operation = operation

    def failed(self, request, what):
        with self.lock:
            self.failures.append((time.monotonic(), request.site, request.door, str(what)[:200]))

    def work(self, site, door, rng):
        client = {"http": HttpClient, "cli": CliClient, "amqp": AmqpDoor}[door](self, site)
        try:
            while not self.stopping.is_set():
                request = self.make(site, door, rng)
                if request is None:
                    return
                for _ in range(TRIES):
                    if client.ask(request) or self.stopping.is_set() or rng.random() < 0.2:
                        break
                    time.sleep(0.2)
                time.sleep(self.pause * rng.uniform(0.5, 1.5))
            client.linger()
        finally:
            client.close()


class HttpClient:
    def __init__(self, load, site):
        self.load, self.site, self.session = load, site, requests.Session()

    def ask(self, request):
        """Whether the request needs no repetition."""
        try:
            answer = self.session.post(self.load.bed.url(self.site, "/v1/operations"), json=self.load.body(request), timeout=15,
                                       headers={"Idempotency-Key": request.key})
        except requests.RequestException as error:
            self.load.failed(request, error)
            return False
        if answer.status_code == 202:
            self.load.answered(request, answer.json()["operation"])
        elif answer.status_code in (429, 503):
            self.load.failed(request, f"{answer.status_code} {answer.text}")
        else:
            self.load.unexpected.append(f"{self.site} http: {answer.status_code} {answer.text}")
        return answer.status_code not in (429, 503)

    def linger(self):
        pass

    def close(self):
        self.session.close()


class CliClient:
    def __init__(self, load, site):
        self.load, self.site = load, site

    def ask(self, request):
        body = self.load.body(request)
        command = ["cheops", "--site", self.site, "exec", "--no-wait", "--key", request.key, "--id", request.resource, "--type",
                   body["type"], "--scope", body["scope"], "--", *body["command"]]
        try:
            done = subprocess.run(command, env=self.load.bed.environment, text=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=30, check=False)
        except subprocess.TimeoutExpired as error:
            self.load.failed(request, error)
            return False
        if done.returncode == 0:
            self.load.answered(request, done.stdout.strip())
        elif done.returncode in (4, 5, 6):
            self.load.failed(request, f"exit {done.returncode}: {done.stderr}")
        else:
            self.load.unexpected.append(f"{self.site} cli: exit {done.returncode}: {done.stderr}")
        return done.returncode not in (4, 5, 6)

    def linger(self):
        pass

    def close(self):
        pass


class AmqpDoor:
    """Publishes requests and reads answers as they come; connects again when the broker went away."""

    def __init__(self, load, site):
        self.load, self.site = load, site
        self.connection = self.channel = self.queue = None
        self.waiting = {}

    def connect(self):
        uri = self.load.bed.environment[f"CHEOPS_AMQP_{self.site.upper()}"]
        parameters = pika.URLParameters(uri + "?heartbeat=10&blocked_connection_timeout=5&socket_timeout=5&stack_timeout=10")
        self.connection = pika.BlockingConnection(parameters)
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()
        self.queue = self.channel.queue_declare("", exclusive=True).method.queue
        self.channel.basic_consume(self.queue, self.on_answer, auto_ack=True)

    def on_answer(self, _channel, _method, properties, body):
        answer = msgpack.unpackb(body)
        request = self.waiting.get(properties.correlation_id)
        if request is None:
            return
        if answer["kind"] == "accepted":
            self.load.answered(request, answer["operation"])
            del self.waiting[properties.correlation_id]
        elif answer["kind"] == "refused":
            self.load.unexpected.append(f"{self.site} amqp: {answer}")

    def ask(self, request):
        properties = pika.BasicProperties(delivery_mode=2, reply_to=None, correlation_id=request.key, message_id=request.key)
        try:
            if self.connection is None:
                self.connect()
            properties.reply_to = self.queue
            self.waiting[request.key] = request
            self.channel.basic_publish(f"cheops.site.{self.site}", "request", msgpack.packb(self.load.body(request)), properties,
                                       mandatory=True)
            request.confirmed = True
            self.connection.process_data_events(0.05)
            return True
        except (pika.exceptions.AMQPError, OSError) as error:
            self.load.failed(request, repr(error))
            self.close()
            return False

    def linger(self):
        """The last answers may be on their way."""
        deadline = time.monotonic() + 5
        try:
            while self.connection is not None and self.waiting and time.monotonic() < deadline:
                self.connection.process_data_events(0.1)
        except (pika.exceptions.AMQPError, OSError):
            pass

    def close(self):
        try:
            if self.connection is not None:
                self.connection.close()
        except (pika.exceptions.AMQPError, OSError):
            pass
        self.connection = None
        self.waiting.clear()


def runs(directory):
    """site -> how often each operation has run there."""
    return {site: Counter((directory / site).read_text().split()) if (directory / site).exists() else Counter() for site in SITES}


def dump(load):
    """For a failure's message."""
    return json.dumps({"requests": len(load.requests), "accepted": len(load.accepted()), "scope": ALL,
                       "failures": Counter(what[:60] for *_, what in load.failures).most_common(5)})
