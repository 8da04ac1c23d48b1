"""Measure what one confirm takes when a publisher waits for each, beside one sync of the same disk.

    .venv/bin/python bench/confirm.py

By turns of a few hundred: a page that is written over, with fdatasync, as in the middle of a file; a page that is added
to a file, with fsync, as in a log; the same by another process that is asked over a socket and answers, the least that
a confirm can take; and a persistent message with its confirm, for which the redo log syncs once.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from brokers import DISPATCHD, broker
from expiry import Client
from pamqp import commands as spec
from pamqp.body import ContentBody
from pamqp.frame import marshal
from pamqp.header import ContentHeader

PAGE = b"x" * 4096
IN_ONE_TURN = 200
CONFIRM_OCTETS = 21
"""A basic.ack: to read it is not what is measured."""


def timed(act: Callable[[], object]) -> list[float]:
    """Milliseconds of each."""
    times = []
    for _ in range(IN_ONE_TURN):
        began = time.perf_counter()
        act()
        times.append((time.perf_counter() - began) * 1e3)
    return times


def serve(asked: socket.socket, path: Path) -> None:
    """Add a page to a file for each octet that comes, and answer when it is on disk."""
    with path.open("wb", buffering=0) as file:
        while asked.recv(1):
            file.write(PAGE)
            os.fsync(file.fileno())
            asked.sendall(b".")


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=10, help=f"of {IN_ONE_TURN} each (default: %(default)s)")
    parser.add_argument("--size", type=int, default=100, help="octets of a body (default: %(default)s)")
    given = parser.parse_args()
    message = (
        marshal(spec.Basic.Publish(routing_key="q"), 1)
        + marshal(ContentHeader(0, given.size, spec.Basic.Properties(delivery_mode=2)), 1)
        + marshal(ContentBody(b"x" * given.size), 1)
    )
    with (
        tempfile.TemporaryDirectory(prefix="dispatchd-bench-") as directory,
        broker(DISPATCHD, Path(directory)) as (port, _),
        Path(directory, "file").open("wb") as file,
        Path(directory, "log").open("wb") as log,
    ):
        client = Client(port)
        client.declare("q", durable=True)
        client.call(spec.Confirm.Select(), spec.Confirm.SelectOk)

        def write_over() -> None:
            os.pwrite(file.fileno(), PAGE, 0)
            os.fdatasync(file.fileno())

        def append() -> None:
            os.write(log.fileno(), PAGE)
            os.fsync(log.fileno())

        asking, asked = socket.socketpair()
        server = multiprocessing.Process(target=serve, args=(asked, Path(directory, "served")), daemon=True)
        server.start()

        def ask() -> None:
            asking.sendall(b".")
            asking.recv(1)

        def publish() -> None:
            client.socket.sendall(message)
            client.socket.recv(CONFIRM_OCTETS)

        acts = {
            "a page written over": write_over,
            "a page added": append,
            "a page added by a server": ask,
            "a confirm": publish,
        }
        times: dict[str, list[float]] = {name: [] for name in acts}
        for _ in range(given.turns):
            for name, act in acts.items():
                times[name] += timed(act)
        server.terminate()
        server.join()
    for name, of_one in times.items():
        print(f"{name}: {statistics.median(of_one):.3f} ms")


if __name__ == "__main__":
    main()
