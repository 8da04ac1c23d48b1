"""A bit of everything that the management counts, and what it says of that then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pika
from broker.admin import SECONDS, api
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection

BODY = b"0123456789"
STAMP = 1_700_000_000
COUNTED = (
    "publish", "confirm", "return_unroutable", "drop_unroutable", "deliver", "deliver_no_ack", "deliver_get", "get",
    "get_no_ack", "get_empty", "ack", "redeliver",
)  # fmt: skip


def send(connection: BlockingConnection) -> None:
    """Traffic in one vhost: the channel's number says what it is for. What has consumers keeps them."""
    getting, confirming, publishing, consuming, taking, committing = (connection.channel() for _ in range(6))
    getting.queue_declare("stats", durable=True)
    getting.queue_declare("empty")
    getting.queue_declare("taken")
    confirming.confirm_delivery()
    for _ in range(3):
        confirming.basic_publish("", "stats", BODY, pika.BasicProperties(delivery_mode=2, timestamp=STAMP))
    publishing.basic_publish("", "nowhere", BODY)
    publishing.basic_publish("", "nowhere", BODY, mandatory=True)
    publishing.basic_publish("amq.fanout", "nowhere", BODY)
    for _ in range(5):
        publishing.basic_publish("", "stats", BODY)
    publishing.queue_declare("stats", passive=True)  # all that was published is there then
    method, _, _ = getting.basic_get("stats")
    getting.basic_ack(method.delivery_tag)
    method, _, _ = getting.basic_get("stats")
    getting.basic_nack(method.delivery_tag, requeue=False)
    method, _, _ = getting.basic_get("stats")
    getting.basic_nack(method.delivery_tag, requeue=True)
    getting.basic_get("stats", auto_ack=True)
    getting.basic_get("empty")
    arrived: list[Any] = []
    consuming.basic_qos(prefetch_count=1)
    consuming.basic_consume("stats", lambda *got: arrived.append(got), consumer_tag="slow")
    taking.basic_consume("taken", lambda *got: arrived.append(got), auto_ack=True, consumer_tag="quick")
    publishing.basic_publish("", "taken", BODY)
    while len(arrived) < 2:
        connection.process_data_events(1)
    committing.tx_select()
    committing.basic_publish("", "stats", BODY)
    committing.queue_declare("stats", passive=True)


def persistent_steps(channel: BlockingChannel, durable: str, brief: str) -> Iterator[None]:
    """Messages of both kinds in a durable queue and in another one, which leave them in different ways."""
    channel.queue_declare(durable, durable=True)
    channel.queue_declare(brief)
    for mode in (2, 1, 2, 2, 1, 2):
        for name in (durable, brief):
            channel.basic_publish("", name, BODY, pika.BasicProperties(delivery_mode=mode))
    channel.queue_declare(durable, passive=True)
    first, _, _ = channel.basic_get(durable)
    yield
    channel.basic_ack(first.delivery_tag)
    second, _, _ = channel.basic_get(durable)
    channel.basic_nack(second.delivery_tag, requeue=True)
    channel.queue_declare(durable, passive=True)
    yield
    for _ in range(2):
        channel.basic_get(durable, auto_ack=True)
    last, _, _ = channel.basic_get(durable)
    channel.basic_reject(last.delivery_tag, requeue=False)
    channel.queue_declare(durable, passive=True)
    yield
    channel.queue_purge(durable)
    channel.queue_purge(brief)
    yield


def counted(row: Any) -> dict[str, int]:
    """What a row's message_stats count; RabbitMQ leaves out what was never counted."""
    return {name: count for name in COUNTED if (count := row.get("message_stats", {}).get(name, 0))}


def until(broker: Any, path: str, what: Any, wanted: Any, user: str = "guest") -> Any:
    """Ask until `what` is seen in the answer: figures are a second old at most, RabbitMQ's five. Returns the answer."""
    end = time.monotonic() + SECONDS
    while True:
        status, told = api(broker, "GET", path, user=user, password=user)
        assert status == 200
        if (found := what(told)) == wanted:
            return told
        assert time.monotonic() < end, found
        time.sleep(0.05)
