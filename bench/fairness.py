"""Measure how long a client that sends a few messages a second waits for each beside a flood.

    .venv/bin/python bench/fairness.py
    .venv/bin/python bench/fairness.py --seconds 60 --rate 1 --load "-P 2 -C 4 -q 100"

The client publishes to a queue of its own and gets what it published as a consumer, on one connection; the flood comes
from amqpload, to other queues of the same broker. Client, flood and broker share the machine: what the client waits for
without a flood, just before, stands beside.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from brokers import DISPATCHD, broker
from expiry import BODY, Client
from loads import build_load_generator, put_load
from pamqp import commands as spec
from pamqp.body import ContentBody
from pamqp.frame import marshal
from pamqp.header import ContentHeader

LOADS = (
    "-P 2 -C 4 -q 100",
    "-P 1 -C 1",
    "-d -P 2 -C 4 -q 100",
    "-k 100 -P 50 -C 50 -q 100",
    "-P 2 -C 4 -q 100 -s 16384",
)
BEFORE_SECONDS = 3.0


class Quiet(Client):
    """Who sends a message now and then."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.declare("beside")
        self.call(spec.Basic.Consume(queue="beside", no_ack=True), spec.Basic.ConsumeOk)
        frames = (spec.Basic.Publish(routing_key="beside"), ContentHeader(0, len(BODY)), ContentBody(BODY))
        self._message = b"".join(marshal(frame, 1) for frame in frames)

    def wait_for_one(self) -> float:
        """Publish a message and get it; returns the ms that took."""
        began = time.perf_counter()
        self.socket.sendall(self._message)
        self.expect(spec.Basic.Deliver)
        self.expect(ContentHeader)
        self.expect(ContentBody)
        return (time.perf_counter() - began) * 1e3

    def waits(self, rate: float, seconds: float) -> list[float]:
        """What each of so many a second took."""
        until, waits = time.monotonic() + seconds, []
        while time.monotonic() < until:
            waits.append(self.wait_for_one())
            time.sleep(1 / rate)
        return waits


def told(waits: list[float]) -> str:
    """The median, what 99 of 100 did not exceed, and the longest."""
    return (
        f"p50 {statistics.median(waits):.2f} p99 {statistics.quantiles(waits, n=100)[98]:.2f} max {max(waits):.2f} ms"
    )


def main() -> None:
    """Print what the client waited for beside each load."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=20.0, help="messages a second (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load (default: %(default)s)")
    parser.add_argument("--load", action="append", metavar="OPTIONS", help="amqpload's options, instead of the list")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dispatchd-bench-") as directory:
        program = build_load_generator(Path(directory))
        for number, options in enumerate(given.load or LOADS):
            folder = Path(directory, str(number))
            folder.mkdir()
            with broker(DISPATCHD, folder) as (port, pid):
                quiet = Quiet(port)
                before = quiet.waits(given.rate, BEFORE_SECONDS)
                with ThreadPoolExecutor(1) as thread:
                    waits = thread.submit(quiet.waits, given.rate, given.seconds - 1)
                    figures = put_load(program, port, pid, options, given.seconds)
                beside = f"beside {figures.received:,.0f}/s (before: {told(before)})"
                print(f"{options}: {told(waits.result())} {beside}", flush=True)


if __name__ == "__main__":
    main()
