"""Measure a long persistent backlog: publishing to it, its memory, a restart with it, its order, and consuming it.

    .venv/bin/python bench/backlog.py --messages 10000000

Beside each speed stands that of a short queue in the same run, since machines are noisy.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from brokers import DISPATCHD, broker
from expiry import Client
from loads import build_load_generator
from pamqp import commands as spec
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

QUEUE = "backlog"
SHORT = "short"
SLICE_SECONDS = 5.0
SHORT_MESSAGES = 300_000
CHECKED = 20_000
RATES = re.compile(r"send (\d+)/s recv (\d+)/s.*us/msg ([\d.]+)")


class Load:
    """amqpload on one broker."""

    def __init__(self, program: Path, port: int, pid: int, size: int) -> None:
        self._words = [str(program), "-p", str(port), "-x", str(pid), "-d", "-s", str(size)]

    def run(self, queue: str, seconds: float, options: str) -> tuple[float, float, float]:
        """Messages sent and received a second, and CPU in µs per message."""
        words = [*self._words, "-n", queue, "-t", str(seconds), *options.split()]
        printed = subprocess.run(words, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
        found = RATES.search(printed)
        if found is None:
            raise ValueError(f"amqpload printed {printed!r}")
        sent, received, cpu = map(float, found.groups())
        return sent, received, cpu


def memory(pid: int) -> dict[str, int]:
    """MB of the process that are resident, and resident of it on its own account and of mapped files."""
    rows = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: int(rows[name].split()[0]) >> 10 for name in ("VmRSS", "RssAnon", "RssFile", "VmHWM")}


def check_order(port: int, count: int) -> None:
    """See that the first messages come in the order in which one publisher sent them; they go back."""
    client = Client(port)
    client.call(spec.Basic.Qos(prefetch_count=count), spec.Basic.QosOk)
    client.call(spec.Basic.Consume(queue=f"{QUEUE}-0"), spec.Basic.ConsumeOk)
    last = 0
    for _ in range(count):
        client.expect(spec.Basic.Deliver)
        client.expect(ContentHeader)
        sent_at = int.from_bytes(client.expect(ContentBody).value[:8], "big")
        if sent_at < last:
            raise AssertionError("a message came before one that was sent earlier")
        last = sent_at
    client.socket.close()


@contextmanager
def started(directory: Path) -> Iterator[tuple[int, int]]:
    """A broker on this folder; says how long it took to be ready."""
    began = time.monotonic()
    with broker(DISPATCHD, directory) as (port, pid):
        print(f"ready after {time.monotonic() - began:.1f} s, {memory(pid)} MB", flush=True)
        yield port, pid


def fill(load: Load, port: int, pid: int, messages: int) -> None:
    """Publish until the backlog is that long."""
    client = Client(port)
    while (depth := client.count(f"{QUEUE}-0")) < messages:
        sent, _, cpu = load.run(QUEUE, SLICE_SECONDS, "-P 1 -C 0 -w 5000")
        print(f"{depth:,} waiting: published {sent:,.0f}/s, {cpu:.2f} µs each, {memory(pid)} MB", flush=True)


def drain_short(load: Load, options: str) -> float:
    """The speed at which a queue that is all in memory is consumed."""
    load.run(SHORT, 1.0, "-P 1 -C 0 -w 5000")
    return load.run(SHORT, 1.0, f"-P 0 -C 1 {options}")[1]


def main() -> None:
    """Print what happens, line by line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000, help="in the backlog (default: %(default)s)")
    parser.add_argument("--size", type=int, default=200, help="octets of a body (default: %(default)s)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dispatchd-bench-") as name:
        directory = Path(name)
        program = build_load_generator(directory)
        with started(directory) as (port, pid):
            for queue in (QUEUE, SHORT):
                Client(port).declare(f"{queue}-0", durable=True)
            load = Load(program, port, pid, given.size)
            sent, received, cpu = load.run(SHORT, SLICE_SECONDS, "-P 1 -C 1 -q 1000 -w 5000")
            print(f"without a backlog: {sent:,.0f}/s in, {received:,.0f}/s out, {cpu:.2f} µs each", flush=True)
            fill(load, port, pid, given.messages)
        with started(directory) as (port, pid):
            check_order(port, min(CHECKED, given.messages))
            load = Load(program, port, pid, given.size)
            sent, received, cpu = load.run(QUEUE, SLICE_SECONDS, "-P 1 -C 1 -q 1000 -w 5000")
            print(f"with the backlog: {sent:,.0f}/s in, {received:,.0f}/s out, {cpu:.2f} µs each", flush=True)
            while (depth := Client(port).count(f"{QUEUE}-0")) > 0:
                short = drain_short(load, "-q 1000")
                _, received, cpu = load.run(QUEUE, SLICE_SECONDS, "-P 0 -C 1 -q 1000")
                line = f"consumed {received:,.0f}/s (a short queue: {short:,.0f}/s), {cpu:.2f} µs each"
                print(f"{depth:,} waiting: {line}, {memory(pid)} MB", flush=True)


if __name__ == "__main__":
    main()
