"""SIGKILL at random moments while clients move messages in transactions: all of each is there afterwards, or nothing.

Every transaction takes a message from one queue and publishes its number to two others, the way to one of which may be
long: the parts of a transaction come to persistence one after the other, while others have their commits. A consumer
takes some of what is published from one queue and acknowledges it, perhaps before the transaction is on disk. After
each restart, for each transaction:

- Its message is in the queue that nobody reads if, and only if, the message that it acknowledged is gone.
- Its message is in the queue that is read too, unless an ack was sent for it.
- If its tx.commit was answered, it is there. If it was rolled back, or not to be committed yet, it is not.
"""

from __future__ import annotations

import random
import signal
from contextlib import suppress
from itertools import pairwise

import gevent
import pytest
from crash.durable_broker import DurableBroker, number_of, read
from crash.load import Client
from pamqp import commands as spec
from soak import cases, seeded

ROUNDS = cases(4, 80)
CLIENTS = 4
MESSAGES = 600
QUEUES = ["source", "kept", "read"]
WAY = [f"way-{number}" for number in range(40)]
LONGEST_DELAY = 0.004
"""Seconds between the last answer that is waited for and the kill."""


def prepare(broker: DurableBroker) -> None:
    """Empty queues, and messages to take."""
    client = Client(broker)
    for exchange in ["both", *WAY]:
        client.call(
            spec.Exchange.Declare(exchange=exchange, exchange_type="fanout", durable=True), spec.Exchange.DeclareOk
        )
    for source, destination in pairwise(WAY):
        client.call(spec.Exchange.Bind(destination=destination, source=source), spec.Exchange.BindOk)
    client.call(spec.Queue.Declare(queue="busy", durable=True), spec.Queue.DeclareOk)
    for queue in QUEUES:
        client.call(spec.Queue.Declare(queue=queue, durable=True), spec.Queue.DeclareOk)
        client.call(spec.Queue.Purge(queue=queue), spec.Queue.PurgeOk)
    for queue in QUEUES[1:]:
        client.call(spec.Queue.Bind(queue=queue, exchange="both"), spec.Queue.BindOk)
    client.call(spec.Queue.Bind(queue="read", exchange=WAY[-1]), spec.Queue.BindOk)
    client.call(spec.Tx.Select(), spec.Tx.SelectOk)
    for number in range(MESSAGES):
        client.publish_number(number, "source")
    client.call(spec.Tx.Commit(), spec.Tx.CommitOk)
    client.close()


class Load:
    """Clients that work until so many commits were answered; a little later the broker is killed."""

    def __init__(self, broker: DurableBroker, chance: random.Random, first: int, commits: int) -> None:
        self.next_number = first
        self.begun: dict[int, int] = {}  # number of a transaction to that of the message it takes
        self.open: dict[int, int] = {}  # likewise, while it must not be there
        self.answered: set[int] = set()
        self.ack_sent: set[int] = set()
        self._broker = broker
        self._chance = chance
        self._commits = commits
        self._greenlets = [gevent.spawn(self._move) for _ in range(CLIENTS)]
        self._greenlets += [gevent.spawn(self._read), gevent.spawn(self._keep_busy)]

    def join(self) -> None:
        gevent.joinall(self._greenlets, timeout=20, raise_error=True)
        assert all(greenlet.dead for greenlet in self._greenlets)

    def _move(self) -> None:
        with suppress(OSError, EOFError):
            client = Client(self._broker)
            client.call(spec.Tx.Select(), spec.Tx.SelectOk)
            while True:
                self._transact(client)

    def _transact(self, client: Client) -> None:
        tag = client.call(spec.Basic.Get(queue="source"), spec.Basic.GetOk).delivery_tag
        taken = number_of(client.content())
        number = self.next_number
        self.next_number += 1
        self.open[number] = taken
        size = self._chance.choice([0, 0, 5000])
        client.send(spec.Basic.Ack(tag), 1)
        if self._chance.random() < 0.3:
            client.publish_number(number, "", "both", size)
        else:
            client.publish_number(number, "kept", size=size)
            client.publish_number(number, "", WAY[0], size)
        if self._chance.random() < 0.1:
            client.call(spec.Tx.Rollback(), spec.Tx.RollbackOk)
            return
        self.begun[number] = self.open.pop(number)
        client.call(spec.Tx.Commit(), spec.Tx.CommitOk)
        self.answered.add(number)
        if len(self.answered) == self._commits:
            gevent.sleep(self._chance.uniform(0, LONGEST_DELAY))
            self._broker.send_signal(signal.SIGKILL)

    def _read(self) -> None:
        with suppress(OSError, EOFError):
            client = Client(self._broker)
            client.call(spec.Basic.Consume(queue="read"), spec.Basic.ConsumeOk)
            while True:
                tag = client.expect(spec.Basic.Deliver).delivery_tag
                number = number_of(client.content())
                if self._chance.random() < 0.5:
                    self.ack_sent.add(number)
                    client.send(spec.Basic.Ack(tag), 1)

    def _keep_busy(self) -> None:
        with suppress(OSError, EOFError):
            client = Client(self._broker)
            client.call(spec.Confirm.Select(), spec.Confirm.SelectOk)
            while True:
                client.publish_number(0, "busy")
                client.expect(spec.Basic.Ack)


def check(load: Load, found: dict[str, list[int]]) -> int:
    """Returns how many are there that were not answered."""
    source, kept, seen = (set(found[queue]) for queue in QUEUES)
    for numbers in found.values():
        assert len(numbers) == len(set(numbers)), "something is there twice"
    assert kept | seen <= load.begun.keys(), "not committed, and there"
    assert set(load.open.values()) <= source, "not committed, and its ack counted"
    for number, taken in load.begun.items():
        assert (number in kept) != (taken in source), f"{number}: a publish without the ack, or the other way round"
        if number not in load.ack_sent:
            assert (number in kept) == (number in seen), f"{number}: in one queue and not in the other"
        elif number in seen:
            assert number in kept, f"{number}: in one queue and not in the other"
    assert load.answered <= kept, "answered, and lost"
    return len(kept - load.answered)


@pytest.mark.timeout(60 + 20 * ROUNDS)
def test_all_or_nothing_of_a_transaction(broker: DurableBroker) -> None:
    chance = seeded(20240612)
    first = MESSAGES
    answered = unanswered = stored = 0
    for _ in range(ROUNDS):
        prepare(broker)
        load = Load(broker, chance, first, chance.randint(1, 100))
        load.join()
        broker.kill()
        broker.start()
        stored += check(load, {queue: [number for number, _ in read(broker, queue)] for queue in QUEUES})
        first = load.next_number
        answered += len(load.answered)
        unanswered += len(load.begun) - len(load.answered)
    print(f"{answered} answered; of {unanswered} that were not, {stored} are there")
    assert answered > 5 * ROUNDS
    assert unanswered > 0
    assert not broker.trouble_since(0)
