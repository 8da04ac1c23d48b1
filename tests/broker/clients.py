"""What tests do with pika."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

WAIT_SECONDS = 15
NOT_FOUND = 404


class Delivery(NamedTuple):
    """What a consumer got."""

    body: bytes
    tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    consumer_tag: str
    properties: Any


class Inbox:
    """A consumer that keeps what it gets."""

    def __init__(self, channel: BlockingChannel, queue: str, **options: Any) -> None:
        self.deliveries: list[Delivery] = []
        self._channel = channel
        self._queue = queue
        self.tag = channel.basic_consume(queue, self._take, **options)

    def _take(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self.deliveries.append(
            Delivery(
                body,
                method.delivery_tag,
                method.redelivered,
                method.exchange,
                method.routing_key,
                method.consumer_tag,
                properties,
            )
        )

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self.deliveries]

    def wait(self, count: int) -> list[Delivery]:
        """Wait until there are `count` deliveries at least."""
        wait_until(self._channel, lambda: len(self.deliveries) >= count, lambda: f"{self.bodies!r:.300}")
        return self.deliveries

    def all(self) -> list[bytes]:
        """The bodies after everything that the queue had to deliver by now is here."""
        self._channel.queue_declare(self._queue, passive=True)  # its answer comes behind the deliveries
        self._channel.connection.process_data_events(time_limit=0)
        return self.bodies


def wait_until(channel: BlockingChannel, condition: Any, describe: Any = lambda: "") -> None:
    """Let pika work until the condition holds."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {describe()}"
        channel.connection.process_data_events(time_limit=0.2)


@contextmanager
def channel_error(code: int, text: str | None = None) -> Iterator[None]:
    """The broker closes the channel with this reply code and text."""
    with pytest.raises(ChannelClosedByBroker) as caught:
        yield
    assert caught.value.reply_code == code
    assert text is None or caught.value.reply_text == _short(text)


@contextmanager
def connection_error(code: int, text: str) -> Iterator[None]:
    """The broker closes the connection with this reply code and text."""
    with pytest.raises(ConnectionClosedByBroker) as caught:
        yield
    assert (caught.value.reply_code, caught.value.reply_text) == (code, _short(text))


def refusal(connection: BlockingConnection, operate: Callable[[BlockingChannel], object]) -> int:
    """The reply code with which the broker closes a channel that does this; 0 if it lets it."""
    channel = connection.channel()
    try:
        operate(channel)
    except ChannelClosedByBroker as error:
        return int(error.reply_code)
    channel.close()
    return 0


def exists(channel: BlockingChannel, queue: str) -> bool:
    """Whether there is this queue; the channel itself comes to no harm."""
    return refusal(channel.connection, lambda probe: probe.queue_declare(queue, passive=True)) != NOT_FOUND


def _short(text: str) -> str:
    """A reply text is a short string: what does not fit is left out."""
    return text if len(text) <= 255 else text[:252] + "..."


def round_trip(channel: BlockingChannel) -> None:
    """Return when the broker has done all that this channel asked for; raises what it had against it."""
    channel.basic_qos(prefetch_count=0)


def depth(channel: BlockingChannel, queue: str) -> int:
    """How many messages are ready."""
    return int(channel.queue_declare(queue, passive=True).method.message_count)


def get(channel: BlockingChannel, queue: str, *, auto_ack: bool = True) -> bytes | None:
    """The body of the first message."""
    return channel.basic_get(queue, auto_ack=auto_ack)[2]


def get_all(channel: BlockingChannel, queue: str) -> list[bytes]:
    """Empty the queue."""
    bodies = []
    while (body := get(channel, queue)) is not None:
        bodies.append(body)
    return bodies


def publish(channel: BlockingChannel, queue: str, *bodies: bytes) -> None:
    """By the default exchange."""
    for body in bodies:
        channel.basic_publish("", queue, body)


def persistent(**properties: Any) -> pika.BasicProperties:
    """Properties of a message that outlives the broker."""
    return pika.BasicProperties(delivery_mode=2, **properties)


def put(channel: BlockingChannel, queue: str, *bodies: bytes) -> None:
    """Publish, and wait until they are in the queue, where other connections see them too."""
    publish(channel, queue, *bodies)
    wait_until(channel, lambda: depth(channel, queue) >= len(bodies))
