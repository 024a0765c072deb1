# SPDX-License-Identifier: AGPL-3.0-only
"""Applications of sites that a test can look into: files, JSON documents, and a real Redis server for each site.

One more site, REFERENCE, which no agent knows, is where a test runs a sequence from empty to see what it comes to.
"""
import os
import socket
import statistics
import subprocess
import time
from pathlib import Path

from testbed import SITES, wait_until

REFERENCE = "Reference"

# document.py FILE create | apply KEY VALUE | patch NAME KEY VALUE | undo NAME
# A patch remembers what it replaced, and only the last can be undone: an undo in a wrong order fails.
DOCUMENT = '''
import json, os, sys
path, verb, *words = sys.argv[1:]
try:
    with open(path) as file:
        document = json.load(file)
except FileNotFoundError:
    document = {"keys": {}, "patches": []}
keys, patches = document["keys"], document["patches"]
if verb == "apply":
    document = {"keys": {words[0]: words[1]}, "patches": []}
elif verb == "patch":
    patches.append([words[0], words[1], keys.get(words[1])])
    keys[words[1]] = words[2]
elif verb == "undo":
    name, key, before = patches.pop()
    if name != words[0]:
        sys.exit(f"{name} is in the way")
    if before is None:
        del keys[key]
    else:
        keys[key] = before
with open(path + ".new", "w") as file:
    json.dump(document, file, sort_keys=True)
os.rename(path + ".new", path)
'''


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RedisServers:
    """One for each site, on ports of their own, keeping nothing on disk."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.ports, self.processes = {}, {}
        try:
            for site in (*SITES, REFERENCE):
                self.start(site)
        except BaseException:
            self.stop()
            raise

    def start(self, site):
        folder = self.directory / site
        folder.mkdir()
        port = self.ports[site] = free_port()
        with open(folder / "log", "wb") as log:
            process = self.processes[site] = subprocess.Popen(
                ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def answers():
            assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
            return self.call(site, "ping", check=False) == "PONG"
        wait_until(answers, 20, f"the Redis server of {site} answers")

    def call(self, site, *words, check=True):
        done = subprocess.run(["redis-cli", "-e", "-p", str(self.ports[site]), *words], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=20, check=False)
        assert done.returncode == 0 or not check, done.stdout
        return done.stdout.strip()

    def stop(self):
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Applications:
    """Commands name things by $dir and the site that runs them; what they left is read here."""

    def __init__(self, directory, redis):
        self.directory, self.redis = Path(directory), redis
        (self.directory / "document.py").write_text(DOCUMENT, encoding="utf-8")
        for site, port in redis.ports.items():
            (self.directory / f"port.{site}").write_text(str(port), encoding="utf-8")
            (self.directory / site).mkdir()
            (self.directory / site).chmod(0o777)

    def command_s(self):
        """How long a command takes here without an agent, as the workloads mix them."""
        kinds = ((7, f"echo . > {self.file('try')}"), (2, self.redis_command("set", "try", "1")),
                 (3, self.document("try-document", "create")))
        return sum(share * statistics.median(self.took_s(command) for _ in range(5)) for share, command in kinds) / 12

    def took_s(self, command):
        began = time.monotonic()
        self.run(command)
        return time.monotonic() - began

    def file(self, name):
        return f"{self.directory}/$CHEOPS_SITE/{name}"

    def document(self, name, *words):
        return f"python3 {self.directory}/document.py {self.file(name)} {' '.join(words)}"

    def redis_command(self, *words):
        return f"redis-cli -e -p $(cat {self.directory}/port.$CHEOPS_SITE) {' '.join(words)}"

    def read_file(self, site, name):
        path = self.directory / site / name
        return path.read_text(encoding="utf-8").split() if path.exists() else []

    def read_redis(self, site, name):
        return self.redis.call(site, "get", name)

    def empty(self, site, name):
        (self.directory / site / name).unlink(missing_ok=True)
        self.redis.call(site, "del", name)

    @staticmethod
    def run(command):
        """At REFERENCE."""
        done = subprocess.run(["sh", "-c", command], env={**os.environ, "CHEOPS_SITE": REFERENCE}, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}"

    def from_empty(self, workload, commands):
        """What a workload comes to by these commands, one after the other, where nothing was before."""
        self.empty(REFERENCE, workload.id)
        for command in commands:
            self.run(command)
        return workload.read(REFERENCE)
