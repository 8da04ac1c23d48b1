"""Which queues and keys the clients of a load have, and what is declared for that: as PerfTest does it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from dispatchd.amqp.methods import (
    ExchangeDeclare,
    ExchangeDeclareOk,
    QueueBind,
    QueueBindOk,
    QueueDeclare,
    QueueDeclareOk,
)

if TYPE_CHECKING:
    from dispatchd.perf.client import Client
    from dispatchd.perf.options import Load


class Topology:
    """Of named queues every consumer takes, and every producer publishes with one key to all of them.

    Of those of a pattern each client has one, in turn, and publishes with its name. Without either, each consumer
    has a queue of its own, and all of them get everything.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self.queues = load.queue
        if load.queue_pattern is not None:
            assert load.queue_pattern_from is not None
            assert load.queue_pattern_to is not None
            numbers = range(load.queue_pattern_from, load.queue_pattern_to + 1)
            self.queues = tuple(load.queue_pattern % number for number in numbers)
        self._in_turn = load.queue_pattern is not None
        self._key = load.routing_key
        if self._key is None and not self._in_turn:
            self._key = str(uuid.uuid4()) if load.exchange else self.queues[0] if self.queues else ""

    def routing_key(self, producer: int) -> str:
        """What producer number `producer` publishes with."""
        return self.queues[producer % len(self.queues)] if self._key is None else self._key

    def declare(self, client: Client) -> None:
        """Declare what all clients share, or see that it is there. Raises PerfError."""
        load = self._load
        if load.exchange and not load.exchange.startswith("amq."):
            passive = load.predeclared
            client.call(ExchangeDeclare(load.exchange, load.type, passive=passive, durable=True), ExchangeDeclareOk)
        for queue in self.queues:
            self._declare_queue(client, queue)

    def queues_of(self, consumer: int, client: Client) -> tuple[str, ...]:
        """What consumer number `consumer` takes from; declared now if it is its own."""
        if not self.queues:
            return (self._declare_queue(client, ""),)
        return (self.queues[consumer % len(self.queues)],) if self._in_turn else self.queues

    def _declare_queue(self, client: Client, name: str) -> str:
        load = self._load
        if load.predeclared:
            client.call(QueueDeclare(name, passive=True), QueueDeclareOk)
            return name
        wanted = QueueDeclare(
            name, durable=load.persistent, auto_delete=load.auto_delete, arguments=dict(load.queue_args)
        )
        queue = client.call(wanted, QueueDeclareOk).queue
        if load.exchange:
            client.call(QueueBind(queue, load.exchange, queue if self._key is None else self._key), QueueBindOk)
        return queue
