"""Kombu's native delayed delivery: 28 exchanges bound in a row, and queues of 1, 2, 4 ... seconds' time to live.

A message has the bits of its delay in its routing key, and dies its way down, from queue to queue.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from compat.celery.conftest import Broker, StartWorker, client_of, url_of
from compat.celery.worker import SECONDS, Worker
from kombu import Connection, Exchange, Queue
from kombu.transport.native_delayed_delivery import (
    bind_queue_to_native_delayed_delivery_exchange,
    calculate_routing_key,
    declare_native_delayed_delivery_exchanges_and_queues,
)

FIRST = "celery_delayed_27"


@pytest.fixture
def connection(broker: Broker) -> Iterator[Connection]:
    with Connection(url_of(broker)) as connection:
        declare_native_delayed_delivery_exchanges_and_queues(connection, "classic")
        yield connection


@pytest.fixture(scope="module")
def app(broker: Broker) -> Iterator[Celery]:
    with client_of(url_of(broker), "delays", delays_in_broker=True) as app:
        yield app


@pytest.fixture(scope="module")
def worker(start_worker: StartWorker) -> Worker:
    return start_worker("delays", "-P", "solo", queues="videos,sounds").wait_until_ready()


def test_messages_come_when_their_delay_is_over(connection: Connection) -> None:
    queue = Queue("parcels", Exchange("post", "topic"), "parcel.*", auto_delete=True)(connection)
    queue.declare()
    bind_queue_to_native_delayed_delivery_exchange(connection, queue)
    arrived: dict[int, tuple[float, Any]] = {}
    producer = connection.Producer()
    begin = time.monotonic()
    for seconds in (3, 1, 2):
        producer.publish(seconds, exchange=FIRST, routing_key=calculate_routing_key(seconds, "parcel.small"))

    def arrive(seconds: int, message: Any) -> None:
        arrived[seconds] = time.monotonic() - begin, message

    with connection.Consumer(queue, callbacks=[arrive], no_ack=True):
        while len(arrived) < 3:
            connection.drain_events(timeout=SECONDS)
    assert list(arrived) == [1, 2, 3]
    assert all(after >= seconds for seconds, (after, _) in arrived.items())
    message = arrived[3][1]
    key = calculate_routing_key(3, "parcel.small")
    assert (message.delivery_info["exchange"], message.delivery_info["routing_key"]) == ("celery_delayed_delivery", key)
    assert [{**death, "time": None} for death in message.headers["x-death"]] == [
        {
            "queue": queue,
            "exchange": exchange,
            "reason": "expired",
            "count": 1,
            "routing-keys": [key],
            "time": None,
        }
        for queue, exchange in [("celery_delayed_0", "celery_delayed_0"), ("celery_delayed_1", FIRST)]
    ]


def test_the_longest_delay(connection: Connection) -> None:
    """Four years: no queue's time to live is too long, and a message waits in the queue of its highest bit first."""
    with connection.Producer() as producer:
        producer.publish(1, exchange=FIRST, routing_key=calculate_routing_key(2**28 - 1, "parcel"))
        producer.publish(1, exchange=FIRST, routing_key=calculate_routing_key(2**26, "parcel"))
    channel = connection.default_channel
    assert [channel.queue_purge(f"celery_delayed_{level}") for level in (27, 26, 25)] == [1, 1, 0]


def test_tasks_wait_in_the_broker(app: Celery, worker: Worker) -> None:
    begin = time.time()
    result = app.tasks["film"].apply_async(countdown=2)
    with app.connection() as connection:
        assert connection.default_channel.queue_declare("celery_delayed_1", passive=True).message_count == 1
    assert result.get(timeout=SECONDS) == calculate_routing_key(2, "new.video.long")
    assert time.time() - begin >= 2


def test_retries_wait_in_the_broker(app: Celery, worker: Worker) -> None:
    begin = time.time()
    result = app.tasks["try_again"].apply_async((2, 1), exchange="media", exchange_type="topic", routing_key="a.video")
    assert result.get(timeout=SECONDS) == 1
    assert time.time() - begin >= 1
