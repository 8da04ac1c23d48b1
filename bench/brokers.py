"""How each broker is started on a free port with a fresh folder, and stopped: dispatchd, its peers, and any command."""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0
STOP_SECONDS = 10.0
DISPATCHD = f"{sys.executable} -m dispatchd --amqp-port {{port}} --admin-port 0 --debug-port 0 --bind 127.0.0.1 \
--log-level warning --persist-dir {{directory}}"
INTERPRETED = f"env PYTHONPATH={shlex.quote(str(CHECKOUT))} {DISPATCHD}"
"""The checkout's own source: there are no compiled modules beside it."""
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
GARAGEMQ = Path("/usr/bin/garagemq")
GARAGEMQ_CONFIG = Path("/etc/garagemq/config.yaml")

Running = AbstractContextManager[tuple[int, int]]
"""Gives the port of a broker and its process id; ends the broker."""


@dataclass(frozen=True)
class Broker:
    """One that is measured. `start` takes a folder of its own."""

    name: str
    version: str
    start: Callable[[Path], Running]


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def broker(command: str, directory: Path, port: int = 0) -> Iterator[tuple[int, int]]:
    """Run a command with `{port}`, a free one if none is given, and `{directory}` in it; yields port and pid."""
    port = port or free_port()
    words = shlex.split(command.format(port=port, directory=directory))
    with (directory / "output").open("wb") as output:
        # Not in the checkout: the installed package is what is measured.
        process = subprocess.Popen(words, cwd=directory, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_for(port, process)
        yield port, process.pid
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if process.poll() is not None:
                raise ChildProcessError(f"{process.args!r} ended with {process.returncode}") from None
            if time.monotonic() > deadline:
                raise TimeoutError(f"{process.args!r} does not listen on port {port}") from None
            time.sleep(0.01)
        else:
            return


@contextmanager
def rabbitmq(directory: Path) -> Iterator[tuple[int, int]]:
    """Debian's RabbitMQ as it comes."""
    if (tests := str(CHECKOUT / "tests")) not in sys.path:
        sys.path.append(tests)
    from compat.rabbitmq import RabbitMQ

    process = RabbitMQ(RABBITMQ, directory, as_it_comes=True)
    process.start()
    try:
        yield process.port, process.pid
    finally:
        process.stop()


@contextmanager
def garagemq(directory: Path) -> Iterator[tuple[int, int]]:
    """Debian's GarageMQ with Debian's configuration, but for its ports and folder."""
    port = free_port()
    config = GARAGEMQ_CONFIG.read_text()
    for debians, ours in (
        ("port: 5672", f"port: {port}"),
        ("port: 15672", f"port: {free_port()}"),
        ("/var/lib/garagemq/db", str(directory)),
    ):
        if debians not in config:
            raise ValueError(f"{GARAGEMQ_CONFIG} was expected to have {debians!r} in it")
        config = config.replace(debians, ours)
    (directory / "config.yaml").write_text(config)
    with broker(f"{GARAGEMQ} --log-level error --config config.yaml", directory, port) as running:
        yield running


def installed() -> list[Broker]:
    """Those that can be measured here, dispatchd first; says which are left out."""
    version = _printed(sys.executable, "-m", "dispatchd", "--version").removeprefix("dispatchd ")
    found = [Broker("dispatchd", version, partial(broker, DISPATCHD))]
    if "compiled" in version:
        interpreted = version.replace("compiled", "interpreted")
        found.append(Broker("dispatchd interpreted", interpreted, partial(broker, INTERPRETED)))
    else:
        print("dispatchd is not compiled here, so it is measured once", file=sys.stderr)
    for name, package, program, start in (
        ("RabbitMQ", "rabbitmq-server", RABBITMQ, rabbitmq),
        ("GarageMQ", "garagemq", GARAGEMQ, garagemq),
    ):
        if program.exists():
            found.append(Broker(name, _printed("dpkg-query", "-W", "-f", "${Version}", package), start))
        else:
            print(f"{name} is left out: there is no {program} (Debian's package {package})", file=sys.stderr)
    return found


def _printed(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True, cwd="/").stdout.strip()
