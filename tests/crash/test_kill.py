"""SIGKILL at random moments while clients publish with confirms, consume and acknowledge; then what has to be there is.

What the design promises, and what is checked after each restart of each queue:

- Every message that was confirmed and whose ack no consumer sent is there. Unconfirmed ones may be.
- What is there was published to this queue, is in the order of its publishing, and is there once.
- An ack takes part in the commit that follows it. A message whose ack the broker had taken in before a message was
  published that got its confirm does not return; one whose ack came later may.
- So does the mark of a delivery. A message that a client had before a message was published that got its confirm
  returns, if at all, as redelivered. One that was never delivered is not redelivered.
- Durable exchanges, queues and bindings are the same as before.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import gevent
import pytest
from broker.raw import RawClient
from crash.durable_broker import DurableBroker, number_of, read
from gevent.event import Event
from pamqp import commands as spec
from soak import cases, seeded

ROUNDS = cases(5, 40)
WINDOW = 100
PREFETCH = 60
ACKS_BETWEEN_BARRIERS = 7

ROUTES: dict[tuple[str, str], list[str]] = {
    ("fan", ""): ["fan-read", "fan-kept"],
    ("direct", "read"): ["direct-read"],
    ("direct", "both"): ["direct-read", "direct-kept"],
    ("", "plain-read"): ["plain-read"],
}
QUEUES = sorted({queue for queues in ROUTES.values() for queue in queues})


class QueueFacts:
    """What is known of one queue from outside; messages are numbers, in the order of their publishing."""

    def __init__(self) -> None:
        self.published: set[int] = set()
        self.before: list[int] = []  # what was there when the round began
        self.ack_sent: set[int] = set()
        self.acks_taken_in: list[tuple[int, int]] = []  # with the number that is published next
        self.delivered: dict[int, int] = {}  # likewise

    def begin_round(self, found: list[int]) -> None:
        self.before = found
        self.ack_sent = set()
        self.acks_taken_in = []
        self.delivered = dict.fromkeys(found, 0)  # to the check


class Load:
    """A publisher, and a consumer for each queue that is read, until so many confirms have come.

    Then the broker is killed at once: what it should not have confirmed yet is lost then.
    """

    def __init__(
        self, broker: DurableBroker, chance: random.Random, facts: dict[str, QueueFacts], first: int, confirms: int
    ) -> None:
        self.broker = broker
        self.chance = chance
        self.facts = facts
        self.next_number = self.first_number = first
        self.confirmed: set[int] = set()
        self._confirms = confirms
        self._open: dict[int, int] = {}  # confirm number to message
        self._has_room = Event()
        self._greenlets: list[gevent.Greenlet[..., None]] = [gevent.spawn(self._publish)]
        self._greenlets += [gevent.spawn(self._consume, queue) for queue in QUEUES if queue.endswith("read")]

    def join(self) -> None:
        """Wait until everybody has seen the end of the broker."""
        gevent.joinall(self._greenlets, timeout=20, raise_error=True)
        assert all(greenlet.dead for greenlet in self._greenlets)

    def _client(self) -> RawClient:
        client = RawClient(self.broker.host, self.broker.port)
        client.open()
        client.open_channel()
        return client

    def _publish(self) -> None:
        with suppress(OSError, EOFError):
            client = self._client()
            client.send(spec.Confirm.Select(), 1)
            client.expect(spec.Confirm.SelectOk)
            self._greenlets.append(gevent.spawn(self._take_confirms, client))
            confirm_number = 0
            while True:
                while len(self._open) >= WINDOW:
                    self._has_room.clear()
                    self._has_room.wait(10)
                number = self.next_number
                self.next_number += 1
                confirm_number += 1
                exchange, key = self.chance.choice(list(ROUTES))
                self._open[confirm_number] = number
                for queue in ROUTES[exchange, key]:
                    self.facts[queue].published.add(number)
                body = b"%d" % number + b"." * self.chance.choice([0, 0, 0, 100, 5000])
                persistent = spec.Basic.Properties(delivery_mode=2)
                client.publish(1, key, body, exchange=exchange, properties=persistent)

    def _take_confirms(self, client: RawClient) -> None:
        with suppress(OSError, EOFError):
            while True:
                ack = client.expect(spec.Basic.Ack)
                tags = [tag for tag in self._open if tag <= ack.delivery_tag] if ack.multiple else [ack.delivery_tag]
                self.confirmed.update(self._open.pop(tag) for tag in tags)
                if len(self.confirmed) >= self._confirms:
                    self.broker.send_signal(signal.SIGKILL)
                self._has_room.set()
        self._open.clear()
        self._has_room.set()

    def _consume(self, queue: str) -> None:
        facts = self.facts[queue]
        with suppress(OSError, EOFError):
            client = self._client()
            client.send(spec.Basic.Qos(prefetch_count=PREFETCH), 1)
            client.send(spec.Basic.Consume(queue=queue), 1)
            acked: list[int] = []
            waiting: list[list[int]] = []
            while True:
                _, frame = client.receive()
                if isinstance(frame, spec.Queue.DeclareOk):
                    facts.acks_taken_in += [(number, self.next_number) for number in waiting.pop(0)]
                if not isinstance(frame, spec.Basic.Deliver):
                    continue
                number = number_of(client.content())
                facts.delivered.setdefault(number, self.next_number)
                fate = self.chance.random()
                if fate < 0.85:
                    facts.ack_sent.add(number)
                    acked.append(number)
                    client.send(spec.Basic.Ack(frame.delivery_tag or 0), 1)
                elif fate < 0.95:
                    client.send(spec.Basic.Nack(frame.delivery_tag or 0, requeue=True), 1)
                if len(acked) >= ACKS_BETWEEN_BARRIERS:
                    client.send(spec.Queue.Declare(queue=queue, passive=True), 1)
                    waiting.append(acked)
                    acked = []


def check(queue: str, facts: QueueFacts, load: Load, found: list[tuple[int, bool]]) -> None:
    numbers = [number for number, _ in found]
    assert numbers == sorted(set(numbers)), f"{queue}: not in order, or twice"
    assert facts.published >= set(numbers), f"{queue}: never published there"
    confirmed_here = load.confirmed & facts.published
    missing = (confirmed_here | set(facts.before)) - facts.ack_sent - set(numbers)
    assert not missing, f"{queue}: confirmed, not acknowledged, and lost"
    last_confirmed = max(load.confirmed, default=-1)
    gone = {number for number, at in facts.acks_taken_in if at <= last_confirmed}
    assert not gone & set(numbers), f"{queue}: an acknowledgement was lost"
    for number, redelivered in found:
        if facts.delivered.get(number, last_confirmed + 1) <= last_confirmed:
            assert redelivered, f"{queue}: {number} was delivered before"
        if not queue.endswith("read") and number >= load.first_number:
            assert not redelivered, f"{queue}: {number} was never delivered"


@pytest.fixture
def facts(broker: DurableBroker) -> Iterator[dict[str, QueueFacts]]:
    client = RawClient(broker.host, broker.port)
    client.open()
    client.open_channel()

    def declare(method: Any, answer: type) -> None:
        client.send(method, 1)
        client.expect(answer)

    declare(spec.Exchange.Declare(exchange="fan", exchange_type="fanout", durable=True), spec.Exchange.DeclareOk)
    declare(spec.Exchange.Declare(exchange="direct", exchange_type="direct", durable=True), spec.Exchange.DeclareOk)
    for queue in QUEUES:
        declare(spec.Queue.Declare(queue=queue, durable=True), spec.Queue.DeclareOk)
    for (exchange, key), queues in ROUTES.items():
        for queue in queues if exchange else []:
            declare(spec.Queue.Bind(queue=queue, exchange=exchange, routing_key=key), spec.Queue.BindOk)
    yield {queue: QueueFacts() for queue in QUEUES}
    client.close()


@pytest.mark.timeout(30 + 20 * ROUNDS)
def test_nothing_confirmed_is_lost(broker: DurableBroker, facts: dict[str, QueueFacts]) -> None:
    chance = seeded(20240607)
    topology = broker.topology()
    first = 0
    confirmed = acked = 0
    for _ in range(ROUNDS):
        load = Load(broker, chance, facts, first, chance.randint(1, 3000))
        load.join()
        broker.kill()
        broker.start()
        assert broker.topology() == topology
        for queue, known in facts.items():
            found = read(broker, queue)
            check(queue, known, load, found)
            acked += len(known.acks_taken_in)
            known.begin_round([number for number, _ in found])
        first = load.next_number
        confirmed += len(load.confirmed)
    print(f"{confirmed} confirmed of {first} published, {acked} acknowledged")
    assert confirmed > 20 * ROUNDS
    assert acked > 10 * ROUNDS
    assert not broker.trouble_since(0)
