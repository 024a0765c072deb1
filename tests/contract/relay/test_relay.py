#!/usr/bin/python3
# SPDX-License-Identifier: AGPL-3.0-only
"""The demo's relay: whole, cut, cut one way, slow, and whole again."""
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

RELAY = sys.argv.pop() if len(sys.argv) > 1 else "cheops-relay"
QUIET_S = 0.5  # nothing comes for so long: it does not pass


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Relay(unittest.TestCase):
    def setUp(self):
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.server.close)
        self.port = free_port()
        (self.directory / "links").write_text(f"A B {self.port} {self.server.getsockname()[1]}\n")
        self.relay = subprocess.Popen([RELAY, *(self.directory / name for name in ("links", "cuts", "applied"))],
                                      stderr=subprocess.DEVNULL)
        self.addCleanup(self.end)
        self.until(lambda: (self.directory / "applied").exists())
        self.a = socket.create_connection(("127.0.0.1", self.port))
        self.b, _ = self.server.accept()
        for end in (self.a, self.b):
            self.addCleanup(end.close)
        self.passes(self.a, self.b)
        self.passes(self.b, self.a)

    def end(self):
        self.relay.terminate()
        self.assertEqual(self.relay.wait(20), 0)

    def until(self, condition):
        deadline = time.monotonic() + 30
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def set(self, lines):
        (self.directory / "cuts").write_text(lines)
        self.relay.send_signal(signal.SIGHUP)
        self.until(lambda: (self.directory / "applied").read_text() == lines)

    def passes(self, source, target, data=b"data", within=30):
        source.sendall(data)
        return self.arrives(target, len(data), within)

    def arrives(self, target, size, within=30):
        """The seconds until so many bytes have come."""
        began = time.monotonic()
        target.settimeout(within)
        while size > 0:
            got = target.recv(size)
            self.assertTrue(got)
            size -= len(got)
        return time.monotonic() - began

    def nothing_passes(self, source, target):
        source.sendall(b"data")
        target.settimeout(QUIET_S)
        with self.assertRaises(TimeoutError):
            target.recv(1)

    def refused(self):
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", self.port)).close()

    def test_cut_and_healed(self):
        for pair in ("A B\n", "B A\n"):
            self.set("X Y\n" + pair)
            self.nothing_passes(self.a, self.b)
            self.nothing_passes(self.b, self.a)
            self.refused()
            self.set("X Y\n")
            self.arrives(self.a, 4)
            self.arrives(self.b, 4)

    def test_one_way(self):
        self.set("A B oneway\n")
        self.nothing_passes(self.a, self.b)
        self.passes(self.b, self.a)
        self.refused()
        self.set("B A oneway\n")
        self.arrives(self.b, 4)
        self.nothing_passes(self.b, self.a)
        self.passes(self.a, self.b)
        self.set("")
        self.arrives(self.a, 4)

    def test_slow(self):
        self.set("B A slow 400 0\n")
        self.assertGreater(self.passes(self.a, self.b), 0.39)
        self.assertGreater(self.passes(self.b, self.a), 0.39)
        self.set("B A slow 0 64\n")
        self.assertGreater(self.passes(self.a, self.b, b"x" * 96 * 1024), 1.0)
        self.set("")
        self.passes(self.a, self.b, b"x" * 4096)

    def test_order_is_kept_when_a_slow_link_is_healed(self):
        self.set("A B slow 1500 0\n")
        self.a.sendall(b"first")
        time.sleep(0.2)
        self.set("")
        self.a.sendall(b"second")
        self.b.settimeout(30)
        self.assertEqual(self.b.recv(5), b"first")
        self.assertEqual(self.b.recv(6), b"second")

    def test_idles(self):
        """Links that are whole, cut and slow cost nothing while nothing passes."""
        for lines in ("", "A B\n", "A B slow 10 1000\n", ""):
            self.set(lines)
            ticks = self.ticks()
            time.sleep(1)
            self.assertLess(self.ticks() - ticks, 5, lines)

    def ticks(self):
        """Processor time of the relay in hundredths of a second."""
        fields = Path(f"/proc/{self.relay.pid}/stat").read_text().rpartition(") ")[2].split()
        return int(fields[11]) + int(fields[12])

    def test_what_was_sent_before_the_end_arrives(self):
        self.set("A B slow 500 0\n")
        self.a.sendall(b"last")
        self.a.close()
        self.arrives(self.b, 4)
        self.assertEqual(self.b.recv(1), b"")


if __name__ == "__main__":
    unittest.main()
