"""One way to talk to client libraries, each of which is used as its own tutorial does."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any, NamedTuple, Protocol

import aio_pika
import amqp
import amqpstorm
import kombu

WAIT_SECONDS = 15


class Received(NamedTuple):
    """`message` is the library's own."""

    body: bytes
    routing_key: str
    reply_to: str | None
    correlation_id: str | None
    message: Any


class Library(Protocol):
    """A connection with one channel."""

    def __init__(self, host: str, port: int, *, confirms: bool = False) -> None: ...

    def declare_exchange(self, name: str, kind: str) -> None: ...

    def declare_queue(self, name: str = "", *, durable: bool = False, exclusive: bool = False) -> str: ...

    def bind(self, queue: str, exchange: str, key: str = "") -> None: ...

    def prefetch(self, count: int) -> None: ...

    def publish(self, exchange: str, key: str, body: bytes, **properties: Any) -> None:
        """With confirms it returns when the message is confirmed."""

    def consume(self, queue: str, *, no_ack: bool = False) -> None: ...

    def next(self) -> Received: ...

    def ack(self, received: Received) -> None: ...

    def close(self) -> None: ...


def _octets(body: bytes | str) -> bytes:
    """Libraries take a body for text now and then."""
    return body if isinstance(body, bytes) else body.encode()


class PyAmqp:
    """amqp, which kombu and Celery are built upon."""

    def __init__(self, host: str, port: int, *, confirms: bool = False) -> None:
        self._connection = amqp.Connection(f"{host}:{port}", confirm_publish=confirms, connect_timeout=WAIT_SECONDS)
        self._connection.connect()
        self._channel = self._connection.channel()
        self._received: deque[Received] = deque()

    def declare_exchange(self, name: str, kind: str) -> None:
        self._channel.exchange_declare(name, kind, auto_delete=False)

    def declare_queue(self, name: str = "", *, durable: bool = False, exclusive: bool = False) -> str:
        return self._channel.queue_declare(name, durable=durable, exclusive=exclusive, auto_delete=False).queue

    def bind(self, queue: str, exchange: str, key: str = "") -> None:
        self._channel.queue_bind(queue, exchange, key)

    def prefetch(self, count: int) -> None:
        self._channel.basic_qos(0, count, False)

    def publish(self, exchange: str, key: str, body: bytes, **properties: Any) -> None:
        self._channel.basic_publish(amqp.Message(body, **properties), exchange, key, timeout=WAIT_SECONDS)

    def consume(self, queue: str, *, no_ack: bool = False) -> None:
        self._channel.basic_consume(queue, no_ack=no_ack, callback=self._take)

    def _take(self, message: Any) -> None:
        properties = message.properties
        self._received.append(
            Received(
                _octets(message.body),
                message.delivery_info["routing_key"],
                properties.get("reply_to"),
                properties.get("correlation_id"),
                message,
            )
        )

    def next(self) -> Received:
        while not self._received:
            self._connection.drain_events(timeout=WAIT_SECONDS)
        return self._received.popleft()

    def ack(self, received: Received) -> None:
        self._channel.basic_ack(received.message.delivery_tag)

    def close(self) -> None:
        self._connection.close()


class Kombu:
    """kombu with its AMQP transport."""

    def __init__(self, host: str, port: int, *, confirms: bool = False) -> None:
        options = {"confirm_publish": confirms}
        self._connection = kombu.Connection(f"amqp://guest:guest@{host}:{port}//", transport_options=options)
        self._channel = self._connection.channel()
        self._received: deque[Received] = deque()
        self._consumers: list[kombu.Consumer] = []

    def declare_exchange(self, name: str, kind: str) -> None:
        kombu.Exchange(name, kind, channel=self._channel, durable=False).declare()

    def declare_queue(self, name: str = "", *, durable: bool = False, exclusive: bool = False) -> str:
        queue = kombu.Queue(name, channel=self._channel, durable=durable, exclusive=exclusive, auto_delete=False)
        return queue.queue_declare().queue

    def bind(self, queue: str, exchange: str, key: str = "") -> None:
        kombu.Queue(queue, channel=self._channel).bind_to(exchange, key)

    def prefetch(self, count: int) -> None:
        self._channel.basic_qos(0, count, False)

    def publish(self, exchange: str, key: str, body: bytes, **properties: Any) -> None:
        kombu.Producer(self._channel).publish(
            body,
            exchange=exchange,
            routing_key=key,
            content_type="application/octet-stream",
            content_encoding="binary",
            **properties,
        )

    def consume(self, queue: str, *, no_ack: bool = False) -> None:
        consumer = kombu.Consumer(
            self._channel, [kombu.Queue(queue, no_declare=True)], no_ack=no_ack, on_message=self._take
        )
        consumer.consume()
        self._consumers.append(consumer)

    def _take(self, message: Any) -> None:
        properties = message.properties
        self._received.append(
            Received(
                _octets(message.body),
                message.delivery_info["routing_key"],
                properties.get("reply_to"),
                properties.get("correlation_id"),
                message,
            )
        )

    def next(self) -> Received:
        while not self._received:
            self._connection.drain_events(timeout=WAIT_SECONDS)
        return self._received.popleft()

    def ack(self, received: Received) -> None:
        received.message.ack()

    def close(self) -> None:
        self._connection.release()


class AmqpStorm:
    """amqpstorm, which reads in a thread of its own."""

    def __init__(self, host: str, port: int, *, confirms: bool = False) -> None:
        self._connection = amqpstorm.Connection(host, "guest", "guest", port=port, timeout=WAIT_SECONDS)
        self._channel = self._connection.channel()
        if confirms:
            self._channel.confirm_deliveries()
        self._received: deque[Received] = deque()

    def declare_exchange(self, name: str, kind: str) -> None:
        self._channel.exchange.declare(name, kind)

    def declare_queue(self, name: str = "", *, durable: bool = False, exclusive: bool = False) -> str:
        return self._channel.queue.declare(name, durable=durable, exclusive=exclusive)["queue"]

    def bind(self, queue: str, exchange: str, key: str = "") -> None:
        self._channel.queue.bind(queue, exchange, key)

    def prefetch(self, count: int) -> None:
        self._channel.basic.qos(count)

    def publish(self, exchange: str, key: str, body: bytes, **properties: Any) -> None:
        confirmed = self._channel.basic.publish(body, key, exchange, properties=properties)
        assert confirmed is not False

    def consume(self, queue: str, *, no_ack: bool = False) -> None:
        self._channel.basic.consume(self._take, queue, no_ack=no_ack)

    def _take(self, message: Any) -> None:
        self._received.append(
            Received(
                _octets(message.body),
                message.method["routing_key"],
                message.reply_to or None,
                message.correlation_id or None,
                message,
            )
        )

    def next(self) -> Received:
        if not self._received:
            for message in self._channel.build_inbound_messages(break_on_empty=False):
                self._take(message)
                break
        return self._received.popleft()

    def ack(self, received: Received) -> None:
        received.message.ack()

    def close(self) -> None:
        self._connection.close()


class AioPika:
    """aio-pika, its event loop run for one step after the other."""

    def __init__(self, host: str, port: int, *, confirms: bool = False) -> None:
        self._loop = asyncio.new_event_loop()
        self._connection = self._run(aio_pika.connect(f"amqp://guest:guest@{host}:{port}/"))
        self._channel = self._run(self._open_channel(confirms))
        self._queues: dict[str, Any] = {}
        self._exchanges: dict[str, Any] = {"": self._channel.default_exchange}
        self._received: asyncio.Queue[Any] = asyncio.Queue()

    async def _open_channel(self, confirms: bool) -> Any:
        return await self._connection.channel(publisher_confirms=confirms)

    def _run(self, step: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(asyncio.wait_for(step, WAIT_SECONDS))

    def declare_exchange(self, name: str, kind: str) -> None:
        self._exchanges[name] = self._run(self._channel.declare_exchange(name, kind))

    def declare_queue(self, name: str = "", *, durable: bool = False, exclusive: bool = False) -> str:
        queue = self._run(self._channel.declare_queue(name or None, durable=durable, exclusive=exclusive))
        self._queues[queue.name] = queue
        return queue.name

    def bind(self, queue: str, exchange: str, key: str = "") -> None:
        self._run(self._queues[queue].bind(exchange, key))

    def prefetch(self, count: int) -> None:
        self._run(self._channel.set_qos(prefetch_count=count))

    def publish(self, exchange: str, key: str, body: bytes, **properties: Any) -> None:
        self._run(self._exchanges[exchange].publish(aio_pika.Message(body, **properties), key, mandatory=False))

    def consume(self, queue: str, *, no_ack: bool = False) -> None:
        if queue not in self._queues:
            self._queues[queue] = self._run(self._channel.get_queue(queue))
        self._run(self._queues[queue].consume(self._received.put, no_ack=no_ack))

    def next(self) -> Received:
        message = self._run(self._received.get())
        return Received(message.body, message.routing_key, message.reply_to, message.correlation_id, message)

    def ack(self, received: Received) -> None:
        self._run(received.message.ack())

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self._run(self._connection.close())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


LIBRARIES: list[type[Library]] = [PyAmqp, Kombu, AmqpStorm, AioPika]
