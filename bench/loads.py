"""The loads that brokers are measured with, and amqpload, which makes them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
FIGURES = re.compile(
    r"recv (\d+)/s(?: latency_ms p50 ([\d.]+) .* p99 ([\d.]+) max [\d.]+)? broker_cpu_us/msg ([\d.]+) rss_mb (\d+)(.*)"
)
GRACE_SECONDS = 15.0
"""What connecting, declaring and leaving may take beside the load itself."""


@dataclass(frozen=True)
class Load:
    """amqpload's options and what they mean. If it `is_paced`, all get the same rate, and latencies are compared."""

    name: str
    options: str
    is_paced: bool = False


LOADS = (
    Load("each message acked on its own", "-P 2 -C 4 -q 100"),
    Load("no ack", "-P 1 -C 1"),
    Load("persistent", "-d -P 2 -C 4 -q 100"),
    Load("persistent, confirmed", "-d -w 500 -P 1 -C 1 -q 100"),
    Load("16 KiB bodies", "-P 2 -C 4 -q 100 -s 16384"),
    Load("1 MiB bodies", "-P 2 -C 4 -q 10 -s 1048576"),
    Load("fan-out to 100 queues, no ack", "-e amq.fanout -k 100 -P 1 -C 100"),
    Load("fan-out to 100 queues, acked", "-e amq.fanout -k 100 -P 1 -C 100 -q 100"),
    Load("100 queues, 50 producers, 50 consumers", "-k 100 -P 50 -C 50 -q 100"),
    Load("topic exchange, 8 patterns", "-e amq.topic -k 8 -P 2 -C 4 -q 100"),
    Load("headers exchange, 8 bindings", "-e amq.headers -k 8 -P 2 -C 4 -q 100"),
    Load("publish, get, ack, one at a time", "-g -P 0 -C 4 -q 1"),
    Load("2,000 a second", "-P 1 -C 1 -q 100 -r 2000", is_paced=True),
)


@dataclass(frozen=True)
class Figures:
    """What one turn came to: messages received a second, CPU of the broker in µs per message, MB, and ms of latency."""

    received: float
    cpu: float
    memory: float
    p50: float
    p99: float


class LoadError(Exception):
    """A broker could not take a load. The text says in a word or two what it did."""


def build_load_generator(directory: Path) -> Path:
    """Compile amqpload.c; returns the program."""
    program = directory / "amqpload"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-O2", "-pthread", "-o", program, HERE / "amqpload.c"], check=True)
    return program


def put_load(program: Path, port: int, pid: int, options: str, seconds: float) -> Figures:
    """Run amqpload for so long. Raises LoadError."""
    # Names for the queues: amqpload need not delete them, which takes some brokers longer than the load.
    words = [str(program), "-p", str(port), "-x", str(pid), "-t", str(seconds), "-n", "load", *options.split()]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=seconds + GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        raise LoadError("hangs") from None
    if done.returncode != 0:
        print(done.stderr, end="", file=sys.stderr)
        raise LoadError("fails")
    return parse(done.stdout)


def parse(printed: str) -> Figures:
    """Take the figures out of amqpload's line. Raises LoadError if messages stopped coming, ValueError for others."""
    found = FIGURES.search(printed)
    if found is None:
        raise ValueError(f"amqpload printed {printed!r}")
    received, p50, p99, cpu, memory = (float(figure or "nan") for figure in found.groups()[:5])
    if "stalled" in found[6]:
        raise LoadError("stalls")
    return Figures(received=received, cpu=cpu, memory=memory, p50=p50, p99=p99)
