# SPDX-License-Identifier: AGPL-3.0-only
"""Three sites for the system tests, through demo.sh as a user would start them, in a directory of their own.

Clients here are the users': the cheops program, HTTP, AMQP, SQL to look. Every wait is bounded and says what it waited for.
"""
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import msgpack
import pika
import psycopg2
import requests

ROOT = Path(__file__).resolve().parents[2]
SITES = ("Nantes", "Rennes", "Paris")
PARTS = ("database", "broker", "application", "agent")
ALL = " & ".join(SITES)


def wait_until(condition, seconds=20, what=None):
    """The first true value of condition(), asked again and again; fails when time is over."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds} s: {what or condition.__doc__ or 'condition does not hold'}; last: {value!r}")
        time.sleep(0.05)


class Result:
    """What the cheops program said."""

    def __init__(self, done):
        self.exit_code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def lines(self):
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def sites(self):
        """-o json: the last answer of each site."""
        return {line["site"]: line for line in self.lines if line.get("site")}

    def __repr__(self):
        return f"exit {self.exit_code}\nout: {self.out[-2000:]}\nerr: {self.err[-2000:]}"


class Testbed:
    def __init__(self, directory):
        self.directory = Path(directory)
        self.environment = dict(os.environ, CHEOPS_DEMO_DIR=str(directory))
        self.environment.setdefault("CHEOPS_DEMO_BIN", str(ROOT / "build/release/bin"))
        self.sockets = []

    # --- the sites ---

    def start(self, anew=True):
        if anew:
            self.demo("stop", check=False)
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory.mkdir(parents=True)
        self.demo("start", seconds=240)
        for line in self.demo("env").splitlines():
            name, _, value = line.removeprefix("export ").partition("=")
            self.environment[name] = re.sub(r"\\(.)", r"\1", value)

    def stop(self):
        self.demo("stop", seconds=120, check=False)

    def demo(self, *arguments, seconds=120, check=True, environment=None):
        done = subprocess.run([ROOT / "demo.sh", *arguments], env={**self.environment, **(environment or {})}, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=seconds,
                              check=False)
        assert done.returncode == 0 or not check, f"demo.sh {' '.join(arguments)}: {done.stdout}"
        return done.stdout

    def states(self):
        """(site, part) -> state."""
        rows = (line.split() for line in self.demo("status", check=False).splitlines())
        return {(row[0], row[1]): row[2] for row in rows if len(row) == 5 and row[0] in SITES}

    def restore(self):
        """Everything runs, everybody hears everybody."""
        if (self.directory / "cuts").stat().st_size:
            self.demo("heal")
        for (site, part), state in self.states().items():
            if state == "stopped":
                self.demo("start", site, part)
        for site in SITES:
            wait_until(lambda site=site: self.ready(site), 60, f"{site} is ready")
            wait_until(lambda site=site: self.metric(site, "sites_up") == 2, 60, f"{site} hears the others")

    def pid(self, site, part="agent"):
        return int((self.directory / site / f"{part}.pid").read_text(encoding="utf-8").split()[0])

    def programs(self):
        return Path(self.environment["CHEOPS_DEMO_BIN"])

    def program(self, name, *arguments):
        """Runs a program of these sites to its end: exit status, what it said."""
        done = subprocess.run([self.programs() / name, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=60, check=False)
        return done.returncode, done.stdout

    def rss_kib(self, site):
        status = Path(f"/proc/{self.pid(site)}/status").read_text(encoding="utf-8")
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    def log(self, site, part="agent"):
        return (self.directory / site / f"{part}.log").read_text(encoding="utf-8", errors="replace")

    # --- HTTP ---

    def url(self, site, path=""):
        """With the token in it."""
        return self.environment[f"CHEOPS_API_{site.upper()}"] + path

    def http(self, site, method, path, **options):
        options.setdefault("timeout", 60)
        return requests.request(method, self.url(site, path), **options)

    def get(self, site, path):
        answer = self.http(site, "GET", path)
        assert answer.status_code == 200, f"GET {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def address(self, site):
        parts = urlsplit(self.url(site))
        return parts.hostname, parts.port

    def ready(self, site):
        try:
            return self.http(site, "GET", "/readyz", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    def metric(self, site, name):
        try:
            text = self.http(site, "GET", "/metrics", timeout=5).text
        except requests.ConnectionError:
            return None
        match = re.search(rf"^cheops_{name}\{{[^}}]*\}} (\S+)$", text, re.MULTILINE)
        return float(match[1]) if match else None

    # --- the cheops program ---

    def cli(self, *arguments, site="Nantes", stdin=None, seconds=60, environment=None):
        done = subprocess.run(["cheops", "--site", site, *arguments], env={**self.environment, **(environment or {})},
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, input=stdin,
                              timeout=seconds, check=False)
        return Result(done)

    def run(self, resource, *command, site="Nantes", scope=ALL, options=(), **rest):
        """cheops exec with JSON output."""
        scoped = ("--scope", scope) if scope else ()
        return self.cli("exec", "-o", "json", "--id", resource, "--type", "set", *scoped, *options, "--", *command,
                        site=site, **rest)

    def run_ok(self, *arguments, **options):
        result = self.run(*arguments, **options)
        assert result.exit_code == 0, result
        return result

    def last_event(self, site):
        return self.get(site, "/v1/status")["event_last"]

    def history(self, site, resource):
        answer = self.http(site, "GET", f"/v1/resources/{resource}/history")
        return answer.json()["operations"] if answer.status_code == 200 else []

    # --- AMQP and SQL ---

    def amqp(self, site, admin=False):
        uri = self.environment[f"CHEOPS_AMQP_{'ADMIN_' if admin else ''}{site.upper()}"]
        return pika.BlockingConnection(pika.URLParameters(uri))

    def sql(self, site, statement, *parameters, commit=False):
        connection = psycopg2.connect(self.environment[f"CHEOPS_DSN_{site.upper()}"])
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                rows = cursor.fetchall()
            if commit:
                connection.commit()
            return rows
        finally:
            connection.close()

    def dead(self, site):
        return self.get(site, "/v1/dead")["dead"]

    def drop_dead(self):
        for site in SITES:
            for letter in self.dead(site):
                self.http(site, "DELETE", f"/v1/dead/{letter['id']}")


class AmqpClient:
    """A foreign client of the AMQP door, written from schema/wire.md alone: it shares nothing with the agents."""

    def __init__(self, bed, site):
        self.site = site
        self.connection = bed.amqp(site)
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()
        self.queue = self.channel.queue_declare("", exclusive=True).method.queue

    def close(self):
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def publish(self, body, correlation_id="1", message_id=None, **properties):
        properties = pika.BasicProperties(delivery_mode=2, reply_to=self.queue, correlation_id=correlation_id,
                                          message_id=message_id, **properties)
        self.channel.basic_publish(f"cheops.site.{self.site}", "request",
                                   body if isinstance(body, bytes) else msgpack.packb(body), properties, mandatory=True)

    def replies(self, correlation_id="1", seconds=30):
        """Until the final one: "completed" or "refused"."""
        got = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            method, properties, body = self.channel.basic_get(self.queue, auto_ack=True)
            if method is None:
                self.connection.sleep(0.02)
                continue
            if properties.correlation_id == correlation_id:
                got.append(msgpack.unpackb(body))
                if got[-1]["kind"] in ("completed", "refused"):
                    return got
        raise AssertionError(f"no final reply after {seconds} s, only {got}")
