"""Measure how long another client waits while a long queue expires, is purged or is deleted.

    .venv/bin/python bench/expiry.py
    .venv/bin/python bench/expiry.py --turns 5 --messages 200000 purge delete

A second connection does a basic.get on an empty queue each millisecond. Machines are noisy, so beside the longest wait
stands what was waited for: the most CPU time that the broker used during one wait, which is the broker's doing (its
commits, on a thread of their own, count too), and the longest wait in a second without any other load just before.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from brokers import DISPATCHD, broker
from pamqp import commands as spec
from pamqp.body import ContentBody
from pamqp.exceptions import UnmarshalingException
from pamqp.frame import marshal, unmarshal
from pamqp.header import ContentHeader, ProtocolHeader

MESSAGES = 1_000_000
BODY = b"x" * 100
BLOCK = 500
TTL_SECONDS = 8
IDLE_SECONDS = 1.0
PROBE_SECONDS = 0.001
WAIT_SECONDS = 120
CPUCLOCK_SCHED = 2
"""With a process's id it makes the clock of that process's CPU time, which Python has no name for (Linux)."""

Frame = TypeVar("Frame")


class Client:
    """A connection with one channel."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = b""
        self.socket.sendall(ProtocolHeader().marshal())
        self.expect(spec.Connection.Start)
        self.call(spec.Connection.StartOk({}, "PLAIN", "\0guest\0guest"), spec.Connection.Tune, 0)
        self.socket.sendall(marshal(spec.Connection.TuneOk(2047, 131072, 0), 0))
        self.call(spec.Connection.Open("/"), spec.Connection.OpenOk, 0)
        self.call(spec.Channel.Open(), spec.Channel.OpenOk)

    def call(self, method: Any, answer: type[Frame], channel: int = 1) -> Frame:
        """Send a method; returns its answer."""
        self.socket.sendall(marshal(method, channel))
        return self.expect(answer)

    def expect(self, kind: type[Frame]) -> Frame:
        """The next frame; raises TypeError if it is another one."""
        while True:
            try:
                size, _, frame = unmarshal(self._data)
            except UnmarshalingException:
                received = self.socket.recv(65536)
                if not received:
                    raise ConnectionError("the broker closed the connection") from None
                self._data += received
                continue
            self._data = self._data[size:]
            if not isinstance(frame, kind):
                raise TypeError(f"expected {kind}, got {frame!r}")
            return frame

    def skip(self, size: int) -> None:
        """Pass over so many octets that are to come."""
        while len(self._data) < size:
            size -= len(self._data)
            self._data = self.socket.recv(1 << 20)
            if not self._data:
                raise ConnectionError("the broker closed the connection")
        self._data = self._data[size:]

    def declare(self, queue: str, *, durable: bool = False, **arguments: Any) -> None:
        """Declare a queue; its arguments are named with `_` for `-`."""
        given = {name.replace("_", "-"): value for name, value in arguments.items()}
        self.call(spec.Queue.Declare(queue=queue, durable=durable, arguments=given), spec.Queue.DeclareOk)

    def count(self, queue: str) -> int:
        """How many messages are ready."""
        found = self.call(spec.Queue.Declare(queue=queue, passive=True), spec.Queue.DeclareOk).message_count
        assert found is not None
        return found

    def fill(self, queue: str, messages: int, *, persistent: bool) -> None:
        """Publish, and return when all is in the queue, and on disk."""
        properties = spec.Basic.Properties(delivery_mode=2 if persistent else 1)
        frames = (spec.Basic.Publish(routing_key=queue), ContentHeader(0, len(BODY), properties), ContentBody(BODY))
        block = b"".join(marshal(frame, 1) for frame in frames) * BLOCK
        for _ in range(messages // BLOCK):
            self.socket.sendall(block)
        self.count(queue)
        self.declare("later", durable=True)  # answered when everything that came before is on disk
        self.call(spec.Queue.Delete(queue="later"), spec.Queue.DeleteOk)


@dataclass
class Waits:
    """What a probe saw, in ms."""

    waited: list[float]
    used: list[float]

    def longest(self) -> float:
        """The longest wait."""
        return max(self.waited)


class Probe(threading.Thread):
    """Asks the broker for something small each millisecond until it is told to stop."""

    def __init__(self, port: int, pid: int) -> None:
        super().__init__(daemon=True)
        self._client = Client(port)
        self._client.declare("probe")
        self._cpu_clock = (~pid << 3) | CPUCLOCK_SCHED
        self._is_over = threading.Event()
        self._waits = Waits([], [])

    def run(self) -> None:
        """Note each wait, and how much of it the broker was at work."""
        while not self._is_over.wait(PROBE_SECONDS):
            used, began = self._used(), time.perf_counter()
            self._client.call(spec.Basic.Get(queue="probe", no_ack=True), spec.Basic.GetEmpty)
            self._waits.waited.append((time.perf_counter() - began) * 1e3)
            self._waits.used.append((self._used() - used) * 1e3)

    def _used(self) -> float:
        return time.clock_gettime(self._cpu_clock)

    def end(self) -> Waits:
        """Stop; returns what was seen."""
        self._is_over.set()
        self.join()
        return self._waits


@dataclass
class Scene:
    """One thing to do to a long queue: `act` returns when it is done."""

    name: str
    act: Callable[[Client, int], None]
    persistent: bool = False
    share: float = 1.0
    arguments: dict[str, Any] | None = None


def wait_for(client: Client, queue: str, messages: int) -> None:
    """Return when the queue has so many messages."""
    deadline = time.monotonic() + WAIT_SECONDS
    while client.count(queue) != messages:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{client.count(queue)} messages, expected {messages}")
        time.sleep(0.05)


def expire(client: Client, _messages: int) -> None:
    """Wait until the time to live of all is over."""
    wait_for(client, "q", 0)


def expire_to_dead(client: Client, messages: int) -> None:
    """Wait until all are dead letters."""
    wait_for(client, "dead", messages)


def purge(client: Client, messages: int) -> None:
    """Empty the queue."""
    assert client.call(spec.Queue.Purge(queue="q"), spec.Queue.PurgeOk).message_count == messages


def delete(client: Client, messages: int) -> None:
    """Delete the queue."""
    assert client.call(spec.Queue.Delete(queue="q"), spec.Queue.DeleteOk).message_count == messages


TTL = {"x_message_ttl": TTL_SECONDS * 1000}
DEAD_LETTERS = {**TTL, "x_dead_letter_exchange": "", "x_dead_letter_routing_key": "dead"}
SCENES = (
    Scene("expire", expire, arguments=TTL),
    Scene("expire, persistent", expire, persistent=True, arguments=TTL),
    Scene("expire, dead letters", expire_to_dead, share=0.2, arguments=DEAD_LETTERS),
    Scene("purge", purge),
    Scene("purge, persistent", purge, persistent=True),
    Scene("delete", delete),
    Scene("delete, persistent", delete, persistent=True),
)


def play(scene: Scene, messages: int) -> tuple[Waits, Waits, float]:
    """One turn on a new broker: the waits while it was idle, those of the scene, and the scene's seconds."""
    with (
        tempfile.TemporaryDirectory(prefix="dispatchd-bench-") as directory,
        broker(DISPATCHD, Path(directory)) as (port, pid),
    ):
        client = Client(port)
        client.declare("dead")
        client.declare("q", durable=scene.persistent, **(scene.arguments or {}))
        idle = Probe(port, pid)
        idle.start()
        time.sleep(IDLE_SECONDS)
        idle_waits = idle.end()
        client.fill("q", messages, persistent=scene.persistent)
        probe = Probe(port, pid)
        probe.start()
        began = time.monotonic()
        scene.act(client, messages)
        seconds = time.monotonic() - began
        time.sleep(IDLE_SECONDS)  # what is still to be let go of
        return idle_waits, probe.end(), seconds


def main() -> None:
    """Print a table in Markdown: medians, and the worst, of the turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="WHAT", help="beginnings of names: expire, purge, delete")
    parser.add_argument("--messages", type=int, default=MESSAGES, help="in the queue (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="turns of each (default: %(default)s)")
    given = parser.parse_args()
    print("| 100-byte messages | s | longest wait, ms | in all turns | idle | CPU in one wait, ms | in all turns |")
    print("|---|---|---|---|---|---|---|")
    for scene in SCENES:
        if given.names and not any(scene.name.startswith(name) for name in given.names):
            continue
        messages = int(given.messages * scene.share)
        turns = [play(scene, messages) for _ in range(given.turns)]
        waited = [waits.longest() for _, waits, _ in turns]
        used = [max(waits.used) for _, waits, _ in turns]
        idle = max(waits.longest() for waits, _, _ in turns)
        seconds = statistics.median(seconds for _, _, seconds in turns)
        figures = (statistics.median(waited), max(waited), idle, statistics.median(used), max(used))
        print(
            f"| {messages:,}: {scene.name} | {seconds:.1f} | {' | '.join(f'{each:.1f}' for each in figures)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
