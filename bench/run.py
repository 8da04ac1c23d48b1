"""Measure the installed broker with amqpload: throughput, CPU per message and memory, each load on a fresh broker.

    make bench
    .venv/bin/python bench/run.py --seconds 4 --turns 3 --against "spike=python /path/to/actors.py {port}"

`--against` measures another broker by turns in the same run: on a shared machine only ratios within one run count.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
LOADS = (
    ("each message acked on its own", "-P 2 -C 4 -q 100"),
    ("no ack", "-P 1 -C 1"),
    ("persistent", "-d -P 2 -C 4 -q 100"),
    ("persistent, confirmed after fsync", "-d -w 500 -P 1 -C 1 -q 100"),
    ("persistent, one confirm at a time", "-d -w 1 -P 1 -C 1 -q 100"),
    ("16 KiB bodies", "-P 2 -C 4 -q 100 -s 16384"),
    ("2,000 a second", "-P 1 -C 1 -q 100 -r 2000"),
)
FIGURES = re.compile(r"recv (\d+)/s .* p50 ([\d.]+) .* p99 ([\d.]+) .*us/msg ([\d.]+) rss_mb (\d+)")
START_SECONDS = 120.0
DISPATCHD = f"{sys.executable} -m dispatchd --amqp-port {{port}} --admin-port 0 --debug-port 0 --bind 127.0.0.1 \
--log-level warning --persist-dir {{directory}}"

RABBITMQ = "rabbitmq:"

Figures = tuple[float, ...]


def build_load_generator(directory: Path) -> Path:
    """Compile amqpload.c; returns the program."""
    program = directory / "amqpload"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-O2", "-pthread", "-o", program, HERE / "amqpload.c"], check=True)
    return program


@contextmanager
def broker(command: str, directory: Path) -> Iterator[tuple[int, int]]:
    """Run a broker; yields its port and its process id."""
    if command.startswith(RABBITMQ):
        with rabbitmq(Path(command.removeprefix(RABBITMQ)), directory) as started:
            yield started
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    # Not in this folder: the installed package is what is measured.
    words = shlex.split(command.format(port=port, directory=directory))
    process = subprocess.Popen(words, cwd=directory)
    try:
        wait_for(port)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


@contextmanager
def rabbitmq(server: Path, directory: Path) -> Iterator[tuple[int, int]]:
    """The same with Debian's RabbitMQ, as it comes."""
    from compat.rabbitmq import RabbitMQ

    process = RabbitMQ(server, directory, as_it_comes=True)
    process.start()
    try:
        yield process.port, process.pid
    finally:
        process.stop()


def wait_for(port: int) -> None:
    """Wait until something listens on a port; raises TimeoutError after START_SECONDS."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing listens on port {port}") from None
            time.sleep(0.01)
        else:
            return


def measure(program: Path, command: str, load: str, seconds: float) -> Figures:
    """One turn: messages received a second, p50 and p99 in ms, CPU in µs per message, MB of memory."""
    with (
        tempfile.TemporaryDirectory(prefix="dispatchd-bench-") as directory,
        broker(command, Path(directory)) as started,
    ):
        port, pid = started
        words = [str(program), "-p", str(port), "-x", str(pid), "-t", str(seconds), *load.split()]
        printed = subprocess.run(words, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    found = FIGURES.search(printed)
    if found is None:
        raise ValueError(f"amqpload printed {printed!r}")
    return tuple(float(figure) for figure in found.groups())


def main() -> None:
    """Print a table in Markdown: the median of the turns for each load and broker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one turn (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=1, help="turns of each load (default: %(default)s)")
    parser.add_argument("--against", action="append", default=[], metavar="NAME=COMMAND", help="another broker")
    parser.add_argument("--rabbitmq", metavar="SERVER", help="Debian's, such as /usr/lib/rabbitmq/bin/rabbitmq-server")
    parser.add_argument("--load", action="append", metavar="OPTIONS", help="amqpload's options, instead of the list")
    given = parser.parse_args()
    commands = {"dispatchd": DISPATCHD, **dict(other.split("=", 1) for other in given.against)}
    if given.rabbitmq is not None:
        sys.path.insert(0, str(HERE.parent / "tests"))
        commands["RabbitMQ"] = f"{RABBITMQ}{given.rabbitmq}"
    loads = [("", load) for load in given.load] if given.load else list(LOADS)
    print("| load | broker | received/s | CPU µs/msg | p50 ms | p99 ms | MB | of the first |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="dispatchd-bench-") as directory:
        program = build_load_generator(Path(directory))
        for name, load in loads:
            turns: dict[str, list[Figures]] = {command: [] for command in commands}
            for _ in range(given.turns):
                for command, template in commands.items():
                    turns[command].append(measure(program, template, load, given.seconds))
            first = 0.0
            for command, figures in turns.items():
                rate, p50, p99, cpu, memory = (statistics.median(column) for column in zip(*figures, strict=True))
                first = first or rate
                print(
                    f"| `{load}` {name} | {command} | {rate:,.0f} | {cpu:.2f} | {p50:.2f} | {p99:.2f} | {memory:.0f} "
                    f"| {rate / first:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
