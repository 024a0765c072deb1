# SPDX-License-Identifier: AGPL-3.0-only
"""Faults on real processes. Each makes one, lets work go on meanwhile, and ends it; FAULTS is the list, by name.

What a fault leaves able to accept must go on accepting while it lasts: that is what load.wait() inside of them says.
"""
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Callable

import pika
from clock import clock_of
from testbed import SITES, wait_until

FAULTS = {}


@dataclass
class Fault:
    name: str
    make: Callable          # (bed, load, rng)
    audit: dict = field(default_factory=dict)
    short: bool = False     # part of ./test.sh


def fault(short=False, **audit):
    """Makes a function a fault."""
    def enter(function):
        name = function.__name__.replace("_", "-")
        FAULTS[name] = Fault(name, function, audit, short)
        return function
    return enter


def others(site):
    return [name for name in SITES if name != site]


# --- parts that end ---

def end_and_start(bed, load, rng, part, verb, away=(0.0, 2.0), accepting=None):
    """At a random instant; meanwhile the sites that can accept do."""
    site = rng.choice(SITES)
    time.sleep(rng.uniform(0.1, 1.5))
    bed.demo(verb, site, part)
    time.sleep(rng.uniform(*away))
    load.wait(2, accepting or others(site))
    bed.demo("start", site, part)
    load.wait(2, [site])


@fault(short=True)
def agent_killed(bed, load, rng):
    for _ in range(4):
        end_and_start(bed, load, rng, "agent", "kill", away=(0, 0.5))


@fault(short=True)
def database_killed(bed, load, rng):
    for _ in range(2):
        end_and_start(bed, load, rng, "database", "kill")


@fault(short=True)
def broker_killed(bed, load, rng):
    # The site itself goes on, too: what it accepts waits in its database.
    end_and_start(bed, load, rng, "broker", "kill", accepting=SITES)


@fault()
def agent_restarted(bed, load, rng):
    """Nobody is refused but by the agent that is away, while it is."""
    windows = []
    for _ in range(3):
        site = rng.choice(SITES)
        began = time.monotonic()
        bed.demo("stop", site, "agent")
        bed.demo("start", site, "agent")
        wait_until(lambda site=site: bed.ready(site), 30, f"{site} is ready")
        windows.append((site, began, time.monotonic() + 1))
        load.wait(2)
    refused = [failure for failure in load.failures
               if not any(site == failure[1] and began <= failure[0] <= ended for site, began, ended in windows)]
    assert not refused, f"{len(refused)} refused without need: {refused[:3]}"


@fault()
def database_stopped(bed, load, rng):
    for _ in range(2):
        end_and_start(bed, load, rng, "database", "stop")


@fault()
def broker_stopped(bed, load, rng):
    end_and_start(bed, load, rng, "broker", "stop", accepting=SITES)


@fault()
def all_parts_of_a_site_killed(bed, load, rng):
    site = rng.choice(SITES)
    time.sleep(rng.uniform(0.1, 1.0))
    bed.demo("kill", site)
    load.wait(5, others(site))
    bed.demo("start", site)
    load.wait(2)


@fault()
def everything_killed_one_after_the_other(bed, load, rng):
    parts = [(site, part) for site in SITES for part in ("agent", "broker", "database")]
    rng.shuffle(parts)
    for site, part in parts[:5]:
        bed.demo("kill", site, part)
        time.sleep(rng.uniform(0, 0.5))
        bed.demo("start", site, part)
    load.wait(2)


# --- parts that hang ---

@contextmanager
def hung(pids):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def tree(pid):
    """A process and all below it."""
    found = [pid]
    for parent in found:
        try:
            with open(f"/proc/{parent}/task/{parent}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
        except OSError:
            pass
    return found


@fault()
def database_hangs(bed, load, rng):
    site = rng.choice(SITES)
    time.sleep(rng.uniform(0.1, 1.0))
    with hung(tree(bed.pid(site, "database"))):
        load.wait(3, others(site))
        time.sleep(rng.uniform(2, 8))
    load.wait(2, [site])


@fault()
def broker_hangs(bed, load, rng):
    site = rng.choice(SITES)
    time.sleep(rng.uniform(0.1, 1.0))
    with hung([bed.pid(site, "broker")]):
        load.wait(3)
        time.sleep(rng.uniform(2, 15))
    load.wait(2)


@fault()
def agent_hangs(bed, load, rng):
    site = rng.choice(SITES)
    with hung([bed.pid(site)]):
        load.wait(3, others(site))
        time.sleep(rng.uniform(2, 12))
    load.wait(2)


# --- links ---

@fault(short=True)
def links_cut(bed, load, rng):
    first, second = rng.sample(SITES, 2)
    bed.demo("cut", first, second)
    load.wait(6)
    bed.demo("heal")
    load.wait(2)


@fault()
def site_cut_off(bed, load, rng):
    site = rng.choice(SITES)
    for other in others(site):
        bed.demo("cut", site, other)
    load.wait(10)
    time.sleep(rng.uniform(5, 25))
    bed.demo("heal")
    load.wait(2)


@fault()
def links_cut_one_way(bed, load, rng):
    for first, second in rng.sample([(a, b) for a in SITES for b in others(a)], 2):
        bed.demo("cut", first, second, "oneway")
        load.wait(3)
        time.sleep(rng.uniform(2, 15))
        bed.demo("heal")
        load.wait(1)


@fault(short=True)
def links_slow(bed, load, rng):
    for first, second in ((a, b) for a in SITES for b in SITES if a < b):
        bed.demo("slow", first, second, str(rng.randrange(50, 400)), str(rng.choice((0, 20, 100))))
    load.wait(4)
    time.sleep(rng.uniform(0, 5))
    bed.demo("heal")
    load.wait(1)


@fault()
def links_flap(bed, load, rng):
    for _ in range(8):
        first, second = rng.sample(SITES, 2)
        bed.demo("cut", first, second)
        time.sleep(rng.uniform(0.2, 4))
        bed.demo("heal")
        time.sleep(rng.uniform(0.1, 1))
    load.wait(2)


# --- the broker's queues, exchanges, alarms ---

@contextmanager
def administrator(bed, site):
    connection = bed.amqp(site, admin=True)
    try:
        yield connection.channel()
    finally:
        connection.close()


def ctl(bed, site, *arguments):
    """rabbitmqctl of a site's node."""
    instance = hashlib.sha256(str(bed.directory).encode()).hexdigest()[:6]
    with open(bed.directory / "ports", encoding="ascii") as file:
        ports = dict(line.split() for line in file)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(bed.directory / site / "broker" / "home"), "LANG": "C.UTF-8",
                   "ERL_EPMD_PORT": ports["epmd"], "RABBITMQ_CONF_ENV_FILE": "/dev/null"}
    done = subprocess.run(["/usr/lib/rabbitmq/bin/rabbitmqctl", "-q", "-n", f"cheops-{site.lower()}-{instance}@localhost", *arguments],
                          env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False)
    assert done.returncode == 0, f"rabbitmqctl {' '.join(arguments)}: {done.stdout}"
    return done.stdout


def inboxes(site):
    return [f"cheops.{site}.{inbox}" for inbox in ("operations", "acks", "control")]


def lanes(site):
    return [f"cheops.out.{other}" for other in others(site)]


@fault(short=True)
def queues_purged(bed, load, rng):
    for _ in range(15):
        site = rng.choice(SITES)
        with administrator(bed, site) as channel:
            for queue in inboxes(site) + lanes(site):
                channel.queue_purge(queue)
        time.sleep(rng.uniform(0.05, 0.4))
    load.wait(2)


@fault()
def purged_while_cut(bed, load, rng):
    """All that waits for a site in a broker is lost, the last of it, too."""
    first, second = rng.sample(SITES, 2)
    bed.demo("cut", first, second)
    load.wait(5)
    load.stop()
    for site, other in ((first, second), (second, first)):
        with administrator(bed, site) as channel:
            channel.queue_purge(f"cheops.out.{other}")
    bed.demo("heal")


def queue_exists(bed, site, queue):
    try:
        with administrator(bed, site) as channel:
            channel.queue_declare(queue, passive=True)
        return True
    except pika.exceptions.ChannelClosedByBroker:
        return False


@fault(short=True, dead_letters=True)
def queues_deleted(bed, load, rng):
    deleted = []
    for _ in range(2):
        site = rng.choice(SITES)
        for queue in (rng.choice(inboxes(site)), rng.choice(lanes(site))):
            with administrator(bed, site) as channel:
                channel.queue_delete(queue)
            deleted.append((site, queue))
            time.sleep(rng.uniform(0.5, 2))
    load.wait(3)
    for site, queue in deleted:  # agents look after their queues about every minute
        wait_until(lambda site=site, queue=queue: queue_exists(bed, site, queue), 100, f"{queue} is there again")


@fault(dead_letters=True)
def exchange_unbound(bed, load, rng):
    site, other = rng.sample(SITES, 2)
    with administrator(bed, site) as channel:
        for key in ("operation", "ack", "control"):
            channel.queue_unbind(f"cheops.out.{other}", f"cheops.site.{other}", key)
    load.wait(3)
    with administrator(bed, other) as channel:
        channel.queue_unbind(f"cheops.{other}.operations", f"cheops.site.{other}", "operation")
        channel.queue_unbind(f"cheops.{other}.acks", f"cheops.site.{other}", "ack")
    load.wait(3)


@fault(dead_letters=True)
def exchange_deleted(bed, load, rng):
    site, other = rng.sample(SITES, 2)
    with administrator(bed, site) as channel:
        channel.exchange_delete(f"cheops.site.{other}")
    load.wait(3)


@fault(requests_lost=True)
def broker_reset(bed, load, rng):
    """The node comes back with its configuration and without its messages."""
    site = rng.choice(SITES)
    bed.demo("kill", site, "broker")
    shutil.rmtree(bed.directory / site / "broker" / "mnesia")
    load.wait(3)
    bed.demo("start", site, "broker")
    load.wait(2)


@fault()
def shovel_deleted(bed, load, rng):
    site, other = rng.sample(SITES, 2)
    name = f"cheops.out.{other}"
    definition = next(line.split("\t")[2] for line in ctl(bed, site, "list_parameters").splitlines() if line.split("\t")[1] == name)
    ctl(bed, site, "clear_parameter", "shovel", name)
    load.wait(4)
    ctl(bed, site, "set_parameter", "shovel", name, definition)
    load.wait(2)


def waiting(bed, site):
    """What others have sent that the site's broker has and its agent has not."""
    lengths = dict(line.rsplit(None, 1) for line in ctl(bed, site, "list_queues", "name", "messages").splitlines() if "\t" in line)
    return sum(int(lengths[inbox]) for inbox in inboxes(site))


@contextmanager
def limit(bed, site, name, value, usual):
    """A limit of the broker that is reached, until it is the usual one again."""
    ctl(bed, site, name, *value)
    try:
        yield
    finally:
        ctl(bed, site, name, *usual)


def await_blocked(bed, site):
    wait_until(lambda: "blocked" in bed.cli("doctor", site=site).out, 30, "doctor says that the broker is blocked")


@contextmanager
def alarm(bed, site, *reached):
    with limit(bed, site, *reached):
        await_blocked(bed, site)
        yield


def under_alarm(bed, load, rng, *reached):
    """Publishing stops and nothing else: what has come is taken, what is asked here by other doors is accepted. (What others send now
    waits at theirs: a broker with an alarm blocks whoever publishes to it, their shovels, too.)"""
    site = rng.choice(SITES)
    with ExitStack() as stack:
        with hung([bed.pid(site)]):
            before = received(bed, load, site, others(site)[0])
            load.wait(5, others(site))
            wait_until(lambda: waiting(bed, site), 30, "something waits in the broker")
            stack.enter_context(limit(bed, site, *reached))
        await_blocked(bed, site)
        wait_until(lambda: received(bed, load, site, others(site)[0]) > before, 30, "the site takes what has come")
        load.wait(5)
    load.wait(2)


def received(bed, load, site, origin):
    return bed.sql(site, "SELECT count(*) FROM cheops.operation WHERE resource LIKE %s AND origin = %s", load.prefix + "-%", origin)[0][0]


@fault()
def memory_alarm(bed, load, rng):
    under_alarm(bed, load, rng, "set_vm_memory_high_watermark", ("absolute", "1"), ("absolute", "512MB"))


@fault()
def disk_alarm(bed, load, rng):
    under_alarm(bed, load, rng, "set_disk_free_limit", ("100000GB",), ("64MB",))


# --- the clock ---

@fault(short=True)
def clock_jumps(bed, load, rng):
    with tempfile.TemporaryDirectory() as directory, clock_of(bed, rng.choice(SITES), directory) as clock:
        load.wait(1)
        for days in rng.sample((365, -365, 30, -30, 1, -1), 4):
            clock.set(days)
            load.wait(1)
            time.sleep(rng.uniform(0, 1))
    load.wait(1)


# --- messages ---

@fault(short=True)
def messages_doubled_and_shuffled(bed, load, rng):
    """Real messages of an inbound queue, published again where they were, several times and in another order."""
    for _ in range(4):
        site = rng.choice(SITES)
        caught = catch(bed, site, 3)
        copies = [message for message in caught for _ in range(rng.choice((1, 2, 3)))]
        rng.shuffle(copies)
        with administrator(bed, site) as channel:
            for key, properties, body in copies:
                channel.basic_publish(f"cheops.site.{site}", key, body, properties)
    load.wait(2)


def catch(bed, site, seconds):
    """A copy of what comes in for a while, by a queue beside the agent's own."""
    caught = []
    with administrator(bed, site) as channel:
        spy = channel.queue_declare("", exclusive=True).method.queue
        for key in ("operation", "ack"):
            channel.queue_bind(spy, f"cheops.site.{site}", key)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            method, properties, body = channel.basic_get(spy, auto_ack=True)
            if method is None:
                channel.connection.sleep(0.05)
                continue
            plain = pika.BasicProperties(content_type=properties.content_type, delivery_mode=properties.delivery_mode)
            caught.append((method.routing_key, plain, body))
    return caught
