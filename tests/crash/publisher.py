"""Who fills a queue for as long as the broker lets him, and who empties it."""

from __future__ import annotations

from contextlib import suppress

import gevent
from actors.harness import wait_until
from crash.durable_broker import DurableBroker, number_of
from crash.load import Client
from pamqp import commands as spec
from pamqp.heartbeat import Heartbeat
from soak import seeded

WINDOW = 300
SIZES = [10, 100, 700, 700, 1500, 1500, 1500, 5000]


class Publisher(Client):
    """Publishes numbers to a queue and has them confirmed, for as long as it is let."""

    def __init__(self, broker: DurableBroker, queue: str = "q", *, delivery_mode: int = 2, **arguments: str) -> None:
        super().__init__(broker, capabilities={"connection.blocked": True})
        self.call(spec.Queue.Declare(queue=queue, durable=True, arguments={**arguments}), spec.Queue.DeclareOk)
        self.call(spec.Confirm.Select(), spec.Confirm.SelectOk)
        self._broker = broker
        self._queue = queue
        self.sent = 0
        self.unconfirmed: set[int] = set()
        self.blocked: str | None = ""
        self._properties = spec.Basic.Properties(delivery_mode=delivery_mode)
        self._chance = seeded(20240614)
        self._reader = gevent.spawn(self._read_all)

    def _read_all(self) -> None:
        with suppress(OSError, EOFError):
            while True:
                self._take(self.receive()[1])

    def _take(self, frame: object) -> None:
        match frame:
            case spec.Basic.Ack():
                tag = frame.delivery_tag or 0
                settled = {number for number in self.unconfirmed if number <= tag} if frame.multiple else {tag}
                self.unconfirmed -= settled
            case spec.Connection.Blocked():
                self.blocked = frame.reason
            case spec.Connection.Unblocked():
                self.blocked = ""
            case _:
                assert isinstance(frame, Heartbeat), frame

    def publish_some(self, count: int = 100) -> None:
        for _ in range(count):
            self.sent += 1
            self.unconfirmed.add(self.sent)
            body = b"%d" % self.sent + b"." * self._chance.choice(SIZES)
            self.publish(1, self._queue, body, properties=self._properties)
        wait_until(lambda: len(self.unconfirmed) < WINDOW or self._broker.is_alarmed)

    def fill(self) -> None:
        """Publish until the broker lets nobody publish."""
        while not self._broker.is_alarmed:
            self.publish_some()
        self.wait_blocked("low on disk")

    def wait_blocked(self, reason: str) -> None:
        """Wait for an alarm: who publishes then is told."""
        wait_until(lambda: self._broker.is_alarmed)
        self.publish_some(1)
        wait_until(lambda: self.blocked == reason)

    def go_on(self) -> None:
        """All that was sent is confirmed in the end, and what is sent from now on too."""
        wait_until(lambda: not self.blocked and not self.unconfirmed)
        self.publish_some()
        wait_until(lambda: not self.unconfirmed)


class Drain(Client):
    """Takes all messages that are in the queue, and acknowledges them when it is told to."""

    def __init__(self, broker: DurableBroker) -> None:
        super().__init__(broker)
        declared = self.call(spec.Queue.Declare(queue="q", passive=True), spec.Queue.DeclareOk)
        self.call(spec.Basic.Consume(queue="q", consumer_tag="c"), spec.Basic.ConsumeOk)
        self.count = declared.message_count
        self.found = []
        for _ in range(self.count):
            self.expect(spec.Basic.Deliver)
            self.found.append(number_of(self.content()))
        self.call(spec.Basic.Cancel("c"), spec.Basic.CancelOk)

    def ack(self, tags: range) -> None:
        """Returns when the broker has taken that in."""
        for tag in tags:
            self.send(spec.Basic.Ack(tag), 1)
        self.call(spec.Queue.Declare(queue="q", passive=True), spec.Queue.DeclareOk)
