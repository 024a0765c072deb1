# SPDX-License-Identifier: AGPL-3.0-only
"""Starts and stops one RabbitMQ node for tests, with everything of its own: ports, epmd, database, log, home.

As a program: node.py start DIRECTORY PORT | kill DIRECTORY | stop DIRECTORY | ctl DIRECTORY ARGUMENT...
start takes DIRECTORY/rabbitmq.conf and DIRECTORY/enabled_plugins if they are there.
"""
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

SBIN = "/usr/lib/rabbitmq/bin"


class Node:
    """A node in `directory`. Further ports are derived: port + 3000 for Erlang's distribution, port + 6000 for epmd."""

    def __init__(self, directory, port, config=None, plugins=None):
        self.directory = pathlib.Path(directory).absolute()
        self.port = int(port)
        self.config, self.plugins = config, plugins
        self.server = None

    def environment(self):
        home = str(self.directory)
        return {
            "PATH": os.environ["PATH"], "HOME": home, "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": f"t{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.port + 3000), "ERL_EPMD_PORT": str(self.port + 6000),
            "ERL_EPMD_ADDRESS": "127.0.0.1", "RABBITMQ_MNESIA_BASE": home + "/mnesia",
            "RABBITMQ_LOG_BASE": home + "/log", "RABBITMQ_PID_FILE": home + "/pid",
            "RABBITMQ_CONFIG_FILE": str(self.config or home + "/rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.plugins or home + "/enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }

    def start(self, timeout_s=300):
        self.directory.mkdir(parents=True, exist_ok=True)
        for name, default in (("rabbitmq.conf", "# defaults\n"), ("enabled_plugins", "[].\n")):
            if self.config is None and not (self.directory / name).exists():
                (self.directory / name).write_text(default, encoding="utf-8")
        environment = self.environment()
        if self.config is not None:  # listeners are in the configuration
            del environment["RABBITMQ_NODE_IP_ADDRESS"], environment["RABBITMQ_NODE_PORT"]
        with open(self.directory / "output", "ab") as output:
            self.server = subprocess.Popen([SBIN + "/rabbitmq-server"], env=environment, cwd=self.directory,
                                           stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                           start_new_session=True)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                    connection.settimeout(5)
                    if "listeners.tcp = none" in pathlib.Path(environment["RABBITMQ_CONFIG_FILE"]).read_text("utf-8"):
                        return
                    connection.sendall(b"AMQP\0\0\x09\x01")
                    if connection.recv(1):
                        return
            except OSError:
                pass
            time.sleep(0.1)
        self.stop()  # it may come up yet
        raise RuntimeError(f"the node in {self.directory} does not answer: see its files output and log/")

    def pid(self):
        return int((self.directory / "pid").read_text("ascii"))

    def kill(self):
        """kill -9 of the node alone."""
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        while os.path.exists(f"/proc/{pid}") and pathlib.Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
            time.sleep(0.02)

    def stop(self):
        """Ends the node and its epmd, which would stay."""
        try:
            self.kill()
        except (OSError, ValueError):
            pass
        if self.server is not None:
            self.server.wait()
        for _ in range(50):  # it refuses until it has noticed that the node is gone
            subprocess.run(["epmd", "-port", str(self.port + 6000), "-kill"], check=False, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port + 6000)) != 0:
                    break
            time.sleep(0.1)

    def ctl(self, *arguments):
        return subprocess.run([SBIN + "/rabbitmqctl", *arguments], env=self.environment(), check=True, text=True,
                              stdout=subprocess.PIPE, cwd=self.directory).stdout


def main():
    verb, directory, *rest = sys.argv[1:]
    record = pathlib.Path(directory) / "port"
    if verb == "start":
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(rest[0], encoding="ascii")
    node = Node(directory, record.read_text("ascii"))
    if verb == "ctl":
        print(node.ctl(*rest))
    else:
        {"start": node.start, "kill": node.kill, "stop": node.stop}[verb]()


if __name__ == "__main__":
    main()
