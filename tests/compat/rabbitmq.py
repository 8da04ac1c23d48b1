"""A RabbitMQ of our own: own ports, own node name, own folder, own epmd; nothing of it is left when it is stopped."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

START_SECONDS = 60
STOP_SECONDS = 30
NODE = "dispatchd-compat@localhost"
PLUGINS = (
    "rabbitmq_consistent_hash_exchange",
    "rabbitmq_management",
    "rabbitmq_random_exchange",
    "rabbitmq_recent_history_exchange",
    "rabbitmq_sharding",
)
"""Exchange types that dispatchd has too, and the HTTP API."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


ONE_SCHEDULER = "+S 1:1"
"""What a process has told others is there then before the next one asks them."""


class RabbitMQ:
    """`server` is the script that RabbitMQ is started by, not Debian's wrapper, which would change the user.

    `port` is a free one if none is given. `as_it_comes` is for benchmarks: without plugins, and with all schedulers.
    """

    host = "127.0.0.1"

    def __init__(self, server: Path, folder: Path, port: int = 0, *, as_it_comes: bool = False) -> None:
        self.port = port or free_port()
        self._plugins = () if as_it_comes else PLUGINS
        self._schedulers = "" if as_it_comes else ONE_SCHEDULER
        self.admin_port = free_port()
        self._server = server
        self._folder = folder
        self._environment: dict[str, str] = {}
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Return when it accepts connections. Raises AssertionError with the end of its log if it doesn't."""
        epmd_port = free_port()
        plugins = self._folder / "enabled_plugins"
        plugins.write_text(f"[{','.join(self._plugins)}].")
        (self._folder / "rabbitmq.conf").write_text(
            f"management.tcp.ip = {self.host}\nmanagement.tcp.port = {self.admin_port}\n"
        )
        environment = dict(
            os.environ,
            HOME=str(self._folder),  # of the cookie
            ERL_EPMD_PORT=str(epmd_port),
            ERL_EPMD_ADDRESS=self.host,
            RABBITMQ_NODENAME=NODE,
            RABBITMQ_NODE_IP_ADDRESS=self.host,
            RABBITMQ_NODE_PORT=str(self.port),
            RABBITMQ_DIST_PORT=str(free_port()),
            RABBITMQ_MNESIA_BASE=str(self._folder / "mnesia"),
            RABBITMQ_LOG_BASE=str(self._folder / "log"),
            RABBITMQ_LOGS="-",
            RABBITMQ_PID_FILE=str(self._folder / "pid"),
            RABBITMQ_CONFIG_FILE=str(self._folder / "rabbitmq"),
            RABBITMQ_CONF_ENV_FILE=str(self._folder / "rabbitmq-env.conf"),
            RABBITMQ_ENABLED_PLUGINS_FILE=str(plugins),
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=f"{self._schedulers} -kernel inet_dist_use_interface {{127,0,0,1}}",
            RUNNING_UNDER_SYSTEMD="1",  # the shell script becomes the Erlang process, so its pid is the one to end
        )
        self._environment = environment
        self._run(["epmd", "-port", str(epmd_port)], environment)
        broker = self._run([str(self._server)], environment)
        deadline = time.monotonic() + START_SECONDS
        ports = (self.port, self.admin_port) if self._plugins else (self.port,)
        while not all(map(self._accepts, ports)):
            if broker.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError("RabbitMQ did not start:\n" + "\n".join(self._log()[-30:]))
            time.sleep(0.1)

    def _run(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self._folder / "output").open("ab") as output:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        self._processes.append(process)
        return process

    def _accepts(self, port: int) -> bool:
        with suppress(OSError):
            socket.create_connection((self.host, port), 1).close()
            return True
        return False

    def _log(self) -> list[str]:
        return (self._folder / "output").read_text(errors="replace").splitlines()

    def control(self, *words: str) -> None:
        """Run rabbitmqctl. Raises AssertionError with what it says if it fails."""
        command = [str(self._server.with_name("rabbitmqctl")), "--node", NODE, *words]
        result = subprocess.run(
            command, env=self._environment, capture_output=True, check=False, text=True, timeout=START_SECONDS
        )
        assert result.returncode == 0, result.stdout + result.stderr

    def kill(self) -> None:
        """End it with SIGKILL, then its epmd."""
        self._processes[-1].kill()
        self.stop()

    @property
    def pid(self) -> int:
        """The process of the broker."""
        return self._processes[-1].pid

    def stop(self) -> None:
        """End it, then its epmd."""
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
