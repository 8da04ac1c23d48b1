"""Clients that do with a broker all that stores something, at once, and note what they know of it: see `facts`."""

from __future__ import annotations

import random
import signal
from collections import deque
from contextlib import suppress
from typing import Any

import gevent
from actors.harness import wait_until
from broker.raw import RawClient
from crash.durable_broker import DurableBroker, number_of, read
from crash.facts import Facts, Found, Topology, Transaction
from gevent.event import Event
from pamqp import commands as spec

WINDOW = 100
PREFETCH = 60
ACKS_BETWEEN_BARRIERS = 7
PUBLISHERS = 2
MOVERS = 2
LONGEST_TO_LIVE_MS = 30

TOPOLOGY = Topology(
    routes={
        ("fan", ""): ["fan-read", "fan-kept"],
        ("direct", "read"): ["direct-read"],
        ("direct", "both"): ["direct-read", "direct-kept"],
        ("", "rejecting"): ["rejecting"],
        ("", "expiring"): ["expiring"],
        ("", "short"): ["short"],
        ("", "source"): ["source"],
    },
    kept={"fan-kept", "direct-kept", "dead-kept"},
    dead_lettering={"rejecting", "expiring", "short"},
    dying={"expiring", "short"},
    dead=["dead-read", "dead-kept"],
)
READ = ["fan-read", "direct-read", "rejecting", "dead-read"]
ARGUMENTS: dict[str, dict[str, Any]] = {
    "rejecting": {"x-dead-letter-exchange": "dead"},
    "expiring": {"x-dead-letter-exchange": "dead", "x-message-ttl": LONGEST_TO_LIVE_MS},
    "short": {"x-dead-letter-exchange": "dead", "x-max-length": 20},
}


class Client(RawClient):
    """With channel 1 open."""

    def __init__(self, broker: DurableBroker, **login: Any) -> None:
        super().__init__(broker.host, broker.port)
        self.open(**login)
        self.open_channel()

    def call(self, method: Any, answer: type | tuple[type, ...]) -> Any:
        self.send(method, 1)
        return self.expect(answer)

    def publish_number(self, number: int, queue: str, exchange: str = "", size: int = 0) -> None:
        persistent = spec.Basic.Properties(delivery_mode=2)
        self.publish(1, queue, b"%d" % number + b"." * size, exchange=exchange, properties=persistent)


def declare(broker: DurableBroker) -> None:
    """Make the topology."""
    client = Client(broker)
    for name, kind in (("fan", "fanout"), ("direct", "direct"), ("dead", "fanout")):
        client.call(spec.Exchange.Declare(exchange=name, exchange_type=kind, durable=True), spec.Exchange.DeclareOk)
    for queue in TOPOLOGY.queues:
        arguments = ARGUMENTS.get(queue, {})
        client.call(spec.Queue.Declare(queue=queue, durable=True, arguments=arguments), spec.Queue.DeclareOk)
    bindings = [(exchange, key, queue) for (exchange, key), queues in TOPOLOGY.routes.items() for queue in queues]
    bindings += [("dead", "", queue) for queue in TOPOLOGY.dead]
    for exchange, key, queue in bindings:
        if exchange:
            client.call(spec.Queue.Bind(queue=queue, exchange=exchange, routing_key=key), spec.Queue.BindOk)
    client.close()


def choose(chance: random.Random) -> tuple[str, str, list[str], int]:
    """Exchange, routing key, the queues behind it, and how much longer than its number a message shall be."""
    (exchange, key), queues = chance.choice(list(TOPOLOGY.routes.items()))
    return exchange, key, queues, chance.choice([0, 0, 0, 100, 5000])


class Load:
    """All the clients, until so many confirms have come: then the broker is killed at once.

    What should not have been confirmed yet is lost then.
    """

    def __init__(self, broker: DurableBroker, chance: random.Random, facts: Facts, confirms: int) -> None:
        self._broker = broker
        self._chance = chance
        self._facts = facts
        self._confirms = confirms
        self._greenlets: list[gevent.Greenlet[..., None]] = [gevent.spawn(self._publish) for _ in range(PUBLISHERS)]
        self._greenlets += [gevent.spawn(self._consume, queue) for queue in READ]
        self._greenlets += [gevent.spawn(self._move) for _ in range(MOVERS)]

    def join(self) -> None:
        """Wait until everybody has seen the end of the broker."""
        joined = 0
        while joined < len(self._greenlets):  # publishers begin some more
            some = self._greenlets[joined:]
            joined += len(some)
            gevent.joinall(some, timeout=20, raise_error=True)
        assert all(greenlet.dead for greenlet in self._greenlets)

    def _publish(self) -> None:
        with suppress(OSError, EOFError):
            client = Client(self._broker)
            client.call(spec.Confirm.Select(), spec.Confirm.SelectOk)
            open_: dict[int, int] = {}  # confirm number to message
            has_room = Event()
            self._greenlets.append(gevent.spawn(self._take_confirms, client, open_, has_room))
            confirm_number = 0
            while True:
                while len(open_) >= WINDOW:
                    has_room.clear()
                    has_room.wait(10)
                exchange, key, queues, size = choose(self._chance)
                number = self._facts.new_number()
                confirm_number += 1
                open_[confirm_number] = number
                self._facts.publish(number, queues, client)
                client.publish_number(number, key, exchange, size)

    def _take_confirms(self, client: Client, open_: dict[int, int], has_room: Event) -> None:
        with suppress(OSError, EOFError):
            while True:
                ack = client.expect(spec.Basic.Ack)
                tags = [tag for tag in open_ if tag <= ack.delivery_tag] if ack.multiple else [ack.delivery_tag]
                self._facts.confirm([open_.pop(tag) for tag in tags])
                if len(self._facts.confirmed) >= self._confirms:
                    self._broker.send_signal(signal.SIGKILL)
                has_room.set()
        open_.clear()
        has_room.set()

    def _consume(self, queue: str) -> None:
        with suppress(OSError, EOFError):
            while True:
                self._consume_for_a_while(queue)

    def _consume_for_a_while(self, queue: str) -> None:
        """Sooner or later it hangs up, and all that it has not settled is requeued."""
        facts, client = self._facts, Client(self._broker)
        client.send(spec.Basic.Qos(prefetch_count=PREFETCH), 1)
        client.send(spec.Basic.Consume(queue=queue), 1)
        acked: list[int] = []
        waiting: list[list[int]] = []
        while True:
            _, frame = client.receive()
            if isinstance(frame, spec.Queue.DeclareOk):
                facts.take_in(queue, waiting.pop(0))
            if not isinstance(frame, spec.Basic.Deliver):
                continue
            number = number_of(client.content())
            facts.deliver(queue, number, frame.redelivered)
            tag, fate = frame.delivery_tag or 0, self._chance.random()
            if fate < 0.002:
                client.close()
                return
            if fate < 0.85:
                facts.ack(queue, number)
                acked.append(number)
                client.send(spec.Basic.Ack(tag), 1)
            elif fate < 0.93:
                client.send(spec.Basic.Nack(tag, requeue=True), 1)
            elif fate < 0.98 and queue in TOPOLOGY.dead_lettering:
                facts.reject(queue, number)
                client.send(spec.Basic.Reject(tag, requeue=False), 1)
            if len(acked) >= ACKS_BETWEEN_BARRIERS:
                client.send(spec.Queue.Declare(queue=queue, passive=True), 1)
                waiting.append(acked)
                acked = []

    def _move(self) -> None:
        with suppress(OSError, EOFError):
            Mover(self._broker, self._facts, self._chance).run()


class Mover(Client):
    """Takes a message, and publishes another one or two for it, in one transaction, again and again."""

    def __init__(self, broker: DurableBroker, facts: Facts, chance: random.Random) -> None:
        super().__init__(broker)
        self._facts = facts
        self._chance = chance
        self._delivered: deque[tuple[int, int]] = deque()  # number and delivery tag

    def run(self) -> None:
        self.call(spec.Tx.Select(), spec.Tx.SelectOk)
        self.call(spec.Basic.Qos(prefetch_count=1), spec.Basic.QosOk)
        self.call(spec.Basic.Consume(queue="source"), spec.Basic.ConsumeOk)
        while True:
            while not self._delivered:
                self._take(self.receive()[1])
            number, tag = self._delivered.popleft()
            while not self._transact(number, tag):
                pass

    def _take(self, frame: Any) -> None:
        assert isinstance(frame, spec.Basic.Deliver), frame
        number = number_of(self.content())
        self._facts.deliver("source", number, frame.redelivered)
        self._delivered.append((number, frame.delivery_tag or 0))

    def _end(self, method: Any, answer: type) -> None:
        """What is acknowledged makes room, so the next delivery may come before the answer."""
        self.send(method, 1)
        while not isinstance(frame := self.receive()[1], answer):
            self._take(frame)

    def _transact(self, number: int, tag: int) -> bool:
        """Whether it was committed."""
        transaction = Transaction(self, acked=[("source", number)])
        self.send(spec.Basic.Ack(tag), 1)
        for _ in range(self._chance.choice([1, 2])):
            exchange, key, queues, size = choose(self._chance)
            published = self._facts.new_number()
            transaction.published.append((published, queues))
            self.publish_number(published, key, exchange, size)
        if self._chance.random() < 0.15:
            self._end(spec.Tx.Rollback(), spec.Tx.RollbackOk)
            return False
        self._facts.commit(transaction)
        self._end(spec.Tx.Commit(), spec.Tx.CommitOk)
        self._facts.committed(transaction)
        return True


def all_that_is_there(broker: DurableBroker, facts: Facts) -> Found:
    """What is in the queues once all that dies is with the dead.

    Of what expires that is so when a message has come there that expires last; a queue that is too long says so.
    """
    last = facts.new_number()
    client = Client(broker)
    client.call(spec.Basic.Consume(queue="dead-read"), spec.Basic.ConsumeOk)
    facts.publish(last, ["expiring"], client)
    client.publish_number(last, "expiring")
    number = 0
    while number != last:
        client.expect(spec.Basic.Deliver)
        number = number_of(client.content())
    client.close()
    wait_until(lambda: not _has_dying(broker), lambda: broker.api("queues"))
    return {queue: read(broker, queue) for queue in TOPOLOGY.queues}


def _has_dying(broker: DurableBroker) -> bool:
    rows = {row["name"]: row for row in broker.api("queues")}
    most: int = ARGUMENTS["short"]["x-max-length"]
    return rows["short"]["messages_ready"] > most or any(row["messages_dying"] for row in rows.values())
