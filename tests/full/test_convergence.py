# SPDX-License-Identifier: AGPL-3.0-only
"""Sites that write to the same files, documents and Redis servers come to one state, whatever the network did and died meanwhile.

Each round has one resource of every workload (tests/lib/workloads.py), and is told by its number and the seed.
"""
import os
import random
import time

import pytest
from applications import Applications, RedisServers
from faults import others
from rounds import STEPS, Round
from testbed import SITES, wait_until

SEED = int(os.environ.get("CHEOPS_FULL_SEED") or random.randrange(1 << 32))
ROUNDS = 1000 if os.environ.get("CHEOPS_FULL_MINUTES") else 10
PARTS = ("agent", "broker", "database")
LONG_CUT_S = 17     # heartbeat 5 s: both ends of a link have given the other up


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    servers = RedisServers(tmp_path_factory.mktemp("redis"))
    yield servers
    servers.stop()


@pytest.fixture
def a_round(broken, redis, shared, rid):
    """Makes a round of a seed."""
    def make(number):
        print(f"seed {SEED}, number {number}")
        made = Round(broken, rid, Applications(shared, redis), random.Random(f"{SEED}/{number}"))
        made.begin()
        return made
    return make


def finish(the_round, record_property):
    wrong, measured = the_round.converge()
    print(measured)
    record_property("measured", measured)
    assert not wrong, "\n".join(wrong)
    print(f"{the_round.rebuild()} replicas were diverged and are rebuilt")


def cut(the_round):
    """One site from both others, or all from each other; the sites that are cut off from some other."""
    alone = the_round.rng.choice(SITES)
    pairs = [(alone, other) for other in others(alone)]
    if the_round.rng.random() < 0.3:
        pairs.append(tuple(others(alone)))
    for pair in pairs:
        the_round.bed.demo("cut", *pair)
    return alone, the_round.rng.choice(others(alone))


@pytest.mark.parametrize("number", range(ROUNDS))
def test_connected(a_round, number, record_property):
    the_round = a_round(number)
    the_round.create_twice(*the_round.rng.sample(SITES, 2))
    the_round.work(0, STEPS)
    finish(the_round, record_property)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_cut(a_round, number, record_property):
    the_round = a_round(number)
    one, other = cut(the_round)
    began = time.monotonic()
    the_round.create_twice(one, other)
    the_round.work(0, STEPS)
    if number % 2:
        time.sleep(max(0, began + LONG_CUT_S - time.monotonic()))
    the_round.bed.demo("heal")
    finish(the_round, record_property)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_cut_and_a_part_killed(a_round, number, record_property):
    the_round = a_round(number)
    bed = the_round.bed
    site, part = SITES[number // 3 % 3], PARTS[number % 3]
    print(f"{part} of {site}")
    one, other = cut(the_round)
    the_round.create_twice(one, other)
    the_round.work(0, 2)
    bed.demo("kill", site, part)
    # Without its broker, a site goes on.
    the_round.work(2, 3, SITES if part == "broker" else others(site))
    bed.demo("start", site, part)
    wait_until(lambda: bed.ready(site), 60, f"{site} is ready")
    the_round.work(3, STEPS)
    bed.demo("heal")
    finish(the_round, record_property)
