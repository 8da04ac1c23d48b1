"""A client that publishes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gevent.event import Event

from dispatchd.amqp.methods import BasicPublish, ConfirmSelect, ConfirmSelectOk
from dispatchd.perf.client import Client
from dispatchd.perf.counting.scanner import UNLIMITED, Scanner
from dispatchd.perf.counting.unconfirmed import Unconfirmed
from dispatchd.perf.errors import PerfError
from dispatchd.perf.messages import Messages
from dispatchd.perf.pace import Pace

if TYPE_CHECKING:
    from dispatchd.perf.counting.histogram import Histogram
    from dispatchd.perf.options import Load


class Producer:
    """Connects when it is made; raises PerfError then and while it runs. `latency` is that of its confirms."""

    def __init__(self, load: Load, number: int, routing_key: str, latency: Histogram) -> None:
        self.sent = 0
        self.unconfirmed = Unconfirmed(latency) if load.confirm else None
        self.scanner = Scanner(latency, unconfirmed=self.unconfirmed)
        self.client = Client(load.uri, f"producer {number}", self.scanner)
        if self.unconfirmed is not None:
            self.client.call(ConfirmSelect(), ConfirmSelectOk)
        publish = BasicPublish(load.exchange, routing_key, mandatory=load.mandatory)
        self._messages = Messages(publish, load.size, load.persistent, self.client.frame_max)
        self._load = load
        self._has_heard = Event()

    def run(self) -> None:
        """Publish what is to be published, and wait for the confirms."""
        load, client, messages, unconfirmed = self._load, self.client, self._messages, self.unconfirmed
        pace = Pace(load.rate)
        left = load.pmessages or UNLIMITED
        while left:
            most = min(messages.most, left)
            if unconfirmed is not None:
                # A quarter of what may be unconfirmed, at least: one confirm for many would bring one publish each.
                most = min(most, self._wait_for_confirms(load.confirm - min(most, (load.confirm + 3) // 4)))
            count = pace.take(most)
            now = time.monotonic_ns()
            if unconfirmed is not None:
                unconfirmed.add(count, now)
            client.send_in_turn(messages.batch(count, now))
            self.sent += count
            left -= count
        self._wait_for_confirms(0)

    def _wait_for_confirms(self, most: int) -> int:
        """Wait until at most `most` are unconfirmed, and say how many more there may be."""
        waiting = self.unconfirmed
        if waiting is None:
            return 0
        while waiting.count > most:
            self._has_heard.clear()
            if not self._has_heard.wait(self._load.confirm_timeout):
                seconds = f"{self._load.confirm_timeout:g} seconds"
                raise PerfError(f"{self.client.name}: {waiting.count} publishes and no confirm for {seconds}")
        return self._load.confirm - waiting.count

    def listen(self) -> None:
        """Take in what the broker sends: confirms, returns, and its reason when it closes."""
        while True:
            self.client.receive()
            self._has_heard.set()
