"""What clients do with a broker day by day: they connect, declare, publish, consume, delete, and go in many ways.

Whatever a session makes is gone when it has ended.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

import pika
from broker.libraries import AmqpStorm, Kombu, Library, PyAmqp
from broker.raw import RawClient
from crash.durable_broker import DurableBroker
from pamqp import commands as spec
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import ChannelClosedByBroker, NackError, UnroutableError

LIBRARIES: list[type[Library]] = [PyAmqp, Kombu, AmqpStorm]
KINDS = ["direct", "fanout", "topic", "headers", "x-consistent-hash", "x-delayed-message"]
ARGUMENTS: list[dict[str, Any]] = [
    {},
    {"x-queue-mode": "lazy"},
    {"x-max-priority": 5},
    {"x-message-ttl": 20, "x-dead-letter-exchange": "amq.fanout"},
    {"x-max-length": 10, "x-overflow": "reject-publish"},
    {"x-max-length": 10, "x-dead-letter-exchange": "amq.direct", "x-dead-letter-routing-key": "dead"},
    {"x-single-active-consumer": True},
    {"x-expires": 60_000},
    {"x-message-deduplication": True, "x-cache-size": 100},
]
SIZES = [0, 10, 10, 1000, 1000, 20_000, 300_000]
MOST_MESSAGES = 40
BACKLOG = 1500

_numbers = count()


class Session:
    """One, by chance of one kind or another, with names that no other has."""

    def __init__(self, broker: DurableBroker, chance: random.Random) -> None:
        self._broker = broker
        self._chance = chance
        self._name = f"session-{next(_numbers)}"

    def run(self) -> None:
        kinds: list[Callable[[], None]] = [self._follow_a_tutorial, self._use_much, self._hang_up, self.leave_memory]
        self._chance.choices(kinds, weights=[10, 20, 10, 1])[0]()

    def _body(self) -> bytes:
        return b"x" * self._chance.choice(SIZES)

    def _follow_a_tutorial(self) -> None:
        """With the library of somebody's choice."""
        library = self._chance.choice(LIBRARIES)(self._broker.host, self._broker.port, confirms=True)
        queue = library.declare_queue(self._name, exclusive=True)
        library.bind(queue, "amq.topic", f"{self._name}.#")
        library.prefetch(5)
        library.consume(queue)
        messages = self._chance.randint(1, MOST_MESSAGES)
        for _ in range(messages):
            library.publish("amq.topic", f"{self._name}.key", self._body(), delivery_mode=2)
        for _ in range(messages):
            library.ack(library.next())
        library.close()

    def _hang_up(self) -> None:
        """Without a word, in the middle of everything."""
        client = RawClient(self._broker.host, self._broker.port)
        client.open()
        client.open_channel()
        client.send(spec.Queue.Declare(queue=self._name, exclusive=True), 1)
        client.expect(spec.Queue.DeclareOk)
        client.send(spec.Basic.Consume(queue=self._name), 1)
        client.expect(spec.Basic.ConsumeOk)
        for _ in range(self._chance.randint(0, MOST_MESSAGES)):
            client.publish(1, self._name, self._body()[:100_000])
        client.close()

    def leave_memory(self) -> None:
        """A backlog of persistent messages and others that goes to disk and comes back."""
        connection = BlockingConnection(pika.ConnectionParameters(self._broker.host, self._broker.port))
        channel = connection.channel()
        channel.queue_declare(self._name, durable=True, arguments={"x-queue-mode": "lazy"})
        for number in range(BACKLOG):
            properties = pika.BasicProperties(delivery_mode=1 + number % 2)
            channel.basic_publish("", self._name, b"%d" % number, properties)
        for number, (method, _, body) in enumerate(channel.consume(self._name)):
            assert int(body) == number
            channel.basic_ack(method.delivery_tag)
            if number == BACKLOG - 1:
                break
        channel.queue_delete(self._name)
        connection.close()

    def _use_much(self) -> None:
        """Several channels, durable things, acks of all kinds, transactions, mistakes."""
        connection = BlockingConnection(pika.ConnectionParameters(self._broker.host, self._broker.port))
        channel = connection.channel()
        kind = self._chance.choice(KINDS)
        arguments = {"x-delayed-type": "direct"} if kind == "x-delayed-message" else {}
        channel.exchange_declare(self._name, kind, durable=self._chance.random() < 0.5, arguments=arguments)
        channel.queue_declare(self._name, durable=True, arguments=self._chance.choice(ARGUMENTS))
        channel.queue_bind(self._name, self._name, "1")
        for _ in range(self._chance.randint(1, 3)):
            self._work(connection)
        channel.queue_delete(self._name)
        channel.exchange_delete(self._name)
        connection.close()

    def _work(self, connection: BlockingConnection) -> None:
        channel = connection.channel()
        mode = self._chance.choice([channel.confirm_delivery, channel.tx_select, None])
        if mode is not None:
            mode()
        with suppress(ChannelClosedByBroker):  # a transaction with a publish that a full queue has refused
            self._publish_some(channel)
            if mode == channel.tx_select:
                self._chance.choice([channel.tx_commit, channel.tx_rollback])()
            self._consume(channel)
            if mode == channel.tx_select:
                channel.tx_commit()
            self._part(channel)

    def _consume(self, channel: BlockingChannel) -> None:
        channel.basic_qos(prefetch_count=self._chance.choice([0, 1, 10]))
        for method, _, _ in channel.consume(self._name, inactivity_timeout=0.02):
            if method is None:
                break
            self._settle(channel, method.delivery_tag)
        channel.cancel()

    def _publish_some(self, channel: BlockingChannel) -> None:
        for _ in range(self._chance.randint(0, MOST_MESSAGES)):
            exchange, key = self._chance.choice([(self._name, "1"), (self._name, "1"), ("", self._name)])
            properties = pika.BasicProperties(
                delivery_mode=self._chance.choice([1, 2]),
                priority=self._chance.randrange(8),
                headers={"x-delay": 1, "x-deduplication-header": self._chance.randrange(50)},
            )
            with suppress(UnroutableError, NackError):
                channel.basic_publish(exchange, key, self._body(), properties, mandatory=self._chance.random() < 0.2)

    def _settle(self, channel: BlockingChannel, tag: int) -> None:
        fate = self._chance.random()
        if fate < 0.7:
            channel.basic_ack(tag)
        elif fate < 0.8:
            channel.basic_nack(tag, requeue=True)
        elif fate < 0.9:
            channel.basic_reject(tag, requeue=False)

    def _part(self, channel: BlockingChannel) -> None:
        """Close the channel, leave it open, or do what closes it."""
        end = self._chance.choice(["close", "leave", "mistake"])
        if end == "close":
            channel.close()
        elif end == "mistake":
            with suppress(ChannelClosedByBroker):
                channel.queue_declare("missing", passive=True)
