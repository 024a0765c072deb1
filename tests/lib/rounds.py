# SPDX-License-Identifier: AGPL-3.0-only
"""A round: every workload at once on three sites that are connected, or cut apart, or cut apart while a part dies; then they are
whole again, and all must come to one state, in time."""
import os
import threading
import time
from datetime import datetime, timezone

from testbed import SITES, wait_until
from workloads import FileCreatedTwice, workloads

SETTLED = ("ready", "order-assumed")
GIVE_UP_S = 45      # what is late but comes is told apart from what never comes
LINKS_MAX_S = 10    # heartbeat 5 s, reconnect delay 1 s
CONVERGE_MAX_S = 3
STEPS = 5
TOLD = ("place", "id", "type", "origin", "summary", "reason")


class Links:
    """Which links run: the lane of operations towards a site is consumed by a shovel that has reached that site."""

    def __init__(self, bed):
        self.bed = bed
        self.last_broken = self.began = time.monotonic()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join(30)

    def watch(self):
        connections = {site: self.bed.amqp(site, admin=True) for site in SITES}
        channels = {site: connection.channel() for site, connection in connections.items()}
        while not self.stopping.wait(0.05):
            for site, channel in channels.items():
                for other in SITES:
                    if other != site and not consumers(channel, f"cheops.out.{other}"):
                        self.last_broken = time.monotonic()
        for connection in connections.values():
            connection.close()

    def seconds(self):
        return self.last_broken - self.began


def settled(workload, listed):
    found = [listed[site].get(workload.id, {}) for site in workload.members]
    states = SETTLED + (("diverged",) if workload.may_diverge else ())
    held = {known.get("operations", 0) for known in found}
    whole = len(held) == 1 and min(held) >= len(workload.accepted())    # more with voids
    return min(held) if whole and all(known["state"] in states for known in found) else None


def consumers(channel, queue):
    return channel.queue_declare(queue, passive=True).method.consumer_count


class Round:
    def __init__(self, bed, prefix, apps, rng):
        self.bed, self.prefix, self.apps, self.rng = bed, prefix, apps, rng
        self.workloads = workloads(prefix, apps, rng)
        self.references = {}    # (resource, commands) -> what they come to from empty
        self.command_s = apps.command_s()
        self.seconds = {}       # workload -> from healing to converged

    # --- writing ---

    def write(self, workload, write, site, create=False):
        """Asks for one operation at a site; the next is later in arbitration order."""
        create = create or isinstance(workload, FileCreatedTwice)   # nobody knows who has heard of it
        time.sleep(0.003)
        body = {"resource": workload.id, "type": write.kind, "command": ["sh", "-c", write.command]}
        if write.undo:
            body["undo"] = {"command": write.undo}
        if create:
            body |= {"scope": workload.scope, "config": workload.rules}
        answer = self.bed.http(site, "POST", "/v1/operations", json=body)
        assert answer.status_code == 202, f"{workload.name} at {site}: {answer.status_code} {answer.text}"
        write.operation, write.site = answer.json()["operation"], site
        workload.writes.append(write)

    def begin(self):
        """Creates what is not created on two sides later."""
        for workload in self.workloads:
            if not isinstance(workload, FileCreatedTwice):
                self.write(workload, workload.first(), self.rng.choice(workload.members), create=True)
        wait_until(lambda: all(self.state(workload, site) in SETTLED for workload in self.workloads if workload.writes
                               for site in workload.members), 30, "all is created everywhere")

    def create_twice(self, one, other):
        for workload in self.workloads:
            if isinstance(workload, FileCreatedTwice):
                self.write(workload, workload.first(), one)
                self.write(workload, workload.first(), other)

    def work(self, first, last, sites=SITES):
        """Steps first to last of every workload, each at one of these sites that is a member."""
        for number in range(first, last):
            for workload in self.rng.sample(self.workloads, len(self.workloads)):
                members = [site for site in workload.members if site in sites]
                if members:
                    self.write(workload, workload.step(number), self.rng.choice(members))

    # --- looking ---

    def resource(self, workload, site):
        answer = self.bed.http(site, "GET", f"/v1/resources/{workload.id}")
        return answer.json() if answer.status_code == 200 else {}

    def state(self, workload, site):
        return self.resource(workload, site).get("state")

    def history(self, workload, site):
        return [tuple(entry[key] for key in TOLD) for entry in self.bed.history(site, workload.id)]

    def difference(self, workload):
        """What keeps the workload from being right everywhere, or None."""
        states = {site: self.state(workload, site) for site in workload.members}
        settled = SETTLED + (("diverged",) if workload.may_diverge else ())
        if any(state not in settled for state in states.values()):
            return f"states {states}"
        histories = {site: self.history(workload, site) for site in workload.members}
        history = next(iter(histories.values()))
        if any(other != history for other in histories.values()):
            return f"histories differ: {histories}"
        known = {identity for _, identity, *_ in history}
        if lost := [write.operation for write in workload.accepted() if write.operation not in known]:
            return f"lost: {lost}"
        if unsaid := [identity for place, identity, *_, reason in history if place is None and not reason]:
            return f"not in the sequence without a reason: {unsaid}"
        if kept := [write.operation for write in workload.accepted() if write.fails and write.operation in self.placed(history)]:
            return f"failed everywhere and counts: {kept}"
        if workload.exact and self.read_reference(workload, history) != workload.expected():
            return f"the sequence comes to {self.read_reference(workload, history)}, not {workload.expected()}: {history}"
        wanted = self.read_reference(workload, history)
        found = {site: workload.read(site) for site, state in states.items() if state != "diverged"}
        if any(value != wanted for value in found.values()):
            return f"applications {found}, but the sequence comes to {wanted}: {history}"
        return None

    @staticmethod
    def placed(history):
        return [identity for place, identity, kind, *_ in sorted(entry for entry in history if entry[0] is not None) if kind != "void"]

    def read_reference(self, workload, history):
        """What the sequence comes to where nothing ran before."""
        commands = {write.operation: write.command for write in workload.accepted()}
        sequence = tuple(commands[identity] for identity in self.placed(history))
        key = (workload.id, sequence)
        if key not in self.references:
            self.references[key] = self.apps.from_empty(workload, sequence)
        return self.references[key]

    # --- converging ---

    def at_rest(self):
        """[(workload, operations)] of those whose replicas are all settled and hold as many; one cheap question for each site."""
        listed = {site: self.list(site) for site in SITES}
        return [(workload, held) for workload in self.workloads if (held := settled(workload, listed))]

    def list(self, site):
        answer = self.bed.http(site, "GET", f"/v1/resources?after={self.prefix}-&limit={2 * len(self.workloads)}")
        return {known["id"]: known for known in answer.json()["resources"]} if answer.status_code == 200 else {}

    def converge(self):
        """Waits until all are right; a line for each that is not, or is late, and what was measured."""
        began, started = time.monotonic(), time.time()
        with Links(self.bed) as links:
            waiting, since = list(self.workloads), {}
            while waiting and time.monotonic() < began + GIVE_UP_S:
                rest, now = self.at_rest(), time.monotonic()
                since = {key: since.get(key, now) for key in rest}
                at_rest = {key[0]: key for key in rest}
                # To look closely takes long enough to be in the way of what is still at work.
                if all(workload in at_rest for workload in waiting):
                    for workload in list(waiting):
                        if self.difference(workload) is None:
                            waiting.remove(workload)
                            self.seconds[workload] = since[at_rest[workload]] - began
                time.sleep(0.1)
            differences = {workload: self.difference(workload) for workload in waiting}
        return self.judge(differences, links.seconds(), self.commands_since(started))

    def commands_since(self, started):
        """How many commands the sites ran since then."""
        since = datetime.fromtimestamp(started, timezone.utc).strftime("time=%Y-%m-%dT%H:%M:%S")
        return sum(line[:len(since)] >= since and " msg=executed " in line for site in SITES for line in self.bed.log(site).splitlines())

    def judge(self, differences, links_s, commands):
        # All sites are this machine: their commands' own time is what it takes for so many without an agent, busy as it is now.
        own_s = commands * max(self.command_s, self.apps.command_s()) / os.cpu_count()
        wrong = [f"{workload.name} ({workload.id}): {difference}" for workload, difference in differences.items()]
        if links_s >= LINKS_MAX_S:
            wrong.append(f"the links took {links_s:.1f} s")
        for workload, seconds in self.seconds.items():
            if seconds > links_s + CONVERGE_MAX_S + own_s + workload.late_s:
                wrong.append(f"{workload.name} took {seconds:.1f} s, the links {links_s:.1f} s, all commands {own_s:.1f} s")
        prompt = [seconds for workload, seconds in self.seconds.items() if not workload.late_s]
        late = ", ".join(f"{workload.name} {seconds:.1f} s" for workload, seconds in self.seconds.items() if workload.late_s)
        return wrong, (f"converged after {max(prompt, default=0):.1f} s, of which the links took {links_s:.1f} s, and {commands} commands "
                       f"{own_s:.1f} s ({late})")

    def rebuild(self):
        """What is diverged is put right by a person, who empties it in the application; how many were."""
        rebuilt = 0
        for workload in self.workloads:
            for site in workload.members:
                known = self.resource(workload, site)
                if known["state"] == "diverged":
                    assert "can't be undone" in known["diverged"], known
                    self.apps.empty(site, workload.id)
                    done = self.bed.cli("resource", "rebuild", workload.id, "--from-empty", site=site)
                    assert done.exit_code == 0, done
                    rebuilt += 1
            if workload.may_diverge:
                wait_until(lambda workload=workload: all(self.state(workload, site) in SETTLED for site in workload.members), 20,
                           f"{workload.id} is rebuilt")
                difference = self.difference(workload)
                assert difference is None, f"{workload.name}: {difference}"
        return rebuilt
